package heaptest

import (
	"encoding/binary"

	"gokd/model/mem"
)

// Bits of PoolType in a _POOL_HEADER: Vista and later store the requested type
// with bit 1 set, so that a block in use is never 0.
const (
	inUse      = 0x02
	bitPaged   = 0x01
	bitAligned = 0x04
	bitQuota   = 0x08
	bitSession = 0x20
)

// unit is the unit of sizes and the size of a _POOL_HEADER.
const unit = 0x10

// largestSmall is the most that is asked for from a page: more takes pages of its
// own (ReactOS expool.c, POOL_MAX_ALLOC).
const largestSmall = mem.PageSize - 2*unit

// PageOf is a page of small blocks being filled: headers chained by the sizes of
// their neighbours.
type PageOf struct {
	At      mem.VA
	b       *Builder
	m       putter
	pool    Pool
	session *SessionPool
	off     uint64
	prev    uint64
}

// header writes a _POOL_HEADER. Sizes are in bytes.
func (b *Builder) header(m putter, at mem.VA, previous, size uint64, index, typ byte, tag uint32, billed uint64) {
	var h [unit]byte
	h[0], h[1], h[2], h[3] = byte(previous/unit), index, byte(size/unit), typ
	binary.LittleEndian.PutUint32(h[4:], tag)
	binary.LittleEndian.PutUint64(h[8:], billed)
	m.Put(at, h[:]...)
}

// putter is a machine or one of its address spaces.
type putter interface{ Put(mem.VA, ...byte) }

// typeOf gives PoolType as stored for a request.
func typeOf(a Ask) byte {
	t := byte(inUse)
	if a.Pool.Paged() {
		t |= bitPaged
	}
	if a.Pool == Session {
		t |= bitSession
	}
	if a.Owner != 0 {
		t |= bitQuota
	}
	return t
}

// billed gives ProcessBilled as stored: plain up to 7601, later hidden by the
// cookie and the header's address.
func (b *Builder) billed(a Ask, header mem.VA) uint64 {
	switch {
	case a.Owner == 0:
		return 0
	case b.build == 7601:
		return uint64(a.Owner)
	}
	return uint64(a.Owner) ^ b.Cookie ^ uint64(header)
}

// sizeOf gives the bytes of a block for a request, with its header.
func sizeOf(bytes uint64) uint64 { return (max(bytes, 1)+unit-1)/unit*unit + unit }

// Page starts a new page of a pool.
func (b *Builder) Page(p Pool) *PageOf {
	if p == Session {
		return b.session().Page()
	}
	if old := b.pages[p]; old != nil {
		old.Close()
	}
	pg := &PageOf{b: b, m: b.M, pool: p}
	if b.LargePages && !p.Paged() {
		pg.At = b.largePage(p)
	} else {
		pg.At = b.areas[p].take(mem.PageSize, mem.PageSize)
	}
	b.M.Put(pg.At, make([]byte, mem.PageSize)...)
	b.pages[p] = pg
	return pg
}

// largePage gives the next page of a 2 MB page.
func (b *Builder) largePage(p Pool) mem.VA {
	a := b.areas[p]
	if a.next&(2<<20-1) == 0 || a.next != a.next.Page() || !b.inLarge(a.next) {
		a.next = (a.next + (2<<20 - 1)) &^ (2<<20 - 1)
		b.M.LargePage(a.next)
		b.large = append(b.large, a.next)
	}
	return a.take(mem.PageSize, mem.PageSize)
}

func (b *Builder) inLarge(at mem.VA) bool {
	for _, l := range b.large {
		if at >= l && at < l+2<<20 {
			return true
		}
	}
	return false
}

// page gives the page of a pool that has room for a request.
func (b *Builder) page(a Ask) *PageOf {
	pg := b.pages[a.Pool]
	if pg == nil || pg.Left() < sizeOf(a.Bytes)+64 {
		pg = b.Page(a.Pool)
	}
	return pg
}

// Left is the bytes that are not used yet.
func (p *PageOf) Left() uint64 { return mem.PageSize - p.off }

// Alloc adds a block.
func (p *PageOf) Alloc(a Ask) *Block {
	p.b.t.Helper()
	size := sizeOf(a.Bytes)
	if a.Aligned {
		return p.aligned(a)
	}
	return p.put(a, size, typeOf(a), Allocated)
}

// aligned adds a block whose body starts a cache line: up to 17763 the space
// before it becomes a free block of its own.
func (p *PageOf) aligned(a Ask) *Block {
	size := (sizeOf(a.Bytes) + 63) &^ 63
	if gap := (64 - (p.off+unit)%64) % 64; gap != 0 {
		p.put(Ask{Pool: a.Pool, Tag: "Frag"}, gap, 0, Free)
	}
	return p.put(a, size, typeOf(a)|bitAligned, Allocated)
}

// Free adds a free block of so many bytes, header included; its tag is that of
// its last use.
func (p *PageOf) Free(tag string, size uint64) *Block {
	return p.put(Ask{Pool: p.pool, Tag: tag}, size, 0, Free)
}

func (p *PageOf) put(a Ask, size uint64, typ byte, s State) *Block {
	p.b.t.Helper()
	if size > p.Left() || size/unit > 0xff || size%unit != 0 || size == 0 {
		p.b.t.Fatalf("heaptest: a block of %#x bytes does not fit the %#x left in the page at %#x", size, p.Left(), uint64(p.At))
	}
	a.Pool = p.pool
	at := p.At + mem.VA(p.off)
	k := &Block{Ask: a, Header: at, Body: at + unit, Size: size, Room: size, Type: typ, State: s, Place: InPage, previous: p.prev, home: p}
	if p.session != nil {
		k.Within = p.session.ID
	}
	p.b.header(p.m, at, p.prev, size, 0, typ, tagBits(a.Tag, a.Protected), p.b.billed(a, at))
	p.off, p.prev = p.off+size, size
	return p.b.add(k)
}

// Close ends the page's chain: what is left becomes free blocks.
func (p *PageOf) Close() {
	if p.session != nil {
		p.session.page = nil
	} else if p.b.pages[p.pool] == p {
		delete(p.b.pages, p.pool)
	}
	for p.Left() > 0 {
		size := min(p.Left(), 0xff*unit)
		if p.Left() == mem.PageSize {
			size -= unit // leave the last fragment, a header alone
		}
		p.Free("Free", size)
	}
}

func (b *Builder) closePages() {
	for _, pg := range b.pages {
		pg.Close()
	}
	for _, s := range b.sess {
		if s.page != nil {
			s.page.Close()
		}
	}
}

// Free frees a block of any place: what freeing leaves behind is written.
func (b *Builder) Free(k *Block) {
	b.t.Helper()
	if k.State != Allocated {
		b.t.Fatalf("heaptest: the block at %#x is free already", uint64(k.Header))
	}
	k.State, k.freed = Free, true
	switch home := k.home.(type) {
	case *PageOf:
		k.Type, k.Owner, k.Protected = 0, 0, false
		b.header(home.m, k.Header, k.previous, k.Size, 0, 0, tagBits(k.Tag, false), 0)
	case freer:
		home.free(k)
	default:
		b.freeBig(k)
	}
}

// freer is a part of a heap that can take a block back.
type freer interface{ free(*Block) }
