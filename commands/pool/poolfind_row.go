package pool

import (
	"fmt"
	"strconv"

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
	to = appendPointer(to, uint64(b.Body))
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

// hexDigits are the digits of numbers that are put together by hand.
const hexDigits = "0123456789abcdef"

// appendPointer appends an address as kd prints it: 16 digits.
func appendPointer(to []byte, v uint64) []byte {
	var d [16]byte
	for i := range d {
		d[i] = hexDigits[v>>(60-4*i)&0xf]
	}
	return append(to, d[:]...)
}

// appendKernel appends an address for JSON; one of the kernel's half has all of
// its digits.
func appendKernel(to []byte, v uint64) []byte {
	if v>>60 == 0 {
		return appendAddr(to, report.Addr(v))
	}
	return append(appendPointer(append(to, `"0x`...), v), '"')
}

// AppendFields appends the record's JSON fields: those of blockRecord, without
// the strings and pointers that one is made of.
func (r *findRow) AppendFields(to []byte) []byte {
	b := &r.block
	to = appendKernel(append(to, `"address":`...), uint64(b.Body))
	to = appendKernel(append(to, `,"header":`...), uint64(b.Header))
	to = appendTag(append(to, `,"tag":`...), b.Tag)
	to = strconv.AppendUint(append(to, `,"size":`...), b.Size, 10)
	to = strconv.AppendUint(append(to, `,"previous_size":`...), uint64(b.PreviousSize), 10)
	to = append(append(to, `,"state":"`...), b.State.String()...)
	to = strconv.AppendBool(append(to, `","protected":`...), b.Protected)
	to = append(append(to, `,"pool":"`...), b.Kind.String()...)
	to = strconv.AppendBool(append(to, `","large":`...), b.Large)
	to = strconv.AppendUint(append(to, `,"room":`...), b.Room, 10)
	to = append(append(to, `,"place":"`...), placeName(b.Place)...)
	if to = append(to, `","heap":`...); b.Heap != 0 {
		to = appendKernel(to, uint64(b.Heap))
	} else {
		to = append(to, "null"...)
	}
	at, err := mem.VA(0), error(nil)
	if b.Billed != 0 { // nearly all are charged to no one
		at, err = r.pool.Owner(*b)
	}
	to = append(to, `,"owner_process":`...)
	switch {
	case at != 0:
		to = appendKernel(to, uint64(at))
	case err != nil:
		to = append(to, "null"...)
		to = append(appendText(append(to, `,"missing":{"owner_process":`...), err.Error()), '}')
	default:
		to = append(to, "null"...)
	}
	return to
}

// appendTag appends a tag as JSON spells it.
func appendTag(to []byte, t pool.Tag) []byte {
	for _, c := range t {
		if c < 0x20 || c > 0x7e || c == '\\' || c == '"' {
			return appendText(to, t.Spell())
		}
	}
	return append(append(append(to, '"'), t[:]...), '"')
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
