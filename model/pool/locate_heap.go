package pool

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"

	"gokd/model/mem"
	"gokd/model/pool/cell"
	"gokd/model/pool/heap"
)

// HeapSite is where in a segment heap an address lies.
type HeapSite struct {
	Area heap.Area
	// Of a slot of a low-fragmentation subsegment:
	Slot     int    // its number, from 0; -1 elsewhere
	SlotSize uint64 // bytes
	Chunk    mem.VA // the chunk header before the block, in a variable-size subsegment; else 0
	Missing  uint64 // bytes of the subsegment that are not in the dump

	first uint64 // offset of slot 0
}

// maxArea bounds the range of a segment that is read to find one block in it:
// the largest segments have 16 MB.
const maxArea = 16 << 20

// locateHeap looks the address up in the segment heaps: the range of a segment
// that holds it is read and decoded, nothing else.
func (p *Pool) locateHeap(ctx context.Context, l *Location) error {
	h, err := p.heaps(ctx)
	if err != nil {
		if errors.Is(err, heap.ErrRefused) {
			return fmt.Errorf("%#x: small blocks are %w: %w", uint64(l.At), ErrNotWalked, err)
		}
		return err
	}
	area, ok, err := h.At(ctx, l.At)
	switch {
	case err != nil:
		return err
	case !ok:
		return p.locateLargeOf(ctx, l, h)
	}
	l.setHeap(area)
	switch area.Kind {
	case heap.AreaVS, heap.AreaLFH:
		return p.locateCell(ctx, l, h)
	case heap.AreaPages:
		l.Found, l.Part = true, PartBody
		l.Block = Block{Header: area.At, Body: area.At, Size: area.Size - min(area.Unused, area.Size), Room: area.Size,
			Heap: area.Heap.At, Kind: l.Kind, Place: InRange, Large: true}
		l.Blocks = []Block{l.Block}
		if l.At >= l.Block.End() {
			l.Part = PartSlack
		}
		return nil
	case heap.AreaHeaders:
		l.Part, l.Where = PartOverhead, fmt.Sprintf("the descriptors of the segment at %#x of the heap at %#x", uint64(area.Segment), uint64(area.Heap.At))
	default:
		l.Where = fmt.Sprintf("a %s of the segment at %#x of the heap at %#x", area.Kind, uint64(area.Segment), uint64(area.Heap.At))
	}
	return fmt.Errorf("%#x: %w: %s", uint64(l.At), ErrNotPool, l.Where)
}

// setHeap takes what the heap says of the address.
func (l *Location) setHeap(area heap.Area) {
	l.Heap = &HeapSite{Area: area, Slot: -1}
	l.Kind, l.Known = heapKind(area.Heap), true
	if area.Heap.Role == heap.Session {
		id := area.Heap.Session
		l.Session = &id
	}
	if area.Heap.Space != nil {
		l.space = area.Heap.Space
	}
}

// heapKind tells which pool a heap serves.
func heapKind(h *heap.Heap) Kind {
	switch {
	case h.Role == heap.Session:
		return Session
	case h.Role == heap.Special:
		return Special
	case h.IsPaged:
		return Paged
	}
	return Nonpaged
}

