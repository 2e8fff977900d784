package stack

import (
	"errors"
	"fmt"

	"gokd/commands/cmd"
	"gokd/model"
	"gokd/model/mem"
)

// view is the x64 registers that commands show, and what is known of them.
type view struct {
	regs       model.Registers
	known      uint16 // bit i: regs.GPR[i] is known
	noSegments bool   // no segment registers but cs and ss, as in a trap frame
	noFlags    bool   // efl, cs and ss were not saved: a thread that was switched out
	called     bool   // rip is a return address
	// marks tells to show question marks for what is not known. kd shows zeros
	// in the contexts of threads and trap frames, and says so of the latter.
	marks bool
	set   string // the command that set it; empty for the processor's own
	raw   []byte // the CONTEXT behind it; nil where there is none
}

// scopeView gives the registers of the session's scope.
func scopeView(s *cmd.Session) (*view, error) {
	r, err := s.Registers()
	if err != nil {
		return nil, err
	}
	v := &view{regs: *r, known: allKnown}
	if c := &s.Scope; c.Registers != nil {
		v.set, v.noSegments, v.raw = c.Set, c.NoSegments, c.Raw
		v.called, v.marks = c.Called, c.Set == setFrame
		// A switch frame holds none; saved ones are never 0, since bit 1 is always set.
		v.noFlags = r.EFlags == 0
		v.known = c.Known
		return v, nil
	}
	v.raw = processorContext(s)
	return v, nil
}

const allKnown = 1<<16 - 1

// processorContext reads the whole CONTEXT that the current processor's
// registers are from; nil where it is not in the dump.
func processorContext(s *cmd.Session) []byte {
	k, p := s.Kernel, s.Processor()
	crash := k.Source.Crash.Context
	if p == nil || p.Context == nil || p.PRCB == 0 {
		return crash
	}
	o := k.Object("_KPRCB", p.PRCB)
	var places []mem.VA
	if at, err := o.Field("Context").Pointer(); err == nil && at != 0 {
		places = append(places, at)
	}
	if f := o.Field("ProcessorState.ContextFrame"); f.Err() == nil {
		places = append(places, f.Addr())
	}
	for _, at := range places {
		b, err := k.Space.Bytes(at, model.ContextSize)
		if err != nil {
			continue
		}
		if r, ok := model.ParseContext(b); ok && r == *p.Context {
			return b
		}
	}
	if r, ok := model.ParseContext(crash); ok && r == *p.Context {
		return crash
	}
	return nil
}

// Parts of a CONTEXT by its flags (winnt.h: CONTEXT_CONTROL, CONTEXT_INTEGER,
// CONTEXT_SEGMENTS, CONTEXT_FLOATING_POINT, CONTEXT_DEBUG_REGISTERS).
const (
	contextAMD64    = 0x100000
	contextControl  = 0x1
	contextInteger  = 0x2
	contextSegments = 0x4
	contextFloat    = 0x8
	contextDebug    = 0x10
	// contextBits are all flags that were ever defined for x64: those of parts,
	// and those of the state in which the thread was.
	contextBits = contextAMD64 | 0xff | 0xf8000000
)

// errNoRegisters is the class of errors about memory that is no CONTEXT.
var errNoRegisters = errors.New("no context record")

// parseContext reads a CONTEXT that somebody names. Other than where the kernel
// saved it, an instruction pointer of 0 is fine: a call through a null pointer
// ends there.
func parseContext(b []byte) (*view, error) {
	if len(b) < model.ContextSize {
		return nil, fmt.Errorf("%w: %d bytes of %d", errNoRegisters, len(b), model.ContextSize)
	}
	r, _ := model.ParseContext(b)
	switch {
	case r.Flags&contextAMD64 == 0 || r.Flags&^contextBits != 0:
		return nil, fmt.Errorf("%w: its ContextFlags are %#x, not those of x64", errNoRegisters, r.Flags)
	case r.Flags&contextControl == 0:
		return nil, fmt.Errorf("%w of use: its ContextFlags %#x say that rip and rsp were not saved", errNoRegisters, r.Flags)
	}
	v := &view{regs: r, known: 1 << model.RSP, set: setContext, raw: b[:model.ContextSize:model.ContextSize]}
	if r.Flags&contextInteger != 0 {
		v.known = allKnown
	}
	return v, nil
}

// apply makes a view the scope's registers. The implicit process stays, and the
// thread, so that k knows whose stack it walks.
func (v *view) apply(s *cmd.Session) {
	c := &s.Scope
	c.Registers, c.Known, c.Set, c.Frame = &v.regs, v.known, v.set, 0
	c.Called, c.NoSegments, c.Raw = v.called, v.noSegments, v.raw
}
