package code

import (
	"context"
	"slices"
	"strings"

	"gokd/commands/cmd"
	"gokd/commands/report"
)

// noCodeBytes is the option that leaves the bytes out.
const noCodeBytes = "no_code_bytes"

// asmOptions are the options of the documentation. Only the first changes
// anything here: lines have no width that would be kept, sources have no
// lines at hand, and verbose is for another machine.
var asmOptions = []string{noCodeBytes, "ignore_output_width", "source_line", "verbose"}

var assemblyOptions = &cmd.Command{
	Name: ".asm", Prefix: true, Group: cmd.GroupCode,
	Summary: "change how instructions are shown",
	Args: []cmd.Arg{{Name: "options", Kind: cmd.KindRest, Optional: true,
		Doc: "options to turn on; .asm- turns them off"}},
	Help: `Turns options on, or off with .asm-, and shows those that are on.

  no_code_bytes         the bytes of an instruction are not shown
  ignore_output_width   taken; lines are never cut
  source_line           taken; lines of sources are not shown
  verbose               taken; it is for processors that gokd does not know`,
	Example: ".asm no_code_bytes\nu nt L2\n.asm- no_code_bytes",
	SeeAlso: []string{"u"},
	Run:     runAsm,
}

func runAsm(_ context.Context, s *cmd.Session, in cmd.Args, out report.Sink) error {
	st := stateOf(s)
	text, off := strings.CutPrefix(in.Raw, "-")
	if off && strings.TrimSpace(text) == "" {
		return misuse("which option? one of %s", strings.Join(asmOptions, ", "))
	}
	words := strings.Fields(strings.ToLower(text))
	for _, w := range words {
		if !slices.Contains(asmOptions, w) {
			return misuse("%q: no such option; want %s", w, strings.Join(asmOptions, ", "))
		}
	}
	for _, w := range words {
		st.options[w] = !off
	}
	r := asmRecord{Options: []string{}}
	for _, o := range asmOptions {
		if st.options[o] {
			r.Options = append(r.Options, o)
		}
	}
	return out.Emit(r)
}

// asmRecord is the record "assembly_options".
type asmRecord struct {
	Options []string `json:"options"`
}

// Type names the record.
func (asmRecord) Type() string { return "assembly_options" }

// WriteText writes kd's line.
func (r asmRecord) WriteText(p *report.Printer) {
	if len(r.Options) == 0 {
		p.Printf("Assembly options: <none>\n")
		return
	}
	p.Printf("Assembly options: %s\n", strings.Join(r.Options, " "))
}
