package unwind

import (
	"encoding/binary"
	"errors"
	"fmt"

	"gokd/model"
	"gokd/model/mem"
)

// Unwind codes (UNWIND_CODE.UnwindOp).
const (
	opPushNonvol = iota
	opAllocLarge
	opAllocSmall
	opSetFPReg
	opSaveNonvol
	opSaveNonvolFar
	opEpilog // version 2; in version 1 the long-gone SAVE_XMM
	opSpare  // in version 1 SAVE_XMM_FAR
	opSaveXMM
	opSaveXMMFar
	opPushMachFrame
)

// flagChained is UNW_FLAG_CHAININFO: the entry goes on with another function's.
const flagChained = 4

// code is one unwind code with its operand.
type code struct {
	at    uint8  // offset of the next instruction in the prolog
	op    uint8  // op...
	info  uint8  // register, or 4 bits of operand
	value uint32 // bytes: of an allocation, or offset of a save
}

// info is a decoded UNWIND_INFO.
type info struct {
	version  uint8
	flags    uint8
	prolog   uint8  // size of the prolog in bytes
	frameReg int    // 0: none
	frameOff uint64 // of the frame register from rsp, in bytes
	codes    []code // from the end of the prolog to its start
	epilogs  []code // of version 2
	chained  model.RuntimeFunction
}

// errInfo is the class of errors about unwind data that makes no sense.
var errInfo = errors.New("bad unwind data")

const (
	infoHead    = 4
	maxInfoSize = infoHead + 2*256 + 12
)

// infoSize gives the size in bytes of the UNWIND_INFO that starts with head, as
// far as unwinding needs it: without the handler and its data.
func infoSize(head [infoHead]byte) int {
	n := infoHead + 2*((int(head[2])+1)&^1)
	if head[0]>>3&flagChained != 0 {
		n += 12
	}
	return n
}

// parseInfo decodes an UNWIND_INFO of infoSize bytes.
func parseInfo(b []byte) (*info, error) {
	if len(b) < infoHead || len(b) < infoSize([infoHead]byte(b)) {
		return nil, fmt.Errorf("%w: cut short after %d bytes", errInfo, len(b))
	}
	in := &info{
		version: b[0] & 7, flags: b[0] >> 3, prolog: b[1],
		frameReg: int(b[3] & 15), frameOff: uint64(b[3]>>4) * 16,
	}
	if in.version != 1 && in.version != 2 {
		return nil, fmt.Errorf("%w: version %d", errInfo, in.version)
	}
	slots := b[infoHead : infoHead+2*int(b[2])]
	in.codes = make([]code, 0, b[2])
	for len(slots) > 0 {
		c, n, err := in.parseCode(slots)
		if err != nil {
			return nil, err
		}
		switch {
		case c.op == opEpilog && in.version == 2:
			in.epilogs = append(in.epilogs, c)
		case c.op == opSaveXMM || c.op == opSaveXMMFar || c.op == opEpilog || c.op == opSpare:
			// No frame above needs the vector registers.
		default:
			in.codes = append(in.codes, c)
		}
		slots = slots[2*n:]
	}
	if in.flags&flagChained != 0 {
		tail := b[infoSize([infoHead]byte(b))-12:]
		le := binary.LittleEndian
		in.chained = model.RuntimeFunction{Begin: le.Uint32(tail), End: le.Uint32(tail[4:]), Unwind: le.Uint32(tail[8:])}
	}
	return in, nil
}

// parseCode decodes the first code of the slots and tells how many it takes.
func (in *info) parseCode(slots []byte) (c code, n int, err error) {
	c = code{at: slots[0], op: slots[1] & 15, info: slots[1] >> 4}
	n = 1
	switch c.op {
	case opAllocLarge:
		n = 2 + int(c.info)
	case opSaveNonvol, opSaveXMM:
		n = 2
	case opSaveNonvolFar, opSaveXMMFar, opSpare:
		n = 3
	case opEpilog:
		// Version 2 pads its epilog codes to pairs, so that counting each as one
		// slot leads to the same place.
		if in.version == 1 {
			n = 2
		}
	}
	if c.op > opPushMachFrame || c.op == opAllocLarge && c.info > 1 || c.op == opPushMachFrame && c.info > 1 {
		return c, 0, fmt.Errorf("%w: code %d with %d", errInfo, c.op, c.info)
	}
	if len(slots) < 2*n {
		return c, 0, fmt.Errorf("%w: code %d is cut short", errInfo, c.op)
	}
	le := binary.LittleEndian
	switch c.op {
	case opAllocSmall:
		c.value = uint32(c.info)*8 + 8
	case opAllocLarge:
		if c.value = uint32(le.Uint16(slots[2:])) * 8; c.info == 1 {
			c.value = le.Uint32(slots[2:])
		}
	case opSaveNonvol:
		c.value = uint32(le.Uint16(slots[2:])) * 8
	case opSaveNonvolFar:
		c.value = le.Uint32(slots[2:])
	}
	return c, n, nil
}

// readInfo reads the UNWIND_INFO at an RVA of an image, through buffers of the
// caller's, or its own for nil.
func readInfo(s *mem.Space, m *model.Module, rva uint32, own *buffers) (*info, error) {
	if own == nil {
		own = new(buffers)
	}
	b := &own.info
	what := func(err error) error { return fmt.Errorf("unwind data of %s at %#x: %w", m.Name, rva, err) }
	if uint64(rva)+infoHead > m.Size {
		return nil, what(errors.New("outside the image"))
	}
	at := m.Base + mem.VA(rva)
	if _, err := s.ReadVirtual(b[:infoHead], at); err != nil {
		return nil, what(err)
	}
	n := infoSize([infoHead]byte(b[:infoHead]))
	if uint64(rva)+uint64(n) > m.Size {
		return nil, what(errors.New("reaches out of the image"))
	}
	if _, err := s.ReadVirtual(b[infoHead:n], at+infoHead); err != nil {
		return nil, what(err)
	}
	in, err := parseInfo(b[:n])
	if err != nil {
		return nil, what(err)
	}
	return in, nil
}
