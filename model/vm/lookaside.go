package vm

import (
	"context"
	"errors"
	"fmt"
	"iter"

	"gokd/model"
	"gokd/model/mem"
)

// Lookaside is a lookaside list: freed blocks of one size that wait for their
// next use.
type Lookaside struct {
	At        mem.VA
	Name      string // "nt!CcTwilightLookasideList"; empty where no symbol names it
	Type      uint32 // POOL_TYPE as stored, with the bits of how to allocate
	Tag       uint32
	Size      uint32 // of a block, in bytes
	Depth     uint16 // blocks on the list
	MaxDepth  uint16 // blocks that it may hold now; Windows adapts it to the use
	Allocates uint32 // since boot, modulo 2^32
	Frees     uint32
	// AllocateMisses and FreeMisses count what went to the pool instead.
	AllocateMisses, FreeMisses uint32
	Gaps                       model.Gaps
}

// POOL_TYPE bits (wdm.h).
const (
	paged           = 1
	raiseOnFailure  = 0x10
	quotaNotRaise   = 0x8
	lookasideMember = 1 << 14 // more lists than a machine has
)

// Paged reports whether the blocks come from paged pool.
func (l Lookaside) Paged() bool { return l.Type&paged != 0 }

// poolTypes are the names of POOL_TYPE (wdm.h).
var poolTypes = map[uint32]string{
	0: "NonPagedPool", 1: "PagedPool", 2: "NonPagedPoolMustSucceed", 3: "DontUseThisType", 4: "NonPagedPoolCacheAligned",
	5: "PagedPoolCacheAligned", 6: "NonPagedPoolCacheAlignedMustS", 0x20: "NonPagedPoolSession", 0x21: "PagedPoolSession",
	0x24: "NonPagedPoolCacheAlignedSession", 0x25: "PagedPoolCacheAlignedSession",
	0x200: "NonPagedPoolNx", 0x204: "NonPagedPoolNxCacheAligned", 0x220: "NonPagedPoolSessionNx",
}

// TypeName spells a pool type as the documentation does, with the bits of how to
// allocate.
func TypeName(typ uint32) string {
	base := typ &^ (raiseOnFailure | quotaNotRaise)
	name := poolTypes[base]
	if name == "" {
		name = fmt.Sprintf("unknown type %#x", base)
	}
	if typ&raiseOnFailure != 0 {
		name += " RaiseIfAllocationFailure"
	}
	if typ&quotaNotRaise != 0 {
		name += " QuotaFailInsteadOfRaise"
	}
	return name
}

// wellKnown are the system's lists that the debuggers show, by name.
var wellKnown = []string{
	"CcTwilightLookasideList", "IopSmallIrpLookasideList", "IopMediumIrpLookasideList", "IopLargeIrpLookasideList",
	"IopMdlLookasideList", "IopCompletionLookasideList", "ObpCreateInfoLookasideList", "ObpNameBufferLookasideList",
	"FsRtlFastMutexLookasideList", "FsRtlFileLockLookasideList", "FsRtlLockInfoLookasideList", "FsRtlLockTreeNodeLookasideList",
	"FsRtlSharedLockLookasideList", "FsRtlExclusiveLockLookasideList", "FsRtlWaitingLockLookasideList", "TunnelLookasideList",
}

// lookasideHeads are the heads of the lists that link all lists: those the
// system made for itself, those of the pools, and those of drivers. Lists of
// the pools count hits where the others count misses (ReactOS expool.c and
// lookas.c).
var lookasideHeads = []struct {
	name string
	hits bool
}{
	{"ExSystemLookasideListHead", false}, {"ExPoolLookasideListHead", true},
	{"ExNPagedLookasideListHead", false}, {"ExPagedLookasideListHead", false},
}

