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
	Help: `Prints the rest of the command as it stands, up to a semicolon. A text in quotes
is printed without them and may hold semicolons; quotes elsewhere are characters
as any other. Scripts use it for headings.`,
	SeeAlso: []string{".printf"},
	Example: ".echo held locks\n.echo \"one; two\"",
	Args:    []cmd.Arg{{Name: "text", Kind: cmd.KindRest, Optional: true, Doc: "what to print"}},
	Run: func(_ context.Context, _ *cmd.Session, in cmd.Args, out report.Sink) error {
		text := unquote(in.Text("text"))
		// The text of an alias may have several lines.
		return out.Emit(echoed{strings.ReplaceAll(text, string(cmd.SoftNewline), "\n")})
	},
}

// endOfEcho finds the end of the text: only a quote that begins it keeps
// semicolons.
func endOfEcho(raw string) int {
	i := len(raw) - len(strings.TrimLeft(raw, " \t"))
	if i < len(raw) && raw[i] == '"' {
		if n := strings.IndexAny(raw[i+1:], "\"\n"); n >= 0 {
			i += 1 + n
		}
	}
	if n := strings.IndexAny(raw[i:], ";\n"); n >= 0 {
		return i + n
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
