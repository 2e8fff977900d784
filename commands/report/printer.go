package report

import (
	"fmt"
	"io"
	"reflect"
	"strings"
	"unicode"

	"github.com/fatih/color"
)

// Era picks whose debugger's layout is printed; facts never depend on it.
type Era uint8

// The eras of kd that can be chosen with -compat (see the debugger versions
// that public transcripts show).
const (
	Era62    Era = iota // 6.2: training material of the 2010s
	Era19041            // 10.0.19041: the default
	Era26100            // 10.0.26100
)

var eraNames = [...]string{"6.2", "10.0.19041", "10.0.26100"}

// String gives the name that -compat takes.
func (e Era) String() string { return eraNames[e] }

// ParseEra reads the argument of -compat.
func ParseEra(s string) (Era, error) {
	for i, n := range eraNames {
		if s == n {
			return Era(i), nil
		}
	}
	return 0, fmt.Errorf("era %q: want one of %s", s, strings.Join(eraNames[:], ", "))
}

// Style is the meaning of a coloured piece of text.
type Style uint8

// The styles; each is a colour on a terminal and nothing elsewhere.
const (
	Plain   Style = iota
	Strong        // what the answer is about
	Address       // an address to follow
	Symbol        // module!function
	Warning       // something is wrong with the target
	Own           // our own lines
	Failure       // an error of a command
)

// Printer writes text: layout, colours, escaping. Use it from one goroutine.
type Printer struct {
	Era    Era
	KDOnly bool // leave out lines that kd would not print
	// Screen is the terminal that the text goes to; nil where it goes to none.
	Screen *Screen
	w      io.Writer
	line   []byte                 // of a TextAppender, used again
	colors map[Style]*color.Color // nil: none
	err    error
}

// NewPrinter gives a printer over w; colours only where colored is true.
func NewPrinter(w io.Writer, era Era, colored bool) *Printer {
	p := &Printer{Era: era, w: w}
	if colored {
		p.colors = map[Style]*color.Color{}
		for style, attr := range map[Style]color.Attribute{
			Strong: color.Bold, Address: color.FgCyan, Symbol: color.FgGreen,
			Warning: color.FgYellow, Own: color.FgHiBlue, Failure: color.FgRed,
		} {
			c := color.New(attr)
			c.EnableColor()
			p.colors[style] = c
		}
	}
	return p
}

// Printf writes layout. Every string among the arguments is made safe for a
// terminal; values of type Text are layout and go through with their newlines
// and tabs.
func (p *Printer) Printf(format string, args ...any) { p.raw(Sprintf(format, args...)) }

// Styled writes layout in a colour, if colours are on. Trailing newlines stay
// outside the colour.
func (p *Printer) Styled(style Style, format string, args ...any) {
	s := Sprintf(format, args...)
	c := p.colors[style]
	if c == nil {
		p.raw(s)
		return
	}
	body := strings.TrimRight(s, "\n")
	p.raw(c.Sprint(body) + s[len(body):])
}

// Own writes lines that kd would not print; under .kdonly it writes nothing.
func (p *Printer) Own(format string, args ...any) {
	if !p.KDOnly {
		p.Styled(Own, format, args...)
	}
}

func (p *Printer) raw(s string) {
	if p.err == nil {
		_, p.err = io.WriteString(p.w, s)
	}
}

// Err gives the first failed write.
func (p *Printer) Err() error { return p.err }

// SetWriter replaces where the text goes.
func (p *Printer) SetWriter(w io.Writer) { p.w, p.err = w, nil }

// Emit renders a record as text.
func (p *Printer) Emit(r Record) error {
	if _, ok := r.(OwnLine); ok && p.KDOnly {
		return nil
	}
	if a, ok := r.(TextAppender); ok && p.err == nil {
		if p.line = a.AppendText(p.line[:0], p.Era); len(p.line) > 0 {
			_, p.err = p.w.Write(p.line)
		}
		return p.err
	}
	r.WriteText(p)
	return p.err
}

var _ Sink = (*Printer)(nil)

// Sprintf formats layout like fmt.Sprintf, with every string argument made
// safe for a terminal.
func Sprintf(format string, args ...any) string {
	safe := make([]any, len(args))
	for i, a := range args {
		switch v := a.(type) {
		case Text:
			safe[i] = Layout(string(v))
		case string:
			safe[i] = Safe(v)
		case fmt.Stringer:
			safe[i] = stringer{v}
		case error:
			safe[i] = Safe(v.Error())
		default:
			safe[i] = a
		}
	}
	return fmt.Sprintf(format, safe...)
}

// stringer makes what a String method returns safe, and leaves the value to
// the numeric verbs.
type stringer struct{ v fmt.Stringer }

func (s stringer) Format(f fmt.State, verb rune) {
	if verb == 's' || verb == 'v' {
		fmt.Fprintf(f, fmt.FormatString(f, verb), Safe(s.v.String()))
		return
	}
	// fmt would spell the text of String in hexadecimal.
	switch v := reflect.ValueOf(s.v); {
	case v.CanUint():
		fmt.Fprintf(f, fmt.FormatString(f, verb), v.Uint())
	case v.CanInt():
		fmt.Fprintf(f, fmt.FormatString(f, verb), v.Int())
	default:
		fmt.Fprintf(f, fmt.FormatString(f, verb), Safe(s.v.String()))
	}
}

// Safe makes a string from a dump harmless on a terminal: control characters,
// DEL, C1, invalid UTF-8 and the characters that reorder or hide text are
// spelled \xNN or \uNNNN.
func Safe(s string) string { return escape(s, "") }

// Layout is Safe for text that carries its own newlines and tabs.
func Layout(s string) string { return escape(s, "\n\t") }

func escape(s, keep string) string {
	clean := true
	for _, r := range s {
		if hidden(r) && !strings.ContainsRune(keep, r) {
			clean = false
			break
		}
	}
	if clean {
		return s
	}
	var b strings.Builder
	for i, r := range s {
		switch {
		case strings.ContainsRune(keep, r):
			b.WriteRune(r)
		case r == unicode.ReplacementChar && s[i] != 0xef:
			fmt.Fprintf(&b, `\x%02x`, s[i])
		case hidden(r) && r <= 0xff:
			fmt.Fprintf(&b, `\x%02x`, r)
		case hidden(r):
			fmt.Fprintf(&b, `\u%04x`, r)
		default:
			b.WriteRune(r)
		}
	}
	return b.String()
}

// hidden reports whether a character steers a terminal or can't be seen.
func hidden(r rune) bool {
	return r < 0x20 || r >= 0x7f && r <= 0x9f || r == unicode.ReplacementChar ||
		unicode.Is(unicode.Cf, r) || unicode.Is(unicode.Zl, r) || unicode.Is(unicode.Zp, r)
}
