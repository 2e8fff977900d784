package symbol

import (
	"fmt"
	"strings"

	"gokd/model/types"
)

// The names that kd gives to base types (documentation of dt, and what public
// transcripts show): Uint4B, Int8B, UChar, Char, Wchar, Bool, Float, Void.

// unnamed starts the names that symbol tables make up for types without one.
var unnamed = []string{"__unnamed", "__anonymous", "unnamed_", "anonymous_"}

// typeName gives the name of a structure, union or enumeration as kd prints it.
// A table of Volatility 3 has lost what the compiler calls a nameless type; C
// compilers call it <unnamed-tag>.
func typeName(t *types.Type) string {
	if nameless(t.Name) {
		return "<unnamed-tag>"
	}
	return t.Name
}

// nameless tells a made-up name. Embedded layouts name such a type after the
// member that has it, "_MMPTE.u".
func nameless(name string) bool {
	for _, p := range unnamed {
		if strings.HasPrefix(name, p) {
			return true
		}
	}
	return name == "" || strings.Contains(name, ".") && !strings.ContainsAny(name, "<>:")
}

// baseName gives kd's name of a base type.
func baseName(t *types.Type) string {
	switch t.Kind {
	case types.KindVoid:
		if strings.HasPrefix(t.Name, "<") { // a type whose record is damaged, and why
			return t.Name
		}
		return "Void"
	case types.KindBool:
		return "Bool"
	case types.KindFloat:
		if t.Size == 4 {
			return "Float"
		}
		return fmt.Sprintf("Float%dB", t.Size)
	case types.KindFunction:
		return "Function"
	case types.KindChar:
		if unsignedChar(t) {
			return "UChar"
		}
		return "Char"
	}
	switch {
	case wide(t):
		return "Wchar"
	case t.Name == "HRESULT":
		return t.Name
	case t.Kind == types.KindSigned:
		return fmt.Sprintf("Int%dB", t.Size)
	}
	return fmt.Sprintf("Uint%dB", t.Size)
}

// unsignedChar: the two kinds of characters differ in their names only.
func unsignedChar(t *types.Type) bool {
	return t.Kind == types.KindChar && strings.HasPrefix(t.Name, "unsigned")
}

// wide reports whether a type is a UTF-16 unit.
func wide(t *types.Type) bool {
	return t.Size == 2 && (t.Kind == types.KindInt || t.Kind == types.KindSigned || t.Kind == types.KindChar) &&
		strings.HasPrefix(t.Name, "wchar")
}

// character reports whether a type is a byte of text.
func character(t *types.Type) bool { return t.Kind == types.KindChar && t.Size == 1 }

// typeText gives a type as dt shows it where there is no value; verbose adds
// sizes and counts.
func typeText(t *types.Type, verbose bool) string {
	return typeTextAt(t, verbose, 0)
}

// maxTypeText bounds the levels of pointers and arrays in one type's text.
const maxTypeText = 16

func typeTextAt(t *types.Type, verbose bool, level int) string {
	if t == nil {
		return "Void"
	}
	if level > maxTypeText {
		return "..."
	}
	switch t.Kind {
	case types.KindPointer:
		return pointerText(t, verbose, level)
	case types.KindArray:
		return fmt.Sprintf("[%d] %s", t.Count, typeTextAt(t.Elem, verbose, level+1))
	case types.KindStruct, types.KindUnion:
		if verbose {
			word := "struct"
			if t.Kind == types.KindUnion {
				word = "union"
			}
			return fmt.Sprintf("%s %s, %d elements, %#x bytes", word, typeName(t), len(t.Fields), t.Size)
		}
		return typeName(t)
	case types.KindEnum:
		if verbose {
			return fmt.Sprintf("Enum %s,  %d total enums", typeName(t), len(t.Consts))
		}
		return typeName(t)
	case types.KindFunction:
		return functionText(t) + " "
	}
	return baseName(t)
}

func pointerText(t *types.Type, verbose bool, level int) string {
	ptr := fmt.Sprintf("Ptr%d ", t.Size*8)
	if verbose {
		ptr += "to "
	}
	if t.Elem != nil && t.Elem.Kind == types.KindFunction {
		return ptr + "    " + functionText(t.Elem) + " "
	}
	return ptr + typeTextAt(t.Elem, verbose, level+1)
}

