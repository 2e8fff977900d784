package pool

import (
	"encoding/binary"
	"fmt"

	"gokd/model/mem"
)

const pageSize = mem.PageSize

// pageState tells what the headers of a page say about it.
type pageState uint8

const (
	pageBlocks pageState = iota // a chain of blocks that ends where the page does
	pageOther                   // no page of small blocks
	pageBroken                  // a chain that stops making sense
)

// Reasons for which a chain of headers breaks.
type breach uint8

const (
	breachNone breach = iota
	breachPrevious
	breachZero
	breachPast
)

// decoder turns pages into blocks. It is a value of one worker; everything the
// inner loop needs is in it.
type decoder struct {
	pattern Pattern
	kind    Kind
	value   uint32 // the pattern's first alternative, tested inline
	mask    uint32
	more    bool // there are others
	cached  map[mem.VA]bool

	touched uint64 // keeps touch from being optimized away
}

// touch reads a word of every cache line. The chain of headers is a chain of
// dependent reads, each a wait for memory; these are not, and the processor
// does them all at once, at the price of lines that no header is in.
func touch(page *[pageSize]byte) (sum uint64) {
	for i := 0; i < pageSize; i += 64 {
		sum += uint64(page[i])
	}
	return sum
}

func newDecoder(p Pattern, kind Kind, cached map[mem.VA]bool) decoder {
	d := decoder{pattern: p, kind: kind, more: len(p.alts) > 1, cached: cached}
	if len(p.alts) > 0 {
		d.value, d.mask = p.alts[0].value, p.alts[0].mask
	}
	return d
}

// page appends the matching blocks of a page to dst. Every header of the page
// is checked, whatever matches: PreviousSize must be the size of the block
// before it, 0 for the first; BlockSize must not be 0; the chain must end
// exactly at the page's end (ReactOS expool.c, ExpCheckPoolHeader). chain is
// how many blocks came before the end or the break, at the break's offset.
func (d *decoder) page(dst []Block, page *[pageSize]byte, at mem.VA) (out []Block, state pageState, chain int, stop uint64, why breach) {
	out = dst
	d.touched += touch(page)
	var off, previous uint64
	for off < pageSize {
		w := binary.LittleEndian.Uint64(page[off : off+8])
		size := w >> 16 & 0xff * HeaderSize
		if w&0xff*HeaderSize != previous {
			why = breachPrevious
			break
		}
		if size == 0 {
			why = breachZero
			break
		}
		if off+size > pageSize {
			why = breachPast
			break
		}
		tag := uint32(w >> 32)
		if (tag^d.value)&d.mask == 0 || d.more && d.pattern.match(tag) {
			out = append(out, d.block(w, page[off+8:off+16], at+mem.VA(off), uint32(previous)))
		}
		chain++
		previous = size
		off += size
	}
	if why == breachNone {
		return out, pageBlocks, chain, off, why
	}
	if !d.startsChain(page, chain, why) {
		return dst, pageOther, 0, 0, breachNone
	}
	return out, pageBroken, chain, off, why
}

// startsChain decides whether a page whose chain breaks holds blocks at all, by
// its first header: a nonpaged range also has pages of other owners, and their
// content must not pass for damaged pool.
func (d *decoder) startsChain(page *[pageSize]byte, chain int, why breach) bool {
	if chain == 0 && why != breachZero {
		return false
	}
	if page[0] != 0 || !plausibleTag(page[4:8]) {
		return false
	}
	typ := page[3]
	switch {
	case typ == 0:
		return chain > 0
	case d.kind == Nonpaged:
		return typ&typePaged == 0
	}
	return typ&typePaged != 0
}

// plausibleTag: drivers choose tags of printable characters.
func plausibleTag(tag []byte) bool {
	for i, c := range tag {
		if i == 3 {
			c &= 0x7f
		}
		if c < 0x20 || c > 0x7e {
			return false
		}
	}
	return true
}

// block decodes a header whose first eight bytes are w: PreviousSize bits 0-7,
// PoolIndex 8-15, BlockSize 16-23, PoolType 24-31, all sizes in units of the
// header's; PoolTag in the upper half. PoolType 0 is a free block; Windows
// Vista and later store the requested type with bit 1 set.
func (d *decoder) block(w uint64, billed []byte, at mem.VA, previous uint32) Block {
	b := Block{
		Header: at, Body: at + HeaderSize, Size: w >> 16 & 0xff * HeaderSize, PreviousSize: previous,
		Index: uint8(w >> 8), Type: uint16(w >> 24 & 0xff), Kind: d.kind,
		Billed: binary.LittleEndian.Uint64(billed),
	}
	b.Tag, b.Protected = TagOf(uint32(w >> 32))
	switch {
	case b.Type == 0:
		b.State = Free
	case len(d.cached) > 0 && d.cached[b.Body]:
		b.State = Cached
	}
	return b
}

// pageError describes a broken page.
func pageError(page *[pageSize]byte, at mem.VA, chain int, stop uint64, why breach) *PageError {
	e := &PageError{Page: at, At: at + mem.VA(stop), Blocks: chain}
	w := binary.LittleEndian.Uint64(page[stop : stop+8])
	switch why {
	case breachZero:
		e.Why = "BlockSize is zero"
	case breachPast:
		e.Why = fmt.Sprintf("BlockSize %#x runs past the end of the page", w>>16&0xff*HeaderSize)
	default:
		e.Why = fmt.Sprintf("PreviousSize is %#x, the block before it has another size", w&0xff*HeaderSize)
	}
	return e
}
