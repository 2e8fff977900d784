package cmd

import (
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"
)

// Wildcard is a pattern with the debuggers' string wildcards, made ready for
// many texts (documentation of the debuggers, "String Wildcard Syntax"):
//
//   - any run of characters, also none
//     ?        any one character
//     [a-cx]   one of these characters; a range of two ends
//     #        none, one or more of the character before it
//   - one or more of the character before it
//     \        takes the next character as it stands
//
// A # or + with nothing before it, and a [ that is not closed, are ordinary.
// It is safe for use by several goroutines.
type Wildcard struct {
	parts []part
	fold  bool
	plain string // the text itself, where nothing in it is a wildcard
	exact bool
	runs  bool // # or + occurs

	// middle is what stands between the stars of *middle*, the pattern that is
	// used most, in lower case if case is ignored; empty for others.
	middle string
}

// part matches one character, or with many set any number of them.
type part struct {
	char rune
	set  []span // of [ ]; nil: char or any
	any  bool
	many bool
}

type span struct{ from, to rune }

// NewWildcard reads a pattern; every text is one. fold ignores the case.
func NewWildcard(pattern string, fold bool) *Wildcard {
	w := &Wildcard{fold: fold, exact: true}
	var plain strings.Builder
	for i := 0; i < len(pattern); {
		c, n := decode(pattern[i:])
		i += n
		last := len(w.parts) - 1
		switch {
		case c == '*':
			w.exact = false
			if last < 0 || !w.parts[last].any || !w.parts[last].many {
				w.parts = append(w.parts, part{any: true, many: true})
			}
			continue
		case c == '?':
			w.exact = false
			w.parts = append(w.parts, part{any: true})
			continue
		case (c == '#' || c == '+') && last >= 0:
			w.repeat(c)
			continue
		case c == '[':
			if set, rest, ok := readSet(pattern[i:]); ok {
				w.exact = false
				w.parts = append(w.parts, part{set: set})
				i = len(pattern) - len(rest)
				continue
			}
		case c == '\\' && i < len(pattern):
			c, n = decode(pattern[i:])
			i += n
		}
		plain.WriteString(pattern[i-n : i])
		w.parts = append(w.parts, part{char: c})
	}
	w.plain = plain.String()
	w.prepare()
	return w
}

// repeat lets the last part stand any number of times; + keeps one before it.
func (w *Wildcard) repeat(c rune) {
	w.exact, w.runs = false, true
	again := w.parts[len(w.parts)-1]
	if again.many {
		return
	}
	again.many = true
	if c == '+' {
		w.parts = append(w.parts, again)
		return
	}
	w.parts[len(w.parts)-1] = again
}

// readSet reads what stands between brackets.
func readSet(text string) (set []span, rest string, ok bool) {
	end := strings.IndexByte(text, ']')
	if end <= 0 {
		return nil, text, false
	}
	var chars []rune
	for i := 0; i < end; {
		c, n := decode(text[i:])
		chars = append(chars, c)
		i += n
	}
	for i := 0; i < len(chars); i++ {
		s := span{chars[i], chars[i]}
		if i+2 < len(chars) && chars[i+1] == '-' {
			s.to = chars[i+2]
			i += 2
		}
		set = append(set, s)
	}
	return set, text[end+1:], true
}

// prepare folds the characters once.
func (w *Wildcard) prepare() {
	for i := range w.parts {
		if p := &w.parts[i]; w.fold {
			p.char = lower(p.char)
		}
	}
	last := len(w.parts) - 1
	if last < 2 || !w.parts[0].many || !w.parts[0].any || !w.parts[last].many || !w.parts[last].any {
		return
	}
	var middle []byte
	for _, p := range w.parts[1:last] {
		if p.any || p.many || p.set != nil || p.char >= utf8.RuneSelf {
			return
		}
		middle = append(middle, byte(p.char))
	}
	w.middle = string(middle)
}

// contains looks for the middle among characters of ASCII; sure is false where
// the text has others, of which some fold to ASCII.
func (w *Wildcard) contains(text string) (found, sure bool) {
	if !w.fold {
		return strings.Contains(text, w.middle), true
	}
	first, beyond := w.middle[0], byte(0)
	for i := range len(text) {
		beyond |= text[i]
		if lowerASCII[text[i]] != first || len(text)-i < len(w.middle) {
			continue
		}
		n := 1
		for n < len(w.middle) && lowerASCII[text[i+n]] == w.middle[n] {
			n++
		}
		if n == len(w.middle) {
			return true, true
		}
	}
	return false, beyond < utf8.RuneSelf
}

