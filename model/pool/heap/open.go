package heap

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"sync"

	"gokd/model"
	"gokd/model/mem"
)

const (
	pageSize = mem.PageSize

	// unit is the unit of chunk sizes and of _POOL_HEADER.BlockSize on x64, in bytes.
	unit = 0x10

	// units is how many units a segment has, and descriptors: UnitSize and the
	// index of the first descriptor are bytes.
	units = 256

	// heapSignature is _SEGMENT_HEAP.Signature (MemProcFS; published research).
	heapSignature = 0xddeeddee
)

// Heaps is the pool manager's state: the keys and every heap. Its methods are
// safe for concurrent use.
type Heaps struct {
	HeapKey, LfhKey uint64
	List            []*Heap
	Trouble         []error // heaps and lists that could not be read, in words
	ListsLost       uint64  // freed blocks on lists that could not be followed: they look allocated

	k        *model.Kernel
	lay      *layout
	constant uint64 // mixed into the signatures of segments, by this build
	seen     map[heapPlace]bool

	mu    sync.Mutex // protects the fields below
	index *index
}

// heapPlace tells heaps apart: those of sessions share addresses.
type heapPlace struct {
	at      mem.VA
	session uint32
	private bool
}

// Open finds the heaps of a kernel. ErrRefused, with what did not check out,
// where the structures of this kernel are not known or its heaps do not prove
// themselves: the keys are proved by the signatures of segments, which are made
// from them.
func Open(ctx context.Context, k *model.Kernel) (*Heaps, error) {
	refuse := func(err error) (*Heaps, error) {
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
		return nil, fmt.Errorf("%w: %w", ErrRefused, err)
	}
	lay, err := newLayout(k)
	if err != nil {
		return refuse(err)
	}
	h := &Heaps{k: k, lay: lay, seen: map[heapPlace]bool{}}
	state, err := k.Global("ExPoolState")
	if err != nil {
		return refuse(err)
	}
	if err := h.readKeys(state); err != nil {
		return refuse(err)
	}
	if err := h.readRoots(ctx, state); err != nil {
		return refuse(err)
	}
	if err := h.prove(ctx); err != nil {
		return refuse(err)
	}
	h.readSessions(ctx)
	h.readCached(ctx, state)
	return h, ctx.Err()
}

// maxTrouble bounds what is remembered of a machine that is damaged everywhere.
const maxTrouble = 64

func (h *Heaps) trouble(err error) {
	switch n := len(h.Trouble); {
	case n < maxTrouble:
		h.Trouble = append(h.Trouble, err)
	case n == maxTrouble:
		h.Trouble = append(h.Trouble, errors.New("further trouble with the heaps is left out"))
	}
}

// readKeys reads the keys from nt!RtlpHpHeapGlobals and from where the manager's
// state points; where both are there, they must agree.
func (h *Heaps) readKeys(state mem.VA) error {
	at, err := h.k.Global("RtlpHpHeapGlobals")
	bySymbol := err == nil
	named, perr := h.k.Space.Pointer(state + mem.VA(h.lay.globals.off))
	byPointer := perr == nil && named != 0
	switch {
	case !bySymbol && !byPointer && perr != nil:
		return fmt.Errorf("heap keys: %w", errors.Join(err, perr))
	case !bySymbol && !byPointer:
		return fmt.Errorf("heap keys: %w, and _EX_POOL_HEAP_MANAGER_STATE.HeapManager.Globals at %#x is null", err, uint64(state))
	case bySymbol && byPointer && at != named:
		return fmt.Errorf("heap keys: nt!RtlpHpHeapGlobals is at %#x, HeapManager.Globals names %#x", uint64(at), uint64(named))
	case !bySymbol:
		at = named
	}
	h.HeapKey, h.LfhKey, err = h.keysAt(h.k.Space, at)
	return err
}

// keysAt reads the keys of a _RTLP_HP_HEAP_GLOBALS.
func (h *Heaps) keysAt(space *mem.Space, at mem.VA) (heapKey, lfhKey uint64, err error) {
	heapKey, err = space.Uint64(at + mem.VA(h.lay.heapKey.off))
	if err == nil {
		lfhKey, err = space.Uint64(at + mem.VA(h.lay.lfhKey.off))
	}
	if err != nil {
		err = fmt.Errorf("_RTLP_HP_HEAP_GLOBALS at %#x: %w", uint64(at), err)
	}
	return heapKey, lfhKey, err
}

