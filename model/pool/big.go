package pool

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"gokd/model/mem"
)

// maxBigPages bounds the big-page table. MemProcFS takes a table of more than
// 0x1000000 entries for damage.
const maxBigPages = 1 << 24

// maxKept bounds the large allocations that are kept, some 50 MB of them. Page
// tables can map a few pages over and over, so a table of a size that passes
// may still hold far more than the dump.
const maxKept = 1 << 20

// maxAllocation bounds one large allocation in bytes: the kernel half of a
// 48-bit address space.
const maxAllocation = 1 << 47

// freeSlot is bit 0 of _POOL_TRACKER_BIG_PAGES.Va: the slot is free, what it
// says is of its last use (ReactOS expool.c, POOL_BIG_TABLE_ENTRY_FREE).
const freeSlot = 1

// Bits of PoolType in a big-page entry (_POOL_TYPE of the WDK).
const (
	typePaged   = 0x01
	typeSession = 0x20
)

// Bits of POOL_FLAGS (WDK, wdm.h), the low twelve of which an entry has place for.
const (
	flagSession = 0x004
	flagNX      = 0x040 // POOL_FLAG_NON_PAGED
	flagExecute = 0x080
	flagPaged   = 0x100

	typeNX = 0x200 // NonPagedPoolNx of _POOL_TYPE
)

// poolType gives the type of an entry as _POOL_TYPE has it. Windows 11 24H2
// calls the member PoolFlags; that its values are POOL_FLAGS is inferred from the
// name. One that names no pool as flags do is taken for a type.
func (l *layout) poolType(v uint16) uint16 {
	if !l.bigFlags || v&(flagNX|flagExecute|flagPaged) == 0 {
		return v
	}
	var t uint16
	switch {
	case v&flagPaged != 0:
		t = typePaged
	case v&flagNX != 0:
		t = typeNX
	}
	if v&flagSession != 0 {
		t |= typeSession
	}
	return t
}

// bigTable is the large allocations of the machine or of one session.
type bigTable struct {
	start, end mem.VA // of the table itself
	blocks     []Block
	spans      []span // the pages of the blocks, sorted and joined
	odd        uint64 // entries whose address or size is no allocation's
	partial    *PartError
}

// span is a range of addresses; end is the first one behind it.
type span struct{ start, end mem.VA }

// BigTable is where the table of large allocations lies and what it lacks.
type BigTable struct {
	Start, End mem.VA
	Entries    int    // in use and sane
	Odd        uint64 // entries whose address or size can't be an allocation's
	Missing    uint64 // entries that are not in the dump
	Err        error  // why, where Missing is not 0
}

// BigTable tells where the big-page table lies (nt!PoolBigPageTable) and how
// much of it could be read.
func (p *Pool) BigTable(ctx context.Context) (BigTable, error) {
	t, err := p.bigPages(ctx)
	if err != nil {
		return BigTable{}, err
	}
	return t.summary(), nil
}

func (t *bigTable) summary() BigTable {
	b := BigTable{Start: t.start, End: t.end, Entries: len(t.blocks), Odd: t.odd}
	if t.partial != nil {
		b.Missing, b.Err = t.partial.Entries, t.partial
	}
	return b
}

// bigPages reads the machine's table once.
func (p *Pool) bigPages(ctx context.Context) (*bigTable, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.big != nil {
		return p.big, nil
	}
	const what = "table of large allocations"
	if p.k.Triage() {
		return nil, &MissingError{what, errors.New("a triage dump has no tables of the pool")}
	}
	at, err := p.pointerVariable(what, "PoolBigPageTable")
	if err != nil {
		return nil, err
	}
	count, err := p.countVariable(what, "PoolBigPageTableSize", maxBigPages)
	if err != nil {
		return nil, err
	}
	t, err := p.readBigTable(ctx, p.k.Space, at, count)
	if err != nil {
		return nil, err
	}
	if t.partial != nil && t.partial.Entries == count {
		return nil, &MissingError{what, t.partial.Err}
	}
	p.big = t
	return t, nil
}

func (p *Pool) readBigTable(ctx context.Context, space *mem.Space, at mem.VA, count uint64) (*bigTable, error) {
	return p.readBigTableUpTo(ctx, space, at, count, maxKept)
}

