package symbol

import (
	"context"
	"encoding/binary"
	"fmt"
	"math"
	"strconv"
	"strings"
	"unicode/utf16"

	"gokd/model/mem"
	"gokd/model/types"
)

// reader reads target memory for one answer, and remembers what it could not
// read.
type reader struct {
	read func(p []byte, at uint64) (int, error)
	bad  *uint64 // the first address that could not be read
}

// bytes gives n bytes; an error comes with those before the hole.
func (r *reader) bytes(at uint64, n int) ([]byte, error) {
	if n <= 0 {
		return nil, nil
	}
	b := make([]byte, n)
	got, err := r.read(b, at)
	if got == n {
		return b, nil
	}
	if err == nil {
		err = &mem.Fault{Kind: mem.NotCaptured, VA: mem.VA(at + uint64(got))}
	}
	if r.bad == nil {
		where := at + uint64(got)
		r.bad = &where
	}
	return b[:got], err
}

// number formats an unsigned value: kd prints those below ten without prefix,
// and those of more than 32 bits with the tick.
func number(v uint64) string {
	switch {
	case v < 10:
		return strconv.FormatUint(v, 10)
	case v>>32 == 0:
		return fmt.Sprintf("%#x", v)
	}
	return pointer(v)
}

// pointer formats an address with its prefix and tick.
func pointer(v uint64) string { return fmt.Sprintf("0x%08x`%08x", v>>32, v&math.MaxUint32) }

// bits formats a bit-field in binary; those of more than four bits have their
// value behind it.
func bits(v uint64, n uint8) string {
	text := fmt.Sprintf("0y%0*b", n, v)
	switch {
	case n <= 4:
		return text
	case v == 0:
		return text + " (0)"
	}
	return fmt.Sprintf("%s (%#x)", text, v)
}

// char formats one character: its value, then itself.
func char(v uint64, unsigned bool) string {
	text := strconv.Itoa(int(int8(v)))
	if unsigned {
		text = strconv.FormatUint(v, 10)
		if v != 0 {
			text = fmt.Sprintf("%#x", v)
		}
	}
	if v < 0x20 || v > 0x7e {
		return text + " ''"
	}
	return fmt.Sprintf("%s '%c'", text, byte(v))
}

// signed extends a value of that many bytes.
func signed(v uint64, size uint32) int64 {
	if size == 0 || size >= 8 {
		return int64(v)
	}
	shift := 64 - 8*size
	return int64(v<<shift) >> shift
}

// enumText formats a value of an enumeration: hexadecimal, then its name.
func enumText(t *types.Type, v uint64) string {
	if name, ok := enumName(t, v); ok {
		return fmt.Sprintf("%x ( %s )", v, name)
	}
	return fmt.Sprintf("%x (No matching name)", v)
}

// enumName finds the name of a value; of several the shortest, which is the one
// that others were derived from.
func enumName(t *types.Type, v uint64) (string, bool) {
	best := ""
	for name, n := range t.Consts {
		same := signed(uint64(n), t.Size) == signed(v, t.Size)
		if same && (best == "" || len(name) < len(best) || len(name) == len(best) && name < best) {
			best = name
		}
	}
	return best, best != ""
}

// byteText formats a text of bytes up to its NUL; kd ends it with question marks
// at the first byte that does not print.
func byteText(b []byte) string {
	var out strings.Builder
	for _, c := range b {
		if c == 0 {
			break
		}
		if c < 0x20 || c > 0x7e {
			out.WriteString("???")
			break
		}
		out.WriteByte(c)
	}
	return `"` + out.String() + `"`
}

// wideText formats UTF-16 up to its NUL.
func wideText(b []byte) string {
	units := make([]uint16, 0, len(b)/2)
	for ; len(b) >= 2; b = b[2:] {
		u := binary.LittleEndian.Uint16(b)
		if u == 0 {
			break
		}
		units = append(units, u)
	}
	return `"` + string(utf16.Decode(units)) + `"`
}

// float formats a floating-point value.
func float(v uint64, size uint32) string {
	if size == 4 {
		return strconv.FormatFloat(float64(math.Float32frombits(uint32(v))), 'g', -1, 32)
	}
	return strconv.FormatFloat(math.Float64frombits(v), 'g', -1, 64)
}

// unreadable is what kd prints for a value that is not in the dump: two marks,
// four for a pointer.
func unreadable(t *types.Type) string {
	if t.Kind == types.KindPointer {
		return "???? "
	}
	return "??"
}

