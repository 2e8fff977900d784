package pool

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"

	"gokd/model/mem"
	"gokd/model/pool/cell"
	"gokd/model/pool/heap"
)

// loader reads numbers out of memory; the first failure sticks.
type loader struct {
	b   []byte
	err error
}

func (l *loader) take(n uint64) []byte {
	if l.err != nil || n > uint64(len(l.b)) {
		l.fail("it ends early")
		return nil
	}
	b := l.b[:n]
	l.b = l.b[n:]
	return b
}

func (l *loader) fail(format string, args ...any) {
	if l.err == nil {
		l.err = fmt.Errorf(format, args...)
	}
}

func (l *loader) u8() uint8 {
	if b := l.take(1); b != nil {
		return b[0]
	}
	return 0
}

func (l *loader) u32() uint32 {
	if b := l.take(4); b != nil {
		return binary.LittleEndian.Uint32(b)
	}
	return 0
}

func (l *loader) u64() uint64 {
	if b := l.take(8); b != nil {
		return binary.LittleEndian.Uint64(b)
	}
	return 0
}

func (l *loader) va() mem.VA { return mem.VA(l.u64()) }

func (l *loader) text() string {
	n := l.u32()
	if n > maxText {
		l.fail("a text of %d bytes", n)
		return ""
	}
	return string(l.take(uint64(n)))
}

// summed reads a piece that ends with its checksum.
func summed(r io.ReaderAt, off, n int64) ([]byte, error) {
	b := make([]byte, n)
	if got, err := r.ReadAt(b, off); int64(got) < n {
		if err == nil || errors.Is(err, io.EOF) {
			err = io.ErrUnexpectedEOF
		}
		return nil, err
	}
	if want := binary.LittleEndian.Uint32(b[n-4:]); crc32.Checksum(b[:n-4], crcTable) != want {
		return nil, fmt.Errorf("checksum at file offset %#x does not fit what is before it", off+n-4)
	}
	return b[:n-4], nil
}

// LoadIndex reads an index that WriteTo wrote, from a file of the given size,
// and keeps it for later questions. It must be of this dump, by its identity,
// and of the same ranges and heaps, its blocks must follow each other, and some
// of them are compared with the dump: ErrStale where it is another's. Every
// block that is shown from it is compared then.
func (p *Pool) LoadIndex(kind Kind, r io.ReaderAt, size int64) (*Index, error) {
	x, err := p.loadIndex(kind, r, size)
	if err != nil {
		return nil, fmt.Errorf("index of %s pool: %w", kind, err)
	}
	p.keep(x)
	return x, nil
}

func (p *Pool) loadIndex(kind Kind, r io.ReaderAt, size int64) (*Index, error) {
	if size < headLen {
		return nil, fmt.Errorf("a file of %d bytes is none", size)
	}
	b, err := summed(r, 0, headLen)
	if err != nil {
		return nil, err
	}
	h := &loader{b: b}
	magic, version, saved := string(h.take(8)), h.u32(), h.u32()
	id := [32]byte(h.take(32))
	cells, describe := h.u64(), h.u64()
	switch {
	case magic != indexMagic:
		return nil, errors.New("the file is none")
	case version != indexVersion:
		return nil, fmt.Errorf("it has version %d, this program reads %d: make it anew", version, indexVersion)
	case saved != uint32(kind):
		return nil, fmt.Errorf("it is of %s pool", Kind(min(saved, 0xff)))
	case id != p.Identity():
		return nil, fmt.Errorf("it is of another dump: %w", ErrStale)
	case describe > maxDescribe || cells > maxCells || describe < 4:
		return nil, fmt.Errorf("%d blocks, %d bytes to describe them: %w", cells, describe, ErrLimit)
	}
	pieces := (cells + chunkCells - 1) / chunkCells
	if want := headLen + describe + cells*cell.Len + pieces*4; want != uint64(size) {
		return nil, fmt.Errorf("the file has %d bytes, its %d blocks need %d", size, cells, want)
	}
	if b, err = summed(r, headLen, int64(describe)); err != nil {
		return nil, err
	}
	w, err := p.Find(context.Background(), Query{Kind: kind})
	if err != nil {
		return nil, err
	}
	in := &indexReader{loader: loader{b: b}, w: w, r: r, off: headLen + int64(describe), left: cells}
	return in.index()
}

// indexReader makes an index of a file's description and cells.
type indexReader struct {
	loader
	w    *Walk // gives the ranges and heaps of this dump
	r    io.ReaderAt
	off  int64       // of the next cells
	left uint64      // cells that were not read
	have []cell.Cell // read, not yet part of a section
}

func (in *indexReader) index() (*Index, error) {
	ranges := in.w.Ranges()
	if n := in.u32(); int(n) != len(ranges) {
		return nil, fmt.Errorf("it has %d ranges, the pool %d: %w", n, len(ranges), ErrStale)
	}
	var sections []*section
	for _, r := range ranges {
		sections = append(sections, in.section(r))
	}
	if in.err == nil && (len(in.b) != 0 || in.left != 0 || len(in.have) != 0) {
		in.fail("it holds more than it describes")
	}
	if in.err != nil {
		return nil, in.err
	}
	x := newIndex(in.w.p, in.w.q.Kind, sections)
	x.loaded = true
	return x, x.sample()
}

// sampled is how many blocks are compared with the dump when an index is loaded.
const sampled = 64

