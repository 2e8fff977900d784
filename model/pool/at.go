package pool

import (
	"context"
	"fmt"

	"gokd/model"
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

// typeQuota is the bit of PoolType that marks a block charged to a process.
const typeQuota = 8

// processObject is _DISPATCHER_HEADER.Type of a process (_KOBJECTS).
const processObject = 3

// quota is how ProcessBilled is to be read.
type quota struct {
	cookie uint64 // nt!ExpPoolQuotaCookie; 0 where the build has none
	err    error  // why the cookie is not known
}

// Owner gives the process that a block is charged to; 0 where it is charged to
// none. POOL_HEADER.ProcessBilled holds the address of its _EPROCESS plainly up
// to Windows 7; from 8.1 on it is XORed with nt!ExpPoolQuotaCookie and the
// address of the header. What comes out must be a process object, else the
// error says what was found.
func (p *Pool) Owner(b Block) (mem.VA, error) {
	if b.State != Allocated || b.Billed == 0 || !b.Large && b.Type&typeQuota == 0 {
		return 0, nil
	}
	if at := mem.VA(b.Billed); p.isProcess(at) {
		return at, nil
	}
	q := p.quotaCookie()
	if q.cookie != 0 {
		at := mem.VA(b.Billed ^ q.cookie ^ uint64(b.Header))
		if p.isProcess(at) {
			return at, nil
		}
	}
	if q.err != nil {
		return 0, q.err
	}
	return 0, fmt.Errorf("ProcessBilled %#x of the block at %#x names no process", b.Billed, uint64(b.Header))
}

func (p *Pool) isProcess(at mem.VA) bool {
	if !kernelAddress(at) || at%HeaderSize != 0 {
		return false
	}
	typ, err := p.k.Object("_EPROCESS", at).Field("Pcb.Header.Type").Uint()
	return err == nil && typ&0x7f == processObject
}

func (p *Pool) quotaCookie() quota {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.quota == nil {
		v, err := p.k.GlobalPointer("ExpPoolQuotaCookie")
		var unknown *model.GlobalError
		if _, other := p.k.Global("PoolBigPageTable"); asGlobal(err, &unknown) && other == nil {
			err = nil // the kernel's variables are known and this is none of them
		}
		p.quota = &quota{uint64(v), err}
	}
	return *p.quota
}
