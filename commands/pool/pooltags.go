package pool

import (
	"context"
	"fmt"
	"os"

	"gokd/commands/cmd"
	"gokd/commands/report"
)

var pooltags = &cmd.Command{
	Name: ".pooltags", Group: cmd.GroupPool,
	Summary: "read descriptions of pool tags from a file",
	Args: []cmd.Arg{
		{Name: "file", Kind: cmd.KindWord, Complete: cmd.CompleteFile, Doc: "a file in the form of pooltag.txt"},
	},
	Help: `Reads lines of the form "tag - binary - description", as the pooltag.txt that
comes with Microsoft's debuggers has them. They go before gokd's own short
descriptions, for the rest of the session.`,
	SeeAlso: []string{"!poolused"},
	Run:     runPooltags,
}

// tagsRead is the record of .pooltags.
type tagsRead struct {
	File string `json:"file"`
	Tags int    `json:"tags"`
}

// Type names the record.
func (*tagsRead) Type() string { return "pool_tags_read" }

// WriteText tells how many there were.
func (r *tagsRead) WriteText(p *report.Printer) {
	p.Printf("%d descriptions of tags read from %s\n", r.Tags, r.File)
}

func runPooltags(_ context.Context, s *cmd.Session, in cmd.Args, out report.Sink) error {
	st, err := settings(s)
	if err != nil {
		return err
	}
	name := in.Text("file")
	f, err := os.Open(name)
	if err != nil {
		return fmt.Errorf(".pooltags: %w", err)
	}
	defer f.Close()
	n, err := st.tags.Read(f)
	if err != nil {
		return fmt.Errorf(".pooltags: %s: %w", name, err)
	}
	return out.Emit(&tagsRead{name, n})
}
