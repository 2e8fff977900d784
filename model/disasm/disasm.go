// Package disasm turns machine code of x64 and ARM64 into text as WinDbg and kd
// write it: numbers in hexadecimal with an h behind, operands without blanks,
// names beside addresses.
//
// Lengths and operands come from golang.org/x/arch; what that package lacks or
// reads wrongly is in a table of its own (extra.go). The encodings are those of
// Intel's and Arm's public architecture manuals, the layout that of listings
// that were posted in public. The package reads no memory and knows no symbols:
// callers hand in the bytes and a function that names addresses.
package disasm

import "errors"

// MaxLen is the length in bytes of the longest instruction of x64.
const MaxLen = 15

// Unknown is what stands in place of a mnemonic where the bytes are none.
const Unknown = "???"

// ErrShort says that the bytes end inside an instruction.
var ErrShort = errors.New("instruction: the bytes end inside it")

// ErrNoCode says that no bytes were given.
var ErrNoCode = errors.New("instruction: no bytes")

// Options say how operands are written.
type Options struct {
	// Symbol names an address, "nt!Foo+0x10"; empty where it has no name. Nil:
	// nothing has a name.
	Symbol func(at uint64) string
}

// name gives "nt!Foo (fffff805`12345678)", or the address alone.
func (o Options) name(at uint64) string {
	if o.Symbol != nil {
		if s := o.Symbol(at); s != "" {
			return s + " (" + Tick(at) + ")"
		}
	}
	return Tick(at)
}

// Flow is what an instruction does to the flow of control.
type Flow uint8

// The kinds of flow.
const (
	FlowNone     Flow = iota // goes on to the next instruction
	FlowJump                 // goes elsewhere
	FlowCondJump             // goes elsewhere or on
	FlowCall                 // comes back
	FlowReturn               // leaves the function
	FlowTrap                 // stops, or enters a handler that does not come back
)

// String gives the flow in a word for JSON.
func (f Flow) String() string {
	names := [...]string{"none", "jump", "condjump", "call", "return", "trap"}
	if int(f) < len(names) {
		return names[f]
	}
	return "unknown"
}

// Ends reports whether the instruction behind this one is not reached from it.
func (f Flow) Ends() bool { return f == FlowJump || f == FlowReturn || f == FlowTrap }

// MemOperand is the memory that an instruction reads or writes. Registers have
// their 64-bit names: "rax", "x0".
type MemOperand struct {
	Segment string // "gs", "fs"; else "ss" for the stack's registers and "ds"
	Base    string // empty: none
	Index   string // empty: none
	Scale   uint8  // of the index
	Disp    int64
	Size    int // bytes that are read or written; 0 where unknown
	// Addr is the address where Base is the instruction pointer; its
	// displacement is counted from the next instruction.
	Addr   uint64
	PCRel  bool
	Addr32 bool // the address is cut to 32 bits
}

// Address works out the address from the values of registers. ok is false where
// one of them is not known. What a segment register adds is not included.
func (m MemOperand) Address(register func(name string) (uint64, bool)) (at uint64, ok bool) {
	if m.PCRel {
		return m.Addr, true
	}
	at = uint64(m.Disp)
	if m.Base != "" {
		v, ok := register(m.Base)
		if !ok {
			return 0, false
		}
		at += v
	}
	if m.Index != "" {
		v, ok := register(m.Index)
		if !ok {
			return 0, false
		}
		at += v * uint64(max(m.Scale, 1))
	}
	if m.Addr32 {
		at &= 0xffffffff
	}
	return at, true
}

// Inst is one instruction. Bytes that are no instruction have the mnemonic "???"
// and the length 1 (ARM64: 4).
type Inst struct {
	Len      int
	Bytes    []byte // of the code that was given
	Mnemonic string // with its prefixes: "lock cmpxchg"
	Operands string
	Text     string // mnemonic, padded, and operands
	Flow     Flow
	// Target is where a jump or call with a fixed destination goes.
	Target    uint64
	HasTarget bool
	// Mem is the first operand in memory that is read or written; an address
	// that is only worked out (lea) is none.
	Mem    MemOperand
	HasMem bool
	// Condition is the x86 condition code of a conditional jump, 0 to 15 (jo to
	// jg); -1 for all others.
	Condition int8

	arm bool // laid out as ARM64's
}

// Unknown reports whether the bytes are no instruction.
func (i *Inst) Unknown() bool { return i.Mnemonic == Unknown }

// Taken tells whether a conditional jump will be taken with these flags
// (EFLAGS). ok is false for every other instruction.
func (i *Inst) Taken(flags uint32) (taken, ok bool) {
	if i.Condition < 0 || i.Flow != FlowCondJump {
		return false, false
	}
	bit := func(n uint) bool { return flags>>n&1 != 0 }
	carry, parity, zero, sign, over := bit(0), bit(2), bit(6), bit(7), bit(11)
	// The eight conditions of the manuals; the odd codes are their opposites.
	taken = [...]bool{over, carry, zero, carry || zero, sign, parity, sign != over, zero || sign != over}[i.Condition>>1&7]
	return taken != (i.Condition&1 != 0), true
}
