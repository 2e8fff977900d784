// Package pool reads the kernel's pools out of a dump: how much each tag holds
// (the tracker tables), which large allocations there are (the big-page table),
// and every small block of the page pools.
//
// It knows the structures _POOL_TRACKER_TABLE, _POOL_TRACKER_BIG_PAGES and
// _POOL_HEADER, whose fields it takes from the kernel's layouts, and the ranges
// of virtual memory that the pools occupy. It knows no command and prints
// nothing. From build 18362 on small blocks live in segment heaps, which it
// does not walk; Summary.Covers says so.
//
// Public sources: the type tables of the public symbol files, the documentation
// of !poolused and !poolfind, ReactOS expool.c for the meaning of the fields,
// Volatility 3 (extensions/pool.py), Rekall (plugins/windows/pool.py) and
// MemProcFS (vmmwinpool.c) for how the pools are found in dumps.
package pool

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"sync"
	"sync/atomic"

	"gokd/model"
	"gokd/model/mem"
)

// Kind names one of the pools.
type Kind uint8

// The pools.
const (
	Nonpaged Kind = iota
	Paged
	Special
	Session
)

var kindNames = [...]string{"nonpaged", "paged", "special", "session"}

// String gives the kind in lower case, as records spell it.
func (k Kind) String() string {
	if int(k) < len(kindNames) {
		return kindNames[k]
	}
	return "unknown"
}

// State tells whether a block is in use.
type State uint8

// The states of a block. Cached is a block that was freed and waits on a
// lookaside list for its next use: its header still looks allocated.
const (
	Allocated State = iota
	Free
	Cached
)

var stateNames = [...]string{"allocated", "free", "cached"}

// String gives the state as records spell it.
func (s State) String() string {
	if int(s) < len(stateNames) {
		return stateNames[s]
	}
	return "unknown"
}

// HeaderSize is the size of a _POOL_HEADER on x64, and the unit in which its
// sizes count.
const HeaderSize = 0x10

// Place tells in which structure a block was found.
type Place uint8

// The places of blocks.
const (
	InPage    Place = iota // a page of the page pools (up to build 17763)
	InTable                // the table of large allocations
	InVS                   // a variable-size subsegment of a segment heap
	InLFH                  // a slot of a low-fragmentation subsegment
	InRange                // whole units of a heap's segment
	InSpecial              // a page of special pool
)

// Block is one allocation, or one free piece between allocations.
type Block struct {
	Header       mem.VA // of the _POOL_HEADER; of a large allocation its first byte
	Body         mem.VA // what the allocating code got
	Size         uint64 // bytes; with the header for a small block
	Room         uint64 // bytes set aside for it, from Header on; 0 where not told
	Billed       uint64 // ProcessBilled as stored; see Pool.Owner
	Heap         mem.VA // the _SEGMENT_HEAP it lies in; 0 where in none
	PreviousSize uint32 // bytes of the block before it in its page; 0 for the first
	Tag          Tag    // of a free block: of its last use
	Type         uint16 // PoolType as stored
	Index        uint8  // PoolIndex as stored
	Kind         Kind
	State        State
	Place        Place
	Protected    bool // the tag had bit 31 set: it must be named to free the block
	Large        bool // whole pages, without a header
}

// End is the address after the block's last byte. In special pool the header
// is not beside the block, and Size is what was asked for.
func (b Block) End() mem.VA {
	if b.Place == InSpecial {
		return b.Body + mem.VA(b.Size)
	}
	return b.Header + mem.VA(b.Size)
}

// Errors of this package.
var (
	// ErrNotPool says that an address lies in no allocation.
	ErrNotPool = errors.New("not in the pool")
	// ErrNotWalked says that a part of the pool is not read by this program.
	ErrNotWalked = errors.New("not walked")
	// ErrLimit says that a table or range is larger than any real one.
	ErrLimit = errors.New("larger than any real one")
)

