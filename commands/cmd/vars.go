package cmd

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"gokd/model/mem"
	"gokd/model/types"
)

// Typed is the value of a typed expression: a number, or an object in memory.
type Typed struct {
	Value uint64      // of a number or pointer; of a structure or array its address
	Type  *types.Type // nil: an unsigned 64-bit number
	// Location is where the value is stored; 0 where it is no object in memory.
	Location mem.VA
	// Module is where the type was found, "nt"; empty where it is a base type.
	Module string
}

// TypedEvaluator is implemented by evaluators that know C++ expressions.
type TypedEvaluator interface {
	// EvalTyped gives the value of a C++ expression with its type.
	EvalTyped(ctx context.Context, expr string) (Typed, error)
}

// userVars is the number of user-defined pseudo-registers, $t0 to $t19.
const userVars = 20

// fixedAliases is the number of fixed-name aliases, $u0 to $u9.
const fixedAliases = 10

// Vars are the variables of a session: what the debugger's documentation calls
// user-defined pseudo-registers, the results that commands leave behind, and
// the settings of the expression evaluators. The zero value is a new session's.
type Vars struct {
	user [userVars]Typed
	// The results of the last expression, d* command and extension: $exp, $p
	// and $extret.
	results map[string]uint64
	// Radix is the base of numbers without a prefix; 0 stands for 16.
	Radix int
	// CPP: the default evaluator is that of C++, .expr /s c++.
	CPP bool
}

// settable are the results that commands leave behind, by name.
var settable = map[string]bool{"$exp": true, "$p": true, "$extret": true, "$callret": true}

// ErrPseudo is the class of errors about pseudo-registers.
var ErrPseudo = errors.New("bad register")

// userVar gives the number of "$t0" to "$t19".
func userVar(name string) (int, bool) {
	digits, ok := strings.CutPrefix(strings.ToLower(name), "$t")
	if !ok || digits == "" || len(digits) > 2 {
		return 0, false
	}
	n, err := strconv.ParseUint(digits, 10, 8)
	return int(n), err == nil && n < userVars && !(len(digits) > 1 && digits[0] == '0')
}

// SetPseudo sets a pseudo-register that can be written: $t0 to $t19, or one of
// $exp, $p, $extret and $callret, which commands leave behind. A leading "@"
// may stand before the name.
func (s *Session) SetPseudo(name string, v uint64) error {
	return s.SetTyped(name, Typed{Value: v})
}

// SetTyped is SetPseudo with the type of the value, as r? keeps it.
func (s *Session) SetTyped(name string, v Typed) error {
	name = strings.ToLower(strings.TrimPrefix(name, "@"))
	if n, ok := userVar(name); ok {
		s.Vars.user[n] = v
		return nil
	}
	if !settable[name] {
		return fmt.Errorf("%w: '%s' can't be set: the user's variables are $t0 to $t%d", ErrPseudo, name, userVars-1)
	}
	if s.Vars.results == nil {
		s.Vars.results = map[string]uint64{}
	}
	s.Vars.results[name] = v.Value
	return nil
}

// Pseudo gives a variable of the session by its name, "$t0"; false where there
// is none of that name. Those that were never set are zero.
func (s *Session) Pseudo(name string) (Typed, bool) {
	name = strings.ToLower(name)
	if n, ok := userVar(name); ok {
		return s.Vars.user[n], true
	}
	return Typed{Value: s.Vars.results[name]}, settable[name]
}

// Assign carries out the assignments that kd's r command takes and that concern
// no register of the processor: "$t0 = EXPR", or several after commas, "? $t0 =
// EXPR" (r?, which keeps the type) and "$.u0 = TEXT". text is what follows the r. ok is false where it
// is none of these: the command goes on by itself.
func (s *Session) Assign(ctx context.Context, text string) (ok bool, err error) {
	text = strings.TrimSpace(text)
	rest, typed := strings.CutPrefix(text, "?")
	name, expr, found := strings.Cut(rest, "=")
	name = strings.TrimPrefix(strings.ToLower(strings.TrimSpace(name)), "@")
	if !found || strings.HasPrefix(expr, "=") {
		return false, nil
	}
	if digits, ok := strings.CutPrefix(name, "$.u"); ok && !typed {
		return true, s.setFixed(digits, strings.TrimSpace(expr))
	}
	if _, isVar := userVar(name); !isVar && !settable[name] {
		if strings.HasPrefix(name, "$t") && len(name) > 2 && digit(name[2]) {
			return true, InWords("Bad register error in 'r %s'\n    the user's variables are $t0 to $t%d", text, userVars-1)
		}
		return false, nil
	}
	if s.Eval == nil {
		return true, errors.New("no evaluator")
	}
	if typed {
		e, ok := s.Eval.(TypedEvaluator)
		if !ok {
			return true, errors.New("no evaluator of C++ expressions")
		}
		v, err := e.EvalTyped(ctx, strings.TrimSpace(expr))
		if err != nil {
			return true, err
		}
		return true, s.SetTyped(name, v)
	}
	return true, s.assignList(ctx, name, strings.TrimSpace(expr))
}

// assignList sets a variable to the expression at the front of a text, and those
// of the assignments that follow it after commas.
func (s *Session) assignList(ctx context.Context, name, text string) error {
	v, rest, err := s.Eval.EvalPrefix(ctx, text)
	if err != nil {
		return err
	}
	next, more := strings.CutPrefix(strings.TrimSpace(rest), ",")
	if rest != "" && !more {
		_, err = s.Eval.Eval(ctx, text) // says what is wrong with the rest
		return err
	}
	if err := s.SetPseudo(name, v); err != nil || !more {
		return err
	}
	if ok, err := s.Assign(ctx, next); ok || err != nil {
		return err
	}
	return InWords("Syntax error at '%s': an assignment to a variable is expected after the comma", clip(next))
}

// setFixed sets one of the fixed-name aliases, $u0 to $u9.
func (s *Session) setFixed(digits, text string) error {
	n, err := strconv.ParseUint(digits, 10, 8)
	if err != nil || n >= fixedAliases || len(digits) != 1 {
		return InWords("Bad register error in 'r $.u%s'\n    the fixed-name aliases are $.u0 to $.u%d", digits, fixedAliases-1)
	}
	s.Aliases.fixed[n] = text
	return nil
}
