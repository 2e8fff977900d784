package script

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"strconv"
	"strings"
	"unicode/utf16"

	"gokd/commands/cmd"
	"gokd/commands/report"
	"gokd/model/mem"
)

// formatter replaces the conversions of a format by values.
type formatter struct {
	ctx  context.Context
	s    *cmd.Session
	rest string // the expressions that are left
}

// Limits of a format: no terminal is wider, and no text of a dump longer.
const (
	maxWidth   = 1024
	maxText    = 1 << 20 // bytes of a whole answer
	maxCString = 16 << 10
)

// conversion is one % of a format.
type conversion struct {
	minus, plus, space, zero, alt bool
	width                         int
	precision                     int // -1: none
	size                          string
	verb                          string // "d", "ma", "msu", "I"
}

// sizes are the modifiers, longest first.
var sizes = []string{"I64", "I32", "ll", "l", "h", "w", "L"}

// format gives the text with its values.
func (f *formatter) format(text string) (string, error) {
	var b strings.Builder
	for text != "" {
		i := strings.IndexByte(text, '%')
		if i < 0 {
			break
		}
		b.WriteString(text[:i])
		text = text[i+1:]
		c, n, err := readConversion(text)
		if err != nil {
			return "", err
		}
		text = text[n:]
		if c.verb == "%" {
			b.WriteByte('%')
			continue
		}
		v, err := f.next(c)
		if err != nil {
			return "", err
		}
		piece, err := f.convert(c, v)
		if err != nil {
			return "", fmt.Errorf(".printf: %%%s of %#x: %w", c.verb, v, err)
		}
		b.WriteString(c.pad(piece))
		if b.Len() > maxText {
			return "", fmt.Errorf(".printf: more than %d bytes of text", maxText)
		}
	}
	b.WriteString(text)
	return b.String(), nil
}

// readConversion reads what follows a percent sign.
func readConversion(text string) (c conversion, n int, err error) {
	c.precision = -1
	whole := text
	for ; text != ""; text = text[1:] {
		flag := map[byte]*bool{'-': &c.minus, '+': &c.plus, ' ': &c.space, '0': &c.zero, '#': &c.alt}[text[0]]
		if flag == nil {
			break
		}
		*flag = true
	}
	if c.width, text, err = readNumber(text); err != nil {
		return c, 0, err
	}
	if after, ok := strings.CutPrefix(text, "."); ok {
		if c.precision, text, err = readNumber(after); err != nil {
			return c, 0, err
		}
	}
	for _, size := range sizes {
		if after, ok := strings.CutPrefix(text, size); ok {
			c.size, text = size, after
			break
		}
	}
	for _, verb := range []string{"msa", "msu", "ma", "mu"} {
		if after, ok := strings.CutPrefix(text, verb); ok {
			c.verb = verb
			return c, len(whole) - len(after), nil
		}
	}
	if text == "" || !strings.Contains("diuxXocCsSpNyeEfgGI%", text[:1]) {
		return c, 0, fmt.Errorf(".printf: unknown conversion %q", "%"+whole[:min(len(whole), len(whole)-len(text)+1)])
	}
	c.verb = text[:1]
	return c, len(whole) - len(text) + 1, nil
}

func readNumber(text string) (n int, rest string, err error) {
	i := 0
	for i < len(text) && text[i] >= '0' && text[i] <= '9' {
		i++
	}
	if i == 0 {
		return 0, text, nil
	}
	n, err = strconv.Atoi(text[:i])
	if err != nil || n > maxWidth {
		return 0, text, fmt.Errorf(".printf: width %s: at most %d", text[:i], maxWidth)
	}
	return n, text[i:], nil
}

// next evaluates the next expression.
func (f *formatter) next(c conversion) (uint64, error) {
	rest := strings.TrimLeft(f.rest, blanks)
	if after, ok := strings.CutPrefix(rest, ","); ok {
		rest = after
	} else if rest != "" {
		return 0, fmt.Errorf(".printf: a comma is expected before %q", rest)
	}
	rest = strings.TrimLeft(rest, blanks)
	switch {
	case rest == "":
		return 0, fmt.Errorf(".printf: the value for %%%s is missing", c.verb)
	case f.s.Eval == nil:
		return 0, errors.New("no evaluator")
	}
	v, rest, err := f.s.Eval.EvalPrefix(f.ctx, rest)
	f.rest = rest
	return v, err
}

// pad brings a piece to its width.
func (c conversion) pad(piece string) string {
	fill := c.width - len([]rune(piece))
	switch {
	case fill <= 0:
		return piece
	case c.minus:
		return piece + strings.Repeat(" ", fill)
	case c.zero && c.numeric() && c.precision < 0:
		sign := ""
		if strings.IndexAny(piece, "+- ") == 0 {
			sign, piece = piece[:1], piece[1:]
		}
		return sign + strings.Repeat("0", fill) + piece
	}
	return strings.Repeat(" ", fill) + piece
}

func (c conversion) numeric() bool {
	return len(c.verb) == 1 && strings.Contains("diuxXoeEfgGpN", c.verb)
}

// convert gives the text of a value.
func (f *formatter) convert(c conversion, v uint64) (string, error) {
	switch c.verb {
	case "d", "i", "u", "x", "X", "o":
		return c.integer(v), nil
	case "p":
		return fmt.Sprintf("%016x", v), nil
	case "N":
		return fmt.Sprintf("%016X", v), nil
	case "I":
		if v>>32 != 0 {
			return report.Addr(v).Tick(), nil
		}
		return fmt.Sprintf("%08x", v), nil
	case "c":
		return string(rune(v & 0xff)), nil
	case "C":
		return string(rune(v & 0xffff)), nil
	case "e", "E", "f", "g", "G":
		return c.float(v), nil
	case "y":
		return f.symbol(mem.VA(v)), nil
	}
	text, err := readString(f.s, c.verb, mem.VA(v))
	if c.precision >= 0 {
		r := []rune(text)
		text = string(r[:min(len(r), c.precision)])
	}
	return text, err
}

