package pool

import (
	"cmp"
	_ "embed"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"sync"
)

// ownTags describes common tags in this program's words. Microsoft's
// pooltag.txt comes with its debuggers; a user can read that file in.
//
//go:embed tags.txt
var ownTags string

// Description says what a tag is for.
type Description struct {
	Text   string // "process objects"
	Binary string // "nt!ps", "ntfs.sys"; empty where unknown
}

// DescriptionOf is a description and where it stands.
type DescriptionOf struct {
	Description
	As     string // the tag or pattern of its line: "Ntf?"
	Source string // name of the file; empty for this program's own table
	Line   int    // in that file
}

// BadLine is a line of a tag file that can't be read.
type BadLine struct {
	Line int
	Text string // at most some 80 bytes of it
	Why  string
}

// TagSource is a set of descriptions of one origin.
type TagSource struct {
	Name     string // of the file; empty for this program's own table
	Encoding string // "UTF-8", "UTF-16LE", ...
	Tags     int    // lines that name one tag
	Patterns int    // lines with ? or *
	Again    int    // lines of Tags that name a tag of an earlier line
	BadLines int    // lines that can't be read
	Bad      []BadLine

	exact    map[Tag][]DescriptionOf // in the order of the file
	patterns []patternLine           // the most specific first
}

type patternLine struct {
	pattern Pattern
	d       DescriptionOf
}

// Descriptions finds the description of a tag. The zero value has none. It is
// not safe for use while Add changes it.
type Descriptions struct {
	sources []*TagSource // the first goes before the others
}

// Own gives a new set with this program's descriptions.
func Own() *Descriptions { return &Descriptions{sources: []*TagSource{ownSource()}} }

var ownSource = sync.OnceValue(func() *TagSource {
	s, err := readTags("", strings.NewReader(ownTags))
	if err != nil {
		return &TagSource{} // a test reads the table and fails first
	}
	return s
})

// Sources lists what is in use, what goes first first.
func (d *Descriptions) Sources() []*TagSource { return slices.Clone(d.sources) }

// Find gives the description of a tag: a line of the very tag goes before a
// pattern; among equals a source that was added later goes before one that was
// added earlier, and in it a pattern with fewer wildcards before one with more.
func (d *Descriptions) Find(t Tag) (Description, bool) {
	for _, s := range d.sources {
		if x := s.exact[t]; len(x) > 0 {
			return x[0].Description, true
		}
	}
	for _, s := range d.sources {
		for i := range s.patterns {
			if s.patterns[i].pattern.Match(t) {
				return s.patterns[i].d.Description, true
			}
		}
	}
	return Description{}, false
}

// All gives every description of a tag, in the order in which Find asks.
func (d *Descriptions) All(t Tag) []DescriptionOf {
	var list []DescriptionOf
	for _, s := range d.sources {
		list = append(list, s.exact[t]...)
	}
	for _, s := range d.sources {
		for i := range s.patterns {
			if s.patterns[i].pattern.Match(t) {
				list = append(list, s.patterns[i].d)
			}
		}
	}
	return list
}

// Matching gives the descriptions whose tags, or patterns as they are written,
// are among those of a pattern: of each the one that goes first, by tag.
func (d *Descriptions) Matching(p Pattern) []DescriptionOf {
	seen := map[string]bool{}
	var list []DescriptionOf
	take := func(x DescriptionOf) {
		as := Tag{' ', ' ', ' ', ' '}
		copy(as[:], x.As)
		if p.Match(as) && !seen[x.As] {
			seen[x.As] = true
			list = append(list, x)
		}
	}
	for _, s := range d.sources {
		for _, lines := range s.exact {
			take(lines[0])
		}
		for _, l := range s.patterns {
			take(l.d)
		}
	}
	slices.SortFunc(list, func(a, b DescriptionOf) int { return cmp.Compare(a.As, b.As) })
	return list
}

// Limits of a tag file: the one that comes with debuggers has some 4,000 lines.
const (
	maxTagFile  = 16 << 20 // bytes
	maxTagLines = 1 << 18
	maxBadLines = 20 // that are kept
	maxBadText  = 80
)

// ErrNoTags says that a file has no line of the form of pooltag.txt.
var ErrNoTags = errors.New("no line has the form \"tag - binary - description\"")

// Add reads a file in the form of pooltag.txt; its lines go before those of the
// sources that were there. A source of the same name is replaced. A line is
// "tag - binary - description", or these three with tabs between them; "rem",
// "//" or "# " starts a comment; a tag has up to four characters and may hold *
// and ?. UTF-8, UTF-16 and single-byte text are read, with any ends of lines.
// Lines of another form are left out and told of in the source. The error is
// the reader's, ErrNoTags, or ErrLimit; the set is then as it was.
func (d *Descriptions) Add(name string, r io.Reader) (*TagSource, error) {
	s, err := readTags(name, r)
	if err != nil {
		return nil, err
	}
	d.sources = slices.DeleteFunc(d.sources, func(x *TagSource) bool { return x.Name == name })
	d.sources = slices.Insert(d.sources, 0, s)
	return s, nil
}

// Remove drops a source by name; it reports whether there was one.
func (d *Descriptions) Remove(name string) bool {
	n := len(d.sources)
	d.sources = slices.DeleteFunc(d.sources, func(x *TagSource) bool { return x.Name == name })
	return len(d.sources) < n
}

func readTags(name string, r io.Reader) (*TagSource, error) {
	b, err := io.ReadAll(io.LimitReader(r, maxTagFile+1))
	switch {
	case err != nil:
		return nil, fmt.Errorf("tag file: %w", err)
	case len(b) > maxTagFile:
		return nil, fmt.Errorf("tag file: more than %d bytes: %w", maxTagFile, ErrLimit)
	}
	s := &TagSource{Name: name, exact: map[Tag][]DescriptionOf{}}
	var text string
	text, s.Encoding = decodeText(b)
	n := 0
	for line := range textLines(text) {
		if n++; n > maxTagLines {
			return nil, fmt.Errorf("tag file: more than %d lines: %w", maxTagLines, ErrLimit)
		}
		s.line(line, n)
	}
	if s.Tags+s.Patterns == 0 {
		return nil, fmt.Errorf("tag file: %w", ErrNoTags)
	}
	slices.SortStableFunc(s.patterns, func(a, b patternLine) int {
		return cmp.Compare(b.pattern.fixed(), a.pattern.fixed())
	})
	return s, nil
}

// line takes one line of a file.
func (s *TagSource) line(text string, n int) {
	l, skip, why := parseTagLine(text)
	switch {
	case skip:
		return
	case why != "":
		s.BadLines++
		if len(s.Bad) < maxBadLines {
			s.Bad = append(s.Bad, BadLine{n, text[:min(len(text), maxBadText)], why})
		}
		return
	}
	d := DescriptionOf{l.Description, l.as, s.Name, n}
	t, one := l.pattern.One()
	if !one {
		s.Patterns++
		s.patterns = append(s.patterns, patternLine{l.pattern, d})
		return
	}
	s.Tags++
	if len(s.exact[t]) > 0 {
		s.Again++
	}
	s.exact[t] = append(s.exact[t], d)
}

// fixed is how many bits of a tag a pattern fixes; the more, the more specific.
func (p Pattern) fixed() int {
	most := 0
	for _, a := range p.alts {
		n := 0
		for m := a.mask; m != 0; m &= m - 1 {
			n++
		}
		most = max(most, n)
	}
	return most
}
