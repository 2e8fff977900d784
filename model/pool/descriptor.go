package pool

import (
	"context"
	"errors"
	"fmt"
	"iter"

	"gokd/model"
	"gokd/model/mem"
)

// Descriptor is one _POOL_DESCRIPTOR: what the pool manager keeps of one page
// pool. Several paged pools share one range of addresses; the PoolIndex of a
// block says whose it is. Its counters are of the page pool alone, without what
// lookaside lists hold.
type Descriptor struct {
	At      mem.VA
	From    string // the variable that names it: "nt!ExpPagedPoolDescriptor[1]"
	Kind    Kind   // Session for a session's
	Type    uint32 // PoolType as stored: 0 nonpaged, 1 paged, 0x200 nonpaged without execution, +0x20 of a session
	Index   uint32 // PoolIndex
	Node    int    // NUMA node of a nonpaged pool; -1 where it belongs to none
	Session uint32 // number of the session, for Kind Session

	Allocs, Frees uint32 // since boot, modulo 2^32
	Pages         int64  // pages of small blocks that the pool holds
	BigPages      int64  // pages of large allocations
	Bytes         int64  // in use

	PendingDepth  int32 // PendingFreeDepth: how many freed blocks wait to be returned
	PendingListed int   // how many of them the list holds
	PendingErr    error // why the list ends early; nil where it does not
	HasLists      bool  // the build keeps free blocks on lists (up to 17763)

	space *mem.Space
}

// Bounds of what is believed of descriptors.
const (
	maxPagedPools = 65  // ExpPagedPoolDescriptor: one and one for each NUMA node
	maxTypes      = 4   // descriptors side by side for one node, one for each type
	maxPending    = 256 // blocks on a list of deferred frees; Windows returns them at 32
	freeLists     = 256 // _POOL_DESCRIPTOR.ListHeads on x64
)

// Bits of _POOL_DESCRIPTOR.PoolType that a page pool can have.
const descriptorTypes = typePaged | typeSession | typeNX

// Descriptors yields the descriptors of the machine's page pools and of those
// of its sessions. An error stands for a descriptor that is named and can't be
// read or makes no sense; the walk goes on behind it. Builds from 19041 on have
// none, which is an error too; 18362 has descriptors with counters only.
//
// Sources: the type tables for the fields; ReactOS expool.c for PoolVector,
// ExpPagedPoolDescriptor and ExpNonPagedPoolDescriptor; the distance of
// NonPagedPoolDescriptor to the next symbol for the descriptors side by side.
func (p *Pool) Descriptors(ctx context.Context) iter.Seq2[Descriptor, error] {
	return func(yield func(Descriptor, error) bool) {
		if p.k.Types == nil {
			return
		}
		if _, err := p.k.Types.Type("_POOL_DESCRIPTOR"); err != nil {
			yield(Descriptor{}, fmt.Errorf("pool descriptors: the pools of build %d are segment heaps: %w", p.k.Build, err))
			return
		}
		w := &descriptorWalk{p: p, seen: map[mem.VA]bool{}, yield: yield}
		if w.nonpaged() && w.paged() && ctx.Err() == nil {
			w.sessions(ctx)
		}
		if err := ctx.Err(); err != nil && !w.enough {
			yield(Descriptor{}, err)
		}
	}
}

// descriptorWalk visits each descriptor once. Its steps report false where the
// consumer has enough.
type descriptorWalk struct {
	p      *Pool
	seen   map[mem.VA]bool
	yield  func(Descriptor, error) bool
	enough bool
	known  bool // one of the variables is known
	why    error
}

func (w *descriptorWalk) tell(d Descriptor, err error) bool {
	if !w.yield(d, err) {
		w.enough = true
	}
	return !w.enough
}

// variable reads a number of 32 bits, at most limit; 0 where it is not known.
func (w *descriptorWalk) variable(name string, limit uint32) uint32 {
	n, err := w.p.k.Global32(name)
	if err != nil {
		return 0
	}
	return min(n, limit)
}

