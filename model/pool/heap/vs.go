package heap

import (
	"encoding/binary"
	"fmt"

	"gokd/model/mem"
	"gokd/model/pool/cell"
)

const (
	// vsSignature is what _HEAP_VS_SUBSEGMENT.Signature and Size differ in
	// (MemProcFS; 15 bits).
	vsSignature = 0x2bed

	// maxHeader is the largest block that a _POOL_HEADER tells the size of: larger
	// requests have none and are in the big-page table.
	maxHeader = 0xff * unit

	// maxErrs bounds the errors that one area gives rise to.
	maxErrs = 16
)

// pieceKind tells what a walk of chunks found.
type pieceKind uint8

const (
	pieceEnd pieceKind = iota
	pieceChunk
	pieceDamaged // what lies behind a header that makes no sense
	pieceMissing // what lies behind a header that is not in the dump
	pieceRest    // behind the last chunk
)

// piece is a part of a VS subsegment, in bytes from its start.
type piece struct {
	kind      pieceKind
	allocated bool
	from, to  uint64
	prev      uint64 // UnsafePrevSize in bytes
	cost      uint16
}

// vsWalk goes through the chunks of a VS subsegment.
//
// A chunk header's first eight bytes are mixed with its address and the heap
// key. Decoded they hold its size and that of the chunk before it, so that each
// header is checked by the next one: a chain over a chunk whose own bytes are
// missing is proved as long as its header and the next are there.
type vsWalk struct {
	area   *Area
	key    uint64
	pages  []*[pageSize]byte
	at     uint64 // offset of the next header
	end    uint64 // of the chunks
	header uint64 // bytes of the subsegment's own header
	before uint64 // size of the chunk before at; 0 where it is not known
	tally  *Tally
}

// page gives a page of the area, nil where it is not in the dump.
func (w *vsWalk) page(off uint64) *[pageSize]byte {
	if i := off / pageSize; i < uint64(len(w.pages)) {
		return w.pages[i]
	}
	return nil
}

// word reads eight bytes at a multiple of the unit; the page must be there.
func word(p *[pageSize]byte, off uint64) uint64 {
	return binary.LittleEndian.Uint64(p[off&(pageSize-unit):])
}

// header is a decoded _HEAP_VS_CHUNK_HEADER_SIZE.
type header uint64

func (d header) size() uint64    { return uint64(d) >> 16 & 0xffff * unit }
func (d header) prev() uint64    { return uint64(d) >> 32 & 0xffff * unit }
func (d header) cost() uint16    { return uint16(d) }
func (d header) allocated() bool { return d>>48&1 != 0 }

// decode reads the header at an offset whose page is there.
func (w *vsWalk) decode(p *[pageSize]byte, off uint64) header {
	return header(word(p, off) ^ (uint64(w.area.At) + off) ^ w.key)
}

// fits tells whether a header's size keeps inside the chunks.
func (w *vsWalk) fits(d header, off uint64) bool {
	return d.size() != 0 && d.size() <= w.end-off
}

// begin reads the subsegment's own header.
func (w *vsWalk) begin(l *vsLayout) {
	w.header = uint64(l.header)
	w.at, w.end = w.header, w.area.Size
	p := w.page(0)
	if p == nil {
		return
	}
	size, signature := l.size.get(p[:]), l.signature.get(p[:])
	if want := (size ^ vsSignature) & 0x7fff; want != signature {
		w.damage("_HEAP_VS_SUBSEGMENT", 0, "its signature is %#x, not %#x as its size wants", signature, want)
		return
	}
	// Size counts the chunks, without the header (MemProcFS walks to the range's
	// end; the published research has the size without the header). What lies
	// behind is no chunk: a guard page, or the rest of the last unit.
	if end := w.at + size*unit; size != 0 && end <= w.area.Size {
		w.end = end
	}
}

func (w *vsWalk) damage(what string, off uint64, why string, args ...any) {
	if len(w.tally.Errs) < maxErrs {
		w.tally.Errs = append(w.tally.Errs, &DamageError{What: what, At: w.area.At + mem.VA(off), Area: w.area.At, Why: fmt.Sprintf(why, args...)})
	}
}

// next finds the next piece. The pieces follow one another without a gap.
func (w *vsWalk) next(out *piece) bool {
	if w.at >= w.end {
		return false
	}
	p := w.page(w.at)
	if w.at+w.header == w.end && w.at%pageSize == 0 && (p == nil || w.decode(p, w.at).size() != w.header) {
		// Size counted the header as well: the chunks ended with a page.
		*out = piece{kind: pieceRest, from: w.at, to: w.end}
		w.at = w.end
		return true
	}
	if p == nil {
		*out = piece{kind: pieceMissing, from: w.at, to: w.resume(w.at)}
		w.at, w.before = out.to, 0
		return true
	}
	d := w.decode(p, w.at)
	if !w.fits(d, w.at) || w.before != 0 && d.prev() != w.before {
		return w.trouble(d, out)
	}
	w.chunk(d, out)
	return true
}

