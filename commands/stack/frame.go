package stack

import (
	"context"
	"fmt"
	"strings"

	"gokd/commands/cmd"
	"gokd/commands/report"
	"gokd/commands/show"
	"gokd/model/mem"
	"gokd/model/unwind"
)

var localFrame = &cmd.Command{
	Name: ".frame", Group: cmd.GroupThread,
	Summary: "choose a frame of the stack and show its registers",
	Args: []cmd.Arg{{
		Name: "options", Kind: cmd.KindRest, Optional: true,
		Doc: "/r show the frame's registers, /c use them; the frame's number as k shows it, or = BasePtr StackPtr InstructionPtr",
	}},
	Needs: cmd.NeedTarget,
	Help: `Makes a frame of the stack the current one, @$frame, and shows its line; alone it
shows which one that is. /r shows the registers in that frame: what functions
preserve is followed through the unwind data, all else has question marks. /c
makes them the register context, so that r and k start from that frame, which is
number 0 then; .cxr goes back. A number is hexadecimal.`,
	Example: ".frame 2\n.frame /r 0n1\n.frame",
	SeeAlso: []string{"k", "r", ".cxr"},
	Run:     runFrame,
}

// frameOptions is what was typed behind .frame.
type frameOptions struct {
	registers, use, given bool

	number int
	start  *start
}

// parseFrame reads the switches and the number, or the addresses behind "=".
func parseFrame(ctx context.Context, e cmd.Evaluator, text string) (o frameOptions, err error) {
	for {
		text = strings.TrimLeft(text, " \t")
		switch {
		case text == "":
			return o, nil
		case len(text) > 1 && (text[0] == '/' || text[0] == '-') && strings.IndexByte("rRcC", text[1]) >= 0:
			o.registers = true
			o.use = o.use || text[1]|0x20 == 'c'
			text = text[2:]
			continue
		case text[0] == '/':
			return o, fmt.Errorf("unknown switch %s", strings.Fields(text)[0])
		case text[0] == '=':
			var t traceOptions
			if err := t.from(ctx, e, text[1:]); err != nil {
				return o, err
			}
			o.start, o.given = t.start, true
			return o, nil
		case o.given:
			return o, fmt.Errorf("unexpected %q behind the frame's number", text)
		}
		v, rest, err := e.EvalPrefix(ctx, text)
		if err != nil {
			return o, err
		}
		if v > maxFrames {
			return o, fmt.Errorf("frame %#x: numbers go up to %#x", v, maxFrames)
		}
		o.number, o.given, text = int(v), true, rest
	}
}

func runFrame(ctx context.Context, s *cmd.Session, in cmd.Args, out report.Sink) error {
	o, err := parseFrame(ctx, s.Eval, in.Raw)
	if err != nil {
		return cmd.Misuse(err)
	}
	n := o.number
	if !o.given {
		n = s.Scope.Frame
	}
	w := unwind.Options{MaxFrames: n + 1, NoArgs: true}
	st, err := traceAt(ctx, s, o.start, w)
	if err != nil {
		return fmt.Errorf(".frame: %w", err)
	}
	if n >= len(st.Frames) {
		return &kdError{fmt.Sprintf("Cannot find frame %#x, previous scope unchanged", n), st.Err}
	}
	s.Scope.Frame = n
	if err := emitFrame(out, st, n, show.Sources(ctx, s)); err != nil {
		return err
	}
	if !o.registers {
		return nil
	}
	v := frameView(s, &st.Frames[n], n)
	if o.use {
		v.apply(s)
	}
	return out.Emit(contextRecord(ctx, s, v))
}

// emitFrame writes the line of frame n.
func emitFrame(out report.Sink, st *unwind.Stack, n int, source func(mem.VA) *show.Source) error {
	r := &frameRecord{Frame: show.Frames(st, source)[n], options: &traceOptions{numbers: true}}
	r.number(n)
	r.Instruction = report.Addr(st.Frames[n].RIP)
	r.below = &r.Frame // no warning about it: this is one frame, not a stack
	return out.Emit(r)
}

// frameView gives the registers in frame n of the scope's stack.
func frameView(s *cmd.Session, f *unwind.Frame, n int) *view {
	v := &view{regs: f.Regs, known: f.Known, set: setFrame, marks: true, noFlags: f.Regs.EFlags == 0}
	v.called = f.How != unwind.HowContext && f.How != unwind.HowMachineFrame && f.How != unwind.HowUser
	// The first frame is the context itself, with all that it knows.
	if n == 0 {
		if base, err := scopeView(s); err == nil && base.regs == f.Regs {
			v.raw, v.noSegments = base.raw, base.noSegments
			v.called = base.called
		}
	}
	return v
}
