package stack

import (
	"context"
	"fmt"

	"gokd/commands/cmd"
	"gokd/commands/report"
	"gokd/model"
	"gokd/model/mem"
	"gokd/model/unwind"
)

var contextRecordCommand = &cmd.Command{
	Name: ".cxr", Group: cmd.GroupThread,
	Summary: "show a context record and use its registers",
	Args: []cmd.Arg{
		{Name: "wow", Kind: cmd.KindSwitch, Switch: "/w", Optional: true, Doc: "accepted: contexts of 32-bit code are not read"},
		{Name: "Address", Kind: cmd.KindAddr, Optional: true, Doc: "a CONTEXT; none: back to the processor's own registers"},
	},
	Needs: cmd.NeedTarget,
	Help: `Shows the registers of the CONTEXT at an address, as bug checks of exceptions name
one, and lets r and k start from them. Memory whose flags say that it is no
CONTEXT of x64 is refused. .cxr alone goes back.`,
	Example: ".cxr",
	SeeAlso: []string{".ecxr", ".trap", ".exr", ".thread", "k", "r"},
	Run:     runContextRecord,
}

func runContextRecord(ctx context.Context, s *cmd.Session, in cmd.Args, out report.Sink) error {
	at := in.Addr("Address")
	if at == 0 {
		return reset(s, out)
	}
	if err := x64Only(s, ".cxr"); err != nil {
		return err
	}
	v, err := readContext(s, at)
	if err != nil {
		return fmt.Errorf(".cxr: %w%s", err, butIs(ctx, s, at))
	}
	return use(ctx, s, v, out)
}

// butIs tells, behind an error, what an address is instead.
func butIs(ctx context.Context, s *cmd.Session, at mem.VA) string {
	if what := whatIs(ctx, s, at); what != "" {
		return "; " + what
	}
	return ""
}

// readContext reads the CONTEXT at an address.
func readContext(s *cmd.Session, at mem.VA) (*view, error) {
	b := make([]byte, model.ContextSize)
	if n, err := s.ReadVirtual(b, at); err != nil {
		return nil, fmt.Errorf("context record at %#x: %d bytes could be read: %w", uint64(at), n, err)
	}
	v, err := parseContext(b)
	if err != nil {
		return nil, fmt.Errorf("context record at %#x: %w", uint64(at), err)
	}
	return v, nil
}

// use makes a view the scope's registers, and shows it.
func use(ctx context.Context, s *cmd.Session, v *view, out report.Sink) error {
	v.apply(s)
	r := contextRecord(ctx, s, v)
	r.note = v.set == setTrap
	return out.Emit(r)
}

var exceptionContext = &cmd.Command{
	Name: ".ecxr", Group: cmd.GroupThread,
	Summary: "show the registers of the exception that stopped the machine and use them",
	Needs:   cmd.NeedTarget,
	Help: `Shows the registers where the exception happened, and lets r and k start from
them: the context record that the bug check names, else the one in the dump's
header where that is the exception's. .cxr goes back. A dump whose bug check is no
exception has none.`,
	Example: ".bugcheck",
	SeeAlso: []string{".cxr", ".exr", ".bugcheck"},
	Run:     runExceptionContext,
}

// errNoException is kd's sentence where there is no exception context.
var errNoException = &kdError{text: "Unable to get exception context, HRESULT 0x8000FFFF"}

func runExceptionContext(ctx context.Context, s *cmd.Session, _ cmd.Args, out report.Sink) error {
	if err := x64Only(s, ".ecxr"); err != nil {
		return err
	}
	k := s.Kernel
	at, named := unwind.CrashContextAt(k)
	if named {
		v, err := readContext(s, at)
		if err == nil {
			if err := use(ctx, s, v, out); err != nil {
				return err
			}
			return out.Emit(report.Notef("(the context record at %s that the bugcheck names)", report.Addr(at)))
		}
	}
	e, ok := parseException(k.Source.Crash.Exception)
	v, err := parseContext(k.Source.Crash.Context)
	if !ok || err != nil || e.address != v.regs.RIP {
		return errNoException
	}
	if err := use(ctx, s, v, out); err != nil {
		return err
	}
	return out.Emit(report.Note("(the context record in the dump's header)"))
}
