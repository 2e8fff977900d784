package heaptest

import (
	"encoding/binary"

	"gokd/model/mem"
	"gokd/model/modeltest"
)

// tableSizes are the entries of the tables.
type tableSizes struct{ trackers, big uint64 }

// Big makes an allocation of whole pages without a header: of page pool pages of
// its own; of a heap a range of units, or beyond that a large allocation. The
// big-page table lists it.
func (b *Builder) Big(a Ask) *Block {
	b.t.Helper()
	if a.Pool == Session {
		return b.session().Alloc(a)
	}
	if b.SegmentHeaps() {
		return b.Heap(a.Pool, a.Node).big(a)
	}
	size := pagesOf(a.Bytes)
	at := b.areas[a.Pool].take(size, mem.PageSize)
	for p := at; p < at+mem.VA(size); p += mem.PageSize {
		b.M.Put(p, 0x20) // no page of blocks starts so
	}
	return b.add(&Block{Ask: a, Header: at, Body: at, Size: a.Bytes, Room: size, Place: InTable})
}

func pagesOf(bytes uint64) uint64 { return (bytes + mem.PageSize - 1) &^ (mem.PageSize - 1) }

// freeBig frees an allocation of whole pages: the pages go, the entry of the
// table stays with its address marked.
func (b *Builder) freeBig(k *Block) {
	for p := k.Header; p < k.Header+mem.VA(k.Room); p += mem.PageSize {
		if !b.inLarge(p) {
			b.M.Unmap(p)
		}
	}
}

// BigSlots sets the entries of the big-page table, a power of two.
func (b *Builder) BigSlots(n uint64) { b.sizes.big = n }

// hashPage gives the slot at which the search for an address starts (ReactOS
// expool.c): the bytes of its page number XORed.
func hashPage(at mem.VA, slots uint64) uint64 {
	p := uint32(at >> 12)
	return uint64(p>>24^p>>16^p>>8^p) & 0xffffffff & (slots - 1)
}

// bigType gives PoolType of an entry: _POOL_TYPE of the WDK, with the bit of
// memory that is not executed.
func bigType(p Pool) uint32 {
	switch p {
	case NonpagedNx:
		return 0x200
	case Paged:
		return 1
	case Session:
		return 0x21
	}
	return 0
}

// writeBig writes the machine's table of large allocations, with slots as the
// kernel's hash gives them.
func (b *Builder) writeBig() {
	stride := b.size("_POOL_TRACKER_BIG_PAGES")
	n := b.sizes.big
	table := b.areas[Nonpaged].take(n*stride, mem.PageSize)
	var list []*Block
	for _, k := range b.blocks {
		if k.Large() && k.Pool != Session {
			list = append(list, k)
		}
	}
	b.bigAt = table
	b.bigTable(b.M, table, n, list)
	b.M.SetGlobal("PoolBigPageTable", uint64(table))
	b.M.SetGlobal("PoolBigPageTableSize", n)
}

// bigTable writes a table: a free slot that was never used holds 1.
func (b *Builder) bigTable(m setter, table mem.VA, n uint64, list []*Block) {
	b.t.Helper()
	const typ = "_POOL_TRACKER_BIG_PAGES"
	stride := b.size(typ)
	if uint64(len(list)) >= n {
		b.t.Fatalf("heaptest: %d large allocations do not fit a table of %d", len(list), n)
	}
	for i := range n {
		m.Put64(table+mem.VA(i*stride), 1)
		for off := uint64(8); off < stride; off += 8 {
			m.Put64(table+mem.VA(i*stride+off), 0)
		}
	}
	used := map[uint64]bool{}
	for _, k := range list {
		slot := hashPage(k.Body, n)
		for used[slot] {
			slot = (slot + 1) % n
		}
		used[slot] = true
		e := table + mem.VA(slot*stride)
		va := uint64(k.Body)
		if k.State == Free {
			va |= 1
		}
		m.Set(e, va, typ, "Va")
		m.Set(e, uint64(tagBits(k.Tag, k.Protected)), typ, "Key")
		m.Set(e, uint64(bigType(k.Pool)), typ, "PoolType")
		m.Set(e, k.Size, typ, "NumberOfBytes")
		if k.Owner != 0 && b.M.Has(typ, "ProcessBilled") {
			m.Set(e, uint64(k.Owner), typ, "ProcessBilled")
		}
	}
}

// setter is a machine or one of its address spaces.
type setter interface {
	putter
	Put64(mem.VA, uint64)
	Set(at mem.VA, v uint64, typ string, path ...string)
}

// list is a singly linked list: the address of its _SLIST_HEADER and its entries.
func (b *Builder) push(m *modeltest.Machine, head, entry mem.VA) {
	b.lists[listKey{m, head}] = append(b.lists[listKey{m, head}], entry)
}

// listKey is the head of a list and the address space in which it lies.
type listKey struct {
	m  *modeltest.Machine
	at mem.VA
}

// writeLists writes the heads and links (winnt.h, SLIST_HEADER of x64): depth in
// the lowest 16 bits, the first entry's address in the second word.
func (b *Builder) writeLists() {
	for key, entries := range b.lists {
		m, head := key.m, key.at
		m.Put64(head, uint64(len(entries))|uint64(len(entries))<<16)
		m.Put64(head+8, uint64(entries[0])|1)
		for i, at := range entries {
			next := uint64(0)
			if i+1 < len(entries) {
				next = uint64(entries[i+1])
			}
			var link [8]byte
			binary.LittleEndian.PutUint64(link[:], next)
			m.Put(at, link[:]...)
		}
	}
}
