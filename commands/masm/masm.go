// Package masm evaluates expressions in the default syntax of kd: numbers in
// hexadecimal, symbols, registers, reads of memory and operators (Microsoft's
// debugger documentation, "MASM Numbers and Operators"). All values are 64-bit
// unsigned integers.
//
// It knows the target only through the Target interface and works without one
// on numbers.
package masm

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"gokd/model/mem"
)

// Target answers what an expression asks of a dump.
type Target interface {
	// Symbol gives the address of "module!name", of a bare name, or the base of
	// a module; false where there is no such thing.
	Symbol(ctx context.Context, module, name string) (mem.VA, bool)
	// ReadVirtual fills p or fails.
	ReadVirtual(p []byte, at mem.VA) (int, error)
	// Register gives a register ("rip") or pseudo-register ("$thread"). ok is
	// false where there is none of that name; the error says why one that
	// exists has no value.
	Register(name string) (v uint64, ok bool, err error)
}

// Settings is implemented by targets that choose how expressions are read.
type Settings interface {
	// Radix is the base of numbers without a prefix; 0 stands for 16.
	Radix() int
	// CPP: expressions are those of C++ where nothing says otherwise.
	CPP() bool
}

// Physical is implemented by targets whose physical memory can be read.
type Physical interface {
	// ReadPhysical fills p or fails.
	ReadPhysical(p []byte, at mem.PA) (int, error)
}

// Images is implemented by targets that know the headers of images.
type Images interface {
	// Entry gives the entry point of the image at an address.
	Entry(at mem.VA) (mem.VA, error)
}

// Returns is implemented by targets that know the types of functions.
type Returns interface {
	// ReturnType gives the name of the type that the function at an address
	// returns, "" where it is not known, and whether it is a pointer.
	ReturnType(ctx context.Context, at mem.VA) (name string, pointer bool)
}

// Evaluator evaluates expressions over a target.
type Evaluator struct{ target Target }

// New gives an evaluator; target may be nil.
func New(target Target) *Evaluator { return &Evaluator{target} }

// Limits of an expression: no one types more, and a fuzzer must not exhaust
// the stack.
const (
	maxLength = 4096
	maxDepth  = 64
)

// SyntaxError is an expression that can't be read or has no value.
type SyntaxError struct {
	Class string // as kd words it: "Syntax error", "Couldn't resolve error", "Operand error"
	Expr  string
	At    int    // byte offset of the place
	Why   string // the reason
}

// Expression implements cmd.ExpressionError.
func (e *SyntaxError) Expression() string { return e.Expr }

// Error gives kd's line, then the expression with a caret under the place.
func (e *SyntaxError) Error() string {
	indent := strings.Repeat(" ", len([]rune(e.Expr[:e.At])))
	return fmt.Sprintf("%s at '%s'\n    %s\n    %s^ %s", e.Class, e.Expr[e.At:], e.Expr, indent, e.Why)
}

// Unwrap gives the class ErrExpression.
func (e *SyntaxError) Unwrap() error { return ErrExpression }

// ErrExpression is the class of every *SyntaxError.
var ErrExpression = errors.New("bad expression")

func syntaxError(expr string, at int, why string) error {
	return &SyntaxError{"Syntax error", expr, min(at, len(expr)), why}
}

func resolveError(expr string, at int, why string) error {
	return &SyntaxError{"Couldn't resolve error", expr, at, why}
}

// Eval gives the value of an expression. An error is a *SyntaxError, or that
// of the memory that was to be read.
func (e *Evaluator) Eval(ctx context.Context, expr string) (uint64, error) {
	expr = strings.TrimSpace(expr)
	v, rest, err := e.EvalPrefix(ctx, expr)
	if err == nil && rest != "" {
		return 0, trailing(expr, len(expr)-len(rest))
	}
	return v, err
}

// trailing is the error of text behind an expression: what is wrong with it by
// itself, or that it is there.
func trailing(expr string, at int) error {
	l := lexer{text: expr, at: at}
	if _, err := l.next(); err != nil {
		return err
	}
	return syntaxError(expr, at, "an operator or the end is expected here")
}

// EvalPrefix gives the value of the longest expression at the front of a text,
// and what follows it: of "nt!Foo + 10 L8" the sum, and "L8".
func (e *Evaluator) EvalPrefix(ctx context.Context, text string) (v uint64, rest string, err error) {
	settings, _ := e.target.(Settings)
	if settings != nil && settings.CPP() {
		return e.cppPrefix(ctx, text, 0)
	}
	return e.masmPrefix(ctx, text, 0)
}

