package pool_test

import (
	"cmp"
	"slices"

	"gokd/model/mem"
	"gokd/model/pool"
)

// heapKinds are the places of heaps in a pool node.
var heapKinds = [4]pool.Kind{pool.Nonpaged, pool.Nonpaged, pool.Paged, pool.Paged}

// heaps reads every segment heap of the pool nodes.
func (n *naive) heaps() {
	state := n.global("ExPoolState")
	heapKey, lfhKey := n.keys()
	nodes, stride := state+n.offset("_EX_POOL_HEAP_MANAGER_STATE", "PoolNode"), n.size("_EX_HEAP_POOL_NODE")
	count, _ := n.space.Uint32(state + n.offset("_EX_POOL_HEAP_MANAGER_STATE", "NumberOfPools"))
	for i := range mem.VA(min(count, 64)) {
		node := nodes + i*stride
		for j := range mem.VA(2) {
			n.dynamic(node + n.offset("_EX_HEAP_POOL_NODE", "Lookasides") + j*n.size("_RTL_DYNAMIC_LOOKASIDE"))
		}
		for j := range mem.VA(4) {
			if at := mem.VA(n.u64(node + 8*j)); at != 0 && at&0xfff == 0 {
				n.heap(at, heapKinds[j], heapKey, lfhKey)
			}
		}
	}
}

// keys gives what hides the structures of heaps.
func (n *naive) keys() (heapKey, lfhKey uint64) {
	at := mem.VA(n.u64(n.global("ExPoolState")))
	if at == 0 { // in some dumps the state does not lead to them
		at = n.global("RtlpHpHeapGlobals")
	}
	return n.u64(at), n.u64(at + 8)
}

// session reads the pool of a session through the page tables of a process of
// it: pages in a range, or the heap that the session's state names behind a
// manager and a handle of 16 bytes.
func (n *naive) session(at mem.VA, pages bool) {
	field := func(name string) uint64 { return n.u64(at + n.offset("_MM_SESSION_SPACE", name)) }
	n.readLarge(mem.VA(field("PoolTrackBigPages")), field("PoolTrackBigPagesSize"))
	if pages {
		n.pages(pool.Session, mem.VA(field("PagedPoolStart")), mem.VA(field("PagedPoolEnd")))
		return
	}
	heapKey, lfhKey := n.keys()
	state := mem.VA(field("HeapState"))
	n.heap(mem.VA(n.u64(state+n.size("_RTLP_HP_HEAP_MANAGER")+0x10)), pool.Session, heapKey, lfhKey)
}

// dynamic notes what the 64 lists of a dynamic lookaside hold.
func (n *naive) dynamic(at mem.VA) {
	for i := range mem.VA(64) {
		n.list(at + n.offset("_RTL_DYNAMIC_LOOKASIDE", "Buckets") + i*n.size("_RTL_LOOKASIDE"))
	}
}

func (n *naive) heap(at mem.VA, kind pool.Kind, heapKey, lfhKey uint64) {
	if v, _ := n.space.Uint32(at + n.offset("_SEGMENT_HEAP", "Signature")); v != 0xddeeddee {
		n.broken[at] = true
		return
	}
	n.list(at + n.offset("_SEGMENT_HEAP", "VsContext") + n.offset("_HEAP_VS_CONTEXT", "DelayFreeContext"))
	for i := range mem.VA(2) {
		context := at + n.offset("_SEGMENT_HEAP", "SegContexts") + i*n.size("_HEAP_SEG_CONTEXT")
		shift, _ := n.space.Uint8(context + n.offset("_HEAP_SEG_CONTEXT", "UnitShift"))
		first, _ := n.space.Uint8(context + n.offset("_HEAP_SEG_CONTEXT", "FirstDescriptorIndex"))
		head := context + n.offset("_HEAP_SEG_CONTEXT", "SegmentListHead")
		for s, seen := mem.VA(n.u64(head)), map[mem.VA]bool{}; s != head && s != 0 && !seen[s]; s = mem.VA(n.u64(s)) {
			seen[s] = true
			if n.u64(s+0x10)^uint64(s)^heapKey^0xa2e64eada2e64ead != uint64(context) {
				n.broken[s] = true
				break
			}
			n.segment(s, kind, uint(shift), mem.VA(first), heapKey, lfhKey)
		}
	}
}

