package script

import (
	"context"
	"errors"
	"strings"

	"gokd/commands/cmd"
	"gokd/commands/report"
)

// token declares a control flow token. end tells where it ends in a text.
func token(name, usage, summary, help, example string, end func(raw string) int, run func(context.Context, *cmd.Session, string) error) *cmd.Command {
	return &cmd.Command{
		Name: name, Group: cmd.GroupScript, Block: true, Cut: end,
		Summary: summary, Help: help, Example: example, SeeAlso: seeAlso(name),
		Args: []cmd.Arg{{Name: usage, Kind: cmd.KindRest, Doc: "as the usage shows it"}},
		Run: func(ctx context.Context, s *cmd.Session, in cmd.Args, _ report.Sink) error {
			return run(ctx, s, in.Raw)
		},
	}
}

func seeAlso(name string) []string {
	var list []string
	for _, n := range []string{".if", ".for", ".while", ".do", ".foreach", ".block", ".catch"} {
		if n != name {
			list = append(list, n)
		}
	}
	return list
}

const blockNote = `
A block stands in braces, and may go on over several lines of a command file;
inside it commands are separated by semicolons. Aliases in a block are replaced
when it is entered.`

var dotIf = token(".if", "(condition) { commands } [.elsif (condition) { commands }] [.else { commands }]",
	"run commands where a condition holds",
	`Evaluates the condition and runs the block behind it where the value is not
zero; else the block of the first .elsif whose condition holds, else that of
.else. .break, .continue and .leave may follow a condition without braces.
`+blockNote,
	".if (@$ptrsize == 8) { .echo 64 bits } .else { .echo 32 bits }",
	func(raw string) int { _, end, _ := readIf(raw); return end }, runIf)

func runIf(ctx context.Context, s *cmd.Session, raw string) error {
	list, _, err := readIf(raw)
	if err != nil {
		return err
	}
	for _, b := range list {
		if b.cond != (span{}) {
			v, err := holds(ctx, s, raw, b.cond)
			if err != nil {
				return err
			}
			if !v {
				continue
			}
		}
		return s.RunBlock(ctx, raw, b.body.from, b.body.to)
	}
	return nil
}

// holds evaluates a condition.
func holds(ctx context.Context, s *cmd.Session, raw string, cond span) (bool, error) {
	if s.Eval == nil {
		return false, errors.New("no evaluator")
	}
	v, err := s.Eval.Eval(ctx, expr(raw, cond))
	return v != 0, err
}

// stray declares a part of a token that has no meaning by itself.
func stray(name, whole string) *cmd.Command {
	c := token(name, "{ commands }", "go on with "+whole, "Part of "+whole+"; by itself it is an error.", "",
		nil, func(context.Context, *cmd.Session, string) error {
			return cmd.InWords("Syntax error at '%s': it follows the block of %s", name, whole)
		})
	c.SeeAlso = []string{".if"}
	return c
}

var (
	dotElse  = stray(".else", ".if")
	dotElsif = stray(".elsif", ".if")
)

// forLoop is a .for that was read.
type forLoop struct {
	init, cond, step, body span
	end                    int
}

func readFor(raw string) (f forLoop, err error) {
	i := skip(raw, 0, blanks)
	if i == len(raw) || raw[i] != '(' {
		f.end = statement(raw, i)
		return f, syntax(raw, i, "'(' is expected after .for")
	}
	shut, ok := closing(raw, i)
	if !ok {
		f.end = shut
		return f, syntax(raw, i, "')' is missing")
	}
	list := parts(raw, span{i + 1, shut - 1})
	f.body, f.end, err = braces(raw, shut, ".for ( )")
	if err == nil && len(list) != 3 {
		err = syntax(raw, i, "two semicolons are expected between the parentheses: (command; condition; commands)")
	}
	if err == nil {
		f.init, f.cond, f.step = list[0], list[1], list[2]
	}
	return f, err
}

var dotFor = token(".for", "(command; condition; commands) { commands }",
	"run commands in a counted loop",
	`Runs the first command, then the block and after it the last commands for as
long as the condition holds. Several commands at the end are separated by
semicolons. Without a condition only .break ends the loop. Ctrl-C ends any loop.
`+blockNote,
	".for (r $t0 = 0; @$t0 < 3; r $t0 = @$t0 + 1) { .printf \"%d\\n\", @$t0 }",
	func(raw string) int { f, _ := readFor(raw); return f.end }, runFor)

func runFor(ctx context.Context, s *cmd.Session, raw string) error {
	f, err := readFor(raw)
	if err != nil {
		return err
	}
	if err := s.RunCommands(ctx, raw, f.init.from, f.init.to); err != nil {
		return err
	}
	endless := expr(raw, f.cond) == ""
	for {
		if !endless {
			if v, err := holds(ctx, s, raw, f.cond); err != nil || !v {
				return err
			}
		}
		if done, err := s.Round(ctx, raw, f.body.from, f.body.to); done {
			return err
		}
		if err := s.RunCommands(ctx, raw, f.step.from, f.step.to); err != nil {
			return err
		}
	}
}

