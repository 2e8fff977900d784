package dumpfmt

import (
	"cmp"
	"container/heap"
	"errors"
	"fmt"
	"io"
	"iter"
	"math"
	"slices"
	"sort"
	"sync"
	"sync/atomic"

	"gokd/model/mem"
)

// Blocks is virtual memory made of captured pieces, as a triage dump has it.
// Pieces may overlap; where they do, the one added first wins. All methods may
// be called concurrently. The zero value is empty and ready.
type Blocks struct {
	index atomic.Pointer[[]segment] // nil after an Add

	mu    sync.Mutex // protects the fields below
	added []block    // in the order of adding
}

// block is a piece: bytes in memory, or a place in a file.
type block struct {
	at   mem.VA
	last mem.VA // address of the last byte: the piece may end at the top
	data []byte // nil for bytes in the file
	f    io.ReaderAt
	off  int64
}

// segment is the part of a block that shows. Segments are sorted and disjoint.
type segment struct {
	at, last mem.VA
	from     *block
}

var _ mem.Virtual = (*Blocks)(nil)

// Add puts bytes at an address, where nothing was added before. The bytes are
// kept, not copied. What would run past the top of the address space is left
// out.
func (b *Blocks) Add(at mem.VA, data []byte) {
	if len(data) > 0 {
		b.add(block{at: at, data: data}, uint64(len(data)))
	}
}

// addFile puts bytes of a file at an address.
func (b *Blocks) addFile(at mem.VA, f io.ReaderAt, off int64, size uint64) {
	if size > 0 {
		b.add(block{at: at, f: f, off: off}, size)
	}
}

func (b *Blocks) add(e block, size uint64) {
	e.last = e.at + mem.VA(size-1)
	if e.last < e.at {
		e.last = math.MaxUint64
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.added = append(b.added, e)
	b.index.Store(nil)
}

// segments gives the index, made anew after an Add.
func (b *Blocks) segments() []segment {
	if s := b.index.Load(); s != nil {
		return *s
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	s := flatten(b.added)
	b.index.Store(&s)
	return s
}

// byOrder is a heap of positions in the order of adding.
type byOrder []int

func (h byOrder) Len() int           { return len(h) }
func (h byOrder) Less(i, j int) bool { return h[i] < h[j] }
func (h byOrder) Swap(i, j int)      { h[i], h[j] = h[j], h[i] }
func (h *byOrder) Push(v any)        { *h = append(*h, v.(int)) }
func (h *byOrder) Pop() any {
	old := *h
	v := old[len(old)-1]
	*h = old[:len(old)-1]
	return v
}

// flatten sweeps over the blocks by address and keeps, at each, the one added
// first. It yields fewer than two segments per block.
func flatten(added []block) []segment {
	added = slices.Clone(added) // later Adds may move the original
	starts := make([]int, len(added))
	for i := range starts {
		starts[i] = i
	}
	slices.SortStableFunc(starts, func(a, b int) int { return cmp.Compare(added[a].at, added[b].at) })
	var out []segment
	var open byOrder
	for at := mem.VA(0); ; {
		for len(open) > 0 && added[open[0]].last < at {
			heap.Pop(&open)
		}
		if len(open) == 0 {
			if len(starts) == 0 {
				return out
			}
			at = max(at, added[starts[0]].at)
		}
		for len(starts) > 0 && added[starts[0]].at <= at {
			heap.Push(&open, starts[0])
			starts = starts[1:]
		}
		top := &added[open[0]]
		if top.last < at { // hidden from its start to its end
			continue
		}
		end := top.last
		if len(starts) > 0 {
			end = min(end, added[starts[0]].at-1)
		}
		if n := len(out); n > 0 && out[n-1].from == top && out[n-1].last+1 == at {
			out[n-1].last = end
		} else {
			out = append(out, segment{at, end, top})
		}
		if end == math.MaxUint64 {
			return out
		}
		at = end + 1
	}
}

// read copies from a segment; p must not reach past its end.
func (s segment) read(p []byte, at mem.VA) error {
	skip := uint64(at - s.from.at)
	if s.from.data != nil {
		copy(p, s.from.data[skip:])
		return nil
	}
	off := s.from.off + int64(skip)
	if n, err := s.from.f.ReadAt(p, off); n < len(p) {
		if err == nil || errors.Is(err, io.EOF) {
			err = io.ErrUnexpectedEOF
		}
		return fmt.Errorf("%#x at file offset %#x: %w", uint64(at), off, err)
	}
	return nil
}

// ReadVirtual copies bytes, across adjacent pieces too. A gap gives a
// *mem.Fault of kind NotCaptured at the first address that is missing.
func (b *Blocks) ReadVirtual(p []byte, at mem.VA) (n int, err error) {
	list := b.segments()
	i := sort.Search(len(list), func(i int) bool { return list[i].last >= at })
	for n < len(p) {
		va := at + mem.VA(n)
		if va < at || i == len(list) || list[i].at > va {
			return n, &mem.Fault{Kind: mem.NotCaptured, VA: va}
		}
		want := uint64(len(p) - n)
		if room := uint64(list[i].last - va); room < want-1 {
			want = room + 1
		}
		if err := list[i].read(p[n:n+int(want)], va); err != nil {
			return n, err
		}
		n += int(want)
		i++
	}
	return n, nil
}

// allPiece bounds the pieces that All yields.
const allPiece = 1 << 20

// All yields everything captured, in ascending order and without overlaps, in
// pieces of at most 1 MiB. Adjacent pieces are not joined: a scan for something
// that may lie across an edge reads it with ReadVirtual. Pieces from the file
// are copies; their bytes are nil where the file cannot be read.
func (b *Blocks) All() iter.Seq2[mem.VA, []byte] {
	return func(yield func(mem.VA, []byte) bool) {
		for _, s := range b.segments() {
			for at := s.at; ; {
				size := uint64(allPiece)
				if room := uint64(s.last - at); room < size-1 {
					size = room + 1
				}
				if !yield(at, s.piece(at, size)) {
					return
				}
				if uint64(s.last-at) < size {
					break
				}
				at += mem.VA(size)
			}
		}
	}
}

func (s segment) piece(at mem.VA, size uint64) []byte {
	if s.from.data != nil {
		skip := uint64(at - s.from.at)
		return s.from.data[skip : skip+size : skip+size]
	}
	p := make([]byte, size)
	if s.read(p, at) != nil {
		return nil
	}
	return p
}
