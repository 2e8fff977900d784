package memory

import (
	"encoding/binary"
	"strings"
	"unicode"
	"unicode/utf16"

	"gokd/commands/report"
)

// maxString is how many characters of a string without an end are shown.
const maxString = 399

// characterRun is a string as read: characters, and what could not be read.
type characterRun struct {
	at     uint64
	unit   int
	chars  []uint16 // bytes or UTF-16 units, without the zero at the end
	known  []bool
	ended  bool   // by its zero
	bytes  uint64 // read, with the zero
	reason error  // why something is not known; nil where all is
}

// readString reads up to the first zero, at most a number of bytes.
func readString(r source, at, limit uint64, unit int) *characterRun {
	t := &characterRun{at: at, unit: unit}
	t.read(r, limit, true)
	return t
}

// readCounted reads a number of bytes.
func readCounted(r source, at, size uint64, unit int) *characterRun {
	t := &characterRun{at: at, unit: unit}
	t.read(r, size, false)
	return t
}

// read fills the run piece by piece, so that a short string costs a short read.
func (t *characterRun) read(r source, limit uint64, zero bool) {
	var b [64]byte
	var have [64]bool
	for t.bytes < limit && !t.ended {
		n := min(uint64(len(b)), limit-t.bytes)
		if n -= n % uint64(t.unit); n == 0 {
			return
		}
		if err := r.fill(b[:n], have[:n], t.at+t.bytes); err != nil && t.reason == nil {
			t.reason = err
		}
		for i := 0; i < int(n) && !t.ended; i += t.unit {
			t.add(b[i:], have[i:], zero)
		}
	}
}

func (t *characterRun) add(b []byte, have []bool, zero bool) {
	c, known := uint16(b[0]), have[0]
	if t.unit == 2 {
		c, known = binary.LittleEndian.Uint16(b), have[0] && have[1]
	}
	t.bytes += uint64(t.unit)
	if zero && known && c == 0 {
		t.ended = true
		return
	}
	t.chars, t.known = append(t.chars, c), append(t.known, known)
}

// spell gives characters from..to as kd shows them: a point for what can't be
// shown, a question mark for what is not known.
func (t *characterRun) spell(from, to int) string {
	var b strings.Builder
	for i := from; i < to; i++ {
		switch c := t.chars[i]; {
		case !t.known[i]:
			b.WriteByte('?')
		case t.unit == 1:
			b.WriteByte(printable(byte(c)))
		case utf16.IsSurrogate(rune(c)) && i+1 < len(t.chars) && t.known[i+1]:
			r := utf16.DecodeRune(rune(c), rune(t.chars[i+1]))
			b.WriteRune(shown(r))
			if r != unicode.ReplacementChar {
				i++
			}
		default:
			b.WriteRune(shown(rune(c)))
		}
	}
	return b.String()
}

// shown gives the character that stands for one of UTF-16 in text.
func shown(r rune) rune {
	if !unicode.IsPrint(r) || r == unicode.ReplacementChar {
		return '.'
	}
	return r
}

// whole gives the string as JSON carries it: the true characters; nil where not
// all of it could be read.
func (t *characterRun) whole() *string {
	for _, k := range t.known {
		if !k {
			return nil
		}
	}
	text := string(utf16.Decode(t.chars))
	return &text
}

// stringRecord is the record "string".
type stringRecord struct {
	Address  report.Addr    `json:"address"`
	Physical bool           `json:"physical"`
	Unit     int            `json:"unit"`
	Length   int            `json:"length"` // in units
	Ended    bool           `json:"ended"`  // a zero ended it, not the range
	Text     *string        `json:"text"`   // null where not all of it is in the dump
	Missing  report.Missing `json:"missing,omitempty"`

	run     *characterRun
	columns int
	prefix  string
}

func (t *characterRun) record(r request, src source) *stringRecord {
	x := &stringRecord{Address: report.Addr(t.at), Physical: src.phys != nil, Unit: t.unit, Length: len(t.chars),
		Ended: t.ended, Text: t.whole(), run: t, columns: r.columns}
	if x.Text == nil {
		x.Missing.Set("text", t.reason)
	}
	return x
}

// Type names the record.
func (*stringRecord) Type() string { return "string" }

// WriteText writes the string in quotes, a number of characters a line, each
// with its address.
func (x *stringRecord) WriteText(p *report.Printer) {
	for i := 0; ; i += x.columns {
		to := min(i+x.columns, len(x.run.chars))
		at := x.Address + report.Addr(i*x.run.unit)
		if x.prefix != "" {
			p.Printf("#%8x \"%s\"\n", uint64(at), x.run.spell(i, to))
		} else {
			p.Printf("%s  \"%s\"\n", at.Tick(), x.run.spell(i, to))
		}
		if to >= len(x.run.chars) {
			return
		}
	}
}

// stringAt gives the string that a pointer points at; nil where nothing can be
// read there. It is shown on one line.
func (d *dumper) stringAt(at uint64) *string {
	unit := 1
	if d.target == 'u' {
		unit = 2
	}
	if at == 0 {
		return nil
	}
	src := source{kernel: d.src.kernel, space: d.src.space} // pointers are virtual
	t := readString(src, at, maxString*uint64(unit), unit)
	if len(t.known) > 0 && !t.known[0] {
		return nil
	}
	n := 0
	for n < len(t.known) && t.known[n] {
		n++
	}
	text := t.spell(0, n)
	return &text
}
