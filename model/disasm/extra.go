package disasm

import "golang.org/x/arch/x86/x86asm"

// Mandatory prefixes of an entry.
const (
	pNone = 0x00 // none of the three
	p66   = 0x66
	pF2   = 0xf2
	pF3   = 0xf3
	pAny  = 0x01 // whatever stands there is ignored
)

// Opcode maps: the bytes between the prefixes and the opcode.
const (
	map0F   = 0x0f
	map0F38 = 0x38
)

// form is how an entry's operands are found.
type form uint8

const (
	formNone  form = iota // no operands; modrm is a third opcode byte
	formMem               // one operand in memory
	formReg               // one register
	formRM                // one operand, either
	formRegRM             // a register, then either
	formRMReg             // either, then a register
)

// Widths of registers.
const (
	wide32   = iota // 32 bits; 64 with REX.W
	wide64          // always 64
	narrow32        // always 32
	narrow16        // always 16
)

// extra is an instruction that x86asm v0.32.0 does not know or takes for
// another. The encodings are those of Intel's "Software Developer's Manual",
// volume 2, and AMD's "Programmer's Manual", volume 3.
type extra struct {
	prefix byte
	opmap  byte
	op     byte
	modrm  int16 // formNone: the whole byte; else the digit in its middle, -1 any
	form   form
	width  uint8
	size   int // bytes of the operand in memory; -1: it is no access
	name   string
	wide   string // name with REX.W; empty: the same
}

