package heap

import (
	"context"
	"fmt"
	"iter"

	"gokd/model/mem"
)

// Bits of _HEAP_PAGE_RANGE_DESCRIPTOR.RangeFlags. MemProcFS compares whole
// values (3, 0xb, 0xf); which bit means what follows from these, from those of
// free ranges (0, 2) and of the units behind a range's first (1, 9, 0xd).
const (
	flagAllocated = 1
	flagFirst     = 2
	flagVS        = 4 // only together with flagBlocks
	flagBlocks    = 8
	flagsKnown    = 0xf

	// treeSignature marks the first descriptor of an allocated range (published
	// research).
	treeSignature = 0xccddccdd
)

// Areas yields the areas of a heap in walk order: both segment contexts, their
// segments as the list has them, each from its start. The areas of a segment
// cover it whole. An error stands for a segment or a range that makes no sense;
// the walk goes on behind it. It comes before the area it speaks of, which is
// AreaOdd, or AreaLost where the reason is that something is not in the dump.
func (h *Heaps) Areas(ctx context.Context, of *Heap) iter.Seq2[Area, error] {
	return func(yield func(Area, error) bool) {
		for s, err := range h.segmentsOf(ctx, of) {
			if err != nil {
				if !yield(Area{}, err) {
					return
				}
				continue
			}
			if !h.segmentAreas(of, s, yield) {
				return
			}
		}
		if err := ctx.Err(); err != nil {
			yield(Area{}, err)
		}
	}
}

// segmentAreas yields the areas of one segment.
func (h *Heaps) segmentAreas(of *Heap, s *segment, yield func(Area, error) bool) bool {
	if s.err == nil {
		r := ranges{l: &h.lay.segment, s: s, heap: of, yield: yield}
		return r.walk()
	}
	if s.hollow {
		return yield(Area{}, s.err)
	}
	if _, ok := s.err.(*DamageError); ok {
		// The list leads to it, but nothing says that it is one.
		return yield(Area{}, s.err) && yield(Area{Heap: of, Segment: s.at, At: s.at, Size: s.ctx.size(), Kind: AreaOdd}, nil)
	}
	return yield(Area{}, fmt.Errorf("_HEAP_PAGE_SEGMENT at %#x: %w", uint64(s.at), s.err)) &&
		yield(Area{Heap: of, Segment: s.at, At: s.at, Size: s.ctx.size(), Kind: AreaLost}, nil)
}

// ranges walks the descriptors of a segment.
type ranges struct {
	l     *segmentLayout
	s     *segment
	heap  *Heap
	yield func(Area, error) bool
}

// descriptor is what one _HEAP_PAGE_RANGE_DESCRIPTOR says.
type descriptor struct {
	there  bool
	flags  uint8
	size   uint32 // units
	unused uint64 // bytes
	tree   uint32
}

func (r *ranges) at(i uint32) descriptor {
	off := i * r.l.stride
	if i >= units || !r.s.there[off/pageSize] || !r.s.there[(off+r.l.stride-1)/pageSize] {
		return descriptor{}
	}
	b := r.s.desc[off : off+r.l.stride]
	return descriptor{
		there: true, flags: uint8(r.l.flags.get(b)), size: uint32(r.l.unitCount.get(b)),
		unused: r.l.unused.get(b), tree: uint32(r.l.tree.get(b)),
	}
}

// first tells whether a descriptor is the first of a range in use.
func (d descriptor) first() bool {
	return d.there && d.flags&(flagAllocated|flagFirst) == flagAllocated|flagFirst && d.tree == treeSignature
}

func (r *ranges) walk() bool {
	if !r.emit(0, r.s.ctx.first, AreaHeaders, 0) {
		return false
	}
	for i := r.s.ctx.first; i < units; {
		n, kind, unused, err := r.next(i)
		if err != nil && !r.yield(Area{}, err) {
			return false
		}
		if !r.emit(i, i+n, kind, unused) {
			return false
		}
		i += n
	}
	return true
}

