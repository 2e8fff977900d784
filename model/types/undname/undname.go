// Package undname turns the decorated names that Microsoft's C++ compilers give
// to functions, variables and tables into what was written in the source:
// "?Stop@Engine@@QEAAXXZ" is Engine::Stop.
//
// The scheme has no public specification of its maker; it is described in
// LLVM's MicrosoftDemangle and MicrosoftMangle, in Agner Fog's "Calling
// conventions", chapter 8, and by the documentation of UnDecorateSymbolName.
// The text is that of the latter: no blanks behind commas, "> >" where two lists
// end, and no __ptr64.
//
// Names come from targets and may be made to hurt: length, depth, work and the
// length of the result are bounded.
package undname

import (
	"errors"
	"fmt"
	"strings"
)

// Flags say how much of a name is shown.
type Flags uint8

const (
	// NameOnly leaves out everything but the qualified name: no types, access or
	// parameters, and no "class" or "struct" in front of template arguments.
	// This is how the debuggers show symbols.
	NameOnly Flags = 1 << iota
)

// Limits. Compilers cut names at 4096 characters.
const (
	maxInput  = 16 << 10
	maxOutput = 32 << 10
	maxDepth  = 96
	maxWork   = 1 << 16 // steps of the parser
)

// ErrName is the class of errors about names that can't be read.
var ErrName = errors.New("no decorated name")

// Decorated reports whether a name looks like a decorated one.
func Decorated(name string) bool {
	return len(name) > 1 && (name[0] == '?' || strings.HasPrefix(name, ".?A"))
}

// Demangle gives the undecorated form of a name. An error says why the name
// can't be read; a name that is not decorated is one.
func Demangle(name string, flags Flags) (string, error) {
	switch {
	case !Decorated(name):
		return "", fmt.Errorf("%.40q: %w", name, ErrName)
	case len(name) > maxInput:
		return "", fmt.Errorf("%.40q: %d characters, at most %d: %w", name, len(name), maxInput, ErrName)
	}
	p := &parser{in: name, only: flags&NameOnly != 0}
	p.names, p.types = p.nameStore[:0], p.typeStore[:0]
	text := p.top()
	if p.err == "" && len(text) > maxOutput {
		p.fail("the result is too long")
	}
	if text == "" {
		p.fail("no name")
	}
	if p.err == "" && p.at < len(p.in) && !p.partial {
		p.fail("something follows the name")
	}
	if p.err != "" {
		return "", fmt.Errorf("%.40q at character %d: %s: %w", name, p.at+1, p.err, ErrName)
	}
	return text, nil
}

// parser reads a name from left to right. The first failure sticks: what follows
// reads nothing and gives empty texts.
type parser struct {
	in      string
	at      int
	only    bool // names only
	partial bool // the rest of the name was not needed
	err     string
	depth   int
	work    int

	// What digits refer back to: the first ten names, and the first ten types of
	// parameters with more than one character. Template arguments have their own.
	names []string
	types []typ

	nameStore [10]string
	typeStore [10]typ
}

func (p *parser) fail(why string) {
	if p.err == "" {
		p.err = why
	}
}

// step counts work; it reports whether the parser may go on.
func (p *parser) step() bool {
	if p.work++; p.work > maxWork {
		p.fail("too much work")
	}
	return p.err == ""
}

// enter goes one level down; every call has its leave.
func (p *parser) enter() bool {
	if p.depth++; p.depth > maxDepth {
		p.fail("nested too deep")
	}
	return p.step()
}

func (p *parser) leave() { p.depth-- }

func (p *parser) rest() string {
	if p.err != "" {
		return ""
	}
	return p.in[p.at:]
}

// peek gives the next character; 0 at the end.
func (p *parser) peek() byte {
	if p.err != "" || p.at >= len(p.in) {
		return 0
	}
	return p.in[p.at]
}

// next takes a character; 0 at the end, which fails.
func (p *parser) next() byte {
	c := p.peek()
	if c == 0 {
		p.fail("the name ends too early")
		return 0
	}
	p.at++
	return c
}

// take takes a text if it stands next.
func (p *parser) take(s string) bool {
	if p.err != "" || !strings.HasPrefix(p.in[p.at:], s) {
		return false
	}
	p.at += len(s)
	return true
}

// remember keeps a name for references back.
func (p *parser) remember(name string) {
	for _, n := range p.names {
		if n == name {
			return
		}
	}
	if len(p.names) < 10 {
		p.names = append(p.names, name)
	}
}

// clip bounds a text that others are made of.
func (p *parser) clip(s string) string {
	if len(s) > maxOutput {
		p.fail("the result is too long")
		return ""
	}
	return s
}

// number reads a number: a digit for 1 to 10, or hexadecimal digits A to P and
// an "@"; "?" is the sign.
func (p *parser) number() (v uint64, negative bool) {
	negative = p.take("?")
	if c := p.peek(); c >= '0' && c <= '9' {
		p.at++
		return uint64(c-'0') + 1, negative
	}
	for n := 0; ; n++ {
		c := p.next()
		switch {
		case c == '@' && n > 0:
			return v, negative
		case c < 'A' || c > 'P' || n >= 16:
			p.fail("bad number")
			return 0, false
		}
		v = v<<4 | uint64(c-'A')
	}
}

// signed reads a number as text.
func (p *parser) signed() string {
	v, negative := p.number()
	if negative {
		return fmt.Sprintf("-%d", v)
	}
	return fmt.Sprint(v)
}

// top reads a whole name.
func (p *parser) top() string {
	switch {
	case p.take(".?A"): // the name in a type descriptor
		p.at--
		p.take("A")
		t := p.plainType()
		return t.text() + " `RTTI Type Descriptor Name'"
	case strings.HasPrefix(p.in, "??@"): // cut and replaced by a checksum
		p.partial = true
		return p.in
	}
	return p.symbol()
}

// symbol reads "?", a name and what it names.
func (p *parser) symbol() string {
	if !p.enter() {
		return ""
	}
	defer p.leave()
	if !p.take("?") {
		p.fail("a name begins with ?")
		return ""
	}
	if text, ok := p.special(); ok {
		return text
	}
	n := p.qualified()
	if p.only && p.depth == 1 && n.conversion == 0 {
		p.partial = true
		if p.peek() == 0 {
			p.fail("the name ends too early")
		}
		return n.String()
	}
	return p.encoding(n)
}
