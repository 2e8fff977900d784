package pdb

import (
	"fmt"
	"iter"
	"runtime"
	"sync"

	"gokd/model/types"
)

// A walk over all types takes the stream in parts, of which some are made ahead
// while the consumer looks at the types of one. What was made ahead and waits is
// bounded: so many parts of so many entries each.
const (
	partSize    = 1 << 18 // bytes of records, about
	partEntries = 1 << 16 // entries of field lists that are made ahead in a part
	maxAhead    = 4       // parts
)

// effort bounds the entries of field lists that one walk over all types reads:
// far more than there are, and no multiple of them without end.
func (t *typeStream) effort() int { return 1<<20 + 4*int(min(t.s.size, 1<<28)) }

// Types yields every class, structure, union and enumeration that the database
// defines, in its order; two may have one name. A damaged one is an error that
// names it, and the walk goes on; where the records themselves end early the
// last error says so. What only pointers lead to is incomplete here: a name
// without size and fields, for [File.Type] to complete.
//
// Types of a large database are made ahead on goroutines, which have ended when
// the walk has.
func (f *File) Types() iter.Seq2[*types.Type, error] {
	return func(yield func(*types.Type, error) bool) {
		if f.tpi == nil {
			return
		}
		x := f.tpi.scan()
		if f.tpi.walk(x, yield) && x.damage != nil {
			yield(nil, fmt.Errorf("type stream: %w", x.damage))
		}
	}
}

// made is a type, or why there is none.
type made struct {
	t   *types.Type
	err error
}

// walk visits all definitions in their order; false where yield wants no more.
//
// Each part is made as if it were the only one. That this comes to the same as
// one after the other shows when its turn comes: if it took more than is left,
// it is made again.
func (t *typeStream) walk(x *typeIndex, yield func(*types.Type, error) bool) bool {
	limits := t.parts(x)
	left := t.effort()
	var own maker
	if len(limits) == 2 { // one part: nothing to be ahead of
		_, more := own.take(t, x, limits[0], limits[1], &left, yield)
		return more
	}
	ahead := min(maxAhead, runtime.GOMAXPROCS(0))
	idle := make(chan *maker, ahead)
	for range ahead {
		idle <- &maker{}
	}
	results := inOrder(len(limits)-1, ahead, func(i int) madePart {
		m := <-idle
		defer func() { idle <- m }()
		return m.ahead(t, x, limits[i], limits[i+1])
	})
	for i, r := range results {
		if r.spent > min(left, 2*partEntries) {
			r = madePart{next: limits[i]} // not what it is in its turn
		}
		left -= r.spent
		for _, m := range r.all {
			if !yield(m.t, m.err) {
				return false
			}
		}
		if r.next == limits[i+1] {
			continue
		}
		if _, more := own.take(t, x, r.next, limits[i+1], &left, yield); !more {
			return false
		}
	}
	return true
}

// madePart is what was made of a part: of its front, where that was enough.
type madePart struct {
	all   []made
	next  uint32 // number of the first record not looked at
	spent int    // of the decoder's limit
}

// maker makes one part after the other, with the same tables.
type maker struct {
	d    *decoder
	part part
}

// ahead makes a part, or as much of it as may wait.
func (m *maker) ahead(t *typeStream, x *typeIndex, from, to uint32) madePart {
	const limit = 2 * partEntries
	var r madePart
	left := limit
	r.next, _ = m.take(t, x, from, to, &left, func(typ *types.Type, err error) bool {
		r.all = append(r.all, made{typ, err})
		return left > limit-partEntries
	})
	r.spent = limit - left
	return r
}

// inOrder calls do with every number below n, on goroutines of its own for as
// many numbers at once as ahead says, and yields what it returns in order. When
// it returns, no call of do is under way.
func inOrder[T any](n, ahead int, do func(int) T) iter.Seq2[int, T] {
	return func(yield func(int, T) bool) {
		var wg sync.WaitGroup
		defer wg.Wait()
		results := make([]chan T, ahead)
		start := func(i int) {
			c := make(chan T, 1) // so that do ends even if nobody wants its result
			results[i%ahead] = c
			wg.Go(func() { c <- do(i) })
		}
		for i := range min(n, ahead) {
			start(i)
		}
		for i := range n {
			r := <-results[i%ahead]
			if i+ahead < n {
				start(i + ahead)
			}
			if !yield(i, r) {
				return
			}
		}
	}
}

// parts gives the numbers of the records, from 0, at which parts begin, and the
// count of all. Parts begin at marks.
func (t *typeStream) parts(x *typeIndex) []uint32 {
	limits := []uint32{0}
	last := t.from
	for i, off := range x.marks {
		if off-last >= partSize {
			limits = append(limits, uint32(i)*markEvery)
			last = off
		}
	}
	return append(limits, x.count)
}

// take visits the definitions among the records from one number to another,
// at the end of a part, and counts against left. It returns the number of the
// first record that it did not look at, and whether yield wants more.
func (m *maker) take(t *typeStream, x *typeIndex, from, to uint32, left *int, yield func(*types.Type, error) bool) (uint32, bool) {
	p := &m.part
	if err := p.read(t, x, from, to); err != nil { // the scan has read it, so the file changed
		return to, yield(nil, fmt.Errorf("type stream: %w", err))
	}
	if m.d == nil {
		m.d = newDecoder(t, false, 0)
		m.d.part = p
	}
	d := m.d
	d.reset(*left)
	// The decoder keeps what it made, and forgets it before that is much.
	since := *left
	for n := from; n < to; n++ {
		if len(d.nodes) > keepNodes/4 || d.left < since-keepFields/2 {
			d.reset(d.left)
			since = d.left
		}
		ti := t.begin + n
		leaf, data, _ := p.record(ti)
		if !isUDT(leaf) {
			continue
		}
		u, err := parseUDT(leaf, data)
		if err == nil && u.forward() {
			continue
		}
		var typ *types.Type
		if err != nil {
			err = fmt.Errorf("unreadable type %#x: %w", ti, err)
		} else {
			typ, err = d.get(ti, 0)
		}
		*left = d.left
		if !yield(typ, err) {
			return n + 1, false
		}
	}
	return to, true
}
