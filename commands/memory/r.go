// Package memory is the group of commands about registers and memory.
package memory

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"

	"gokd/commands/cmd"
	"gokd/commands/report"
	"gokd/model"
	"gokd/model/mem"
)

// Commands lists the group.
func Commands() []*cmd.Command { return []*cmd.Command{registers} }

var registers = &cmd.Command{
	Name: "r", Group: cmd.GroupMemory,
	Summary: "show the registers of the current processor",
	Needs:   cmd.NeedTarget,
	Help: `Shows the general registers as they were saved when the dump was made, and the
place that the instruction pointer names. ~N picks another processor. A dump of
an ARM64 machine holds the registers of the processor that crashed.`,
	Example: "r",
	SeeAlso: []string{"~", "!thread"},
	Run:     runRegisters,
}

// register is a named value.
type register struct {
	name  string
	value uint64
}

// registerSet is the record of a processor's registers.
type registerSet struct {
	processor int
	list      []register
	flags     string // the line of flags, as kd writes it
	place     string
	pc        mem.VA
	wide      bool // ARM64: four a line
}

// Type names the record.
func (*registerSet) Type() string { return "registers" }

// MarshalJSON gives each register by its name.
func (r *registerSet) MarshalJSON() ([]byte, error) {
	values := map[string]report.Addr{}
	for _, v := range r.list {
		values[strings.TrimSpace(v.name)] = report.Addr(v.value)
	}
	return json.Marshal(struct {
		Processor int                    `json:"processor"`
		Registers map[string]report.Addr `json:"registers"`
		Place     string                 `json:"place"`
	}{r.processor, values, r.place})
}

func runRegisters(ctx context.Context, s *cmd.Session, _ cmd.Args, out report.Sink) error {
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
		r.list = append(r.list, register{o.name, v})
	}
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
		r.list = append(r.list, register{fmt.Sprintf("%3s", fmt.Sprintf("x%d", i)), v})
	}
	r.list = append(r.list, register{" fp", c.FP}, register{" lr", c.LR}, register{" sp", c.SP}, register{" pc", c.PC})
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
	perLine, gap := 3, " "
	if r.wide {
		perLine, gap = 4, "   "
	}
	for i, v := range r.list {
		p.Printf("%s=%016x", v.name, v.value)
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
