package unwind

import (
	"encoding/binary"

	"gokd/model"
	"gokd/model/mem"
)

// Offsets in _KTRAP_FRAME, the same in all public x64 type tables: the registers
// that calls do not preserve, in a row, and rbp.
const (
	trapFrameRAX = 0x30
	trapFrameRBP = 0x158
)

// trapRegisters are those from trapFrameRAX on.
var trapRegisters = [...]int{model.RAX, model.RCX, model.RDX, 8, 9, 10, 11}

// trapState adds to the state of an interrupted function what its trap frame
// holds. Only where the processor pushed right below the interrupted stack
// pointer is there a whole trap frame around the machine frame; functions that
// switch stacks keep other things there. sp is the handler's own stack pointer:
// what it keeps lies above.
func trapState(s *mem.Space, c *state, machine, sp mem.VA) {
	above := machine + machineFrameSize
	if machine-trapFrameRIP < sp || c.regs.CS != kernelCode || c.rsp() < above || c.rsp()-above >= 16 {
		return
	}
	var b [8 * len(trapRegisters)]byte
	if _, err := s.ReadVirtual(b[:], machine-trapFrameRIP+trapFrameRAX); err == nil {
		for i, reg := range trapRegisters {
			c.set(reg, binary.LittleEndian.Uint64(b[8*i:]))
		}
	}
	if c.known>>model.RBP&1 != 0 {
		return // by unwind data
	}
	if v, err := s.Uint64(machine - trapFrameRIP + trapFrameRBP); err == nil {
		c.set(model.RBP, v)
	}
}
