package memory

import (
	"context"
	"encoding/binary"

	"gokd/commands/cmd"
	"gokd/commands/report"
)

// Limits of a list: what kd shows unless told otherwise, and what is kept of the
// way to see a list that runs into itself.
const (
	defaultList    = 32
	maxList        = 1 << 20
	defaultElement = 4 // pointers of each member
	maxElement     = 128
)

var listCommands = []*cmd.Command{
	followCommand("dl", false, "follow a linked list and show its members"),
	followCommand("dlb", true, "follow a linked list backward and show its members"),
}

func followCommand(name string, back bool, summary string) *cmd.Command {
	return &cmd.Command{
		Name: name, Group: cmd.GroupMemory,
		Summary: summary,
		Args:    restArg("Address [Count [Size]]", "members at most, 20 (hex) by default; pointers of each, 4", false),
		Needs:   cmd.NeedTarget,
		Help: `dl follows the first pointer of each member, dlb the second, and both show its
first pointers. The list ends where it comes back to its first member, or at a null
pointer. A list that breaks off, runs into itself elsewhere, or goes on beyond the
count, is told.`,
		Example: name + " nt!PsActiveProcessHead 3",
		SeeAlso: []string{"!dflink", "!dblink", "dps"},
		Run: func(ctx context.Context, s *cmd.Session, in cmd.Args, out report.Sink) error {
			w, err := parseList(ctx, s.Eval, in.Raw)
			if err != nil {
				return err
			}
			w.back = back
			return w.run(ctx, s, out)
		},
	}
}

var flinkCommand = linkCommand("!dflink", false, "follow a list of the kernel forward, by Flink")
var blinkCommand = linkCommand("!dblink", true, "follow a list of the kernel backward, by Blink")

func linkCommand(name string, back bool, summary string) *cmd.Command {
	return &cmd.Command{
		Name: name, Group: cmd.GroupMemory,
		Summary: summary,
		Args:    restArg("Address [Count [Bias]]", "members at most, 20 (hex) by default; bits of each pointer to ignore", false),
		Needs:   cmd.NeedTarget,
		Help: `The address is that of a LIST_ENTRY. The first four pointers of each member are
shown. Bias is a mask of bits that are not part of the pointers.`,
		Example: name + " nt!PsLoadedModuleList 3",
		SeeAlso: []string{"dl"},
		Run: func(ctx context.Context, s *cmd.Session, in cmd.Args, out report.Sink) error {
			w, err := parseLink(ctx, s.Eval, in.Raw)
			if err != nil {
				return err
			}
			w.back = back
			return w.run(ctx, s, out)
		},
	}
}

// walk is a list to follow.
type walk struct {
	start uint64
	count uint64
	size  uint64 // pointers of each member
	bias  uint64 // bits to ignore
	back  bool
}

// parseList reads what follows dl.
func parseList(ctx context.Context, e cmd.Evaluator, text string) (walk, error) {
	w := walk{size: defaultElement}
	list, err := numbers(ctx, e, text, 3)
	if err != nil {
		return w, err
	}
	if len(list) > 2 {
		w.size = list[2]
	}
	if w.size == 0 || w.size > maxElement {
		return w, wrong("%#x pointers of each member: want 1 to %#x", w.size, maxElement)
	}
	return w, w.bounds(list)
}

// parseLink reads what follows !dflink and !dblink.
func parseLink(ctx context.Context, e cmd.Evaluator, text string) (walk, error) {
	w := walk{size: defaultElement}
	list, err := numbers(ctx, e, text, 3)
	if err != nil {
		return w, err
	}
	if len(list) > 2 {
		w.bias = list[2]
	}
	return w, w.bounds(list)
}

func (w *walk) bounds(list []uint64) error {
	w.start, w.count = list[0], defaultList
	if len(list) > 1 {
		w.count = list[1]
	}
	if w.count == 0 || w.count > maxList {
		return wrong("%#x members: want 1 to %#x", w.count, maxList)
	}
	return nil
}

// numbers reads one to max expressions with blanks between them.
func numbers(ctx context.Context, e cmd.Evaluator, text string, max int) ([]uint64, error) {
	var list []uint64
	for text != "" {
		if len(list) == max {
			return nil, wrong("unexpected %q", text)
		}
		v, rest, err := e.EvalPrefix(ctx, text)
		if err != nil {
			return nil, err
		}
		if len(rest) >= len(text) {
			return nil, wrong("unexpected %q", text)
		}
		list, text = append(list, v), rest
	}
	if len(list) == 0 {
		return nil, wrong("an address is missing")
	}
	return list, nil
}

// run follows the list and shows each member.
func (w walk) run(ctx context.Context, s *cmd.Session, out report.Sink) error {
	src, err := virtual(s)
	if err != nil {
		return err
	}
	f := formatNamed("dp")
	b, have := make([]byte, 8*w.size), make([]bool, 8*w.size)
	seen := map[uint64]bool{}
	at := w.start
	for n := uint64(0); ; n++ {
		switch {
		case ctx.Err() != nil:
			return ctx.Err()
		case n > 0 && at == w.start, at == 0:
			return nil
		case seen[at]:
			return out.Emit(report.Notef("The list runs into itself at %s and never comes back to %s: it is damaged.", report.Addr(at), report.Addr(w.start)))
		case n == w.count:
			return out.Emit(report.Notef("The list goes on at %s; a count after the address shows more.", report.Addr(at)))
		}
		seen[at] = true
		first := src.fill(b, have, at)
		for off := uint64(0); off < uint64(len(b)); off += 16 {
			end := min(off+16, uint64(len(b)))
			x := newRow(src, f, at+off, b[off:end], have[off:end], f.columns)
			x.Missing.Set("values", first)
			if err := out.Emit(x); err != nil {
				return err
			}
		}
		next, err := w.link(src, at)
		if err != nil {
			return out.Emit(report.Notef("The list breaks off: its next member is not known: %v.", err))
		}
		at = next
	}
}

// link reads the pointer that leads to the next member.
func (w walk) link(src source, at uint64) (uint64, error) {
	if w.back {
		at += 8
	}
	var b [8]byte
	if _, err := src.read(b[:], at); err != nil {
		return 0, err
	}
	return binary.LittleEndian.Uint64(b[:]) &^ w.bias, nil
}
