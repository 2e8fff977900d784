package pool

import (
	"context"
	"errors"
	"fmt"
	"sync"

	"gokd/model/mem"
	"gokd/model/pool/heap"
)

// walks is what walks of small blocks share.
type walks struct {
	heaps    *heap.Heaps // once opened
	heapsErr error
	kept     map[Kind]*Index // of walks that came to their end
	cells    int             // that an index may have; 0: maxCells
	idOnce   sync.Once
	id       [32]byte // of the dump
}

// heaps opens the segment heaps once. An interrupted attempt is not kept.
func (p *Pool) heaps(ctx context.Context) (*heap.Heaps, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.walks.heaps == nil && p.walks.heapsErr == nil {
		h, err := heap.Open(ctx, p.k)
		if ctx.Err() != nil {
			return h, ctx.Err()
		}
		p.walks.heaps, p.walks.heapsErr = h, err
	}
	return p.walks.heaps, p.walks.heapsErr
}

// serves reports whether a heap holds blocks of a pool.
func serves(h *heap.Heap, kind Kind) bool {
	switch h.Role {
	case heap.Nonpaged, heap.NonpagedNx:
		return kind == Nonpaged
	case heap.Paged, heap.PagedOther:
		return kind == Paged
	case heap.Session:
		return kind == Session
	case heap.Special:
		return h.IsPaged && kind == Paged || !h.IsPaged && kind == Nonpaged
	}
	return false
}

// findHeaps prepares a walk of segment heaps. Where they are not read, the
// large allocations still are.
func (w *Walk) findHeaps(ctx context.Context) error {
	h, err := w.p.heaps(ctx)
	if err != nil {
		if ctx.Err() != nil {
			return ctx.Err()
		}
		w.unwalked(err)
		return nil
	}
	w.heaps = h
	if w.ranges, err = w.p.Ranges(ctx, w.q.Kind); err == nil && len(w.ranges) > 0 {
		return nil
	}
	if ctx.Err() != nil {
		return ctx.Err()
	}
	return w.heapRanges(ctx, err)
}

// heapRanges makes ranges of the heaps themselves, where nothing else tells
// where the pool lies.
func (w *Walk) heapRanges(ctx context.Context, why error) error {
	byID := map[uint32]int{}
	w.ranges = nil
	for _, h := range w.heaps.List {
		if !serves(h, w.q.Kind) {
			continue
		}
		i, ok := byID[h.Session]
		if !ok {
			i, byID[h.Session] = len(w.ranges), len(w.ranges)
			w.ranges = append(w.ranges, Range{
				Kind: w.q.Kind, Start: h.At, Last: h.At, Session: h.Session, From: "segment heaps", Inferred: true, space: h.Space,
			})
		}
		r := &w.ranges[i]
		for a, err := range w.heaps.Areas(ctx, h) {
			if err == nil && a.Size > 0 {
				r.Start, r.Last = min(r.Start, a.At), max(r.Last, a.At+mem.VA(a.Size-1))
			}
		}
	}
	if len(w.ranges) == 0 {
		w.unwalked(errors.Join(why, fmt.Errorf("no segment heap of %s pool is in the dump", w.q.Kind)))
	}
	return ctx.Err()
}

// mine tells which areas belong to a range: those that lie in it, and for the
// last range also those that lie in none. An area of session pool goes with its
// session.
func (w *Walk) mine(r Range) func(*heap.Area) bool {
	inside := func(r Range, a *heap.Area) bool {
		return a.At >= r.Start && a.At <= r.Last && (r.Kind != Session || a.Heap.Session == r.Session)
	}
	last := len(w.ranges) > 0 && sameRange(r, w.ranges[len(w.ranges)-1])
	return func(a *heap.Area) bool {
		for _, x := range w.ranges {
			if inside(x, a) {
				return sameRange(x, r)
			}
		}
		if r.Kind == Session && w.q.Session != nil && a.Heap.Session != *w.q.Session {
			return false
		}
		return last
	}
}

func sameRange(a, b Range) bool {
	return a.Start == b.Start && a.Last == b.Last && a.Session == b.Session
}

// areas walks the segment heaps of a range's pool. The error is ctx's, or says
// that the heaps are endless.
func (s *scanner) areas(heaps *heap.Heaps, r Range, mine func(*heap.Area) bool) error {
	s.heaps = heaps
	defer s.end()
	if mine(&heap.Area{Heap: &heap.Heap{Session: r.Session}, At: r.Start}) {
		for _, err := range heaps.Trouble {
			s.trouble(err)
		}
	}
	for _, h := range heaps.List {
		if !serves(h, s.q.Kind) {
			continue
		}
		for a, err := range heaps.Areas(s.ctx, h) {
			switch {
			case s.ctx.Err() != nil:
				return s.ctx.Err()
			case err != nil:
				a.Heap = h
				if mine(&a) {
					s.trouble(err)
				}
			case mine(&a) && !s.area(&a):
				return s.full(r)
			}
		}
	}
	s.finish()
	return s.ctx.Err()
}

