package unwind

import (
	"errors"
	"fmt"
	"testing"

	"github.com/google/go-cmp/cmp"

	"gokd/model"
	"gokd/model/mem"
)

// control areas at InitialStack, by hand. Windows 7: current segment {base,
// limit, kernel stack, initial, actual limit}, then the previous one; later:
// {base, actual limit}, then the previous {base, limit, kernel stack, initial}.
func (l *lab) control7(at, base, actual mem.VA, prev Segment) {
	l.words(at, uint64(base), 0, 0, 0, uint64(actual), uint64(prev.Base), uint64(prev.Limit), 0, uint64(prev.Initial), uint64(prev.ActualLimit))
}

func (l *lab) control8(at, base, actual mem.VA, prev Segment) {
	l.words(at, uint64(base), uint64(actual), uint64(prev.Base), uint64(prev.Limit), 0, uint64(prev.Initial), 0, 0, 0, 0)
}

func TestSegments(t *testing.T) {
	t.Parallel()
	own := Segment{Thread: labThread, Limit: labStack, Base: labBase, Initial: labInit}
	outer := Segment{Thread: labThread, Limit: labOther, Base: labOther + 0x6000, Initial: labOther + 0x5db0}
	third := Segment{Thread: labThread, Limit: 0xfffff88006000000, Base: 0xfffff88006006000, Initial: 0xfffff88006005db0}
	for _, build := range []uint32{7601, 9600, 14393, 22000} {
		area := (*lab).control8
		if build == 7601 {
			area = (*lab).control7
		}
		none := Segment{}
		for _, c := range []struct {
			name  string
			build func(l *lab)
			want  []Segment
			err   error
		}{
			{"one", func(l *lab) { area(l, labInit, labBase, labStack, none) }, []Segment{own}, nil},
			{"a large one, expandable", func(l *lab) { area(l, labInit, labBase, labStack-0xc000|1, none) }, []Segment{func() Segment {
				s := own
				s.ActualLimit = labStack - 0xc000
				return s
			}()}, nil},
			{"anything in the area", func(l *lab) {
				area(l, labInit, 0x1234, labStack-0x2000, Segment{Base: 0xfffffa8019068040, Limit: 0x3804})
			}, []Segment{own}, nil},
			{"two", func(l *lab) {
				area(l, labInit, labBase, labStack, outer)
				area(l, outer.Initial, outer.Base, outer.Limit, none)
			}, []Segment{own, outer}, nil},
			{"three", func(l *lab) {
				area(l, labInit, labBase, labStack, outer)
				area(l, outer.Initial, outer.Base, outer.Limit, third)
				area(l, third.Initial, third.Base, third.Limit, none)
			}, []Segment{own, outer, third}, nil},
			{"a loop", func(l *lab) {
				area(l, labInit, labBase, labStack, outer)
				area(l, outer.Initial, outer.Base, outer.Limit, own)
			}, []Segment{own, outer}, ErrStack},
			{"its own previous", func(l *lab) { area(l, labInit, labBase, labStack, own) }, []Segment{own}, ErrStack},
			{"a previous of a gigabyte", func(l *lab) {
				area(l, labInit, labBase, labStack, Segment{Base: labOther + 0x40000000, Limit: labOther, Initial: labOther + 0x100})
			}, []Segment{own}, ErrStack},
			{"area not captured", func(l *lab) { delete(l.pages, labInit.Page()) }, []Segment{own}, mem.ErrNotCaptured},
			{"no area, but the machine frame of a switch", func(l *lab) {
				l.words(labInit-0x28, at(fnContinue), 0x10, 0x246, uint64(labOther)+0x3fe0, 0x18)
				for page := labOther + 0x1000; page < labOther+0x6000; page += 4096 {
					l.words(page, 0)
				}
			}, []Segment{own, {Thread: labThread, Limit: labOther + 0x1000, Base: labOther + 0x6000, Initial: labOther + 0x6000, Inferred: true}}, nil},
			{"the machine frame of a system call", func(l *lab) {
				l.words(labInit-0x28, userRIP, 0x33, 0x246, 0x12f8a8, 0x2b)
			}, []Segment{own}, nil},
			{"a machine frame of the segment itself", func(l *lab) {
				l.words(labInit-0x28, at(fnContinue), 0x10, 0x246, uint64(labInit)-0x100, 0x18)
			}, []Segment{own}, nil},
		} {
			t.Run(fmt.Sprint(build, " ", c.name), func(t *testing.T) {
				t.Parallel()
				l := plant()
				k := typed(t, l, build)
				l.thread(t, k, true, labInit-0x200)
				c.build(l)
				got, err := Segments(k, labThread)
				if diff := cmp.Diff(c.want, got); diff != "" || !errors.Is(err, c.err) {
					t.Errorf("error %v (-want +got):\n%s", err, diff)
				}
			})
		}
	}
}

// TestSegments_noLayout: the debugger data block is enough for the stack itself,
// and without it the error says what is missing.
func TestSegments_noLayout(t *testing.T) {
	t.Parallel()
	l := plant()
	if _, err := Segments(l.kernel(t), labThread); !errors.Is(err, model.ErrNoLayout) {
		t.Errorf("error %v, want %v", err, model.ErrNoLayout)
	}
}

