package stack

import (
	"context"
	"encoding/binary"
	"fmt"

	"gokd/commands/cmd"
	"gokd/commands/report"
	"gokd/model"
	"gokd/model/mem"
)

var exceptionRecord = &cmd.Command{
	Name: ".exr", Group: cmd.GroupThread,
	Summary: "show an exception record",
	Args: []cmd.Arg{{
		Name: "Address", Kind: cmd.KindAddr,
		Doc: "an EXCEPTION_RECORD; -1: the one in the dump's header",
	}},
	Needs: cmd.NeedTarget,
	Help: `Shows code, address and parameters of the exception record at an address, and what
they mean for access violations, failed page-ins and fast failures. Memory that
can't be an exception record, with more than 15 parameters or no code, is refused.`,
	Example: ".exr -1",
	SeeAlso: []string{".ecxr", ".cxr", ".bugcheck"},
	Run:     runException,
}

// exception is an EXCEPTION_RECORD64 (winnt.h): ExceptionCode at 0,
// ExceptionFlags 4, ExceptionRecord 8, ExceptionAddress 10, NumberParameters 18,
// ExceptionInformation 20.
type exception struct {
	code, flags uint32
	chained     uint64
	address     uint64
	count       uint32
	info        [maxParameters]uint64
}

const (
	exceptionSize = 0x98
	maxParameters = 15 // EXCEPTION_MAXIMUM_PARAMETERS
)

// parseException reads a record; ok is false where the bytes are none.
func parseException(b []byte) (e exception, ok bool) {
	if len(b) < exceptionSize {
		return e, false
	}
	le := binary.LittleEndian
	e.code, e.flags = le.Uint32(b), le.Uint32(b[4:])
	e.chained, e.address, e.count = le.Uint64(b[8:]), le.Uint64(b[0x10:]), le.Uint32(b[0x18:])
	for i := range e.info {
		e.info[i] = le.Uint64(b[0x20+8*i:])
	}
	return e, e.code != 0 && e.count <= maxParameters
}

// errNoEvent is kd's sentence where the dump was made for no exception.
var errNoEvent = &kdError{text: "Last event was not an exception"}

func runException(ctx context.Context, s *cmd.Session, in cmd.Args, out report.Sink) error {
	at := in.Addr("Address")
	var e exception
	if at == ^mem.VA(0) {
		var ok bool
		if e, ok = parseException(s.Kernel.Source.Crash.Exception); !ok {
			return errNoEvent
		}
	} else {
		b := make([]byte, exceptionSize)
		n, err := s.ReadVirtual(b, at)
		if err != nil {
			return fmt.Errorf(".exr: exception record at %#x: %d bytes could be read: %w", uint64(at), n, err)
		}
		var ok bool
		if e, ok = parseException(b); !ok {
			return fmt.Errorf(".exr: %#x: no exception record: its code is %#x, its number of parameters %#x%s",
				uint64(at), e.code, e.count, butIs(ctx, s, at))
		}
	}
	return out.Emit(newException(ctx, s, &e))
}

// exceptionView is the record of an exception.
type exceptionView struct {
	Address    report.Addr   `json:"address"`
	Place      string        `json:"place"`
	Code       report.Addr   `json:"code"`
	Name       string        `json:"name"`
	Flags      report.Addr   `json:"flags"`
	Chained    *report.Addr  `json:"chained_record"`
	Parameters []report.Addr `json:"parameters"`
	Meaning    string        `json:"meaning,omitempty"`

	symbol string // as kd writes it behind the address
}

func newException(ctx context.Context, s *cmd.Session, e *exception) *exceptionView {
	v := &exceptionView{
		Address: report.Addr(e.address), Code: report.Addr(e.code), Flags: report.Addr(e.flags),
		Name: statusNames[e.code], Parameters: []report.Addr{}, Meaning: e.meaning(),
	}
	name := s.Kernel.NameOf(ctx, mem.VA(e.address))
	v.Place, v.symbol = name.String(), wideOffset(name)
	if e.chained != 0 {
		v.Chained = addr(mem.VA(e.chained))
	}
	for _, p := range e.info[:e.count] {
		v.Parameters = append(v.Parameters, report.Addr(p))
	}
	return v
}

// wideOffset spells a name with the 16 digits that kd gives the offset here.
func wideOffset(n model.Name) string {
	n = n.Plain()
	switch {
	case n.Module == nil:
		return ""
	case n.Offset == 0:
		return n.String()
	case n.Function == "":
		return fmt.Sprintf("%s+0x%016x", n.Module.Name, n.Offset)
	}
	return fmt.Sprintf("%s!%s+0x%016x", n.Module.Name, n.Function, n.Offset)
}

// Codes whose parameters have a meaning (EXCEPTION_RECORD in winnt.h's
// documentation; fast-fail codes of winnt.h).
const (
	statusAccess   = 0xc0000005
	statusInPage   = 0xc0000006
	statusFastFail = 0xc0000409
)

// meaning gives the sentence below the parameters; empty where there is none.
func (e *exception) meaning() string {
	switch {
	case e.code == statusAccess && e.count >= 2:
		at := report.Addr(e.info[1])
		switch e.info[0] {
		case 0:
			return fmt.Sprintf("Attempt to read from address %s", at)
		case 1:
			return fmt.Sprintf("Attempt to write to address %s", at)
		case 8:
			return fmt.Sprintf("Attempt to execute non-executable address %s", at)
		}
	case e.code == statusInPage && e.count >= 3:
		return fmt.Sprintf("Inpage operation failed at %s, due to I/O error %016x", report.Addr(e.info[1]), e.info[2])
	case e.code == statusFastFail && e.count >= 1:
		if name := fastFails[e.info[0]]; name != "" {
			return fmt.Sprintf("Subcode: %#x %s", e.info[0], name)
		}
		return fmt.Sprintf("Subcode: %#x (unknown subcode)", e.info[0])
	}
	return ""
}

// Type names the record.
func (*exceptionView) Type() string { return "exception" }

// WriteText writes the record as .exr does.
func (v *exceptionView) WriteText(p *report.Printer) {
	p.Printf("ExceptionAddress: %s", v.Address.String())
	if v.symbol != "" {
		p.Printf(" (%s)", v.symbol)
	}
	p.Printf("\n   ExceptionCode: %08x", uint64(v.Code))
	if v.Name != "" {
		p.Printf(" (%s)", v.Name)
	}
	p.Printf("\n  ExceptionFlags: %08x\n", uint64(v.Flags))
	if v.Chained != nil {
		p.Printf("  Chained Record: %s\n", v.Chained.String())
	}
	p.Printf("NumberParameters: %d\n", len(v.Parameters))
	for i, a := range v.Parameters {
		p.Printf("   Parameter[%d]: %s\n", i, a.String())
	}
	if v.Meaning != "" {
		p.Printf("%s\n", v.Meaning)
	}
}
