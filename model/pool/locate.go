package pool

import (
	"context"
	"errors"
	"fmt"

	"gokd/model/mem"
)

// Part tells which part of a block, or of what surrounds it, an address lies in.
type Part uint8

// The parts. Slack is what was set aside behind the block's own bytes; Chunk is
// the header that a heap keeps before a block; Overhead is a heap's own.
const (
	PartNone Part = iota
	PartHeader
	PartBody
	PartSlack
	PartChunk
	PartOverhead
)

var partNames = [...]string{"none", "header", "body", "slack", "chunk header", "overhead"}

// String names the part as records spell it.
func (p Part) String() string {
	if int(p) < len(partNames) {
		return partNames[p]
	}
	return "unknown"
}

// Location is what is known of an address: which block it lies in, what that
// block lies in, and whether the headers around it make sense.
type Location struct {
	At    mem.VA
	Found bool  // Block holds the address
	Block Block // the block; of PartChunk the one behind the chunk header
	Part  Part

	Kind    Kind
	Known   bool    // Kind is known
	Session *uint32 // number of the session, for session pool

	Blocks   []Block // of the page, or of the subsegment, by address
	Previous *Block  // the neighbours in Blocks
	Next     *Block
	Owner    mem.VA // the process charged for the block; 0: none
	OwnerErr error  // why it is not known

	Page   *Page     // where it is a page of small blocks
	Heap   *HeapSite // where it lies in a segment heap
	Large  *LargeSite
	Damage []Damage // headers that make no sense, by address
	Where  string   // what an address that is in no pool belongs to; empty where not known

	space  *mem.Space
	within Range // the pool's, where it is known
}

// LargeSite is where a large allocation is recorded.
type LargeSite struct {
	Table mem.VA // of large allocations
	Pages uint64 // that were set aside
	// Tail is the address behind its last byte where the rest of its last page
	// holds small blocks; 0 where it does not.
	Tail mem.VA
}

// Space is the address space in which the location was read: that of a session
// for session pool.
func (l *Location) Space() *mem.Space { return l.space }

// Agree reports whether the sizes fit that the block and its neighbours name:
// of page pools PreviousSize and BlockSize, of heaps that nothing around the
// block is damaged. Where there is no neighbour there is nothing to disagree.
func (l *Location) Agree() (previous, next bool) {
	b := l.Block
	if l.Page == nil {
		for _, d := range l.Damage {
			before, behind := l.Previous, l.Next
			previous = previous || before != nil && d.At >= before.Header && d.At <= b.Header
			next = next || behind != nil && d.At >= b.Header && d.At <= behind.Header
		}
		return !previous, !next
	}
	join := func(a, b *Block) bool {
		return a == nil || b == nil || a.End() == b.Header && a.Size == uint64(b.PreviousSize)
	}
	return join(l.Previous, &b), join(&b, l.Next)
}

// Locate tells where an address lies: in which block of which pool, by the
// table of large allocations, the headers of its page, or the segment heap that
// holds it. Only what lies around the address is read; no index is needed.
//
// The error wraps ErrNotPool where the address is in no pool (Location.Where
// tells what it is, where that is known), a *mem.Fault where its page is not in
// the dump, a *PageError where the headers break before the address. What was
// found up to there stands in the Location. No error, and nothing found: the
// Damage of a subsegment says why.
func (p *Pool) Locate(ctx context.Context, at mem.VA) (Location, error) {
	return p.locate(ctx, at, nil)
}

// LocateIn does what Locate does; an address of session pool is looked up in
// the memory of one session.
func (p *Pool) LocateIn(ctx context.Context, at mem.VA, session uint32) (Location, error) {
	return p.locate(ctx, at, &session)
}

func (p *Pool) locate(ctx context.Context, at mem.VA, session *uint32) (Location, error) {
	l := Location{At: at, space: p.k.Space}
	if !kernelAddress(at) {
		l.Where = whereLow(at)
		if _, err := l.space.Uint8(at.Page()); err != nil {
			return l, fmt.Errorf("page at %#x: %w", uint64(at.Page()), err)
		}
		return l, fmt.Errorf("%#x: %w", uint64(at), ErrNotPool)
	}
	r, inRange := p.rangeOf(ctx, at, session)
	l.within = r
	if inRange {
		l.Kind, l.Known = r.Kind, true
		if r.space != nil {
			l.space = r.space
		}
		if r.Kind == Session {
			l.Session = &r.Session
		}
	}
	if err := p.locateIn(ctx, &l, r, session); err != nil {
		if err := ctx.Err(); err != nil {
			return l, err
		}
		if r.Inferred && len(l.Blocks) == 0 && l.Heap == nil {
			l.Known = false // nothing bears out that pool lies there
		}
		if l.Where == "" && (!l.Known || errors.Is(err, ErrNotPool)) {
			l.Where = p.whereIs(at)
		}
		return l, err
	}
	p.finish(&l)
	return l, ctx.Err()
}