// extras are grouped by opcode; the first match counts.
var extras = []extra{
	// Virtual machines, enclaves and protection: 0F 01.
	{pNone, map0F, 0x01, 0xc0, formNone, 0, 0, "enclv", ""},
	{pNone, map0F, 0x01, 0xc1, formNone, 0, 0, "vmcall", ""},
	{pNone, map0F, 0x01, 0xc2, formNone, 0, 0, "vmlaunch", ""},
	{pNone, map0F, 0x01, 0xc3, formNone, 0, 0, "vmresume", ""},
	{pNone, map0F, 0x01, 0xc4, formNone, 0, 0, "vmxoff", ""},
	{pNone, map0F, 0x01, 0xc5, formNone, 0, 0, "pconfig", ""},
	{pF2, map0F, 0x01, 0xc6, formNone, 0, 0, "rdmsrlist", ""},
	{pF3, map0F, 0x01, 0xc6, formNone, 0, 0, "wrmsrlist", ""},
	{pNone, map0F, 0x01, 0xc6, formNone, 0, 0, "wrmsrns", ""},
	{pNone, map0F, 0x01, 0xc7, formNone, 0, 0, "pbndkb", ""},
	{pF2, map0F, 0x01, 0xca, formNone, 0, 0, "erets", ""},
	{pF3, map0F, 0x01, 0xca, formNone, 0, 0, "eretu", ""},
	{pAny, map0F, 0x01, 0xca, formNone, 0, 0, "clac", ""},
	{pAny, map0F, 0x01, 0xcb, formNone, 0, 0, "stac", ""},
	{p66, map0F, 0x01, 0xcc, formNone, 0, 0, "tdcall", ""},
	{p66, map0F, 0x01, 0xcd, formNone, 0, 0, "seamret", ""},
	{p66, map0F, 0x01, 0xce, formNone, 0, 0, "seamops", ""},
	{p66, map0F, 0x01, 0xcf, formNone, 0, 0, "seamcall", ""},
	{pNone, map0F, 0x01, 0xcf, formNone, 0, 0, "encls", ""},
	{pNone, map0F, 0x01, 0xd4, formNone, 0, 0, "vmfunc", ""},
	{pNone, map0F, 0x01, 0xd7, formNone, 0, 0, "enclu", ""},
	{pAny, map0F, 0x01, 0xd8, formNone, 0, 0, "vmrun", ""},
	{pAny, map0F, 0x01, 0xd9, formNone, 0, 0, "vmmcall", ""},
	{pAny, map0F, 0x01, 0xda, formNone, 0, 0, "vmload", ""},
	{pAny, map0F, 0x01, 0xdb, formNone, 0, 0, "vmsave", ""},
	{pAny, map0F, 0x01, 0xdc, formNone, 0, 0, "stgi", ""},
	{pAny, map0F, 0x01, 0xdd, formNone, 0, 0, "clgi", ""},
	{pAny, map0F, 0x01, 0xde, formNone, 0, 0, "skinit", ""},
	{pAny, map0F, 0x01, 0xdf, formNone, 0, 0, "invlpga", ""},
	{pF3, map0F, 0x01, 0xe8, formNone, 0, 0, "setssbsy", ""},
	{pNone, map0F, 0x01, 0xe8, formNone, 0, 0, "serialize", ""},
	{pF2, map0F, 0x01, 0xe8, formNone, 0, 0, "xsusldtrk", ""},
	{pF2, map0F, 0x01, 0xe9, formNone, 0, 0, "xresldtrk", ""},
	{pF3, map0F, 0x01, 0xea, formNone, 0, 0, "saveprevssp", ""},
	{pF3, map0F, 0x01, 0xec, formNone, 0, 0, "uiret", ""},
	{pF3, map0F, 0x01, 0xed, formNone, 0, 0, "testui", ""},
	{pF3, map0F, 0x01, 0xee, formNone, 0, 0, "clui", ""},
	{pF3, map0F, 0x01, 0xef, formNone, 0, 0, "stui", ""},
	{pNone, map0F, 0x01, 0xee, formNone, 0, 0, "rdpkru", ""},
	{pNone, map0F, 0x01, 0xef, formNone, 0, 0, "wrpkru", ""},
	{pF3, map0F, 0x01, 0xfa, formNone, 0, 0, "mcommit", ""},
	{pAny, map0F, 0x01, 0xfa, formNone, 0, 0, "monitorx", ""},
	{pAny, map0F, 0x01, 0xfb, formNone, 0, 0, "mwaitx", ""},
	{pAny, map0F, 0x01, 0xfc, formNone, 0, 0, "clzero", ""},
	{pF3, map0F, 0x01, 0xfd, formNone, 0, 0, "rmpquery", ""},
	{pAny, map0F, 0x01, 0xfd, formNone, 0, 0, "rdpru", ""},
	{pF2, map0F, 0x01, 0xfe, formNone, 0, 0, "rmpupdate", ""},
	{pF3, map0F, 0x01, 0xfe, formNone, 0, 0, "rmpadjust", ""},
	{pAny, map0F, 0x01, 0xfe, formNone, 0, 0, "invlpgb", ""},
	{pF2, map0F, 0x01, 0xff, formNone, 0, 0, "pvalidate", ""},
	{pF3, map0F, 0x01, 0xff, formNone, 0, 0, "psmash", ""},
	{pAny, map0F, 0x01, 0xff, formNone, 0, 0, "tlbsync", ""},
	{pF3, map0F, 0x01, 5, formMem, 0, 8, "rstorssp", ""},
	{pF2, map0F, 0x00, 6, formRM, narrow16, 2, "lkgs", ""},
	{pF3, map0F, 0x09, -1, formNone, 0, 0, "wbnoinvd", ""},
	// Hints: 0F 0D to 0F 1F.
	{pAny, map0F, 0x0d, 2, formMem, 0, -1, "prefetchwt1", ""},
	{pAny, map0F, 0x0d, 0, formMem, 0, -1, "prefetch", ""},
	{pAny, map0F, 0x18, 6, formMem, 0, -1, "prefetchit1", ""},
	{pAny, map0F, 0x18, 7, formMem, 0, -1, "prefetchit0", ""},
	{pNone, map0F, 0x1c, 0, formMem, 0, -1, "cldemote", ""},
	{pF3, map0F, 0x1e, 0xfa, formNone, 0, 0, "endbr64", ""},
	{pF3, map0F, 0x1e, 0xfb, formNone, 0, 0, "endbr32", ""},
	{pF3, map0F, 0x1e, 1, formReg, wide32, 0, "rdsspd", "rdsspq"},
	{pAny, map0F, 0x18, 4, formRM, wide32, -2, "nop", ""},
	{pAny, map0F, 0x18, 5, formRM, wide32, -2, "nop", ""},
	{pAny, map0F, 0x19, -1, formRM, wide32, -2, "nop", ""},
	{pAny, map0F, 0x1a, -1, formRM, wide32, -2, "nop", ""},
	{pAny, map0F, 0x1b, -1, formRM, wide32, -2, "nop", ""},
	{pAny, map0F, 0x1c, -1, formRM, wide32, -2, "nop", ""},
	{pAny, map0F, 0x1d, -1, formRM, wide32, -2, "nop", ""},
	{pAny, map0F, 0x1e, -1, formRM, wide32, -2, "nop", ""},
	{pAny, map0F, 0x1f, -1, formRM, wide32, -2, "nop", ""},
	{pNone, map0F, 0x37, -1, formNone, 0, 0, "getsec", ""},
	// Fields of virtual machines: 0F 78, 0F 79.
	{pNone, map0F, 0x78, -1, formRMReg, wide64, 8, "vmread", ""},
	{pNone, map0F, 0x79, -1, formRegRM, wide64, 8, "vmwrite", ""},
	// Caches, waiting and shadow stacks: 0F AE. Fences ignore their lowest bits.
	{p66, map0F, 0xae, 6, formMem, 0, -1, "clwb", ""},
	{p66, map0F, 0xae, 7, formMem, 0, -1, "clflushopt", ""},
	{p66, map0F, 0xae, 6, formReg, narrow32, 0, "tpause", ""},
	{pF2, map0F, 0xae, 6, formReg, narrow32, 0, "umwait", ""},
	{pF3, map0F, 0xae, 6, formReg, wide64, 0, "umonitor", ""},
	{pF3, map0F, 0xae, 6, formMem, 0, 8, "clrssbsy", ""},
	{pF3, map0F, 0xae, 5, formReg, wide32, 0, "incsspd", "incsspq"},
	{pF3, map0F, 0xae, 4, formRM, wide32, -2, "ptwrite", ""},
	{pNone, map0F, 0xae, 5, formReg, 0, fence, "lfence", ""},
	{pNone, map0F, 0xae, 6, formReg, 0, fence, "mfence", ""},
	{pNone, map0F, 0xae, 7, formReg, 0, fence, "sfence", ""},
	// 0F C7.
	{pF3, map0F, 0xc7, 7, formReg, wide64, 0, "rdpid", ""},
	{pF3, map0F, 0xc7, 6, formReg, wide64, 0, "senduipi", ""},
	{pAny, map0F, 0xc7, 6, formReg, wide32, 0, "rdrand", ""}, // x86asm gives no operand
	{pAny, map0F, 0xc7, 7, formReg, wide32, 0, "rdseed", ""},
	{p66, map0F, 0xc7, 6, formMem, 0, 8, "vmclear", ""},
	{pF3, map0F, 0xc7, 6, formMem, 0, 8, "vmxon", ""},
	{pNone, map0F, 0xc7, 6, formMem, 0, 8, "vmptrld", ""},
	{pNone, map0F, 0xc7, 7, formMem, 0, 8, "vmptrst", ""},
	// 0F 38.
	{p66, map0F38, 0x80, -1, formRegRM, wide64, 16, "invept", ""},
	{p66, map0F38, 0x81, -1, formRegRM, wide64, 16, "invvpid", ""},
	{p66, map0F38, 0xf5, -1, formRMReg, wide32, -2, "wrussd", "wrussq"},
	{p66, map0F38, 0xf6, -1, formRegRM, wide32, -2, "adcx", ""},
	{pF3, map0F38, 0xf6, -1, formRegRM, wide32, -2, "adox", ""},
	{pNone, map0F38, 0xf6, -1, formRMReg, wide32, -2, "wrssd", "wrssq"},
	{p66, map0F38, 0xf8, -1, formRegRM, wide64, 64, "movdir64b", ""},
	{pF2, map0F38, 0xf8, -1, formRegRM, wide64, 64, "enqcmd", ""},
	{pF3, map0F38, 0xf8, -1, formRegRM, wide64, 64, "enqcmds", ""},
	{pNone, map0F38, 0xf9, -1, formRMReg, wide32, -2, "movdiri", ""},
	{pNone, map0F38, 0xfc, -1, formRMReg, wide32, -2, "aadd", ""},
	{p66, map0F38, 0xfc, -1, formRMReg, wide32, -2, "aand", ""},
	{pF2, map0F38, 0xfc, -1, formRMReg, wide32, -2, "aor", ""},
	{pF3, map0F38, 0xfc, -1, formRMReg, wide32, -2, "axor", ""},
}

