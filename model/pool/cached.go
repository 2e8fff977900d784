package pool

import (
	"context"
	"encoding/binary"

	"gokd/model/mem"
)

// lookasides are the lists in each processor's _KPRCB on which freed small
// blocks wait for their next use (arrays of _GENERAL_LOOKASIDE_POOL, by size).
// Their headers still look allocated, while the tags' counters have them freed.
var lookasides = []string{"PPNPagedLookasideList", "PPNxPagedLookasideList", "PPPagedLookasideList"}

// maxCached bounds the blocks on all lists together.
const maxCached = 1 << 20

// cachedBlocks gives the bodies of the blocks that wait on lookaside lists. It
// is what can be read of them: a list that can't be followed is left out.
func (p *Pool) cachedBlocks(ctx context.Context) map[mem.VA]bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.cached != nil {
		return p.cached
	}
	found := map[mem.VA]bool{}
	for _, c := range p.k.Processors {
		for _, name := range lookasides {
			array := p.k.Object("_KPRCB", c.PRCB).Field(name)
			if array.Err() != nil || c.PRCB == 0 || ctx.Err() != nil {
				continue
			}
			for i := range array.Type().Count {
				head := array.Index(i).Field("ListHead")
				if head.Err() != nil {
					break
				}
				p.followList(head.Addr(), found)
			}
		}
	}
	if ctx.Err() == nil {
		p.cached = found
	}
	return found
}

// followList walks a list from its _SLIST_HEADER (winnt.h, HeaderX64): Depth is
// the lowest 16 bits, the address of the first entry bits 4-63 of the second
// word. Entries lie in the blocks' bodies and begin with the next one's address.
func (p *Pool) followList(head mem.VA, found map[mem.VA]bool) {
	var b [16]byte
	if _, err := p.k.Space.ReadVirtual(b[:], head); err != nil {
		return
	}
	depth := binary.LittleEndian.Uint16(b[:])
	at := mem.VA(binary.LittleEndian.Uint64(b[8:]) &^ 0xf)
	for range depth {
		if !kernelAddress(at) || at%HeaderSize != 0 || found[at] || len(found) >= maxCached {
			return
		}
		next, err := p.k.Space.Pointer(at)
		if err != nil {
			return
		}
		found[at] = true
		at = next
	}
}
