package pool

import (
	"fmt"

	"gokd/model/mem"
)

// pages walks the page tables of a range and decodes its pages of small blocks.
// The error is ctx's, or says that the page tables are endless.
func (s *scanner) pages(r Range, skip []span) error {
	s.bounds, s.skip = r, skip
	defer s.end()
	more := true
	err := r.space.Leaves(s.ctx, r.Start, r.Last, func(l mem.Leaf) bool {
		more = s.leaf(l)
		return more
	})
	if err == nil && more {
		s.finish()
		err = s.ctx.Err()
	}
	if err == nil && s.limit == 0 {
		err = fmt.Errorf("%s pool from %#x: its page tables map more than memory and page files can hold: %w",
			r.Kind, uint64(r.Start), ErrLimit)
	}
	return err
}

// leaf takes a piece of the range that the page tables map. It reports false to
// end the walk.
func (s *scanner) leaf(l mem.Leaf) bool {
	if l.Err != nil {
		switch {
		case l.Size > pageSize:
			s.sum.TablesMissing++
			s.sum.Coverage.Unknown += l.Size
		case s.large(l.VA):
			s.account(&s.sum.Coverage.Large)
		default:
			s.sum.PagesMissing++
			s.account(&s.sum.Coverage.Missing)
		}
		return s.spend()
	}
	for off := uint64(0); off < l.Size; off += pageSize {
		va := l.VA + mem.VA(off)
		if va < s.bounds.Start || va > s.bounds.Last {
			continue // a large page can reach over the range's ends
		}
		if !s.spend() {
			return false
		}
		if s.large(va) {
			s.account(&s.sum.Coverage.Large)
			continue
		}
		s.add(va, l.PA+mem.PA(off))
		if s.fill.pages >= windowPages && !s.flush() {
			return false
		}
	}
	return true
}

// account adds a page that no worker looks at.
func (s *scanner) account(part *uint64) {
	*part += pageSize
	s.sum.Coverage.Walked += pageSize
}

func (s *scanner) spend() bool {
	if s.limit > 0 {
		s.limit--
	}
	return s.limit > 0
}

// large reports whether a page belongs to a large allocation. Pages come in
// ascending order.
func (s *scanner) large(va mem.VA) bool {
	for len(s.skip) > 0 && s.skip[0].end <= va {
		s.skip = s.skip[1:]
	}
	return len(s.skip) > 0 && s.skip[0].start <= va
}

// add appends a page, to the last unit where it follows it. A unit whose pages
// are sliced from a memory map may lie anywhere in the file; one whose pages
// are copied lies together, so that reads go in file order.
func (s *scanner) add(va mem.VA, pa mem.PA) {
	w := s.fill
	w.pages++
	if n := len(w.units); n > 0 {
		u := &w.units[n-1]
		together := s.slicer != nil || w.pas[len(w.pas)-1]+pageSize == pa
		if u.err == nil && u.size < runPages*pageSize && u.va+mem.VA(u.size) == va && together {
			u.size += pageSize
			w.pas = append(w.pas, pa)
			return
		}
	}
	w.units = append(w.units, unit{va: va, size: pageSize, pas: len(w.pas)})
	w.pas = append(w.pas, pa)
}
