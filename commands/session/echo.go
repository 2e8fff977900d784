package session

import (
	"context"
	"strings"

	"gokd/commands/cmd"
	"gokd/commands/report"
)

var echo = &cmd.Command{
	Name: ".echo", Aliases: []string{"!echo"}, Group: cmd.GroupScript, Cut: endOfEcho,
	Summary: "print a text",
	Help: `Prints the rest of the command as it stands, up to a semicolon outside quotes; one
pair of quotes around all of it is taken off. Scripts use it for headings.`,
	SeeAlso: []string{".printf"},
	Example: ".echo held locks\n.echo \"one; two\"",
	Args:    []cmd.Arg{{Name: "text", Kind: cmd.KindRest, Optional: true, Doc: "what to print"}},
	Run: func(_ context.Context, _ *cmd.Session, in cmd.Args, out report.Sink) error {
		text := unquote(in.Text("text"))
		// The text of an alias may have several lines.
		return out.Emit(echoed{strings.ReplaceAll(text, string(cmd.SoftNewline), "\n")})
	},
}

// endOfEcho finds the semicolon that ends the text, outside quotes. A quote that
// is not closed on its line is a character as any other.
func endOfEcho(raw string) int {
	for i := 0; i < len(raw); i++ {
		switch raw[i] {
		case ';', '\n':
			return i
		case '"':
			if n := strings.IndexAny(raw[i+1:], "\"\n"); n >= 0 && raw[i+1+n] == '"' {
				i += 1 + n
			}
		}
	}
	return len(raw)
}

// echoed is a text that the user wanted to see.
type echoed struct {
	Text string `json:"text"`
}

// Type names the record.
func (echoed) Type() string { return "echo" }

// WriteText writes it on a line.
func (e echoed) WriteText(p *report.Printer) { p.Printf("%s\n", report.Text(e.Text)) }
