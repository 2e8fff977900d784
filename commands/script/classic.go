package script

import (
	"context"
	"errors"
	"strings"

	"gokd/commands/cmd"
	"gokd/commands/report"
)

// The conditional commands that are older than the control flow tokens.

var execIf = &cmd.Command{
	Name: "j", Line: true, Group: cmd.GroupScript,
	Summary: "run one of two commands",
	Help: `Evaluates an expression and runs the first command where the value is not zero,
else the second. Several commands stand in single quotes; what follows the second
is left out. .if does the same with blocks.`,
	Example: "j (@$ptrsize == 8) '.echo 64 bits; .echo at least' ; '.echo 32 bits'",
	SeeAlso: []string{".if", "z"},
	Args:    []cmd.Arg{{Name: "expression 'commands' ; 'commands'", Kind: cmd.KindRest, Doc: "the condition, and what to run"}},
	Run: func(ctx context.Context, s *cmd.Session, in cmd.Args, _ report.Sink) error {
		if s.Eval == nil {
			return errors.New("no evaluator")
		}
		v, rest, err := s.Eval.EvalPrefix(ctx, in.Raw)
		if err != nil {
			return err
		}
		i := skip(in.Raw, len(in.Raw)-len(rest), blanks)
		first, i := choice(in.Raw, i)
		if i = skip(in.Raw, i, blanks); i < len(in.Raw) && in.Raw[i] == ';' {
			i = skip(in.Raw, i+1, blanks)
		}
		if v == 0 {
			first, _ = choice(in.Raw, i)
		}
		return s.RunBlock(ctx, in.Raw, first.from, first.to)
	},
}

// choice reads a command of j, or several in single quotes.
func choice(raw string, i int) (span, int) {
	if i < len(raw) && raw[i] == '\'' {
		if n := strings.IndexByte(raw[i+1:], '\''); n >= 0 {
			return span{i + 1, i + 1 + n}, i + n + 2
		}
		return span{i + 1, len(raw)}, len(raw)
	}
	end := statement(raw, i)
	return span{i, end}, end
}

var execWhile = &cmd.Command{
	Name: "z", Group: cmd.GroupScript,
	Summary: "run the commands before it again while a condition holds",
	Help: `Evaluates an expression; where the value is not zero, all commands that stand
before z on the line run again. .while and .do do the same with blocks.`,
	Example: "r $t0 = @$t0 + 1; .printf \"%d \", @$t0; z (@$t0 < 3)",
	SeeAlso: []string{".while", ".do", "j"},
	Args:    []cmd.Arg{{Name: "(condition)", Kind: cmd.KindRest, Doc: "an expression"}},
	Run: func(ctx context.Context, s *cmd.Session, in cmd.Args, _ report.Sink) error {
		if s.Eval == nil {
			return errors.New("no evaluator")
		}
		if v, err := s.Eval.Eval(ctx, in.Raw); err != nil || v == 0 {
			return err
		}
		return s.Again()
	},
}
