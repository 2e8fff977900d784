package symload

import (
	"context"
	"fmt"
	"strings"

	"gokd/commands/cmd"
	"gokd/commands/report"
	"gokd/model/types/sympath"
)

// symopts are the symbol options with their bits (SYMOPT_... of the public
// dbghelp.h). honoured: they change what gokd does.
var symopts = []struct {
	bit      uint32
	name     string
	honoured bool
}{
	{0x1, "CASE_INSENSITIVE", false},
	{0x2, "UNDNAME", false},
	{0x4, "DEFERRED_LOADS", false},
	{0x8, "NO_CPP", false},
	{0x10, "LOAD_LINES", false},
	{0x20, "OMAP_FIND_NEAREST", false},
	{0x40, "LOAD_ANYTHING", true},
	{0x80, "IGNORE_CVREC", false},
	{0x100, "NO_UNQUALIFIED_LOADS", false},
	{0x200, "FAIL_CRITICAL_ERRORS", false},
	{0x400, "EXACT_SYMBOLS", false},
	{0x800, "ALLOW_ABSOLUTE_SYMBOLS", false},
	{0x1000, "IGNORE_NT_SYMPATH", false},
	{0x2000, "INCLUDE_32BIT_MODULES", false},
	{0x4000, "PUBLICS_ONLY", false},
	{0x8000, "NO_PUBLICS", false},
	{0x10000, "AUTO_PUBLICS", false},
	{0x20000, "NO_IMAGE_SEARCH", false},
	{0x40000, "SECURE", false},
	{0x80000, "NO_PROMPTS", true},
	{0x100000, "OVERWRITE", true},
	{0x200000, "IGNORE_IMAGEDIR", false},
	{0x400000, "FLAT_DIRECTORY", true},
	{0x800000, "FAVOR_COMPRESSED", true},
	{0x1000000, "ALLOW_ZERO_ADDRESS", false},
	{0x2000000, "DISABLE_SYMSRV_AUTODETECT", true},
	{0x4000000, "READONLY_CACHE", false},
	{0x8000000, "SYMPATH_LAST", false},
	{0x10000000, "DISABLE_FAST_SYMBOLS", false},
	{0x20000000, "DISABLE_SYMSRV_TIMEOUT", false},
	{0x40000000, "DISABLE_SRVSTAR_ON_STARTUP", false},
	{0x80000000, "DEBUG", true},
}

// noPrompts is SYMOPT_NO_PROMPTS; gokd never asks for a name and password.
const noPrompts sympath.Flags = 0x80000

// symbolOptions is the record of the options.
type symbolOptions struct {
	Options report.Addr `json:"options"`
	Names   []string    `json:"names"`
	Unused  []string    `json:"without_effect"`
}

// Type names the record.
func (*symbolOptions) Type() string { return "symbol_options" }

// WriteText lists the options that are set, as kd does.
func (o *symbolOptions) WriteText(p *report.Printer) {
	p.Printf("Symbol options are 0x%x:\n", uint64(o.Options))
	for _, s := range symopts {
		if uint32(o.Options)&s.bit != 0 {
			p.Printf("  0x%08x - SYMOPT_%s\n", s.bit, s.name)
		}
	}
}

func optionsOf(f sympath.Flags) *symbolOptions {
	o := &symbolOptions{Options: report.Addr(f), Names: []string{}, Unused: []string{}}
	for _, s := range symopts {
		if uint32(f)&s.bit != 0 {
			o.Names = append(o.Names, "SYMOPT_"+s.name)
			if !s.honoured {
				o.Unused = append(o.Unused, "SYMOPT_"+s.name)
			}
		}
	}
	return o
}

var symopt = &cmd.Command{
	Name: ".symopt", Prefix: true, Group: cmd.GroupSymbols,
	Summary: "show or change the symbol options",
	Help: `Shows the symbol options; .symopt+FLAGS sets some, .symopt-FLAGS clears some.
All of kd's are kept. These change what gokd does:

  0x40        LOAD_ANYTHING: a PDB of the right name is taken whatever its GUID
              and age, where the path has none that matches
  0x100000    OVERWRITE: servers are asked for files that a store has already
  0x400000    FLAT_DIRECTORY: folders are not searched below
  0x800000    FAVOR_COMPRESSED: servers are asked for packed files first
  0x2000000   DISABLE_SYMSRV_AUTODETECT: plain folders are not taken for stores
  0x80000000  DEBUG: noisy, as !sym noisy

gokd always does what CASE_INSENSITIVE, UNDNAME, DEFERRED_LOADS and AUTO_PUBLICS
stand for.`,
	Example: ".symopt\n.symopt+0x40\n.symopt-0x40",
	SeeAlso: []string{"!sym", ".reload"},
	Args: []cmd.Arg{{
		Name: "flags", Kind: cmd.KindRest, Optional: true, Doc: "+FLAGS sets, -FLAGS clears",
	}},
	Run: func(ctx context.Context, s *cmd.Session, in cmd.Args, out report.Sink) error {
		p, err := symbolPath(s)
		if err != nil {
			return err
		}
		if in.Raw != "" {
			if err := changeOptions(ctx, s, p, in.Raw); err != nil {
				return cmd.Misuse(err)
			}
		}
		return out.Emit(optionsOf(p.Flags()))
	},
}

