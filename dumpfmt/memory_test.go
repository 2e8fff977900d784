package dumpfmt_test

import (
	"bytes"
	"errors"
	"iter"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"

	"gokd/dumpfmt"
	"gokd/dumpfmt/dumptest"
	"gokd/model/mem"
)

// flat is memory as plain bytes with a note of which are there.
type flat struct {
	base  uint64
	bytes []byte
	there []bool
}

// read is what a read of the memory must give.
func (f flat) read(at uint64, n int) []byte {
	i := int(at - f.base)
	end := i
	for end < len(f.bytes) && end < i+n && f.there[end] {
		end++
	}
	return f.bytes[i:end]
}

// Random reads of every physical layout against flat memory: any start, any
// length, over holes, superblocks and the ends.
func TestPhysical_againstFlat(t *testing.T) {
	t.Parallel()
	const pages = 5 * 4096
	rng := rand.New(rand.NewPCG(1, 2))
	var runs []dumptest.Run
	for pfn := uint64(4000); pfn < pages; {
		n := 1 + rng.Uint64N(20)
		if n == 20 {
			n = 300
		}
		runs = append(runs, dumptest.Run{PFN: pfn, Pages: min(n, pages-pfn)})
		pfn += n + rng.Uint64N(9)*rng.Uint64N(70)
	}
	few := runs[:40]
	for name, c := range map[string]struct {
		image []byte
		runs  []dumptest.Run
	}{
		"full":   {dumptest.Full(few...), few},
		"bitmap": {dumptest.Bitmap(6, pages, 8, runs...), runs},
		"ranges": {dumptest.Ranges(9, len(runs)+1, runs...), runs},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			checkRandomReads(t, open(t, c.image), flatten(c.runs, pages), rand.New(rand.NewPCG(3, 4)))
		})
	}
}

func flatten(runs []dumptest.Run, pages uint64) flat {
	f := flat{bytes: make([]byte, pages*dumptest.Page), there: make([]bool, pages*dumptest.Page)}
	for _, r := range runs {
		for pfn := r.PFN; pfn < r.PFN+r.Pages; pfn++ {
			copy(f.bytes[pfn*dumptest.Page:], dumptest.PageOf(pfn))
			for i := range uint64(dumptest.Page) {
				f.there[pfn*dumptest.Page+i] = true
			}
		}
	}
	return f
}

func checkRandomReads(t *testing.T, d *dumpfmt.Dump, want flat, rng *rand.Rand) {
	t.Helper()
	var ends []uint64 // where reads are most likely to go wrong
	for r := range d.Physical.Runs() {
		if uint64(r.Base) > 0 && want.there[r.Base-1] {
			t.Fatalf("run at %s does not start where its pages do", r.Base)
		}
		ends = append(ends, uint64(r.Base), uint64(r.Base)+r.Size)
	}
	buf := make([]byte, 3<<20)
	for i := range 3000 {
		at := rng.Uint64N(uint64(len(want.bytes)))
		n := 1 + rng.IntN(3*dumptest.Page)
		switch i % 4 {
		case 1:
			at = min(ends[rng.IntN(len(ends))]+rng.Uint64N(40)-min(20, ends[0]), uint64(len(want.bytes)-1))
		case 2:
			at, n = at&^0xfff, dumptest.Page
		case 3:
			if i%64 == 3 {
				n = len(buf) // over whole superblocks
			}
		}
		p := buf[:n]
		got, err := d.Physical.ReadPhysical(p, mem.PA(at))
		expected := want.read(at, n)
		if got != len(expected) || !bytes.Equal(p[:got], expected) {
			t.Fatalf("read of %#x bytes at %#x: %#x bytes, want %#x, or other bytes", n, at, got, len(expected))
		}
		var fault *mem.Fault
		switch {
		case got == n && err != nil:
			t.Fatalf("whole read at %#x: %v", at, err)
		case got < n && (!errors.As(err, &fault) || fault.PA != mem.PA(at)+mem.PA(got)):
			t.Fatalf("read at %#x cut at %#x: %v", at, got, err)
		}
		part, ok := d.Physical.(mem.Slicer).SlicePhysical(mem.PA(at), n)
		if ok && !bytes.Equal(part, expected) {
			t.Fatalf("slice of %#x bytes at %#x differs", n, at)
		}
		if ok != (got == n) && d.Format == "64-bit kernel bitmap dump" {
			// Pages that follow each other in a bitmap do so in the file.
			t.Fatalf("slice of %#x bytes at %#x: %v", n, at, ok)
		}
	}
}

// The last page of the physical address space, and reads that would wrap.
func TestPhysical_top(t *testing.T) {
	t.Parallel()
	last := uint64(1)<<40 - 1
	d := open(t, dumptest.Full(dumptest.Run{PFN: 0, Pages: 1}, dumptest.Run{PFN: last, Pages: 1}))
	checkPages(t, d, 0, 1)
	checkPages(t, d, last, 1)
	p := make([]byte, 0x20)
	n, err := d.Physical.ReadPhysical(p, mem.PA((last+1)*dumptest.Page-8))
	var fault *mem.Fault
	if n != 8 || !errors.As(err, &fault) {
		t.Errorf("a read over the top: %d bytes, %v", n, err)
	}
	if n, err := d.Physical.ReadPhysical(p, ^mem.PA(7)); n != 0 || !errors.As(err, &fault) {
		t.Errorf("a read that wraps to page 0: %d bytes, %v", n, err)
	}
	if n, err := d.Physical.ReadPhysical(nil, 0x5000); n != 0 || err != nil {
		t.Errorf("a read of nothing: %d, %v", n, err)
	}
}