// locateLargeOf looks the address up in the heaps' own records of large
// allocations, for one that the table of large allocations lacks.
func (p *Pool) locateLargeOf(ctx context.Context, l *Location, h *heap.Heaps) error {
	for _, of := range h.List {
		for a, err := range h.LargeOf(ctx, of) {
			if err != nil || l.At < a.At || uint64(l.At-a.At) >= a.Pages*pageSize {
				continue
			}
			l.setHeap(heap.Area{Heap: of, At: a.At, Size: a.Pages * pageSize, Unused: a.Unused, Kind: heap.AreaPages})
			l.Found, l.Part = true, PartBody
			size := a.Pages * pageSize
			l.Block = Block{Header: a.At, Body: a.At, Size: size - min(a.Unused, size), Room: size, Heap: of.At, Kind: l.Kind, Place: InRange, Large: true}
			l.Blocks = []Block{l.Block}
			return nil
		}
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	// A page of a heap that the dump lacks is told from an address in none.
	if _, err := l.space.Uint8(l.At.Page()); err != nil {
		return fmt.Errorf("page of pool at %#x: %w", uint64(l.At.Page()), err)
	}
	return fmt.Errorf("%#x: %w: no segment of a heap holds it", uint64(l.At), ErrNotPool)
}

// locateCell decodes a subsegment and picks the block that holds the address.
func (p *Pool) locateCell(ctx context.Context, l *Location, h *heap.Heaps) error {
	area := &l.Heap.Area
	if area.Size == 0 || area.Size > maxArea {
		return fmt.Errorf("%s at %#x of %#x bytes: %w", area.Kind, uint64(area.At), area.Size, ErrLimit)
	}
	pages := make([]*[mem.PageSize]byte, (area.Size+mem.PageSize-1)/mem.PageSize)
	var why error
	for i := range pages {
		var page [mem.PageSize]byte
		at := area.At + mem.VA(i)*mem.PageSize
		if _, err := l.space.ReadVirtual(page[:], at); err == nil {
			pages[i] = &page
		} else if at == l.At.Page() {
			why = err
		}
		if i%256 == 0 && ctx.Err() != nil {
			return ctx.Err()
		}
	}
	if why != nil {
		return fmt.Errorf("page of pool at %#x: %w", uint64(l.At.Page()), why)
	}
	cells, tally := h.Decode(nil, area, pages)
	l.Heap.Missing = tally.Missing
	for _, c := range cells {
		l.Blocks = append(l.Blocks, heapBlock(c, l, pages))
	}
	p.readSlots(l, h)
	l.heapDamage(tally.Errs, pages)
	for i := range l.Blocks {
		b := &l.Blocks[i]
		from := b.Header
		if area.Kind == heap.AreaVS {
			from -= HeaderSize // its chunk header
		}
		if l.At < from || l.At >= b.reach() {
			continue
		}
		l.Found, l.Block, l.Part = true, *b, b.part(l.At)
		if l.At < b.Header {
			l.Part = PartChunk
		}
		if area.Kind == heap.AreaVS {
			l.Heap.Chunk = from
		}
		if off := uint64(b.Header - area.At); l.Heap.SlotSize > 0 && off >= l.Heap.first {
			l.Heap.Slot = int((off - l.Heap.first) / l.Heap.SlotSize)
		}
		return nil
	}
	if len(l.Damage) > 0 {
		return nil // the damage says why no block holds it
	}
	l.Part, l.Where = PartOverhead, fmt.Sprintf("what the %s at %#x keeps for itself", area.Kind, uint64(area.At))
	return fmt.Errorf("%#x: %w: %s", uint64(l.At), ErrNotPool, l.Where)
}

// heapBlock makes a block of a cell.
func heapBlock(c cell.Cell, l *Location, pages []*[mem.PageSize]byte) Block {
	b := Block{
		Header: c.Header(), Body: c.Header() + HeaderSize, Size: c.Size(), Room: c.Room(), PreviousSize: uint32(c.Previous()),
		Index: c.PoolIndex(), Type: uint16(c.PoolType()), Kind: l.Kind, State: State(c.State()), Heap: l.Heap.Area.Heap.At, Place: InVS,
	}
	if l.Heap.Area.Kind == heap.AreaLFH {
		b.Place = InLFH
	}
	b.Tag, b.Protected = TagOf(c.Tag())
	if b.State == Free {
		// What a free piece holds is of its last use, or the heap's: its size is
		// the heap's word, not a header's.
		b.Size, b.Type, b.Index, b.PreviousSize = b.Room, 0, 0, 0
		return b
	}
	if raw := fromPages(pages, uint64(b.Header-l.Heap.Area.At), HeaderSize); raw != nil {
		b.Billed = binary.LittleEndian.Uint64(raw[8:])
	}
	return b
}

// fromPages gives n bytes at an offset of the area; nil where they are not in
// the dump or cross a page's end.
func fromPages(pages []*[mem.PageSize]byte, off uint64, n int) []byte {
	i, o := off/mem.PageSize, off%mem.PageSize
	if i >= uint64(len(pages)) || pages[i] == nil || o+uint64(n) > mem.PageSize {
		return nil
	}
	return pages[i][o : o+uint64(n)]
}
