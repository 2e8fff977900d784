package mem

import (
	"context"
	"testing"

	"github.com/google/go-cmp/cmp"
)

const top = ^VA(0)

func leavesOf(t *testing.T, s *Space, from, to VA) []Leaf {
	t.Helper()
	var all []Leaf
	if err := s.Leaves(context.Background(), from, to, func(l Leaf) bool {
		all = append(all, l)
		return true
	}); err != nil {
		t.Fatal(err)
	}
	return all
}

// forms maps one page of every form around kernelPage.
func forms() (*machine, []Leaf) {
	m := newMachine()
	m.put(m.root+8*0x1ed, uint64(m.root)|0x63)
	user := m.mapBytes(0x7ff612345000, nil)
	valid := m.mapBytes(kernelPage, nil)
	m.set(kernelPage+0x1000, 1, 0x5000880)            // transition
	m.set(kernelPage+0x2000, 1, 0x80)                 // demand zero: not visited
	m.set(kernelPage+0x3000, 1, 0x123400000080)       // paged out
	m.set(kernelPage+0x4000, 1, 0xf8a0700010000480)   // prototype that cannot be read
	m.set(kernelPage+0x200000, 2, 0x66666063)         // page table not captured
	m.set(kernelPage+0x400000, 2, 0x9900000080)       // page table paged out
	m.set(kernelPage+0x600000, 2, 0x80)               // page table never made
	m.set(kernelPage+0x800000, 2, 0x7600000|0x1000e3) // large page
	m.set(giant, 3, 0x1c0000000|0xe3)
	large := (kernelPage + 0x800000) &^ 0x1fffff
	hole := (kernelPage + 0x200000) &^ 0x1fffff
	fault := func(va VA, f Fault) *Fault { f.VA = va; return &f }
	return m, []Leaf{
		{VA: 0x7ff612345000, Size: 4096, PA: user, Entry: uint64(user) | 0x8000000000000063, Writable: true},
		{VA: giant, Size: 1 << 30, PA: 0x1c0000000, Entry: 0x1c00000e3, Writable: true},
		{VA: kernelPage, Size: 4096, PA: valid, Entry: uint64(valid) | 0x8000000000000063, Writable: true},
		{VA: kernelPage + 0x1000, Size: 4096, PA: 0x5000000, Entry: 0x5000880, Writable: true},
		{VA: kernelPage + 0x3000, Size: 4096, Err: fault(kernelPage+0x3000, Fault{Kind: NotPresent, Level: LevelPTE, Entry: 0x123400000080, Why: "paged out, page file 0, offset 0x1234"}), Entry: 0x123400000080, Writable: true},
		{VA: kernelPage + 0x4000, Size: 4096, Err: fault(kernelPage+0x4000, Fault{Kind: NotPresent, Level: LevelPTE, Entry: 0xf8a0700010000480, Why: "prototype entry at 0xfffff8a070001000 cannot be read"}), Entry: 0xf8a0700010000480, Writable: true},
		{VA: hole, Size: 2 << 20, Err: fault(hole, Fault{Kind: NotCaptured, PA: 0x66666000, Level: LevelPTE, Why: "page table not in the dump"})},
		{VA: hole + 0x200000, Size: 2 << 20, Err: fault(hole+0x200000, Fault{Kind: NotPresent, Level: LevelPDE, Entry: 0x9900000080, Why: "paged out, page file 0, offset 0x99"}), Entry: 0x9900000080, Writable: true},
		{VA: large, Size: 2 << 20, PA: 0x7600000, Entry: 0x77000e3, Writable: true},
	}
}

func TestLeaves_forms(t *testing.T) {
	t.Parallel()
	m, want := forms()
	if diff := cmp.Diff(want, leavesOf(t, m.space(), 0, top)); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	// The kernel's half leaves out the user page only.
	if diff := cmp.Diff(want[1:], leavesOf(t, m.space(), 0xffff800000000000, top)); diff != "" {
		t.Errorf("kernel half (-want +got):\n%s", diff)
	}
}

// TestLeaves_agreeWithTranslate: what Leaves finds is what Translate gives.
func TestLeaves_agreeWithTranslate(t *testing.T) {
	t.Parallel()
	m, _ := forms()
	s := m.space()
	for _, l := range leavesOf(t, s, 0, top) {
		for _, off := range []VA{0, VA(l.Size - 1)} {
			got, err := s.Translate(l.VA + off)
			if (err == nil) != (l.Err == nil) || err == nil && got.PA != l.PA+PA(off) {
				t.Errorf("%#x: leaf %+v, translation %+v, %v", uint64(l.VA+off), l, got, err)
			}
		}
	}
}

func TestLeaves_cut(t *testing.T) {
	t.Parallel()
	m, all := forms()
	valid := all[2].PA
	for _, c := range []struct {
		name     string
		from, to VA
		want     []Leaf
	}{
		{"inside a giant page", giant + 0x1234, giant + 0x3000, []Leaf{{VA: giant + 0x1000, Size: 0x3000, PA: 0x1c0001000, Entry: 0x1c00000e3, Writable: true}}},
		{"one byte of a giant page", giant + 0x1234, giant + 0x1234, []Leaf{{VA: giant + 0x1000, Size: 0x1000, PA: 0x1c0001000, Entry: 0x1c00000e3, Writable: true}}},
		{"last byte of a small page", kernelPage + 0xfff, kernelPage + 0xfff, []Leaf{{VA: kernelPage, Size: 4096, PA: valid, Entry: uint64(valid) | 0x8000000000000063, Writable: true}}},
		{"empty", kernelPage + 1, kernelPage, nil},
		{"between", kernelPage + 0x2000, kernelPage + 0x2fff, nil},
	} {
		if diff := cmp.Diff(c.want, leavesOf(t, m.space(), c.from, c.to)); diff != "" {
			t.Errorf("%s (-want +got):\n%s", c.name, diff)
		}
	}
	got := leavesOf(t, m.space(), kernelPage+0x210000, kernelPage+0x210fff)
	if len(got) != 1 || got[0].VA != kernelPage+0x210000 || got[0].Size != 4096 || got[0].Err == nil {
		t.Errorf("inside a hole: %+v", got)
	}
}