// LookasideAt reads the list at an address. hits tells that it is one of the
// pools'.
func LookasideAt(ctx context.Context, k *model.Kernel, at mem.VA, hits bool) (Lookaside, error) {
	l := Lookaside{At: at, Name: listName(ctx, k, at)}
	o := k.Object("_GENERAL_LOOKASIDE", at)
	if err := o.Err(); err != nil {
		return l, err
	}
	head, err := o.Bytes(0x30)
	if err != nil {
		return l, err
	}
	// The depth is the low 16 bits of every form of _SLIST_HEADER on x64.
	l.Depth = uint16(head[0]) | uint16(head[1])<<8
	get := func(field string) uint32 { return uint32(l.Gaps.Uint(field, o.Field(field))) }
	l.MaxDepth = uint16(get("Depth"))
	l.Type, l.Tag, l.Size = get("Type"), get("Tag"), get("Size")
	l.Allocates, l.Frees = get("TotalAllocates"), get("TotalFrees")
	l.AllocateMisses, l.FreeMisses = get("AllocateMisses"), get("FreeMisses")
	if hits {
		l.AllocateMisses, l.FreeMisses = l.Allocates-l.AllocateMisses, l.Frees-l.FreeMisses
	}
	for _, err := range l.Gaps {
		return l, err
	}
	if l.Size == 0 && l.Tag == 0 {
		return l, fmt.Errorf("lookaside list at %#x %w", uint64(at), ErrNotFilled)
	}
	return l, nil
}

// listName gives the name of a list that is a variable.
func listName(ctx context.Context, k *model.Kernel, at mem.VA) string {
	for _, name := range wellKnown {
		if known, err := k.Global(name); err == nil && known == at {
			return "nt!" + name
		}
	}
	if n := k.NameOf(ctx, at).Plain(); n.Function != "" && n.Offset == 0 {
		return n.String()
	}
	return ""
}

// KnownLookasides yields the system's lists that have names. Without any name
// the error tells what is needed.
func KnownLookasides(ctx context.Context, k *model.Kernel) iter.Seq2[Lookaside, error] {
	return func(yield func(Lookaside, error) bool) {
		var missing error
		found := false
		for _, name := range wellKnown {
			if ctx.Err() != nil {
				yield(Lookaside{}, ctx.Err())
				return
			}
			at, err := k.Global(name)
			if err != nil {
				if missing == nil {
					missing = err
				}
				continue
			}
			found = true
			if !yield(LookasideAt(ctx, k, at, false)) {
				return
			}
		}
		if !found {
			yield(Lookaside{}, missing)
		}
	}
}

// AllLookasides yields every list: those on the four lists of lists, then those
// of the processors that these do not hold. Trouble in one list of lists is
// yielded and the walk goes on with the next.
func AllLookasides(ctx context.Context, k *model.Kernel) iter.Seq2[Lookaside, error] {
	return func(yield func(Lookaside, error) bool) {
		seen := map[mem.VA]bool{}
		for _, h := range lookasideHeads {
			head, err := k.Global(h.name)
			if err != nil {
				if !yield(Lookaside{}, err) {
					return
				}
				continue
			}
			for o, err := range k.List(ctx, head, "_GENERAL_LOOKASIDE", "ListEntry", lookasideMember) {
				if err != nil {
					err = fmt.Errorf("nt!%s: %w", h.name, err)
					if !yield(Lookaside{}, err) {
						return
					}
					continue
				}
				seen[o.Addr()] = true
				if !yield(LookasideAt(ctx, k, o.Addr(), h.hits)) {
					return
				}
			}
		}
		processorLookasides(ctx, k, seen, yield)
	}
}

// poolArrays are the members of _KPRCB that hold a processor's own lists of
// small pool blocks.
var poolArrays = []string{"PPNxPagedLookasideList", "PPNPagedLookasideList", "PPPagedLookasideList"}

// PoolList reports whether the list at an address is one of the pools' own, which
// count hits: in a processor's control block, or on the pools' list of lists.
func PoolList(ctx context.Context, k *model.Kernel, at mem.VA) bool {
	for _, p := range k.Processors {
		for _, name := range poolArrays {
			array := k.Object("_KPRCB", p.PRCB).Field(name)
			if t := array.Type(); array.Err() == nil && at >= array.Addr() && at-array.Addr() < mem.VA(t.Size) {
				return true
			}
		}
	}
	head, err := k.Global("ExPoolLookasideListHead")
	if err != nil {
		return false
	}
	for o, err := range k.List(ctx, head, "_GENERAL_LOOKASIDE", "ListEntry", lookasideMember) {
		if err == nil && o.Addr() == at {
			return true
		}
	}
	return false
}

