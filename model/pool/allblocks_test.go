package pool_test

import (
	"cmp"
	"encoding/hex"
	"errors"
	"fmt"
	"maps"
	"slices"
	"testing"

	gocmp "github.com/google/go-cmp/cmp"

	"gokd/dumpfmt/dumptest/shared"
	"gokd/model"
	"gokd/model/mem"
	"gokd/model/modeltest"
	"gokd/model/pool"
	"gokd/model/pool/cell"
	"gokd/model/pool/heaptest"
	"gokd/model/types"
)

// line is what both a truth and a walk say of a block, as one line.
func line(at mem.VA, size, room uint64, tag string, state pool.State, kind pool.Kind, owner mem.VA) string {
	if state == pool.Free {
		return fmt.Sprintf("%#x %s %s room %#x", uint64(at), kind, state, room)
	}
	return fmt.Sprintf("%#x %s %s size %#x room %#x %s owner %#x", uint64(at), kind, state, size, room, tag, uint64(owner))
}

// lines walks one pool's small blocks.
func lines(t *testing.T, p *pool.Pool, q pool.Query) (list []string, sum pool.Summary) {
	t.Helper()
	w, err := p.Find(t.Context(), q)
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range w.Ranges() {
		for b, err := range w.Small(t.Context(), r) {
			if err != nil {
				t.Errorf("%s: %v", q.Kind, err)
				continue
			}
			list = append(list, found(t, p, b))
		}
	}
	return list, w.Summary()
}

func found(t *testing.T, p *pool.Pool, b pool.Block) string {
	t.Helper()
	owner, err := p.Owner(b)
	if err != nil {
		t.Errorf("owner of the block at %#x: %v", uint64(b.Header), err)
	}
	tag := b.Tag.String()
	if b.Protected {
		tag += " protected"
	}
	return line(b.Header, b.Size, cmp.Or(b.Room, b.Size), tag, b.State, b.Kind, owner)
}

// TestAllBlocks_dumps compares the blocks in segment heaps with the lists of the
// dumps that have such, which name blocks in use only; those of page pools are
// compared by TestTruth.
func TestAllBlocks_dumps(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ truth, dump string }{
		{"w10_19041", "w10_19041.full"}, {"w10_19041-encoded", "w10_19041-encoded.kernel"},
	} {
		t.Run(c.dump, func(t *testing.T) {
			t.Parallel()
			var cells [][]any
			shared.JSON(t, shared.Path(t, "dumps/x64", c.truth+".blocks.json.xz"), &cells)
			var want, got []string
			for _, b := range cells {
				want = append(want, fmt.Sprintf("%v %v %v %v %v %v", b...))
			}
			p := openFile(t, "dumps/x64/"+c.dump+".dmp.xz")
			for _, kind := range []pool.Kind{pool.Nonpaged, pool.Paged} {
				w, err := p.Find(t.Context(), pool.Query{Kind: kind})
				if err != nil {
					t.Fatal(err)
				}
				for b, err := range w.Blocks(t.Context()) {
					if err != nil {
						if !errors.Is(err, mem.ErrNotCaptured) { // kernel dumps lack pages
							t.Errorf("%s: %v", kind, err)
						}
						continue
					}
					if b.Large || b.State == pool.Free {
						continue
					}
					got = append(got, asTruth(t, p, b))
				}
				if s := w.Summary(); s.PagesBroken != 0 || s.PagesMissing > 1 {
					t.Errorf("%s: %+v", kind, s)
				}
			}
			compareLines(t, want, got)
		})
	}
}

func openFile(t *testing.T, path string) *pool.Pool {
	t.Helper()
	return openPools(t, modeltest.OpenDump(t, shared.Path(t, path)))
}

