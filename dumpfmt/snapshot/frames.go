package snapshot

import (
	"maps"
	"slices"
	"strings"

	"gokd/model/mem"
)

// settle chooses the offsets that a stack leaves open: where another stack
// stands in that routine, or any.
func (t *thread) settle() {
	for i := range t.frames {
		f := &t.frames[i]
		if !f.free {
			continue
		}
		if i == 0 && t.state == "Running" {
			continue // the processor stands on the routine's first byte
		}
		f.off = 0x40 + hashOf(f.fn.name, "site")%0xc0
		if len(f.fn.sites) > 0 {
			f.off = slices.Min(slices.Collect(maps.Keys(f.fn.sites)))
		}
	}
}

// link tells every routine of a stack where it stands and whom it called.
func (t *thread) link() error {
	for i, f := range t.frames {
		switch {
		case i == 0 && f.off == 0 && t.state == "Running":
			f.fn.entry = true
		case f.interrupted:
			f.fn.stops[f.off] = true
		default:
			var callee *function
			if i > 0 {
				callee = t.frames[i-1].fn
			}
			if before, known := f.fn.sites[f.off]; known && before != callee {
				callee = nil // it calls through a pointer
			}
			f.fn.sites[f.off] = callee
		}
		if !f.trap {
			continue
		}
		f.fn.trap = true
		if !f.exact && f.fn.frame < 0 {
			if err := f.fn.setFrame(machineFrameAt, f.line); err != nil {
				return err
			}
		}
	}
	return nil
}

// atEntry reports whether a row stands before its routine's prologue.
func (t *thread) atEntry(i int) bool {
	return i == 0 && t.frames[0].fn.entry && t.frames[0].off == 0 && t.state == "Running"
}

// layStack gives every row of a stack its place, from the outermost inwards.
func (t *thread) layStack() error {
	next := t.init
	if t.outer != nil {
		next = t.outer.init
	}
	for i := len(t.frames) - 1; i >= 0; i-- {
		f := &t.frames[i]
		if !f.exact {
			switch {
			case f.trap:
				f.trapAt = next - machineFrameSize - machineFrameAt
				f.sp = f.trapAt + machineFrameAt - mem.VA(f.fn.frame)
			case t.atEntry(i):
				f.sp = next - 8
			default:
				f.sp = next - 8 - mem.VA(f.fn.frame)
			}
		}
		if i+1 < len(t.frames) {
			f.ret = t.frames[i+1].pc()
		}
		next = f.sp
	}
	// Below the innermost frame the switch frame must fit, and what interrupts
	// would push.
	first := t.frames[0]
	if _, ok := t.segmentOf(first.sp - 0x200); !ok {
		return wrong(first.line, "the stack of thread %x does not fit its %#x bytes", t.tid, uint64(t.base-t.limit))
	}
	t.sp, t.pc = first.sp, first.pc()
	if t.state != "Running" {
		t.sp -= mem.VA(switchFrameSize)
	}
	return nil
}

const (
	machineFrameSize = 0x28 // what the processor pushes: rip, cs, rflags, rsp, ss
	switchFrameSize  = 0x40 // _KSWITCH_FRAME of Windows 7 to 8.1
)

// writeStack backs a thread's stack and fills its frames.
func (m *machine) writeStack(t *thread) {
	segments := []segment{{t.base, t.limit, t.init}}
	if t.outer != nil {
		segments = append(segments, *t.outer)
	}
	for i, s := range segments {
		m.fail(m.kernel.mapRange(s.limit, uint64(s.base-s.limit), flagsData))
		c := m.object(m.controlType(), s.init)
		current := t.sp
		if i > 0 {
			current = m.switched(t, s)
		}
		m.stackControl(c, "Current", s, current)
		if i+1 < len(segments) {
			m.stackControl(c, "Previous", segments[i+1], m.switched(t, segments[i+1]))
		}
	}
	for i := range t.frames {
		m.writeFrame(t, i)
	}
	if t.state != "Running" {
		sw := m.object("_KSWITCH_FRAME", t.sp)
		sw.puts("Return", t.pc, "ApcBypass", 1)
	}
}

// switched finds the stack pointer at which a thread left a piece of its stack.
func (m *machine) switched(t *thread, s segment) mem.VA {
	for _, f := range t.frames {
		if f.sp >= s.limit && f.sp < s.init {
			return f.sp
		}
	}
	return s.init
}

