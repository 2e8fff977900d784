// Package heaptest builds pools for tests: page pools as builds up to 17763 have
// them and segment heaps as later ones do, in the memory of a machine of
// modeltest, together with the truth of what lies where.
//
// It is written from the public facts about these structures alone and shares no
// code and no constant with the readers that it tests. Fields lie where the
// embedded layouts have them.
//
//	b := heaptest.New(t, types.Embedded(19041)[0])
//	leak := b.Alloc(heaptest.Ask{Pool: heaptest.NonpagedNx, Tag: "Leak", Bytes: 100})
//	b.Alloc(heaptest.Ask{Pool: heaptest.Paged, Tag: "CM25", Bytes: 0x5000}) // a large one
//	b.Cache(b.Alloc(heaptest.Ask{Pool: heaptest.Paged, Tag: "Look", Bytes: 0x300}))
//	b.Free(b.Alloc(heaptest.Ask{Pool: heaptest.NonpagedNx, Tag: "Gone", Bytes: 32}))
//	k := b.Open()
//	// ... ask k, and compare with b.Blocks(), b.Totals(), leak.Header ...
//
// Alloc chooses the place that the family would: a page of blocks, a slot, a
// chunk, a range of units, a large allocation. Who wants a certain place asks
// Builder.Page, or Heap.VS, Heap.LFH, Heap.Range, Heap.Large and Heap.Segment of
// Builder.Heap; Builder.Session and Builder.Special make the pools of sessions and
// special pool. A block is given back by Free, or lands on a list by Cache
// (lookaside), Pend (deferred free of page pools) and Delay (delayed free of
// heaps). Fill makes a realistic mix from a seed, Lose takes pages out of the
// dump, and Corruptions lists what can be broken, with what a reader has to say of
// it and how far the harm reaches.
//
// The machine itself is Builder.M. Processes (charged by Ask.Owner) and processors
// are added before the first block; M.Real before all else gives it the identity
// of a known kernel, so that M.Dump, after Open, is a file that the program opens;
// M.Alias maps a page at many addresses, for large pools at no cost. Builder.Set
// gives a variable of the kernel another value than it would have.
//
// What is not public is not built: special pool of segment heaps but for the
// heaps themselves, and the order in which real heaps hand out slots. That the
// lists of freed blocks link the blocks' bodies is inferred; that LFH offsets are
// hidden in one of two ways is told differently by different sources, see
// Builder.ShortPages.
package heaptest

import (
	"cmp"
	"slices"
	"testing"

	"gokd/model/mem"
	"gokd/model/modeltest"
	"gokd/model/types"
)

// Pool names a pool.
type Pool uint8

// The pools.
const (
	Nonpaged Pool = iota // executable
	NonpagedNx
	Paged
	PagedOther      // the second paged heap of a node
	Session         // paged pool of a session
	SpecialNonpaged // pages of special pool, or the special heaps
	SpecialPaged
)

// Paged reports whether the pool's memory may be paged out.
func (p Pool) Paged() bool { return p == Paged || p == PagedOther || p == Session || p == SpecialPaged }

// State tells whether a block is in use.
type State uint8

// The states. Cached: freed, and waiting on a list with a header that looks
// allocated.
const (
	Allocated State = iota
	Free
	Cached
)

// Place tells in which structure a block lies.
type Place uint8

// The places.
const (
	InPage Place = iota
	InTable
	InVS
	InLFH
	InRange
	InSpecial
)

// Ask is what the code that allocates asks for.
type Ask struct {
	Pool      Pool
	Tag       string // four characters; others are filled up with spaces
	Bytes     uint64
	Owner     mem.VA // the process charged; 0: none
	Protected bool   // the tag must be named to free the block
	Aligned   bool   // to a cache line
	Node      int    // of segment heaps: NUMA node
}

// Block is the truth of one allocation or free piece.
type Block struct {
	Ask
	Header mem.VA // of its _POOL_HEADER; of one without, its first byte
	Body   mem.VA // what the caller got
	Inner  mem.VA // of an aligned block in a chunk: its second header, in front of Body; 0: none
	Size   uint64 // as its header or the table says: with the header of a small block
	Room   uint64 // from Header to the end of what was set aside
	Type   uint8  // PoolType as stored; 0 for large ones
	State  State
	Place  Place
	Heap   mem.VA // the _SEGMENT_HEAP it lies in
	Within uint32 // number of the session, for Session

	gone     bool   // joined with a free neighbour, or the slot was given out anew
	freed    bool   // by Free, so that the trackers count it
	previous uint64 // bytes of the block before it in its page
	chunk    mem.VA // its _HEAP_VS_CHUNK_HEADER
	home     any    // *PagePool, *VS, *LFH: what keeps account of it
	slot     int
}

// Large reports whether the block has no header and stands in the big-page table.
func (b *Block) Large() bool { return b.Place == InTable || b.Place == InRange }

