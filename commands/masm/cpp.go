package masm

import (
	"context"
	"fmt"
	"strings"

	"gokd/commands/cmd"
	"gokd/model/mem"
	"gokd/model/types"
)

// The evaluator of C++ expressions follows the debuggers' documentation, "C++
// Numbers and Operators": numbers, registers, symbols by their types, casts,
// members, arrays, all operators of C that change nothing, and the macros. It
// does not call functions, assign, or know templates and inheritance.

// Typed is implemented by targets that know types.
type Typed interface {
	// TypeByName gives a structure, union, enumeration or base type of a module,
	// or of any where module is empty, and the module it was found in.
	TypeByName(ctx context.Context, module, name string) (t *types.Type, in string, err error)
	// SymbolType gives the type of a symbol, where it is known.
	SymbolType(ctx context.Context, module, name string) (t *types.Type, in string, ok bool)
	// Variable gives a pseudo-register that has a type of its own.
	Variable(name string) (cmd.Typed, bool)
}

// cpp is a Pratt parser that computes as it reads.
type cpp struct {
	ctx    context.Context
	eval   *Evaluator
	target Target
	types  Typed // nil: no types
	lex    cppLexer
	tok    cppToken // looked at next
	base   int      // evaluators inside each other
	skip   int      // inside operands that do not count: nothing is read
}

// EvalTyped implements cmd.TypedEvaluator.
func (e *Evaluator) EvalTyped(ctx context.Context, expr string) (cmd.Typed, error) {
	expr = strings.TrimSpace(expr)
	v, rest, err := e.cppValue(ctx, expr, 0)
	if err != nil {
		return cmd.Typed{}, err
	}
	if rest != "" {
		return cmd.Typed{}, syntaxError(expr, len(expr)-len(rest), "an operator or the end is expected here")
	}
	return v.typed(), nil
}

// cppValue evaluates the longest C++ expression at the front of a text.
func (e *Evaluator) cppValue(ctx context.Context, text string, depth int) (v value, rest string, err error) {
	if len(text) > maxLength {
		return v, "", fmt.Errorf("expression of %d characters: at most %d", len(text), maxLength)
	}
	c := &cpp{ctx: ctx, eval: e, target: e.target, lex: cppLexer{text: text}, base: depth}
	c.types, _ = e.target.(Typed)
	c.advance()
	if c.tok.kind == cppEnd {
		return v, "", syntaxError(text, len(text), "an expression is missing")
	}
	if v, err = c.expression(0, depth); err != nil {
		return v, "", err
	}
	// A single value of a scalar type is read; a structure stays in memory.
	if v.stored && scalar(v.typ) {
		at := v.at
		if v, err = c.load(v, 0); err != nil {
			return v, "", err
		}
		v.at = at
	}
	if c.tok.kind == cppEnd { // the rest may be a comment
		return v, "", nil
	}
	return v, text[c.tok.at:], nil
}

// cppPrefix is EvalPrefix in the syntax of C++: a structure or array counts by
// its address.
func (e *Evaluator) cppPrefix(ctx context.Context, text string, depth int) (uint64, string, error) {
	v, rest, err := e.cppValue(ctx, text, depth)
	switch {
	case err != nil:
		return 0, "", err
	case v.stored:
		return uint64(v.at), rest, nil
	case isFloat(v):
		return whole(v.float), rest, nil
	}
	return v.bits, rest, nil
}

func (c *cpp) advance() { c.tok = c.lex.next() }

func (c *cpp) fail(class string, at int, why string) error {
	return &SyntaxError{class, c.lex.text, min(at, len(c.lex.text)), why}
}

func (c *cpp) syntax(why string) error {
	if c.tok.kind == cppBad {
		return c.tok.err
	}
	return c.fail("Syntax error", c.tok.at, why)
}

func (c *cpp) is(sign string) bool { return c.tok.kind == cppSign && c.tok.text == sign }

func (c *cpp) expect(sign string) error {
	if !c.is(sign) {
		return c.syntax("'" + sign + "' is expected here")
	}
	c.advance()
	return nil
}

// cppPowers are the binding powers of binary operators, in the order of the
// documentation's tables.
var cppPowers = map[string]int{
	",": 1, "?": 2, "||": 3, "&&": 4, "|": 5, "^": 6, "&": 7, "==": 8, "!=": 8,
	"<": 9, ">": 9, "<=": 9, ">=": 9, "<<": 10, ">>": 10, "+": 11, "-": 11, "*": 12, "/": 12, "%": 12,
}

