package pool

import (
	"context"
	"runtime"
	"sync"
	"sync/atomic"

	"gokd/model/pool/cell"
)

// count tells how many cells' tags match. One alternative, which is what most
// questions are, needs no branch.
func (p Pattern) count(cells []cell.Cell) (n int) {
	switch len(p.alts) {
	case 0:
		return len(cells)
	case 1:
		value, mask := p.alts[0].value, p.alts[0].mask
		for i := range cells {
			differs := uint64((cells[i].Tag() ^ value) & mask)
			n += int((differs - 1) >> 63)
		}
		return n
	}
	for i := range cells {
		if p.match(cells[i].Tag()) {
			n++
		}
	}
	return n
}

// fromIndex hands out what is kept of a range. The tags are compared by all
// workers first, so that the parts in which nothing matches cost no more.
func (w *Walk) fromIndex(ctx context.Context, s *section, yield func(Block, error) bool) {
	hits := w.countAll(s)
	sum := s.sum
	for _, n := range hits {
		sum.Matches += uint64(n)
	}
	w.sum.add(sum)
	w.sum.Reached = sum.Reached
	h := handing{w: w, r: s.r, errs: s.errs, check: w.index.loaded, yield: yield}
	for i, p := range s.parts {
		if ctx.Err() != nil {
			w.sum.Interrupted = true
			if len(p.cells) > 0 {
				w.sum.Reached = p.cells[0].Header()
			}
			yield(Block{}, ctx.Err())
			return
		}
		p.hits = hits[i]
		if !h.part(p) {
			return
		}
	}
	h.rest()
}

// countAll tells how many cells of each part match.
func (w *Walk) countAll(s *section) []int {
	hits := make([]int, len(s.parts))
	workers := w.q.Workers
	if workers <= 0 {
		workers = runtime.GOMAXPROCS(0)
	}
	const batch = 16 // parts that a worker takes at once
	var next atomic.Int64
	var done sync.WaitGroup
	for range min(workers, maxWorkers, len(s.parts)/batch+1) {
		done.Go(func() {
			for {
				to := int(next.Add(batch))
				from := to - batch
				if from >= len(s.parts) {
					return
				}
				for i := from; i < min(to, len(s.parts)); i++ {
					hits[i] = w.q.Pattern.count(s.parts[i].cells)
				}
			}
		})
	}
	done.Wait()
	return hits
}
