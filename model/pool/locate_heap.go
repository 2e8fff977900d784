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
	Area  heap.Area
	Chunk heap.ChunkInfo // the chunk or slot; the zero value elsewhere
	// Missing is the bytes of the subsegment that the dump lacks and that were
	// needed to tell what is there.
	Missing uint64
	// Metadata: the heap's own record of large allocations has it
	// (_SEGMENT_HEAP.LargeAllocMetadata).
	Metadata bool

	h *heap.Heaps
}

// Slots reports whether the area is a subsegment of slots of one size.
func (s *HeapSite) Slots() bool { return s.Area.Kind == heap.AreaLFH && s.Chunk.Slots > 0 }

// Of asks for the chunk or slot of a block of the same subsegment.
func (s *HeapSite) Of(ctx context.Context, b Block) (heap.ChunkInfo, error) {
	info, ok, err := s.h.ChunkIn(ctx, s.Area, b.Header)
	if ctx.Err() == nil && ok && !info.Broken && !info.Missing {
		err = nil // what is wrong lies before it
	}
	return info, err
}

// locateHeap looks the address up in the segment heaps: the range of a segment
// that holds it is read and decoded, nothing else.
func (p *Pool) locateHeap(ctx context.Context, l *Location, session *uint32) error {
	h, err := p.heaps(ctx)
	if err != nil {
		return p.withoutHeaps(l, err)
	}
	area, ok, err := areaAt(ctx, h, l.At, session)
	if !ok {
		if err != nil {
			return err
		}
		return p.locateLargeOf(ctx, l, h)
	}
	l.setHeap(h, area)
	l.heapDamage([]error{err}, nil)
	what := "in a " + area.Kind.String()
	switch area.Kind {
	case heap.AreaVS, heap.AreaLFH:
		return p.locateCell(ctx, l)
	case heap.AreaPages:
		l.whole(area.At, area.Size, area.Unused)
		return nil
	case heap.AreaHeaders:
		l.Part, what = PartOverhead, "in the descriptors"
	case heap.AreaFree:
		what = "in a free range"
	}
	l.Where = fmt.Sprintf("it lies %s of the segment at %#x of the heap at %#x", what, uint64(area.Segment), uint64(area.Heap.At))
	return fmt.Errorf("%#x: %w: %s", uint64(l.At), ErrNotPool, l.Where)
}

// withoutHeaps says what can be said where the heaps can't be read: that the
// page is not there, or what else it is.
func (p *Pool) withoutHeaps(l *Location, why error) error {
	if _, err := l.space.Uint8(l.At.Page()); err != nil {
		return fmt.Errorf("page of pool at %#x: %w", uint64(l.At.Page()), err)
	}
	if l.Where = p.whereIs(l.At); l.Where != "" {
		return fmt.Errorf("%#x: %w: %s", uint64(l.At), ErrNotPool, l.Where)
	}
	if errors.Is(why, heap.ErrRefused) {
		return &unreadHeaps{l.At, why}
	}
	return why
}

// unreadHeaps says why the block at an address can't be told: it is ErrNotWalked
// and heap.ErrRefused.
type unreadHeaps struct {
	at  mem.VA
	why error
}

func (e *unreadHeaps) Error() string { return fmt.Sprintf("block at %#x: %v", uint64(e.at), e.why) }

// Unwrap gives both.
func (e *unreadHeaps) Unwrap() []error { return []error{ErrNotWalked, e.why} }

func areaAt(ctx context.Context, h *heap.Heaps, at mem.VA, session *uint32) (heap.Area, bool, error) {
	if session != nil {
		return h.AtSession(ctx, *session, at)
	}
	return h.At(ctx, at)
}

// setHeap takes what the heap says of the address.
func (l *Location) setHeap(h *heap.Heaps, area heap.Area) {
	l.Heap = &HeapSite{Area: area, h: h}
	l.Kind, l.Known, l.Session = heapKind(area.Heap), true, nil
	if area.Heap.Private {
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
	case h.Role == heap.Special:
		return Special
	case h.Private:
		return Session
	case h.IsPaged:
		return Paged
	}
	return Nonpaged
}

// whole takes whole pages of a heap as one allocation without a header.
func (l *Location) whole(at mem.VA, size, unused uint64) {
	b := Block{Header: at, Body: at, Size: size - min(unused, size), Room: size, Heap: l.Heap.Area.Heap.At, Kind: l.Kind, Place: InRange, Large: true}
	l.Found, l.Block, l.Blocks, l.Part = true, b, []Block{b}, b.part(l.At)
}

