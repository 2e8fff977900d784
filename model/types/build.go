package types

import (
	"cmp"
	"fmt"
	"slices"
)

// Limits of one table. The largest public kernel tables have 1,700 types,
// 15,000 fields and 42,000 names.
const (
	maxTypes     = 1 << 16
	maxFields    = 1 << 20
	maxConsts    = 1 << 20
	maxTypeSize  = 1 << 31 // bytes
	maxTypeDepth = 32      // pointers and arrays around one name; structures inside each other
)

// builder collects types that refer to each other by name, in any order. A name
// that is used but never defined stays an incomplete type: no size, no fields.
type builder struct {
	base, user, enum map[string]*Type
	pointers         map[*Type]*Type
	arrays           map[arrayKey]*Type
	order            []*Type // arrays, inner before outer: the order to size them in
	defined          map[*Type]bool
	fields, consts   int
	skipped          int               // fields and constants that made no sense
	anonymous        map[*Type][]Field // members without a name of their own, by their structure
	symbols          map[string]*Type  // types of symbols
}

type arrayKey struct {
	elem  *Type
	count uint32
}

func newBuilder() *builder {
	return &builder{
		base: map[string]*Type{}, user: map[string]*Type{}, enum: map[string]*Type{},
		pointers: map[*Type]*Type{}, arrays: map[arrayKey]*Type{}, defined: map[*Type]bool{}, anonymous: map[*Type][]Field{},
	}
}

// named gives the type of that name, incomplete until it is defined.
func (b *builder) named(space map[string]*Type, name string, kind Kind) *Type {
	t := space[name]
	if t == nil {
		t = &Type{Name: name, Kind: kind}
		space[name] = t
	}
	return t
}

// pointer gives the type of a pointer to elem, which may be nil where unknown.
func (b *builder) pointer(elem *Type, size uint32) *Type {
	t := b.pointers[elem]
	if t == nil {
		name := "*"
		if elem != nil {
			name += elem.Name
		}
		t = &Type{Name: name, Kind: KindPointer, Size: size, Elem: elem}
		b.pointers[elem] = t
	}
	return t
}

// array gives the type of count elements; its size is known after finish.
func (b *builder) array(elem *Type, count uint32) *Type {
	key := arrayKey{elem, count}
	t := b.arrays[key]
	if t == nil {
		t = &Type{Name: fmt.Sprintf("[%d]%s", count, elem.Name), Kind: KindArray, Elem: elem, Count: count}
		b.arrays[key] = t
		b.order = append(b.order, t)
	}
	return t
}

// define marks t as complete; false if it was before, which a table with a
// doubled name does: the first definition stays.
func (b *builder) define(t *Type) bool {
	if b.defined[t] {
		return false
	}
	b.defined[t] = true
	return true
}

// count guards the totals against tables made to exhaust memory.
func (b *builder) count() error {
	switch {
	case len(b.base)+len(b.user)+len(b.enum) > maxTypes:
		return fmt.Errorf("more than %d types", maxTypes)
	case b.fields > maxFields:
		return fmt.Errorf("more than %d fields", maxFields)
	case b.consts > maxConsts:
		return fmt.Errorf("more than %d constants", maxConsts)
	}
	return nil
}

// finish sizes the arrays, sorts the fields and refuses a structure that
// contains itself, so that walks down the fields by value always end.
func (b *builder) finish() error {
	for _, t := range b.order {
		size := uint64(t.Elem.Size) * uint64(t.Count)
		if size > maxTypeSize {
			return fmt.Errorf("type %s: %#x bytes, at most %#x", t.Name, size, maxTypeSize)
		}
		t.Size = uint32(size)
	}
	depth := map[*Type]int{}
	for _, t := range b.user {
		slices.SortFunc(t.Fields, compareFields)
		if _, err := b.nesting(t, depth, 0); err != nil {
			return err
		}
	}
	return nil
}

// compareFields orders fields as they lie in memory; of those at one offset the
// plain ones come before bit-fields.
func compareFields(x, y Field) int {
	return cmp.Or(
		cmp.Compare(x.Offset, y.Offset),
		cmp.Compare(min(x.BitLen, 1), min(y.BitLen, 1)),
		cmp.Compare(x.BitPos, y.BitPos),
		cmp.Compare(x.Name, y.Name),
	)
}

// nesting gives how deep t's members are nested by value.
func (b *builder) nesting(t *Type, known map[*Type]int, level int) (int, error) {
	if level > maxTypeDepth {
		return 0, fmt.Errorf("type %s: contains itself, or more than %d levels of members", t.Name, maxTypeDepth)
	}
	if n, ok := known[t]; ok {
		return n, nil
	}
	deepest := 0
	visit := func(inner *Type) error {
		n, err := b.nesting(inner, known, level+1)
		deepest = max(deepest, n+1)
		return err
	}
	if t.Kind == KindArray {
		if err := visit(t.Elem); err != nil {
			return 0, err
		}
	}
	for _, fields := range [][]Field{t.Fields, b.anonymous[t]} {
		for _, f := range fields {
			if f.Type.Kind != KindStruct && f.Type.Kind != KindUnion && f.Type.Kind != KindArray {
				continue
			}
			if err := visit(f.Type); err != nil {
				return 0, err
			}
		}
	}
	known[t] = deepest
	return deepest, nil
}

// lookup finds a type: structures and unions, then enumerations, then base types.
func (b *builder) lookup(name string) (*Type, bool) {
	for _, space := range []map[string]*Type{b.user, b.enum, b.base} {
		if t := space[name]; t != nil && b.defined[t] {
			return t, true
		}
	}
	return nil, false
}

// names gives all names of structures, unions and enumerations, sorted.
func (b *builder) names() []string {
	var names []string
	for _, space := range []map[string]*Type{b.user, b.enum} {
		for name, t := range space {
			if b.defined[t] {
				names = append(names, name)
			}
		}
	}
	slices.Sort(names)
	return slices.Compact(names)
}
