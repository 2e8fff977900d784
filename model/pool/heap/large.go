package heap

import (
	"context"
	"fmt"
	"iter"
	"slices"

	"gokd/model"
	"gokd/model/mem"
)

// Large is one allocation of a heap's LargeAllocMetadata.
type Large struct {
	Heap   *Heap
	At     mem.VA
	Pages  uint64
	Unused uint64 // bytes at its end that were not asked for
}

// maxLarge bounds the large allocations of one heap.
const maxLarge = 1 << 20

// LargeOf yields the large allocations of a heap, by address, from the tree of
// _HEAP_LARGE_ALLOC_DATA at _SEGMENT_HEAP.LargeAllocMetadata. An error stands for
// a part of the tree that could not be followed.
func (h *Heaps) LargeOf(ctx context.Context, of *Heap) iter.Seq2[Large, error] {
	return func(yield func(Large, error) bool) {
		if !h.lay.large.known {
			yield(Large{}, fmt.Errorf("large allocations of the heap at %#x: %w", uint64(of.At), model.ErrNoLayout))
			return
		}
		w := largeWalk{h: h, heap: of, l: &h.lay.large, seen: map[mem.VA]bool{}}
		w.walk(ctx)
		slices.SortFunc(w.found, func(a, b Large) int { return compare(a.At, b.At) })
		for _, g := range w.found {
			if !yield(g, nil) {
				return
			}
		}
		for _, err := range w.errs {
			if !yield(Large{}, err) {
				return
			}
		}
	}
}

func compare(a, b mem.VA) int {
	switch {
	case a < b:
		return -1
	case a > b:
		return 1
	}
	return 0
}

// LargeAt finds the large allocation that holds an address.
func (h *Heaps) LargeAt(ctx context.Context, at mem.VA) (Large, bool, error) {
	x, err := h.built(ctx)
	if err != nil {
		return Large{}, false, err
	}
	i, ok := slices.BinarySearchFunc(x.large, at, func(g Large, at mem.VA) int {
		switch {
		case at < g.At:
			return 1
		case uint64(at-g.At)/pageSize >= g.Pages:
			return -1
		}
		return 0
	})
	if !ok {
		return Large{}, false, nil
	}
	return x.large[i], true, nil
}

// largeWalk goes through a red-black tree (_RTL_RB_TREE).
type largeWalk struct {
	h     *Heaps
	heap  *Heap
	l     *largeLayout
	seen  map[mem.VA]bool
	found []Large
	errs  []error

	tree    mem.VA
	encoded bool
	form    int // of the links in an encoded tree; 0: not known yet
}

func (w *largeWalk) fail(at mem.VA, err error) {
	if len(w.errs) < maxErrs {
		w.errs = append(w.errs, fmt.Errorf("_HEAP_LARGE_ALLOC_DATA at %#x, of the heap at %#x: %w", uint64(at), uint64(w.heap.At), err))
	}
}

// walk visits every node once. Of an encoded tree the root is mixed with the
// tree's address (published research).
func (w *largeWalk) walk(ctx context.Context) {
	w.tree = w.heap.At + mem.VA(w.h.lay.heap.largeTree)
	b, err := w.heap.Space.Bytes(w.tree, int(w.l.treeSize))
	if err != nil {
		w.fail(w.tree, err)
		return
	}
	root := mem.VA(w.l.root.get(b))
	w.encoded = w.l.encoded.get(b) != 0
	if root == 0 {
		return
	}
	if w.encoded {
		root ^= w.tree
	}
	for todo := []mem.VA{root}; len(todo) > 0; {
		node := todo[len(todo)-1]
		todo = todo[:len(todo)-1]
		switch {
		case ctx.Err() != nil:
			w.fail(node, ctx.Err())
			return
		case w.seen[node]:
			w.fail(node, model.ErrLoop)
			continue
		case len(w.seen) >= maxLarge:
			w.fail(node, model.ErrLimit)
			return
		}
		w.seen[node] = true
		todo = w.visit(node, todo)
	}
}

// visit takes a node in and adds its children to those to be visited.
func (w *largeWalk) visit(node mem.VA, todo []mem.VA) []mem.VA {
	b, g, err := w.read(node)
	if err != nil {
		w.fail(node, err)
	} else {
		w.found = append(w.found, g)
	}
	for _, link := range []field{w.l.right, w.l.left} {
		link.off += w.l.node
		if v := link.get(b); v != 0 {
			todo = append(todo, w.child(node, mem.VA(v)))
		}
	}
	return todo
}

// read reads the allocation whose tree node lies at an address. The low 16 bits
// of its address are no part of it: they tell how much was not asked for. Bytes
// beside an error still have the links.
func (w *largeWalk) read(node mem.VA) ([]byte, Large, error) {
	if !kernelAddress(node) || node%8 != 0 {
		return nil, Large{}, fmt.Errorf("no address of kernel memory")
	}
	b, err := w.heap.Space.Bytes(node-mem.VA(w.l.node), int(w.l.size))
	if err != nil {
		return nil, Large{}, err
	}
	g := Large{Heap: w.heap, At: mem.VA(w.l.address.get(b)) &^ 0xffff, Pages: w.l.pages.get(b), Unused: w.l.unused.get(b)}
	switch {
	case !kernelAddress(g.At):
		return b, Large{}, fmt.Errorf("its VirtualAddress is %#x", uint64(g.At))
	case g.Pages == 0 || g.Pages > (1<<47)/pageSize:
		return b, Large{}, fmt.Errorf("it has %#x pages", g.Pages)
	case g.Unused >= g.Pages*pageSize:
		return b, Large{}, fmt.Errorf("%#x bytes of its %#x pages are said to be unused", g.Unused, g.Pages)
	}
	return b, g, nil
}

// child decodes a link. Sources differ on which links of an encoded tree are
// mixed with what: the form that leads from one allocation to another is taken,
// and kept for the tree.
func (w *largeWalk) child(node, v mem.VA) mem.VA {
	if !w.encoded {
		return v
	}
	forms := [...]mem.VA{1: v, 2: v ^ w.tree, 3: v ^ node}
	if w.form == 0 {
		for i := 1; i < len(forms); i++ {
			if _, _, err := w.read(forms[i]); err == nil && !w.seen[forms[i]] {
				w.form = i
				break
			}
		}
	}
	if w.form == 0 {
		return v
	}
	return forms[w.form]
}
