package heaptest

import (
	"bytes"

	"gokd/model/mem"
)

// The corruptions of segment heaps.

func wrongKey(b *Builder) Sign {
	at := b.M.Global("RtlpHpHeapGlobals", 8)
	b.M.Put64(at, b.HeapKey^0x1000)
	s := b.own()[0].segments[0][0]
	told := sign(s.At, 0x2000, "with the wrong key no segment's signature leads to its heap").within(Reach{All: true})
	told.Says = "heap key"
	return told
}

func wrongSlotKey(b *Builder) Sign {
	at := b.M.Global("RtlpHpHeapGlobals", 8)
	b.M.Put64(at+8, b.LfhKey^0x55550000)
	l := b.slotArea()
	return sign(l.At, slotHeader, "with the wrong key no size of slots makes sense").within(Reach{All: true})
}

// slotArea gives a subsegment of slots of which some are used and some not.
func (b *Builder) slotArea() *LFH {
	b.t.Helper()
	for _, h := range b.own() {
		for _, l := range h.lfh {
			if used, free := l.one(true), l.one(false); used != nil && free != nil {
				return l
			}
		}
	}
	b.t.Fatal("heaptest: no subsegment of slots to break")
	return nil
}

// one gives a slot that is used or not.
func (l *LFH) one(used bool) *Block {
	for _, k := range l.slots {
		if k != nil && (k.State == Allocated) == used && (used || !k.freed && !k.gone) {
			return k
		}
	}
	return nil
}

// reach is all of a subsegment.
func (l *LFH) reach() Reach { return reach(l.At, l.Pages*mem.PageSize) }

// chunkPair gives a subsegment and the place of a chunk in use behind another.
func (b *Builder) chunkPair() (v *VS, i int) {
	b.t.Helper()
	for _, h := range b.own() {
		for _, v := range h.vs {
			for i := 2; i < len(v.chunks)-2; i++ {
				if c, before := v.chunks[i], v.chunks[i-1]; c.used && before.used && !c.block.Large() && !before.block.Large() {
					return v, i
				}
			}
		}
	}
	b.t.Fatal("heaptest: no chunk to break")
	return nil, 0
}

// sign is the sign of a chunk that makes no sense.
func (v *VS) sign(i int, why string) Sign {
	return sign(v.At+mem.VA(v.chunks[i].off), chunkHeader+unit, why).within(reach(v.At, v.Size))
}

func overrunChunk(b *Builder) Sign {
	v, i := b.chunkPair()
	b.M.Put(v.At+mem.VA(v.chunks[i].off)-8, bytes.Repeat([]byte{'A'}, 8+chunkHeader+unit)...)
	return v.sign(i, "the chunk's header is what the block before it wrote over its end")
}

func zeroChunk(b *Builder) Sign {
	v, i := b.chunkPair()
	b.Chunk(v, v.At+mem.VA(v.chunks[i].off), 0, v.chunks[i-1].size, true)
	return v.sign(i, "the size of the chunk is zero")
}

func pastSubsegment(b *Builder) Sign {
	v, i := b.chunkPair()
	b.Chunk(v, v.At+mem.VA(v.chunks[i].off), 0xfff00, v.chunks[i-1].size, true)
	return v.sign(i, "the chunk reaches past its subsegment")
}

func wrongChunkPrevious(b *Builder) Sign {
	v, i := b.chunkPair()
	b.Chunk(v, v.At+mem.VA(v.chunks[i].off), v.chunks[i].size, v.chunks[i-1].size+0x30, true)
	return v.sign(i, "the chunk before it has another size")
}

// chunkTwice frees a block of a lookaside list again: its chunk says free.
func chunkTwice(b *Builder) Sign {
	for _, h := range b.own() {
		for _, v := range h.vs {
			for i, c := range v.chunks {
				if c.used && c.block.State == Cached {
					previous := uint64(0)
					if i > 0 {
						previous = v.chunks[i-1].size
					}
					b.Chunk(v, v.At+mem.VA(c.off), c.size, previous, false)
					return v.sign(i, "free, and on a list of kept blocks too").silent()
				}
			}
		}
	}
	b.t.Fatal("heaptest: no kept chunk to break")
	return Sign{}
}