func readWhile(raw string) (cond, body span, end int, err error) {
	if cond, end, err = condition(raw, 0); err == nil {
		body, end, err = conditional(raw, cond, end)
	}
	return cond, body, end, err
}

var dotWhile = token(".while", "(condition) { commands }",
	"run commands while a condition holds",
	`Evaluates the condition and runs the block, again and again, until the condition
is zero, .break leaves the loop, or Ctrl-C is pressed.
`+blockNote,
	"r $t0 = 3; .while (@$t0 > 0) { .printf \"%d \", @$t0; r $t0 = @$t0 - 1 }",
	func(raw string) int { _, _, end, _ := readWhile(raw); return end }, runWhile)

func runWhile(ctx context.Context, s *cmd.Session, raw string) error {
	cond, body, _, err := readWhile(raw)
	if err != nil {
		return err
	}
	for {
		if v, err := holds(ctx, s, raw, cond); err != nil || !v {
			return err
		}
		if done, err := s.Round(ctx, raw, body.from, body.to); done {
			return err
		}
	}
}

func readDo(raw string) (body, cond span, end int, err error) {
	if body, end, err = braces(raw, 0, ".do"); err != nil {
		return body, cond, end, err
	}
	i := skip(raw, end, blanks)
	if i < len(raw) && raw[i] == '(' {
		shut, ok := closing(raw, i)
		if !ok {
			return body, cond, shut, syntax(raw, i, "')' is missing")
		}
		return body, span{i, shut}, shut, nil
	}
	end = statement(raw, i)
	if strings.TrimSpace(raw[i:end]) == "" {
		return body, cond, end, errNoCondition
	}
	return body, span{i, end}, end, nil
}

var dotDo = token(".do", "{ commands } (condition)",
	"run commands, and again while a condition holds",
	`Runs the block, then evaluates the condition and runs it again while the value
is not zero: once at least. There is no word between the two.
`+blockNote,
	"r $t0 = 0; .do { .printf \"%d \", @$t0; r $t0 = @$t0 + 1 } (@$t0 < 5)",
	func(raw string) int { _, _, end, _ := readDo(raw); return end }, runDo)

func runDo(ctx context.Context, s *cmd.Session, raw string) error {
	body, cond, _, err := readDo(raw)
	if err != nil {
		return err
	}
	for {
		if done, err := s.Round(ctx, raw, body.from, body.to); done {
			return err
		}
		if v, err := holds(ctx, s, raw, cond); err != nil || !v {
			return err
		}
	}
}

func blockOnly(name string) func(raw string) int {
	return func(raw string) int { _, end, _ := braces(raw, 0, name); return end }
}

var dotBlock = token(".block", "{ commands }",
	"run commands as a block of their own",
	`Runs the block. Aliases that were set since the block around it was entered have
their new value in it, which is what it is for.
`+blockNote,
	"aS /x sum 2 + 3; .block { .echo the sum is ${sum} }",
	blockOnly(".block"), func(ctx context.Context, s *cmd.Session, raw string) error {
		body, _, err := braces(raw, 0, ".block")
		if err != nil {
			return err
		}
		return s.RunBlock(ctx, raw, body.from, body.to)
	})

var dotCatch = token(".catch", "{ commands }",
	"run commands whose failure does not end a script",
	`Runs the commands between braces. The first that fails ends the block, is shown,
and is forgotten: the script goes on behind the block. .leave ends the block, too.
`+blockNote,
	".catch { lm m nt; .time }",
	blockOnly(".catch"), func(ctx context.Context, s *cmd.Session, raw string) error {
		body, _, err := braces(raw, 0, ".catch")
		if err != nil {
			return err
		}
		return s.Catch(ctx, raw[:body.to], body.from)
	})

// jumpOut declares .break and its kin.
func jumpOut(name, summary, help string, run func(*cmd.Session) error) *cmd.Command {
	return &cmd.Command{
		Name: name, Group: cmd.GroupScript, Summary: summary, Help: help,
		SeeAlso: []string{".for", ".while", ".do", ".foreach", ".catch"},
		Run: func(_ context.Context, s *cmd.Session, _ cmd.Args, _ report.Sink) error {
			return run(s)
		},
	}
}

var (
	dotBreak = jumpOut(".break", "leave a loop",
		"Ends the innermost .for, .while, .do or .foreach at once. Outside a loop it is an\nerror.", (*cmd.Session).Break)
	dotContinue = jumpOut(".continue", "go on with the next round of a loop",
		"Ends this round of the innermost .for, .while, .do or .foreach; .for runs its\nlast commands. Outside a loop it is an error.", (*cmd.Session).Continue)
	dotLeave = jumpOut(".leave", "leave a .catch block",
		"Ends the innermost .catch block at once; it is no failure. Outside one it is an\nerror.", (*cmd.Session).Leave)
)