// changeOptions sets or clears options; without a sign it sets them, as kd does.
func changeOptions(ctx context.Context, s *cmd.Session, p *sympath.Path, text string) error {
	text, clear := strings.CutPrefix(text, "-")
	text, _ = plus(text)
	if s.Eval == nil {
		return fmt.Errorf("no evaluator for %q", text)
	}
	v, err := s.Eval.Eval(ctx, strings.TrimSpace(text))
	if err != nil {
		return err
	}
	if v > 1<<32-1 {
		return fmt.Errorf("%#x: options have 32 bits", v)
	}
	flags := p.Flags() | sympath.Flags(v)
	if clear {
		flags = p.Flags() &^ sympath.Flags(v)
	}
	setFlags(s, p, flags)
	return nil
}

// setFlags changes the options. What was not found is looked for anew where they
// let more be found.
func setFlags(s *cmd.Session, p *sympath.Path, flags sympath.Flags) {
	const finding = sympath.LoadAnything | sympath.Overwrite | sympath.FlatDirectory | sympath.NoAutodetect
	old := p.Flags()
	p.SetFlags(flags)
	if (old^flags)&finding != 0 {
		p.Forget("")
		changed(s)
	}
}

// symState is the record of !sym.
type symState struct {
	Noisy   bool `json:"noisy"`
	Prompts bool `json:"prompts"`
	usage   bool
}

// Type names the record.
func (*symState) Type() string { return "symbol_mode" }

// WriteText writes kd's line.
func (r *symState) WriteText(p *report.Printer) {
	mode, prompts := "quiet", "off"
	if r.Noisy {
		mode = "noisy"
	}
	if r.Prompts {
		prompts = "on"
	}
	if r.usage {
		p.Printf("!sym <noisy/quiet - prompts/prompts off> - ")
	}
	p.Printf("%s mode - symbol prompts %s\n", mode, prompts)
}

var sym = &cmd.Command{
	Name: "!sym", Group: cmd.GroupSymbols,
	Summary: "tell, or tell no more, how symbols are looked for",
	Help: `!sym noisy shows which files and addresses are tried whenever symbols or images
are looked for, and why a file was not used; !sym quiet ends that. Alone it shows
which is on. Prompts are kept for scripts: gokd never asks for a name and a
password.`,
	Example: "!sym noisy\n!sym quiet\n!sym",
	SeeAlso: []string{".reload", ".sympath"},
	Args: []cmd.Arg{
		{Name: "mode", Kind: cmd.KindWord, Optional: true, Doc: "noisy, quiet or prompts"},
		{Name: "off", Kind: cmd.KindWord, Optional: true, Doc: "off: no prompts"},
	},
	Run: func(_ context.Context, s *cmd.Session, in cmd.Args, out report.Sink) error {
		p, err := symbolPath(s)
		if err != nil {
			return err
		}
		flags := p.Flags()
		switch mode, off := strings.ToLower(in.Text("mode")), strings.ToLower(in.Text("off")); {
		case mode == "" && off == "":
		case mode == "noisy" && off == "":
			flags |= sympath.Debug
		case mode == "quiet" && off == "":
			flags &^= sympath.Debug
		case mode == "prompts" && (off == "" || off == "on"):
			flags &^= noPrompts
		case mode == "prompts" && off == "off":
			flags |= noPrompts
		default:
			return errMisused("want noisy, quiet, prompts or prompts off")
		}
		p.SetFlags(flags)
		return out.Emit(&symState{flags&sympath.Debug != 0, flags&noPrompts == 0, !in.Has("mode")})
	},
}

var symsrv = &cmd.Command{
	Name: "!symsrv", Group: cmd.GroupSymbols,
	Summary: "close the connections to symbol servers",
	Help: `!symsrv close ends the connections to symbol servers; the next file opens new
ones, also to servers that could not be reached before.`,
	Example: "!symsrv close",
	SeeAlso: []string{".reload"},
	Args:    []cmd.Arg{{Name: "what", Kind: cmd.KindWord, Doc: "close"}},
	Run: func(_ context.Context, s *cmd.Session, in cmd.Args, out report.Sink) error {
		p, err := symbolPath(s)
		if err != nil {
			return err
		}
		if !strings.EqualFold(in.Text("what"), "close") {
			return errMisused("want close")
		}
		p.Disconnect()
		return out.Emit(report.Note("The connections to symbol servers are closed."))
	},
}
