package masm

import (
	"fmt"
	"strings"

	"gokd/model/types"
)

// primary reads a number, a register, a symbol, a macro or an expression in
// parentheses.
func (c *cpp) primary(depth int) (value, error) {
	t := c.tok
	if t.kind != cppBad {
		c.advance()
	}
	switch t.kind {
	case cppBad:
		return value{}, t.err
	case cppNumber:
		return number(literalType(t), t.value), nil
	case cppFloat:
		return floating(t.float), nil
	case cppChar:
		return number(typeChar, t.value), nil
	case cppNested:
		bits, err := c.eval.nested(c.ctx, t.inner, c.lex.text, depth)
		return number(typeUint64, bits), err
	case cppRegister:
		return c.register(t)
	case cppMacro:
		return c.macro(t, depth)
	case cppName:
		if strings.HasSuffix(t.text, "_cast") && c.is("<") {
			return c.namedCast(depth)
		}
		return c.symbol(t)
	case cppSign:
		if t.text == "(" {
			v, err := c.expression(0, depth+1)
			if err != nil {
				return v, err
			}
			return v, c.expect(")")
		}
	}
	return value{}, c.fail("Syntax error", t.at, "a value is expected here")
}

func literalType(t cppToken) *types.Type {
	switch {
	case t.wide && t.sign:
		return typeInt64
	case t.wide:
		return typeUint64
	case t.sign:
		return typeInt
	}
	return typeUint
}

// pointerTypes are the structures that pseudo-registers point to (documentation
// of the debuggers, "C++ Numbers and Operators").
var pointerTypes = map[string]string{"$thread": "_ETHREAD", "$proc": "_EPROCESS", "$teb": "_TEB", "$peb": "_PEB", "$pcr": "_KPCR", "$prcb": "_KPRCB", "$pcrb": "_KPRCB"}

// register gives "@name". Registers are never extended by their sign in C++.
func (c *cpp) register(t cppToken) (value, error) {
	name := strings.ToLower(t.text)
	if c.types != nil {
		if v, ok := c.types.Variable(name); ok && v.Type != nil {
			return value{typ: v.Type, bits: fit(v.Type, v.Value), at: v.Location, stored: v.Location != 0 && !scalar(v.Type), module: v.Module}, nil
		}
	}
	p := &parser{ctx: c.ctx, eval: c.eval, target: c.target, lex: lexer{text: c.lex.text}}
	bits, err := p.register(token{kind: tokRegister, text: t.text, at: t.at})
	if err != nil {
		return value{}, err
	}
	if len(name) > 1 && (name[0] == 'e' && name != "efl" && name != "eflags" && name != "es" || name[0] == 'r' && name[len(name)-1] == 'd') {
		return number(typeUint, bits), nil
	}
	if c.types != nil && pointerTypes[name] != "" {
		if st, in, err := c.types.TypeByName(c.ctx, "", pointerTypes[name]); err == nil {
			return value{typ: pointerTo(st), bits: bits, module: in}, nil
		}
	}
	return number(typeUint64, bits), nil
}

// symbol gives what a name stands for: a variable by its type, a function as a
// pointer, a constant of an enumeration.
func (c *cpp) symbol(t cppToken) (value, error) {
	switch t.text {
	case "true", "false":
		return truthValue(t.text == "true"), nil
	}
	module, name, ok := strings.Cut(t.text, "!")
	if !ok {
		module, name = "", t.text
	}
	name = strings.TrimPrefix(name, "::")
	if v, ok := c.constant(module, name); ok {
		return v, nil
	}
	switch {
	case module == "$":
		return value{}, resolveError(c.lex.text, t.at, "local variables are not known here")
	case c.target == nil:
		return value{}, resolveError(c.lex.text, t.at, "no dump is open to look symbols up in")
	}
	at, ok := c.target.Symbol(c.ctx, module, name)
	if !ok {
		return value{}, resolveError(c.lex.text, t.at, "no such symbol or type; a register begins with @")
	}
	if c.types != nil {
		if typ, in, ok := c.types.SymbolType(c.ctx, module, name); ok {
			return value{typ: c.complete(typ, in), at: at, stored: true, module: in}, nil
		}
	}
	return value{}, c.fail("No type information error", t.at, fmt.Sprintf("the symbols tell no type of it: cast its address, *(type*)@@masm(%s)", t.text))
}

// constant finds "Enumeration::Name".
func (c *cpp) constant(module, name string) (v value, ok bool) {
	i := strings.LastIndex(name, "::")
	if i < 0 || c.types == nil {
		return v, false
	}
	typ, in, err := c.types.TypeByName(c.ctx, module, name[:i])
	if err != nil || typ.Kind != types.KindEnum {
		return v, false
	}
	n, ok := typ.Consts[name[i+2:]]
	return value{typ: typ, bits: uint64(n), module: in}, ok
}

