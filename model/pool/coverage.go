package pool

// Coverage accounts for every byte that a walk of small blocks looked at.
// Nothing is counted twice and nothing is lost silently:
// Walked = Allocated + Cached + Free + Large + Overhead + Other + Damaged + Missing.
type Coverage struct {
	Walked    uint64 // bytes of pool that the page tables or the heaps' segments give
	Allocated uint64 // blocks in use, with their headers and the slack behind them
	Cached    uint64 // freed blocks that wait on a list, such as a lookaside list
	Free      uint64
	Large     uint64 // pages of large allocations, which the big-page table tells of
	Overhead  uint64 // headers and bitmaps of heaps, gaps between slots
	Other     uint64 // pages in a pool's range that hold no blocks
	Damaged   uint64 // behind a header that makes no sense
	Missing   uint64 // not in the dump
}

// Sum adds up the parts; it equals Walked.
func (c Coverage) Sum() uint64 {
	return c.Allocated + c.Cached + c.Free + c.Large + c.Overhead + c.Other + c.Damaged + c.Missing
}

// Complete reports whether nothing was damaged or missing, so that counts are
// counts and not floors.
func (c Coverage) Complete() bool { return c.Damaged == 0 && c.Missing == 0 }

// Add adds another account.
func (c *Coverage) Add(d Coverage) {
	c.Walked += d.Walked
	c.Allocated += d.Allocated
	c.Cached += d.Cached
	c.Free += d.Free
	c.Large += d.Large
	c.Overhead += d.Overhead
	c.Other += d.Other
	c.Damaged += d.Damaged
	c.Missing += d.Missing
}