// readBigTableUpTo keeps so many allocations at most.
func (p *Pool) readBigTableUpTo(ctx context.Context, space *mem.Space, at mem.VA, count uint64, keep int) (*bigTable, error) {
	const what = "table of large allocations"
	t := &bigTable{start: at, end: at + mem.VA(count*p.layout.bigSize)}
	// Counted first, so that the room is taken once and as it is needed.
	used := 0
	_, err := readTable(ctx, space, what, at, count, p.layout.bigSize, func(e []byte) {
		if _, state := p.layout.bigBlock(e); state == slotUsed {
			used++
		}
	})
	if err != nil {
		return nil, err
	}
	t.blocks = make([]Block, 0, min(used, keep))
	var dropped uint64
	t.partial, err = readTable(ctx, space, what, at, count, p.layout.bigSize, func(e []byte) {
		b, state := p.layout.bigBlock(e)
		switch {
		case state == slotOdd:
			t.odd++
		case state == slotUsed && len(t.blocks) == keep:
			dropped++
		case state == slotUsed:
			t.blocks = append(t.blocks, b)
		}
	})
	if err != nil {
		return nil, err
	}
	if dropped > 0 {
		if t.partial == nil {
			t.partial = &PartError{What: what, At: at, Err: fmt.Errorf("more than %d allocations: %w", keep, ErrLimit)}
		}
		t.partial.Entries += dropped
	}
	slices.SortFunc(t.blocks, func(a, b Block) int {
		switch {
		case a.Body < b.Body:
			return -1
		case a.Body > b.Body:
			return 1
		}
		return a.Tag.Compare(b.Tag)
	})
	t.spans = joinSpans(t.blocks)
	return t, nil
}

type slotState uint8

const (
	slotFree slotState = iota
	slotUsed
	slotOdd
)

// bigBlock reads an entry. Va is the first byte of the allocation, which starts
// a page; Key its tag; NumberOfBytes what was asked for. The table keeps no
// header sizes, so a large block has no PreviousSize.
func (l *layout) bigBlock(e []byte) (Block, slotState) {
	va := l.bigVA.get(e)
	if va == 0 || va&freeSlot != 0 {
		return Block{}, slotFree
	}
	size := l.bigSpan.get(e)
	if va%mem.PageSize != 0 || !kernelAddress(mem.VA(va)) || size == 0 || size > maxAllocation || va+size < va {
		return Block{}, slotOdd
	}
	b := Block{Header: mem.VA(va), Body: mem.VA(va), Size: size, Large: true, Place: InTable, Type: l.poolType(uint16(l.bigType.get(e)))}
	b.Tag, b.Protected = TagOf(uint32(l.bigKey.get(e)))
	switch {
	case b.Type&typeSession != 0:
		b.Kind = Session
	case b.Type&typePaged != 0:
		b.Kind = Paged
	}
	if l.bigBilled.size > 0 {
		b.Billed = l.bigBilled.get(e)
	}
	return b, slotUsed
}

// kernelAddress reports whether an address is canonical and in the upper half.
func kernelAddress(at mem.VA) bool { return at >= 0xffff800000000000 }

// joinSpans gives the pages of sorted blocks as ranges that do not overlap.
func joinSpans(blocks []Block) []span {
	var spans []span
	for _, b := range blocks {
		end := b.Body + mem.VA((b.Size+mem.PageSize-1)&^(mem.PageSize-1))
		if end < b.Body {
			end = ^mem.VA(0)
		}
		if n := len(spans); n > 0 && b.Body <= spans[n-1].end {
			spans[n-1].end = max(spans[n-1].end, end)
			continue
		}
		spans = append(spans, span{b.Body, end})
	}
	return spans
}

// holding finds the large allocation that holds an address.
func (t *bigTable) holding(at mem.VA) (Block, bool) {
	i, exact := slices.BinarySearchFunc(t.blocks, at, func(b Block, at mem.VA) int {
		switch {
		case b.Body < at:
			return -1
		case b.Body > at:
			return 1
		}
		return 0
	})
	if exact {
		return t.blocks[i], true
	}
	// A lying table can hold overlapping entries: the nearest start wins.
	if i > 0 && uint64(at-t.blocks[i-1].Body) < t.blocks[i-1].Size {
		return t.blocks[i-1], true
	}
	return Block{}, false
}
