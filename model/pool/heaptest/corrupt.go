package heaptest

import (
	"bytes"

	"gokd/model/mem"
)

// Sign is what a reader has to notice of a corruption.
type Sign struct {
	// At is the structure that makes no sense. A reader that walks the pool tells
	// of it, or of the page or area that it lies in.
	At mem.VA
	// Last is the last address whose naming points at the damage too.
	Last mem.VA
	// Silent: walking the blocks need not notice; a check of lists, tables or
	// counters does.
	Silent bool
	Lost   Reach  // blocks that may not be found, or not as they are
	Says   string // words of what a reader says where there is no address to name
	Why    string // what is wrong, in words
}

// Reach is where a corruption does harm: what lies elsewhere is found as it is.
type Reach struct {
	First, Last mem.VA
	Heap        mem.VA // all of a heap
	All         bool
	More        bool // what is no block may be taken for one
}

// Holds reports whether the harm reaches a block.
func (r Reach) Holds(at, heap mem.VA) bool {
	return r.All || at >= r.First && at < r.Last || heap != 0 && heap == r.Heap
}

// page is the page of an address.
func page(at mem.VA) Reach { return Reach{First: at.Page(), Last: at.Page() + mem.PageSize} }

// reach is the harm from an address on.
func reach(at mem.VA, size uint64) Reach { return Reach{First: at, Last: at + mem.VA(size)} }

// within gives a sign with the harm that is done.
func (s Sign) within(r Reach) Sign {
	s.Lost = r
	return s
}

// silent gives a sign that walking the blocks need not notice.
func (s Sign) silent() Sign {
	s.Silent = true
	return s
}

// Corruption breaks one thing of a pool that Fill filled, after Open.
type Corruption struct {
	Name  string
	Pages bool // breaks page pools (up to 17763)
	Heaps bool // breaks segment heaps (from 18362 on)
	Apply func(b *Builder) Sign
}

// Corruptions lists what can be broken. Each needs a machine whose pools Fill
// filled with some hundred pages.
var Corruptions = []Corruption{
	{"overrun", true, false, overrunBlock},
	{"previous size", true, false, wrongPrevious},
	{"block size zero", true, false, zeroSize},
	{"block past the page", true, false, pastPage},
	{"double free", true, false, doubleFree},
	{"lookaside loop", true, false, lookasideLoop},
	{"free list", true, false, freeList},
	{"large allocation of 2^40 bytes", true, true, hugeEntry},
	{"table of 2^40 large allocations", true, true, hugeTable},
	{"table of 2^40 tags", true, true, hugeTrackers},
	{"heap key", false, true, wrongKey},
	{"slot key", false, true, wrongSlotKey},
	{"chunk overrun", false, true, overrunChunk},
	{"chunk size zero", false, true, zeroChunk},
	{"chunk past the subsegment", false, true, pastSubsegment},
	{"chunk's previous size", false, true, wrongChunkPrevious},
	{"chunk freed twice", false, true, chunkTwice},
	{"subsegment signature", false, true, subsegmentSignature},
	{"bitmap says used", false, true, bitmapUsed},
	{"bitmap says free", false, true, bitmapFree},
	{"slot size", false, true, slotSize},
	{"slot count", false, true, slotCount},
	{"segment list loop", false, true, segmentLoop},
	{"segment list outside", false, true, segmentOutside},
	{"segment signature", false, true, segmentSignature},
	{"segment of another heap", false, true, foreignSegment},
	{"heaps lead into each other", false, true, crossedSegments},
	{"range of no units", false, true, rangeEmpty},
	{"range past the segment", false, true, rangePast},
	{"range inside another", false, true, rangeInside},
	{"heap signature", false, true, heapSign},
	{"one heap twice", false, true, heapTwice},
	{"number of pools", false, true, poolCount},
	{"unit shift", false, true, unitShift},
	{"large tree loop", false, true, largeLoop},
	{"large allocation of 2^40 pages", false, true, largeHuge},
	{"dynamic lookaside loop", false, true, dynamicLoop},
}

// For reports whether the corruption can be made on the builder's family.
func (c Corruption) For(b *Builder) bool {
	return b.SegmentHeaps() && c.Heaps || !b.SegmentHeaps() && c.Pages
}

// victim gives the first block by address that fits.
func (b *Builder) victim(what string, fits func(*Block) bool) *Block {
	b.t.Helper()
	for _, k := range b.Blocks() {
		if fits(k) && k.Pool != Session {
			return k
		}
	}
	b.t.Fatalf("heaptest: no %s to break", what)
	return nil
}

