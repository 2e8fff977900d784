package script

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"gokd/commands/cmd"
	"gokd/commands/report"
)

var dotPrintf = &cmd.Command{
	Name: ".printf", Group: cmd.GroupScript, Prefix: true, Cut: endOfPrintf,
	Summary: "print formatted values",
	Help: `Prints a text in which each conversion is replaced by the value of the next
expression, as printf of C does. No new line follows by itself.

  %d %i %u %x %X %o   the low 32 bits; all 64 with %I64d and so on; %hd the low 16
  %p                  an address, 16 digits; %N the same in capitals
  %I                  8 or 16 digits, as the value needs
  %c %C               a character
  %ma %mu             the string of bytes or of 16-bit characters at an address
  %msa %msu           that of the ANSI_STRING or UNICODE_STRING at an address
  %s %S               as %ma and %mu
  %y %ly              the symbol an address belongs to
  %e %f %g            a 32-bit float, with l (%lf) a double
  %%                  a percent sign

Flags, width and precision stand before the letter as in C. In the text \n is a
new line, \t a tab, \" a quote and \\ a backslash. With /D the marks of the
debuggers' markup language are left out; the switches for colours (/od to /ow)
are accepted. As in C, expressions that no conversion takes are left alone.`,
	Example: ".printf \"%d of %I64x at %p\\n\", 0n10, @$thread, nt\n.printf \"%y\\n\", @rip",
	SeeAlso: []string{".echo", ".formats"},
	Args:    []cmd.Arg{{Name: `[/D] "text" [, expression ...]`, Kind: cmd.KindRest, Doc: "what to print, and its values"}},
	Run:     runPrintf,
}

// endOfPrintf finds the semicolon behind the format and its values: inside the
// format a backslash keeps a quote.
func endOfPrintf(raw string) int {
	in := false
	for i := 0; i < len(raw); i++ {
		switch c := raw[i]; {
		case c == '\n', c == ';' && !in:
			return i
		case c == '\\' && in:
			i++
		case c == '"':
			in = !in
		}
	}
	return len(raw)
}

func runPrintf(ctx context.Context, s *cmd.Session, in cmd.Args, out report.Sink) error {
	format, rest, markup, err := readFormat(in.Raw)
	if err != nil {
		return cmd.Misuse(err)
	}
	f := formatter{ctx: ctx, s: s, rest: rest}
	text, err := f.format(format)
	if err != nil {
		return err
	}
	if markup {
		text = stripMarkup(text)
	}
	return out.Emit(printed{text})
}

// messageKinds are the switches that choose a colour: /od, /oD, and so on.
const messageKinds = "dDenpPsvw"

// readFormat reads the switches and the format; rest begins at the values.
func readFormat(raw string) (format, rest string, markup bool, err error) {
	for strings.HasPrefix(raw, "/") {
		word, after, _ := strings.Cut(raw, " ")
		switch {
		case word == "/D":
			markup = true
		case len(word) == 3 && word[1] == 'o' && strings.Contains(messageKinds, word[2:]):
		default:
			return "", "", false, fmt.Errorf("unknown switch %s", word)
		}
		raw = strings.TrimLeft(after, blanks)
	}
	if !strings.HasPrefix(raw, `"`) {
		return "", "", false, errors.New("a format in quotes is expected")
	}
	var b strings.Builder
	for i := 1; i < len(raw); i++ {
		switch c := raw[i]; {
		case c == '"':
			return b.String(), raw[i+1:], markup, nil
		case c == '\\' && i+1 < len(raw):
			i++
			b.WriteByte(escapes(raw[i]))
		case c == cmd.SoftNewline:
			b.WriteByte('\n')
		default:
			b.WriteByte(c)
		}
	}
	return "", "", false, errors.New("the closing quote is missing")
}

// escapes gives the character that a letter behind a backslash stands for; any
// other stands for itself.
func escapes(c byte) byte {
	switch c {
	case 'n':
		return '\n'
	case 't':
		return '\t'
	case 'r':
		return '\r'
	}
	return c
}

// stripMarkup takes the tags of the debuggers' markup language out of a text
// and turns its entities into characters.
func stripMarkup(text string) string {
	var b strings.Builder
	for text != "" {
		i := strings.IndexByte(text, '<')
		if i < 0 {
			break
		}
		b.WriteString(text[:i])
		end := strings.IndexByte(text[i:], '>')
		if end < 0 {
			text = text[i:]
			break
		}
		text = text[i+end+1:]
	}
	b.WriteString(text)
	return strings.NewReplacer("&lt;", "<", "&gt;", ">", "&quot;", `"`, "&amp;", "&").Replace(b.String())
}

// printed is what .printf prints.
type printed struct {
	Text string `json:"text"`
}

// Type names the record.
func (printed) Type() string { return "printf" }

// WriteText writes it as it stands.
func (p printed) WriteText(w *report.Printer) {
	w.Printf("%s", report.Text(strings.ReplaceAll(p.Text, "\r", "")))
}
