package pool

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	gocmp "github.com/google/go-cmp/cmp"

	"gokd/dumpfmt/dumptest/shared"
	"gokd/model"
	"gokd/model/mem"
	"gokd/model/modeltest"
	"gokd/model/pool/cell"
	"gokd/model/pool/heap"
)

// everyDump opens each shared dump that has pools.
func everyDump(t *testing.T, do func(t *testing.T, k *model.Kernel)) {
	t.Helper()
	var files []string
	for _, dir := range []string{"dumps/x64", "dumps/damaged", "dumps/series"} {
		files = append(files, shared.Glob(t, dir, "*.dmp.xz")...)
	}
	for _, file := range files {
		name := file[strings.LastIndex(file, "/")+1:]
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			symbols := ""
			if strings.HasPrefix(name, "win7seed") {
				symbols = shared.Path(t, "dumps/symbols/win7seed")
			}
			do(t, modeltest.OpenDump(t, file, modeltest.Symbols(symbols)))
		})
	}
}

// handedOut is everything a walk says, in its order.
func handedOut(ctx context.Context, t *testing.T, p *Pool, q Query) (lines []string, sum Summary, err error) {
	t.Helper()
	w, err := p.Find(ctx, q)
	if err != nil {
		return nil, Summary{}, err
	}
	for _, r := range w.Ranges() {
		for b, err := range w.Small(ctx, r) {
			if err != nil {
				lines = append(lines, err.Error())
				continue
			}
			lines = append(lines, fmt.Sprintf("%+v", b))
		}
		lines = append(lines, fmt.Sprintf("%+v", w.Summary()))
	}
	return lines, w.Summary(), nil
}

func freshPool(t *testing.T, k *model.Kernel) *Pool {
	t.Helper()
	p, err := Open(k)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// TestWalk_everyDump holds walks and what the index answers against each other,
// and every account against the sum of its parts.
func TestWalk_everyDump(t *testing.T) {
	t.Parallel()
	everyDump(t, func(t *testing.T, k *model.Kernel) {
		for _, kind := range []Kind{Nonpaged, Paged, Session} {
			kept := freshPool(t, k)
			for i, tag := range []string{"*", "Thre", "?b*", "Zzzz"} {
				q := Query{Kind: kind, Pattern: pattern(t, tag), Workers: 1 + i%3}
				walked, sum, err := handedOut(t.Context(), t, freshPool(t, k), q)
				if err != nil {
					t.Logf("%s: %v", kind, err)
					continue
				}
				if sum.Coverage.Sum() != sum.Coverage.Walked {
					t.Errorf("%s: %d of %d bytes are accounted for: %+v", kind, sum.Coverage.Sum(), sum.Coverage.Walked, sum.Coverage)
				}
				asked, _, err := handedOut(t.Context(), t, kept, q)
				if d := gocmp.Diff(walked, asked); err != nil || d != "" {
					t.Fatalf("%s %s: %v (-walk +question %d):\n%s", kind, tag, err, i, cut(d))
				}
				if !sum.SmallUnwalked && kept.Kept(kind) == nil {
					t.Errorf("%s: no index is kept", kind)
				}
			}
		}
	})
}

func TestIndex_block(t *testing.T) {
	t.Parallel()
	for _, name := range []string{"win7.kernel", "w10_19041.full"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := freshPool(t, modeltest.OpenDump(t, shared.Path(t, "dumps/x64", name+".dmp.xz")))
			x, err := p.Index(t.Context(), Nonpaged, nil)
			if err != nil {
				t.Fatal(err)
			}
			var got, want []Block
			x.Cells(func(part []cell.Cell) bool {
				for _, c := range part {
					got = append(got, x.Block(c))
				}
				return true
			})
			for b, err := range Blocks(t.Context(), p.k, Nonpaged, Pattern{}) {
				if err == nil && !b.Large {
					want = append(want, b)
				}
			}
			if d := gocmp.Diff(want, got); d != "" || x.Len() != len(want) || x.Summary().Blocks != uint64(len(want)) {
				t.Errorf("%d blocks, %+v (-walk +index):\n%s", x.Len(), x.Summary(), cut(d))
			}
			if again, err := p.Index(t.Context(), Nonpaged, nil); again != x || err != nil {
				t.Errorf("another index: %v", err)
			}
			p.Drop(Nonpaged)
			if p.Kept(Nonpaged) != nil {
				t.Error("the index was not dropped")
			}
		})
	}
}

func TestIndex_bound(t *testing.T) {
	t.Parallel()
	p := fakePool(fakeTables(64)) // 2^15 pages of three blocks
	p.walks.cells = 1000
	sum, blocks, errs := walkAll(t.Context(), t, p, Query{Kind: Nonpaged})
	if len(errs) != 0 || blocks != 3<<15 || !sum.Unkept || p.Kept(Nonpaged) != nil {
		t.Errorf("%d blocks, %v, %+v", blocks, errs, sum)
	}
	if x, err := p.Index(t.Context(), Nonpaged, nil); !errors.Is(err, ErrLimit) {
		t.Errorf("index %v, %v", x, err)
	}
	p.walks.cells = 3 << 15
	x, err := p.Index(t.Context(), Nonpaged, nil)
	if err != nil || x.Len() != 3<<15 {
		t.Errorf("index %v, %v", x, err)
	}
	if _, err := p.Index(t.Context(), Special, nil); !errors.Is(err, errors.ErrUnsupported) {
		t.Errorf("special pool: %v", err)
	}
}

