package pool

import (
	"cmp"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"

	"gokd/model/mem"
)

// maxListed bounds the blocks that are kept of free lists, eight bytes each.
const maxListed = 1 << 23

// FreeEntry is a place on a free list of a page pool.
type FreeEntry struct {
	Header     mem.VA
	List       int // index of _POOL_DESCRIPTOR.ListHeads
	Descriptor Descriptor
}

// ListDamage says where a free list stops making sense.
type ListDamage struct {
	Descriptor mem.VA
	List       int    // index of ListHeads
	At         mem.VA // the link that is wrong: a list head or the body of a block
	Err        error
}

func (e *ListDamage) Error() string {
	return fmt.Sprintf("free list %d of the pool descriptor at %#x is broken at %#x: %v", e.List, uint64(e.Descriptor), uint64(e.At), e.Err)
}

// Unwrap gives the reason.
func (e *ListDamage) Unwrap() error { return e.Err }

// FreeLists is every block that stands on a free list of the machine's page
// pools: a second source for what is free, beside the blocks' own headers. The
// lists of session pools are not in it: their addresses mean another block in
// each session.
type FreeLists struct {
	// Damage is where lists break: what stood behind is not in the set. An
	// entry can also be the *PartError of a set that is larger than is kept.
	Damage []error

	descriptors []Descriptor
	entries     []uint64 // bits 4-47 of the header's address; 48-55 the list, 56-63 the descriptor
}

// Len is the number of blocks on the lists.
func (f *FreeLists) Len() int { return len(f.entries) }

// Complete reports whether every list was walked to its end, so that a block
// that is not in the set is on no list.
func (f *FreeLists) Complete() bool { return len(f.Damage) == 0 && len(f.descriptors) > 0 }

// listedKey is what entries are sorted by.
func listedKey(v uint64) uint64 { return v & 0xffff_ffff_fff0 }

// Find gives the place of a block by the address of its header.
func (f *FreeLists) Find(header mem.VA) (FreeEntry, bool) {
	i, ok := slices.BinarySearchFunc(f.entries, listedKey(uint64(header)), func(v, key uint64) int {
		return cmp.Compare(listedKey(v), key)
	})
	if !ok || !kernelAddress(header) {
		return FreeEntry{}, false
	}
	v := f.entries[i]
	return FreeEntry{header, int(v >> 48 & 0xff), f.descriptors[v>>56]}, true
}

// FreeListed gives the place of a block, by the address of its header, on a
// free list; false where it stands on none. A block of which a header says that
// it is in use and that stands on a list was damaged or freed twice, as was one
// that is free by its header, longer than a header and on no list, provided
// that the lists are complete.
func (p *Pool) FreeListed(ctx context.Context, header mem.VA) (FreeEntry, bool, error) {
	f, err := p.FreeLists(ctx)
	if err != nil {
		return FreeEntry{}, false, err
	}
	e, ok := f.Find(header)
	return e, ok, nil
}

// FreeLists walks the free lists of all descriptors, once. The links of a list
// are in the bodies of its blocks, and each must be the one that its
// neighbour's link names (ReactOS expool.c, ExpCheckPoolLinks).
func (p *Pool) FreeLists(ctx context.Context) (*FreeLists, error) {
	p.mu.Lock()
	known := p.free
	p.mu.Unlock()
	if known != nil {
		return known, nil
	}
	if !p.PagePool() {
		return nil, fmt.Errorf("free lists of build %d: its pools are segment heaps: %w", p.k.Build, ErrNotWalked)
	}
	f := &FreeLists{}
	for d, err := range p.Descriptors(ctx) {
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
		if err != nil {
			if d.At != 0 || d.From != "" {
				f.Damage = append(f.Damage, err)
				continue
			}
			if len(f.descriptors) == 0 {
				return nil, err
			}
			continue
		}
		if d.Kind == Session || !d.HasLists || len(f.descriptors) == 256 {
			continue
		}
		f.descriptors = append(f.descriptors, d)
		if err := p.listBlocks(ctx, f, d); err != nil {
			return nil, err
		}
	}
	slices.SortFunc(f.entries, func(a, b uint64) int { return cmp.Compare(listedKey(a), listedKey(b)) })
	p.mu.Lock()
	p.free = f
	p.mu.Unlock()
	return f, nil
}

