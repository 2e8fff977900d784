package heap

import (
	"context"
	"fmt"
	"iter"

	"gokd/model"
	"gokd/model/mem"
	"gokd/model/pool/cell"
)

// Heaps is the pool manager's state: the keys and every heap. Its methods are
// safe for concurrent use.
type Heaps struct {
	HeapKey, LfhKey uint64
	List            []*Heap
	Trouble         []error // heaps that could not be read, in words

	k *model.Kernel
}

// Open finds the heaps of a kernel. ErrRefused where this build's heaps are not
// known or do not prove themselves.
func Open(ctx context.Context, k *model.Kernel) (*Heaps, error) {
	return nil, fmt.Errorf("%w: build %d", ErrRefused, k.Build)
}

// Areas yields the areas of a heap in walk order: both segment contexts, their
// segments as the list has them, each from its start. An error stands for a
// segment or a range that makes no sense; the walk goes on behind it.
func (h *Heaps) Areas(ctx context.Context, of *Heap) iter.Seq2[Area, error] {
	return func(func(Area, error) bool) {}
}

// Decode appends the blocks of a VS or LFH subsegment to dst, by address.
// pages[i] is the area's page i, nil where it is not in the dump. It allocates
// nothing but dst and the errors.
func (h *Heaps) Decode(dst []cell.Cell, a *Area, pages []*[mem.PageSize]byte) ([]cell.Cell, Tally) {
	return dst, Tally{Missing: a.Size}
}

// At finds the area that holds an address.
func (h *Heaps) At(ctx context.Context, at mem.VA) (Area, bool, error) {
	return Area{}, false, ctx.Err()
}

// Large is one allocation of a heap's LargeAllocMetadata.
type Large struct {
	Heap   *Heap
	At     mem.VA
	Pages  uint64
	Unused uint64 // bytes at its end that were not asked for
}

// LargeOf yields the large allocations of a heap, by address.
func (h *Heaps) LargeOf(ctx context.Context, of *Heap) iter.Seq2[Large, error] {
	return func(func(Large, error) bool) {}
}
