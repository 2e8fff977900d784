package pool

import (
	"cmp"
	"context"
	"errors"
	"slices"

	"gokd/model/mem"
	"gokd/model/pool/cell"
)

// Density is how many bytes of a stretch of a pool are used for what.
type Density struct {
	Used    uint64 // small blocks in use
	Cached  uint64 // small blocks that were freed and wait on a list
	Free    uint64
	Large   uint64 // large allocations
	Missing uint64 // pages that are not in the dump, outside large allocations
}

// Sum adds up what is known of the stretch, missing pages included.
func (d Density) Sum() uint64 { return d.Used + d.Cached + d.Free + d.Large + d.Missing }

func (d *Density) add(e Density) {
	d.Used += e.Used
	d.Cached += e.Cached
	d.Free += e.Free
	d.Large += e.Large
	d.Missing += e.Missing
}

// MapUnit is one stretch of a pool's addresses.
type MapUnit struct {
	At mem.VA // a multiple of the map's unit
	Density
}

// SizeClass sums up blocks of similar size. Every size above 10h is in the class
// whose Most is the next power of two.
type SizeClass struct {
	Most                         uint64 // bytes with the header; 0: large allocations
	Live, Cached, Free           uint64 // blocks; free pieces
	Bytes, CachedBytes, FreeSize uint64
}

// Picture is how a pool's memory is used, as a walk found it.
type Picture struct {
	Kind    Kind
	Classes []SizeClass // by size; the last is that of large allocations
	Unit    uint64      // bytes that a unit of the map stands for
	Units   []MapUnit   // by address; stretches without anything are left out
	Summary Summary     // what was walked
	// LargestFree is the largest free piece, in bytes.
	LargestFree uint64
	// LargeErr says why large allocations are not in it; nil where they are.
	LargeErr error
	// MissingErr says why missing pages have no place on the map; nil where they
	// have.
	MissingErr error
}

// Limits of a picture: units of its map, and pages that are looked up to find
// the missing ones.
const (
	maxUnits  = 1 << 12
	maxLeaves = 1 << 23
)

// Picture gathers how the memory of one pool is used: its small blocks from the
// index, large allocations from their table, missing pages from the page tables.
// The error is that of Index, or ctx's.
func (p *Pool) Picture(ctx context.Context, kind Kind, progress func(pages uint64)) (*Picture, error) {
	x, err := p.Index(ctx, kind, progress)
	if err != nil {
		return nil, err
	}
	pic := &Picture{Kind: kind, Summary: x.Summary(), Classes: make([]SizeClass, len(classBits)+1)}
	for i, b := range classBits {
		pic.Classes[i].Most = 1 << b
	}
	m := newMap()
	x.Cells(func(part []cell.Cell) bool {
		for _, c := range part {
			pic.small(c, &m)
		}
		return ctx.Err() == nil
	})
	pic.large(ctx, p, &m)
	pic.MissingErr = p.missingPages(ctx, kind, &m)
	if ctx.Err() != nil {
		return nil, ctx.Err()
	}
	pic.Unit, pic.Units = m.unit, m.sorted()
	return pic, nil
}

// classBits are the powers of two of the size classes.
var classBits = [...]uint{5, 6, 7, 8, 9, 10, 11, 12, 16, 20}

func classOf(size uint64) int {
	for i, b := range classBits {
		if size <= 1<<b {
			return i
		}
	}
	return len(classBits) - 1 // a chunk is below 1 MB
}

// small takes one small block.
func (pic *Picture) small(c cell.Cell, m *useMap) {
	room := c.Room()
	switch class := &pic.Classes[classOf(room)]; c.State() {
	case cell.Free:
		class.Free++
		class.FreeSize += room
		pic.LargestFree = max(pic.LargestFree, room)
		m.add(c.Header(), room, useFree)
	case cell.Cached:
		class.Cached++
		class.CachedBytes += room
		m.add(c.Header(), room, useCached)
	default:
		class.Live++
		class.Bytes += room
		m.add(c.Header(), room, useUsed)
	}
}

// large takes the large allocations of the pool.
func (pic *Picture) large(ctx context.Context, p *Pool, m *useMap) {
	w, err := p.Find(ctx, Query{Kind: pic.Kind})
	if err != nil {
		pic.LargeErr = err
		return
	}
	class := &pic.Classes[len(pic.Classes)-1]
	for b, err := range w.Large(ctx) {
		var part *PartError
		switch {
		case errors.As(err, &part):
			continue // counted in the summary
		case err != nil:
			pic.LargeErr = err
			continue
		case b.State == Free:
			continue
		}
		class.Live++
		class.Bytes += b.Size
		m.add(b.Header, b.Size, useLarge)
	}
	sum := w.Summary()
	pic.Summary.Large, pic.Summary.LargeMissing, pic.Summary.LargeOdd = sum.Large, sum.LargeMissing, sum.LargeOdd
}