// full says why a walk of areas ended early: the consumer has enough, or there
// are more of them than there can be.
func (s *scanner) full(r Range) error {
	if s.ctx.Err() != nil || s.limit > 0 {
		return s.ctx.Err()
	}
	return fmt.Errorf("%s pool from %#x: its heaps hold more than memory and page files can: %w", r.Kind, uint64(r.Start), ErrLimit)
}

// trouble notes what was met between areas.
func (s *scanner) trouble(err error) {
	s.sum.HeapsBroken++
	s.fill.units = append(s.fill.units, unit{err: err})
}

// maxSubsegment bounds one subsegment in bytes: the largest segments have 16 MB.
const maxSubsegment = 64 << 20

// area takes an area of a heap. It reports false to end the walk.
func (s *scanner) area(a *heap.Area) bool {
	cover := &s.sum.Coverage
	part := &cover.Damaged
	switch a.Kind {
	case heap.AreaVS, heap.AreaLFH:
		if a.Size <= maxSubsegment {
			return s.blocks(a)
		}
		s.trouble(&heap.DamageError{What: a.Kind.String(), At: a.At, Area: a.Segment, Why: fmt.Sprintf("%#x bytes are no size of one", a.Size)})
	case heap.AreaHeaders:
		part = &cover.Overhead
	case heap.AreaFree:
		part = &cover.Free
	case heap.AreaPages:
		part = &cover.Large
	case heap.AreaLost:
		part = &cover.Missing
	}
	*part += a.Size
	cover.Walked += a.Size
	return s.spend()
}

// blocks takes a subsegment, whose blocks a worker is to decode.
func (s *scanner) blocks(a *heap.Area) bool {
	pages := int((a.Size + pageSize - 1) / pageSize)
	for range max(pages, 1) {
		if !s.spend() {
			return false
		}
	}
	if pages == 0 {
		return true
	}
	space := a.Heap.Space
	if space == nil {
		space = s.p.k.Space
	}
	s.fill.pages += pages
	s.fill.units = append(s.fill.units, unit{va: a.At, size: a.Size, area: a, space: space})
	return s.fill.pages < windowPages || s.flush()
}

// zeroPage is what a page reads as that was never touched.
var zeroPage [pageSize]byte

// decodeArea decodes a subsegment.
func (k *worker) decodeArea(u *unit) error {
	k.lookUp(u)
	n := len(k.pages)
	k.room(n * pageCells / 8) // few subsegments hold more; for those Decode makes room
	from := len(k.cur)
	out, t := k.scan.heaps.Decode(k.cur[from:from:cap(k.cur)], u.area, k.pages)
	found := part{cells: out, area: u.area}
	if len(out) > 0 {
		if in := k.cur[from:cap(k.cur)]; len(out) <= len(in) && &out[0] == &in[0] {
			k.cur = k.cur[:from+len(out)]
			found.cells = k.cur[from:]
		}
		k.parts = append(k.parts, found)
	}
	for _, err := range t.Errs {
		k.errs = append(k.errs, trouble{len(out), err})
	}
	k.count.PagesScanned += uint64(n) - t.Missing/pageSize
	k.count.PagesMissing += (t.Missing + pageSize - 1) / pageSize
	k.count.PagesBroken += (t.Damaged + pageSize - 1) / pageSize
	k.count.Blocks += uint64(len(out))
	k.count.Coverage.Add(Coverage{
		Allocated: t.Allocated, Cached: t.Cached, Free: t.Free, Large: t.Large, Overhead: t.Overhead, Damaged: t.Damaged, Missing: t.Missing,
	})
	return nil
}

// lookUp finds the pages of an area. Those that follow each other in physical
// memory are sliced as one.
func (k *worker) lookUp(u *unit) {
	k.pages, k.pas = k.pages[:0], k.pas[:0]
	for at := uint64(0); at < u.size; at += pageSize {
		t, err := u.space.Translate(u.va + mem.VA(at))
		if n := len(k.pas); n > 0 && (err != nil || t.Zero || t.PA != k.pas[n-1]+pageSize) {
			k.together(k.pas)
			k.pas = k.pas[:0]
		}
		switch {
		case err != nil:
			k.pages = append(k.pages, nil)
		case t.Zero:
			k.pages = append(k.pages, &zeroPage)
		default:
			k.pas = append(k.pas, t.PA)
		}
	}
	if len(k.pas) > 0 {
		k.together(k.pas)
	}
}
