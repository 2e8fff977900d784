package dumpfmt

import (
	"bytes"
	"errors"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"testing"

	"gokd/dumpfmt/dumptest"
	"gokd/model/mem"
)

// mappedDump writes a full dump to a file and opens it.
func mappedDump(t *testing.T, pages uint64) (*Dump, string) {
	t.Helper()
	name := filepath.Join(t.TempDir(), "memory.dmp")
	if err := os.WriteFile(name, dumptest.Full(dumptest.Run{PFN: 1, Pages: pages}), 0o600); err != nil {
		t.Fatal(err)
	}
	d, err := OpenFile(name)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = d.Close() })
	return d, name
}

// A file that shrinks under the map gives errors, never a crash.
func TestMapped_shrinks(t *testing.T) {
	t.Parallel()
	if runtime.GOOS == "windows" {
		t.Skip("Windows does not let a mapped file shrink")
	}
	d, name := mappedDump(t, 64)
	if _, ok := d.Physical.(*physical).f.(*mapped); !ok {
		t.Skip("the test's folder is on a file system that is not mapped")
	}
	slice, ok := d.Physical.(mem.Slicer).SlicePhysical(60*pageSize, pageSize)
	if !ok {
		t.Fatal("no slice")
	}
	if err := os.Truncate(name, dataOffset+8*pageSize); err != nil {
		t.Fatal(err)
	}
	p := make([]byte, 0x100)
	n, err := d.Physical.ReadPhysical(p, 60*pageSize)
	if n != 0 || !errors.Is(err, ErrUnreadable) || !strings.Contains(err.Error(), "shrank") {
		t.Errorf("a read behind the new end: %d bytes, %v", n, err)
	}
	if _, err := d.Physical.ReadPhysical(p, 3*pageSize); err != nil {
		t.Errorf("a read before the new end: %v", err)
	}
	total := 0
	err = Guard(func() error {
		for _, c := range slice {
			total += int(c)
		}
		return nil
	})
	if !errors.Is(err, ErrUnreadable) {
		t.Errorf("a guarded use of the slice: %v, sum %d", err, total)
	}
	if err := d.Changed(); !errors.Is(err, ErrUnreadable) {
		t.Errorf("Changed: %v", err)
	}
}

func TestGuard(t *testing.T) {
	t.Parallel()
	want := errors.New("mine")
	if err := Guard(func() error { return want }); err != want {
		t.Errorf("an error: %v", err)
	}
	defer func() {
		if r := recover(); r != "mine too" {
			t.Errorf("another panic: %v", r)
		}
	}()
	_ = Guard(func() error { panic("mine too") })
}

func TestMapped_bounds(t *testing.T) {
	t.Parallel()
	d, _ := mappedDump(t, 2)
	f := d.Physical.(*physical).f
	size := d.Size
	for _, test := range []struct {
		off  int64
		n    int
		want bool
	}{
		{0, 8, true}, {size - 8, 8, true}, {size, 0, true}, {size - 7, 8, false}, {size + 1, 0, false},
		{-1, 1, false}, {0, -1, false}, {1 << 62, 1, false}, {0, int(size) + 1, false},
	} {
		if b, ok := f.Slice(test.off, test.n); ok != test.want || len(b) != max(0, test.n) && ok {
			t.Errorf("slice of %d bytes at %d: %v", test.n, test.off, ok)
		}
	}
	if n, err := f.ReadAt(make([]byte, 8), size-3); n != 3 || err != io.EOF {
		t.Errorf("a read over the end: %d, %v", n, err)
	}
	if _, err := f.ReadAt(make([]byte, 8), -1); err == nil {
		t.Error("a read before the start")
	}
}

// The cache gives the file's bytes whatever the order, and stays bounded.
func TestCache(t *testing.T) {
	t.Parallel()
	data := make([]byte, 9*blockSize+123)
	rng := rand.New(rand.NewPCG(5, 6))
	for i := range data {
		data[i] = byte(rng.Uint32())
	}
	c := newBlockCache(bytes.NewReader(data), int64(len(data)), 3)
	var group sync.WaitGroup
	for worker := range uint64(4) {
		group.Go(func() {
			rng := rand.New(rand.NewPCG(worker, 8))
			for range 500 {
				off := rng.IntN(len(data) + 10)
				p := make([]byte, rng.IntN(blockSize+blockSize/8))
				n, err := c.ReadAt(p, int64(off))
				want := data[min(off, len(data)):min(off+len(p), len(data))]
				if !bytes.Equal(p[:n], want) || n < len(p) && err != io.EOF || n == len(p) && err != nil && err != io.EOF {
					t.Errorf("read of %d bytes at %d: %d bytes, %v", len(p), off, n, err)
				}
			}
		})
	}
	group.Wait()
	if len(c.blocks) > 3 || c.recent.Len() != len(c.blocks) {
		t.Errorf("%d blocks kept, %d in the list, want at most 3", len(c.blocks), c.recent.Len())
	}
}

// counted counts the reads that reach a file.
type counted struct {
	io.ReaderAt
	reads int
}

func (c *counted) ReadAt(p []byte, off int64) (int, error) {
	c.reads++
	return c.ReaderAt.ReadAt(p, off)
}

func TestCache_keepsTheLatest(t *testing.T) {
	t.Parallel()
	file := &counted{ReaderAt: bytes.NewReader(make([]byte, 4*blockSize))}
	c := newBlockCache(file, 4*blockSize, 2)
	for _, block := range []int64{0, 1, 0, 2, 0, 1} { // 2 replaces 1, not 0
		if _, err := c.ReadAt(make([]byte, 8), block*blockSize); err != nil {
			t.Fatal(err)
		}
	}
	if file.reads != 4 {
		t.Errorf("%d reads, want 4", file.reads)
	}
}
