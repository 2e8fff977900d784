package heap

import (
	"slices"

	"gokd/model/mem"
	"gokd/model/pool/cell"
)

// Decode appends the blocks of a VS or LFH subsegment to dst, by address.
// pages[i] is the area's page i, nil where it is not in the dump. It allocates
// nothing but dst and the errors.
//
// Of a block that is aligned to a cache line and has two headers, the cell has
// the first one; Chunk tells of the second, behind which the body begins. A free
// chunk is a cell whose header is where a _POOL_HEADER would lie. Chunks
// of allocations without such a header, which the big-page table lists, are no
// cells; Tally.Large has their bytes. A chunk or slot that is known to be free
// counts as Free wherever its pages are: free pages are given back. Missing is
// what a header that is not in the dump would have told of. Of areas of another
// kind the whole is Damaged.
func (h *Heaps) Decode(dst []cell.Cell, a *Area, pages []*[mem.PageSize]byte) ([]cell.Cell, Tally) {
	switch {
	case h.lay == nil || a.Size < pageSize:
		return dst, Tally{Damaged: a.Size}
	case a.Kind == AreaVS:
		return h.decodeVS(dst, a, pages)
	case a.Kind == AreaLFH:
		return h.decodeLFH(dst, a, pages)
	}
	return dst, Tally{Damaged: a.Size}
}

// Sum adds up the bytes of the parts.
func (t Tally) Sum() uint64 {
	return t.Allocated + t.Cached + t.Free + t.Large + t.Overhead + t.Damaged + t.Missing
}

// waiting gives the addresses in an area, and behind it, that wait on a list.
func waiting(a *Area) []mem.VA {
	if a.Heap == nil || a.Heap.cached == nil {
		return nil
	}
	all := *a.Heap.cached
	i, _ := slices.BinarySearch(all, a.At)
	j := i
	for j < len(all) && uint64(all[j]-a.At) < a.Size {
		j++
	}
	return all[i:j]
}
