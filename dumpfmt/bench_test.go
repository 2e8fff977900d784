package dumpfmt_test

import (
	"bytes"
	"math/rand/v2"
	"os"
	"path/filepath"
	"runtime"
	"testing"

	"gokd/dumpfmt"
	"gokd/dumpfmt/dumptest"
	"gokd/model/mem"
)

const bigPages = 64 << 30 / dumptest.Page // 64 GB of memory

// sparse writes the head of a dump and makes the file as long as it claims. The
// pages are holes of the file system and cost no disk.
func sparse(t testing.TB, head []byte, pages int64) string {
	t.Helper()
	name := filepath.Join(t.TempDir(), "big.dmp")
	if err := os.WriteFile(name, head, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(name, int64(len(head))+pages*dumptest.Page); err != nil {
		t.Skipf("no sparse file of this size here: %v", err)
	}
	return name
}

// sparseBitmap is a dump of 64 GB with holes in its bitmap.
func sparseBitmap(t testing.TB) string {
	var runs []dumptest.Run
	rng := rand.New(rand.NewPCG(9, 9))
	pages := int64(0)
	for pfn := uint64(1); pfn < bigPages; {
		n := min(1+rng.Uint64N(2000), bigPages-pfn)
		runs = append(runs, dumptest.Run{PFN: pfn, Pages: n})
		pages += int64(n)
		pfn += n + 1 + rng.Uint64N(3)
	}
	return sparse(t, dumptest.BitmapHeader(5, bigPages, dumptest.Page, runs...), pages)
}

func sparseFull(t testing.TB) string {
	head := dumptest.Header(1)
	head.Put(136, uint64(2))
	head.Put(144, uint64(bigPages))
	for i, v := range []uint64{1, 0x9f, 0x100, bigPages - 0x9f} {
		head.Put(152+8*i, v)
	}
	return sparse(t, head, bigPages)
}

// Opening a dump of 64 GB takes little memory: the index, not the pages. It does
// not run in parallel because it counts the process's allocations.
func TestOpenFile_memory(t *testing.T) {
	for kind, name := range map[string]string{"bitmap": sparseBitmap(t), "full": sparseFull(t)} {
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		d, err := dumpfmt.OpenFile(name)
		runtime.ReadMemStats(&after)
		if err != nil {
			t.Fatal(err)
		}
		if used := after.TotalAlloc - before.TotalAlloc; used > 8<<20 {
			t.Errorf("%s: opening allocates %d bytes", kind, used)
		}
		wantWarning(t, d, "")
		// The last page of memory is the last of the file.
		last := d.Size - dumptest.Page
		end := mem.Run{}
		for r := range d.Physical.Runs() {
			end = r
		}
		if off, ok := d.Physical.(mem.Offsetter).FileOffset(end.Base + mem.PA(end.Size) - dumptest.Page); !ok || off != last {
			t.Errorf("%s: last page at file offset %#x, %v, want %#x", kind, off, ok, last)
		}
		if err := d.Close(); err != nil {
			t.Error(err)
		}
	}
}

func benchmarkOpen(b *testing.B, name string) {
	b.ReportAllocs()
	for b.Loop() {
		d, err := dumpfmt.OpenFile(name)
		if err != nil {
			b.Fatal(err)
		}
		_ = d.Close()
	}
}

func BenchmarkOpen_bitmap64G(b *testing.B) { benchmarkOpen(b, sparseBitmap(b)) }
func BenchmarkOpen_full64G(b *testing.B)   { benchmarkOpen(b, sparseFull(b)) }

func BenchmarkRuns_bitmap64G(b *testing.B) {
	d, err := dumpfmt.OpenFile(sparseBitmap(b))
	if err != nil {
		b.Fatal(err)
	}
	defer d.Close()
	b.ReportAllocs()
	for b.Loop() {
		for range d.Physical.Runs() {
			continue
		}
	}
}

func BenchmarkFileOffset_bitmap64G(b *testing.B) {
	d, err := dumpfmt.OpenFile(sparseBitmap(b))
	if err != nil {
		b.Fatal(err)
	}
	defer d.Close()
	offsets := d.Physical.(mem.Offsetter)
	at := mem.PA(0)
	b.ReportAllocs()
	for b.Loop() {
		at = (at + 0x123457000) % (64 << 30)
		offsets.FileOffset(at)
	}
}

// Reads through the map, page-table entries and whole pages, of a small dump.
func BenchmarkRead(b *testing.B) {
	image := dumptest.Bitmap(6, 8192, 4096, dumptest.Run{PFN: 1, Pages: 4000})
	name := filepath.Join(b.TempDir(), "memory.dmp")
	if err := os.WriteFile(name, image, 0o600); err != nil {
		b.Fatal(err)
	}
	d, err := dumpfmt.OpenFile(name)
	if err != nil {
		b.Fatal(err)
	}
	defer d.Close()
	cached, err := dumpfmt.Open(dumpfmt.NewCached(bytes.NewReader(image), int64(len(image))), int64(len(image)))
	if err != nil {
		b.Fatal(err)
	}
	for _, c := range []struct {
		name string
		from mem.Physical
		size int
	}{{"map8", d.Physical, 8}, {"map4096", d.Physical, 4096}, {"cache8", cached.Physical, 8}, {"cache4096", cached.Physical, 4096}} {
		b.Run(c.name, func(b *testing.B) {
			p := make([]byte, c.size)
			b.SetBytes(int64(c.size))
			b.ReportAllocs()
			at := uint64(0)
			for b.Loop() {
				at = (at + 1021) % 3999
				if _, err := c.from.ReadPhysical(p, mem.PA(at+1)*dumptest.Page); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
