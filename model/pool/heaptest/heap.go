package heaptest

import (
	"gokd/model/mem"
	"gokd/model/modeltest"
)

// heapKey tells heaps apart: the pools of each NUMA node.
type heapKey struct {
	pool Pool
	node int
}

// Heap is a _SEGMENT_HEAP.
type Heap struct {
	At   mem.VA
	Pool Pool
	Node int

	b        *Builder
	m        *modeltest.Machine // the address space in which it is mapped
	session  *SessionPool       // whose heap it is; nil: the machine's
	area     *area
	meta     *area         // from which it takes memory for what tells of its blocks
	segments [2][]*Segment // by context: small units, large ones
	vs       []*VS
	lfh      []*LFH
	large    []*Block
	current  *VS
	slots    map[uint64]*LFH // the open subsegment of a block size
	counts   map[uint64]int  // requests of a size
}

// Numbers of segment heaps that are not fields: signatures and keys (MemProcFS
// vmm/vmmwinpool.c; published research on the segment heap).
const (
	heapSignature    = 0xddeeddee
	segmentKey       = 0xa2e64eada2e64ead
	rangeSignature   = 0xccddccdd
	subsegmentKey    = 0x2bed
	rangePages       = 0x3
	rangeLFH         = 0xb
	rangeVS          = 0xf
	rangeFirst       = 0x2 // bit of the first descriptor of a range in use
	smallSegment     = 1 << 20
	largeSegment     = 16 << 20
	largestVS        = 0x20000 // bytes; more takes units of a segment
	largestInSegment = 0x7f0000
	largestLFH       = 0x1f0
)

// nodesMost is how many pool nodes _EX_POOL_HEAP_MANAGER_STATE has place for.
const nodesMost = 64

// Heap gives the heap of a pool on a node, which is made when first asked for.
func (b *Builder) Heap(p Pool, node int) *Heap {
	b.t.Helper()
	key := heapKey{p, node}
	if h := b.heaps[key]; h != nil {
		return h
	}
	if !b.SegmentHeaps() || node < 0 || node >= nodesMost {
		b.t.Fatalf("heaptest: build %d has no segment heap of node %d", b.build, node)
	}
	h := b.newHeap(p, node, b.M, b.areas[p], b.areas[NonpagedNx])
	b.heaps[key] = h
	state := b.state()
	nodes, _ := b.M.Field("_EX_POOL_HEAP_MANAGER_STATE", "PoolNode")
	stride := b.size("_EX_HEAP_POOL_NODE")
	roles := map[Pool]int{Nonpaged: 0, NonpagedNx: 1, Paged: 2, PagedOther: 3}
	role, ok := roles[p]
	switch {
	case ok:
		at := state + mem.VA(nodes) + mem.VA(uint64(node)*stride)
		b.M.Put64(at+mem.VA(8*role), uint64(h.At))
		b.nodes = max(b.nodes, node+1)
		b.M.Set(state, uint64(b.nodes), "_EX_POOL_HEAP_MANAGER_STATE", "NumberOfPools")
	case p == SpecialNonpaged || p == SpecialPaged:
		off, _ := b.M.Field("_EX_POOL_HEAP_MANAGER_STATE", "SpecialHeaps")
		// The places are those of a node's heaps.
		b.M.Put64(state+mem.VA(off)+mem.VA(8*(p-SpecialNonpaged+1)), uint64(h.At))
	default:
		b.t.Fatalf("heaptest: pool %d has no segment heap", p)
	}
	return h
}

