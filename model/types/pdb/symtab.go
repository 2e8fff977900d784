package pdb

import (
	"cmp"
	"fmt"
	"iter"
	"slices"
	"strings"

	"gokd/model/types"
)

// symbolTable is all names with an address, from public names and, where the
// database has them, the private symbols of modules. Two entries may have one
// name: functions that are static in their modules.
type symbolTable struct {
	entries []entry  // by name, the one that Lookup finds first
	byRVA   []uint32 // indices of entries, one per address, sorted by address
	private bool     // modules have functions
	damage  error
	names   *texts // while names are collected
}

type entry struct {
	name  string
	rva   uint32
	size  uint32
	typ   uint32 // type index, or, with id set, index of the IPI stream
	kind  types.SymbolKind
	flags entryFlags
}

type entryFlags uint8

const (
	entryPrivate entryFlags = 1 << iota
	entryStatic
	entryID
)

// readSymbols collects the names.
func (f *File) readSymbols() *symbolTable {
	t := &symbolTable{names: new(texts)}
	if f.dbi == nil {
		return t
	}
	note := func(err error) {
		if t.damage == nil {
			t.damage = err
		}
	}
	add := func(s symbol) bool {
		t.add(f.dbi, s)
		if len(t.entries) < maxNames {
			return true
		}
		note(fmt.Errorf("more than %d names", maxNames))
		return false
	}
	note(f.publics(add))
	note(f.globals(func(s symbol) bool {
		return s.kind != sGData32 && s.kind != sLData32 || add(s)
	}))
	note(f.eachModule(func(m *Module) bool {
		note(f.moduleSymbols(m, add))
		return len(t.entries) < maxNames
	}))
	t.names = nil
	t.sort()
	return t
}

// add notes a symbol if the image has its address.
func (t *symbolTable) add(d *dbi, s symbol) {
	rva, ok := d.rva(s.seg, s.off)
	if !ok || len(s.name) == 0 {
		return
	}
	e := entry{name: t.names.text(s.name), rva: rva, size: s.size, typ: s.typ}
	switch s.kind {
	case sPub32, sPub32ST:
		e.kind = d.publicKind(s)
	case sGData32, sLData32:
		e.kind, e.flags = types.SymData, entryPrivate
	default:
		e.kind, e.flags = types.SymFunction, entryPrivate
		t.private = t.private || isProc(s.kind)
	}
	if static(s.kind) {
		e.flags |= entryStatic
	}
	if byID(s.kind) {
		e.flags |= entryID
	}
	t.entries = append(t.entries, e)
}

// publicKind tells what a public name is: the linker marks functions; what has
// no mark is a variable, unless code is around it, as at the labels of
// assembler files.
func (d *dbi) publicKind(s symbol) types.SymbolKind {
	sections := d.sections
	if d.fromSrc != nil {
		sections = d.orig
	}
	switch {
	case s.flags&(publicCode|publicFunction) != 0:
		return types.SymFunction
	case sections[s.seg-1].Characteristics&sectionExec != 0:
		return types.SymUnknown
	}
	return types.SymData
}

// sort orders the entries and drops those that say nothing new.
func (t *symbolTable) sort() {
	slices.SortFunc(t.entries, func(a, b entry) int {
		if c := strings.Compare(a.name, b.name); c != 0 {
			return c // nearly always
		}
		return cmp.Or(
			cmp.Compare(a.flags&entryStatic, b.flags&entryStatic), // what all modules know first
			cmp.Compare(a.rva, b.rva),
			cmp.Compare(b.flags&entryPrivate, a.flags&entryPrivate),
		)
	})
	// A public name at its private symbol's address goes; of a static function
	// too, whose private symbol sorts behind it.
	kept := t.entries[:0]
	for i := 0; i < len(t.entries); {
		end := i + 1
		for end < len(t.entries) && t.entries[end].name == t.entries[i].name {
			end++
		}
		kept = appendDistinct(kept, t.entries[i:end])
		i = end
	}
	t.entries = slices.Clip(kept)
	t.index()
}

