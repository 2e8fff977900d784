package heap

import (
	"slices"

	"gokd/model/mem"
)

// Waits gives the addresses in an area that stand on lists of blocks that were
// freed and wait for their next use or their release, by address. A chunk that
// is free by its header and stands on one was freed twice.
func (h *Heaps) Waits(a *Area) []mem.VA { return slices.Clone(waiting(a)) }
