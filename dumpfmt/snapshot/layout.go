package snapshot

import (
	"encoding/binary"
	"fmt"
	"strconv"
	"strings"

	"gokd/model/mem"
	"gokd/model/types"
)

// place is where a field lies in its structure.
type place struct {
	off, size uint32
	pos, bits uint8 // of a bit-field
	typ       *types.Type
}

// layouts resolves access paths against a store of types, once each.
type layouts struct {
	store types.Store
	seen  map[string]place
	// lenient: the layout is not the profile's, and what it lacks is left out.
	lenient bool
}

func newLayouts(s types.Store) *layouts { return &layouts{store: s, seen: map[string]place{}} }

// whole completes a type that only a name stands for.
func (l *layouts) whole(t *types.Type) *types.Type {
	if t != nil && len(t.Fields) == 0 && (t.Kind == types.KindStruct || t.Kind == types.KindUnion) {
		if full, err := l.store.Type(t.Name); err == nil {
			return full
		}
	}
	return t
}

// place resolves "_KTHREAD" and "WaitBlock[1].Object".
func (l *layouts) place(typ, path string) (place, error) {
	key := typ + " " + path
	if p, ok := l.seen[key]; ok {
		return p, nil
	}
	t, err := l.store.Type(typ)
	if err != nil {
		return place{}, err
	}
	p := place{typ: t}
	for part := range strings.SplitSeq(path, ".") {
		if p, err = l.step(p, part); err != nil {
			return place{}, fmt.Errorf("%s.%s: %w", typ, path, err)
		}
	}
	if p.typ != nil {
		p.size = p.typ.Size
	}
	l.seen[key] = p
	return p, nil
}

// step goes from a place to a member of it, or to an element of that member.
func (l *layouts) step(p place, part string) (place, error) {
	name, index, isElement := strings.Cut(strings.TrimSuffix(part, "]"), "[")
	t := l.whole(p.typ)
	f, ok := t.Field(name)
	if !ok {
		return p, &types.NotFoundError{What: "field", Name: name, In: t.Name}
	}
	q := place{off: p.off + f.Offset, pos: f.BitPos, bits: f.BitLen, typ: l.whole(f.Type)}
	if isElement {
		n, err := strconv.ParseUint(index, 10, 16)
		if err != nil || f.Type.Kind != types.KindArray || n >= uint64(f.Type.Count) {
			return p, fmt.Errorf("no element %s", part)
		}
		q.typ = l.whole(f.Type.Elem)
		q.off += uint32(n) * q.typ.Size
	}
	return q, nil
}

// object writes one structure of the simulated machine. Errors stick to the
// machine; whoever built it asks once at the end.
type object struct {
	m   *machine
	typ string
	at  mem.VA
}

func (m *machine) object(typ string, at mem.VA) object { return object{m, typ, at} }

// size gives the size of a type; 0 and a failure where the layout lacks it.
func (m *machine) size(typ string) uint64 {
	t, err := m.layout.store.Type(typ)
	if err != nil {
		if !m.layout.forgives(err) {
			m.fail(err)
		}
		return 0
	}
	return uint64(t.Size)
}

// offset gives the byte offset of a field.
func (m *machine) offset(typ, path string) mem.VA {
	p, err := m.layout.place(typ, path)
	m.fail(err)
	return mem.VA(p.off)
}

// field gives the address of a member.
func (o object) field(path string) mem.VA { return o.at + o.m.offset(o.typ, path) }

// put writes a number into a field or bit-field.
func (o object) put(path string, v uint64) {
	p, err := o.m.layout.place(o.typ, path)
	if err != nil {
		if !o.m.layout.forgives(err) {
			o.m.fail(err)
		}
		return
	}
	size := p.size
	if size > 8 { // the first word of a structure: _EX_FAST_REF, _LARGE_INTEGER
		size = 8
	}
	var b [8]byte
	at := o.at + mem.VA(p.off)
	if p.bits != 0 {
		o.m.read(at, b[:size])
		mask := uint64(1)<<p.bits - 1
		v = binary.LittleEndian.Uint64(b[:])&^(mask<<p.pos) | v&mask<<p.pos
	}
	binary.LittleEndian.PutUint64(b[:], v)
	o.m.write(at, b[:size])
}

// puts writes several fields: name, value, name, value.
func (o object) puts(pairs ...any) {
	for i := 0; i+1 < len(pairs); i += 2 {
		path := pairs[i].(string)
		switch v := pairs[i+1].(type) {
		case int:
			o.put(path, uint64(v))
		case uint32:
			o.put(path, uint64(v))
		case uint64:
			o.put(path, v)
		case mem.VA:
			o.put(path, uint64(v))
		default:
			o.m.fail(fmt.Errorf("%s.%s: no number: %v", o.typ, path, v))
		}
	}
}

// chars writes text into an array of bytes, ended by a NUL where it fits.
func (o object) chars(path, s string) {
	p, err := o.m.layout.place(o.typ, path)
	if err != nil {
		o.m.fail(err)
		return
	}
	b := make([]byte, p.size)
	copy(b, s)
	o.m.write(o.at+mem.VA(p.off), b)
}

// list makes a field an empty list head and gives its address.
func (o object) list(path string) mem.VA {
	if _, err := o.m.layout.place(o.typ, path); o.m.layout.forgives(err) {
		return 0
	}
	at := o.field(path)
	o.m.listInit(at)
	return at
}

// fail keeps the first error.
func (m *machine) fail(err error) {
	if m.err == nil && err != nil {
		m.err = err
	}
}

func (m *machine) write(at mem.VA, b []byte) {
	if m.err == nil {
		m.fail(m.kernel.bytes(at, b, true))
	}
}

func (m *machine) read(at mem.VA, b []byte) {
	if m.err == nil {
		m.fail(m.kernel.bytes(at, b, false))
	}
}

func (m *machine) put64(at mem.VA, v uint64) {
	var b [8]byte
	binary.LittleEndian.PutUint64(b[:], v)
	m.write(at, b[:])
}

func (m *machine) put32(at mem.VA, v uint32) {
	var b [4]byte
	binary.LittleEndian.PutUint32(b[:], v)
	m.write(at, b[:])
}

func (m *machine) get64(at mem.VA) uint64 {
	var b [8]byte
	m.read(at, b[:])
	return binary.LittleEndian.Uint64(b[:])
}

// listInit makes a LIST_ENTRY that links to itself.
func (m *machine) listInit(head mem.VA) {
	m.put64(head, uint64(head))
	m.put64(head+8, uint64(head))
}

// listAdd puts an entry at the tail of a list.
func (m *machine) listAdd(head, entry mem.VA) {
	last := mem.VA(m.get64(head + 8))
	m.put64(entry, uint64(head))
	m.put64(entry+8, uint64(last))
	m.put64(last, uint64(entry))
	m.put64(head+8, uint64(entry))
}
