package symbol

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"gokd/commands/cmd"
	"gokd/commands/report"
	"gokd/model/mem"
)

var list = &cmd.Command{
	Name: "!list", Group: cmd.GroupSymbols, Cut: listEnd,
	Summary: "run commands for each member of a linked list",
	Help: `Runs commands for each structure of a list. $extret is the address of the structure;
where the commands do not use it, it is put behind them.

  -t [MODULE!]TYPE.FIELD  the type, and the field that links to the next structure
  -x "COMMANDS"           what to run; dp without it
  -a "ARGUMENTS"          put behind the address
  -e                      show the commands before each run
  -m MAX                  at most that many

Several commands need the whole in quotes, with \" inside: see the example. The
list ends at a null pointer or where it comes back to its start. One that comes
back to another member, or that breaks off at memory that is not in the dump,
ends with a line that says so.`,
	Example: `!list -t nt!_LIST_ENTRY.Flink -m 3 -x ".echo" nt!PsActiveProcessHead` + "\n" +
		`!list "-t nt!_LIST_ENTRY.Flink -m 2 -x \"? @$extret; .echo next\" nt!PsActiveProcessHead"`,
	SeeAlso: []string{"dt"},
	Args: []cmd.Arg{{
		Name: `-t TYPE.FIELD [-x "COMMANDS"] [-a "ARGUMENTS"] [-e] [-m MAX] ADDRESS`, Kind: cmd.KindRest, Complete: cmd.CompleteType,
		Doc: "the list and what to run for its members",
	}},
	Needs: cmd.NeedTarget,
	Run:   runList,
}

// listEnd gives the end of !list's arguments: a semicolon outside quotes, of
// which those behind a backslash are none.
func listEnd(after string) int {
	in := false
	for i := 0; i < len(after); i++ {
		switch c := after[i]; {
		case c == '\\' && i+1 < len(after) && (after[i+1] == '"' || after[i+1] == '\\'):
			i++
		case c == '"':
			in = !in
		case c == '\n', c == ';' && !in:
			return i
		}
	}
	return len(after)
}

// listOptions are what a line of !list asks for.
type listOptions struct {
	module, name, field string
	commands, arguments string
	echo                bool
	max                 uint64
	start               string // the expression of the first address
}

// parseList reads the arguments of !list.
func parseList(ctx context.Context, text string, eval cmd.Evaluator) (o listOptions, err error) {
	words, err := cmd.Words(text)
	if err != nil {
		return o, err
	}
	// The whole may stand in quotes: its own quotes are escaped then.
	if len(words) == 1 && strings.HasPrefix(strings.TrimSpace(text), `"`) {
		if words, err = cmd.Words(words[0]); err != nil {
			return o, err
		}
	}
	o.max = maxElements
	for len(words) > 0 {
		w := words[0]
		words = words[1:]
		if len(w) != 2 || w[0] != '-' || strings.IndexByte("txaem", w[1]) < 0 {
			o.start = strings.TrimSpace(o.start + " " + w)
			continue
		}
		if w[1] == 'e' {
			o.echo = true
			continue
		}
		if len(words) == 0 {
			return o, fmt.Errorf("%s needs a word after it", w)
		}
		if err := o.option(ctx, w[1], words[0], eval); err != nil {
			return o, err
		}
		words = words[1:]
	}
	switch {
	case o.name == "":
		return o, errors.New("-t TYPE.FIELD is missing")
	case o.start == "":
		return o, errors.New("the address of the first structure is missing")
	case strings.TrimSpace(o.commands) == "":
		o.commands = "dp"
	}
	return o, nil
}

func (o *listOptions) option(ctx context.Context, letter byte, word string, eval cmd.Evaluator) error {
	switch letter {
	case 'x':
		o.commands = word
	case 'a':
		o.arguments = word
	case 'm':
		if eval == nil {
			return fmt.Errorf("no evaluator for %q", word)
		}
		n, err := eval.Eval(ctx, word)
		o.max = min(n, maxElements)
		return err
	default:
		name := word
		if module, rest, ok := strings.Cut(word, "!"); ok {
			o.module, name = module, rest
		}
		typ, field, ok := strings.Cut(name, ".")
		if !ok || typ == "" || field == "" {
			return fmt.Errorf("-t %s: want TYPE.FIELD, as in nt!_LIST_ENTRY.Flink", word)
		}
		o.name, o.field = typ, field
	}
	return nil
}

// line gives the commands for one structure.
func (o *listOptions) line(at uint64) string {
	line := o.commands
	if !strings.Contains(strings.ToLower(line), "$extret") {
		line += fmt.Sprintf(" 0x%x", at)
	}
	if o.arguments != "" {
		line += " " + o.arguments
	}
	return line
}

func runList(ctx context.Context, s *cmd.Session, in cmd.Args, out report.Sink) error {
	o, err := parseList(ctx, in.Raw, s.Eval)
	if err != nil {
		return cmd.Misuse(err)
	}
	if s.Eval == nil {
		return fmt.Errorf("!list: no evaluator for %q", o.start)
	}
	start, err := s.Eval.Eval(ctx, o.start)
	if err != nil {
		return cmd.Misuse(err)
	}
	ty, err := findType(ctx, s, o.module, o.name)
	if err != nil {
		return err
	}
	next, err := linkOf(ty.store, ty.t, o.field)
	if err != nil {
		return fmt.Errorf("-t %s.%s: %w", o.name, o.field, err)
	}
	return walkList(ctx, s, &o, next, start, out)
}

// walkList runs the commands for each structure.
func walkList(ctx context.Context, s *cmd.Session, o *listOptions, next *link, start uint64, out report.Sink) error {
	m := &reader{read: func(p []byte, at uint64) (int, error) { return s.ReadVirtual(p, mem.VA(at)) }}
	seen := map[uint64]bool{}
	runs := &repeated{s: s}
	for at := start; uint64(runs.count) < o.max; {
		if err := s.SetPseudo("$extret", at); err != nil {
			return err
		}
		if o.echo {
			if err := out.Emit(report.Textf("%s\n", o.commands)); err != nil {
				return err
			}
		}
		if err := runs.run(ctx, o.line(at)); err != nil {
			return err
		}
		if err := out.Emit(report.Text("\n")); err != nil {
			return err
		}
		seen[at] = true
		to, err := next.next(m, at)
		switch {
		case s.Quit:
			return nil
		case err != nil:
			return emitAll(out, report.Notef("the list breaks off: %v; %d shown", err, len(seen)))
		case to == 0 || to == start:
			return runs.end(out)
		case seen[to]:
			return emitAll(out, report.Notef("the list comes back to %#x, not to its start; %d shown", to, len(seen)))
		}
		at = to
	}
	return runs.end(out)
}

// repeated runs commands again and again. One that fails has said so; the others
// are run all the same, as kd does.
type repeated struct {
	s      *cmd.Session
	count  int
	failed int
}

func (r *repeated) run(ctx context.Context, line string) error {
	r.count++
	err := r.s.Execute(ctx, line)
	switch {
	case ctx.Err() != nil:
		return ctx.Err()
	case err != nil:
		r.failed++
	}
	return nil
}

// end says how many runs failed.
func (r *repeated) end(out report.Sink) error {
	if r.failed == 0 {
		return nil
	}
	return out.Emit(report.Notef("%d of %d runs failed", r.failed, r.count))
}
