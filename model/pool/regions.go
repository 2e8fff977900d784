package pool

import (
	"fmt"

	"gokd/model"
	"gokd/model/mem"
)

// Bounds of what the memory manager's structures are asked for.
const (
	maxNodes = 64  // NUMA nodes that Windows knows
	maxSlots = 256 // entries of the top page table for system space
)

// systemStart is the first address of system space; its slots count from it.
const systemStart mem.VA = 0xffff800000000000

// assignedTypes are the members of _MI_ASSIGNED_REGION_TYPES for a pool. Their
// values differ from build to build; the types of this build give them.
var assignedTypes = map[Kind][]string{
	Nonpaged: {"AssignedRegionNonPagedPool"},
	Paged:    {"AssignedRegionPagedPool"},
	// One region for both in 14393, one each in 17763, none later.
	Special: {"AssignedRegionSpecialPool", "AssignedRegionSpecialPoolPaged", "AssignedRegionSpecialPoolNonPaged"},
}

// assignedRegions reads _MI_VISIBLE_STATE.SystemVaRegions (14393 and later),
// which has an entry per member of _MI_ASSIGNED_REGION_TYPES.
func (p *Pool) assignedRegions(kind Kind) (list []Range, why error) {
	enum, err := p.k.Types.Type("_MI_ASSIGNED_REGION_TYPES")
	if err != nil {
		return nil, err
	}
	state, err := p.k.GlobalPointer("MiVisibleState")
	if err != nil {
		return nil, err
	}
	for _, member := range assignedTypes[kind] {
		index, ok := enum.Consts[member]
		if !ok || index < 0 || index >= maxSlots {
			continue
		}
		region := p.k.Object("_MI_VISIBLE_STATE", state).Field("SystemVaRegions").Index(uint32(index))
		start, err := region.Field("BaseAddress").Pointer()
		if err != nil {
			return list, err
		}
		size, err := region.Field("NumberOfBytes").Uint()
		if err != nil || size == 0 || start+mem.VA(size-1) < start {
			why = fmt.Errorf("nt!MiVisibleState: the %s has %#x bytes at %#x: %v", member, size, uint64(start), err)
			continue
		}
		list = append(list, Range{Start: start, Last: start + mem.VA(size-1), From: "nt!MiVisibleState"})
	}
	return list, why
}

// slotUses are the members of _MI_SYSTEM_VA_TYPE for a pool.
var slotUses = map[Kind][]string{
	Nonpaged: {"MiVaNonPagedPool"},
	Paged:    {"MiVaPagedPool"},
	Special:  {"MiVaSpecialPoolPaged", "MiVaSpecialPoolNonPaged"},
}

// slotTypes reads _MI_VISIBLE_STATE.SystemVaType (17763 and later): a byte for
// each entry of the top page table that maps system space, which says what the
// 512 GB below it are used for.
func (p *Pool) slotTypes(kind Kind) ([]Range, error) {
	enum, err := p.k.Types.Type("_MI_SYSTEM_VA_TYPE")
	if err != nil {
		return nil, err
	}
	if err := p.k.Object("_MI_VISIBLE_STATE", 0).Field("SystemVaType").Err(); err != nil {
		return nil, err // 14393 has none
	}
	state, err := p.k.GlobalPointer("MiVisibleState")
	if err != nil {
		return nil, err
	}
	uses, err := p.k.Object("_MI_VISIBLE_STATE", state).Field("SystemVaType").Bytes(maxSlots)
	if err != nil {
		return nil, err
	}
	wanted := map[byte]bool{}
	for _, name := range slotUses[kind] {
		if v, ok := enum.Consts[name]; ok && v > 0 && v < 256 {
			wanted[byte(v)] = true
		}
	}
	var list []Range
	for i, use := range uses {
		if !wanted[use] {
			continue
		}
		start := systemStart + mem.VA(i)*slotBytes
		if n := len(list); n > 0 && list[n-1].Last+1 == start {
			list[n-1].Last += slotBytes
			continue
		}
		list = append(list, Range{Start: start, Last: start + slotBytes - 1, From: "_MI_VISIBLE_STATE.SystemVaType"})
	}
	return list, nil
}

