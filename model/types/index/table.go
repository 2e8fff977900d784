package index

import (
	"iter"
	"path/filepath"
	"sort"
	"strings"
	"sync"

	"gokd/model/types"
)

// Table is a table from the cache. It implements types.Store, types.Lister and
// types.TypedSymbols, and answers as what it was made from did. Its methods may
// be called from several goroutines.
type Table struct {
	meta

	names, text string           // secNames, secText
	raw         [sections][]byte // the other sections, checked
	firsts      []uint32         // number of each type's first field or constant

	mu sync.Mutex // protects the fields below
	// made has the types that were asked for, and all that they lead to.
	made []*types.Type
}

// Key gives what the table was kept under.
func (t *Table) Key() Key { return t.key }

// HasTypes reports whether the table has any structure, union or enumeration.
// Tables of most drivers have names only.
func (t *Table) HasTypes() bool {
	for i := range t.count(secLookup) {
		if t.u32(secLookup, i, 4)&listed != 0 {
			return true
		}
	}
	return false
}

// Origin implements types.Store: what the table's source said.
func (t *Table) Origin() types.Origin { return t.origin }

// count gives the records of a section.
func (t *Table) count(sec int) int { return len(t.raw[sec]) / int(recordSize[sec]) }

// u32 reads a member of record i of a section.
func (t *Table) u32(sec, i, off int) uint32 {
	return le.Uint32(t.raw[sec][i*int(recordSize[sec])+off:])
}

// str gives record i of a section of ends of strings.
func (t *Table) str(all string, ends, i int) string {
	start := uint32(0)
	if i > 0 {
		start = t.u32(ends, i-1, 0)
	}
	return all[start:t.u32(ends, i, 0)]
}

func (t *Table) symbolName(i int) string  { return t.str(t.names, secNameEnd, i) }
func (t *Table) typeName(n uint32) string { return t.str(t.text, secTextEnd, int(n)) }

// Type implements types.Store.
func (t *Table) Type(name string) (*types.Type, error) {
	n := t.count(secLookup)
	i := sort.Search(n, func(i int) bool { return t.typeName(t.u32(secLookup, i, 0)) >= name })
	if i == n || t.typeName(t.u32(secLookup, i, 0)) != name {
		return nil, &types.NotFoundError{What: "type", Name: name, In: t.origin.Source}
	}
	return t.typ(t.u32(secLookup, i, 4) &^ listed), nil
}

// TypeNames implements types.Lister.
func (t *Table) TypeNames() []string {
	var names []string
	for i := range t.count(secLookup) {
		if t.u32(secLookup, i, 4)&listed != 0 {
			names = append(names, t.typeName(t.u32(secLookup, i, 0)))
		}
	}
	return names
}

// typ gives type n whole: with all that it leads to, so that it never changes
// once it is handed out.
func (t *Table) typ(n uint32) *types.Type {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.made == nil {
		t.made = make([]*types.Type, t.count(secTypes))
	}
	var pending []uint32
	ask := func(n uint32) *types.Type {
		if t.made[n] == nil {
			t.made[n] = new(types.Type)
			pending = append(pending, n)
		}
		return t.made[n]
	}
	found := ask(n)
	for len(pending) > 0 {
		last := len(pending) - 1
		n := pending[last]
		pending = pending[:last]
		t.fill(t.made[n], int(n), ask)
	}
	return found
}

// fill reads type n; ask gives the types it refers to.
func (t *Table) fill(to *types.Type, n int, ask func(uint32) *types.Type) {
	rec := t.raw[secTypes][n*typeSize:]
	first, members := int(t.firsts[n]), int(le.Uint32(rec[20:]))
	to.Name, to.Kind = t.typeName(le.Uint32(rec)), types.Kind(rec[4])
	to.Size, to.Count = le.Uint32(rec[8:]), le.Uint32(rec[16:])
	if elem := le.Uint32(rec[12:]); elem != 0 {
		to.Elem = ask(elem - 1)
	}
	if to.Kind == types.KindEnum {
		if rec[5]&hasConsts != 0 {
			to.Consts = make(map[string]int64, members)
		}
		for i := first; i < first+members; i++ {
			c := t.raw[secConsts][i*constSize:]
			to.Consts[t.typeName(le.Uint32(c))] = int64(le.Uint64(c[4:]))
		}
		return
	}
	if members > 0 {
		to.Fields = make([]types.Field, members)
	}
	for i := range to.Fields {
		f := t.raw[secFields][(first+i)*fieldSize:]
		to.Fields[i] = types.Field{
			Name: t.typeName(le.Uint32(f)), Type: ask(le.Uint32(f[4:])), Offset: le.Uint32(f[8:]), BitPos: f[12], BitLen: f[13],
		}
	}
}

