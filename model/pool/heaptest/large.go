package heaptest

import "gokd/model/mem"

// Large makes an allocation beside all segments, which the tree of the heap's
// metadata and the big-page table tell of.
func (h *Heap) Large(a Ask) *Block {
	size := pagesOf(a.Bytes)
	at := h.area.take(size, 0x10000)
	h.m.Put(at, 0x20)
	for p := at + mem.PageSize; p < at+mem.VA(size); p += mem.PageSize {
		h.m.Alias(p, at) // nobody reads what they hold
	}
	a.Pool, a.Node = h.Pool, h.Node
	k := h.b.add(&Block{Ask: a, Header: at, Body: at, Size: a.Bytes, Room: size, Place: InTable, Heap: h.At, Within: h.within(), home: largeHome{h}})
	h.large = append(h.large, k)
	return k
}

// largeHome takes a large allocation back.
type largeHome struct{ h *Heap }

func (l largeHome) free(k *Block) { l.h.unmap(k) }

// unmap takes the pages of an allocation away.
func (h *Heap) unmap(k *Block) {
	for p := k.Header; p < k.Header+mem.VA(k.Room); p += mem.PageSize {
		h.m.Unmap(p)
	}
}

// within gives the number of the session whose heap it is.
func (h *Heap) within() uint32 {
	if h.session == nil {
		return 0
	}
	return h.session.ID
}

// closeLarge writes the metadata: a tree of _HEAP_LARGE_ALLOC_DATA by address.
func (h *Heap) closeLarge() {
	const typ = "_HEAP_LARGE_ALLOC_DATA"
	var nodes []mem.VA
	pages := uint64(0)
	for _, k := range h.large {
		if k.State == Free {
			continue
		}
		at := h.meta.take(h.b.size(typ), 0x40)
		va := uint64(k.Header)
		if unused := k.Room - k.Size; unused > 0 {
			va |= unused
			h.m.Set(at, 1, typ, "ExtraPresent")
		}
		h.m.Set(at, va, typ, "VirtualAddress")
		h.m.Set(at, k.Room/mem.PageSize, typ, "AllocatedPages")
		nodes = append(nodes, at-8) // the node starts the structure
		pages += k.Room / mem.PageSize
	}
	off := h.field("LargeAllocMetadata")
	h.m.Put64(off, uint64(h.tree(nodes, 0)))
	if len(nodes) > 0 {
		h.m.Put64(off+8, uint64(nodes[0]+8))
	}
	h.m.Set(h.At, pages, "_SEGMENT_HEAP", "LargeReservedPages")
	h.m.Set(h.At, pages, "_SEGMENT_HEAP", "LargeCommittedPages")
}
