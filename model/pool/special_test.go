package pool

import (
	"bytes"
	"encoding/binary"
	"errors"
	"strings"
	"testing"

	gocmp "github.com/google/go-cmp/cmp"

	"gokd/model/mem"
	"gokd/model/pool/heaptest"
)

// specials fills special pool: both forms, both pools, sizes from one byte to
// all that a page has. It gives the variables that builds up to 8.1 are found by.
func specials(b *heaptest.Builder) {
	for i, size := range []uint64{1, 8, 16, 77, 0x128, 0x800, 0xfe0, 0xff0} {
		b.Special(heaptest.Ask{Pool: heaptest.SpecialNonpaged, Tag: "Vrfy", Bytes: size}, i%2 == 1)
		b.Special(heaptest.Ask{Pool: heaptest.SpecialPaged, Tag: "Page", Bytes: size, Protected: true}, i%2 == 0)
	}
	first, _ := b.Range(heaptest.SpecialPaged)
	_, last := b.Range(heaptest.SpecialNonpaged)
	b.Set("MmSpecialPoolStart", uint64(first))
	b.Set("MmSpecialPoolEnd", uint64(last)+1)
}

// found gives the blocks that a walk yields and its summary.
func found(t *testing.T, p *Pool, q Query) (list []Block, errs []error, sum Summary) {
	t.Helper()
	w, err := p.Find(t.Context(), q)
	if err != nil {
		t.Fatal(err)
	}
	for b, err := range w.Blocks(t.Context()) {
		if err != nil {
			errs = append(errs, err)
			continue
		}
		list = append(list, b)
	}
	return list, errs, w.Summary()
}

func TestSpecial(t *testing.T) {
	t.Parallel()
	forFamilies(t, 0, lastPagePool, func(t *testing.T, b *heaptest.Builder) {
		specials(b)
		p := openBuilt(t, b)
		var want []Block
		var bytes uint64
		for _, k := range b.Blocks() {
			if k.Place != heaptest.InSpecial {
				continue
			}
			bytes += k.Size
			w := Block{Header: k.Header, Body: k.Body, Size: k.Size, Room: pageSize, Kind: Special, Place: InSpecial, Protected: k.Protected}
			copy(w.Tag[:], k.Tag)
			if k.Pool.Paged() {
				w.Type = typePaged
			}
			want = append(want, w)
		}
		got, errs, sum := found(t, p, Query{Kind: Special})
		if d := gocmp.Diff(want, got); d != "" || len(errs) > 0 {
			t.Errorf("%v (-want +got):\n%s", errs, d)
		}
		c := Coverage{Walked: 16 * pageSize, Allocated: bytes, Overhead: 16*pageSize - bytes}
		if sum.Coverage != c || sum.Matches != 16 || sum.PagesScanned != 16 {
			t.Errorf("%+v", sum)
		}
		// By tag, and by address: each byte of an allocation, and the page behind.
		if got, _, _ := found(t, p, Query{Kind: Special, Pattern: mustPattern(t, "Pag?")}); len(got) != 8 {
			t.Errorf("%d blocks of the tag", len(got))
		}
		for _, w := range want {
			got, err := p.SpecialAt(t.Context(), w.End()-1)
			if d := gocmp.Diff(w, got); d != "" || err != nil {
				t.Errorf("%v (-want +got):\n%s", err, d)
			}
			if _, err := p.SpecialAt(t.Context(), w.Body.Page()+pageSize); !errors.Is(err, ErrNotPool) {
				t.Errorf("page behind: %v", err)
			}
		}
	})
}

func mustPattern(t *testing.T, text string) Pattern {
	t.Helper()
	pattern, err := ParsePattern(text, false)
	if err != nil {
		t.Fatal(err)
	}
	return pattern
}

