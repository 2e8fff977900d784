package heaptest

import (
	"gokd/model/mem"
)

// Pend frees a block of a page onto the list of deferred frees of its pool: its
// header keeps looking allocated.
func (b *Builder) Pend(k *Block) {
	b.t.Helper()
	if k.Place != InPage || k.State != Allocated || k.Pool == Session {
		b.t.Fatalf("heaptest: the free of the block at %#x can't be deferred", uint64(k.Header))
	}
	k.State = Cached
	p := b.descriptorOf(k.Pool)
	b.pending[p] = append(b.pending[p], k.Body)
}

// descriptorOf gives the pool whose descriptor counts a block: without the second
// one of nonpaged pool the first counts both kinds.
func (b *Builder) descriptorOf(p Pool) Pool {
	switch {
	case p == PagedOther:
		return Paged
	case p == NonpagedNx && b.build < 9600:
		return Nonpaged
	}
	return p
}

// writeDescriptors writes the _POOL_DESCRIPTORs of page pools: one of nonpaged
// pool, from 8 on a second one behind it for memory that is not executed, and one
// of paged pool, with their free lists, deferred frees and counters.
func (b *Builder) writeDescriptors() {
	const typ = "_POOL_DESCRIPTOR"
	if b.SegmentHeaps() {
		return
	}
	size := int(b.size(typ))
	nonpaged := b.M.Global("NonPagedPoolDescriptor", 2*size)
	paged := b.M.Variable(size)
	at := map[Pool]mem.VA{Nonpaged: nonpaged, Paged: paged}
	if b.build >= 9600 {
		at[NonpagedNx] = nonpaged + mem.VA(size)
	}
	b.descriptors = at
	for p, d := range at {
		b.M.Set(d, uint64(bigType(p)), typ, "PoolType")
		b.M.Set(d, 0, typ, "PoolIndex")
		b.writeFree(p, d)
		b.writeCounts(p, d)
	}
	vector := b.M.Global("PoolVector", 16)
	b.M.Put64(vector, uint64(nonpaged))
	b.M.Put64(vector+8, uint64(paged))
	b.M.SetGlobal("ExpNumberOfPagedPools", 0) // the first is not counted
	b.M.SetGlobal("ExpNumberOfNonPagedPools", 1)
	b.M.Put64(b.M.Global("ExpPagedPoolDescriptor", 17*8), uint64(paged))
	b.M.Put64(b.M.Global("ExpNonPagedPoolDescriptor", 16*8), uint64(nonpaged))
}

// counts reports whether a descriptor counts a block.
func (b *Builder) counts(p Pool, k *Block) bool {
	return b.descriptorOf(k.Pool) == p && (k.Place == InPage || k.Place == InTable)
}

// writeFree writes the free lists, one for each size, and the deferred frees.
func (b *Builder) writeFree(p Pool, d mem.VA) {
	lists, f := b.M.Field("_POOL_DESCRIPTOR", "ListHeads")
	rings := make([][]mem.VA, f.Type.Count)
	for i := range rings {
		rings[i] = []mem.VA{d + mem.VA(lists) + mem.VA(16*i)}
	}
	for _, k := range b.Blocks() {
		if b.counts(p, k) && k.Place == InPage && k.State == Free && k.Size > unit {
			i := k.Size/unit - 1
			rings[i] = append(rings[i], k.Body)
		}
	}
	for _, r := range rings {
		b.M.Link(r...)
	}
	head, _ := b.M.Field("_POOL_DESCRIPTOR", "PendingFrees")
	to := d + mem.VA(head)
	list := b.pending[p]
	for _, body := range list {
		b.M.Put64(to, uint64(body))
		to = body
	}
	b.M.Put64(to, 0)
	b.M.Set(d, uint64(len(list)), "_POOL_DESCRIPTOR", "PendingFreeDepth")
}

// writeCounts writes what the descriptor counts: what is held up to 9600, what
// was ever given out and taken back later.
func (b *Builder) writeCounts(p Pool, d mem.VA) {
	const typ = "_POOL_DESCRIPTOR"
	pages, bytes, big := map[mem.VA]bool{}, uint64(0), uint64(0)
	var live, freed uint64
	for _, k := range b.blocks {
		switch {
		case !b.counts(p, k):
			continue
		case k.Place == InTable && k.State == Allocated:
			big += k.Room / mem.PageSize
		case k.Place == InPage:
			pages[k.Header.Page()] = true
		}
		switch {
		case k.State == Free && !k.freed:
		case k.State == Free:
			freed++
		default:
			live++
			bytes += k.Size
		}
	}
	for name, v := range map[string]uint64{
		"RunningAllocs": live + freed, "RunningDeAllocs": freed, "RunningDeallocs": freed,
		"TotalPages": uint64(len(pages)), "TotalBigPages": big, "TotalBytes": bytes,
		"PagesAllocated": uint64(len(pages)) + 5, "PagesDeallocated": 5,
		"BigPagesAllocated": big + 3, "BigPagesDeallocated": 3,
		"BytesAllocated": bytes + 0x1230, "BytesDeallocated": 0x1230,
	} {
		if b.M.Has(typ, name) {
			b.M.Set(d, v, typ, name)
		}
	}
}
