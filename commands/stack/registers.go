package stack

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	"gokd/commands/cmd"
	"gokd/commands/report"
	"gokd/model"
	"gokd/model/mem"
)

// register is a named value.
type register struct {
	name   string
	value  uint64
	digits int // as kd writes it
	lost   bool
	marked bool   // shown as question marks where lost, as kd's zeros otherwise
	text   string // instead of the digits
}

func (r register) String() string {
	switch {
	case r.text != "":
		return r.name + "=" + r.text
	case r.lost && r.marked:
		return r.name + "=" + strings.Repeat("?", r.digits)
	}
	return fmt.Sprintf("%s=%0*x", r.name, r.digits, r.value)
}

// registerSet is the record of registers.
type registerSet struct {
	processor int
	set       string // by which command; empty: the processor's own
	again     bool   // shown after it was set: kd says so first
	note      bool   // kd's note on trap frames goes first
	list      []register
	special   []register // flags and segments, which the line of flags shows
	flags     string     // the line of flags, as kd writes it
	place     string
	pc        mem.VA
	code      instruction
	wide      bool       // ARM64: four a line
	only      []register // what was asked for; nil: all
}

// Type names the record.
func (*registerSet) Type() string { return "registers" }

// MarshalJSON gives each register by its name; null for those that are not known.
func (r *registerSet) MarshalJSON() ([]byte, error) {
	values := map[string]*report.Addr{}
	texts := map[string]string{}
	var missing report.Missing
	list := r.only
	if list == nil {
		list = slices.Concat(r.list, r.special)
	}
	for _, v := range list {
		name := strings.TrimSpace(v.name)
		switch {
		case v.text != "":
			texts[name] = v.text
		case v.lost:
			values[name] = nil
			missing.Set(name, errLost)
		default:
			a := report.Addr(v.value)
			values[name] = &a
		}
	}
	return json.Marshal(struct {
		Processor   int                     `json:"processor"`
		Set         string                  `json:"set,omitempty"`
		Registers   map[string]*report.Addr `json:"registers"`
		Texts       map[string]string       `json:"texts,omitempty"`
		Place       string                  `json:"place"`
		Instruction *instruction            `json:"instruction,omitempty"`
		Missing     report.Missing          `json:"missing,omitempty"`
	}{r.processor, r.set, values, texts, r.place, r.code.orNil(), missing})
}

// lostError is why a register is null.
type lostError struct{}

func (lostError) Error() string { return "not saved in this context" }

var errLost error = lostError{}

// x64Order is the order in which kd shows the registers, three a line.
var x64Order = [...]struct {
	name  string
	index int
}{{"rax", 0}, {"rbx", 3}, {"rcx", 1}, {"rdx", 2}, {"rsi", 6}, {"rdi", 7}, {"rip", -1}, {"rsp", 4}, {"rbp", 5},
	{" r8", 8}, {" r9", 9}, {"r10", 10}, {"r11", 11}, {"r12", 12}, {"r13", 13}, {"r14", 14}, {"r15", 15}}

// x64 lists the registers of a view as kd shows them.
func x64(v *view) *registerSet {
	c := &v.regs
	r := &registerSet{pc: mem.VA(c.RIP), set: v.set}
	for _, o := range x64Order {
		n := register{name: o.name, value: c.RIP, digits: 16, marked: v.marks}
		if o.index >= 0 {
			n.value, n.lost = c.GPR[o.index], v.known>>o.index&1 == 0
			if n.lost {
				n.value = 0
			}
		}
		r.list = append(r.list, n)
	}
	// Segment registers of 0 alone are those of a frame that was found by a scan.
	lost := v.noFlags || v.noSegments || v.marks && c.DS|c.ES|c.FS|c.GS == 0
	for _, g := range []struct {
		name  string
		value uint16
		lost  bool
	}{{"cs", c.CS, v.noFlags}, {"ss", c.SS, v.noFlags}, {"ds", c.DS, lost}, {"es", c.ES, lost}, {"fs", c.FS, lost}, {"gs", c.GS, lost}} {
		r.special = append(r.special, register{name: g.name, value: uint64(g.value), digits: 4, lost: g.lost, marked: v.marks})
	}
	r.special = append(r.special, register{name: "efl", value: uint64(c.EFlags), digits: 8, lost: v.noFlags, marked: v.marks})
	r.flags = flagLine(c.EFlags, v.noFlags && v.marks)
	if !v.noSegments {
		for _, g := range r.special[:6] {
			r.flags += g.String() + "  "
		}
		r.flags += "           " + r.special[6].String() + "\n"
	}
	return r
}