// fence marks entries that show no operand.
const fence = -3

// extraIndex gives the entries of an opcode: map 0F, then 0F 38.
var extraIndex = func() (index [2][256][]*extra) {
	for i := range extras {
		e := &extras[i]
		m := 0
		if e.opmap == map0F38 {
			m = 1
		}
		index[m][e.op] = append(index[m][e.op], e)
	}
	return index
}()

// prefixes is what stands before an opcode.
type prefixes struct {
	keep      []byte // segment and address size
	data16    bool
	mandatory byte // pF2, pF3, p66 or pNone
	rex       byte // 0: none
	end       int  // index of the opcode
}

// readPrefixes reads legacy prefixes and REX.
func readPrefixes(code []byte) (p prefixes) {
	for p.end < len(code) {
		switch c := code[p.end]; {
		case c == 0x66:
			p.data16 = true
		case c == 0xf2 || c == 0xf3:
			p.mandatory = c
		case c == 0x67 || c == 0x64 || c == 0x65:
			p.keep = append(p.keep, c)
		case c == 0x26 || c == 0x2e || c == 0x36 || c == 0x3e: // without effect
		case c&0xf0 == 0x40:
			p.rex = c
			p.end++
			return p.finish()
		default:
			return p.finish()
		}
		p.end++
	}
	return p
}