// masmPrefix is EvalPrefix in the syntax of MASM, at a depth of evaluators
// inside each other.
func (e *Evaluator) masmPrefix(ctx context.Context, text string, depth int) (v uint64, rest string, err error) {
	if len(text) > maxLength {
		return 0, "", fmt.Errorf("expression of %d characters: at most %d", len(text), maxLength)
	}
	p := &parser{ctx: ctx, eval: e, target: e.target, lex: lexer{text: text}}
	if settings, ok := e.target.(Settings); ok {
		p.lex.radix = settings.Radix()
	}
	if err := p.advance(); err != nil {
		return 0, "", err
	}
	if p.tok.kind == tokEnd {
		return 0, "", syntaxError(text, len(text), "an expression is missing")
	}
	if v, err = p.expression(0, depth); err != nil {
		return 0, "", err
	}
	return v, text[p.tok.at:], nil
}

// nested evaluates what stands in @@( ).
func (e *Evaluator) nested(ctx context.Context, t token, whole string, depth int) (v uint64, err error) {
	if depth > maxDepth {
		return 0, syntaxError(whole, t.at, "nested too deep")
	}
	text, rest := strings.TrimSpace(t.text), ""
	if t.cpp {
		v, rest, err = e.cppPrefix(ctx, text, depth+1)
	} else {
		v, rest, err = e.masmPrefix(ctx, text, depth+1)
	}
	if err == nil && rest != "" {
		return 0, trailing(text, len(text)-len(rest))
	}
	return v, err
}

// parser is a Pratt parser that computes as it reads.
type parser struct {
	ctx    context.Context
	eval   *Evaluator
	target Target
	lex    lexer
	tok    token // looked at next
}

// advance looks at the next token. What is no token is an error only where a
// value is needed: it may be what follows the expression.
func (p *parser) advance() error {
	start := p.lex.at
	t, err := p.lex.next()
	if err != nil {
		for start < len(p.lex.text) && blank(p.lex.text[start]) {
			start++
		}
		t = token{kind: tokBad, at: start, err: err}
	}
	p.tok = t
	return nil
}

// operator names the binary operator at hand; words and signs are one.
func (p *parser) operator() string {
	switch p.tok.kind {
	case tokOperator:
		return p.tok.text
	case tokName:
		switch w := strings.ToLower(p.tok.text); w {
		case "mod":
			return "%"
		case "and":
			return "&"
		case "xor":
			return "^"
		case "or":
			return "|"
		}
	}
	return ""
}

// powers are the binding powers of binary operators, in the order of the
// documentation's table.
var powers = map[string]int{
	"|": 1, "^": 2, "&": 3,
	"=": 4, "==": 4, "!=": 4, "<": 4, ">": 4, "<=": 4, ">=": 4,
	"<<": 5, ">>": 5, ">>>": 5,
	"+": 6, "-": 6,
	"*": 7, "/": 7, "%": 7,
}

// unaryPower binds tighter than every binary operator.
const unaryPower = 8

func (p *parser) expression(power, depth int) (uint64, error) {
	if depth > maxDepth {
		return 0, syntaxError(p.lex.text, p.tok.at, "nested too deep")
	}
	left, err := p.operand(depth)
	for err == nil {
		op := p.operator()
		if powers[op] <= power {
			return left, nil
		}
		at := p.tok.at
		if err = p.advance(); err != nil {
			break
		}
		var right uint64
		if right, err = p.expression(powers[op], depth+1); err != nil {
			break
		}
		if right == 0 && (op == "/" || op == "%") {
			return 0, &SyntaxError{"Operand error", p.lex.text, at, "division by zero"}
		}
		left = binaryValue(op, left, right)
	}
	return 0, err
}

func binaryValue(op string, a, b uint64) uint64 {
	switch op {
	case "|":
		return a | b
	case "^":
		return a ^ b
	case "&":
		return a & b
	case "=", "==":
		return truth(a == b)
	case "!=":
		return truth(a != b)
	case "<":
		return truth(a < b)
	case ">":
		return truth(a > b)
	case "<=":
		return truth(a <= b)
	case ">=":
		return truth(a >= b)
	case "<<":
		return a << b
	case ">>":
		return a >> b
	case ">>>":
		return uint64(int64(a) >> b)
	case "+":
		return a + b
	case "-":
		return a - b
	case "*":
		return a * b
	case "/":
		return a / b
	}
	return a % b
}

