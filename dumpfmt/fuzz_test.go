package dumpfmt_test

import (
	"errors"
	"testing"

	"gokd/dumpfmt"
	"gokd/dumpfmt/dumptest"
	"gokd/model/mem"
)

// FuzzOpen feeds any bytes to every format: an error of the package or a dump,
// never both, and whatever the dump promises can be read.
func FuzzOpen(f *testing.F) {
	for _, image := range samples() {
		f.Add([]byte(image))
		f.Add([]byte(image[:len(image)-dumptest.Page/2]))
	}
	for _, image := range dumptest.Foreign() {
		f.Add(image)
	}
	for _, value := range []uint32{0, 1, 0x7fffffff, 0xffffffff, 0x45474150, 0x2000} {
		for _, field := range dumptest.TriageField {
			m := triageSample().Image()
			m.Put(field, value)
			f.Add([]byte(m))
		}
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		d, err := dumpfmt.Open(dumpfmt.NewBytes(data), int64(len(data)))
		if err != nil {
			if d != nil || !errors.Is(err, dumpfmt.ErrFormat) || err.Error() == "" {
				t.Fatalf("dump %v, error %v", d, err)
			}
			return
		}
		if d.Physical == nil && d.Virtual == nil {
			t.Fatal("a dump without memory")
		}
		if d.Physical != nil {
			walkPhysical(t, d)
		} else {
			walkTriage(t, d)
		}
		for _, s := range d.Secondary {
			if b, err := s.Data(); err != nil || uint32(len(b)) != s.Size {
				t.Fatalf("secondary data of %#x bytes: %#x, %v", s.Size, len(b), err)
			}
		}
	})
}

func walkPhysical(t *testing.T, d *dumpfmt.Dump) {
	var p [64]byte
	var pages uint64
	next := mem.PA(0)
	for n, r := range indexed(d.Physical.Runs()) {
		if r.Size == 0 || n > 0 && r.Base <= next {
			t.Fatalf("run %d at %s, size %#x: not sorted, joined and non-empty", n, r.Base, r.Size)
		}
		next = r.Base + mem.PA(r.Size)
		pages += r.Size / dumptest.Page
		for _, at := range []mem.PA{r.Base, next - 64} {
			if _, err := d.Physical.ReadPhysical(p[:], at); err != nil {
				t.Fatalf("read inside a run, at %s: %v", at, err)
			}
		}
		if n, err := d.Physical.ReadPhysical(p[:], next-32); n != 32 || err == nil {
			t.Fatalf("read over the end of a run, %s: %d bytes, %v", next, n, err)
		}
	}
	if pages != d.PagesPresent || d.PagesPresent > d.PagesExpected || d.PagesPresent == 0 {
		t.Fatalf("%d pages in runs, %d of %d in the header", pages, d.PagesPresent, d.PagesExpected)
	}
}

// indexed numbers the first 100000 items.
func indexed[T any](seq func(func(T) bool)) func(func(int, T) bool) {
	return func(yield func(int, T) bool) {
		n := 0
		seq(func(v T) bool { n++; return n <= 100000 && yield(n-1, v) })
	}
}

func walkTriage(t *testing.T, d *dumpfmt.Dump) {
	for at, b := range d.Triage.Memory.All() {
		if len(b) == 0 {
			t.Fatalf("no bytes at %s", at)
		}
	}
	for i, b := range d.Triage.Blocks {
		if i == 1000 {
			break
		}
		p := make([]byte, min(b.Size, 64))
		if n, err := d.Virtual.ReadVirtual(p, b.VA); err != nil && uint64(b.VA)+uint64(n) != 0 {
			t.Fatalf("block %s: %v", b, err)
		}
	}
}

// FuzzBlocks adds blocks at fuzzed places; reads agree with the first that
// covers an address.
func FuzzBlocks(f *testing.F) {
	f.Add([]byte{0, 10, 5, 10, 3, 30}, uint64(0xfffff80000000000))
	f.Add([]byte{200, 255, 0, 255, 100, 1}, ^uint64(0)-255)
	f.Fuzz(func(t *testing.T, places []byte, base uint64) {
		var b dumpfmt.Blocks
		first := make(map[uint64]byte)
		for i := 0; i+1 < len(places) && i < 200; i += 2 {
			data := make([]byte, places[i+1])
			at := base + uint64(places[i])
			if at < base {
				continue
			}
			for j := range data {
				data[j] = byte(i)
				va := at + uint64(j)
				if _, there := first[va]; !there && va >= at {
					first[va] = byte(i)
				}
			}
			b.Add(mem.VA(at), data)
		}
		for i := range uint64(520) {
			va, p := base+i, []byte{0}
			if va < base {
				break
			}
			n, err := b.ReadVirtual(p, mem.VA(va))
			if want, there := first[va]; there != (n == 1) || there != (err == nil) || there && p[0] != want {
				t.Fatalf("byte at %#x: %d, %v; want %d, %v", va, p[0], err, want, there)
			}
		}
	})
}
