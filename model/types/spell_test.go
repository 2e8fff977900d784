package types

import (
	"fmt"
	"strings"
)

// spell writes a type without the numbers of anonymous types, so that layouts
// of two sources compare: fields by value are written out down to their base
// types, pointers end at the name of what they lead to.
func spell(t *Type) string {
	var b strings.Builder
	spellInto(&b, t, t.Name, 0)
	return b.String()
}

func spellInto(b *strings.Builder, t *Type, name string, level int) {
	if level > maxTypeDepth+1 || b.Len() > 1<<20 { // twice two fields of one type, 30 times over, never end
		b.WriteString("too deep")
		return
	}
	switch t.Kind {
	case KindPointer:
		b.WriteByte('*')
		if t.Elem != nil && !unnamed(t.Elem.Name) {
			b.WriteString(t.Elem.Name)
		}
	case KindArray:
		fmt.Fprintf(b, "[%d]", t.Count)
		spellInto(b, t.Elem, name, level+1)
	case KindEnum:
		fmt.Fprintf(b, "enum %d %d constants", t.Size, len(t.Consts))
	case KindStruct, KindUnion:
		fmt.Fprintf(b, "kind %d size %#x {\n", t.Kind, t.Size)
		for _, f := range t.Fields {
			fmt.Fprintf(b, "%s.%s %#x:%d+%d ", name, f.Name, f.Offset, f.BitPos, f.BitLen)
			spellInto(b, f.Type, name+"."+f.Name, level+1)
			b.WriteByte('\n')
		}
		b.WriteByte('}')
	default:
		fmt.Fprintf(b, "%s/%d", t.Name, t.Size)
	}
}

// unnamed reports whether a type has no name of its own: a number from the
// compiler, or the path that embedded layouts give it.
func unnamed(name string) bool {
	return strings.HasPrefix(name, "__unnamed") || strings.HasPrefix(name, "__anonymous") ||
		strings.HasPrefix(name, "<") || strings.Contains(name, ".")
}
