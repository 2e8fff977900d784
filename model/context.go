package model

import "encoding/binary"

// Registers is the part of an x64 CONTEXT that stack walking and display need.
type Registers struct {
	GPR    [16]uint64 // rax rcx rdx rbx rsp rbp rsi rdi r8-r15: the order of unwind codes
	RIP    uint64
	EFlags uint32
	CS, SS uint16
	Flags  uint32 // ContextFlags
}

// Numbers of general registers, as unwind codes count them.
const (
	RAX = iota
	RCX
	RDX
	RBX
	RSP
	RBP
	RSI
	RDI
)

// ContextSize is the size of an x64 CONTEXT in bytes.
const ContextSize = 0x4d0

// contextControl is CONTEXT_AMD64 | CONTEXT_CONTROL: rip and rsp are valid.
const contextControl = 0x100001

// ParseContext reads an x64 CONTEXT (winnt.h; offsets as in the public type
// tables: ContextFlags 30, SegCs 38, SegSs 42, EFlags 44, Rax 78 ... R15 F0,
// Rip F8). ok is false where the record is short or says that it holds no
// control registers.
func ParseContext(b []byte) (r Registers, ok bool) {
	if len(b) < 0x100 {
		return r, false
	}
	le := binary.LittleEndian
	r.Flags = le.Uint32(b[0x30:])
	r.CS, r.SS, r.EFlags = le.Uint16(b[0x38:]), le.Uint16(b[0x42:]), le.Uint32(b[0x44:])
	for i := range r.GPR {
		r.GPR[i] = le.Uint64(b[0x78+8*i:])
	}
	r.RIP = le.Uint64(b[0xf8:])
	return r, r.Flags&contextControl == contextControl && r.RIP != 0 && r.GPR[RSP] != 0
}
