package heap

// block is where the _POOL_HEADER of a chunk in use lies.
type block struct {
	header  uint64 // offset in the subsegment
	word    uint64 // its first eight bytes
	large   bool   // there is none: the big-page table lists the allocation
	missing bool   // the page that holds it is not in the dump
}

// block finds the pool header of the chunk in use [from, to).
//
// It lies right behind the chunk header, unless the block would then cross into
// another page: pool blocks that are smaller than a page keep to one, and the
// header lies at the start of the next page (MemProcFS). Allocations of a page
// and more have no header and begin with a page. What lies at the two places
// decides; where both or neither look like a header, the rule does.
func (w *vsWalk) block(from, to uint64) block {
	near := from + unit
	last := (to - 1) &^ (pageSize - 1) // start of the chunk's last page
	if near >= last && to-near < maxHeader {
		p := w.page(near)
		if p == nil {
			return block{missing: true}
		}
		return w.sound(block{header: near, word: word(p, near)}, to)
	}
	return w.sound(w.choose(near, to), to)
}

// sound gives the block's header, or the second one of an aligned block where
// the first makes no sense.
func (w *vsWalk) sound(b block, to uint64) block {
	if b.large || b.missing || likeness(b.word, to-b.header) > 0 {
		return b
	}
	if s, ok := w.second(b, to, false); ok {
		return s
	}
	return b
}

// choose is block for a chunk that holds the start of a page.
func (w *vsWalk) choose(near, to uint64) block {
	far := (near + pageSize - 1) &^ (pageSize - 1)
	if far >= to {
		far = near
	}
	a, b := w.candidate(near, to), w.candidate(far, to)
	la, lb := 0, 0
	if !a.missing {
		la = likeness(a.word, to-near)
	}
	if !b.missing && far != near {
		lb = likeness(b.word, to-far)
	}
	room := to - near
	switch {
	case room >= maxHeader && max(la, lb) < likely:
		// A page that is not there may hold the header of a block of a page.
		return block{large: !b.missing || to-far > pageSize, missing: b.missing && to-far <= pageSize}
	case a.missing && b.missing:
		return a
	case la > lb:
		return a
	case lb > la:
		return b
	case far != near && near%pageSize+room > pageSize+4*unit || near%pageSize == pageSize-unit:
		return b // MemProcFS: more than four units over the end of the page
	}
	return a
}

func (w *vsWalk) candidate(off, to uint64) block {
	if p := w.page(off); p != nil && off+unit <= to {
		return block{header: off, word: word(p, off)}
	}
	return block{missing: true}
}

// likely is the likeness of a header in which everything fits.
const likely = 3

// likeness tells how much the first eight bytes look like the _POOL_HEADER of a
// block with that room: 0 where the size does not fit, which for a chunk may be
// one unit more than the block, likely where all does. PreviousSize is 0 in
// these pools, but in the second header of an aligned block.
func likeness(word, room uint64) int {
	size, pooltype, n := word>>16&0xff*unit, uint8(word>>24), 1
	if size < unit || size > room || room-size > unit {
		return 0
	}
	if word&0xff != 0 && pooltype&typeAligned == 0 || pooltype == 0 || pooltype&0x80 != 0 {
		return n
	}
	n++
	for i := 32; i < 64; i += 8 {
		c := uint8(word >> i)
		if i == 56 {
			c &^= 0x80 // the protection bit
		}
		if c < 0x20 || c > 0x7e {
			return n
		}
	}
	return likely
}

// typeAligned is the bit of PoolType that an allocation aligned to the
// processor's cache lines has.
const typeAligned = 4

// maxAlign bounds the bytes between the two headers of an aligned block: cache
// lines have 64 or 128 bytes.
const maxAlign = 128

// second finds the header that lies right before the body of an aligned block.
// The body of one starts a cache line; where that is not right behind the first
// header, a second one is before it, whose PreviousSize tells the way back to the
// first (published research). Where the first one makes sense, sure asks that the
// second has its tag and type.
func (w *vsWalk) second(outer block, to uint64, sure bool) (block, bool) {
	base := uint64(w.area.At)
	gap := -(base + outer.header + unit) % 64
	if gap == 0 {
		gap = 64
	}
	for ; gap < maxAlign; gap += 64 {
		b := w.candidate(outer.header+gap, to)
		if b.missing {
			return b, false
		}
		typ := uint8(b.word >> 24)
		size := b.word >> 16 & 0xff * unit
		if typ&typeAligned == 0 || b.word&0xff*unit != gap || size < unit || size > to-b.header {
			continue
		}
		if !sure || (b.word^outer.word)>>24&^typeAligned == 0 {
			return b, true
		}
	}
	return block{}, false
}
