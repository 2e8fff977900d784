package unwind

import (
	"context"
	"errors"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"

	"gokd/model"
	"gokd/model/mem"
	"gokd/model/types"
)

// The functions of plant, by offset in the text.
const (
	fnSmall    = 0x1000 // allocates 0x28
	fnTrap     = 0x2000 // KTRAP_FRAME: allocates 0x168, machine frame
	fnSwitch   = 0x3000 // KySwitchKernelStackCallout: allocates 0x28, machine frame
	fnContinue = 0x3100 // KiSwitchKernelStackContinue: allocates 0x18
	fnLeaf     = 0x5000 // no unwind data
	afterCall  = 5      // offset behind the call that each starts with
)

// plant gives a lab with functions that all start with a call.
func plant() *lab {
	l := newLab()
	call := []byte{0xe8, 0, 0, 0, 0, 0x90, 0x90, 0x90, 0x90, 0x90}
	l.fn(fnSmall, call, []byte{1, 0, 1, 0, 0, 0x42, 0, 0})
	l.fn(fnTrap, call, []byte{1, 0, 3, 0, 0, 0x01, 0x2d, 0, 0, 0x0a, 0, 0})
	l.fn(fnSwitch, call, []byte{1, 0, 2, 0, 0, 0x42, 0, 0x0a})
	l.fn(fnContinue, call, []byte{1, 0, 1, 0, 0, 0x22, 0, 0})
	l.put(labImage+labText+fnLeaf, call)
	l.put(labImage+labText+fnSmall-8, make([]byte, 8)) // what stands before the first call
	return l
}

func regsAt(rip, rsp uint64) (r model.Registers) {
	r.RIP, r.GPR[model.RSP] = rip, rsp
	return r
}

// brief is a frame as these tests compare it.
type brief struct {
	SP, RIP, Ret, TF mem.VA
	How              How
}

func briefs(s *Stack) (list []brief) {
	for _, f := range s.Frames {
		list = append(list, brief{f.ChildSP, f.RIP, f.ReturnAddress, f.TrapFrame, f.How})
	}
	return list
}

func check(t *testing.T, s *Stack, want []brief, err error) {
	t.Helper()
	if diff := cmp.Diff(want, briefs(s)); diff != "" {
		t.Errorf("frames (-want +got):\n%s", diff)
	}
	if !errors.Is(s.Err, err) {
		t.Errorf("ended by %v, want %v", s.Err, err)
	}
}

func TestFrom_toTheEnd(t *testing.T) {
	t.Parallel()
	l := plant()
	small := at(fnSmall + afterCall)
	sp := uint64(labInit) - 0x90
	l.words(mem.VA(sp)+0x28, small)
	l.words(mem.VA(sp)+0x58, small)
	l.words(mem.VA(sp)+0x88, 0)
	l.words(mem.VA(sp)+0x30, 11, 12, 13, 14) // home slots
	s := From(context.Background(), l.kernel(t), regsAt(at(fnSmall+6), sp), []Segment{segment()}, Options{})
	check(t, s, []brief{
		{mem.VA(sp), mem.VA(at(fnSmall + 6)), mem.VA(small), 0, HowContext},
		{mem.VA(sp) + 0x30, mem.VA(small), mem.VA(small), 0, HowData},
		{mem.VA(sp) + 0x60, mem.VA(small), 0, 0, HowData},
	}, nil)
	if f := s.Frames[0]; !f.ArgsOK || f.Args != [4]uint64{11, 12, 13, 14} {
		t.Errorf("args %v, %v", f.Args, f.ArgsOK)
	}
	if n := s.Frames[0].Name.String(); n != "nt+0x2006" {
		t.Errorf("name %q", n)
	}
	s = From(context.Background(), l.kernel(t), regsAt(at(fnSmall+6), sp), []Segment{segment()}, Options{MaxFrames: 2, NoArgs: true})
	if len(s.Frames) != 2 || !s.Truncated || s.Frames[0].ArgsOK {
		t.Errorf("limited to 2: %d frames, truncated %v, args %v", len(s.Frames), s.Truncated, s.Frames[0].ArgsOK)
	}
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if s = From(ctx, l.kernel(t), regsAt(small, sp), []Segment{segment()}, Options{}); s.Err != context.Canceled {
		t.Errorf("cancelled: %v", s.Err)
	}
}

