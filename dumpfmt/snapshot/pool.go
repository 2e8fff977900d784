package snapshot

import (
	"cmp"
	"encoding/binary"
	"fmt"
	"maps"
	"slices"

	"gokd/model/mem"
)

const (
	poolUnit   = 0x10 // POOL_HEADER and the unit of BlockSize, on x64
	maxSmall   = pageSize - poolUnit - poolUnit
	protected  = 1 << 31 // PROTECTED_POOL, a bit of tags in headers and big pages
	openPages  = 6       // pages that still take blocks
	freePoolID = 0       // PoolType of a free block
)

// block is one piece of a pool page, its header included.
type block struct {
	at   mem.VA
	size uint64
	tag  uint32
}

func (b block) end() mem.VA { return b.at + mem.VA(b.size) }

// poolPage is a page of small blocks; what no block covers is free.
type poolPage struct {
	blocks []block // by address
	auto   bool    // takes blocks without a given address
}

// bigBlock is an allocation of whole pages.
type bigBlock struct {
	at   mem.VA
	size uint64
	tag  uint32
}

// usage is what the trackers count of one tag.
type usage struct {
	allocs, frees uint32
	bytes         uint64
}

// pool is the nonpaged or the paged pool.
type pool struct {
	m          *machine
	paged      bool
	start, end mem.VA
	next       mem.VA // where automatic pages are looked for
	pages      map[mem.VA]*poolPage
	open       []mem.VA // automatic pages with room
	big        []bigBlock
	taken      map[mem.VA]bool // pages of big blocks
	used       map[uint32]*usage
	freed      map[uint32]uint32 // blocks allocated and freed again
}

func (m *machine) newPool(paged bool, start, end mem.VA) *pool {
	return &pool{
		m: m, paged: paged, start: start, end: end, next: start,
		pages: map[mem.VA]*poolPage{}, taken: map[mem.VA]bool{}, used: map[uint32]*usage{}, freed: map[uint32]uint32{},
	}
}

// blockType is POOL_HEADER.PoolType of a block in use: the type that was asked
// for plus two; odd for paged pool, since Vista.
func (p *pool) blockType() uint32 {
	if p.paged {
		return 3
	}
	return 2
}

func tagOf(s string) uint32 {
	b := [4]byte{' ', ' ', ' ', ' '}
	copy(b[:], s)
	return binary.LittleEndian.Uint32(b[:])
}

func (p *pool) count(tag uint32, bytes uint64) {
	tag &^= protected
	u := p.used[tag]
	if u == nil {
		u = new(usage)
		p.used[tag] = u
	}
	u.allocs++
	u.bytes += bytes
}

// alloc makes a block of at least size bytes for its caller and gives the
// address of its body. Larger ones become pages of their own.
func (p *pool) alloc(tag uint32, size uint64) mem.VA {
	if size > maxSmall {
		return p.allocBig(tag, size, true)
	}
	size = (size + poolUnit + poolUnit - 1) &^ (poolUnit - 1)
	for i, at := range p.open {
		page := p.pages[at]
		last := at
		if n := len(page.blocks); n > 0 {
			last = page.blocks[n-1].end()
		}
		if at+pageSize-last >= mem.VA(size) {
			page.blocks = append(page.blocks, block{last, size, tag})
			if room := at + pageSize - last - mem.VA(size); room < 0x30 {
				p.open = slices.Delete(p.open, i, i+1)
			}
			p.count(tag, size)
			return last + poolUnit
		}
	}
	at := p.freePages(1)
	if p.m.err != nil {
		return 0
	}
	p.m.fail(p.m.kernel.mapPage(at, flagsData))
	p.pages[at] = &poolPage{auto: true, blocks: []block{{at, size, tag}}}
	if p.open = append(p.open, at); len(p.open) > openPages {
		p.open = p.open[1:]
	}
	p.count(tag, size)
	return at + poolUnit
}

// freePages finds a run of unused pages of the pool.
func (p *pool) freePages(n uint64) mem.VA {
	for at := p.next; ; {
		if at+mem.VA(n*pageSize) > p.end || at < p.start {
			p.m.fail(wrong(0, "the %s pool is full at %#x", p.name(), uint64(at)))
			return 0
		}
		free := true
		for i := uint64(0); i < n && free; i++ {
			page := at + mem.VA(i*pageSize)
			if p.pages[page] != nil || p.taken[page] {
				free, at = false, page+pageSize
			}
		}
		if free {
			p.next = at + mem.VA(n*pageSize)
			return at
		}
	}
}