// lowerASCII folds the letters of ASCII.
var lowerASCII = func() (table [256]byte) {
	for i := range table {
		table[i] = byte(i)
		if i >= 'A' && i <= 'Z' {
			table[i] += 'a' - 'A'
		}
	}
	return table
}()

// Exact tells whether the pattern has no wildcard, and the text it stands for.
func (w *Wildcard) Exact() (text string, ok bool) { return w.plain, w.exact }

// Match reports whether the pattern matches the whole text. It takes time in
// proportion to the lengths of both multiplied, at most.
func (w *Wildcard) Match(text string) bool {
	switch {
	case w.exact && !w.fold:
		return text == w.plain
	case w.runs:
		return w.simulate(text)
	case w.middle != "":
		if found, sure := w.contains(text); found || sure {
			return found
		}
	}
	return w.greedy(text)
}

// greedy matches patterns whose only repetition is *: the last * takes as
// little as possible, and one character more each time the rest fails.
func (w *Wildcard) greedy(text string) bool {
	p, i := 0, 0
	star, from := -1, 0
	for i < len(text) {
		c, n := w.next(text[i:])
		switch {
		case p < len(w.parts) && w.parts[p].many:
			star = p
			p++
			i = w.seek(p, text, i)
			from = i
		case p < len(w.parts) && w.parts[p].matches(c, w.fold):
			p++
			i += n
		case star >= 0:
			_, n := w.next(text[from:])
			from = w.seek(star+1, text, from+n)
			p, i = star+1, from
		default:
			return false
		}
	}
	for p < len(w.parts) && w.parts[p].many {
		p++
	}
	return p == len(w.parts)
}

// seek goes on to where a part may match, past the characters that differ from
// it: what follows a * is looked for in most texts in vain.
func (w *Wildcard) seek(p int, text string, i int) int {
	if p >= len(w.parts) {
		return len(text)
	}
	want := &w.parts[p]
	if want.any || want.set != nil || want.char >= utf8.RuneSelf {
		return i
	}
	a, b := byte(want.char), byte(want.char)
	if w.fold && a >= 'a' && a <= 'z' {
		b -= 'a' - 'A'
	}
	for ; i < len(text); i++ {
		// Characters beyond ASCII may fold to one of it.
		if c := text[i]; c == a || c == b || c >= utf8.RuneSelf {
			break
		}
	}
	return i
}

// simulate matches any pattern by following all its readings at once.
func (w *Wildcard) simulate(text string) bool {
	now, after := make([]bool, len(w.parts)+1), make([]bool, len(w.parts)+1)
	now[0] = true
	w.skip(now)
	for i := 0; i < len(text); {
		c, n := w.next(text[i:])
		i += n
		clear(after)
		for p, on := range now[:len(w.parts)] {
			if !on || !w.parts[p].matches(c, w.fold) {
				continue
			}
			if w.parts[p].many {
				after[p] = true
			} else {
				after[p+1] = true
			}
		}
		w.skip(after)
		if !slices.Contains(after, true) {
			return false
		}
		now, after = after, now
	}
	return now[len(w.parts)]
}

// skip goes past the parts that may be missing.
func (w *Wildcard) skip(on []bool) {
	for p := range w.parts {
		if on[p] && w.parts[p].many {
			on[p+1] = true
		}
	}
}

func (w *Wildcard) next(text string) (rune, int) {
	c, n := decode(text)
	if w.fold {
		c = lower(c)
	}
	return c, n
}

// decode gives the first character. A byte that is no UTF-8 stands for itself,
// as a value that no character has.
func decode(text string) (rune, int) {
	if c := text[0]; c < utf8.RuneSelf {
		return rune(c), 1
	}
	c, n := utf8.DecodeRuneInString(text)
	if c == utf8.RuneError && n == 1 {
		c = 0xdc00 + rune(text[0])
	}
	return c, n
}

func lower(c rune) rune {
	switch {
	case c >= 'A' && c <= 'Z':
		return c + 'a' - 'A'
	case c < utf8.RuneSelf:
		return c
	}
	return unicode.ToLower(c)
}

func (p *part) matches(c rune, fold bool) bool {
	if p.any {
		return true
	}
	if p.set == nil {
		return p.char == c
	}
	for _, s := range p.set {
		if c >= s.from && c <= s.to {
			return true
		}
		// A folded character is in a range if either of its cases is.
		if up := unicode.ToUpper(c); fold && up >= s.from && up <= s.to {
			return true
		}
	}
	return false
}

// MatchWildcard reports whether a pattern with kd's string wildcards matches the
// whole text; fold ignores the case. See Wildcard for the grammar.
func MatchWildcard(pattern, text string, fold bool) bool {
	return NewWildcard(pattern, fold).Match(text)
}
