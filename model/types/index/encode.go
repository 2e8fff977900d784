package index

import (
	"fmt"
	"iter"
	"maps"
	"slices"
	"strings"

	"gokd/model/types"
)

// Limits of what is written and read, well beyond the largest public PDBs.
const (
	maxTypes   = 1 << 20
	maxNesting = 64 // types that hold each other by value
	maxChain   = 64 // pointers and arrays around one name
)

// Aliased is implemented by Symbols that find some names by a second spelling,
// such as the one the linker used.
type Aliased interface {
	// Aliases gives second spellings, each with the name it leads to.
	Aliases() iter.Seq2[string, string]
}

// Typedefs is implemented by stores that find types by names that they do not
// list, such as those that C gives with typedef.
type Typedefs interface {
	// Typedefs gives those names.
	Typedefs() iter.Seq[string]
}

// encode makes the file of a table.
func encode(k Key, store types.Store, syms types.Symbols) ([]byte, error) {
	m := meta{key: k, store: store != nil}
	m.origin = types.Origin{Match: types.MatchExact, Source: k.Kind, File: k.Source}
	if store != nil {
		m.origin = store.Origin()
	}
	e := &encoder{store: store, text: map[string]uint32{}, index: map[*types.Type]uint32{}}
	if err := e.addStore(); err != nil {
		return nil, err
	}
	if syms != nil {
		m.describe = syms.Describe()
		if err := e.addSymbols(syms); err != nil {
			return nil, err
		}
	}
	if err := e.addPending(); err != nil {
		return nil, err
	}
	e.putTypes()
	e.putLookup()
	e.parts[secMeta] = m.encode()
	if len(e.parts[secMeta]) > maxMeta {
		return nil, fmt.Errorf("names of %#x bytes, at most %#x", len(e.parts[secMeta]), maxMeta)
	}
	return join(e.parts)
}

// encoder collects the sections.
type encoder struct {
	store types.Store
	parts [sections][]byte

	text    map[string]uint32      // names in secText
	order   []*types.Type          // as they will stand in secTypes
	index   map[*types.Type]uint32 // place in order
	active  map[*types.Type]bool   // being added, to notice one that holds itself
	pending []*types.Type          // what pointers lead to
	lookup  map[string]*types.Type // by name
	listed  map[string]bool        // names that TypeNames gave
	full    map[*types.Type]*types.Type
}

// name gives the number of a name in secText.
func (e *encoder) name(s string) uint32 {
	n, ok := e.text[s]
	if !ok {
		n = uint32(len(e.text))
		e.text[s] = n
		e.parts[secText] = append(e.parts[secText], s...)
		e.parts[secTextEnd] = le.AppendUint32(e.parts[secTextEnd], uint32(len(e.parts[secText])))
	}
	return n
}

// commonNames are base types that a store may know although none of its
// structures has one: what expressions and dt name.
var commonNames = strings.Split("void,bool,char,signed char,unsigned char,wchar,wchar_t,short,unsigned short,int,unsigned int,"+
	"long,unsigned long,long long,unsigned long long,int128,uint128,__int64,unsigned __int64,int8,uint8,float,double,long double,"+
	"f16,f32,f48,f128,bool16,bool32,bool64,char8_t,char16_t,char32_t,HRESULT", ",")

// addStore adds every type that the store lists, and what they are made of.
func (e *encoder) addStore() error {
	e.active, e.full = map[*types.Type]bool{}, map[*types.Type]*types.Type{}
	e.lookup, e.listed = map[string]*types.Type{}, map[string]bool{}
	if e.store == nil {
		return nil
	}
	lister, ok := e.store.(types.Lister)
	if !ok {
		return fmt.Errorf("%s does not list its types", e.store.Origin().Source)
	}
	names := lister.TypeNames()
	for _, name := range names {
		e.listed[name] = true
	}
	names = append(slices.Clip(names), commonNames...)
	if more, ok := e.store.(Typedefs); ok {
		for name := range more.Typedefs() {
			if len(names) > maxTypes {
				break
			}
			names = append(names, name)
		}
	}
	for _, name := range names {
		if e.lookup[name] != nil {
			continue
		}
		t, err := e.store.Type(name)
		if err != nil {
			continue // listed without being there, or a base type of another compiler
		}
		e.lookup[name] = t
		e.pending = append(e.pending, t)
	}
	return e.addPending()
}

