package heaptest

import (
	"math/rand/v2"

	"gokd/model/mem"
)

// kindOf is one sort of allocation in the mix of Fill.
type kindOf struct {
	tag    string
	pool   Pool
	least  uint64 // bytes
	most   uint64
	weight int
}

// mix is how a machine at work uses its pools: many small blocks of a few tags,
// some of a page, few larger ones. The tags are those of well-known components;
// the weights are made up.
var mix = []kindOf{
	{"Even", NonpagedNx, 0x50, 0x70, 60}, {"File", NonpagedNx, 0x150, 0x190, 40}, {"Irp ", NonpagedNx, 0x118, 0x2b0, 20},
	{"MmCa", NonpagedNx, 0xf0, 0x140, 30}, {"Thre", NonpagedNx, 0x8a0, 0x8f0, 6}, {"Proc", NonpagedNx, 0xa40, 0xa80, 2},
	{"Ntfx", NonpagedNx, 0x120, 0x150, 25}, {"EtwB", NonpagedNx, 0x1000, 0x10000, 1}, {"Leak", NonpagedNx, 0x40, 0x40, 30},
	{"Exec", Nonpaged, 0x20, 0x400, 8}, {"HalX", Nonpaged, 0x600, 0xfd0, 2},
	{"CM25", Paged, 0x40, 0xf00, 40}, {"CMVa", Paged, 0x30, 0x90, 50}, {"Toke", Paged, 0x500, 0xa00, 6}, {"NtFs", Paged, 0x80, 0x400, 30},
	{"MmSt", Paged, 0x60, 0x2000, 12}, {"Obtb", Paged, 0x1000, 0x1000, 2}, {"Gh05", Paged, 0x1000, 0x30000, 1}, {"ObNm", Paged, 0x10, 0x80, 30},
}

// Fill fills the pools with a realistic mix of about so many pages, the same for
// the same seed: blocks charged to processes, freed, kept on lists, aligned,
// with protected tags, large.
func (b *Builder) Fill(seed uint64, pages int) {
	b.t.Helper()
	r := rand.New(rand.NewPCG(seed, 0x5eed))
	total := 0
	for _, k := range mix {
		total += k.weight
	}
	var live []*Block
	if b.SegmentHeaps() {
		b.Alloc(Ask{Pool: Paged, Tag: "Huge", Bytes: 0x800000 - 0x123})
	}
	for sum := uint64(0); sum < uint64(pages)*mem.PageSize; {
		k := b.Alloc(b.pick(r, total))
		sum += k.Room
		live = append(live, k)
		// Older blocks are freed or kept now and then, so that holes arise.
		if n := len(live); n > 8 && r.IntN(3) == 0 {
			i := r.IntN(n)
			b.release(r, live[i])
			live[i] = live[n-1]
			live = live[:n-1]
		}
	}
}

func (b *Builder) pick(r *rand.Rand, total int) Ask {
	n := r.IntN(total)
	for _, k := range mix {
		if n -= k.weight; n >= 0 {
			continue
		}
		a := Ask{Pool: k.pool, Tag: k.tag, Bytes: k.least + r.Uint64N(k.most-k.least+1)}
		small := a.Bytes <= largestSmall
		switch r.IntN(16) {
		case 0, 1:
			a.Owner = b.owner(r)
		case 2:
			a.Protected = true
		case 3:
			a.Aligned = small && a.Bytes < 0xf00
		}
		if !small && b.build < 20348 {
			a.Owner = 0 // the table of older builds has no place for it
		}
		return a
	}
	return Ask{Tag: "None", Bytes: 1}
}

func (b *Builder) owner(r *rand.Rand) mem.VA {
	if len(b.Processes) == 0 {
		return b.M.System
	}
	return b.Processes[r.IntN(len(b.Processes))]
}

// release frees a block, or lets a list keep it where one does.
func (b *Builder) release(r *rand.Rand, k *Block) {
	switch n := r.IntN(8); {
	case n == 0 && k.Place == InPage && k.Size > unit && k.Size <= 0x200:
		b.Cache(k)
	case n == 1 && k.Place == InPage && k.Pool != Session:
		b.Pend(k)
	case n == 0 && k.Place == InVS && k.Size >= 0x200 && k.Size <= 0xf80 && k.Inner == 0:
		b.Cache(k)
	case n == 1 && k.Place == InVS && k.Size < 0x400:
		b.Delay(k)
	default:
		b.Free(k)
	}
}

// Lose takes pages of blocks out of the dump, about one in so many: pages of
// paged pool to the page file or into transition, where they still can be read,
// others lost. It gives those that can't be read.
func (b *Builder) Lose(seed uint64, oneIn int) map[mem.VA]bool {
	r := rand.New(rand.NewPCG(seed, 0x105e))
	seen, lost := map[mem.VA]bool{}, map[mem.VA]bool{}
	for _, k := range b.Blocks() {
		at := k.Header.Page()
		if seen[at] || k.Large() || k.Pool == Session || k.Place == InSpecial || b.inLarge(at) {
			continue
		}
		seen[at] = true
		switch {
		case r.IntN(oneIn) != 0:
		case !k.Pool.Paged():
			b.M.NotCaptured(at)
			lost[at] = true
		case r.IntN(2) == 0:
			b.M.InTransition(at)
		default:
			b.M.PageOut(at)
			lost[at] = true
		}
	}
	return lost
}
