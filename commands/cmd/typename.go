package cmd

import (
	"strconv"

	"gokd/model/types"
)

// maxTypeDepth limits pointers to pointers and arrays of arrays in a name.
const maxTypeDepth = 16

// TypeName names a type as kd's C++ evaluator does: "struct _TEB *",
// "unsigned int64", "char [15]". nil is what every number without a type is.
func TypeName(t *types.Type) string { return typeName(t, 0) }

func typeName(t *types.Type, depth int) string {
	switch {
	case t == nil:
		return "unsigned int64"
	case depth > maxTypeDepth:
		return "..."
	}
	switch t.Kind {
	case types.KindPointer:
		if t.Elem == nil {
			return "void *"
		}
		if t.Elem.Kind == types.KindPointer {
			return typeName(t.Elem, depth+1) + "*"
		}
		return typeName(t.Elem, depth+1) + " *"
	case types.KindArray:
		elem := "void"
		if t.Elem != nil {
			elem = typeName(t.Elem, depth+1)
		}
		return elem + " [" + strconv.FormatUint(uint64(t.Count), 10) + "]"
	case types.KindStruct:
		return "struct " + t.Name
	case types.KindUnion:
		return "union " + t.Name
	case types.KindEnum:
		return "enum " + t.Name
	case types.KindFunction:
		return "<function>"
	case types.KindInt:
		if t.Size == 8 {
			return "unsigned int64"
		}
	case types.KindSigned:
		if t.Size == 8 {
			return "int64"
		}
	}
	return t.Name
}