// locateLargeOf looks the address up in the heaps' own records of large
// allocations, for one that the table of large allocations lacks.
func (p *Pool) locateLargeOf(ctx context.Context, l *Location, h *heap.Heaps) error {
	a, ok, err := h.LargeAt(ctx, l.At)
	switch {
	case err != nil:
		return err
	case ok:
		size := a.Pages * pageSize
		l.setHeap(h, heap.Area{Heap: a.Heap, At: a.At, Size: size, Unused: a.Unused, Kind: heap.AreaPages})
		l.Heap.Metadata = true
		l.whole(a.At, size, a.Unused)
		return nil
	}
	// A page of a heap that the dump lacks is told from an address in none.
	if _, err := l.space.Uint8(l.At.Page()); err != nil {
		return fmt.Errorf("page of pool at %#x: %w", uint64(l.At.Page()), err)
	}
	return fmt.Errorf("%#x: %w: no segment of a heap holds it", uint64(l.At), ErrNotPool)
}

// largeInHeap settles an address in the pages of a large allocation. Behind the
// last byte that was asked for, the page can belong to another chunk: a heap
// gives out less than whole pages.
func (p *Pool) largeInHeap(ctx context.Context, l *Location, session *uint32) error {
	if l.Part == PartSlack {
		other := Location{At: l.At, space: l.space, within: l.within}
		if err := p.locateHeap(ctx, &other, session); err == nil && other.Found && !other.Block.Large {
			*l = other
			return nil
		}
	}
	p.siteOfLarge(ctx, l, session)
	return ctx.Err()
}

// siteOfLarge adds where in a heap a large allocation of the table lies.
func (p *Pool) siteOfLarge(ctx context.Context, l *Location, session *uint32) {
	h, err := p.heaps(ctx)
	if err != nil {
		return
	}
	kind, known, block := l.Kind, l.Known, l.Block
	if area, ok, _ := areaAt(ctx, h, l.At, session); ok {
		l.setHeap(h, area)
	} else if a, ok, _ := h.LargeAt(ctx, l.At); ok {
		l.setHeap(h, heap.Area{Heap: a.Heap, At: a.At, Size: a.Pages * pageSize, Unused: a.Unused, Kind: heap.AreaPages})
		l.Heap.Metadata = true
	}
	// The table's word on which pool it is counts.
	l.Kind, l.Known, l.Block = kind, known, block
}

// locateCell decodes a subsegment and picks the block that holds the address.
func (p *Pool) locateCell(ctx context.Context, l *Location) error {
	site := l.Heap
	area := &site.Area
	pages, err := site.h.Pages(ctx, area)
	if err != nil {
		return err
	}
	if i := uint64(l.At-area.At) / pageSize; i >= uint64(len(pages)) || pages[i] == nil {
		if _, err := l.space.Uint8(l.At.Page()); err != nil {
			return fmt.Errorf("page of pool at %#x: %w", uint64(l.At.Page()), err)
		}
	}
	cells, tally := site.h.Decode(nil, area, pages)
	site.Missing = tally.Missing
	for _, c := range cells {
		l.Blocks = append(l.Blocks, heapBlock(c, l, pages))
	}
	l.heapDamage(tally.Errs, pages)
	info, _, err := site.h.ChunkIn(ctx, *area, l.At)
	if ctx.Err() != nil {
		return ctx.Err()
	}
	site.Chunk = info
	for i := range l.Blocks {
		if b := l.Blocks[i]; info.Header != 0 && b.Header == info.Header && !info.Gap {
			l.Found, l.Block, l.Part = true, b, b.part(l.At)
			if l.At < b.Header {
				l.Part = PartChunk
			}
			return nil
		}
	}
	switch {
	case info.Broken || err != nil && !info.Gap:
		return nil // the damage says why no block holds it
	case info.Missing:
		return fmt.Errorf("%s at %#x: what would tell the blocks around %#x is not in the dump: %w",
			area.Kind, uint64(area.At), uint64(l.At), mem.ErrNotCaptured)
	case info.Large:
		l.Where = fmt.Sprintf("it lies in an allocation of %#x bytes at %#x that has no header and is not in the table of large allocations", info.Size, uint64(info.At))
	default:
		l.Part, l.Where = PartOverhead, fmt.Sprintf("it lies in what the %s at %#x keeps for itself", area.Kind, uint64(area.At))
	}
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
		b.Size, b.Type, b.Index, b.PreviousSize, b.Protected = b.Room, 0, 0, 0, false
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
