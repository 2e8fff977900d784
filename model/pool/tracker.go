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
	maxTrackers   = 1 << 20 // entries of one table
	maxEntries    = 1 << 24 // of all tables: four times what 2048 processors have
	maxProcessors = 2048
)

// trackerTable is one table to add up.
type trackerTable struct {
	at    mem.VA
	count uint64
}

// Trackers is what the tracker tables say, and what they lack.
type Trackers struct {
	Rows     []Usage // by tag; what did not fit is a row of its own
	Overflow Usage   // the last slot of each table, which counts allocations whose tag found no other
	Tables   int     // that were added up
	Entries  uint64  // of all tables
	Missing  uint64  // entries that could not be read
	Errs     []error // a *PartError for each table of which a part is missing
}

// Whole reports whether every entry was read, so that the sums are exact.
func (t *Trackers) Whole() bool { return t.Missing == 0 }

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
	return func(yield func(Usage, error) bool) { yieldRows(p.Trackers(ctx))(yield) }
}

// yieldRows hands out the errors and then the rows of tables.
func yieldRows(t *Trackers, err error) iter.Seq2[Usage, error] {
	return func(yield func(Usage, error) bool) {
		if err != nil {
			yield(Usage{}, err)
			return
		}
		for _, e := range t.Errs {
			if !yield(Usage{}, e) {
				return
			}
		}
		for _, u := range t.Rows {
			if !yield(u, nil) {
				return
			}
		}
	}
}

// Trackers adds up the machine's tracker tables. The errors are those that
// stand alone in Usages.
func (p *Pool) Trackers(ctx context.Context) (*Trackers, error) {
	list, lost, err := p.trackerTables()
	if err != nil {
		return nil, err
	}
	return p.addUp(ctx, p.k.Space, list, lost)
}

// trackerTables lists the distinct tables of the machine. lost tells of those
// whose address is not in the dump.
func (p *Pool) trackerTables() (list []trackerTable, lost []*PartError, err error) {
	const what = "pool tracker table"
	if p.k.Triage() {
		return nil, nil, &MissingError{what, errors.New("a triage dump has no tables of the pool")}
	}
	first, err := p.tableVariable(what, "PoolTrackTable")
	if err != nil {
		return nil, nil, err
	}
	list = []trackerTable{first}
	perCPU, err := p.k.Global("ExPoolTagTables")
	if err != nil {
		return nil, nil, err
	}
	for i := range min(max(int(p.k.Source.Processors), 1), maxProcessors) {
		slot := perCPU + mem.VA(8*i)
		at, err := p.k.Space.Pointer(slot)
		if err != nil {
			lost = append(lost, &PartError{fmt.Sprintf("address of processor %d's %s", i, what), slot, first.count, err})
			continue
		}
		same := func(t trackerTable) bool { return t.at == at }
		if at != 0 && !slices.ContainsFunc(list, same) {
			list = append(list, trackerTable{at, first.count}) // all have one size
		}
	}
	extra, err := p.pointerVariable(what+" expansion", "PoolTrackTableExpansion")
	if err != nil || extra == 0 {
		return list, lost, err
	}
	count, err := p.countVariable(what+" expansion", "PoolTrackTableExpansionSize", maxTrackers)
	return append(list, trackerTable{extra, count}), lost, err
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

// addUp sums tables per tag. The error is set where nothing at all could be
// read. Where ctx ends the work, what was added up by then stays, and Errs tells
// of the rest.
func (p *Pool) addUp(ctx context.Context, space *mem.Space, list []trackerTable, lost []*PartError) (*Trackers, error) {
	const what = "pool tracker table"
	sums := map[Tag]*Usage{}
	t := &Trackers{Tables: len(list)}
	for _, e := range lost {
		t.lose(e)
		t.Entries += e.Entries
	}
	for _, table := range list {
		t.Entries += table.count
		if t.Entries-t.Missing > maxEntries {
			t.lose(&PartError{what, table.at, table.count, fmt.Errorf("more than %d entries in all tables: %w", maxEntries, ErrLimit)})
			continue
		}
		part, err := p.addTable(ctx, space, table, sums, &t.Overflow)
		if err != nil { // interrupted: what was added up by then stays
			part = &PartError{what, table.at, table.count, err}
		}
		if part != nil {
			t.lose(part)
		}
	}
	switch {
	case t.Missing == t.Entries && ctx.Err() != nil:
		return nil, ctx.Err()
	case t.Missing == t.Entries && t.Entries > 0:
		return nil, &MissingError{what, errors.Unwrap(t.Errs[0])}
	}
	p.layout.finish(&t.Overflow)
	for _, u := range sums {
		p.layout.finish(u)
		// The row for what did not fit is there from the start and says nothing
		// while it is empty.
		if u.Nonpaged != (Count{}) || u.Paged != (Count{}) {
			t.Rows = append(t.Rows, *u)
		}
	}
	slices.SortFunc(t.Rows, func(a, b Usage) int { return a.Tag.Compare(b.Tag) })
	return t, nil
}

func (t *Trackers) lose(e *PartError) {
	t.Missing += e.Entries
	t.Errs = append(t.Errs, e)
}

// addTable adds the rows of one table. Its last slot is never a tag's own: it
// takes what finds no slot (ReactOS expool.c makes the table one larger than
// its hash reaches).
func (p *Pool) addTable(ctx context.Context, space *mem.Space, t trackerTable, sums map[Tag]*Usage, overflow *Usage) (*PartError, error) {
	l := &p.layout
	return readEntries(ctx, space, "pool tracker table", t.at, t.count, l.trackSize, func(e []byte, i uint64) {
		key := uint32(l.key.get(e))
		if key == 0 {
			return // an unused slot
		}
		tag, _ := TagOf(key)
		u := sums[tag]
		if u == nil {
			u = &Usage{Tag: tag}
			sums[tag] = u
		}
		l.add(e, u)
		if i == t.count-1 && i > 0 {
			overflow.Tag = tag
			l.add(e, overflow)
		}
	})
}

// add adds the counters of an entry to a row.
func (l *layout) add(entry []byte, to *Usage) {
	l.nonpaged.add(entry, &to.Nonpaged)
	l.paged.add(entry, &to.Paged)
}

// finish works out what is live of a row.
func (l *layout) finish(u *Usage) {
	l.nonpaged.finish(&u.Nonpaged)
	l.paged.finish(&u.Paged)
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

// readTable is readEntries for visitors that need no numbers.
func readTable(ctx context.Context, space *mem.Space, what string, at mem.VA, count, stride uint64, visit func([]byte)) (*PartError, error) {
	return readEntries(ctx, space, what, at, count, stride, func(e []byte, _ uint64) { visit(e) })
}

// readEntries visits the entries of a table with their numbers. Where a page of
// it is missing the entries that touch the page are counted and skipped. The
// error is ctx's.
func readEntries(ctx context.Context, space *mem.Space, what string, at mem.VA, count, stride uint64, visit func(entry []byte, i uint64)) (*PartError, error) {
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
			visit(buf[e*stride:(e+1)*stride], i+e)
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