func openPools(t *testing.T, k *model.Kernel) *pool.Pool {
	t.Helper()
	p, err := pool.Open(k)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// asTruth gives a block as the lists of blocks have it.
func asTruth(t *testing.T, p *pool.Pool, b pool.Block) string {
	t.Helper()
	owner, err := p.Owner(b)
	if err != nil {
		t.Errorf("owner of the block at %#x: %v", uint64(b.Header), err)
	}
	tag := b.Tag
	if b.Protected {
		tag[3] |= 0x80
	}
	billed := "0"
	if owner != 0 {
		billed = fmt.Sprintf("%#x", uint64(owner))
	}
	return fmt.Sprintf("%#x %d %s %s %s %s", uint64(b.Header), b.Size, hex.EncodeToString(tag[:]), b.State.String()[:1], b.Kind.String()[:1], billed)
}

func compareLines(t *testing.T, want, got []string) {
	t.Helper()
	slices.Sort(want)
	slices.Sort(got)
	if slices.Equal(want, got) {
		return
	}
	d := gocmp.Diff(want, got)
	t.Errorf("blocks (-want +got), %d and %d:\n%s", len(want), len(got), d[:min(len(d), 4000)])
}

// truthLines gives the truth of a machine's small blocks of one kind, and of its
// large allocations.
func truthLines(b *heaptest.Builder, kind pool.Kind) (small, large []string) {
	for _, k := range b.Blocks() {
		if kindOf(k) != kind {
			continue
		}
		tag := k.Tag
		if k.Protected {
			tag += " protected"
		}
		switch {
		case k.Large() && k.State == heaptest.Allocated:
			large = append(large, line(k.Body, k.Size, 0, tag, pool.Allocated, kind, k.Owner))
		case !k.Large():
			owner := k.Owner
			if k.State != heaptest.Allocated {
				owner = 0
			}
			small = append(small, line(k.Header, k.Size, k.Room, tag, pool.State(k.State), kind, owner))
		}
	}
	return small, large
}

// kindOf gives the pool of which a block is said to be: those in special heaps
// are of the pool that they stand in for.
func kindOf(k *heaptest.Block) pool.Kind {
	switch {
	case k.Pool == heaptest.Session:
		return pool.Session
	case k.Place == heaptest.InSpecial:
		return pool.Special
	case k.Pool.Paged():
		return pool.Paged
	}
	return pool.Nonpaged
}

// TestAllBlocks_machines compares every block, every large allocation and every
// tag's use with the truth of generated machines of all families.
func TestAllBlocks_machines(t *testing.T) {
	t.Parallel()
	for _, l := range types.Layouts() {
		for seed := range uint64(4) {
			t.Run(fmt.Sprintf("%s/%d", l.Family(), seed), func(t *testing.T) {
				t.Parallel()
				b := heaptest.New(t, l)
				b.LargePages, b.Decommit = seed == 1, seed == 2
				b.Processes = append(b.Processes, b.M.System, b.M.Process(300, 4, "smss.exe"), b.M.Process(304, 300, "csrss.exe"))
				for range seed {
					b.Processor()
				}
				b.Fill(1000+seed, 150)
				p := openPools(t, b.Open())
				for _, kind := range []pool.Kind{pool.Nonpaged, pool.Paged} {
					want, wantLarge := truthLines(b, kind)
					got, sum := lines(t, p, pool.Query{Kind: kind})
					compareLines(t, want, got)
					compareLines(t, wantLarge, largeLines(t, p, kind))
					compareLines(t, want, indexLines(t, p, kind))
					if c := sum.Coverage; c.Sum() != c.Walked || !c.Complete() || c.Walked == 0 {
						t.Errorf("%s: coverage %+v", kind, c)
					}
				}
				compareTotals(t, p, b)
				checkLists(t, p)
				checkAt(t, p, b)
			})
		}
	}
}

func largeLines(t *testing.T, p *pool.Pool, kind pool.Kind) (list []string) {
	t.Helper()
	w, err := p.Find(t.Context(), pool.Query{Kind: kind})
	if err != nil {
		t.Fatal(err)
	}
	for b, err := range w.Large(t.Context()) {
		if err != nil {
			t.Fatal(err)
		}
		owner, err := p.Owner(b)
		if err != nil {
			t.Error(err)
		}
		tag := b.Tag.String()
		if b.Protected {
			tag += " protected"
		}
		list = append(list, line(b.Body, b.Size, 0, tag, b.State, b.Kind, owner))
	}
	return list
}

// indexLines gives the same from the index.
func indexLines(t *testing.T, p *pool.Pool, kind pool.Kind) (list []string) {
	t.Helper()
	x, err := p.Index(t.Context(), kind, nil)
	if err != nil {
		t.Fatal(err)
	}
	x.Cells(func(part []cell.Cell) bool {
		for _, c := range part {
			list = append(list, found(t, p, x.Block(c)))
		}
		return true
	})
	if len(list) != x.Len() {
		t.Errorf("%d cells, the index says %d", len(list), x.Len())
	}
	return list
}

// compareTotals holds what the trackers say against the truth.
func compareTotals(t *testing.T, p *pool.Pool, b *heaptest.Builder) {
	t.Helper()
	var want, got []string
	for tag, u := range b.Totals() {
		want = append(want, fmt.Sprintf("%s %d %d %d %d %d %d", tag, u.Nonpaged.Allocs, u.Nonpaged.Frees, u.Nonpaged.Bytes, u.Paged.Allocs, u.Paged.Frees, u.Paged.Bytes))
	}
	for u, err := range p.Usages(t.Context()) {
		if err != nil {
			t.Fatal(err)
		}
		got = append(got, fmt.Sprintf("%s %d %d %d %d %d %d", u.Tag, u.Nonpaged.Allocs, u.Nonpaged.Frees, u.Nonpaged.Bytes, u.Paged.Allocs, u.Paged.Frees, u.Paged.Bytes))
	}
	compareLines(t, want, got)
}

// checkLists reads the descriptors of page pools and their free lists, which are
// sound.
func checkLists(t *testing.T, p *pool.Pool) {
	t.Helper()
	if !p.PagePool() {
		return
	}
	n := 0
	for _, err := range p.Descriptors(t.Context()) {
		if n++; err != nil {
			t.Error(err)
		}
	}
	f, err := p.FreeLists(t.Context())
	if err != nil || !f.Complete() || f.Len() == 0 || n < 2 {
		t.Errorf("%d descriptors, free lists: %+v, %v", n, f, err)
	}
}

// checkAt looks some blocks up by an address inside them.
func checkAt(t *testing.T, p *pool.Pool, b *heaptest.Builder) {
	t.Helper()
	for i, k := range b.Blocks() {
		if i%11 != 0 || k.Large() && k.State == heaptest.Free {
			continue
		}
		for _, at := range []mem.VA{k.Header, k.Body, k.Header + mem.VA(k.Room) - 1} {
			if k.Large() && uint64(at-k.Header) >= k.Size || at >= k.Header+mem.VA(k.Room) {
				continue
			}
			got, err := p.BlockAt(t.Context(), at)
			if err != nil || got.Header != k.Header || got.State != pool.State(k.State) || got.Large != k.Large() {
				t.Errorf("at %#x: %+v, %v; want %+v", uint64(at), got, err, *k)
			}
		}
	}
}

// TestAllBlocks_lost takes pages away: what is found still is all true, and what
// is missing is counted.
func TestAllBlocks_lost(t *testing.T) {
	t.Parallel()
	for _, l := range types.Layouts() {
		t.Run(l.Family(), func(t *testing.T) {
			t.Parallel()
			b := heaptest.New(t, l)
			b.Fill(77, 200)
			lost := b.Lose(5, 8)
			p := openPools(t, b.Open())
			truth, blocks := map[string]bool{}, map[pool.Kind]int{}
			for range 2 {
				for _, kind := range []pool.Kind{pool.Nonpaged, pool.Paged} {
					want, _ := truthLines(b, kind)
					for _, s := range want {
						truth[s] = true
					}
					blocks[kind] = len(want)
				}
				for _, k := range b.Blocks() {
					if k.State == heaptest.Cached { // behind a lost page no list can be followed
						k.State = heaptest.Allocated
					}
				}
			}
			for _, kind := range []pool.Kind{pool.Nonpaged, pool.Paged} {
				w, err := p.Find(t.Context(), pool.Query{Kind: kind})
				if err != nil {
					t.Fatal(err)
				}
				n := 0
				for _, r := range w.Ranges() {
					for x, err := range w.Small(t.Context(), r) {
						if err != nil {
							continue
						}
						n++
						if s := found(t, p, x); !truth[s] {
							t.Errorf("not true: %s", s)
						}
					}
				}
				c := w.Summary().Coverage
				if c.Sum() != c.Walked || c.Missing == 0 || c.Damaged != 0 {
					t.Errorf("%s: coverage %+v", kind, c)
				}
				// A lost page takes others' blocks along in heaps only.
				if n < blocks[kind]/3 || n >= blocks[kind] {
					t.Errorf("%s: %d of %d blocks, %d pages lost", kind, n, blocks[kind], len(lost))
				}
			}
		})
	}
}

// TestAllBlocks_sessions compares the pools of two sessions at the same
// addresses, and special pool.
func TestAllBlocks_sessions(t *testing.T) {
	t.Parallel()
	for _, l := range types.Layouts() {
		t.Run(l.Family(), func(t *testing.T) {
			t.Parallel()
			b := heaptest.New(t, l)
			b.Fill(4, 20) // no machine has sessions only
			all := map[uint32]*heaptest.SessionPool{1: b.Session(1), 2: b.Session(2)}
			for id, s := range all {
				for i := range 100 + 50*uint64(id) {
					k := s.Alloc(heaptest.Ask{Tag: fmt.Sprintf("S%d%02d", id, i%7), Bytes: 16 + i*13})
					if i%5 == 0 {
						b.Free(k)
					}
				}
			}
			for i := range uint64(9) {
				if b.SegmentHeaps() {
					break // no form of its special pool is known
				}
				b.Special(heaptest.Ask{Pool: heaptest.SpecialNonpaged, Tag: "SpNp", Bytes: 100 + i*300}, i%2 == 0)
				b.Special(heaptest.Ask{Pool: heaptest.SpecialPaged, Tag: "SpPp", Bytes: 7 + i*400}, i%2 == 1)
			}
			p := openPools(t, b.Open())
			for _, id := range slices.Sorted(maps.Keys(all)) {
				compareSession(t, p, b, id)
			}
			if b.M.Layout.Origin().Build < 14393 || b.SegmentHeaps() {
				return // where special pool lies is not in these machines
			}
			var want, got []string
			for _, k := range b.Blocks() {
				if kindOf(k) == pool.Special {
					want = append(want, fmt.Sprintf("%#x %#x %#x %s", uint64(k.Header), uint64(k.Body), k.Size, k.Tag))
				}
			}
			w, err := p.Find(t.Context(), pool.Query{Kind: pool.Special})
			if err != nil {
				t.Fatal(err)
			}
			for x, err := range w.Blocks(t.Context()) {
				if err != nil {
					t.Error(err)
					continue
				}
				got = append(got, fmt.Sprintf("%#x %#x %#x %s", uint64(x.Header), uint64(x.Body), x.Size, x.Tag))
			}
			compareLines(t, want, got)
		})
	}
}

// TestAllBlocks_roles compares the blocks of heaps of every role, on three nodes.
func TestAllBlocks_roles(t *testing.T) {
	t.Parallel()
	for _, l := range types.Layouts() {
		if l.Origin().Build < 18362 {
			continue
		}
		t.Run(l.Family(), func(t *testing.T) {
			t.Parallel()
			b := heaptest.New(t, l)
			for i, role := range []heaptest.Pool{
				heaptest.Nonpaged, heaptest.NonpagedNx, heaptest.Paged, heaptest.PagedOther, heaptest.SpecialNonpaged, heaptest.SpecialPaged,
			} {
				for n := range 40 {
					a := heaptest.Ask{Pool: role, Tag: fmt.Sprintf("Ro%d%d", i, n%3), Bytes: uint64(16 + n*37), Node: n % 3}
					if role >= heaptest.SpecialNonpaged {
						a.Node = 0
					}
					k := b.Alloc(a)
					if n%7 == 3 {
						b.Free(k)
					}
				}
			}
			h := b.Heap(heaptest.NonpagedNx, 0)
			h.Segment(0).Skip(3) // free units between segments' ranges
			h.LFH(0x60, 3).AllocAt(5, heaptest.Ask{Tag: "Slot", Bytes: 0x40})
			h.VS(2).Hole(0x200)
			b.Alloc(heaptest.Ask{Pool: heaptest.NonpagedNx, Tag: "Unit", Bytes: 0x210000})
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
		})
	}
}

func compareSession(t *testing.T, p *pool.Pool, b *heaptest.Builder, id uint32) {
	t.Helper()
	var want []string
	for _, k := range b.Blocks() {
		if k.Pool == heaptest.Session && k.Within == id && !k.Large() {
			want = append(want, line(k.Header, k.Size, k.Room, k.Tag, pool.State(k.State), pool.Session, 0))
		}
	}
	got, sum := lines(t, p, pool.Query{Kind: pool.Session, Session: &id})
	compareLines(t, want, got)
	if c := sum.Coverage; c.Sum() != c.Walked || !c.Complete() {
		t.Errorf("session %d: coverage %+v", id, c)
	}
}
