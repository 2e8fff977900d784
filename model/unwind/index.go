package unwind

import (
	"slices"

	"gokd/model/mem"
)

// Index finds the thread to whose kernel stack an address belongs.
type Index struct {
	segments []Segment // by low()
	reach    []mem.VA  // highest Base up to and with each
}

// NewIndex makes an index of segments of any number of threads.
func NewIndex(segments ...Segment) *Index {
	x := &Index{}
	for _, s := range segments {
		if s.plausible() == nil {
			x.segments = append(x.segments, s)
		}
	}
	slices.SortStableFunc(x.segments, func(a, b Segment) int {
		switch {
		case a.low() < b.low():
			return -1
		case a.low() > b.low():
			return 1
		}
		return 0
	})
	x.reach = make([]mem.VA, len(x.segments))
	var top mem.VA
	for i, s := range x.segments {
		top = max(top, s.Base)
		x.reach[i] = top
	}
	return x
}

// Len is the number of segments.
func (x *Index) Len() int { return len(x.segments) }

// Find gives the thread and the segment whose range holds v, low bits and all.
// below says that v lies under the segment's limit, where the stack is reserved
// but not in use. Where damaged threads claim the same range, one that uses it
// goes before one that only reserves it.
func (x *Index) Find(v uint64) (thread mem.VA, seg Segment, below, ok bool) {
	at := mem.VA(v)
	i, _ := slices.BinarySearchFunc(x.segments, at, func(s Segment, at mem.VA) int {
		if s.low() <= at {
			return -1
		}
		return 1
	})
	for i--; i >= 0 && x.reach[i] > at; i-- {
		s := x.segments[i]
		switch {
		case at >= s.Base:
		case at >= s.Limit:
			return s.Thread, s, false, true
		case !ok:
			thread, seg, below, ok = s.Thread, s, true, true
		}
	}
	return thread, seg, below, ok
}
