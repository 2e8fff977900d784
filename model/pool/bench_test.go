package pool

import (
	"context"
	"encoding/binary"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"gokd/dumpfmt"
	"gokd/model"
	"gokd/model/mem"
	"gokd/model/modeltest"
	"gokd/model/pool/cell"
)

// bigDump opens the dump of 1 GB of carved pool. It is too large to be unpacked
// by a test: who needs it is skipped where nobody did it.
func bigDump(tb testing.TB) (*model.Kernel, uint64) {
	tb.Helper()
	file := filepath.Join(os.TempDir(), "perf", "big.kernel.dmp")
	if _, err := os.Stat(file); err != nil {
		tb.Skipf("unpack perf/big.kernel.dmp.xz of the shared dumps to it first: %v", err)
	}
	d, err := dumpfmt.OpenFile(file)
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() {
		if err := d.Close(); err != nil {
			tb.Error(err)
		}
	})
	return modeltest.Load(tb, d), uint64(d.Size)
}

func pattern(tb testing.TB, text string) Pattern {
	tb.Helper()
	p, err := ParsePattern(text, true)
	if err != nil {
		tb.Fatal(err)
	}
	return p
}

// benchPages fills pages with chains of blocks of varying size.
func benchPages(n int) [][pageSize]byte {
	pages := make([][pageSize]byte, n)
	seed := uint32(1)
	for i := range pages {
		var off, previous int
		for off < pageSize {
			seed = seed*1664525 + 1013904223
			size := min((int(seed>>20)%28+1)*HeaderSize, pageSize-off)
			h := pages[i][off:]
			h[0], h[2], h[3] = byte(previous/HeaderSize), byte(size/HeaderSize), 2
			copy(h[4:8], []string{"Ntfx", "Even", "File", "Thre"}[seed>>28&3])
			previous = size
			off += size
		}
	}
	return pages
}

func BenchmarkPage(b *testing.B) {
	pages := benchPages(4096) // larger than the caches
	var out [pageCells]cell.Cell
	b.SetBytes(pageSize)
	b.ReportAllocs()
	i, blocks := 0, 0
	for b.Loop() {
		n, _, _, _, _ := chain(&out, &pages[i%len(pages)], &pages[(i+1)%len(pages)], 0xfffffa8000000000)
		blocks += n
		i++
	}
	b.ReportMetric(float64(blocks)/float64(i), "blocks/page")
}

func BenchmarkUsages(b *testing.B) {
	k, _ := bigDump(b)
	p, err := Open(k)
	if err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	for b.Loop() {
		for _, err := range p.Usages(context.Background()) {
			if err != nil {
				b.Fatal(err)
			}
		}
	}
}

func BenchmarkBlocks(b *testing.B) {
	for _, workers := range []int{1, 2} {
		for _, tag := range []string{"Zzzz", "Leak", "Even", "*"} {
			b.Run(fmt.Sprintf("%s/%d", tag, workers), func(b *testing.B) {
				k, _ := bigDump(b)
				p, err := Open(k)
				if err != nil {
					b.Fatal(err)
				}
				b.ReportAllocs()
				var found uint64
				for b.Loop() {
					p.Drop(Nonpaged)
					w, err := p.Find(context.Background(), Query{Kind: Nonpaged, Pattern: pattern(b, tag), Workers: workers})
					if err != nil {
						b.Fatal(err)
					}
					found = 0
					for _, err := range w.Blocks(context.Background()) {
						if err != nil {
							b.Fatal(err)
						}
						found++
					}
					b.SetBytes(int64(w.Summary().PagesScanned * pageSize))
				}
				b.ReportMetric(float64(found), "matches")
			})
		}
	}
}

// bareSum adds up the words of bytes, as many workers at once: what the memory
// itself allows.
func bareSum(data []byte, workers int) (sum uint64) {
	sums := make([]uint64, workers)
	var done sync.WaitGroup
	for i := range workers {
		part := data[len(data)/workers*i : len(data)/workers*(i+1)]
		done.Go(func() { sums[i] = sumWords(part) })
	}
	done.Wait()
	for _, s := range sums {
		sum += s
	}
	return sum
}

func sumWords(b []byte) (sum uint64) {
	for ; len(b) >= 32; b = b[32:] {
		sum += binary.LittleEndian.Uint64(b) + binary.LittleEndian.Uint64(b[8:]) +
			binary.LittleEndian.Uint64(b[16:]) + binary.LittleEndian.Uint64(b[24:])
	}
	return sum
}

// BenchmarkIndex walks the dump of 1 GB of pool and asks its index, beside the
// bare sum of the same file's bytes in the same run: x_bare is how much of its
// speed the walk has.
func BenchmarkIndex(b *testing.B) {
	for _, workers := range []int{1, 2} {
		for _, c := range []struct {
			name, tag string
			first     bool
		}{{"walk", "Zzzz", true}, {"walk all", "*", true}, {"question", "Zzzz", false}, {"question all", "*", false}} {
			b.Run(fmt.Sprintf("%s/%d", c.name, workers), func(b *testing.B) {
				k, size := bigDump(b)
				p, err := Open(k)
				if err != nil {
					b.Fatal(err)
				}
				var data []byte // pieces of physical memory, as large as they come
				slicer := k.Space.Physical().(mem.Slicer)
				for r := range k.Space.Physical().Runs() {
					if piece, ok := slicer.SlicePhysical(r.Base, int(r.Size)); ok && len(piece) > len(data) {
						data = piece
					}
				}
				q := Query{Kind: Nonpaged, Pattern: pattern(b, c.tag), Workers: workers}
				ask := func() {
					w, err := p.Find(b.Context(), q)
					if err != nil {
						b.Fatal(err)
					}
					for _, r := range w.Ranges() {
						for range w.Small(b.Context(), r) {
						}
					}
					b.SetBytes(int64(w.Summary().Coverage.Walked))
				}
				ask()
				var bare, walked time.Duration
				var sum uint64
				b.ReportAllocs()
				for b.Loop() {
					if c.first {
						p.Drop(Nonpaged)
					}
					t := time.Now()
					ask()
					walked += time.Since(t)
					b.StopTimer()
					t = time.Now()
					sum += bareSum(data, workers)
					bare += time.Since(t)
					b.StartTimer()
				}
				perByte := bare.Seconds() / float64(len(data))
				b.ReportMetric(perByte*float64(p.Kept(Nonpaged).Summary().Coverage.Walked)/walked.Seconds(), "x_bare")
				b.ReportMetric(float64(len(data))/float64(size), "summed/file")
				_ = sum
			})
		}
	}
}
