package stack

import (
	"context"
	"fmt"

	"gokd/commands/cmd"
	"gokd/commands/report"
	"gokd/commands/show"
	"gokd/model"
	"gokd/model/mem"
	"gokd/model/process"
	"gokd/model/thread"
)

// The commands that set registers, as Scope.Set names them.
const (
	setThread  = ".thread"
	setContext = ".cxr"
	setTrap    = ".trap"
	setFrame   = ".frame"
)

// kdError is an error in kd's own words, and the reason where there is one.
type kdError struct {
	text string
	why  error
}

func (e *kdError) Error() string {
	if e.why != nil {
		return e.text + ": " + e.why.Error()
	}
	return e.text
}

// Unwrap gives the reason.
func (e *kdError) Unwrap() error { return e.why }

// contextChange is the record of what a command chose.
type contextChange struct {
	Thread  *report.Addr `json:"thread"`
	Process *report.Addr `json:"process"`
	DirBase *report.Addr `json:"dir_base"`
	Reset   bool         `json:"reset"` // back to the processor's own

	text string // as kd says it
}

// Type names the record.
func (*contextChange) Type() string { return "context" }

// WriteText writes what kd says.
func (c *contextChange) WriteText(p *report.Printer) { p.Printf("%s", report.Text(c.text)) }

// change makes the record of the session's scope as it is now.
func change(s *cmd.Session, reset bool, text string) *contextChange {
	c := &contextChange{Reset: reset, text: text}
	if t, err := s.Thread(); err == nil {
		c.Thread = addr(t)
	}
	if p, err := s.Process(); err == nil {
		c.Process = addr(p)
	}
	if space := s.Space(); space != nil && space.Paged() {
		c.DirBase = addr(mem.VA(space.Root()))
	}
	return c
}

func addr(at mem.VA) *report.Addr {
	a := report.Addr(at)
	return &a
}

// resetText is what .cxr and .trap say when they go back.
const resetText = "Resetting default scope\n"

// reset goes back to the processor's own registers.
func reset(s *cmd.Session, out report.Sink) error {
	s.ResetRegisters()
	return out.Emit(change(s, true, resetText))
}

// whatIs tells what an address is that is not what a command needs; empty where
// nothing is known of it.
func whatIs(ctx context.Context, s *cmd.Session, at mem.VA) string {
	k := s.Kernel
	if _, err := process.At(k, at); err == nil {
		return "it is a process object: .process takes it"
	}
	if thread.IsThread(k, at) {
		return "it is a thread object: .thread takes it"
	}
	if name := k.NameOf(ctx, at).String(); name != "" {
		return "it lies in a module: " + name
	}
	if !k.Triage() && !k.Degraded {
		if x, err := show.StackIndex(ctx, s); err == nil {
			if t, _, _, ok := x.Find(uint64(at)); ok {
				return fmt.Sprintf("it lies in the kernel stack of thread %s", t)
			}
		}
	}
	return ""
}

// refuse makes the error for an address that is not what a command needs.
func refuse(ctx context.Context, s *cmd.Session, at mem.VA, not string) error {
	if what := whatIs(ctx, s, at); what != "" {
		return fmt.Errorf("%s is not %s: %s", at, not, what)
	}
	var b [1]byte
	if _, err := s.Kernel.Space.ReadVirtual(b[:], at); err != nil {
		return fmt.Errorf("%s is not %s: %w", at, not, err)
	}
	return fmt.Errorf("%s is not %s", at, not)
}

// x64Only refuses what only x64 dumps can answer.
func x64Only(s *cmd.Session, name string) error {
	if s.Kernel.Source.Machine != model.MachineX64 {
		return fmt.Errorf("%s: registers of x64 only can be set", name)
	}
	return nil
}
