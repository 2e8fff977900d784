package snapshot_test

import (
	"encoding/binary"
	"os"
	"path/filepath"
	"testing"

	"gokd/dumpfmt/snapshot"
)

// What follows reads a dump by hand: with numbers of the public descriptions,
// and nothing of the package's or the debugger's own.

func scenario(t testing.TB, name string) []byte {
	t.Helper()
	b, err := os.ReadFile(filepath.Join("..", "..", "testdata", "snapshots", name))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func build(t testing.TB, text []byte, opts snapshot.Options) *snapshot.Image {
	t.Helper()
	im, err := snapshot.Build(text, opts)
	if err != nil {
		t.Fatal(err)
	}
	return im
}

// raw is a dump as bytes.
type raw struct {
	t     testing.TB
	b     []byte
	pages map[uint64]int // file offset by page frame
	dtb   uint64
}

func open(t testing.TB, im *snapshot.Image) *raw {
	t.Helper()
	b := make([]byte, im.Size())
	if n, err := im.ReadAt(b, 0); int64(n) != im.Size() || err != nil {
		t.Fatalf("read %#x of %#x bytes: %v", n, im.Size(), err)
	}
	r := &raw{t: t, b: b, pages: map[uint64]int{}}
	r.dtb = r.u64(0x10)
	switch typ := r.u32(0xf98); typ {
	case 1:
		at := 0x2000
		for i := range int(r.u32(0x88)) {
			first, count := r.u64(0x98+16*i), r.u64(0xa0+16*i)
			for k := range count {
				r.pages[first+k] = at
				at += 0x1000
			}
		}
	case 5, 6:
		at := int(r.u64(0x2020))
		for n := range r.u64(0x2030) {
			if r.b[0x2038+n/8]>>(n%8)&1 != 0 {
				r.pages[n] = at
				at += 0x1000
			}
		}
	default:
		t.Fatalf("dump type %d", typ)
	}
	return r
}

// u32 and u64 read the file, at an offset.
func (r *raw) u32(off int) uint32 { return binary.LittleEndian.Uint32(r.b[off:]) }
func (r *raw) u64(off int) uint64 { return binary.LittleEndian.Uint64(r.b[off:]) }

// entry reads an entry of a page table.
func (r *raw) entry(table, index uint64) uint64 {
	at, ok := r.pages[table>>12]
	if !ok {
		return 0
	}
	return r.u64(at + int(8*index))
}

// page gives the file offset of the page at a virtual address.
func (r *raw) page(va uint64) (off int, mapped, captured bool) {
	table := r.dtb
	for level := 3; level >= 0; level-- {
		e := r.entry(table, va>>(12+9*level)&0x1ff)
		if e&1 == 0 {
			return 0, false, false
		}
		table = e & 0xffffffffff000
		if level == 1 && e&0x80 != 0 {
			table += va & 0x1ff000
			break
		}
	}
	off, captured = r.pages[table>>12]
	return off, true, captured
}

// mem reads virtual memory.
func (r *raw) mem(va uint64, n int) []byte {
	r.t.Helper()
	var out []byte
	for len(out) < n {
		off, _, ok := r.page(va)
		if !ok {
			r.t.Fatalf("%#x is not in the dump", va)
		}
		in := int(va & 0xfff)
		k := min(0x1000-in, n-len(out))
		out = append(out, r.b[off+in:off+in+k]...)
		va += uint64(k)
	}
	return out
}

func (r *raw) at64(va uint64) uint64 {
	r.t.Helper()
	return binary.LittleEndian.Uint64(r.mem(va, 8))
}

func (r *raw) at32(va uint64) uint32 {
	r.t.Helper()
	return binary.LittleEndian.Uint32(r.mem(va, 4))
}

// list walks a LIST_ENTRY list and checks its back links.
func (r *raw) list(head uint64) []uint64 {
	r.t.Helper()
	var out []uint64
	last := head
	for at := r.at64(head); ; at = r.at64(at) {
		if back := r.at64(at + 8); back != last {
			r.t.Fatalf("list %#x: %#x links back to %#x, not %#x", head, at, back, last)
		}
		if at == head {
			return out
		}
		out, last = append(out, at), at
		if len(out) > 5000 {
			r.t.Fatalf("list %#x does not end", head)
		}
	}
}

// kdbg reads a pointer of the debugger data block.
func (r *raw) kdbg(off uint64) uint64 {
	r.t.Helper()
	return r.at64(r.u64(0x80) + off)
}
