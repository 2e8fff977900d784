package dumpfmt

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"iter"
	"slices"
	"sort"

	"gokd/model/mem"
)

const (
	pageSize  = mem.PageSize
	pageShift = 12
	// maxPFN bounds page frame numbers: x64 and ARM64 have at most 52 bits of
	// physical address.
	maxPFN = 1 << (52 - pageShift)
)

// layout says where in the file the bytes of physical memory lie.
type layout interface {
	// find gives the file offset of the byte at pa, and how many bytes from it
	// on, at most want, lie together both in memory and in the file. n is 0
	// where the page is not in the file.
	find(pa mem.PA, want uint64) (off int64, n uint64, err error)
	// runs yields what the file holds, as mem.Physical.Runs does.
	runs(yield func(mem.Run) bool)
}

// physical reads physical memory out of a file by its layout.
type physical struct {
	f File
	l layout
}

var (
	_ mem.Physical  = (*physical)(nil)
	_ mem.Slicer    = (*physical)(nil)
	_ mem.Offsetter = (*physical)(nil)
	_ mem.Guarder   = (*physical)(nil)
	_ layout        = (*spans)(nil)
)

// ReadPhysical copies bytes; a page that the file lacks gives a *mem.Fault.
func (m *physical) ReadPhysical(p []byte, at mem.PA) (n int, err error) {
	for n < len(p) {
		pa := at + mem.PA(n)
		off, have, err := m.l.find(pa, uint64(len(p)-n))
		if err != nil {
			return n, fmt.Errorf("physical %s: %w", pa, err)
		}
		if have == 0 || pa < at {
			return n, &mem.Fault{Kind: mem.NotCaptured, PA: pa}
		}
		k, err := m.f.ReadAt(p[n:n+int(have)], off)
		n += k
		if uint64(k) < have {
			if err == nil || errors.Is(err, io.EOF) {
				err = io.ErrUnexpectedEOF
			}
			return n, fmt.Errorf("physical %s at file offset %#x: %w", pa, off, err)
		}
	}
	return n, nil
}

// Runs yields the captured extents, adjacent ones as one.
func (m *physical) Runs() iter.Seq[mem.Run] {
	return func(yield func(mem.Run) bool) {
		var last mem.Run
		stopped := false
		m.l.runs(func(r mem.Run) bool {
			if last.Size > 0 && last.Base+mem.PA(last.Size) == r.Base {
				last.Size += r.Size
				return true
			}
			stopped = last.Size > 0 && !yield(last)
			last = r
			return !stopped
		})
		if !stopped && last.Size > 0 {
			yield(last)
		}
	}
}

// SlicePhysical hands out bytes of the memory map; use them under Guard.
func (m *physical) SlicePhysical(at mem.PA, n int) ([]byte, bool) {
	if n < 0 {
		return nil, false
	}
	off, have, err := m.l.find(at, uint64(n))
	if err != nil || have == 0 || have < uint64(n) {
		return nil, false
	}
	return m.f.Slice(off, n)
}

// FileOffset tells where in the file a byte of memory lies.
func (m *physical) FileOffset(at mem.PA) (int64, bool) {
	off, have, err := m.l.find(at, 1)
	return off, err == nil && have > 0
}

// Guard is the package's Guard, for packages that know only the mem contracts.
func (m *physical) Guard(f func() error) error { return Guard(f) }

// span is pages that lie together in memory and in the file.
type span struct {
	pfn   uint64 // first page frame number
	pages uint64
	index uint64 // of the first page among the pages in the file
}

// spans is the layout of a file whose pages follow each other, described by
// runs. The spans are sorted by page frame number and disjoint.
type spans struct {
	first int64 // file offset of page 0
	list  []span
}

