package pool

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"slices"

	"gokd/model/mem"
	"gokd/model/pool/cell"
	"gokd/model/pool/heap"
)

// Query says what a walk looks for.
type Query struct {
	Kind    Kind
	Pattern Pattern // the zero Pattern: every tag
	Session *uint32 // of session pool: only this session's; nil: of all
	Workers int     // goroutines that decode pages; 0: one per processor
	// Progress is told now and then, from the goroutine that walks, how many
	// pages were handed out to be read.
	Progress func(pages uint64)
}

// Summary is what a walk covered.
type Summary struct {
	Matches       uint64 // blocks and large allocations whose tag matched
	Blocks        uint64 // small blocks whose headers were checked
	PagesScanned  uint64 // pages of small blocks, broken ones included
	PagesBroken   uint64 // of these: a header stopped making sense
	PagesOther    uint64 // pages in the range that hold no small blocks
	PagesMissing  uint64 // mapped or paged out, and not in the dump
	TablesMissing uint64 // page tables that are not there: their pages are unknown
	Large         uint64 // entries of the big-page table that were looked at
	LargeMissing  uint64 // entries that are not in the dump
	LargeOdd      uint64 // entries that make no sense
	HeapsBroken   uint64 // heaps, lists, segments and ranges of segment heaps that cannot be read
	SmallUnwalked bool   // the small blocks were not looked at
	Why           error  // why not
	Unkept        bool   // too many blocks to keep an index of them: the next question walks again
	Coverage      Coverage
	Interrupted   bool
	Reached       mem.VA // up to where small blocks were handed out
}

func (s *Summary) add(t Summary) {
	s.Matches += t.Matches
	s.Blocks += t.Blocks
	s.PagesScanned += t.PagesScanned
	s.PagesBroken += t.PagesBroken
	s.PagesOther += t.PagesOther
	s.PagesMissing += t.PagesMissing
	s.TablesMissing += t.TablesMissing
	s.Large += t.Large
	s.LargeMissing += t.LargeMissing
	s.LargeOdd += t.LargeOdd
	s.HeapsBroken += t.HeapsBroken
	s.Coverage.Add(t.Coverage)
}

// Skipped is how many things could not be read: pages, page tables, entries.
func (s Summary) Skipped() uint64 {
	return s.PagesMissing + s.PagesBroken + s.TablesMissing + s.LargeMissing + s.LargeOdd + s.HeapsBroken
}

// Walk is a walk over one pool: the large allocations, then the ranges of small
// blocks. Its parts can be asked for one by one, so that a caller can tell them
// apart; each may be asked for once. It is used from one goroutine.
//
// The first walk that comes to its end leaves an index behind (Pool.Index), from
// which later walks are answered: same order, same errors, same summary.
type Walk struct {
	p        *Pool
	q        Query
	ranges   []Range
	heaps    *heap.Heaps // nil: a page pool
	index    *Index      // of an earlier walk
	sections []*section  // what this one found
	sum      Summary
}

// Find prepares a walk. It fails where the pool's ranges are not known.
func (p *Pool) Find(ctx context.Context, q Query) (*Walk, error) {
	w := &Walk{p: p, q: q}
	var err error
	switch {
	case q.Kind == Special || p.PagePool():
		w.ranges, err = p.Ranges(ctx, q.Kind)
	case !p.k.Space.Paged():
		if _, err = p.bigPages(ctx); err == nil {
			w.unwalked(&MissingError{q.Kind.String() + " pool", errors.New("a triage dump has no page tables")})
		}
	default:
		err = w.findHeaps(ctx)
	}
	if err != nil {
		return nil, err
	}
	if q.Session != nil && q.Kind == Session && !w.sum.SmallUnwalked {
		if w.ranges = ofSession(w.ranges, *q.Session); len(w.ranges) == 0 {
			return nil, &MissingError{fmt.Sprintf("pool of session %d", *q.Session), errors.New("no process of it leads there")}
		}
	}
	w.index = p.Kept(q.Kind)
	return w, nil
}

func (w *Walk) unwalked(why error) {
	w.sum.SmallUnwalked, w.sum.Why = true, why
}

// ofSession gives the ranges of one session.
func ofSession(all []Range, id uint32) []Range {
	var list []Range
	for _, r := range all {
		if r.Session == id {
			list = append(list, r)
		}
	}
	return list
}

// Ranges gives the ranges that hold the small blocks; none where this build's
// small blocks are not walked.
func (w *Walk) Ranges() []Range {
	if w.sum.SmallUnwalked {
		return nil
	}
	return w.ranges
}

// Summary is what the walk covered up to now.
func (w *Walk) Summary() Summary { return w.sum }

// tables gives the big-page tables that the walk looks at.
func (w *Walk) tables(ctx context.Context) ([]*bigTable, error) {
	if w.q.Kind != Session {
		t, err := w.p.bigPages(ctx)
		if err != nil {
			return nil, err
		}
		return []*bigTable{t}, nil
	}
	var list []*bigTable
	for _, r := range w.ranges {
		if r.big != nil {
			list = append(list, r.big)
		}
	}
	if t := w.p.sessionNonpaged(ctx); t != nil && w.q.Session == nil {
		list = append(list, t)
	}
	return list, nil
}

// Tables tells where the tables of large allocations lie: one for the machine,
// or one for each session.
func (w *Walk) Tables(ctx context.Context) ([]BigTable, error) {
	tables, err := w.tables(ctx)
	var list []BigTable
	for _, t := range tables {
		list = append(list, t.summary())
	}
	return list, err
}