// processorLookasides yields the lists in the processors' control blocks that
// were not seen yet.
func processorLookasides(ctx context.Context, k *model.Kernel, seen map[mem.VA]bool, yield func(Lookaside, error) bool) {
	for _, p := range k.Processors {
		prcb := k.Object("_KPRCB", p.PRCB)
		for _, name := range poolArrays {
			if !prcb.Has(name) {
				continue
			}
			array := prcb.Field(name)
			for i := range min(array.Type().Count, 64) {
				if ctx.Err() != nil {
					yield(Lookaside{}, ctx.Err())
					return
				}
				at := array.Index(i).Addr()
				if seen[at] {
					continue
				}
				seen[at] = true
				l, err := LookasideAt(ctx, k, at, true)
				if errors.Is(err, ErrNotFilled) {
					continue // never set up: segment heaps have lists of their own
				}
				if l.Name == "" {
					l.Name = fmt.Sprintf("processor %d %s[%d]", p.Number, name, i)
				}
				if !yield(l, err) {
					return
				}
			}
		}
	}
}

// Bucket is one list of the dynamic lookasides that segment-heap pools keep for
// small blocks.
type Bucket struct {
	At                        mem.VA // its _RTL_LOOKASIDE
	Node, Lookaside, Index    int    // NUMA node, which of the node's, which bucket
	Depth, MaxDepth           uint16
	Allocates, AllocateMisses uint32
	Frees, FreeMisses         uint32
}

// Bounds of the pools' state, above what the type tables have.
const (
	maxPoolNodes = 64
	maxBuckets   = 64
)

// HeapBuckets yields the buckets of the pools' dynamic lookasides that are in
// use: _EX_POOL_HEAP_MANAGER_STATE.PoolNode[].Lookasides[].Buckets[] of
// nt!ExPoolState, from build 18362 on. ErrNotKept before.
func HeapBuckets(ctx context.Context, k *model.Kernel) iter.Seq2[Bucket, error] {
	return func(yield func(Bucket, error) bool) {
		if k.Types == nil {
			yield(Bucket{}, model.ErrNoLayout)
			return
		}
		// 17763 has the type but allocates from page pools.
		if _, err := k.Types.Type("_RTL_DYNAMIC_LOOKASIDE"); err != nil || k.Object("_POOL_DESCRIPTOR", 0).Has("ListHeads") {
			yield(Bucket{}, fmt.Errorf("lookasides of segment heaps: %w", ErrNotKept))
			return
		}
		at, err := k.Global("ExPoolState")
		if err != nil {
			yield(Bucket{}, err)
			return
		}
		nodes := k.Object("_EX_POOL_HEAP_MANAGER_STATE", at).Field("PoolNode")
		n, err := k.Object("_EX_POOL_HEAP_MANAGER_STATE", at).Field("NumberOfPools").Uint()
		if err = errors.Join(err, nodes.Err()); err != nil {
			yield(Bucket{}, err)
			return
		}
		for i := range int(min(n, uint64(nodes.Type().Count), maxPoolNodes)) {
			look := nodes.Index(uint32(i)).Field("Lookasides")
			if err := look.Err(); err != nil {
				yield(Bucket{}, err)
				return
			}
			for j := range int(min(look.Type().Count, 8)) {
				if !buckets(ctx, look.Index(uint32(j)), Bucket{Node: i, Lookaside: j}, yield) {
					return
				}
			}
		}
	}
}

// buckets yields those of one dynamic lookaside; false ends the walk.
func buckets(ctx context.Context, o model.Object, b Bucket, yield func(Bucket, error) bool) bool {
	array := o.Field("Buckets")
	if err := array.Err(); err != nil {
		return yield(Bucket{}, err)
	}
	for i := range min(array.Type().Count, maxBuckets) {
		if ctx.Err() != nil {
			yield(Bucket{}, ctx.Err())
			return false
		}
		e := array.Index(i)
		var gaps model.Gaps
		get := func(f string) uint32 { return uint32(gaps.Uint(f, e.Field(f))) }
		b.Index, b.At = int(i), e.Addr()
		head, err := e.Bytes(2)
		gaps.Set("ListHead", err)
		if err == nil {
			b.Depth = uint16(head[0]) | uint16(head[1])<<8
		}
		b.MaxDepth = uint16(get("Depth"))
		b.Allocates, b.AllocateMisses = get("TotalAllocates"), get("AllocateMisses")
		b.Frees, b.FreeMisses = get("TotalFrees"), get("FreeMisses")
		for _, err := range gaps {
			// A page that is missing takes the rest of the array with it.
			return yield(Bucket{}, err)
		}
		if b.Depth|b.MaxDepth == 0 && b.Allocates|b.Frees == 0 {
			continue
		}
		if !yield(b, nil) {
			return false
		}
	}
	return true
}
