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
)

// traceOptions is what was typed behind k.
type traceOptions struct {
	args, verbose, sites, numbers, distance, how, noSource bool

	count int // frames; 0: the session's depth
	start *start
}

// start is a place to walk from that was given by numbers.
type start struct {
	sp mem.VA
	ip mem.VA // 0: the instruction pointer of the scope
	bp mem.VA // known where hasBP
	// hasBP tells that three addresses were given.
	hasBP bool
}

// maxFrames is the most frames that a command shows.
const maxFrames = 0xffff

// errNoSuchCommand tells that what follows the k is none of its letters.
var errNoSuchCommand = errors.New("not a k command")

// parseTrace reads the letters and arguments of k (documentation of the
// debuggers, "k, kb, kc, kd, kp, kP, kv"): letters in any order behind the k,
// L and M as words too, then a number of frames, or "=" with addresses and maybe
// a number. joined tells that the text follows the k without a blank.
func parseTrace(ctx context.Context, e cmd.Evaluator, text string, joined bool) (traceOptions, error) {
	var o traceOptions
	if joined {
		n, err := o.letters(text)
		if err != nil {
			return o, err
		}
		text = text[n:]
	}
	// -how is ours and may stand anywhere: behind a number it would be a difference.
	if i := strings.Index(text, "-how"); i >= 0 && (i == 0 || text[i-1] == ' ') && (i+4 == len(text) || text[i+4] == ' ') {
		o.how, text = true, text[:i]+text[i+4:]
	}
	for {
		text = strings.TrimLeft(text, " \t")
		word, rest, _ := strings.Cut(text, " ")
		switch {
		case text == "":
			return o, nil
		case strings.EqualFold(word, "L"):
			o.noSource, text = true, rest
		case strings.EqualFold(word, "M"):
			text = rest // links, which a terminal has not
		case text[0] == '=':
			return o, o.from(ctx, e, text[1:])
		case text[0] == '-', text[0] == '/':
			return o, fmt.Errorf("unknown switch %s", word)
		default:
			rest, err := o.number(ctx, e, text)
			if err != nil {
				return o, err
			}
			text = rest
		}
	}
}

// letters reads what is joined to the k, and tells how much of it are letters.
func (o *traceOptions) letters(text string) (int, error) {
	kinds := 0
	for i := 0; i < len(text); i++ {
		switch text[i] {
		case 'b', 'B':
			o.args = true
			kinds++
		case 'v', 'V':
			o.verbose = true
			kinds++
		case 'p', 'P': // parameters by type: no symbols here know them
			kinds++
		case 'c', 'C':
			o.sites = true
		case 'n', 'N':
			o.numbers = true
		case 'f', 'F':
			o.distance = true
		case 'L', 'l':
			o.noSource = true
		case 'M', 'm':
		case ' ', '\t', '=', '0', '1', '2', '3', '4', '5', '6', '7', '8', '9':
			return i, o.oneKind(kinds)
		default:
			return 0, errNoSuchCommand
		}
	}
	return len(text), o.oneKind(kinds)
}

// oneKind refuses letters that exclude each other.
func (o *traceOptions) oneKind(kinds int) error {
	if kinds > 1 {
		return errors.New("of b, p, P and v only one can stand behind k")
	}
	return nil
}

// number reads a number of frames, and gives what follows it.
func (o *traceOptions) number(ctx context.Context, e cmd.Evaluator, text string) (string, error) {
	v, rest, err := e.EvalPrefix(ctx, text)
	switch {
	case err != nil:
		return "", err
	case o.count != 0:
		return "", fmt.Errorf("%q: a number of frames was given already", text)
	case v == 0 || v > maxFrames:
		return "", fmt.Errorf("%#x frames: 1 to %#x can be shown", v, maxFrames)
	}
	o.count = int(v)
	return rest, nil
}

// from reads the addresses behind "=". On x64 these are, by the documentation,
// StackPtr FrameCount or StackPtr InstructionPtr FrameCount; the form of x86,
// BasePtr StackPtr InstructionPtr, is what most hands type. A last number that
// is small is a count.
func (o *traceOptions) from(ctx context.Context, e cmd.Evaluator, text string) error {
	var list []uint64
	for strings.TrimLeft(text, " \t") != "" {
		if len(list) == 4 {
			return fmt.Errorf("more than BasePtr StackPtr InstructionPtr FrameCount: %q", strings.TrimSpace(text))
		}
		v, rest, err := e.EvalPrefix(ctx, strings.TrimLeft(text, " \t"))
		if err != nil {
			return err
		}
		list, text = append(list, v), rest
	}
	if n := len(list); n > 1 && list[n-1] <= maxFrames {
		if list[n-1] == 0 {
			return errors.New("0 frames: at least one can be shown")
		}
		o.count, list = int(list[n-1]), list[:n-1]
	}
	s := &start{}
	switch len(list) {
	case 1:
		s.sp = mem.VA(list[0])
	case 2:
		s.sp, s.ip = mem.VA(list[0]), mem.VA(list[1])
	case 3:
		s.bp, s.sp, s.ip, s.hasBP = mem.VA(list[0]), mem.VA(list[1]), mem.VA(list[2]), true
	default:
		return errors.New("= needs the stack pointer: = StackPtr, = StackPtr InstructionPtr or = BasePtr StackPtr InstructionPtr")
	}
	o.start = s
	return nil
}

// columns gives what is shown of each frame. From the debuggers of Windows 10
// on every k command numbers its frames.
func (o *traceOptions) columns(era report.Era) show.Columns {
	c := show.Columns{
		Numbers:  o.numbers || era != report.Era62,
		Distance: o.distance,
		NoSource: o.noSource,
		How:      o.how,
	}
	if o.sites {
		return c
	}
	c.SP = !o.args // kb shows none on x64
	c.Return, c.Args, c.Trap = true, o.args || o.verbose, o.verbose
	return c
}
