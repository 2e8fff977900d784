package unwind

import (
	"encoding/binary"
	"fmt"

	"gokd/model"
	"gokd/model/mem"
)

// epilog undoes the rest of an epilog if rip is in one. Behind the start of an
// epilog the prolog's codes no longer describe the stack.
func (u *undoer) epilog(f model.RuntimeFunction, in *info) (bool, error) {
	if in.version == 2 {
		return u.epilog2(f, in)
	}
	for _, c := range in.codes {
		if c.op == opPushMachFrame {
			return false, nil // ends with iretq, which no code below describes
		}
	}
	return u.epilog1(f, in)
}

// epilog2 uses version 2's list of epilogs: the first code gives the size of
// them all, and with bit 0 one at the function's end; each further code gives
// the distance of one from the end. An epilog there is the pops and the return,
// in the order of the pushes in the codes.
func (u *undoer) epilog2(f model.RuntimeFunction, in *info) (bool, error) {
	if len(in.epilogs) == 0 {
		return false, nil
	}
	size := uint32(in.epilogs[0].at)
	within := func(start uint32) (uint32, bool) {
		return u.rva - start, u.rva-start < size && start < f.End
	}
	off, inside := uint32(0), false
	if in.epilogs[0].info&1 != 0 {
		off, inside = within(f.End - size)
	}
	for _, e := range in.epilogs[1:] {
		if back := uint32(e.at) | uint32(e.info)<<8; !inside && back != 0 {
			off, inside = within(f.End - back)
		}
	}
	if !inside {
		return false, nil
	}
	// The pushes are in the function's own prolog, which a part of it that has
	// its own unwind data is chained to.
	codes := in.codes
	for n := 0; in.flags&flagChained != 0; n++ {
		var err error
		if _, in, err = u.entry(in.chained); err != nil {
			return false, err
		}
		if n == maxChain {
			return false, fmt.Errorf("unwind data of %s for %#x: %w: chained without end", u.m.Name, u.rva, errInfo)
		}
		codes = append(codes, in.codes...)
	}
	return true, u.replay(codes, off)
}

// replay pops what an epilog has not popped off bytes after its start.
func (u *undoer) replay(codes []code, off uint32) error {
	for len(codes) > 0 && codes[0].op != opPushNonvol {
		codes = codes[1:]
	}
	at := uint32(0) // of the pop in the epilog
	for ; len(codes) > 0 && codes[0].op == opPushNonvol; codes = codes[1:] {
		if at >= off {
			if err := u.pop(int(codes[0].info)); err != nil {
				return err
			}
		}
		at++
		if codes[0].info >= 8 {
			at++ // a REX prefix
		}
	}
	if len(codes) > 0 && codes[0].op == opAllocSmall && codes[0].value == 8 {
		if at >= off {
			u.regs.GPR[model.RSP] += 8 // the pop of a register whose value does not matter
		}
		codes = codes[1:]
	}
	if len(codes) > 0 && codes[0].op == opPushMachFrame {
		return u.machineFrame(mem.VA(u.regs.GPR[model.RSP]) + mem.VA(codes[0].info)*8)
	}
	return nil
}

// maxEpilog is more bytes than any epilog has: an adjustment of rsp, a pop of
// each register, a jump.
const maxEpilog = 64

// epilog1 recognizes a version 1 epilog by its code, which the ABI restricts to
// these: add rsp, imm or lea rsp, disp[frame register]; pops; and a return or a
// jump out of the function. Bytes that cannot be read are no epilog.
func (u *undoer) epilog1(f model.RuntimeFunction, in *info) (bool, error) {
	var buf [maxEpilog]byte
	b := buf[:min(maxEpilog, u.m.Size-uint64(u.rva))]
	n, _ := u.k.Space.ReadVirtual(b, u.rip())
	c := codeReader{b: b[:n]}

	rsp, ok := u.adjust(&c, in)
	if !ok {
		return false, nil
	}
	var pops []int
	for {
		r, ok := c.pop()
		if !ok {
			break
		}
		pops = append(pops, r)
	}
	if !c.returns() && !u.leaves(&c, f, in) {
		return false, nil
	}
	u.regs.GPR[model.RSP] = rsp
	for _, r := range pops {
		if err := u.pop(r); err != nil {
			return false, err
		}
	}
	return true, nil
}

// adjust reads the instruction that frees the function's fixed stack, if there
// is one, and gives rsp behind it.
func (u *undoer) adjust(c *codeReader, in *info) (rsp uint64, ok bool) {
	rsp = u.regs.GPR[model.RSP]
	if v, ok := c.addRSP(); ok {
		return rsp + v, true
	}
	if in.frameReg == 0 {
		return rsp, true
	}
	v, ok := c.leaRSP(in.frameReg)
	if !ok {
		return rsp, true
	}
	return u.regs.GPR[in.frameReg] + v, u.known>>in.frameReg&1 != 0
}

