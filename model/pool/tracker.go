package pool

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"slices"

	"gokd/model/mem"
)

// Count is what one tag has done in one pool.
type Count struct {
	Allocs, Frees uint64 // since boot; up to build 15063 modulo 2^32
	Live          int64  // Allocs - Frees: allocations not yet freed
	Bytes         int64  // of those allocations
}

// Usage is one tag's use of the pools.
type Usage struct {
	Tag             Tag
	Nonpaged, Paged Count
}

// Limits of the tracker tables, far above what a machine can have: the table
// starts with 2048 entries and a registry value can enlarge it.
const (
	maxTrackers   = 1 << 20
	maxProcessors = 2048
)

// trackerTable is one table to add up.
type trackerTable struct {
	at    mem.VA
	count uint64
}

// Usages yields how much each tag holds, sorted by tag. Windows keeps a table
// per processor (ExPoolTagTables) besides the first one (PoolTrackTable) and an
// expansion; a block allocated on one processor and freed on another makes one
// row too large and another too small, so only the sums over all tables mean
// anything, and they are signed.
//
// An error comes first for each table of which a part could not be read: the
// rows that follow are then too small or too large. A *MissingError, a
// *model.GlobalError or an error of the context stands alone.
func (p *Pool) Usages(ctx context.Context) iter.Seq2[Usage, error] {
	return p.usages(ctx, func() ([]trackerTable, error) { return p.trackerTables() }, p.k.Space)
}

func (p *Pool) usages(ctx context.Context, tables func() ([]trackerTable, error), space *mem.Space) iter.Seq2[Usage, error] {
	return func(yield func(Usage, error) bool) {
		list, err := tables()
		if err != nil {
			yield(Usage{}, err)
			return
		}
		rows, partly, err := p.addUp(ctx, space, list)
		if err != nil {
			yield(Usage{}, err)
			return
		}
		for _, e := range partly {
			if !yield(Usage{}, e) {
				return
			}
		}
		for _, u := range rows {
			if !yield(u, nil) {
				return
			}
		}
	}
}

// trackerTables lists the distinct tables of the machine.
func (p *Pool) trackerTables() ([]trackerTable, error) {
	const what = "pool tracker table"
	if p.k.Triage() {
		return nil, &MissingError{what, errors.New("a triage dump has no tables of the pool")}
	}
	first, err := p.tableVariable(what, "PoolTrackTable")
	if err != nil {
		return nil, err
	}
	list := []trackerTable{first}
	perCPU, err := p.k.Global("ExPoolTagTables")
	if err != nil {
		return nil, err
	}
	for i := range min(max(int(p.k.Source.Processors), 1), maxProcessors) {
		at, err := p.k.Space.Pointer(perCPU + mem.VA(8*i))
		if err != nil {
			return nil, &MissingError{fmt.Sprintf("address of processor %d's pool tracker table (nt!ExPoolTagTables)", i), err}
		}
		same := func(t trackerTable) bool { return t.at == at }
		if at != 0 && !slices.ContainsFunc(list, same) {
			list = append(list, trackerTable{at, first.count}) // all have one size
		}
	}
	extra, err := p.pointerVariable(what+" expansion", "PoolTrackTableExpansion")
	if err != nil || extra == 0 {
		return list, err
	}
	count, err := p.countVariable(what+" expansion", "PoolTrackTableExpansionSize", maxTrackers)
	return append(list, trackerTable{extra, count}), err
}

// tableVariable reads where a tracker table lies: its address is in the variable
// of that name, the number of its entries in the one with Size behind it.
func (p *Pool) tableVariable(what, name string) (t trackerTable, err error) {
	if t.at, err = p.pointerVariable(what, name); err != nil {
		return t, err
	}
	if t.count, err = p.countVariable(what, name+"Size", maxTrackers); err != nil {
		return t, err
	}
	if t.at == 0 || t.count == 0 {
		return t, &MissingError{what, fmt.Errorf("nt!%s names %d entries at %#x", name, t.count, uint64(t.at))}
	}
	return t, nil
}

// pointerVariable reads a kernel variable that holds an address.
func (p *Pool) pointerVariable(what, name string) (mem.VA, error) {
	at, err := p.k.Global(name)
	if err != nil {
		return 0, err
	}
	v, err := p.k.Space.Pointer(at)
	if err != nil {
		return 0, &MissingError{fmt.Sprintf("address of the %s (nt!%s)", what, name), err}
	}
	return v, nil
}

// countVariable reads a kernel variable that holds a number of entries.
func (p *Pool) countVariable(what, name string, limit uint64) (uint64, error) {
	at, err := p.k.Global(name)
	if err != nil {
		return 0, err
	}
	n, err := p.k.Space.Uint64(at)
	if err != nil {
		return 0, &MissingError{fmt.Sprintf("size of the %s (nt!%s)", what, name), err}
	}
	if n > limit {
		return 0, fmt.Errorf("nt!%s at %#x: %#x entries: %w", name, uint64(at), n, ErrLimit)
	}
	return n, nil
}

