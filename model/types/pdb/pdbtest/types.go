package pdbtest

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"gokd/model/types"
)

// typeWriter writes the stream of types.
type typeWriter struct {
	listMax int
	unique  bool
	recs    buffer
	count   uint32
	hashes  []uint32
	marks   buffer            // type index and offset, every 8 KB
	same    map[string]uint32 // small records that are there already
	done    map[string]uint32 // definitions by kind and name
	unnamed map[*types.Type]uint32
	queue   []*types.Type // that only pointers led to
	level   int
}

const firstIndex = 0x1000

func newTypeWriter(listMax int, unique bool) *typeWriter {
	return &typeWriter{listMax: listMax, unique: unique, same: map[string]uint32{}, done: map[string]uint32{}, unnamed: map[*types.Type]uint32{}}
}

func (w *typeWriter) all(list []*types.Type) error {
	for _, t := range list {
		if _, err := w.use(t); err != nil {
			return err
		}
	}
	return nil
}

// pointees defines what only pointers led to.
func (w *typeWriter) pointees() error {
	for len(w.queue) > 0 {
		t := w.queue[0]
		w.queue = w.queue[1:]
		if _, err := w.use(t); err != nil {
			return err
		}
	}
	return nil
}

// record appends a record and gives its index; name is what its hash is of, ""
// for all of it.
func (w *typeWriter) record(leaf uint16, body []byte, name string) (uint32, error) {
	r := &buffer{}
	r.u16(0, leaf)
	r.raw(body)
	for len(r.b)%4 != 0 {
		r.pad()
	}
	if len(r.b)-2 > 0xffff {
		return 0, fmt.Errorf("record of kind %#x: %d bytes", leaf, len(r.b))
	}
	r.b[0], r.b[1] = byte(len(r.b)-2), byte((len(r.b)-2)>>8)
	index := firstIndex + w.count
	if at := uint32(len(w.recs.b)); w.count == 0 || at/0x2000 != (at+uint32(len(r.b)))/0x2000 {
		w.marks.u32(index, at)
	}
	w.recs.raw(r.b)
	w.count++
	if name != "" {
		w.hashes = append(w.hashes, hashV1(name))
	} else {
		w.hashes = append(w.hashes, hashV8(r.b))
	}
	return index, nil
}

// shared appends a record unless the same one is there.
func (w *typeWriter) shared(leaf uint16, body []byte) (uint32, error) {
	key := fmt.Sprint(leaf, string(body))
	if i, ok := w.same[key]; ok {
		return i, nil
	}
	i, err := w.record(leaf, body, "")
	w.same[key] = i
	return i, err
}

// baseIndex gives the index of base types that have a name everyone knows.
var baseIndex = map[string]uint32{
	"void": 0x03, "HRESULT": 0x08, "char": 0x70, "unsigned char": 0x20, "wchar": 0x71, "wchar_t": 0x71,
	"short": 0x11, "unsigned short": 0x21, "int": 0x74, "unsigned int": 0x75, "long": 0x12, "unsigned long": 0x22,
	"long long": 0x13, "__int64": 0x13, "unsigned long long": 0x23, "unsigned __int64": 0x23,
	"bool": 0x30, "float": 0x40, "f32": 0x40, "double": 0x41, "<no type>": 0,
}

// base gives the index of a base type.
func base(t *types.Type) (uint32, error) {
	if i, ok := baseIndex[t.Name]; ok {
		return i, nil
	}
	byKind := map[types.Kind]map[uint32]uint32{
		types.KindInt:    {1: 0x20, 2: 0x21, 4: 0x22, 8: 0x23, 16: 0x24},
		types.KindSigned: {1: 0x10, 2: 0x11, 4: 0x12, 8: 0x13, 16: 0x14},
		types.KindFloat:  {4: 0x40, 8: 0x41, 10: 0x42, 16: 0x43},
		types.KindChar:   {1: 0x70, 2: 0x71},
		types.KindBool:   {1: 0x30, 2: 0x31, 4: 0x32, 8: 0x33},
		types.KindVoid:   {0: 0x03},
	}
	if i, ok := byKind[t.Kind][t.Size]; ok {
		return i, nil
	}
	return 0, fmt.Errorf("base type %s of %d bytes: no index for it", t.Name, t.Size)
}

