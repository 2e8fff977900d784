package snapshot

import (
	"fmt"
	"maps"
	"slices"

	"gokd/model/mem"
)

// The pool's accounts: tag tables per processor, the table of big allocations,
// the pool descriptors, and the variables that lead to them.

const (
	// trackSlots is the default of Windows, plus the slot for what overflows.
	trackSlots  = 2048 + 1
	bigSlots    = 4096 // the smallest table; a power of two
	trackFactor = 40543
)

// trackers writes the pool accounts. It is called last: nothing may be
// allocated afterwards.
func (m *machine) trackers() {
	tables := make([]mem.VA, len(m.cpus))
	size := m.size("_POOL_TRACKER_TABLE") * trackSlots
	for i := range tables {
		tables[i] = m.nonpaged.allocBig(tagOf("Pool"), size, true)
	}
	slots := uint64(bigSlots)
	for n := len(m.nonpaged.big) + len(m.paged.big) + 1; uint64(2*n) > slots; {
		slots *= 2
	}
	big := m.nonpaged.allocBig(tagOf("Pool"), m.size("_POOL_TRACKER_BIG_PAGES")*slots, true)
	if m.err != nil {
		return
	}
	m.bigPages(big, slots)
	m.tagTables(tables)
	m.setGlobal("PoolTrackTable", uint64(tables[0]))
	m.setGlobal("PoolTrackTableSize", trackSlots)
	m.setGlobal("PoolTrackTableMask", trackSlots-2)
	m.setGlobal("PoolBigPageTable", uint64(big))
	m.setGlobal("PoolBigPageTableSize", slots)
	for i, at := range tables {
		m.put64(m.global("ExPoolTagTables")+mem.VA(8*i), uint64(at))
	}
	m.descriptors()
}

// bigPages writes the table of big allocations, open addressing by page number
// (as ReactOS' ntoskrnl/mm/ARM3/expool.c documents it); a slot whose Va has
// bit 0 set is free.
func (m *machine) bigPages(table mem.VA, slots uint64) {
	width := m.size("_POOL_TRACKER_BIG_PAGES")
	for i := range slots {
		m.put64(table+mem.VA(i*width), 1)
	}
	used := make([]bool, slots)
	for _, p := range []*pool{m.nonpaged, m.paged} {
		for _, b := range p.big {
			n := uint32(b.at >> 12)
			slot := uint64(n>>24^n>>16^n>>8^n) & (slots - 1)
			for used[slot] {
				slot = (slot + 1) & (slots - 1)
			}
			used[slot] = true
			kind, flags := 0, 0x40 // POOL_FLAG_NON_PAGED
			if p.paged {
				kind, flags = 1, 0x100 // POOL_FLAG_PAGED
			}
			o := m.object("_POOL_TRACKER_BIG_PAGES", table+mem.VA(slot*width))
			o.puts("Va", b.at, "Key", b.tag, "PoolType", kind, "NumberOfBytes", b.size)
			if m.layout.lenient { // Windows 11 24H2 has flags in place of the type
				o.puts("PoolFlags", flags)
			}
		}
	}
}

// tagRow is one row of one processor's table. Bytes may be "negative": what
// one processor allocates another may free.
type tagRow struct {
	nonpaged, paged usage
}

func (r *tagRow) of(paged bool) *usage {
	if paged {
		return &r.paged
	}
	return &r.nonpaged
}

// tagTables spreads what the pools count over the processors.
func (m *machine) tagTables(tables []mem.VA) {
	cpus := uint32(len(tables))
	rows := make([]map[uint32]*tagRow, cpus)
	for i := range rows {
		rows[i] = map[uint32]*tagRow{}
	}
	row := func(cpu, tag uint32) *tagRow {
		r := rows[cpu%cpus]
		if r[tag] == nil {
			r[tag] = new(tagRow)
		}
		return r[tag]
	}
	for _, p := range []*pool{m.nonpaged, m.paged} {
		for tag, u := range p.used {
			first := hashOf(fmt.Sprint(tag))
			for i := range cpus { // outstanding blocks, the rest to the last
				part, bytes := u.allocs/cpus, u.bytes/uint64(cpus)
				if i == cpus-1 {
					part, bytes = u.allocs-part*(cpus-1), u.bytes-bytes*uint64(cpus-1)
				}
				if part != 0 || bytes != 0 {
					to := row(first+i, tag).of(p.paged)
					to.allocs, to.bytes = to.allocs+part, to.bytes+bytes
				}
			}
			past := p.freed[tag]
			each := u.bytes / uint64(max(u.allocs, 1)) * uint64(past)
			from, to := row(first, tag).of(p.paged), row(first+1, tag).of(p.paged)
			from.allocs, from.bytes = from.allocs+past, from.bytes+each
			to.frees, to.bytes = to.frees+past, to.bytes-each
		}
	}
	for i, at := range tables {
		m.tagTable(at, rows[i])
	}
}

