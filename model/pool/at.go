package pool

import (
	"context"
	"fmt"

	"gokd/model/mem"
)

// Page is the small blocks of one page.
type Page struct {
	At     mem.VA
	Kind   Kind
	Blocks []Block
	Broken *PageError // where the chain of headers breaks; nil where it is whole
}

// BlockAt finds the allocation or free block that holds an address: by the
// big-page table, else by the headers of its page. ErrNotPool: the page holds
// no small blocks; ErrNotWalked: this build's small blocks are not read here; a
// *PageError: the headers break before the address.
func (p *Pool) BlockAt(ctx context.Context, at mem.VA) (Block, error) {
	t, tableErr := p.bigPages(ctx)
	if err := ctx.Err(); err != nil {
		return Block{}, err
	}
	if tableErr == nil {
		if b, ok := t.holding(at); ok {
			return b, nil
		}
	}
	page, err := p.PageAt(ctx, at)
	if err != nil {
		return Block{}, err
	}
	for _, b := range page.Blocks {
		if at >= b.Header && at < b.End() {
			return b, nil
		}
	}
	return Block{}, fmt.Errorf("pool block at %#x: %w", uint64(at), page.Broken)
}

// PageAt decodes the page of small blocks that holds an address. Its pool is
// that of the range it lies in; where the ranges are not known, that of its
// first allocated block, whose type is odd for paged pool.
func (p *Pool) PageAt(ctx context.Context, at mem.VA) (Page, error) {
	page := Page{At: at.Page()}
	var buf [pageSize]byte
	if _, err := p.k.Space.ReadVirtual(buf[:], page.At); err != nil {
		return page, fmt.Errorf("page of pool at %#x: %w", uint64(page.At), err)
	}
	if !p.PagePool() {
		return page, fmt.Errorf("%#x: small blocks of segment-heap pools are %w", uint64(at), ErrNotWalked)
	}
	kind, known := p.kindOf(ctx, at)
	if !known {
		kind = kindByType(&buf)
	}
	d := newDecoder(Pattern{}, kind, p.cachedBlocks(ctx))
	blocks, state, chain, stop, why := d.page(nil, &buf, page.At)
	page.Kind, page.Blocks = kind, blocks
	switch state {
	case pageOther:
		return page, fmt.Errorf("%#x: %w: its page has no pool headers", uint64(at), ErrNotPool)
	case pageBroken:
		page.Broken = pageError(&buf, page.At, chain, stop, why)
	}
	return page, nil
}

// kindOf tells in which pool's range an address lies.
func (p *Pool) kindOf(ctx context.Context, at mem.VA) (Kind, bool) {
	for _, kind := range []Kind{Nonpaged, Paged, Session} {
		list, err := p.Ranges(ctx, kind)
		if err != nil {
			continue
		}
		for _, r := range list {
			if at >= r.Start && at <= r.Last {
				return kind, true
			}
		}
	}
	return Nonpaged, false
}

// KindOf tells in which pool's range an address lies; false where it lies in
// none that is known.
func (p *Pool) KindOf(ctx context.Context, at mem.VA) (Kind, bool) { return p.kindOf(ctx, at) }

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
