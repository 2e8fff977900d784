package session

import (
	"context"

	"gokd/commands/cmd"
	"gokd/commands/report"
)

var bugcheck = &cmd.Command{
	Name: ".bugcheck", Group: cmd.GroupSession,
	Summary: "show the bug check code and its arguments",
	Help: `Shows why the machine stopped: the code of the bug check and its four
arguments, from the dump's header. What they mean is documented under the code
in Microsoft's Bug Check Code Reference. A live dump has a code that no crash
gave.`,
	Example: ".bugcheck",
	SeeAlso: []string{"vertarget"},
	Needs:   cmd.NeedTarget,
	Run: func(_ context.Context, s *cmd.Session, _ cmd.Args, out report.Sink) error {
		c := &s.Kernel.Source.Crash
		r := bugcheckRecord{Code: report.Addr(c.Code), Live: c.Live}
		for i, a := range c.Args {
			r.Args[i] = report.Addr(a)
		}
		return out.Emit(r)
	},
}

// bugcheckRecord is the bug check of the header.
type bugcheckRecord struct {
	Code report.Addr    `json:"code"`
	Args [4]report.Addr `json:"arguments"`
	Live bool           `json:"live"`
}

// Type names the record.
func (bugcheckRecord) Type() string { return "bugcheck" }

// WriteText writes kd's two lines.
func (r bugcheckRecord) WriteText(p *report.Printer) {
	p.Printf("Bugcheck code %08X\n", uint64(r.Code))
	p.Printf("Arguments %s %s %s %s\n", r.Args[0].Tick(), r.Args[1].Tick(), r.Args[2].Tick(), r.Args[3].Tick())
}
