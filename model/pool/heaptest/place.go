package heaptest

import (
	"gokd/model/mem"
)

// area is a range of addresses from which a pool takes its memory.
type area struct {
	first, last mem.VA
	next        mem.VA
}

// take gives n bytes at a multiple of align.
func (a *area) take(n, align uint64) mem.VA {
	at := (a.next + mem.VA(align-1)) &^ mem.VA(align-1)
	a.next = at + mem.VA(n)
	return at
}

// Where the pools of the machine lie. The machine's own objects are in the
// first 64 MB of nonpaged pool.
const (
	nonpagedAt mem.VA = 0xffffa80000000000
	pagedAt    mem.VA = 0xffffc00000000000
	paged7At   mem.VA = 0xfffff8a000000000 // of Windows 7 (Rekall plugins/windows/pool.py)
	sessionAt  mem.VA = 0xfffff900c0000000
	specialAt  mem.VA = 0xffffcf8000000000
	unit512    mem.VA = 1 << 39
)

func (b *Builder) places() map[Pool]*area {
	paged := &area{first: pagedAt, last: pagedAt + unit512 - 1, next: pagedAt + 0x100000}
	if b.build == 7601 {
		paged = &area{first: paged7At, last: paged7At + 0x1fffffffff, next: paged7At + 0x100000}
	}
	nonpaged := &area{first: nonpagedAt, last: nonpagedAt + unit512 - 1, next: nonpagedAt + 0x10000000}
	if b.SegmentHeaps() { // special pool has no region of its own any more
		return map[Pool]*area{
			Nonpaged: nonpaged, NonpagedNx: nonpaged, Paged: paged, PagedOther: paged, SpecialNonpaged: nonpaged, SpecialPaged: paged,
		}
	}
	return map[Pool]*area{
		Nonpaged: nonpaged, NonpagedNx: nonpaged, Paged: paged, PagedOther: paged,
		SpecialNonpaged: {first: specialAt, last: specialAt + 0xffffffff, next: specialAt},
		SpecialPaged:    {first: specialAt - unit512, last: specialAt - unit512 + 0xffffffff, next: specialAt - unit512},
	}
}

// Range gives the first and last address of a pool's range.
func (b *Builder) Range(p Pool) (first, last mem.VA) { return b.areas[p].first, b.areas[p].last }

// writeRanges writes what tells where the pools lie: variables up to 9600 (whose
// nonpaged pool has none), the regions and limits of the memory manager later.
func (b *Builder) writeRanges() {
	n, p := b.areas[Nonpaged], b.areas[Paged]
	switch {
	case b.build == 7601:
		b.M.SetGlobal("MmNonPagedPoolStart", uint64(n.first))
		b.M.SetGlobal("MiNonPagedPoolStartAligned", uint64(n.first))
		b.M.SetGlobal("MiNonPagedPoolEnd", uint64(n.last+1))
		b.M.SetGlobal("MmPagedPoolEnd", uint64(p.last))
		b.M.SetGlobal("MmSizeOfPagedPoolInBytes", uint64(p.last-p.first)+1)
	case b.build == 9600:
		b.M.SetGlobal("MiPagedPoolStart", uint64(p.first))
		b.M.SetGlobal("MmPagedPoolEnd", uint64(p.last))
		b.M.SetGlobal("MmSizeOfPagedPoolInBytes", uint64(p.last-p.first)+1)
	default:
		b.writeVisible()
		b.writeState()
	}
	b.M.Global("MmSpecialPoolTag", 8)
}

