package masm

import (
	"fmt"
	"strings"

	"gokd/commands/cmd"
	"gokd/model/mem"
)

// argument is one of a function: a number or a string.
type argument struct {
	value uint64
	text  string
	at    int
}

// function is one of the operators in letters that take arguments in parentheses
// (documentation of the debuggers, "Non-Numeric Operators in MASM Expressions").
type function struct {
	args string // 'n' a number, 's' a string
	run  func(p *parser, in []argument) (uint64, error)
}

// functions by name. They are set in init: a function may evaluate expressions,
// which may contain functions.
var functions map[string]*function

func init() {
	functions = map[string]*function{
		"$vvalid": {"nn", func(p *parser, in []argument) (uint64, error) {
			return p.validRange(mem.VA(in[0].value), in[1].value)
		}},
		"$iment": {"n", entryPoint},
		"$scmp": {"ss", func(_ *parser, in []argument) (uint64, error) {
			return uint64(strings.Compare(in[0].text, in[1].text)), nil
		}},
		"$sicmp": {"ss", func(_ *parser, in []argument) (uint64, error) {
			return uint64(strings.Compare(strings.ToLower(in[0].text), strings.ToLower(in[1].text))), nil
		}},
		"$spat": {"ss", func(_ *parser, in []argument) (uint64, error) {
			return truth(cmd.NewWildcard(in[1].text, true).Match(in[0].text)), nil
		}},
		"$fnsucc": {"nnn", succeeded},
	}
}

// call reads the arguments of a function and runs it.
func (p *parser) call(name token, f *function, depth int) (uint64, error) {
	if depth > maxDepth {
		return 0, syntaxError(p.lex.text, name.at, "nested too deep")
	}
	open := p.tok
	if err := p.expect("(", name); err != nil {
		return 0, err
	}
	var in []argument
	for i, kind := range f.args {
		if i > 0 {
			if err := p.expect(",", name); err != nil {
				return 0, p.unlessStrings(err, f, open)
			}
		}
		a := argument{at: p.tok.at}
		var err error
		switch {
		case kind == 's' && p.tok.kind != tokString:
			return 0, syntaxError(p.lex.text, min(p.tok.at, len(p.lex.text)), name.text+" takes strings in quotes")
		case kind == 's':
			a.text = p.tok.text
			err = p.advance()
		default:
			a.value, err = p.expression(0, depth+1)
		}
		if err != nil {
			return 0, err
		}
		in = append(in, a)
	}
	if err := p.expect(")", open); err != nil {
		return 0, p.unlessStrings(err, f, open)
	}
	return f.run(p, in)
}

// unlessStrings gives the error of strings that do not read as such the place
// that kd gives it: that of the parenthesis before them.
func (p *parser) unlessStrings(err error, f *function, open token) error {
	if f.args != "ss" {
		return err
	}
	return syntaxError(p.lex.text, open.at, `two strings are expected; a backslash before a quote makes it part of the string, unless it begins with @"`)
}

// truth is 1 or 0.
func truth(t bool) uint64 {
	if t {
		return 1
	}
	return 0
}

// entryPoint is $iment(address): where an image begins to run.
func entryPoint(p *parser, in []argument) (uint64, error) {
	images, ok := p.target.(Images)
	if !ok {
		return 0, resolveError(p.lex.text, in[0].at, "no dump is open to look images up in")
	}
	at, err := images.Entry(mem.VA(in[0].value))
	if err != nil {
		return 0, &MemoryError{p.lex.text, in[0].at, mem.VA(in[0].value), err}
	}
	return uint64(at), nil
}

// Success of a function's result, by the name of its type: a BOOL that is not
// zero, an NTSTATUS or HRESULT that is not negative, a HANDLE that is neither
// null nor -1.
var successful = map[string]func(v uint64) bool{
	"bool": func(v uint64) bool { return v&0xff != 0 }, "BOOL": func(v uint64) bool { return v&0xffffffff != 0 },
	"NTSTATUS": func(v uint64) bool { return int32(v) >= 0 }, "HRESULT": func(v uint64) bool { return int32(v) >= 0 },
	"HANDLE": func(v uint64) bool { return v != 0 && v != ^uint64(0) },
}

// succeeded is $fnsucc(function, result, flag). Symbol tables keep no names of
// simple types, so the type of most results is not known and the flag decides:
// 0 means that a result other than zero is success, 1 that zero is.
func succeeded(p *parser, in []argument) (uint64, error) {
	if in[2].value > 1 {
		return 0, syntaxError(p.lex.text, in[2].at, fmt.Sprintf("the flag is 0 or 1, not %#x", in[2].value))
	}
	if t, ok := p.target.(Returns); ok {
		switch name, pointer := t.ReturnType(p.ctx, mem.VA(in[0].value)); {
		case pointer:
			return truth(in[1].value != 0), nil
		case successful[name] != nil:
			return truth(successful[name](in[1].value)), nil
		}
	}
	return truth((in[1].value != 0) == (in[2].value == 0)), nil
}
