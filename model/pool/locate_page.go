package pool

import (
	"context"
	"encoding/binary"
	"fmt"

	"gokd/model/mem"
)

// Page is the small blocks of one page.
type Page struct {
	At     mem.VA
	First  mem.VA // of the first header; behind At where a large allocation ends in the page
	Kind   Kind
	Blocks []Block
	Broken *PageError // where the chain of headers first breaks; nil where it is whole

	gaps []gap
}

// header is a _POOL_HEADER of a page pool as it stands (public type tables).
type header struct {
	previous, size uint64 // bytes
	index, typ     uint8
	tag            uint32
	billed         uint64
}

func headerAt(raw *[pageSize]byte, off uint64) header {
	w := binary.LittleEndian.Uint64(raw[off : off+8])
	return header{
		previous: w & 0xff * HeaderSize, index: uint8(w >> 8), size: w >> 16 & 0xff * HeaderSize, typ: uint8(w >> 24),
		tag: uint32(w >> 32), billed: binary.LittleEndian.Uint64(raw[off+8 : off+16]),
	}
}

func (h header) block(at mem.VA, kind Kind) Block {
	b := Block{
		Header: at, Body: at + HeaderSize, Size: h.size, Room: h.size, PreviousSize: uint32(h.previous),
		Index: h.index, Type: uint16(h.typ), Kind: kind, Billed: h.billed,
	}
	b.Tag, b.Protected = TagOf(h.tag)
	if h.typ == 0 {
		b.State = Free
	}
	return b
}

// links follows the headers of a page from one of them on, by the rules of
// ReactOS expool.c, ExpCheckPoolHeader: visit gets each good one and its offset.
// It gives the offset of the first one that is wrong, and what is; the page's
// size and breachNone where none is. The first one's PreviousSize is taken as
// it stands where free is set.
func links(raw *[pageSize]byte, off uint64, free bool, visit func(off uint64, h header)) (stop uint64, why breach) {
	previous := uint64(0)
	for off < pageSize {
		h := headerAt(raw, off)
		switch {
		case h.previous != previous && !free:
			return off, breachPrevious
		case h.size == 0:
			return off, breachZero
		case off+h.size > pageSize:
			return off, breachPast
		}
		if visit != nil {
			visit(off, h)
		}
		previous, free = h.size, false
		off += h.size
	}
	return off, breachNone
}

// maxBreaks bounds the broken places that are told of one page.
const maxBreaks = 16

// decodePage reads the chain of a page that begins at an offset, and where it
// breaks goes on behind the break, as far as headers there prove themselves.
// other: it is no page of small blocks.
func decodePage(raw *[pageSize]byte, page *Page, cached map[mem.VA]bool) (other bool) {
	from := uint64(page.First - page.At)
	off, free := from, false
	for range maxBreaks {
		stop, why := links(raw, off, free, func(o uint64, h header) {
			b := h.block(page.At+mem.VA(o), page.Kind)
			if b.State == Allocated && cached[b.Body] {
				b.State = Cached
			}
			page.Blocks = append(page.Blocks, b)
		})
		if why == breachNone {
			return false
		}
		g := gap{at: stop, why: why, before: len(page.Blocks)}
		if page.Broken == nil {
			if !beginsChain(raw, from, page.Kind, g.before, why) && !survives(raw, from, page.Kind) {
				page.Blocks = nil
				return true
			}
			page.Broken = pageError(raw, page.At, g.before, stop, why)
		}
		page.resync(raw, &g)
		page.gaps = append(page.gaps, g)
		if g.next >= pageSize {
			return false
		}
		off, free = g.next, true
	}
	return false
}

// gap is a place of a page where headers make no sense: from at up to next,
// both offsets. Where only PreviousSize is wrong they are the same.
type gap struct {
	at, next uint64
	why      breach
	before   int    // blocks of the page that lie before it
	length   uint64 // what the last of them has in truth, where its own BlockSize is wrong; else 0
}

// survives reports whether a page whose first header is no header holds blocks
// behind it: some headers in a row that lead to the page's end.
func survives(raw *[pageSize]byte, from uint64, kind Kind) bool {
	for off := from + HeaderSize; off < pageSize; off += HeaderSize {
		n := 0
		if headerAt(raw, off).previous == 0 {
			continue
		}
		if _, why := links(raw, off, true, func(uint64, header) { n++ }); why == breachNone && n >= 3 && sound(raw, off, kind, true) {
			return true
		}
	}
	return false
}