func (s *spans) find(pa mem.PA, want uint64) (int64, uint64, error) {
	pfn, in := uint64(pa)>>pageShift, uint64(pa)%pageSize
	i := sort.Search(len(s.list), func(i int) bool { return s.list[i].pfn > pfn }) - 1
	if i < 0 || pfn-s.list[i].pfn >= s.list[i].pages {
		return 0, 0, nil
	}
	e := s.list[i]
	skip := (pfn-e.pfn)<<pageShift + in
	return s.first + int64(e.index<<pageShift+skip), min(want, e.pages<<pageShift-skip), nil
}

func (s *spans) runs(yield func(mem.Run) bool) {
	for _, e := range s.list {
		if !yield(mem.Run{Base: mem.PA(e.pfn << pageShift), Size: e.pages << pageShift}) {
			return
		}
	}
}

// newSpans sorts and joins spans that come in file order, and cuts off those
// beyond the pages that the file holds. Overlapping spans are an error, with
// the index of one of them in the given list: nobody can tell which of the two
// copies is the page's.
//
// The result uses the memory of the given spans where they are in order, as all
// writers leave them: there may be two million.
func newSpans(first int64, given []span, present uint64) (_ *spans, overlap int, err error) {
	s := &spans{first: first}
	var order []uint32 // nil: as given
	if slices.IsSortedFunc(given, byPage) {
		s.list = given[:0]
	} else {
		s.list = make([]span, 0, len(given))
		order = make([]uint32, len(given))
		for i := range order {
			order[i] = uint32(i)
		}
		slices.SortStableFunc(order, func(a, b uint32) int { return byPage(given[a], given[b]) })
	}
	var end uint64 // of the spans so far, in page frame numbers
	for n := range given {
		i := n
		if order != nil {
			i = int(order[n])
		}
		e := given[i]
		if n > 0 && e.pfn < end {
			return nil, i, fmt.Errorf("pages %#x to %#x overlap another run", e.pfn, e.pfn+e.pages)
		}
		end = e.pfn + e.pages
		if e.pages == 0 || e.index >= present {
			continue
		}
		e.pages = min(e.pages, present-e.index)
		if k := len(s.list); k > 0 && s.list[k-1].joins(e) {
			s.list[k-1].pages += e.pages
			continue
		}
		s.list = append(s.list, e)
	}
	return s, 0, nil
}

// byPage orders spans by their first page.
func byPage(a, b span) int { return cmp.Compare(a.pfn, b.pfn) }

// joins tells whether next continues a span in memory and in the file.
func (e span) joins(next span) bool {
	return e.pfn+e.pages == next.pfn && e.index+e.pages == next.index
}

// Layout of PHYSICAL_MEMORY_DESCRIPTOR in the header of a full dump (public in
// the Windows SDK's mindumpdef.h; also QEMU win_dump_defs.h, volatility3
// crash64.json): NumberOfRuns u32, NumberOfPages u64, then {BasePage, PageCount}.
const (
	offRunCount  = 0x88
	offRunPages  = 0x90
	offRuns      = 0x98
	runSize      = 0x10
	headerRuns   = 42 // whole runs in the field's 700 bytes
	maxHeaderRun = 43 // QEMU also uses the four bytes of padding behind it
)

// openFull opens a dump whose header lists the runs of its pages.
func openFull(o *opener) error {
	count, pages := o.h.u32(offRunCount), o.h.u64(offRunPages)
	if count == filler32 || count == 0 {
		return o.h.bad("run count", offRunCount, "the writer left the list of physical memory empty")
	}
	all, stop := headerSpans(o.h)
	given, err := o.chooseRuns(all, stop, count, pages)
	if err != nil {
		return err
	}
	for i := range given {
		if i > 0 && given[i].pfn < given[i-1].pfn {
			o.d.warn("DUMP_HEADER64: runs at file offset %#x: not in ascending order", offRuns)
			break
		}
	}
	return o.setSpans(dataOffset, given, sum(given), func(i int, err error) error {
		return o.h.bad(fmt.Sprintf("run %d", i), offRuns+i*runSize, "%w", err)
	})
}

