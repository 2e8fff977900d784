package symbol

import (
	"context"
	"strings"

	"gokd/commands/cmd"
	"gokd/commands/report"
	"gokd/commands/show"
)

var sourceLines = &cmd.Command{
	Name: ".lines", Group: cmd.GroupSymbols,
	Summary: "switch source lines on or off",
	Help: `Switches whether k, !thread, .frame, dps, u, uf and ln show where in the source code
comes from: " [file @ line]" behind the name, in uf the line before each
instruction. As in kd that is off at first. Without a switch it changes over.

Only private program databases know source lines; those that Microsoft publishes
do not, nor do export tables. The file's name is that on the machine that compiled
it; the file itself is not looked for.`,
	Example: ".lines -e\n.lines -d",
	SeeAlso: []string{"k", "ln", "u", "uf"},
	Args: []cmd.Arg{
		{Name: "enable", Switch: "-e", Kind: cmd.KindSwitch, Optional: true, Doc: "on"},
		{Name: "disable", Switch: "-d", Kind: cmd.KindSwitch, Optional: true, Doc: "off"},
		{Name: "toggle", Switch: "-t", Kind: cmd.KindSwitch, Optional: true, Doc: "the other way round, as without a switch"},
	},
	Run: runLines,
}

// lineSwitch is the record of .lines.
type lineSwitch struct {
	On bool `json:"on"`
	// Modules are those with symbols loaded that know source lines.
	Modules []string `json:"modules"`
}

// Type names the record.
func (*lineSwitch) Type() string { return "lines" }

// WriteText writes kd's line, and whose source lines there are.
func (r *lineSwitch) WriteText(p *report.Printer) {
	if !r.On {
		p.Printf("Line number information will not be loaded\n")
		return
	}
	p.Printf("Line number information will be loaded\n")
	if len(r.Modules) == 0 {
		p.Own("No symbols loaded so far know source lines: those of private PDBs do.\n")
		return
	}
	p.Own("Source lines are known of: %s\n", strings.Join(r.Modules, " "))
}

func runLines(_ context.Context, s *cmd.Session, in cmd.Args, out report.Sink) error {
	s.SourceLines = in.Has("enable") || !in.Has("disable") && !s.SourceLines
	r := &lineSwitch{On: s.SourceLines, Modules: []string{}}
	if s.Kernel != nil {
		for _, m := range s.Kernel.Modules.All {
			if symbols, asked := m.LoadedSymbols(); asked && symbols != nil && show.HasLines(symbols) {
				r.Modules = append(r.Modules, m.Name)
			}
		}
	}
	return out.Emit(r)
}