func TestIndex_interrupted(t *testing.T) {
	t.Parallel()
	p := fakePool(fakeTables(256))
	ctx, cancel := context.WithCancel(t.Context())
	x, err := p.Index(ctx, Nonpaged, func(uint64) { cancel() })
	if !errors.Is(err, context.Canceled) || x != nil || p.Kept(Nonpaged) != nil {
		t.Errorf("index %v, %v", x, err)
	}
	if x, err = p.Index(t.Context(), Nonpaged, nil); err != nil || x.Len() != 3<<17 {
		t.Fatalf("index %v, %v", x, err)
	}
	ctx, cancel = context.WithCancel(t.Context())
	defer cancel()
	w, err := p.Find(ctx, Query{Kind: Nonpaged})
	if err != nil {
		t.Fatal(err)
	}
	n := 0
	var last error
	for _, err := range w.Blocks(ctx) {
		if n++; n == 5 {
			cancel()
		}
		last = err
	}
	s := w.Summary()
	if !errors.Is(last, context.Canceled) || !s.Interrupted || n > 1<<17 || s.Covers() == "" {
		t.Errorf("%d blocks, %v, %+v", n, last, s)
	}
}

// TestScanner_hugeAreas is of heaps that claim more than a machine has.
func TestScanner_hugeAreas(t *testing.T) {
	t.Parallel()
	p := fakePool(fakeTables(1))
	s := p.newScanner(t.Context(), Query{Kind: Nonpaged}, Range{})
	s.heaps = new(heap.Heaps)
	s.drain = func(*window) bool { return true }
	defer s.end()
	h := &heap.Heap{Space: p.k.Space}
	for _, kind := range []heap.AreaKind{heap.AreaVS, heap.AreaLFH, heap.AreaFree, heap.AreaPages, heap.AreaHeaders, heap.AreaOdd} {
		if !s.area(&heap.Area{Heap: h, At: fakeStart, Size: 1 << 40, Kind: kind}) {
			t.Fatalf("%s ends the walk", kind)
		}
	}
	if c := s.sum.Coverage; c.Sum() != 6<<40 || c.Walked != 6<<40 || c.Damaged != 3<<40 || s.sum.HeapsBroken != 2 {
		t.Errorf("%+v", s.sum)
	}
	n := 0
	for s.area(&heap.Area{Heap: h, At: fakeStart, Size: maxSubsegment, Kind: heap.AreaVS}) {
		if n++; n > 1<<10 {
			t.Fatal("areas without end are walked without end")
		}
	}
}

func TestCovers(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		sum  Summary
		want string
	}{
		{Summary{PagesScanned: 7}, ""},
		{Summary{PagesMissing: 1, PagesBroken: 2}, "without 1 page not in the dump, the rest of 2 pages behind headers that make no sense: counts are floors"},
		{Summary{TablesMissing: 2, LargeMissing: 3, LargeOdd: 1, HeapsBroken: 1}, "without 2 page tables not in the dump, 1 part of segment heaps that cannot be read, " +
			"3 entries of the table of large allocations not in the dump, 1 entry of the table of large allocations that makes no sense: counts are floors"},
		{Summary{Interrupted: true, Reached: 0xfffffa8000001000}, "up to 0xfffffa8000001000, where it was interrupted: counts are floors"},
		{Summary{SmallUnwalked: true, Why: heap.ErrRefused, PagesMissing: 2},
			"large allocations; small blocks were not walked: segment heaps of this kernel are not read; without 2 pages not in the dump: counts are floors"},
	} {
		if got := c.sum.Covers(); got != c.want {
			t.Errorf("%+v:\n got %s\nwant %s", c.sum, got, c.want)
		}
	}
}

// FuzzWalk walks page tables and pages made of any bytes: the account balances,
// and the index says what the walk said.
func FuzzWalk(f *testing.F) {
	f.Add(goodPage()[:], []byte{0x63, 0, 0, 0})
	f.Add(append(goodPage()[:], make([]byte, 100)...), bytes.Repeat([]byte{0x63, 0x50, 0, 0, 0, 0, 0, 0, 0, 8, 1, 2, 3, 4, 5, 6}, 32))
	f.Fuzz(func(t *testing.T, content, entries []byte) {
		m := fakeTables(1)
		const table = mem.PA(0x101000)
		clear(m[table][:])
		for i := range 4 { // pages that entries can lead to
			page := new([pageSize]byte)
			copy(page[:], content[min(len(content), i*pageSize):])
			m[0x5000+mem.PA(i)*pageSize] = page
		}
		for i := 0; i+8 <= len(entries) && i < 16*8; i += 8 {
			e := binary.LittleEndian.Uint64(entries[i:])
			if e&1 != 0 {
				e &= 0xff | 7<<12 // low memory: pages, tables, and nothing
			}
			binary.LittleEndian.PutUint64(m[table][i:], e)
		}
		p := fakePool(m)
		p.big.spans = []span{{fakeStart + 0x3000, fakeStart + 0x5000}}
		walked, sum, err := handedOut(t.Context(), t, p, Query{Kind: Nonpaged, Workers: 2})
		if err != nil {
			t.Fatal(err)
		}
		if c := sum.Coverage; c.Sum() != c.Walked || c.Walked > 16*pageSize || c.Walked != pageSize*(sum.PagesScanned+sum.PagesOther+sum.PagesMissing)+c.Large {
			t.Fatalf("%+v", sum)
		}
		asked, _, err := handedOut(t.Context(), t, p, Query{Kind: Nonpaged})
		if err != nil || !slices.Equal(walked, asked) {
			t.Fatalf("%v (-walk +index):\n%s", err, cut(gocmp.Diff(walked, asked)))
		}
	})
}
