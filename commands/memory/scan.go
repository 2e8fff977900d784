package memory

import (
	"bytes"
	"context"

	"gokd/model/mem"
)

// scanner goes over the mapped memory of a range, piece by piece, and finds a
// pattern or strings. Pieces come straight from the file's map where that is
// possible; nothing is allocated per page.
type scanner struct {
	ctx      context.Context
	src      source
	q        query
	hit      func(at uint64) error
	text     func(at uint64, chars []byte) error
	progress func(bytes uint64)

	last           uint64 // of the range
	next           uint64 // address behind the last piece
	tail           []byte // its last bytes, shorter than the pattern
	seam           []byte
	run            stringRun
	buf            []byte
	bytes          uint64
	missing, holes uint64
	leaves         uint64
	err            error

	slicer mem.Slicer
	guard  mem.Guarder
	leaf   mem.Leaf
	inside func() error // scans leaf
}

// How much is read at once where memory can't be had without a copy, and after
// how many leaves progress is told.
const (
	scanBuffer  = 64 << 10
	reportEvery = 4096
)

// largestTry is the largest hole whose pages are tried one by one: an image file
// may stand in for them. Larger ones have lost their page table.
const largestTry = 2 << 20

func newScanner(ctx context.Context, src source, q query) *scanner {
	c := &scanner{ctx: ctx, src: src, q: q, last: q.start + q.length - 1, buf: make([]byte, scanBuffer)}
	c.slicer, _ = src.space.Physical().(mem.Slicer)
	c.guard, _ = src.space.Physical().(mem.Guarder)
	c.inside = c.present
	return c
}

// search goes over the range; the error is that of a hit's sink, or the context's.
func (c *scanner) search() error {
	if c.src.space.Paged() {
		err := c.src.space.Leaves(c.ctx, mem.VA(c.q.start), mem.VA(c.last), c.visit)
		if c.err == nil {
			c.err = err
		}
	} else {
		c.flat()
	}
	if c.err == nil {
		c.err = c.flush()
	}
	return c.err
}

// visit scans one leaf; false ends the walk.
func (c *scanner) visit(l mem.Leaf) bool {
	// The first and the last page may lie in the range only in part.
	if uint64(l.VA) < c.q.start {
		cut := c.q.start - uint64(l.VA)
		l.VA, l.Size, l.PA = l.VA+mem.VA(cut), l.Size-cut, l.PA+mem.PA(cut)
	}
	if end := uint64(l.VA) + l.Size - 1; end > c.last {
		l.Size -= end - c.last
	}
	if c.q.writable && !l.Writable {
		return c.ctx.Err() == nil
	}
	c.leaf = l
	switch {
	case l.Err != nil && l.Size > largestTry:
		c.holes++
	case l.Err != nil && l.Entry == 0: // its table is lost
		missing := c.missing
		c.err = c.pages(l)
		c.missing, c.holes = missing, c.holes+1
	case l.Err != nil:
		c.err = c.pages(l)
	case c.guard != nil:
		if err := c.guard.Guard(c.inside); c.err == nil {
			c.err = err
		}
	default:
		c.err = c.present()
	}
	if c.leaves++; c.progress != nil && c.leaves%reportEvery == 0 {
		c.progress(c.bytes)
	}
	return c.err == nil && c.ctx.Err() == nil
}

// present scans a leaf that is in memory.
func (c *scanner) present() error {
	l := c.leaf
	if c.slicer != nil {
		if b, ok := c.slicer.SlicePhysical(l.PA, int(l.Size)); ok {
			return c.piece(uint64(l.VA), b)
		}
	}
	return c.pages(l)
}

