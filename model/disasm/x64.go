package disasm

import (
	"strconv"
	"strings"

	"golang.org/x/arch/x86/x86asm"
)

// One decodes the x64 instruction at the front of code, which stands at pc. It
// takes at most MaxLen bytes. Bytes that are no instruction give one of length 1
// with the mnemonic "???"; ErrShort says that code ends inside an instruction
// that its first bytes begin.
func One(code []byte, pc uint64, o Options) (Inst, error) {
	if len(code) == 0 {
		return Inst{}, ErrNoCode
	}
	code = code[:min(len(code), MaxLen)]
	x, found := decodeExtra(code)
	if !found {
		inst, err := x86asm.Decode(code, 64)
		if err != nil || inst.Op == 0 || inst.Len <= 0 || inst.Len > len(code) {
			return unknown(code), short(code)
		}
		x = decoded{Inst: inst}
	}
	w := writer{o: o, x: &x, pc: pc, next: pc + uint64(x.Len)}
	w.scanPrefixes()
	out := Inst{Len: x.Len, Bytes: code[:x.Len], Condition: -1}
	out.Mnemonic = w.mnemonic()
	w.operands()
	out.Operands = string(w.text)
	out.Text = layText(out.Mnemonic, out.Operands, mnemonicWidth)
	out.Mem, out.HasMem = w.mem, w.hasMem
	w.flow(&out)
	return out, nil
}

// short gives ErrShort where more bytes would make an instruction of the ones
// given. x86asm calls prefixes without the rest an instruction of their own.
func short(code []byte) error {
	if len(code) >= MaxLen {
		return nil
	}
	var padded [MaxLen]byte
	copy(padded[:], code)
	if x, ok := decodeExtra(padded[:]); ok && x.Len > len(code) {
		return ErrShort
	}
	if inst, err := x86asm.Decode(padded[:], 64); err == nil && inst.Op != 0 && inst.Len > len(code) {
		return ErrShort
	}
	return nil
}

// unknown stands for a byte that begins no instruction.
func unknown(code []byte) Inst {
	return Inst{Len: 1, Bytes: code[:1], Mnemonic: Unknown, Text: Unknown, Flow: FlowTrap, Condition: -1}
}

// decoded is an instruction as x86asm gives it, or one of ours in its shape.
type decoded struct {
	x86asm.Inst
	name string // mnemonic; empty: that of Op
	size int    // bytes of the operand in memory; 0: MemBytes; -1: none is written
}

// writer turns a decoded instruction into text.
type writer struct {
	o      Options
	x      *decoded
	pc     uint64
	next   uint64 // address of the next instruction
	text   []byte
	mem    MemOperand
	hasMem bool

	lock, rep, repne, bnd bool
}

// scanPrefixes finds the prefixes that are part of the text. Those that only
// choose among encodings are implied by the mnemonic.
func (w *writer) scanPrefixes() {
	for _, p := range w.x.Prefix {
		if p == 0 {
			break
		}
		if p&x86asm.PrefixImplicit != 0 {
			continue
		}
		switch p &^ x86asm.PrefixIgnored {
		case x86asm.PrefixLOCK:
			w.lock = true
		case x86asm.PrefixREP, x86asm.PrefixXRELEASE:
			w.rep, w.repne = true, false
		case x86asm.PrefixREPN, x86asm.PrefixXACQUIRE:
			w.repne, w.rep = true, false
		case x86asm.PrefixBND:
			w.bnd = true
		}
	}
}

// mnemonic gives prefixes and name.
func (w *writer) mnemonic() string {
	name := w.x.name
	if name == "" {
		name = opName(&w.x.Inst)
	}
	if c := w.comparison(); c != "" {
		name = "cmp" + c + name[len("cmp"):]
	}
	switch kind := stringOps[w.x.Op]; {
	case kind == comparing && w.rep:
		return "repe " + name
	case kind == comparing && w.repne:
		return "repne " + name
	case kind == moving && (w.rep || w.repne):
		return "rep " + name
	case w.lock && w.repne:
		return "xacquire lock " + name
	case w.lock && w.rep:
		return "xrelease lock " + name
	case w.lock:
		return "lock " + name
	case w.bnd || w.repne && branches(w.x.Op):
		return "bnd " + name
	case w.rep && w.x.Op == x86asm.RET:
		return "rep " + name
	}
	return name
}

// comparison names the relation that a vector comparison has as its constant:
// "cmpltps".
func (w *writer) comparison() string {
	switch w.x.Op {
	case x86asm.CMPPS, x86asm.CMPPD, x86asm.CMPSS, x86asm.CMPSD_XMM:
		if c, ok := w.x.Args[2].(x86asm.Imm); ok && c >= 0 && c < 8 {
			return [...]string{"eq", "lt", "le", "unord", "neq", "nlt", "nle", "ord"}[c]
		}
	}
	return ""
}

