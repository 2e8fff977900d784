package model

import "encoding/binary"

// Registers is the part of an x64 CONTEXT that stack walking and display need.
type Registers struct {
	GPR    [16]uint64 // rax rcx rdx rbx rsp rbp rsi rdi r8-r15: the order of unwind codes
	RIP    uint64
	EFlags uint32
	CS, SS uint16
	DS, ES uint16
	FS, GS uint16
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
// tables: ContextFlags 30, SegCs 38 to SegSs 42, EFlags 44, Rax 78 ... R15 F0,
// Rip F8). ok is false where the record is short or says that it holds no
// control registers.
func ParseContext(b []byte) (r Registers, ok bool) {
	if len(b) < 0x100 {
		return r, false
	}
	le := binary.LittleEndian
	r.Flags = le.Uint32(b[0x30:])
	r.DS, r.ES, r.FS, r.GS = le.Uint16(b[0x3a:]), le.Uint16(b[0x3c:]), le.Uint16(b[0x3e:]), le.Uint16(b[0x40:])
	r.CS, r.SS, r.EFlags = le.Uint16(b[0x38:]), le.Uint16(b[0x42:]), le.Uint32(b[0x44:])
	for i := range r.GPR {
		r.GPR[i] = le.Uint64(b[0x78+8*i:])
	}
	r.RIP = le.Uint64(b[0xf8:])
	return r, r.Flags&contextControl == contextControl && r.RIP != 0 && r.GPR[RSP] != 0
}

// ARM64Registers is what an ARM64 CONTEXT holds of the general registers.
type ARM64Registers struct {
	X    [29]uint64
	FP   uint64
	LR   uint64
	SP   uint64
	PC   uint64
	CPSR uint32
}

// arm64Control is CONTEXT_ARM64 | CONTEXT_CONTROL.
const arm64Control = 0x400001

// ParseARM64Context reads an ARM64 CONTEXT (winnt.h: ContextFlags 0, Cpsr 4, X0
// 8 ... X28 E8, Fp F0, Lr F8, Sp 100, Pc 108). ok is false where the record is
// short or says that it holds no control registers.
func ParseARM64Context(b []byte) (r ARM64Registers, ok bool) {
	if len(b) < 0x110 {
		return r, false
	}
	le := binary.LittleEndian
	r.CPSR = le.Uint32(b[4:])
	for i := range r.X {
		r.X[i] = le.Uint64(b[8+8*i:])
	}
	r.FP, r.LR, r.SP, r.PC = le.Uint64(b[0xf0:]), le.Uint64(b[0xf8:]), le.Uint64(b[0x100:]), le.Uint64(b[0x108:])
	return r, le.Uint32(b)&arm64Control == arm64Control
}