// inArguments is the power of an operand between commas.
const inArguments = 1

// assignments change what they name, which a dump does not allow.
var assignments = " = += -= *= /= %= <<= >>= &= |= ^= "

func (c *cpp) expression(power, depth int) (value, error) {
	if depth > maxDepth {
		return value{}, c.syntax("nested too deep")
	}
	left, err := c.unary(depth)
	for err == nil && c.tok.kind == cppSign {
		op, at := c.tok.text, c.tok.at
		if strings.Contains(assignments, " "+op+" ") {
			return value{}, c.syntax("an expression changes nothing here: r $t0 = and r? $t0 = set variables")
		}
		if cppPowers[op] <= power {
			break
		}
		c.advance()
		switch op {
		case ",":
			left, err = c.expression(cppPowers[op], depth+1)
		case "?":
			left, err = c.conditional(left, at, depth)
		case "&&", "||":
			left, err = c.logical(op, left, at, depth)
		default:
			var right value
			if right, err = c.expression(cppPowers[op], depth+1); err == nil {
				left, err = c.binary(op, left, right, at)
			}
		}
	}
	return left, err
}

// truth reads a value as a condition.
func (c *cpp) truth(v value, at int) (bool, error) {
	v, err := c.load(v, at)
	if err != nil {
		return false, err
	}
	if !scalar(v.typ) {
		return false, c.fail("Type conflict error", at, typeName(v.typ)+" is no condition")
	}
	if isFloat(v) {
		return v.float != 0, nil
	}
	return v.bits != 0, nil
}

// silently parses an operand whose value does not count.
func (c *cpp) silently(idle bool, power, depth int) (value, error) {
	if idle {
		c.skip++
		defer func() { c.skip-- }()
	}
	return c.expression(power, depth+1)
}

// logical is && or ||: the second operand is read only where it decides.
func (c *cpp) logical(op string, left value, at, depth int) (value, error) {
	a, err := c.truth(left, at)
	if err != nil {
		return left, err
	}
	decided := a == (op == "||")
	right, err := c.silently(decided, cppPowers[op], depth)
	if err != nil || decided {
		return truthValue(a), err
	}
	b, err := c.truth(right, at)
	return truthValue(b), err
}

// conditional is what follows the question mark.
func (c *cpp) conditional(cond value, at, depth int) (value, error) {
	holds, err := c.truth(cond, at)
	if err != nil {
		return cond, err
	}
	yes, err := c.silently(!holds, inArguments, depth)
	if err != nil {
		return cond, err
	}
	if err := c.expect(":"); err != nil {
		return cond, err
	}
	no, err := c.silently(holds, inArguments, depth)
	if holds {
		return yes, err
	}
	return no, err
}

// unary reads an operand with the operators before it.
func (c *cpp) unary(depth int) (value, error) {
	if depth > maxDepth {
		return value{}, c.syntax("nested too deep")
	}
	t := c.tok
	switch {
	case t.kind == cppSign:
		switch t.text {
		case "(":
			if v, ok, err := c.cast(depth); ok {
				return v, err
			}
		case "*", "&", "-", "+", "~", "!":
			c.advance()
			v, err := c.unary(depth + 1)
			if err != nil {
				return v, err
			}
			return c.prefix(t.text, v, t.at)
		case "++", "--":
			return value{}, c.syntax("an expression changes nothing here")
		}
	case t.kind == cppName && t.text == "sizeof":
		c.advance()
		return c.sizeOf(depth)
	}
	v, err := c.primary(depth)
	if err != nil {
		return v, err
	}
	return c.postfix(v, depth)
}

// prefix applies a unary operator.
func (c *cpp) prefix(op string, v value, at int) (value, error) {
	switch op {
	case "*":
		return c.deref(v, at)
	case "&":
		if !v.stored {
			return v, c.fail("Type conflict error", at, "only what lies in memory has an address")
		}
		if v.bitLen > 0 {
			return v, c.fail("Type conflict error", at, "a bit-field has no address")
		}
		return value{typ: pointerTo(v.typ), bits: uint64(v.at), module: v.module}, nil
	case "!":
		b, err := c.truth(v, at)
		return truthValue(!b), err
	}
	v, err := c.load(v, at)
	switch {
	case err != nil:
		return v, err
	case isFloat(v) && op == "-":
		return floating(-v.float), nil
	case isFloat(v) && op == "+":
		return v, nil
	case isFloat(v), isPointer(v), !scalar(v.typ):
		return v, c.fail("Type conflict error", at, "'"+op+"' takes no "+typeName(v.typ))
	}
	t := promoted(v.typ)
	switch op {
	case "-":
		return number(t, -v.bits), nil
	case "~":
		return number(t, ^v.bits), nil
	}
	return number(t, v.bits), nil
}

