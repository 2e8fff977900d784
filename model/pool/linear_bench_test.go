package pool

import (
	"encoding/binary"
	"fmt"
	"iter"
	"testing"

	"gokd/model/mem"
)

// repeated is physical memory in one piece, as a mapped file is: page tables in
// front, then pages of blocks, which they map again and again.
type repeated []byte

func (m repeated) SlicePhysical(at mem.PA, n int) ([]byte, bool) {
	if uint64(at) > uint64(len(m)) || uint64(n) > uint64(len(m))-uint64(at) {
		return nil, false
	}
	return m[at:][:n:n], true
}

func (m repeated) ReadPhysical(p []byte, at mem.PA) (int, error) {
	b, ok := m.SlicePhysical(at, len(p))
	if !ok {
		return 0, &mem.Fault{Kind: mem.NotCaptured, PA: at}
	}
	return copy(p, b), nil
}

func (m repeated) Runs() iter.Seq[mem.Run] {
	return func(yield func(mem.Run) bool) { yield(mem.Run{Size: uint64(len(m))}) }
}

// newRepeated maps so many pages of pool from fakeStart on, by as many page
// tables as it takes, onto pages of blocks.
func newRepeated(mapped int, pages [][pageSize]byte) repeated {
	tables := (mapped + 511) / 512
	directories := (tables + 511) / 512
	const root, pointers = int(fakeRoot), 0x2000
	firstDirectory := 0x3000
	firstTable := firstDirectory + directories*pageSize
	firstPage := firstTable + tables*pageSize
	m := make(repeated, firstPage+len(pages)*pageSize)
	put := func(table, i, to int) {
		binary.LittleEndian.PutUint64(m[table+8*i:], uint64(to)|0x63)
	}
	put(root, fakeSlot, pointers)
	for i := range directories {
		put(pointers, i, firstDirectory+i*pageSize)
	}
	for i := range tables {
		put(firstDirectory, i, firstTable+i*pageSize)
	}
	for i := range mapped {
		put(firstTable, i, firstPage+i%len(pages)*pageSize)
	}
	for i := range pages {
		copy(m[firstPage+i*pageSize:], pages[i][:])
	}
	return m
}

// BenchmarkLinear walks pools of 1 to 16 GB for one tag: the cost of a byte must
// not grow with the pool. The physical pages, 256 MB of them, are mapped again
// and again. The index of the largest would pass the bound and is not kept.
func BenchmarkLinear(b *testing.B) {
	pages := benchPages(65536)
	for _, gb := range []int{1, 2, 4, 8, 16} {
		b.Run(fmt.Sprintf("%dGB", gb), func(b *testing.B) {
			mapped := gb << 30 / pageSize
			p := fakePool(newRepeated(mapped, pages))
			q := Query{Kind: Nonpaged, Pattern: pattern(b, "Zzzz")}
			b.ReportAllocs()
			var sum Summary
			for b.Loop() {
				p.Drop(Nonpaged)
				w, err := p.Find(b.Context(), q)
				if err != nil {
					b.Fatal(err)
				}
				for _, r := range w.Ranges() {
					for _, err := range w.Small(b.Context(), r) {
						if err != nil {
							b.Fatal(err)
						}
					}
				}
				sum = w.Summary()
			}
			if sum.PagesScanned != uint64(mapped) {
				b.Fatalf("%d pages walked, %d are mapped", sum.PagesScanned, mapped)
			}
			b.SetBytes(int64(sum.Coverage.Walked))
			b.ReportMetric(float64(sum.Blocks)/1e6, "Mblocks")
		})
	}
}
