package pool

import (
	"bufio"
	"encoding/binary"
	"errors"
	"hash/crc32"
	"io"

	"gokd/model/mem"
	"gokd/model/pool/cell"
	"gokd/model/pool/heap"
)

// The form of an index in a file, all numbers little-endian:
//
//	header   magic, version, kind, identity of the dump, how many cells, bytes of
//	         the description; headLen bytes, the last four their checksum
//	describe sections, areas, parts and errors, in the order of saver.describe,
//	         and a checksum
//	cells    in pieces of chunkCells, each with a checksum behind it
//
// Checksums are CRC-32C. They find what a disk or a copy did; who changes a file
// on purpose can make them fit. What such a file says of ranges, areas and sizes
// is checked when it is loaded, and each block is when it is shown.
const (
	indexMagic   = "gokdpool"
	indexVersion = 1
	headLen      = 8 + 4 + 4 + 32 + 8 + 8 + 4
	maxDescribe  = 64 << 20
	maxText      = 4096
)

var crcTable = crc32.MakeTable(crc32.Castagnoli)

// saver writes numbers into memory.
type saver struct{ b []byte }

func (s *saver) u8(v uint8)   { s.b = append(s.b, v) }
func (s *saver) u32(v uint32) { s.b = binary.LittleEndian.AppendUint32(s.b, v) }
func (s *saver) u64(v uint64) { s.b = binary.LittleEndian.AppendUint64(s.b, v) }
func (s *saver) va(v mem.VA)  { s.u64(uint64(v)) }
func (s *saver) text(t string) {
	t = t[:min(len(t), maxText)]
	s.u32(uint32(len(t)))
	s.b = append(s.b, t...)
}

// sum ends a piece with its checksum.
func (s *saver) sum() { s.u32(crc32.Checksum(s.b, crcTable)) }

// numbers gives the numbers of a summary that a file holds, in its order.
func (s *Summary) numbers() []*uint64 {
	c := &s.Coverage
	return []*uint64{
		&s.Blocks, &s.PagesScanned, &s.PagesBroken, &s.PagesOther, &s.PagesMissing, &s.TablesMissing, &s.HeapsBroken,
		&c.Walked, &c.Allocated, &c.Cached, &c.Free, &c.Large, &c.Overhead, &c.Other, &c.Damaged, &c.Missing, &c.Unknown,
	}
}

// Kinds of errors in a file.
const (
	errText uint8 = iota
	errPage
	errDamage
)

func (s *saver) trouble(t trouble) {
	s.u64(uint64(t.cells))
	var page *PageError
	var damage *heap.DamageError
	switch {
	case errors.As(t.err, &page):
		s.u8(errPage)
		s.va(page.Page)
		s.va(page.At)
		s.u32(uint32(page.Blocks))
		s.text(page.Why)
	case errors.As(t.err, &damage):
		s.u8(errDamage)
		s.text(damage.What)
		s.va(damage.At)
		s.va(damage.Area)
		s.text(damage.Why)
	default:
		s.u8(errText)
		s.text(t.err.Error())
	}
}

// area writes where an area lies; a page pool has none.
func (s *saver) area(a *heap.Area) {
	if a == nil {
		s.u8(0)
		return
	}
	s.u8(1 + uint8(a.Kind))
	s.va(a.Heap.At)
	s.u32(a.Heap.Session)
	s.va(a.Segment)
	s.va(a.At)
	s.u64(a.Size)
}

// describe writes all but the cells.
func (s *saver) describe(x *Index) {
	s.u32(uint32(len(x.sections)))
	for _, c := range x.sections {
		s.va(c.r.Start)
		s.va(c.r.Last)
		s.u32(c.r.Session)
		s.va(c.sum.Reached)
		for _, n := range c.sum.numbers() {
			s.u64(*n)
		}
		s.u32(uint32(len(c.errs)))
		for _, e := range c.errs {
			s.trouble(e)
		}
		// Parts of one area, and those of page pools, are one in the file.
		count := len(s.b)
		s.u32(0)
		areas := uint32(0)
		for i := 0; i < len(c.parts); {
			n, j := uint64(0), i
			for ; j < len(c.parts) && c.parts[j].area == c.parts[i].area; j++ {
				n += uint64(len(c.parts[j].cells))
			}
			s.area(c.parts[i].area)
			s.u64(n)
			areas++
			i = j
		}
		binary.LittleEndian.PutUint32(s.b[count:], areas)
	}
}

// WriteTo writes the index in the form that LoadIndex reads. An index of a pool
// whose small blocks were not walked cannot be written.
func (x *Index) WriteTo(w io.Writer) (written int64, err error) {
	if x.Summary().SmallUnwalked {
		return 0, errors.New("index: the small blocks of this pool were not walked")
	}
	var d, h saver
	d.describe(x)
	if len(d.b) > maxDescribe-4 {
		return 0, ErrLimit
	}
	d.sum()
	id := x.p.Identity()
	h.b = append(h.b, indexMagic...)
	h.u32(indexVersion)
	h.u32(uint32(x.kind))
	h.b = append(h.b, id[:]...)
	h.u64(uint64(x.Len()))
	h.u64(uint64(len(d.b)))
	h.sum()
	out := &cellWriter{w: bufio.NewWriterSize(w, 64<<10)}
	out.bytes(h.b)
	out.bytes(d.b)
	x.Cells(out.cells)
	out.flush()
	if out.err == nil {
		out.err = out.w.Flush()
	}
	return out.n, out.err
}

// cellWriter writes cells in pieces; the first error sticks.
type cellWriter struct {
	w    *bufio.Writer
	n    int64
	err  error
	held []cell.Cell
	buf  []byte
}

func (w *cellWriter) bytes(b []byte) {
	if w.err == nil {
		var n int
		n, w.err = w.w.Write(b)
		w.n += int64(n)
	}
}

func (w *cellWriter) cells(part []cell.Cell) bool {
	for len(part) > 0 && w.err == nil {
		n := min(len(part), chunkCells-len(w.held))
		w.held, part = append(w.held, part[:n]...), part[n:]
		if len(w.held) == chunkCells {
			w.flush()
		}
	}
	return w.err == nil
}

func (w *cellWriter) flush() {
	if len(w.held) == 0 {
		return
	}
	n := len(w.held) * cell.Len
	if w.buf == nil {
		w.buf = make([]byte, chunkCells*cell.Len+4)
	}
	cell.Put(w.buf[:n], w.held)
	binary.LittleEndian.PutUint32(w.buf[n:], crc32.Checksum(w.buf[:n], crcTable))
	w.bytes(w.buf[:n+4])
	w.held = w.held[:0]
}
