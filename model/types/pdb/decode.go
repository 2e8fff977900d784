package pdb

import (
	"bytes"
	"errors"
	"fmt"
	"slices"

	"gokd/model/types"
)

// decoder makes types of records. A type that is used by value is made whole at
// once; of one that only a pointer leads to, the name is enough at first, and
// where deep is set it is made whole by finish. One decoder serves one
// goroutine.
type decoder struct {
	t     *typeStream
	deep  bool
	nodes map[nodeKey]*node
	defs  map[uint32]uint32 // definitions of forward references
	work  []nodeKey         // types that pointers lead to, to be made whole
	left  int               // entries of field lists that may still be read
	near  *near
	part  *part         // of the stream, that the decoder is to make; nil for single types
	buf   []types.Field // of the type that is being made
	slabs
	texts
}

// nodeKey names a type: its index and, for arrays, whether only a pointer leads
// to it, in which case its elements may be incomplete.
// Both are in one number, for which maps are fastest.
type nodeKey uint64

func byValue(ti uint32) nodeKey   { return nodeKey(ti) }
func byPointer(ti uint32) nodeKey { return nodeKey(ti) | 1<<32 }

func (k nodeKey) typ() uint32  { return uint32(k) }
func (k nodeKey) behind() bool { return k>>32 != 0 }

// node is a type on its way. The type is changed while the decoder runs and no
// more once it was handed out.
type node struct {
	types.Type
	state state
	err   error
}

type state uint8

const (
	stateName  state = iota // name and kind only
	stateBusy               // being made whole
	stateWhole              // for good
	stateBad                // can't be: err tells why
)

var (
	errDepth  = fmt.Errorf("more than %d types inside each other", maxDepth)
	errItself = errors.New("contains itself")
	errEffort = errors.New("its types are used in each other too often")
)

func newDecoder(t *typeStream, deep bool, effort int) *decoder {
	return &decoder{t: t, deep: deep, left: effort, near: new(near), nodes: map[nodeKey]*node{}, defs: map[uint32]uint32{}}
}

// reset forgets the types that were made, which stay as they are.
func (d *decoder) reset(effort int) {
	clear(d.nodes)
	clear(d.defs)
	d.work, d.left = nil, effort
	d.slabs = slabs{} // else each would lead on to the types before
}

// record gives a record by its type index.
func (d *decoder) record(ti uint32) (leaf uint16, data []byte, err error) {
	if leaf, data, ok := d.part.record(ti); ok {
		return leaf, data, nil
	}
	return d.t.recordNear(d.near, ti)
}

// spend counts an entry of a field list, or another thing with a name, against
// the decoder's limit: one list may serve any number of types, and a small file
// make no end of work and of long names.
func (d *decoder) spend(name int) error {
	if d.left -= 1 + name/64; d.left < 0 {
		return errEffort
	}
	return nil
}

// get gives a type that is used by value.
func (d *decoder) get(ti uint32, depth int) (*types.Type, error) {
	if ti < firstType {
		return baseType(ti)
	}
	if depth > maxDepth {
		return nil, errDepth
	}
	if n := d.nodes[byValue(ti)]; n != nil && n.state != stateName {
		return n.result()
	}
	leaf, data, err := d.record(ti)
	if err != nil {
		return nil, err
	}
	return d.getRecord(ti, leaf, data, depth)
}

// getRecord is get with the record at hand.
func (d *decoder) getRecord(ti uint32, leaf uint16, data []byte, depth int) (*types.Type, error) {
	if isUDT(leaf) {
		u, ti, err := d.definition(ti, leaf, data)
		if err != nil {
			return nil, err
		}
		n := d.named(ti, &u)
		if n.state == stateName && !u.forward() {
			d.complete(n, &u, depth)
		}
		return n.result()
	}
	r := &reader{b: data}
	switch leaf {
	case lfModifier, lfAlias:
		ti := r.u32()
		if r.err != nil {
			return nil, r.err
		}
		return d.get(ti, depth+1)
	case lfArray:
		return d.array(byValue(ti), r, depth)
	}
	return d.plain(ti, leaf, r, depth)
}

