package pool

import (
	"context"
	"fmt"

	"gokd/model/mem"
	"gokd/model/pool/heap"
)

// HeapSite is where in a segment heap an address lies.
type HeapSite struct {
	Area heap.Area
	// Of a slot of a low-fragmentation subsegment:
	Slot     int    // its number, from 0; -1 elsewhere
	SlotSize uint64 // bytes
	Chunk    mem.VA // the chunk header before a block of a variable-size subsegment
}

// locateHeap looks the address up in the segment heaps.
func (p *Pool) locateHeap(ctx context.Context, l *Location) error {
	return fmt.Errorf("%#x: small blocks of segment-heap pools are %w", uint64(l.At), ErrNotWalked)
}

// locateSpecial looks the address up in special pool.
func (p *Pool) locateSpecial(ctx context.Context, l *Location) (bool, error) { return false, nil }

// doubleFrees looks for blocks of the page that the kernel's lists hold as free
// while their headers say otherwise, or that stand on more than one list.
func (p *Pool) doubleFrees(ctx context.Context, l *Location) []Damage { return nil }
