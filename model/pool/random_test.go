package pool_test

import (
	"fmt"
	"math/rand/v2"
	"testing"

	"gokd/model/pool"
	"gokd/model/pool/heaptest"
	"gokd/model/types"
)

// TestRandom makes pools of requests of any size, those at the edges of what a
// structure takes more often than others, and compares what is found with what
// was made.
func TestRandom(t *testing.T) {
	t.Parallel()
	for _, l := range types.Layouts() {
		t.Run(l.Family(), func(t *testing.T) {
			t.Parallel()
			for seed := range uint64(12) {
				compareRandom(t, l, seed, 400)
			}
		})
	}
}

// FuzzRandom does the same for seeds that are not listed.
func FuzzRandom(f *testing.F) {
	layouts := types.Layouts()
	f.Add(uint64(1), byte(0), uint16(50))
	f.Add(uint64(2), byte(6), uint16(300))
	f.Fuzz(func(t *testing.T, seed uint64, family byte, steps uint16) {
		compareRandom(t, layouts[int(family)%len(layouts)], seed, int(steps)%1000+1)
	})
}

func compareRandom(t *testing.T, l *types.Layout, seed uint64, steps int) {
	b := heaptest.New(t, l)
	r := rand.New(rand.NewPCG(seed, 31))
	b.LargePages, b.Decommit, b.ShortPages = r.IntN(3) == 0, r.IntN(3) == 0, r.IntN(3) == 0
	var live []*heaptest.Block
	for range steps {
		if n := len(live); n > 0 && r.IntN(3) == 0 {
			i := r.IntN(n)
			release(b, r, live[i])
			live[i] = live[n-1]
			live = live[:n-1]
			continue
		}
		live = append(live, b.Alloc(request(b, r)))
	}
	p := openPools(t, b.Open())
	for _, kind := range []pool.Kind{pool.Nonpaged, pool.Paged} {
		want, wantLarge := truthLines(b, kind)
		got, sum := lines(t, p, pool.Query{Kind: kind})
		compareLines(t, want, got)
		compareLines(t, wantLarge, largeLines(t, p, kind))
		if c := sum.Coverage; c.Sum() != c.Walked || !c.Complete() {
			t.Errorf("%s: coverage %+v", kind, c)
		}
	}
	compareTotals(t, p, b)
	if t.Failed() {
		t.Fatalf("build %s, seed %d, %d steps", l.Family(), seed, steps)
	}
}

// edges are sizes at which a request goes elsewhere: in pages, slots, chunks,
// lookaside lists, ranges of small and of large units.
var edges = []uint64{1, 16, 0x1e0, 0x1f0, 0x200, 0x3f0, 0x400, 0xf80, 0xfd0, 0xfe0, 0xff0, 0x1000, 0x1010, 0x2000, 0xe000, 0x20000, 0x7f000, 0x80000}

func request(b *heaptest.Builder, r *rand.Rand) heaptest.Ask {
	a := heaptest.Ask{Pool: heaptest.Pool(r.IntN(3)), Tag: fmt.Sprintf("T%03d", r.IntN(20)), Bytes: r.Uint64N(0xfe0) + 1}
	switch r.IntN(8) {
	case 0, 1:
		e := edges[r.IntN(len(edges))]
		a.Bytes = max(e+r.Uint64N(0x21), 0x11) - 0x10
	case 2:
		a.Bytes = r.Uint64N(0x80) + 1
	}
	if a.Bytes > 0x10000 && r.IntN(4) != 0 {
		a.Bytes = r.Uint64N(0x100) + 1
	}
	a.Protected = r.IntN(9) == 0
	a.Aligned = r.IntN(9) == 0 && a.Bytes < 0xf00
	if r.IntN(9) == 0 && a.Bytes < 0xfe0 {
		a.Owner = b.M.System
	}
	if b.SegmentHeaps() {
		a.Node = r.IntN(3) / 2
	}
	return a
}

func release(b *heaptest.Builder, r *rand.Rand, k *heaptest.Block) {
	switch n := r.IntN(6); {
	case n == 0 && k.Place == heaptest.InPage && k.Size > 16 && k.Size <= 0x200:
		b.Cache(k)
	case n == 0 && k.Place == heaptest.InVS && k.Size >= 0x200 && k.Size <= 0xf80:
		b.Cache(k)
	case n == 1 && k.Place == heaptest.InPage:
		b.Pend(k)
	case n == 1 && k.Place == heaptest.InVS:
		b.Delay(k)
	default:
		b.Free(k)
	}
}
