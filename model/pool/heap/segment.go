package heap

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"iter"

	"gokd/model"
	"gokd/model/mem"
)

const (
	// contexts is how many segment contexts a heap has: one for segments of
	// pages, one for larger units.
	contexts = 2

	// maxSegments bounds the segments of one context: 256 GB of the small ones.
	maxSegments = 1 << 18

	// segmentConstant is mixed into _HEAP_PAGE_SEGMENT.Signature up to the builds
	// of Windows 11 23H2; from 24H2 on nothing is (MemProcFS).
	segmentConstant = 0xa2e64eada2e64ead

	minUnitShift, maxUnitShift = 12, 20
)

// segContext is one _HEAP_SEG_CONTEXT.
type segContext struct {
	at          mem.VA
	shift       uint   // log2 of the bytes of a unit
	first       uint32 // index of the first descriptor that tells of a range
	flink, back mem.VA // the ends of its list of segments
	err         error  // why it can't be walked
}

// size is the bytes of each of its segments.
func (c *segContext) size() uint64 { return units << c.shift }

func (h *Heaps) readContext(p *Heap, at mem.VA, b []byte) segContext {
	l := &h.lay.context
	c := segContext{at: at, shift: uint(l.shift.get(b)), first: uint32(l.first.get(b))}
	c.flink = mem.VA(field{off: l.list, size: 8}.get(b))
	c.back = mem.VA(field{off: l.list + 8, size: 8}.get(b))
	damaged := func(why string, args ...any) segContext {
		c.err = &DamageError{What: "_HEAP_SEG_CONTEXT", At: at, Area: p.At, Why: fmt.Sprintf(why, args...)}
		return c
	}
	if c.flink == 0 && c.back == 0 && l.mask.get(b) == 0 {
		c.flink, c.back = at+mem.VA(l.list), at+mem.VA(l.list) // never used
		return c
	}
	switch owner := mem.VA(l.of.get(b)); {
	case c.shift < minUnitShift || c.shift > maxUnitShift:
		return damaged("its UnitShift is %d", c.shift)
	case l.mask.get(b) != ^(c.size() - 1):
		return damaged("its SegmentMask is %#x; segments of its UnitShift have %#x bytes", l.mask.get(b), c.size())
	case uint64(c.first)<<c.shift < uint64(h.lay.segment.size):
		return damaged("its FirstDescriptorIndex is %d: descriptors take more", c.first)
	case owner != 0 && owner != p.At:
		return damaged("it says that it is of the heap at %#x", uint64(owner))
	}
	return c
}

// segment is one _HEAP_PAGE_SEGMENT.
type segment struct {
	at  mem.VA
	ctx *segContext
	// desc is what is in the dump of its descriptors; nil where the first page is
	// not, or where it did not prove itself.
	desc  []byte
	there [maxStructure / pageSize]bool // pages of desc that are in the dump
	err   error

	hollow bool // no memory is its own: not aligned, or of another segment
}

// segmentsOf yields the segments of a heap's two contexts in the order of their
// lists. A segment with err set is damaged or missing; an error beside no
// segment stands for a list that could not be followed to its end.
func (h *Heaps) segmentsOf(ctx context.Context, p *Heap) iter.Seq2[*segment, error] {
	return func(yield func(*segment, error) bool) {
		taken := map[mem.VA]mem.VA{} // by the smallest segments they cover
		for i := range p.contexts {
			c := &p.contexts[i]
			if c.err != nil {
				if !yield(nil, c.err) {
					return
				}
				continue
			}
			w := &segmentWalk{h: h, heap: p, c: c, taken: taken, seen: map[mem.VA]bool{}}
			if !w.walk(ctx, yield) {
				return
			}
		}
	}
}

// segmentWalk follows one list of segments.
type segmentWalk struct {
	h     *Heaps
	heap  *Heap
	c     *segContext
	seen  map[mem.VA]bool
	taken map[mem.VA]mem.VA
}

