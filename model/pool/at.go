package pool

import (
	"context"
	"errors"
	"fmt"

	"gokd/model/mem"
)

// BlockAt finds the allocation or free block that holds an address. ErrNotPool:
// no block holds it; a *PageError: the headers of its page break before it; a
// Damage: those of its subsegment do. See Locate, which tells what lies around
// it too.
func (p *Pool) BlockAt(ctx context.Context, at mem.VA) (Block, error) {
	l, err := p.Locate(ctx, at)
	if err == nil && !l.Found {
		err = fmt.Errorf("block at %#x: %w", uint64(at), ErrNotPool)
		for _, d := range l.Damage {
			if at >= d.At && uint64(at-d.At) < d.Size {
				err = fmt.Errorf("block at %#x: %w", uint64(at), d)
			}
		}
	}
	return l.Block, err
}

// PageAt decodes the page of small blocks that holds an address. Its pool is
// that of the range it lies in; where the ranges are not known, that of its
// first allocated block, whose type is odd for paged pool.
func (p *Pool) PageAt(ctx context.Context, at mem.VA) (Page, error) {
	l := Location{At: at, space: p.k.Space}
	if r, ok := p.rangeOf(ctx, at, nil); ok {
		l.Kind, l.Known, l.within = r.Kind, true, r
		if r.space != nil {
			l.space = r.space
		}
	}
	if !p.PagePool() {
		return Page{At: at.Page()}, fmt.Errorf("%#x: the small blocks of this build lie in segment heaps, not in pages: %w", uint64(at), ErrNotWalked)
	}
	err := p.locatePage(ctx, &l)
	var broken *PageError
	if errors.As(err, &broken) {
		err = nil // the page says so itself
	}
	if l.Page == nil {
		return Page{At: at.Page()}, err
	}
	return *l.Page, err
}

// KindOf tells in which pool's range an address lies; false where it lies in
// none that is known.
func (p *Pool) KindOf(ctx context.Context, at mem.VA) (Kind, bool) {
	r, ok := p.rangeOf(ctx, at, nil)
	return r.Kind, ok
}

// kindByType looks for the first block in use.
func kindByType(page *[pageSize]byte) Kind {
	for off := 0; off < pageSize; {
		size, typ := int(page[off+2])*HeaderSize, page[off+3]
		switch {
		case typ != 0 && typ&typePaged != 0:
			return Paged
		case typ != 0 || size == 0 || off+size >= pageSize:
			return Nonpaged
		}
		off += size
	}
	return Nonpaged
}

// LargeAt finds the large allocation that holds an address.
func (p *Pool) LargeAt(ctx context.Context, at mem.VA) (Block, bool, error) {
	t, err := p.bigPages(ctx)
	if err != nil {
		return Block{}, false, err
	}
	b, ok := t.holding(at)
	return b, ok, nil
}