// named visits the descriptor that entry i of an array of addresses names.
func (w *descriptorWalk) named(array string, i uint32, d Descriptor) bool {
	at, err := w.p.k.Global(array)
	if err != nil {
		w.why = keepGlobal(w.why, err)
		return true
	}
	w.known = true
	d.From = fmt.Sprintf("nt!%s[%d]", array, i)
	to, err := w.p.k.Space.Pointer(at + 8*mem.VA(i))
	if err != nil {
		return w.tell(d, fmt.Errorf("%s: %w", d.From, err))
	}
	if to == 0 {
		return true
	}
	return w.visit(to, d)
}

// visit reads the descriptor at an address and, for nonpaged pool, those that
// lie behind it: from 8 on a node has one for memory that may be executed and
// one for memory that may not.
func (w *descriptorWalk) visit(at mem.VA, like Descriptor) bool {
	size := mem.VA(0)
	if t, err := w.p.k.Types.Type("_POOL_DESCRIPTOR"); err == nil {
		size = mem.VA(t.Size)
	}
	for i := range maxTypes {
		if w.seen[at] {
			return true
		}
		d := like
		err := w.p.readDescriptor(&d, at)
		if i > 0 && (err != nil || d.Kind != Nonpaged || d.Type == like.Type) {
			return true // not one of them
		}
		w.seen[at] = true
		if i > 0 {
			d.From = fmt.Sprintf("%s+%#x", like.From, uint64(size)*uint64(i))
		}
		if !w.tell(d, err) {
			return false
		}
		if err != nil || d.Kind != Nonpaged || size == 0 {
			return true
		}
		if i == 0 {
			like.Type = d.Type
		}
		at += size
	}
	return true
}

func (w *descriptorWalk) nonpaged() bool {
	if !w.named("PoolVector", 0, Descriptor{Kind: Nonpaged, Node: -1}) {
		return false
	}
	// With one pool the kernel uses PoolVector alone.
	if n := w.variable("ExpNumberOfNonPagedPools", maxNodes); n > 1 {
		for i := range n {
			if !w.named("ExpNonPagedPoolDescriptor", i, Descriptor{Kind: Nonpaged, Node: int(i)}) {
				return false
			}
		}
	}
	at, err := w.p.k.Global("NonPagedPoolDescriptor")
	if err != nil {
		w.why = keepGlobal(w.why, err)
		return true
	}
	w.known = true
	return w.visit(at, Descriptor{Kind: Nonpaged, Node: -1, From: "nt!NonPagedPoolDescriptor"})
}

// paged visits the paged pools. ExpNumberOfPagedPools does not count the first,
// which is there on every machine.
func (w *descriptorWalk) paged() bool {
	if n := w.variable("ExpNumberOfPagedPools", maxPagedPools-1); n > 0 {
		for i := range n + 1 {
			if !w.named("ExpPagedPoolDescriptor", i, Descriptor{Kind: Paged, Node: -1}) {
				return false
			}
		}
	}
	if !w.named("PoolVector", 1, Descriptor{Kind: Paged, Node: -1}) {
		return false
	}
	if !w.known {
		return w.tell(Descriptor{}, w.why)
	}
	return true
}

// sessions visits the descriptor inside each session's structure.
func (w *descriptorWalk) sessions(ctx context.Context) {
	all, err := w.p.sessions(ctx)
	if err != nil && len(all) > 0 && !w.tell(Descriptor{}, err) {
		return
	}
	for _, s := range all {
		o := w.p.k.ObjectIn(s.space, "_MM_SESSION_SPACE", s.at).Field("PagedPool")
		if o.Err() != nil || ctx.Err() != nil {
			return
		}
		d := Descriptor{Kind: Session, Node: -1, Session: s.id, From: fmt.Sprintf("_MM_SESSION_SPACE of session %d", s.id)}
		d.space = s.space
		if !w.tell(d, w.p.readDescriptor(&d, o.Addr())) {
			return
		}
	}
}

