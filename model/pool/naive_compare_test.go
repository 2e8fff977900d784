package pool_test

import (
	"fmt"
	"testing"

	"gokd/dumpfmt/dumptest/shared"
	"gokd/model"
	"gokd/model/mem"
	"gokd/model/modeltest"
	"gokd/model/pool"
	"gokd/model/pool/heaptest"
	"gokd/model/types"
)

// TestNaive_dumps compares the walk of every dump that has a pool, damaged ones
// included, with that of the naive walker.
func TestNaive_dumps(t *testing.T) {
	t.Parallel()
	for _, name := range []string{
		"x64/win7.kernel", "x64/win7seed.kernel", "x64/win7seed.full", "x64/win7seed.bitmap", "x64/win81.full", "x64/w10_1607.kernel",
		"x64/w10_19041.full", "x64/w10_19041-encoded.kernel",
		"damaged/evil-names.kernel", "damaged/bad-pool-corrupt.kernel", "damaged/bad-loop-processes.kernel", "damaged/bad-loop-resources.kernel",
		"damaged/bad-truncated.full", "damaged/bad-lying-runs.full", "damaged/bad-lying-bitmap.kernel",
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			// One of the kernels is known by a table only.
			symbols := modeltest.Symbols(shared.Path(t, "dumps/symbols/win7seed"))
			k := modeltest.OpenDump(t, shared.Path(t, "dumps", name+".dmp.xz"), symbols)
			compareNaive(t, k, nil)
		})
	}
}

// TestNaive_machines compares the walks of generated pools, with pages that are
// not in the dump, of every family.
func TestNaive_machines(t *testing.T) {
	t.Parallel()
	for i, l := range types.Layouts() {
		for seed := range uint64(12) {
			t.Run(fmt.Sprintf("%s/%d", l.Family(), seed), func(t *testing.T) {
				t.Parallel()
				b := heaptest.New(t, l)
				b.LargePages = seed%3 == 1
				b.ShortPages = seed%4 == 2
				b.Processes = append(b.Processes, b.M.System, b.M.Process(300, 4, "smss.exe"))
				for range seed % 3 {
					b.Processor()
				}
				b.Fill(seed+uint64(i)*100, 40+20*int(seed))
				for id := range uint32(seed % 3) {
					s := b.Session(id + 1)
					for n := range uint64(60) {
						if k := s.Alloc(heaptest.Ask{Tag: "Sess", Bytes: n*n*3%0x1400 + uint64(id)}); n%4 == 1 {
							b.Free(k)
						}
					}
				}
				lost := map[mem.VA]bool{}
				if seed%2 == 1 {
					lost = b.Lose(seed, 12)
				}
				k := b.Open()
				k.Source.Physical.(*modeltest.Memory).Copies = seed%5 == 3
				compareNaive(t, k, lost)
			})
		}
	}
}

// compareNaive holds both walkers' lists of small blocks against each other. The
// naive one gives up a page or a subsegment as a whole where it is damaged or
// not all there; what the other finds in such is left out.
func compareNaive(t *testing.T, k *model.Kernel, lost map[mem.VA]bool) {
	t.Helper()
	p, err := pool.Open(k)
	if err != nil {
		t.Fatal(err)
	}
	n := newNaive(t, k)
	n.lookasides()
	if p.PagePool() {
		n.pending()
	} else {
		n.heaps()
	}
	got := map[mem.VA]naiveBlock{}
	for _, kind := range []pool.Kind{pool.Nonpaged, pool.Paged} {
		w, err := p.Find(t.Context(), pool.Query{Kind: kind})
		if err != nil {
			t.Fatal(err)
		}
		for _, r := range w.Ranges() {
			if p.PagePool() {
				n.pages(kind, r.Start, r.Last)
			}
			for b, err := range w.Small(t.Context(), r) {
				if err != nil {
					continue
				}
				if old, ok := got[b.Header]; ok {
					t.Errorf("two blocks at %#x: %+v", uint64(b.Header), old)
				}
				got[b.Header] = asNaive(b)
			}
		}
		if s := w.Summary(); s.Coverage.Walked == 0 || s.Coverage.Sum() != s.Coverage.Walked {
			t.Errorf("%s: coverage %+v", kind, s.Coverage)
		}
	}
	if len(got) < 100 || len(n.blocks) < 100 {
		t.Errorf("%d blocks only, the naive walker has %d; %d pages lost", len(got), len(n.blocks), len(lost))
	}
	compareBoth(t, n, got)
	compareSessions(t, p, k)
}

