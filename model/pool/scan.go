package pool

import (
	"cmp"
	"context"
	"fmt"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"

	"gokd/model/mem"
)

const (
	// runPages is how many pages are looked up and sliced at once.
	runPages = 64
	// windowPages is how many pages are decoded before their blocks are handed
	// out in order. It bounds the memory of a walk (a million blocks at the very
	// most, some ten thousand in practice) and lets reads go in file order.
	windowPages = 4096
	// maxWindowErrors bounds the broken pages that are told one by one; the
	// summary counts them all.
	maxWindowErrors = 1024
	maxWorkers      = 64
)

// run is up to runPages pages that follow each other in virtual and physical
// memory, and what was found in them.
type run struct {
	va    mem.VA
	pa    mem.PA
	off   int64 // in the file, where it is known
	pages int

	worker                int
	from, to              int // of the worker's blocks
	firstError, lastError int // of the worker's errors
}

// window is a batch of runs, in order of address.
type window struct {
	runs    []run
	order   []int32 // indexes of runs in the order they are read
	pages   int
	workers []*worker
	next    atomic.Int64 // of order
	done    sync.WaitGroup
}

// worker is what one goroutine needs to decode its share of a window, and what
// it found.
type worker struct {
	decoder
	number int
	scan   *scanner
	blocks []Block
	errs   []error
	count  Summary
	failed error // of the visitor
	panic  any   // what a panic of the visitor carried
	buf    [pageSize]byte
}

// guarder is implemented by physical memory whose slices can fault, such as a
// mapped file that shrinks: Guard runs f and turns a fault into an error.
type guarder interface{ Guard(f func() error) error }

// scanner walks the pages of ranges: the page tables give the pages in order of
// address, workers decode a window of them in order of the file, and the window
// is handed out in order of address again while the next one is decoded.
type scanner struct {
	ctx     context.Context
	phys    mem.Physical
	slicer  mem.Slicer    // nil: pages are copied
	offsets mem.Offsetter // nil: pages are read in order of address
	guard   func(func() error) error
	tell    func(pages uint64)
	visit   func(worker int, page []Block) error // nil: blocks are kept for drain

	fill, busy *window
	drain      func(*window) bool // false: the consumer has enough
	bounds     Range
	skip       []span // large allocations not yet behind the walk
	limit      uint64 // pages that may still be visited
	stop       atomic.Bool
	seen       uint64 // pages handed to workers
	sum        Summary
}

func (p *Pool) newScanner(ctx context.Context, q Query) *scanner {
	phys := p.k.Space.Physical()
	s := &scanner{ctx: ctx, phys: phys, tell: q.Progress}
	s.slicer, _ = phys.(mem.Slicer)
	s.offsets, _ = phys.(mem.Offsetter)
	s.guard = func(f func() error) error { return f() }
	if g, ok := phys.(guarder); ok {
		s.guard = g.Guard
	}
	n := q.Workers
	if n <= 0 {
		n = runtime.GOMAXPROCS(0)
	}
	d := newDecoder(q.Pattern, q.Kind, p.cachedBlocks(ctx))
	s.fill, s.busy = s.newWindow(d, min(n, maxWorkers)), s.newWindow(d, min(n, maxWorkers))
	// Pool pages are backed by memory or by a page file; a range with very many
	// more is a page table that maps itself over and over.
	s.limit = 1 << 20
	for r := range phys.Runs() {
		s.limit += 64 * (r.Size / pageSize)
	}
	return s
}

func (s *scanner) newWindow(d decoder, workers int) *window {
	w := &window{}
	for i := range workers {
		w.workers = append(w.workers, &worker{decoder: d, number: i, scan: s})
	}
	return w
}

// walk decodes the pages of a range. The error is ctx's, the visitor's, or
// says that the page tables are endless.
func (s *scanner) walk(ctx context.Context, r Range, skip []span) error {
	s.bounds, s.skip = r, skip
	defer func() { s.stop.Store(true); s.busy.done.Wait() }()
	more := true
	err := r.space.Leaves(ctx, r.Start, r.Last, func(l mem.Leaf) bool {
		more = s.leaf(l)
		return more
	})
	// The last window is decoded, then handed out.
	for range 2 {
		more = more && err == nil && s.flush()
	}
	// A walk that ends early leaves a window at work. What a visitor has seen of
	// it counts.
	if !more {
		s.stop.Store(true)
	}
	s.busy.done.Wait()
	if s.visit != nil {
		s.settle(s.busy)
	}
	if err == nil {
		err = s.failure()
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
		case !s.large(l.VA):
			s.sum.PagesMissing++
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
			continue
		}
		s.fill.add(va, l.PA+mem.PA(off))
		if s.fill.pages >= windowPages && !s.flush() {
			return false
		}
	}
	return true
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

// add appends a page, to the last run where it follows it.
func (w *window) add(va mem.VA, pa mem.PA) {
	w.pages++
	if n := len(w.runs); n > 0 {
		last := &w.runs[n-1]
		size := uint64(last.pages) * pageSize
		if last.pages < runPages && last.va+mem.VA(size) == va && last.pa+mem.PA(size) == pa {
			last.pages++
			return
		}
	}
	w.runs = append(w.runs, run{va: va, pa: pa, pages: 1})
}