func branches(op x86asm.Op) bool {
	return op == x86asm.CALL || op == x86asm.JMP || op == x86asm.RET || condition(op) >= 0
}

// The kinds of string instructions.
const (
	moving    = 1
	comparing = 2
)

var stringOps = map[x86asm.Op]int{
	x86asm.MOVSB: moving, x86asm.MOVSW: moving, x86asm.MOVSD: moving, x86asm.MOVSQ: moving,
	x86asm.STOSB: moving, x86asm.STOSW: moving, x86asm.STOSD: moving, x86asm.STOSQ: moving,
	x86asm.LODSB: moving, x86asm.LODSW: moving, x86asm.LODSD: moving, x86asm.LODSQ: moving,
	x86asm.INSB: moving, x86asm.INSW: moving, x86asm.INSD: moving,
	x86asm.OUTSB: moving, x86asm.OUTSW: moving, x86asm.OUTSD: moving,
	x86asm.CMPSB: comparing, x86asm.CMPSW: comparing, x86asm.CMPSD: comparing, x86asm.CMPSQ: comparing,
	x86asm.SCASB: comparing, x86asm.SCASW: comparing, x86asm.SCASD: comparing, x86asm.SCASQ: comparing,
}

// renamed are the mnemonics that are not x86asm's in small letters.
var renamed = map[x86asm.Op]string{
	x86asm.LCALL: "call", x86asm.LJMP: "jmp", x86asm.LRET: "retf", x86asm.XLATB: "xlat",
	x86asm.ICEBP: "int", x86asm.FWAIT: "wait", x86asm.MOVSD_XMM: "movsd", x86asm.CMPSD_XMM: "cmpsd",
}

// names are the mnemonics of all operations, made once.
var names = func() []string {
	list := make([]string, 0, 2600)
	for op := x86asm.Op(0); ; op++ {
		name := op.String()
		if op > 0 && strings.HasPrefix(name, "Op(") {
			return list
		}
		switch {
		case renamed[op] != "":
			name = renamed[op]
		case stringOps[op] != 0: // the operands tell the width
			name = name[:len(name)-1]
		}
		list = append(list, strings.ToLower(name))
	}
}()

// opName gives the mnemonic of an operation.
func opName(x *x86asm.Inst) string {
	wide := false
	for _, p := range x.Prefix {
		wide = wide || p&^(x86asm.PrefixImplicit|x86asm.PrefixIgnored)&0xfff8 == x86asm.PrefixREX|x86asm.PrefixREXW
	}
	switch {
	case x.Op == x86asm.SYSRET && wide:
		return "sysretq"
	case x.Op == x86asm.LRET && wide:
		return "retfq"
	case x.Op == x86asm.SYSEXIT && wide:
		return "sysexitq"
	case int(x.Op) < len(names):
		return names[x.Op]
	}
	return strings.ToLower(x.Op.String())
}

// operands writes the operands and remembers the first one in memory.
func (w *writer) operands() {
	args := w.x.Args[:]
	switch w.x.Op {
	case x86asm.CMPPS, x86asm.CMPPD, x86asm.CMPSS, x86asm.CMPSD_XMM:
		if w.comparison() != "" {
			args = args[:2]
		}
	case x86asm.INT:
		if w.x.Opcode>>24 == 0xcc {
			w.text = append(w.text, '3')
			return
		}
	case x86asm.ICEBP:
		w.text = append(w.text, '1')
		return
	case x86asm.STOSB, x86asm.STOSW, x86asm.STOSD, x86asm.STOSQ:
		args = args[:1] // the accumulator is understood
	case x86asm.LODSB, x86asm.LODSW, x86asm.LODSD, x86asm.LODSQ, x86asm.SCASB, x86asm.SCASW, x86asm.SCASD, x86asm.SCASQ:
		args = args[1:2]
	case x86asm.BLENDVPD, x86asm.BLENDVPS, x86asm.PBLENDVB:
		args = args[:2] // xmm0 is understood
	case x86asm.XLATB, x86asm.MONITOR, x86asm.MWAIT:
		args = nil
	case x86asm.LCALL, x86asm.LJMP:
		w.text = append(w.text, "far "...)
	}
	masked := len(w.text)
	for i, a := range args {
		if a == nil {
			break
		}
		if k, ok := a.(x86asm.Reg); ok && i == 1 && w.mask(k) {
			continue
		}
		if len(w.text) > masked {
			w.text = append(w.text, ',')
		}
		w.operand(a, i)
	}
	w.rounding()
}