// TestSpecial_lists finds the special pool of 7 and 8.1 by its free entries.
func TestSpecial_lists(t *testing.T) {
	t.Parallel()
	forFamilies(t, 7601, 9600, func(t *testing.T, b *heaptest.Builder) {
		at := b.M.Global("MiSpecialPool", 0x80)
		first, _ := b.Range(heaptest.SpecialNonpaged)
		entry := oldPteBase + (first&0xffffffffffff)/mem.PageSize*8
		end := []string{"FreePteHead"}
		if b.M.Has("_MI_SPECIAL_POOL", "PteBase") {
			b.M.Set(at, uint64(entry-0x100), "_MI_SPECIAL_POOL", "PteBase")
		} else {
			b.M.Set(at, uint64(entry-0x100), "_MI_SPECIAL_POOL", "NonPaged", "PteBase")
			end = []string{"Flink"}
		}
		off, _ := b.M.Field("_MI_SPECIAL_POOL", append([]string{"NonPaged"}, end...)...)
		b.M.Put64(at+mem.VA(off), 0x20<<32)
		k := b.Special(heaptest.Ask{Pool: heaptest.SpecialNonpaged, Tag: "Vrfy", Bytes: 64}, false)
		p := openBuilt(t, b)
		want := []string{"special ffffcf8000000000-ffffcfffffffffff nt!MiSpecialPool (inferred)"}
		if d := gocmp.Diff(want, tellRanges(t, p, Special)); d != "" {
			t.Errorf("(-want +got):\n%s", d)
		}
		if got, _, _ := found(t, p, Query{Kind: Special}); len(got) != 1 || got[0].Body != k.Body {
			t.Errorf("%+v", got)
		}
	})
}

func TestSpecial_ranges(t *testing.T) {
	t.Parallel()
	want := map[string]string{
		"7601-early": "special fffff98000000000-fffffa7fffffffff published layout of Windows 7 (inferred)",
		"7601-late":  "special fffff98000000000-fffffa7fffffffff published layout of Windows 7 (inferred)",
		"9600":       "special pool: its range is not known: nt!MiSpecialPool: its address is not known",
		"14393":      "special ffffcf0000000000-ffffcf80ffffffff nt!MiVisibleState",
		"17763":      "special ffffcf0000000000-ffffcfffffffffff nt!MiVisibleState, _MI_VISIBLE_STATE.SystemVaType",
	}
	forFamilies(t, 0, 1<<31, func(t *testing.T, b *heaptest.Builder) {
		name := b.M.Layout.Family()
		line, ok := want[name]
		if !ok {
			line = "special pool of build " + name + " lies in heaps of its own"
		}
		got := tellRanges(t, openBuilt(t, b), Special)
		if len(got) != 1 || !strings.HasPrefix(got[0], line) {
			t.Errorf("%q, want %q", got, line)
		}
	})
}

// specialImage makes the page of an allocation; the builder's twin for bytes.
func specialImage(size int, fill byte) *[pageSize]byte {
	page := (*[pageSize]byte)(bytes.Repeat([]byte{fill}, pageSize))
	clear(page[:HeaderSize])
	binary.LittleEndian.PutUint32(page[:], uint32(size)|uint32(fill)<<16)
	copy(page[4:], "Vrfy")
	body := (pageSize - size) &^ (HeaderSize - 1)
	for i := range size {
		page[body+i] = byte(i)
	}
	return page
}

func TestSpecialPage_damage(t *testing.T) {
	t.Parallel()
	const at = mem.VA(0xffffcf8000001000)
	for name, c := range map[string]struct {
		change func(*[pageSize]byte)
		want   string // empty: no page of special pool
	}{
		"whole": {func(*[pageSize]byte) {}, "whole"},
		"overrun": {func(p *[pageSize]byte) { p[0xfff] = 1 },
			"special pool: the allocation at 0xffffcf8000001fd0 was written behind its end: the byte at 0xffffcf8000001fff is 0x1, not 0xa7; 1 bytes are wrong"},
		"underrun": {func(p *[pageSize]byte) { p[0xfcf], p[0xfc0] = 1, 2 },
			"special pool: the allocation at 0xffffcf8000001fd0 was written before its start: the byte at 0xffffcf8000001fc0 is 0x2, not 0xa7; 2 bytes are wrong"},
		"too much":     {func(p *[pageSize]byte) { clear(p[0x100:0x700]) }, ""},
		"no size":      {func(p *[pageSize]byte) { p[0], p[1] = 0, 0 }, ""},
		"size":         {func(p *[pageSize]byte) { p[0], p[1] = 0xff, 0x0f }, ""},
		"tag":          {func(p *[pageSize]byte) { p[5] = 0 }, ""},
		"other filler": {func(p *[pageSize]byte) { p[2] = 0xa8 }, ""},
		"verified":     {func(p *[pageSize]byte) { p[1] |= 0x40; clear(p[0x10:0x50]) }, "whole"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			page := specialImage(0x2c, 0xa7)
			c.change(page)
			b, damage, ok := specialPage(page, at)
			got := "whole"
			switch {
			case !ok:
				got = ""
			case damage != nil:
				got = damage.Error()
			}
			if got != c.want || ok && (b.Body != at+0xfd0 || b.Size != 0x2c) {
				t.Errorf("%q, %+v", got, b)
			}
		})
	}
}