// headerSpans reads the header's run slots up to the first that is no run, and
// says why that one is none.
func headerSpans(h record) (given []span, stop error) {
	var index uint64
	for i := range maxHeaderRun {
		off := offRuns + i*runSize
		pfn, pages := h.u64(off), h.u64(off+8)
		switch {
		case pfn == filler64 || pages == filler64:
			return given, h.bad(fmt.Sprintf("run %d", i), off, "the slot is empty")
		case pages > maxPFN || pfn > maxPFN-pages:
			return given, h.bad(fmt.Sprintf("run %d", i), off, "%#x pages from page %#x are no physical memory", pages, pfn)
		}
		given = append(given, span{pfn, pages, index})
		index += pages
	}
	return given, h.bad("runs", offRuns, "the header has room for %d", headerRuns)
}

// chooseRuns decides how many of the header's runs are real. NumberOfRuns and
// NumberOfPages bear each other out; where they do not, the runs whose pages
// add up to NumberOfPages are the most probable reading.
func (o *opener) chooseRuns(all []span, stop error, count uint32, pages uint64) ([]span, error) {
	fits := slices.IndexFunc(all, func(e span) bool { return e.index+e.pages == pages }) + 1
	claimed := all[:min(uint64(count), uint64(len(all)))]
	switch {
	case len(all) == 0:
		return nil, stop
	case uint64(len(claimed)) == uint64(count) && sum(claimed) == pages:
		return claimed, nil
	case fits > 0:
		o.d.warn("DUMP_HEADER64: run count at file offset %#x: the header says %d, but %d runs make up its %d pages: using %d",
			offRunCount, count, fits, pages, fits)
		return all[:fits], nil
	case uint64(count) > maxHeaderRun:
		return nil, o.h.bad("run count", offRunCount, "%d runs need %d bytes, the header has room for %d",
			count, uint64(count)*runSize, headerRuns)
	case uint64(count) > uint64(len(all)):
		o.d.warn("%v: using the %d runs before it", stop, len(all))
		return all, nil
	}
	o.d.warn("DUMP_HEADER64: page count at file offset %#x: the header says %d pages, its %d runs have %d: using the runs",
		offRunPages, pages, count, sum(claimed))
	return claimed, nil
}

// sum is the number of pages of spans in file order, at least one.
func sum(list []span) uint64 {
	last := list[len(list)-1]
	return last.index + last.pages
}

// setSpans makes the physical memory of the dump from spans in file order.
func (o *opener) setSpans(first int64, given []span, expected uint64, where func(i int, err error) error) error {
	present, err := o.present(first, expected)
	if err != nil {
		return err
	}
	s, i, err := newSpans(first, given, present)
	if err != nil {
		return where(i, err)
	}
	o.d.Physical = &physical{o.f, s}
	return nil
}

// present tells how many of the expected pages the file holds in full, notes
// both numbers, and warns of a short file. A dump without a page is an error.
func (o *opener) present(first int64, expected uint64) (uint64, error) {
	if expected == 0 {
		return 0, &FormatError{What: "pages", Offset: first, Err: errors.New("the header promises none")}
	}
	var held uint64
	if o.size > first {
		held = uint64(o.size-first) / pageSize
	}
	if held == 0 {
		return 0, &FormatError{What: "first page", Offset: first,
			Err: fmt.Errorf("the file ends at %#x, before it holds a page of memory%s", o.size, o.meant())}
	}
	present := min(held, expected)
	o.d.PagesExpected, o.d.PagesPresent = expected, present
	o.end = first + int64(expected<<pageShift)
	if present < expected {
		o.d.warn("the file is cut short at %#x: %d of %d pages are missing, %#x bytes%s",
			o.size, expected-present, expected, uint64(o.end-o.size), o.meant())
	}
	return present, nil
}

// meant is the writer's own idea of the file's size, where that is more than
// the file has. It is a hint: writers reserve more than they use.
func (o *opener) meant() string {
	if o.d.RequiredSpace <= uint64(o.size) {
		return ""
	}
	return fmt.Sprintf(" (its writer asked for %#x)", o.d.RequiredSpace)
}