// listBlocks adds the blocks on all lists of a descriptor. The error is ctx's.
func (p *Pool) listBlocks(ctx context.Context, f *FreeLists, d Descriptor) error {
	heads := p.k.ObjectIn(d.space, "_POOL_DESCRIPTOR", d.At).Field("ListHeads").Addr()
	for list := range freeLists {
		head := heads + mem.VA(16*list)
		before := len(f.entries)
		at, err := p.walkFreeList(ctx, d.space, head, func(body mem.VA) bool {
			if len(f.entries) == maxListed {
				return false
			}
			f.entries = append(f.entries, listedKey(uint64(body-HeaderSize))|uint64(list)<<48|uint64(len(f.descriptors)-1)<<56)
			return true
		})
		switch {
		case ctx.Err() != nil:
			return ctx.Err()
		case len(f.entries) == maxListed:
			f.Damage = append(f.Damage, &ListDamage{d.At, list, at, fmt.Errorf("more than %d free blocks: %w", maxListed, ErrLimit)})
			return nil
		case errors.Is(err, errNeverUsed) && len(f.entries) == before:
		case err != nil:
			f.Damage = append(f.Damage, &ListDamage{d.At, list, at, err})
		}
	}
	return nil
}

// errNeverUsed says that a list head holds zeros, as those of sizes that a pool
// has never had can.
var errNeverUsed = errors.New("the list was never used")

// walkFreeList follows one list from its head and gives the bodies of its
// blocks. The address is of the link that is wrong.
func (p *Pool) walkFreeList(ctx context.Context, space *mem.Space, head mem.VA, visit func(mem.VA) bool) (mem.VA, error) {
	var b [16]byte
	if _, err := space.ReadVirtual(b[:], head); err != nil {
		return head, err
	}
	at := mem.VA(binary.LittleEndian.Uint64(b[:]))
	if at == 0 && binary.LittleEndian.Uint64(b[8:]) == 0 {
		return head, errNeverUsed
	}
	back := head
	for steps := 0; at != head; steps++ {
		if !kernelAddress(at) || at%HeaderSize != 0 || at%mem.PageSize == 0 {
			return back, fmt.Errorf("its link names %#x, where no block can be", uint64(at))
		}
		if _, err := space.ReadVirtual(b[:], at); err != nil {
			return at, err
		}
		// A link back that does not match also ends every loop that misses the
		// head.
		if to := mem.VA(binary.LittleEndian.Uint64(b[8:])); to != back {
			return at, fmt.Errorf("its link back names %#x, not %#x", uint64(to), uint64(back))
		}
		if !visit(at) {
			return at, nil
		}
		if steps%1024 == 0 && ctx.Err() != nil {
			return at, ctx.Err()
		}
		back, at = at, mem.VA(binary.LittleEndian.Uint64(b[:]))
	}
	return head, nil
}

// freeListEnds gives addresses of free blocks of a pool, by the heads of its
// descriptors' lists: the lowest and the highest in each unit of 512 GB.
func (p *Pool) freeListEnds(ctx context.Context, kind Kind) []mem.VA {
	ends := unitEnds{}
	for d, err := range p.Descriptors(ctx) {
		if err != nil || d.Kind != kind || !d.HasLists {
			continue
		}
		heads := p.k.ObjectIn(d.space, "_POOL_DESCRIPTOR", d.At).Field("ListHeads").Addr()
		var b [16 * freeLists]byte
		n, _ := d.space.ReadVirtual(b[:], heads)
		for off := 0; off+16 <= n; off += 16 {
			for _, link := range []uint64{binary.LittleEndian.Uint64(b[off:]), binary.LittleEndian.Uint64(b[off+8:])} {
				at := mem.VA(link)
				own := at >= heads && at < heads+16*freeLists
				if !own && kernelAddress(at) && at%HeaderSize == 0 && at%mem.PageSize != 0 && p.backed(at) {
					ends.add(at)
				}
			}
		}
	}
	return ends.list()
}

// backed reports whether an address can be read, which a link of a damaged list
// seldom can.
func (p *Pool) backed(at mem.VA) bool {
	_, err := p.k.Space.Pointer(at)
	return err == nil
}

// unitEnds is the lowest and the highest of the addresses in each unit.
type unitEnds map[mem.VA][2]mem.VA

func (u unitEnds) add(at mem.VA) {
	ends, ok := u[at/slotBytes]
	if !ok {
		ends = [2]mem.VA{at, at}
	}
	u[at/slotBytes] = [2]mem.VA{min(ends[0], at), max(ends[1], at)}
}

func (u unitEnds) list() []mem.VA {
	var list []mem.VA
	for _, ends := range u {
		list = append(list, ends[0], ends[1])
	}
	slices.Sort(list)
	return list
}
