package heap

import (
	"encoding/binary"
	"testing"

	"github.com/google/go-cmp/cmp"

	"gokd/model/mem"
)

// TestLFH decodes single LFH subsegments of slots of 0x600 bytes: two a page,
// and one over its end.
func TestLFH(t *testing.T) {
	t.Parallel()
	const where = "; in the area at 0xffffba0c2a402000"
	// Slots begin at 0x40, 0x640, 0xc40 (crosses), 0x1240, 0x1840, 0x1e40
	// (crosses), 0x2440, 0x2a40 (crosses), 0x3040; the tenth would end at 0x3c40.
	for name, c := range map[string]struct {
		make func(s *slab)
		want decoded
	}{
		"all sorts of bits": {
			func(s *slab) { s.use(0, 1); s.use(4, 3); s.b[0x30] |= 2 << 2 },
			decoded{
				[]string{"0x40 0x600 used", "0x640 0x600 free", "0x1240 0x600 free", "0x1840 0x600 used", "0x2440 0x600 free", "0x3040 0x600 free", "0x3640 0x600 free"},
				Tally{Allocated: 0xc00, Free: 5 * 0x600, Overhead: 0x4000 - 7*0x600, Blocks: 7}, nil,
			},
		},
		"slots over the end of a page marked, never used": {
			func(s *slab) { s.use(0, 1); s.b[0x30] |= 1 << 4 },
			decoded{
				[]string{"0x40 0x600 used", "0x640 0x600 free", "0x1240 0x600 free", "0x1840 0x600 free", "0x2440 0x600 free", "0x3040 0x600 free", "0x3640 0x600 free"},
				Tally{Allocated: 0x600, Free: 6 * 0x600, Overhead: 0x4000 - 7*0x600, Blocks: 7}, nil,
			},
		},
		"slots over the end of a page in use": {
			func(s *slab) { s.use(2, 1) },
			decoded{
				[]string{"0x40 0x600 free", "0x640 0x600 free", "0xc40 0x600 used", "0x1240 0x600 free", "0x1840 0x600 free", "0x1e40 0x600 free", "0x2440 0x600 free", "0x2a40 0x600 free", "0x3040 0x600 free", "0x3640 0x600 free"},
				Tally{Allocated: 0x600, Free: 9 * 0x600, Overhead: 0x400, Blocks: 10}, nil,
			},
		},
		"a page missing": {
			func(s *slab) { s.use(3, 1); s.use(0, 1); s.lost[1] = true },
			decoded{
				[]string{"0x40 0x600 used", "0x640 0x600 free", "0x1840 0x600 free", "0x2440 0x600 free", "0x3040 0x600 free", "0x3640 0x600 free"},
				Tally{Allocated: 0x600, Free: 5 * 0x600, Missing: 0x600, Overhead: 0x4000 - 7*0x600, Blocks: 6}, nil,
			},
		},
		"the first page missing": {
			func(s *slab) { s.lost[0] = true },
			decoded{nil, Tally{Missing: 0x4000}, nil},
		},
		"no block": {
			func(s *slab) { clear(s.b[0x22:0x24]) },
			decoded{nil, Tally{Damaged: 0x4000}, []string{"_HEAP_LFH_SUBSEGMENT at 0xffffba0c2a402000: it says that it has no block" + where}},
		},
		"more blocks than fit": {
			func(s *slab) { s.b[0x22] = 11 },
			decoded{nil, Tally{Damaged: 0x4000}, []string{"_HEAP_LFH_SUBSEGMENT at 0xffffba0c2a402000: its 11 blocks of 0x600 bytes would not fit into 0x4000" + where}},
		},
		"sizes overwritten": {
			func(s *slab) { binary.LittleEndian.PutUint32(s.b[0x28:], 0x41414141) },
			decoded{nil, Tally{Damaged: 0x4000}, []string{"_HEAP_LFH_SUBSEGMENT at 0xffffba0c2a402000: its blocks would have 0x9f7 bytes" + where}},
		},
		"first block in the bitmap": {
			func(s *slab) { s.b[0x2a] ^= 0x40 ^ 0x30 },
			decoded{nil, Tally{Damaged: 0x4000}, []string{"_HEAP_LFH_SUBSEGMENT at 0xffffba0c2a402000: its first block would lie at 0x30, in the bitmap of 10 blocks" + where}},
		},
	} {
		for _, short := range []bool{false, true} {
			if short && c.want.Errs != nil {
				continue // the first form's reason is told
			}
			t.Run(name, func(t *testing.T) {
				t.Parallel()
				s := newSlab(4, 0x600, short)
				c.make(s)
				if diff := cmp.Diff(c.want, decode(t, plain(t), s.area(), s.pages())); diff != "" {
					t.Errorf("short %v (-want +got):\n%s", short, diff)
				}
			})
		}
	}
}

// TestLFHCached marks slots that wait on a list.
func TestLFHCached(t *testing.T) {
	t.Parallel()
	s := newSlab(4, 0x600, false)
	s.use(0, 1)
	s.use(1, 1)
	a := s.area()
	a.Heap = &Heap{cached: &[]mem.VA{testArea + 0x650, testArea + 0x1250}}
	d := decode(t, plain(t), a, s.pages())
	want := []string{"0x40 0x600 used", "0x640 0x600 cached", "0x1240 0x600 free", "0x1840 0x600 free", "0x2440 0x600 free", "0x3040 0x600 free", "0x3640 0x600 free"}
	if diff := cmp.Diff(want, d.Cells); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	if d.Tally.Cached != 0x600 {
		t.Errorf("%#x bytes are cached", d.Tally.Cached)
	}
}

// TestLFHAligned finds the second header where the first makes no sense.
func TestLFHAligned(t *testing.T) {
	t.Parallel()
	s := newSlab(1, 0x100, false)
	s.use(1, 1)
	at := s.first + s.size
	clear(s.b[at : at+8])
	s.pool(at+0x30, 0xd0, 6, 3)
	d := decode(t, plain(t), s.area(), s.pages())
	if want := "0x170 0xd0 used"; len(d.Cells) < 2 || d.Cells[1] != want {
		t.Errorf("slots are %v, want %s as the second", d.Cells, want)
	}
}

// TestDecodeOther gives areas of another kind back as damaged.
func TestDecodeOther(t *testing.T) {
	t.Parallel()
	h := plain(t)
	for _, a := range []Area{{At: testArea, Size: 0x3000, Kind: AreaPages}, {At: testArea, Size: 0x10, Kind: AreaVS}, {At: testArea, Kind: AreaLFH}} {
		cells, tally := h.Decode(nil, &a, nil)
		if len(cells) != 0 || tally.Sum() != a.Size || tally.Damaged != a.Size {
			t.Errorf("%v: %d cells, %+v", a.Kind, len(cells), tally)
		}
	}
}