// use gives the index of a type that is used by value.
func (w *typeWriter) use(t *types.Type) (uint32, error) {
	if w.level++; w.level > 200 {
		return 0, fmt.Errorf("type %s: contains itself", t.Name)
	}
	defer func() { w.level-- }()
	switch t.Kind {
	case types.KindStruct, types.KindUnion, types.KindEnum:
		return w.define(t)
	case types.KindPointer:
		return w.pointer(t)
	case types.KindArray:
		return w.array(t)
	case types.KindFunction:
		return w.function(t)
	}
	return base(t)
}

// ref gives the index of a type that a pointer leads to.
func (w *typeWriter) ref(t *types.Type) (uint32, error) {
	switch {
	case t == nil:
		return 0x03, nil
	case t.Kind == types.KindArray:
		elem, err := w.ref(t.Elem)
		if err != nil {
			return 0, err
		}
		return w.arrayOf(elem, t.Size)
	case t.Kind != types.KindStruct && t.Kind != types.KindUnion && t.Kind != types.KindEnum:
		return w.use(t)
	case noName(t):
		if i, ok := w.unnamed[t]; ok {
			return i, nil
		}
		return w.use(t)
	}
	if len(t.Fields) > 0 || len(t.Consts) > 0 {
		if _, ok := w.done[key(t)]; !ok {
			w.queue = append(w.queue, t)
		}
	}
	return w.udt(t, 0, true)
}

func noName(t *types.Type) bool { return strings.HasPrefix(t.Name, "__unnamed") }
func key(t *types.Type) string  { return fmt.Sprint(t.Kind == types.KindEnum, t.Name) }

func (w *typeWriter) pointer(t *types.Type) (uint32, error) {
	to, err := w.ref(t.Elem)
	if err != nil {
		return 0, err
	}
	// Pointers to base types have an index of their own.
	mode, attr := uint32(0x600), uint32(0xc)
	if t.Size == 4 {
		mode, attr = 0x400, 0xa
	}
	if to < 0x100 {
		return to | mode, nil
	}
	b := &buffer{}
	b.u32(to, attr|t.Size<<13)
	return w.shared(0x1002, b.b)
}

func (w *typeWriter) array(t *types.Type) (uint32, error) {
	elem, err := w.use(t.Elem)
	if err != nil {
		return 0, err
	}
	return w.arrayOf(elem, t.Size)
}

func (w *typeWriter) arrayOf(elem, size uint32) (uint32, error) {
	b := &buffer{}
	b.u32(elem, 0x23)
	b.number(int64(size))
	b.text("")
	return w.shared(0x1503, b.b)
}

func (w *typeWriter) function(t *types.Type) (uint32, error) {
	result := uint32(0x03)
	var err error
	if t.Elem != nil {
		if result, err = w.ref(t.Elem); err != nil {
			return 0, err
		}
	}
	args := &buffer{}
	args.u32(uint32(len(t.Fields)))
	for _, f := range t.Fields {
		i, err := w.ref(f.Type)
		if err != nil {
			return 0, err
		}
		args.u32(i)
	}
	list, err := w.shared(0x1201, args.b)
	if err != nil {
		return 0, err
	}
	b := &buffer{}
	b.u32(result)
	b.u16(0, uint16(len(t.Fields)))
	b.u32(list)
	return w.shared(0x1008, b.b)
}

// define gives the index of a definition, which it writes at first use.
func (w *typeWriter) define(t *types.Type) (uint32, error) {
	if noName(t) {
		if i, ok := w.unnamed[t]; ok {
			return i, nil
		}
	} else if i, ok := w.done[key(t)]; ok {
		return i, nil
	}
	var items [][]byte
	var err error
	if t.Kind == types.KindEnum {
		items = constants(t)
	} else if items, err = w.members(t); err != nil {
		return 0, err
	}
	list, err := w.fieldList(items)
	if err != nil {
		return 0, fmt.Errorf("type %s: %w", t.Name, err)
	}
	i, err := w.udt(t, list, false)
	if noName(t) {
		w.unnamed[t] = i
	} else {
		w.done[key(t)] = i
	}
	return i, err
}

