package session

import (
	"context"
	"fmt"
	"strings"

	"gokd/commands/cmd"
	"gokd/commands/report"
)

var radix = &cmd.Command{
	Name: "n", Group: cmd.GroupSession,
	Summary: "set the base of numbers",
	Help: `Sets the base in which numbers without a prefix are read: 8, 10 or 16, which is
the one at first. Alone it shows the base. Numbers of C++ expressions, of counts
and with 0x, 0n, 0t or 0y are read as always.`,
	Example: "n\nn 10\n? 10\nn 16",
	SeeAlso: []string{"?", ".formats"},
	Args:    []cmd.Arg{{Name: "base", Kind: cmd.KindWord, Optional: true, Doc: "8, 10 or 16"}},
	Run: func(_ context.Context, s *cmd.Session, in cmd.Args, out report.Sink) error {
		if in.Has("base") {
			base, ok := map[string]int{"8": 8, "10": 10, "16": 16, "0n10": 10, "0n16": 16, "0x10": 16, "0xa": 10}[strings.ToLower(in.Text("base"))]
			if !ok {
				return cmd.Misuse(fmt.Errorf("a base of %q: want 8, 10 or 16", in.Text("base")))
			}
			s.Vars.Radix = base
		}
		base := s.Vars.Radix
		if base == 0 {
			base = 16
		}
		return out.Emit(setting{"radix", fmt.Sprint(base), fmt.Sprintf("base is %d", base)})
	},
}

// The names of the evaluators, as kd spells them.
const (
	masmName = "MASM - Microsoft Assembler expressions"
	cppName  = "C++ - C++ source expressions"
)

var evaluator = &cmd.Command{
	Name: ".expr", Group: cmd.GroupSession,
	Summary: "choose how expressions are read",
	Help: `.expr /s c++ makes C++ the syntax of all expressions but those in @@masm( ),
.expr /s masm makes it MASM again, as it is at first. Alone it tells which one it
is; /q lists both. ?? always takes C++.`,
	Example: ".expr\n.expr /s c++\n? sizeof(int)\n.expr /s masm",
	SeeAlso: []string{"?", "??"},
	Args: []cmd.Arg{
		{Name: "name", Switch: "/s", Kind: cmd.KindWord, Optional: true, Doc: "masm or c++"},
		{Name: "list", Switch: "/q", Kind: cmd.KindSwitch, Optional: true, Doc: "list the evaluators"},
	},
	Run: func(_ context.Context, s *cmd.Session, in cmd.Args, out report.Sink) error {
		if in.Has("name") {
			switch strings.ToLower(in.Text("name")) {
			case "masm":
				s.Vars.CPP = false
			case "c++":
				s.Vars.CPP = true
			default:
				return cmd.Misuse(fmt.Errorf("no evaluator is named %q: want masm or c++", in.Text("name")))
			}
		}
		if in.Has("list") {
			if err := out.Emit(report.Textf("Available expression evaluators:\n%s\n%s\n", masmName, cppName)); err != nil {
				return err
			}
		}
		name, long := "masm", masmName
		if s.Vars.CPP {
			name, long = "c++", cppName
		}
		return out.Emit(setting{"evaluator", name, "Current expression evaluator: " + long})
	},
}
