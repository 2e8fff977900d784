package disasm

import (
	"strconv"
	"strings"
)

// armExtra reads the instructions that arm64asm v0.32.0 does not know and that
// Windows is made of: pointer authentication and the atomic instructions of
// Armv8.1 (Arm Architecture Reference Manual, chapter C4).
func armExtra(word uint32, out *Inst) bool {
	switch {
	case word == 0xd65f0bff:
		out.Mnemonic, out.Flow = "retaa", FlowReturn
	case word == 0xd65f0fff:
		out.Mnemonic, out.Flow = "retab", FlowReturn
	case word&0xffff0000 == 0:
		out.Mnemonic, out.Operands, out.Flow = "udf", "#"+armNumber(strconv.Itoa(int(word))), FlowTrap
	case word&0xfefff800 == 0xd61f0800 && word>>21&3 < 2: // braaz, brabz, blraaz, blrabz and with a modifier
		return armBranchKey(word, out)
	case word&0xfffff800 == 0xd71f0800 || word&0xfffff800 == 0xd73f0800 || word&0xfffff800 == 0xd63f0800:
		return armBranchKey(word, out)
	case word&0xffff0000 == 0xdac10000:
		return armPointerKey(word, out)
	case word&0x3f200c00 == 0x38200000:
		return armAtomic(word, out)
	case word&0x3fa07c00 == 0x08a07c00:
		return armCompareSwap(word, out)
	default:
		return false
	}
	return true
}

// armReg names a general register; 31 is the zero register or, where stack is
// set, the stack pointer.
func armReg(n uint32, wide, stack bool) string {
	n &= 31
	switch {
	case n == 31 && stack:
		return "sp"
	case n == 31 && wide:
		return "xzr"
	case n == 31:
		return "wzr"
	case !wide:
		return "w" + strconv.Itoa(int(n))
	}
	return armRegisters("x" + strconv.Itoa(int(n)))
}

// armBranchKey: branches to an authenticated pointer. Bit 24 tells that a
// modifier is given, bit 21 that it is a call, bit 10 the key.
func armBranchKey(word uint32, out *Inst) bool {
	out.Mnemonic, out.Flow = "bra", FlowJump
	if word>>21&1 != 0 {
		out.Mnemonic, out.Flow = "blra", FlowCall
	}
	out.Mnemonic += string("ab"[word>>10&1])
	out.Operands = armReg(word>>5, true, false)
	if word>>24&1 != 0 {
		out.Operands += "," + armReg(word, true, true)
	} else {
		out.Mnemonic += "z"
	}
	return true
}

// armPointerKey: signs or authenticates a pointer in a register.
func armPointerKey(word uint32, out *Inst) bool {
	names := [...]string{"pacia", "pacib", "pacda", "pacdb", "autia", "autib", "autda", "autdb"}
	op, rd := word>>10&0x3f, armReg(word, true, false)
	switch {
	case op < 8:
		out.Mnemonic, out.Operands = names[op], rd+","+armReg(word>>5, true, true)
	case op < 16 && word>>5&31 == 31:
		out.Mnemonic, out.Operands = strings.Replace(names[op-8], names[op-8][3:], "", 1)+names[op-8][3:4]+"z"+names[op-8][4:], rd
	case op == 16 || op == 17:
		out.Mnemonic, out.Operands = [...]string{"xpaci", "xpacd"}[op-16], rd
	default:
		return false
	}
	return true
}

// armOrder gives the suffix of an atomic instruction: acquire, release, width.
func armOrder(acquire, release bool, size uint32) string {
	s := ""
	if acquire {
		s += "a"
	}
	if release {
		s += "l"
	}
	return s + [...]string{"b", "h", "", ""}[size&3]
}

// armAtomic: ldadd and its kin, swp. Without a destination they are stores.
func armAtomic(word uint32, out *Inst) bool {
	size, op := word>>30, word>>12&15
	names := [...]string{"add", "clr", "eor", "set", "smax", "smin", "umax", "umin"}
	acquire, release := word>>23&1 != 0, word>>22&1 != 0
	wide := size == 3
	rs, rt, base := armReg(word>>16, wide, false), armReg(word, wide, false), "["+armReg(word>>5, true, true)+"]"
	switch {
	case op < 8 && word&31 == 31 && !acquire:
		out.Mnemonic, out.Operands = "st"+names[op]+armOrder(false, release, size), rs+","+base
	case op < 8:
		out.Mnemonic, out.Operands = "ld"+names[op]+armOrder(acquire, release, size), rs+","+rt+","+base
	case op == 8:
		out.Mnemonic, out.Operands = "swp"+armOrder(acquire, release, size), rs+","+rt+","+base
	case op == 12 && word>>16&31 == 31 && acquire && !release:
		out.Mnemonic, out.Operands = "ldapr"+[...]string{"b", "h", "", ""}[size], rt+","+base
	default:
		return false
	}
	out.Mem, out.HasMem = MemOperand{Base: strings.Trim(base, "[]"), Size: 1 << size}, true
	return true
}

// armCompareSwap: cas and its kin.
func armCompareSwap(word uint32, out *Inst) bool {
	size := word >> 30
	wide := size == 3
	out.Mnemonic = "cas" + armOrder(word>>22&1 != 0, word>>15&1 != 0, size)
	base := armReg(word>>5, true, true)
	out.Operands = armReg(word>>16, wide, false) + "," + armReg(word, wide, false) + ",[" + base + "]"
	out.Mem, out.HasMem = MemOperand{Base: base, Size: 1 << size}, true
	return true
}
