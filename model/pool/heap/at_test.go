package heap

import (
	"fmt"
	"testing"

	"github.com/google/go-cmp/cmp"

	"gokd/model"
	"gokd/model/mem"
	"gokd/model/pool/cell"
	"gokd/model/pool/heaptest"
)

// TestAt asks for the places of all blocks of a machine, and around them.
func TestAt(t *testing.T) {
	t.Parallel()
	eachFamily(t, func(t *testing.T, b *heaptest.Builder) {
		b.Fill(3, 200)
		h := openBuilt(t, b)
		kinds := map[heaptest.Place]int{}
		for _, k := range b.Blocks() {
			kinds[k.Place]++
			if k.Place != heaptest.InVS && k.Place != heaptest.InLFH {
				continue
			}
			for _, at := range []mem.VA{k.Header, k.Header + mem.VA(k.Room) - 1} {
				info, ok, err := h.Chunk(t.Context(), at)
				if !ok || err != nil {
					t.Fatalf("%#x: %v %v", uint64(at), ok, err)
				}
				got := known{info.Header, uint64(info.At) + info.Size - uint64(info.Header), info.State, 0, 0, info.Area.Heap.At}
				want := known{k.Header, k.Room, cell.Allocated, 0, 0, k.Heap}
				switch k.State {
				case heaptest.Free:
					want.State = cell.Free
				case heaptest.Cached:
					want.State = cell.Cached
				}
				if got != want {
					t.Fatalf("%#x: got %+v, want %+v", uint64(at), got, want)
				}
			}
		}
		if len(kinds) < 3 {
			t.Errorf("blocks lie in %v only", kinds)
		}
	})
}