func (p prefixes) finish() prefixes {
	if p.mandatory == pNone && p.data16 {
		p.mandatory = p66
	}
	return p
}

// decodeZero reads vzeroupper and vzeroall, the only AVX instructions without a
// ModRM byte; x86asm takes what follows for one. Bit 2 of the byte before the
// opcode is the vector's length in both forms of the prefix.
func decodeZero(code []byte) (decoded, bool) {
	n := 0
	switch {
	case len(code) >= 3 && code[0] == 0xc5 && code[2] == 0x77:
		n = 3
	case len(code) >= 4 && code[0] == 0xc4 && code[1]&0x1f == 1 && code[3] == 0x77:
		n = 4
	default:
		return decoded{}, false
	}
	x := decoded{name: "vzeroupper"}
	if code[n-2]&4 != 0 {
		x.name = "vzeroall"
	}
	x.Len = n
	return x, true
}

// decodeExtra looks an instruction up in the table.
func decodeExtra(code []byte) (decoded, bool) {
	if code[0] == 0xc5 || code[0] == 0xc4 {
		return decodeZero(code)
	}
	p := readPrefixes(code)
	at := p.end
	if at+1 >= len(code) || code[at] != 0x0f {
		return decoded{}, false
	}
	at++
	index := &extraIndex[0]
	if code[at] == map0F38 {
		index = &extraIndex[1]
		if at++; at >= len(code) {
			return decoded{}, false
		}
	}
	for _, e := range index[code[at]] {
		if e.prefix != pAny && e.prefix != p.mandatory {
			continue
		}
		if x, ok := e.decode(code, p, at+1); ok {
			return x, true
		}
	}
	return decoded{}, false
}

// decode reads what follows the opcode. at is the index of the byte behind it.
func (e *extra) decode(code []byte, p prefixes, at int) (decoded, bool) {
	x := decoded{name: e.name, size: e.size}
	if e.form == formNone && e.modrm < 0 { // no third byte
		x.Len = at
		return x, true
	}
	if at >= len(code) {
		return x, false
	}
	modrm := code[at]
	if e.form == formNone {
		x.Len = at + 1
		return x, int16(modrm) == e.modrm
	}
	inRegister := modrm >= 0xc0
	if e.modrm >= 0 && int16(modrm>>3&7) != e.modrm ||
		e.form == formMem && inRegister || e.form == formReg && !inRegister {
		return x, false
	}
	if p.rex&8 != 0 && e.wide != "" {
		x.name = e.wide
	}
	sub, used, ok := substitute(code[at:], p, e)
	if !ok {
		return x, false
	}
	x.Len, x.DataSize = at+used, sub.DataSize
	x.Args = e.args(sub.Args)
	switch e.size {
	case -2: // as wide as a register
		x.size = 4
		if p.rex&8 != 0 {
			x.size = 8
		} else if p.data16 && e.prefix == pAny {
			x.size = 2
		}
	case fence:
		x.Args = x86asm.Args{}
	}
	return x, true
}

// args picks the operands out of those of "mov reg,r/m".
func (e *extra) args(a x86asm.Args) x86asm.Args {
	switch e.form {
	case formRegRM:
		return x86asm.Args{a[0], a[1]}
	case formRMReg:
		return x86asm.Args{a[1], a[0]}
	}
	return x86asm.Args{a[1]}
}

// substitute lets x86asm read ModRM, SIB and displacement as those of "mov
// reg,r/m". used is their length in bytes.
func substitute(tail []byte, p prefixes, e *extra) (inst x86asm.Inst, used int, ok bool) {
	rex := p.rex &^ 8
	if e.width == wide64 || e.width == wide32 && p.rex&8 != 0 {
		rex |= 0x48
	}
	head := make([]byte, 0, MaxLen+3)
	head = append(head, p.keep[:min(len(p.keep), 4)]...)
	if e.width == narrow16 || e.width == wide32 && p.data16 && e.prefix == pAny {
		head = append(head, 0x66)
	}
	if rex != 0 {
		head = append(head, rex|0x40)
	}
	head = append(head, 0x8b)
	n := len(head)
	head = append(head, tail[:min(len(tail), 6)]...) // ModRM, SIB and four bytes at most
	inst, err := x86asm.Decode(head, 64)
	if err != nil || inst.Op != x86asm.MOV {
		return inst, 0, false
	}
	return inst, inst.Len - n, true
}