// sample compares some blocks with the dump.
func (x *Index) sample() error {
	for _, s := range x.sections {
		for i := range min(sampled, len(s.parts)) {
			p := s.parts[i*len(s.parts)/min(sampled, len(s.parts))]
			c := p.cells[i*len(p.cells)/sampled]
			if err := x.proves(c, s.space(p.area)); err != nil {
				return err
			}
		}
	}
	return nil
}

// section reads what is kept of a range.
func (in *indexReader) section(r Range) *section {
	s := newSection(r, maxCells)
	start, last, session := in.va(), in.va(), in.u32()
	if in.err == nil && !sameRange(r, Range{Start: start, Last: last, Session: session}) {
		in.fail("it has a range from %#x to %#x, the pool none such: %w", uint64(start), uint64(last), ErrStale)
	}
	s.sum.Reached = in.va()
	for _, n := range s.sum.numbers() {
		*n = in.u64()
	}
	for range in.u32() {
		if in.err != nil || len(s.errs) >= maxTroubles {
			in.fail("more than %d errors: %w", maxTroubles, ErrLimit)
			break
		}
		in.trouble(s)
	}
	for range in.u32() {
		if in.err != nil {
			break
		}
		in.area(s)
	}
	in.balance(s)
	return s
}

func (in *indexReader) trouble(s *section) {
	t := trouble{cells: int(min(in.u64(), maxCells))}
	switch kind := in.u8(); kind {
	case errPage:
		t.err = &PageError{Page: in.va(), At: in.va(), Blocks: int(in.u32()), Why: in.text()}
	case errDamage:
		t.err = &heap.DamageError{What: in.text(), At: in.va(), Area: in.va(), Why: in.text()}
	case errText:
		t.err = errors.New(in.text())
	default:
		in.fail("an error of kind %d", kind)
	}
	if n := len(s.errs); n > 0 && s.errs[n-1].cells > t.cells {
		in.fail("its errors are not in order")
	}
	s.errs = append(s.errs, t)
}

// area reads an area and its cells, or those of a page pool.
func (in *indexReader) area(s *section) {
	var a *heap.Area
	if kind := in.u8(); kind != 0 {
		a = &heap.Area{Kind: heap.AreaKind(kind - 1)}
		at, session := in.va(), in.u32()
		a.Segment, a.At, a.Size = in.va(), in.va(), in.u64()
		a.Heap = in.heap(at, session)
		if in.err == nil && (a.Heap == nil || a.Kind != heap.AreaVS && a.Kind != heap.AreaLFH || a.Size > maxSubsegment || a.Size == 0) {
			in.fail("an area at %#x of the heap at %#x: the pool has none such: %w", uint64(a.At), uint64(at), ErrStale)
		}
	}
	if in.err == nil && (a == nil) != (in.w.heaps == nil) {
		in.fail("its pool is of another kind: %w", ErrStale)
	}
	end := s.r.Start // of the block before
	for n := in.u64(); n > 0 && in.err == nil; {
		got := in.cells(n)
		for _, c := range got {
			end = in.check(s, a, c, end)
		}
		if len(got) > 0 {
			s.add(part{cells: got, area: a})
		}
		n -= uint64(len(got))
	}
}

func (in *indexReader) heap(at mem.VA, session uint32) *heap.Heap {
	if in.w.heaps == nil {
		return nil
	}
	for _, h := range in.w.heaps.List {
		if h.At == at && h.Session == session && serves(h, in.w.q.Kind) {
			return h
		}
	}
	return nil
}

// cells gives the next cells, at most n.
func (in *indexReader) cells(n uint64) []cell.Cell {
	if len(in.have) == 0 {
		if in.left == 0 {
			in.fail("it describes more blocks than it has")
			return nil
		}
		count := min(in.left, chunkCells)
		b, err := summed(in.r, in.off, int64(count*cell.Len+4))
		if err != nil {
			in.fail("blocks at file offset %#x: %w", in.off, err)
			return nil
		}
		in.have = cell.Get(make([]cell.Cell, 0, count), b)
		in.left -= count
		in.off += int64(count*cell.Len + 4)
	}
	n = min(n, uint64(len(in.have)))
	got := in.have[:n]
	in.have = in.have[n:]
	return got
}

// check looks whether a block can lie where it says, behind end, and gives its
// end.
func (in *indexReader) check(s *section, a *heap.Area, c cell.Cell, end mem.VA) mem.VA {
	at, next := c.Header(), c.Header()+mem.VA(c.Room())
	low, last := s.r.Start, s.r.Last
	if a != nil {
		low, last = a.At, a.At+mem.VA(a.Size-1)
		if end < low || end > last {
			end = low
		}
	}
	cover := &s.kept
	switch c.State() {
	case cell.Allocated:
		cover.Allocated += c.Room()
	case cell.Free:
		cover.Free += c.Room()
	case cell.Cached:
		cover.Cached += c.Room()
	default:
		in.fail("block at %#x: state %d", uint64(at), c.State())
	}
	page := a == nil && (c.Room() != c.Size() || at%pageSize+mem.VA(c.Room()) > pageSize)
	if c.Room() == 0 || at < end || at < low || next-1 > last || page {
		in.fail("block at %#x of %#x bytes, behind %#x: it cannot lie there", uint64(at), c.Room(), uint64(end))
	}
	return next
}

// balance holds the account of a section against its cells.
func (in *indexReader) balance(s *section) {
	c := s.sum.Coverage
	if c.Sum() != c.Walked || s.sum.Blocks != uint64(s.cells) {
		in.fail("its account does not add up")
	}
	if in.w.heaps == nil && (c.Allocated != s.kept.Allocated || c.Free != s.kept.Free || c.Cached != s.kept.Cached) {
		in.fail("its account is of other blocks")
	}
}