func subsegmentSignature(b *Builder) Sign {
	v, _ := b.chunkPair()
	b.M.Set(v.At, 0x1234, "_HEAP_VS_SUBSEGMENT", "Signature")
	return sign(v.At, firstChunk, "Size and Signature of the subsegment do not agree").within(reach(v.At, v.Size))
}

func bitmapUsed(b *Builder) Sign {
	l := b.slotArea()
	k := l.one(false)
	b.M.Put(k.Header, make([]byte, unit)...)
	l.set(uint64(k.slot), true)
	l.write()
	// A slot that was just given out looks the same.
	return sign(k.Header, l.BlockSize, "used by the bitmap, and without a header").silent().within(reach(k.Header, l.BlockSize))
}

func bitmapFree(b *Builder) Sign {
	l := b.slotArea()
	k := l.one(true)
	l.set(uint64(k.slot), false)
	l.write()
	why := "free by the bitmap; only the counters tell that it is in use"
	return sign(k.Header, l.BlockSize, why).silent().within(reach(k.Header, l.BlockSize))
}

func slotSize(b *Builder) Sign {
	l := b.slotArea()
	l.Encode(0, uint16(l.First))
	return sign(l.At, slotHeader, "slots of no bytes").within(l.reach())
}

func slotCount(b *Builder) Sign {
	l := b.slotArea()
	b.M.Set(l.At, 0xffff, "_HEAP_LFH_SUBSEGMENT", "BlockCount")
	return sign(l.At, slotHeader, "more slots than the subsegment has room for").within(l.reach())
}

// firstSegment gives a heap and its first segment.
func (b *Builder) firstSegment() (h *Heap, s *Segment) { return b.own()[0], b.own()[0].segments[0][0] }

// own gives the heaps that are not of a session.
func (b *Builder) own() (list []*Heap) {
	for _, h := range b.order {
		if h.session == nil {
			list = append(list, h)
		}
	}
	return list
}

func segmentLoop(b *Builder) Sign {
	_, s := b.firstSegment()
	b.M.Put64(s.At, uint64(s.At))
	return sign(s.At, 0x20, "the list of segments leads from the segment to itself")
}

func segmentOutside(b *Builder) Sign {
	_, s := b.firstSegment()
	b.M.Put64(s.At, 0xffffe1234560_0000)
	return Sign{At: s.At, Last: 0xffffe1234560_0fff, Why: "the list of segments leads out of memory"}
}

func segmentSignature(b *Builder) Sign {
	_, s := b.firstSegment()
	b.M.Put64(s.At+0x10, 0x4141414141414141)
	return sign(s.At, 0x20, "the segment's signature does not lead to its heap").within(reach(s.At, smallSegment))
}

func foreignSegment(b *Builder) Sign {
	h, _ := b.firstSegment()
	other := b.own()[1].segments[0][0]
	off, _ := b.M.Field("_HEAP_SEG_CONTEXT", "SegmentListHead")
	b.M.Put64(h.context(0)+mem.VA(off), uint64(other.At))
	return sign(other.At, 0x20, "the segment belongs to another heap")
}

// crossedSegments lets two heaps' lists of segments lead into each other.
func crossedSegments(b *Builder) Sign {
	off, _ := b.M.Field("_HEAP_SEG_CONTEXT", "SegmentListHead")
	heaps := b.own()
	for i, h := range heaps[:2] {
		other := heaps[1-i]
		b.M.Put64(h.context(0)+mem.VA(off), uint64(other.segments[0][0].At))
		b.M.Put64(h.segments[0][len(h.segments[0])-1].At, uint64(other.context(0))+uint64(off))
	}
	// Nothing of either list leads back to its head.
	return sign(heaps[0].segments[0][0].At, 0x20, "the segment stands in another heap's list").within(Reach{All: true})
}

func rangeEmpty(b *Builder) Sign {
	_, s := b.firstSegment()
	d := s.rangeOf(b)
	b.M.Put(d+0x1f, 0)
	return sign(d, 0x20, "the range has no units").within(reach(s.At, smallSegment))
}