// A bitmap too big to be copied is read through the cache; results are alike.
func TestPhysical_bigBitmap(t *testing.T) {
	t.Parallel()
	const bits = 150_000_001 // 18.75 MB: more than is copied, and a last byte in part
	runs := []dumptest.Run{{PFN: 9, Pages: 2}, {PFN: 4095, Pages: 2}, {PFN: 149_999_000, Pages: 3}, {PFN: bits - 3, Pages: 3}}
	image := dumptest.Bitmap(5, bits, 4096, runs...)
	image[0x2038+bits/8] |= 0xfe // bits behind the end mean nothing
	d := open(t, image)
	wantWarning(t, d, "")
	want := []mem.Run{runOf(9, 2), runOf(4095, 2), runOf(149_999_000, 3), runOf(bits-3, 3)}
	if diff := cmp.Diff(want, runsOf(d)); diff != "" {
		t.Errorf("runs (-want +got):\n%s", diff)
	}
	for _, r := range runs {
		checkPages(t, d, r.PFN, r.Pages)
	}
	for _, hole := range []uint64{8, 4097, 100_000_000, bits - 4, bits, bits + 1} {
		wantHole(t, d, mem.PA(hole*dumptest.Page))
	}
}

func TestPhysical_runsStop(t *testing.T) {
	t.Parallel()
	for name, image := range samples() {
		if d := open(t, image); d.Physical != nil {
			n := 0
			for range d.Physical.Runs() {
				n++
				break
			}
			if n != 1 {
				t.Errorf("%s: %d runs before the break", name, n)
			}
		}
	}
}

// Blocks against flat memory: overlaps go to the block added first.
func TestBlocks_againstFlat(t *testing.T) {
	t.Parallel()
	const size = 2000
	for seed := range uint64(60) {
		rng := rand.New(rand.NewPCG(seed, 7))
		want := flat{base: 0xfffff80000000000, bytes: make([]byte, size), there: make([]bool, size)}
		if seed%3 == 0 {
			want.base = 1<<64 - size // up to the top of the address space
		}
		var b dumpfmt.Blocks
		for i := range rng.IntN(40) {
			at := rng.IntN(size)
			data := bytes.Repeat([]byte{byte(i + 1)}, min(rng.IntN(300), size-at))
			b.Add(mem.VA(want.base)+mem.VA(at), data)
			for j := range data {
				if !want.there[at+j] {
					want.bytes[at+j], want.there[at+j] = data[j], true
				}
			}
			if i%8 == 0 { // reads between additions
				checkBlocks(t, &b, want, rng)
			}
		}
		for range 200 {
			checkBlocks(t, &b, want, rng)
		}
		got := flat{base: want.base, bytes: make([]byte, size), there: make([]bool, size)}
		next := mem.VA(0)
		for at, data := range b.All() {
			if at < next {
				t.Fatalf("seed %d: All goes back to %s", seed, at)
			}
			next = at + mem.VA(len(data)-1)
			for i, c := range data {
				got.bytes[uint64(at)-got.base+uint64(i)], got.there[uint64(at)-got.base+uint64(i)] = c, true
			}
		}
		if !bytes.Equal(got.bytes, want.bytes) || !slices.Equal(got.there, want.there) {
			t.Fatalf("seed %d: All differs", seed)
		}
	}
}

func checkBlocks(t *testing.T, b *dumpfmt.Blocks, want flat, rng *rand.Rand) {
	t.Helper()
	at := want.base + rng.Uint64N(uint64(len(want.bytes)))
	p := make([]byte, 1+rng.IntN(200))
	n, err := b.ReadVirtual(p, mem.VA(at))
	expected := want.read(at, len(p))
	if n != len(expected) || !bytes.Equal(p[:n], expected) {
		t.Fatalf("read of %d bytes at %#x: % x, want % x", len(p), at, p[:n], expected)
	}
	var fault *mem.Fault
	if n < len(p) && (!errors.As(err, &fault) || fault.Kind != mem.NotCaptured || uint64(fault.VA) != at+uint64(n)) || n == len(p) && err != nil {
		t.Fatalf("read at %#x cut at %d: %v", at, n, err)
	}
}

func TestBlocks_allInPieces(t *testing.T) {
	t.Parallel()
	var b dumpfmt.Blocks
	b.Add(0x1000, make([]byte, 5<<19)) // 2.5 MiB
	b.Add(^mem.VA(0)-1, []byte("xy and more than fits"))
	var got []int
	for _, data := range b.All() {
		got = append(got, len(data))
	}
	if diff := cmp.Diff([]int{1 << 20, 1 << 20, 1 << 19, 2}, got); diff != "" {
		t.Errorf("pieces (-want +got):\n%s", diff)
	}
	next, stop := iter.Pull2(b.All())
	defer stop()
	if at, _, ok := next(); !ok || at != 0x1000 {
		t.Errorf("first piece at %s, %v", at, ok)
	}
}

// Many blocks that all overlap must not cost quadratic time or memory.
func BenchmarkBlocks(b *testing.B) {
	data := make([]byte, 1<<16)
	b.ReportAllocs()
	for b.Loop() {
		var m dumpfmt.Blocks
		for i := range 20000 {
			m.Add(mem.VA(i*16), data)
		}
		if _, err := m.ReadVirtual(data[:8], 0x20000); err != nil {
			b.Fatal(err)
		}
	}
}
