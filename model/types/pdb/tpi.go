package pdb

import (
	"cmp"
	"fmt"
	"slices"
	"sync"
)

// typeStream is a stream of type records, TPI or IPI (LLVM
// docs/PDB/TpiStream.rst). Records have numbers, the type indices, in the order
// in which they lie; there is no way to one but past those before it. The first
// use reads all of them once and keeps where every 16th is and what the
// definitions are called. The stream has hash tables for the same purpose, but
// a wrong one would hide types, and reading them costs as much.
type typeStream struct {
	s          *stream
	begin, end uint32 // type indices, as the header tells
	from, to   uint32 // of the records in the stream
	scan       func() *typeIndex
}

// typeIndex finds types.
type typeIndex struct {
	count  uint32     // records there are
	marks  []uint32   // offset of every markEvery-th record
	names  []nameMark // of definitions, by hash and type index
	defs   int        // definitions
	end    uint32     // of the records in the stream
	damage error      // why the scan ended early; nil if it did not
}

// nameMark leads from a name's hash, in the upper half, to the type index of the
// definition.
type nameMark uint64

func (m nameMark) hash() uint32 { return uint32(m >> 32) }
func (m nameMark) typ() uint32  { return uint32(m) }

func markName(name []byte, ti uint32) nameMark {
	return nameMark(hashName(name))<<32 | nameMark(ti)
}

const (
	markEvery   = 16
	firstType   = 0x1000  // type indices below are base types
	maxTypes    = 1 << 24 // records
	tpiHeader   = 0x38
	versionVC80 = 20040203
)

// readTypes reads the header of a stream of types; nil where there is none.
func (m *msf) readTypes(num uint32) (*typeStream, error) {
	s, ok := m.stream(num)
	if !ok || s.size == 0 {
		return nil, nil
	}
	head, err := s.view(0, tpiHeader)
	if err != nil {
		return nil, err
	}
	version, size, bytes := le32(head), le32(head[4:]), le32(head[0x10:])
	t := &typeStream{s: s, begin: le32(head[8:]), end: le32(head[0xc:])}
	switch {
	case version != versionVC80:
		return nil, fmt.Errorf("version %d, want %d", version, versionVC80)
	case size < tpiHeader || uint64(size)+uint64(bytes) > uint64(s.size):
		return nil, fmt.Errorf("header of %#x and records of %#x bytes: stream has %#x", size, bytes, s.size)
	case t.begin < firstType || t.end < t.begin || t.end-t.begin > maxTypes:
		return nil, fmt.Errorf("types %#x to %#x: want them from %#x on, at most %d", t.begin, t.end, firstType, maxTypes)
	}
	t.from, t.to = size, size+bytes
	t.scan = sync.OnceValue(t.index)
	return t, nil
}

// index reads all records once.
func (t *typeStream) index() *typeIndex {
	x := &typeIndex{}
	r := t.s.scan(t.from, t.to)
	for x.count < t.end-t.begin {
		rec, ok := r.next()
		if !ok {
			break
		}
		if x.count%markEvery == 0 {
			x.marks = append(x.marks, rec.off)
		}
		if isUDT(rec.kind) {
			x.add(rec, t.begin+x.count)
		}
		x.count++
	}
	x.end = r.off
	if x.damage = r.err; x.damage == nil && x.count < t.end-t.begin {
		x.damage = fmt.Errorf("%d records, %d announced", x.count, t.end-t.begin)
	}
	slices.Sort(x.names)
	return x
}

// add notes the names of a definition.
func (x *typeIndex) add(rec record, ti uint32) {
	u, err := parseUDT(rec.kind, rec.data)
	if err != nil || u.forward() {
		return
	}
	x.defs++
	if !anonymous(u.name) { // else its index is its name
		x.names = append(x.names, markName(u.name, ti))
	}
	if u.unique != nil {
		x.names = append(x.names, markName(u.unique, ti))
	}
}

// hashName is FNV-1a.
func hashName(name []byte) uint32 {
	h := uint32(2166136261)
	for _, c := range name {
		h = (h ^ uint32(c)) * 16777619
	}
	return h
}

// candidates gives the definitions whose name or unique name may be this one.
func (x *typeIndex) candidates(name []byte) []nameMark {
	h := hashName(name)
	i, _ := slices.BinarySearchFunc(x.names, h, func(m nameMark, h uint32) int { return cmp.Compare(m.hash(), h) })
	end := i
	for end < len(x.names) && x.names[end].hash() == h {
		end++
	}
	return x.names[i:end]
}

// record gives a record by its type index.
func (t *typeStream) record(ti uint32) (leaf uint16, data []byte, err error) {
	return t.recordNear(nil, ti)
}

// recordNear is record with pieces of the stream at hand.
func (t *typeStream) recordNear(near *near, ti uint32) (leaf uint16, data []byte, err error) {
	x := t.scan()
	if ti < t.begin || ti-t.begin >= x.count {
		err = fmt.Errorf("type %#x: database has %#x to %#x", ti, t.begin, t.begin+x.count)
		if x.damage != nil {
			err = fmt.Errorf("%w, then %w", err, x.damage)
		}
		return 0, nil, err
	}
	n := ti - t.begin
	off := x.marks[n/markEvery]
	for range n % markEvery {
		head, err := t.s.viewNear(near, off, 2)
		if err != nil {
			return 0, nil, err
		}
		off += 2 + uint32(le16(head)) // the scan has been here: it ends
	}
	head, err := t.s.viewNear(near, off, 4)
	if err != nil {
		return 0, nil, err
	}
	size := uint32(le16(head))
	if size < 2 {
		return 0, nil, errShort // the file changed since the scan
	}
	data, err = t.s.viewNear(near, off+4, size-2)
	return le16(head[2:]), data, err
}
