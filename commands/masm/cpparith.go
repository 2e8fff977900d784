package masm

import (
	"strings"

	"gokd/model/mem"
	"gokd/model/types"
)

// promoted gives the type that C++ computes with: int at least.
func promoted(t *types.Type) *types.Type {
	switch {
	case t.Kind == types.KindFloat, t.Kind == types.KindPointer, t.Size >= 8:
		if t.Size == 8 && t.Kind != types.KindFloat && t.Kind != types.KindPointer {
			if signedType(t) {
				return typeInt64
			}
			return typeUint64
		}
		return t
	case t.Size == 4 && !signedType(t) && t.Kind != types.KindEnum:
		if t == typeULong || strings.Contains(t.Name, "long") {
			return typeULong
		}
		return typeUint
	case t.Size == 4 && strings.Contains(t.Name, "long"):
		return typeLong
	}
	return typeInt
}

// common gives the type of the result of an operation on two numbers.
func common(a, b *types.Type) *types.Type {
	a, b = promoted(a), promoted(b)
	switch {
	case a.Size == 8 || b.Size == 8:
		if a.Size == 8 && !signedType(a) || b.Size == 8 && !signedType(b) {
			return typeUint64
		}
		return typeInt64
	case !signedType(a):
		return a
	case !signedType(b):
		return b
	case a == typeLong || b == typeLong:
		return typeLong
	}
	return typeInt
}

// binary computes an operation on two values.
func (c *cpp) binary(op string, a, b value, at int) (value, error) {
	a, err := c.load(a, at)
	if err != nil {
		return a, err
	}
	if b, err = c.load(b, at); err != nil {
		return b, err
	}
	switch {
	case !scalar(a.typ) || !scalar(b.typ):
		return a, c.fail("Type conflict error", at, "'"+op+"' takes numbers and pointers")
	case isPointer(a) || isPointer(b):
		return c.pointers(op, a, b, at)
	case isFloat(a) || isFloat(b):
		return c.floats(op, convert(a, typeDouble).float, convert(b, typeDouble).float, at)
	}
	t := common(a.typ, b.typ)
	x, y := fit(t, a.bits), fit(t, b.bits)
	if cmpOp(op) {
		return truthValue(compare(op, x, y, signedType(t))), nil
	}
	switch op {
	case "<<", ">>":
		t = promoted(a.typ)
		x, y = fit(t, a.bits), b.bits
		switch {
		case op == "<<":
			return number(t, x<<y), nil
		case signedType(t):
			return number(t, uint64(int64(x)>>y)), nil
		}
		return number(t, x>>y), nil
	case "/", "%":
		if y == 0 {
			if c.skip > 0 {
				return number(t, 0), nil
			}
			return a, c.fail("Operand error", at, "division by zero")
		}
		return number(t, divide(op, x, y, signedType(t))), nil
	}
	return number(t, binaryValue(op, x, y)), nil
}

// divide is / or %, by the sign of the type.
func divide(op string, x, y uint64, signed bool) uint64 {
	switch {
	case signed && int64(y) == -1: // the one quotient that does not fit
		if op == "/" {
			return -x
		}
		return 0
	case signed && op == "/":
		return uint64(int64(x) / int64(y))
	case signed:
		return uint64(int64(x) % int64(y))
	case op == "/":
		return x / y
	}
	return x % y
}

func cmpOp(op string) bool { return cppPowers[op] == 8 || cppPowers[op] == 9 }

// compare compares two numbers, by their sign where they have one.
func compare(op string, x, y uint64, signed bool) bool {
	less, equal := x < y, x == y
	if signed {
		less = int64(x) < int64(y)
	}
	switch op {
	case "==":
		return equal
	case "!=":
		return !equal
	case "<":
		return less
	case ">":
		return !less && !equal
	case "<=":
		return less || equal
	}
	return !less
}

// floats computes an operation on two floating-point numbers.
func (c *cpp) floats(op string, x, y float64, at int) (value, error) {
	switch op {
	case "+":
		return floating(x + y), nil
	case "-":
		return floating(x - y), nil
	case "*":
		return floating(x * y), nil
	case "/":
		if y == 0 {
			return value{}, c.fail("Operand error", at, "division by zero")
		}
		return floating(x / y), nil
	case "==", "!=", "<", ">", "<=", ">=":
		return truthValue(compare(op, truth(x > y), truth(x < y), false)), nil
	}
	return value{}, c.fail("Type conflict error", at, "'"+op+"' takes no floating-point numbers")
}

// pointers computes an operation of which one side at least is a pointer.
func (c *cpp) pointers(op string, a, b value, at int) (value, error) {
	if cmpOp(op) {
		return truthValue(compare(op, a.bits, b.bits, false)), nil
	}
	size := func(v value) uint64 {
		if v.typ.Elem == nil || v.typ.Elem.Kind == types.KindVoid {
			return 1
		}
		return uint64(sizeOf(c.complete(v.typ.Elem, v.module)))
	}
	switch {
	case op == "-" && isPointer(a) && isPointer(b):
		n := size(a)
		if n == 0 {
			return a, c.fail("Type conflict error", at, "the size of "+typeName(a.typ.Elem)+" is not known")
		}
		return number(typeInt64, uint64(int64(a.bits-b.bits)/int64(n))), nil
	case op == "+" && isPointer(b) && !isPointer(a):
		a, b = b, a
	case (op != "+" && op != "-") || isPointer(b):
		return a, c.fail("Type conflict error", at, "'"+op+"' takes no pointers: cast them to a number")
	}
	if isFloat(b) {
		return a, c.fail("Type conflict error", at, "a pointer moves by whole numbers")
	}
	step := b.bits * size(a)
	if op == "-" {
		step = -step
	}
	return value{typ: a.typ, bits: uint64(mem.VA(a.bits) + mem.VA(step)), module: a.module}, nil
}
