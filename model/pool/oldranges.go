package pool

import (
	"fmt"

	"gokd/model/mem"
)

// Where the paged pool of Windows 7 x64 lies (Rekall plugins/windows/pool.py).
const (
	paged7Start mem.VA = 0xfffff8a000000000
	paged7Last  mem.VA = 0xfffff8cfffffffff
)

// oldVariables reads the limits that builds up to 9600 keep in variables of
// their own, some of which the debugger data block names too.
func (p *Pool) oldVariables(kind Kind) ([]Range, error) {
	if kind == Paged {
		r, err := p.oldPaged()
		if err != nil {
			return nil, err
		}
		return []Range{r}, nil
	}
	return p.oldNonpaged()
}

// oldNonpaged gives the nonpaged pool of builds up to 7: one range from Vista
// on; before, its first part and the expansion at the end of system space.
func (p *Pool) oldNonpaged() ([]Range, error) {
	start, from, err := p.firstSet("MmNonPagedPoolStart", "MiNonPagedPoolStartAligned")
	if err != nil {
		return nil, err
	}
	r := Range{Start: start, From: from}
	end, _, endErr := p.firstSet("MiNonPagedPoolEnd", "MmNonPagedPoolEnd")
	if endErr == nil && end > start {
		r.Last = end - 1
	} else if r.Last, err = p.nonpagedByBitmap(start); err != nil {
		r.Last = start | (slotBytes - 1) // to the end of its unit
	}
	more, expansion, err := p.firstSet("MmNonPagedPoolExpansionStart")
	if err != nil || more <= start || more >= r.Last {
		return []Range{r}, nil
	}
	rest := Range{Start: more, Last: r.Last, From: expansion}
	r.Last = more - 1
	if size, err := p.k.GlobalPointer("MmSizeOfNonPagedPoolInBytes"); err == nil && size > 0 && uint64(size) < uint64(more-start) {
		r.Last = start + size - 1
	}
	return []Range{r, rest}, nil
}

// nonpagedByBitmap gives the end that nt!MiNonPagedPoolBitMap tells, a bit of
// which stands for a page from the pool's start on (Rekall).
func (p *Pool) nonpagedByBitmap(start mem.VA) (mem.VA, error) {
	at, err := p.k.Global("MiNonPagedPoolBitMap")
	if err != nil {
		return 0, err
	}
	pages, err := p.k.Object("_RTL_BITMAP", at).Field("SizeOfBitMap").Uint()
	if err != nil || pages == 0 || pages > maxAllocation/mem.PageSize {
		return 0, fmt.Errorf("nt!MiNonPagedPoolBitMap at %#x: %#x pages: %v", uint64(at), pages, err)
	}
	return start + mem.VA(pages*mem.PageSize-1), nil
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

// Where page tables map themselves on builds up to 10586; later ones choose it
// at each start and keep it in nt!MmPteBase.
const oldPteBase mem.VA = 0xfffff68000000000

// pteBase gives where the entries of the lowest page tables lie.
func (p *Pool) pteBase() mem.VA {
	if at, err := p.k.GlobalPointer("MmPteBase"); err == nil && kernelAddress(at) && at%slotBytes == 0 {
		return at
	}
	return oldPteBase
}

// mappedBy gives the address that a page-table entry maps, from where the entry
// lies; false where it lies outside the page tables.
func (p *Pool) mappedBy(pte mem.VA) (mem.VA, bool) {
	base := p.pteBase()
	if pte < base || pte-base >= slotBytes || pte%8 != 0 {
		return 0, false
	}
	at := (pte - base) / 8 * mem.PageSize
	if at>>47&1 == 1 {
		at |= 0xffff << 48
	}
	return at, kernelAddress(at)
}

// pagedPoolInfo reads nt!MmPagedPoolInfo (7 and 8.1): the page-table entry of
// the pool's first page. Its bitmap, where there is one, has a bit per page.
func (p *Pool) pagedPoolInfo(kind Kind) ([]Range, error) {
	if kind != Paged {
		return nil, nil
	}
	at, err := p.k.Global("MmPagedPoolInfo")
	if err != nil {
		return nil, err
	}
	info := p.k.Object("_MM_PAGED_POOL_INFO", at)
	pte, err := info.Field("FirstPteForPagedPool").Pointer()
	if err != nil {
		return nil, err
	}
	pages, err := info.Field("PagedPoolAllocationMap.SizeOfBitMap").Uint()
	if err != nil {
		return nil, err
	}
	start, ok := p.mappedBy(pte)
	if !ok || pages == 0 || pages > maxAllocation/mem.PageSize {
		return nil, fmt.Errorf("nt!MmPagedPoolInfo at %#x: %#x pages from the entry at %#x", uint64(at), pages, uint64(pte))
	}
	return []Range{{Start: start, Last: start + mem.VA(pages*mem.PageSize-1), From: "nt!MmPagedPoolInfo"}}, nil
}