// walk follows the list forward; where it breaks, backward from its end, so
// that what lies behind the break is found too. It reports false where the
// caller has enough.
func (w *segmentWalk) walk(ctx context.Context, yield func(*segment, error) bool) bool {
	head := w.c.at + mem.VA(w.h.lay.context.list)
	more, broken := w.follow(ctx, head, w.c.flink, 0, yield)
	if !more || broken == nil {
		return more
	}
	if ctx.Err() == nil {
		var back *model.WalkError
		if more, back = w.follow(ctx, head, w.c.back, 8, yield); !more {
			return false
		}
		// Where both ways end at the same segment, it is the only one whose links
		// do not fit: its neighbours name it.
		if back != nil && back.At == broken.At {
			var lost *mem.Fault
			switch {
			case !w.seen[broken.At]:
				w.seen[broken.At] = true
				if s := w.read(broken.At - mem.VA(w.h.lay.segment.link)); !yield(s, nil) {
					return false
				}
			case errors.As(broken.Err, &lost):
				return true // that it is not there was told
			}
		}
	}
	return yield(nil, &model.WalkError{What: "_HEAP_PAGE_SEGMENT", At: broken.At, Shown: len(w.seen), Err: broken.Err})
}

// follow goes from a link to the next: link is 0 for Flink, 8 for Blink.
func (w *segmentWalk) follow(ctx context.Context, head, at mem.VA, link uint32, yield func(*segment, error) bool) (more bool, broken *model.WalkError) {
	prev := head
	for at != head {
		var err error
		switch {
		case ctx.Err() != nil:
			err = ctx.Err()
		case w.seen[at]:
			err = model.ErrLoop
		case len(w.seen) >= maxSegments:
			err = model.ErrLimit
		case !kernelAddress(at):
			err = errors.New("no address of kernel memory")
		}
		if err != nil {
			return true, &model.WalkError{At: at, Err: err}
		}
		var links [16]byte
		if _, err := w.heap.Space.ReadVirtual(links[:], at); err != nil {
			w.seen[at] = true
			s := &segment{at: at - mem.VA(w.h.lay.segment.link), ctx: w.c, err: err}
			if uint64(s.at)&(w.c.size()-1) == 0 {
				if _, over := w.overlap(s.at); !over && !yield(s, nil) {
					return false, nil
				}
			}
			return true, &model.WalkError{At: at, Err: err}
		}
		next := mem.VA(binary.LittleEndian.Uint64(links[link:]))
		if back := mem.VA(binary.LittleEndian.Uint64(links[8-link:])); back != prev {
			return true, &model.WalkError{At: at, Err: fmt.Errorf("%w: it names %#x, not %#x", model.ErrBackLink, uint64(back), uint64(prev))}
		}
		w.seen[at] = true
		if s := w.read(at - mem.VA(w.h.lay.segment.link)); !yield(s, nil) {
			return false, nil
		}
		prev, at = at, next
	}
	return true, nil
}

// read reads a segment's descriptors and has it prove itself.
func (w *segmentWalk) read(at mem.VA) *segment {
	s := &segment{at: at, ctx: w.c}
	if uint64(at)&(w.c.size()-1) != 0 {
		s.err = w.damage(at, "it is not aligned to the %#x bytes of a segment", w.c.size())
		s.hollow = true
		return s
	}
	if other, over := w.overlap(at); over {
		s.err = w.damage(at, "it overlaps the segment at %#x", uint64(other))
		s.hollow = true
		return s
	}
	w.h.readDescriptors(w.heap, s)
	return s
}

func (w *segmentWalk) damage(at mem.VA, why string, args ...any) error {
	return &DamageError{What: "_HEAP_PAGE_SEGMENT", At: at, Area: w.heap.At, Why: fmt.Sprintf(why, args...)}
}

