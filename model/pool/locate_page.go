package pool

import (
	"context"
	"encoding/binary"
	"fmt"
	"math/bits"

	"gokd/model/mem"
)

// Page is the small blocks of one page.
type Page struct {
	At     mem.VA
	First  mem.VA // of the first header; behind At where a large allocation ends in the page
	Kind   Kind
	Blocks []Block
	Broken *PageError // where the chain of headers breaks; nil where it is whole
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

// decodePage reads the chain of a page that begins at an offset. other: it is
// no page of small blocks.
func decodePage(raw *[pageSize]byte, page *Page, cached map[mem.VA]bool) (other bool) {
	from := uint64(page.First - page.At)
	stop, why := links(raw, from, false, func(off uint64, h header) {
		b := h.block(page.At+mem.VA(off), page.Kind)
		if b.State == Allocated && cached[b.Body] {
			b.State = Cached
		}
		page.Blocks = append(page.Blocks, b)
	})
	if why == breachNone {
		return false
	}
	if !beginsChain(raw, from, page.Kind, len(page.Blocks), why) {
		page.Blocks = nil
		return true
	}
	page.Broken = pageError(raw, page.At, len(page.Blocks), stop, why)
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
	other := decodePage(&raw, &page, p.cachedBlocks(ctx))
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
	if decodePage(&raw, &page, p.cachedBlocks(ctx)) {
		return false
	}
	l.Large.Tail = first
	l.Page, l.Blocks, l.Kind, l.Known = &page, page.Blocks, b.Kind, true
	return p.settlePage(ctx, l, &raw) == nil
}

// settlePage picks the block that holds the address out of its page.
func (p *Pool) settlePage(ctx context.Context, l *Location, raw *[pageSize]byte) error {
	page := l.Page
	if page.Broken != nil {
		l.Damage = append(l.Damage, p.diagnose(ctx, l, raw))
	}
	l.Damage = append(l.Damage, p.doubleFrees(ctx, l)...)
	for _, b := range page.Blocks {
		if l.At >= b.Header && l.At < b.End() {
			l.Found, l.Block, l.Part = true, b, b.part(l.At)
			return nil
		}
	}
	return fmt.Errorf("pool block at %#x: %w", uint64(l.At), page.Broken)
}

// diagnose looks into a broken page: which of the two headers at the break is
// wrong, where headers make sense again, and who may have overwritten it.
func (p *Pool) diagnose(ctx context.Context, l *Location, raw *[pageSize]byte) Damage {
	page := l.Page
	at := uint64(page.Broken.At - page.At)
	d := Damage{What: "_POOL_HEADER", At: page.Broken.At, Why: page.Broken.Why, Size: pageSize - at}
	d.Bytes = append(d.Bytes, raw[at:at+HeaderSize]...)
	var before *Block
	if n := len(page.Blocks); n > 0 {
		before = &page.Blocks[n-1]
	} else if b, ok := p.blockBelow(ctx, l, page.At); ok && page.First == page.At {
		before = &b
	}
	h := headerAt(raw, at)
	want := uint64(0)
	if before != nil && before.Header >= page.At {
		want = before.Size
	}
	next := resync(raw, at, page.Kind)
	if next < pageSize {
		d.Resume, d.Size = page.At+mem.VA(next), next-at
	}
	d.judge(raw, at, next, h, want, page.Kind)
	d.blame(before, h, raw, at, page.Kind)
	return d
}

// judge says which value is wrong.
func (d *Damage) judge(raw *[pageSize]byte, at, next uint64, h header, want uint64, kind Kind) {
	right := func(is, should uint64) { d.OneBit = bits.OnesCount64(is/HeaderSize^should/HeaderSize) == 1 }
	if h.previous != want {
		// The chain goes on from here: of this header only PreviousSize is wrong.
		if stop, why := links(raw, at, true, nil); why == breachNone && stop == pageSize {
			d.Resume, d.Size = d.At, 0
			d.Why = fmt.Sprintf("PreviousSize is %#x, the block before it has %#x bytes; its other fields fit", h.previous, want)
			right(h.previous, want)
			return
		}
		d.Why = fmt.Sprintf("PreviousSize is %#x, the block before it has %#x bytes", h.previous, want)
	}
	if next >= pageSize {
		return
	}
	back := headerAt(raw, next).previous
	switch {
	case back == next-at && h.size != back:
		d.Why += fmt.Sprintf("; the header behind it, at %#x, says that it has %#x bytes", uint64(d.Resume), back)
		right(h.size, back)
	case want > 0 && next >= back && next-back == at-want:
		d.Why += fmt.Sprintf("; the header at %#x says that the block before this place has %#x bytes, not %#x",
			uint64(d.Resume), back, want)
		right(want, back)
	}
}

// blame names the block whose owner may have written over the header.
func (d *Damage) blame(before *Block, h header, raw *[pageSize]byte, at uint64, kind Kind) {
	if before == nil || d.OneBit {
		return
	}
	d.Culprit = before
	foreign := !plausibleTag(raw[at+4:at+8]) || h.typ != 0 && !parity(h.typ, kind)
	switch {
	case before.State == Free:
		d.Suspect = "it is free: who used it last may still write to it, or past its end"
	case foreign:
		d.Suspect = "its owner seems to have written past its end: tag and type of the header behind it are no header's"
	default:
		d.Suspect = "its owner may have written past its end"
	}
}

// resync gives the offset behind a broken header from which a chain runs to the
// page's end; the page's size where there is none. A header that leads back to
// the broken one, or to the block before it, is the best witness; without one
// the first chain of plausible headers counts.
func resync(raw *[pageSize]byte, at uint64, kind Kind) uint64 {
	for off := at + HeaderSize; off < pageSize; off += HeaderSize {
		h := headerAt(raw, off)
		if h.previous == 0 || !plausibleTag(raw[off+4:off+8]) || h.typ != 0 && !parity(h.typ, kind) {
			continue
		}
		good := true
		_, why := links(raw, off, true, func(o uint64, h header) {
			good = good && plausibleTag(raw[o+4:o+8]) && (h.typ == 0 || parity(h.typ, kind))
		})
		if why == breachNone && good {
			return off
		}
	}
	return pageSize
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
