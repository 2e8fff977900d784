package pool_test

import (
	"cmp"
	"encoding/binary"
	"slices"
	"testing"

	"gokd/model"
	"gokd/model/mem"
	"gokd/model/pool"
)

// The naive walker is a second reader of pools, written apart from the first from
// the same public facts: slow, with a read for everything it looks at. What both
// find must agree. It knows the form of _POOL_HEADER and of page-table entries by
// heart and takes the rest from the layouts.
type naive struct {
	t     *testing.T
	k     *model.Kernel
	space *mem.Space // of the kernel, or of a process of a session

	blocks  []naiveBlock
	waiting map[mem.VA]bool // addresses on lists of freed blocks
	large   []span          // pages of large allocations
	huge    map[mem.VA]bool // starts of large allocations
	broken  map[mem.VA]bool // pages that make no sense
	areas   []span          // subsegments
}

// span is a range of addresses; gone: its content was given up.
type span struct {
	first, last mem.VA
	gone        bool
}

// naiveBlock is one block as both readers have it. A free piece of a heap has no
// header: its word is not compared.
type naiveBlock struct {
	header mem.VA
	room   uint64
	word   uint64
	state  pool.State
	kind   pool.Kind
}

func newNaive(t *testing.T, k *model.Kernel) *naive {
	t.Helper()
	n := &naive{t: t, k: k, space: k.Space, waiting: map[mem.VA]bool{}, huge: map[mem.VA]bool{}, broken: map[mem.VA]bool{}}
	n.readLarge(mem.VA(n.u64(n.global("PoolBigPageTable"))), n.u64(n.global("PoolBigPageTableSize")))
	return n
}

// u64 reads a quantity; 0 where it can't be read.
func (n *naive) u64(at mem.VA) uint64 {
	v, _ := n.space.Uint64(at)
	return v
}

func (n *naive) offset(typ string, path ...string) mem.VA {
	n.t.Helper()
	off, err := model.OffsetOf(n.k.Types, typ, path...)
	if err != nil {
		n.t.Fatal(err)
	}
	return mem.VA(off)
}

func (n *naive) size(typ string) mem.VA {
	n.t.Helper()
	t, err := n.k.Types.Type(typ)
	if err != nil {
		n.t.Fatal(err)
	}
	return mem.VA(t.Size)
}

func (n *naive) global(name string) mem.VA {
	n.t.Helper()
	at, err := n.k.Global(name)
	if err != nil {
		n.t.Fatal(err)
	}
	return at
}

// readLarge reads a table of large allocations.
func (n *naive) readLarge(table mem.VA, count uint64) {
	stride, bytes := n.size("_POOL_TRACKER_BIG_PAGES"), n.offset("_POOL_TRACKER_BIG_PAGES", "NumberOfBytes")
	for i := range mem.VA(min(count, 1<<20)) {
		va, size := n.u64(table+i*stride), n.u64(table+i*stride+bytes)
		if va&1 != 0 || va == 0 || size == 0 {
			continue
		}
		n.huge[mem.VA(va)] = true
		n.large = append(n.large, span{first: mem.VA(va), last: mem.VA(va + (size+0xfff)&^0xfff - 1)})
	}
	slices.SortFunc(n.large, func(a, b span) int { return cmp.Compare(a.first, b.first) })
}

// inLarge reports whether a page belongs to a large allocation.
func (n *naive) inLarge(page mem.VA) bool {
	for _, s := range n.large {
		if page >= s.first && page <= s.last {
			return true
		}
	}
	return false
}

// list follows a singly linked list and notes its entries.
func (n *naive) list(head mem.VA) {
	at := mem.VA(n.u64(head+8) &^ 15)
	for range n.u64(head) & 0xffff {
		if at == 0 || n.waiting[at] {
			return
		}
		n.waiting[at] = true
		at = mem.VA(n.u64(at))
	}
}