// TestChunk tells what the headers around a block say.
func TestChunk(t *testing.T) {
	t.Parallel()
	b, v := small(t, 19041)
	ask := heaptest.Ask{Tag: "Algn", Bytes: 0x80, Aligned: true}
	aligned := v.Alloc(ask)
	large := v.Large(heaptest.Ask{Tag: "Larg", Bytes: 0x1800})
	h := openBuilt(t, b)
	slots := find(t, h, v.At, NonpagedNx)
	lfh := v.At + 0x10000
	for name, c := range map[string]struct {
		at   mem.VA
		want ChunkInfo
	}{
		"first chunk": {v.At + 0x60, ChunkInfo{At: v.At + 0x30, Size: 0x90, Header: v.At + 0x40, Word: 0x74736554_02080000}},
		"second":      {v.At + 0xc0, ChunkInfo{At: v.At + 0xc0, Size: 0x90, Header: v.At + 0xd0, Word: 0x74736554_02080000, Prev: 0x90}},
		"aligned": {aligned.Header + 0x30, ChunkInfo{
			At: aligned.Header - 0x10, Size: aligned.Room + 0x10, Header: aligned.Header, Word: 0x6e676c41_00000000 | uint64(aligned.Type)<<24 | aligned.Size/16<<16,
			Aligned: (aligned.Header+0x20+63)&^63 - 0x10, Prev: 0x120, PageOffset: uint8((aligned.Header - v.At) >> 12),
		}},
		"large":            {large.Header + 0x1000, ChunkInfo{At: large.Header - 0x10, Size: 0x1810, Large: true, Prev: 0xe30, PageOffset: uint8((large.Header - 0x10 - v.At) >> 12)}},
		"subsegment":       {v.At + 8, ChunkInfo{At: v.At, Size: 0x30, Gap: true}},
		"slot":             {lfh + 0xd0 + 3, ChunkInfo{At: lfh + 0xd0, Size: 0x80, Header: lfh + 0xd0, Word: 0x746f6c53_02070000, Slot: 1, Slots: 127, Bits: 3}},
		"free slot":        {lfh + 0x50 + 100*0x80, ChunkInfo{At: lfh + 0x50 + 100*0x80, Size: 0x80, Header: lfh + 0x50 + 100*0x80, Slot: 100, Slots: 127, State: cell.Free}},
		"bitmap":           {lfh + 0x31, ChunkInfo{At: lfh, Size: 0x50, Slots: 127, Gap: true}},
		"no VS or LFH":     {v.At + 0x14000, ChunkInfo{}},
		"outside of heaps": {0xfffff80000000000, ChunkInfo{}},
	} {
		t.Run(name, func(t *testing.T) {
			info, ok, err := h.Chunk(t.Context(), c.at)
			if err != nil || ok != (c.want.Size != 0) {
				t.Fatalf("ok %v, error %v", ok, err)
			}
			if ok && info.Area.Heap != slots {
				t.Errorf("area %+v", info.Area)
			}
			info.Area = Area{}
			if diff := cmp.Diff(c.want, info); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

// TestLarge finds the large allocations, plain and in encoded trees.
func TestLarge(t *testing.T) {
	t.Parallel()
	// What links are mixed with in an encoded tree: nothing, the tree's address, the
	// node's own.
	for form := range 4 {
		t.Run(fmt.Sprint(form), func(t *testing.T) {
			t.Parallel()
			b, _ := small(t, 22000)
			hp := b.Heap(heaptest.NonpagedNx, 0)
			var want []Large
			for i := range uint64(9) {
				k := hp.Large(heaptest.Ask{Tag: "Larg", Bytes: 0x20000 + i*0x12345})
				want = append(want, Large{At: k.Header, Pages: k.Room / pageSize, Unused: k.Room - k.Size})
			}
			k := b.Open()
			if form > 0 {
				off, _ := b.M.Field("_SEGMENT_HEAP", "LargeAllocMetadata")
				encode(t, b, k, hp.At+mem.VA(off), form)
			}
			h, err := Open(t.Context(), k)
			if err != nil {
				t.Fatal(err)
			}
			var got []Large
			for g, err := range h.LargeOf(t.Context(), h.List[0]) {
				if err != nil {
					t.Error(err)
				}
				g.Heap = nil
				got = append(got, g)
			}
			if diff := cmp.Diff(want, got, cmp.AllowUnexported(Heap{})); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
			for _, g := range want {
				for _, at := range []mem.VA{g.At, g.At + mem.VA(g.Pages*pageSize) - 1} {
					if found, ok, err := h.LargeAt(t.Context(), at); !ok || err != nil || found.At != g.At {
						t.Errorf("%#x: %+v %v %v", uint64(at), found, ok, err)
					}
				}
			}
			if _, ok, _ := h.LargeAt(t.Context(), want[0].At-1); ok {
				t.Error("found before the first")
			}
		})
	}
}

// encode rewrites a tree as the encoded flag says, with links of a form.
func encode(t *testing.T, b *heaptest.Builder, k *model.Kernel, tree mem.VA, form int) {
	root, err := k.Space.Pointer(tree)
	if err != nil {
		t.Fatal(err)
	}
	var visit func(node mem.VA)
	visit = func(node mem.VA) {
		for _, link := range []mem.VA{node, node + 8} {
			child, err := k.Space.Pointer(link)
			if err != nil || child == 0 {
				continue
			}
			visit(child)
			b.M.Put64(link, uint64(child)^uint64([]mem.VA{0, 0, tree, node}[form]))
		}
	}
	visit(root)
	b.M.Put64(tree, uint64(root)^uint64(tree))
	least, _ := k.Space.Uint64(tree + 8)
	b.M.Put64(tree+8, least|1)
}

// TestLargeDamaged tells of nodes that make no sense and finds the others.
func TestLargeDamaged(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		break_ func(b *heaptest.Builder, node mem.VA)
		found  int
		want   string
	}{
		"a loop":         {func(b *heaptest.Builder, node mem.VA) { b.M.Put64(node, uint64(node)) }, 2, "_HEAP_LARGE_ALLOC_DATA at NODE, of the heap at HEAP: the list comes back to a member"},
		"no pages":       {func(b *heaptest.Builder, node mem.VA) { b.M.Put64(node+0x20, 0) }, 2, "_HEAP_LARGE_ALLOC_DATA at NODE, of the heap at HEAP: it has 0x0 pages"},
		"a user address": {func(b *heaptest.Builder, node mem.VA) { b.M.Put64(node+0x18, 0x10000) }, 2, "_HEAP_LARGE_ALLOC_DATA at NODE, of the heap at HEAP: its VirtualAddress is 0x10000"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b, _ := small(t, 19041)
			hp := b.Heap(heaptest.NonpagedNx, 0)
			for range 3 {
				hp.Large(heaptest.Ask{Tag: "Larg", Bytes: 0x30000})
			}
			k := b.Open()
			off, _ := b.M.Field("_SEGMENT_HEAP", "LargeAllocMetadata")
			root, err := k.Space.Pointer(hp.At + mem.VA(off))
			if err != nil {
				t.Fatal(err)
			}
			c.break_(b, root)
			h, err := Open(t.Context(), k)
			if err != nil {
				t.Fatal(err)
			}
			found := 0
			var errs []string
			for _, err := range h.LargeOf(t.Context(), h.List[0]) {
				if err != nil {
					errs = append(errs, err.Error())
					continue
				}
				found++
			}
			want := []string{c.want[:26] + fmt.Sprintf("%#x, of the heap at %#x", uint64(root), uint64(hp.At)) + c.want[51:]}
			if diff := cmp.Diff(want, errs); diff != "" || found != c.found {
				t.Errorf("%d found, want %d; (-want +got):\n%s", found, c.found, diff)
			}
		})
	}
}

// TestForeignSegment finds a block in the heap its segment is of, though another
// heap's list leads there too.
func TestForeignSegment(t *testing.T) {
	t.Parallel()
	b, _ := small(t, 19041)
	paged := b.Heap(heaptest.Paged, 0)
	k := paged.VS(1).Alloc(heaptest.Ask{Tag: "Mine", Bytes: 64})
	kernel := b.Open()
	head := listHead(b)
	off, _ := b.M.Field("_SEGMENT_HEAP", "SegContexts")
	list, _ := b.M.Field("_HEAP_SEG_CONTEXT", "SegmentListHead")
	first, err := kernel.Space.Pointer(paged.At + mem.VA(off+list))
	if err != nil {
		t.Fatal(err)
	}
	b.M.Put64(head, uint64(first))
	b.M.Put64(head+8, uint64(first))
	h, err := Open(t.Context(), kernel)
	if err != nil {
		t.Fatal(err)
	}
	a, ok, err := h.At(t.Context(), k.Header)
	if !ok || err != nil || a.Heap.At != paged.At || a.Kind != AreaVS {
		t.Errorf("found %+v, %v, %v", a, ok, err)
	}
}
