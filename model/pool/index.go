package pool

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"

	"gokd/model/mem"
	"gokd/model/pool/cell"
	"gokd/model/pool/heap"
)

const (
	// maxCells bounds the blocks of an index: 1 GB of cells.
	maxCells = 1 << 26
	// maxTroubles bounds the errors of an index.
	maxTroubles = 1 << 17
)

// ErrStale says that an index that was loaded is not of this dump, or was
// changed: it is dropped, and the next question walks.
var ErrStale = errors.New("the index does not fit the dump")

// Index is every small block of one pool, as one walk found them, kept for the
// session: later questions cost no walk. Its methods are safe for concurrent
// use.
type Index struct {
	p        *Pool
	kind     Kind
	sections []*section
	areas    []heapPlace // sorted by address; of segment heaps
	loaded   bool        // from a file: blocks are checked when they are shown
}

// section is what the walk of one range found, in walk order.
type section struct {
	r     Range
	parts []part
	errs  []trouble
	cells int
	sum   Summary

	most int      // cells that may be kept
	kept Coverage // what the cells of a loaded section add up to
}

// space gives the address space of a part of the section.
func (s *section) space(a *heap.Area) *mem.Space {
	if a != nil && a.Heap.Space != nil {
		return a.Heap.Space
	}
	return s.r.space
}

// heapPlace is which area of which heap, and in which address space.
type heapPlace struct {
	area    *heap.Area
	session uint32
}

func newSection(r Range, most int) *section { return &section{r: r, most: most} }

// take keeps what was found in a window. It reports false where that is more
// than is kept.
func (s *section) take(win *window) bool {
	for i := range win.units {
		u := &win.units[i]
		if u.err != nil {
			s.errs = append(s.errs, trouble{s.cells, u.err})
			continue
		}
		for _, e := range win.troubles(u) {
			s.errs = append(s.errs, trouble{s.cells + e.cells, e.err})
		}
		for _, p := range win.parts(u) {
			s.add(p)
		}
		if s.cells > s.most || len(s.errs) > maxTroubles {
			s.parts, s.errs = nil, nil
			return false
		}
	}
	return true
}

// add keeps a part, as one with the last where it follows it in memory.
func (s *section) add(p part) {
	s.cells += len(p.cells)
	if n := len(s.parts); n > 0 {
		last := &s.parts[n-1]
		if k := len(last.cells); last.area == p.area && cap(last.cells) > k && &last.cells[:k+1][k] == &p.cells[0] {
			last.cells = last.cells[:k+len(p.cells)]
			return
		}
	}
	s.parts = append(s.parts, p)
}

// most is how many cells an index may have.
func (p *Pool) most() int {
	if p.walks.cells > 0 {
		return p.walks.cells
	}
	return maxCells
}

// held is how many cells this walk keeps.
func (w *Walk) held() (n int) {
	for _, s := range w.sections {
		n += s.cells
	}
	return n
}

// done takes the section of a range that was walked to its end; with the last of
// them the index is complete.
func (w *Walk) done(s *section) {
	if w.sum.Unkept {
		w.sections = nil
		return
	}
	// Matches are counted per question.
	s.sum.Matches = 0
	w.sections = append(w.sections, s)
	if len(w.sections) != len(w.ranges) || w.q.Session != nil {
		return
	}
	for i, s := range w.sections {
		if !sameRange(s.r, w.ranges[i]) {
			return
		}
	}
	w.p.keep(newIndex(w.p, w.q.Kind, w.sections))
}

func newIndex(p *Pool, kind Kind, sections []*section) *Index {
	x := &Index{p: p, kind: kind, sections: sections}
	for _, s := range sections {
		for i := range s.parts {
			a := s.parts[i].area
			if a != nil && (len(x.areas) == 0 || x.areas[len(x.areas)-1].area != a) {
				x.areas = append(x.areas, heapPlace{a, s.r.Session})
			}
		}
	}
	slices.SortFunc(x.areas, func(a, b heapPlace) int { return cmp.Compare(a.area.At, b.area.At) })
	return x
}

func (p *Pool) keep(x *Index) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.walks.kept == nil {
		p.walks.kept = map[Kind]*Index{}
	}
	p.walks.kept[x.kind] = x
}

// Kept gives the index of a pool that an earlier walk left, or that was loaded;
// nil where there is none.
func (p *Pool) Kept(kind Kind) *Index {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.walks.kept[kind]
}

// Drop forgets the index of a pool.
func (p *Pool) Drop(kind Kind) {
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.walks.kept, kind)
}

