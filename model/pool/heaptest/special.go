package heaptest

import (
	"encoding/binary"

	"gokd/model/mem"
)

// Special pool (ReactOS ntoskrnl/mm/ARM3/special.c): one allocation a page, the
// next page not accessible. The low half of the header's first word is the bytes
// asked for, with bit 15 for paged pool; what the allocation leaves of the page
// is filled with one byte, which the header repeats as BlockSize.
const (
	specialPagedBit = 0x8000
	specialFill     = 0x5a
)

// Special makes an allocation of special pool, up to 17763. It ends where its
// page does, with the header at the page's start, so that a write behind its end
// faults; with under it starts its page and the header ends it.
func (b *Builder) Special(a Ask, under bool) *Block {
	b.t.Helper()
	if b.SegmentHeaps() || a.Bytes > mem.PageSize-unit || a.Bytes == 0 {
		b.t.Fatalf("heaptest: special pool of build %d has no allocation of %#x bytes", b.build, a.Bytes)
	}
	bytes := (a.Bytes + 7) &^ 7
	page := b.areas[a.Pool].take(2*mem.PageSize, 2*mem.PageSize)
	fill := make([]byte, mem.PageSize)
	for i := range fill {
		fill[i] = specialFill
	}
	b.M.Put(page, fill...)
	header, body := page, page+mem.PageSize-mem.VA(bytes)
	if under {
		header, body = page+mem.PageSize-unit, page
	}
	word := uint32(bytes) | specialFill<<16
	if a.Pool.Paged() {
		word |= specialPagedBit
	}
	var h [unit]byte
	binary.LittleEndian.PutUint32(h[:], word)
	binary.LittleEndian.PutUint32(h[4:], tagBits(a.Tag, a.Protected))
	b.M.Put(header, h[:]...)
	b.M.Put(body, make([]byte, bytes)...)
	return b.add(&Block{Ask: a, Header: header, Body: body, Size: bytes, Room: mem.PageSize, Place: InSpecial})
}
