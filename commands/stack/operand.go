package stack

import (
	"context"
	"fmt"
	"strconv"
	"strings"

	"gokd/commands/cmd"
	"gokd/commands/report"
	"gokd/model"
	"gokd/model/mem"
)

// effective gives what kd writes behind an instruction in r: the addresses of
// its operands in memory and what is there, whether a jump is taken, or where a
// call through a register leads. It is empty where a register that counts is
// not known.
func effective(ctx context.Context, s *cmd.Session, v *view, text string, length uint64) string {
	mnemonic, operands, _ := strings.Cut(text, " ")
	if taken, ok := jumps(mnemonic, v); ok {
		if taken {
			return "[br=1]"
		}
		return "[br=0]"
	}
	call := mnemonic == "call" || mnemonic == "jmp"
	operands = strings.TrimSpace(operands)
	if n, ok := registerNumber(operands); ok && call {
		if v.known>>n&1 == 0 {
			return ""
		}
		return target(ctx, s, v.regs.GPR[n])
	}
	var parts []string
	for operands != "" {
		o, rest, ok := memoryOperand(operands)
		if !ok {
			break
		}
		operands = rest
		at, ok := o.address(v, uint64(v.regs.RIP)+length)
		if !ok {
			continue
		}
		parts = append(parts, o.selector(v)+report.Addr(at).Tick()+"="+o.value(ctx, s, mem.VA(at), call))
	}
	return strings.Join(parts, " ")
}

// target names the code that a call leads to; empty where it has no name.
func target(ctx context.Context, s *cmd.Session, at uint64) string {
	name := s.Kernel.NameOf(ctx, mem.VA(at)).String()
	if name == "" {
		return ""
	}
	return "{" + name + " (" + report.Addr(at).Tick() + ")}"
}

// operand is a memory operand as the disassembler writes it.
type operand struct {
	size    int    // bytes
	segment string // as written; empty for the usual one
	body    string // between the brackets
}

// sizes are the widths that stand before ptr, in bytes.
var sizes = map[string]int{
	"byte": 1, "word": 2, "dword": 4, "fword": 6, "qword": 8, "tbyte": 10,
	"oword": 16, "xmmword": 16, "ymmword": 32, "zmmword": 64,
}

// memoryOperand finds the first memory operand of a text, and gives what
// follows it. Only operands with a width are read or written: that of lea has
// none.
func memoryOperand(text string) (o operand, rest string, ok bool) {
	for {
		i := strings.Index(text, " ptr ")
		if i < 0 {
			return o, "", false
		}
		width := text[strings.LastIndexAny(text[:i], " ,")+1 : i]
		text = text[i+len(" ptr "):]
		o = operand{size: sizes[width]}
		body := text
		if len(body) > 3 && body[2] == ':' {
			o.segment, body = body[:2], body[3:]
		}
		end := strings.IndexByte(body, ']')
		if o.size == 0 || !strings.HasPrefix(body, "[") || end < 0 {
			continue
		}
		o.body = body[1:end]
		return o, body[end+1:], true
	}
}

// address works out where an operand lies; next is the address of the next
// instruction.
func (o operand) address(v *view, next uint64) (uint64, bool) {
	// A name stands before its address: "nt!KiFreezeFlag (fffff804`12345678)".
	if i := strings.LastIndexByte(o.body, '('); i >= 0 {
		return tickNumber(strings.TrimSuffix(o.body[i+1:], ")"))
	}
	if strings.Contains(o.body, "`") {
		return tickNumber(o.body)
	}
	var sum uint64
	rest, minus := o.body, false
	for rest != "" {
		term := rest
		nextMinus := false
		if i := strings.IndexAny(rest, "+-"); i >= 0 {
			term, nextMinus, rest = rest[:i], rest[i] == '-', rest[i+1:]
		} else {
			rest = ""
		}
		n, ok := termValue(v, term, next)
		if !ok {
			return 0, false
		}
		if minus {
			n = -n
		}
		sum, minus = sum+n, nextMinus
	}
	return sum, o.body != ""
}

