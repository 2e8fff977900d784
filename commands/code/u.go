package code

import (
	"context"
	"fmt"
	"regexp"
	"strings"

	"gokd/commands/cmd"
	"gokd/commands/report"
)

const rangeDoc = "[range]: ADDRESS, ADDRESS END or ADDRESS L COUNT of instructions; none: go on where the last one ended"

func rangeArg() []cmd.Arg {
	return []cmd.Arg{{Name: "range", Kind: cmd.KindRest, Optional: true, Complete: cmd.CompleteSymbol, Doc: rangeDoc}}
}

var unassemble = &cmd.Command{
	Name: "u", Group: cmd.GroupCode,
	Summary: "show instructions",
	Args:    rangeArg(),
	Needs:   cmd.NeedTarget,
	Help: `Shows eight instructions, or those of a range; L COUNT counts instructions. Without
an address it goes on where the last one ended, at first at the instruction
pointer. A line with a name and a colon stands before the first instruction and
wherever a symbol begins.

Code comes from the dump; pages that it does not hold come from the image's file
where that is at hand (-i). Kernel-mode dumps hold no pages that were paged out,
small ones hardly any code. Where a driver or a hook changed code in memory, the
dump shows the changed code, an image file the original.`,
	Example: "u nt!KeWaitForSingleObject\nu\nu @rip L1",
	SeeAlso: []string{"ub", "uf", "uu", "up", ".asm"},
	Run: func(ctx context.Context, s *cmd.Session, in cmd.Args, out report.Sink) error {
		return runForward(ctx, s, in.Raw, out, listing{command: "u"})
	},
}

var unassembleOn = &cmd.Command{
	Name: "uu", Group: cmd.GroupCode,
	Summary: "show instructions, past memory that can't be read",
	Args:    rangeArg(),
	Needs:   cmd.NeedTarget,
	Help: `Shows instructions as u does, but goes on where bytes can't be read: each such
byte has a line with question marks and counts as an instruction.`,
	Example: "uu nt!KeWaitForSingleObject L2",
	SeeAlso: []string{"u"},
	Run: func(ctx context.Context, s *cmd.Session, in cmd.Args, out report.Sink) error {
		return runForward(ctx, s, in.Raw, out, listing{command: "uu", goOn: true})
	},
}

var unassemblePhysical = &cmd.Command{
	Name: "up", Group: cmd.GroupCode,
	Summary: "show instructions in physical memory",
	Args:    rangeArg(),
	Needs:   cmd.NeedTarget,
	Help: `Shows instructions as u does, at a physical address, as !pte and !vtop give it.
Physical addresses have no names, and targets of jumps are physical too: they mean
nothing beyond the page.`,
	Example: "up 187000 L2",
	SeeAlso: []string{"u", "!pte", "!vtop"},
	Run: func(ctx context.Context, s *cmd.Session, in cmd.Args, out report.Sink) error {
		return runForward(ctx, s, in.Raw, out, listing{command: "up", physical: true})
	},
}

// listing is a kind of listing.
type listing struct {
	command  string
	goOn     bool // past what can't be read
	physical bool
}

const (
	defaultCount = 8
	// maxInstructions bounds one listing.
	maxInstructions = 1 << 20
)

// span is what a listing is asked for: a number of instructions, or all that
// begin up to an address.
type span struct {
	start uint64
	count uint64
	upTo  bool   // end counts, not count
	end   uint64 // the last address
	back  bool   // "L-": the instructions before start
}