// TestFrom_topOfStack: a return address in the last slot ends the stack, even
// if it is not 0: no frame has room above.
func TestFrom_topOfStack(t *testing.T) {
	t.Parallel()
	l := plant()
	sp := labInit - 0x30
	l.words(sp+0x28, at(fnSmall+afterCall))
	s := From(context.Background(), l.kernel(t), regsAt(at(fnSmall+6), uint64(sp)), []Segment{segment()}, Options{})
	check(t, s, []brief{{sp, mem.VA(at(fnSmall + 6)), mem.VA(at(fnSmall + afterCall)), 0, HowContext}}, nil)
}

func TestFrom_leaf(t *testing.T) {
	t.Parallel()
	small := at(fnSmall + afterCall)
	sp := labInit - 0x38
	top := brief{sp + 8, mem.VA(small), 0, 0, HowLeaf}
	for _, c := range []struct {
		name  string
		rip   uint64
		first uint64 // at rsp
		want  []brief
		fails bool
	}{
		{"leaf function", at(fnLeaf + 8), small, []brief{{sp, mem.VA(at(fnLeaf + 8)), mem.VA(small), 0, HowContext}, top}, false},
		{"jump to nowhere", 0x4141414141414141, small, []brief{{sp, 0x4141414141414141, mem.VA(small), 0, HowContext}, top}, false},
		{"call of a null pointer", 0, small, []brief{{sp, 0, mem.VA(small), 0, HowContext}, top}, false},
		{"not behind a call", at(fnLeaf + 8), small - 1, []brief{{sp, mem.VA(at(fnLeaf + 8)), 0, 0, HowContext}}, true},
		{"not code", at(fnLeaf + 8), uint64(labImage) + labPdata + 5, []brief{{sp, mem.VA(at(fnLeaf + 8)), 0, 0, HowContext}}, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			l := plant()
			l.words(sp, c.first)
			l.words(sp+0x30, 0)
			s := From(context.Background(), l.kernel(t), regsAt(c.rip, uint64(sp)), []Segment{segment()}, Options{NoScan: true})
			if diff := cmp.Diff(c.want, briefs(s)); diff != "" || (s.Err != nil) != c.fails {
				t.Errorf("error %v, frames (-want +got):\n%s", s.Err, diff)
			}
		})
	}
}

// TestFrom_leafBelow: a function that called another is no leaf.
func TestFrom_leafBelow(t *testing.T) {
	t.Parallel()
	l := plant()
	sp := labInit - 0x100
	leaf := at(fnLeaf + afterCall)
	l.words(sp+0x28, leaf)
	l.words(sp+0x30, at(fnSmall+afterCall))
	s := From(context.Background(), l.kernel(t), regsAt(at(fnSmall+6), uint64(sp)), []Segment{segment()}, Options{NoScan: true})
	if len(s.Frames) != 2 || s.Err == nil {
		t.Errorf("%d frames, error %v, want 2 and an error", len(s.Frames), s.Err)
	}
}

// TestFrom_epilogBelow: behind a call stands the function's frame, whatever the
// code there looks like; this is what a call that never returns leaves.
func TestFrom_epilogBelow(t *testing.T) {
	t.Parallel()
	l := plant()
	l.fn(0x6000, []byte{0xe8, 0, 0, 0, 0, 0xe9, 0, 0x10, 0, 0}, []byte{1, 0, 1, 0, 0, 0x42, 0, 0})
	sp := labInit - 0x60
	l.words(sp+0x28, at(0x6000+afterCall), at(fnSmall+afterCall))
	s := From(context.Background(), l.kernel(t), regsAt(at(fnSmall+6), uint64(sp)), []Segment{segment()}, Options{NoScan: true})
	check(t, s, []brief{
		{sp, mem.VA(at(fnSmall + 6)), mem.VA(at(0x6000 + afterCall)), 0, HowContext},
		{sp + 0x30, mem.VA(at(0x6000 + afterCall)), 0, 0, HowData},
	}, nil)
}

