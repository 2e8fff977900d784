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
}

// Leaves visits every page that the tables map in [from, to], both inclusive,
// in order of address, and stops when visit returns false. Ranges that no entry
// maps are skipped without a visit; an entry that exists but leads nowhere
// (paged out, table not in the dump) is visited with its fault. It costs one
// read per page table. The error is ctx's, or nil.
func (s *Space) Leaves(ctx context.Context, from, to VA, visit func(Leaf) bool) error {
	if s.flat != nil || to < from {
		return nil
	}
	w := &leafWalk{s: s, ctx: ctx, from: from, to: to, visit: visit}
	w.table(s.root, LevelPXE, 0)
	return ctx.Err()
}

type leafWalk struct {
	s        *Space
	ctx      context.Context
	from, to VA
	visit    func(Leaf) bool
}

// table visits what one page table maps; base is the address its first entry
// maps. It reports false to end the walk.
func (w *leafWalk) table(at PA, level Level, base VA) bool {
	if w.ctx.Err() != nil {
		return false
	}
	shift := 12 + 9*(uint(level)-1)
	span := uint64(1) << shift
	var b [PageSize]byte
	if _, err := w.s.phys.ReadPhysical(b[:], at); err != nil {
		f := &Fault{Kind: NotCaptured, VA: base, PA: at, Level: level, Why: "page table not in the dump"}
		return w.visit(Leaf{VA: base, Size: span << 9, Err: f})
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
		if e := binary.LittleEndian.Uint64(b[8*i:]); e != 0 && !w.entry(e, level, va, span) {
			return false
		}
	}
	return true
}

func (w *leafWalk) entry(e uint64, level Level, va VA, span uint64) bool {
	if level == LevelPTE {
		page, zero, err := w.s.leaf(e, va, 0)
		switch f, _ := err.(*Fault); {
		case f != nil:
			return w.visit(Leaf{VA: va, Size: span, Err: f})
		case zero:
			return true // never touched: it holds nothing
		}
		return w.visit(Leaf{VA: va, Size: span, PA: page})
	}
	next := PA(e & entryMask)
	if e&bitValid == 0 {
		page, zero, err := w.s.leaf(e, va, maxProtoDepth)
		if err != nil || zero {
			return w.visit(Leaf{VA: va, Size: span, Err: &Fault{Kind: NotPresent, VA: va, Level: level, Entry: e, Why: "page table not in memory"}})
		}
		next = page
	} else if e&bitLarge != 0 && level < LevelPXE {
		return w.visit(Leaf{VA: va, Size: span, PA: next &^ PA(span-1)})
	}
	if next == w.s.root {
		return true // the self-map: page tables, not memory of their own
	}
	return w.table(next, level-1, va)
}
