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

var registers = &cmd.Command{
	Name: "r", Group: cmd.GroupThread,
	Summary: "show the registers of the current processor",
	Args:    []cmd.Arg{{Name: "registers", Kind: cmd.KindRest, Optional: true, Doc: "only these: names with commas between"}},
	Needs:   cmd.NeedTarget,
	Help: `Shows the general registers as they were saved when the dump was made, and the
place that the instruction pointer names, or only the registers that are named.
~N picks another processor. A dump of an ARM64 machine holds the registers of the
processor that crashed. Nothing in a dump is changed: r NAME=VALUE does not work.`,
	Example: "r\nr rip,rsp",
	SeeAlso: []string{"~", "!thread"},
	Run:     runRegisters,
}

// register is a named value.
type register struct {
	name   string
	value  uint64
	digits int // as kd writes it
}

func (r register) String() string { return fmt.Sprintf("%s=%0*x", r.name, r.digits, r.value) }

// registerSet is the record of a processor's registers.
type registerSet struct {
	processor int
	list      []register
	special   []register // flags and segments, which the line of flags shows
	flags     string     // the line of flags, as kd writes it
	place     string
	pc        mem.VA
	wide      bool       // ARM64: four a line
	only      []register // what was asked for; nil: all
}

// Type names the record.
func (*registerSet) Type() string { return "registers" }

// MarshalJSON gives each register by its name.
func (r *registerSet) MarshalJSON() ([]byte, error) {
	values := map[string]report.Addr{}
	list := r.only
	if list == nil {
		list = slices.Concat(r.list, r.special)
	}
	for _, v := range list {
		values[strings.TrimSpace(v.name)] = report.Addr(v.value)
	}
	return json.Marshal(struct {
		Processor int                    `json:"processor"`
		Registers map[string]report.Addr `json:"registers"`
		Place     string                 `json:"place"`
	}{r.processor, values, r.place})
}

// pick keeps the registers of a list of names.
func (r *registerSet) pick(names string) error {
	all := slices.Concat(r.list, r.special)
	for _, word := range strings.FieldsFunc(names, func(c rune) bool { return c == ',' || c == ' ' || c == '\t' }) {
		i := slices.IndexFunc(all, func(v register) bool {
			return strings.EqualFold(strings.TrimSpace(v.name), strings.TrimPrefix(word, "@"))
		})
		if i < 0 {
			return fmt.Errorf("r: there is no register %q; r alone shows all", word)
		}
		v := all[i]
		v.name = strings.TrimSpace(v.name)
		r.only = append(r.only, v)
	}
	return nil
}

func runRegisters(ctx context.Context, s *cmd.Session, in cmd.Args, out report.Sink) error {
	k := s.Kernel
	var r *registerSet
	switch k.Source.Machine {
	case model.MachineARM64:
		regs, ok := model.ParseARM64Context(k.Source.Crash.Context)
		if !ok {
			return fmt.Errorf("the registers are not in this dump")
		}
		r = arm64(regs)
	default:
		p := s.Processor()
		if p == nil || p.Context == nil {
			return fmt.Errorf("the registers of processor %d are not in this dump", s.CPU)
		}
		r = x64(*p.Context)
	}
	r.processor = s.CPU
	r.place = k.NameOf(ctx, r.pc).String()
	if err := r.pick(in.Text("registers")); err != nil {
		return err
	}
	return out.Emit(r)
}

// x64Order is the order in which kd shows the registers, three a line.
var x64Order = [...]struct {
	name  string
	index int
}{{"rax", 0}, {"rbx", 3}, {"rcx", 1}, {"rdx", 2}, {"rsi", 6}, {"rdi", 7}, {"rip", -1}, {"rsp", 4}, {"rbp", 5},
	{" r8", 8}, {" r9", 9}, {"r10", 10}, {"r11", 11}, {"r12", 12}, {"r13", 13}, {"r14", 14}, {"r15", 15}}

func x64(c model.Registers) *registerSet {
	r := &registerSet{pc: mem.VA(c.RIP)}
	for _, o := range x64Order {
		v := c.RIP
		if o.index >= 0 {
			v = c.GPR[o.index]
		}
		r.list = append(r.list, register{o.name, v, 16})
	}
	for _, v := range []struct {
		name  string
		value uint16
	}{{"cs", c.CS}, {"ss", c.SS}, {"ds", c.DS}, {"es", c.ES}, {"fs", c.FS}, {"gs", c.GS}} {
		r.special = append(r.special, register{v.name, uint64(v.value), 4})
	}
	r.special = append(r.special, register{"efl", uint64(c.EFlags), 8})
	r.flags = fmt.Sprintf("iopl=%x         %s\ncs=%04x  ss=%04x  ds=%04x  es=%04x  fs=%04x  gs=%04x             efl=%08x\n",
		c.EFlags>>12&3, flagWords(c.EFlags), c.CS, c.SS, c.DS, c.ES, c.FS, c.GS, c.EFlags)
	return r
}

// flagWords spells the flags as debuggers have since DEBUG: one of two words
// for each bit of EFLAGS.
func flagWords(f uint32) string {
	var words []string
	for _, b := range [...]struct {
		bit     uint
		set, no string
	}{{11, "ov", "nv"}, {10, "dn", "up"}, {9, "ei", "di"}, {7, "ng", "pl"}, {6, "zr", "nz"}, {4, "ac", "na"}, {2, "pe", "po"}, {0, "cy", "nc"}} {
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
	for i, v := range c.X {
		r.list = append(r.list, register{fmt.Sprintf("%3s", fmt.Sprintf("x%d", i)), v, 16})
	}
	r.list = append(r.list, register{" fp", c.FP, 16}, register{" lr", c.LR, 16}, register{" sp", c.SP, 16}, register{" pc", c.PC, 16})
	r.special = []register{{"psr", uint64(c.CPSR), 8}}
	nzcv := []byte("NZCV")
	for i := range nzcv {
		if c.CPSR>>(31-i)&1 == 0 {
			nzcv[i] = '-'
		}
	}
	r.flags = fmt.Sprintf("psr=%08x %s EL%d\n", c.CPSR, nzcv, c.CPSR>>2&3)
	return r
}

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
	p.Printf("%s\n", report.Addr(r.pc).Tick())
}