func readError(at uint64) string {
	return fmt.Sprintf(`"--- memory read error at address %s ---"`, pointer(at))
}

// guidText formats a GUID's 16 bytes as kd does.
func guidText(b []byte) string {
	le := binary.LittleEndian
	return fmt.Sprintf("{%08x-%04x-%04x-%x-%x}", le.Uint32(b), le.Uint16(b[4:]), le.Uint16(b[6:]), b[8:10], b[10:16])
}

// valuer formats values of types at addresses.
type valuer struct {
	ctx     context.Context
	mem     *reader
	store   types.Store
	verbose bool
	name    func(at mem.VA) string // "nt!Foo+0"; empty where unknown
}

// Limits of texts that pointers lead to, in bytes.
const (
	maxPointedText = 256
	maxStringText  = 0x7fff * 2
)

// raw reads an integer, pointer or enumeration of up to 8 bytes.
func (v *valuer) raw(t *types.Type, at uint64) (uint64, error) {
	size := t.Size
	if size == 0 || size > 8 {
		return 0, fmt.Errorf("%s is %d bytes, no integer", t.Name, size)
	}
	b, err := v.mem.bytes(at, int(size))
	if err != nil {
		return 0, err
	}
	var whole [8]byte
	copy(whole[:], b)
	return binary.LittleEndian.Uint64(whole[:]), nil
}

// field formats the value of a member; level is how deep it is nested.
func (v *valuer) field(f types.Field, at uint64, level int) (text string, value *uint64, err error) {
	if f.BitLen == 0 {
		return v.value(f.Type, at, level)
	}
	n, err := v.raw(f.Type, at)
	prefix := ""
	if v.verbose {
		prefix = "Bitfield "
	}
	if err != nil {
		return prefix + "??", nil, err
	}
	n >>= f.BitPos
	if f.BitLen < 64 {
		n &= 1<<f.BitLen - 1
	}
	return prefix + bits(n, f.BitLen), &n, nil
}

// value formats what lies at an address.
func (v *valuer) value(t *types.Type, at uint64, level int) (text string, value *uint64, err error) {
	switch t.Kind {
	case types.KindStruct, types.KindUnion:
		special, err := v.special(t, at)
		return typeText(t, v.verbose) + special, nil, err
	case types.KindArray:
		text, err = v.array(t, at, level)
		return text, nil, err
	case types.KindVoid, types.KindFunction:
		return typeText(t, v.verbose), nil, nil
	}
	if t.Size > 8 || t.Size == 0 {
		return typeText(t, v.verbose), nil, nil
	}
	n, err := v.raw(t, at)
	if err != nil {
		return unreadable(t), nil, err
	}
	return v.scalar(t, n, level), &n, nil
}

// scalar formats a value that was read.
func (v *valuer) scalar(t *types.Type, n uint64, level int) string {
	switch t.Kind {
	case types.KindPointer:
		return v.pointer(t, n, level)
	case types.KindEnum:
		return enumText(t, n)
	case types.KindFloat:
		return float(n, t.Size)
	case types.KindChar:
		if character(t) {
			return char(n, unsignedChar(t))
		}
	case types.KindSigned:
		if !wide(t) {
			return fmt.Sprintf("0n%d", signed(n, t.Size))
		}
	}
	if wide(t) && n >= 0x20 && n <= 0x7e {
		return fmt.Sprintf("%#x '%c'", n, byte(n))
	}
	return number(n)
}

// array formats an array: text as such, of others the first element.
func (v *valuer) array(t *types.Type, at uint64, level int) (string, error) {
	count := fmt.Sprintf("[%d] ", t.Count)
	elem := t.Elem
	switch {
	case elem == nil || t.Count == 0:
		return count + typeText(elem, v.verbose), nil
	case character(elem), wide(elem):
		b, err := v.mem.bytes(at, int(min(t.Size, maxStringText)))
		switch {
		case err != nil && len(b) == 0:
			return count + " " + readError(at), err
		case wide(elem):
			return count + " " + wideText(b), err
		}
		return count + " " + byteText(b), err
	case level > maxTypeText:
		return count + "...", nil
	}
	text, _, err := v.value(elem, at, level+1)
	return count + text, err
}

