package repl

import (
	"slices"
	"unicode/utf8"
)

// Bytes of keys that are more than text.
const (
	keyCtrlD     = 0x04
	keyEnter     = '\r'
	keyLineFeed  = '\n'
	keyCtrlZ     = 0x1a
	keyEscape    = 0x1b
	keyBackspace = 0x7f
)

// keyIgnore is a key that the prompt redraws for and does nothing else.
var keyIgnore = []byte{keyEscape, '[', 'E'}

// maxEscape limits an escape sequence in bytes: a terminal sends no longer one.
const maxEscape = 16

// keys cuts what a terminal sends into keys: a run of text, a control
// character, or the escape sequence of a special key. The prompt takes a chunk
// for one key, so that quick typing and pasted lines would go wrong otherwise.
type keys struct {
	pending []byte
	// known reports whether an escape sequence is a key of the prompt; others
	// are dropped, for it would type them in as text.
	known func(sequence []byte) bool

	return13 bool // the last key was a carriage return: a line feed belongs to it
	alone    bool // the last chunk held one key only: it was typed, not pasted
}

// add takes a chunk from the terminal.
func (k *keys) add(chunk []byte) {
	k.alone = len(k.pending) == 0 && len(chunk) == 1
	k.pending = append(k.pending, chunk...)
}

// next gives the next key; nil where there is none, or where what is there may
// go on in the next chunk. final says that nothing followed for a while: an
// escape character alone is then the Escape key.
func (k *keys) next(final bool) []byte {
	for len(k.pending) > 0 {
		n, drop := k.scan(final)
		if n == 0 {
			return nil
		}
		key := slices.Clone(k.pending[:n])
		k.pending = k.pending[n:]
		k.return13 = key[0] == keyEnter
		if !drop {
			return key
		}
	}
	return nil
}

// scan measures the key at the front. n is 0 where it is not whole.
func (k *keys) scan(final bool) (n int, drop bool) {
	switch c := k.pending[0]; {
	case c == keyEscape:
		return k.scanEscape(final)
	case c == keyLineFeed && k.return13:
		return 1, true
	case c < ' ' || c == keyBackspace:
		return 1, c == 0
	}
	n = k.textRun()
	if n == 0 && final {
		return 1, true // a character that never was completed
	}
	return n, false
}

// textRun measures the text at the front, without a character that is not whole.
func (k *keys) textRun() int {
	n := 0
	for n < len(k.pending) && k.pending[n] >= ' ' && k.pending[n] != keyBackspace {
		if !utf8.FullRune(k.pending[n:]) {
			break
		}
		_, size := utf8.DecodeRune(k.pending[n:])
		n += size
	}
	return n
}

// scanEscape measures an escape sequence: ESC [ parameters and a final byte
// (ECMA-48), ESC O and a byte, or ESC and a character (a key with Alt).
func (k *keys) scanEscape(final bool) (n int, drop bool) {
	b := k.pending
	switch {
	case len(b) == 1 && final:
		return 1, false
	case len(b) == 1:
		return 0, false
	case b[1] == keyEscape:
		return 1, false
	case b[1] != '[' && b[1] != 'O':
		return 2, true
	}
	for n = 2; n < len(b) && n < maxEscape; n++ {
		if b[n] >= 0x40 && b[n] <= 0x7e && !(n == 2 && b[n] == '[') { // ESC [ [ A: the Linux console
			return n + 1, !k.known(b[:n+1])
		}
	}
	if final || n == maxEscape {
		return n, true
	}
	return 0, false
}
