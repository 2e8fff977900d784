package pool

import (
	"errors"
	"testing"

	"gokd/model/mem"
	"gokd/model/pool/heaptest"
)

// TestOwner charges blocks to a process in the form of each build.
func TestOwner(t *testing.T) {
	t.Parallel()
	forFamilies(t, 0, 1<<31, func(t *testing.T, b *heaptest.Builder) {
		process := b.M.Process(1236, 4, "owner.exe")
		charged := b.Alloc(heaptest.Ask{Pool: heaptest.Paged, Tag: "Quot", Bytes: 40, Owner: process})
		free := b.Alloc(heaptest.Ask{Pool: heaptest.Paged, Tag: "Quot", Bytes: 40})
		gone := b.Alloc(heaptest.Ask{Pool: heaptest.Paged, Tag: "Quot", Bytes: 40, Owner: process})
		p := openBuilt(t, b)
		owner := func(k *heaptest.Block) (mem.VA, error) {
			x, err := p.BlockAt(t.Context(), k.Body)
			if err != nil {
				t.Fatal(err)
			}
			return p.Owner(x)
		}
		if at, err := owner(charged); at != process || err != nil {
			t.Errorf("charged: %#x, %v", uint64(at), err)
		}
		if at, err := owner(free); at != 0 || err != nil {
			t.Errorf("charged to none: %#x, %v", uint64(at), err)
		}
		b.M.Put64(gone.Header+8, 0x1234567890abcdef)
		if at, err := owner(gone); at != 0 || !errors.Is(err, ErrNoOwner) {
			t.Errorf("no process: %#x, %v", uint64(at), err)
		}
		// A process whose object was used anew.
		b.M.Set(process, 6, "_EPROCESS", "Pcb", "Header", "Type")
		if at, err := owner(charged); at != 0 || !errors.Is(err, ErrNoOwner) {
			t.Errorf("process that is gone: %#x, %v", uint64(at), err)
		}
	})
}

// TestOwner_large reads the member that entries of the big-page table have from
// 20348 on, plain and hidden.
func TestOwner_large(t *testing.T) {
	t.Parallel()
	forFamilies(t, 20348, 1<<31, func(t *testing.T, b *heaptest.Builder) {
		process := b.M.Process(1236, 4, "owner.exe")
		p := openBuilt(t, b)
		k := Block{Header: 0xffffa80020000000, Body: 0xffffa80020000000, Size: 0x2000, Large: true}
		for _, billed := range []uint64{uint64(process), uint64(process) ^ b.Cookie ^ uint64(k.Header)} {
			k.Billed = billed
			if at, err := p.Owner(k); at != process || err != nil {
				t.Errorf("%#x: %#x, %v", billed, uint64(at), err)
			}
		}
	})
}
