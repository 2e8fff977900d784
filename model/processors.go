package model

import (
	"encoding/binary"
	"fmt"

	"gokd/model/mem"
)

// maxProcessors is the extent of KiProcessorBlock on the largest builds.
const maxProcessors = 2048

// readProcessors reads the processors through KiProcessorBlock, an array of
// pointers to _KPRCB that goes over all processor groups.
func (k *Kernel) readProcessors() []Processor {
	n := min(max(int(k.Source.Processors), 1), maxProcessors)
	block, unknown := k.Global("KiProcessorBlock")
	list := make([]Processor, 0, n)
	for i := range n {
		p := Processor{Number: i, Err: unknown}
		if p.Err == nil {
			p.PRCB, p.Err = k.Space.Pointer(block + mem.VA(8*i))
		}
		if p.Err == nil && p.PRCB == 0 {
			p.Err = fmt.Errorf("KiProcessorBlock[%d] is empty", i)
		}
		if p.Err == nil {
			k.readPRCB(&p)
		}
		list = append(list, p)
	}
	k.fillFromCopy(list)
	return list
}

// fillFromCopy gives the crashing processor of a triage dump what the copy of
// its block says, where the block itself can't be found.
func (k *Kernel) fillFromCopy(list []Processor) {
	t := k.Source.Crash.Triage
	if t == nil {
		return
	}
	o := k.prcbOffsets()
	if len(t.Prcb) < o.end() {
		return
	}
	thread := mem.VA(le64(t.Prcb[o.current:]))
	for _, p := range list {
		if p.CurrentThread == thread {
			return
		}
	}
	n := binary.LittleEndian.Uint32(t.Prcb[o.number:])
	if int64(n) >= int64(len(list)) || thread == 0 {
		return
	}
	p := &list[n]
	p.CurrentThread, p.Err = thread, nil
	p.NextThread, p.IdleThread = mem.VA(le64(t.Prcb[o.next:])), mem.VA(le64(t.Prcb[o.idle:]))
}

// checkProcessors replaces a number of processors that can't be by that of the
// entries of KiProcessorBlock in use: the kernel fills it without a gap.
func (k *Kernel) checkProcessors() {
	said := k.Source.Processors
	sane := said >= 1 && said <= maxProcessors
	used, ended := k.countProcessors()
	switch {
	case sane && (!ended || used == 0 || used >= said):
		return
	case used == 0:
		used = 1
	}
	k.Source.Processors = used
	if said != 0 { // 0: the header leaves it open
		k.warn("processors: the header names %d, nt!KiProcessorBlock %d: using %d", said, used, used)
	}
}

// countProcessors counts the leading entries of KiProcessorBlock that hold an
// address of the kernel; ended tells that the one behind them is empty.
func (k *Kernel) countProcessors() (n uint32, ended bool) {
	block, err := k.Global("KiProcessorBlock")
	if err != nil {
		return 0, false
	}
	for ; n < maxProcessors; n++ {
		at, err := k.Space.Pointer(block + mem.VA(8*n))
		if err != nil || at>>47 != 0x1ffff {
			return n, err == nil && at == 0
		}
	}
	return n, false
}

// prcbOffsets are the places in _KPRCB of what is read without a type.
type prcbOffsets struct{ current, next, idle, number uint32 }

func (o prcbOffsets) end() int { return int(max(o.current, o.next, o.idle, o.number)) + 8 }

// maxPRCB bounds an offset in _KPRCB in bytes; the largest blocks have 0xc000.
const maxPRCB = 0x20000

// prcbOffsets gives the places that the types tell, else the debugger data
// block, else those of every x64 build from Vista to 11 (public type tables).
func (k *Kernel) prcbOffsets() prcbOffsets {
	o := prcbOffsets{0x8, 0x10, 0x18, 0x24}
	for _, f := range []struct {
		to    *uint32
		name  string
		block DebugField
	}{
		{&o.current, "CurrentThread", DebugOffsetPrcbCurrentThread}, {&o.next, "NextThread", DebugField{}},
		{&o.idle, "IdleThread", DebugOffsetPrcbIdleThread}, {&o.number, "Number", DebugOffsetPrcbNumber},
	} {
		if v, ok := k.Debug.Field(f.block); ok && f.block.Size != 0 && v < maxPRCB {
			*f.to = uint32(v)
		}
		*f.to = k.OffsetOr(*f.to, maxPRCB, "_KPRCB", f.name)
	}
	return o
}