func TestFrom_trap(t *testing.T) {
	t.Parallel()
	small := mem.VA(at(fnSmall + afterCall))
	tf := labInit - 0x1c0
	start := brief{tf, mem.VA(at(fnTrap + afterCall)), 0, tf, HowContext}
	for _, c := range []struct {
		name  string
		frame []uint64
		want  []brief
		fails bool
	}{
		{"in the kernel, inside a leaf", []uint64{at(fnLeaf + 7), 0x10, 0x246, uint64(labInit) - 0x30, 0x18}, []brief{
			{labInit - 0x30, mem.VA(at(fnLeaf + 7)), small, 0, HowMachineFrame},
			{labInit - 0x28, small, 0, 0, HowLeaf},
		}, false},
		{"through a null pointer", []uint64{0, 0x10, 0x246, uint64(labInit) - 0x30, 0x18}, []brief{
			{labInit - 0x30, 0, small, 0, HowMachineFrame},
			{labInit - 0x28, small, 0, 0, HowLeaf},
		}, false},
		{"from user mode", []uint64{userRIP, 0x33, 0x246, 0x12f8a8, 0x2b}, []brief{{0x12f8a8, userRIP, 0, 0, HowUser}}, false},
		{"user mode with a kernel stack", []uint64{userRIP, 0x33, 0x246, uint64(labInit) - 0x30, 0x2b}, nil, true},
		{"back down the stack", []uint64{at(fnLeaf + 7), 0x10, 0x246, uint64(tf), 0x18}, nil, true},
		{"to no stack", []uint64{at(fnLeaf + 7), 0x10, 0x246, uint64(labOther), 0x18}, nil, true},
		{"unaligned stack pointer", []uint64{at(fnLeaf + 7), 0x10, 0x246, uint64(labInit) - 0x2f, 0x18}, nil, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			l := plant()
			l.words(tf+0x168, c.frame...)
			l.words(labInit-0x30, uint64(small))
			first := start
			if !c.fails {
				first.Ret = mem.VA(c.frame[0])
			} else {
				first.TF = 0
			}
			s := From(context.Background(), l.kernel(t), regsAt(at(fnTrap+afterCall), uint64(tf)), []Segment{segment()}, Options{NoScan: true})
			if diff := cmp.Diff(append([]brief{first}, c.want...), briefs(s)); diff != "" || (s.Err != nil) != c.fails {
				t.Errorf("error %v, frames (-want +got):\n%s", s.Err, diff)
			}
		})
	}
}

// TestFrom_switch goes from an inner segment to the outer one and never back.
func TestFrom_switch(t *testing.T) {
	t.Parallel()
	outer := Segment{Thread: segment().Thread, Limit: labOther, Base: labOther + 0x6000, Initial: labOther + 0x5db0}
	for _, c := range []struct {
		name string
		rsp  mem.VA // the switch goes to
		ok   bool
	}{
		{"into the outer segment", labOther + 0x5d00, true},
		{"to its very top", labOther + 0x6000, false},
		{"below it", labOther - 8, false},
		{"to the segment's own start", labStack + 8, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			l := plant()
			l.words(labInit-0x28, at(fnContinue), 0x10, 0x246, uint64(c.rsp), 0x18)
			for page := labOther; page < outer.Base; page += 4096 {
				l.words(page, 0)
			}
			l.words(labOther+0x5d18, at(fnSwitch+afterCall))
			// The outer segment lies that it was switched to from the inner one.
			l.words(labOther+0x5d48, at(fnSmall), 0x10, 0x246, uint64(labStack)+0x100, 0x18)
			s := From(context.Background(), l.kernel(t), regsAt(at(fnSwitch+afterCall), uint64(labInit)-0x50), []Segment{segment(), outer}, Options{NoScan: true})
			if !c.ok {
				if s.Err == nil && len(s.Frames) > 1 && s.Frames[1].ChildSP != c.rsp {
					t.Errorf("%+v", briefs(s))
				}
				if s.Err == nil && c.rsp != outer.Base {
					t.Error("no error")
				}
				return
			}
			check(t, s, []brief{
				{labInit - 0x50, mem.VA(at(fnSwitch + afterCall)), mem.VA(at(fnContinue)), labInit - 0x190, HowContext},
				{labOther + 0x5d00, mem.VA(at(fnContinue)), mem.VA(at(fnSwitch + afterCall)), 0, HowMachineFrame},
				{labOther + 0x5d20, mem.VA(at(fnSwitch + afterCall)), 0, 0, HowData},
			}, ErrStack)
		})
	}
}