// parseSpan reads a range of instructions. given is false where no address was
// typed.
func parseSpan(ctx context.Context, e cmd.Evaluator, text string) (sp span, given bool, err error) {
	text = strings.TrimSpace(text)
	sp.count = defaultCount
	if text == "" {
		return sp, false, nil
	}
	if e == nil {
		return sp, false, fmt.Errorf("no evaluator for %q", text)
	}
	given = !countOnly.MatchString(text) // "u L3" goes on where the last one ended
	rest, start := text, uint64(0)
	if given {
		if start, rest, err = e.EvalPrefix(ctx, text); err != nil {
			return sp, false, err
		}
	}
	sp.start = start
	rest = strings.TrimSpace(rest)
	switch {
	case rest == "":
		return sp, true, nil
	case rest[0] == 'L' || rest[0] == 'l':
		number := strings.TrimPrefix(rest[1:], "?")
		number, sp.back = strings.CutPrefix(number, "-")
		sp.count, rest, err = e.EvalPrefix(ctx, number)
	default:
		sp.end, rest, err = e.EvalPrefix(ctx, rest)
		sp.upTo = true
		if err == nil && sp.end < start {
			err = misuse("range %#x to %#x: its end lies below its start", start, sp.end)
		}
	}
	switch {
	case err != nil:
		return sp, false, err
	case strings.TrimSpace(rest) != "":
		return sp, false, misuse("%q: nothing may follow the range", strings.TrimSpace(rest))
	case sp.count > maxInstructions:
		return sp, false, misuse("%#x instructions: at most %#x", sp.count, maxInstructions)
	}
	return sp, given, nil
}

// countOnly is a range of which only the length was typed.
var countOnly = regexp.MustCompile(`^[lL](0n)?[0-9a-fA-F]+$`)

// misuse says that a command was typed wrongly.
func misuse(format string, args ...any) error { return cmd.Misuse(fmt.Errorf(format, args...)) }

// runForward is u, uu and up.
func runForward(ctx context.Context, s *cmd.Session, text string, out report.Sink, l listing) error {
	open := newReader
	if l.physical {
		open = newPhysicalReader
	}
	r, err := open(ctx, s)
	if err != nil {
		return fmt.Errorf("%s: %w", l.command, err)
	}
	sp, given, err := parseSpan(ctx, s.Eval, text)
	if err != nil {
		return err
	}
	st := stateOf(s)
	next := &st.next
	if l.physical {
		next = &st.physical
	}
	switch {
	case given:
		sp.start = r.canonical(sp.start)
	case st.begun[kindOf(l)]:
		sp.start = *next
	case !l.physical:
		if sp.start, err = instructionPointer(s); err != nil {
			return fmt.Errorf("%s: %w; give an address", l.command, err)
		}
	default:
		return misuse("a physical address is missing")
	}
	if sp.back {
		return listBackwards(s, r, sp.start, int(sp.count), l.command+" "+strings.TrimSpace(text), out)
	}
	end, err := r.list(s, sp, l, strings.TrimSpace(l.command+" "+text), out)
	*next, st.begun[kindOf(l)] = end, true
	return err
}

// kindOf names the memory that a listing goes on in.
func kindOf(l listing) string {
	if l.physical {
		return "physical"
	}
	return "virtual"
}

// canonical ends addresses of ARM64 at a whole instruction.
func (r *reader) canonical(at uint64) uint64 {
	if r.arm {
		return at &^ 3
	}
	return at
}

// instructionPointer is where a first listing begins.
func instructionPointer(s *cmd.Session) (uint64, error) {
	if s.Eval == nil {
		return 0, fmt.Errorf("there is no instruction pointer")
	}
	return s.Eval.Eval(context.Background(), "@$ip")
}

// list emits the instructions of a span and gives the address behind them.
func (r *reader) list(s *cmd.Session, sp span, l listing, command string, out report.Sink) (uint64, error) {
	at, first := sp.start, true
	for n := uint64(0); sp.upTo && at <= sp.end || !sp.upTo && n < sp.count; n++ {
		if n >= maxInstructions {
			return at, out.Emit(report.Notef("The listing ends after %d instructions.", n))
		}
		if err := r.ctx.Err(); err != nil {
			return at, err
		}
		inst, err := r.decode(at)
		rec := r.recordOf(at, &inst, err)
		rec.label = r.label(at, first)
		if emit := out.Emit(rec); emit != nil {
			return at, emit
		}
		length := uint64(inst.Len)
		if err != nil {
			if !l.goOn {
				return at, newAccessError(s.Prompt(), command, err)
			}
			length = 1
		}
		if at+length < at {
			break // the end of the address space
		}
		at, first = at+length, false
	}
	return at, nil
}

// label gives the name to be shown above an instruction: that of a symbol which
// begins there, and before the first instruction that of its place.
func (r *reader) label(at uint64, first bool) string {
	n := r.name(at)
	if first || n.Function != "" && n.Offset == 0 {
		return n.String()
	}
	return ""
}