// newHeap makes the heap's own structure, which lies in memory of another area
// than its blocks.
func (b *Builder) newHeap(p Pool, node int, m *modeltest.Machine, blocks, meta *area) *Heap {
	h := &Heap{b: b, m: m, Pool: p, Node: node, area: blocks, meta: meta, slots: map[uint64]*LFH{}, counts: map[uint64]int{}}
	size := pagesOf(b.size("_SEGMENT_HEAP"))
	h.At = meta.take(size, mem.PageSize)
	m.Put(h.At, make([]byte, size)...)
	m.Set(h.At, heapSignature, "_SEGMENT_HEAP", "Signature")
	vs, lfh := h.field("VsContext"), h.field("LfhContext")
	for i := range 2 {
		c := h.context(i)
		unitShift, mask, first := uint64(12), uint64(smallSegment-1), uint64(2)
		if i == 1 {
			unitShift, mask, first = 16, largeSegment-1, 1
		}
		m.Set(c, ^mask, "_HEAP_SEG_CONTEXT", "SegmentMask")
		m.Set(c, unitShift, "_HEAP_SEG_CONTEXT", "UnitShift")
		m.Set(c, unitShift-12, "_HEAP_SEG_CONTEXT", "PagesPerUnitShift")
		m.Set(c, first, "_HEAP_SEG_CONTEXT", "FirstDescriptorIndex")
		m.Set(c, map[int]uint64{0: 0x7f000, 1: largestInSegment}[i], "_HEAP_SEG_CONTEXT", "MaxAllocationSize")
		m.Set(c, uint64(lfh), "_HEAP_SEG_CONTEXT", "LfhContext")
		m.Set(c, uint64(vs), "_HEAP_SEG_CONTEXT", "VsContext")
		m.Set(c, uint64(h.At), "_HEAP_SEG_CONTEXT", "Heap")
	}
	b.order = append(b.order, h)
	return h
}

// field gives the address of a member of the heap.
func (h *Heap) field(name string) mem.VA {
	off, _ := h.b.M.Field("_SEGMENT_HEAP", name)
	return h.At + mem.VA(off)
}

// context gives the address of a _HEAP_SEG_CONTEXT: 0 of small units, 1 of large.
func (h *Heap) context(i int) mem.VA {
	return h.field("SegContexts") + mem.VA(uint64(i)*h.b.size("_HEAP_SEG_CONTEXT"))
}

// state gives the pool manager's state, with the keys.
func (b *Builder) state() mem.VA {
	if at, ok := b.stateAt, b.stateAt != 0; ok {
		return at
	}
	keys := b.M.Global("RtlpHpHeapGlobals", int(b.size("_RTLP_HP_HEAP_GLOBALS")))
	b.M.Set(keys, b.HeapKey, "_RTLP_HP_HEAP_GLOBALS", "HeapKey")
	b.M.Set(keys, b.LfhKey, "_RTLP_HP_HEAP_GLOBALS", "LfhKey")
	b.stateAt = b.M.Global("ExPoolState", int(b.size("_EX_POOL_HEAP_MANAGER_STATE")))
	b.M.Set(b.stateAt, uint64(keys), "_EX_POOL_HEAP_MANAGER_STATE", "HeapManager", "Globals")
	return b.stateAt
}

// alloc puts a block where the heap would: requests of one size become slots
// when there were enough of them, others become chunks.
func (h *Heap) alloc(a Ask) *Block {
	size := sizeOf(a.Bytes)
	h.counts[size]++
	if size <= largestLFH && h.counts[size] > 17 && !a.Aligned {
		l := h.slots[size]
		if l == nil || l.Full() {
			l = h.LFH(size, 8)
			h.slots[size] = l
		}
		return l.Alloc(a)
	}
	if h.current == nil || !h.current.fits(a) {
		h.current = h.VS(16)
	}
	return h.current.Alloc(a)
}

// big puts an allocation without a header where the heap would: into a chunk
// that starts a page, into units of a segment, or beside all segments.
func (h *Heap) big(a Ask) *Block {
	switch {
	case a.Bytes < 0xe000 && a.Bytes%mem.PageSize != 0:
		if h.current == nil || !h.current.fitsLarge(a) {
			h.current = h.VS(16)
		}
		return h.current.Large(a)
	case a.Bytes <= largestInSegment:
		return h.Range(a)
	}
	return h.Large(a)
}

// closeHeaps ends subsegments and segments and links them.
func (b *Builder) closeHeaps() {
	for _, h := range b.order {
		var list []mem.VA
		vs := h.field("VsContext")
		off, _ := b.M.Field("_HEAP_VS_CONTEXT", "SubsegmentList")
		list = append(list, vs+mem.VA(off))
		for _, s := range h.vs {
			s.close()
			list = append(list, s.At)
		}
		h.m.Link(list...)
		h.closeTree()
		h.closeBuckets()
		h.closeLarge()
		for i := range h.segments {
			head, _ := b.M.Field("_HEAP_SEG_CONTEXT", "SegmentListHead")
			ring := []mem.VA{h.context(i) + mem.VA(head)}
			for _, s := range h.segments[i] {
				s.close()
				ring = append(ring, s.At)
			}
			h.m.Link(ring...)
			h.m.Set(h.context(i), uint64(len(h.segments[i])), "_HEAP_SEG_CONTEXT", "SegmentCount")
		}
	}
}
