package masm

import (
	"encoding/binary"
	"math"
	"strings"

	"gokd/commands/cmd"
	"gokd/model/mem"
	"gokd/model/types"
)

// value is what a C++ expression is made of: a number of a type, or an object in
// memory that is read when it is needed.
type value struct {
	typ    *types.Type
	bits   uint64 // of a number: extended to 64 bits by its sign
	float  float64
	at     mem.VA
	stored bool  // the object lies at at, and bits are not read yet
	bitPos uint8 // of a bit-field
	bitLen uint8
	module string // where the type was found
}

// The base types of C++ as kd names them.
var (
	typeInt     = &types.Type{Name: "int", Kind: types.KindSigned, Size: 4}
	typeUint    = &types.Type{Name: "unsigned int", Kind: types.KindInt, Size: 4}
	typeInt64   = &types.Type{Name: "int64", Kind: types.KindSigned, Size: 8}
	typeUint64  = &types.Type{Name: "unsigned int64", Kind: types.KindInt, Size: 8}
	typeLong    = &types.Type{Name: "long", Kind: types.KindSigned, Size: 4}
	typeULong   = &types.Type{Name: "unsigned long", Kind: types.KindInt, Size: 4}
	typeShort   = &types.Type{Name: "short", Kind: types.KindSigned, Size: 2}
	typeUShort  = &types.Type{Name: "unsigned short", Kind: types.KindInt, Size: 2}
	typeChar    = &types.Type{Name: "char", Kind: types.KindSigned, Size: 1}
	typeUChar   = &types.Type{Name: "unsigned char", Kind: types.KindChar, Size: 1}
	typeWchar   = &types.Type{Name: "wchar_t", Kind: types.KindInt, Size: 2}
	typeBool    = &types.Type{Name: "bool", Kind: types.KindBool, Size: 1}
	typeFloat   = &types.Type{Name: "float", Kind: types.KindFloat, Size: 4}
	typeDouble  = &types.Type{Name: "double", Kind: types.KindFloat, Size: 8}
	typeVoid    = &types.Type{Name: "void", Kind: types.KindVoid}
	typePointer = pointerTo(typeVoid)
)

// pointerTo makes a pointer type of a 64-bit target.
func pointerTo(t *types.Type) *types.Type {
	return &types.Type{Name: t.Name + "*", Kind: types.KindPointer, Size: 8, Elem: t}
}

// baseTypes are the names of base types that a cast may use: those of C++ and
// the ones that Windows headers define for them. Symbol tables do not keep them.
var baseTypes = map[string]*types.Type{
	"int": typeInt, "INT": typeInt, "INT32": typeInt, "unsigned": typeUint, "UINT": typeUint, "UINT32": typeUint,
	"long": typeLong, "LONG": typeLong, "NTSTATUS": typeLong, "HRESULT": typeLong, "ULONG": typeULong, "DWORD": typeULong, "ULONG32": typeULong,
	"__int64": typeInt64, "int64": typeInt64, "LONG64": typeInt64, "LONGLONG": typeInt64, "INT64": typeInt64, "LONG_PTR": typeInt64, "INT_PTR": typeInt64,
	"ULONG64": typeUint64, "ULONGLONG": typeUint64, "UINT64": typeUint64, "DWORD64": typeUint64, "ULONG_PTR": typeUint64,
	"UINT_PTR": typeUint64, "SIZE_T": typeUint64, "size_t": typeUint64, "DWORD_PTR": typeUint64,
	"short": typeShort, "SHORT": typeShort, "USHORT": typeUShort, "WORD": typeUShort,
	"char": typeChar, "CHAR": typeChar, "UCHAR": typeUChar, "BYTE": typeUChar, "BOOLEAN": typeUChar,
	"wchar_t": typeWchar, "WCHAR": typeWchar, "bool": typeBool, "BOOL": typeInt,
	"float": typeFloat, "double": typeDouble, "void": typeVoid, "VOID": typeVoid,
	"PVOID": typePointer, "HANDLE": typePointer, "LPVOID": typePointer,
	"PCHAR": pointerTo(typeChar), "PSTR": pointerTo(typeChar), "PCSTR": pointerTo(typeChar), "PUCHAR": pointerTo(typeUChar),
	"PUSHORT": pointerTo(typeUShort), "PULONG": pointerTo(typeULong), "PULONG64": pointerTo(typeUint64),
	"PWSTR": pointerTo(typeWchar), "PCWSTR": pointerTo(typeWchar), "PWCHAR": pointerTo(typeWchar),
}

// baseWords combines the words of C++ for integers: "unsigned long long".
func baseWords(words []string) (*types.Type, bool) {
	unsigned, size, seen := false, 4, ""
	for _, w := range words {
		switch w {
		case "unsigned":
			unsigned = true
		case "signed", "int":
		case "long":
			if seen == "long" {
				size = 8
			}
			seen = w
		case "char":
			size, seen = 1, w
		case "short":
			size, seen = 2, w
		case "__int64", "int64":
			size, seen = 8, w
		default:
			return nil, false
		}
	}
	pair := map[int][2]*types.Type{1: {typeChar, typeUChar}, 2: {typeShort, typeUShort}, 4: {typeInt, typeUint}, 8: {typeInt64, typeUint64}}[size]
	if seen == "long" && size == 4 {
		pair = [2]*types.Type{typeLong, typeULong}
	}
	if unsigned {
		return pair[1], true
	}
	return pair[0], true
}

