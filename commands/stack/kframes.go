package stack

import (
	"context"
	"fmt"

	"gokd/commands/cmd"
	"gokd/commands/report"
)

var kframes = &cmd.Command{
	Name: ".kframes", Group: cmd.GroupThread,
	Summary: "set how many frames k shows",
	Args:    []cmd.Arg{{Name: "count", Kind: cmd.KindFlags, Optional: true, Doc: "frames, from 1 to ffff; a number is hexadecimal"}},
	Help: `Sets how many frames the k commands show, and how many words kd, where no number
is given. Alone it shows the number. It is 256 when gokd starts.`,
	Example: ".kframes 20\n.kframes",
	SeeAlso: []string{"k"},
	Run: func(_ context.Context, s *cmd.Session, in cmd.Args, out report.Sink) error {
		if in.Has("count") {
			n := in.Uint("count", 0)
			if n == 0 || n > maxFrames {
				return cmd.Misuse(fmt.Errorf("%#x frames: 1 to %#x can be shown", n, maxFrames))
			}
			s.StackDepth = int(n)
		}
		return out.Emit(stackDepth{Depth: depth(s)})
	},
}

// stackDepth is the record of the number of frames.
type stackDepth struct {
	Depth int `json:"depth"`
}

// Type names the record.
func (stackDepth) Type() string { return "stack_depth" }

// WriteText writes it as .kframes does.
func (d stackDepth) WriteText(p *report.Printer) {
	p.Printf("Default stack trace depth is 0n%d frames\n", d.Depth)
}
