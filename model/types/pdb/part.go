package pdb

import (
	"slices"
	"strings"

	"gokd/model/types"
)

// part is neighbouring records of a stream, at hand.
type part struct {
	first uint32 // type index
	data  []byte
	ends  []uint32 // of the records, in data
}

// read takes the records from one number, from 0, to another.
func (p *part) read(t *typeStream, x *typeIndex, from, to uint32) error {
	skip := from % markEvery
	p.first, p.ends = t.begin+from-skip, p.ends[:0]
	if from == to {
		return nil
	}
	start, end := x.marks[from/markEvery], x.end
	if i := (to + markEvery - 1) / markEvery; i < uint32(len(x.marks)) {
		end = x.marks[i]
	}
	p.data = slices.Grow(p.data[:0], int(end-start))[:end-start]
	if err := t.s.readAt(p.data, start); err != nil {
		return err
	}
	at := uint64(0)
	for range to - from + skip {
		if at+4 > uint64(len(p.data)) {
			return errShort
		}
		at += 2 + uint64(le16(p.data[at:]))
		if at > uint64(len(p.data)) {
			return errShort
		}
		p.ends = append(p.ends, uint32(at))
	}
	return nil
}

// record gives a record of the part by its type index.
func (p *part) record(ti uint32) (leaf uint16, data []byte, ok bool) {
	if p == nil || ti < p.first || ti-p.first >= uint32(len(p.ends)) {
		return 0, nil, false
	}
	n, start := ti-p.first, uint32(0)
	if n > 0 {
		start = p.ends[n-1]
	}
	b := p.data[start:p.ends[n]:p.ends[n]]
	if len(b) < 4 {
		return 0, nil, false
	}
	return le16(b[2:]), b[4:], true
}

// slabs serve small pieces of memory out of larger ones.
type slabs struct {
	spare  []node
	fields []types.Field
}

// Sizes of the pieces: whoever keeps one type keeps them.
const (
	slabNodes  = 32
	slabFields = 512
)

func (s *slabs) newNode() *node {
	if len(s.spare) == 0 {
		s.spare = make([]node, slabNodes)
	}
	n := &s.spare[0]
	s.spare = s.spare[1:]
	return n
}

// reserve gives room for fields.
func (s *slabs) reserve(n int) []types.Field {
	switch {
	case n == 0:
		return nil
	case n > slabFields/4:
		return make([]types.Field, 0, n)
	case n > len(s.fields):
		s.fields = make([]types.Field, slabFields)
	}
	room := s.fields[:0:n]
	s.fields = s.fields[n:]
	return room
}

// texts makes strings of names. Those met lately, of which members have many,
// are not made again; the others share pieces of memory.
type texts struct {
	piece strings.Builder
	known [256]string
}

// textPiece is the size of the pieces: whoever keeps one name keeps one.
const textPiece = 1 << 12

// text gives a name as a string.
func (x *texts) text(name []byte) string {
	n := len(name)
	if n == 0 {
		return ""
	}
	if n > textPiece/8 {
		return string(name)
	}
	// The ends and the length tell most names apart.
	h := uint32(n) + 31*uint32(name[n-1]) + 131*uint32(name[n/2]) + 7*uint32(name[0])
	if n > 1 {
		h += 10 * uint32(name[n-2])
	}
	known := &x.known[h%uint32(len(x.known))]
	if *known == string(name) {
		return *known
	}
	if x.piece.Len()+n > x.piece.Cap() {
		x.piece = strings.Builder{}
		x.piece.Grow(textPiece)
	}
	start := x.piece.Len()
	x.piece.Write(name) // behind the names that were cut off before
	*known = x.piece.String()[start:]
	return *known
}
