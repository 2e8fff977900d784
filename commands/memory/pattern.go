package memory

import (
	"context"
	"encoding/binary"
	"strings"
	"unicode/utf16"

	"gokd/commands/cmd"
)

// query is what s is asked for.
type query struct {
	unit    int     // bytes of a value; a match starts at a multiple of it from the start
	show    *format // of a hit's row
	pattern []byte  // nil: any string, -sa and -su
	minimum int     // characters of a string that is shown

	addresses bool // show nothing but the addresses
	writable  bool // only pages that can be written
	save      bool // keep the hits
	saved     bool // look only at the hits that were kept
	keep      int  // how many are kept

	start, length uint64
}

const (
	defaultMinimum = 3    // characters of a string, as documented
	defaultKeep    = 1024 // hits, as documented
	maxKeep        = 1 << 20
	maxPattern     = 1024 // bytes: a page holds the seam of two pieces
	maxMinimum     = 1 << 12
)

// searchTypes are the types of s by their letters: bytes of a value and the
// format of a hit's row, as posted sessions show them.
var searchTypes = map[string]struct {
	unit int
	show string
}{
	"": {1, "db"}, "b": {1, "db"}, "w": {2, "dW"}, "d": {4, "dc"}, "q": {8, "dq"},
	"a": {1, "db"}, "u": {2, "dW"}, "sa": {1, "da"}, "su": {2, "du"},
}

// parseSearch reads what follows s: "-[FLAGS]TYPE RANGE PATTERN", of which the
// first part may be missing.
func parseSearch(ctx context.Context, e cmd.Evaluator, text string) (q query, err error) {
	q = query{minimum: defaultMinimum, keep: defaultKeep}
	typ := ""
	if strings.HasPrefix(text, "-") {
		if typ, text, err = q.options(ctx, e, text[1:]); err != nil {
			return q, err
		}
	}
	t, ok := searchTypes[typ]
	switch {
	case typ == "v":
		return q, wrong("-v searches for the C++ objects of a program: a kernel has none")
	case !ok:
		return q, wrong("-%s is no type of search: want b, w, d, q, a, u, sa or su", typ)
	case q.save && q.saved:
		return q, wrong("the flags s and r can't be combined")
	}
	q.unit, q.show = t.unit, formatNamed(t.show)
	if text, err = q.area(ctx, e, text); err != nil {
		return q, err
	}
	if typ == "sa" || typ == "su" {
		if text != "" {
			return q, wrong("unexpected %q: -%s takes no pattern", text, typ)
		}
		return q, nil
	}
	if q.pattern, err = q.parsePattern(ctx, e, typ, text); err != nil {
		return q, err
	}
	switch {
	case len(q.pattern) == 0:
		return q, wrong("a pattern is missing: values, or a string in quotes")
	case len(q.pattern) > maxPattern:
		return q, wrong("a pattern of %d bytes: at most %d", len(q.pattern), maxPattern)
	}
	return q, nil
}

// area reads the range. Its length counts bytes, whatever the type.
func (q *query) area(ctx context.Context, e cmd.Evaluator, text string) (rest string, err error) {
	// What stands in quotes is no expression.
	before, quoted := text, ""
	if i := strings.IndexByte(text, '"'); i >= 0 {
		before, quoted = text[:i], text[i:]
	}
	needed := wrong("a range is needed: ADDRESS L COUNT, ADDRESS L? COUNT or ADDRESS END")
	if strings.TrimSpace(before) == "" {
		return "", needed
	}
	r, rest, err := cmd.ParseRange(ctx, e, before, 1, 0)
	if err != nil {
		return "", err
	}
	if !r.Given || r.Bytes == 0 {
		return "", needed
	}
	q.start, q.length = uint64(r.Start), r.Bytes
	return strings.TrimSpace(rest + quoted), nil
}