// missingPages takes the pages of the pool's ranges that the page tables map and
// the dump lacks, but those of large allocations.
func (p *Pool) missingPages(ctx context.Context, kind Kind, m *useMap) error {
	ranges, err := p.Ranges(ctx, kind)
	if err != nil {
		return err
	}
	var spans []span
	if t, err := p.bigPages(ctx); err == nil {
		spans = t.spans
	}
	left := maxLeaves
	for _, r := range ranges {
		space := r.space
		if space == nil {
			space = p.k.Space
		}
		err := space.Leaves(ctx, r.Start, r.Last, func(l mem.Leaf) bool {
			left--
			// A table that is not there says nothing of single pages.
			if l.Err != nil && l.Size == pageSize && !inSpans(spans, l.VA) {
				m.add(l.VA, l.Size, useMissing)
			}
			return left > 0
		})
		switch {
		case err != nil:
			return err
		case left <= 0:
			return ErrLimit
		}
	}
	return nil
}

func inSpans(spans []span, at mem.VA) bool {
	_, ok := slices.BinarySearchFunc(spans, at, func(s span, at mem.VA) int {
		switch {
		case s.end <= at:
			return -1
		case s.start > at:
			return 1
		}
		return 0
	})
	return ok
}

// use is what a stretch is used for.
type use uint8

const (
	useUsed use = iota
	useCached
	useFree
	useLarge
	useMissing
	uses
)

// useMap adds up the use of stretches of one size, which doubles when there are
// too many of them, so that its memory is bounded whatever is added.
type useMap struct {
	unit  uint64
	units map[uint64]*[uses]uint64
	at    uint64 // the unit that was asked for last
	last  *[uses]uint64
}

func newMap() useMap { return useMap{unit: pageSize, units: map[uint64]*[uses]uint64{}} }

// add takes a stretch of memory.
func (m *useMap) add(at mem.VA, size uint64, u use) {
	if last := uint64(at) + size; last < uint64(at) {
		size = -uint64(at) // a table that lies
	}
	for size/m.unit > maxUnits/2 {
		m.coarsen()
	}
	for size > 0 {
		i := uint64(at) / m.unit
		n := min(size, (i+1)*m.unit-uint64(at))
		if i == ^uint64(0)/m.unit {
			n = size // the last unit of the address space
		}
		m.find(i)[u] += n
		at, size = at+mem.VA(n), size-n
	}
}

func (m *useMap) find(i uint64) *[uses]uint64 {
	if m.last != nil && m.at == i {
		return m.last
	}
	d := m.units[i]
	if d == nil {
		for len(m.units) >= maxUnits {
			unit := m.unit
			m.coarsen()
			i = i * unit / m.unit
		}
		if d = m.units[i]; d == nil {
			d = new([uses]uint64)
			m.units[i] = d
		}
	}
	m.at, m.last = i, d
	return d
}

// coarsen doubles the unit.
func (m *useMap) coarsen() {
	half := m.units
	m.unit, m.units, m.last = 2*m.unit, make(map[uint64]*[uses]uint64, len(half)), nil
	for i, d := range half {
		if to := m.units[i/2]; to != nil {
			for u := range d {
				to[u] += d[u]
			}
			continue
		}
		m.units[i/2] = d
	}
}

func (m *useMap) sorted() []MapUnit {
	list := make([]MapUnit, 0, len(m.units))
	for i, d := range m.units {
		list = append(list, MapUnit{mem.VA(i * m.unit), Density{d[useUsed], d[useCached], d[useFree], d[useLarge], d[useMissing]}})
	}
	slices.SortFunc(list, func(a, b MapUnit) int { return cmp.Compare(a.At, b.At) })
	return list
}

// Coarser gives the units of a map with a unit that is factor times as large;
// factor is a power of two.
func Coarser(units []MapUnit, unit uint64, factor uint64) []MapUnit {
	var list []MapUnit
	for _, u := range units {
		at := u.At - mem.VA(uint64(u.At)%(unit*factor))
		if n := len(list); n > 0 && list[n-1].At == at {
			list[n-1].add(u.Density)
			continue
		}
		list = append(list, MapUnit{at, u.Density})
	}
	return list
}
