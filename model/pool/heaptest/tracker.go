package heaptest

import (
	"maps"
	"slices"

	"gokd/model/mem"
)

// Use is what one tag holds of one pool, as the kernel counts it.
type Use struct {
	Allocs, Frees uint64
	Bytes         uint64 // of live allocations, whole pages for large ones
}

// Total is the truth of one tag.
type Total struct{ Nonpaged, Paged Use }

// Totals gives what the trackers hold: session pool has trackers of its own, see
// SessionPool.Totals.
func (b *Builder) Totals() map[string]Total {
	return totals(b.blocks, func(k *Block) bool { return k.Pool != Session })
}

func sortedTags(all map[string]Total) []string { return slices.Sorted(maps.Keys(all)) }

func totals(blocks []*Block, of func(*Block) bool) map[string]Total {
	all := map[string]Total{}
	for _, k := range blocks {
		if !of(k) || k.State == Free && !k.freed {
			continue
		}
		t := all[k.Tag]
		u := &t.Nonpaged
		if k.Pool.Paged() {
			u = &t.Paged
		}
		u.Allocs++
		if k.State != Allocated {
			u.Frees++
		} else if k.Large() {
			u.Bytes += pagesOf(k.Size)
		} else {
			u.Bytes += k.Size
		}
		all[k.Tag] = t
	}
	return all
}

// hashTag gives the slot at which the search for a tag starts (ReactOS
// expool.c); mask is the number of slots less two.
func hashTag(tag uint32, mask uint64) uint64 {
	p := uint64(40543) * uint64(tag)
	return mask & uint64(uint32(p)^uint32(p>>32))
}

// writeTrackers writes the tables of tags, one for each processor. A block that
// one processor allocates and another frees makes the second's counters go
// below zero, so only their sums mean something: every tag's are split so.
func (b *Builder) writeTrackers() {
	n, stride := b.sizes.trackers, b.size("_POOL_TRACKER_TABLE")
	all := b.Totals()
	for uint64(len(all))+1 > n-1 {
		n = (n-1)*2 + 1
	}
	cpus := 1 + b.processors
	tables := make([]mem.VA, cpus)
	array := b.M.Global("ExPoolTagTables", 8*cpus+8)
	for i := range tables {
		tables[i] = b.areas[Nonpaged].take(n*stride, mem.PageSize)
		for off := uint64(0); off < n*stride; off += 8 {
			b.M.Put64(tables[i]+mem.VA(off), 0)
		}
		b.M.Put64(array+mem.VA(8*i), uint64(tables[i]))
	}
	for _, tag := range sortedTags(all) {
		for i, at := range tables {
			b.tracker(b.M, at, n, tag, share(all[tag], i, cpus))
		}
	}
	b.M.SetGlobal("PoolTrackTable", uint64(tables[0]))
	b.M.SetGlobal("PoolTrackTableSize", n)
	b.M.SetGlobal("PoolTrackTableMask", n-2)
	b.M.SetGlobal("PoolTrackTableExpansion", 0)
	b.M.SetGlobal("PoolTrackTableExpansionSize", 0)
}

// share gives a processor's part of a total: the last one takes what the others
// gave out too much or too little.
func share(t Total, cpu, cpus int) Total {
	of := func(u Use) Use {
		each := Use{u.Allocs/2 + 7, u.Frees/3 + 1, u.Bytes/2 + 0x100}
		if cpu < cpus-1 {
			return each
		}
		k := uint64(cpus - 1)
		return Use{u.Allocs - k*each.Allocs, u.Frees - k*each.Frees, u.Bytes - k*each.Bytes}
	}
	if t.Nonpaged != (Use{}) {
		t.Nonpaged = of(t.Nonpaged)
	}
	if t.Paged != (Use{}) {
		t.Paged = of(t.Paged)
	}
	return t
}

// tracker adds an entry to a table.
func (b *Builder) tracker(m setter, table mem.VA, n uint64, tag string, t Total) {
	const typ = "_POOL_TRACKER_TABLE"
	stride, key := b.size(typ), tagBits(tag, false)
	slot := hashTag(key, n-2)
	for b.used(m, table+mem.VA(slot*stride)) {
		slot = (slot + 1) % (n - 1)
	}
	e := table + mem.VA(slot*stride)
	m.Set(e, uint64(key), typ, "Key")
	for _, f := range []struct {
		name string
		v    uint64
	}{
		{"NonPagedAllocs", t.Nonpaged.Allocs}, {"NonPagedFrees", t.Nonpaged.Frees}, {"NonPagedBytes", t.Nonpaged.Bytes},
		{"PagedAllocs", t.Paged.Allocs}, {"PagedFrees", t.Paged.Frees}, {"PagedBytes", t.Paged.Bytes},
	} {
		m.Set(e, f.v, typ, f.name)
	}
}

func (b *Builder) used(m any, at mem.VA) bool {
	var key [4]byte
	_, err := m.(mem.Virtual).ReadVirtual(key[:], at)
	return err == nil && key != [4]byte{}
}