func (n *naive) segment(s mem.VA, kind pool.Kind, shift uint, first mem.VA, heapKey, lfhKey uint64) {
	for i := first; i < 256; {
		d := s + i*0x20
		flags, _ := n.space.Uint8(d + 0x18)
		units, _ := n.space.Uint8(d + 0x1f)
		at, size := s+i<<shift, uint64(units)<<shift
		ok := true
		switch flags {
		case 0xf:
			ok = n.present(at, size) && n.chunks(at, size, kind, heapKey)
		case 0xb:
			ok = n.present(at, size) && n.slots(at, size, kind, lfhKey)
		}
		n.areas = append(n.areas, span{at, at + mem.VA(size) - 1, !ok})
		i += max(mem.VA(units), 1)
	}
}

// present reports whether all of a subsegment can be read.
func (n *naive) present(at mem.VA, size uint64) bool {
	for page := at; page < at+mem.VA(size); page += 0x1000 {
		if _, err := n.space.Uint8(page); err != nil {
			return false
		}
	}
	return true
}

// chunks reads a subsegment of chunks of any size.
func (n *naive) chunks(area mem.VA, size uint64, kind pool.Kind, heapKey uint64) bool {
	for off := uint64(0x30); off < size; {
		at := area + mem.VA(off)
		raw, err := n.space.Uint64(at)
		word := raw ^ uint64(at) ^ heapKey
		bytes := word >> 16 & 0xffff * 16
		if err != nil || bytes < 0x20 || off+bytes > size {
			return false
		}
		b := naiveBlock{header: at + 16, room: bytes - 16, kind: kind}
		switch {
		case word>>48&1 == 0:
			b.state = pool.Free
			n.blocks = append(n.blocks, b)
		case b.header&0xfff == 0 && b.room >= 0xfe0 && n.huge[b.header]:
			// without a header: the table of large allocations has it
		default:
			n.chunk(b)
		}
		off += bytes
	}
	return true
}

// chunk notes a block in a chunk that is in use. One that would cross a page
// while it is smaller has its header at the start of the next page, unless there
// is one at its own start.
func (n *naive) chunk(b naiveBlock) {
	end := b.header + mem.VA(b.room)
	b.word = n.u64(b.header)
	if next := (b.header + 0xfff) &^ 0xfff; !headerFits(b.word, b.room) && next > b.header && next < end {
		if word := n.u64(next); headerFits(word, uint64(end-next)) {
			b.header, b.room, b.word = next, uint64(end-next), word
		}
	}
	for at := b.header; at < end; at += 16 {
		if n.waiting[at] {
			b.state = pool.Cached
		}
	}
	n.blocks = append(n.blocks, b)
}

// slots reads a subsegment of slots of one size. Those that cross a page are not
// given out, but in the dumps of which each whole subsegment shows it by a header
// in such a slot.
func (n *naive) slots(area mem.VA, size uint64, kind pool.Kind, lfhKey uint64) bool {
	raw, err := n.space.Uint32(area + 0x28)
	if err != nil {
		return false
	}
	v := raw ^ uint32(lfhKey) ^ uint32(area>>12)
	bytes, first := uint64(v&0xffff), uint64(v>>16)
	if bytes < 0x10 || bytes%16 != 0 || bytes > 0x1000 || first < 0x30 || first > size {
		v = raw ^ uint32(lfhKey) ^ uint32(area)>>12
		bytes, first = uint64(v&0xffff), uint64(v>>16)
	}
	if bytes < 0x10 || first > size {
		return false
	}
	count, _ := n.space.Uint16(area + 0x22)
	var found []naiveBlock
	across := false
	for i := uint64(0); i < uint64(count) && first+(i+1)*bytes <= size; i++ {
		off := first + i*bytes
		bits, _ := n.space.Uint8(area + mem.VA(0x30+i/4))
		b := naiveBlock{header: area + mem.VA(off), room: bytes, kind: kind, state: pool.Free}
		if bits>>(i%4*2)&1 == 1 { // the other bit tells of unused bytes
			b.state, b.word = pool.Allocated, n.u64(area+mem.VA(off))
			across = across || off&0xfff+bytes > 0x1000 && headerFits(b.word, bytes)
		}
		found = append(found, b)
	}
	for _, b := range found {
		if across || uint64(b.header)&0xfff+bytes <= 0x1000 {
			n.blocks = append(n.blocks, b)
		}
	}
	return true
}

// headerFits reports whether the first eight bytes of a _POOL_HEADER can be those
// of a block in so much room.
func headerFits(word, room uint64) bool {
	size := word >> 16 & 0xff * 16
	return size > 0 && size <= room && room-size <= 16 && word>>24&0xff != 0
}

// sorted gives what was found, by address.
func (n *naive) sorted() []naiveBlock {
	slices.SortFunc(n.blocks, func(a, b naiveBlock) int { return cmp.Compare(a.header, b.header) })
	return n.blocks
}