// overlap notes the range of a segment and tells which one had it before.
func (w *segmentWalk) overlap(at mem.VA) (other mem.VA, over bool) {
	const step = units << minUnitShift
	for off := uint64(0); off < w.c.size(); off += step {
		if other, over = w.taken[at+mem.VA(off)]; over {
			return other, true
		}
	}
	for off := uint64(0); off < w.c.size(); off += step {
		w.taken[at+mem.VA(off)] = at
	}
	return 0, false
}

// readDescriptors reads what is there of a segment's descriptors and checks its
// signature, in which its own address, that of its context and the key are
// mixed.
func (h *Heaps) readDescriptors(p *Heap, s *segment) {
	l := &h.lay.segment
	s.desc = make([]byte, l.size)
	for off := uint32(0); off < l.size; off += pageSize {
		end := min(off+pageSize, l.size)
		n, err := p.Space.ReadVirtual(s.desc[off:end], s.at+mem.VA(off))
		s.there[off/pageSize] = err == nil && n == int(end-off)
		if off == 0 && err != nil {
			s.desc, s.err = nil, err
			return
		}
	}
	if named := l.signature.get(s.desc) ^ uint64(s.at) ^ h.HeapKey ^ h.constant; named != uint64(s.ctx.at) {
		s.err = &DamageError{What: "_HEAP_PAGE_SEGMENT", At: s.at, Area: p.At,
			Why: fmt.Sprintf("its signature names a context at %#x, not %#x", named, uint64(s.ctx.at))}
		s.desc = nil
	}
}

// proveSegments is how many segments of each context Open looks at.
const proveSegments = 64

// prove finds out which constant this build mixes into the signatures of
// segments, and with it that the key is right: a wrong key fits none.
func (h *Heaps) prove(ctx context.Context) error {
	var looked, with, without int
	for _, p := range h.List {
		for i := range p.contexts {
			c := &p.contexts[i]
			// From the other end where the first segment is not in the dump.
			for _, from := range [2]struct {
				at   mem.VA
				link uint32
			}{{c.flink, 0}, {c.back, 8}} {
				n, a, b := h.sample(ctx, p, c, from.at, from.link)
				looked, with, without = looked+n, with+a, without+b
				if n > 0 {
					break
				}
			}
		}
	}
	fit := max(with, without)
	switch {
	case ctx.Err() != nil:
		return ctx.Err()
	case looked == 0:
		return errors.Join(append([]error{fmt.Errorf("nothing proves the heap key: none of the segments of %d heaps is in the dump", len(h.List))}, h.Trouble...)...)
	case with > 0 && without > 0:
		return fmt.Errorf("the segments disagree on the constant in their signatures: %d have %#x, %d none, of %d", with, uint64(segmentConstant), without, looked)
	case fit == 0: // by chance no signature fits; others may be damaged
		return fmt.Errorf("heap key does not fit: %d of %d segments have a signature that it makes", fit, looked)
	}
	if with > 0 {
		h.constant = segmentConstant
	}
	return nil
}

// sample looks at the signatures of some segments of a context: how many there
// are, and in how many the key leads to the context with the constant and
// without.
func (h *Heaps) sample(ctx context.Context, p *Heap, c *segContext, at mem.VA, link uint32) (looked, with, without int) {
	head := c.at + mem.VA(h.lay.context.list)
	if c.err != nil {
		return 0, 0, 0
	}
	for looked < proveSegments && at != head && kernelAddress(at) && ctx.Err() == nil {
		s := at - mem.VA(h.lay.segment.link)
		signature, err := p.Space.Uint64(s + mem.VA(h.lay.segment.signature.off))
		if err != nil {
			break
		}
		looked++
		switch signature ^ uint64(s) ^ h.HeapKey ^ uint64(c.at) {
		case segmentConstant:
			with++
		case 0:
			without++
		}
		if at, err = p.Space.Pointer(at + mem.VA(link)); err != nil {
			break
		}
	}
	return looked, with, without
}
