package heap

import (
	"context"
	"fmt"

	"gokd/model/mem"
	"gokd/model/pool/cell"
)

// ChunkInfo is what the heap knows of the chunk or slot that holds an address.
type ChunkInfo struct {
	Area  Area
	At    mem.VA // where the chunk or slot begins, its own header included
	Size  uint64 // bytes, header included
	State cell.State

	// Header is the address of the _POOL_HEADER; 0 where the allocation has none
	// and the big-page table tells of it (Large), or where it is not in the dump.
	Header mem.VA
	Word   uint64 // its first eight bytes
	Large  bool
	// Aligned is the second _POOL_HEADER of a block that is aligned to a cache
	// line, behind which its body begins; 0: none.
	Aligned mem.VA

	// Of a chunk of a VS subsegment, from its _HEAP_VS_CHUNK_HEADER:
	Prev       uint64 // bytes of the chunk before, as the header has them
	Cost       uint16 // MemoryCost
	PageOffset uint8  // EncodedSegmentPageOffset, decoded; of chunks in use
	Broken     bool   // no chunk: the part behind a header that makes no sense
	Missing    bool   // no chunk: the part behind a header that is not in the dump

	// Of a slot of an LFH subsegment:
	Slot, Slots int
	Bits        uint8 // its two bits in the bitmap
	Gap         bool  // the address lies in no slot or chunk: headers, or between slots
}

// maxArea bounds the area that one question reads; a segment has no more.
const maxArea = units << maxUnitShift

// Pages reads an area's pages; nil stands for those that are not in the dump.
func (h *Heaps) Pages(ctx context.Context, a *Area) ([]*[mem.PageSize]byte, error) {
	if a.Heap == nil || a.Size > maxArea {
		return nil, fmt.Errorf("area at %#x of %#x bytes: no area of a heap", uint64(a.At), a.Size)
	}
	pages := make([]*[pageSize]byte, a.Size/pageSize)
	for i := range pages {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		p := new([pageSize]byte)
		if _, err := a.Heap.Space.ReadVirtual(p[:], a.At+mem.VA(i)*pageSize); err == nil {
			pages[i] = p
		}
	}
	return pages, nil
}

// Chunk finds the chunk or slot that holds an address. ok is false where no VS
// or LFH subsegment holds it. The error is ctx's, or tells what is damaged on
// the way to the chunk.
func (h *Heaps) Chunk(ctx context.Context, at mem.VA) (info ChunkInfo, ok bool, err error) {
	a, ok, err := h.At(ctx, at)
	if !ok || a.Kind != AreaVS && a.Kind != AreaLFH {
		return ChunkInfo{Area: a}, false, err
	}
	return h.ChunkIn(ctx, a, at)
}

// ChunkIn is Chunk for an address in a VS or LFH area that is known.
func (h *Heaps) ChunkIn(ctx context.Context, a Area, at mem.VA) (info ChunkInfo, ok bool, err error) {
	if uint64(at-a.At) >= a.Size || a.Kind != AreaVS && a.Kind != AreaLFH {
		return ChunkInfo{Area: a}, false, nil
	}
	pages, err := h.Pages(ctx, &a)
	if err != nil {
		return ChunkInfo{Area: a}, false, err
	}
	if a.Kind == AreaLFH {
		return h.slotAt(a, pages, uint64(at-a.At))
	}
	info, err = h.chunkAt(a, pages, uint64(at-a.At))
	return info, true, err
}

// chunkAt walks a VS subsegment to the chunk that holds an offset.
func (h *Heaps) chunkAt(a Area, pages []*[pageSize]byte, off uint64) (ChunkInfo, error) {
	var t Tally
	info := ChunkInfo{Area: a, At: a.At}
	w := vsWalk{area: &a, key: h.HeapKey, pages: pages, tally: &t}
	w.begin(&h.lay.vs)
	if off < w.at {
		info.Gap, info.Size = true, w.at
		return info, first(t.Errs)
	}
	var c piece
	for w.next(&c) {
		if off >= c.to {
			continue
		}
		info.At, info.Size = a.At+mem.VA(c.from), c.to-c.from
		switch c.kind {
		case pieceDamaged:
			info.Broken = true
		case pieceMissing:
			info.Missing = true
		case pieceRest:
			info.Gap = true
		default:
			h.describe(&info, &w, c)
		}
		return info, first(t.Errs)
	}
	info.Gap, info.At, info.Size = true, a.At+mem.VA(w.end), a.Size-w.end
	return info, first(t.Errs)
}

// describe fills in what a chunk header says.
func (h *Heaps) describe(info *ChunkInfo, w *vsWalk, c piece) {
	info.Prev, info.Cost = c.prev, c.cost
	if !c.allocated {
		info.State, info.Header, info.Word = cell.Free, info.At+unit, w.body(c.from+unit)
		return
	}
	info.PageOffset = w.pageOf(c.from)
	list := waiting(w.area)
	if within(&list, uint64(info.At), uint64(info.At)+info.Size) {
		info.State = cell.Cached
	}
	if info.Size < 2*unit {
		info.Gap = true
		return
	}
	b := w.block(c.from, c.to)
	info.Large = b.large
	if b.large || b.missing {
		return
	}
	info.put(w, b, c.to)
}

// put tells where the headers lie.
func (info *ChunkInfo) put(w *vsWalk, b block, to uint64) {
	info.Header, info.Word = info.Area.At+mem.VA(b.header), b.word
	if s, ok := w.second(b, to, true); ok && info.State != cell.Free {
		info.Aligned = info.Area.At + mem.VA(s.header)
	}
}

// slotAt finds the slot that holds an offset.
func (h *Heaps) slotAt(a Area, pages []*[pageSize]byte, off uint64) (ChunkInfo, bool, error) {
	info := ChunkInfo{Area: a, At: a.At, Size: a.Size}
	if len(pages) == 0 || pages[0] == nil {
		info.Missing = true
		return info, true, nil
	}
	s, err := h.slots(&a, pages[0])
	if err != nil {
		info.Broken = true
		return info, true, &DamageError{What: "_HEAP_LFH_SUBSEGMENT", At: a.At, Area: a.At, Why: err.Error()}
	}
	info.Slots = int(s.count)
	if end := s.first + s.count*s.size; off < s.first {
		info.Gap, info.Size = true, s.first
		return info, true, nil
	} else if off >= end {
		info.Gap, info.At, info.Size = true, a.At+mem.VA(end), a.Size-end
		return info, true, nil
	}
	i := (off - s.first) / s.size
	from := s.first + i*s.size
	info.Slot, info.At, info.Size = int(i), a.At+mem.VA(from), s.size
	if s.crosses(i) && !s.crossing(pages) {
		info.Gap = true
		return info, true, nil
	}
	bits, known := s.state(pages, i)
	info.Bits, info.Missing = bits, !known
	w := vsWalk{area: &a, pages: pages}
	list := waiting(&a)
	switch {
	case bits&busy == 0:
		info.State = cell.Free
	case within(&list, uint64(info.At), uint64(info.At)+s.size):
		info.State = cell.Cached
	}
	b := block{header: from, word: w.body(from)}
	switch there := w.page(from) != nil; {
	case info.State == cell.Free:
		info.Header, info.Word = info.At, b.word
	case there && known:
		info.put(&w, w.sound(b, from+s.size), from+s.size)
	default:
		info.Missing = true
	}
	return info, true, nil
}

func first(errs []error) error {
	if len(errs) == 0 {
		return nil
	}
	return errs[0]
}
