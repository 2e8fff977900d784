package heap

import (
	"encoding/binary"
	"fmt"

	"gokd/model/mem"
	"gokd/model/pool/cell"
)

// slots is what the header of an LFH subsegment says.
type slots struct {
	size, first, count uint64 // bytes of a slot, offset of the first, how many
	bitmap             uint64 // offset of the bitmap
}

// slots decodes the header of an LFH subsegment. The sizes are mixed with the
// low half of the LFH key and with the subsegment's page number, of which some
// builds take the low 20 and some the low 32 bits (MemProcFS): only one of the
// two gives sizes that fit the number of blocks.
func (h *Heaps) slots(a *Area, p *[pageSize]byte) (slots, error) {
	l := &h.lay.lfh
	count := l.count.get(p[:])
	encoded := binary.LittleEndian.Uint32(p[l.offsets:]) ^ uint32(h.LfhKey)
	var first error
	for _, number := range [2]uint32{uint32(a.At >> 12), uint32(a.At) >> 12} {
		plain := encoded ^ number
		s := slots{size: uint64(plain & 0xffff), first: uint64(plain >> 16), count: count, bitmap: uint64(l.bitmap)}
		err := s.check(a.Size)
		if err == nil {
			return s, nil
		}
		if first == nil {
			first = err
		}
	}
	return slots{}, first
}

func (s slots) check(area uint64) error {
	switch {
	case s.count == 0:
		return fmt.Errorf("it says that it has no block")
	case s.size < 2*unit || s.size%unit != 0 || s.size > maxHeader:
		return fmt.Errorf("its blocks would have %#x bytes", s.size)
	case s.first < s.bitmap+(s.count+3)/4 || s.first%unit != 0:
		return fmt.Errorf("its first block would lie at %#x, in the bitmap of %d blocks", s.first, s.count)
	case s.first+s.count*s.size > area:
		return fmt.Errorf("its %d blocks of %#x bytes would not fit into %#x", s.count, s.size, area)
	}
	return nil
}

// decodeLFH appends the slots of an LFH subsegment.
func (h *Heaps) decodeLFH(dst []cell.Cell, a *Area, pages []*[pageSize]byte) ([]cell.Cell, Tally) {
	var t Tally
	if len(pages) == 0 || pages[0] == nil {
		t.Missing = a.Size // nothing else tells the size of the slots
		return dst, t
	}
	s, err := h.slots(a, pages[0])
	if err != nil {
		t.Damaged = a.Size
		t.Errs = append(t.Errs, &DamageError{What: "_HEAP_LFH_SUBSEGMENT", At: a.At, Area: a.At, Why: err.Error()})
		return dst, t
	}
	t.Overhead = s.first + a.Size - (s.first + s.count*s.size)
	cached, crossing := waiting(a), s.crossing(pages)
	w := vsWalk{area: a, pages: pages}
	for i := range s.count {
		off := s.first + i*s.size
		if s.crosses(i) && !crossing {
			t.Overhead += s.size
			continue
		}
		bits, known := s.state(pages, i)
		var p *[pageSize]byte
		if n := off / pageSize; n < uint64(len(pages)) {
			p = pages[n]
		}
		if !known || p == nil && bits&busy != 0 {
			t.Missing += s.size
			continue
		}
		at, state := uint64(a.At)+off, cell.Free
		b := block{header: off}
		if p != nil {
			b.word = word(p, off)
		}
		switch {
		case bits&busy == 0:
			t.Free += s.size
		case len(cached) > 0 && within(&cached, at, at+s.size):
			state = cell.Cached
			t.Cached += s.size
		default:
			state = cell.Allocated
			t.Allocated += s.size
		}
		if state != cell.Free {
			b = w.sound(b, off+s.size)
		}
		dst = append(dst, cell.New(a.At+mem.VA(b.header), off+s.size-b.header, state, b.word))
		t.Blocks++
	}
	return dst, t
}

// busy is the bit of a slot's two that tells whether it is in use; the other
// one tells of unused bytes at its end (published research).
const busy = 1

// state gives the two bits of a slot; known is false where the part of the
// bitmap is not in the dump.
func (s slots) state(pages []*[pageSize]byte, i uint64) (bits uint8, known bool) {
	off := s.bitmap + i/4
	n := off / pageSize
	if n >= uint64(len(pages)) || pages[n] == nil {
		return 0, false
	}
	return pages[n][off%pageSize] >> (i % 4 * 2) & 3, true
}

// crosses tells whether a slot lies in more than one page.
func (s slots) crosses(i uint64) bool {
	off := s.first + i*s.size
	return off/pageSize != (off+s.size-1)/pageSize
}

// crossing tells whether slots that cross into another page are used. The
// kernel's pools withhold them (MemProcFS; _RTL_HP_LFH_CONFIG has a flag that
// says so), whatever the bitmap says of them: only where one is marked as in use
// and begins with a header in which everything fits, they are blocks.
func (s slots) crossing(pages []*[pageSize]byte) bool {
	for edge := s.first&^(pageSize-1) + pageSize; edge < s.first+s.count*s.size; edge += pageSize {
		if edge <= s.first {
			continue
		}
		i := (edge - 1 - s.first) / s.size
		off := s.first + i*s.size
		bits, known := s.state(pages, i)
		if !s.crosses(i) || !known || bits&busy == 0 {
			continue
		}
		if p := pages[off/pageSize:]; len(p) > 0 && p[0] != nil && likeness(word(p[0], off), s.size) == likely {
			return true
		}
	}
	return false
}