// scalar tells whether a type is a number or pointer.
func scalar(t *types.Type) bool {
	switch t.Kind {
	case types.KindInt, types.KindSigned, types.KindFloat, types.KindChar, types.KindBool, types.KindPointer, types.KindEnum:
		return true
	}
	return false
}

func isFloat(v value) bool   { return v.typ.Kind == types.KindFloat }
func isPointer(v value) bool { return v.typ.Kind == types.KindPointer }

// signedType tells whether numbers of a type have a sign. "char" and "unsigned
// char" are of one kind in some tables; the name tells.
func signedType(t *types.Type) bool {
	switch t.Kind {
	case types.KindSigned, types.KindEnum:
		return true
	case types.KindChar:
		return !strings.HasPrefix(t.Name, "unsigned") && t.Name != "UCHAR"
	}
	return false
}

// fit brings 64 bits to a type: cut to its size, extended by its sign.
func fit(t *types.Type, bits uint64) uint64 {
	if t.Kind == types.KindBool {
		return truth(bits != 0)
	}
	if t.Size == 0 || t.Size >= 8 {
		return bits
	}
	shift := 64 - 8*t.Size
	if signedType(t) {
		return uint64(int64(bits<<shift) >> shift)
	}
	return bits << shift >> shift
}

func number(t *types.Type, bits uint64) value { return value{typ: t, bits: fit(t, bits)} }

func floating(f float64) value { return value{typ: typeDouble, float: f} }

// truthValue is the result of a comparison.
func truthValue(t bool) value { return number(typeBool, truth(t)) }

// load reads a stored value. A structure stays where it is; an array becomes a
// pointer to its first element.
func (c *cpp) load(v value, at int) (value, error) {
	if v.typ.Kind == types.KindArray && v.stored {
		elem := v.typ.Elem
		if elem == nil {
			elem = typeVoid
		}
		return value{typ: pointerTo(elem), bits: uint64(v.at), module: v.module}, nil
	}
	if v.typ.Kind == types.KindFunction && v.stored {
		return value{typ: pointerTo(v.typ), bits: uint64(v.at), module: v.module}, nil
	}
	if !v.stored {
		return v, nil
	}
	if !scalar(v.typ) {
		return v, c.fail("Type conflict error", at, typeName(v.typ)+" is no number or pointer")
	}
	var b [8]byte
	size := min(max(int(v.typ.Size), 1), 8)
	if c.skip > 0 { // the side of && or ?: that does not count
		return number(v.typ, 1), nil
	}
	if c.target == nil {
		return v, resolveError(c.lex.text, at, "no dump is open to read memory from")
	}
	if _, err := c.target.ReadVirtual(b[:size], v.at); err != nil {
		return v, &MemoryError{c.lex.text, min(at, len(c.lex.text)), v.at, err}
	}
	bits := binary.LittleEndian.Uint64(b[:])
	out := value{typ: v.typ, module: v.module}
	switch {
	case v.typ.Kind == types.KindFloat && size == 4:
		out.float = float64(math.Float32frombits(uint32(bits)))
	case v.typ.Kind == types.KindFloat:
		out.float = math.Float64frombits(bits)
	case v.bitLen > 0:
		bits = bits >> (v.bitPos & 63)
		shift := 64 - uint(min(v.bitLen, 64))
		if signedType(v.typ) {
			out.bits = uint64(int64(bits<<shift) >> shift)
		} else {
			out.bits = bits << shift >> shift
		}
	default:
		out.bits = fit(v.typ, bits)
	}
	return out, nil
}

// convert gives a value another type.
func convert(v value, t *types.Type) value {
	out := value{typ: t, module: v.module}
	switch {
	case t.Kind == types.KindFloat && isFloat(v):
		out.float = v.float
	case t.Kind == types.KindFloat && signedType(v.typ):
		out.float = float64(int64(v.bits))
	case t.Kind == types.KindFloat:
		out.float = float64(v.bits)
	case isFloat(v):
		out.bits = fit(t, whole(v.float))
	default:
		out.bits = fit(t, v.bits)
	}
	return out
}

// whole cuts a float to an integer; one that does not fit is 0.
func whole(f float64) uint64 {
	switch {
	case f >= -math.MaxInt64 && f < math.MaxInt64:
		return uint64(int64(f))
	case f > 0 && f < math.MaxUint64:
		return uint64(f)
	}
	return 0
}

// typed turns a value into what a session keeps.
func (v value) typed() cmd.Typed {
	t := cmd.Typed{Value: v.bits, Type: v.typ, Module: v.module}
	switch {
	case v.stored:
		t.Value, t.Location = uint64(v.at), v.at
	case v.typ.Kind == types.KindFloat && v.typ.Size == 4:
		t.Value = uint64(math.Float32bits(float32(v.float)))
	case v.typ.Kind == types.KindFloat:
		t.Value = math.Float64bits(v.float)
	}
	return t
}

// typeName names a type as ?? does: "struct _TEB *".
func typeName(t *types.Type) string { return cmd.TypeName(t) }
