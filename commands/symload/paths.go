package symload

import (
	"context"
	"slices"
	"strings"

	"gokd/commands/cmd"
	"gokd/commands/report"
	"gokd/model/types/sympath"
)

var sympathCommand = &cmd.Command{
	Name: ".sympath", Prefix: true, Line: true, Group: cmd.GroupSymbols,
	Summary: "show or set the symbol path",
	Help: `Alone it shows the path, and what its parts stand for. With a path it replaces
the old one, .sympath+ appends to it. Parts are separated by semicolons, so the
command takes the whole line; they are asked from left to right.

  FOLDER            PDBs in it, in its folders sys, exe, dll, symbols\sys and so
                    on, kept as a symbol store does, and Volatility's ISF tables
  srv*STORE*URL     a symbol server; what it has is kept in the store, of which
                    there may be several. srv*URL keeps it in the default store
  srv*STORE         a store of others, on a disk or share
  srv*              Microsoft's public server, with the default store
  cache*FOLDER      keeps what parts to its right have

A server is asked only where the path names one, over https, or over http where
that is written. A file is used only if its GUID and age are the image's;
.symopt+0x40 takes others where there is nothing better. New symbols are loaded
by .reload, or when they are needed next.`,
	Example: ".sympath\n.sympath+ cache*",
	SeeAlso: []string{".symfix", ".reload", "!sym", ".exepath"},
	Args: []cmd.Arg{{
		Name: "path", Kind: cmd.KindRest, Optional: true, Complete: cmd.CompleteFile, Doc: "parts separated by semicolons; + before it appends",
	}},
	Run: func(ctx context.Context, s *cmd.Session, in cmd.Args, out report.Sink) error {
		p, err := symbolPath(s)
		if err != nil {
			return err
		}
		path, add, after := cutPath(in.Raw)
		switch {
		case path == "":
		case add:
			p.Add(path)
		default:
			p.Set(path)
		}
		if path != "" {
			changed(s)
		}
		if err := out.Emit(symbolPathRecord(s)); err != nil {
			return err
		}
		if err := swallowed(s, s.Symbols.Elements(), path, out); err != nil {
			return err
		}
		return s.Execute(ctx, after)
	},
}

// swallowed warns of a command that became a part of the path, since the line is
// taken whole.
func swallowed(s *cmd.Session, list []sympath.Element, path string, out report.Sink) error {
	for part := range strings.SplitSeq(path, ";") {
		part = strings.TrimSpace(part)
		odd := slices.ContainsFunc(list, func(e sympath.Element) bool { return e.Text == part && e.Note != "" })
		if c, _, ok := s.Commands.Find(part); ok && odd && part != "" {
			return out.Emit(report.Notef("%s is a part of the path now: as in kd, the path takes the whole line. Type commands on a line of their own.", c.Name))
		}
	}
	return nil
}

// cutPath reads "[+] PATH". A line that begins with a semicolon only shows the
// path and goes on with what follows.
func cutPath(raw string) (path string, add bool, after string) {
	path, add = plus(raw)
	if rest, ok := strings.CutPrefix(path, ";"); ok {
		return "", add, rest
	}
	return path, add, ""
}

func symbolPathRecord(s *cmd.Session) *pathRecord {
	p := s.Symbols
	r := &pathRecord{Kind: "symbols", Path: p.Spec(), Expanded: p.Expanded(), Elements: elements(p.Elements())}
	if dir := p.DefaultStore(); dir != "" {
		r.DefaultStore = &dir
	}
	return r
}

var symfix = &cmd.Command{
	Name: ".symfix", Prefix: true, Group: cmd.GroupSymbols,
	Summary: "set the symbol path to Microsoft's public server",
	Help: `Sets the symbol path to srv*, Microsoft's public symbol server; .symfix+ appends
it. The argument is the folder that files are kept in; without one it is a folder
of gokd's own, which .sympath shows. Nothing is fetched before .reload, or before
symbols are needed.`,
	Example: ".symfix\n.sympath",
	SeeAlso: []string{".sympath", ".reload"},
	Args: []cmd.Arg{{
		Name: "folder", Kind: cmd.KindRest, Optional: true, Complete: cmd.CompleteFile, Doc: "where files are kept; + before it appends",
	}},
	Run: func(_ context.Context, s *cmd.Session, in cmd.Args, out report.Sink) error {
		p, err := symbolPath(s)
		if err != nil {
			return err
		}
		dir, add := plus(in.Raw)
		dir = strings.Trim(dir, `"`)
		if strings.ContainsAny(dir, "*;") {
			return errMisused("want one folder, not %q", dir)
		}
		p.SetDefaultStore(dir)
		if add {
			p.Add("srv*")
		} else {
			p.Set("srv*")
		}
		changed(s)
		if dir == "" && s.Out.Printer.Era == report.Era62 {
			if err := out.Emit(report.Textf("No downstream store given, using %s\n", p.DefaultStore())); err != nil {
				return err
			}
		}
		r := symbolPathRecord(s)
		r.silent = true
		return out.Emit(r)
	},
}

var exepath = &cmd.Command{
	Name: ".exepath", Prefix: true, Line: true, Group: cmd.GroupSymbols,
	Summary: "show or set the path of image files",
	Help: `Shows or sets where image files are looked for; .exepath+ appends. Parts are
those of .sympath, whose stores are looked into as well. Images give code, unwind
data and the names of PDBs where the dump lacks them, as small dumps do; they are
used by .reload. Servers are asked only by .reload /f and ld, for the images whose
headers the dump lacks.`,
	Example: ".exepath",
	SeeAlso: []string{".sympath", ".reload"},
	Args: []cmd.Arg{{
		Name: "path", Kind: cmd.KindRest, Optional: true, Complete: cmd.CompleteFile, Doc: "parts separated by semicolons; + before it appends",
	}},
	Run: func(ctx context.Context, s *cmd.Session, in cmd.Args, out report.Sink) error {
		if s.Images == nil {
			return errNoPath
		}
		path, add, after := cutPath(in.Raw)
		if path != "" {
			if add {
				path = strings.Trim(s.Images.Spec()+";"+path, ";")
			}
			s.Images.Set(path)
			changed(s)
		}
		r := &pathRecord{Kind: "images", Path: s.Images.Spec(), Expanded: s.Images.Expanded(), Elements: elements(s.Images.Elements())}
		if err := out.Emit(r); err != nil {
			return err
		}
		if err := swallowed(s, s.Images.Elements(), path, out); err != nil {
			return err
		}
		return s.Execute(ctx, after)
	},
}
