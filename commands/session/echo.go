package session

import (
	"context"

	"gokd/commands/cmd"
	"gokd/commands/report"
)

var echo = &cmd.Command{
	Name: ".echo", Aliases: []string{"!echo"}, Group: cmd.GroupSession,
	Summary: "print a text",
	Help: `Prints the rest of the command as it stands, up to a semicolon outside quotes; one
pair of quotes around all of it is taken off. Scripts use it for headings.`,
	Example: ".echo held locks\n.echo \"one; two\"",
	Args:    []cmd.Arg{{Name: "text", Kind: cmd.KindRest, Optional: true, Doc: "what to print"}},
	Run: func(_ context.Context, _ *cmd.Session, in cmd.Args, out report.Sink) error {
		text := in.Text("text")
		if n := len(text); n >= 2 && text[0] == '"' && text[n-1] == '"' {
			text = text[1 : n-1]
		}
		return out.Emit(echoed{text})
	},
}

// echoed is a text that the user wanted to see.
type echoed struct {
	Text string `json:"text"`
}

// Type names the record.
func (echoed) Type() string { return "echo" }

// WriteText writes it on a line.
func (e echoed) WriteText(p *report.Printer) { p.Printf("%s\n", e.Text) }
