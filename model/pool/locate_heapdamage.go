package pool

import (
	"errors"
	"fmt"
	"strings"

	"gokd/model/mem"
	"gokd/model/pool/heap"
)

// heapDamage keeps what decoding a subsegment found wrong, and looks at what its
// blocks' headers say against what the heap says of them.
func (l *Location) heapDamage(errs []error, pages []*[mem.PageSize]byte) {
	area := &l.Heap.Area
	for _, err := range errs {
		var e *heap.DamageError
		if !errors.As(err, &e) {
			continue
		}
		d := Damage{What: e.What, At: e.At, Why: e.Why}
		if e.What == "_HEAP_VS_CHUNK_HEADER" && strings.HasPrefix(e.Why, "its size") {
			d.Why = "it does not decode with the heap key: " + e.Why
		}
		d.Bytes = append(d.Bytes, fromPages(pages, uint64(e.At-area.At), HeaderSize)...)
		if e.At >= area.At && uint64(e.At-area.At) < area.Size {
			d.Size = area.Size - uint64(e.At-area.At)
		}
		for i := range l.Blocks {
			b := &l.Blocks[i]
			if b.Header < e.At {
				d.Culprit, d.Suspect = b, "its owner may have written past its end"
				continue
			}
			d.Resume = b.Header
			if area.Kind == heap.AreaVS {
				d.Resume -= HeaderSize
			}
			d.Size = uint64(d.Resume - e.At)
			break
		}
		l.Damage = append(l.Damage, d)
	}
	for i := range l.Blocks {
		b := &l.Blocks[i]
		why := b.disagrees()
		if why == "" {
			continue
		}
		d := Damage{What: "_POOL_HEADER", At: b.Header, Why: why, Resume: b.Header}
		d.Bytes = append(d.Bytes, fromPages(pages, uint64(b.Header-area.At), HeaderSize)...)
		switch {
		case b.Place == InVS:
			d.Suspect = "the chunk header before it is whole: an overrun of the block before it would have met that first"
		case i > 0 && l.Blocks[i-1].reach() == b.Header:
			d.Culprit, d.Suspect = &l.Blocks[i-1], "its owner may have written past its end"
			if l.Blocks[i-1].State == Free {
				d.Suspect = "it is free: who had it last may still write to it, or past its end"
			}
		}
		l.Damage = append(l.Damage, d)
	}
	l.waits()
	sortDamage(l.Damage)
}

// waits holds the blocks against the lists of freed blocks: a free one that
// stands on a list was freed twice, as was one to which a list comes back.
func (l *Location) waits() {
	if pages := l.Heap.Area.Kind; pages != heap.AreaVS && pages != heap.AreaLFH {
		return
	}
	list := l.Heap.h.Waits(&l.Heap.Area)
	for i := range l.Blocks {
		b := &l.Blocks[i]
		for len(list) > 0 && list[0] < b.Header-HeaderSize {
			list = list[1:]
		}
		if len(list) == 0 {
			return
		}
		switch {
		case list[0] >= b.reach():
		case b.State == Free:
			d := Damage{What: "_HEAP_VS_CHUNK_HEADER", At: b.Header - HeaderSize, Resume: b.Header,
				Why: "it says that the chunk is free, and a list of freed blocks holds it too: it was freed twice"}
			if b.Place == InLFH {
				d = Damage{What: "slot of a subsegment", At: b.Header, Resume: b.Header,
					Why: "the bitmap says that it is free, and a list of freed blocks holds it too: it was freed twice"}
			}
			d.Bytes = readSome(l.space, d.At, HeaderSize)
			l.Damage = append(l.Damage, d)
		case returns(l.space, list[0]):
			d := loopDamage(l.space, b)
			d.At, d.Resume = list[0], list[0]
			l.Damage = append(l.Damage, d)
		}
	}
}

// disagrees says what the header of a block in use says against the heap. What a
// freed block's header holds does not matter.
func (b *Block) disagrees() string {
	var heaps string
	switch {
	case b.State != Allocated:
		return ""
	case b.Place == InLFH:
		heaps = "the subsegment's bitmap has the slot in use"
	default:
		heaps = "the chunk header has it in use"
	}
	switch {
	case b.Type == 0:
		return fmt.Sprintf("PoolType is 0, that of a free block, while %s", heaps)
	case b.Size == 0:
		return fmt.Sprintf("BlockSize is zero, while %s with %#x bytes", heaps, b.Room)
	case b.Size > b.Room:
		return fmt.Sprintf("BlockSize is %#x, while %s with %#x bytes", b.Size, heaps, b.Room)
	case (b.Kind == Nonpaged || b.Kind == Paged) && !parity(uint8(b.Type), b.Kind):
		return fmt.Sprintf("PoolType %#x is not of %s pool, which its heap serves", b.Type, b.Kind)
	}
	return ""
}