// locateIn asks each structure that can hold the address, the surest first.
func (p *Pool) locateIn(ctx context.Context, l *Location, r Range, session *uint32) error {
	if p.locateLarge(ctx, l, r) {
		if !p.PagePool() {
			return p.largeInHeap(ctx, l, session)
		}
		return nil
	}
	if done, err := p.locateSpecial(ctx, l); done {
		return err
	}
	if p.PagePool() {
		return p.locatePage(ctx, l)
	}
	return p.locateHeap(ctx, l, session)
}

// rangeOf gives the range of a pool that holds an address. Sessions have the
// same addresses: the session that was asked for wins, then the first that maps
// the page.
func (p *Pool) rangeOf(ctx context.Context, at mem.VA, session *uint32) (Range, bool) {
	var found Range
	ok := false
	for _, kind := range []Kind{Nonpaged, Paged, Session, Special} {
		list, err := p.Ranges(ctx, kind)
		if err != nil {
			continue
		}
		for _, r := range list {
			switch {
			case at < r.Start || at > r.Last, kind == Session && session != nil && r.Session != *session:
				continue
			case kind == Special && r.Inferred:
				// Other memory lies there too: locateSpecial asks the page.
				continue
			case kind != Session || session != nil:
				return r, true
			}
			if r.space != nil {
				if _, err := r.space.Translate(at); err == nil {
					return r, true
				}
			}
			if !ok {
				found, ok = r, true
			}
		}
	}
	return found, ok
}

// locateLarge looks the address up among the large allocations. The page that
// one ends in can hold small blocks behind its end: see locateTail.
func (p *Pool) locateLarge(ctx context.Context, l *Location, r Range) bool {
	t := r.big
	if t == nil {
		var err error
		if t, err = p.bigPages(ctx); err != nil {
			return false
		}
	}
	b, ok := t.around(l.At)
	if !ok {
		return false
	}
	pages := (b.Size + pageSize - 1) / pageSize
	b.Room = pages * pageSize
	site := &LargeSite{Table: t.start, Pages: pages}
	l.Large = site
	if uint64(l.At-b.Body) >= b.Size && p.PagePool() && p.locateTail(ctx, l, b) {
		return true
	}
	l.Found, l.Block, l.Kind, l.Known = true, b, b.Kind, true
	l.Blocks = []Block{b}
	l.Part = PartBody
	if uint64(l.At-b.Body) >= b.Size {
		l.Part = PartSlack
	}
	return true
}

// around finds the large allocation whose pages hold an address.
func (t *bigTable) around(at mem.VA) (Block, bool) {
	if b, ok := t.holding(at); ok {
		return b, true
	}
	// Behind the last byte that was asked for the page goes on.
	b, ok := t.before(at)
	return b, ok && uint64(at-b.Body) < (b.Size+pageSize-1)&^(pageSize-1)
}

// before finds the large allocation that starts at or next below an address.
func (t *bigTable) before(at mem.VA) (Block, bool) {
	lo, hi := 0, len(t.blocks)
	for lo < hi {
		mid := int(uint(lo+hi) >> 1)
		if t.blocks[mid].Body <= at {
			lo = mid + 1
		} else {
			hi = mid
		}
	}
	if lo == 0 {
		return Block{}, false
	}
	return t.blocks[lo-1], true
}

// finish adds what follows from the block that was found.
func (p *Pool) finish(l *Location) {
	if !l.Found {
		return
	}
	l.Owner, l.OwnerErr = p.Owner(l.Block)
	for i := range l.Blocks {
		if l.Blocks[i].Header != l.Block.Header {
			continue
		}
		if i > 0 {
			l.Previous = &l.Blocks[i-1]
		}
		if i+1 < len(l.Blocks) {
			l.Next = &l.Blocks[i+1]
		}
		return
	}
}

// part tells which part of a block holds an address.
func (b Block) part(at mem.VA) Part {
	switch {
	case at < b.Body && !b.Large:
		return PartHeader
	case at < b.End(), b.Size <= HeaderSize && !b.Large, b.Room != 0 && b.Size > b.Room:
		return PartBody // a size that makes no sense tells of no slack
	}
	return PartSlack
}

// reach is the first address behind what was set aside for a block.
func (b Block) reach() mem.VA { return b.Header + mem.VA(max(b.Size, b.Room)) }
