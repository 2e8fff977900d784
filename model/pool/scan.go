package pool

import (
	"cmp"
	"context"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"

	"gokd/model/mem"
	"gokd/model/pool/cell"
	"gokd/model/pool/heap"
)

const (
	// runPages is how many pages of a page pool one worker takes at once.
	runPages = 64
	// windowPages is how many pages are decoded before their blocks are handed
	// out in order. It bounds the memory of a walk that is not kept (a million
	// blocks at the very most, some ten thousand in practice) and lets reads go
	// in file order.
	windowPages = 4096
	maxWorkers  = 64
)

// unit is what one worker decodes in one go: up to runPages pages that follow
// each other in virtual memory, or one area of a segment heap. Units are handed
// out in the order in which the walk came to them.
type unit struct {
	va    mem.VA
	size  uint64     // bytes
	off   int64      // of its first page in the file, where it is known
	pas   int        // index of the first page's address in the window
	area  *heap.Area // nil for pages
	space *mem.Space // of the area
	err   error      // instead of all else: what the walk met here

	worker          int
	from, to        int // of the worker's parts
	firstBad, after int // of the worker's troubles
}

// part is cells that follow each other in walk order and in memory.
type part struct {
	cells []cell.Cell
	area  *heap.Area // nil: of a page pool
	hits  int        // how many of them match
}

// trouble is an error of a walk, and its place.
type trouble struct {
	cells int // of the unit, or of the section, that lie before it
	err   error
}

// window is a batch of units, in walk order.
type window struct {
	units   []unit
	pas     []mem.PA // of the pages of page pools
	order   []int32  // indexes of units in the order they are read
	pages   int
	workers []*worker
	next    atomic.Int64 // of order
	done    sync.WaitGroup
}

// scanner decodes units: the walk gives them in its order, workers decode a
// window of them in order of the file, and the window is handed out in walk
// order again while the next one is decoded.
type scanner struct {
	ctx     context.Context
	p       *Pool
	q       Query
	phys    mem.Physical
	slicer  mem.Slicer    // nil: pages are copied
	offsets mem.Offsetter // nil: units are read in walk order
	guard   func(func() error) error
	heaps   *heap.Heaps        // of a walk of areas
	cached  []mem.VA           // bodies of blocks on lookaside lists, sorted
	drain   func(*window) bool // false: the consumer has enough

	fill, busy *window
	bounds     Range
	skip       []span // large allocations not yet behind the walk
	limit      uint64 // pages that may still be visited
	stop       atomic.Bool
	faulted    atomic.Bool // the file is not what it was
	keep       bool        // cells outlive their window
	seen       uint64      // pages handed to workers
	sum        Summary
}

func (p *Pool) newScanner(ctx context.Context, q Query, r Range) *scanner {
	phys := p.k.Space.Physical()
	s := &scanner{ctx: ctx, p: p, q: q, phys: phys}
	s.guard = func(f func() error) error { return f() }
	if phys != nil {
		s.limit = p.pageLimit()
		s.slicer, _ = phys.(mem.Slicer)
		s.offsets, _ = phys.(mem.Offsetter)
		if g, ok := phys.(mem.Guarder); ok {
			s.guard = g.Guard
		}
	}
	n := q.Workers
	if n <= 0 {
		n = runtime.GOMAXPROCS(0)
	}
	s.fill, s.busy = s.newWindow(min(n, maxWorkers)), s.newWindow(min(n, maxWorkers))
	if p.PagePool() {
		for at := range p.cachedIn(ctx, r) {
			s.cached = append(s.cached, at)
		}
		slices.Sort(s.cached)
	}
	return s
}

func (s *scanner) newWindow(workers int) *window {
	w := &window{}
	for i := range workers {
		w.workers = append(w.workers, newWorker(s, w, i))
	}
	return w
}

// finish decodes and hands out what the windows still hold.
func (s *scanner) finish() {
	if s.flush() { // the last window is decoded
		s.flush() // and handed out
	}
}

// end waits for the workers, whatever became of the walk.
func (s *scanner) end() {
	s.stop.Store(true)
	s.busy.done.Wait()
}

// flush starts the decoding of the window that was filled and hands out the
// one before it meanwhile. It reports false where the walk is to end.
func (s *scanner) flush() bool {
	s.busy.done.Wait()
	s.settle(s.busy)
	if s.ctx.Err() != nil {
		return false
	}
	s.start(s.fill)
	ok := s.drain(s.busy)
	s.busy.reset(s.keep)
	s.fill, s.busy = s.busy, s.fill
	if s.q.Progress != nil {
		s.q.Progress(s.seen)
	}
	return ok
}

// settle adds up what the workers of a window counted.
func (s *scanner) settle(w *window) {
	for _, k := range w.workers {
		s.sum.add(k.count)
		k.count = Summary{}
		if k.panic != nil {
			panic(k.panic) // a bug: the goroutine that called reports it
		}
	}
}

func (w *window) reset(keep bool) {
	w.units, w.pas, w.order, w.pages = w.units[:0], w.pas[:0], w.order[:0], 0
	w.next.Store(0)
	for _, k := range w.workers {
		k.reset(keep)
	}
}

// start lets the workers loose on a window.
func (s *scanner) start(w *window) {
	s.seen += uint64(w.pages)
	ascending := true
	last := int64(0)
	for i := range w.units {
		u := &w.units[i]
		if u.err != nil {
			continue
		}
		w.order = append(w.order, int32(i))
		u.off = s.fileOffset(w, u)
		ascending, last = ascending && u.off >= last, u.off
	}
	if !ascending {
		slices.SortFunc(w.order, func(a, b int32) int { return cmp.Compare(w.units[a].off, w.units[b].off) })
	}
	for _, k := range w.workers[:min(len(w.workers), len(w.order))] {
		w.done.Add(1)
		go k.work()
	}
}

// fileOffset tells where in the file a unit begins.
func (s *scanner) fileOffset(w *window, u *unit) int64 {
	if s.offsets == nil {
		return 0
	}
	var pa mem.PA
	if u.area == nil {
		pa = w.pas[u.pas]
	} else if t, err := u.space.Translate(u.va); err == nil {
		pa = t.PA
	}
	off, _ := s.offsets.FileOffset(pa)
	return off
}

// parts and troubles give what was found in a unit.
func (w *window) parts(u *unit) []part { return w.workers[u.worker].parts[u.from:u.to] }

func (w *window) troubles(u *unit) []trouble {
	return w.workers[u.worker].errs[u.firstBad:u.after]
}
