package session

import (
	"context"
	"errors"
	"fmt"

	"gokd/commands/cmd"
	"gokd/commands/report"
)

var evaluate = &cmd.Command{
	Name: "?", Prefix: true, Group: cmd.GroupSession,
	Summary: "evaluate an expression",
	Help: `Works out an expression and prints it in decimal, signed, and in hexadecimal; ?
alone lists the commands.

  numbers    hexadecimal (n sets the base); 0x hexadecimal, 0n decimal, 0t octal,
             0y binary, 'A' a character; 80000000 to ffffffff extend their sign,
             0` + "`" + `80000000 does not
  symbols    nt!KeBugCheckEx, KeBugCheckEx, nt (its base), nt+1234, !add
  registers  @rip, @eax, @r8d, @al, @zf, @cs; a dot is @$ip
  pseudo     @$t0 to @$t19 (r $t0 = 5 sets one), @$thread, @$proc, @$teb, @$peb,
             @$tid, @$tpid, @$pcr, @$prcb, @$ip, @$eventip, @$csp, @$retreg,
             @$frame, @$ptrsize, @$pagesize, @$exp, @$p, @$extret, @$exentry,
             @$bug_code, @$bug_param1, @$exr_code, @$exr_param0 and so on
  reads      poi(a), by(a), wo(a), dwo(a), qwo(a); $ppoi(a), $pby(a), $pwo(a),
             $pdwo(a), $pqwo(a) of physical memory
  operators  + - * / % (mod) << >> >>> = == != < > <= >= & (and) ^ (xor) | (or)
             - not hi low, parentheses; all compute with 64 bits, unsigned
  functions  $vvalid(address, length), $iment(image), $scmp("a", "b"),
             $sicmp("a", "b"), $spat("text", "pattern"), $fnsucc(f, result, flag)
  others     @@c++( ), @@( ) and @@masm( ) evaluate what they hold by their rules

A word of hexadecimal digits is a number even where a symbol has that name: write
nt!add, !add or @add for the symbol. In a string a backslash has its meaning of C;
@"c:\dir" is taken as it stands.`,
	Example: "? 1+2*3\n? nt\n? @$thread\n? $spat(\"ntoskrnl\", \"nt*\")",
	SeeAlso: []string{"??", ".formats", "n", ".expr"},
	Args: []cmd.Arg{{
		Name: "expression", Kind: cmd.KindRest, Optional: true, Complete: cmd.CompleteSymbol, Doc: "what to evaluate",
	}},
	Run: func(ctx context.Context, s *cmd.Session, in cmd.Args, out report.Sink) error {
		switch {
		case !in.Has("expression"):
			return runHelp(ctx, s, in, out)
		case s.Eval == nil:
			return errNoEvaluator
		}
		v, err := s.Eval.Eval(ctx, in.Text("expression"))
		if err != nil {
			return err
		}
		if err := s.SetPseudo("$exp", v); err != nil {
			return err
		}
		return out.Emit(evaluation{v})
	},
}

var errNoEvaluator = errors.New("no evaluator")

// evaluation is the value of an expression.
type evaluation struct{ value uint64 }

// Type names the record.
func (evaluation) Type() string { return "evaluation" }

// MarshalJSON gives the value as a mask and as a signed number's text: JSON
// numbers lose bits beyond 2^53.
func (e evaluation) MarshalJSON() ([]byte, error) {
	return report.JSONObject(struct {
		Value  report.Addr `json:"value"`
		Signed string      `json:"signed"`
	}{report.Addr(e.value), fmt.Sprint(int64(e.value))})
}

// WriteText writes kd's line.
func (e evaluation) WriteText(p *report.Printer) {
	p.Printf("Evaluate expression: %d = %s\n", int64(e.value), report.Addr(e.value).Tick())
}