func (m *machine) stackControl(c object, part string, s segment, sp mem.VA) {
	c.puts(part+".StackBase", s.base, part+".StackLimit", s.limit, part+".KernelStack", sp,
		part+".InitialStack", s.init, part+".ActualLimit", s.limit)
}

// writeFrame fills one row's part of the stack: the return address or machine
// frame, saved registers, and what its callee keeps of its arguments.
func (m *machine) writeFrame(t *thread, i int) {
	f := t.frames[i]
	if t.atEntry(i) {
		m.put64(f.sp, uint64(f.ret))
		return
	}
	if f.trap {
		m.writeTrap(t, i)
		return
	}
	top := f.sp + mem.VA(f.fn.frame)
	m.put64(top, uint64(f.ret))
	for k, reg := range f.fn.pushes {
		m.put64(top-mem.VA(8*(k+1)), t.register(reg))
	}
	for _, s := range f.fn.saves {
		m.put64(f.sp+mem.VA(s.off), t.register(s.reg))
	}
	// The callee's home space is the bottom of its caller's frame.
	if i+1 < len(t.frames) && t.frames[i+1].fn.frame >= 0x28 && !t.frames[i+1].trap {
		for k, v := range t.arguments(f.fn.name) {
			m.put64(top+8+mem.VA(8*k), v)
		}
	}
}

// register gives what a thread's routines keep in a nonvolatile register.
func (t *thread) register(reg byte) uint64 {
	switch reg {
	case 3: // rbx
		return uint64(t.waitAddress())
	case 6: // rsi
		return uint64(t.at)
	case 7: // rdi
		return uint64(t.proc.at)
	}
	return 0
}

// waitAddress is what a thread is concerned with: the resource or object that
// it waits for, or itself.
func (t *thread) waitAddress() mem.VA {
	switch w := t.wait; {
	case w == nil:
		return t.at
	case w.resource != nil:
		return w.resource.at
	case len(w.targets) > 0:
		return w.targets[0].address()
	}
	return t.at
}

// arguments gives what a routine was called with, as far as its callee keeps
// it: the x64 calling convention leaves room for four on the caller's stack.
// What waits got is true; other routines got what passes for arguments.
func (t *thread) arguments(routine string) []uint64 {
	seed := hashOf(routine)
	filling := []uint64{uint64(t.waitAddress()), uint64(t.at), 0, uint64(seed % 0x40), uint64(t.proc.at), 1}
	args := make([]uint64, 4)
	for i := range args {
		args[i] = filling[seed>>(8*i)%uint32(len(filling))]
	}
	if w := t.wait; w != nil && len(w.targets) > 0 {
		switch object := uint64(w.targets[0].address()); {
		case routine == "KeWaitForSingleObject":
			args = []uint64{object, 0, 0, 0}
		case routine == "ExpWaitForResource" && w.resource != nil:
			args = []uint64{uint64(w.resource.at), object, 0, 0}
		case w.resource != nil && strings.HasPrefix(routine, "ExAcquire"):
			args = []uint64{uint64(w.resource.at), 1, 0, 0}
		}
	}
	return args
}

// User-mode addresses of a thread that came in by a system call: behind the
// syscall instruction in ntdll, and a stack of which the page in use is mapped.
// No user image is part of a snapshot.
const (
	userRIP = 0x00000000777618ca
	userCS  = 0x33
	userSS  = 0x2b
)

func (t *thread) userSP() mem.VA { return 0x12f000 + mem.VA(t.tid)<<12 - 0x708 }

// writeTrap writes a trap frame: all of it where it lies in the routine's own
// frame, else what the processor pushes.
func (m *machine) writeTrap(t *thread, i int) {
	f := t.frames[i]
	trap := m.object("_KTRAP_FRAME", f.trapAt)
	// The frame of a routine that switches stacks holds the processor's part
	// alone: what lies below belongs to the routines it called.
	if f.trapAt >= f.sp {
		trap.puts("MxCsr", 0x1f80, "Rbx", t.at, "Rdi", t.proc.at)
	}
	if i+1 < len(t.frames) {
		next := t.frames[i+1]
		trap.puts("Rip", next.pc(), "SegCs", 0x10, "EFlags", 0x246, "Rsp", next.sp, "SegSs", 0x18)
		return
	}
	trap.puts("PreviousMode", 1, "Rip", userRIP, "SegCs", userCS, "EFlags", 0x246, "Rsp", t.userSP(), "SegSs", userSS)
	t.trapFrame = f.trapAt
}