// nodeCount gives how many NUMA nodes the machine has; known is false where the
// variable is not.
func (p *Pool) nodeCount() (n uint32, known bool) {
	at, err := p.k.Global("KeNumberNodes")
	if err != nil {
		return maxNodes, false
	}
	var b [2]byte
	if _, err := p.k.Space.ReadVirtual(b[:], at); err != nil {
		return maxNodes, false
	}
	n = uint32(b[0]) | uint32(b[1])<<8
	if n == 0 || n > maxNodes {
		return maxNodes, false
	}
	return n, true
}

// miState gives the memory manager's _MI_SYSTEM_INFORMATION, which builds from
// 10240 on have. A build without it has no such type, which is told first: its
// variable need not be looked for.
func (p *Pool) miState() (model.Object, error) {
	if _, err := p.k.Types.Type("_MI_SYSTEM_INFORMATION"); err != nil {
		return model.Object{}, err
	}
	at, err := p.k.Global("MiState")
	if err != nil {
		return model.Object{}, err
	}
	return p.k.Object("_MI_SYSTEM_INFORMATION", at), nil
}

// nodeLimits reads the nonpaged pool of every NUMA node that
// _MI_SYSTEM_INFORMATION keeps (14393 and later): SystemNodeInformation, from
// 20348 on SystemNodeNonPagedPool. Where the number of nodes is not known the
// array ends with the first entry that can't be a node's.
func (p *Pool) nodeLimits(kind Kind) ([]Range, error) {
	if kind != Nonpaged {
		return nil, nil
	}
	state, err := p.miState()
	if err != nil {
		return nil, err
	}
	array := state.Field("Hardware.SystemNodeNonPagedPool")
	if array.Err() != nil {
		array = state.Field("Hardware.SystemNodeInformation") // up to 19041
	}
	if first, err := array.Pointer(); err != nil || !kernelAddress(first) {
		return nil, fmt.Errorf("nt!MiState: the nodes lie at %#x: %v", uint64(first), err)
	}
	count, known := p.nodeCount()
	var list []Range
	for i := range count {
		r, err := p.nodeRange(array.Index(i))
		if err != nil {
			if i > 0 && !known {
				err = nil // behind the last node
			}
			return list, err
		}
		if i > 0 && !known && r.Start <= list[i-1].Last {
			break // nodes have addresses of their own, in their order
		}
		r.From = "nt!MiState"
		if i > 0 {
			r.From = fmt.Sprintf("nt!MiState, node %d", i)
		}
		list = append(list, r)
	}
	return list, nil
}

func (p *Pool) nodeRange(node model.Object) (r Range, err error) {
	if r.Start, err = node.Field("NonPagedPoolFirstVa").Pointer(); err != nil {
		return r, err
	}
	if r.Last, err = node.Field("NonPagedPoolLastVa").Pointer(); err != nil {
		return r, err
	}
	if !kernelAddress(r.Start) || r.Start%mem.PageSize != 0 || r.Last <= r.Start {
		return r, fmt.Errorf("nt!MiState: nonpaged pool of the node at %#x: %#x to %#x is none",
			uint64(node.Addr()), uint64(r.Start), uint64(r.Last))
	}
	r.Last |= mem.PageSize - 1
	return r, nil
}

// pagedBitmap reads the bitmap with which paged pool is given out (14393 and
// later): a bit for each page from BaseVa on.
func (p *Pool) pagedBitmap(kind Kind) ([]Range, error) {
	if kind != Paged {
		return nil, nil
	}
	state, err := p.miState()
	if err != nil {
		return nil, err
	}
	return p.bitmapRange(state.Field("SystemVa.DynamicBitMapPagedPool"), "nt!MiState")
}

// bitmapRange reads a _MI_DYNAMIC_BITMAP, MaximumSize of which counts pages.
func (p *Pool) bitmapRange(bitmap model.Object, from string) ([]Range, error) {
	pages, err := bitmap.Field("MaximumSize").Uint()
	if err != nil {
		return nil, err
	}
	start, err := bitmap.Field("BaseVa").Pointer()
	if err != nil {
		return nil, err
	}
	if pages == 0 || pages > maxAllocation/mem.PageSize || start%mem.PageSize != 0 {
		return nil, fmt.Errorf("%s: the bitmap at %#x has %#x pages from %#x", from, uint64(bitmap.Addr()), pages, uint64(start))
	}
	return []Range{{Start: start, Last: start + mem.VA(pages*mem.PageSize-1), From: from}}, nil
}