// addUp sums tables per tag. partly tells of parts that are missing; err is set
// where nothing at all could be read.
func (p *Pool) addUp(ctx context.Context, space *mem.Space, list []trackerTable) (rows []Usage, partly []error, err error) {
	sums := map[Tag]Usage{}
	l := &p.layout
	var missing, total uint64
	for _, t := range list {
		part, err := readTable(ctx, space, "pool tracker table", t.at, t.count, l.trackSize, func(e []byte) {
			key := uint32(l.key.get(e))
			if key == 0 {
				return // an unused slot
			}
			tag, _ := TagOf(key)
			u := sums[tag]
			u.Tag = tag
			l.nonpaged.add(e, &u.Nonpaged)
			l.paged.add(e, &u.Paged)
			sums[tag] = u
		})
		if err != nil {
			return nil, nil, err
		}
		total += t.count
		if part != nil {
			missing += part.Entries
			partly = append(partly, part)
		}
	}
	if missing == total && total > 0 {
		return nil, nil, &MissingError{"pool tracker table", errors.Unwrap(partly[0])}
	}
	for _, u := range sorted(sums) {
		l.nonpaged.finish(&u.Nonpaged)
		l.paged.finish(&u.Paged)
		// The row for what did not fit is there from the start and says nothing
		// while it is empty.
		if u.Nonpaged != (Count{}) || u.Paged != (Count{}) {
			rows = append(rows, u)
		}
	}
	return rows, partly, nil
}

func (c counters) add(entry []byte, to *Count) {
	to.Allocs += c.allocs.get(entry)
	to.Frees += c.frees.get(entry)
	to.Bytes += c.bytes.signed(entry)
}

// finish works out what is live. The sums are right modulo the counter's size:
// a processor that frees what others allocated counts below zero. No machine
// holds two thousand million blocks of a tag, so their difference is exact.
func (c counters) finish(n *Count) {
	if c.allocs.size == 4 {
		n.Allocs, n.Frees = uint64(uint32(n.Allocs)), uint64(uint32(n.Frees))
		n.Live = int64(int32(n.Allocs - n.Frees))
		return
	}
	n.Live = int64(n.Allocs - n.Frees)
}

// plus adds two uses of one tag.
func (u Usage) plus(v Usage) Usage {
	u.Nonpaged, u.Paged = u.Nonpaged.plus(v.Nonpaged), u.Paged.plus(v.Paged)
	return u
}

func (n Count) plus(m Count) Count {
	return Count{n.Allocs + m.Allocs, n.Frees + m.Frees, n.Live + m.Live, n.Bytes + m.Bytes}
}

// sorted gives rows by tag.
func sorted(rows map[Tag]Usage) []Usage {
	list := make([]Usage, 0, len(rows))
	for _, u := range rows {
		list = append(list, u)
	}
	slices.SortFunc(list, func(a, b Usage) int { return a.Tag.Compare(b.Tag) })
	return list
}

// tableChunk is how much of a table is read at once, in bytes.
const tableChunk = 1 << 16

// readTable visits the entries of a table. Where a page of it is missing the
// entries that touch the page are counted and skipped. The error is ctx's.
func readTable(ctx context.Context, space *mem.Space, what string, at mem.VA, count, stride uint64, visit func([]byte)) (*PartError, error) {
	part := PartError{What: what, At: at}
	if at == 0 || count == 0 {
		return nil, nil
	}
	if size := count * stride; uint64(at)+size < uint64(at) {
		part.Entries, part.Err = count, fmt.Errorf("%d entries reach past the end of memory", count)
		return &part, nil
	}
	buf := make([]byte, max(tableChunk/stride, 1)*stride)
	for i := uint64(0); i < count; {
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
		where := at + mem.VA(i*stride)
		want := min(uint64(len(buf)), (count-i)*stride)
		n, err := space.ReadVirtual(buf[:want], where)
		whole := uint64(n) / stride
		for e := range whole {
			visit(buf[e*stride : (e+1)*stride])
		}
		i += whole
		if err == nil || i >= count {
			continue
		}
		// The hole lasts to the end of its page at least; entries that begin
		// before that are lost.
		hole := (where + mem.VA(n)).Page() + mem.PageSize
		lost := min((uint64(hole-at)+stride-1)/stride, count)
		part.Entries += lost - i
		if part.Err == nil {
			part.Err = err
		}
		i = lost
	}
	if part.Err == nil {
		return nil, nil
	}
	return &part, nil
}
