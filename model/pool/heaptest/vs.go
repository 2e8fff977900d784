package heaptest

import (
	"encoding/binary"

	"gokd/model/mem"
)

// chunkHeader is the size of a _HEAP_VS_CHUNK_HEADER; the first chunk starts
// behind the subsegment's own header.
const (
	chunkHeader = 0x10
	firstChunk  = 0x30
)

// VS is a _HEAP_VS_SUBSEGMENT: chunks of any size.
type VS struct {
	At   mem.VA
	Size uint64 // bytes

	h      *Heap
	off    uint64 // of the next chunk
	chunks []*chunk
	closed bool
}

// chunk is one piece of a subsegment: its own header, and what follows it.
type chunk struct {
	off, size uint64
	used      bool
	block     *Block // nil: a filler
}

// VS starts a subsegment of so many pages.
func (h *Heap) VS(pages uint64) *VS {
	s := h.segment(0, pages)
	v := &VS{h: h, Size: pages * mem.PageSize, off: firstChunk}
	v.At = s.units(pages, rangeVS, 1)
	h.m.Put(v.At, make([]byte, v.Size)...)
	units := (v.Size - firstChunk) / unit
	h.m.Set(v.At, units, "_HEAP_VS_SUBSEGMENT", "Size")
	h.m.Set(v.At, units^subsegmentKey, "_HEAP_VS_SUBSEGMENT", "Signature")
	h.m.Set(v.At, 1, "_HEAP_VS_SUBSEGMENT", "FullCommit")
	h.m.Set(v.At, 0xffff, "_HEAP_VS_SUBSEGMENT", "CommitBitmap")
	h.vs = append(h.vs, v)
	return v
}

// Left is the bytes that no chunk uses yet.
func (v *VS) Left() uint64 { return v.Size - v.off }

// place tells where the header of a block of so many bytes would lie: a block
// that is smaller than a page does not cross one. fill is what must be left free
// before its chunk.
func (v *VS) place(size uint64) (gap, fill uint64) {
	in := uint64(v.At+mem.VA(v.off)+chunkHeader) % mem.PageSize
	if in == 0 || in+size <= mem.PageSize {
		return 0, 0
	}
	rest := mem.PageSize - in
	if size > 0x40 && rest+size < 0xff0 {
		return rest, 0
	}
	return 0, rest
}

func (v *VS) need(a Ask) uint64 {
	size := sizeOf(a.Bytes)
	if a.Aligned {
		size += 64
	}
	return size
}

func (v *VS) fits(a Ask) bool {
	gap, fill := v.place(v.need(a))
	return v.Left() >= chunkHeader+fill+gap+v.need(a)+0x20
}

// Alloc adds a block. One that would cross a page has its header at the start of
// the next page, in the same chunk.
func (v *VS) Alloc(a Ask) *Block {
	v.h.b.t.Helper()
	a.Pool, a.Node = v.h.Pool, v.h.Node
	if a.Aligned {
		return v.aligned(a)
	}
	size := sizeOf(a.Bytes)
	gap, fill := v.place(size)
	v.fill(fill)
	at := v.chunk(chunkHeader+gap+size, true)
	k := v.block(a, at, at+chunkHeader+mem.VA(gap), size, typeOf(a))
	v.chunks[len(v.chunks)-1].block = k
	v.h.b.header(v.h.m, k.Header, 0, size, 0, k.Type, tagBits(a.Tag, a.Protected), v.h.b.billed(a, k.Header))
	return k
}

func (v *VS) block(a Ask, at, header mem.VA, size uint64, typ byte) *Block {
	end := v.At + mem.VA(v.off)
	return v.h.b.add(&Block{
		Ask: a, Header: header, Body: header + unit, Size: size, Room: uint64(end - header), Type: typ,
		Place: InVS, Heap: v.h.At, Within: v.h.within(), chunk: at, home: v,
	})
}

// aligned adds a block whose body starts a cache line: a second header in front
// of the body has the bit of aligned blocks and tells the way to the first one.
func (v *VS) aligned(a Ask) *Block {
	size := sizeOf(a.Bytes)
	if gap, fill := v.place(size + 64); gap+fill > 0 {
		v.fill(gap + fill)
	}
	outer := v.At + mem.VA(v.off) + chunkHeader
	inner := (outer+2*unit+63)&^63 - unit
	if inner == outer {
		inner += 64
	}
	distance := uint64(inner - outer)
	at := v.chunk(chunkHeader+distance+size, true)
	k := v.block(a, at, outer, distance+size, typeOf(a))
	k.Inner, k.Body = inner, inner+unit
	v.chunks[len(v.chunks)-1].block = k
	b, tag := v.h.b, tagBits(a.Tag, a.Protected)
	b.header(v.h.m, outer, 0, distance+size, 0, k.Type, tag, b.billed(a, outer))
	b.header(v.h.m, inner, distance, size, 0, k.Type|bitAligned, tag, b.billed(a, inner))
	return k
}

