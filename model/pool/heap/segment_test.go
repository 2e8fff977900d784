package heap

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"gokd/model/mem"
	"gokd/model/pool/heaptest"
	"gokd/model/types"
)

// show lists areas and errors as Areas gives them; addresses are offsets from
// the first segment. It holds the areas to cover whole segments.
func showAreas(t *testing.T, h *Heaps, p *Heap, from mem.VA) (list []string) {
	t.Helper()
	sums := map[mem.VA]uint64{}
	for a, err := range h.Areas(t.Context(), p) {
		if err != nil {
			list = append(list, "! "+relative(err.Error(), from))
			continue
		}
		if a.At != a.Segment+mem.VA(sums[a.Segment]) {
			t.Errorf("area at %#x does not follow the one before it", uint64(a.At))
		}
		sums[a.Segment] += a.Size
		list = append(list, fmt.Sprintf("%#x %#x %s", uint64(a.At-from), a.Size, a.Kind))
		if a.Unused > 0 {
			list[len(list)-1] += fmt.Sprintf(", %#x unused", a.Unused)
		}
	}
	for s, sum := range sums {
		if sum != units<<minUnitShift && sum != units<<16 {
			t.Errorf("the areas of the segment at %#x have %#x bytes", uint64(s), sum)
		}
	}
	return list
}

// relative replaces addresses near one by their distance.
func relative(s string, from mem.VA) string {
	words := strings.Fields(s)
	for i, w := range words {
		var at uint64
		bare := strings.TrimRight(w, ":;,")
		if _, err := fmt.Sscanf(bare, "0x%x", &at); err == nil && at >= uint64(from) && at-uint64(from) < 1<<30 {
			words[i] = fmt.Sprintf("+%#x", at-uint64(from)) + w[len(bare):]
		}
	}
	return strings.Join(words, " ")
}

