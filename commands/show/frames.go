package show

import (
	"fmt"
	"strings"

	"gokd/commands/report"
	"gokd/model/mem"
	"gokd/model/unwind"
)

// Frame is one frame of a stack.
type Frame struct {
	ChildSP       report.Addr  `json:"child_sp"`
	ReturnAddress report.Addr  `json:"return_address"`
	Module        *string      `json:"module"`
	Function      *string      `json:"function"`
	Offset        uint64       `json:"offset"`
	TrapFrame     *report.Addr `json:"trap_frame"`
	How           string       `json:"how"`
	Source        *Source      `json:"source,omitempty"` // with .lines on

	site string
	args *[4]uint64
	scan bool
}

// Site gives the frame's place as text: "nt!KiSwapContext+0x76", or an address.
func (f *Frame) Site() string { return f.site }

// Args gives the four home slots; nil where they could not be read.
func (f *Frame) Args() *[4]uint64 { return f.args }

// Scanned tells that the frame was found by looking over the stack for return
// addresses, and may be wrong.
func (f *Frame) Scanned() bool { return f.scan }

// Frames makes records of frames. source finds their source lines; nil where
// none are to be shown.
func Frames(stack *unwind.Stack, source func(mem.VA) *Source) []Frame {
	list := []Frame{}
	for i := range stack.Frames {
		f := &stack.Frames[i]
		name := f.Name.Plain()
		n := Frame{
			ChildSP: report.Addr(f.ChildSP), ReturnAddress: report.Addr(f.ReturnAddress), How: f.How.String(),
			Offset: name.Offset, site: name.String(), scan: f.How == unwind.HowScan,
		}
		if name.Module != nil {
			n.Module = &name.Module.Name
		}
		if name.Function != "" {
			n.Function = &name.Function
		}
		switch {
		case n.site != "":
		case f.RIP>>32 == 0: // kd writes small ones as numbers
			n.site = fmt.Sprintf("%#x", uint64(f.RIP))
		default:
			n.site = "0x" + report.Addr(f.RIP).Tick()
		}
		if source != nil {
			n.Source = source(f.RIP)
		}
		if f.TrapFrame != 0 {
			t := report.Addr(f.TrapFrame)
			n.TrapFrame = &t
		}
		if f.ArgsOK {
			args := f.Args
			n.args = &args
		}
		list = append(list, n)
	}
	return list
}

// Columns say what of a frame a stack shows. The call site stands in every one.
type Columns struct {
	Numbers  bool // hexadecimal, from 00
	Distance bool // bytes from the frame below
	SP       bool // Child-SP
	Return   bool // RetAddr
	Args     bool // the four home slots
	Trap     bool // the trap frame behind the site
	NoSource bool // source lines are left out: kL
	How      bool // a column of our own: how the frame was found
}

// Heading gives the line above the frames.
func (c Columns) Heading(era report.Era) string {
	var b strings.Builder
	for _, part := range []struct {
		on   bool
		text string
	}{
		{c.Numbers, " # "},
		{c.Distance, "  Memory  "},
		{c.SP, "Child-SP          "},
		{c.Return, "RetAddr           " + returnPad(era)},
		{c.Args, ": Args to Child                                                           : "},
	} {
		if part.on {
			b.WriteString(part.text)
		}
	}
	return b.String() + "Call Site"
}

// returnPad is what the newest debugger's column of return addresses is wider.
func returnPad(era report.Era) string {
	if era == report.Era26100 {
		return "    "
	}
	return ""
}

// scanWarning is kd's line above frames for which unwind data is missing.
const scanWarning = "WARNING: Stack unwind information not available. Following frames may be wrong.\n"

// WriteRow writes frame n; below is the one called by it, nil for the first.
func (c Columns) WriteRow(p *report.Printer, in string, n int, f, below *Frame) {
	if f.scan && (below == nil || !below.scan) {
		p.Printf("%s%s", in, report.Text(scanWarning))
	}
	p.Printf("%s", in)
	if c.Numbers {
		p.Printf("%02x ", n)
	}
	if c.Distance {
		p.Printf("%9s ", distance(f, below))
	}
	if c.SP {
		p.Printf("%s ", f.ChildSP.Tick())
	}
	if c.Return {
		p.Printf("%s%s ", f.ReturnAddress.Tick(), returnPad(p.Era))
	}
	if c.Args {
		p.Printf(": %s : ", argText(f.args))
	}
	p.Styled(report.Symbol, "%s", f.site)
	if c.Trap && f.TrapFrame != nil {
		p.Printf(" (TrapFrame @ %s)", f.TrapFrame.Tick())
	}
	if !c.NoSource {
		p.Printf("%s", f.Source.String())
	}
	if c.How {
		p.Own(" <%s>", f.How)
	}
	p.Printf("\n")
}

// distance gives how far a frame's stack pointer lies above that of the frame
// below; nothing between two stacks.
func distance(f, below *Frame) string {
	if below == nil || f.ChildSP < below.ChildSP {
		return ""
	}
	return fmt.Sprintf("%x", uint64(f.ChildSP-below.ChildSP))
}

// WriteFrames writes a stack with the columns of !thread.
func WriteFrames(p *report.Printer, in string, frames []Frame, args bool) {
	c := Columns{SP: true, Return: true, Args: args, Trap: true}
	p.Printf("%s%s\n", in, c.Heading(p.Era))
	var below *Frame
	for i := range frames {
		c.WriteRow(p, in, i, &frames[i], below)
		below = &frames[i]
	}
}

func argText(args *[4]uint64) string {
	if args == nil {
		return "????????`???????? ????????`???????? ????????`???????? ????????`????????"
	}
	parts := make([]string, len(args))
	for i, a := range args {
		parts[i] = report.Addr(a).Tick()
	}
	return strings.Join(parts, " ")
}