func (p *pool) name() string {
	if p.paged {
		return "paged"
	}
	return "nonpaged"
}

// allocAt makes a block whose body covers [body, body+size). The header lies
// before it, at a multiple of its size.
func (p *pool) allocAt(tag uint32, body mem.VA, size uint64, line int) {
	at := (body - poolUnit) &^ (poolUnit - 1)
	end := (body + mem.VA(size) + poolUnit - 1) &^ (poolUnit - 1)
	where := at.Page()
	switch {
	case body < poolUnit || body < p.start || body >= p.end:
		p.m.fail(wrong(line, "%#x lies outside the %s pool, %#x to %#x", uint64(body), p.name(), uint64(p.start), uint64(p.end)))
		return
	case end > where+pageSize || at < where:
		p.m.fail(wrong(line, "%#x: %#x bytes and their header do not fit the page", uint64(body), size))
		return
	}
	page := p.pages[where]
	if page == nil {
		page = &poolPage{}
		p.pages[where] = page
		p.m.fail(p.m.kernel.mapPage(where, flagsData))
	}
	i, _ := slices.BinarySearchFunc(page.blocks, at, func(b block, at mem.VA) int { return cmp.Compare(b.at, at) })
	if p.taken[where] || i > 0 && page.blocks[i-1].end() > at || i < len(page.blocks) && page.blocks[i].at < end {
		p.m.fail(wrong(line, "%#x: the pool there is taken", uint64(body)))
		return
	}
	page.blocks = slices.Insert(page.blocks, i, block{at, uint64(end - at), tag})
	p.count(tag, uint64(end-at))
}

// allocBig makes an allocation of whole pages, backed or not.
func (p *pool) allocBig(tag uint32, size uint64, backed bool) mem.VA {
	whole := (size + pageSize - 1) &^ (pageSize - 1)
	at := p.freePages(whole / pageSize)
	if p.m.err != nil {
		return 0
	}
	for off := uint64(0); off < whole; off += pageSize {
		p.taken[at+mem.VA(off)] = true
	}
	if backed {
		p.m.fail(p.m.kernel.mapRange(at, whole, flagsData))
	}
	p.big = append(p.big, bigBlock{at, size, tag})
	p.count(tag, whole)
	return at
}

// place allocates at a given address, or anywhere where it is 0.
func (p *pool) place(tag uint32, at mem.VA, size uint64, line int) mem.VA {
	if at == 0 {
		return p.alloc(tag, size)
	}
	p.allocAt(tag, at, size, line)
	return at
}

// close writes the headers of every page: blocks in use, and free ones in the
// gaps, linked into the descriptor's lists by size.
func (p *pool) close(descriptor object) {
	for _, at := range slices.SortedFunc(maps.Keys(p.pages), cmp.Compare[mem.VA]) {
		p.closePage(at, p.pages[at], descriptor)
	}
}

func (p *pool) closePage(at mem.VA, page *poolPage, descriptor object) {
	var previous uint64
	next := at
	emit := func(size uint64, tag, kind uint32) {
		h := p.m.object("_POOL_HEADER", next)
		h.put("PreviousSize", previous/poolUnit)
		h.put("BlockSize", size/poolUnit)
		h.put("PoolType", uint64(kind))
		h.put("PoolTag", uint64(tag))
		if kind == freePoolID && size > poolUnit && (!p.m.layout.lenient || p.m.layout.has(descriptor.typ, "ListHeads")) {
			// The links of free blocks of one size form a list.
			p.m.listAdd(descriptor.field(fmt.Sprintf("ListHeads[%d]", size/poolUnit-1)), next+poolUnit)
		}
		previous, next = size, next+mem.VA(size)
	}
	for _, b := range page.blocks {
		if b.at > next {
			emit(uint64(b.at-next), tagOf("Free"), freePoolID)
		}
		emit(b.size, b.tag, p.blockType())
	}
	if end := at + pageSize; next < end {
		emit(uint64(end-next), tagOf("Free"), freePoolID)
	}
}

// totals sums what the pool's blocks take.
func (p *pool) totals() (allocs, bytes uint64) {
	for _, u := range p.used {
		allocs += uint64(u.allocs)
		bytes += u.bytes
	}
	return allocs, bytes
}