func TestFrom_noSegments(t *testing.T) {
	t.Parallel()
	l := plant()
	sp := labStack + 0x1000
	for i := range mem.VA(300) {
		l.words(sp+0x28+0x30*i, at(fnSmall+afterCall))
	}
	s := From(context.Background(), l.kernel(t), regsAt(at(fnSmall+6), uint64(sp)), nil, Options{})
	if len(s.Frames) != DefaultFrames || !s.Truncated {
		t.Errorf("%d frames, truncated %v, %v", len(s.Frames), s.Truncated, s.Err)
	}
	// A machine frame far away is no part of a stack that nobody knows.
	l.words(sp+0x168, at(fnSmall), 0x10, 0x246, uint64(labOther), 0x18)
	s = From(context.Background(), l.kernel(t), regsAt(at(fnTrap+6), uint64(sp)), nil, Options{NoScan: true})
	if len(s.Frames) != 1 || !errors.Is(s.Err, ErrStack) {
		t.Errorf("%d frames, %v", len(s.Frames), s.Err)
	}
}

// typed gives a kernel with the structures of a build.
func typed(t testing.TB, l *lab, build uint32) *model.Kernel {
	t.Helper()
	k := l.kernel(t)
	k.Types = types.Embedded(build)[0]
	return k
}

const labThread = mem.VA(0xfffffa8000001000)

// thread writes a _KTHREAD whose stack is the lab's.
func (l *lab) thread(t testing.TB, k *model.Kernel, resident bool, kernelStack mem.VA) {
	t.Helper()
	l.put(labThread, make([]byte, 0x600))
	for name, v := range map[string]mem.VA{"StackLimit": labStack, "StackBase": labBase, "InitialStack": labInit, "KernelStack": kernelStack} {
		l.words(k.Object("_KTHREAD", labThread).Field(name).Addr(), uint64(v))
	}
	if resident {
		typ, err := k.Types.Type("_KTHREAD")
		if err != nil {
			t.Fatal(err)
		}
		f, _ := typ.Field("KernelStackResident")
		l.words(labThread+mem.VA(f.Offset), 1<<f.BitPos)
	}
}

func TestThread_switchFrame(t *testing.T) {
	t.Parallel()
	small := at(fnSmall + afterCall)
	for _, build := range []uint32{7601, 9600, 19041} {
		for _, c := range []struct {
			name string
			off  mem.VA // of the return address in the switch frame
		}{{"usual place", 0x38}, {"smaller frame", 0x18}, {"larger frame", 0x48}} {
			l := plant()
			k := typed(t, l, build)
			ks := labInit - 0x200
			l.thread(t, k, true, ks)
			l.words(ks+c.off-8, 0xbbbb, small)
			l.words(ks+c.off+8+0x28, 0)
			s, err := Thread(context.Background(), k, labThread, Options{})
			if err != nil {
				t.Errorf("%d, %s: %v", build, c.name, err)
				continue
			}
			check(t, s, []brief{{ks + c.off + 8, mem.VA(small), 0, 0, HowSwitch}}, nil)
			if f := s.Frames[0]; f.Regs.GPR[model.RBP] != 0xbbbb || f.Known != 1<<model.RBP|1<<model.RSP {
				t.Errorf("%d, %s: rbp %#x, known %#x", build, c.name, f.Regs.GPR[model.RBP], f.Known)
			}
		}
	}
}

func TestThread_noStart(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name     string
		stack    mem.VA
		resident bool
		change   func(l *lab, k *model.Kernel)
		want     error
	}{
		{"swapped out", labInit - 0x200, false, nil, ErrNotResident},
		{"no kernel stack", 0, true, nil, ErrNotResident},
		{"terminated", 0, true, func(l *lab, k *model.Kernel) {
			l.words(k.Object("_KTHREAD", labThread).Field("StackBase").Addr(), 0)
		}, ErrNotResident},
		{"page not captured", labInit - 0x1200, true, func(l *lab, _ *model.Kernel) {
			delete(l.pages, (labInit - 0x1200).Page())
		}, ErrNotResident},
		{"pointer outside the stack", labOther, true, nil, ErrStack},
		{"nothing like a switch frame", labInit - 0x200, true, nil, ErrStack},
		{"no such thread", labInit, true, func(l *lab, _ *model.Kernel) { delete(l.pages, labThread) }, mem.ErrNotCaptured},
		{"absurd stack", labInit, true, func(l *lab, k *model.Kernel) {
			l.words(k.Object("_KTHREAD", labThread).Field("StackLimit").Addr(), 0)
		}, ErrStack},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			l := plant()
			k := typed(t, l, 7601)
			l.thread(t, k, c.resident, c.stack)
			if c.change != nil {
				c.change(l, k)
			}
			if s, err := Thread(context.Background(), k, labThread, Options{}); !errors.Is(err, c.want) {
				t.Errorf("stack %v, error %v, want %v", s, err, c.want)
			}
		})
	}
}