func TestSpecialPage_released(t *testing.T) {
	t.Parallel()
	const at = mem.VA(0xffffcf8000001000)
	page := specialImage(0x20, 0)
	binary.LittleEndian.PutUint32(page[0x10:], 0x98764321)
	binary.LittleEndian.PutUint32(page[0x18:], 0x20)
	page[0x1c] = 1
	binary.LittleEndian.PutUint64(page[0x20:], uint64(at)+0xfe0)
	want := Block{Header: at, Body: at + 0xfe0, Size: 0x20, Room: pageSize, Tag: Tag{'V', 'r', 'f', 'y'},
		Kind: Special, Place: InSpecial, State: Free, Type: typePaged}
	got, damage, ok := specialPage(page, at)
	if d := gocmp.Diff(want, got); d != "" || damage != nil || !ok {
		t.Errorf("%v (-want +got):\n%s", damage, d)
	}
}

// TestSpecial_damaged counts every byte of a broken page and of one that is none.
func TestSpecial_damaged(t *testing.T) {
	t.Parallel()
	b := heaptest.New(t, family(t, "14393"))
	k := b.Special(heaptest.Ask{Pool: heaptest.SpecialNonpaged, Tag: "Vrfy", Bytes: 64}, false)
	other := b.Special(heaptest.Ask{Pool: heaptest.SpecialNonpaged, Tag: "Vrfy", Bytes: 64}, false)
	out := b.Special(heaptest.Ask{Pool: heaptest.SpecialNonpaged, Tag: "Vrfy", Bytes: 64}, false)
	b.M.NotCaptured(out.Header)
	p := openBuilt(t, b)
	b.M.Put(k.Body-3, 1, 2, 3)
	b.M.Put(other.Header, make([]byte, pageSize)...)
	got, errs, sum := found(t, p, Query{Kind: Special})
	var damage *SpecialError
	if len(got) != 1 || len(errs) != 1 || !errors.As(errs[0], &damage) || damage.Bad != 3 || damage.At != k.Body-3 {
		t.Errorf("%+v, %v", got, errs)
	}
	c := sum.Coverage
	if c.Sum() != c.Walked || c.Walked != 3*pageSize || c.Other != pageSize || c.Missing != pageSize || c.Damaged != 3 || sum.PagesBroken != 1 {
		t.Errorf("%+v", sum)
	}
}

func TestSpecialSettings(t *testing.T) {
	t.Parallel()
	b := heaptest.New(t, family(t, "17763"))
	b.Set("MmSpecialPoolTag", 0x6b61654c)
	b.Set("MmSpecialPoolCatchOverruns", 0)
	p := openBuilt(t, b)
	state, err := p.k.GlobalPointer("MiVisibleState")
	if err != nil {
		t.Fatal(err)
	}
	b.M.Set(state, 12, "_MI_VISIBLE_STATE", "SpecialPagesInUse")
	got, err := p.SpecialSettings()
	if want := (SpecialSettings{Tag: Tag{'L', 'e', 'a', 'k'}, TagSet: true, Pages: 12}); got != want || err != nil {
		t.Errorf("%+v, %v", got, err)
	}
}

func FuzzSpecialPage(f *testing.F) {
	f.Add(specialImage(0x2c, 0xa7)[:])
	f.Add(specialImage(0xff0, 0)[:])
	f.Fuzz(func(t *testing.T, data []byte) {
		var page [pageSize]byte
		copy(page[:], data)
		const at = mem.VA(0xffffcf8000001000)
		b, damage, ok := specialPage(&page, at)
		if !ok {
			return
		}
		if b.Body < at || b.End() > at+pageSize || b.Size == 0 || b.Header < at || b.Header > at+maxSpecialEnd {
			t.Errorf("%+v", b)
		}
		if damage != nil && (damage.At < at || damage.At >= at+pageSize || damage.Bad == 0 || uint64(damage.Bad) > pageSize-b.Size) {
			t.Errorf("%+v", damage)
		}
	})
}