// Index walks a pool's small blocks, or gives the index of an earlier walk.
// progress, where not nil, is told how many pages were read. An interrupted walk
// is not kept and gives ctx's error; a pool of more than 67 million blocks gives
// ErrLimit: Find walks it each time. Where the small blocks are not read the
// index is empty, and its summary tells why.
func (p *Pool) Index(ctx context.Context, kind Kind, progress func(pages uint64)) (*Index, error) {
	if x := p.Kept(kind); x != nil {
		return x, nil
	}
	if kind == Special {
		return nil, fmt.Errorf("index of special pool: its few pages are walked each time: %w", errors.ErrUnsupported)
	}
	w, err := p.Find(ctx, Query{Kind: kind, Progress: progress})
	if err != nil {
		return nil, err
	}
	if len(w.Ranges()) == 0 {
		return newIndex(p, kind, []*section{{sum: w.sum}}), nil
	}
	for _, r := range w.Ranges() {
		if err := w.small(ctx, r, nil); err != nil {
			return nil, err
		}
	}
	if x := p.Kept(kind); x != nil {
		return x, nil
	}
	if !w.sum.Unkept {
		return nil, fmt.Errorf("index of %s pool: the dump changed while it was read", kind)
	}
	return nil, fmt.Errorf("index of %s pool: more than %d blocks or %d errors: %w", kind, p.most(), maxTroubles, ErrLimit)
}

// section finds what is kept of a range.
func (x *Index) section(r Range) *section {
	for _, s := range x.sections {
		if sameRange(s.r, r) {
			return s
		}
	}
	return nil
}

// Kind tells which pool the index is of.
func (x *Index) Kind() Kind { return x.kind }

// Loaded reports whether the index was loaded from a file.
func (x *Index) Loaded() bool { return x.loaded }

// Summary is what the walk covered.
func (x *Index) Summary() (sum Summary) {
	for _, s := range x.sections {
		sum.add(s.sum)
		sum.Reached = s.sum.Reached
		sum.SmallUnwalked, sum.Why = s.sum.SmallUnwalked, s.sum.Why
	}
	sum.Matches = uint64(x.Len())
	return sum
}

// Len is the number of blocks, of every state.
func (x *Index) Len() (n int) {
	for _, s := range x.sections {
		n += s.cells
	}
	return n
}

// Cells hands out the blocks in walk order, in pieces, until visit reports
// false. The slices are valid for the index's life and must not be changed.
func (x *Index) Cells(visit func(part []cell.Cell) bool) {
	for _, s := range x.sections {
		for _, p := range s.parts {
			if !visit(p.cells[:len(p.cells):len(p.cells)]) {
				return
			}
		}
	}
}

// Errors hands out what the walk could not read, in walk order.
func (x *Index) Errors(visit func(error) bool) {
	for _, s := range x.sections {
		for _, e := range s.errs {
			if !visit(e.err) {
				return
			}
		}
	}
}

// Block gives what is known of a block of the index; what the cell does not
// hold is read from the dump. A block of an index that was loaded is checked
// against its header: where that is another, the index is dropped and the zero
// Block returned.
func (x *Index) Block(c cell.Cell) Block {
	r := Range{Kind: x.kind, space: x.p.k.Space}
	var a *heap.Area
	if i, ok := slices.BinarySearchFunc(x.areas, c.Header(), func(p heapPlace, at mem.VA) int {
		switch {
		case p.area.At+mem.VA(p.area.Size-1) < at:
			return -1
		case p.area.At > at:
			return 1
		}
		return 0
	}); ok {
		a = x.areas[i].area
	}
	if s := x.holding(c.Header()); s != nil {
		r = s.r
	}
	if x.loaded && x.proves(c, r.space) != nil {
		return Block{}
	}
	return x.p.blockOf(c, r, a)
}

// holding finds the section whose range holds an address.
func (x *Index) holding(at mem.VA) *section {
	for _, s := range x.sections {
		if at >= s.r.Start && at <= s.r.Last {
			return s
		}
	}
	return nil
}

// proves compares a cell with the dump, and drops the index where they differ.
func (x *Index) proves(c cell.Cell, space *mem.Space) error {
	if space == nil {
		space = x.p.k.Space
	}
	word, err := space.Uint64(c.Header())
	if err == nil && word == c.Word {
		return nil
	}
	x.p.mu.Lock()
	if x.p.walks.kept[x.kind] == x {
		delete(x.p.walks.kept, x.kind)
	}
	x.p.mu.Unlock()
	if err == nil {
		err = fmt.Errorf("its header is %#x in the dump", word)
	}
	return fmt.Errorf("block at %#x is %#x in the index, %w: %w, which is dropped", uint64(c.Header()), c.Word, err, ErrStale)
}

// blockOf gives what is known of a block; what the cell does not hold is read
// from the dump: ProcessBilled, which only blocks with the quota bit have.
func (p *Pool) blockOf(c cell.Cell, r Range, a *heap.Area) Block {
	b := Block{
		Header: c.Header(), Body: c.Header() + HeaderSize, Size: c.Size(), Room: c.Room(), PreviousSize: uint32(c.Previous()),
		Index: c.PoolIndex(), Type: uint16(c.PoolType()), Kind: r.Kind, State: State(c.State()),
	}
	b.Tag, b.Protected = TagOf(c.Tag())
	if a != nil {
		b.Place, b.Heap = InVS, a.Heap.At
		if a.Kind == heap.AreaLFH {
			b.Place = InLFH
		}
		if b.State == Free {
			// A free piece need not have a header: what lies there is no size.
			b.Size, b.PreviousSize = b.Room, 0
		}
	}
	if b.Type&typeQuota != 0 && b.State != Free {
		space := r.space
		if a != nil && a.Heap.Space != nil {
			space = a.Heap.Space
		}
		b.Billed, _ = space.Uint64(b.Header + 8)
	}
	return b
}