// flagLine spells the flags on a line of their own; question marks where they
// are not known.
func flagLine(f uint32, unknown bool) string {
	if unknown {
		return "iopl=?         ?? ?? ?? ?? ?? ?? ?? ??\n"
	}
	return fmt.Sprintf("iopl=%x         %s\n", f>>12&3, flagWords(f))
}

// flagNames are the flags that r shows as words, and their words.
var flagNames = [...]struct {
	name    string
	bit     uint
	set, no string
}{
	{"of", 11, "ov", "nv"}, {"df", 10, "dn", "up"}, {"if", 9, "ei", "di"}, {"sf", 7, "ng", "pl"},
	{"zf", 6, "zr", "nz"}, {"af", 4, "ac", "na"},
	// The debuggers of x64 write the parity the wrong way round: "po" where the
	// flag is set (public sessions agree: efl=00000246 is "zr na po nc").
	{"pf", 2, "po", "pe"},
	{"cf", 0, "cy", "nc"},
}

// flagWords spells the flags as debuggers have since DEBUG: one of two words
// for each bit of EFLAGS.
func flagWords(f uint32) string {
	var words []string
	for _, b := range flagNames {
		if f>>b.bit&1 != 0 {
			words = append(words, b.set)
		} else {
			words = append(words, b.no)
		}
	}
	return strings.Join(words, " ")
}

func arm64(c model.ARM64Registers) *registerSet {
	r := &registerSet{pc: mem.VA(c.PC), wide: true}
	add := func(name string, v uint64) {
		r.list = append(r.list, register{name: fmt.Sprintf("%3s", name), value: v, digits: 16})
	}
	for i, v := range c.X {
		add(fmt.Sprintf("x%d", i), v)
	}
	add("fp", c.FP)
	add("lr", c.LR)
	add("sp", c.SP)
	add("pc", c.PC)
	r.special = []register{{name: "psr", value: uint64(c.CPSR), digits: 8}}
	nzcv := []byte("NZCV")
	for i := range nzcv {
		if c.CPSR>>(31-i)&1 == 0 {
			nzcv[i] = '-'
		}
	}
	r.flags = fmt.Sprintf("psr=%08x %s EL%d\n", c.CPSR, nzcv, c.CPSR>>2&3)
	return r
}

// contextRecord makes the record of a view that a command has just set, or that
// r shows.
func contextRecord(ctx context.Context, s *cmd.Session, v *view) *registerSet {
	r := x64(v)
	r.processor = s.CPU
	r.locate(ctx, s)
	r.code.comment = effective(ctx, s, v, r.code.text, uint64(len(r.code.bytes)))
	return r
}

// locate names the instruction pointer and reads the instruction there.
func (r *registerSet) locate(ctx context.Context, s *cmd.Session) {
	r.place = s.Kernel.NameOf(ctx, r.pc).String()
	r.code = instructionAt(ctx, s, r.pc)
}

const trapNote = "NOTE: The trap frame does not contain all registers.\nSome register values may be zeroed or incorrect.\n"

// WriteText writes the registers as kd does.
func (r *registerSet) WriteText(p *report.Printer) {
	if r.only != nil {
		for i, v := range r.only {
			if i > 0 {
				p.Printf(" ")
			}
			p.Printf("%s", v.String())
		}
		p.Printf("\n")
		return
	}
	switch {
	case r.again:
		p.Printf("Last set context:\n")
	case r.note:
		p.Printf("%s", report.Text(trapNote))
	}
	perLine, gap := 3, " "
	if r.wide {
		perLine, gap = 4, "   "
	}
	for i, v := range r.list {
		p.Printf("%s", v.String())
		if i%perLine == perLine-1 || i == len(r.list)-1 {
			p.Printf("\n")
		} else {
			p.Printf("%s", gap)
		}
	}
	p.Printf("%s", report.Text(r.flags))
	if r.place != "" {
		p.Styled(report.Symbol, "%s:\n", r.place)
	}
	r.code.write(p)
}
