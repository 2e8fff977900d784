package cmd

import (
	"bytes"
	"context"
	"errors"
	"fmt"

	"gokd/model"
	"gokd/model/mem"
)

// Scope is what commands speak of that name no process, thread or registers:
// the implicit process and thread and the register context, as .process,
// .thread, .cxr, .trap and .frame set them. The zero value is the current
// processor's own.
type Scope struct {
	Process mem.VA     // implicit process; 0: that of the implicit thread
	Space   *mem.Space // its address space; nil: the kernel's own
	Thread  mem.VA     // implicit thread; 0: the processor's current one
	// Registers are a context that was set; nil: those of the processor.
	Registers *model.Registers
	Known     uint16 // bit i: Registers.GPR[i] is known; the others are zero
	Set       string // the command that set Registers: ".cxr"; empty: none
	Frame     int    // the current frame, .frame
	// Called tells that Registers.RIP is a return address, as in every frame but
	// the first, and not where the machine stood.
	Called bool
	// NoSegments tells that Registers came without segment registers, as those of
	// a trap frame do.
	NoSegments bool
	Raw        []byte // the CONTEXT that Registers were read from; nil: none
	Err        error  // why the registers of Thread are not known
}

// SetProcessor makes a processor the current one. As in kd, what .thread,
// .process, .cxr, .trap and .frame chose is dropped.
func (s *Session) SetProcessor(n int) { s.CPU, s.Scope = n, Scope{} }

// ResetRegisters goes back to the processor's own registers and thread; the
// implicit process stays.
func (s *Session) ResetRegisters() {
	s.Scope = Scope{Process: s.Scope.Process, Space: s.Scope.Space}
}

// ReturnAddress gives the return address of the current scope's frame: that to
// which the function at Registers.RIP returns. Which command knows how to find
// it stands in the table.
func (s *Session) ReturnAddress(ctx context.Context) (mem.VA, error) {
	if s.Commands != nil {
		for _, c := range s.Commands.All() {
			if c.ReturnAddress != nil {
				return c.ReturnAddress(ctx, s)
			}
		}
	}
	return 0, errors.New("the return address is not known: no command walks stacks")
}

// Space gives the address space that addresses belong to.
func (s *Session) Space() *mem.Space {
	switch {
	case s.Scope.Space != nil:
		return s.Scope.Space
	case s.Kernel != nil:
		return s.Kernel.Space
	}
	return nil
}

// ReadVirtual reads memory of the current scope; n < len(p) implies an error.
func (s *Session) ReadVirtual(p []byte, at mem.VA) (int, error) {
	space := s.Space()
	if space == nil {
		return 0, errors.New("no dump is open")
	}
	n, err := space.ReadVirtual(p, at)
	if err != nil && s.Kernel != nil && space != s.Kernel.Space && at>>47 != 0 {
		// The kernel's half is that of every process; a dump may lack parts of a
		// process's own tables.
		if m, kerr := s.Kernel.Space.ReadVirtual(p[n:], at+mem.VA(n)); kerr == nil {
			return n + m, nil
		}
	}
	return n, err
}

// Registers gives the registers of the current scope: a context that was set,
// else those of the current processor as the dump saved them. A dump whose
// processors can't be found still has those of the one that crashed.
func (s *Session) Registers() (*model.Registers, error) {
	if s.Scope.Registers != nil {
		return s.Scope.Registers, nil
	}
	if s.Scope.Thread != 0 && s.Scope.Err != nil {
		return nil, s.Scope.Err
	}
	if s.Kernel == nil {
		return nil, errors.New("no dump is open")
	}
	p := s.Processor()
	switch {
	case p != nil && p.Context != nil:
		return p.Context, nil
	case len(s.Kernel.Processors) == 0:
		if r, ok := model.ParseContext(s.Kernel.Source.Crash.Context); ok {
			return &r, nil
		}
		return nil, fmt.Errorf("processor %d: its control block was not found in the dump", s.CPU)
	case p == nil:
		return nil, fmt.Errorf("processor %d: its control block was not found in the dump", s.CPU)
	case p.Err != nil:
		return nil, fmt.Errorf("processor %d: %w", p.Number, p.Err)
	}
	return nil, fmt.Errorf("processor %d: its registers were not saved in the dump", p.Number)
}

// Thread gives the implicit thread: that of .thread, else the current one of
// the current processor.
func (s *Session) Thread() (mem.VA, error) {
	if s.Scope.Thread != 0 {
		return s.Scope.Thread, nil
	}
	p := s.Processor()
	switch {
	case p == nil:
		return 0, fmt.Errorf("processor %d: its control block was not found in the dump", s.CPU)
	case p.CurrentThread != 0:
		return p.CurrentThread, nil
	case p.Err != nil:
		return 0, fmt.Errorf("processor %d: %w", p.Number, p.Err)
	}
	return 0, fmt.Errorf("processor %d: its current thread is not in the dump", p.Number)
}

// Process gives the implicit process: that of .process, else the one whose
// address space the implicit thread runs in.
func (s *Session) Process() (mem.VA, error) {
	if s.Scope.Process != 0 {
		return s.Scope.Process, nil
	}
	t, err := s.Thread()
	if err != nil {
		return 0, err
	}
	return s.Kernel.Object("_KTHREAD", t).Field("ApcState.Process").Pointer()
}

// Reload loads the kernel of the target again, from the same container: after
// the symbol path changed, its types, symbols and modules are found anew. What
// commands kept for the session is dropped; the scope stays.
func (s *Session) Reload(ctx context.Context) error {
	if s.Kernel == nil {
		return errors.New("no dump is open")
	}
	k, err := model.Load(ctx, s.Kernel.Source)
	if err != nil {
		return err
	}
	s.Kernel, s.values = k, nil
	return nil
}

// maxCapture limits what Capture keeps, in bytes.
const maxCapture = 64 << 20

// Capture runs a line and gives the text that it prints, errors included,
// instead of showing it.
func (s *Session) Capture(ctx context.Context, line string) (string, error) {
	var b limited
	shown := s.Out
	s.Out = NewOutput(&b, shown.Printer.Era, false)
	s.Out.Printer.KDOnly = shown.Printer.KDOnly
	defer func() { s.Out = shown }()
	// The mark of an error that was shown would hide it: here nobody saw it.
	err := unshown(s.Execute(ctx, line))
	return b.String(), err
}

// limited is a buffer that takes maxCapture bytes.
type limited struct{ bytes.Buffer }

// Write implements io.Writer.
func (b *limited) Write(p []byte) (int, error) {
	if b.Len()+len(p) > maxCapture {
		return 0, fmt.Errorf("captured text: more than %d bytes", maxCapture)
	}
	return b.Buffer.Write(p)
}
