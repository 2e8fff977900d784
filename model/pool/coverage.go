package pool

import (
	"fmt"
	"strings"
)

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

	// Unknown is the most that page tables which are not in the dump may map. It
	// is no part of Walked: nobody can tell what is there.
	Unknown uint64
}

// Sum adds up the parts; it equals Walked.
func (c Coverage) Sum() uint64 {
	return c.Allocated + c.Cached + c.Free + c.Large + c.Overhead + c.Other + c.Damaged + c.Missing
}

// Complete reports whether nothing was damaged, missing or unknown, so that
// counts are counts and not floors.
func (c Coverage) Complete() bool { return c.Damaged == 0 && c.Missing == 0 && c.Unknown == 0 }

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
	c.Unknown += d.Unknown
}

// Covers says in words what a walk could not see; empty where it saw all there
// is.
func (s Summary) Covers() string {
	var lacks []string
	lack := func(n uint64, one, many string) {
		switch {
		case n == 1:
			lacks = append(lacks, one)
		case n > 1:
			lacks = append(lacks, fmt.Sprintf(many, n))
		}
	}
	lack(s.PagesMissing, "1 page not in the dump", "%d pages not in the dump")
	lack(s.TablesMissing, "1 page table not in the dump", "%d page tables not in the dump")
	lack(s.PagesBroken, "the rest of 1 page behind a header that makes no sense", "the rest of %d pages behind headers that make no sense")
	lack(s.HeapsBroken, "1 part of segment heaps that cannot be read", "%d parts of segment heaps that cannot be read")
	const table = " of the table of large allocations "
	lack(s.LargeMissing, "1 entry"+table+"not in the dump", "%d entries"+table+"not in the dump")
	lack(s.LargeOdd, "1 entry"+table+"that makes no sense", "%d entries"+table+"that make no sense")
	text := ""
	switch {
	case s.SmallUnwalked:
		text = fmt.Sprintf("large allocations; small blocks were not walked: %v", s.Why)
	case s.Interrupted:
		text = fmt.Sprintf("up to %#x, where it was interrupted", uint64(s.Reached))
	}
	if len(lacks) > 0 {
		if text != "" {
			text += "; "
		}
		text += "without " + strings.Join(lacks, ", ")
	}
	if text == "" {
		return ""
	}
	return text + ": counts are floors"
}
