package unwind

import (
	"encoding/binary"
	"errors"
	"fmt"

	"gokd/model"
	"gokd/model/mem"
)

// Segment is one piece of a thread's kernel stack. A thread has more than one
// after KeExpandKernelStackAndCallout, which runs a function on a new stack.
type Segment struct {
	Thread  mem.VA // whose it is
	Limit   mem.VA // lowest address in use
	Base    mem.VA // address behind the highest
	Initial mem.VA // where the first frame started; the control area and the floating-point area lie above
	// ActualLimit is the lowest address reserved for the stack, below Limit for
	// one that can grow; 0 where unknown.
	ActualLimit mem.VA
	// Inferred tells that no control area names the segment: its bounds are those
	// of the pages around a saved stack pointer, and Initial is its Base.
	Inferred bool
}

// low is the lowest address that belongs to the segment.
func (s Segment) low() mem.VA {
	if s.ActualLimit != 0 && s.ActualLimit < s.Limit {
		return s.ActualLimit
	}
	return s.Limit
}

// maxSegment is more than any kernel stack measures; the largest of x64, that
// of a thread with large stacks, has 0x12000 bytes.
const maxSegment = 1 << 20

// maxSegments limits nested expansions of a stack; real ones nest a few times.
const maxSegments = 16

// plausible checks what every kernel stack fulfils.
func (s Segment) plausible() error {
	switch {
	case !mem.Canonical(s.Base-1) || userHalf(s.Limit) || userHalf(s.Base-1):
		return fmt.Errorf("stack %#x to %#x: %w: not in the kernel's half", uint64(s.Limit), uint64(s.Base), ErrStack)
	case s.Limit >= s.Base || s.Base-s.low() > maxSegment:
		return fmt.Errorf("stack %#x to %#x: %w: its size", uint64(s.Limit), uint64(s.Base), ErrStack)
	case s.Base%mem.PageSize != 0 || s.Limit%mem.PageSize != 0:
		return fmt.Errorf("stack %#x to %#x: %w: not made of pages", uint64(s.Limit), uint64(s.Base), ErrStack)
	case s.Initial <= s.Limit || s.Initial > s.Base || s.Initial%8 != 0:
		return fmt.Errorf("stack %#x to %#x: %w: it starts at %#x", uint64(s.Limit), uint64(s.Base), ErrStack, uint64(s.Initial))
	}
	return nil
}

// Segments gives the kernel stack segments of a thread, the current one first.
// What was found is returned with the error that ended the search.
//
// The current one is in _KTHREAD. At its InitialStack lies a control area that
// names the previous one: _KERNEL_STACK_CONTROL on Windows 7, _KSTACK_CONTROL
// since Windows 8; a base of 0 there ends the chain.
func Segments(k *model.Kernel, thread mem.VA) ([]Segment, error) {
	s := Segment{Thread: thread}
	for _, f := range []struct {
		name string
		at   model.DebugField
		to   *mem.VA
	}{
		{"StackLimit", model.DebugOffsetKThreadStackLimit, &s.Limit},
		{"StackBase", model.DebugOffsetKThreadStackBase, &s.Base},
		{"InitialStack", model.DebugOffsetKThreadInitialStack, &s.Initial},
	} {
		v, err := threadPointer(k, thread, f.name, f.at)
		if err != nil {
			return nil, fmt.Errorf("thread %#x: %w", uint64(thread), err)
		}
		*f.to = v
	}
	if s.Base == 0 {
		return nil, nil // a terminated thread gave its stack back
	}
	if err := s.plausible(); err != nil {
		return nil, fmt.Errorf("thread %#x: %w", uint64(thread), err)
	}
	return previousSegments(k, s)
}

// threadPointer reads a pointer of _KTHREAD by the layout, or without one where
// the debugger data block gives the offset.
func threadPointer(k *model.Kernel, thread mem.VA, name string, f model.DebugField) (mem.VA, error) {
	v, err := k.Object("_KTHREAD", thread).Field(name).Pointer()
	if errors.Is(err, model.ErrNoLayout) {
		if off, ok := k.Debug.Field(f); ok {
			return k.Space.Pointer(thread + mem.VA(off))
		}
	}
	return v, err
}

// previousSegments follows the chain of control areas, and where that names
// nothing, the machine frame of a switch of stacks.
func previousSegments(k *model.Kernel, first Segment) ([]Segment, error) {
	list := []Segment{first}
	for {
		last := &list[len(list)-1]
		prev, actual, err := control(k, *last)
		if err != nil {
			return list, fmt.Errorf("thread %#x: %w", uint64(first.Thread), err)
		}
		if actual < last.Limit && last.Limit-actual <= maxSegment {
			last.ActualLimit = actual
		}
		if !prev.isBase() {
			var ok bool
			if prev, ok = switchedFrom(k, *last); !ok {
				return list, nil
			}
		}
		prev.Thread = first.Thread
		if err := fits(list, prev); err != nil {
			return list, fmt.Errorf("thread %#x: previous stack named at %#x: %w", uint64(first.Thread), uint64(last.Initial), err)
		}
		list = append(list, prev)
		if prev.Inferred {
			return list, nil
		}
	}
}

// isBase tells whether a control area names a stack at all. It holds anything
// while the thread has one segment only.
func (s Segment) isBase() bool {
	return s.Base != 0 && s.Base%mem.PageSize == 0 && s.Limit%mem.PageSize == 0 && mem.Canonical(s.Base-1) && !userHalf(s.Base-1)
}

