package pool

import (
	"cmp"
	"context"
	"errors"
	"math/bits"
	"slices"

	"gokd/model/pool/cell"
)

// SizeUse is how many blocks of one size a tag has.
type SizeUse struct {
	Size   uint64 // bytes, with the header; of a large allocation its bytes
	Large  bool   // whole pages, told of by the table of large allocations
	Live   uint64 // allocated
	Cached uint64 // freed, waiting on a list of the kernel for its next use
	Freed  uint64 // free; the tag is that of its last use. Page pools only
}

// Bytes is what the live blocks take.
func (s SizeUse) Bytes() uint64 {
	high, low := bits.Mul64(s.Size, s.Live)
	if high != 0 {
		return 1<<64 - 1 // sizes of a table that lies
	}
	return low
}

// maxSmall is the most that can be asked for of a page of small blocks: the page
// holds a header for the block and the smallest free piece (ReactOS expool.c).
const maxSmall = pageSize - 2*HeaderSize

// Asked gives the least and the most bytes that the code which allocated a block
// of this size can have asked for: small blocks have a header and are rounded
// up to its size, large ones to pages where the table counts in pages.
func (s SizeUse) Asked() (least, most uint64) {
	switch {
	case s.Large && s.Size%pageSize == 0 && s.Size > 0:
		return max(s.Size-pageSize+1, maxSmall+1), s.Size
	case s.Large:
		return s.Size, s.Size
	case s.Size <= HeaderSize:
		return 0, 0
	}
	most = s.Size - HeaderSize
	return most - HeaderSize + 1, most
}

// TagSizes are the blocks of one tag in one pool, by size.
type TagSizes struct {
	Tag    Tag
	Sizes  []SizeUse // those that take most come first
	Live   uint64
	Bytes  uint64 // of the live blocks
	Cached uint64
	Freed  uint64
}

// Sizes are the blocks of a pool by tag and size, as a walk found them.
type Sizes struct {
	Kind    Kind
	Tags    []TagSizes // those that take most come first
	Summary Summary    // what was walked; floors where it does not cover all
	// LargeErr says why large allocations are not among them; nil where they are.
	LargeErr error
	Lost     uint64 // blocks that were not counted, since no real pool has so many tags and sizes
}

// Sizes counts the blocks of one pool whose tags match, by tag and size: the
// small ones from the pool's index, large ones from their table. Blocks of one
// structure have one size, so that the sizes tell what leaks. The error is that
// of Index, or ctx's.
func (p *Pool) Sizes(ctx context.Context, kind Kind, pattern Pattern, progress func(pages uint64)) (*Sizes, error) {
	x, err := p.Index(ctx, kind, progress)
	if err != nil {
		return nil, err
	}
	all := map[sizeKey]uint64{}
	s := &Sizes{Kind: kind, Summary: x.Summary()}
	s.Lost = x.countSizes(ctx, pattern, p.PagePool(), all)
	s.LargeErr = p.countLarge(ctx, s, pattern, all)
	if ctx.Err() != nil {
		return nil, ctx.Err()
	}
	s.Tags = sizesByTag(all)
	return s, nil
}

// sizeKey is a tag, a size and a state.
type sizeKey struct {
	tag   uint32
	state cell.State
	large bool
	size  uint64
}

// countSizes counts the cells of the index. There are millions of them: a table
// of its own with numbers for keys takes a fifth of the time of a map.
func (x *Index) countSizes(ctx context.Context, pattern Pattern, freed bool, all map[sizeKey]uint64) (lost uint64) {
	var counts countTable
	every := len(pattern.alts) == 0
	x.Cells(func(part []cell.Cell) bool {
		for _, c := range part {
			state := c.State()
			// A free piece of a segment heap has no header, so its tag is none.
			if state == cell.Free && !freed || !every && !pattern.match(c.Tag()) {
				continue
			}
			counts.add(uint64(c.Tag()&^protectedBit)<<32 | blockSize(c)/cell.Unit<<4 | uint64(state))
		}
		return ctx.Err() == nil
	})
	for _, e := range counts.slots {
		if e.n > 0 {
			k := sizeKey{tag: uint32(e.key >> 32), state: cell.State(e.key & 0xf), size: e.key >> 4 & 0xfffffff * cell.Unit}
			all[k] += e.n
		}
	}
	return counts.lost
}

// countTable counts keys: open addressing, a power of two of slots, at most half
// of them used.
type countTable struct {
	slots []countSlot
	used  int
	lost  uint64 // keys that were not counted: there are too many
}

