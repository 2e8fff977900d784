package stack

import (
	"context"
	"fmt"

	"gokd/commands/cmd"
	"gokd/commands/report"
	"gokd/model"
)

var irql = &cmd.Command{
	Name: "!irql", Group: cmd.GroupThread,
	Summary: "show the interrupt level that a processor was at",
	Args:    []cmd.Arg{{Name: "processor", Kind: cmd.KindFlags, Optional: true, Doc: "its number, hexadecimal; none: the current one"}},
	Needs:   cmd.NeedTarget,
	Help: `Shows the interrupt request level that the kernel noted for a processor when the
debugger, or the making of the dump, stopped it: not the level to which that raised
it. The kernel keeps it in the processor's control block. Of a processor that did
not stop in the ordinary way, as most of a live dump, it is what an earlier stop
left there; 0 (LOW_LEVEL) where there was none.`,
	Example: "!irql",
	SeeAlso: []string{"r", "~", ".bugcheck"},
	Run:     runIRQL,
}

// levels are the names of the interrupt request levels (wdm.h, for each
// machine). Those between are the levels of devices, which have no names.
var levels = map[uint16]map[uint64]string{
	model.MachineX64:   {0: "LOW_LEVEL", 1: "APC_LEVEL", 2: "DISPATCH_LEVEL", 5: "CMCI_LEVEL", 12: "SYNCH_LEVEL", 13: "CLOCK_LEVEL", 14: "IPI_LEVEL", 15: "HIGH_LEVEL"},
	model.MachineARM64: {0: "LOW_LEVEL", 1: "APC_LEVEL", 2: "DISPATCH_LEVEL", 12: "SYNCH_LEVEL", 13: "CLOCK_LEVEL", 14: "IPI_LEVEL", 15: "HIGH_LEVEL"},
}

// savedIRQL is the record of !irql.
type savedIRQL struct {
	Processor int     `json:"processor"`
	IRQL      uint64  `json:"irql"`
	Name      *string `json:"name"` // null for the levels of devices
}

// Type names the record.
func (*savedIRQL) Type() string { return "irql" }

// WriteText writes kd's line.
func (r *savedIRQL) WriteText(p *report.Printer) {
	p.Printf("Debugger saved IRQL for processor %#x -- %d", r.Processor, r.IRQL)
	if r.Name != nil {
		p.Printf(" (%s)", *r.Name)
	}
	p.Printf("\n")
}

func runIRQL(_ context.Context, s *cmd.Session, in cmd.Args, out report.Sink) error {
	n := s.CPU
	if in.Has("processor") {
		v := in.Uint("processor", 0)
		if v >= uint64(len(s.Kernel.Processors)) {
			return &kdError{"Cannot get PRCB address", fmt.Errorf("there is no processor %#x", v)}
		}
		n = int(v)
	}
	if n < 0 || n >= len(s.Kernel.Processors) || s.Kernel.Processors[n].PRCB == 0 {
		return &kdError{"Cannot get PRCB address", fmt.Errorf("the control block of processor %#x was not found in the dump", n)}
	}
	v, err := s.Kernel.Object("_KPRCB", s.Kernel.Processors[n].PRCB).Field("DebuggerSavedIRQL").Uint()
	if err != nil {
		return fmt.Errorf("!irql: %w", err)
	}
	r := &savedIRQL{Processor: n, IRQL: v}
	if name, ok := levels[s.Kernel.Source.Machine][v]; ok {
		r.Name = &name
	}
	return out.Emit(r)
}
