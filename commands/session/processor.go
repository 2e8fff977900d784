package session

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"gokd/commands/cmd"
	"gokd/commands/report"
)

var processor = &cmd.Command{
	Name: "~", Prefix: true, Group: cmd.GroupSession,
	Summary: "change the current processor",
	Help: `~2 or ~2s makes processor 2 the current one: its thread and registers are those
that commands without an address take. ~ alone shows the current processor. The
number is decimal; the prompt shows it where there is more than one.`,
	Example: "~\n~0s",
	SeeAlso: []string{"vertarget"},
	Args: []cmd.Arg{{
		Name: "number", Kind: cmd.KindWord, Optional: true,
		Doc: "a processor's number, with or without an s after it",
	}},
	Needs: cmd.NeedTarget,
	Run:   runProcessor,
}

func runProcessor(_ context.Context, s *cmd.Session, in cmd.Args, out report.Sink) error {
	if in.Has("number") {
		word := strings.TrimSuffix(strings.ToLower(in.Text("number")), "s")
		n, err := strconv.ParseUint(word, 10, 16)
		if err != nil {
			return cmd.Misuse(fmt.Errorf("%q is no processor's number", in.Text("number")))
		}
		count := max(1, s.Kernel.Source.Processors)
		if n >= uint64(count) {
			return fmt.Errorf("%d is not a valid processor number: the machine has %s", n, processors(count))
		}
		s.SetProcessor(int(n))
	}
	return out.Emit(processorOf(s, !in.Has("number")))
}

func processors(n uint32) string {
	if n == 1 {
		return "only processor 0"
	}
	return fmt.Sprintf("processors 0 to %d", n-1)
}

// processorRecord is the current processor.
type processorRecord struct {
	Number  int            `json:"number"`
	PRCB    *report.Addr   `json:"prcb"`
	Thread  *report.Addr   `json:"current_thread"`
	Missing report.Missing `json:"missing,omitempty"`

	show bool // asked for; a change answers with the prompt alone, as in kd
}

func processorOf(s *cmd.Session, show bool) processorRecord {
	r := processorRecord{Number: s.CPU, show: show}
	p := s.Processor()
	why := errNoProcessor
	if p != nil {
		r.PRCB, r.Thread = address(p.PRCB), address(p.CurrentThread)
		if p.Err != nil {
			why = p.Err
		}
	}
	if r.PRCB == nil {
		r.Missing.Set("prcb", why)
	}
	if r.Thread == nil {
		r.Missing.Set("current_thread", why)
	}
	return r
}

var errNoProcessor = errors.New("not found in the dump")

// address gives nil for an address that is not known.
func address[T ~uint64](at T) *report.Addr {
	if at == 0 {
		return nil
	}
	a := report.Addr(at)
	return &a
}

// Type names the record.
func (processorRecord) Type() string { return "processor" }

// WriteText writes a line where the processor was asked for.
func (r processorRecord) WriteText(p *report.Printer) {
	if !r.show {
		return
	}
	p.Printf("processor %d", r.Number)
	if r.PRCB != nil {
		p.Printf("  prcb %s", *r.PRCB)
	}
	if r.Thread != nil {
		p.Printf("  thread %s", *r.Thread)
	}
	p.Printf("\n")
	if why := cmp.Or(r.Missing["prcb"], r.Missing["current_thread"]); why != "" {
		p.Own("prcb and thread are not known: %s\n", why)
	}
}