// rangeOf gives the descriptor of the first range in use.
func (s *Segment) rangeOf(b *Builder) mem.VA {
	b.t.Helper()
	for i := range uint64(256) {
		if flags := byte(b.get64(s.Descriptor(i) + 0x18)); i >= 2 && flags&rangeFirst != 0 {
			return s.Descriptor(i)
		}
	}
	b.t.Fatal("heaptest: no range to break")
	return 0
}

func rangePast(b *Builder) Sign {
	_, s := b.firstSegment()
	d := s.rangeOf(b)
	b.M.Put(d+0x1f, 0xff)
	return sign(d, 0x20, "the range reaches past its segment").within(reach(s.At, smallSegment))
}

func rangeInside(b *Builder) Sign {
	_, s := b.firstSegment()
	d := s.rangeOf(b)
	b.M.Put(d+0x20, bytes.Repeat([]byte{0xff}, 0x20)...)
	// The range's first one says how long it is.
	return sign(d, 0x40, "a descriptor inside the range is none").silent()
}

func heapSign(b *Builder) Sign {
	h := b.own()[0]
	b.M.Set(h.At, 0xdeadbeef, "_SEGMENT_HEAP", "Signature")
	return sign(h.At, 0x1000, "no heap by its signature").within(Reach{Heap: h.At})
}

// heapTwice lets two places name one heap.
func heapTwice(b *Builder) Sign {
	nodes, _ := b.M.Field("_EX_POOL_HEAP_MANAGER_STATE", "PoolNode")
	at := b.state() + mem.VA(nodes)
	lost := Reach{Heap: mem.VA(b.get64(at + 16)), More: true}
	b.M.Put64(at+16, b.get64(at+8))
	return Sign{At: at + 16, Last: b.own()[0].At + 0xfffff, Silent: true, Lost: lost, Why: "one heap has two places"}
}

func poolCount(b *Builder) Sign {
	at := b.state()
	off, _ := b.M.Field("_EX_POOL_HEAP_MANAGER_STATE", "NumberOfPools")
	b.M.Put(at+mem.VA(off), 0xff, 0xff, 0xff, 0xff)
	return Sign{At: at, Last: at + 0x86940, Lost: Reach{All: true}, Why: "more pool nodes than there is place for"}
}

func unitShift(b *Builder) Sign {
	h := b.own()[0]
	b.M.Set(h.context(0), 63, "_HEAP_SEG_CONTEXT", "UnitShift")
	return sign(h.At, 0x1000, "units of 2^63 bytes").within(Reach{Heap: h.At})
}

// largeNode gives the metadata of a large allocation, which is made if need be.
func (b *Builder) largeNode() mem.VA {
	b.t.Helper()
	for _, h := range b.own() {
		if root := b.get64(h.field("LargeAllocMetadata")); root != 0 {
			return mem.VA(root)
		}
	}
	b.t.Fatal("heaptest: no large allocation to break")
	return 0
}

func largeLoop(b *Builder) Sign {
	node := b.largeNode()
	b.M.Put64(node, uint64(node))
	b.M.Put64(node+8, uint64(node))
	return sign(node, 0x28, "the tree of large allocations leads from a node to itself").silent()
}

func largeHuge(b *Builder) Sign {
	node := b.largeNode()
	b.M.Set(node, 1<<40, "_HEAP_LARGE_ALLOC_DATA", "AllocatedPages")
	return sign(node, 0x28, "2^40 pages are more than the address space has").silent()
}

func dynamicLoop(b *Builder) Sign {
	k := b.victim("kept chunk", func(k *Block) bool { return k.Place == InVS && k.State == Cached })
	b.M.Put64(k.Body, uint64(k.Body))
	for head, list := range b.lists {
		for _, at := range list {
			if at == k.Body {
				b.M.Put(head.at, 0xff, 0xff)
			}
		}
	}
	return sign(k.Header, 2*unit, "the list of kept blocks leads from the block to itself").silent()
}
