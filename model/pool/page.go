package pool

import (
	"encoding/binary"
	"fmt"

	"gokd/model/mem"
	"gokd/model/pool/cell"
)

const pageSize = mem.PageSize

// Reasons for which a chain of headers breaks.
type breach uint8

const (
	breachNone breach = iota
	breachPrevious
	breachZero
	breachPast
)

// touch reads a word of every cache line. The chain of headers is a chain of
// dependent reads, each a wait for memory; these are not, and the processor
// does them all at once, at the price of lines that no header is in.
func touch(page *[pageSize]byte) (sum uint64) {
	for i := 0; i < pageSize; i += 64 {
		sum += uint64(page[i])
	}
	return sum
}

// chain decodes a page's blocks. Every header is checked: PreviousSize must be
// the size of the block before it, 0 for the first; BlockSize must not be 0; the
// chain must end exactly at the page's end (ReactOS expool.c,
// ExpCheckPoolHeader). A header's first eight bytes are PreviousSize bits 0-7,
// PoolIndex 8-15, BlockSize 16-23, PoolType 24-31, all sizes in units of the
// header's, and PoolTag; PoolType 0 is a free block. n is how many blocks came
// before the end or the break, free how many bytes of them are free, stop where
// in the page they end.
//
// While it decodes one page it touches the lines of the next, four per block: so
// the wait for memory and the work overlap. Neither decoding several pages at
// once nor reading ahead along their chains is as fast.
func chain(out *[pageCells]cell.Cell, page, next *[pageSize]byte, va mem.VA) (n int, free, stop uint64, why breach, touched uint64) {
	var off, previous uint64 // in units
	t := 0
	for off < pageCells {
		if t < pageSize {
			touched += uint64(next[t&0xf00]) + uint64(next[t&0xf00|0x40]) + uint64(next[t&0xf00|0x80]) + uint64(next[t&0xf00|0xc0])
			t += 0x100
		}
		w := binary.LittleEndian.Uint64(page[off*HeaderSize&(pageSize-HeaderSize):][:8])
		size := w >> 16 & 0xff
		if w&0xff != previous || size == 0 || off+size > pageCells {
			switch {
			case w&0xff != previous:
				why = breachPrevious
			case size == 0:
				why = breachZero
			default:
				why = breachPast
			}
			break
		}
		isFree := (w>>24&0xff - 1) >> 63 // without a branch: one in ten is, at random
		free += size & -isFree
		out[n&(pageCells-1)] = cell.New(va+mem.VA(off*HeaderSize), size*HeaderSize, cell.State(isFree), w)
		n++
		previous = size
		off += size
	}
	for ; t < pageSize; t += 0x40 {
		touched += uint64(next[t])
	}
	return n, free * HeaderSize, off * HeaderSize, why, touched
}

// startsChain decides whether a page whose chain breaks holds blocks at all, by
// its first header: a nonpaged range also has pages of other owners, and their
// content must not pass for damaged pool.
func startsChain(page *[pageSize]byte, kind Kind, blocks int, why breach) bool {
	if blocks == 0 && why != breachZero {
		return false
	}
	if page[0] != 0 || !plausibleTag(page[4:8]) {
		return false
	}
	typ := page[3]
	switch {
	case typ == 0:
		return blocks > 0
	case kind == Nonpaged:
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