// find gives the place of the first symbol that is not before name.
func (t *Table) find(name string) int {
	return sort.Search(t.count(secNameEnd), func(i int) bool { return t.symbolName(i) >= name })
}

func (t *Table) symbol(i int) types.Symbol {
	rec := t.raw[secSyms][i*symbolSize:]
	return types.Symbol{
		Name: t.symbolName(i), RVA: le.Uint32(rec), Size: le.Uint32(rec[4:]),
		Kind: types.SymbolKind(rec[12]), Private: rec[13] != 0,
	}
}

// place finds a name, or else a second spelling of one.
func (t *Table) place(name string) (int, bool) {
	if i := t.find(name); i < t.count(secNameEnd) && t.symbolName(i) == name {
		return i, true
	}
	n := t.count(secAliases)
	i := sort.Search(n, func(i int) bool { return t.typeName(t.u32(secAliases, i, 0)) >= name })
	if i == n || t.typeName(t.u32(secAliases, i, 0)) != name {
		return 0, false
	}
	return int(t.u32(secAliases, i, 4)), true
}

// Lookup implements types.Symbols.
func (t *Table) Lookup(name string) (types.Symbol, bool) {
	i, ok := t.place(name)
	if !ok {
		return types.Symbol{}, false
	}
	return t.symbol(i), true
}

// TypeOf implements types.TypedSymbols.
func (t *Table) TypeOf(name string) (*types.Type, bool) {
	i, ok := t.place(name)
	if !ok {
		return nil, false
	}
	n := t.u32(secSyms, i, 8)
	if n == 0 {
		return nil, false
	}
	return t.typ(n - 1), true
}

// Nearest implements types.Symbols.
func (t *Table) Nearest(rva uint32) (types.Symbol, uint32, bool) {
	n := t.count(secAddrs)
	i := sort.Search(n, func(i int) bool { return t.u32(secAddrs, i, 0) > rva })
	if i == 0 {
		return types.Symbol{}, 0, false
	}
	s := t.symbol(int(t.u32(secAddrs, i-1, 4)))
	s.RVA = t.u32(secAddrs, i-1, 0)
	return s, rva - s.RVA, true
}

// Prefix implements types.Symbols. No more than max names; none for max <= 0.
func (t *Table) Prefix(prefix string, max int) []string {
	var names []string
	for i := t.find(prefix); i < t.count(secNameEnd) && len(names) < max; i++ {
		name := t.symbolName(i)
		if !strings.HasPrefix(name, prefix) {
			break
		}
		if len(names) == 0 || names[len(names)-1] != name {
			names = append(names, name)
		}
	}
	return names
}

// All implements types.Symbols.
func (t *Table) All() iter.Seq[types.Symbol] {
	return func(yield func(types.Symbol) bool) {
		for i := range t.count(secNameEnd) {
			if !yield(t.symbol(i)) {
				return
			}
		}
	}
}

// Aliases implements Aliased.
func (t *Table) Aliases() iter.Seq2[string, string] {
	return func(yield func(alias, name string) bool) {
		for i := range t.count(secAliases) {
			if !yield(t.typeName(t.u32(secAliases, i, 0)), t.symbolName(int(t.u32(secAliases, i, 4)))) {
				return
			}
		}
	}
}

// Len implements types.Symbols.
func (t *Table) Len() int { return t.count(secNameEnd) }

// Describe implements types.Symbols: what the table's source said.
func (t *Table) Describe() string { return t.describe }

// Memory gives about how many bytes the table keeps in memory, without the
// types that were asked for.
func (t *Table) Memory() int {
	n := len(t.names) + len(t.text)
	for _, part := range t.raw {
		n += len(part)
	}
	return n
}

// String names the table for messages.
func (t *Table) String() string {
	return "index of " + filepath.Base(t.key.Source)
}

var (
	_ types.Store        = (*Table)(nil)
	_ types.Lister       = (*Table)(nil)
	_ types.TypedSymbols = (*Table)(nil)
	_ Aliased            = (*Table)(nil)
)