// tagTable writes one processor's rows into their hashed slots (the same
// source; the last slot is for what does not fit).
func (m *machine) tagTable(table mem.VA, rows map[uint32]*tagRow) {
	width := m.size("_POOL_TRACKER_TABLE")
	used := make([]bool, trackSlots)
	for _, tag := range slices.Sorted(maps.Keys(rows)) {
		product := uint64(tag) * trackFactor
		slot := (uint32(product) ^ uint32(product>>32)) & (trackSlots - 2)
		for used[slot] {
			slot = (slot + 1) & (trackSlots - 2)
		}
		used[slot] = true
		r := rows[tag]
		m.object("_POOL_TRACKER_TABLE", table+mem.VA(uint64(slot)*width)).puts(
			"Key", tag,
			"NonPagedAllocs", r.nonpaged.allocs, "NonPagedFrees", r.nonpaged.frees, "NonPagedBytes", r.nonpaged.bytes,
			"PagedAllocs", r.paged.allocs, "PagedFrees", r.paged.frees, "PagedBytes", r.paged.bytes)
	}
}

// poolDescriptor starts a descriptor: its lists must exist before the pages of
// its pool are closed.
func (m *machine) poolDescriptor(at mem.VA, paged bool) object {
	d := m.object("_POOL_DESCRIPTOR", at)
	if paged {
		d.put("PoolType", 1)
	}
	if m.layout.lenient && !m.layout.has("_POOL_DESCRIPTOR", "ListHeads") {
		return d // pools of segment heaps
	}
	for i := range pageSize / poolUnit {
		m.listInit(d.field(fmt.Sprintf("ListHeads[%d]", i)))
	}
	return d
}

// descriptors writes the two pool descriptors, the blocks' headers, and what
// leads to them.
func (m *machine) descriptors() {
	nonpaged := m.poolDescriptor(m.global("NonPagedPoolDescriptor"), false)
	paged := m.poolDescriptor(m.pagedDescriptors[0], true)
	spare := m.poolDescriptor(m.pagedDescriptors[1], true) // the kernel spreads paged pool over several
	spare.put("PoolIndex", 1)
	for _, d := range []struct {
		object
		p *pool
	}{{nonpaged, m.nonpaged}, {paged, m.paged}} {
		d.p.close(d.object)
		allocs, bytes := d.p.totals()
		var bigPages uint64
		for _, b := range d.p.big {
			bigPages += (b.size + pageSize - 1) / pageSize
		}
		var past uint64
		for _, n := range d.p.freed {
			past += uint64(n)
		}
		d.puts("RunningAllocs", allocs+past, "RunningDeAllocs", past,
			"TotalPages", len(d.p.pages), "TotalBigPages", bigPages, "TotalBytes", bytes)
	}
	m.put64(m.global("PoolVector"), uint64(nonpaged.at))
	m.put64(m.global("PoolVector")+8, uint64(m.global("ExpPagedPoolDescriptor")))
	m.put64(m.global("ExpPagedPoolDescriptor"), uint64(paged.at))
	m.put64(m.global("ExpPagedPoolDescriptor")+8, uint64(spare.at))
	m.setGlobal("ExpNumberOfPagedPools", 1) // counts those behind the first
	m.setGlobal("ExpNumberOfNonPagedPools", 1)
	m.put64(m.global("ExpNonPagedPoolDescriptor"), uint64(nonpaged.at))
	_, pagedBytes := m.paged.totals()
	_, nonpagedBytes := m.nonpaged.totals()
	m.setGlobal("MmAllocatedNonPagedPool", nonpagedBytes/pageSize)
	m.setGlobal("MmPagedPoolCommit", pagedBytes/pageSize)
}