// inPage picks a block in use that does not start its page.
func (b *Builder) inPage() *Block {
	return b.victim("block in a page", func(k *Block) bool {
		return k.Place == InPage && k.State == Allocated && k.previous != 0
	})
}

func sign(at mem.VA, size uint64, why string) Sign {
	return Sign{At: at, Last: at + mem.VA(size) - 1, Why: why}
}

func overrunBlock(b *Builder) Sign {
	k := b.victim("block before another", func(k *Block) bool {
		return k.Place == InPage && k.State == Allocated && uint64(k.Header)%mem.PageSize+k.Size < mem.PageSize
	})
	next := k.Header + mem.VA(k.Size)
	b.M.Put(next-8, bytes.Repeat([]byte{'A'}, 8+unit)...)
	return sign(next, unit, "the header is what the block before it wrote over its end").within(page(next))
}

func wrongPrevious(b *Builder) Sign {
	k := b.inPage()
	b.M.Put(k.Header, byte(k.previous/unit+3))
	return sign(k.Header, unit, "PreviousSize is not the size of the block before").within(page(k.Header))
}

func zeroSize(b *Builder) Sign {
	k := b.inPage()
	b.M.Put(k.Header+2, 0)
	return sign(k.Header, unit, "BlockSize is zero").within(page(k.Header))
}

func pastPage(b *Builder) Sign {
	k := b.inPage()
	b.M.Put(k.Header+2, 0xff)
	return sign(k.Header, unit, "BlockSize reaches past the page").within(page(k.Header))
}

// doubleFree frees a block of a lookaside list again, by another way: it stays
// on the list and its header says free.
func doubleFree(b *Builder) Sign {
	k := b.victim("kept block", func(k *Block) bool { return k.Place == InPage && k.State == Cached })
	b.header(b.M, k.Header, k.previous, k.Size, 0, 0, tagBits(k.Tag, k.Protected), 0)
	return sign(k.Header, unit, "free, and on a lookaside list too").silent().within(reach(k.Header, k.Size))
}

// lookasideLoop frees a block onto its list twice: the list comes back to it.
func lookasideLoop(b *Builder) Sign {
	k := b.victim("kept block", func(k *Block) bool { return k.Place == InPage && k.State == Cached })
	b.M.Put64(k.Body, uint64(k.Body))
	return sign(k.Header, 2*unit, "the list of kept blocks leads from the block to itself").silent()
}

func freeList(b *Builder) Sign {
	k := b.victim("free block", func(k *Block) bool { return k.Place == InPage && k.State == Free && k.Size > unit })
	b.M.Put64(k.Body+8, 0xffffdeadbeef0000)
	return sign(k.Header, 2*unit, "the link back of the free block names another place").silent()
}

// entryOf finds the entry of a large allocation in the table.
func (b *Builder) entryOf(k *Block) mem.VA {
	b.t.Helper()
	stride := b.size("_POOL_TRACKER_BIG_PAGES")
	for i := range b.sizes.big {
		e := b.bigAt + mem.VA(i*stride)
		if b.get64(e) == uint64(k.Body) {
			return e
		}
	}
	b.t.Fatalf("heaptest: the large allocation at %#x is not in the table", uint64(k.Body))
	return 0
}

func hugeEntry(b *Builder) Sign {
	k := b.victim("large allocation", func(k *Block) bool { return k.Large() && k.State == Allocated })
	e := b.entryOf(k)
	b.M.Set(e, 1<<48, "_POOL_TRACKER_BIG_PAGES", "NumberOfBytes")
	return sign(e, 0x20, "NumberOfBytes is more than the address space").silent()
}

func hugeTable(b *Builder) Sign {
	at := b.M.Global("PoolBigPageTableSize", 8)
	b.M.Put64(at, 1<<40)
	return Sign{At: at, Last: at + 7, Silent: true, Lost: Reach{More: true}, Why: "more entries than any machine has"}
}

func hugeTrackers(b *Builder) Sign {
	at := b.M.Global("PoolTrackTableSize", 8)
	b.M.Put64(at, 1<<40)
	return Sign{At: at, Last: at + 7, Silent: true, Why: "more tags than any machine has"}
}

func (b *Builder) get64(at mem.VA) uint64 {
	b.t.Helper()
	var v [8]byte
	if _, err := b.M.ReadVirtual(v[:], at); err != nil {
		b.t.Fatal(err)
	}
	n := uint64(0)
	for i, c := range v {
		n |= uint64(c) << (8 * i)
	}
	return n
}
