package heaptest

import "gokd/model/mem"

// Large makes an allocation beside all segments, which the tree of the heap's
// metadata and the big-page table tell of.
func (h *Heap) Large(a Ask) *Block {
	size := pagesOf(a.Bytes)
	at := h.area.take(size, 0x10000)
	h.b.M.Put(at, 0x20)
	for p := at + mem.PageSize; p < at+mem.VA(size); p += mem.PageSize {
		h.b.M.Alias(p, at) // nobody reads what they hold
	}
	a.Pool, a.Node = h.Pool, h.Node
	k := h.b.add(&Block{Ask: a, Header: at, Body: at, Size: a.Bytes, Room: size, Place: InTable, Heap: h.At})
	h.large = append(h.large, k)
	return k
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
		at := h.b.areas[NonpagedNx].take(h.b.size(typ), 0x40)
		va := uint64(k.Header)
		if unused := k.Room - k.Size; unused > 0 {
			va |= unused
			h.b.M.Set(at, 1, typ, "ExtraPresent")
		}
		h.b.M.Set(at, va, typ, "VirtualAddress")
		h.b.M.Set(at, k.Room/mem.PageSize, typ, "AllocatedPages")
		nodes = append(nodes, at-8) // the node starts the structure
		pages += k.Room / mem.PageSize
	}
	off := h.field("LargeAllocMetadata")
	h.b.M.Put64(off, uint64(h.b.tree(nodes, 0)))
	if len(nodes) > 0 {
		h.b.M.Put64(off+8, uint64(nodes[0]+8))
	}
	h.b.M.Set(h.At, pages, "_SEGMENT_HEAP", "LargeReservedPages")
	h.b.M.Set(h.At, pages, "_SEGMENT_HEAP", "LargeCommittedPages")
}