// udt writes a definition or a forward reference.
func (w *typeWriter) udt(t *types.Type, list uint32, forward bool) (uint32, error) {
	name, props := t.Name, uint16(0)
	count := len(t.Fields) + len(t.Consts)
	if noName(t) {
		name = "<unnamed-tag>"
	}
	size := int64(t.Size)
	if forward {
		props, size, count = 0x80, 0, 0
	}
	tag, leaf := "U", uint16(0x1505)
	b := &buffer{}
	unique := w.unique && !noName(t)
	if unique {
		props |= 0x200
	}
	b.u16(uint16(min(count, 0xffff)), props)
	switch t.Kind {
	case types.KindEnum:
		tag, leaf = "W4", 0x1507
		b.u32(underlying(t), list)
	case types.KindUnion:
		tag, leaf = "T", 0x1506
		b.u32(list)
		b.number(size)
	default:
		b.u32(list, 0, 0)
		b.number(size)
	}
	b.text(name)
	if unique {
		b.text(".?A" + tag + name + "@@")
	}
	if forward {
		return w.shared(leaf, b.b)
	}
	return w.record(leaf, b.b, name)
}

// underlying gives the index of the integer that an enumeration is: int unless
// a constant needs an unsigned one, or the size another.
func underlying(t *types.Type) uint32 {
	signed, unsigned := map[uint32]uint32{1: 0x10, 2: 0x11, 8: 0x13}, map[uint32]uint32{1: 0x20, 2: 0x21, 4: 0x22, 8: 0x23}
	for _, v := range t.Consts {
		if t.Size > 0 && t.Size < 8 && v >= 1<<(8*t.Size-1) {
			return cmp.Or(unsigned[t.Size], 0x22)
		}
	}
	return cmp.Or(signed[t.Size], 0x74)
}

// members encodes the members of a structure or union.
func (w *typeWriter) members(t *types.Type) ([][]byte, error) {
	var items [][]byte
	for _, f := range t.Fields {
		i, err := w.use(f.Type)
		if err != nil {
			return nil, fmt.Errorf("%s.%s: %w", t.Name, f.Name, err)
		}
		if f.BitLen > 0 {
			bits := &buffer{}
			bits.u32(i)
			bits.u8(f.BitLen)
			bits.u8(f.BitPos)
			if i, err = w.shared(0x1205, bits.b); err != nil {
				return nil, err
			}
		}
		b := &buffer{}
		b.u16(0x150d, 3) // public
		b.u32(i)
		b.number(int64(f.Offset))
		b.text(f.Name)
		b.pad()
		items = append(items, b.b)
	}
	return items, nil
}

// constants encodes the constants of an enumeration, by value and name.
func constants(t *types.Type) [][]byte {
	names := sortedKeys(t.Consts)
	slices.SortStableFunc(names, func(a, b string) int { return cmp.Compare(t.Consts[a], t.Consts[b]) })
	var items [][]byte
	for _, name := range names {
		b := &buffer{}
		b.u16(0x1502, 3)
		b.number(t.Consts[name])
		b.text(name)
		b.pad()
		items = append(items, b.b)
	}
	return items
}

// fieldList writes a list of members in as many records as it needs, the last
// one first: each ends with the index of the next.
func (w *typeWriter) fieldList(items [][]byte) (uint32, error) {
	if len(items) == 0 {
		return w.shared(0x1203, nil)
	}
	var parts []buffer
	for _, it := range items {
		if n := len(parts); n == 0 || len(parts[n-1].b)+len(it) > w.listMax {
			parts = append(parts, buffer{})
		}
		parts[len(parts)-1].raw(it)
	}
	var next uint32
	for i := len(parts) - 1; i >= 0; i-- {
		if next != 0 {
			parts[i].u16(0x1404, 0)
			parts[i].u32(next)
		}
		var err error
		if next, err = w.record(0x1203, parts[i].b, ""); err != nil {
			return 0, err
		}
	}
	return next, nil
}

// streams gives the stream of types and that of its hashes.
func (w *typeWriter) streams(hashStream uint16) (tpi, hash []byte) {
	const buckets = 0x3ffff
	h := &buffer{}
	for _, v := range w.hashes {
		h.u32(v % buckets)
	}
	values := uint32(len(h.b))
	h.raw(w.marks.b)
	t := &buffer{}
	t.u32(20040203, 0x38, firstIndex, firstIndex+w.count, uint32(len(w.recs.b)))
	t.u16(hashStream, 0xffff)
	t.u32(4, buckets)
	t.u32(0, values, values, uint32(len(w.marks.b)), uint32(len(h.b)), 0)
	t.raw(w.recs.b)
	return t.b, h.b
}