// beginsChain decides by its first header whether a page whose chain breaks
// holds blocks at all: what other owners keep in a pool's range must not pass
// for damage.
func beginsChain(raw *[pageSize]byte, from uint64, kind Kind, chain int, why breach) bool {
	first := headerAt(raw, from)
	if chain == 0 && why != breachZero || first.previous != 0 || !plausibleTag(raw[from+4:from+8]) {
		return false
	}
	if first.typ == 0 {
		return chain > 0
	}
	return parity(first.typ, kind)
}

// parity reports whether a PoolType fits a pool: from Vista on odd is paged.
// Session pool is paged pool of its session.
func parity(typ uint8, kind Kind) bool {
	if kind == Nonpaged {
		return typ&typePaged == 0
	}
	return kind == Special || typ&typePaged != 0
}

// locatePage looks the address up in its page.
func (p *Pool) locatePage(ctx context.Context, l *Location) error {
	var raw [pageSize]byte
	page := Page{At: l.At.Page(), First: l.At.Page(), Kind: l.Kind}
	if _, err := l.space.ReadVirtual(raw[:], page.At); err != nil {
		return fmt.Errorf("page of pool at %#x: %w", uint64(page.At), err)
	}
	if !l.Known {
		page.Kind = kindByType(&raw)
	}
	other := decodePage(&raw, &page, p.cachedIn(ctx, l.within))
	l.Page, l.Blocks = &page, page.Blocks
	if other {
		return fmt.Errorf("%#x: %w: its page has no pool headers", uint64(l.At), ErrNotPool)
	}
	return p.settlePage(ctx, l, &raw)
}

// locateTail looks at the page that a large allocation ends in. Windows gives
// what is left of it back as small blocks, the first of which starts at the next
// multiple of 16 with PreviousSize 0 (public transcripts of kd on Windows 7 show
// it with the tag Frag).
func (p *Pool) locateTail(ctx context.Context, l *Location, b Block) bool {
	first := (b.End() + HeaderSize - 1) &^ (HeaderSize - 1)
	page := Page{At: l.At.Page(), First: first, Kind: b.Kind}
	var raw [pageSize]byte
	if first.Page() != page.At || l.At < first {
		return false
	}
	if _, err := l.space.ReadVirtual(raw[:], page.At); err != nil {
		return false
	}
	if decodePage(&raw, &page, p.cachedIn(ctx, l.within)) {
		return false
	}
	l.Large.Tail = first
	l.Page, l.Blocks, l.Kind, l.Known = &page, page.Blocks, b.Kind, true
	return p.settlePage(ctx, l, &raw) == nil
}

// settlePage picks the block that holds the address out of its page.
func (p *Pool) settlePage(ctx context.Context, l *Location, raw *[pageSize]byte) error {
	page := l.Page
	for _, g := range page.gaps {
		l.Damage = append(l.Damage, p.diagnose(ctx, l, raw, g))
	}
	l.Damage = append(l.Damage, p.doubleFrees(ctx, l)...)
	sortDamage(l.Damage)
	for _, b := range page.Blocks {
		if l.At >= b.Header && uint64(l.At-b.Header) < b.Room {
			l.Found, l.Block, l.Part = true, b, b.part(l.At)
			return nil
		}
	}
	return fmt.Errorf("pool block at %#x: %w", uint64(l.At), page.Broken)
}

// blockBelow gives the last block of the page below a page, whose owner can have
// written over the page's first header.
func (p *Pool) blockBelow(ctx context.Context, l *Location, at mem.VA) (Block, bool) {
	var raw [pageSize]byte
	page := Page{At: at - pageSize, First: at - pageSize, Kind: l.Page.Kind}
	if at < pageSize {
		return Block{}, false
	}
	if t, err := p.bigPages(ctx); err == nil {
		if b, ok := t.around(at - 1); ok {
			return b, true
		}
	}
	if _, err := l.space.ReadVirtual(raw[:], page.At); err != nil {
		return Block{}, false
	}
	if decodePage(&raw, &page, nil) || page.Broken != nil || len(page.Blocks) == 0 {
		return Block{}, false
	}
	return page.Blocks[len(page.Blocks)-1], true
}
