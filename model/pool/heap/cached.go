package heap

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"

	"gokd/model/mem"
)

// maxCached bounds the blocks on all lists of a machine together.
const maxCached = 1 << 20

// readCached follows the lists on which freed blocks wait: the dynamic
// lookaside lists of each pool node, and the delayed frees of each heap's VS
// context. Of LFH subsegments the types tell only how many frees are delayed,
// not which.
//
// The lists are in use while the machine runs: one that cannot be followed to
// its end is no damage of the heap, and what was found of it counts.
func (h *Heaps) readCached(ctx context.Context, state mem.VA) {
	all := map[*mem.Space]*[]mem.VA{}
	for _, p := range h.List {
		if all[p.Space] == nil {
			all[p.Space] = new([]mem.VA)
		}
		p.cached = all[p.Space]
	}
	if !h.lay.lists.known || !h.lay.lists.delayKnown {
		h.trouble(errors.New("blocks that were freed and wait on lists count as allocated where this kernel's types do not tell of the lists"))
	}
	c := &collector{h: h, ctx: ctx, left: maxCached}
	if main := all[h.k.Space]; main != nil && h.lay.lists.known {
		nodes, _ := h.k.Space.Uint32(state + mem.VA(h.lay.numberOfPools.off))
		for node := range min(nodes, h.lay.maxNodes) {
			base := state + mem.VA(h.lay.poolNode) + mem.VA(node)*mem.VA(h.lay.nodeSize) + mem.VA(h.lay.lookasides)
			for i := range h.lay.lookasidesOfNode {
				c.lookaside(h.k.Space, base+mem.VA(i)*mem.VA(h.lay.lists.size), main)
			}
		}
	}
	for _, p := range h.List {
		if h.lay.lists.delayKnown {
			c.delayed(p)
		}
	}
	for _, list := range all {
		slices.Sort(*list)
		*list = slices.Compact(*list)
	}
	if c.left == 0 {
		h.trouble(fmt.Errorf("more than %d freed blocks wait on lists: the rest is taken for allocated", maxCached))
	}
}

// collector gathers the entries of lists.
type collector struct {
	h    *Heaps
	ctx  context.Context
	left int
}

// lookaside follows the buckets of one _RTL_DYNAMIC_LOOKASIDE.
func (c *collector) lookaside(space *mem.Space, at mem.VA, to *[]mem.VA) {
	l := &c.h.lay.lists
	b, err := space.Bytes(at, int(l.size))
	if err != nil {
		c.h.trouble(fmt.Errorf("_RTL_DYNAMIC_LOOKASIDE at %#x: %w", uint64(at), err))
	}
	n := l.bucketCount.get(b)
	if n > uint64(l.count) {
		c.h.trouble(&DamageError{What: "_RTL_DYNAMIC_LOOKASIDE", At: at, Area: at, Why: fmt.Sprintf("it has %d buckets, not at most %d", n, l.count)})
		n = uint64(l.count)
	}
	if n == 0 {
		n = uint64(l.count) // where none is counted, an empty list has no depth
	}
	for i := range uint32(n) {
		off := l.buckets + i*l.stride + l.head
		if int(off) >= len(b) {
			break
		}
		c.follow("_RTL_LOOKASIDE", space, at+mem.VA(off), b[off:], to)
	}
}

// slotUnit is the unit of the way from a context to its slots, in bytes.
const slotUnit = 64

// delayed follows the lists of delayed frees of a heap: one in its VS context;
// on builds that have slots one in each of them. SlotMapRef leads to a map of
// AffinityMask + 1 entries, whose SlotRef lead to the slots, several to one
// (win-kexp); a slot proves itself by naming the context.
func (c *collector) delayed(p *Heap) {
	const what = "_HEAP_VS_DELAY_FREE_CONTEXT"
	l := &c.h.lay.lists
	at := p.At + mem.VA(c.h.lay.heap.vs)
	if !l.slots {
		c.list(what, p.Space, at+mem.VA(l.delay), p.cached)
		return
	}
	fail := func(err error) {
		c.h.trouble(fmt.Errorf("delayed frees of the _HEAP_VS_CONTEXT at %#x: %w", uint64(at), err))
	}
	ref, err := c.number(p.Space, at, l.mapRef)
	mask, err2 := c.number(p.Space, at, l.mask)
	if err = errors.Join(err, err2); err != nil {
		fail(err)
		return
	}
	if ref == 0 || mask >= units {
		fail(fmt.Errorf("a map of %d slots at %#x makes no sense", mask+1, uint64(at)+ref*slotUnit))
		return
	}
	seen := map[uint64]bool{0: true}
	for i := range mask + 1 {
		n, err := c.number(p.Space, at+mem.VA(ref*slotUnit+i*uint64(l.mapStride)), l.slotRef)
		if err != nil {
			fail(err)
			return
		}
		if seen[n] {
			continue
		}
		seen[n] = true
		slot := at + mem.VA(n*slotUnit)
		owner, err := c.number(p.Space, slot, l.slotOf)
		if err == nil && mem.VA(owner) != at {
			err = &DamageError{What: "_HEAP_VS_AFFINITY_SLOT", At: slot, Area: p.At, Why: fmt.Sprintf("it says that it is of the context at %#x", owner)}
		}
		if err != nil {
			fail(err)
			continue
		}
		c.list(what, p.Space, slot+mem.VA(l.delay), p.cached)
	}
}

// number reads a field of a structure in memory.
func (c *collector) number(space *mem.Space, at mem.VA, f field) (uint64, error) {
	b, err := space.Bytes(at+mem.VA(f.off), int(f.size))
	f.off = 0
	return f.get(b), err
}

// list follows the list of a _SLIST_HEADER in memory.
func (c *collector) list(what string, space *mem.Space, head mem.VA, to *[]mem.VA) {
	b, err := space.Bytes(head, 16)
	if err != nil {
		c.h.trouble(fmt.Errorf("%s at %#x: %w", what, uint64(head), err))
		return
	}
	c.follow(what, space, head, b, to)
}

// follow walks a list from its _SLIST_HEADER (winnt.h, HeaderX64): Depth is the
// lowest 16 bits, the address of the first entry bits 4-63 of the second word.
// An entry lies in the freed block and begins with the next one's address.
func (c *collector) follow(what string, space *mem.Space, head mem.VA, b []byte, to *[]mem.VA) {
	if len(b) < 16 {
		return
	}
	depth := binary.LittleEndian.Uint16(b)
	at := mem.VA(binary.LittleEndian.Uint64(b[8:]) &^ 0xf)
	start := len(*to)
	var slow mem.VA // Brent's check: the entry to meet again
	power, lap := 1, 0
	for range depth {
		if at == 0 || c.left == 0 || c.ctx.Err() != nil {
			return
		}
		next, err := space.Pointer(at)
		switch {
		case !kernelAddress(at) || at%unit != 0:
			err = fmt.Errorf("%#x is no address of a block", uint64(at))
		case at == slow:
			err = fmt.Errorf("it comes back to %#x", uint64(at))
		}
		if err != nil {
			c.h.ListsLost += uint64(depth) - uint64(len(*to)-start)
			c.h.trouble(fmt.Errorf("%s at %#x: list of %d freed blocks broken after %d: %w", what, uint64(head), depth, len(*to)-start, err))
			return
		}
		if lap++; lap == power {
			slow, power, lap = at, power*2, 0
		}
		*to = append(*to, at)
		c.left--
		at = next
	}
}