// deref follows a pointer, or an array to its first element.
func (c *cpp) deref(v value, at int) (value, error) {
	v, err := c.load(v, at)
	if err != nil {
		return v, err
	}
	if !isPointer(v) {
		return v, c.fail("Type conflict error", at, typeName(v.typ)+" is no pointer")
	}
	elem := v.typ.Elem
	if elem == nil || elem.Kind == types.KindVoid {
		return v, c.fail("Type conflict error", at, "a pointer to void leads to no value: cast it")
	}
	return value{typ: c.complete(elem, v.module), at: mem.VA(v.bits), stored: true, module: v.module}, nil
}

// postfix applies members and subscripts.
func (c *cpp) postfix(v value, depth int) (value, error) {
	for c.tok.kind == cppSign {
		at := c.tok.at
		var err error
		switch c.tok.text {
		case "->":
			c.advance()
			if v, err = c.deref(v, at); err == nil {
				v, err = c.member(v)
			}
		case ".":
			c.advance()
			// As kd does, a dot behind a pointer is taken for an arrow.
			if isPointer(v) {
				v, err = c.deref(v, at)
			}
			if err == nil {
				v, err = c.member(v)
			}
		case "[":
			c.advance()
			v, err = c.subscript(v, at, depth)
		case "++", "--":
			return v, c.syntax("an expression changes nothing here")
		case "(":
			return v, c.syntax("functions can't be called in a dump")
		default:
			return v, nil
		}
		if err != nil {
			return v, err
		}
	}
	return v, nil
}

// member reads the name of a member and gives it.
func (c *cpp) member(v value) (value, error) {
	if c.tok.kind != cppName {
		return v, c.syntax("a member's name is expected here")
	}
	if !v.stored {
		return v, c.syntax(typeName(v.typ) + " has no members")
	}
	f, ok := member(c.complete(v.typ, v.module), c.tok.text)
	if !ok {
		return v, c.fail("Couldn't resolve error", c.tok.at, fmt.Sprintf("%s has no member %s", typeName(v.typ), c.tok.text))
	}
	c.advance()
	return value{
		typ: c.complete(f.Type, v.module), at: v.at + mem.VA(f.Offset), stored: true,
		bitPos: f.BitPos, bitLen: f.BitLen, module: v.module,
	}, nil
}

// Limits of structures without a name inside each other: how deep they stand,
// and how many are looked into, for tables that lie.
const (
	maxNesting = 8
	maxUnnamed = 4096
)

// member finds a member by its name, also in members that have none themselves.
func member(t *types.Type, name string) (types.Field, bool) {
	budget := maxUnnamed
	return memberIn(t, name, 0, &budget)
}

func memberIn(t *types.Type, name string, depth int, budget *int) (types.Field, bool) {
	if *budget--; t == nil || depth > maxNesting || *budget < 0 {
		return types.Field{}, false
	}
	if f, ok := t.Field(name); ok && f.Type != nil {
		return f, true
	}
	for _, outer := range t.Fields {
		if !unnamed(outer.Name) {
			continue
		}
		if f, ok := memberIn(outer.Type, name, depth+1, budget); ok {
			f.Offset += outer.Offset
			return f, true
		}
	}
	return types.Field{}, false
}

// unnamed tells the names that tables make up for members without one.
func unnamed(name string) bool {
	return name == "" || strings.HasPrefix(name, "<unnamed") || strings.HasPrefix(name, "__unnamed") || strings.HasPrefix(name, "unnamed_")
}

// subscript is what follows the bracket.
func (c *cpp) subscript(v value, at, depth int) (value, error) {
	index, err := c.expression(0, depth+1)
	if err != nil {
		return v, err
	}
	if err := c.expect("]"); err != nil {
		return v, err
	}
	sum, err := c.binary("+", v, index, at)
	if err != nil {
		return v, err
	}
	return c.deref(sum, at)
}

// complete gives the description of a structure that its table mentioned only.
func (c *cpp) complete(t *types.Type, module string) *types.Type {
	if t == nil {
		return typeVoid
	}
	if (t.Kind != types.KindStruct && t.Kind != types.KindUnion) || len(t.Fields) > 0 || c.types == nil {
		return t
	}
	if full, _, err := c.types.TypeByName(c.ctx, module, t.Name); err == nil {
		return full
	}
	return t
}