// cast reads "(type) value"; ok is false where the parenthesis opens none, and
// then nothing is read.
func (c *cpp) cast(depth int) (v value, ok bool, err error) {
	tok, at := c.tok, c.lex.at
	c.advance()
	t, module, ok := c.typeHere()
	if ok && c.is(")") {
		c.advance()
		v, err := c.unary(depth + 1)
		if err != nil {
			return v, true, err
		}
		v, err = c.castTo(v, t, module, tok.at)
		return v, true, err
	}
	c.tok, c.lex.at = tok, at
	return v, false, nil
}

// namedCast reads what follows static_cast and its kin.
func (c *cpp) namedCast(depth int) (v value, err error) {
	at := c.tok.at
	c.advance()
	t, module, ok := c.typeHere()
	if !ok {
		return v, c.syntax("a type is expected here")
	}
	if err := c.expect(">"); err != nil {
		return v, err
	}
	if err := c.expect("("); err != nil {
		return v, err
	}
	if v, err = c.expression(0, depth+1); err != nil {
		return v, err
	}
	if err := c.expect(")"); err != nil {
		return v, err
	}
	return c.castTo(v, t, module, at)
}

// castTo gives a value another type.
func (c *cpp) castTo(v value, t *types.Type, module string, at int) (value, error) {
	v, err := c.load(v, at)
	if err != nil {
		return v, err
	}
	if !scalar(t) || !scalar(v.typ) {
		return v, c.fail("Type conflict error", at, fmt.Sprintf("%s can't be made a %s", typeName(v.typ), typeName(t)))
	}
	v = convert(v, t)
	v.module = module
	return v, nil
}

// typeHere reads a type: a name, words of C++ for integers, "struct name", and
// stars behind it. ok is false where there is none; the reader may have moved.
func (c *cpp) typeHere() (t *types.Type, module string, ok bool) {
	var words []string
	for c.tok.kind == cppName {
		switch c.tok.text {
		case "struct", "union", "class", "enum", "const", "volatile":
			c.advance()
			continue
		}
		if _, ok := baseWords([]string{c.tok.text}); !ok {
			break
		}
		words = append(words, c.tok.text)
		c.advance()
	}
	switch {
	case len(words) > 0:
		t, _ = baseWords(words)
	case c.tok.kind == cppName:
		if t, module, ok = c.named(c.tok.text); !ok {
			return nil, "", false
		}
		c.advance()
	default:
		return nil, "", false
	}
	for c.is("*") || c.is("&") || c.tok.kind == cppName && (c.tok.text == "const" || c.tok.text == "__ptr64") {
		if c.is("*") {
			t = pointerTo(t)
		}
		c.advance()
	}
	return t, module, true
}

// named finds a type by its name. Windows headers call the structure _NAME NAME,
// and a pointer to it PNAME; symbol tables keep only the first.
func (c *cpp) named(text string) (t *types.Type, module string, ok bool) {
	module, name, found := strings.Cut(text, "!")
	if !found {
		module, name = "", text
	}
	if t, ok := baseTypes[name]; ok && !found {
		return t, "", true
	}
	if c.types == nil {
		return nil, "", false
	}
	if t, in, err := c.types.TypeByName(c.ctx, module, name); err == nil {
		return t, in, true
	}
	if t, in, err := c.types.TypeByName(c.ctx, module, "_"+name); err == nil {
		return t, in, true
	}
	if len(name) > 1 && name[0] == 'P' {
		if t, in, err := c.types.TypeByName(c.ctx, module, "_"+name[1:]); err == nil {
			return pointerTo(t), in, true
		}
	}
	return nil, "", false
}

// sizeOf reads "sizeof(type)" or "sizeof value".
func (c *cpp) sizeOf(depth int) (value, error) {
	tok, at := c.tok, c.lex.at
	if c.is("(") {
		c.advance()
		if t, module, ok := c.typeHere(); ok && c.is(")") {
			c.advance()
			return number(typeUint64, uint64(sizeOf(c.complete(t, module)))), nil
		}
		c.tok, c.lex.at = tok, at
	}
	c.skip++ // the operand is not evaluated
	v, err := c.unary(depth + 1)
	c.skip--
	if err != nil {
		return v, err
	}
	return number(typeUint64, uint64(sizeOf(v.typ))), nil
}

func sizeOf(t *types.Type) uint32 {
	if t.Kind == types.KindArray && t.Size == 0 && t.Elem != nil {
		return t.Elem.Size * t.Count
	}
	return t.Size
}

