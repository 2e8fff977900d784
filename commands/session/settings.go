package session

import (
	"context"
	"fmt"

	"gokd/commands/cmd"
	"gokd/commands/report"
)

var kdonly = &cmd.Command{
	Name: ".kdonly", Group: cmd.GroupSession,
	Summary: "print only what kd would print",
	Help: `.kdonly 1 leaves out the lines that gokd adds to kd's answers, .kdonly 0 brings
them back, .kdonly alone tells which it is.`,
	Example: ".kdonly 1\n.kdonly 0",
	SeeAlso: []string{".compat"},
	Args: []cmd.Arg{{
		Name: "on", Kind: cmd.KindCount, Optional: true, Doc: "1 or 0",
	}},
	Run: func(_ context.Context, s *cmd.Session, in cmd.Args, out report.Sink) error {
		if in.Has("on") {
			if in.Uint("on", 0) > 1 {
				return cmd.Misuse(fmt.Errorf("want 0 or 1"))
			}
			s.Out.Printer.KDOnly = in.Uint("on", 0) == 1
		}
		state := "off"
		if s.Out.Printer.KDOnly {
			state = "on"
		}
		return out.Emit(setting{"kdonly", state, "kd's own lines only: " + state})
	},
}

var compat = &cmd.Command{
	Name: ".compat", Group: cmd.GroupSession,
	Summary: "choose whose layout is printed",
	Help: `The layout of answers changed over the years. .compat takes the version of the
debugger to print like: 6.2 (training material of the 2010s), 10.0.19041 (the
default) or 10.0.26100. Alone it tells which is set. What is said never depends
on it.`,
	Example: ".compat 6.2\n.compat 10.0.19041",
	SeeAlso: []string{".kdonly"},
	Args: []cmd.Arg{{
		Name: "era", Kind: cmd.KindWord, Optional: true, Doc: "6.2, 10.0.19041 or 10.0.26100",
	}},
	Run: func(_ context.Context, s *cmd.Session, in cmd.Args, out report.Sink) error {
		if in.Has("era") {
			era, err := report.ParseEra(in.Text("era"))
			if err != nil {
				return cmd.Misuse(err)
			}
			s.Out.Printer.Era = era
		}
		era := s.Out.Printer.Era.String()
		return out.Emit(setting{"compat", era, "layout of debugger " + era})
	},
}

// setting is a setting of the session and its value.
type setting struct {
	Name  string `json:"name"`
	Value string `json:"value"`
	text  string
}

// Type names the record.
func (setting) Type() string { return "setting" }

// WriteText writes a line.
func (s setting) WriteText(p *report.Printer) { p.Printf("%s\n", s.text) }

var version = &cmd.Command{
	Name: "version", Group: cmd.GroupSession,
	Summary: "show the versions of the target and of gokd",
	Help:    `Shows what vertarget shows, where a dump is open, and the version of gokd.`,
	Example: "version",
	SeeAlso: []string{"vertarget"},
	Run: func(_ context.Context, s *cmd.Session, _ cmd.Args, out report.Sink) error {
		if s.Kernel != nil {
			if err := out.Emit(NewTarget(s.Kernel, s.Location)); err != nil {
				return err
			}
		}
		return out.Emit(setting{"version", s.Version, "gokd version " + s.Version})
	},
}

var quit = &cmd.Command{
	Name: "q", Aliases: []string{"qq", "qd"}, Group: cmd.GroupSession, NoEnd: true,
	Summary: "end the session",
	Help:    `Ends the session. End of input (Ctrl-D on an empty line) does the same.`,
	SeeAlso: []string{".logclose"},
	Run: func(_ context.Context, s *cmd.Session, _ cmd.Args, _ report.Sink) error {
		s.Quit = true
		return nil
	},
}