// MissingError says that a structure is not in the dump at all.
type MissingError struct {
	What string // "pool tracker table"
	Err  error  // why
}

func (e *MissingError) Error() string {
	return fmt.Sprintf("the %s is not in this dump: %v", e.What, e.Err)
}

// Unwrap gives the reason.
func (e *MissingError) Unwrap() error { return e.Err }

// PartError says that a part of a table could not be read; the rest counts.
type PartError struct {
	What    string // "pool tracker table"
	At      mem.VA // of the table
	Entries uint64 // that could not be read
	Err     error  // the first reason
}

func (e *PartError) Error() string {
	return fmt.Sprintf("%s at %#x: %d entries cannot be read: %v", e.What, uint64(e.At), e.Entries, e.Err)
}

// Unwrap gives the reason.
func (e *PartError) Unwrap() error { return e.Err }

// PageError says where the headers of a page stop making sense. The blocks
// before that place are good, those after it are lost.
type PageError struct {
	Page   mem.VA
	At     mem.VA // the header that is wrong
	Blocks int    // before it in the page
	Why    string
}

func (e *PageError) Error() string {
	return fmt.Sprintf("_POOL_HEADER at %#x: %s; %d blocks before it in the page", uint64(e.At), e.Why, e.Blocks)
}

// Pool is what is known of a kernel's pools. Its methods are safe for
// concurrent use. Tables and ranges are read when first needed and kept.
type Pool struct {
	k      *model.Kernel
	layout layout

	mu     sync.Mutex
	walks  walks
	big    *bigTable
	ranges map[Kind][]Range
	quota  *quota
	cached map[mem.VA]bool // bodies of blocks on lookaside lists and lists of deferred frees
	free   *FreeLists
	sess   *sessionSet

	listsLost atomic.Uint64 // entries of lookaside lists that could not be followed
}

// Open prepares the pools of a kernel. It fails where there are no layouts of
// this build or where they are not those of an x64 kernel.
func Open(k *model.Kernel) (*Pool, error) {
	l, err := newLayout(k)
	if err != nil {
		return nil, err
	}
	return &Pool{k: k, layout: l, ranges: map[Kind][]Range{}}, nil
}

// PagePool reports whether small blocks live in pages of their own with a chain
// of headers (up to build 17763), which is what the walk understands; later
// builds have segment heaps. The layouts tell: _POOL_DESCRIPTOR lost its free
// lists with the change.
func (p *Pool) PagePool() bool { return p.layout.pagePool }

// Usages yields how much each tag holds, by tag, after one error for each table
// of which a part could not be read. See Pool.Usages.
func Usages(ctx context.Context, k *model.Kernel) iter.Seq2[Usage, error] {
	return func(yield func(Usage, error) bool) {
		p, err := Open(k)
		if err != nil {
			yield(Usage{}, err)
			return
		}
		p.Usages(ctx)(yield)
	}
}

// Blocks yields the allocations and free blocks of one pool whose tag matches:
// large allocations first, then small blocks, each by address. See Pool.Find
// for a walk that tells how much it covered.
func Blocks(ctx context.Context, k *model.Kernel, kind Kind, pattern Pattern) iter.Seq2[Block, error] {
	return func(yield func(Block, error) bool) {
		p, err := Open(k)
		if err != nil {
			yield(Block{}, err)
			return
		}
		w, err := p.Find(ctx, Query{Kind: kind, Pattern: pattern})
		if err != nil {
			yield(Block{}, err)
			return
		}
		w.Blocks(ctx)(yield)
	}
}

// BlockAt finds the allocation or free block that holds an address. See
// Pool.BlockAt, which keeps the tables between calls.
func BlockAt(ctx context.Context, k *model.Kernel, at mem.VA) (Block, error) {
	p, err := Open(k)
	if err != nil {
		return Block{}, err
	}
	return p.BlockAt(ctx, at)
}
