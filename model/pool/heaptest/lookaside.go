package heaptest

import "gokd/model/mem"

// Processor adds a processor; trackers and lookaside lists are spread over all.
func (b *Builder) Processor() mem.VA {
	at := b.M.Processor()
	b.processors++
	b.prcbs = append(b.prcbs, at)
	return at
}

// Cache frees a block onto a list that keeps it for its next use: of a page on
// the lookaside list of a processor, of a heap's chunk on the dynamic lookaside
// list of its pool.
func (b *Builder) Cache(k *Block) {
	b.t.Helper()
	if k.State != Allocated || k.Large() {
		b.t.Fatalf("heaptest: the block at %#x can't be kept on a list", uint64(k.Header))
	}
	switch k.Place {
	case InPage:
		b.cachePage(k)
	case InVS:
		b.cacheChunk(k)
	default:
		b.t.Fatalf("heaptest: the block at %#x lies where no list keeps blocks", uint64(k.Header))
	}
	k.State = Cached
}

// cachePage puts a block on the list of its size (_KPRCB's arrays of
// _GENERAL_LOOKASIDE_POOL, which grow by one unit from one unit).
func (b *Builder) cachePage(k *Block) {
	name := "PPNPagedLookasideList"
	switch {
	case k.Pool.Paged():
		name = "PPPagedLookasideList"
	case k.Pool == NonpagedNx && b.M.Has("_KPRCB", "PPNxPagedLookasideList"):
		name = "PPNxPagedLookasideList"
	}
	cpu := b.prcbs[b.turn%len(b.prcbs)]
	b.turn++
	off, f := b.M.Field("_KPRCB", name)
	i := (k.Size - unit) / unit
	if i == 0 || i > uint64(f.Type.Count) {
		b.t.Fatalf("heaptest: no lookaside list keeps blocks of %#x bytes", k.Size)
	}
	stride := b.size("_GENERAL_LOOKASIDE_POOL")
	b.push(b.M, cpu+mem.VA(off)+mem.VA((i-1)*stride), k.Body)
}