// leaves reports whether the next instruction is a jump that ends the function:
// by a pointer, or to the outside, or to its own start, which is a recursion.
func (u *undoer) leaves(c *codeReader, f model.RuntimeFunction, in *info) bool {
	disp, size, ok := c.jump()
	if !ok {
		return c.jumpPointer()
	}
	at := u.rva + uint32(c.used+size) + uint32(disp)
	if at >= f.Begin && at < f.End {
		return at == f.Begin && in.flags&flagChained == 0
	}
	// Parts of one function lie apart; a jump between them is no end.
	own, known := u.primary(f)
	other, ok, err := u.m.FunctionAt(at)
	if err != nil || !ok || !known {
		return true
	}
	other, ok = u.primary(other)
	return !ok || other.Begin != own.Begin || at == own.Begin
}

// primary follows chained entries to the one that starts the function.
func (u *undoer) primary(f model.RuntimeFunction) (model.RuntimeFunction, bool) {
	for range maxChain {
		if f.Unwind&1 != 0 {
			to, err := u.m.ReadFunction(f.Unwind &^ 1)
			if err != nil {
				return f, false
			}
			f = to
			continue
		}
		in, err := readInfo(u.k.Space, u.m, f.Unwind, u.scratch)
		if err != nil {
			return f, false
		}
		if in.flags&flagChained == 0 {
			return f, true
		}
		f = in.chained
	}
	return f, false
}

// codeReader decodes the few instructions that epilogs are made of.
type codeReader struct {
	b    []byte
	used int
}

// has reports whether the next bytes are these.
func (c *codeReader) has(want ...byte) bool {
	if len(c.b) < len(want) {
		return false
	}
	for i, w := range want {
		if c.b[i] != w {
			return false
		}
	}
	return true
}

func (c *codeReader) skip(n int) { c.b, c.used = c.b[n:], c.used+n }

// disp8 and disp32 read a sign-extended operand at an offset.
func (c *codeReader) disp8(at int) (uint64, bool) {
	if len(c.b) <= at {
		return 0, false
	}
	return uint64(int8(c.b[at])), true
}

func (c *codeReader) disp32(at int) (uint64, bool) {
	if len(c.b) < at+4 {
		return 0, false
	}
	return uint64(int32(binary.LittleEndian.Uint32(c.b[at:]))), true
}

// addRSP takes add rsp, imm8 or imm32.
func (c *codeReader) addRSP() (v uint64, ok bool) {
	n := 0
	switch {
	case c.has(0x48, 0x83, 0xc4):
		v, ok = c.disp8(3)
		n = 4
	case c.has(0x48, 0x81, 0xc4):
		v, ok = c.disp32(3)
		n = 7
	}
	if ok {
		c.skip(n)
	}
	return v, ok
}

// leaRSP takes lea rsp, [reg+disp8] or [reg+disp32].
func (c *codeReader) leaRSP(reg int) (v uint64, ok bool) {
	rex := byte(0x48 | reg>>3)
	n, low := 0, byte(reg&7)
	sib := 0
	if low == 4 { // r12 as a base needs a SIB byte
		sib = 1
		if len(c.b) < 4 || c.b[3] != 0x24 {
			return 0, false
		}
	}
	switch {
	case c.has(rex, 0x8d, 0x60|low):
		v, ok = c.disp8(3 + sib)
		n = 4 + sib
	case c.has(rex, 0x8d, 0xa0|low):
		v, ok = c.disp32(3 + sib)
		n = 7 + sib
	}
	if ok {
		c.skip(n)
	}
	return v, ok
}

// pop takes pop r64, with or without a REX prefix.
func (c *codeReader) pop() (reg int, ok bool) {
	if len(c.b) > 0 && c.b[0]&0xf8 == 0x58 {
		reg = int(c.b[0] & 7)
		c.skip(1)
		return reg, true
	}
	if len(c.b) > 1 && c.b[0]&0xf0 == 0x40 && c.b[1]&0xf8 == 0x58 {
		reg = int(c.b[1]&7 | c.b[0]&1<<3)
		c.skip(2)
		return reg, true
	}
	return 0, false
}

// returns reports whether the next instruction is ret, ret imm16, or ret with a
// rep or bnd prefix.
func (c *codeReader) returns() bool {
	return c.has(0xc3) || c.has(0xc2) || c.has(0xf3, 0xc3) || c.has(0xf2, 0xc3)
}

// jump decodes jmp rel8 or rel32, with or without a bnd prefix.
func (c *codeReader) jump() (disp uint64, size int, ok bool) {
	pre := 0
	if c.has(0xf2) {
		pre = 1
	}
	if len(c.b) <= pre {
		return 0, 0, false
	}
	switch c.b[pre] {
	case 0xeb:
		disp, ok = c.disp8(pre + 1)
		size = pre + 2
	case 0xe9:
		disp, ok = c.disp32(pre + 1)
		size = pre + 5
	}
	return disp, size, ok
}

// jumpPointer reports whether the next instruction is jmp [rip+disp32], or a
// jump by register or memory with a REX.W prefix, by which compilers mark a
// tail call.
func (c *codeReader) jumpPointer() bool {
	if c.has(0xff, 0x25) {
		return true
	}
	return len(c.b) > 2 && c.b[0]&0xf8 == 0x48 && c.b[1] == 0xff && c.b[2]&0x38 == 0x20
}
