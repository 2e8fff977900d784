package disasm

import (
	"encoding/binary"
	"strconv"
	"strings"

	"golang.org/x/arch/arm64/arm64asm"
)

// arm64Len is the length in bytes of every ARM64 instruction.
const arm64Len = 4

// armMnemonicWidth is the width of the mnemonic's column in listings of ARM64.
const armMnemonicWidth = 12

// OneARM64 decodes the ARM64 instruction at the front of code, which stands at
// pc. A word that is no instruction gives one with the mnemonic "???"; ErrShort
// says that code has fewer than four bytes.
func OneARM64(code []byte, pc uint64, o Options) (Inst, error) {
	switch {
	case len(code) == 0:
		return Inst{}, ErrNoCode
	case len(code) < arm64Len:
		return Inst{Len: len(code), Bytes: code, Mnemonic: Unknown, Text: Unknown, Flow: FlowTrap, Condition: -1}, ErrShort
	}
	out := Inst{Len: arm64Len, Bytes: code[:arm64Len], Condition: -1, arm: true}
	word := binary.LittleEndian.Uint32(code)
	if !armExtra(word, &out) {
		x, err := arm64asm.Decode(out.Bytes)
		if err != nil {
			out.Mnemonic, out.Flow = Unknown, FlowTrap
		} else {
			armText(x, pc, o, &out)
			armFlow(x, pc, &out)
		}
	}
	out.Text = layText(out.Mnemonic, out.Operands, armMnemonicWidth)
	return out, nil
}

// armHints are the instructions that are hints to processors that do not know
// them (Arm Architecture Reference Manual, HINT).
var armHints = map[arm64asm.Imm_hint]string{
	6: "dgh", 7: "xpaclri", 8: "pacia1716", 10: "pacib1716", 12: "autia1716", 14: "autib1716",
	16: "esb", 17: "psb csync", 18: "tsb csync", 20: "csdb", 24: "paciaz", 25: "paciasp", 26: "pacibz",
	27: "pacibsp", 28: "autiaz", 29: "autiasp", 30: "autibz", 31: "autibsp",
	32: "bti", 34: "bti         c", 36: "bti         j", 38: "bti         jc",
}

// armText writes mnemonic and operands.
func armText(x arm64asm.Inst, pc uint64, o Options, out *Inst) {
	out.Mnemonic = strings.ToLower(x.Op.String())
	args := x.Args[:]
	switch x.Op {
	case arm64asm.HINT:
		if h, ok := args[0].(arm64asm.Imm_hint); ok && armHints[h] != "" {
			out.Mnemonic, out.Operands, _ = strings.Cut(armHints[h], " ")
			out.Operands = strings.TrimSpace(out.Operands)
			return
		}
	case arm64asm.RET:
		if r, ok := args[0].(arm64asm.Reg); ok && r == arm64asm.X30 {
			return
		}
	case arm64asm.B:
		if c, ok := args[0].(arm64asm.Cond); ok {
			out.Mnemonic, args = "b"+armCondition(c.String()), args[1:]
		}
	}
	var list []string
	for _, a := range args {
		if a == nil {
			break
		}
		if s := armOperand(a, x.Op, pc, o); s != "" {
			list = append(list, s)
		}
		armMemory(a, out)
	}
	out.Operands = strings.Join(list, ",")
}

// armCondition gives the suffix of a conditional branch; carry is spelled as a
// comparison.
func armCondition(name string) string {
	switch name {
	case "CS":
		return "hs"
	case "CC":
		return "lo"
	}
	return strings.ToLower(name)
}

func armOperand(a arm64asm.Arg, op arm64asm.Op, pc uint64, o Options) string {
	switch a := a.(type) {
	case arm64asm.PCRel:
		return o.name(armTarget(a, op, pc))
	case arm64asm.MemImmediate, arm64asm.MemExtend, arm64asm.Reg, arm64asm.RegSP, arm64asm.RegExtshiftAmount:
		return armNumbers(armRegisters(strings.ToLower(a.String())))
	}
	return armNumbers(strings.ToLower(a.String()))
}

