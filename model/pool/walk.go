package pool

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"slices"

	"gokd/model/mem"
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
	SmallUnwalked bool   // this build's small blocks live in segment heaps
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
	s.Coverage.Add(t.Coverage)
}

// Skipped is how many things could not be read: pages, page tables, entries.
func (s Summary) Skipped() uint64 {
	return s.PagesMissing + s.PagesBroken + s.TablesMissing + s.LargeMissing + s.LargeOdd
}

// Covers says in words what the walk covered where that is not all there is;
// empty where it is.
func (s Summary) Covers() string {
	if s.SmallUnwalked {
		return "large allocations; small blocks of segment-heap pools are not walked yet, compare with !poolused"
	}
	return ""
}

// Walk is a walk over one pool: the large allocations, then the ranges of small
// blocks. Its parts can be asked for one by one, so that a caller can tell them
// apart; each may be asked for once. It is used from one goroutine.
type Walk struct {
	p      *Pool
	q      Query
	ranges []Range
	sum    Summary
}

// Find prepares a walk. It fails where the pool's ranges are not known.
func (p *Pool) Find(ctx context.Context, q Query) (*Walk, error) {
	w := &Walk{p: p, q: q}
	var err error
	if q.Kind == Special || q.Kind == Session || p.PagePool() {
		if w.ranges, err = p.Ranges(ctx, q.Kind); err != nil {
			return nil, err
		}
		if q.Session != nil && q.Kind == Session {
			if w.ranges = ofSession(w.ranges, *q.Session); len(w.ranges) == 0 {
				return nil, &MissingError{fmt.Sprintf("pool of session %d", *q.Session), errors.New("no process of it leads there")}
			}
		}
	} else if !p.k.Space.Paged() {
		_, err = p.bigPages(ctx)
	}
	w.sum.SmallUnwalked = !p.PagePool()
	return w, err
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

// Small yields the small blocks of a range whose tag matches, by address, with
// a *PageError for each page whose chain of headers breaks, behind the blocks
// before the break. Pages that are missing are counted in the summary. A
// cancelled context ends the walk with its error.
func (w *Walk) Small(ctx context.Context, r Range) iter.Seq2[Block, error] {
	return func(yield func(Block, error) bool) {
		if w.q.Kind == Special {
			w.special(ctx, r, yield)
			return
		}
		s := w.p.newScanner(ctx, w.q)
		s.knowCached(w.p.cachedIn(ctx, r))
		enough := false
		s.drain = func(win *window) bool {
			for i := range win.runs {
				if !win.yield(&win.runs[i], yield) {
					enough = true
					return false
				}
				s.sum.Reached = win.runs[i].va + mem.VA(win.runs[i].pages*pageSize)
			}
			return true
		}
		s.sum.Reached = r.Start
		err := s.walk(ctx, r, w.skips(ctx, r))
		w.sum.add(s.sum)
		w.sum.Reached = s.sum.Reached
		w.sum.Interrupted = w.sum.Interrupted || ctx.Err() != nil
		if err != nil && !enough {
			yield(Block{}, err)
		}
	}
}

// yield hands out what was found in a run.
func (win *window) yield(r *run, yield func(Block, error) bool) bool {
	k := win.workers[r.worker]
	for _, b := range k.blocks[r.from:r.to] {
		if !yield(b, nil) {
			return false
		}
	}
	for _, e := range k.errs[r.firstError:r.lastError] {
		if !yield(Block{}, e) {
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

// Scan walks the small blocks of one pool in parallel and hands each page's
// matching blocks to visit, from q.Workers goroutines at once, in no order of
// address. The slice is valid during the call. An error of visit ends the scan
// and is returned; broken pages are counted in the summary.
func (p *Pool) Scan(ctx context.Context, q Query, visit func(worker int, page []Block) error) (Summary, error) {
	w, err := p.Find(ctx, q)
	if err != nil {
		return Summary{}, err
	}
	if w.sum.SmallUnwalked {
		return w.sum, errors.Join(ErrNotWalked, errors.New(w.sum.Covers()))
	}
	for _, r := range w.Ranges() {
		s := p.newScanner(ctx, q)
		s.knowCached(p.cachedIn(ctx, r))
		s.visit, s.drain = visit, func(*window) bool { return true }
		err := s.walk(ctx, r, w.skips(ctx, r))
		w.sum.add(s.sum)
		if err != nil {
			w.sum.Interrupted = ctx.Err() != nil
			return w.sum, err
		}
	}
	return w.sum, nil
}