// fits checks a further segment against those found.
func fits(list []Segment, s Segment) error {
	if err := s.plausible(); err != nil {
		return err
	}
	if len(list) == maxSegments {
		return fmt.Errorf("%w: more than %d segments", ErrStack, maxSegments)
	}
	for _, o := range list {
		if s.Limit < o.Base && o.Limit < s.Base {
			return fmt.Errorf("%w: it overlaps %#x to %#x", ErrStack, uint64(o.Limit), uint64(o.Base))
		}
	}
	return nil
}

// control reads the control area at a segment's InitialStack: the previous
// segment, and the lowest address reserved for this one, 0 where the area does
// not describe this one.
func control(k *model.Kernel, of Segment) (prev Segment, actual mem.VA, err error) {
	area := k.Object("_KSTACK_CONTROL", of.Initial)
	own := area
	if area.Err() != nil {
		area = k.Object("_KERNEL_STACK_CONTROL", of.Initial)
		own = area.Field("Current")
	}
	if area.Err() != nil {
		return prev, 0, nil // no layout: the segment that _KTHREAD names is all
	}
	p := area.Field("Previous")
	var base mem.VA
	for _, f := range []struct {
		from model.Object
		to   *mem.VA
	}{
		{own.Field("StackBase"), &base}, {own.Field("ActualLimit"), &actual},
		{p.Field("StackBase"), &prev.Base}, {p.Field("StackLimit"), &prev.Limit}, {p.Field("InitialStack"), &prev.Initial},
	} {
		if *f.to, err = f.from.Pointer(); err != nil {
			return prev, 0, err
		}
	}
	if base != of.Base {
		return prev, 0, nil
	}
	// The low bits are flags (_KSTACK_CONTROL.StackExpansion).
	return prev, actual.Page(), nil
}

// switchedFrom finds the stack that a thread left for its segment. The switch
// puts a machine frame right below InitialStack (KeExpandKernelStackAndCallout):
// its rsp is on the stack before. That reaches as far as pages are there, since
// guard pages lie between stacks. A trap from user mode leaves a machine frame
// in the same place, but with user mode's selectors.
func switchedFrom(k *model.Kernel, of Segment) (Segment, bool) {
	at := of.Initial - machineFrameSize
	b, err := k.Space.Bytes(at, machineFrameSize)
	if err != nil {
		return Segment{}, false
	}
	f := parseMachineFrame(b)
	if !f.kernel() || !inModuleCode(k, mem.VA(f.rip)) {
		return Segment{}, false
	}
	sp := mem.VA(f.rsp)
	if userHalf(sp) || !mem.Canonical(sp) || sp >= of.low() && sp < of.Base || !k.Space.Readable(sp, 8) {
		return Segment{}, false
	}
	s := Segment{Limit: sp.Page(), Base: sp.Page() + mem.PageSize, Inferred: true}
	for s.Base-sp < maxScan && s.Base != 0 && k.Space.Readable(s.Base, 8) {
		s.Base += mem.PageSize
	}
	for sp-s.Limit < maxScan && k.Space.Readable(s.Limit-8, 8) {
		s.Limit -= mem.PageSize
	}
	s.Initial = s.Base
	return s, true
}

// ProcessorStack is a stack that belongs to a processor instead of a thread:
// the one that deferred procedure calls run on, interrupts' and those of the
// interrupt stack table.
type ProcessorStack struct {
	Processor   int
	Kind        string // "DPC", "ISR", "IST1" ...
	Limit, Base mem.VA
}

// processorStackSize is the size in bytes of a processor's stacks on x64
// (KERNEL_STACK_SIZE in ntddk.h).
const processorStackSize = 0x6000

// Offsets that never moved on x64, for kernels whose types do not tell:
// _KPCR.TssBase and the _KPRCB in the _KPCR; the interrupt stack table in the
// task state segment is the processor's own (Intel SDM volume 3, 8.7).
const (
	pcrTssBase = 0x8
	pcrPrcb    = 0x180
	tssIST1    = 0x24
	istCount   = 7
	maxPCR     = 0x10000 // bound of an offset in _KPCR
)

// ProcessorStacks gives the stacks of all processors that can be read.
func ProcessorStacks(k *model.Kernel) []ProcessorStack {
	var list []ProcessorStack
	prcbAt := k.OffsetOr(pcrPrcb, maxPCR, "_KPCR", "Prcb")
	tssAt := k.OffsetOr(pcrTssBase, maxPCR, "_KPCR", "TssBase")
	for _, p := range k.Processors {
		if p.PRCB == 0 {
			continue
		}
		add := func(kind string, top mem.VA) {
			if top%16 == 0 && top > processorStackSize && mem.Canonical(top-1) && !userHalf(top-processorStackSize) {
				list = append(list, ProcessorStack{p.Number, kind, top - processorStackSize, top})
			}
		}
		prcb := k.Object("_KPRCB", p.PRCB)
		if top, err := prcb.Field("DpcStack").Pointer(); err == nil {
			add("DPC", top)
		}
		if top, err := prcb.Field("IsrStack").Pointer(); err == nil {
			add("ISR", top)
		}
		var ist [8 * istCount]byte
		tss, err := k.Space.Pointer(p.PRCB - mem.VA(prcbAt) + mem.VA(tssAt))
		if err != nil || userHalf(tss) {
			continue
		}
		if _, err := k.Space.ReadVirtual(ist[:], tss+tssIST1); err != nil {
			continue
		}
		for i := range istCount {
			add(fmt.Sprintf("IST%d", i+1), mem.VA(binary.LittleEndian.Uint64(ist[8*i:])))
		}
	}
	return list
}