func (n *node) result() (*types.Type, error) {
	switch n.state {
	case stateBusy:
		return nil, errItself
	case stateBad:
		return nil, n.err
	}
	return &n.Type, nil
}

// ref gives a type that a pointer leads to.
func (d *decoder) ref(ti uint32, depth int) (*types.Type, error) {
	if ti < firstType {
		return baseType(ti)
	}
	if depth > maxDepth {
		return nil, errDepth
	}
	leaf, data, err := d.record(ti)
	if err != nil {
		return nil, err
	}
	if isUDT(leaf) {
		u, ti, err := d.definition(ti, leaf, data)
		if err != nil {
			return nil, err
		}
		n := d.named(ti, &u)
		if d.deep && n.state == stateName && !u.forward() {
			d.work = append(d.work, byValue(ti))
		}
		return &n.Type, nil
	}
	r := &reader{b: data}
	switch leaf {
	case lfModifier, lfAlias:
		ti := r.u32()
		if r.err != nil {
			return nil, r.err
		}
		return d.ref(ti, depth+1)
	case lfArray:
		return d.array(byPointer(ti), r, depth)
	}
	return d.plain(ti, leaf, r, depth)
}

func (d *decoder) node(key nodeKey) *node {
	n := d.nodes[key]
	if n == nil {
		n = d.newNode()
		d.nodes[key] = n
	}
	return n
}

// named gives the node of a class, structure, union or enumeration, with at
// least name and kind.
func (d *decoder) named(ti uint32, u *udt) *node {
	n := d.node(byValue(ti))
	if n.Name == "" {
		n.Name, n.Kind = typeName(ti, u), kindOf(u.leaf)
	}
	return n
}

func kindOf(leaf uint16) types.Kind {
	switch leaf {
	case lfUnion, lfUnion2:
		return types.KindUnion
	case lfEnum:
		return types.KindEnum
	}
	return types.KindStruct
}

// typeName gives the name of a type, made up where it has none.
func typeName(ti uint32, u *udt) string {
	if !anonymous(u.name) {
		return string(u.name)
	}
	return fmt.Sprintf("%s%x", unnamedPrefix, ti)
}

// definition gives the definition that a record is or refers to; the record
// itself where the database has none.
func (d *decoder) definition(ti uint32, leaf uint16, data []byte) (udt, uint32, error) {
	u, err := parseUDT(leaf, data)
	if err != nil || !u.forward() {
		return u, ti, err
	}
	def, known := d.defs[ti]
	if !known {
		def = d.search(&u)
		d.defs[ti] = def
	}
	if def == 0 {
		return u, ti, nil
	}
	if leaf, data, err = d.record(def); err != nil {
		return u, ti, err
	}
	u, err = parseUDT(leaf, data)
	return u, def, err
}

// search finds the definition for a forward reference, 0 for none: by unique
// name where there is one, as several types may have one name in C++.
func (d *decoder) search(want *udt) uint32 {
	key := want.name
	if want.unique != nil {
		key = want.unique
	} else if anonymous(key) {
		return 0
	}
	for _, m := range d.t.scan().candidates(key) {
		leaf, data, err := d.record(m.typ())
		if err != nil || !isUDT(leaf) || kindOf(leaf) != kindOf(want.leaf) {
			continue
		}
		u, err := parseUDT(leaf, data)
		if err != nil || u.forward() {
			continue
		}
		if want.unique != nil && bytes.Equal(u.unique, key) || want.unique == nil && bytes.Equal(u.name, key) {
			return m.typ()
		}
	}
	return 0
}

// complete makes a definition whole.
func (d *decoder) complete(n *node, u *udt, depth int) {
	n.state = stateBusy
	var err error
	if u.leaf == lfEnum {
		err = d.enum(n, u, depth)
	} else {
		err = d.members(n, u, depth)
	}
	if err != nil {
		n.Size, n.Fields, n.Consts = 0, nil, nil
		n.state, n.err = stateBad, fmt.Errorf("unreadable type %s: %w", n.Name, err)
		return
	}
	n.state = stateWhole
}