func (v *VS) fitsLarge(a Ask) bool {
	in := uint64(v.At+mem.VA(v.off)+chunkHeader) % mem.PageSize
	return v.Left() >= (mem.PageSize-in)%mem.PageSize+chunkHeader+(a.Bytes+unit-1)/unit*unit+0x20
}

// Large adds a chunk of a page or more whose body starts a page: it has no
// _POOL_HEADER, and the big-page table lists it.
func (v *VS) Large(a Ask) *Block {
	a.Pool, a.Node = v.h.Pool, v.h.Node
	in := uint64(v.At+mem.VA(v.off)+chunkHeader) % mem.PageSize
	v.fill((mem.PageSize - in) % mem.PageSize)
	at := v.chunk(chunkHeader+(a.Bytes+unit-1)/unit*unit, true)
	k := v.block(a, at, at+chunkHeader, a.Bytes, 0)
	k.Body, k.Place = k.Header, InTable
	v.chunks[len(v.chunks)-1].block = k
	return k
}

// Hole adds a free chunk of so many bytes, header included.
func (v *VS) Hole(size uint64) *Block {
	at := v.chunk(size, false)
	k := v.block(Ask{Pool: v.h.Pool, Node: v.h.Node}, at, at+chunkHeader, 0, 0)
	k.State = Free
	v.chunks[len(v.chunks)-1].block = k
	return k
}

// fill leaves bytes before the next chunk: a free chunk, or slack of the last
// one where they are too few for one.
func (v *VS) fill(n uint64) {
	switch {
	case n == 0:
	case n >= 0x20:
		v.Hole(n)
	default:
		last := v.chunks[len(v.chunks)-1]
		last.size += n
		if last.block != nil {
			last.block.Room += n
		}
		v.off += n
	}
}

// chunk adds a chunk and gives its address. Its header is written at the end.
func (v *VS) chunk(size uint64, used bool) mem.VA {
	v.h.b.t.Helper()
	if size > v.Left() || size%unit != 0 || size < 0x20 {
		v.h.b.t.Fatalf("heaptest: a chunk of %#x bytes does not fit the %#x left at %#x", size, v.Left(), uint64(v.At))
	}
	at := v.At + mem.VA(v.off)
	v.chunks = append(v.chunks, &chunk{off: v.off, size: size, used: used})
	v.off += size
	return at
}

// free takes a block back.
func (v *VS) free(k *Block) {
	for _, c := range v.chunks {
		if c.block == k {
			c.used = false
			k.Place, k.Size, k.Type, k.Inner = InVS, 0, 0, 0
			k.Header = v.At + mem.VA(c.off) + chunkHeader
			k.Body, k.Room = k.Header+unit, c.size-chunkHeader
			return
		}
	}
}

// close makes what is left a free chunk, joins free neighbours as freeing does,
// and writes the headers.
func (v *VS) close() {
	if v.closed {
		return
	}
	v.closed = true
	v.fill(v.Left())
	kept := v.chunks[:0]
	for _, c := range v.chunks {
		if n := len(kept); n > 0 && !kept[n-1].used && !c.used {
			kept[n-1].size += c.size
			kept[n-1].block.Room += c.size
			c.block.gone = true
			continue
		}
		kept = append(kept, c)
	}
	v.chunks = kept
	previous := uint64(0)
	for _, c := range kept {
		v.h.b.Chunk(v, v.At+mem.VA(c.off), c.size, previous, c.used)
		previous = c.size
	}
	if v.h.b.Decommit {
		v.decommit()
	}
}

// decommit takes the pages away that lie in a free chunk as a whole, behind its
// header; the bitmap has a bit for each page.
func (v *VS) decommit() {
	bits := uint64(1)<<(v.Size/mem.PageSize) - 1
	for _, c := range v.chunks {
		first := pagesOf(c.off+chunkHeader+unit) / mem.PageSize
		for page := first; !c.used && (page+1)*mem.PageSize <= c.off+c.size; page++ {
			v.h.m.Unmap(v.At + mem.VA(page*mem.PageSize))
			bits &^= 1 << page
			v.h.m.Set(v.At, 0, "_HEAP_VS_SUBSEGMENT", "FullCommit")
		}
	}
	v.h.m.Set(v.At, bits, "_HEAP_VS_SUBSEGMENT", "CommitBitmap")
}