// appendDistinct adds the entries of one name that have different addresses.
func appendDistinct(to, same []entry) []entry {
	first := len(to)
	for _, e := range same {
		// Of many static symbols of one name only neighbours can be the same; the
		// others of that address are the public ones, in front.
		i := -1
		for j := len(to) - 1; j >= first && j >= len(to)-2; j-- {
			if to[j].rva == e.rva {
				i = j
			}
		}
		if i < 0 && len(to) > first && to[first].rva == e.rva {
			i = first
		}
		switch {
		case i < 0:
			to = append(to, e)
		case to[i].flags&entryPrivate == 0 && e.flags&entryPrivate != 0:
			to[i] = e
		}
	}
	return to
}

// index orders the entries by address and keeps the best name of each.
func (t *symbolTable) index() {
	all := make([]uint32, len(t.entries))
	for i := range all {
		all[i] = uint32(i)
	}
	slices.SortFunc(all, func(a, b uint32) int {
		x, y := &t.entries[a], &t.entries[b]
		if x.rva != y.rva {
			return cmp.Compare(x.rva, y.rva)
		}
		return cmp.Or(
			types.CompareAliases(x.name, y.name),
			cmp.Compare(a, b),
		)
	})
	all = slices.CompactFunc(all, func(a, b uint32) bool { return t.entries[a].rva == t.entries[b].rva })
	t.byRVA = slices.Clip(all)
}

func (e *entry) symbol() types.Symbol {
	return types.Symbol{Name: e.name, RVA: e.rva, Size: e.size, Kind: e.kind, Private: e.flags&entryPrivate != 0}
}

// first gives the index of the first entry that does not sort before a name.
func (t *symbolTable) first(name string) int {
	i, _ := slices.BinarySearchFunc(t.entries, name, func(e entry, name string) int {
		return strings.Compare(e.name, name)
	})
	return i
}

func (t *symbolTable) lookup(name string) (entry, bool) {
	if i := t.first(name); i < len(t.entries) && t.entries[i].name == name {
		return t.entries[i], true
	}
	return entry{}, false
}

// Lookup implements [types.Symbols]. Of several symbols of one name it finds one
// that all modules know, before one that is static in its module.
func (f *File) Lookup(name string) (types.Symbol, bool) {
	e, ok := f.symbols().lookup(name)
	return e.symbol(), ok
}

// Nearest implements [types.Symbols].
func (f *File) Nearest(rva uint32) (sym types.Symbol, delta uint32, ok bool) {
	t := f.symbols()
	i, exact := slices.BinarySearchFunc(t.byRVA, rva, func(n, rva uint32) int {
		return cmp.Compare(t.entries[n].rva, rva)
	})
	if !exact {
		i--
	}
	if i < 0 {
		return types.Symbol{}, 0, false
	}
	sym = t.entries[t.byRVA[i]].symbol()
	return sym, rva - sym.RVA, true
}

// Prefix implements [types.Symbols].
func (f *File) Prefix(prefix string, max int) []string {
	t := f.symbols()
	var names []string
	for i := t.first(prefix); i < len(t.entries) && len(names) < max; i++ {
		name := t.entries[i].name
		if !strings.HasPrefix(name, prefix) {
			break
		}
		if len(names) == 0 || names[len(names)-1] != name {
			names = append(names, name)
		}
	}
	return names
}

// All implements [types.Symbols]. Static symbols of one name follow each other.
func (f *File) All() iter.Seq[types.Symbol] {
	return func(yield func(types.Symbol) bool) {
		t := f.symbols()
		for i := range t.entries {
			if !yield(t.entries[i].symbol()) {
				return
			}
		}
	}
}

// Len implements [types.Symbols].
func (f *File) Len() int { return len(f.symbols().entries) }

// Describe implements [types.Symbols]: "private pdb" where functions have their
// private symbols, "pdb" where the linker left those out.
func (f *File) Describe() string {
	if f.Stripped() || !f.symbols().private {
		return "pdb"
	}
	return "private pdb"
}