func TestSegments_manyNested(t *testing.T) {
	t.Parallel()
	l := plant()
	k := typed(t, l, 19041)
	l.thread(t, k, true, labInit-0x200)
	at, base := labInit, labBase
	for i := range mem.VA(40) {
		limit := 0xfffff88010000000 + i*0x10000
		next := Segment{Base: limit + 0x6000, Limit: limit, Initial: limit + 0x5d00}
		l.control8(at, base, 0, next)
		at, base = next.Initial, next.Base
	}
	if got, err := Segments(k, labThread); len(got) != maxSegments || !errors.Is(err, ErrStack) {
		t.Errorf("%d segments, error %v, want %d and an error", len(got), err, maxSegments)
	}
}

func TestProcessorStacks(t *testing.T) {
	t.Parallel()
	l := newLab()
	k := typed(t, l, 19041)
	const prcb, tss = mem.VA(0xfffff80100000180), mem.VA(0xfffff80100002000)
	l.put(prcb-0x180, make([]byte, 0x9000))
	l.words(prcb-0x180+8, uint64(tss))
	l.words(k.Object("_KPRCB", prcb).Field("DpcStack").Addr(), uint64(labOther)+0x6000)
	l.words(k.Object("_KPRCB", prcb).Field("IsrStack").Addr(), uint64(labOther)+0x10000)
	l.put(tss, make([]byte, 0x68))
	l.words(tss+0x24, uint64(labOther)+0x20000, 0, 0x7777)
	k.Processors = []model.Processor{{Number: 3, PRCB: prcb}, {Number: 4}, {Number: 5, PRCB: 0xfffff80200000180}}
	want := []ProcessorStack{
		{3, "DPC", labOther, labOther + 0x6000},
		{3, "ISR", labOther + 0xa000, labOther + 0x10000},
		{3, "IST1", labOther + 0x1a000, labOther + 0x20000},
	}
	if diff := cmp.Diff(want, ProcessorStacks(k)); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

// TestFrom_processorStack comes from a processor's stack to the thread's.
func TestFrom_processorStack(t *testing.T) {
	t.Parallel()
	l := plant()
	k := typed(t, l, 19041)
	const prcb = mem.VA(0xfffff80100000180)
	l.put(prcb-0x180, make([]byte, 0x9000))
	l.words(k.Object("_KPRCB", prcb).Field("DpcStack").Addr(), uint64(labOther)+0x6000)
	k.Processors = []model.Processor{{PRCB: prcb}}
	top := labOther + 0x6000
	l.words(top-0x28, at(fnSmall+7), 0x10, 0x246, uint64(labInit)-0x30, 0x18)
	s := From(t.Context(), k, regsAt(at(fnSwitch+afterCall), uint64(top)-0x50), []Segment{segment()}, Options{NoScan: true})
	check(t, s, []brief{
		{top - 0x50, mem.VA(at(fnSwitch + afterCall)), mem.VA(at(fnSmall + 7)), top - 0x190, HowContext},
		{labInit - 0x30, mem.VA(at(fnSmall + 7)), 0, 0, HowMachineFrame},
	}, nil)
}

func TestIndex(t *testing.T) {
	t.Parallel()
	seg := func(thread, limit, base, actual mem.VA) Segment {
		const kernel = 0xfffff88000000000
		s := Segment{Thread: thread, Limit: kernel + limit, Base: kernel + base, Initial: kernel + base - 0x250}
		if actual != 0 {
			s.ActualLimit = kernel + actual
		}
		return s
	}
	x := NewIndex(
		seg(1, 0x10000, 0x16000, 0),
		seg(2, 0x20000, 0x26000, 0),
		seg(2, 0x40000, 0x46000, 0x38000),
		seg(3, 0x3a000, 0x3c000, 0),          // in the space that 2 has reserved
		seg(4, 0x60000, 0x61000, 0),          // inside of the next
		seg(5, 0x58000, 0x68000, 0),          // claims too much
		seg(6, 0x80000, 0x80000, 0),          // empty: no stack
		Segment{Thread: 7, Base: ^mem.VA(0)}, // nonsense
	)
	if x.Len() != 6 {
		t.Errorf("%d segments, want 6", x.Len())
	}
	for _, c := range []struct {
		at     uint64
		thread mem.VA
		below  bool
	}{
		{0xffff, 0, false},
		{0x10000, 1, false},
		{0x13ab7, 1, false},
		{0x15fff, 1, false},
		{0x16000, 0, false},
		{0x25fff, 2, false},
		{0x37fff, 0, false},
		{0x38000, 2, true},
		{0x3a000, 3, false},
		{0x3bfff, 3, false},
		{0x3c000, 2, true},
		{0x40000, 2, false},
		{0x60800, 4, false},
		{0x61000, 5, false},
		{0x67fff, 5, false},
		{0x80000, 0, false},
	} {
		thread, s, below, ok := x.Find(0xfffff88000000000 + c.at)
		if thread != c.thread || below != c.below || ok != (c.thread != 0) || s.Thread != c.thread {
			t.Errorf("%#x: thread %d of %+v, below %v, found %v, want %d, %v", c.at, thread, s, below, ok, c.thread, c.below)
		}
	}
	for _, v := range []uint64{0, ^uint64(0)} {
		if _, _, _, ok := x.Find(v); ok {
			t.Errorf("%#x is on a stack", v)
		}
	}
	if _, _, _, ok := NewIndex().Find(1); ok {
		t.Error("an empty index found something")
	}
}
