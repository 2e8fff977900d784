// Package heap reads the segment heaps in which Windows keeps its pools from
// build 18362 on: which heaps there are, of what their segments consist, and
// which blocks lie in them.
//
// It knows the structures _EX_POOL_HEAP_MANAGER_STATE, _SEGMENT_HEAP,
// _HEAP_PAGE_SEGMENT, _HEAP_VS_SUBSEGMENT and _HEAP_LFH_SUBSEGMENT, whose fields
// it takes from the kernel's layouts. It knows no tags and no commands; the
// pool package asks it for areas and decodes them in parallel.
//
// Public sources: the type tables of the public symbol files; MemProcFS
// (vmm/vmmwinpool.c) for keys, signatures and the meaning of range flags; the
// published research on the segment heap and its use as the kernel's pool.
// README.md has them fact by fact, what decides where they differ, on what each
// was verified, and what is not read.
package heap

import (
	"errors"
	"fmt"

	"gokd/model/mem"
)

// Role tells what a heap serves: the place it has in its pool node.
type Role uint8

// The roles of heaps. A node's fourth heap holds paged pool too, for what is
// not public.
const (
	Nonpaged Role = iota // executable
	NonpagedNx
	Paged
	PagedOther
	Special // of SpecialHeaps
	Session // of one session
)

var roleNames = [...]string{"NonPaged", "NonPagedNx", "Paged", "Paged (second)", "Special", "Session"}

// String names the role as the pool types of the documentation are named.
func (r Role) String() string {
	if int(r) < len(roleNames) {
		return roleNames[r]
	}
	return "unknown"
}

// Heap is one _SEGMENT_HEAP.
type Heap struct {
	At        mem.VA
	Role      Role
	Node      int    // NUMA node; of a special heap its index
	Session   uint32 // number of the session where Private
	Private   bool   // of one session: Role Session, or Special for its special pool
	IsPaged   bool
	Space     *mem.Space // in which it is mapped
	Reserved  uint64     // pages of large allocations that are reserved, as the heap counts them
	Committed uint64     // pages of large allocations that are committed

	contexts [contexts]segContext
	cached   *[]mem.VA // what waits on lists in its space, sorted; nil: nothing
}

// AreaKind tells how a range of a segment is used.
type AreaKind uint8

// The uses of a range. Headers are the segment's own descriptors.
const (
	AreaHeaders AreaKind = iota
	AreaFree
	AreaVS    // a subsegment of blocks of any size
	AreaLFH   // a subsegment of slots of one size
	AreaPages // one allocation of whole units; the big-page table lists it too
	AreaOdd   // its descriptor makes no sense
	AreaLost  // its descriptor is not in the dump
)

var areaNames = [...]string{"descriptors", "free", "VS subsegment", "LFH subsegment", "page range", "damaged range", "range without its descriptor"}

// String names the use.
func (k AreaKind) String() string {
	if int(k) < len(areaNames) {
		return areaNames[k]
	}
	return "unknown"
}

// Area is a range of units of a segment that is used as one.
type Area struct {
	Heap    *Heap
	Segment mem.VA // the _HEAP_PAGE_SEGMENT it belongs to
	At      mem.VA
	Size    uint64 // bytes
	Unused  uint64 // bytes at its end that were not asked for, of AreaPages
	Kind    AreaKind
}

// Tally is what Decode found in an area, in bytes. Their sum is the area's size:
// nothing is lost silently.
type Tally struct {
	Allocated uint64 // blocks in use, with their headers and the slack behind them
	Cached    uint64
	Free      uint64
	Large     uint64 // chunks of allocations without a _POOL_HEADER; the big-page table lists them
	Overhead  uint64 // headers of the subsegment, bitmaps, gaps between slots
	Damaged   uint64 // behind a header that makes no sense
	Missing   uint64 // in pages that are not in the dump or were never committed
	Blocks    uint64 // cells that were found, of every state
	Errs      []error
}

// ErrRefused says that this build's heaps are not read: that they differ from
// those that are known, or that what would prove them is missing.
var ErrRefused = errors.New("segment heaps of this kernel are not read")

// DamageError says where a structure of a heap stops making sense.
type DamageError struct {
	What string // "_HEAP_VS_CHUNK_HEADER"
	At   mem.VA
	Area mem.VA // the subsegment or segment it lies in
	Why  string
}

func (e *DamageError) Error() string {
	return fmt.Sprintf("%s at %#x: %s; in the area at %#x", e.What, uint64(e.At), e.Why, uint64(e.Area))
}