// flush starts the decoding of the window that was filled and hands out the
// one before it meanwhile. It reports false where the walk is to end.
func (s *scanner) flush() bool {
	s.busy.done.Wait()
	if !s.settle(s.busy) || s.ctx.Err() != nil {
		return false
	}
	s.start(s.fill)
	ok := s.drain(s.busy)
	s.busy.reset()
	s.fill, s.busy = s.busy, s.fill
	if s.tell != nil {
		s.tell(s.seen)
	}
	return ok
}

// settle adds up what the workers of a window counted.
func (s *scanner) settle(w *window) bool {
	ok := true
	for _, k := range w.workers {
		s.sum.add(k.count)
		k.count = Summary{}
		if k.panic != nil {
			panic(k.panic) // it was the visitor's; the goroutine that called sees it
		}
		ok = ok && k.failed == nil
	}
	return ok
}

// failure gives the first error of a visitor.
func (s *scanner) failure() error {
	for _, w := range []*window{s.busy, s.fill} {
		for _, k := range w.workers {
			if k.failed != nil {
				return k.failed
			}
		}
	}
	return nil
}

func (w *window) reset() {
	w.runs, w.order, w.pages = w.runs[:0], w.order[:0], 0
	w.next.Store(0)
	for _, k := range w.workers {
		k.blocks, k.errs = k.blocks[:0], k.errs[:0]
	}
}

// start lets the workers loose on a window.
func (s *scanner) start(w *window) {
	s.seen += uint64(w.pages)
	ascending := true
	for i := range w.runs {
		w.order = append(w.order, int32(i))
		if s.offsets == nil {
			continue
		}
		w.runs[i].off, _ = s.offsets.FileOffset(w.runs[i].pa)
		ascending = ascending && (i == 0 || w.runs[i].off >= w.runs[i-1].off)
	}
	if !ascending {
		slices.SortFunc(w.order, func(a, b int32) int { return cmp.Compare(w.runs[a].off, w.runs[b].off) })
	}
	for _, k := range w.workers[:min(len(w.workers), len(w.runs))] {
		w.done.Add(1)
		go k.work(w)
	}
}

// work decodes runs until none is left.
func (k *worker) work(w *window) {
	defer w.done.Done()
	defer func() {
		if r := recover(); r != nil {
			k.panic = r
			k.scan.stop.Store(true)
		}
	}()
	for !k.scan.stop.Load() {
		i := w.next.Add(1) - 1
		if i >= int64(len(w.order)) {
			return
		}
		r := &w.runs[w.order[i]]
		r.worker, r.from, r.firstError = k.number, len(k.blocks), len(k.errs)
		before := k.count
		if err := k.scan.guard(func() error { return k.run(r) }); err != nil {
			// The file is not what it was: of these pages nothing counts.
			k.blocks, k.count = k.blocks[:r.from], before
			k.count.PagesMissing += uint64(r.pages)
			k.note(fmt.Errorf("pages at %#x: %w", uint64(r.va), err))
		}
		r.to, r.lastError = len(k.blocks), len(k.errs)
		if k.failed != nil {
			k.scan.stop.Store(true)
		}
	}
}

func (k *worker) note(err error) {
	if len(k.errs) < maxWindowErrors {
		k.errs = append(k.errs, err)
	}
}

// run decodes the pages of a run, from the memory map where there is one.
func (k *worker) run(r *run) error {
	var all []byte
	if k.scan.slicer != nil {
		all, _ = k.scan.slicer.SlicePhysical(r.pa, r.pages*pageSize)
	}
	for i := range r.pages {
		at := uint64(i) * pageSize
		page := k.fetch(all, at, r.pa+mem.PA(at))
		if page == nil {
			k.count.PagesMissing++
			continue
		}
		if k.failed = k.decode(page, r.va+mem.VA(at)); k.failed != nil {
			return nil
		}
	}
	return nil
}

// fetch gives a page of a run: of the slice that holds them all, of a slice of
// its own, or as a copy. nil: it is not in the dump.
func (k *worker) fetch(all []byte, at uint64, pa mem.PA) *[pageSize]byte {
	if uint64(len(all)) >= at+pageSize {
		return (*[pageSize]byte)(all[at:])
	}
	if k.scan.slicer != nil {
		if one, ok := k.scan.slicer.SlicePhysical(pa, pageSize); ok {
			return (*[pageSize]byte)(one)
		}
	}
	if _, err := k.scan.phys.ReadPhysical(k.buf[:], pa); err != nil {
		return nil
	}
	return &k.buf
}

// decode takes the blocks of one page. The error is the visitor's.
func (k *worker) decode(page *[pageSize]byte, va mem.VA) error {
	from := len(k.blocks)
	blocks, state, chain, stop, why := k.page(k.blocks, page, va)
	k.blocks = blocks
	switch state {
	case pageOther:
		k.count.PagesOther++
		return nil
	case pageBroken:
		k.count.PagesBroken++
		k.note(pageError(page, va, chain, stop, why))
	}
	k.count.PagesScanned++
	k.count.Blocks += uint64(chain)
	k.count.Matches += uint64(len(k.blocks) - from)
	if k.scan.visit == nil {
		return nil
	}
	found := k.blocks[from:]
	k.blocks = k.blocks[:from]
	return k.scan.visit(k.number, found)
}