// maxSizeKeys bounds the pairs of a tag and a size: a real pool has some
// thousands, one full of made-up headers as many as it has blocks.
const maxSizeKeys = 1 << 22

type countSlot struct{ key, n uint64 }

// add counts a key once more.
func (t *countTable) add(key uint64) {
	if 2*t.used >= len(t.slots) {
		t.grow()
	}
	s := t.slot(key)
	if s.n == 0 {
		if t.used >= maxSizeKeys {
			t.lost++
			return
		}
		s.key = key
		t.used++
	}
	s.n++
}

// slot gives the slot of a key: its own, or the free one where it belongs.
func (t *countTable) slot(key uint64) *countSlot {
	mask := uint64(len(t.slots) - 1)
	// Fibonacci hashing: the upper half of the product depends on every bit.
	for i := key * 0x9e3779b97f4a7c15 >> 32; ; i++ {
		s := &t.slots[i&mask]
		if s.n == 0 || s.key == key {
			return s
		}
	}
}

func (t *countTable) grow() {
	old := t.slots
	t.slots = make([]countSlot, max(2*len(old), 1<<12))
	for _, e := range old {
		if e.n > 0 {
			*t.slot(e.key) = e
		}
	}
}

// blockSize is the size of a block: as its header has it, or, where eight bits
// can't tell it (chunks of segment heaps above a page), what was set aside.
func blockSize(c cell.Cell) uint64 {
	if s := c.Size(); s != 0 && c.Room() < pageSize {
		return s
	}
	return c.Room()
}

// countLarge adds the large allocations. The error says why there are none.
func (p *Pool) countLarge(ctx context.Context, s *Sizes, pattern Pattern, all map[sizeKey]uint64) error {
	w, err := p.Find(ctx, Query{Kind: s.Kind, Pattern: pattern})
	if err != nil {
		return err
	}
	var why error
	for b, err := range w.Large(ctx) {
		var part *PartError
		switch {
		case errors.As(err, &part):
			continue // counted in the summary
		case err != nil:
			why = err
			continue
		}
		all[sizeKey{tag: b.Tag.Value(), state: cell.State(b.State), large: true, size: b.Size}]++
	}
	sum := w.Summary()
	s.Summary.Large, s.Summary.LargeMissing, s.Summary.LargeOdd = sum.Large, sum.LargeMissing, sum.LargeOdd
	return why
}

// sizesByTag sorts what was counted.
func sizesByTag(all map[sizeKey]uint64) []TagSizes {
	type place struct {
		size  uint64
		large bool
	}
	tags := map[uint32]map[place]SizeUse{}
	for k, n := range all {
		sizes := tags[k.tag]
		if sizes == nil {
			sizes = map[place]SizeUse{}
			tags[k.tag] = sizes
		}
		at := place{k.size, k.large}
		u := sizes[at]
		u.Size, u.Large = k.size, k.large
		switch k.state {
		case cell.Free:
			u.Freed += n
		case cell.Cached:
			u.Cached += n
		default:
			u.Live += n
		}
		sizes[at] = u
	}
	var list []TagSizes
	for value, sizes := range tags {
		t := TagSizes{}
		t.Tag, _ = TagOf(value)
		for _, u := range sizes {
			t.Sizes = append(t.Sizes, u)
			t.Live, t.Cached, t.Freed = t.Live+u.Live, t.Cached+u.Cached, t.Freed+u.Freed
			if sum, carry := bits.Add64(t.Bytes, u.Bytes(), 0); carry == 0 {
				t.Bytes = sum
			} else {
				t.Bytes = 1<<64 - 1
			}
		}
		slices.SortFunc(t.Sizes, func(a, b SizeUse) int {
			return cmp.Or(cmp.Compare(b.Bytes(), a.Bytes()), cmp.Compare(b.Live, a.Live),
				cmp.Compare(b.Cached+b.Freed, a.Cached+a.Freed), cmp.Compare(a.Size, b.Size), compareBool(a.Large, b.Large))
		})
		list = append(list, t)
	}
	slices.SortFunc(list, func(a, b TagSizes) int {
		return cmp.Or(cmp.Compare(b.Bytes, a.Bytes), cmp.Compare(b.Live, a.Live), a.Tag.Compare(b.Tag))
	})
	return list
}

func compareBool(a, b bool) int {
	switch {
	case a == b:
		return 0
	case a:
		return 1
	}
	return -1
}
