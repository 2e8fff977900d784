package pool

import (
	"fmt"
	"slices"

	"gokd/model/mem"
	"gokd/model/pool/cell"
)

const (
	// chunkCells is how many cells are set aside at once: 1 MB.
	chunkCells = 1 << 16
	// pageCells is how many blocks a page can have.
	pageCells = pageSize / HeaderSize
)

// worker is what one goroutine needs to decode its share of a window, and what
// it found in it.
type worker struct {
	number int
	scan   *scanner
	win    *window

	cur   []cell.Cell // the chunk that is being filled
	used  [][]cell.Cell
	spare [][]cell.Cell // chunks whose cells were handed out and are not kept

	parts []part
	errs  []trouble
	count Summary
	panic any // what a panic carried

	pages   []*[pageSize]byte // of the unit
	pas     []mem.PA          // of the area, that follow each other
	copies  []byte            // where there is no memory map
	touched uint64            // keeps touch from being optimized away
}

func newWorker(s *scanner, w *window, number int) *worker {
	return &worker{number: number, scan: s, win: w}
}

// reset makes a worker ready for the next window.
func (k *worker) reset(keep bool) {
	clear(k.parts) // chunks that are not kept are not held either
	k.parts, k.errs = k.parts[:0], k.errs[:0]
	if !keep {
		k.spare = append(k.spare, k.used...)
		k.cur = nil
	}
	k.used = k.used[:0]
}

// room makes sure that so many cells can be appended to the chunk.
func (k *worker) room(n int) {
	if cap(k.cur)-len(k.cur) >= n {
		return
	}
	if m := len(k.spare); m > 0 && cap(k.spare[m-1]) >= n {
		k.cur, k.spare = k.spare[m-1][:0], k.spare[:m-1]
	} else {
		k.cur = make([]cell.Cell, 0, max(chunkCells, n))
	}
	k.used = append(k.used, k.cur)
}

// work decodes units until none is left.
func (k *worker) work() {
	defer k.win.done.Done()
	defer func() {
		if r := recover(); r != nil {
			k.panic = r
			k.scan.stop.Store(true)
		}
	}()
	for !k.scan.stop.Load() {
		i := k.win.next.Add(1) - 1
		if i >= int64(len(k.win.order)) {
			return
		}
		k.unit(&k.win.units[k.win.order[i]])
	}
}

// unit decodes one unit.
func (k *worker) unit(u *unit) {
	u.worker, u.from, u.firstBad = k.number, len(k.parts), len(k.errs)
	before, filled := k.count, len(k.cur)
	decode := k.decodePages
	if u.area != nil {
		decode = k.decodeArea
	}
	if err := k.scan.guard(func() error { return decode(u) }); err != nil {
		// The file is not what it was: of these pages nothing counts.
		k.scan.faulted.Store(true)
		if len(k.cur) > filled {
			k.cur = k.cur[:filled]
		}
		k.parts, k.errs, k.count = k.parts[:u.from], k.errs[:u.firstBad], before
		k.count.PagesMissing += u.size / pageSize
		k.count.Coverage.Missing += u.size
		k.errs = append(k.errs, trouble{0, fmt.Errorf("pages at %#x: %w", uint64(u.va), err)})
	}
	k.count.Coverage.Walked += u.size
	k.cachedStates(u)
	for i := u.from; i < len(k.parts); i++ {
		k.parts[i].hits = k.scan.q.Pattern.count(k.parts[i].cells)
		k.count.Matches += uint64(k.parts[i].hits)
	}
	u.to, u.after = len(k.parts), len(k.errs)
}

// decodePages decodes the pages of a unit.
func (k *worker) decodePages(u *unit) error {
	n := int(u.size / pageSize)
	k.slice(k.win.pas[u.pas : u.pas+n])
	if page := k.pages[0]; page != nil {
		k.touched += touch(page)
	}
	k.room(pageCells)
	from := len(k.cur)
	found := 0 // cells of the unit
	for i, page := range k.pages {
		// Lines of the next page travel while this one is decoded.
		next := page
		if i+1 < n && k.pages[i+1] != nil {
			next = k.pages[i+1]
		}
		if page == nil {
			k.count.PagesMissing++
			k.count.Coverage.Missing += pageSize
			continue
		}
		if cap(k.cur)-len(k.cur) < pageCells {
			k.part(from, len(k.cur))
			k.room(pageCells)
			from = len(k.cur)
		}
		found += k.page(page, next, u.va+mem.VA(i*pageSize), found)
	}
	k.part(from, len(k.cur))
	return nil
}

