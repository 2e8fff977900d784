package heap

import (
	"slices"
	"testing"

	"gokd/model/mem"
	"gokd/model/pool/cell"
)

// patched changes a subsegment as the bytes say, in records of six: what to do,
// where in units of 16 bytes, and with what. Chunk headers are written with the
// key, which random bytes would never fit.
func patched(s *sub, data []byte) {
	for ; len(data) >= 6; data = data[6:] {
		at := (uint64(data[1]) | uint64(data[2])<<8) * unit % uint64(len(s.b)-unit)
		a, b := uint64(data[3])|uint64(data[4]&0xf)<<8, uint64(data[5])
		switch data[0] % 4 {
		case 0:
			s.b[at+b%unit] ^= data[3]
		case 1:
			s.header(at, a*unit, b*unit, data[4]&0x80 != 0)
		case 2:
			clear(s.b[at:min(at+a*unit, uint64(len(s.b)))])
		case 3:
			s.pool(at, b*unit, data[3], data[4])
		}
	}
}

// fuzzed builds the subsegment that a fuzz input starts from.
func fuzzed(vs bool) *sub {
	if !vs {
		l := newSlab(3, 0x90, false)
		for i := range l.count {
			if i%3 > 0 {
				l.use(i, byte(i%4))
			}
		}
		return &l.sub
	}
	s := newSub(8)
	for i := range uint64(30) {
		s.block(0x40 + i*0x10)
		s.chunk(0x20+i*0x20, false)
	}
	s.chunk(0x1010, true)
	s.rest()
	return s
}

// FuzzDecode holds Decode to its contract whatever the bytes are: every byte of
// the area is accounted for once, cells ascend and stay inside, none overlap,
// and the question for one chunk agrees with the walk.
func FuzzDecode(f *testing.F) {
	f.Add([]byte{}, uint64(0), true, uint16(0))
	f.Add([]byte{}, uint64(0), false, uint16(1))
	f.Add([]byte{0, 3, 0, 0xff, 0, 2, 1, 0x40, 0, 0x10, 0x80, 4}, uint64(2), true, uint16(0x300))
	f.Add([]byte{2, 0x20, 0, 0x80, 0, 0, 0, 2, 0, 1, 0, 8}, uint64(4), false, uint16(0x123))
	f.Add([]byte{0, 2, 0, 0xff, 0, 0, 3, 4, 0, 6, 2, 5}, uint64(1), true, uint16(3))
	h := plain(f)
	f.Fuzz(func(t *testing.T, data []byte, lost uint64, vs bool, size uint16) {
		s := fuzzed(vs)
		patched(s, data)
		for i := range len(s.b) / pageSize {
			s.lost[i] = lost>>i&1 != 0
		}
		pages, a := s.pages(), s.area()
		if !vs {
			a.Kind = AreaLFH
		}
		switch size % 4 { // the area and its pages need not fit
		case 1:
			a.Size += uint64(size%5) * pageSize
		case 2:
			pages = pages[:len(pages)-1]
		}
		list := []mem.VA{testArea + 0x50, testArea + mem.VA(size)*16, testArea + 0x1000}
		slices.Sort(list)
		a.Heap = &Heap{cached: &list}
		cells, tally := h.Decode(make([]cell.Cell, 0, 64), a, pages)
		checkDecoded(t, a, cells, tally)
		if len(tally.Errs) > maxErrs {
			t.Errorf("%d errors", len(tally.Errs))
		}
		for i := 0; i < len(cells); i += 1 + len(cells)/16 {
			agrees(t, h, a, pages, cells[i])
		}
	})
}

