package pool

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"

	"gokd/commands/cmd"
	"gokd/commands/report"
	"gokd/model/pool"
)

var pooltags = &cmd.Command{
	Name: ".pooltags", Group: cmd.GroupPool,
	Summary: "show where descriptions of pool tags come from, or read a pooltag.txt",
	Args: []cmd.Arg{
		{Name: "clear", Kind: cmd.KindSwitch, Switch: "-clear", Optional: true, Doc: "forget all files: gokd's own table alone is used"},
		{Name: "file", Kind: cmd.KindWord, Optional: true, Complete: cmd.CompleteFile, Doc: "a file in the form of pooltag.txt, to be read now"},
	},
	Help: `Without an argument it lists the sources of descriptions, the one that is asked
first first. gokd has a table of its own for the tags that matter most. The
pooltag.txt that comes with Microsoft's debuggers knows some thousands more; it
is read by itself, once a session, from where gokd lies, from the folder gokd in
the user's folder for settings, and from where Windows' kits install the
debuggers. $GOKD_POOLTAGS names other files instead (none where it is empty).

With a file its lines "tag - binary - description" are read; a file that is named
again replaces itself. Tags may hold * and ?: a line of the very tag goes before
any pattern, then what was read last before what was read earlier, then a pattern
with fewer wildcards before one with more. Lines that can't be read are counted,
the first of them shown. Descriptions are only words: two drivers can use one tag,
and !pooltag shows which loaded images do.`,
	Example: ".pooltags",
	SeeAlso: []string{"!pooltag", "!poolused"},
	Run:     runPooltags,
}

type tagsKey struct{}

// tagTable is what the session knows of descriptions.
type tagTable struct {
	tags   *pool.Descriptions
	failed []error // files that were found and can't be read
}

// tagsOf gives the session's descriptions. The first call reads the files that
// are there without being asked for; one that can't be read is told by .pooltags.
func tagsOf(s *cmd.Session) (*tagTable, error) {
	return cmd.Kept(s, tagsKey{}, func() (*tagTable, error) {
		t := &tagTable{tags: pool.Own()}
		// The file that is added last goes first.
		for i := len(s.TagFiles) - 1; i >= 0; i-- {
			if _, err := t.read(s.TagFiles[i]); err != nil {
				t.failed = append(t.failed, err)
			}
		}
		return t, nil
	})
}

// read adds a file.
func (t *tagTable) read(name string) (*pool.TagSource, error) {
	f, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	// A folder and a pipe would say nothing useful, or nothing at all.
	if st, err := f.Stat(); err != nil {
		return nil, err
	} else if !st.Mode().IsRegular() {
		return nil, fmt.Errorf("%s: not a file", name)
	}
	src, err := t.tags.Add(name, f)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	return src, nil
}

// tagSource is the record of one source of descriptions.
type tagSource struct {
	File     *string   `json:"file"` // null: gokd's own table
	Tags     int       `json:"tags"`
	Patterns int       `json:"patterns"`
	Again    int       `json:"again"`
	BadLines int       `json:"bad_lines"`
	Encoding string    `json:"encoding"`
	Bad      []badLine `json:"bad"`

	read bool // it was read now
}

// badLine is a line that can't be read.
type badLine struct {
	Line int    `json:"line"`
	Text string `json:"text"`
	Why  string `json:"why"`
}

func newTagSource(s *pool.TagSource) *tagSource {
	r := &tagSource{
		File: orNull(s.Name), Tags: s.Tags, Patterns: s.Patterns, Again: s.Again,
		BadLines: s.BadLines, Encoding: s.Encoding, Bad: []badLine{},
	}
	for _, b := range s.Bad {
		r.Bad = append(r.Bad, badLine(b))
	}
	return r
}

// Type names the record.
func (*tagSource) Type() string { return "pool_tags_source" }

// WriteText writes a line, and below it what can't be read.
func (r *tagSource) WriteText(p *report.Printer) {
	name := "gokd's own table"
	if r.File != nil {
		name = *r.File
	}
	p.Printf("%6d tags, %3d patterns  %s%s\n", r.Tags, r.Patterns, name, report.Text(r.remarks()))
	if !r.read {
		return
	}
	const shown = 5
	for i, b := range r.Bad {
		if i == shown {
			break
		}
		p.Printf("  line %d: %s: %s\n", b.Line, b.Why, b.Text)
	}
	if more := r.BadLines - min(len(r.Bad), shown); more > 0 {
		p.Printf("  and %d lines more\n", more)
	}
}

func (r *tagSource) remarks() string {
	var list []string
	if r.Again > 0 {
		list = append(list, report.Sprintf("%d lines name a tag again", r.Again))
	}
	if r.BadLines > 0 {
		list = append(list, report.Sprintf("%d lines can't be read", r.BadLines))
	}
	if r.Encoding != "UTF-8" {
		list = append(list, r.Encoding)
	}
	if len(list) == 0 {
		return ""
	}
	return " (" + strings.Join(list, ", ") + ")"
}

func runPooltags(_ context.Context, s *cmd.Session, in cmd.Args, out report.Sink) error {
	t, err := tagsOf(s)
	if err != nil {
		return err
	}
	name := in.Text("file")
	switch {
	case in.Has("clear") && name != "":
		return cmd.Misuse(errors.New("-clear takes no file"))
	case in.Has("clear"):
		for _, src := range t.tags.Sources() {
			if src.Name != "" {
				t.tags.Remove(src.Name)
			}
		}
		t.failed = nil
	case name != "":
		src, err := t.read(name)
		if err != nil {
			return fmt.Errorf(".pooltags: %w", err)
		}
		r := newTagSource(src)
		r.read = true
		return out.Emit(r)
	}
	if err := out.Emit(report.Text("Descriptions of tags, what is asked first first:\n")); err != nil {
		return err
	}
	for _, src := range t.tags.Sources() {
		if err := out.Emit(newTagSource(src)); err != nil {
			return err
		}
	}
	for _, e := range t.failed {
		if err := out.Emit(report.Notef("Not read: %v.", e)); err != nil {
			return err
		}
	}
	return nil
}
