// Package symload is the group of commands about where symbols come from: the
// symbol path, its servers, and the cache.
package symload

import (
	"fmt"
	"strings"

	"gokd/commands/cmd"
	"gokd/commands/report"
	"gokd/model"
	"gokd/model/types/sympath"
)

// Commands lists the group's commands in the order of the manual.
func Commands() []*cmd.Command {
	return []*cmd.Command{sympathCommand, symfix, exepath, reload, ld, symopt, sym, symsrv, symcache}
}

// errNoPath says that the session looks for symbols nowhere.
var errNoPath = fmt.Errorf("%w: this session has no symbol path", cmd.ErrNeed)

// symbolPath gives the session's symbol path.
func symbolPath(s *cmd.Session) (*sympath.Path, error) {
	if s.Symbols == nil {
		return nil, errNoPath
	}
	return s.Symbols, nil
}

// plus cuts the sign off an argument that follows a command's name: ".sympath+".
func plus(raw string) (rest string, add bool) {
	if rest, add = strings.CutPrefix(raw, "+"); add {
		return strings.TrimSpace(rest), true
	}
	return raw, false
}

// pathRecord is a symbol path or an image path.
type pathRecord struct {
	Kind         string        `json:"kind"` // "symbols" or "images"
	Path         string        `json:"path"`
	Expanded     string        `json:"expanded"`
	DefaultStore *string       `json:"default_store"`
	Elements     []pathElement `json:"elements"`

	silent bool // only what is odd is shown
}

// pathElement is a part of a path.
type pathElement struct {
	Text   string   `json:"text"`
	Kind   string   `json:"kind"` // folder, server, cache, unusable
	Stores []string `json:"stores"`
	Remote bool     `json:"remote"`
	Note   *string  `json:"note"`
}

// Type names the record.
func (*pathRecord) Type() string { return "symbol_path" }

// WriteText writes kd's two lines, the validation that newer debuggers add, and
// what is odd.
func (r *pathRecord) WriteText(p *report.Printer) {
	if !r.silent {
		what := "Symbol search path is"
		if r.Kind == "images" {
			what = "Executable image search path is"
		}
		p.Printf("%s: %s\nExpanded %s: %s\n", report.Text(what), orEmpty(r.Path), report.Text(what), orEmpty(r.Expanded))
		if p.Era == report.Era26100 && len(r.Elements) > 0 {
			r.writeValidation(p)
		}
	}
	for _, e := range r.Elements {
		if e.Note != nil {
			p.Own("%s: %s\n", e.Text, *e.Note)
		}
	}
}

func orEmpty(path string) string {
	if path == "" {
		return "<empty>"
	}
	return path
}

func (r *pathRecord) writeValidation(p *report.Printer) {
	p.Printf("\n************* Path validation summary **************\n")
	p.Printf("%-33s%-14s%s\n", "Response", "Time (ms)", "Location")
	for _, e := range r.Elements {
		state := "OK"
		switch {
		case e.Kind == sympath.ElementUnusable.String(), e.Kind == sympath.ElementFolder.String() && e.Note != nil:
			state = "Error"
		case e.Kind != sympath.ElementFolder.String():
			state = "Deferred"
		}
		p.Printf("%-47s%s\n", state, e.Text)
	}
}

// elements makes the records of a path's parts.
func elements(list []sympath.Element) []pathElement {
	out := make([]pathElement, len(list))
	for i, e := range list {
		out[i] = pathElement{Text: e.Text, Kind: e.Kind.String(), Stores: e.Stores, Remote: e.Remote()}
		if out[i].Stores == nil {
			out[i].Stores = []string{}
		}
		if e.Note != "" {
			out[i].Note = &list[i].Note
		}
	}
	return out
}

// changed has the target forget what an old path gave: notes on its parts, and
// symbols that were only a substitute. As in kd, those from a file stay until
// .reload.
func changed(s *cmd.Session) {
	if s.Kernel == nil {
		return
	}
	notes := s.Kernel.Source.Warnings[:0:0]
	for _, w := range s.Kernel.Source.Warnings {
		if !strings.HasPrefix(w, "symbol path: ") && !strings.HasPrefix(w, "image path: ") {
			notes = append(notes, w)
		}
	}
	if s.Symbols != nil {
		for _, n := range s.Symbols.Notes() {
			notes = append(notes, "symbol path: "+n)
		}
	}
	if s.Images != nil {
		for _, n := range s.Images.Notes() {
			notes = append(notes, "image path: "+n)
		}
	}
	s.Kernel.Source.Warnings = notes
	for _, m := range s.Kernel.Modules.All {
		if syms, asked := m.LoadedSymbols(); asked && (syms == nil || substitute(m)) {
			m.ForgetSymbols()
		}
	}
}

// substitute reports whether a module's symbols do not come from a symbol file.
func substitute(m *model.Module) bool {
	syms, _ := m.LoadedSymbols()
	if syms == nil {
		return true
	}
	switch syms.Describe() {
	case "export", "embedded":
		return true
	}
	return false
}

// errMisused gives a wrong argument as kd's grammar has it.
func errMisused(format string, args ...any) error {
	return cmd.Misuse(fmt.Errorf(format, args...))
}
