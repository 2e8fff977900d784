package pool

import (
	"context"
	"fmt"

	"gokd/model/mem"
)

// specialWalk goes over the pages of a range of special pool one by one: there
// are at most as many as were ever allocated with the feature on, and each is
// one allocation.
type specialWalk struct {
	p     *Pool
	q     Query
	r     Range
	sum   Summary
	limit uint64 // pages that may still be visited
	yield func(Block, error) bool
	more  bool
}

// special walks a range of special pool and adds what it covered to the
// walk's summary.
func (w *Walk) special(ctx context.Context, r Range, yield func(Block, error) bool) {
	s := &specialWalk{p: w.p, q: w.q, r: r, limit: w.p.pageLimit(), yield: yield, more: true}
	s.sum.Reached = r.Start
	err := r.space.Leaves(ctx, r.Start, r.Last, s.leaf)
	w.sum.add(s.sum)
	w.sum.Reached = s.sum.Reached
	w.sum.Interrupted = w.sum.Interrupted || ctx.Err() != nil
	if err == nil && s.limit == 0 {
		err = fmt.Errorf("%s pool from %#x: its page tables map more than memory and page files can hold: %w",
			r.Kind, uint64(r.Start), ErrLimit)
	}
	if err != nil && s.more {
		yield(Block{}, err)
	}
}

// pageLimit is how many pages a walk may visit: pool pages are backed by memory
// or by a page file, and a range with very many more is a page table that maps
// itself over and over.
func (p *Pool) pageLimit() uint64 {
	limit := uint64(1 << 20)
	for r := range p.k.Space.Physical().Runs() {
		limit += 64 * (r.Size / pageSize)
	}
	return limit
}

// leaf takes a piece of the range that the page tables map. It reports false to
// end the walk. The inaccessible pages between allocations are mapped by
// nothing and not visited.
func (s *specialWalk) leaf(l mem.Leaf) bool {
	if l.Err != nil {
		s.sum.Coverage.Walked += min(l.Size, pageSize)
		s.sum.Coverage.Missing += min(l.Size, pageSize)
		if l.Size > pageSize {
			s.sum.TablesMissing++
		} else {
			s.sum.PagesMissing++
		}
		return s.spend()
	}
	for off := uint64(0); off < l.Size; off += pageSize {
		if !s.spend() || !s.page(l.VA+mem.VA(off)) {
			return false
		}
	}
	return true
}

func (s *specialWalk) spend() bool {
	if s.limit > 0 {
		s.limit--
	}
	return s.limit > 0
}

// page decodes one page and hands its block out.
func (s *specialWalk) page(at mem.VA) bool {
	c := &s.sum.Coverage
	c.Walked += pageSize
	s.sum.Reached = at + pageSize
	var page [pageSize]byte
	if _, err := s.r.space.ReadVirtual(page[:], at); err != nil {
		s.sum.PagesMissing++
		c.Missing += pageSize
		return true
	}
	b, damage, ok := specialPage(&page, at)
	if !ok {
		s.sum.PagesOther++
		c.Other += pageSize
		return true
	}
	s.sum.PagesScanned++
	s.sum.Blocks++
	part := &c.Allocated
	if b.State == Free {
		part = &c.Free
	}
	*part += b.Size
	c.Overhead += pageSize - b.Size
	if damage != nil {
		s.sum.PagesBroken++
		c.Overhead -= uint64(damage.Bad)
		c.Damaged += uint64(damage.Bad)
	}
	if s.q.Pattern.Match(b.Tag) {
		s.sum.Matches++
		if s.more = s.yield(b, nil); !s.more {
			return false
		}
	}
	if damage != nil {
		s.more = s.yield(Block{}, damage)
	}
	return s.more
}
