package pool

import (
	"context"
	"fmt"
	"slices"

	"gokd/model"
	"gokd/model/mem"
)

// Range is a range of virtual memory that belongs to a pool.
type Range struct {
	Kind    Kind
	Start   mem.VA
	Last    mem.VA // its last byte
	Session uint32 // number of the session, for session pool
	From    string // how it was found: "nt!MiVisibleState", "known objects"

	space *mem.Space
	big   *bigTable // of the session
}

// slotBytes is what one entry of the top page table maps. Windows lays the
// regions of its system space out in units of it from 8.1 on (from 17763 on
// _MI_VISIBLE_STATE.SystemVaType has a byte for each), and the nonpaged pool of
// 7 fills the upper part of such a unit, above the PFN database.
const slotBytes = 1 << 39

// Where the paged pool of Windows 7 x64 lies (Rekall plugins/windows/pool.py).
const (
	paged7Start mem.VA = 0xfffff8a000000000
	paged7Last  mem.VA = 0xfffff8cfffffffff
)

// Ranges gives where a pool lies. Nothing in a kernel's memory says it on every
// build, so several sources are asked, the surest first: the regions that the
// memory manager assigned (14393 and later), its per-node limits, the variables
// of older builds, and last the known objects of that pool: the table of large
// allocations, processes, threads, handle tables. An object of the kind outside
// the ranges that a variable gives shows that the variable does not tell all;
// the unit of 512 GB around it is then taken in.
func (p *Pool) Ranges(ctx context.Context, kind Kind) ([]Range, error) {
	if kind == Special {
		return nil, fmt.Errorf("special pool is %w: how its pages say what they hold is not documented", ErrNotWalked)
	}
	if !p.k.Space.Paged() {
		return nil, &MissingError{kind.String() + " pool", fmt.Errorf("a triage dump has no page tables")}
	}
	p.mu.Lock()
	known, ok := p.ranges[kind]
	p.mu.Unlock()
	if ok {
		return known, nil
	}
	var list []Range
	var err error
	if kind == Session {
		list, err = p.sessionRanges(ctx)
	} else {
		list, err = p.findRanges(ctx, kind)
	}
	if err != nil {
		return nil, err
	}
	p.mu.Lock()
	p.ranges[kind] = list
	p.mu.Unlock()
	return list, nil
}

func (p *Pool) findRanges(ctx context.Context, kind Kind) ([]Range, error) {
	r, why := p.declaredRange(kind)
	var list []Range
	if why == nil {
		r.Kind, r.space = kind, p.k.Space
		list = append(list, r)
	}
	objects, err := p.knownObjects(ctx, kind)
	if err != nil {
		return nil, err
	}
	for _, at := range objects {
		inside := slices.ContainsFunc(list, func(r Range) bool { return at >= r.Start && at <= r.Last })
		if inside {
			continue
		}
		start := at &^ (slotBytes - 1)
		list = append(list, Range{Kind: kind, Start: start, Last: start + slotBytes - 1, From: "known objects", space: p.k.Space})
	}
	if len(list) == 0 {
		return nil, fmt.Errorf("%s pool: its range is not known: %w", kind, why)
	}
	return tidy(list), nil
}

// tidy sorts ranges and joins those that touch.
func tidy(list []Range) []Range {
	slices.SortFunc(list, func(a, b Range) int {
		switch {
		case a.Start < b.Start:
			return -1
		case a.Start > b.Start:
			return 1
		}
		return 0
	})
	out := list[:0]
	for _, r := range list {
		if n := len(out); n > 0 && r.Start <= out[n-1].Last+1 {
			if r.From != out[n-1].From {
				out[n-1].From += ", " + r.From
			}
			out[n-1].Last = max(out[n-1].Last, r.Last)
			continue
		}
		out = append(out, r)
	}
	return out
}

// declaredRange asks the variables of the memory manager.
func (p *Pool) declaredRange(kind Kind) (Range, error) {
	var first error
	sources := []func(Kind) (Range, error){p.assignedRegion, p.nodeLimits, p.oldVariables}
	for _, source := range sources {
		r, err := source(kind)
		if err == nil && (!kernelAddress(r.Start) || r.Last <= r.Start || r.Last-r.Start > 1<<46) {
			err = fmt.Errorf("%s: %#x to %#x is no pool", r.From, uint64(r.Start), uint64(r.Last))
		}
		if err == nil {
			return r, nil
		}
		first = keepGlobal(first, err)
	}
	return Range{}, first
}

// keepGlobal prefers an error that names a variable of the kernel: it tells
// the user what to look for.
func keepGlobal(have, next error) error {
	var g *model.GlobalError
	if have == nil || asGlobal(next, &g) && !asGlobal(have, &g) {
		return next
	}
	return have
}