// armTarget gives the address a PC-relative operand means; adrp counts pages.
func armTarget(r arm64asm.PCRel, op arm64asm.Op, pc uint64) uint64 {
	if op == arm64asm.ADRP {
		pc &^= 0xfff
	}
	return pc + uint64(r)
}

// armRegisters writes x29 and x30 as fp and lr.
func armRegisters(s string) string {
	s = strings.ReplaceAll(s, "x29", "fp")
	return strings.ReplaceAll(strings.ReplaceAll(s, "x30", "lr"), ", ", ",")
}

// armNumbers writes the decimal constants of an operand in hexadecimal: "#-64"
// as "#-0x40", and all digits in capitals.
func armNumbers(s string) string {
	var b strings.Builder
	for {
		i := strings.IndexByte(s, '#')
		if i < 0 {
			b.WriteString(s)
			return strings.ReplaceAll(b.String(), ", ", ",")
		}
		b.WriteString(s[:i+1])
		s = s[i+1:]
		end := 0
		for end < len(s) && (s[end] == '-' || s[end] == 'x' || s[end] == '.' || s[end] >= '0' && s[end] <= '9' || s[end] >= 'a' && s[end] <= 'f') {
			end++
		}
		b.WriteString(armNumber(s[:end]))
		s = s[end:]
	}
}

func armNumber(s string) string {
	if strings.Contains(s, ".") {
		return s
	}
	digits, negative := strings.CutPrefix(s, "-")
	v, err := strconv.ParseUint(digits, 0, 64)
	if err != nil {
		return s
	}
	digits = strings.ToUpper(strconv.FormatUint(v, 16))
	if v >= 10 {
		digits = "0x" + digits
	}
	if negative {
		return "-" + digits
	}
	return digits
}

// armMemory notes the operand in memory. Its displacement is read from its text:
// arm64asm keeps it to itself.
func armMemory(a arm64asm.Arg, out *Inst) {
	if out.HasMem {
		return
	}
	switch m := a.(type) {
	case arm64asm.MemImmediate:
		out.Mem = MemOperand{Base: strings.ToLower(m.Base.String())}
		if m.Mode == arm64asm.AddrOffset || m.Mode == arm64asm.AddrPreIndex {
			_, rest, _ := strings.Cut(m.String(), "#")
			n, _ := strconv.ParseInt(strings.TrimRight(rest, "]!"), 10, 64)
			out.Mem.Disp = n
		}
	case arm64asm.MemExtend:
		index := strings.ToLower(m.Index.String())
		if index[0] == 'w' {
			return // extended from 32 bits: not a sum of registers
		}
		out.Mem = MemOperand{Base: strings.ToLower(m.Base.String()), Index: index, Scale: 1 << (m.Amount & 7)}
	default:
		return
	}
	out.HasMem = true
}

// armFlow sets what an instruction does to the flow of control.
func armFlow(x arm64asm.Inst, pc uint64, out *Inst) {
	switch x.Op {
	case arm64asm.B:
		out.Flow = FlowJump
		if _, ok := x.Args[0].(arm64asm.Cond); ok {
			out.Flow = FlowCondJump
		}
	case arm64asm.CBZ, arm64asm.CBNZ, arm64asm.TBZ, arm64asm.TBNZ:
		out.Flow = FlowCondJump
	case arm64asm.BL, arm64asm.BLR:
		out.Flow = FlowCall
	case arm64asm.BR:
		out.Flow = FlowJump
	case arm64asm.RET, arm64asm.ERET:
		out.Flow = FlowReturn
	case arm64asm.BRK, arm64asm.HLT:
		out.Flow = FlowTrap
	}
	if out.Flow == FlowNone {
		return
	}
	for _, a := range x.Args {
		if r, ok := a.(arm64asm.PCRel); ok {
			out.Target, out.HasTarget = armTarget(r, x.Op, pc), true
		}
	}
}
