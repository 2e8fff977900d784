package disasm

import "golang.org/x/arch/x86/x86asm"

// condition gives the condition code of a conditional jump, -1 for others. The
// codes are the low four bits of the opcodes 70 to 7f and 0f 80 to 0f 8f.
func condition(op x86asm.Op) int8 {
	switch op {
	case x86asm.JO:
		return 0
	case x86asm.JNO:
		return 1
	case x86asm.JB:
		return 2
	case x86asm.JAE:
		return 3
	case x86asm.JE:
		return 4
	case x86asm.JNE:
		return 5
	case x86asm.JBE:
		return 6
	case x86asm.JA:
		return 7
	case x86asm.JS:
		return 8
	case x86asm.JNS:
		return 9
	case x86asm.JP:
		return 10
	case x86asm.JNP:
		return 11
	case x86asm.JL:
		return 12
	case x86asm.JGE:
		return 13
	case x86asm.JLE:
		return 14
	case x86asm.JG:
		return 15
	}
	return -1
}

// Interrupts that do not come back: int 29h is __fastfail.
const fastFail = 0x29

// flow sets what the instruction does to the flow of control.
func (w *writer) flow(out *Inst) {
	if w.x.name != "" {
		return // none of our own table goes elsewhere
	}
	switch op := w.x.Op; op {
	case x86asm.JMP, x86asm.LJMP:
		out.Flow = FlowJump
	case x86asm.CALL, x86asm.LCALL:
		out.Flow = FlowCall
	case x86asm.LOOP, x86asm.LOOPE, x86asm.LOOPNE, x86asm.JCXZ, x86asm.JECXZ, x86asm.JRCXZ, x86asm.XBEGIN:
		out.Flow = FlowCondJump
	case x86asm.RET, x86asm.LRET, x86asm.IRET, x86asm.IRETD, x86asm.IRETQ, x86asm.SYSRET, x86asm.SYSEXIT, x86asm.RSM:
		out.Flow = FlowReturn
	case x86asm.UD0, x86asm.UD1, x86asm.UD2:
		out.Flow = FlowTrap
	case x86asm.INT:
		// A breakpoint is passed over once a debugger lets it; padding between
		// functions consists of them.
		if imm, ok := w.x.Args[0].(x86asm.Imm); ok && imm&0xff == fastFail || w.x.Opcode>>24 == 0xcc {
			out.Flow = FlowTrap
		}
	default:
		if out.Condition = condition(op); out.Condition >= 0 {
			out.Flow = FlowCondJump
		}
	}
	if r, ok := w.x.Args[0].(x86asm.Rel); ok && out.Flow != FlowNone {
		out.Target, out.HasTarget = w.next+uint64(int64(r)), true
	}
}
