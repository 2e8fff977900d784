package pool

import (
	"fmt"

	"gokd/commands/report"
	"gokd/model/mem"
	"gokd/model/pool"
)

// findRow is one block of !poolfind: the record pool_block, as !pool has it. A
// pool has millions, so it keeps the block alone and writes itself by hand; what
// only JSON tells is worked out there.
type findRow struct {
	pool  *pool.Pool
	block pool.Block
}

// Type names the record.
func (*findRow) Type() string { return "pool_block" }

// WriteText writes the row.
func (r *findRow) WriteText(p *report.Printer) {
	p.Printf("%s", report.Text(r.AppendText(nil, p.Era)))
}

// AppendText appends the row as debuggers from 6.2 on print it. The layout names
// the body and what was asked for, and has no word for a block that is free:
// such blocks have no row there, the summary counts them. (The rows of headers
// belong to debuggers before that.)
func (r *findRow) AppendText(to []byte, _ report.Era) []byte {
	if r.block.State != pool.Allocated {
		return to
	}
	return appendRow(to, &r.block)
}

// appendRow appends a row.
func appendRow(to []byte, b *pool.Block) []byte {
	to = appendHex(to, uint64(b.Body), 16, '0')
	to = append(append(append(to, " : tag "...), tagBytes(b.Tag)...), ", size "...)
	digits := 1 // after 0x; zero prints bare
	size := bodySize(*b)
	for v := size >> 4; v > 0; v >>= 4 {
		digits++
	}
	const blanks = "         " // the number's column
	if size == 0 {
		to = append(append(to, blanks[1:]...), '0')
	} else {
		to = append(to, blanks[min(len(blanks), digits+2):]...)
		to = appendHex(append(to, "0x"...), size, digits, '0')
	}
	return append(append(append(to, ", "...), kdPools[b.Kind]...), " pool\n"...)
}

// tagBytes gives a tag's characters as kd prints them, without a string of
// their own.
func tagBytes(t pool.Tag) []byte {
	for i, c := range t {
		if c < 0x20 || c > 0x7e {
			t[i] = '.'
		}
	}
	return t[:]
}

// AppendFields appends the record's JSON fields.
func (r *findRow) AppendFields(to []byte) []byte {
	return newBlock(r.pool, r.block, true).AppendFields(to)
}

// MarshalJSON gives the fields as an object, for those who take records one by
// one.
func (r *findRow) MarshalJSON() ([]byte, error) { return append(r.AppendFields([]byte{'{'}), '}'), nil }

var (
	_ report.Appender     = (*findRow)(nil)
	_ report.TextAppender = (*findRow)(nil)
)

// rowSlab hands out rows; they are taken from memory in pieces.
type rowSlab struct{ free []findRow }

func (s *rowSlab) next(p *pool.Pool, b pool.Block) *findRow {
	if len(s.free) == 0 {
		s.free = make([]findRow, 256)
	}
	r := &s.free[0]
	s.free = s.free[1:]
	r.pool, r.block = p, b
	return r
}

// searchLine is a line of !poolfind that says what is searched: the table of
// large allocations, or a range of a pool.
type searchLine struct {
	large      bool
	kind       pool.Kind
	start, end mem.VA // end is the first byte behind
	pattern    pool.Pattern
}

// Type names the record.
func (searchLine) Type() string { return "text" }

// TextOnly marks it.
func (searchLine) TextOnly() {}

// lowerPools are the pools' names inside a line.
var lowerPools = [...]string{pool.Nonpaged: "nonpaged", pool.Paged: "paged", pool.Session: "session", pool.Special: "special"}

// WriteText writes the line with the blank lines that kd puts around it. The
// pattern is shown as its first four characters, filled with spaces.
func (l searchLine) WriteText(p *report.Printer) {
	tag := fmt.Sprintf("tag %#08x (%s)", l.pattern.Value(), l.pattern.Text())
	if l.large {
		p.Printf("\nScanning large pool allocation table for %s (%s : %s)\n\n", tag, l.start, l.end)
		return
	}
	p.Printf("\nSearching %s pool (%s : %s) for %s\n\n", lowerPools[l.kind], l.start, l.end, tag)
}