// writeVisible writes _MI_VISIBLE_STATE: the regions by type, and from 17763 on
// what each 512 GB of system space serves.
func (b *Builder) writeVisible() {
	state := b.M.Variable(int(b.size("_MI_VISIBLE_STATE")))
	b.M.SetGlobal("MiVisibleState", uint64(state))
	enum, err := b.l.Type("_MI_ASSIGNED_REGION_TYPES")
	if err != nil {
		b.t.Fatal(err)
	}
	regions, _ := b.M.Field("_MI_VISIBLE_STATE", "SystemVaRegions")
	stride := b.size("_MI_SYSTEM_VA_ASSIGNMENT")
	special := *b.areas[SpecialPaged] // 14393 has one region for both
	special.last = b.areas[SpecialNonpaged].last
	for name, a := range map[string]*area{
		"AssignedRegionNonPagedPool": b.areas[Nonpaged], "AssignedRegionPagedPool": b.areas[Paged], "AssignedRegionSpecialPool": &special,
		"AssignedRegionSpecialPoolPaged": b.areas[SpecialPaged], "AssignedRegionSpecialPoolNonPaged": b.areas[SpecialNonpaged],
		"AssignedRegionSession": {first: sessionSpace, last: sessionSpace + unit512 - 1},
	} {
		if _, ok := enum.Consts[name]; !ok {
			continue
		}
		at := state + mem.VA(regions) + mem.VA(uint64(enum.Consts[name])*stride)
		b.M.Set(at, uint64(a.first), "_MI_SYSTEM_VA_ASSIGNMENT", "BaseAddress")
		b.M.Set(at, uint64(a.last-a.first)+1, "_MI_SYSTEM_VA_ASSIGNMENT", "NumberOfBytes")
	}
	if !b.M.Has("_MI_VISIBLE_STATE", "SystemVaType") {
		return
	}
	kinds, err := b.l.Type("_MI_SYSTEM_VA_TYPE")
	if err != nil {
		b.t.Fatal(err)
	}
	types, _ := b.M.Field("_MI_VISIBLE_STATE", "SystemVaType")
	for name, at := range map[string]mem.VA{
		"MiVaNonPagedPool": nonpagedAt, "MiVaPagedPool": pagedAt, "MiVaSessionSpace": sessionAt, "MiVaSpecialPoolNonPaged": specialAt,
		"MiVaSpecialPoolPaged": specialAt - unit512,
	} {
		if v, ok := kinds.Consts[name]; ok {
			b.M.Put(state+mem.VA(types)+at>>39&0x1ff-256, byte(v))
		}
	}
}

// writeState writes the limits in _MI_SYSTEM_INFORMATION.
func (b *Builder) writeState() {
	size := b.size("_MI_SYSTEM_INFORMATION")
	state := b.M.Global("MiState", int(size))
	n, p := b.areas[Nonpaged], b.areas[Paged]
	b.M.Set(state, uint64(p.first), "_MI_SYSTEM_INFORMATION", "SystemVa", "DynamicBitMapPagedPool", "BaseVa")
	b.M.Set(state, uint64(p.last-p.first+1)/mem.PageSize, "_MI_SYSTEM_INFORMATION", "SystemVa", "DynamicBitMapPagedPool", "MaximumSize")
	if b.build == 14393 { // 17763 has two, of which no source tells which is which
		s := b.areas[SpecialPaged].first
		b.M.Set(state, uint64(s), "_MI_SYSTEM_INFORMATION", "SystemVa", "DynamicBitMapSpecialPool", "BaseVa")
		b.M.Set(state, uint64(b.areas[SpecialNonpaged].last-s+1)/mem.PageSize, "_MI_SYSTEM_INFORMATION", "SystemVa", "DynamicBitMapSpecialPool", "MaximumSize")
	}
	name, typ := "SystemNodeInformation", "_MI_SYSTEM_NODE_INFORMATION"
	info, err := b.l.Type("_MI_SYSTEM_INFORMATION")
	if err != nil {
		b.t.Fatal(err)
	}
	hardware, _ := info.Field("Hardware")
	if _, ok := hardware.Type.Field(name); !ok {
		name, typ = "SystemNodeNonPagedPool", "_MI_SYSTEM_NODE_NONPAGED_POOL"
	}
	node := b.M.Variable(int(b.size(typ)))
	b.M.Set(state, uint64(node), "_MI_SYSTEM_INFORMATION", "Hardware", name)
	b.M.Set(node, uint64(n.first), typ, "NonPagedPoolFirstVa")
	b.M.Set(node, uint64(n.last)&^0xfff, typ, "NonPagedPoolLastVa")
}

// size gives the bytes of a structure.
func (b *Builder) size(typ string) uint64 {
	b.t.Helper()
	t, err := b.l.Type(typ)
	if err != nil {
		b.t.Fatal(err)
	}
	return uint64(t.Size)
}