// unaryWords are the unary operators in letters. Reads give their width.
var unaryWords = map[string]int{
	"not": 0, "hi": 0, "low": 0, "by": 1, "wo": 2, "dwo": 4, "qwo": 8, "poi": 8,
	"$pby": 1, "$pwo": 2, "$pdwo": 4, "$pqwo": 8, "$ppoi": 8, // of physical memory
}

// operand reads a value with its unary operators.
func (p *parser) operand(depth int) (uint64, error) {
	t := p.tok
	if err := p.advance(); err != nil {
		return 0, err
	}
	switch t.kind {
	case tokBad:
		return 0, t.err
	case tokNumber:
		return t.value, nil
	case tokRegister:
		return p.register(t)
	case tokName:
		word := strings.ToLower(t.text)
		if _, ok := unaryWords[word]; ok && p.startsOperand() {
			return p.unary(word, depth)
		}
		if f := functions[word]; f != nil {
			return p.call(t, f, depth)
		}
		return p.symbol(t)
	case tokNested:
		return p.eval.nested(p.ctx, t, p.lex.text, depth)
	case tokString:
		return 0, syntaxError(p.lex.text, t.at, "a string has no value: $scmp, $sicmp and $spat take strings")
	case tokOperator:
		switch t.text {
		case "(":
			v, err := p.expression(0, depth+1)
			if err != nil {
				return 0, err
			}
			return v, p.expect(")", t)
		case "+", "-", "~":
			return p.unary(t.text, depth)
		case ".":
			return p.register(token{kind: tokRegister, text: "$ip", at: t.at})
		}
	}
	return 0, syntaxError(p.lex.text, t.at, "a value is expected here")
}

// startsOperand tells "poi(x)" and "poi x" from a symbol named poi.
func (p *parser) startsOperand() bool {
	if p.tok.kind == tokOperator {
		return strings.Contains("(~.+-", p.tok.text)
	}
	return p.tok.kind != tokEnd && p.tok.kind != tokBad && p.operator() == ""
}

func (p *parser) expect(sign string, open token) error {
	if p.tok.kind != tokOperator || p.tok.text != sign {
		return syntaxError(p.lex.text, min(p.tok.at, len(p.lex.text)),
			fmt.Sprintf("'%s' is missing for '%s' at character %d", sign, open.text, open.at+1))
	}
	return p.advance()
}

func (p *parser) unary(op string, depth int) (uint64, error) {
	at := p.tok.at
	v, err := p.expression(unaryPower, depth+1)
	if err != nil {
		return 0, err
	}
	switch op {
	case "-":
		return -v, nil
	case "~":
		return ^v, nil
	case "not":
		if v == 0 {
			return 1, nil
		}
		return 0, nil
	case "hi":
		return v >> 16 & 0xffff, nil
	case "low":
		return v & 0xffff, nil
	case "+":
		return v, nil
	}
	if op[0] == '$' {
		return p.readPhysical(mem.PA(v), unaryWords[op], at)
	}
	return p.read(mem.VA(v), unaryWords[op], at)
}

func (p *parser) register(t token) (uint64, error) {
	name := strings.ToLower(t.text)
	switch name {
	case "$ptrsize":
		return 8, nil
	case "$pagesize":
		return mem.PageSize, nil
	}
	if p.target != nil {
		v, ok, err := p.target.Register(name)
		if err != nil {
			return 0, resolveError(p.lex.text, t.at, err.Error())
		}
		if ok {
			return v, nil
		}
		// "@name" may also be a symbol that is not to be taken for a number.
		if at, ok := p.target.Symbol(p.ctx, "", t.text); ok {
			return uint64(at), nil
		}
	}
	return 0, &SyntaxError{"Bad register error", p.lex.text, t.at, "no such register or pseudo-register"}
}

func (p *parser) symbol(t token) (uint64, error) {
	module, name, ok := strings.Cut(t.text, "!")
	if !ok {
		module, name = "", t.text
	}
	switch {
	case p.target == nil:
		return 0, resolveError(p.lex.text, t.at, "no dump is open to look symbols up in")
	case name == "":
		return 0, syntaxError(p.lex.text, t.at, "a symbol's name follows the exclamation mark")
	}
	if at, ok := p.target.Symbol(p.ctx, module, name); ok {
		return uint64(at), nil
	}
	// "$thread" and "rip" without "@" are registers where no symbol has the name.
	if module == "" {
		v, ok, err := p.target.Register(strings.ToLower(name))
		if err != nil {
			return 0, resolveError(p.lex.text, t.at, err.Error())
		}
		if ok {
			return v, nil
		}
	}
	return 0, resolveError(p.lex.text, t.at, "no such symbol, module or register; symbols are looked for in tables that match the image and in export tables")
}