func (d *decoder) enum(n *node, u *udt, depth int) error {
	under, err := d.get(u.underlying, depth+1)
	if err != nil {
		return fmt.Errorf("underlying type: %w", err)
	}
	n.Size = min(under.Size, 16)
	n.Consts = map[string]int64{}
	return d.items(u.fields, func(it fieldItem, name string) error {
		if it.leaf == lfEnumerate {
			n.Consts[name] = constant(it.value, under)
		}
		return nil
	})
}

// constant gives the value that an enumeration's constant has in its type: of -1
// in an int, some compilers write 0xffffffff.
func constant(v uint64, under *types.Type) int64 {
	if under.Size == 0 || under.Size >= 8 {
		return int64(v)
	}
	unused := 64 - 8*under.Size
	if under.Kind == types.KindSigned || under == baseTypes[0x10] || under == baseTypes[0x70] {
		return int64(v<<unused) >> unused
	}
	return int64(v << unused >> unused)
}

// members reads the members of a structure or union.
func (d *decoder) members(n *node, u *udt, depth int) error {
	if u.size > maxTypeSize {
		return fmt.Errorf("%#x bytes, at most %#x", u.size, maxTypeSize)
	}
	outer := d.buf
	defer func() { d.buf = outer }()
	d.buf = d.reserve(d.expect(u))
	var first error
	err := d.items(u.fields, func(it fieldItem, name string) error {
		if err := d.member(it, name, depth); err != nil {
			first = err
		}
		if len(d.buf) > maxMembers {
			return errMembers
		}
		return first
	})
	if err != nil {
		return err
	}
	n.Size = uint32(u.size)
	n.Fields = slices.Clip(d.buf)
	return nil
}

// expect tells how many fields a type may have: as many as its record says, if
// its list is as long.
func (d *decoder) expect(u *udt) int {
	const least = 8 // bytes of an entry
	_, data, err := d.record(u.fields)
	if err != nil {
		return 0
	}
	return int(min(u.count, uint64(len(data))/least))
}

// items walks a field list and its continuations, against the decoder's limit.
// It stops when visit does.
func (d *decoder) items(list uint32, visit func(it fieldItem, name string) error) error {
	var seen map[uint32]bool
	for list != 0 {
		leaf, data, err := d.record(list)
		if err == nil && leaf != lfFieldList {
			err = fmt.Errorf("type %#x is of kind %#x", list, leaf)
		}
		if err == nil {
			err = d.spend(len(data))
		}
		if err != nil {
			return fmt.Errorf("field list: %w", err)
		}
		next, err := d.list(data, visit)
		if err != nil {
			return err
		}
		if next != 0 {
			if seen == nil {
				seen = map[uint32]bool{}
			}
			if seen[list] = true; seen[next] {
				return errCircle
			}
		}
		list = next
	}
	return nil
}

// list walks one record of a field list and gives the index of the next.
func (d *decoder) list(data []byte, visit func(it fieldItem, name string) error) (next uint32, err error) {
	r := &reader{b: data}
	for len(r.b) > 0 {
		it := parseItem(r)
		switch {
		case r.err != nil:
			return 0, fmt.Errorf("field list: %w", r.err)
		case it.leaf == lfIndex:
			next = it.typ // the rest; always the last entry
			continue
		case it.leaf == 0:
			continue
		}
		if err := d.spend(0); err != nil {
			return 0, err
		}
		name := ""
		if len(it.name) > 0 {
			name = d.text(it.name)
		}
		if err := visit(it, name); err != nil {
			return 0, err
		}
	}
	return next, nil
}

// finish makes types whole that pointers lead to, those next to the first type
// first, until there are as many as limits say. The others stay incomplete.
func (d *decoder) finish() {
	for len(d.work) > 0 && !d.full() {
		key := d.work[0]
		d.work = d.work[1:]
		if n := d.nodes[key]; n.state == stateName {
			d.get(key.typ(), 0)
		}
	}
	d.work = nil
}

// Limits of the types that a database keeps: some 15 MB. A kernel has 1,700,
// with 15,000 members.
const (
	keepNodes  = 1 << 15
	keepFields = 1 << 17
)

// full reports whether the decoder has made as many types as it should.
func (d *decoder) full() bool {
	return len(d.nodes) > keepNodes || d.left < maxMembers
}
