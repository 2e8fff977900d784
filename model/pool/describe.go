package pool

import (
	"bufio"
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
//go:embed pooltags.txt
var ownTags string

// Description says what a tag is for.
type Description struct {
	Text   string // "process objects"
	Binary string // "nt!ps", "ntfs.sys"; empty where unknown
}

// Descriptions finds the description of a tag. The zero value has none. It is
// not safe for use while Read changes it.
type Descriptions struct {
	exact    map[Tag]Description
	patterns []described // the later read first
}

type described struct {
	pattern Pattern
	Description
}

// Own gives a new set with this program's descriptions.
func Own() *Descriptions {
	d := ownDescriptions()
	return &Descriptions{exact: copyMap(d.exact), patterns: slices.Clone(d.patterns)}
}

var ownDescriptions = sync.OnceValue(func() *Descriptions {
	d := &Descriptions{}
	if _, err := d.Read(strings.NewReader(ownTags)); err != nil {
		return &Descriptions{} // a test reads the file and fails first
	}
	return d
})

func copyMap(m map[Tag]Description) map[Tag]Description {
	c := make(map[Tag]Description, len(m))
	for k, v := range m {
		c[k] = v
	}
	return c
}

// Find gives the description of a tag: of the tag itself, else of a pattern.
func (d *Descriptions) Find(t Tag) (Description, bool) {
	if x, ok := d.exact[t]; ok {
		return x, true
	}
	for _, p := range d.patterns {
		if p.pattern.Match(t) {
			return p.Description, true
		}
	}
	return Description{}, false
}

// Limits of a tag file: the one that comes with debuggers has some 4,000 lines.
const (
	maxTagLines = 1 << 18
	maxTagLine  = 4096
)

// ErrNoTags says that a file has no line of the form of pooltag.txt.
var ErrNoTags = errors.New("no line has the form \"tag - binary - description\"")

// Read adds the lines of a file in the form of pooltag.txt; what is read later
// goes before what was read earlier. A line is "tag - binary - description";
// "rem" or "//" starts a comment; a tag has up to four characters and may hold
// * and ?. Lines of another form are left out. n is how many were taken. The
// error is the reader's, ErrNoTags, or ErrLimit.
func (d *Descriptions) Read(r io.Reader) (n int, err error) {
	if d.exact == nil {
		d.exact = map[Tag]Description{}
	}
	in := bufio.NewScanner(r)
	in.Buffer(make([]byte, maxTagLine), maxTagLine)
	var patterns []described
	for lines := 0; in.Scan(); lines++ {
		if lines >= maxTagLines {
			return n, fmt.Errorf("tag file: more than %d lines: %w", maxTagLines, ErrLimit)
		}
		p, x, ok := parseTagLine(in.Text())
		if !ok {
			continue
		}
		n++
		if t, one := p.One(); one {
			d.exact[t] = x
			continue
		}
		patterns = append(patterns, described{p, x})
	}
	d.patterns = append(patterns, d.patterns...)
	switch err := in.Err(); {
	case errors.Is(err, bufio.ErrTooLong):
		return n, fmt.Errorf("tag file: a line longer than %d bytes: %w", maxTagLine, ErrLimit)
	case err != nil:
		return n, fmt.Errorf("tag file: %w", err)
	case n == 0:
		return 0, fmt.Errorf("tag file: %w", ErrNoTags)
	}
	return n, nil
}

// parseTagLine reads one line. The tag takes the first four columns, whatever
// they hold; a shorter one ends at the first dash behind a space.
func parseTagLine(line string) (Pattern, Description, bool) {
	line = strings.TrimRight(strings.TrimPrefix(line, "\ufeff"), " \t\r")
	low := strings.ToLower(line)
	if low == "rem" || strings.HasPrefix(low, "rem ") || strings.HasPrefix(line, "//") {
		return Pattern{}, Description{}, false
	}
	tag, rest, ok := cutTag(line)
	if !ok || strings.TrimSpace(tag) == "" {
		return Pattern{}, Description{}, false
	}
	p, err := ParsePattern(tag, false)
	if err != nil {
		return Pattern{}, Description{}, false
	}
	var x Description
	if binary, text, ok := strings.Cut(rest, " - "); ok {
		x.Binary, x.Text = strings.TrimSpace(binary), strings.TrimSpace(text)
	} else {
		x.Text = strings.TrimSpace(strings.TrimPrefix(strings.TrimSpace(rest), "- "))
	}
	return p, x, x.Text != ""
}

func cutTag(line string) (tag, rest string, ok bool) {
	if len(line) > 4 {
		if after := strings.TrimLeft(line[4:], " \t"); strings.HasPrefix(after, "-") {
			// "Io*  - x" has its star padded; a padded pattern is still "Io*".
			tag = line[:4]
			if strings.Contains(tag, "*") {
				tag = strings.TrimRight(tag, " ")
			}
			return tag, after[1:], true
		}
	}
	tag, rest, ok = strings.Cut(line, " -")
	tag = strings.TrimSpace(tag)
	return tag, rest, ok && len(tag) <= 4
}
