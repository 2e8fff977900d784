package heap

import (
	"math/rand/v2"
	"testing"

	"gokd/model/mem"
	"gokd/model/pool/cell"
	"gokd/model/pool/heaptest"
)

// TestLost leaves pages out of the dump: what is found is what the builder made,
// nothing else, and what is not found lies behind a page that is not there.
func TestLost(t *testing.T) {
	t.Parallel()
	for _, oneIn := range []int{4, 20} {
		eachFamily(t, func(t *testing.T, b *heaptest.Builder) {
			b.Fill(7, 300)
			lost := b.Lose(9, oneIn)
			h, err := Open(t.Context(), b.Open())
			if err != nil {
				t.Fatal(err)
			}
			truth := map[mem.VA]known{}
			for _, k := range built(b) {
				truth[k.Header] = k
			}
			found := read(t, h)
			for _, k := range found {
				want, ok := truth[k.Header]
				if lost[k.Header.Page()] {
					want.Tag, want.Type = k.Tag, k.Type // of free ones only
				}
				if want.State == cell.Cached && k.State == cell.Allocated && len(h.Trouble) > 0 {
					want.State = cell.Allocated // a list leads through a lost page
				}
				if !ok || k != want {
					t.Errorf("found %+v, built %+v", k, want)
				}
				delete(truth, k.Header)
			}
			if len(found) == 0 || len(lost) == 0 {
				t.Fatalf("%d blocks found, %d pages lost", len(found), len(lost))
			}
			// At most the blocks of the lost pages and those up to the next header that
			// proves itself may be missing, and slots whose bitmap is: none is far from
			// a lost page.
			near := 0
			for at := range truth {
				for back := mem.VA(0); back <= 0x7000; back += pageSize {
					if lost[(at - back).Page()] {
						near++
						break
					}
				}
			}
			if near != len(truth) {
				t.Errorf("%d of %d blocks that were not found are near no lost page", len(truth)-near, len(truth))
			}
			if oneIn == 20 && len(truth)*5 > len(found) {
				t.Errorf("%d found, %d not found", len(found), len(truth))
			}
		})
	}
}

// TestOverruns overwrites chunk headers at random: no block is made up, and the
// chain goes on behind each of them.
func TestOverruns(t *testing.T) {
	t.Parallel()
	h := plain(t)
	for seed := range uint64(200) {
		r := rand.New(rand.NewPCG(seed, 1))
		s := newSub(16)
		var chunks []uint64
		for s.at+0x1000 < uint64(len(s.b)) {
			size := 0x20 + r.Uint64N(0x60)*unit
			chunks = append(chunks, s.at)
			if r.IntN(4) == 0 {
				s.chunk(size, false)
			} else {
				s.block(size)
			}
		}
		chunks = append(chunks, s.at)
		s.rest()
		chunks = append(chunks, uint64(len(s.b)))
		bad := map[uint64]bool{}
		for range 1 + r.IntN(4) {
			i := r.IntN(len(chunks) - 3)
			at := chunks[i]
			bad[at] = true
			for j := range uint64(8) {
				s.b[at+j] = byte(r.Uint32())
			}
		}
		cells, tally := h.Decode(nil, s.area(), s.pages())
		checkDecoded(t, s.area(), cells, tally)
		at := map[uint64]cell.Cell{}
		for _, c := range cells {
			at[uint64(c.Header()-testArea)-unit] = c
		}
		missed := 0
		for i, off := range chunks[:len(chunks)-1] {
			c, ok := at[off]
			delete(at, off)
			switch {
			case ok && c.Room() != chunks[i+1]-off-unit && !bad[off]:
				t.Errorf("seed %d: the chunk at %#x has %#x bytes, not %#x", seed, off, c.Room()+unit, chunks[i+1]-off)
			case !ok:
				missed++
			}
		}
		for off := range at {
			t.Errorf("seed %d: a chunk at %#x was made up", seed, off)
		}
		// The overwritten one, and one before another that is overwritten, which
		// nothing proves.
		if missed > 2*len(bad) || len(tally.Errs) == 0 {
			t.Errorf("seed %d: %d chunks missed for %d overwritten; %v", seed, missed, len(bad), tally.Errs)
		}
	}
}
