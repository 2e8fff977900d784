package pool

import (
	"context"

	"gokd/model/pool/heap"
)

// walks is what walks of small blocks share.
type walks struct {
	heaps    *heap.Heaps // once opened
	heapsErr error
	kept     map[Kind]*Index // of walks that came to their end
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