// pages reads a leaf page by page through the address space, which knows of
// image files that stand in for missing pages.
func (c *scanner) pages(l mem.Leaf) error {
	for done := uint64(0); done < l.Size; {
		at := uint64(l.VA) + done
		n := min(mem.PageSize-at%mem.PageSize, l.Size-done)
		if l.Err == nil && l.Size > mem.PageSize { // of a large page as much as fits
			n = min(uint64(len(c.buf))-at%mem.PageSize, l.Size-done)
		}
		got, err := c.src.space.ReadVirtual(c.buf[:n], mem.VA(at))
		if err := c.piece(at, c.buf[:got]); err != nil {
			return err
		}
		if err != nil {
			// What follows a hole starts at the next page.
			n = min(uint64(got)+mem.PageSize-(at+uint64(got))%mem.PageSize, l.Size-done)
			c.missing++
		}
		if c.ctx.Err() != nil {
			return c.ctx.Err()
		}
		done += n
	}
	return nil
}

// smallFlat is the longest range of a space without page tables whose gaps
// between captured blocks are tried page by page.
const smallFlat = 64 << 20

// flat scans captured blocks and, of a short range, what image files hold of the
// gaps between them.
func (c *scanner) flat() {
	at := c.q.start
	listed := c.src.space.Captured(func(block mem.VA, b []byte) bool {
		first, size := uint64(block), uint64(len(b))
		if size == 0 {
			return true
		}
		if first > c.last {
			return false
		}
		end := first + size - 1
		if end < at {
			return true
		}
		if first > at {
			c.gap(at, first-1)
		} else {
			b = b[at-first:]
			first = at
		}
		if end > c.last {
			b, end = b[:c.last-first+1], c.last
		}
		if c.err == nil {
			c.err = c.piece(first, b)
		}
		at = end + 1
		return c.err == nil && c.ctx.Err() == nil && end < c.last
	})
	switch {
	case c.err != nil:
	case c.ctx.Err() != nil:
		c.err = c.ctx.Err()
	case !listed && c.q.length > smallFlat:
		c.holes++
	case at <= c.last && at >= c.q.start:
		c.gap(at, c.last)
	}
}

// gap tries the pages between captured blocks.
func (c *scanner) gap(from, to uint64) {
	if c.q.length > smallFlat {
		c.holes++
		return
	}
	if c.err == nil {
		c.err = c.pages(mem.Leaf{VA: mem.VA(from), Size: to - from + 1, Err: &mem.Fault{Kind: mem.NotCaptured}})
	}
}

// piece searches bytes at an address. Matches may lie across the seam to the
// piece before, if there is no gap.
func (c *scanner) piece(at uint64, b []byte) error {
	if len(b) == 0 {
		return nil
	}
	c.bytes += uint64(len(b))
	if c.q.pattern == nil {
		return c.strings(at, b)
	}
	carry := len(c.q.pattern) - 1
	if at != c.next {
		c.tail = c.tail[:0]
	}
	c.next = at + uint64(len(b))
	if n := len(c.tail); n > 0 {
		c.seam = append(append(c.seam[:0], c.tail...), b[:min(carry, len(b))]...)
		if err := c.find(at-uint64(n), c.seam, n); err != nil {
			return err
		}
	}
	if err := c.find(at, b, len(b)); err != nil {
		return err
	}
	if len(b) >= carry {
		c.tail = append(c.tail[:0], b[len(b)-carry:]...)
		return nil
	}
	c.tail = append(c.tail, b...)
	c.tail = c.tail[max(0, len(c.tail)-carry):]
	return nil
}

// find reports the matches that start in the first limit bytes.
func (c *scanner) find(at uint64, b []byte, limit int) error {
	for i := 0; i < limit; {
		n := bytes.Index(b[i:], c.q.pattern)
		if n < 0 || i+n >= limit {
			return nil
		}
		i += n
		if (at+uint64(i)-c.q.start)%uint64(c.q.unit) == 0 {
			if err := c.hit(at + uint64(i)); err != nil {
				return err
			}
			if c.ctx.Err() != nil {
				return c.ctx.Err()
			}
		}
		i++
	}
	return nil
}