// readDescriptor fills a descriptor. What stands there must be of the kind that
// was looked for.
func (p *Pool) readDescriptor(d *Descriptor, at mem.VA) error {
	d.At = at
	if d.space == nil {
		d.space = p.k.Space
	}
	if !kernelAddress(at) || at%8 != 0 {
		return fmt.Errorf("%s: %#x is no pool descriptor", d.From, uint64(at))
	}
	o := p.k.ObjectIn(d.space, "_POOL_DESCRIPTOR", at)
	typ, err := o.Field("PoolType").Uint()
	if err != nil {
		return fmt.Errorf("%s: %w", d.From, err)
	}
	index, err := o.Field("PoolIndex").Uint()
	if err != nil {
		return fmt.Errorf("%s: %w", d.From, err)
	}
	d.Type, d.Index = uint32(typ), uint32(index)
	paged := typ&typePaged != 0
	if typ&^descriptorTypes != 0 || index > maxPagedPools || paged != (d.Kind != Nonpaged) {
		return fmt.Errorf("%s: %#x is no descriptor of %s pool: PoolType %#x, PoolIndex %#x", d.From, uint64(at), d.Kind, typ, index)
	}
	d.count(o)
	if d.HasLists = o.Has("ListHeads"); d.HasLists {
		d.PendingListed, d.PendingErr = p.followPending(d.space, o, nil)
	}
	return nil
}

// count reads the counters. Up to 9600 the descriptor keeps what it holds, from
// 14393 on what it ever took and what it gave back.
func (d *Descriptor) count(o model.Object) {
	get := func(names ...string) uint64 {
		for _, name := range names {
			if o.Has(name) {
				v, _ := o.Field(name).Uint()
				return v
			}
		}
		return 0
	}
	d.Allocs = uint32(get("RunningAllocs"))
	d.Frees = uint32(get("RunningDeallocs", "RunningDeAllocs"))
	if o.Has("PagesAllocated") {
		d.Pages = int64(get("PagesAllocated") - get("PagesDeallocated"))
		d.BigPages = int64(get("BigPagesAllocated") - get("BigPagesDeallocated"))
		d.Bytes = int64(get("BytesAllocated") - get("BytesDeallocated"))
	} else {
		d.Pages, d.BigPages = int64(int32(get("TotalPages"))), int64(int32(get("TotalBigPages")))
		d.Bytes = int64(get("TotalBytes"))
	}
	d.PendingDepth = int32(get("PendingFreeDepth"))
}

var errLoop = errors.New("the list comes back to a member")

// followPending walks a descriptor's list of deferred frees and gives each
// block's body to found. The list links the bodies by their first eight bytes
// (_POOL_DESCRIPTOR.PendingFrees is void** up to 9600, _SINGLE_LIST_ENTRY from
// then on); that it names bodies, as the call that frees does, is inferred.
func (p *Pool) followPending(space *mem.Space, descriptor model.Object, found func(mem.VA)) (n int, err error) {
	at, err := descriptor.Field("PendingFrees").Pointer()
	if descriptor.Field("PendingFrees.Next").Err() == nil {
		at, err = descriptor.Field("PendingFrees.Next").Pointer()
	}
	seen := map[mem.VA]bool{}
	for err == nil && at != 0 {
		switch {
		case !kernelAddress(at) || at%HeaderSize != 0 || at%mem.PageSize == 0:
			return n, fmt.Errorf("deferred frees of the descriptor at %#x: %#x is no block of it", uint64(descriptor.Addr()), uint64(at))
		case seen[at]:
			return n, fmt.Errorf("deferred frees of the descriptor at %#x: %#x: %w", uint64(descriptor.Addr()), uint64(at), errLoop)
		case n == maxPending:
			return n, fmt.Errorf("deferred frees of the descriptor at %#x: more than %d: %w", uint64(descriptor.Addr()), maxPending, ErrLimit)
		}
		var next mem.VA
		if next, err = space.Pointer(at); err != nil {
			break
		}
		seen[at] = true
		n++
		if found != nil {
			found(at)
		}
		at = next
	}
	if err != nil {
		err = fmt.Errorf("deferred frees of the descriptor at %#x: %w", uint64(descriptor.Addr()), err)
	}
	return n, err
}
