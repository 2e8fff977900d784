package mem

import (
	"context"
	"encoding/binary"
)

// Leaf is one piece of a mapped range: a page that can be read, or one that
// cannot and why.
type Leaf struct {
	VA   VA
	Size uint64 // bytes; several pages where a large page or a hole covers them
	PA   PA     // where Err is nil
	Err  *Fault // why the piece cannot be read; nil for a page in memory

	Entry uint64 // the last entry of the walk; 0 where a table could not be read
	// Writable: every level lets the processor write, or would once a page in
	// transition were valid again.
	Writable bool
}

// Leaves visits every page that the tables map in [from, to], both inclusive,
// in order of address, and stops when visit returns false. A large page or a
// hole that reaches beyond the range is cut at its pages. Ranges that no entry
// maps, and pages never touched, are skipped without a visit; an entry that
// exists but leads nowhere (paged out, table not in the dump) is visited with
// its fault. It costs one read per page table, and a table that the walk comes
// to again and again is a fault too, so that tables which form a loop end the
// walk. The error is ctx's, or nil.
func (s *Space) Leaves(ctx context.Context, from, to VA, visit func(Leaf) bool) error {
	if s.flat != nil || to < from {
		return nil
	}
	w := &leafWalk{s: s, ctx: ctx, from: from, to: to, visit: visit, seen: map[PA]uint8{}}
	w.table(s.root, LevelPXE, 0, true)
	return ctx.Err()
}

type leafWalk struct {
	s        *Space
	ctx      context.Context
	from, to VA
	visit    func(Leaf) bool
	seen     map[PA]uint8 // how often each table was walked
}

// maxTableVisits limits how often one page serves as a table. Windows uses each
// once, but for the self-map, which is not followed. With the number of pages
// in the dump this bounds the walk: tables that all point at one another would
// make 512^4 steps otherwise.
const maxTableVisits = 4

// table visits what one page table maps; base is the address its first entry
// maps. It reports false to end the walk.
// write tells whether all entries above let the processor write.
func (w *leafWalk) table(at PA, level Level, base VA, write bool) bool {
	if w.ctx.Err() != nil {
		return false
	}
	shift := 12 + 9*(uint(level)-1)
	span := uint64(1) << shift
	if w.seen[at] == maxTableVisits {
		return w.hole(&Fault{Kind: NotPresent, VA: base, PA: at, Level: level, Why: "the page tables form a loop"}, span<<9)
	}
	w.seen[at]++
	var b [PageSize]byte
	if _, err := w.s.phys.ReadPhysical(b[:], at); err != nil {
		return w.hole(&Fault{Kind: NotCaptured, VA: base, PA: at, Level: level, Why: "page table not in the dump"}, span<<9)
	}
	for i := range uint64(entriesPerTab) {
		va := base + VA(i<<shift)
		if level == LevelPXE && i >= 256 {
			va |= 0xffff << 48
		}
		if va > w.to {
			return true
		}
		if va+VA(span-1) < w.from {
			continue
		}
		if e := binary.LittleEndian.Uint64(b[8*i:]); e != 0 && !w.entry(e, level, va, span, write) {
			return false
		}
	}
	return true
}

func (w *leafWalk) entry(e uint64, level Level, va VA, span uint64, write bool) bool {
	write = write && writable(e)
	if level == LevelPTE {
		page, zero, err := w.s.leaf(e, va, 0)
		switch f, _ := err.(*Fault); {
		case f != nil:
			return w.leaf(Leaf{VA: va, Size: span, Err: f, Entry: e, Writable: write})
		case zero:
			return true // never touched: it holds nothing
		}
		return w.leaf(Leaf{VA: va, Size: span, PA: page, Entry: e, Writable: write})
	}
	next := PA(e & entryMask)
	switch {
	case e&bitValid == 0:
		page, err := w.s.upper(e, va, level)
		if f, _ := err.(*Fault); f != nil {
			if f.Why == "" {
				return true // no table was made: nothing below it was touched
			}
			return w.leaf(Leaf{VA: va, Size: span, Err: f, Entry: e, Writable: write})
		}
		next = page
	case e&bitLarge != 0 && level < LevelPXE:
		return w.leaf(Leaf{VA: va, Size: span, PA: next &^ PA(span-1), Entry: e, Writable: write})
	}
	if level == LevelPXE && next == w.s.root {
		return true // the self-map: page tables, not memory of their own
	}
	return w.table(next, level-1, va, write)
}

// writable reads the right to write from an entry: the hardware's bit, or bit 2
// of the protection that software keeps in bits 5-9 (the codes with that bit
// are those of pages that can be written).
func writable(e uint64) bool {
	if e&bitValid != 0 {
		return e&bitWrite != 0
	}
	return e>>5&4 != 0
}

// hole visits all that a table would have mapped.
func (w *leafWalk) hole(f *Fault, size uint64) bool {
	if f.Level == LevelPXE {
		// The root maps two halves with a gap of addresses between them.
		f.VA = w.from.Page()
		if size = uint64(w.to-f.VA)&^(PageSize-1) + PageSize; size == 0 {
			size = -PageSize & (1<<64 - 1) // the whole address space: one page short
		}
		return w.visit(Leaf{VA: f.VA, Size: size, Err: f})
	}
	return w.leaf(Leaf{VA: f.VA, Size: size, Err: f})
}

// leaf cuts a piece at the range's first and last page and visits it.
func (w *leafWalk) leaf(l Leaf) bool {
	// One table of large pages covers 1 GB: looking at the context per table
	// alone would keep an interrupt waiting.
	if l.Size > PageSize && w.ctx.Err() != nil {
		return false
	}
	last := l.VA + VA(l.Size-1)
	if first := w.from.Page(); l.VA < first {
		cut := uint64(first - l.VA)
		l.VA, l.Size = l.VA+VA(cut), l.Size-cut
		if l.Err == nil {
			l.PA += PA(cut)
		}
	}
	if end := w.to | (PageSize - 1); last > end {
		l.Size -= uint64(last - end)
	}
	return w.visit(l)
}
