package unwind

import (
	"encoding/binary"
	"errors"

	"gokd/model"
	"gokd/model/mem"
)

// maxScan is the most bytes that one scan looks at: a large kernel stack has as
// many.
const maxScan = 0x12000

// homeArea is the least that a function which calls others has below its own
// return address: four home slots, and one to align the stack.
const homeArea = 0x28

// errNothing says that a scan found nothing.
var errNothing = errors.New("no return address on the rest of the stack")

// scan looks upward for the next return address where unwind data is missing.
// At a call the stack is aligned to 16, so return addresses stand at odd
// multiples of 8. Each must lie in code, behind a call as far as the bytes can
// be read, and where its function has unwind data, that must lead on. A machine
// frame on the way is taken, since hardly anything else looks like one.
func (w *walker) scan(cur state) (step, error) {
	at := (cur.rsp() + 7) &^ 7
	end := w.scanEnd(at)
	if at >= end {
		return step{}, errNothing
	}
	end = min(end, at+maxScan)
	// The stack is read up to the first hole: behind it nothing is known.
	b, _ := w.k.Space.Bytes(at, int(end-at))
	slots := len(b) / 8
	word := func(i int) uint64 { return binary.LittleEndian.Uint64(b[8*i:]) }
	// A trap handler's frame is its trap frame: the machine frame has its place
	// in it, and what lies below are registers, not return addresses.
	if i := trapFrameRIP / 8; !cur.exact && i+5 <= slots {
		if s, ok := w.machineAt(at+trapFrameRIP, b[trapFrameRIP:]); ok {
			trapState(w.k.Space, &s.caller, s.machine, at)
			return s, nil
		}
	}
	first := at
	if !cur.exact && !cur.scanned {
		first += homeArea
	}
	w.noteContext(cur)
	for i := 0; i < slots; i++ {
		slot := at + mem.VA(8*i)
		if i&0xff == 0 && w.ctx.Err() != nil {
			return step{}, w.ctx.Err()
		}
		if n := w.recordAt(slot, b[8*i:]); n > 0 {
			i += n/8 - 1
			continue
		}
		if slot < first {
			continue
		}
		if s, ok := w.machineAt(slot, b[8*i:]); ok {
			return s, nil
		}
		if slot%16 == 8 && w.candidate(mem.VA(word(i)), slot) {
			return w.scanned(mem.VA(word(i)), slot), nil
		}
	}
	// A thread's first function returns to 0.
	if slots > 0 && at+mem.VA(8*slots) == end && w.on != nil && end == w.on.initial && word(slots-1) == 0 && w.atTop(end) {
		return step{}, errEnd
	}
	return step{}, errNothing
}

// scanEnd gives the end of the stack that holds at.
func (w *walker) scanEnd(at mem.VA) mem.VA {
	switch {
	case w.on == nil:
		return max(at, at+maxScan) // at, where that wraps around
	case w.on.initial > at:
		return w.on.initial
	}
	return w.on.base
}

// scanned makes the frame of a return address found in a slot. Of the
// registers, only rsp is known in it.
func (w *walker) scanned(v, slot mem.VA) step {
	s := step{how: HowScan}
	s.caller.scanned = true
	s.caller.regs.RIP = uint64(v)
	s.caller.set(model.RSP, uint64(slot)+8)
	return s
}

// candidate reports whether a value in a slot may be a return address.
func (w *walker) candidate(v, slot mem.VA) bool {
	if !w.returnAddress(v) {
		return false
	}
	m, ok := w.k.Modules.At(v)
	if !ok {
		return false
	}
	f, ok, err := m.FunctionAt(uint32(v - m.Base))
	if err != nil {
		return true // no unwind data to ask
	}
	if !ok {
		return false // a leaf makes no call
	}
	// The frame must undo, to something that can be a caller.
	s := w.scanned(v, slot)
	u := &undoer{k: w.k, m: m, state: s.caller, rva: uint32(v - m.Base), scratch: &w.scratch}
	up, err := u.run(f)
	if err != nil {
		// A frame register that a scan can't know is no evidence against it.
		return u.lostRegister
	}
	if w.accept(s.caller, &up) != nil {
		return false
	}
	if up.caller.rip() == 0 && up.machine == 0 {
		return w.on == nil || w.firstFrame(up.caller.rsp()-8)
	}
	return up.machine != 0 || w.returnAddress(up.caller.rip())
}

