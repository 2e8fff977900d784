package symbol

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"gokd/commands/cmd"
	"gokd/commands/report"
	"gokd/model"
	"gokd/model/process"
	"gokd/model/thread"
)

// forEachNote stands in the help of all three.
const forEachNote = `Several commands are separated by semicolons and stand in quotes together; inside
them no quotes are possible. A run that fails does not end the others. Names from
the dump stand for themselves only: characters that mean something in a command
are replaced by underscores.`

var forEachModule = &cmd.Command{
	Name: "!for_each_module", Group: cmd.GroupScript,
	Summary: "run commands for each loaded module",
	Help: `Runs commands once for each loaded module. In them these words are replaced, also
inside ${ }: @#ModuleName @#ImageName @#LoadedImageName @#MappedImageName
@#SymbolFileName and their lengths with a NUL, @#ModuleNameSize and so on; @#Base
@#End @#Size @#TimeDateStamp @#Checksum @#ModuleIndex @#SymbolType @#Flags
@#FileVersion @#ProductVersion. Without commands the modules are listed.

` + forEachNote,
	Example: "!for_each_module\n!for_each_module .echo @#ModuleName @#Base",
	SeeAlso: []string{"lm", "!for_each_process", "!for_each_thread"},
	Args:    []cmd.Arg{{Name: "commands", Kind: cmd.KindRest, Optional: true, Complete: cmd.CompleteCommand, Doc: "what to run"}},
	Needs:   cmd.NeedTarget,
	Run:     runForEachModule,
}

var forEachProcess = &cmd.Command{
	Name: "!for_each_process", Group: cmd.GroupScript,
	Summary: "run commands for each process",
	Help: `Runs commands once for each process; @#Process in them, also inside ${ }, is
replaced by its address. Without commands each is shown as by !process @#Process 0.

` + forEachNote,
	Example: "!for_each_process .echo @#Process",
	SeeAlso: []string{"!process", "!for_each_thread"},
	Args:    []cmd.Arg{{Name: "commands", Kind: cmd.KindRest, Optional: true, Complete: cmd.CompleteCommand, Doc: "what to run"}},
	Needs:   cmd.NeedKernel,
	Run:     runForEachProcess,
}

var forEachThread = &cmd.Command{
	Name: "!for_each_thread", Group: cmd.GroupScript,
	Summary: "run commands for each thread",
	Help: `Runs commands once for each thread of every process; @#Thread in them, also inside
${ }, is replaced by its address. Without commands each is shown as by
!thread @#Thread 0.

` + forEachNote,
	Example: "!for_each_thread .echo @#Thread",
	SeeAlso: []string{"!thread", "!for_each_process"},
	Args:    []cmd.Arg{{Name: "commands", Kind: cmd.KindRest, Optional: true, Complete: cmd.CompleteCommand, Doc: "what to run"}},
	Needs:   cmd.NeedKernel,
	Run:     runForEachThread,
}

// commandString takes the quotes off commands that stand in them as a whole.
func commandString(raw string) string {
	raw = strings.TrimSpace(raw)
	if len(raw) >= 2 && raw[0] == '"' && raw[len(raw)-1] == '"' {
		return strings.ReplaceAll(raw[1:len(raw)-1], `\"`, `"`)
	}
	return raw
}

// placeholder is a word that is replaced in commands, "@#Base".
type placeholder struct{ name, text string }

// fill replaces placeholders, longest names first: @#ModuleName begins
// @#ModuleNameSize.
func fill(commands string, words []placeholder) string {
	words = slices.Clone(words)
	slices.SortStableFunc(words, func(a, b placeholder) int { return len(b.name) - len(a.name) })
	pairs := make([]string, 0, 4*len(words))
	for _, w := range words {
		pairs = append(pairs, "${"+w.name+"}", w.text)
	}
	for _, w := range words {
		pairs = append(pairs, w.name, w.text)
	}
	return strings.NewReplacer(pairs...).Replace(commands)
}

// tame makes a text from a dump harmless inside a command: it can't end it,
// quote, open a block or name an alias.
func tame(text string) string {
	return strings.Map(func(r rune) rune {
		switch {
		case r >= 'a' && r <= 'z', r >= 'A' && r <= 'Z', r >= '0' && r <= '9':
			return r
		case strings.ContainsRune(`\/.:_-+()[] ~,`, r):
			return r
		}
		return '_'
	}, text)
}

// symbolTypes are the values of DEBUG_SYMTYPE_* (public header dbgeng.h).
func symbolType(m *model.Module) int {
	s, asked := m.LoadedSymbols()
	switch {
	case !asked:
		return 5 // deferred
	case s == nil:
		return 0
	case s.Describe() == "export":
		return 4
	}
	return 3 // PDB, as which other tables count too
}