// agrees asks for the chunk or slot of a cell.
func agrees(t *testing.T, h *Heaps, a *Area, pages []*[pageSize]byte, c cell.Cell) {
	t.Helper()
	off := uint64(c.Header() - a.At)
	var info ChunkInfo
	if a.Kind == AreaLFH {
		info, _, _ = h.slotAt(*a, pages, off)
	} else {
		info, _ = h.chunkAt(*a, pages, off)
	}
	if info.Header != c.Header() || info.State != c.State() || info.Word != c.Word || info.Gap || info.Broken || info.Missing || info.Large ||
		uint64(info.At)+info.Size != uint64(c.Header())+c.Room() {
		t.Errorf("cell %#x of %#x bytes, state %d: %+v", uint64(c.Header()), c.Room(), c.State(), info)
	}
}

// FuzzDescriptors holds the areas of a segment to their contract whatever its
// descriptors are: they follow one another and cover it whole.
func FuzzDescriptors(f *testing.F) {
	b, v := small(f, 19041)
	k := b.Open()
	good, err := k.Space.Bytes(v.At&^0xfffff, 0x2000)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(good, uint8(0), uint8(12), uint8(2))
	f.Add(good, uint8(2), uint8(16), uint8(1))
	f.Add([]byte{1, 2, 3}, uint8(3), uint8(12), uint8(0))
	h := plain(f)
	f.Fuzz(func(t *testing.T, data []byte, lost, shift, first uint8) {
		c := &segContext{shift: minUnitShift + uint(shift)%9, first: uint32(first)}
		s := &segment{at: 0xffffba0c00000000, ctx: c, desc: make([]byte, h.lay.segment.size)}
		copy(s.desc, data)
		s.there[0], s.there[1] = lost&1 == 0, lost&2 == 0
		at, errs := s.at, 0
		h.segmentAreas(nil, s, func(a Area, err error) bool {
			if err != nil {
				errs++
				return true
			}
			if a.At != at || a.Size == 0 && a.Kind != AreaHeaders || a.Unused > a.Size {
				t.Fatalf("area %+v, expected at %#x", a, uint64(at))
			}
			at += mem.VA(a.Size)
			return true
		})
		if at != s.at+mem.VA(c.size()) {
			t.Errorf("the areas end at %#x", uint64(at))
		}
		if errs > units {
			t.Errorf("%d errors", errs)
		}
	})
}

// FuzzOpen changes one word of what the pool manager and its heaps say and
// walks all that is left.
func FuzzOpen(f *testing.F) {
	b, _ := small(f, 19041)
	k := b.Open()
	state := address(f, k, "ExPoolState")
	h, err := Open(f.Context(), k)
	if err != nil {
		f.Fatal(err)
	}
	bases := []mem.VA{state, state + 0x3900, h.List[0].At, h.List[0].At + 0x100, h.List[0].contexts[0].flink}
	f.Add(uint8(0), uint16(0x38d0), uint64(2))
	f.Add(uint8(1), uint16(8), uint64(h.List[0].At))
	f.Add(uint8(2), uint16(0x148), uint64(h.List[0].contexts[0].flink))
	f.Add(uint8(4), uint16(0), uint64(h.List[0].At+0x148))
	f.Add(uint8(4), uint16(0x58), uint64(0xff000000000000f))
	f.Fuzz(func(t *testing.T, base uint8, off uint16, v uint64) {
		at := bases[int(base)%len(bases)] + mem.VA(off%0x1000)
		old, err := k.Space.Uint64(at)
		if err != nil {
			return
		}
		b.M.Put64(at, v)
		defer b.M.Put64(at, old)
		h, err := Open(t.Context(), k)
		if (h == nil) == (err == nil) {
			t.Fatalf("heaps %v, error %v", h, err)
		}
		if err != nil {
			return
		}
		for _, p := range h.List {
			for a, err := range h.Areas(t.Context(), p) {
				if err != nil || a.Kind != AreaVS && a.Kind != AreaLFH {
					continue
				}
				pages, err := h.Pages(t.Context(), &a)
				if err != nil {
					t.Fatal(err)
				}
				cells, tally := h.Decode(nil, &a, pages)
				checkDecoded(t, &a, cells, tally)
				_, _, _ = h.Chunk(t.Context(), a.At+0x100)
			}
			for range h.LargeOf(t.Context(), p) {
			}
		}
	})
}