// TestAreas damages the descriptors of a segment in every way, and its list.
func TestAreas(t *testing.T) {
	t.Parallel()
	// The first segment: 2 units of descriptors, 16 of chunks, 4 of slots, 3 of a
	// range with 0xcbb bytes unused, the rest free.
	whole := []string{"0x0 0x2000 descriptors", "0x2000 0x10000 VS subsegment", "0x12000 0x4000 LFH subsegment", "0x16000 0x3000 page range, 0xcbb unused", "0x19000 0xe7000 free"}
	with := func(i int, lines ...string) []string {
		list := append([]string{}, whole[:i]...)
		return append(append(list, lines...), whole[i+1:]...)
	}
	for name, c := range map[string]struct {
		break_ func(m put, at mem.VA)
		want   []string
	}{
		"whole": {func(m put, at mem.VA) {}, whole},
		"range over the segment's end": {
			func(m put, at mem.VA) { m(at+0x16*0x20+0x1f, 0xff) },
			append(with(3, "! _HEAP_PAGE_RANGE_DESCRIPTOR at +0x2c0: its 0xff units reach behind the segment's end; in the area at +0x0", "0x16000 0xea000 damaged range")[:5:5], []string{}...),
		},
		"free range over the segment's end": {
			func(m put, at mem.VA) { m(at+0x19*0x20+0x1f, 0xff) },
			with(4, "! _HEAP_PAGE_RANGE_DESCRIPTOR at +0x320: its 0xff units reach behind the segment's end; in the area at +0x0", "0x19000 0xe7000 damaged range"),
		},
		"ranges overlap": {
			func(m put, at mem.VA) { m(at+0x12*0x20+0x1f, 5) },
			with(2, "! _HEAP_PAGE_RANGE_DESCRIPTOR at +0x240: its 0x5 units overlap the range of descriptor 0x16; in the area at +0x0", "0x12000 0x4000 damaged range"),
		},
		"unknown flags": {
			func(m put, at mem.VA) { m(at+0x12*0x20+0x18, 0x1b) },
			with(2, "! _HEAP_PAGE_RANGE_DESCRIPTOR at +0x240: its RangeFlags are 0x1b; in the area at +0x0", "0x12000 0x4000 damaged range"),
		},
		"tree signature overwritten": {
			func(m put, at mem.VA) { m(at+0x12*0x20, 0) },
			with(2, "! _HEAP_PAGE_RANGE_DESCRIPTOR at +0x240: its TreeSignature is 0xccddcc00, not 0xccddccdd; in the area at +0x0", "0x12000 0x4000 damaged range"),
		},
		"no units": {
			func(m put, at mem.VA) { m(at+0x12*0x20+0x1f, 0) },
			with(2, "! _HEAP_PAGE_RANGE_DESCRIPTOR at +0x240: its range has no unit; in the area at +0x0", "0x12000 0x1000 damaged range",
				"! _HEAP_PAGE_RANGE_DESCRIPTOR at +0x260: 0x3 units from it on belong to a range whose first descriptor is not before them; in the area at +0x0", "0x13000 0x3000 damaged range"),
		},
		"more unused than there is": {
			func(m put, at mem.VA) { m(at+0x16*0x20+4, 0, 0x30) },
			with(3, "! _HEAP_PAGE_RANGE_DESCRIPTOR at +0x2c0: 0x3000 bytes of its 0x3 units are said to be unused; in the area at +0x0", "0x16000 0x3000 page range"),
		},
		"descriptors never used": {
			func(m put, at mem.VA) { m(at+0x19*0x20+0x1f, 0) },
			whole,
		},
		"signature overwritten": {
			func(m put, at mem.VA) { m(at+0x10, 0, 0, 0, 0, 0, 0, 0, 0) },
			[]string{"! _HEAP_PAGE_SEGMENT at +0x0: its signature names a context at NAMED not CONTEXT in the area at HEAP", "0x0 0x100000 damaged range"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b, v := small(t, 19041)
			b.Heap(heaptest.NonpagedNx, 1).VS(16) // more segments, that prove the key
			b.Heap(heaptest.NonpagedNx, 2).VS(16)
			h := openBuilt(t, b)
			segment := v.At &^ 0xfffff
			c.break_(b.M.Put, segment)
			got := showAreas(t, h, find(t, h, v.At, NonpagedNx), segment)
			if name == "signature overwritten" { // the addresses in it are not near
				if i := strings.Index(got[0], "context at"); i > 0 {
					got[0] = got[0][:i] + "context at NAMED not CONTEXT in the area at HEAP"
				}
			}
			if diff := cmp.Diff(c.want, got); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

type put = func(at mem.VA, b ...byte)

// find gives the heap of a role that holds an address.
func find(t testing.TB, h *Heaps, at mem.VA, role Role) *Heap {
	t.Helper()
	a, ok, err := h.At(context.Background(), at)
	if !ok || a.Heap.Role != role {
		t.Fatalf("%#x: found %v, %v", uint64(at), ok, err)
	}
	h.mu.Lock()
	h.index = nil // what follows is about to change
	h.mu.Unlock()
	return a.Heap
}

// many builds a heap with five segments.
func many(t *testing.T) (*heaptest.Builder, []mem.VA) {
	b := heaptest.New(t, types.Embedded(20348)[0])
	var list []mem.VA
	for range 5 {
		list = append(list, b.Heap(heaptest.NonpagedNx, 0).Segment(0).At)
	}
	b.Heap(heaptest.NonpagedNx, 0).VS(1)
	return b, list
}

// TestSegmentList breaks the list of segments.
func TestSegmentList(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		break_ func(b *heaptest.Builder, s []mem.VA)
		want   []int // segments found, in order; -1 an error
	}{
		"whole":             {func(*heaptest.Builder, []mem.VA) {}, []int{0, 1, 2, 3, 4}},
		"a link forward":    {func(b *heaptest.Builder, s []mem.VA) { b.M.Put64(s[1], 0x1234) }, []int{0, 1, 4, 3, 2, -1}},
		"a link back":       {func(b *heaptest.Builder, s []mem.VA) { b.M.Put64(s[2]+8, uint64(s[4])) }, []int{0, 1, 4, 3, 2, -1}},
		"a loop":            {func(b *heaptest.Builder, s []mem.VA) { b.M.Put64(s[3], uint64(s[0])) }, []int{0, 1, 2, 3, 4, -1}},
		"misaligned":        {func(b *heaptest.Builder, s []mem.VA) { b.M.Link(listHead(b), s[0], s[0]+0x1000, s[1]) }, []int{0, -1, 1}},
		"both links of one": {func(b *heaptest.Builder, s []mem.VA) { b.M.Put64(s[2], 0); b.M.Put64(s[2]+8, 0) }, []int{0, 1, 4, 3, 2, -1}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b, s := many(t)
			k := b.Open()
			c.break_(b, s)
			h, err := Open(t.Context(), k)
			if err != nil {
				t.Fatal(err)
			}
			var got []int
			for a, err := range h.Areas(t.Context(), h.List[0]) {
				switch {
				case err != nil:
					got = append(got, -1)
					t.Log(err)
				case a.Kind == AreaHeaders:
					for i := range s {
						if s[i] == a.At {
							got = append(got, i)
						}
					}
				}
			}
			if diff := cmp.Diff(c.want, got); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

// listHead gives the head of the first context's list.
func listHead(b *heaptest.Builder) mem.VA {
	off, _ := b.M.Field("_HEAP_SEG_CONTEXT", "SegmentListHead")
	contexts, _ := b.M.Field("_SEGMENT_HEAP", "SegContexts")
	return b.Heap(heaptest.NonpagedNx, 0).At + mem.VA(contexts+off)
}

// TestContextDamaged tells of a context that makes no sense and walks the other.
func TestContextDamaged(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		off  uint64
		v    byte
		want string
	}{
		"shift": {8, 3, "its UnitShift is 3"},
		"mask":  {2, 0, "its SegmentMask is 0xffffffffff000000; segments of its UnitShift have 0x100000 bytes"},
		"first": {0xa, 1, "its FirstDescriptorIndex is 1: descriptors take more"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b, _ := small(t, 18362)
			big := b.Heap(heaptest.NonpagedNx, 0).Range(heaptest.Ask{Tag: "Huge", Bytes: 0x100000})
			k := b.Open()
			contexts, _ := b.M.Field("_SEGMENT_HEAP", "SegContexts")
			at := b.Heap(heaptest.NonpagedNx, 0).At + mem.VA(contexts)
			b.M.Put(at+mem.VA(c.off), c.v)
			h, err := Open(t.Context(), k)
			if err != nil {
				t.Fatal(err)
			}
			got := showAreas(t, h, h.List[0], big.Header&^0xffffff)
			want := []string{
				fmt.Sprintf("! _HEAP_SEG_CONTEXT at %#x: %s; in the area at %#x", uint64(at), c.want, uint64(h.List[0].At)),
				"0x0 0x10000 descriptors", "0x10000 0x100000 page range", "0x110000 0xef0000 free",
			}
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

// TestSegmentsMissing leaves pages of descriptors out of the dump.
func TestSegmentsMissing(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		lost mem.VA
		want []string
	}{
		"the second page": {0x1000, []string{
			"0x0 0x2000 descriptors", "0x2000 0x10000 VS subsegment", "0x12000 0x4000 LFH subsegment", "0x16000 0x3000 page range, 0xcbb unused",
			"0x19000 0xe7000 free",
		}},
		"the first page": {0, nil},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b, v := small(t, 19041)
			segment := v.At &^ 0xfffff
			b.M.NotCaptured(segment + c.lost)
			h := openBuilt(t, b)
			got := showAreas(t, h, h.List[0], segment)
			if c.lost == 0 {
				if len(got) != 2 || !strings.Contains(got[0], "page not in dump") || got[1] != "0x0 0x100000 range without its descriptor" {
					t.Errorf("areas are %q", got)
				}
				a, ok, err := h.At(t.Context(), v.At)
				if !ok || a.Kind != AreaLost || !errors.Is(err, mem.ErrNotCaptured) {
					t.Errorf("At gives %v %v %v", a, ok, err)
				}
				return
			}
			if diff := cmp.Diff(c.want, got); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

// TestDescriptorsMissing leaves out descriptors that ranges begin in: what a
// range before them covers is known, the rest is not.
func TestDescriptorsMissing(t *testing.T) {
	t.Parallel()
	b := heaptest.New(t, types.Embedded(22000)[0])
	hp := b.Heap(heaptest.NonpagedNx, 0)
	s := hp.Segment(0)
	hp.VS(100)
	hp.VS(40) // from unit 0x66, over the 128th descriptor
	hp.VS(16)
	b.M.NotCaptured(s.At + 0x1000)
	h := openBuilt(t, b)
	want := []string{
		"0x0 0x2000 descriptors", "0x2000 0x64000 VS subsegment", "0x66000 0x28000 VS subsegment",
		"! descriptors 0x8e to 0xff of the _HEAP_PAGE_SEGMENT at +0x0: not in the dump", "0x8e000 0x72000 range without its descriptor",
	}
	if diff := cmp.Diff(want, showAreas(t, h, h.List[0], s.At)); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

// TestProvedFromTheEnd opens heaps whose first segments are not in the dump.
func TestProvedFromTheEnd(t *testing.T) {
	t.Parallel()
	b, s := many(t)
	b.M.NotCaptured(s[0])
	h, err := Open(t.Context(), b.Open())
	if err != nil {
		t.Fatal(err)
	}
	var found []mem.VA
	var errs int
	for a, err := range h.Areas(t.Context(), h.List[0]) {
		if err != nil {
			errs++
		} else if a.Kind == AreaHeaders || a.Kind == AreaLost {
			found = append(found, a.Segment)
		}
	}
	if diff := cmp.Diff([]mem.VA{s[0], s[4], s[3], s[2], s[1]}, found); diff != "" || errs != 1 {
		t.Errorf("%d errors; segments (-want +got):\n%s", errs, diff)
	}
}

// TestOverlap walks a segment once where a list of another context leads to it
// too.
func TestOverlap(t *testing.T) {
	t.Parallel()
	b := heaptest.New(t, types.Embedded(19041)[0])
	hp := b.Heap(heaptest.NonpagedNx, 0)
	var twice mem.VA
	for range 40 { // some have the alignment of large segments
		if s := hp.Segment(0); s.At&0xffffff == 0 {
			twice = s.At
		}
	}
	hp.VS(1)
	k := b.Open()
	contexts, _ := b.M.Field("_SEGMENT_HEAP", "SegContexts")
	off, _ := b.M.Field("_HEAP_SEG_CONTEXT", "SegmentListHead")
	head := hp.At + mem.VA(contexts+off) + 0xc0
	b.M.Put64(head, uint64(twice))
	b.M.Put64(head+8, uint64(twice))
	h, err := Open(t.Context(), k)
	if err != nil {
		t.Fatal(err)
	}
	count, told := 0, false
	for a, err := range h.Areas(t.Context(), h.List[0]) {
		switch {
		case err != nil:
			told = told || strings.Contains(err.Error(), "overlaps the segment at "+hex(twice))
		case a.Segment == twice && a.Kind == AreaHeaders:
			count++
		case a.Size > 1<<20:
			t.Errorf("area %+v", a)
		}
	}
	if count != 1 || !told {
		t.Errorf("walked %d times, told %v", count, told)
	}
}