// Builder makes a pool.
type Builder struct {
	M *modeltest.Machine

	Processes []mem.VA // those that Fill charges; none: System

	HeapKey, LfhKey uint64 // of segment heaps
	Cookie          uint64 // of the processes charged, from 9600 on
	LargePages      bool   // nonpaged page pool lies in 2 MB pages
	Decommit        bool   // free pages of a heap's chunks have no memory
	// ShortPages hides the slots of LFH subsegments by the page number of the
	// address's lower half, as MemProcFS reads them before build 26100; else by the
	// lower half of the page number.
	ShortPages bool

	t           testing.TB
	l           *types.Layout
	build       uint32
	blocks      []*Block
	areas       map[Pool]*area
	pages       map[Pool]*PageOf // the one being filled
	heaps       map[heapKey]*Heap
	order       []*Heap
	lists       map[listKey][]mem.VA // heads of singly linked lists and their entries
	large       []mem.VA             // 2 MB pages of page pool
	pending     map[Pool][]mem.VA    // bodies of deferred frees
	descriptors map[Pool]mem.VA
	opened      bool
	prcbs       []mem.VA
	turn        int // whose lookaside list is next
	processors  int // behind the first
	sizes       tableSizes
	sess        []*SessionPool
	nodes       int               // pool nodes in use
	bigAt       mem.VA            // the table of large allocations
	stateAt     mem.VA            // ExPoolState
	extra       map[string]uint64 // variables that were set by hand
}

// New starts the pool of a machine of a layout.
func New(t testing.TB, l *types.Layout) *Builder {
	t.Helper()
	b := &Builder{
		M: modeltest.New(t, l), t: t, l: l, build: l.Origin().Build,
		HeapKey: 0x06bf0c72a0c1b484, LfhKey: 0x956d562fe226ecb4, Cookie: 0x3996eed28ffb414b,
		pages: map[Pool]*PageOf{}, heaps: map[heapKey]*Heap{}, lists: map[listKey][]mem.VA{}, extra: map[string]uint64{}, pending: map[Pool][]mem.VA{},
		sizes: tableSizes{trackers: 65, big: 4096},
	}
	b.areas = b.places()
	b.prcbs = []mem.VA{b.M.PRCB()}
	return b
}

// SegmentHeaps reports whether the family keeps its pools in segment heaps.
func (b *Builder) SegmentHeaps() bool { return b.build >= 18362 }

// Set gives a variable of the kernel a value of its own when the machine opens.
func (b *Builder) Set(variable string, v uint64) { b.extra[variable] = v }

// Alloc allocates a block where the family would put it.
func (b *Builder) Alloc(a Ask) *Block {
	b.t.Helper()
	switch {
	case a.Pool == Session:
		return b.session().Alloc(a)
	case a.Bytes > largestSmall:
		return b.Big(a)
	case b.SegmentHeaps():
		return b.Heap(a.Pool, a.Node).alloc(a)
	}
	return b.page(a).Alloc(a)
}

// Blocks gives every block with a header, allocated or not, and every large
// one, by address.
func (b *Builder) Blocks() []*Block {
	all := slices.DeleteFunc(slices.Clone(b.blocks), func(k *Block) bool { return k.gone })
	slices.SortFunc(all, func(x, y *Block) int { return cmp.Compare(x.Header, y.Header) })
	return all
}

// Open writes the tables and opens the machine. Bytes may be changed by M.Put
// afterwards.
func (b *Builder) Open(options ...modeltest.Option) *modeltest.Kernel {
	b.t.Helper()
	b.finish()
	return b.M.OpenPaged(nil, options...)
}

// finish writes all that is known only when the last block is there.
func (b *Builder) finish() {
	if b.opened {
		b.t.Fatal("heaptest: the machine is open already")
	}
	b.opened = true
	b.closePages()
	b.closeHeaps()
	b.closeSessions()
	b.writeDescriptors()
	b.writeBig()
	b.writeTrackers()
	b.writeLists()
	b.writeRanges()
	if b.build != 7601 {
		b.M.SetGlobal("ExpPoolQuotaCookie", b.Cookie)
	}
	for name, v := range b.extra {
		b.M.SetGlobal(name, v)
	}
}

// session gives the session that was started last, and starts one where none was.
func (b *Builder) session() *SessionPool {
	if len(b.sess) == 0 {
		b.Session(1)
	}
	return b.sess[len(b.sess)-1]
}

func (b *Builder) add(k *Block) *Block {
	b.blocks = append(b.blocks, k)
	return k
}

// tagBits gives the tag as a header stores it.
func tagBits(tag string, protected bool) uint32 {
	t := [4]byte{' ', ' ', ' ', ' '}
	copy(t[:], tag)
	v := uint32(t[0]) | uint32(t[1])<<8 | uint32(t[2])<<16 | uint32(t[3])<<24
	if protected {
		v |= 0x80000000
	}
	return v
}