// termValue gives the value of a register, of one times a scale, or of a number.
func termValue(v *view, term string, next uint64) (uint64, bool) {
	name, scale, scaled := strings.Cut(term, "*")
	factor := uint64(1)
	if scaled {
		n, err := strconv.ParseUint(scale, 10, 8)
		if err != nil {
			return 0, false
		}
		factor = n
	}
	switch n, ok := registerNumber(name); {
	case name == "rip":
		return next, true
	case ok && v.known>>n&1 == 0:
		return 0, false
	case ok:
		return v.regs.GPR[n] * factor, true
	}
	digits := strings.TrimSuffix(name, "h")
	n, err := strconv.ParseUint(digits, 16, 64)
	return n * factor, err == nil
}

// tickNumber reads an address with a back-tick.
func tickNumber(text string) (uint64, bool) {
	n, err := strconv.ParseUint(strings.ReplaceAll(text, "`", ""), 16, 64)
	return n, err == nil
}

// registerNumber gives the number of a 64-bit register by its name.
func registerNumber(name string) (int, bool) {
	for i, n := range gprNames {
		if n == name {
			return i, true
		}
	}
	return 0, false
}

var gprNames = [16]string{"rax", "rcx", "rdx", "rbx", "rsp", "rbp", "rsi", "rdi", "r8", "r9", "r10", "r11", "r12", "r13", "r14", "r15"}

// selector gives "ss:0018:", or "ss:" where the segment registers are not known.
func (o operand) selector(v *view) string {
	name := o.segment
	if name == "" {
		name = "ds"
		if base := o.body; strings.HasPrefix(base, "rsp") || strings.HasPrefix(base, "rbp") {
			name = "ss"
		}
	}
	r := &v.regs
	value := map[string]uint16{"cs": r.CS, "ss": r.SS, "ds": r.DS, "es": r.ES, "fs": r.FS, "gs": r.GS}[name]
	if v.noSegments || v.noFlags || v.marks && value == 0 {
		return name + ":"
	}
	return fmt.Sprintf("%s:%04x:", name, value)
}

// value spells what lies at an address; where a call reads it, the name of its
// target.
func (o operand) value(ctx context.Context, s *cmd.Session, at mem.VA, call bool) string {
	b := make([]byte, o.size)
	if _, err := s.ReadVirtual(b, at); err != nil {
		return strings.Repeat("?", 2*o.size)
	}
	var text strings.Builder
	var v uint64
	for i := len(b) - 1; i >= 0; i-- {
		fmt.Fprintf(&text, "%02x", b[i])
		v = v<<8 | uint64(b[i])
	}
	if call && o.size == 8 {
		if t := target(ctx, s, v); t != "" {
			return t
		}
	}
	return text.String()
}

// jumps tells whether a conditional jump is taken; ok is false for all else,
// and where the flags are not known.
func jumps(mnemonic string, v *view) (taken, ok bool) {
	cond, isJump := strings.CutPrefix(mnemonic, "j")
	if !isJump || v.noFlags || v.called {
		return false, false
	}
	f := v.regs.EFlags
	bit := func(n uint) bool { return f>>n&1 != 0 }
	cf, pf, zf, sf, of := bit(0), bit(2), bit(6), bit(7), bit(11)
	switch cond {
	case "rcxz":
		return v.regs.GPR[model.RCX] == 0, v.known>>model.RCX&1 != 0
	case "ecxz":
		return uint32(v.regs.GPR[model.RCX]) == 0, v.known>>model.RCX&1 != 0
	}
	negated := strings.HasPrefix(cond, "n")
	switch strings.TrimPrefix(cond, "n") {
	case "o":
		taken = of
	case "b", "c":
		taken = cf
	case "ae":
		taken = !cf
	case "e", "z":
		taken = zf
	case "be":
		taken = cf || zf
	case "a":
		taken = !cf && !zf
	case "s":
		taken = sf
	case "p":
		taken = pf
	case "l":
		taken = sf != of
	case "ge":
		taken = sf == of
	case "le":
		taken = zf || sf != of
	case "g":
		taken = !zf && sf == of
	default:
		return false, false
	}
	return taken != negated, true
}