// options reads the flags in brackets and the letters of the type behind them.
func (q *query) options(ctx context.Context, e cmd.Evaluator, text string) (typ, rest string, err error) {
	if flags, after, ok := cutBrackets(text); ok {
		if err := q.flags(ctx, e, flags); err != nil {
			return "", "", err
		}
		text = after
	} else if strings.HasPrefix(text, "[") {
		return "", "", wrong("the flags have no closing bracket")
	}
	end := strings.IndexAny(text, " \t")
	if end < 0 {
		end = len(text)
	}
	return text[:end], strings.TrimLeft(text[end:], " \t"), nil
}

func cutBrackets(text string) (inside, after string, ok bool) {
	if !strings.HasPrefix(text, "[") {
		return "", text, false
	}
	inside, after, ok = strings.Cut(text[1:], "]")
	return inside, after, ok
}

func (q *query) flags(ctx context.Context, e cmd.Evaluator, text string) error {
	for i := 0; i < len(text); i++ {
		switch c := text[i]; c {
		case 's':
			q.save = true
		case 'r':
			q.saved = true
		case 'w':
			q.writable = true
		case '1':
			q.addresses = true
		case ' ':
		case 'l', 'n':
			n := i + 1
			for n < len(text) && (text[n] == ' ' || strings.IndexByte("0123456789abcdefABCDEFx`", text[n]) >= 0) {
				n++
			}
			v, err := e.Eval(ctx, strings.TrimSpace(text[i+1:n]))
			limit := map[byte]uint64{'l': maxMinimum, 'n': maxKeep}[c]
			if err != nil || v == 0 || v > limit {
				return wrong("the flag %c needs a number from 1 to %#x behind it", c, limit)
			}
			if c == 'l' {
				q.minimum = int(v)
			} else {
				q.keep = int(v)
			}
			i = n - 1
		default:
			return wrong("unknown flag %q: want s, r, w, 1, l LENGTH or n HITS", string(rune(c)))
		}
	}
	return nil
}

// parsePattern reads what is searched for: values of the unit, or a string.
func (q *query) parsePattern(ctx context.Context, e cmd.Evaluator, typ, text string) ([]byte, error) {
	if typ == "a" || typ == "u" {
		s, err := unquoted(text)
		if err != nil {
			return nil, err
		}
		return encode(s, q.unit), nil
	}
	var out []byte
	for text != "" {
		if text[0] == '"' {
			end := strings.IndexByte(text[1:], '"')
			if end < 0 {
				return nil, wrong("missing closing quote in %q", text)
			}
			out = append(out, encode(text[1:1+end], min(q.unit, 2))...)
			text = strings.TrimLeft(text[end+2:], " \t")
			continue
		}
		word := text
		if i := strings.IndexAny(text, " \t"); i >= 0 {
			word = text[:i]
		}
		v, err := e.Eval(ctx, word)
		if err != nil {
			return nil, err
		}
		if high := int64(v) >> (8*q.unit - 1); q.unit < 8 && high != -1 && v>>(8*q.unit) != 0 {
			return nil, wrong("%#x does not fit %d bytes: -w, -d and -q search for larger values", v, q.unit)
		}
		out = append(out, binary.LittleEndian.AppendUint64(nil, v)[:q.unit]...)
		text = strings.TrimLeft(text[len(word):], " \t")
	}
	return out, nil
}

// unquoted takes the quotes off a string; without quotes it is what stands there.
func unquoted(text string) (string, error) {
	if !strings.HasPrefix(text, `"`) {
		return text, nil
	}
	body, after, ok := strings.Cut(text[1:], `"`)
	switch {
	case !ok:
		return "", wrong("missing closing quote in %q", text)
	case strings.TrimSpace(after) != "":
		return "", wrong("unexpected %q after the string", after)
	}
	return body, nil
}

// encode gives the bytes of a string in characters of one or two bytes.
func encode(s string, unit int) []byte {
	if unit == 1 {
		return []byte(s)
	}
	var out []byte
	for _, u := range utf16.Encode([]rune(s)) {
		out = binary.LittleEndian.AppendUint16(out, u)
	}
	return out
}