// addPending adds what is asked for and what its pointers lead to.
func (e *encoder) addPending() error {
	for len(e.pending) > 0 {
		last := len(e.pending) - 1
		t := e.pending[last]
		e.pending = e.pending[:last]
		if err := e.add(t, 0); err != nil {
			return err
		}
	}
	return nil
}

// add puts t after all that it holds by value. What its pointers lead to comes
// later: those may lead back.
func (e *encoder) add(t *types.Type, level int) error {
	t = e.complete(t)
	if _, known := e.index[t]; known {
		return nil
	}
	switch {
	case level > maxNesting || e.active[t]:
		return fmt.Errorf("type %.40s: holds itself, or more than %d levels of members", t.Name, maxNesting)
	case len(e.order) >= maxTypes:
		return fmt.Errorf("more than %d types", maxTypes)
	}
	e.active[t] = true
	for _, f := range members(t) {
		if f.Type == nil {
			return fmt.Errorf("type %.40s: field %.40s has no type", t.Name, f.Name)
		}
		if err := e.add(f.Type, level+1); err != nil {
			return err
		}
	}
	if t.Elem != nil {
		if t.Kind != types.KindArray {
			e.pending = append(e.pending, t.Elem)
		} else if err := e.add(t.Elem, level+1); err != nil {
			return err
		}
	}
	delete(e.active, t)
	e.index[t] = uint32(len(e.order))
	e.order = append(e.order, t)
	return nil
}

// complete gives the whole of a type that a pointer names only, where the
// store has it.
func (e *encoder) complete(t *types.Type) *types.Type {
	if e.store == nil || t.Size != 0 || len(t.Fields) > 0 || len(t.Consts) > 0 {
		return t
	}
	switch t.Kind {
	case types.KindStruct, types.KindUnion, types.KindEnum:
	default:
		return t
	}
	if full, ok := e.full[t]; ok {
		return full
	}
	full, err := e.store.Type(t.Name)
	if err != nil || full.Name != t.Name || full.Kind == types.KindEnum != (t.Kind == types.KindEnum) {
		full = t
	}
	e.full[t] = full
	return full
}

// ref gives the number of an added type.
func (e *encoder) ref(t *types.Type) uint32 { return e.index[e.complete(t)] }

// putTypes writes the types in their order.
func (e *encoder) putTypes() {
	for _, t := range e.order {
		var elem, n uint32
		var flags byte
		if t.Elem != nil && e.chainEnds(t) {
			elem = e.ref(t.Elem) + 1
		}
		for _, f := range members(t) {
			n++
			b := le.AppendUint32(e.parts[secFields], e.name(f.Name))
			b = le.AppendUint32(b, e.ref(f.Type))
			b = le.AppendUint32(b, f.Offset)
			e.parts[secFields] = append(b, f.BitPos, f.BitLen, 0, 0)
		}
		if t.Kind == types.KindEnum && t.Consts != nil {
			flags, n = hasConsts, uint32(len(t.Consts))
			for _, name := range slices.Sorted(maps.Keys(t.Consts)) {
				b := le.AppendUint32(e.parts[secConsts], e.name(name))
				e.parts[secConsts] = le.AppendUint64(b, uint64(t.Consts[name]))
			}
		}
		b := le.AppendUint32(e.parts[secTypes], e.name(t.Name))
		b = append(b, byte(t.Kind), flags, 0, 0)
		b = le.AppendUint32(b, t.Size)
		b = le.AppendUint32(b, elem)
		b = le.AppendUint32(b, t.Count)
		e.parts[secTypes] = le.AppendUint32(b, n)
		e.findable(t)
	}
}

// members gives the fields of a structure or union, or the parameters of a
// function.
func members(t *types.Type) []types.Field {
	if t.Kind == types.KindEnum {
		return nil
	}
	return t.Fields
}

// chainEnds reports whether pointers and arrays from t on lead to something
// else before long. A hostile table may have a pointer to itself.
func (e *encoder) chainEnds(t *types.Type) bool {
	for range maxChain {
		if t.Elem == nil || isNamed(t.Kind) {
			return true
		}
		t = e.complete(t.Elem)
	}
	return false
}