// assignedRegion reads _MI_VISIBLE_STATE.SystemVaRegions, which has an entry
// per member of _MI_ASSIGNED_REGION_TYPES.
func (p *Pool) assignedRegion(kind Kind) (Range, error) {
	r := Range{From: "nt!MiVisibleState"}
	member := map[Kind]string{Nonpaged: "AssignedRegionNonPagedPool", Paged: "AssignedRegionPagedPool"}[kind]
	enum, err := p.k.Types.Type("_MI_ASSIGNED_REGION_TYPES")
	if err != nil {
		return r, err
	}
	index, ok := enum.Consts[member]
	if !ok {
		return r, fmt.Errorf("_MI_ASSIGNED_REGION_TYPES has no %s", member)
	}
	state, err := p.k.GlobalPointer("MiVisibleState")
	if err != nil {
		return r, err
	}
	region := p.k.Object("_MI_VISIBLE_STATE", state).Field("SystemVaRegions").Index(uint32(index))
	r.Start, err = region.Field("BaseAddress").Pointer()
	if err != nil {
		return r, err
	}
	size, err := region.Field("NumberOfBytes").Uint()
	if err != nil || size == 0 {
		return r, fmt.Errorf("%s: its region has %#x bytes: %v", r.From, size, err)
	}
	r.Last = r.Start + mem.VA(size-1)
	return r, nil
}

// nodeLimits reads the limits that _MI_SYSTEM_INFORMATION keeps: of the first
// NUMA node for nonpaged pool, of the bitmap of paged pool.
func (p *Pool) nodeLimits(kind Kind) (Range, error) {
	r := Range{From: "nt!MiState"}
	at, err := p.k.Global("MiState")
	if err != nil {
		return r, err
	}
	state := p.k.Object("_MI_SYSTEM_INFORMATION", at)
	if kind == Paged {
		bitmap := state.Field("SystemVa.DynamicBitMapPagedPool")
		pages, err := bitmap.Field("MaximumSize").Uint()
		if err != nil || pages == 0 || pages > maxAllocation/mem.PageSize {
			return r, fmt.Errorf("nt!MiState: bitmap of paged pool: %#x pages: %v", pages, err)
		}
		r.Start, err = bitmap.Field("BaseVa").Pointer()
		r.Last = r.Start + mem.VA(pages*mem.PageSize-1)
		return r, err
	}
	node := state.Field("Hardware.SystemNodeInformation") // up to 19041
	if node.Err() != nil {
		node = state.Field("Hardware.SystemNodeNonPagedPool")
	}
	node = node.Deref()
	if r.Start, err = node.Field("NonPagedPoolFirstVa").Pointer(); err != nil {
		return r, err
	}
	r.Last, err = node.Field("NonPagedPoolLastVa").Pointer()
	r.Last |= mem.PageSize - 1
	return r, err
}

// oldVariables reads the limits that builds up to 9600 keep in variables of
// their own, some of which the debugger data block names too.
func (p *Pool) oldVariables(kind Kind) (Range, error) {
	if kind == Paged {
		return p.oldPaged()
	}
	r := Range{}
	var err error
	if r.Start, r.From, err = p.firstSet("MmNonPagedPoolStart", "MiNonPagedPoolStartAligned"); err != nil {
		return r, err
	}
	// Without an end the pool reaches to the end of its unit.
	r.Last = r.Start | (slotBytes - 1)
	if end, _, err := p.firstSet("MiNonPagedPoolEnd", "MmNonPagedPoolEnd"); err == nil && end > r.Start {
		r.Last = end - 1
	}
	return r, nil
}

// firstSet gives the value of the first variable that holds an address of the
// kernel.
func (p *Pool) firstSet(names ...string) (mem.VA, string, error) {
	var why error
	for _, name := range names {
		v, err := p.k.GlobalPointer(name)
		if err == nil && kernelAddress(v) {
			return v, "nt!" + name, nil
		}
		if err == nil {
			err = fmt.Errorf("nt!%s is %#x", name, uint64(v))
		}
		why = keepGlobal(why, err)
	}
	return 0, "", why
}

// oldPaged works the paged pool out from two of its start, size and end.
func (p *Pool) oldPaged() (Range, error) {
	r := Range{From: "nt!MmPagedPoolEnd"}
	end, _, endErr := p.firstSet("MmPagedPoolEnd")
	size, sizeErr := p.k.GlobalPointer("MmSizeOfPagedPoolInBytes")
	if sizeErr == nil && (size == 0 || size > maxAllocation) {
		sizeErr = fmt.Errorf("nt!MmSizeOfPagedPoolInBytes is %#x", uint64(size))
	}
	start, from, err := p.firstSet("MmPagedPoolStart", "MiPagedPoolStart")
	switch {
	case err == nil && endErr == nil && end > start:
		r.Start, r.Last, r.From = start, end, from
	case err == nil && sizeErr == nil:
		r.Start, r.Last, r.From = start, start+size-1, from
	case endErr == nil && sizeErr == nil:
		r.Start, r.Last = end|(mem.PageSize-1)-size+1, end
	case endErr == nil && end > paged7Start && end <= paged7Last:
		r.Start, r.Last = paged7Start, end
	case endErr != nil:
		return r, endErr
	default:
		return r, sizeErr
	}
	r.Last |= mem.PageSize - 1
	return r, nil
}