// Large yields the large allocations of the pool whose tag matches, by address,
// after an error for a part of the table that is missing.
func (w *Walk) Large(ctx context.Context) iter.Seq2[Block, error] {
	return func(yield func(Block, error) bool) {
		tables, err := w.tables(ctx)
		if err != nil {
			yield(Block{}, err)
			return
		}
		for _, t := range tables {
			w.sum.Large += uint64(len(t.blocks))
			w.sum.LargeOdd += t.odd
			if t.partial != nil {
				w.sum.LargeMissing += t.partial.Entries
				if !yield(Block{}, t.partial) {
					return
				}
			}
			for _, b := range t.blocks {
				if b.Kind != w.q.Kind || !w.q.Pattern.Match(b.Tag) {
					continue
				}
				w.sum.Matches++
				if !yield(b, nil) {
					return
				}
			}
		}
	}
}

// Small yields the small blocks of a range whose tag matches: those of page
// pools by address, those of segment heaps by node, heap, segment and address.
// There is an error for each place where headers stop making sense, a *PageError
// or a *heap.DamageError, behind the blocks before it. Pages that are missing
// are counted in the summary. A cancelled context ends the walk with its error.
func (w *Walk) Small(ctx context.Context, r Range) iter.Seq2[Block, error] {
	return func(yield func(Block, error) bool) {
		if w.q.Kind == Special {
			w.special(ctx, r, yield)
			return
		}
		if w.index != nil {
			if s := w.index.section(r); s != nil {
				w.fromIndex(ctx, s, yield)
				return
			}
		}
		if err := w.small(ctx, r, yield); err != nil {
			yield(Block{}, err)
		}
	}
}

// small walks a range; without yield it only keeps what it finds. The error is
// nil where the consumer had enough.
func (w *Walk) small(ctx context.Context, r Range, yield func(Block, error) bool) error {
	keep := newSection(r, w.p.most()-w.held())
	s := w.p.newScanner(ctx, w.q, r)
	s.keep = !w.sum.Unkept
	s.sum.Reached = r.Start
	enough := false
	s.drain = func(win *window) bool {
		if s.keep && !keep.take(win) {
			s.keep = false
		}
		for i := range win.units {
			u := &win.units[i]
			if yield != nil && !w.hand(win, u, r, yield) {
				enough = true
				return false
			}
			if u.err == nil {
				s.sum.Reached = u.va + mem.VA(u.size)
			}
		}
		return true
	}
	var err error
	if w.heaps != nil {
		err = s.areas(w.heaps, r, w.mine(r))
	} else {
		err = s.pages(r, w.skips(ctx, r))
	}
	w.sum.add(s.sum)
	w.sum.Reached = s.sum.Reached
	w.sum.Interrupted = w.sum.Interrupted || ctx.Err() != nil
	if enough {
		return nil
	}
	if err == nil && !s.faulted.Load() {
		w.sum.Unkept = w.sum.Unkept || !s.keep
		keep.sum = s.sum
		w.done(keep)
	}
	return err
}

// hand hands out what was found in a unit.
func (w *Walk) hand(win *window, u *unit, r Range, yield func(Block, error) bool) bool {
	if u.err != nil {
		return yield(Block{}, u.err)
	}
	h := handing{w: w, r: r, errs: win.troubles(u), yield: yield}
	for _, p := range win.parts(u) {
		if !h.part(p) {
			return false
		}
	}
	return h.rest()
}

// handing is cells on their way to a caller, with errors between them.
type handing struct {
	w     *Walk
	r     Range
	cells int // handed out or passed over
	errs  []trouble
	check bool // each block against the dump: of an index that was loaded
	yield func(Block, error) bool
}

// part hands out the cells that match.
func (h *handing) part(p part) bool {
	cells := p.cells
	for len(cells) > 0 {
		n := len(cells) // up to the next error
		if len(h.errs) > 0 {
			n = min(n, h.errs[0].cells-h.cells)
		}
		if p.hits > 0 && !h.matching(cells[:n], p.area) {
			return false
		}
		h.cells, cells = h.cells+n, cells[n:]
		for len(h.errs) > 0 && h.errs[0].cells <= h.cells {
			if !h.yield(Block{}, h.errs[0].err) {
				return false
			}
			h.errs = h.errs[1:]
		}
	}
	return true
}

func (h *handing) matching(cells []cell.Cell, a *heap.Area) bool {
	for _, c := range cells {
		if !h.w.q.Pattern.match(c.Tag()) {
			continue
		}
		if h.check {
			if err := h.w.index.proves(c, h.r.space); err != nil {
				h.yield(Block{}, err)
				return false
			}
		}
		if !h.yield(h.w.p.blockOf(c, h.r, a), nil) {
			return false
		}
	}
	return true
}

// rest hands out the errors behind the last cell.
func (h *handing) rest() bool {
	for _, e := range h.errs {
		if !h.yield(Block{}, e.err) {
			return false
		}
	}
	return true
}

// skips gives the pages in a range that belong to large allocations. Without
// the table none is known, and such pages are told by their content.
func (w *Walk) skips(ctx context.Context, r Range) []span {
	t := r.big
	if t == nil {
		var err error
		if t, err = w.p.bigPages(ctx); err != nil {
			return nil
		}
	}
	i, _ := slices.BinarySearchFunc(t.spans, r.Start, func(s span, at mem.VA) int {
		if s.end <= at {
			return -1
		}
		return 1
	})
	return t.spans[i:]
}

// Blocks yields Large and then Small of every range.
func (w *Walk) Blocks(ctx context.Context) iter.Seq2[Block, error] {
	return func(yield func(Block, error) bool) {
		for b, err := range w.Large(ctx) {
			if !yield(b, err) {
				return
			}
		}
		for _, r := range w.Ranges() {
			for b, err := range w.Small(ctx, r) {
				if !yield(b, err) {
					return
				}
			}
			if ctx.Err() != nil {
				return
			}
		}
	}
}
