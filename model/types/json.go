package types

import (
	"fmt"
	"strconv"
	"strings"
)

// maxJSONDepth bounds the nesting of a table. ISF needs eight levels; a file
// with more is not one.
const maxJSONDepth = 64

// scanner reads JSON from a string without copying it: strings without escapes
// are slices of the text. The first failure sticks, moves to the end of the
// text and makes every later call return at once, so callers check err once.
//
// It is lenient where nothing depends on it (a skipped value is only checked
// for balanced brackets and closed strings) and strict for what it returns.
type scanner struct {
	s     string
	i     int
	depth int
	err   error
}

func (p *scanner) fail(format string, args ...any) {
	if p.err == nil {
		p.err = fmt.Errorf("JSON at offset %#x: %s", p.i, fmt.Sprintf(format, args...))
	}
	p.i = len(p.s)
}

// peek skips white space and gives the next byte, 0 at the end.
func (p *scanner) peek() byte {
	for p.i < len(p.s) {
		switch c := p.s[p.i]; c {
		case ' ', '\n', '\r', '\t':
			p.i++
		default:
			return c
		}
	}
	return 0
}

// expect consumes the punctuation c.
func (p *scanner) expect(c byte) bool {
	if got := p.peek(); got != c {
		p.fail("want %q, have %q", c, got)
		return false
	}
	p.i++
	return true
}

// str reads a string.
func (p *scanner) str() string {
	if !p.expect('"') {
		return ""
	}
	start := p.i
	end := strings.IndexByte(p.s[start:], '"')
	if end < 0 {
		p.fail("string without an end")
		return ""
	}
	text := p.s[start : start+end]
	if strings.IndexByte(text, '\\') < 0 {
		p.i = start + end + 1
		return text
	}
	p.i = start - 1
	p.skipString()
	if p.err != nil {
		return ""
	}
	text, err := strconv.Unquote(strings.ReplaceAll(p.s[start-1:p.i], `\/`, `/`))
	if err != nil {
		p.fail("string %q: %v", clip(p.s[start-1:p.i]), err)
		return ""
	}
	return text
}

// skipString moves past a string that starts at the current byte, a quote.
func (p *scanner) skipString() {
	for i := p.i + 1; ; {
		n := strings.IndexByte(p.s[i:], '"')
		if n < 0 {
			p.fail("string without an end")
			return
		}
		end := i + n
		slashes := 0
		for slashes < end-p.i-1 && p.s[end-1-slashes] == '\\' {
			slashes++
		}
		if i = end + 1; slashes%2 == 0 {
			p.i = i
			return
		}
	}
}

// int reads an integer.
func (p *scanner) int() int64 {
	p.peek()
	start := p.i
	for p.i < len(p.s) && (p.s[p.i] == '-' || p.s[p.i] >= '0' && p.s[p.i] <= '9') {
		p.i++
	}
	text := p.s[start:p.i]
	n, err := strconv.ParseInt(text, 10, 64)
	if err != nil {
		// Constants of enumerations may use all 64 bits without a sign.
		u, uerr := strconv.ParseUint(text, 10, 64)
		if uerr != nil {
			p.i = start
			p.fail("number %q: %v", clip(text), err)
			return 0
		}
		n = int64(u)
	}
	return n
}

// constant reads an integer of an enumeration; false for one that 64 bits do
// not hold, with or without a sign, and for what is no integer.
func (p *scanner) constant() (int64, bool) {
	start := p.i
	p.peek()
	at := p.i
	p.skip()
	if p.err != nil {
		return 0, false
	}
	text := p.s[at:p.i]
	if n, err := strconv.ParseInt(text, 10, 64); err == nil {
		return n, true
	}
	u, err := strconv.ParseUint(text, 10, 64)
	if err != nil && (text == "" || text[0] != '-' && (text[0] < '0' || text[0] > '9')) {
		p.i = start
		p.fail("constant %q: want a number", clip(text))
	}
	return int64(u), err == nil
}

// uint reads an integer from 0 to max.
func (p *scanner) uint(max int64) uint32 {
	at := p.i
	n := p.int()
	if p.err == nil && (n < 0 || n > max) {
		p.i = at
		p.fail("number %d: want 0 to %d", n, max)
		return 0
	}
	return uint32(n)
}

// bool reads true or false.
func (p *scanner) bool() bool {
	p.peek()
	switch {
	case strings.HasPrefix(p.s[p.i:], "true"):
		p.i += len("true")
		return true
	case strings.HasPrefix(p.s[p.i:], "false"):
		p.i += len("false")
	default:
		p.fail("want true or false")
	}
	return false
}

// null consumes a null, if the next value is one.
func (p *scanner) null() bool {
	p.peek()
	if strings.HasPrefix(p.s[p.i:], "null") {
		p.i += len("null")
		return true
	}
	return false
}

// object reads an object and calls member for every key; member must read the value.
func (p *scanner) object(member func(key string)) {
	if p.depth++; p.depth > maxJSONDepth {
		p.fail("more than %d levels", maxJSONDepth)
		return
	}
	defer func() { p.depth-- }()
	if !p.expect('{') {
		return
	}
	if p.peek() == '}' {
		p.i++
		return
	}
	for p.err == nil {
		key := p.str()
		if !p.expect(':') {
			return
		}
		if member(key); p.err != nil {
			return
		}
		if p.peek() == '}' {
			p.i++
			return
		}
		p.expect(',')
	}
}

// skip moves past any value.
func (p *scanner) skip() {
	switch p.peek() {
	case '"':
		p.skipString()
	case '{', '[':
		p.skipNested()
	case 0:
		p.fail("value missing")
	default:
		start := p.i
		for p.i < len(p.s) && !strings.ContainsRune(",]} \n\r\t", rune(p.s[p.i])) {
			p.i++
		}
		if p.i == start {
			p.fail("value missing")
		}
	}
}

// skipNested moves past the object or array that starts at the current byte.
// It keeps only a count of open brackets, not a stack, so depth costs nothing.
func (p *scanner) skipNested() {
	open := 0
	for p.i < len(p.s) {
		switch p.s[p.i] {
		case '"':
			p.skipString()
			continue
		case '{', '[':
			open++
		case '}', ']':
			open--
		}
		p.i++
		if open == 0 {
			return
		}
	}
	p.fail("bracket without its end")
}

// clip shortens a piece of a hostile file for an error message.
func clip(s string) string {
	const most = 40
	if len(s) > most {
		return s[:most] + "..."
	}
	return s
}
