package pool

import (
	"context"
	"encoding/binary"

	"gokd/model"
	"gokd/model/mem"
)

// lookasides are the lists in each processor's _KPRCB on which freed small
// blocks wait for their next use, by size. Their headers still look allocated,
// while the tags' counters have them freed. Up to Vista an entry holds the
// addresses of a list of the processor (P) and of one that all share (L)
// (_PP_LOOKASIDE_LIST), later the list itself (_GENERAL_LOOKASIDE_POOL).
//
// The lists that drivers and the system make for themselves (PPLookasideList
// and those of ExInitializeLookasideListEx) are none of these: to the pool, what
// waits on them is in use, and the tags' counters say so.
var lookasides = []string{"PPNPagedLookasideList", "PPNxPagedLookasideList", "PPPagedLookasideList"}

// maxCached bounds the blocks on all lists together.
const maxCached = 1 << 20

// lookasideDepth is the most blocks that Windows lets wait on such a list.
const lookasideDepth = 256

// maxLookasides bounds the lists of one array; real ones have 21 or 32.
const maxLookasides = 256

// cachedBlocks gives the bodies of the machine's blocks that were freed and
// still look allocated: those that wait on lookaside lists, and those that wait
// to be returned to their pool (_POOL_DESCRIPTOR.PendingFrees). It is what can
// be read of them: a list that can't be followed is left out.
func (p *Pool) cachedBlocks(ctx context.Context) map[mem.VA]bool {
	p.mu.Lock()
	known := p.cached
	p.mu.Unlock()
	if known != nil {
		return known
	}
	found := map[mem.VA]bool{}
	for _, c := range p.k.Processors {
		for _, name := range lookasides {
			array := p.k.Object("_KPRCB", c.PRCB).Field(name)
			if array.Err() == nil && c.PRCB != 0 && ctx.Err() == nil {
				p.followArray(p.k.Space, array, found)
			}
		}
	}
	for d, err := range p.Descriptors(ctx) {
		if err == nil && d.Kind != Session && d.HasLists {
			p.addPending(d, found)
		}
	}
	if ctx.Err() == nil {
		p.mu.Lock()
		p.cached = found
		p.mu.Unlock()
	}
	return found
}

// cachedIn gives the cached blocks of what a range belongs to. The addresses of
// session pool mean another block in each session, so every session has a set
// of its own: its lookaside lists (_MM_SESSION_SPACE.Lookaside, up to 17763) and
// its descriptor's deferred frees.
func (p *Pool) cachedIn(ctx context.Context, r Range) map[mem.VA]bool {
	if r.Kind != Session {
		return p.cachedBlocks(ctx)
	}
	found := map[mem.VA]bool{}
	all, _ := p.sessions(ctx)
	for _, s := range all {
		if s.id != r.Session {
			continue
		}
		o := p.k.ObjectIn(s.space, "_MM_SESSION_SPACE", s.at)
		if array := o.Field("Lookaside"); array.Err() == nil {
			p.followArray(s.space, array, found)
		}
		d := Descriptor{Kind: Session, From: "_MM_SESSION_SPACE.PagedPool", space: s.space}
		if at := o.Field("PagedPool"); at.Err() == nil && p.readDescriptor(&d, at.Addr()) == nil && d.HasLists {
			p.addPending(d, found)
		}
	}
	return found
}

// addPending adds the deferred frees of a descriptor.
func (p *Pool) addPending(d Descriptor, found map[mem.VA]bool) {
	// What was read before a list breaks counts.
	_, _ = p.followPending(d.space, p.k.ObjectIn(d.space, "_POOL_DESCRIPTOR", d.At), func(body mem.VA) {
		if len(found) < maxCached {
			found[body] = true
		}
	})
}

// followArray follows the lists of an array of lookasides.
func (p *Pool) followArray(space *mem.Space, array model.Object, found map[mem.VA]bool) {
	for i := range min(array.Type().Count, maxLookasides) {
		element := array.Index(i)
		if head := element.Field("ListHead"); head.Err() == nil {
			p.followList(space, head.Addr(), found)
			continue
		}
		for _, part := range []string{"P", "L"} {
			if head := element.Field(part).Deref().Field("ListHead"); head.Err() == nil {
				p.followList(space, head.Addr(), found)
			}
		}
	}
}

// slist decodes a _SLIST_HEADER of x64 (winnt.h). Depth is the lowest 16 bits of
// both forms. HeaderX64 (and Header16 up to 7) has the address of the first
// entry in bits 4-63 of the second word; Header8, of processors without an
// instruction for 16 bytes, has bits 4-42 of it in bits 25-63 of the first word,
// and system space above them.
func slist(b *[16]byte) (first mem.VA, depth uint16) {
	low, high := binary.LittleEndian.Uint64(b[:]), binary.LittleEndian.Uint64(b[8:])
	depth = uint16(low)
	first = mem.VA(high &^ 0xf)
	const form16 = 1 // HeaderType
	if !kernelAddress(first) && high&form16 == 0 && low>>25 != 0 {
		first = mem.VA(low>>25<<4) | 0xfffff80000000000
	}
	return first, depth
}

// followList walks a list from its header. Entries lie in the blocks' bodies
// and begin with the next one's address.
func (p *Pool) followList(space *mem.Space, head mem.VA, found map[mem.VA]bool) {
	var b [16]byte
	if _, err := space.ReadVirtual(b[:], head); err != nil {
		p.listsLost.Add(lookasideDepth)
		return
	}
	at, depth := slist(&b)
	for i := range depth {
		if !kernelAddress(at) || at%HeaderSize != 0 || found[at] || len(found) >= maxCached {
			p.listsLost.Add(uint64(depth - i))
			return
		}
		next, err := space.Pointer(at)
		if err != nil {
			p.listsLost.Add(uint64(depth - i))
			return
		}
		found[at] = true
		at = next
	}
}
