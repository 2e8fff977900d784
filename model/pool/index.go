package pool

import (
	"context"

	"gokd/model/mem"
	"gokd/model/pool/cell"
)

// Index is every small block of one pool, as one walk found them, kept for the
// session: later questions cost no walk. Its methods are safe for concurrent
// use.
type Index struct {
	p     *Pool
	kind  Kind
	sum   Summary
	cells []cell.Cell
}

// Index walks a pool's small blocks, or gives the index of an earlier walk.
// progress, where not nil, is told how many pages were read. An interrupted walk
// is not kept and gives ctx's error.
func (p *Pool) Index(ctx context.Context, kind Kind, progress func(pages uint64)) (*Index, error) {
	w, err := p.Find(ctx, Query{Kind: kind, Progress: progress})
	if err != nil {
		return nil, err
	}
	x := &Index{p: p, kind: kind}
	for _, r := range w.Ranges() {
		for b, err := range w.Small(ctx, r) {
			if err == nil {
				word, _ := p.k.Space.Uint64(b.Header)
				x.cells = append(x.cells, cell.New(b.Header, b.Size, cell.State(b.State), word))
			}
		}
	}
	x.sum = w.Summary()
	return x, ctx.Err()
}

// Summary is what the walk covered.
func (x *Index) Summary() Summary { return x.sum }

// Len is the number of blocks, of every state.
func (x *Index) Len() int { return len(x.cells) }

// Cells hands out the blocks in walk order, in pieces, until visit reports
// false. The slices are valid for the index's life and must not be changed.
func (x *Index) Cells(visit func(part []cell.Cell) bool) { visit(x.cells) }

// Block gives what is known of a block of the index; what the cell does not
// hold is read from the dump.
func (x *Index) Block(c cell.Cell) Block {
	b := Block{
		Header: c.Header(), Body: c.Header() + mem.VA(HeaderSize), Size: c.Size(), PreviousSize: uint32(c.Previous()),
		Index: c.PoolIndex(), Type: uint16(c.PoolType()), Kind: x.kind, State: State(c.State()), Room: c.Room(),
	}
	b.Tag, b.Protected = TagOf(c.Tag())
	return b
}
