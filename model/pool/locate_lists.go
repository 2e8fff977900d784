package pool

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"gokd/model/mem"
)

// doubleFrees holds the blocks of a page against the free lists of the page
// pools: a block in use that stands on one was freed twice or given out twice,
// and a list can break in the page. Where the lists are not known it gives
// nothing. A free block on no list is not told: that every list was found can't
// be known.
func (p *Pool) doubleFrees(ctx context.Context, l *Location) []Damage {
	if !l.space.Paged() {
		return nil
	}
	found := p.keptAndFree(ctx, l)
	if l.Kind == Session {
		return found // session pool has free lists of its own in each session
	}
	lists, err := p.FreeLists(ctx)
	if err != nil {
		return found
	}
	for i := range l.Blocks {
		b := &l.Blocks[i]
		why := ""
		entry, listed := lists.Find(b.Header)
		switch {
		case listed && b.State == Cached:
			why = fmt.Sprintf("it waits on a lookaside list or to be freed, and free list %d of the pool descriptor at %#x holds it too: it was freed twice", entry.List, uint64(entry.Descriptor.At))
		case listed && b.State == Allocated:
			why = fmt.Sprintf("PoolType %#x says that it is in use, and free list %d of the pool descriptor at %#x holds it: it was freed while in use, or twice", b.Type, entry.List, uint64(entry.Descriptor.At))
		default:
			continue
		}
		if saidOf(found, b.Header) {
			continue
		}
		d := Damage{What: "_POOL_HEADER", At: b.Header, Why: why, Resume: b.Header}
		d.Bytes = readSome(l.space, b.Header, HeaderSize)
		found = append(found, d)
	}
	return append(found, brokenLinks(l, lists)...)
}

// saidOf reports whether something is said of a place already.
func saidOf(list []Damage, at mem.VA) bool {
	return slices.ContainsFunc(list, func(d Damage) bool { return d.At == at })
}

// keptAndFree looks at the blocks of a page that lists of freed blocks hold:
// those whose header says free were freed by another way too, and a list that
// leads from a block to itself holds it twice.
func (p *Pool) keptAndFree(ctx context.Context, l *Location) (found []Damage) {
	kept := p.cachedIn(ctx, l.within)
	for i := range l.Blocks {
		b := &l.Blocks[i]
		switch {
		case !kept[b.Body]:
		case b.State == Free:
			d := Damage{What: "_POOL_HEADER", At: b.Header, Resume: b.Header,
				Why: "PoolType 0 says that it is free, and a lookaside list or list of deferred frees holds it too: it was freed twice"}
			d.Bytes = readSome(l.space, b.Header, HeaderSize)
			found = append(found, d)
		case returns(l.space, b.Body):
			found = append(found, loopDamage(l.space, b))
		}
	}
	return found
}

func loopDamage(space *mem.Space, b *Block) Damage {
	d := Damage{What: "_SLIST_ENTRY of a freed block", At: b.Body, Resume: b.Body,
		Why: "the list of freed blocks that holds it comes back to it: it was freed twice"}
	d.Bytes = readSome(space, b.Body, HeaderSize)
	return d
}

// maxLoop bounds the entries that are followed to see whether a list comes back
// to a block: a list of one size holds some hundred at most.
const maxLoop = 4096

// returns reports whether a singly linked list leads from an entry back to it.
func returns(space *mem.Space, entry mem.VA) bool {
	at := entry
	for range maxLoop {
		next, err := space.Pointer(at)
		if err != nil || !kernelAddress(next) || next%8 != 0 {
			return false
		}
		if next == entry {
			return true
		}
		if next == at {
			return false // a loop further on, of which another block tells
		}
		at = next
	}
	return false
}

// brokenLinks gives the places in a page at which free lists break.
func brokenLinks(l *Location, lists *FreeLists) []Damage {
	var found []Damage
	for _, err := range lists.Damage {
		var e *ListDamage
		if !errors.As(err, &e) || e.At.Page() != l.Page.At || lost(l.Damage, e.At) {
			continue
		}
		d := Damage{What: "_LIST_ENTRY of a free block", At: e.At, Resume: e.At,
			Why: fmt.Sprintf("free list %d of the pool descriptor at %#x breaks here: %v", e.List, uint64(e.Descriptor), e.Err)}
		d.Bytes = readSome(l.space, e.At, HeaderSize)
		for i := range l.Blocks {
			if b := &l.Blocks[i]; b.Body == e.At {
				d.Culprit, d.Suspect = b, "it is free: who had it last may still write to it"
			}
		}
		found = append(found, d)
	}
	return found
}

// lost reports whether an address lies where headers make no sense, so that no
// more need be said of it.
func lost(list []Damage, at mem.VA) bool {
	for _, d := range list {
		if at >= d.At && uint64(at-d.At) < d.Size {
			return true
		}
	}
	return false
}

// readSome reads up to n bytes; what is missing is left off.
func readSome(space *mem.Space, at mem.VA, n int) []byte {
	b := make([]byte, n)
	got, _ := space.ReadVirtual(b, at)
	return b[:got]
}
