package modeltest_test

import (
	"bytes"
	"errors"
	"testing"

	"gokd/model/mem"
	"gokd/model/modeltest"
	"gokd/model/types"
)

// TestMemory reads every run by each way that a reader has.
func TestMemory(t *testing.T) {
	t.Parallel()
	m := modeltest.New(t, types.Embedded(17763)[0])
	m.LargePage(0xffffc00000000000)
	m.NotCaptured(0xffffc00040000000)
	k := m.OpenPaged(nil)
	phys := m.Memory()
	var last mem.Run
	off := int64(0)
	for r := range phys.Runs() {
		if r.Size == 0 || last.Size > 0 && r.Base < last.Base+mem.PA(last.Size) {
			t.Errorf("run %+v after %+v", r, last)
		}
		read := make([]byte, r.Size)
		if n, err := phys.ReadPhysical(read, r.Base); n != len(read) || err != nil {
			t.Errorf("run at %#x: %d of %d bytes: %v", uint64(r.Base), n, len(read), err)
		}
		if s, ok := phys.SlicePhysical(r.Base, len(read)); !ok || !bytes.Equal(s, read) {
			t.Errorf("run at %#x: no slice, or another", uint64(r.Base))
		}
		if got, ok := phys.FileOffset(r.Base + 8); !ok || got != off+8 {
			t.Errorf("run at %#x: file offset %#x, want %#x", uint64(r.Base), got, off+8)
		}
		var two [2]byte
		if n, err := phys.ReadPhysical(two[:], r.Base+mem.PA(r.Size-1)); n != 1 || !errors.Is(err, mem.ErrNotCaptured) {
			t.Errorf("behind the run at %#x: %d bytes, %v", uint64(r.Base), n, err)
		}
		if _, ok := phys.SlicePhysical(r.Base+mem.PA(r.Size-1), 2); ok {
			t.Errorf("behind the run at %#x: a slice", uint64(r.Base))
		}
		off, last = off+int64(r.Size), r
	}
	if off < 2<<20 {
		t.Errorf("%#x bytes", off)
	}
	phys.Copies = true
	if _, ok := phys.SlicePhysical(last.Base, 1); ok {
		t.Error("a slice of memory that hands out copies")
	}
	if _, err := k.Space.Uint64(0xffffc00040000000); !errors.Is(err, mem.ErrNotCaptured) {
		t.Errorf("a page that is not in the dump: %v", err)
	}
	if _, ok := phys.FileOffset(0); ok {
		t.Error("a file offset of what is not there")
	}
}