// compareSessions does the same for each session, in its own address space.
func compareSessions(t *testing.T, p *pool.Pool, k *model.Kernel) {
	t.Helper()
	head, err := k.Global("PsActiveProcessHead")
	if err != nil {
		t.Fatal(err)
	}
	for o, err := range k.List(t.Context(), head, "_EPROCESS", "ActiveProcessLinks", 1000) {
		if err != nil {
			continue // some dumps' lists are broken
		}
		at, _ := o.Field("Session").Pointer()
		dtb, _ := o.Field("Pcb.DirectoryTableBase").Uint()
		if at == 0 || dtb == 0 {
			continue
		}
		n := &naive{t: t, k: k, space: k.Space.WithRoot(mem.PA(dtb)), waiting: map[mem.VA]bool{}, huge: map[mem.VA]bool{}, broken: map[mem.VA]bool{}}
		id, err := n.space.Uint32(at + n.offset("_MM_SESSION_SPACE", "SessionId"))
		if err != nil {
			continue // the shared dumps have no session space
		}
		n.session(at, p.PagePool())
		w, err := p.Find(t.Context(), pool.Query{Kind: pool.Session, Session: &id})
		if err != nil {
			t.Error(err)
			continue
		}
		got := map[mem.VA]naiveBlock{}
		for _, r := range w.Ranges() {
			for b, err := range w.Small(t.Context(), r) {
				if err == nil {
					got[b.Header] = asNaive(b)
				}
			}
		}
		if len(got) < 40 || len(n.blocks) < 40 {
			t.Errorf("session %d: %d blocks only, the naive walker has %d", id, len(got), len(n.blocks))
		}
		compareBoth(t, n, got)
	}
}

func asNaive(b pool.Block) naiveBlock {
	n := naiveBlock{header: b.Header, room: b.Room, state: b.State, kind: b.Kind}
	if n.room == 0 {
		n.room = b.Size
	}
	if b.State != pool.Free || b.Place == pool.InPage {
		n.word = uint64(b.PreviousSize/16) | uint64(b.Index)<<8 | b.Size/16<<16 | uint64(b.Type)<<24
		for i, c := range b.Tag {
			n.word |= uint64(c) << (32 + 8*i)
		}
		if b.Protected {
			n.word |= 1 << 63
		}
	}
	return n
}

func compareBoth(t *testing.T, n *naive, got map[mem.VA]naiveBlock) {
	t.Helper()
	wrong := 0
	complain := func(format string, args ...any) {
		if wrong++; wrong <= 10 {
			t.Errorf(format, args...)
		}
	}
	for _, want := range n.sorted() {
		if n.gaveUp(want.header) {
			continue
		}
		b, ok := got[want.header]
		switch {
		case !ok:
			complain("%#x: found by the naive walker only: %+v", uint64(want.header), want)
		case b != want:
			complain("%#x: %+v, the naive walker has %+v", uint64(want.header), b, want)
		}
		delete(got, want.header)
	}
	for at, b := range got {
		if !n.gaveUp(at) {
			complain("%#x: not found by the naive walker: %+v", uint64(at), b)
		}
	}
	if wrong > 10 {
		t.Errorf("and %d more", wrong-10)
	}
}

// gaveUp reports whether the naive walker did not read what holds an address.
func (n *naive) gaveUp(at mem.VA) bool {
	if n.broken[at.Page()] {
		return true
	}
	for _, a := range n.areas {
		if a.gone && at >= a.first && at <= a.last {
			return true
		}
	}
	return false
}
