package heaptest

import (
	"encoding/binary"

	"gokd/model/mem"
)

// slotHeader is the size of a _HEAP_LFH_SUBSEGMENT up to its bitmap.
const slotHeader = 0x30

// LFH is a _HEAP_LFH_SUBSEGMENT: slots of one size.
type LFH struct {
	At        mem.VA
	Pages     uint64
	BlockSize uint64
	First     uint64 // offset of the first slot
	Count     uint64

	h     *Heap
	bits  []byte
	next  uint64
	slots []*Block
}

// LFH starts a subsegment of slots of a size, over so many pages.
func (h *Heap) LFH(size, pages uint64) *LFH {
	s := h.segment(0, pages)
	l := &LFH{h: h, Pages: pages, BlockSize: size, At: s.units(pages, rangeLFH, 1)}
	bytes := pages * mem.PageSize
	h.m.Put(l.At, make([]byte, bytes)...)
	// Two bits a slot; the slots start behind them.
	most := bytes / size
	l.First = (slotHeader + (most*2+63)/64*8 + unit - 1) / unit * unit
	l.Count = (bytes - l.First) / size
	l.bits = make([]byte, (l.Count*2+63)/64*8)
	l.slots = make([]*Block, l.Count)
	l.Encode(uint16(size), uint16(l.First))
	h.m.Set(l.At, l.Count, "_HEAP_LFH_SUBSEGMENT", "BlockCount")
	for i := range l.Count {
		if l.crosses(i) {
			// A slot that would cross a page is never given out, whatever it says.
			l.set(i, i&1 == 0)
			continue
		}
		at := l.slot(i)
		l.slots[i] = h.b.add(&Block{
			Ask: Ask{Pool: h.Pool, Node: h.Node}, Header: at, Body: at + unit, Room: size,
			State: Free, Place: InLFH, Heap: h.At, Within: h.within(), home: l, slot: int(i),
		})
	}
	l.write()
	h.lfh = append(h.lfh, l)
	return l
}

// Encode writes size and place of the slots, hidden by the key and the address.
func (l *LFH) Encode(size, first uint16) {
	v := uint32(size) | uint32(first)<<16
	page := uint32(l.At >> 12)
	if l.h.b.ShortPages {
		page = uint32(l.At) >> 12
	}
	var b [4]byte
	binary.LittleEndian.PutUint32(b[:], v^uint32(l.h.b.LfhKey)^page)
	off, _ := l.h.b.M.Field("_HEAP_LFH_SUBSEGMENT", "BlockOffsets")
	l.h.m.Put(l.At+mem.VA(off), b[:]...)
}

func (l *LFH) slot(i uint64) mem.VA { return l.At + mem.VA(l.First+i*l.BlockSize) }

// crosses reports whether a slot would cross a page.
func (l *LFH) crosses(i uint64) bool {
	return (l.First+i*l.BlockSize)%mem.PageSize+l.BlockSize > mem.PageSize
}

// set writes a slot's bits: the lower one for a slot in use.
func (l *LFH) set(i uint64, used bool) {
	l.bits[i/4] &^= 3 << (i % 4 * 2)
	if used {
		l.bits[i/4] |= 1 << (i % 4 * 2)
	}
}

// write writes the bitmap.
func (l *LFH) write() {
	off, _ := l.h.b.M.Field("_HEAP_LFH_SUBSEGMENT", "BlockBitmap")
	l.h.m.Put(l.At+mem.VA(off), l.bits...)
}

// Full reports whether no slot is free from the last one given out on.
func (l *LFH) Full() bool {
	for i := l.next; i < l.Count; i++ {
		if !l.crosses(i) {
			return false
		}
	}
	return true
}

// Alloc gives out the next slot.
func (l *LFH) Alloc(a Ask) *Block {
	l.h.b.t.Helper()
	for ; l.next < l.Count && l.crosses(l.next); l.next++ {
	}
	l.next++
	return l.AllocAt(l.next-1, a)
}

// AllocAt gives out a slot.
func (l *LFH) AllocAt(i uint64, a Ask) *Block {
	b := l.h.b
	b.t.Helper()
	size := sizeOf(a.Bytes)
	if i >= l.Count || l.slots[i] == nil || size > l.BlockSize || l.slots[i].State == Allocated {
		b.t.Fatalf("heaptest: slot %d of %#x bytes at %#x can't be given out for %#x", i, l.BlockSize, uint64(l.At), size)
	}
	k := l.slots[i]
	if k.freed {
		// Its first life counts in the trackers: the slot gets a block of its own.
		k.gone = true
		next := *k
		k = b.add(&next)
		k.gone, k.freed = false, false
		l.slots[i] = k
	}
	a.Pool, a.Node = l.h.Pool, l.h.Node
	k.Ask, k.Size, k.Type, k.State = a, size, typeOf(a), Allocated
	b.header(l.h.m, k.Header, 0, size, 0, k.Type, tagBits(a.Tag, a.Protected), b.billed(a, k.Header))
	l.set(i, true)
	if size < l.BlockSize {
		l.bits[i/4] |= 2 << (i % 4 * 2) // the slot has unused bytes (published research)
	}
	l.write()
	return k
}

// free takes a slot back; its header stays.
func (l *LFH) free(k *Block) {
	l.set(uint64(k.slot), false)
	l.write()
}

// closeBuckets links the subsegments to the buckets of their sizes.
func (h *Heap) closeBuckets() {
	b := h.b
	lists := map[uint64][]mem.VA{}
	var sizes []uint64
	for _, l := range h.lfh {
		if lists[l.BlockSize] == nil {
			sizes = append(sizes, l.BlockSize)
		}
		lists[l.BlockSize] = append(lists[l.BlockSize], l.At)
	}
	array, _ := b.M.Field("_HEAP_LFH_CONTEXT", "Buckets")
	for i := range uint64(129) {
		h.m.Put64(h.field("LfhContext")+mem.VA(array)+mem.VA(8*i), 1) // not activated
	}
	for _, size := range sizes {
		at := h.meta.take(b.size("_HEAP_LFH_BUCKET"), 0x40)
		index := min(size/unit, 128)
		h.m.Set(at, 1, "_HEAP_LFH_BUCKET", "State", "IsBucket")
		h.m.Set(at, index, "_HEAP_LFH_BUCKET", "State", "BucketIndex")
		h.m.Put64(h.field("LfhContext")+mem.VA(array)+mem.VA(8*index), uint64(at))
		off, _ := b.M.Field("_HEAP_LFH_BUCKET", "State", "AvailableSubsegmentList")
		h.m.Link(append([]mem.VA{at + mem.VA(off)}, lists[size]...)...)
		for _, l := range lists[size] {
			h.m.Set(l, uint64(at), "_HEAP_LFH_SUBSEGMENT", "Owner")
		}
	}
}
