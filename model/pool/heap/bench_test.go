package heap

import (
	"testing"

	"gokd/model/pool/cell"
)

// BenchmarkDecodeVS decodes a subsegment of 256 KB full of blocks of 0x130
// bytes, the usual size of small ones, from memory that is in the cache.
func BenchmarkDecodeVS(b *testing.B) {
	s := newSub(64)
	for i := 0; s.at+0x200 < uint64(len(s.b)); i++ {
		if size := uint64(0x60 + i%16*0x20); i%8 == 0 {
			s.chunk(size, false)
		} else {
			s.block(size)
		}
	}
	s.rest()
	bench(b, s.area(), s.pages())
}

// BenchmarkDecodeLFH decodes a subsegment of 64 KB of slots of 0x80 bytes.
func BenchmarkDecodeLFH(b *testing.B) {
	s := newSlab(16, 0x80, false)
	for i := range s.count {
		if i%4 > 0 && s.first+i*s.size&0xfff <= 0xf80 {
			s.use(i, 1)
		}
	}
	bench(b, s.area(), s.pages())
}

func bench(b *testing.B, a *Area, pages []*[pageSize]byte) {
	h := plain(b)
	cells := make([]cell.Cell, 0, 1<<14)
	b.SetBytes(int64(a.Size))
	b.ReportAllocs()
	for b.Loop() {
		var t Tally
		if cells, t = h.Decode(cells[:0], a, pages); t.Damaged > 0 {
			b.Fatal(t.Errs)
		}
	}
	b.ReportMetric(float64(len(cells)), "blocks")
}