// lookasides notes the blocks on every processor's lists.
func (n *naive) lookasides() {
	stride := n.size("_GENERAL_LOOKASIDE_POOL")
	for _, c := range n.k.Processors {
		for _, name := range []string{"PPNPagedLookasideList", "PPNxPagedLookasideList", "PPPagedLookasideList"} {
			off, err := model.OffsetOf(n.k.Types, "_KPRCB", name)
			if err != nil {
				continue
			}
			for i := range mem.VA(32) {
				n.list(c.PRCB + mem.VA(off) + i*stride)
			}
		}
	}
}

// pending notes the blocks whose free was deferred.
func (n *naive) pending() {
	off, size := n.offset("_POOL_DESCRIPTOR", "PendingFrees"), n.size("_POOL_DESCRIPTOR")
	var heads []mem.VA
	if at, err := n.k.Global("NonPagedPoolDescriptor"); err == nil {
		heads = append(heads, at)
		if n.k.Build >= 9600 {
			heads = append(heads, at+size)
		}
	}
	if at, err := n.k.Global("ExpPagedPoolDescriptor"); err == nil {
		more, _ := n.k.Global32("ExpNumberOfPagedPools")
		for i := range mem.VA(min(more, 15) + 1) {
			heads = append(heads, mem.VA(n.u64(at+8*i)))
		}
	}
	for _, head := range heads {
		at := mem.VA(n.u64(head + off))
		for at != 0 && !n.waiting[at] {
			n.waiting[at] = true
			at = mem.VA(n.u64(at))
		}
	}
}

// walkTables visits every page that the page tables map in a range, by reading
// each level's entries one by one.
func (n *naive) walkTables(first, last mem.VA, visit func(page mem.VA)) {
	n.level(n.space.Root(), 39, 0xffff<<48, first, last, visit)
}

func (n *naive) level(table mem.PA, shift uint, base, first, last mem.VA, visit func(mem.VA)) {
	for i := range mem.VA(512) {
		if shift == 39 && i < 256 {
			continue
		}
		va, size := base+i<<shift, mem.VA(1)<<shift
		if va > last || va+(size-1) < first {
			continue
		}
		var e [8]byte
		if _, err := n.k.Source.Physical.ReadPhysical(e[:], table+mem.PA(8*i)); err != nil {
			continue
		}
		v := binary.LittleEndian.Uint64(e[:])
		next := mem.PA(v & 0x000ffffffffff000)
		switch {
		case v == 0 || shift == 39 && next == table:
		case shift > 12 && v&1 != 0 && v&0x80 == 0:
			n.level(next, shift-9, va, first, last, visit)
		case shift > 12 && v&1 == 0: // a table that is not in memory
		default:
			for page := va; page-va < size; page += 0x1000 {
				if page >= first&^0xfff && page <= last {
					visit(page)
				}
			}
		}
	}
}

// pages reads the page pool of a range.
func (n *naive) pages(kind pool.Kind, first, last mem.VA) {
	n.walkTables(first, last, func(page mem.VA) {
		if !n.inLarge(page) {
			n.page(kind, page)
		}
	})
}

// page reads one page of small blocks; one whose chain does not end with the
// page is none, or broken.
func (n *naive) page(kind pool.Kind, page mem.VA) {
	var found []naiveBlock
	previous := uint64(0)
	n.broken[page] = true
	for at := page; at < page+0x1000; {
		word, err := n.space.Uint64(at)
		size := word >> 16 & 0xff * 16
		if err != nil || word&0xff*16 != previous || size == 0 || uint64(at-page)+size > 0x1000 {
			return
		}
		b := naiveBlock{at, size, word, pool.Allocated, kind}
		switch {
		case word>>24&0xff == 0:
			b.state = pool.Free
		case n.waiting[at+16]:
			b.state = pool.Cached
		}
		found = append(found, b)
		previous = size
		at += mem.VA(size)
	}
	n.broken[page] = false
	n.blocks = append(n.blocks, found...)
}
