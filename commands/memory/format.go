package memory

import (
	"context"
	"encoding/binary"
	"fmt"
	"math"
	"strings"

	"gokd/commands/cmd"
)

// kind is the family of a format.
type kind uint8

const (
	kindNumbers kind = iota
	kindFloats
	kindBits     // digits in binary, then in hexadecimal
	kindString   // characters up to a zero
	kindSymbols  // one value a line, with its symbol
	kindPointers // one value a line, with what it points at
)

// format is one way to show memory.
type format struct {
	name    string // of the command
	kind    kind
	unit    int    // bytes of one value
	columns int    // values in a row
	count   uint64 // values shown where no range is given
	text    bool   // the row ends with its characters
	dash    bool   // a dash follows every eighth value but the last
	target  byte   // kindPointers: 'a', 'u' or 'p'
	summary string
}

// defaultBytes is what the formats of pointers show without a range.
const defaultBytes = 128

// formats are those of the d commands. Counts and columns are documented, but
// for strings: posted sessions show 32 characters a line, not 48, and a string
// without an end stops after 399.
var formats = []*format{
	{name: "da", kind: kindString, unit: 1, columns: 32, count: maxString, summary: "show memory as a string of bytes"},
	{name: "db", unit: 1, columns: 16, count: 128, text: true, dash: true, summary: "show memory as bytes and characters"},
	{name: "dc", unit: 4, columns: 4, count: 32, text: true, summary: "show memory as 4-byte values and characters"},
	{name: "dd", unit: 4, columns: 4, count: 32, summary: "show memory as 4-byte values"},
	{name: "dD", kind: kindFloats, unit: 8, columns: 3, count: 15, summary: "show memory as 8-byte floating-point numbers"},
	{name: "df", kind: kindFloats, unit: 4, columns: 4, count: 16, summary: "show memory as 4-byte floating-point numbers"},
	{name: "dp", unit: 8, columns: 2, count: 16, summary: "show memory as values of the size of a pointer"},
	{name: "dq", unit: 8, columns: 2, count: 16, summary: "show memory as 8-byte values"},
	{name: "du", kind: kindString, unit: 2, columns: 32, count: maxString, summary: "show memory as a string of UTF-16 characters"},
	{name: "dw", unit: 2, columns: 8, count: 64, summary: "show memory as 2-byte values"},
	{name: "dW", unit: 2, columns: 8, count: 64, text: true, summary: "show memory as 2-byte values and characters"},
	{name: "dyb", kind: kindBits, unit: 1, columns: 4, count: 32, summary: "show memory as bytes in binary and hexadecimal"},
	{name: "dyd", kind: kindBits, unit: 4, columns: 1, count: 8, summary: "show memory as 4-byte values in binary and hexadecimal"},
	{name: "dds", kind: kindSymbols, unit: 4, columns: 1, count: defaultBytes / 4, summary: "show 4-byte values with the symbols they name"},
	{name: "dps", kind: kindSymbols, unit: 8, columns: 1, count: defaultBytes / 8, summary: "show pointers with the symbols they name"},
	{name: "dqs", kind: kindSymbols, unit: 8, columns: 1, count: defaultBytes / 8, summary: "show 8-byte values with the symbols they name"},
	pointers("dda", 4), pointers("ddu", 4), pointers("ddp", 4),
	pointers("dpa", 8), pointers("dpu", 8), pointers("dpp", 8),
	pointers("dqa", 8), pointers("dqu", 8), pointers("dqp", 8),
}

func pointers(name string, unit int) *format {
	f := &format{name: name, kind: kindPointers, unit: unit, columns: 1, count: uint64(defaultBytes / unit), target: name[2]}
	f.summary = map[byte]string{
		'a': "show pointers with the strings of bytes they point at",
		'u': "show pointers with the strings of UTF-16 characters they point at",
		'p': "show pointers with the values they point at",
	}[f.target]
	return f
}

// request is what a d command is asked for.
type request struct {
	*format
	start    uint64
	bytes    uint64
	given    bool // a length or an end was given
	physical bool
	columns  int
}

// maxColumns limits /c; a row is built in memory.
const maxColumns = 1024

// maxStringRange limits the range of a string in characters.
const maxStringRange = 1 << 20

// parseDump reads the options and the range of a d command. Without an address
// the range starts where the last one ended.
func parseDump(ctx context.Context, s *cmd.Session, f *format, text string) (r request, err error) {
	r = request{format: f, columns: f.columns}
	if text, err = r.options(ctx, s.Eval, text); err != nil {
		return r, err
	}
	def := f.count * uint64(f.unit)
	if text == "" {
		r.start, err = nextStart(s, r.physical)
		r.bytes = def
		return r, err
	}
	if countOnly(text) {
		if r.start, err = nextStart(s, r.physical); err != nil {
			return r, err
		}
		text = fmt.Sprintf("0x%x %s", r.start, text)
	}
	rng, rest, err := cmd.ParseRange(ctx, s.Eval, text, uint64(f.unit), def)
	switch {
	case err != nil:
		return r, err
	case rest != "":
		return r, wrong("unexpected %q after the range", rest)
	case f.kind == kindString && rng.Bytes/uint64(f.unit) > maxStringRange:
		return r, wrong("a string of %#x characters: at most %#x are shown", rng.Bytes/uint64(f.unit), maxStringRange)
	}
	r.start, r.bytes, r.given = uint64(rng.Start), rng.Bytes, rng.Given
	return r, nil
}