// functionText gives what a function returns, in C's words, as kd does. Most
// tables do not tell it.
func functionText(t *types.Type) string {
	if !knownFunction(t) {
		return "<function>"
	}
	return cText(t.Elem, 0)
}

// knownFunction: tables that know a function's type name it by its parameters.
func knownFunction(t *types.Type) bool { return strings.HasPrefix(t.Name, "(") }

// cText gives a type in C's words: "unsigned char", "struct _X*".
func cText(t *types.Type, level int) string {
	switch {
	case t == nil:
		return "void"
	case level > maxTypeText:
		return "..."
	}
	switch t.Kind {
	case types.KindPointer:
		if t.Elem != nil && t.Elem.Kind == types.KindFunction {
			return "<function> *"
		}
		return strings.TrimSuffix(cText(t.Elem, level+1), " ") + " *"
	case types.KindArray:
		elem, dims := t.Elem, fmt.Sprintf("[%d]", t.Count)
		for ; elem != nil && elem.Kind == types.KindArray && level < maxTypeText; level++ {
			dims += fmt.Sprintf("[%d]", elem.Count)
			elem = elem.Elem
		}
		return cText(elem, level+1) + " " + dims
	case types.KindStruct:
		return "struct " + typeName(t)
	case types.KindUnion:
		return "union " + typeName(t)
	case types.KindEnum:
		return "enum " + typeName(t)
	case types.KindFunction:
		return "<function>"
	case types.KindVoid:
		return "void"
	}
	if name, ok := cNames[t.Name]; ok {
		return name
	}
	return t.Name
}

// cNames are base types whose names in tables differ from those that kd prints.
var cNames = map[string]string{
	"wchar": "wchar_t", "long long": "int64", "unsigned long long": "unsigned int64", "__int64": "int64", "unsigned __int64": "unsigned int64",
}

// kindName gives the kind of a type for JSON.
func kindName(k types.Kind) string {
	names := [...]string{"void", "unsigned", "signed", "float", "char", "bool", "pointer", "array", "struct", "union", "enum", "function"}
	if int(k) < len(names) {
		return names[k]
	}
	return "unknown"
}

// baseAliases are the names that Windows' headers give to base types. They are
// typedefs, which symbol tables do not all keep.
var baseAliases = func() map[string]*types.Type {
	byName := map[string]*types.Type{}
	for _, a := range []struct {
		t     types.Type
		names string
	}{
		{types.Type{Name: "unsigned char", Kind: types.KindChar, Size: 1}, "UCHAR BYTE BOOLEAN UINT8"},
		{types.Type{Name: "char", Kind: types.KindChar, Size: 1}, "CHAR INT8 CCHAR"},
		{types.Type{Name: "wchar_t", Kind: types.KindInt, Size: 2}, "WCHAR"},
		{types.Type{Name: "unsigned short", Kind: types.KindInt, Size: 2}, "USHORT WORD UINT16"},
		{types.Type{Name: "short", Kind: types.KindSigned, Size: 2}, "SHORT INT16 CSHORT"},
		{types.Type{Name: "unsigned long", Kind: types.KindInt, Size: 4}, "ULONG DWORD UINT UINT32 ULONG32 DWORD32 ACCESS_MASK"},
		{types.Type{Name: "long", Kind: types.KindSigned, Size: 4}, "LONG INT INT32 LONG32 NTSTATUS BOOL KPRIORITY"},
		{types.Type{Name: "unsigned __int64", Kind: types.KindInt, Size: 8}, "ULONGLONG ULONG64 UINT64 DWORD64 ULONG_PTR SIZE_T DWORD_PTR UINT_PTR KAFFINITY"},
		{types.Type{Name: "__int64", Kind: types.KindSigned, Size: 8}, "LONGLONG LONG64 INT64 LONG_PTR SSIZE_T INT_PTR"},
		{types.Type{Name: "float", Kind: types.KindFloat, Size: 4}, "FLOAT"},
		{types.Type{Name: "double", Kind: types.KindFloat, Size: 8}, "DOUBLE"},
		{types.Type{Name: "*void", Kind: types.KindPointer, Size: 8, Elem: &types.Type{Name: "void"}}, "PVOID HANDLE"},
	} {
		for name := range strings.FieldsSeq(a.names) {
			byName[name] = &a.t
		}
	}
	return byName
}()
