package main

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"gokd/model/types"
)

// flat is a set of types as the embedded files spell them: by name, one line per
// type. Anonymous types get the name of the path that leads to them
// ("_IRP.Tail.Overlay"): their numbers in a PDB differ from build to build and
// would hide what is equal.
type flat struct {
	types   map[string][]string // first the kind and size, then the fields
	enums   map[string][]string // first the size, then the constants
	pending []string
}

// flatten takes the wanted types from a store with everything they hold by
// value. What they only point at stays a name.
func flatten(s types.Store, wanted []string) *flat {
	f := &flat{types: map[string][]string{}, enums: map[string][]string{}, pending: slices.Clone(wanted)}
	for len(f.pending) > 0 {
		name := f.pending[0]
		f.pending = f.pending[1:]
		if t, err := s.Type(name); err == nil {
			f.add(name, t)
		}
	}
	return f
}

func (f *flat) add(name string, t *types.Type) {
	switch t.Kind {
	case types.KindEnum:
		if f.enums[name] == nil {
			f.enums[name] = enumLines(t)
		}
	case types.KindStruct, types.KindUnion:
		if f.types[name] != nil || t.Size == 0 && len(t.Fields) == 0 {
			return
		}
		kind := "struct"
		if t.Kind == types.KindUnion {
			kind = "union"
		}
		lines := []string{fmt.Sprintf("%s %#x", kind, t.Size)}
		f.types[name] = lines // before the fields: a pointer may lead back here
		for _, m := range t.Fields {
			lines = append(lines, f.field(name, m))
		}
		f.types[name] = lines
	}
}

func (f *flat) field(owner string, m types.Field) string {
	at := fmt.Sprintf("%#x", m.Offset)
	if m.BitLen > 0 {
		at += fmt.Sprintf(":%d+%d", m.BitPos, m.BitLen)
	}
	return at + " " + m.Name + " " + f.expr(owner+"."+m.Name, m.Type, true)
}

// expr spells a type: "*" pointer to, "[n]" array of, else a name.
func (f *flat) expr(path string, t *types.Type, byValue bool) string {
	switch t.Kind {
	case types.KindPointer:
		if t.Elem == nil {
			return "*void"
		}
		return "*" + f.expr(path, t.Elem, false)
	case types.KindArray:
		return fmt.Sprintf("[%d]", t.Count) + f.expr(path, t.Elem, byValue)
	case types.KindStruct, types.KindUnion, types.KindEnum:
		if anonymous(t.Name) && strings.Count(path, ".") < 8 {
			f.add(path, t)
			return path
		}
		if byValue {
			f.pending = append(f.pending, t.Name)
		}
	}
	if short, ok := shorthand[t.Name]; ok {
		return short
	}
	return t.Name
}

// shorthand keeps the files small; package types spells the names out again.
var shorthand = map[string]string{
	"unsigned char": "u1", "unsigned short": "u2", "unsigned long": "u4", "unsigned long long": "u8",
	"char": "i1", "short": "i2", "long": "i4", "long long": "i8",
}

func anonymous(name string) bool {
	return strings.HasPrefix(name, "__unnamed") || strings.HasPrefix(name, "__anonymous") || strings.HasPrefix(name, "<")
}

func enumLines(t *types.Type) []string {
	names := make([]string, 0, len(t.Consts))
	for name := range t.Consts {
		names = append(names, name)
	}
	slices.SortFunc(names, func(a, b string) int {
		if d := t.Consts[a] - t.Consts[b]; d != 0 {
			return int(d)
		}
		return strings.Compare(a, b)
	})
	lines := []string{fmt.Sprint(t.Size)}
	for _, name := range names {
		lines = append(lines, fmt.Sprintf("%d %s", t.Consts[name], name))
	}
	return lines
}

// sortFields orders fields as package types does: by place, plain ones first.
func sortFields(v vtypes) {
	for _, t := range v {
		slices.SortFunc(t.Fields, func(x, y types.Field) int {
			return cmp.Or(
				cmp.Compare(x.Offset, y.Offset),
				cmp.Compare(min(x.BitLen, 1), min(y.BitLen, 1)),
				cmp.Compare(x.BitPos, y.BitPos),
				cmp.Compare(x.Name, y.Name),
			)
		})
	}
}
