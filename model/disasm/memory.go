package disasm

import (
	"strconv"
	"strings"

	"golang.org/x/arch/x86/x86asm"
)

// memory writes an operand in memory: size, segment and address.
func (w *writer) memory(m x86asm.Mem) {
	// x86asm leaves a displacement of 32 bits without its sign. The absolute
	// addresses of a0 to a3 have 64 bits.
	if m.Disp == int64(uint32(m.Disp)) && w.x.Opcode>>24&^3 != 0xa0 {
		m.Disp = int64(int32(m.Disp))
	}
	size := w.memSize()
	w.text = append(w.text, w.sizeName(size)...)
	out := w.memOperand(m)
	out.Size = max(size, 0)
	if !w.hasMem && touches(w.x.Op) && size >= 0 {
		w.mem, w.hasMem = out, true
	}
	if s := override(m.Segment); s != "" {
		w.text = append(append(w.text, s...), ':')
	}
	w.text = append(w.text, '[')
	switch {
	case out.PCRel:
		w.text = append(w.text, w.o.name(out.Addr)...)
	case m.Base == 0 && m.Index == 0:
		w.absolute(out.Addr, override(m.Segment) != "")
	default:
		w.address(m)
	}
	w.text = append(w.text, ']')
}

// absolute writes an address that stands in the instruction itself. In a
// segment it is an offset.
func (w *writer) absolute(at uint64, offset bool) {
	if offset {
		w.text = append(w.text, number(at)...)
		return
	}
	if w.o.Symbol != nil {
		if s := w.o.Symbol(at); s != "" {
			w.text = append(w.text, w.o.name(at)...)
			return
		}
	}
	w.text = append(append(w.text, strings.ToUpper(strconv.FormatUint(at, 16))...), 'h')
}

// address writes base, index and displacement: "rax+rcx*8-10h".
func (w *writer) address(m x86asm.Mem) {
	if m.Base != 0 {
		w.text = append(w.text, regName(m.Base)...)
	}
	if m.Index != 0 {
		if m.Base != 0 {
			w.text = append(w.text, '+')
		}
		w.text = append(w.text, regName(m.Index)...)
		if m.Scale > 1 {
			w.text = append(w.text, '*', '0'+m.Scale)
		}
	}
	switch {
	case m.Disp < 0:
		w.text = append(append(w.text, '-'), number(uint64(-m.Disp))...)
	case m.Disp > 0:
		w.text = append(append(w.text, '+'), number(uint64(m.Disp))...)
	}
}

func (w *writer) memOperand(m x86asm.Mem) MemOperand {
	out := MemOperand{Segment: override(m.Segment), Scale: m.Scale, Disp: m.Disp}
	if out.Segment == "" {
		out.Segment = "ds"
	}
	switch m.Base {
	case 0:
		if m.Index == 0 {
			out.Addr = uint64(m.Disp)
		}
	case x86asm.RIP, x86asm.EIP:
		out.PCRel, out.Base, out.Addr = true, "rip", w.next+uint64(m.Disp)
		if m.Base == x86asm.EIP {
			out.Addr &= 0xffffffff
		}
		return out
	case x86asm.RSP, x86asm.RBP, x86asm.ESP, x86asm.EBP:
		if override(m.Segment) == "" {
			out.Segment = "ss"
		}
	}
	// A prefix makes addresses 32 bits wide; the registers are the same.
	out.Base, out.Addr32 = wideName(m.Base)
	index, narrow := wideName(m.Index)
	out.Index, out.Addr32 = index, out.Addr32 || narrow
	return out
}

// wideName gives the 64-bit name of an address register, and whether it is used
// with 32 bits.
func wideName(r x86asm.Reg) (name string, narrow bool) {
	switch {
	case r == 0:
		return "", false
	case r >= x86asm.EAX && r <= x86asm.R15L:
		return regName(r - x86asm.EAX + x86asm.RAX), true
	}
	return regName(r), false
}

// override names a segment that matters in 64-bit mode.
func override(r x86asm.Reg) string {
	switch r {
	case x86asm.FS:
		return "fs"
	case x86asm.GS:
		return "gs"
	}
	return ""
}

