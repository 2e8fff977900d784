package masm

import (
	"fmt"
	"strconv"
	"strings"
)

// cppToken is a token of a C++ expression.
type cppToken struct {
	kind  cppKind
	text  string
	value uint64
	float float64
	wide  bool // of cppNumber: 64 bits
	sign  bool // of cppNumber: signed
	inner token
	at    int
	err   error
}

type cppKind uint8

const (
	cppEnd      cppKind = iota
	cppNumber           // value
	cppFloat            // float
	cppChar             // value
	cppName             // a symbol, a type, or a word of the language
	cppRegister         // after "@"
	cppMacro            // after "#"
	cppNested           // inner
	cppSign             // text
	cppBad              // err
)

// cppSigns are the signs of C++, longest first.
var cppSigns = []string{
	"<<=", ">>=", "->*", "...",
	"->", "++", "--", "<<", ">>", "<=", ">=", "==", "!=", "&&", "||", "+=", "-=", "*=", "/=", "%=", "&=", "|=", "^=", ".*",
	"+", "-", "*", "/", "%", "&", "|", "^", "~", "!", "=", "<", ">", "(", ")", "[", "]", ".", "?", ":", ",",
}

// cppLexer cuts a C++ expression into tokens.
type cppLexer struct {
	text string
	at   int
}

// next gives the token at the lexer's place; what is none is one of kind cppBad.
func (l *cppLexer) next() cppToken {
	for l.at < len(l.text) && blank(l.text[l.at]) {
		l.at++
	}
	t := cppToken{at: l.at}
	if l.at == len(l.text) || strings.HasPrefix(l.text[l.at:], "//") {
		return t
	}
	t, err := l.read(t)
	if err != nil {
		t.kind, t.err = cppBad, err
	}
	return t
}

func (l *cppLexer) read(t cppToken) (cppToken, error) {
	switch c := l.text[l.at]; {
	case strings.HasPrefix(l.text[l.at:], "@@"):
		m := lexer{text: l.text, at: l.at}
		inner, err := m.nested()
		// Without a name it is MASM in a C++ expression.
		if strings.HasPrefix(l.text[l.at:], "@@(") {
			inner.cpp = false
		}
		t.kind, t.inner, l.at = cppNested, inner, m.at
		return t, err
	case c == '@':
		m := lexer{text: l.text, at: l.at}
		inner, err := m.register()
		t.kind, t.text, l.at = cppRegister, inner.text, m.at
		if inner.kind == tokName {
			t.kind = cppName
		}
		return t, err
	case c == '#':
		end := l.at + 1
		for end < len(l.text) && isWord(l.text[end]) {
			end++
		}
		t.kind, t.text, l.at = cppMacro, l.text[l.at+1:end], end
		return t, nil
	case c >= '0' && c <= '9':
		return l.number(t)
	case c == '\'':
		return l.char(t)
	case isWord(c), strings.HasPrefix(l.text[l.at:], "::"):
		return l.name(t)
	case c == '!' && l.at+1 < len(l.text) && l.text[l.at+1] == '_': // "!_name" is no "not"
		return l.name(t)
	}
	for _, s := range cppSigns {
		if strings.HasPrefix(l.text[l.at:], s) {
			l.at += len(s)
			t.kind, t.text = cppSign, s
			return t, nil
		}
	}
	return t, syntaxError(l.text, l.at, "unexpected character")
}

// name reads "module!name", "A::B" and words.
func (l *cppLexer) name(t cppToken) (cppToken, error) {
	start := l.at
	bang := false
	for l.at < len(l.text) {
		rest := l.text[l.at:]
		switch {
		case isWord(rest[0]):
			l.at++
			continue
		case strings.HasPrefix(rest, "::"):
			l.at += 2
			continue
		case rest[0] == '!' && !bang && !strings.HasPrefix(rest, "!="):
			bang = true
			l.at++
			continue
		}
		break
	}
	t.kind, t.text = cppName, l.text[start:l.at]
	return t, nil
}

// number reads an integer, decimal unless 0x or a leading 0 says otherwise, or a
// floating-point number. The suffixes are L, U and I64.
func (l *cppLexer) number(t cppToken) (cppToken, error) {
	start := l.at
	for l.at < len(l.text) && (isWord(l.text[l.at]) || l.text[l.at] == '`' || l.text[l.at] == '.') {
		l.at++
	}
	word := l.text[start:l.at]
	t.kind = cppNumber
	if strings.ContainsRune(word, '.') {
		f, err := strconv.ParseFloat(strings.TrimRight(word, "fFlL"), 64)
		if err != nil {
			return t, syntaxError(l.text, start, word+" is no number")
		}
		t.kind, t.float = cppFloat, f
		return t, nil
	}
	digits := strings.ToLower(strings.ReplaceAll(word, "`", ""))
	if strings.HasPrefix(digits, "0n") {
		return t, syntaxError(l.text, start, "0n is a prefix of MASM numbers: those of C++ are decimal without one")
	}
	t.sign = true
	for more := true; more; {
		more = false
		for _, suffix := range []string{"i64", "u", "l"} {
			if after, ok := strings.CutSuffix(digits, suffix); ok {
				digits, more = after, true
				t.wide = t.wide || suffix == "i64"
				t.sign = t.sign && suffix != "u"
			}
		}
	}
	base := 10
	switch {
	case strings.HasPrefix(digits, "0x"):
		digits, base = digits[2:], 16
	case len(digits) > 1 && digits[0] == '0':
		digits, base = digits[1:], 8
	}
	v, err := strconv.ParseUint(digits, base, 64)
	switch {
	case err != nil && strings.Contains(err.Error(), "range"):
		return t, &SyntaxError{"Overflow error", l.text, start, word + " does not fit 64 bits"}
	case err != nil:
		return t, syntaxError(l.text, start, fmt.Sprintf("%s is no number in base %d; a hexadecimal one begins with 0x", word, base))
	}
	t.value = v
	switch {
	case v>>63 != 0:
		t.wide, t.sign = true, false
	case v>>32 != 0 || v>>31 != 0 && base == 10:
		t.wide = true
	case v>>31 != 0:
		t.sign = false
	}
	return t, nil
}

// char reads a character in single quotes.
func (l *cppLexer) char(t cppToken) (cppToken, error) {
	rest := l.text[l.at+1:]
	n := 1
	if len(rest) > 1 && rest[0] == '\\' {
		n = 2
	}
	if len(rest) <= n || rest[n] != '\'' {
		return t, syntaxError(l.text, l.at, "one character is expected between quotes")
	}
	t.kind, t.value = cppChar, uint64(rest[0])
	if n == 2 {
		t.value = uint64(unescape(rest[1]))
	}
	l.at += n + 2
	return t, nil
}