// part notes cells of the chunk as found.
func (k *worker) part(from, to int) {
	if to > from {
		k.parts = append(k.parts, part{cells: k.cur[from:to]})
	}
}

// slice gives the pages of physical addresses: of the memory map where there is
// one, else as copies; nil for one that is not in the dump.
func (k *worker) slice(pas []mem.PA) {
	k.pages = k.pages[:0]
	for len(pas) > 0 {
		n := 1
		for n < len(pas) && pas[n] == pas[n-1]+pageSize {
			n++
		}
		k.together(pas[:n])
		pas = pas[n:]
	}
}

// together gives pages that follow each other in physical memory.
func (k *worker) together(pas []mem.PA) {
	if k.scan.slicer != nil {
		if all, ok := k.scan.slicer.SlicePhysical(pas[0], len(pas)*pageSize); ok && len(all) == len(pas)*pageSize {
			for at := 0; at < len(all); at += pageSize {
				k.pages = append(k.pages, (*[pageSize]byte)(all[at:]))
			}
			return
		}
	}
	for _, pa := range pas {
		k.pages = append(k.pages, k.fetch(pa))
	}
}

// fetch gives one page, as a copy where it has to be.
func (k *worker) fetch(pa mem.PA) *[pageSize]byte {
	if k.scan.slicer != nil {
		if one, ok := k.scan.slicer.SlicePhysical(pa, pageSize); ok && len(one) == pageSize {
			return (*[pageSize]byte)(one)
		}
	}
	// The pages of a unit are all in use at once.
	at := len(k.pages) * pageSize
	if len(k.copies) < at+pageSize {
		k.copies = make([]byte, max(at+pageSize, runPages*pageSize))
	}
	page := (*[pageSize]byte)(k.copies[at:])
	if _, err := k.scan.phys.ReadPhysical(page[:], pa); err != nil {
		return nil
	}
	return page
}

// page appends the blocks of a page to the chunk, which has room for them, and
// gives how many. before is how many of the unit came before it.
func (k *worker) page(page, next *[pageSize]byte, va mem.VA, before int) int {
	at := len(k.cur)
	n, free, stop, why, touched := chain((*[pageCells]cell.Cell)(k.cur[at:at+pageCells]), page, next, va)
	k.touched += touched
	cover := &k.count.Coverage
	if why != breachNone {
		if !startsChain(page, k.scan.q.Kind, n, why) {
			k.count.PagesOther++
			cover.Other += pageSize
			return 0
		}
		k.count.PagesBroken++
		cover.Damaged += pageSize - stop
		k.errs = append(k.errs, trouble{before + n, pageError(page, va, n, stop, why)})
	}
	k.count.PagesScanned++
	k.count.Blocks += uint64(n)
	cover.Free += free
	cover.Allocated += stop - free
	k.cur = k.cur[:at+n]
	return n
}

// cachedStates marks the blocks of a unit that wait on lookaside lists.
func (k *worker) cachedStates(u *unit) {
	list := k.scan.cached
	if u.area != nil || len(list) == 0 {
		return
	}
	i, _ := slices.BinarySearch(list, u.va)
	for _, body := range list[i:] {
		if uint64(body-u.va) >= u.size {
			return
		}
		for _, p := range k.parts[u.from:] {
			j, ok := slices.BinarySearchFunc(p.cells, body-HeaderSize, func(c cell.Cell, at mem.VA) int {
				return int(int64(c.Header() - at))
			})
			if ok && p.cells[j].State() == cell.Allocated {
				c := p.cells[j]
				p.cells[j] = cell.New(c.Header(), c.Room(), cell.Cached, c.Word)
				k.count.Coverage.Allocated -= c.Room()
				k.count.Coverage.Cached += c.Room()
			}
		}
	}
}