// readRoots reads the heaps of the pool nodes and the special heaps.
func (h *Heaps) readRoots(ctx context.Context, state mem.VA) error {
	l := h.lay
	n, err := h.k.Space.Uint32(state + mem.VA(l.numberOfPools.off))
	if err != nil {
		return fmt.Errorf("_EX_POOL_HEAP_MANAGER_STATE.NumberOfPools: %w", err)
	}
	if n == 0 || n > l.maxNodes {
		return fmt.Errorf("_EX_POOL_HEAP_MANAGER_STATE.NumberOfPools at %#x is %d, not 1 to %d", uint64(state)+uint64(l.numberOfPools.off), n, l.maxNodes)
	}
	for node := range n {
		base := state + mem.VA(l.poolNode) + mem.VA(node)*mem.VA(l.nodeSize) + mem.VA(l.heaps)
		h.addHeaps("_EX_HEAP_POOL_NODE.Heaps", base, min(l.heapsOfNode, uint32(PagedOther)+1), func(i uint32) Heap {
			return Heap{Role: Role(i), Node: int(node), IsPaged: Role(i) >= Paged, Space: h.k.Space}
		})
		if err := ctx.Err(); err != nil {
			return err
		}
	}
	// The order is that of a node's heaps (MemProcFS).
	h.addHeaps("_EX_POOL_HEAP_MANAGER_STATE.SpecialHeaps", state+mem.VA(l.special), l.specials, func(i uint32) Heap {
		return Heap{Role: Special, Node: int(i), IsPaged: Role(i) >= Paged, Space: h.k.Space}
	})
	if len(h.List) == 0 {
		return errors.Join(append([]error{fmt.Errorf("none of the heaps that the pool manager at %#x names can be read", uint64(state))}, h.Trouble...)...)
	}
	return nil
}

// addHeaps reads the heaps that an array of pointers names; the null ones are
// none. as tells what the heap at an index serves.
func (h *Heaps) addHeaps(what string, array mem.VA, count uint32, as func(i uint32) Heap) {
	space := as(0).Space
	b, err := space.Bytes(array, int(min(count, units))*8)
	if err != nil {
		h.trouble(fmt.Errorf("%s: %w", what, err))
	}
	for i := range uint32(len(b) / 8) {
		at := mem.VA(binary.LittleEndian.Uint64(b[8*i:]))
		if at == 0 {
			continue
		}
		p := as(i)
		p.At = at
		place := heapPlace{at: at, session: p.Session, private: p.Private}
		if h.seen[place] {
			h.trouble(&DamageError{What: what, At: array + mem.VA(8*i), Area: at, Why: "it names a heap that was read before"})
			continue
		}
		h.seen[place] = true
		if err := h.readHeap(&p); err != nil {
			h.trouble(fmt.Errorf("%s heap, which %s names: %w", p.Role, what, err))
			continue
		}
		h.List = append(h.List, &p)
	}
}

// readHeap reads what a _SEGMENT_HEAP says of itself and its contexts.
func (h *Heaps) readHeap(p *Heap) error {
	l := &h.lay.heap
	damaged := func(why string, args ...any) error {
		return &DamageError{What: "_SEGMENT_HEAP", At: p.At, Area: p.At, Why: fmt.Sprintf(why, args...)}
	}
	if uint64(p.At)%pageSize != 0 || !kernelAddress(p.At) {
		return damaged("no page of kernel memory begins there")
	}
	b, err := p.Space.Bytes(p.At, int(l.size))
	if err != nil {
		return fmt.Errorf("_SEGMENT_HEAP at %#x: %w", uint64(p.At), err)
	}
	if s := l.signature.get(b); s != heapSignature {
		return damaged("its signature is %#x, not %#x", s, uint64(heapSignature))
	}
	p.Reserved, p.Committed = l.reserved.get(b), l.committed.get(b)
	for i := range uint32(contexts) {
		off := l.contexts + i*h.lay.context.size
		if uint64(off)+uint64(h.lay.context.size) > uint64(len(b)) {
			return damaged("context %d lies behind its end", i)
		}
		p.contexts[i] = h.readContext(p, p.At+mem.VA(off), b[off:off+h.lay.context.size])
	}
	return nil
}

// kernelAddress tells whether an address lies in the upper half.
func kernelAddress(at mem.VA) bool { return at >= 0xffff_8000_0000_0000 }