// touches reports whether an instruction reads or writes its operand in memory.
// r shows the contents only of those that do.
func touches(op x86asm.Op) bool {
	switch op {
	case x86asm.LEA, x86asm.NOP, x86asm.INVLPG, x86asm.PREFETCHNTA, x86asm.PREFETCHT0,
		x86asm.PREFETCHT1, x86asm.PREFETCHT2, x86asm.PREFETCHW, x86asm.CLFLUSH:
		return false
	}
	return true
}

// memSize gives the bytes of the operand in memory; 0 where the width is not
// written or known, -1 where nothing is read or written.
func (w *writer) memSize() int {
	if w.x.size != 0 {
		return w.x.size
	}
	if n := stringSize(w.x.Op); n > 0 {
		return n
	}
	switch w.x.Op {
	case x86asm.LEA, x86asm.INVLPG, x86asm.PREFETCHNTA, x86asm.PREFETCHT0, x86asm.PREFETCHT1,
		x86asm.PREFETCHT2, x86asm.PREFETCHW, x86asm.CLFLUSH:
		return -1
	case x86asm.CMPXCHG8B:
		return 8
	case x86asm.CMPXCHG16B:
		return 16
	case x86asm.LGDT, x86asm.LIDT, x86asm.SGDT, x86asm.SIDT:
		return 10 // a limit and a 64-bit base
	case x86asm.FLD, x86asm.FSTP, x86asm.FBLD, x86asm.FBSTP:
		// x86asm knows no size of 80 bits.
		if w.x.MemBytes == 0 {
			return 10
		}
	case x86asm.INVPCID:
		return 16
	}
	return w.x.MemBytes
}

// stringSize gives the width of a string instruction in bytes.
func stringSize(op x86asm.Op) int {
	switch op {
	case x86asm.MOVSB, x86asm.STOSB, x86asm.LODSB, x86asm.CMPSB, x86asm.SCASB, x86asm.INSB, x86asm.OUTSB:
		return 1
	case x86asm.MOVSW, x86asm.STOSW, x86asm.LODSW, x86asm.CMPSW, x86asm.SCASW, x86asm.INSW, x86asm.OUTSW:
		return 2
	case x86asm.MOVSD, x86asm.STOSD, x86asm.LODSD, x86asm.CMPSD, x86asm.SCASD, x86asm.INSD, x86asm.OUTSD:
		return 4
	case x86asm.MOVSQ, x86asm.STOSQ, x86asm.LODSQ, x86asm.CMPSQ, x86asm.SCASQ:
		return 8
	}
	return 0
}

// sizeName gives "dword ptr " and its like.
func (w *writer) sizeName(bytes int) string {
	switch bytes {
	case 1:
		return "byte ptr "
	case 2:
		return "word ptr "
	case 4:
		return "dword ptr "
	case 6:
		return "fword ptr "
	case 8:
		if w.multimedia() {
			return "mmword ptr "
		}
		return "qword ptr "
	case 10:
		switch w.x.Op {
		case x86asm.LGDT, x86asm.LIDT, x86asm.SGDT, x86asm.SIDT:
			return "fword ptr "
		}
		return "tbyte ptr "
	case 16:
		if w.x.Op == x86asm.CMPXCHG16B || w.x.name != "" || w.x.Op == x86asm.INVPCID {
			return "oword ptr "
		}
		return "xmmword ptr "
	case 32:
		return "ymmword ptr "
	case 64:
		return "zmmword ptr "
	}
	return ""
}

// multimedia reports whether eight bytes belong to a vector register: those are
// written "mmword ptr". Integers that are converted, and the moves of halves,
// are quadwords.
func (w *writer) multimedia() bool {
	switch w.x.Op {
	case x86asm.CVTSI2SD, x86asm.CVTSI2SS, x86asm.VCVTSI2SD, x86asm.VCVTSI2SS, x86asm.PINSRQ, x86asm.PEXTRQ,
		x86asm.MOVLPS, x86asm.MOVLPD, x86asm.MOVHPS, x86asm.MOVHPD:
		return false
	}
	for _, a := range w.x.Args {
		if r, ok := a.(x86asm.Reg); ok && r >= x86asm.M0 && r <= x86asm.Z31 {
			return true
		}
	}
	return false
}