// pointer formats a pointer, and what it leads to where that is short.
func (v *valuer) pointer(t *types.Type, n uint64, level int) string {
	if n == 0 {
		return "(null) "
	}
	text := pointer(n)
	if t.Size == 4 {
		text = fmt.Sprintf("0x%08x", n)
	}
	elem := v.complete(t.Elem)
	switch {
	case elem == nil:
		return text + " Void"
	case elem.Kind == types.KindFunction:
		return text + v.function(elem, n, level)
	case character(elem), wide(elem):
		return text + "  " + v.pointed(elem, n)
	case elem.Kind == types.KindStruct, elem.Kind == types.KindUnion:
		quiet := v.mem.bad
		special, _ := v.special(elem, n)
		v.mem.bad = quiet // what a pointer leads to is no part of the structure
		return text + " " + typeText(elem, v.verbose) + special
	case elem.Kind == types.KindVoid:
		return text + " Void"
	case elem.Kind == types.KindArray || level > 2:
		return text + " " + typeText(elem, v.verbose)
	}
	quiet := v.mem.bad
	to, _, err := v.value(elem, n, level+1)
	if err != nil {
		v.mem.bad = quiet
		return text + "  -> ??"
	}
	return text + "  -> " + to
}

// function formats what a pointer to code leads to. The blanks before the type
// of the result follow the depth, as kd prints them.
func (v *valuer) function(t *types.Type, at uint64, level int) string {
	name := v.name(mem.VA(at))
	if name == "" {
		name = fmt.Sprintf("+%x", at)
	}
	pad := strings.Repeat(" ", 5+3*level)
	if !knownFunction(t) {
		return pad + name
	}
	return pad + cText(t.Elem, 0) + "  " + name
}

// pointed formats the text that a pointer leads to.
func (v *valuer) pointed(elem *types.Type, at uint64) string {
	quiet := v.mem.bad
	b, err := v.mem.bytes(at, maxPointedText)
	v.mem.bad = quiet
	switch {
	case err != nil && len(b) == 0:
		return readError(at)
	case wide(elem):
		return wideText(b)
	}
	return byteText(b)
}

// complete gives the full type where a pointer names it only.
func (v *valuer) complete(t *types.Type) *types.Type {
	if t == nil || len(t.Fields) > 0 || t.Name == "" || t.Kind != types.KindStruct && t.Kind != types.KindUnion || v.store == nil {
		return t
	}
	if full, err := v.store.Type(t.Name); err == nil {
		return full
	}
	return t
}

// special formats the structures that kd shows in a line: list entries, strings,
// GUIDs and large integers. The text begins with a blank; it is empty for others.
func (v *valuer) special(t *types.Type, at uint64) (string, error) {
	switch t.Name {
	case "_LIST_ENTRY":
		b, err := v.mem.bytes(at, 16)
		if err != nil || t.Size != 16 {
			return "", err
		}
		le := binary.LittleEndian
		text := fmt.Sprintf(" [ %s - %s ]", pointer(le.Uint64(b)), pointer(le.Uint64(b[8:])))
		if v.verbose {
			text = "\n" + text
		}
		return text, nil
	case "_UNICODE_STRING", "_STRING", "_ANSI_STRING", "_OEM_STRING":
		return v.counted(t, at)
	case "_GUID":
		b, err := v.mem.bytes(at, 16)
		if err != nil {
			return "", err
		}
		return " " + guidText(b), nil
	case "_LARGE_INTEGER", "_ULARGE_INTEGER":
		b, err := v.mem.bytes(at, 8)
		if err != nil {
			return " ??", err
		}
		n := binary.LittleEndian.Uint64(b)
		if n>>32 != 0 {
			return " " + pointer(n), nil
		}
		return fmt.Sprintf(" 0x%x", n), nil
	}
	return "", nil
}

// counted formats the text of a _UNICODE_STRING or _STRING of 64 bits: a length
// in bytes, and at 8 the address.
func (v *valuer) counted(t *types.Type, at uint64) (string, error) {
	b, err := v.mem.bytes(at, 16)
	if err != nil || t.Size != 16 {
		return "", err
	}
	length, text := binary.LittleEndian.Uint16(b), binary.LittleEndian.Uint64(b[8:])
	if length == 0 || text == 0 {
		return ` ""`, nil
	}
	quiet := v.mem.bad
	chars, err := v.mem.bytes(text, int(length))
	v.mem.bad = quiet
	switch {
	case err != nil && len(chars) < 2:
		return " " + readError(text), nil
	case t.Name == "_UNICODE_STRING":
		return " " + wideText(chars), nil
	}
	return " " + byteText(chars), nil
}