func TestLeaves_rootMissing(t *testing.T) {
	t.Parallel()
	s := NewX64(frames{}, 0x1ad000)
	for _, c := range []struct {
		from, to, at VA
		size         uint64
	}{
		{0xfffff8a000000010, 0xfffff8a000001010, 0xfffff8a000000000, 0x2000},
		{0xfffff8a000000000, top, 0xfffff8a000000000, 0x76000000000},
		{0, top, 0, 1<<64 - 4096},
	} {
		got := leavesOf(t, s, c.from, c.to)
		want := []Leaf{{VA: c.at, Size: c.size, Err: &Fault{Kind: NotCaptured, VA: c.at, PA: 0x1ad000, Level: LevelPXE, Why: "page table not in the dump"}}}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%#x (-want +got):\n%s", uint64(c.from), diff)
		}
	}
}

func TestLeaves_stop(t *testing.T) {
	t.Parallel()
	m, want := forms()
	s := m.space()
	for n := 1; n < len(want); n++ {
		seen := 0
		if err := s.Leaves(context.Background(), 0, top, func(Leaf) bool { seen++; return seen < n }); err != nil || seen != n {
			t.Errorf("stopped after %d: %d visits, error %v", n, seen, err)
		}
	}
	ctx, cancel := context.WithCancel(context.Background())
	seen := 0
	err := s.Leaves(ctx, 0, top, func(Leaf) bool { seen++; cancel(); return true })
	if err != context.Canceled || seen == len(want) {
		t.Errorf("cancelled: %d visits, error %v", seen, err)
	}
	if err := NewFlat(strip{}).Leaves(ctx, 0, top, func(Leaf) bool { t.Error("visited a flat space"); return true }); err != nil {
		t.Errorf("flat: %v", err)
	}
}

// TestLeaves_loops: tables that point at one another end the walk, and say so.
func TestLeaves_loops(t *testing.T) {
	t.Parallel()
	all := func(m *machine, table, to PA) {
		for i := range PA(512) {
			m.put(table+8*i, uint64(to)|0x63)
		}
	}
	for _, c := range []struct {
		name  string
		build func(m *machine)
	}{
		{"every entry of the root is the self-map", func(m *machine) { all(m, m.root, m.root) }},
		{"one table at every level", func(m *machine) { a := m.page(); all(m, m.root, a); all(m, a, a) }},
		{"two tables in turn", func(m *machine) {
			a, b := m.page(), m.page()
			all(m, m.root, a)
			all(m, a, b)
			all(m, b, a)
		}},
		{"back to the root", func(m *machine) { a := m.page(); all(m, m.root, a); all(m, a, m.root) }},
		{"one entry that leads back to the root", func(m *machine) { a := m.page(); m.put(m.root+8*3, uint64(a)|0x63); all(m, a, m.root) }},
		{"a chain of forty", func(m *machine) {
			prev := m.root
			for range 40 {
				a := m.page()
				all(m, prev, a)
				prev = a
			}
			all(m, prev, m.root)
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			m := newMachine()
			c.build(m)
			visits, loops := 0, 0
			err := m.space().Leaves(context.Background(), 0, top, func(l Leaf) bool {
				visits++
				if l.Err != nil && l.Err.Why == "the page tables form a loop" {
					loops++
				}
				return true
			})
			limit := (maxTableVisits + 1) * 512 * len(m.frames)
			if err != nil || visits > limit {
				t.Errorf("%d visits, limit %d, error %v", visits, limit, err)
			}
			if (loops == 0) != (len(m.frames) == 1) {
				t.Errorf("%d loops told of %d tables", loops, len(m.frames))
			}
		})
	}
}

// TestLeaves_writable: one level without the right to write is enough.
func TestLeaves_writable(t *testing.T) {
	t.Parallel()
	m := newMachine()
	page := m.mapBytes(kernelPage, nil)
	m.set(kernelPage+0x1000, 1, uint64(page)|0x61) // read only
	m.set(kernelPage+0x2000, 1, 0x5000820)         // transition, read only
	m.mapBytes(kernelPage+0x40000000, nil)         // below an entry that is
	m.set(kernelPage+0x40000000, 3, m.get(m.slot(kernelPage+0x40000000, 3))&^2)
	var got []bool
	for _, l := range leavesOf(t, m.space(), 0, top) {
		got = append(got, l.Writable)
	}
	if diff := cmp.Diff([]bool{true, false, false, false}, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

// TestSelfMap: only an entry of the kernel's half that leads back to the table.
func TestSelfMap(t *testing.T) {
	t.Parallel()
	m := newMachine()
	m.put(m.root+8*0x10, uint64(m.root)|0x67)
	if i, ok := m.space().SelfMap(); ok {
		t.Errorf("entry %#x of the user's half counts", i)
	}
	m.put(m.root+8*0x15f, uint64(m.root)|0x8000000000000063)
	if i, ok := m.space().SelfMap(); !ok || i != 0x15f {
		t.Errorf("self-map %#x, %v; want 0x15f", i, ok)
	}
	for _, s := range []*Space{NewX64(frames{}, 0x1000), NewFlat(nil)} {
		if _, ok := s.SelfMap(); ok {
			t.Error("a space without tables has a self-map")
		}
	}
}
