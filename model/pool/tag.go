package pool

import (
	"encoding/binary"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"
)

// Tag is the four characters of a pool tag in the order they lie in memory,
// without the protection bit.
type Tag [4]byte

// protectedBit is bit 31 of a stored tag: PROTECTED_POOL of the WDK's
// ExAllocatePoolWithTag documentation. It is no part of the tag's spelling.
const protectedBit = 0x80000000

// TagOf gives the tag that a 32-bit value stores, and whether it is protected.
func TagOf(value uint32) (t Tag, protected bool) {
	binary.LittleEndian.PutUint32(t[:], value&^protectedBit)
	return t, value&protectedBit != 0
}

// Value gives the tag as the 32-bit number that is stored.
func (t Tag) Value() uint32 { return binary.LittleEndian.Uint32(t[:]) }

// String gives the tag as kd prints it: four characters, bytes that do not
// print as dots.
func (t Tag) String() string {
	b := t
	for i, c := range b {
		if c < 0x20 || c > 0x7e {
			b[i] = '.'
		}
	}
	return string(b[:])
}

// Spell gives the tag without loss: printable characters as they are, other
// bytes as \xNN, a backslash as \x5c. It is how JSON carries tags.
func (t Tag) Spell() string {
	plain := true
	for _, c := range t {
		plain = plain && c >= 0x20 && c <= 0x7e && c != '\\'
	}
	if plain { // all but a few
		return string(t[:])
	}
	var b strings.Builder
	for _, c := range t {
		if c < 0x20 || c > 0x7e || c == '\\' {
			fmt.Fprintf(&b, `\x%02x`, c)
			continue
		}
		b.WriteByte(c)
	}
	return b.String()
}

// Compare orders tags by their bytes.
func (t Tag) Compare(u Tag) int { return slices.Compare(t[:], u[:]) }

// Pattern is a set of tags: case-sensitive, `?` for any character and `*` for
// any run of them. The zero Pattern matches every tag.
type Pattern struct {
	value uint32 // as kd shows the pattern: its first four characters
	alts  []alternative
}

// alternative is one way in which a pattern can lie on the four bytes: the
// bytes under mask must be those of value. A run of stars gives a few of them.
type alternative struct{ value, mask uint32 }

// tagMask leaves out the protection bit.
const tagMask = ^uint32(protectedBit)

// ParsePattern reads a pattern. A tag without a star has exactly four
// characters; a shorter one is filled with spaces. Where hex is allowed a
// lower-case 0x starts the tag's number, as for !poolfind; anything else is
// taken as characters. \xNN stands for a byte that can't be typed, so that a
// tag can be pasted as JSON spells it.
func ParsePattern(text string, hex bool) (Pattern, error) {
	if hex && strings.HasPrefix(text, "0x") {
		v, err := strconv.ParseUint(text[2:], 16, 32)
		if err != nil {
			return Pattern{}, fmt.Errorf("tag %q: a value is 0x and up to eight hex digits", text)
		}
		return Pattern{value: uint32(v), alts: []alternative{{uint32(v) & tagMask, tagMask}}}, nil
	}
	cells, err := patternCells(text)
	if err != nil {
		return Pattern{}, err
	}
	star := slices.Contains(cells, anyRun)
	fixed := 0
	for _, c := range cells {
		if c != anyRun {
			fixed++
		}
	}
	switch {
	case len(cells) == 0:
		return Pattern{}, fmt.Errorf("tag missing: four characters, * for any run, ? for any one")
	case fixed > len(Tag{}):
		return Pattern{}, fmt.Errorf("tag %q: longer than four characters", text)
	}
	for !star && len(cells) < len(Tag{}) {
		cells = append(cells, ' ')
	}
	p := Pattern{value: shown(cells)}
	p.expand(cells, 0, alternative{})
	return p, nil
}

// Cells of a pattern that stand for more than one byte.
const (
	anyByte = -1
	anyRun  = -2
)

// patternCells cuts a pattern into bytes and wildcards; stars that follow each
// other are one.
func patternCells(text string) ([]int, error) {
	var cells []int
	for text != "" {
		var c int
		r, n := utf8.DecodeRuneInString(text)
		switch {
		case r == '*':
			c = anyRun
		case r == '?':
			c = anyByte
		case strings.HasPrefix(text, `\x`) && len(text) >= 4 && isHex(text[2:4]):
			v, _ := strconv.ParseUint(text[2:4], 16, 8)
			c, n = int(v), 4
		case r == utf8.RuneError && n == 1:
			c = int(text[0])
		case r > 0xff:
			return nil, fmt.Errorf("tag %q: %q is no single byte", text, r)
		default:
			c = int(r)
		}
		text = text[n:]
		if c != anyRun || len(cells) == 0 || cells[len(cells)-1] != anyRun {
			cells = append(cells, c)
		}
		if len(cells) > 2*len(Tag{})+1 {
			return nil, fmt.Errorf("tag: longer than four characters")
		}
	}
	return cells, nil
}

func isHex(s string) bool { return strings.Trim(s, "0123456789abcdefABCDEF") == "" }

// shown gives the number kd prints for a pattern: its characters, wildcards
// included, filled with spaces (0x2020202a for a lone star).
func shown(cells []int) uint32 {
	t := Tag{' ', ' ', ' ', ' '}
	for i, c := range cells {
		if i == len(t) {
			break
		}
		switch c {
		case anyByte:
			t[i] = '?'
		case anyRun:
			t[i] = '*'
		default:
			t[i] = byte(c)
		}
	}
	return t.Value()
}

// expand adds every way to lay cells on the bytes from at on.
func (p *Pattern) expand(cells []int, at int, a alternative) {
	if len(cells) == 0 {
		if a = (alternative{a.value & a.mask & tagMask, a.mask & tagMask}); at == len(Tag{}) && !slices.Contains(p.alts, a) {
			p.alts = append(p.alts, a)
		}
		return
	}
	if cells[0] == anyRun {
		for skip := at; skip <= len(Tag{}); skip++ {
			p.expand(cells[1:], skip, a)
		}
		return
	}
	if at == len(Tag{}) {
		return
	}
	if c := cells[0]; c != anyByte {
		a.value |= uint32(c) << (8 * at)
		a.mask |= 0xff << (8 * at)
	}
	p.expand(cells[1:], at+1, a)
}

// Value gives the pattern as kd shows it in hex.
func (p Pattern) Value() uint32 { return p.value }

// Text gives the pattern as kd shows it: four characters.
func (p Pattern) Text() string {
	t, _ := TagOf(p.value)
	return t.String()
}

// Match reports whether a tag is in the set.
func (p Pattern) Match(t Tag) bool { return p.match(t.Value()) }

// match takes the stored number; the protection bit does not matter.
func (p Pattern) match(value uint32) bool {
	for _, a := range p.alts {
		if (value^a.value)&a.mask == 0 {
			return true
		}
	}
	return len(p.alts) == 0
}

// One reports whether the pattern names a single tag, and which.
func (p Pattern) One() (Tag, bool) {
	if len(p.alts) != 1 || p.alts[0].mask != tagMask {
		return Tag{}, false
	}
	t, _ := TagOf(p.alts[0].value)
	return t, true
}