// integer writes a number of the size that the conversion names.
func (c conversion) integer(v uint64) string {
	signed := int64(v)
	switch c.size {
	case "I64", "ll":
	case "h":
		v, signed = v&0xffff, int64(int16(v))
	default:
		v, signed = v&0xffffffff, int64(int32(v))
	}
	var digits, sign string
	switch c.verb {
	case "d", "i":
		digits = strconv.FormatInt(signed, 10)
		switch {
		case signed < 0:
			sign, digits = "-", digits[1:]
		case c.plus:
			sign = "+"
		case c.space:
			sign = " "
		}
	case "u":
		digits = strconv.FormatUint(v, 10)
	case "o":
		digits = strconv.FormatUint(v, 8)
		if c.alt && v != 0 {
			digits = "0" + digits
		}
	default:
		digits = strconv.FormatUint(v, 16)
		if c.verb == "X" {
			digits = strings.ToUpper(digits)
		}
	}
	if fill := c.precision - len(digits); fill > 0 {
		digits = strings.Repeat("0", fill) + digits
	}
	if c.alt && v != 0 && (c.verb == "x" || c.verb == "X") {
		// The zeros of a width stand behind the 0x.
		if fill := c.width - len(digits) - 2; fill > 0 && c.zero && c.precision < 0 && !c.minus {
			digits = strings.Repeat("0", fill) + digits
		}
		digits = "0" + c.verb + digits
	}
	return sign + digits
}

// float writes the bits of a value as a 32-bit float, or with l as a double. The
// exponent has three digits, as in the runtime that the debuggers use.
func (c conversion) float(v uint64) string {
	x := float64(math.Float32frombits(uint32(v)))
	if c.size == "l" || c.size == "L" || c.size == "I64" {
		x = math.Float64frombits(v)
	}
	precision := c.precision
	if precision < 0 {
		precision = 6
	}
	text := ThreeDigits(fmt.Sprintf("%."+strconv.Itoa(precision)+c.verb, x))
	if c.plus && x >= 0 {
		text = "+" + text
	}
	return text
}

// ThreeDigits writes an exponent of two digits with three: "1e-05" as "1e-005".
func ThreeDigits(text string) string {
	i := strings.LastIndexAny(text, "eE")
	if i >= 0 && len(text)-i == 4 && (text[i+1] == '+' || text[i+1] == '-') {
		return text[:i+2] + "0" + text[i+2:]
	}
	return text
}

// symbol names an address: "nt!KeBugCheckEx (fffff800`02203a40)".
func (f *formatter) symbol(at mem.VA) string {
	address := report.Addr(at).Tick()
	if f.s.Kernel == nil {
		return address
	}
	if name := f.s.Kernel.NameOf(f.ctx, at).String(); name != "" {
		name = strings.TrimSuffix(name, "+0x0") // a module's first byte
		return name + " (" + address + ")"
	}
	return address
}

// readString reads the string that %ma and its kin name.
func readString(s *cmd.Session, kind string, at mem.VA) (string, error) {
	switch kind {
	case "msa", "msu":
		// ANSI_STRING and UNICODE_STRING: Length in bytes, MaximumLength, and in
		// 64-bit systems the buffer's address at 8 (ntdef.h).
		var head [16]byte
		if _, err := s.ReadVirtual(head[:], at); err != nil {
			return "", err
		}
		b := make([]byte, binary.LittleEndian.Uint16(head[:]))
		if _, err := s.ReadVirtual(b, mem.VA(binary.LittleEndian.Uint64(head[8:]))); err != nil {
			return "", err
		}
		if kind == "msa" {
			return latin1(b), nil
		}
		return wide(b), nil
	case "mu", "S":
		b, err := terminated(s, at, 2)
		return wide(b), err
	}
	b, err := terminated(s, at, 1)
	return latin1(b), err
}

// terminated reads characters up to a zero one. Memory that ends before it gives
// what there is; none at all is an error.
func terminated(s *cmd.Session, at mem.VA, size int) ([]byte, error) {
	var text []byte
	for len(text) < maxCString {
		// Up to the end of the page: the next one may be missing.
		n := min(mem.PageSize-int(uint64(at)%mem.PageSize), maxCString-len(text))
		b := make([]byte, max(n, size))
		got, err := s.ReadVirtual(b, at)
		text = append(text, b[:got]...)
		for i := 0; i+size <= len(text); i += size {
			if text[i] == 0 && text[i+size-1] == 0 {
				return text[:i], nil
			}
		}
		if err != nil {
			if len(text) < size {
				return nil, err
			}
			break
		}
		at += mem.VA(got)
	}
	return text[:len(text)/size*size], nil
}

// latin1 gives each byte as the character of its number.
func latin1(b []byte) string {
	r := make([]rune, len(b))
	for i, c := range b {
		r[i] = rune(c)
	}
	return string(r)
}

// wide gives little-endian UTF-16 as text.
func wide(b []byte) string {
	u := make([]uint16, len(b)/2)
	for i := range u {
		u[i] = binary.LittleEndian.Uint16(b[2*i:])
	}
	return string(utf16.Decode(u))
}