// isNamed reports whether walks by element end at a type of that kind.
func isNamed(k types.Kind) bool {
	return k == types.KindStruct || k == types.KindUnion || k == types.KindEnum
}

// findable notes a base type by its name if the store gives it by that name too.
func (e *encoder) findable(t *types.Type) {
	if _, known := e.lookup[t.Name]; known || e.store == nil {
		return
	}
	if isNamed(t.Kind) || t.Kind == types.KindPointer || t.Kind == types.KindArray {
		return // by their names the store has listed all that can be found
	}
	if same, err := e.store.Type(t.Name); err == nil && e.complete(same) == t {
		e.lookup[t.Name] = t
	}
}

// putLookup writes the names that types are found by.
func (e *encoder) putLookup() {
	for _, name := range slices.Sorted(maps.Keys(e.lookup)) {
		ref := e.ref(e.lookup[name])
		if e.listed[name] {
			ref |= listed
		}
		b := le.AppendUint32(e.parts[secLookup], e.name(name))
		e.parts[secLookup] = le.AppendUint32(b, ref)
	}
}

// addSymbols writes the names. Which of the names of one address is the best is
// asked of the source, so that the cache answers as it does.
func (e *encoder) addSymbols(syms types.Symbols) error {
	all := slices.Collect(syms.All())
	byName := func(a, b types.Symbol) int { return strings.Compare(a.Name, b.Name) }
	if !slices.IsSortedFunc(all, byName) {
		slices.SortStableFunc(all, byName)
	}
	typed, _ := syms.(types.TypedSymbols)
	place := make(map[string]uint32, len(all))
	for i, s := range all {
		e.parts[secNames] = append(e.parts[secNames], s.Name...)
		if len(e.parts[secNames]) > maxFile {
			return fmt.Errorf("more than %#x bytes of names", maxFile)
		}
		e.parts[secNameEnd] = le.AppendUint32(e.parts[secNameEnd], uint32(len(e.parts[secNames])))
		typ := uint32(0)
		if typed != nil {
			if t, ok := typed.TypeOf(s.Name); ok && t != nil {
				if err := e.add(t, 0); err != nil {
					return err
				}
				typ = e.ref(t) + 1
			}
		}
		b := le.AppendUint32(e.parts[secSyms], s.RVA)
		b = le.AppendUint32(b, s.Size)
		b = le.AppendUint32(b, typ)
		private := byte(0)
		if s.Private {
			private = 1
		}
		e.parts[secSyms] = append(b, byte(s.Kind), private, 0, 0)
		if _, twice := place[s.Name]; !twice {
			place[s.Name] = uint32(i)
		}
	}
	e.putAddrs(syms, all, place)
	e.putAliases(syms, place)
	return nil
}

// putAddrs writes the best symbol of each address.
func (e *encoder) putAddrs(syms types.Symbols, all []types.Symbol, place map[string]uint32) {
	rvas := make([]uint32, len(all))
	for i, s := range all {
		rvas[i] = s.RVA
	}
	slices.Sort(rvas)
	for _, rva := range slices.Compact(rvas) {
		best, delta, ok := syms.Nearest(rva)
		if !ok || delta != 0 {
			continue
		}
		// Of several symbols with that name it is the one at this address.
		for i, known := place[best.Name]; known && int(i) < len(all) && all[i].Name == best.Name; i++ {
			if all[i].RVA == rva {
				e.parts[secAddrs] = le.AppendUint32(le.AppendUint32(e.parts[secAddrs], rva), i)
				break
			}
		}
	}
}

func (e *encoder) putAliases(syms types.Symbols, place map[string]uint32) {
	aliased, ok := syms.(Aliased)
	if !ok {
		return
	}
	targets := map[string]uint32{}
	for alias, name := range aliased.Aliases() {
		if at, known := place[name]; known {
			targets[alias] = at
		}
	}
	for _, alias := range slices.Sorted(maps.Keys(targets)) {
		b := le.AppendUint32(e.parts[secAliases], e.name(alias))
		e.parts[secAliases] = le.AppendUint32(b, targets[alias])
	}
}
