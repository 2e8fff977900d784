package stack

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"gokd/commands/cmd"
	"gokd/commands/report"
	"gokd/commands/show"
	"gokd/model/mem"
	"gokd/model/unwind"
)

var stackTrace = &cmd.Command{
	Name: "k", Prefix: true, Group: cmd.GroupThread,
	Summary: "show the stack of the current scope",
	Args: []cmd.Arg{{
		Name: "options", Kind: cmd.KindRest, Optional: true,
		Doc: "letters joined to the k; a number of frames; = StackPtr [InstructionPtr] or = BasePtr StackPtr InstructionPtr; -how",
	}},
	Needs: cmd.NeedTarget,
	Help: `Shows who called whom, from the place where the processor, or the thread of
.thread, stood; after .cxr or .trap from the registers that these set. The letters
may stand in any order: b or v shows the four words where the callee may have kept
its arguments, v also trap frames; c shows nothing but the places; f the bytes
from frame to frame; n numbers (all but -compat 6.2 do that anyway); L leaves out
the source lines that .lines -e switches on. p, P and M are taken and change
nothing: what the parameters held is not looked for. A number is hexadecimal. -how
tells behind each frame how it was found.

Frames come from the images' own unwind data. Where the dump lacks it the stack is
scanned for return addresses below a WARNING line: of these some may be left over
from calls that ended long ago. "Args to Child" is what lies in the caller's home
slots now; optimized code keeps other things there. Frames of user mode are not
walked, and inline functions are not known.`,
	Example: "k\nkvn 4\nkc\nkf -how",
	SeeAlso: []string{".frame", ".kframes", "kd", "!thread", ".thread"},
	Run:     runTrace,

	ReturnAddress: returnAddress,
}

func runTrace(ctx context.Context, s *cmd.Session, in cmd.Args, out report.Sink) error {
	o, err := parseTrace(ctx, s.Eval, in.Raw, in.Joined)
	if errors.Is(err, errNoSuchCommand) {
		word := strings.Fields("k" + in.Raw)[0]
		return &cmd.UnknownError{Line: word, Similar: s.Commands.Similar(word, 3)}
	}
	if err != nil {
		return cmd.Misuse(err)
	}
	w := unwind.Options{MaxFrames: o.count}
	if w.MaxFrames == 0 {
		w.MaxFrames = depth(s)
	}
	st, err := traceAt(ctx, s, o.start, w)
	if err != nil {
		return fmt.Errorf("k: %w", err)
	}
	if o.start == nil && s.Scope.Set != "" {
		if err := out.Emit(report.Text("  *** Stack trace for last set context - .thread/.cxr resets it\n")); err != nil {
			return err
		}
	}
	return emitStack(out, st, &o, show.Sources(ctx, s))
}

// emitStack writes the heading, the frames, and what there is to say of them.
func emitStack(out report.Sink, st *unwind.Stack, o *traceOptions, source func(mem.VA) *show.Source) error {
	if err := out.Emit(heading{o}); err != nil {
		return err
	}
	frames := show.Frames(st, source)
	for i := range frames {
		r := &frameRecord{Frame: frames[i], options: o}
		r.number(i)
		r.Instruction = report.Addr(st.Frames[i].RIP)
		if i > 0 {
			r.below = &frames[i-1]
		}
		if err := out.Emit(r); err != nil {
			return err
		}
	}
	var notes []string
	if st.Note != "" {
		notes = append(notes, st.Note)
	}
	if st.Err != nil {
		notes = append(notes, "the stack ends here: "+st.Err.Error())
	}
	if st.Truncated && o.count == 0 {
		notes = append(notes, fmt.Sprintf("the first %d frames: k COUNT and .kframes show more", len(frames)))
	}
	for _, n := range notes {
		if err := out.Emit(report.Notef("(%s)", n)); err != nil {
			return err
		}
	}
	return nil
}

// heading is the line above the frames.
type heading struct{ o *traceOptions }

// Type names the record.
func (heading) Type() string { return "heading" }

// TextOnly marks it.
func (heading) TextOnly() {}

// WriteText writes the names of the columns.
func (h heading) WriteText(p *report.Printer) {
	p.Printf("%s\n", h.o.columns(p.Era).Heading(p.Era))
}

// frameRecord is the record of one frame.
type frameRecord struct {
	Number int `json:"number"`
	show.Frame
	Instruction  report.Addr   `json:"instruction"`
	Displacement string        `json:"displacement"`
	Arguments    []report.Addr `json:"arguments"` // "args" are those of the command

	below   *show.Frame
	options *traceOptions
}

// number sets what follows from the frame and its number.
func (r *frameRecord) number(n int) {
	r.Number, r.Displacement = n, r.Site()
	if a := r.Args(); a != nil {
		for _, v := range a {
			r.Arguments = append(r.Arguments, report.Addr(v))
		}
	}
}

// Type names the record.
func (*frameRecord) Type() string { return "frame" }

// WriteText writes the frame's row.
func (r *frameRecord) WriteText(p *report.Printer) {
	r.options.columns(p.Era).WriteRow(p, "", r.Number, &r.Frame, r.below)
}
