package pool

import (
	"context"
	"fmt"
	"slices"
	"strings"

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
	// Inferred: no structure of the kernel tells of the range. Objects of the
	// pool lie in it, and it is the unit of address space around them.
	Inferred bool

	space *mem.Space
	big   *bigTable // of the session
}

// slotBytes is what one entry of the top page table maps. Windows lays the
// regions of its system space out in units of it from 8.1 on (from 17763 on
// _MI_VISIBLE_STATE.SystemVaType has a byte for each), and the nonpaged pool of
// 7 fills the upper part of such a unit, above the PFN database.
const slotBytes = 1 << 39

// Ranges gives where a pool lies, by address. Nothing in a kernel's memory says
// it on every build, so every source that the build has is asked, the surest
// first, and what one tells that those before it did not is added: the regions
// that the memory manager assigned, the use of each unit of system space, the
// limits of every NUMA node, the variables of older builds. Free blocks on the
// lists of pool descriptors and known objects (large allocations, processes,
// threads, handle tables) that lie outside all of these show that they do not
// tell all; the unit of 512 GB around such a one is then taken in and marked.
func (p *Pool) Ranges(ctx context.Context, kind Kind) ([]Range, error) {
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
	switch kind {
	case Session:
		list, err = p.sessionRanges(ctx)
	case Special:
		list, err = p.specialRanges(ctx)
	default:
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

// rangeSource is one place where a kernel says where a pool lies.
type rangeSource func(Kind) ([]Range, error)

func (p *Pool) findRanges(ctx context.Context, kind Kind) ([]Range, error) {
	list, why := p.declared(kind, p.assignedRegions, p.slotTypes, p.nodeLimits, p.pagedBitmap, p.oldVariables, p.pagedPoolInfo)
	if why == nil && len(list) == 0 {
		why = fmt.Errorf("no variable of the kernel tells of it")
	}
	listed := p.freeListEnds(ctx, kind)
	objects, err := p.knownObjects(ctx, kind)
	if err != nil {
		return nil, err
	}
	list = p.takeIn(list, kind, listed, "free lists")
	list = p.takeIn(list, kind, objects, "known objects")
	if len(list) == 0 {
		return nil, fmt.Errorf("%s pool: its range is not known: %w", kind, why)
	}
	return tidy(list), nil
}

// declared asks sources and keeps what each tells that those before it did not.
// The error is the most telling of those that had nothing.
func (p *Pool) declared(kind Kind, sources ...rangeSource) (list []Range, why error) {
	for _, source := range sources {
		found, err := source(kind)
		if err != nil {
			why = keepGlobal(why, err)
		}
		for _, r := range found {
			if !kernelAddress(r.Start) || r.Last <= r.Start || r.Last-r.Start > 1<<46 {
				why = keepGlobal(why, fmt.Errorf("%s: %#x to %#x is no pool", r.From, uint64(r.Start), uint64(r.Last)))
				continue
			}
			if !within(list, r.Start, r.Last) {
				r.Kind, r.space = kind, p.k.Space
				list = append(list, r)
			}
		}
	}
	return list, why
}

// within reports whether one range of a list holds all of a range.
func within(list []Range, start, last mem.VA) bool {
	return slices.ContainsFunc(list, func(r Range) bool { return start >= r.Start && last <= r.Last })
}

// takeIn adds the unit of address space around each address that lies in no
// range yet.
func (p *Pool) takeIn(list []Range, kind Kind, addresses []mem.VA, from string) []Range {
	for _, at := range addresses {
		if within(list, at, at) {
			continue
		}
		start := at &^ (slotBytes - 1)
		list = append(list, Range{
			Kind: kind, Start: start, Last: start + slotBytes - 1, From: from, Inferred: true, space: p.k.Space,
		})
	}
	return list
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
		if n := len(out); n > 0 && r.Start-1 <= out[n-1].Last {
			last := &out[n-1]
			if !strings.Contains(last.From, r.From) {
				last.From += ", " + r.From
			}
			last.Last, last.Inferred = max(last.Last, r.Last), last.Inferred || r.Inferred
			continue
		}
		out = append(out, r)
	}
	return out
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
