package heap

import (
	"context"
	"slices"
	"sort"

	"gokd/model/mem"
)

// index tells which segment holds an address.
type index struct {
	segments []located // of heaps that every process maps, by address
	private  []located // of sessions, by session and address
	large    []Large   // by address
}

// located is a segment and what is needed to read its descriptors again.
type located struct {
	heap *Heap
	ctx  *segContext
	at   mem.VA
	err  error // what was wrong with it
}

// compare orders by address; of two that lists lead to, the one that proved
// itself comes first.
func (s located) compare(t located) int {
	if s.at == t.at && (s.err == nil) != (t.err == nil) {
		if s.err == nil {
			return -1
		}
		return 1
	}
	return compare(s.at, t.at)
}

func (s located) end() mem.VA { return s.at + mem.VA(s.ctx.size()-1) }

// built gives the index, which the first question builds. It reads one page per
// segment.
func (h *Heaps) built(ctx context.Context) (*index, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.index != nil {
		return h.index, nil
	}
	x := new(index)
	for _, p := range h.List {
		for s, err := range h.segmentsOf(ctx, p) {
			if err != nil || s.hollow {
				continue // Areas tells of it
			}
			l := located{heap: p, ctx: s.ctx, at: s.at, err: s.err}
			if p.Private {
				x.private = append(x.private, l)
			} else {
				x.segments = append(x.segments, l)
			}
		}
		for g, err := range h.LargeOf(ctx, p) {
			if err == nil && !p.Private {
				x.large = append(x.large, g)
			}
		}
	}
	slices.SortStableFunc(x.segments, located.compare)
	slices.SortStableFunc(x.private, func(a, b located) int {
		if a.heap.Session != b.heap.Session {
			return compare(mem.VA(a.heap.Session), mem.VA(b.heap.Session))
		}
		return a.compare(b)
	})
	slices.SortStableFunc(x.large, func(a, b Large) int { return compare(a.At, b.At) })
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	h.index = x
	return x, nil
}

// At finds the area that holds an address. Heaps of sessions may share
// addresses; of these the session with the lowest number answers, see AtSession.
// An error beside a found area says what is wrong with the range or segment.
func (h *Heaps) At(ctx context.Context, at mem.VA) (Area, bool, error) {
	x, err := h.built(ctx)
	if err != nil {
		return Area{}, false, err
	}
	if a, ok, err := h.in(x.segments, at); ok {
		return a, ok, err
	}
	for s := x.private; len(s) > 0; {
		n := sessionRun(s)
		if a, ok, err := h.in(s[:n], at); ok {
			return a, ok, err
		}
		s = s[n:]
	}
	return Area{}, false, nil
}

// AtSession is At for an address as the processes of one session see it.
func (h *Heaps) AtSession(ctx context.Context, session uint32, at mem.VA) (Area, bool, error) {
	x, err := h.built(ctx)
	if err != nil {
		return Area{}, false, err
	}
	if a, ok, err := h.in(x.segments, at); ok {
		return a, ok, err
	}
	i := sort.Search(len(x.private), func(i int) bool { return x.private[i].heap.Session >= session })
	if s := x.private[i:]; len(s) > 0 && s[0].heap.Session == session {
		return h.in(s[:sessionRun(s)], at)
	}
	return Area{}, false, nil
}

// sessionRun counts the segments of the first session.
func sessionRun(s []located) int {
	n := 1
	for n < len(s) && s[n].heap.Session == s[0].heap.Session {
		n++
	}
	return n
}

// in finds the area that holds an address among segments sorted by address.
func (h *Heaps) in(list []located, at mem.VA) (found Area, ok bool, err error) {
	i := sort.Search(len(list), func(i int) bool { return list[i].end() >= at })
	if i == len(list) || list[i].at > at {
		return Area{}, false, nil
	}
	l := list[i]
	s := &segment{at: l.at, ctx: l.ctx, err: l.err}
	if s.err == nil {
		h.readDescriptors(l.heap, s)
	}
	var last error
	h.segmentAreas(l.heap, s, func(a Area, e error) bool {
		if e != nil {
			last = e // it comes before the area it speaks of
			return true
		}
		if uint64(at-a.At) < a.Size {
			found, ok, err = a, true, last
			return false
		}
		last = nil
		return true
	})
	return found, ok, err
}