// OffsetOr gives the offset of a field that the types tell, where they do and
// it is below max; else the one given.
func (k *Kernel) OffsetOr(known, max uint32, typ string, path ...string) uint32 {
	if k.Types != nil {
		if off, err := OffsetOf(k.Types, typ, path...); err == nil && off < max {
			return off
		}
	}
	return known
}

func (k *Kernel) readPRCB(p *Processor) {
	o := k.prcbOffsets()
	for _, f := range []struct {
		off uint32
		to  *mem.VA
	}{{o.current, &p.CurrentThread}, {o.next, &p.NextThread}, {o.idle, &p.IdleThread}} {
		v, err := k.Space.Pointer(p.PRCB + mem.VA(f.off))
		if err != nil {
			p.Err = err
			return
		}
		*f.to = v
	}
}

// CrashProcessor gives the index of the processor whose state the header
// carries: the one on whose current thread's stack, or DPC stack, the header's
// stack pointer lies, or whose saved stack pointer is the same; 0 where none is.
func (k *Kernel) CrashProcessor() int {
	r, ok := ParseContext(k.Source.Crash.Context)
	if !ok || k.Types == nil {
		return 0
	}
	sp := mem.VA(r.GPR[RSP])
	for _, on := range []func(Processor, mem.VA) bool{k.onThreadStack, k.onDPCStack, k.savedAt} {
		for i, p := range k.Processors {
			if on(p, sp) {
				return i
			}
		}
	}
	return 0
}

func (k *Kernel) onThreadStack(p Processor, sp mem.VA) bool {
	t := k.Object("_KTHREAD", p.CurrentThread)
	limit, err1 := t.Field("StackLimit").Pointer()
	base, err2 := t.Field("StackBase").Pointer()
	return err1 == nil && err2 == nil && sp >= limit && sp < base
}

// dpcStackSize is the size of a processor's stack for deferred calls in bytes.
const dpcStackSize = 0x6000

func (k *Kernel) onDPCStack(p Processor, sp mem.VA) bool {
	top, err := k.Object("_KPRCB", p.PRCB).Field("DpcStack").Pointer()
	return err == nil && top != 0 && sp < top && top-sp <= dpcStackSize
}

func (k *Kernel) savedAt(p Processor, sp mem.VA) bool {
	c := k.savedContext(p.PRCB)
	return c != nil && mem.VA(c.GPR[RSP]) == sp
}

// loadContexts gives each processor its registers: what the crash saved at
// _KPRCB.Context, or at _KPRCB.ProcessorState.ContextFrame, else, for the
// processor that crashed, the header's. The header comes last because a triage
// dump of an exception carries the context of the exception there, not that of
// the bug check.
func (k *Kernel) loadContexts() {
	crashed := k.CrashProcessor()
	for i := range k.Processors {
		p := &k.Processors[i]
		if p.PRCB != 0 {
			p.Context = k.savedContext(p.PRCB)
		}
		if p.Context == nil && i == crashed {
			if r, ok := ParseContext(k.Source.Crash.Context); ok {
				p.Context = &r
			}
		}
	}
}

func (k *Kernel) savedContext(prcb mem.VA) *Registers {
	if k.Types == nil {
		return nil
	}
	o := k.Object("_KPRCB", prcb)
	places := make([]mem.VA, 0, 2)
	if at, err := o.Field("Context").Pointer(); err == nil && at != 0 {
		places = append(places, at)
	}
	if f := o.Field("ProcessorState.ContextFrame"); f.Err() == nil {
		places = append(places, f.Addr())
	}
	for _, at := range places {
		b, err := k.Space.Bytes(at, ContextSize)
		if err != nil {
			continue
		}
		if r, ok := ParseContext(b); ok {
			return &r
		}
	}
	return nil
}
