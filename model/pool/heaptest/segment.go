package heaptest

import (
	"encoding/binary"

	"gokd/model/mem"
)

// Segment is a _HEAP_PAGE_SEGMENT: 256 descriptors and the units they describe.
type Segment struct {
	At    mem.VA
	h     *Heap
	ctx   int
	shift uint
	next  uint64 // the first descriptor that is not used yet
	end   bool
}

// Segment starts a new segment: of units of 4 KB (0) or of 64 KB (1).
func (h *Heap) Segment(ctx int) *Segment {
	size, shift, first := uint64(smallSegment), uint(12), uint64(2)
	if ctx == 1 {
		size, shift, first = largeSegment, 16, 1
	}
	s := &Segment{h: h, ctx: ctx, shift: shift, next: first, At: h.area.take(size, size)}
	h.segments[ctx] = append(h.segments[ctx], s)
	m := h.m
	m.Put(s.At, make([]byte, 0x2000)...)
	m.Set(s.At, uint64(s.At)^uint64(h.context(ctx))^h.b.HeapKey^segmentKey, "_HEAP_PAGE_SEGMENT", "Signature")
	return s
}

// units takes a range of units and writes its descriptors.
func (s *Segment) units(n uint64, flags byte, committed byte) mem.VA {
	if s.next+n > 256 || n == 0 {
		s.h.b.t.Fatalf("heaptest: %d units do not fit the segment at %#x", n, uint64(s.At))
	}
	first := s.next
	s.next += n
	for i := range n {
		var d [0x20]byte
		d[0x18], d[0x19], d[0x1f] = flags&^rangeFirst, committed, byte(i)
		if i == 0 {
			d[0x18], d[0x1f] = flags, byte(n)
			binary.LittleEndian.PutUint32(d[:], rangeSignature)
		}
		s.h.m.Put(s.Descriptor(first+i), d[:]...)
	}
	return s.At + mem.VA(first<<s.shift)
}

// Descriptor gives the address of a _HEAP_PAGE_RANGE_DESCRIPTOR.
func (s *Segment) Descriptor(i uint64) mem.VA { return s.At + mem.VA(0x20*i) }

// Index gives the descriptor of an address.
func (s *Segment) Index(at mem.VA) uint64 { return uint64(at-s.At) >> s.shift }

// Skip leaves units free.
func (s *Segment) Skip(n uint64) {
	if s.next+n > 256 {
		s.h.b.t.Fatalf("heaptest: %d free units do not fit the segment at %#x", n, uint64(s.At))
	}
	s.h.m.Put(s.Descriptor(s.next)+0x1f, byte(n))
	s.next += n
}

// close makes what is left one free range.
func (s *Segment) close() {
	if left := 256 - s.next; left > 0 && !s.end {
		s.Skip(left)
	}
	s.end = true
}

// segment gives a segment with room for so many units.
func (h *Heap) segment(ctx int, n uint64) *Segment {
	list := h.segments[ctx]
	if len(list) > 0 && list[len(list)-1].next+n <= 256 {
		return list[len(list)-1]
	}
	return h.Segment(ctx)
}

// Range makes an allocation of whole units of a segment, without a header.
func (h *Heap) Range(a Ask) *Block {
	h.b.t.Helper()
	ctx, shift := 0, uint(12)
	if a.Bytes > 0x7f000 {
		ctx, shift = 1, 16
	}
	n := (a.Bytes + 1<<shift - 1) >> shift
	s := h.segment(ctx, n)
	at := s.units(n, rangePages, byte(min(n<<(shift-12), 0xff)))
	room := n << shift
	d := s.Descriptor(s.Index(at))
	if unused := room - a.Bytes; unused > 0 {
		h.m.Set(d, unused, "_HEAP_PAGE_RANGE_DESCRIPTOR", "UnusedBytes")
		h.m.Set(d, 1, "_HEAP_PAGE_RANGE_DESCRIPTOR", "ExtraPresent")
	}
	for p := at; p < at+mem.VA(pagesOf(a.Bytes)); p += mem.PageSize {
		h.m.Put(p, 0x20)
	}
	a.Pool, a.Node = h.Pool, h.Node
	return h.b.add(&Block{Ask: a, Header: at, Body: at, Size: a.Bytes, Room: room, Place: InRange, Heap: h.At, Within: h.within(), home: rangeHome{s, n}})
}

// rangeHome takes units back.
type rangeHome struct {
	s *Segment
	n uint64
}

func (r rangeHome) free(k *Block) {
	first := r.s.Index(k.Header)
	for i := range r.n {
		r.s.h.m.Put(r.s.Descriptor(first+i), make([]byte, 0x20)...)
	}
	r.s.h.m.Put(r.s.Descriptor(first)+0x1f, byte(r.n))
	r.s.h.unmap(k)
}