// mask writes the mask of an AVX-512 instruction behind its first operand;
// x86asm gives it as the second one. Instructions on mask registers themselves
// (kmovw, vpmovm2b) have them as ordinary operands.
func (w *writer) mask(r x86asm.Reg) bool {
	if r < x86asm.K0 || r > x86asm.K7 {
		return false
	}
	name := opName(&w.x.Inst)
	if name[0] == 'k' || strings.HasPrefix(name, "vpmovm2") || strings.HasPrefix(name, "vpbroadcastm") {
		return false
	}
	if r != x86asm.K0 {
		w.text = append(append(append(w.text, " {"...), regName(r)...), '}')
	}
	if w.x.Zeroing {
		w.text = append(w.text, " {z}"...)
	}
	return true
}

// rounding writes what an EVEX instruction says of exceptions and rounding.
func (w *writer) rounding() {
	if w.x.SAE {
		w.text = append(w.text, ",{sae}"...)
	}
}

func (w *writer) operand(a x86asm.Arg, i int) {
	switch a := a.(type) {
	case x86asm.Reg:
		w.text = append(w.text, regName(w.regWidth(a, i))...)
	case x86asm.Imm:
		w.text = append(w.text, number(uint64(a)&w.immMask(int64(a), i))...)
	case x86asm.Rel:
		w.text = append(w.text, w.o.name(w.next+uint64(int64(a)))...)
	case x86asm.Mem:
		w.memory(a)
	}
}

// regWidth corrects registers whose width x86asm takes from the operand size
// where the instruction has one of its own: moves to segment registers have 16
// bits.
func (w *writer) regWidth(r x86asm.Reg, i int) x86asm.Reg {
	if w.x.Op != x86asm.MOV || i != 1 {
		return r
	}
	dst, ok := w.x.Args[0].(x86asm.Reg)
	if !ok || dst < x86asm.ES || dst > x86asm.GS {
		return r
	}
	switch {
	case r >= x86asm.EAX && r <= x86asm.R15L:
		return r - x86asm.EAX + x86asm.AX
	case r >= x86asm.RAX && r <= x86asm.R15:
		return r - x86asm.RAX + x86asm.AX
	}
	return r
}

// immMask gives the bits of a constant that are shown: a negative one is as wide
// as what it is applied to.
func (w *writer) immMask(v int64, i int) uint64 {
	if v >= 0 {
		return ^uint64(0)
	}
	bits := w.x.DataSize
	if w.x.Op == x86asm.PUSH {
		bits = 64
	}
	if i > 0 {
		switch first := w.x.Args[0].(type) {
		case x86asm.Reg:
			bits = regBits(first, bits)
		case x86asm.Mem:
			bits = w.memSize() * 8
		}
	}
	if bits <= 0 || bits >= 64 {
		return ^uint64(0)
	}
	return uint64(1)<<bits - 1
}

func regBits(r x86asm.Reg, other int) int {
	switch {
	case r >= x86asm.AL && r <= x86asm.R15B:
		return 8
	case r >= x86asm.AX && r <= x86asm.R15W:
		return 16
	case r >= x86asm.EAX && r <= x86asm.R15L:
		return 32
	case r >= x86asm.RAX && r <= x86asm.R15:
		return 64
	case r >= x86asm.M0 && r <= x86asm.Z31:
		return 8 // only bytes are applied to vectors
	}
	return other
}

// regNames are the names of the registers; x86asm's, but for a few.
var regNames = func() []string {
	list := make([]string, x86asm.TR7+1)
	for r := x86asm.Reg(0); r <= x86asm.TR7; r++ {
		list[r] = strings.ToLower(r.String())
		switch {
		case r == x86asm.F0:
			list[r] = "st"
		case r > x86asm.F0 && r <= x86asm.F7:
			list[r] = "st(" + strconv.Itoa(int(r-x86asm.F0)) + ")"
		case r >= x86asm.M0 && r <= x86asm.M7:
			list[r] = "mm" + strconv.Itoa(int(r-x86asm.M0))
		case r >= x86asm.X0 && r <= x86asm.X31:
			list[r] = "xmm" + strconv.Itoa(int(r-x86asm.X0))
		case r >= x86asm.Y0 && r <= x86asm.Y31:
			list[r] = "ymm" + strconv.Itoa(int(r-x86asm.Y0))
		case r >= x86asm.Z0 && r <= x86asm.Z31:
			list[r] = "zmm" + strconv.Itoa(int(r-x86asm.Z0))
		case r >= x86asm.R8L && r <= x86asm.R15L:
			list[r] = "r" + strconv.Itoa(int(r-x86asm.R8L)+8) + "d"
		case r >= x86asm.SPB && r <= x86asm.DIB:
			list[r] = [...]string{"spl", "bpl", "sil", "dil"}[r-x86asm.SPB]
		}
	}
	return list
}()

func regName(r x86asm.Reg) string {
	if int(r) < len(regNames) {
		return regNames[r]
	}
	return strings.ToLower(r.String())
}
