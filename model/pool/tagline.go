package pool

import (
	"encoding/binary"
	"iter"
	"strings"
	"unicode/utf16"
	"unicode/utf8"
)

// tagLine is one line of a tag file.
type tagLine struct {
	Description
	pattern Pattern
	as      string // the tag as it is written, without padding of a pattern
}

// Why a line can't be read.
const (
	whyForm  = `not of the form "tag - binary - description"`
	whyNoTag = "no tag before the dash"
	whyLong  = "the tag is longer than four characters"
	whyText  = "no description"
)

// parseTagLine reads one line. skip is set for a comment or an empty line; why
// says what is wrong with any other line. The tag takes the first four columns,
// whatever they hold; a shorter one ends at the first dash behind a space.
func parseTagLine(line string) (l tagLine, skip bool, why string) {
	line = strings.TrimRight(line, " \t\x00\x1a") // 0x1a ended files of DOS
	if line == "" || isComment(line) {
		return l, true, ""
	}
	tag, rest, why := cutTag(line)
	if why != "" {
		return l, false, why
	}
	// A pattern is padded to the column of the dash; a padded tag is itself.
	if strings.Contains(tag, "*") {
		tag = strings.TrimRight(tag, " ")
	}
	p, err := ParsePattern(tag, false)
	if err != nil {
		return l, false, whyLong
	}
	l.pattern, l.as = p, tag
	if binary, text, ok := cutDash(rest); ok {
		l.Binary, l.Text = strings.TrimSpace(binary), strings.TrimSpace(text)
	} else {
		l.Text = strings.TrimSpace(rest)
	}
	// Such files spell a binary that is not known in more than one way.
	switch strings.ToLower(l.Binary) {
	case "<unknown>", "unknown", "-", "?":
		l.Binary = ""
	}
	if l.Text == "" {
		return l, false, whyText
	}
	return l, false, ""
}

func isComment(line string) bool {
	low := strings.ToLower(strings.TrimLeft(line, " \t"))
	return low == "rem" || strings.HasPrefix(low, "rem ") || strings.HasPrefix(low, "rem\t") ||
		strings.HasPrefix(low, "//") || line == "#" || strings.HasPrefix(line, "# ")
}

// cutTag cuts a line behind the tag and the separator that follows it.
func cutTag(line string) (tag, rest, why string) {
	if head, after, ok := fourColumns(line); ok {
		if body, ok := afterDash(after); ok && strings.TrimSpace(head) != "" {
			return head, body, ""
		}
	}
	// Without tabs between the parts a tag that is shorter ends at a dash.
	if tag, rest, ok := strings.Cut(line, "\t"); ok && !strings.ContainsRune(tag, '-') {
		return checkTag(strings.TrimRight(tag, " "), trimDash(rest))
	}
	tag, rest, ok := cutDash(line)
	switch {
	case ok:
		return checkTag(strings.TrimSpace(tag), rest)
	case strings.HasPrefix(strings.TrimLeft(line, " \t"), "-"):
		return "", "", whyNoTag
	}
	return "", "", whyForm
}

func checkTag(tag, rest string) (string, string, string) {
	switch n := utf8.RuneCountInString(tag); {
	case n == 0:
		return "", "", whyNoTag
	case n > len(Tag{}):
		return "", "", whyLong
	}
	return tag, rest, ""
}

// fourColumns cuts behind the first four characters.
func fourColumns(line string) (head, rest string, ok bool) {
	n := 0
	for i := range line {
		if n == len(Tag{}) {
			return line[:i], line[i:], !strings.Contains(line[:i], "\t")
		}
		n++
	}
	return "", "", false
}

// dashes are what stands between the parts of a line; text that went through a
// word processor has longer ones.
const dashes = "-\u2013\u2014\u2212"

// afterDash gives what follows a separator at the start of a text.
func afterDash(text string) (string, bool) {
	if tabbed, ok := strings.CutPrefix(text, "\t"); ok {
		return trimDash(tabbed), true
	}
	after := strings.TrimLeft(text, " \t")
	r, n := utf8.DecodeRuneInString(after)
	if n == 0 || !strings.ContainsRune(dashes, r) {
		return "", false
	}
	return after[n:], true
}

// trimDash drops a dash that stands beside a tab.
func trimDash(text string) string {
	body := strings.TrimLeft(text, " \t")
	if r, n := utf8.DecodeRuneInString(body); n > 0 && strings.ContainsRune(dashes, r) {
		return body[n:]
	}
	return text
}

// cutDash cuts at the first tab, or the first dash with a blank on both sides.
func cutDash(text string) (before, after string, ok bool) {
	for i, r := range text {
		switch {
		case r == '\t' && strings.TrimSpace(text[:i]) != "":
			return text[:i], trimDash(text[i+1:]), true
		case strings.ContainsRune(dashes, r):
			n := utf8.RuneLen(r)
			blankBefore := i > 0 && (text[i-1] == ' ' || text[i-1] == '\t')
			blankAfter := i+n == len(text) || text[i+n] == ' ' || text[i+n] == '\t'
			if blankBefore && blankAfter {
				return text[:i], text[i+n:], true
			}
		}
	}
	return "", "", false
}

// decodeText gives the text of a file and the name of its encoding: by its
// byte-order mark, else by zero bytes where those of UTF-16 would be, else UTF-8
// or, where it is none, one byte a character.
func decodeText(b []byte) (text, encoding string) {
	switch {
	case len(b) >= 3 && string(b[:3]) == "\xef\xbb\xbf":
		b = b[3:]
	case len(b) >= 2 && string(b[:2]) == "\xff\xfe":
		return decode16(b[2:], binary.LittleEndian), "UTF-16LE"
	case len(b) >= 2 && string(b[:2]) == "\xfe\xff":
		return decode16(b[2:], binary.BigEndian), "UTF-16BE"
	}
	var zero [2]int
	head := b[:min(len(b), 256)]
	for i, c := range head {
		if c == 0 {
			zero[i&1]++
		}
	}
	switch n := len(head) / 4; {
	case zero[1] > n && zero[0] == 0:
		return decode16(b, binary.LittleEndian), "UTF-16LE"
	case zero[0] > n && zero[1] == 0:
		return decode16(b, binary.BigEndian), "UTF-16BE"
	case utf8.Valid(b):
		return string(b), "UTF-8"
	}
	var s strings.Builder
	s.Grow(len(b))
	for _, c := range b {
		s.WriteRune(rune(c))
	}
	return s.String(), "single bytes"
}

func decode16(b []byte, order binary.ByteOrder) string {
	u := make([]uint16, len(b)/2)
	for i := range u {
		u[i] = order.Uint16(b[2*i:])
	}
	return string(utf16.Decode(u))
}

// textLines yields the lines of a text, ended by \n, \r\n or \r.
func textLines(text string) iter.Seq[string] {
	return func(yield func(string) bool) {
		for text != "" {
			i := strings.IndexAny(text, "\r\n")
			if i < 0 {
				yield(text)
				return
			}
			line, n := text[:i], i+1
			if text[i] == '\r' && n < len(text) && text[n] == '\n' {
				n++
			}
			text = text[n:]
			if !yield(line) {
				return
			}
		}
	}
}
