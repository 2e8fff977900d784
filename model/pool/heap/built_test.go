package heap

import (
	"fmt"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"

	"gokd/model/mem"
	"gokd/model/pool/cell"
	"gokd/model/pool/heaptest"
	"gokd/model/types"
)

// families are the builds whose pools are segment heaps and whose types are
// known.
var families = []uint32{18362, 19041, 20348, 22000}

func eachFamily(t *testing.T, f func(t *testing.T, b *heaptest.Builder)) {
	for _, build := range families {
		t.Run(fmt.Sprint(build), func(t *testing.T) {
			t.Parallel()
			f(t, heaptest.New(t, types.Embedded(build)[0]))
		})
	}
}

// openBuilt opens the heaps of a built machine without any trouble.
func openBuilt(t testing.TB, b *heaptest.Builder) *Heaps {
	t.Helper()
	h, err := Open(t.Context(), b.Open())
	if err != nil {
		t.Fatal(err)
	}
	for _, err := range h.Trouble {
		t.Error(err)
	}
	return h
}

// known is what both the builder and the reader know of a block.
type known struct {
	Header mem.VA
	Room   uint64
	State  cell.State
	Tag    uint32
	Type   uint8
	Heap   mem.VA
}

// built gives the small blocks that the builder made.
func built(b *heaptest.Builder) (list []known) {
	for _, k := range b.Blocks() {
		if k.Large() || k.Place != heaptest.InVS && k.Place != heaptest.InLFH {
			continue
		}
		e := known{Header: k.Header, Room: k.Room, State: cell.State(0), Heap: k.Heap}
		switch k.State {
		case heaptest.Free:
			e.State = cell.Free
		case heaptest.Cached:
			e.State = cell.Cached
		}
		if e.State != cell.Free {
			e.Type = k.Type
			for i := range 4 {
				c := byte(' ')
				if i < len(k.Tag) {
					c = k.Tag[i]
				}
				e.Tag |= uint32(c) << (8 * i)
			}
			if k.Protected {
				e.Tag |= 1 << 31
			}
		}
		list = append(list, e)
	}
	slices.SortFunc(list, func(a, b known) int { return compare(a.Header, b.Header) })
	return list
}

// read gives the cells that a walk of all heaps finds.
func read(t testing.TB, h *Heaps) (list []known) {
	for _, p := range h.List {
		w := walk(t, h, p)
		for _, err := range w.sum.Errs {
			t.Error(err)
		}
		for _, c := range w.cells {
			e := known{Header: c.Header(), Room: c.Room(), State: c.State(), Heap: p.At}
			if e.State != cell.Free {
				e.Tag, e.Type = c.Tag(), c.PoolType()
			}
			list = append(list, e)
		}
	}
	slices.SortFunc(list, func(a, b known) int { return compare(a.Header, b.Header) })
	return list
}

// TestBuilt walks machines of every family with a mix of all sorts of blocks.
func TestBuilt(t *testing.T) {
	t.Parallel()
	eachFamily(t, func(t *testing.T, b *heaptest.Builder) {
		b.ShortPages = t.Name()[len(t.Name())-1] == '2' // 18362 takes the short page numbers here
		b.Fill(1, 400)
		h := openBuilt(t, b)
		if diff := cmp.Diff(built(b), read(t, h)); diff != "" {
			t.Errorf("blocks (-want +got):\n%s", diff)
		}
	})
}