func (w *vsWalk) chunk(d header, out *piece) {
	*out = piece{kind: pieceChunk, allocated: d.allocated(), from: w.at, to: w.at + d.size(), prev: d.prev(), cost: d.cost()}
	w.at, w.before = out.to, d.size()
}

// trouble tells what is wrong with a header that does not fit its neighbours.
// Where the size is good and the next header says the same size, only the link
// back is damaged, or the chunk before was not what it said: the chain goes on.
// Else everything up to the next chunk that proves itself is lost.
func (w *vsWalk) trouble(d header, out *piece) bool {
	off := w.at
	if !w.fits(d, off) {
		w.damage("_HEAP_VS_CHUNK_HEADER", off, "its size is %#x, %#x are left", d.size(), w.end-off)
	} else {
		w.damage("_HEAP_VS_CHUNK_HEADER", off, "its UnsafePrevSize is %#x, the chunk before it has %#x bytes", d.prev(), w.before)
		if w.proves(off, d) {
			w.chunk(d, out)
			return true
		}
	}
	*out = piece{kind: pieceDamaged, from: off, to: w.resume(off + unit)}
	w.at, w.before = out.to, 0
	return true
}

// resume finds the first header at or behind an offset that proves itself; the
// end of the chunks where there is none.
//
// A header proves itself by 46 bits and more: 16 of its size, which the next
// header must name as the size of the chunk before it, 15 of the byte and the
// flag behind Allocated that are 0, and the same 15 of the next header, which
// must fit too. A chunk in use has eight more: the number of its page in the
// subsegment, mixed with the key. A header that ends the subsegment has no next
// one and counts only where it is in use. It must not say that the chunk before
// it began before the place where the chain was lost.
func (w *vsWalk) resume(from uint64) uint64 {
	lost := w.at
	for off := from; off+unit <= w.end; {
		p := w.page(off)
		if p == nil {
			off = off&^(pageSize-1) + pageSize
			continue
		}
		d := w.decode(p, off)
		if d>>49 == 0 && w.fits(d, off) && d.prev() <= off-lost && w.proves(off, d) {
			return off
		}
		off += unit
	}
	return w.end
}

// proves tells whether a header that fits is borne out by the next one, or by
// its page number where it is the last.
func (w *vsWalk) proves(off uint64, d header) bool {
	if d>>49 != 0 || d.size() < 2*unit {
		return false
	}
	if d.allocated() && w.pageOf(off) != uint8(off/pageSize) {
		return false
	}
	next := off + d.size()
	if next == w.end {
		return d.allocated()
	}
	p := w.page(next)
	if p == nil {
		return false
	}
	n := w.decode(p, next)
	return n>>49 == 0 && w.fits(n, next) && n.prev() == d.size()
}

// pageOf decodes EncodedSegmentPageOffset: the number of the chunk's page in
// the subsegment, mixed with the low byte of the chunk's address and the key.
func (w *vsWalk) pageOf(off uint64) uint8 {
	p := w.page(off)
	return p[off&(pageSize-unit)+8] ^ uint8(uint64(w.area.At)+off) ^ uint8(w.key)
}

// decodeVS appends the blocks of a VS subsegment.
func (h *Heaps) decodeVS(dst []cell.Cell, a *Area, pages []*[pageSize]byte) ([]cell.Cell, Tally) {
	var t Tally
	w := vsWalk{area: a, key: h.HeapKey, pages: pages, tally: &t}
	w.begin(&h.lay.vs)
	t.Overhead = w.at + a.Size - w.end
	cached := waiting(a)
	base := uint64(a.At)
	var c piece
	for w.next(&c) {
		switch size := c.to - c.from; {
		case c.kind == pieceMissing:
			t.Missing += size
		case c.kind == pieceDamaged:
			t.Damaged += size
		case c.kind == pieceRest, size < 2*unit: // no block, or too small for one
			t.Overhead += size
		case !c.allocated:
			t.Free += size
			dst = append(dst, cell.New(mem.VA(base+c.from+unit), size-unit, cell.Free, w.body(c.from+unit)))
			t.Blocks++
		default:
			b := w.block(c.from, c.to)
			state := cell.Allocated
			if len(cached) > 0 && within(&cached, base+c.from, base+c.to) {
				state = cell.Cached
			}
			switch {
			case b.missing:
				t.Missing += size
				continue
			case b.large:
				t.Large += size
				continue
			case state == cell.Cached:
				t.Cached += size
			default:
				t.Allocated += size
			}
			dst = append(dst, cell.New(mem.VA(base+b.header), c.to-b.header, state, b.word))
			t.Blocks++
		}
	}
	return dst, t
}

// body gives the eight bytes at an offset; 0 where they are not in the dump.
func (w *vsWalk) body(off uint64) uint64 {
	if p := w.page(off); p != nil {
		return word(p, off)
	}
	return 0
}

// within tells whether one of the sorted addresses lies in [from, to), and drops
// those before it.
func within(sorted *[]mem.VA, from, to uint64) bool {
	s := *sorted
	for len(s) > 0 && uint64(s[0]) < from {
		s = s[1:]
	}
	*sorted = s
	return len(s) > 0 && uint64(s[0]) < to
}
