package heaptest_test

import (
	"slices"
	"testing"

	"gokd/model/mem"
	"gokd/model/pool/heaptest"
	"gokd/model/types"
)

// TestOpen makes a pool on every family.
func TestOpen(t *testing.T) {
	t.Parallel()
	for _, l := range types.Layouts() {
		t.Run(l.Family(), func(t *testing.T) {
			t.Parallel()
			b := heaptest.New(t, l)
			b.Processor()
			for i := range 40 {
				b.Alloc(heaptest.Ask{Pool: heaptest.NonpagedNx, Tag: "Leak", Bytes: uint64(i) * 8, Owner: b.M.System})
				b.Alloc(heaptest.Ask{Pool: heaptest.Paged, Tag: "CM25", Bytes: uint64(i) * 100})
				b.Free(b.Alloc(heaptest.Ask{Pool: heaptest.Paged, Tag: "Gone", Bytes: 48}))
				b.Alloc(heaptest.Ask{Pool: heaptest.Nonpaged, Tag: "Algn", Bytes: 90, Aligned: true})
			}
			b.Cache(b.Alloc(heaptest.Ask{Pool: heaptest.Paged, Tag: "Kept", Bytes: 0x200 - 0x10}))
			b.Alloc(heaptest.Ask{Pool: heaptest.Paged, Tag: "Big1", Bytes: 0x5010})
			b.Alloc(heaptest.Ask{Pool: heaptest.NonpagedNx, Tag: "Big2", Bytes: 0x5000})
			b.Free(b.Alloc(heaptest.Ask{Pool: heaptest.NonpagedNx, Tag: "Big3", Bytes: 0x50000}))
			b.Alloc(heaptest.Ask{Pool: heaptest.Paged, Tag: "Big4", Bytes: 0x900000})
			k := b.Open()
			if len(k.Warnings) != 0 {
				t.Errorf("%q", k.Warnings)
			}
			for _, x := range b.Blocks() {
				if x.Place == heaptest.InTable || x.Place == heaptest.InRange || x.State != heaptest.Allocated {
					continue
				}
				w, err := k.Space.Uint32(x.Header + 4)
				if err != nil || string([]byte{byte(w), byte(w >> 8), byte(w >> 16), byte(w >> 24)}) != x.Tag {
					t.Errorf("block at %#x: tag %#x, want %s: %v", uint64(x.Header), w, x.Tag, err)
				}
			}
		})
	}
}

// TestRest makes what is on some families only.
func TestRest(t *testing.T) {
	t.Parallel()
	for _, l := range types.Layouts() {
		t.Run(l.Family(), func(t *testing.T) {
			t.Parallel()
			b := heaptest.New(t, l)
			s := b.Session(1)
			s.Alloc(heaptest.Ask{Tag: "Gbig", Bytes: 0x3000})
			other := b.Session(2)
			other.Alloc(heaptest.Ask{Tag: "Gbig", Bytes: 0x5000})
			if !b.SegmentHeaps() {
				s.Alloc(heaptest.Ask{Tag: "Gsml", Bytes: 0x30})
				b.Free(s.Alloc(heaptest.Ask{Tag: "Gfre", Bytes: 0x30}))
				b.Special(heaptest.Ask{Pool: heaptest.SpecialNonpaged, Tag: "Vrfy", Bytes: 77}, false)
				b.Special(heaptest.Ask{Pool: heaptest.SpecialPaged, Tag: "Vrfy", Bytes: 0xff0}, true)
				b.Pend(b.Alloc(heaptest.Ask{Pool: heaptest.Paged, Tag: "Pend", Bytes: 0x40}))
				b.LargePages = true
				b.Alloc(heaptest.Ask{Pool: heaptest.Nonpaged, Tag: "LrgP", Bytes: 0x40})
			} else {
				b.Delay(b.Heap(heaptest.PagedOther, 1).VS(4).Alloc(heaptest.Ask{Tag: "Dely", Bytes: 0x100}))
			}
			k := b.Open()
			if len(k.Warnings) != 0 {
				t.Errorf("%q", k.Warnings)
			}
			if n := s.Totals()["Gbig"].Paged; n.Allocs != 1 || n.Bytes != 0x3000 {
				t.Errorf("%+v", s.Totals())
			}
		})
	}
}

type fact struct {
	heaptest.Ask
	header mem.VA
	size   uint64
	state  heaptest.State
	place  heaptest.Place
}

// TestFill makes the same pool of the same seed.
func TestFill(t *testing.T) {
	t.Parallel()
	for _, l := range types.Layouts() {
		t.Run(l.Family(), func(t *testing.T) {
			t.Parallel()
			var all [2][]fact
			for i := range all {
				b := heaptest.New(t, l)
				b.Fill(3, 200)
				lost := b.Lose(1, 10)
				b.Open()
				for _, k := range b.Blocks() {
					all[i] = append(all[i], fact{k.Ask, k.Header, k.Size, k.State, k.Place})
				}
				if len(lost) == 0 || len(all[i]) < 300 {
					t.Errorf("%d blocks, %d pages lost", len(all[i]), len(lost))
				}
			}
			if !slices.Equal(all[0], all[1]) {
				t.Errorf("one seed, two pools: %d and %d blocks", len(all[0]), len(all[1]))
			}
		})
	}
}