func TestThread_running(t *testing.T) {
	t.Parallel()
	l := plant()
	k := typed(t, l, 19041)
	l.thread(t, k, true, labInit-0x200)
	sp := labInit - 0x60
	l.words(sp+0x28, at(fnSmall+afterCall))
	r := regsAt(at(fnSmall+6), uint64(sp))
	k.Processors = []model.Processor{{Number: 0}, {Number: 1, CurrentThread: labThread, Context: &r}}
	s, err := Thread(context.Background(), k, labThread, Options{})
	if err != nil || len(s.Frames) != 2 || s.Frames[0].How != HowContext {
		t.Fatalf("%v: %+v", err, s)
	}
	// A dump can hold a thread's registers and stack, but not the thread.
	saved := l.pages[labThread]
	delete(l.pages, labThread)
	if s, err = Thread(context.Background(), k, labThread, Options{}); err != nil || len(s.Frames) != 2 {
		t.Errorf("without the thread: %v: %+v", err, s)
	}
	l.pages[labThread] = saved
	// Without a context there is no start, whatever an old switch frame says.
	k.Processors[1].Context = nil
	if _, err := Thread(context.Background(), k, labThread, Options{}); !errors.Is(err, ErrNoContext) {
		t.Errorf("error %v, want %v", err, ErrNoContext)
	}
	// A bugcheck that names a context record on the thread's stack helps out.
	record := labStack + 0x2000
	l.put(record, make([]byte, model.ContextSize))
	l.put32(record+0x30, 0x10001f)
	l.words(record+0x98, uint64(sp))
	l.words(record+0xf8, at(fnSmall+7))
	k.Source.Crash.Code, k.Source.Crash.Args = 0x3b, [4]uint64{0, 0, uint64(record)}
	s, err = Thread(context.Background(), k, labThread, Options{})
	if err != nil || len(s.Frames) != 2 || s.Frames[0].RIP != mem.VA(at(fnSmall+7)) || s.Note == "" {
		t.Errorf("%v: %+v", err, s)
	}
	bad := regsAt(0xfffff80044444444, uint64(labInit)-0x3000)
	k.Processors[1].Context = &bad
	if s, err = Thread(context.Background(), k, labThread, Options{NoScan: true}); err != nil || len(s.Frames) != 2 || s.Note == "" {
		t.Errorf("beside a context that leads nowhere: %v: %+v", err, s)
	}
	// Without any processor block the header's stack pointer tells the thread.
	k.Source.Crash.Context = slices.Clone(l.pages[record.Page()][record%4096:][:model.ContextSize])
	if _, err = Thread(context.Background(), k, labThread, Options{}); err != nil {
		t.Error(err)
	}
	k.Processors = nil
	if s, err = Thread(context.Background(), k, labThread, Options{}); err != nil || len(s.Frames) != 2 || s.Note != "" {
		t.Errorf("by the header: %v: %+v", err, s)
	}
	k.Source.Crash.Args[2]++
	if _, err := CrashContext(k); err == nil {
		t.Error("a record without flags was taken for a context")
	}
	k.Source.Crash.Code = 0xd1
	if _, err := CrashContext(k); err == nil {
		t.Error("bugcheck 0xd1 names no context record")
	}
}

func TestHow_String(t *testing.T) {
	t.Parallel()
	var all []string
	for h := HowContext; h <= HowScan; h++ {
		all = append(all, h.String())
	}
	if len(slices.Compact(slices.Sorted(slices.Values(all)))) != 7 || How(0).String() != "How(0)" {
		t.Errorf("%q", all)
	}
}
