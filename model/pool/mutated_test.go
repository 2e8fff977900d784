package pool_test

import (
	"encoding/binary"
	"math/rand/v2"
	"testing"

	"gokd/model"
	"gokd/model/mem"
	"gokd/model/modeltest"
	"gokd/model/pool"
	"gokd/model/pool/heaptest"
	"gokd/model/types"
)

// mutated is memory of which some words are changed. It hands out no slices.
type mutated struct {
	*modeltest.Memory
	words map[mem.PA]uint64 // by addresses that are multiples of 8
}

// SlicePhysical hides that of the memory below.
func (m mutated) SlicePhysical(mem.PA, int) ([]byte, bool) { return nil, false }

// ReadPhysical implements mem.Physical.
func (m mutated) ReadPhysical(p []byte, at mem.PA) (int, error) {
	n, err := m.Memory.ReadPhysical(p, at)
	for pa, v := range m.words {
		for i := range mem.PA(8) {
			if off := pa + i - at; pa+i >= at && uint64(off) < uint64(n) {
				p[off] = byte(v >> (8 * i))
			}
		}
	}
	return n, err
}

// victim is a small machine of a family, and the pages of it that mutations hit:
// those that hold the pools and what tells of them, no page tables.
type victim struct {
	src   model.Source
	mem   *modeltest.Memory
	pages []mem.PA
}

func newVictim(t testing.TB, l *types.Layout) victim {
	b := heaptest.New(t, l)
	b.Processor()
	b.Session(1).Alloc(heaptest.Ask{Tag: "Gbig", Bytes: 0x2000})
	b.Fill(9, 60)
	k := b.Open()
	v := victim{src: k.Source, mem: b.M.Memory()}
	add := func(at mem.VA) {
		if tr, err := k.Space.Translate(at); err == nil {
			v.pages = append(v.pages, tr.PA&^0xfff)
		}
	}
	seen := map[mem.VA]bool{}
	for _, x := range b.Blocks() {
		for _, at := range []mem.VA{x.Header, x.Heap, x.Header &^ 0xfffff} {
			if at != 0 && !seen[at.Page()] {
				seen[at.Page()] = true
				add(at)
			}
		}
	}
	for _, name := range []string{"PoolBigPageTable", "PoolTrackTable"} {
		if at, err := k.GlobalPointer(name); err == nil {
			add(at)
		}
	}
	for _, name := range []string{"ExPoolState", "RtlpHpHeapGlobals", "PoolBigPageTableSize", "NonPagedPoolDescriptor"} {
		if at, err := k.Global(name); err == nil {
			add(at)
			add(at + 0x3900)
		}
	}
	return v
}

// try opens the machine with some words changed and asks all that can be asked.
func (v victim) try(t testing.TB, words map[mem.PA]uint64) {
	src := v.src
	src.Physical = mutated{v.mem, words}
	k, err := model.Load(t.Context(), src)
	if err != nil {
		return
	}
	p, err := pool.Open(k)
	if err != nil {
		return
	}
	everything(t, p)
}

// change makes a mutation of a word: a bit, a byte, another number.
func change(r *rand.Rand, v uint64) uint64 {
	switch r.IntN(5) {
	case 0:
		return v ^ 1<<r.IntN(64)
	case 1:
		return v&^(0xff<<(8*r.IntN(8))) | uint64(r.IntN(256))<<(8*r.IntN(8))
	case 2:
		return []uint64{0, 1, ^uint64(0), 1 << 40, 1<<63 - 1, 0x4141414141414141, 0xffffffffffff0000}[r.IntN(7)]
	case 3:
		return v + uint64(r.IntN(0x40))*16 - 0x200
	}
	return r.Uint64()
}

// TestMutated changes a few words of machines at random.
func TestMutated(t *testing.T) {
	t.Parallel()
	for i, l := range types.Layouts() {
		t.Run(l.Family(), func(t *testing.T) {
			t.Parallel()
			v := newVictim(t, l)
			r := rand.New(rand.NewPCG(uint64(i), 77))
			for range 60 {
				words := map[mem.PA]uint64{}
				for range 1 + r.IntN(6) {
					at := v.pages[r.IntN(len(v.pages))] + mem.PA(8*r.IntN(512))
					var b [8]byte
					if _, err := v.mem.ReadPhysical(b[:], at); err != nil {
						t.Fatal(err)
					}
					words[at] = change(r, binary.LittleEndian.Uint64(b[:]))
				}
				v.try(t, words)
				if t.Failed() {
					t.Fatalf("words changed: %#x", words)
				}
			}
		})
	}
}

// FuzzMutated changes words of a machine: the first byte picks the family, then
// each twelve bytes a page, a place in it, and what stands there.
func FuzzMutated(f *testing.F) {
	var victims []victim
	for _, l := range types.Layouts() {
		victims = append(victims, newVictim(f, l))
	}
	f.Add([]byte{6, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0})
	f.Add([]byte{0, 1, 0, 2, 3, 0, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff})
	f.Fuzz(func(t *testing.T, data []byte) {
		if len(data) == 0 || len(data) > 1+12*64 {
			return
		}
		v := victims[int(data[0])%len(victims)]
		words := map[mem.PA]uint64{}
		for rest := data[1:]; len(rest) >= 12; rest = rest[12:] {
			page := v.pages[int(binary.LittleEndian.Uint16(rest))%len(v.pages)]
			off := binary.LittleEndian.Uint16(rest[2:]) % 512
			words[page+mem.PA(8*off)] = binary.LittleEndian.Uint64(rest[4:])
		}
		v.try(t, words)
	})
}
