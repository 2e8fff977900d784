package heap

import (
	"fmt"
	"testing"

	"github.com/google/go-cmp/cmp"

	"gokd/model/mem"
	"gokd/model/pool/cell"
)

// show gives what Decode found in words: offset of the header, room, state.
func show(a *Area, cells []cell.Cell) (list []string) {
	for _, c := range cells {
		state := [...]string{"used", "free", "cached"}[c.State()]
		list = append(list, fmt.Sprintf("%#x %#x %s", uint64(c.Header()-a.At), c.Room(), state))
	}
	return list
}

func messages(errs []error) (list []string) {
	for _, err := range errs {
		list = append(list, err.Error())
	}
	return list
}

// decoded is what a test expects.
type decoded struct {
	Cells []string
	Tally Tally
	Errs  []string
}

func decode(t testing.TB, h *Heaps, a *Area, pages []*[pageSize]byte) decoded {
	t.Helper()
	cells, tally := h.Decode(nil, a, pages)
	checkDecoded(t, a, cells, tally)
	d := decoded{show(a, cells), tally, messages(tally.Errs)}
	d.Tally.Errs = nil
	return d
}

// TestVS decodes single VS subsegments, one for each thing that can be met.
func TestVS(t *testing.T) {
	t.Parallel()
	const where = "; in the area at 0xffffba0c2a402000"
	for name, c := range map[string]struct {
		make func(s *sub)
		want decoded
	}{
		"blocks and a hole": {
			func(s *sub) { s.block(0x60); s.chunk(0x100, false); s.block(0x40); s.rest() },
			decoded{
				[]string{"0x40 0x50 used", "0xa0 0xf0 free", "0x1a0 0x30 used", "0x1e0 0x3e20 free"},
				Tally{Allocated: 0xa0, Free: 0x100 + 0x3e30, Overhead: 0x30, Blocks: 4}, nil,
			},
		},
		"a block one unit smaller than its chunk": {
			func(s *sub) { at := s.chunk(0x70, true); s.pool(at+16, 0x50, 2, 0); s.rest() },
			decoded{[]string{"0x40 0x60 used", "0xb0 0x3f50 free"}, Tally{Allocated: 0x70, Free: 0x3f60, Overhead: 0x30, Blocks: 2}, nil},
		},
		"a chunk without room for a block": {
			func(s *sub) { s.chunk(0x10, true); s.block(0x40); s.rest() },
			decoded{[]string{"0x50 0x30 used", "0x90 0x3f70 free"}, Tally{Allocated: 0x40, Free: 0x3f80, Overhead: 0x40, Blocks: 2}, nil},
		},
		"chunk header ends the page": {
			func(s *sub) { s.chunk(0xfc0, false); s.block(0x80); s.rest() },
			decoded{[]string{"0x40 0xfb0 free", "0x1000 0x70 used", "0x1080 0x2f80 free"}, Tally{Allocated: 0x80, Free: 0xfc0 + 0x2f90, Overhead: 0x30, Blocks: 3}, nil},
		},
		"header at the start of the next page": {
			func(s *sub) {
				s.chunk(0xe70, false)
				at := s.chunk(0x260, true) // at 0xea0
				s.pool(at+16, 0x1a0, 2, 0) // what lay there before
				s.pool(0x1000, 0x100, 2, 0)
				s.rest()
			},
			decoded{[]string{"0x40 0xe60 free", "0x1000 0x100 used", "0x1110 0x2ef0 free"}, Tally{Allocated: 0x260, Free: 0xe70 + 0x2f00, Overhead: 0x30, Blocks: 3}, nil},
		},
		"header right behind the chunk's, over the end of the page": {
			func(s *sub) { s.chunk(0xe70, false); s.block(0x260); s.rest() },
			decoded{[]string{"0x40 0xe60 free", "0xeb0 0x250 used", "0x1110 0x2ef0 free"}, Tally{Allocated: 0x260, Free: 0xe70 + 0x2f00, Overhead: 0x30, Blocks: 3}, nil},
		},
		"no header at either place: the rule decides": {
			func(s *sub) { s.chunk(0xe70, false); s.chunk(0x260, true); s.rest() },
			decoded{[]string{"0x40 0xe60 free", "0x1000 0x100 used", "0x1110 0x2ef0 free"}, Tally{Allocated: 0x260, Free: 0xe70 + 0x2f00, Overhead: 0x30, Blocks: 3}, nil},
		},
		"a little over the end of the page": {
			func(s *sub) { s.chunk(0xe70, false); s.chunk(0x180, true); s.rest() },
			decoded{[]string{"0x40 0xe60 free", "0xeb0 0x170 used", "0x1030 0x2fd0 free"}, Tally{Allocated: 0x180, Free: 0xe70 + 0x2fe0, Overhead: 0x30, Blocks: 3}, nil},
		},
		"the largest block with a header": {
			func(s *sub) { s.chunk(0xfc0, false); s.block(0x1000); s.rest() },
			decoded{[]string{"0x40 0xfb0 free", "0x1000 0xff0 used", "0x2000 0x2000 free"}, Tally{Allocated: 0x1000, Free: 0xfc0 + 0x2010, Overhead: 0x30, Blocks: 3}, nil},
		},
		"a page without a header": {
			func(s *sub) { s.chunk(0xfc0, false); s.chunk(0x1010, true); s.rest() },
			decoded{[]string{"0x40 0xfb0 free", "0x2010 0x1ff0 free"}, Tally{Large: 0x1010, Free: 0xfc0 + 0x2000, Overhead: 0x30, Blocks: 2}, nil},
		},
		"aligned to a cache line": {
			func(s *sub) {
				s.chunk(0x50, false)
				at := s.chunk(0x100, true) // at 0x80
				s.pool(at+0x10, 0xf0, 2, 0)
				s.pool(at+0x30, 0xd0, 6, 2)
				s.rest()
			},
			decoded{[]string{"0x40 0x40 free", "0x90 0xf0 used", "0x190 0x3e70 free"}, Tally{Allocated: 0x100, Free: 0x50 + 0x3e80, Overhead: 0x30, Blocks: 3}, nil},
		},
		"aligned, the first header makes no sense": {
			func(s *sub) {
				s.chunk(0x50, false)
				at := s.chunk(0x100, true)
				s.pool(at+0x30, 0xd0, 6, 2)
				s.rest()
			},
			decoded{[]string{"0x40 0x40 free", "0xb0 0xd0 used", "0x190 0x3e70 free"}, Tally{Allocated: 0x100, Free: 0x50 + 0x3e80, Overhead: 0x30, Blocks: 3}, nil},
		},
		"rest behind Size": {
			func(s *sub) {
				s.b[0x20], s.b[0x21] = 0x00, 0x01
				s.b[0x22], s.b[0x23] = 0xed, 0xaa
				s.block(0x60)
				s.chunk(0x1030-s.at, false)
			},
			decoded{[]string{"0x40 0x50 used", "0xa0 0xf90 free"}, Tally{Allocated: 0x60, Free: 0xfa0, Overhead: 0x30 + 0x4000 - 0x1030, Blocks: 2}, nil},
		},
		"Size with the header, and a page behind": {
			func(s *sub) {
				s.b[0x20], s.b[0x21] = 0x00, 0x03
				s.b[0x22], s.b[0x23] = 0xed, 0xa8
				s.block(0x60)
				s.chunk(0x3000-s.at, false)
				s.lost[3] = true
			},
			decoded{[]string{"0x40 0x50 used", "0xa0 0x2f60 free"}, Tally{Allocated: 0x60, Free: 0x2f70, Overhead: 0x30 + 0x1000, Blocks: 2}, nil},
		},
		"a wrong signature": {
			func(s *sub) { s.b[0x22] ^= 1; s.block(0x60); s.rest() },
			decoded{
				[]string{"0x40 0x50 used", "0xa0 0x3f60 free"}, Tally{Allocated: 0x60, Free: 0x3f70, Overhead: 0x30, Blocks: 2},
				[]string{"_HEAP_VS_SUBSEGMENT at 0xffffba0c2a402000: its signature is 0x2811, not 0x2810 as its size wants" + where},
			},
		},
		"a header overwritten": {
			func(s *sub) {
				s.block(0x60)
				bad := s.block(0x80)
				s.block(0x40)
				s.block(0x50)
				s.rest()
				copy(s.b[bad:], "AAAAAAAA")
			},
			decoded{
				[]string{"0x40 0x50 used", "0x120 0x30 used", "0x160 0x40 used", "0x1b0 0x3e50 free"},
				Tally{Allocated: 0x60 + 0x40 + 0x50, Free: 0x3e60, Overhead: 0x30, Damaged: 0x80, Blocks: 4},
				[]string{"_HEAP_VS_CHUNK_HEADER at 0xffffba0c2a402090: its size is 0xcbc00, 0x3f70 are left" + where},
			},
		},
		"only the size of the chunk before is wrong": {
			func(s *sub) {
				s.block(0x60)
				at := s.block(0x80)
				s.header(at, 0x80, 0x70, true)
				s.block(0x40)
				s.rest()
			},
			decoded{
				[]string{"0x40 0x50 used", "0xa0 0x70 used", "0x120 0x30 used", "0x160 0x3ea0 free"},
				Tally{Allocated: 0x60 + 0x80 + 0x40, Free: 0x3eb0, Overhead: 0x30, Blocks: 4},
				[]string{"_HEAP_VS_CHUNK_HEADER at 0xffffba0c2a402090: its UnsafePrevSize is 0x70, the chunk before it has 0x60 bytes" + where},
			},
		},
		"a page missing that begins in a block and ends in another": {
			func(s *sub) {
				s.block(0x60)
				s.chunk(0xe00, false)
				s.block(0x300) // 0xe90
				s.block(0xe00) // 0x1190
				s.block(0x100) // 0x1f90, over the end of the page
				s.block(0x200)
				s.block(0x80)
				s.rest()
				s.lost[1] = true
			},
			decoded{
				[]string{"0x40 0x50 used", "0xa0 0xdf0 free", "0xea0 0x2f0 used", "0x20a0 0x1f0 used", "0x22a0 0x70 used", "0x2320 0x1ce0 free"},
				Tally{Allocated: 0x60 + 0x300 + 0x200 + 0x80, Free: 0xe00 + 0x1cf0, Missing: 0x2090 - 0x1190, Overhead: 0x30, Blocks: 6}, nil,
			},
		},
		"a free chunk over a page that is not there": {
			func(s *sub) { s.block(0x60); s.chunk(0x2800, false); s.block(0x60); s.rest(); s.lost[1] = true },
			decoded{[]string{"0x40 0x50 used", "0xa0 0x27f0 free", "0x28a0 0x50 used", "0x2900 0x1700 free"}, Tally{Allocated: 0xc0, Free: 0x2800 + 0x1710, Overhead: 0x30, Blocks: 4}, nil},
		},
		"the page of the header missing": {
			func(s *sub) { s.chunk(0xfc0, false); s.block(0x80); s.block(0x1f80); s.rest(); s.lost[1] = true },
			decoded{[]string{"0x40 0xfb0 free"}, Tally{Free: 0xfc0, Missing: 0x3010, Overhead: 0x30, Blocks: 1}, nil},
		},
		"the first page missing": {
			func(s *sub) { s.chunk(0x1200, false); s.block(0x100); s.block(0x80); s.rest(); s.lost[0] = true },
			decoded{[]string{"0x1240 0xf0 used", "0x1340 0x70 used", "0x13c0 0x2c40 free"}, Tally{Allocated: 0x180, Free: 0x2c50, Missing: 0x1200, Overhead: 0x30, Blocks: 3}, nil},
		},
		"all pages missing": {
			func(s *sub) { s.rest(); s.lost[0], s.lost[1], s.lost[2], s.lost[3] = true, true, true, true },
			decoded{nil, Tally{Missing: 0x3fd0, Overhead: 0x30}, nil},
		},
		"nothing but zeros": {
			func(s *sub) { clear(s.b) },
			decoded{
				nil, Tally{Damaged: 0x3fd0, Overhead: 0x30},
				[]string{
					"_HEAP_VS_SUBSEGMENT at 0xffffba0c2a402000: its signature is 0x0, not 0x2bed as its size wants" + where,
					"_HEAP_VS_CHUNK_HEADER at 0xffffba0c2a402030: its size is 0x8a810, 0x3fd0 are left" + where,
				},
			},
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newSub(4)
			c.make(s)
			if diff := cmp.Diff(c.want, decode(t, plain(t), s.area(), s.pages())); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

// TestVSCached marks what waits on a list, wherever in the chunk it is entered.
func TestVSCached(t *testing.T) {
	t.Parallel()
	s := newSub(4)
	s.block(0x300)
	s.block(0x300)
	s.block(0x300)
	s.rest()
	a := s.area()
	a.Heap = &Heap{cached: &[]mem.VA{testArea - 0x10, testArea + 0x50, testArea + 0x640, testArea + 0x4000}}
	want := decoded{
		[]string{"0x40 0x2f0 cached", "0x340 0x2f0 used", "0x640 0x2f0 cached", "0x940 0x36c0 free"},
		Tally{Allocated: 0x300, Cached: 0x600, Free: 0x36d0, Overhead: 0x30, Blocks: 4}, nil,
	}
	if diff := cmp.Diff(want, decode(t, plain(t), a, s.pages())); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

// TestWrongKey finds nothing with another machine's keys.
func TestWrongKey(t *testing.T) {
	t.Parallel()
	h := plain(t)
	h.HeapKey, h.LfhKey = 0x1122334455667788, 0x99aabbccddeeff00
	s := newSub(4)
	for range 20 {
		s.block(0x100)
	}
	s.rest()
	if d := decode(t, h, s.area(), s.pages()); d.Tally.Blocks != 0 || d.Tally.Damaged != 0x3fd0 {
		t.Errorf("chunks found with a wrong key: %+v", d)
	}
	l := newSlab(4, 0x100, false)
	if d := decode(t, h, l.area(), l.pages()); d.Tally.Blocks != 0 || d.Tally.Damaged != 0x4000 {
		t.Errorf("slots found with a wrong key: %+v", d)
	}
}