// moduleWords gives the placeholders of a module.
func moduleWords(ctx context.Context, s *cmd.Session, m *model.Module, n int) []placeholder {
	r := moduleOf(m)
	r.describe(ctx, s, m)
	var stamp uint32
	if r.Timestamp != nil {
		stamp = *r.Timestamp
	}
	loaded := r.Image
	if r.Symbols == "deferred" {
		loaded = ""
	}
	symbolFile := r.File
	if symbolFile == "" {
		symbolFile = loaded
	}
	var file, product string
	if r.Version != nil && r.Version.v != nil {
		file, product = r.Version.v.get("FileVersion"), r.Version.v.get("ProductVersion")
	}
	words := []placeholder{
		{"@#FileVersion", tame(file)}, {"@#ProductVersion", tame(product)}, {"@#ModuleIndex", fmt.Sprintf("%02x", n)},
		{"@#Base", r.Start.String()}, {"@#End", r.End.String()}, {"@#Size", fmt.Sprintf("%x", m.Size)},
		{"@#TimeDateStamp", fmt.Sprintf("%x", stamp)}, {"@#Checksum", fmt.Sprintf("%x", m.CheckSum)},
		{"@#SymbolType", fmt.Sprintf("%x", symbolType(m))}, {"@#Flags", "0"},
	}
	for _, t := range []placeholder{
		{"@#ModuleName", r.Name}, {"@#ImageName", r.Image}, {"@#LoadedImageName", loaded},
		{"@#MappedImageName", r.ImageFile}, {"@#SymbolFileName", symbolFile},
	} {
		words = append(words, placeholder{t.name, tame(t.text)}, placeholder{t.name + "Size", fmt.Sprintf("%x", len(t.text)+1)})
	}
	return words
}

// moduleLine is a line of !for_each_module without commands.
type moduleLine struct {
	*module
	Index int `json:"index"`
}

// WriteText writes the line as kd does.
func (r *moduleLine) WriteText(p *report.Printer) {
	loaded := r.Image
	if r.Symbols == "deferred" {
		loaded = ""
	}
	p.Printf("%02x: %s  %s %16s %-45s %20s\n", r.Index, r.Start, r.End, r.Name, r.Path, loaded)
}

func runForEachModule(ctx context.Context, s *cmd.Session, in cmd.Args, out report.Sink) error {
	mods := slices.Clone(s.Kernel.Modules.All)
	slices.SortStableFunc(mods, func(a, b *model.Module) int {
		switch {
		case a.Base < b.Base:
			return -1
		case a.Base > b.Base:
			return 1
		}
		return 0
	})
	commands := commandString(in.Raw)
	runs := &repeated{s: s}
	for n, m := range mods {
		if commands == "" {
			if err := out.Emit(&moduleLine{moduleOf(m), n}); err != nil {
				return err
			}
			continue
		}
		if err := runs.run(ctx, fill(commands, moduleWords(ctx, s, m, n))); err != nil || s.Quit {
			return err
		}
	}
	if err := s.Kernel.Modules.Err; err != nil {
		if err := out.Emit(moduleGap{Text: err.Error()}); err != nil {
			return err
		}
	}
	return runs.end(out)
}

func runForEachProcess(ctx context.Context, s *cmd.Session, in cmd.Args, out report.Sink) error {
	commands := commandString(in.Raw)
	if commands == "" {
		commands = "!process @#Process 0"
	}
	runs := &repeated{s: s}
	for p, err := range process.All(ctx, s.Kernel) {
		if err != nil {
			return emitAll(out, report.Notef("%v", err))
		}
		words := []placeholder{{"@#Process", "0x" + report.Addr(p.Address).String()}}
		if err := runs.run(ctx, fill(commands, words)); err != nil || s.Quit {
			return err
		}
	}
	return runs.end(out)
}

func runForEachThread(ctx context.Context, s *cmd.Session, in cmd.Args, out report.Sink) error {
	commands := commandString(in.Raw)
	if commands == "" {
		commands = "!thread @#Thread 0"
	}
	runs := &repeated{s: s}
	for p, err := range process.All(ctx, s.Kernel) {
		if err != nil {
			return emitAll(out, report.Notef("%v", err))
		}
		for at, err := range thread.OfProcess(ctx, s.Kernel, p.Address) {
			if err != nil {
				if err := out.Emit(report.Notef("process %s: %v", report.Addr(p.Address), err)); err != nil {
					return err
				}
				continue
			}
			words := []placeholder{
				{"@#Thread", "0x" + report.Addr(at).String()}, {"@#Process", "0x" + report.Addr(p.Address).String()},
			}
			if err := runs.run(ctx, fill(commands, words)); err != nil || s.Quit {
				return err
			}
		}
	}
	return runs.end(out)
}
