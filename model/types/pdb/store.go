package pdb

import (
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"gokd/model/types"
)

// Type implements [types.Store]: structures and unions, then enumerations, then
// base types, then typedefs, which give the type they stand for. Of several
// definitions of one name the first counts. A type that is there and damaged is
// another error than a *types.NotFoundError, and names it.
func (f *File) Type(name string) (*types.Type, error) {
	if ti, ok := f.typeIndex(name); ok {
		return f.TypeAt(ti)
	}
	if t := baseByName[name]; t != nil {
		return t, nil
	}
	if ti, ok := f.typedef(name); ok && f.tpi != nil {
		return f.TypeAt(ti)
	}
	return nil, &types.NotFoundError{What: "type", Name: name, In: f.Origin().Source}
}

// typeIndex finds a definition by name.
func (f *File) typeIndex(name string) (uint32, bool) {
	if f.tpi == nil {
		return 0, false
	}
	x := f.tpi.scan()
	var enum uint32
	check := func(ti uint32) (found bool) {
		leaf, data, err := f.tpi.record(ti)
		if err != nil || !isUDT(leaf) {
			return false
		}
		u, err := parseUDT(leaf, data)
		if err != nil || u.forward() || typeName(ti, &u) != name {
			return false
		}
		if leaf == lfEnum && enum == 0 {
			enum = ti
		}
		return leaf != lfEnum
	}
	if number, ok := strings.CutPrefix(name, unnamedPrefix); ok {
		ti, err := strconv.ParseUint(number, 16, 32)
		if err == nil && check(uint32(ti)) {
			return uint32(ti), true
		}
	}
	for _, m := range x.candidates([]byte(name)) {
		if check(m.typ()) {
			return m.typ(), true
		}
	}
	return enum, enum != 0
}

// TypeNames implements [types.Lister].
func (f *File) TypeNames() []string {
	if f.tpi == nil {
		return nil
	}
	index := f.tpi.scan()
	names := make([]string, 0, index.defs)
	r := f.tpi.s.scan(f.tpi.from, f.tpi.to)
	for ti := f.tpi.begin; ti-f.tpi.begin < index.count; ti++ {
		rec, ok := r.next()
		if !ok {
			break
		}
		if !isUDT(rec.kind) {
			continue
		}
		if u, err := parseUDT(rec.kind, rec.data); err == nil && !u.forward() {
			names = append(names, typeName(ti, &u))
		}
	}
	slices.Sort(names)
	return slices.Compact(names)
}

// HasTypes reports whether the database defines any structure. Those of most
// drivers that Microsoft gives away have names only.
func (f *File) HasTypes() bool { return f.tpi != nil && f.tpi.scan().defs > 0 }

// Origin implements [types.Store]. The match is exact: whoever resolves an
// image's database has compared GUID and age, see [File.Check]. Build is 0 but
// for kernels whose GUID is known here: a database does not tell.
func (f *File) Origin() types.Origin {
	var build uint32
	if l, _, ok := types.EmbeddedByGUID(f.GUID(), f.Age()); ok {
		build = l.Origin().Build
	}
	return types.Origin{Build: build, Match: types.MatchExact, Source: "PDB " + filepath.Base(f.name), File: f.name}
}

// Err gives the first sign of damage in types or names, reading the names of
// both. Without one, single records may still be damaged.
func (f *File) Err() error {
	if f.tpi != nil {
		if err := f.tpi.scan().damage; err != nil {
			return err
		}
	}
	return f.symbols().damage
}

// typedef finds a type by the name that a typedef gave it.
func (f *File) typedef(name string) (uint32, bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.typedefs == nil {
		f.typedefs = map[string]uint32{}
		for g := range f.Globals() {
			if g.Kind == SymbolTypedef && len(f.typedefs) < maxTypedefs {
				f.typedefs[g.Name] = g.Type
			}
		}
	}
	ti, ok := f.typedefs[name]
	return ti, ok
}

// maxTypedefs bounds the typedefs that are kept. A kernel's public database has
// none, a C++ program some thousand.
const maxTypedefs = 1 << 17

const unnamedPrefix = "__unnamed_"

// TypeOf implements [types.TypedSymbols]: what a variable is or a function
// takes, where the database has its private symbol.
func (f *File) TypeOf(name string) (*types.Type, bool) {
	e, ok := f.symbols().lookup(name)
	if !ok || e.typ == 0 || f.tpi == nil {
		return nil, false
	}
	t, err := f.TypeAt(f.functionType(e.typ, e.flags&entryID != 0))
	if err != nil || t.Name == baseTypes[0].Name {
		return nil, false
	}
	return t, true
}

// functionType leads from an id of the IPI stream to the type of a function.
func (f *File) functionType(index uint32, id bool) uint32 {
	if !id || f.ipi == nil {
		return index
	}
	leaf, data, err := f.ipi.record(index)
	if err != nil || leaf != lfFuncID && leaf != lfMFuncID {
		return 0
	}
	r := &reader{b: data}
	r.u32() // scope or class
	return r.u32()
}

var (
	_ types.Store        = (*File)(nil)
	_ types.Lister       = (*File)(nil)
	_ types.TypedSymbols = (*File)(nil)
)
