package pool

import (
	"bytes"
	"encoding/binary"
	"errors"
	"hash/crc32"
	"testing"

	gocmp "github.com/google/go-cmp/cmp"

	"gokd/dumpfmt/dumptest/shared"
	"gokd/model"
	"gokd/model/mem"
	"gokd/model/modeltest"
)

// saved walks a pool and gives its index as a file.
func saved(t testing.TB, p *Pool, kind Kind) []byte {
	t.Helper()
	x, err := p.Index(t.Context(), kind, nil)
	if err != nil {
		t.Fatal(err)
	}
	var b bytes.Buffer
	if n, err := x.WriteTo(&b); err != nil || n != int64(b.Len()) {
		t.Fatalf("%d bytes said, %d written, %v", n, b.Len(), err)
	}
	return b.Bytes()
}

func load(p *Pool, kind Kind, file []byte) (*Index, error) {
	return p.LoadIndex(kind, bytes.NewReader(file), int64(len(file)))
}

// TestLoadIndex_everyDump holds what a loaded index says against the walk.
func TestLoadIndex_everyDump(t *testing.T) {
	t.Parallel()
	everyDump(t, func(t *testing.T, k *model.Kernel) {
		for _, kind := range []Kind{Nonpaged, Paged} {
			walked, sum, err := handedOut(t.Context(), t, freshPool(t, k), Query{Kind: kind})
			if err != nil || sum.SmallUnwalked {
				continue
			}
			file := saved(t, freshPool(t, k), kind)
			p := freshPool(t, k)
			x, err := load(p, kind, file)
			if err != nil || p.Kept(kind) != x || !x.Loaded() {
				t.Fatalf("%s: %v", kind, err)
			}
			asked, _, err := handedOut(t.Context(), t, p, Query{Kind: kind})
			if d := gocmp.Diff(walked, asked); err != nil || d != "" {
				t.Fatalf("%s: %v (-walk +loaded):\n%s", kind, err, cut(d))
			}
		}
	})
}

// reseal makes the checksums of a file of one piece fit again.
func reseal(file []byte) {
	describe := binary.LittleEndian.Uint64(file[headLen-12:])
	from := 0
	for _, n := range []uint64{headLen, describe, uint64(len(file)) - headLen - describe} {
		piece := file[from : from+int(n)]
		binary.LittleEndian.PutUint32(piece[n-4:], crc32.Checksum(piece[:n-4], crcTable))
		from += int(n)
	}
}

func TestLoadIndex_refuses(t *testing.T) {
	t.Parallel()
	win7 := modeltest.OpenDump(t, shared.Path(t, "dumps/x64/win7.kernel.dmp.xz"))
	file := saved(t, freshPool(t, win7), Nonpaged)
	other := modeltest.OpenDump(t, shared.Path(t, "dumps/x64/w10_1607.kernel.dmp.xz"))
	if x, err := load(freshPool(t, other), Nonpaged, file); !errors.Is(err, ErrStale) || x != nil {
		t.Errorf("another dump: %v", err)
	}
	if x, err := load(freshPool(t, win7), Paged, file); err == nil || x != nil {
		t.Errorf("another pool: %v", err)
	}
	p := freshPool(t, win7)
	for n := 0; n < len(file); n += 1 + len(file)/200 {
		if _, err := load(p, Nonpaged, file[:n]); err == nil {
			t.Fatalf("the first %d of %d bytes are an index", n, len(file))
		}
		harmed := bytes.Clone(file)
		harmed[n] ^= 0x10
		if _, err := load(p, Nonpaged, harmed); err == nil {
			t.Fatalf("byte %d of %d changed, and nobody notices", n, len(file))
		}
	}
	if p.Kept(Nonpaged) != nil {
		t.Error("an index that was refused is kept")
	}
}

// TestLoadIndex_lies changes a tag and makes the checksums fit: the block is not
// shown, and the index is dropped.
func TestLoadIndex_lies(t *testing.T) {
	t.Parallel()
	k := modeltest.OpenDump(t, shared.Path(t, "dumps/x64/win7.kernel.dmp.xz"))
	file := saved(t, freshPool(t, k), Nonpaged)
	file[len(file)-4-16+12] ^= 1 // the tag of the last cell
	reseal(file)
	p := freshPool(t, k)
	x, err := load(p, Nonpaged, file)
	if err != nil {
		t.Fatalf("it should pass, its last block is no sample: %v", err)
	}
	w, err := p.Find(t.Context(), Query{Kind: Nonpaged})
	if err != nil {
		t.Fatal(err)
	}
	var last error
	n := 0
	for _, r := range w.Ranges() {
		for _, err := range w.Small(t.Context(), r) {
			if last = err; err == nil {
				n++
			}
		}
	}
	if !errors.Is(last, ErrStale) || n != x.Len()-1 || p.Kept(Nonpaged) != nil {
		t.Errorf("%d of %d blocks, %v", n, x.Len(), last)
	}
}

func FuzzLoadIndex(f *testing.F) {
	for _, tables := range []int{1, 2} {
		f.Add(saved(f, fakePool(fakeTables(tables)), Nonpaged))
	}
	p := fakePool(fakeTables(1))
	id := p.Identity()
	f.Fuzz(func(t *testing.T, file []byte) {
		if len(file) < headLen+8 {
			return
		}
		copy(file[16:48], id[:]) // a hostile file knows the dump
		if d := binary.LittleEndian.Uint64(file[headLen-12:]); d >= 4 && d < uint64(len(file)-headLen-4) {
			reseal(file)
		}
		x, err := load(p, Nonpaged, file)
		if err != nil {
			return
		}
		end := mem.VA(0)
		for _, s := range x.sections {
			for _, part := range s.parts {
				for _, c := range part.cells {
					if c.Header() < end || c.Header() < s.r.Start || c.Header() > s.r.Last {
						t.Fatalf("block at %#x behind %#x", uint64(c.Header()), uint64(end))
					}
					end = c.Header() + mem.VA(c.Room())
				}
			}
		}
		p.Drop(Nonpaged)
	})
}