// Chunk writes the header of a chunk: its sizes are hidden by the chunk's
// address and the heap key, the way to the subsegment by their low bytes.
func (b *Builder) Chunk(v *VS, at mem.VA, size, previous uint64, used bool) {
	word := size/unit<<16 | previous/unit<<32
	if used {
		word |= 1 << 48
	}
	var h [chunkHeader]byte
	binary.LittleEndian.PutUint64(h[:], word^uint64(at)^b.HeapKey)
	if !used {
		v.h.m.Put(at, h[:8]...) // a tree node follows
		return
	}
	h[8] = byte(uint64(at-v.At)>>12) ^ byte(uint64(at)^b.HeapKey)
	v.h.m.Put(at, h[:]...)
}

// node writes a free chunk's place in the tree of free chunks.
func (h *Heap) node(at, left, right, parent mem.VA) {
	h.m.Put64(at+8, uint64(left))
	h.m.Put64(at+0x10, uint64(right))
	h.m.Put64(at+0x18, uint64(parent))
}

// closeTree links the free chunks of the heap into its tree, which is as deep as
// it has nodes to: a list by the right.
func (h *Heap) closeTree() {
	var free []mem.VA
	for _, v := range h.vs {
		for _, c := range v.chunks {
			if !c.used {
				free = append(free, v.At+mem.VA(c.off))
			}
		}
	}
	root := h.tree(free, 0)
	off, _ := h.b.M.Field("_HEAP_VS_CONTEXT", "FreeChunkTree")
	at := h.field("VsContext") + mem.VA(off)
	h.m.Put64(at, uint64(root))
	if len(free) > 0 {
		h.m.Put64(at+8, uint64(free[0]+8))
	}
}

// tree links nodes, 8 bytes behind the addresses, into a balanced tree and gives
// the address of its root node.
func (h *Heap) tree(list []mem.VA, parent mem.VA) mem.VA {
	if len(list) == 0 {
		return 0
	}
	mid := len(list) / 2
	node := list[mid] + 8
	h.node(list[mid], h.tree(list[:mid], node), h.tree(list[mid+1:], node), parent)
	return node
}

// cacheChunk frees a block onto the dynamic lookaside list of its pool: the
// chunk keeps looking allocated.
func (b *Builder) cacheChunk(k *Block) {
	h := k.home.(*VS).h
	size := k.Size
	if size < 0x200 || size > 0xf80 || h.session != nil {
		b.t.Fatalf("heaptest: no dynamic lookaside list keeps blocks of %#x bytes", size)
	}
	i := 0
	if h.Pool.Paged() {
		i = 1
	}
	nodes, _ := b.M.Field("_EX_POOL_HEAP_MANAGER_STATE", "PoolNode")
	lists, _ := b.M.Field("_EX_HEAP_POOL_NODE", "Lookasides")
	at := b.state() + mem.VA(nodes) + mem.VA(uint64(h.Node)*b.size("_EX_HEAP_POOL_NODE")) +
		mem.VA(lists) + mem.VA(uint64(i)*b.size("_RTL_DYNAMIC_LOOKASIDE"))
	b.M.Set(at, 64, "_RTL_DYNAMIC_LOOKASIDE", "BucketCount")
	b.M.Set(at, ^uint64(0), "_RTL_DYNAMIC_LOOKASIDE", "EnabledBucketBitmap")
	b.M.Put64(h.field("UserContext"), uint64(at))
	buckets, _ := b.M.Field("_RTL_DYNAMIC_LOOKASIDE", "Buckets")
	bucket := (size - 0x200) / 0x40 % 64
	b.push(b.M, at+mem.VA(buckets)+mem.VA(bucket*b.size("_RTL_LOOKASIDE")), k.Body)
}

// Delay frees a block of a chunk onto the list of delayed frees of its heap.
func (b *Builder) Delay(k *Block) {
	b.t.Helper()
	v, ok := k.home.(*VS)
	if !ok || k.State != Allocated {
		b.t.Fatalf("heaptest: the block at %#x can't be freed with delay", uint64(k.Header))
	}
	off, _ := b.M.Field("_HEAP_VS_CONTEXT", "DelayFreeContext")
	b.push(v.h.m, v.h.field("VsContext")+mem.VA(off), k.Body)
	k.State = Cached
}