// returnAddress reports whether a value is one that a call can have pushed: in
// a module's code, behind a call instruction. Where the code is not in the dump
// the symbols must name a function for it.
func (w *walker) returnAddress(v mem.VA) bool {
	m, ok := w.k.Modules.At(v)
	if !ok || !inCode(m, v) {
		return false
	}
	var b [callBytes]byte
	if _, err := w.k.Space.ReadVirtual(b[:], v-callBytes); err == nil {
		return followsCall(b)
	}
	n := w.k.NameOf(w.ctx, v)
	if n.Function != "" {
		return n.Offset > 0 && n.Offset < maxFunction
	}
	// Without names, a module that has none at all may be right; one that has
	// them would name its code.
	s, err := m.Symbols(w.ctx)
	return (err != nil || s == nil || s.Describe() != "isf") && v > m.Base+mem.PageSize
}

// maxFunction is the most bytes from a symbol to code of its function.
const maxFunction = 0x10000

// inCode reports whether an address lies in an executable section; also true
// where the module's section table is not in the dump.
func inCode(m *model.Module, v mem.VA) bool {
	h, err := m.Header()
	if err != nil || len(h.Sections) == 0 {
		return true
	}
	s, ok := h.SectionAt(uint32(v - m.Base))
	return ok && s.Executable()
}

const callBytes = 7

// followsCall reports whether the bytes before an address end with a call: E8
// rel32, or FF /2 in one of its lengths (Intel SDM volume 2, CALL).
func followsCall(b [callBytes]byte) bool {
	if b[2] == 0xe8 {
		return true
	}
	for n := 2; n <= callBytes; n++ {
		i := callBytes - n
		if b[i] == 0xff && b[i+1]>>3&7 == 2 && callLength(b[i+1:]) == n {
			return true
		}
	}
	return false
}

// callLength gives the length of FF /2 by the bytes from its ModRM on.
func callLength(b []byte) int {
	mod, rm := b[0]>>6, b[0]&7
	n := 2
	if mod == 3 {
		return n
	}
	base := rm
	if rm == 4 { // a SIB byte follows
		if len(b) < 2 {
			return 0
		}
		base = b[1] & 7
		n++
	}
	switch {
	case mod == 1:
		n++
	case mod == 2 || mod == 0 && base == 5:
		n += 4
	}
	return n
}

// machineFrameSize is rip, cs, rflags, rsp, ss.
const machineFrameSize = 0x28

// Selectors of 64-bit Windows: kernel code, user code, kernel and user stack.
const (
	kernelCode = 0x10
	userCode   = 0x33
	userCode32 = 0x23
	kernelData = 0x18
	userData   = 0x2b
)

// machineFrame is what the processor pushes at a trap, each in 8 bytes (Intel
// SDM volume 3, 6.14).
type machineFrame struct{ rip, cs, flags, rsp, ss uint64 }

// parseMachineFrame decodes machineFrameSize bytes.
func parseMachineFrame(b []byte) machineFrame {
	le := binary.LittleEndian
	return machineFrame{le.Uint64(b), le.Uint64(b[8:]), le.Uint64(b[16:]), le.Uint64(b[24:]), le.Uint64(b[32:])}
}

// sane checks rflags and the alignment of rsp: bit 1 of rflags is always set;
// 3, 5, 15 and above 21 never are.
func (f machineFrame) sane() bool { return f.flags&0xffffffffffc0802a == 2 && f.rsp%8 == 0 }

// kernel and user tell a frame of that mode by Windows' selectors.
func (f machineFrame) kernel() bool {
	return f.sane() && f.cs == kernelCode && (f.ss == kernelData || f.ss == 0)
}
func (f machineFrame) user() bool {
	return f.sane() && (f.cs == userCode || f.cs == userCode32) && f.ss == userData
}

// machineAt reads a machine frame out of the bytes of a stack, if it is one
// beyond doubt: selectors and flags are right, and rsp is where the processor
// left it: right above, in user space, or on another stack of the thread.
func (w *walker) machineAt(at mem.VA, b []byte) (step, bool) {
	if len(b) < machineFrameSize {
		return step{}, false
	}
	f := parseMachineFrame(b)
	rip, rsp := mem.VA(f.rip), mem.VA(f.rsp)
	s := step{how: HowMachineFrame, machine: at}
	s.caller.regs = model.Registers{RIP: f.rip, EFlags: uint32(f.flags), CS: uint16(f.cs), SS: uint16(f.ss)}
	s.caller.set(model.RSP, f.rsp)
	s.caller.exact = true
	switch {
	case f.user():
		return s, userHalf(rip) && userHalf(rsp) && rip != 0 && rsp != 0
	case !f.kernel() || !inModuleCode(w.k, rip):
		return step{}, false
	}
	// The processor aligns the stack to 16 before it pushes.
	if above := at + machineFrameSize; rsp >= above && rsp-above < 16 {
		return s, true
	}
	r := w.find(rsp)
	return s, r != nil && r != w.on && w.on != nil
}

// inModuleCode reports whether an address lies in some module's code.
func inModuleCode(k *model.Kernel, v mem.VA) bool {
	m, ok := k.Modules.At(v)
	return ok && inCode(m, v)
}