// countOnly reports whether a range is a length alone: "L20", "l?4".
func countOnly(text string) bool {
	if text[0] != 'L' && text[0] != 'l' {
		return false
	}
	digits := strings.TrimPrefix(text[1:], "?")
	return digits != "" && strings.Trim(digits, "0123456789abcdefABCDEFx") == ""
}

// options reads "/cN" and "/p", "/p[c]" and so on, which may stand in any order.
// How the processor would cache physical memory means nothing in a dump.
func (r *request) options(ctx context.Context, e cmd.Evaluator, text string) (rest string, err error) {
	for {
		text = strings.TrimLeft(text, " \t")
		switch {
		case strings.HasPrefix(text, "/c"):
			n, tail, err := e.EvalPrefix(ctx, text[2:])
			if err != nil {
				return "", wrong("/c: %w", err)
			}
			if n == 0 || n > maxColumns {
				return "", wrong("/c: %d columns: want 1 to %d", n, maxColumns)
			}
			r.columns, text = int(n), tail
		case strings.HasPrefix(text, "/p"):
			r.physical = true
			text = text[2:]
			for _, cache := range []string{"[c]", "[uc]", "[wc]"} {
				text = strings.TrimPrefix(text, cache)
			}
			if text != "" && text[0] != ' ' && text[0] != '\t' && text[0] != '/' {
				return "", wrong("unknown option /p%s", text)
			}
		case strings.HasPrefix(text, "/"):
			word, _, _ := strings.Cut(text, " ")
			return "", wrong("unknown option %s: want /c COLUMNS or /p", word)
		default:
			return text, nil
		}
	}
}

// nextStart tells where a dump without an address begins: behind the last one,
// else at the instruction pointer.
func nextStart(s *cmd.Session, physical bool) (uint64, error) {
	st := stateOf(s)
	switch {
	case physical && st.begunPhysical:
		return st.nextPhysical, nil
	case physical:
		return 0, nil
	case st.begun:
		return st.next, nil
	}
	regs, err := s.Registers()
	if err != nil {
		return 0, wrong("an address is needed: nothing was shown yet, and the instruction pointer is not known")
	}
	return regs.RIP, nil
}

// value reads the unit at the start of a row's piece.
func (f *format) value(b []byte) uint64 {
	switch f.unit {
	case 1:
		return uint64(b[0])
	case 2:
		return uint64(binary.LittleEndian.Uint16(b))
	case 4:
		return uint64(binary.LittleEndian.Uint32(b))
	}
	return binary.LittleEndian.Uint64(b)
}

// spell writes one value as the format shows it.
func (f *format) spell(v uint64, known bool) string {
	switch f.kind {
	case kindFloats:
		return f.float(v, known)
	case kindBits:
		return f.bits(v, known)
	}
	if !known {
		return unknown(f.unit)
	}
	return digits(v, f.unit)
}

// float spells a floating-point number, right-aligned in its column.
func (f *format) float(v uint64, known bool) string {
	width, text := 16, ""
	if f.unit == 8 {
		width = 22
	}
	switch {
	case !known:
		text = strings.Repeat("?", 2*f.unit)
	case f.unit == 4:
		text = floatText(float64(math.Float32frombits(uint32(v))), 8)
	default:
		text = floatText(math.Float64frombits(v), 12)
	}
	return fmt.Sprintf("%*s", width, text)
}

// floatText spells a number with significant digits, and what is no number as C
// does today.
func floatText(v float64, significant int) string {
	switch {
	case math.IsNaN(v) && math.Signbit(v):
		return "-nan"
	case math.IsNaN(v):
		return "nan"
	case math.IsInf(v, 1):
		return "inf"
	case math.IsInf(v, -1):
		return "-inf"
	}
	return fmt.Sprintf("%.*g", significant, v)
}

// bits spells a value in binary, byte by byte, highest first.
func (f *format) bits(v uint64, known bool) string {
	parts := make([]string, f.unit)
	for i := range parts {
		parts[i] = "????????"
		if known {
			parts[i] = fmt.Sprintf("%08b", v>>(8*(f.unit-1-i))&0xff)
		}
	}
	return strings.Join(parts, " ")
}

// width is the number of columns that n values take in a row.
func (f *format) width(n int) int {
	one := len(f.spell(0, false))
	return n*one + n - 1
}