// macro evaluates #FIELD_OFFSET and its kin (winnt.h).
func (c *cpp) macro(t cppToken, depth int) (value, error) {
	if err := c.expect("("); err != nil {
		return value{}, err
	}
	var v value
	var err error
	switch t.text {
	case "FIELD_OFFSET":
		var f types.Field
		if f, _, err = c.typeField(); err == nil {
			v = number(typeLong, uint64(f.Offset))
		}
	case "RTL_FIELD_SIZE":
		var f types.Field
		if f, _, err = c.typeField(); err == nil {
			v = number(typeUint64, uint64(sizeOf(f.Type)))
		}
	case "RTL_SIZEOF_THROUGH_FIELD":
		var f types.Field
		if f, _, err = c.typeField(); err == nil {
			v = number(typeUint64, uint64(f.Offset)+uint64(sizeOf(f.Type)))
		}
	case "CONTAINING_RECORD":
		v, err = c.containing(depth)
	case "RTL_NUMBER_OF":
		if v, err = c.expression(inArguments, depth+1); err == nil {
			if v.typ.Kind != types.KindArray {
				return v, c.fail("Type conflict error", t.at, typeName(v.typ)+" is no array")
			}
			v = number(typeUint64, uint64(v.typ.Count))
		}
	case "RTL_CONTAINS_FIELD":
		v, err = c.containsField(t, depth)
	default:
		return value{}, c.fail("Couldn't resolve error", t.at, "no such macro; there are #CONTAINING_RECORD, #FIELD_OFFSET, "+
			"#RTL_CONTAINS_FIELD, #RTL_FIELD_SIZE, #RTL_NUMBER_OF and #RTL_SIZEOF_THROUGH_FIELD")
	}
	if err != nil {
		return value{}, err
	}
	return v, c.expect(")")
}

// typeField reads "type, field.field".
func (c *cpp) typeField() (f types.Field, st *types.Type, err error) {
	at := c.tok.at
	st, module, ok := c.typeHere()
	if !ok {
		return f, nil, c.fail("Couldn't resolve error", at, "no such type")
	}
	if err := c.expect(","); err != nil {
		return f, nil, err
	}
	f, err = c.path(c.complete(st, module), module)
	return f, st, err
}

// path reads "field.field[2].field" and gives the last with its offset in all.
func (c *cpp) path(t *types.Type, module string) (f types.Field, err error) {
	offset := uint32(0)
	for {
		if c.tok.kind != cppName {
			return f, c.syntax("a member's name is expected here")
		}
		var ok bool
		if f, ok = member(t, c.tok.text); !ok {
			return f, c.fail("Couldn't resolve error", c.tok.at, fmt.Sprintf("%s has no member %s", typeName(t), c.tok.text))
		}
		offset += f.Offset
		c.advance()
		if c.is("[") && f.Type.Kind == types.KindArray && f.Type.Elem != nil {
			c.advance()
			if c.tok.kind != cppNumber {
				return f, c.syntax("a number is expected here")
			}
			f.Type = f.Type.Elem
			offset += uint32(c.tok.value) * f.Type.Size
			c.advance()
			if err := c.expect("]"); err != nil {
				return f, err
			}
		}
		if !c.is(".") {
			f.Offset = offset
			return f, nil
		}
		c.advance()
		t = c.complete(f.Type, module)
	}
}

// containing is #CONTAINING_RECORD(address, type, field).
func (c *cpp) containing(depth int) (value, error) {
	at := c.tok.at
	v, err := c.expression(inArguments, depth+1)
	if err != nil {
		return v, err
	}
	if v, err = c.load(v, at); err != nil {
		return v, err
	}
	if err := c.expect(","); err != nil {
		return v, err
	}
	typeAt := c.tok.at
	st, module, ok := c.typeHere()
	if !ok {
		return v, c.fail("Couldn't resolve error", typeAt, "no such type")
	}
	if err := c.expect(","); err != nil {
		return v, err
	}
	st = c.complete(st, module)
	f, err := c.path(st, module)
	if err != nil {
		return v, err
	}
	return value{typ: pointerTo(st), bits: v.bits - uint64(f.Offset), module: module}, nil
}

// containsField is #RTL_CONTAINS_FIELD(struct, size, field).
func (c *cpp) containsField(t cppToken, depth int) (value, error) {
	st, err := c.expression(inArguments, depth+1)
	if err != nil {
		return st, err
	}
	if err := c.expect(","); err != nil {
		return st, err
	}
	at := c.tok.at
	size, err := c.expression(inArguments, depth+1)
	if err != nil {
		return st, err
	}
	if size, err = c.load(size, at); err != nil {
		return st, err
	}
	if err := c.expect(","); err != nil {
		return st, err
	}
	if isPointer(st) && st.typ.Elem != nil {
		st.typ = st.typ.Elem
	}
	f, err := c.path(c.complete(st.typ, st.module), st.module)
	if err != nil {
		return st, err
	}
	return truthValue(uint64(f.Offset)+uint64(sizeOf(f.Type)) <= size.bits), nil
}