// next tells how many units the range at a descriptor has, at least one and
// none behind the segment's end, and what it is.
func (r *ranges) next(i uint32) (n uint32, kind AreaKind, unused uint64, err error) {
	d := r.at(i)
	switch {
	case !d.there:
		n = r.until(i, func(d descriptor) bool { return d.first() })
		return n, AreaLost, 0, fmt.Errorf("descriptors %#x to %#x of the _HEAP_PAGE_SEGMENT at %#x: not in the dump", i, i+n-1, uint64(r.s.at))
	case d.flags == 0 && d.size == 0: // never used
		return r.until(i, func(d descriptor) bool { return !d.there || d.flags != 0 || d.size != 0 }), AreaFree, 0, nil
	case d.flags&flagAllocated == 0:
		if n, err = r.whole(i, max(d.size, 1)); err != nil {
			return n, AreaOdd, 0, err
		}
		return n, AreaFree, 0, nil
	case d.flags&flagFirst == 0:
		n = r.until(i, func(d descriptor) bool { return !d.there || d.first() || d.flags&flagAllocated == 0 })
		return n, AreaOdd, 0, r.damage(i, "%#x units from it on belong to a range whose first descriptor is not before them", n)
	case d.tree != treeSignature:
		n, _ = r.whole(i, max(d.size, 1))
		return n, AreaOdd, 0, r.damage(i, "its TreeSignature is %#x, not %#x", d.tree, uint32(treeSignature))
	case d.size == 0:
		return 1, AreaOdd, 0, r.damage(i, "its range has no unit")
	}
	n, err = r.whole(i, d.size)
	if err != nil {
		return n, AreaOdd, 0, err
	}
	kind, err = r.kind(i, d.flags)
	if kind == AreaPages {
		if unused = d.unused; unused >= uint64(n)<<r.s.ctx.shift {
			unused, err = 0, r.damage(i, "%#x bytes of its %#x units are said to be unused", d.unused, n)
		}
	}
	return n, kind, unused, err
}

func (r *ranges) kind(i uint32, flags uint8) (AreaKind, error) {
	switch flags {
	case flagAllocated | flagFirst:
		return AreaPages, nil
	case flagAllocated | flagFirst | flagBlocks:
		return AreaLFH, nil
	case flagAllocated | flagFirst | flagBlocks | flagVS:
		return AreaVS, nil
	}
	return AreaOdd, r.damage(i, "its RangeFlags are %#x", flags)
}

// until counts the units from a descriptor to the next that stop holds for.
func (r *ranges) until(i uint32, stop func(descriptor) bool) uint32 {
	n := uint32(1)
	for i+n < units && !stop(r.at(i+n)) {
		n++
	}
	return n
}

// whole limits a range to the segment and to where another range begins.
func (r *ranges) whole(i, n uint32) (uint32, error) {
	var err error
	if i+n > units {
		err = r.damage(i, "its %#x units reach behind the segment's end", n)
		n = units - i
	}
	for m := uint32(1); m < n; m++ {
		if r.at(i + m).first() {
			return m, r.damage(i, "its %#x units overlap the range of descriptor %#x", n, i+m)
		}
	}
	return n, err
}

func (r *ranges) damage(i uint32, why string, args ...any) error {
	return &DamageError{What: "_HEAP_PAGE_RANGE_DESCRIPTOR", At: r.s.at + mem.VA(i*r.l.stride), Area: r.s.at, Why: fmt.Sprintf(why, args...)}
}

func (r *ranges) emit(from, to uint32, kind AreaKind, unused uint64) bool {
	shift := r.s.ctx.shift
	return r.yield(Area{
		Heap: r.heap, Segment: r.s.at, At: r.s.at + mem.VA(from)<<shift, Size: uint64(to-from) << shift,
		Unused: unused, Kind: kind,
	}, nil)
}
