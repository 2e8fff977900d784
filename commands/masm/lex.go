package masm

import (
	"fmt"
	"strconv"
	"strings"

	"gokd/commands/cmd"
)

// tokenKind is the class of a token.
type tokenKind uint8

const (
	tokEnd      tokenKind = iota
	tokNumber             // value
	tokName               // a symbol, a module or an operator in letters
	tokRegister           // after "@": a register or pseudo-register
	tokOperator           // text
	tokString             // text, without its quotes
	tokBad                // no token: err says why
	tokNested             // text in parentheses after "@@": the other evaluator's, or that of name
)

type token struct {
	kind  tokenKind
	text  string
	value uint64
	at    int   // byte offset in the expression
	cpp   bool  // of tokNested: C++
	err   error // of tokBad
}

// operators in signs, longest first.
var signs = []string{
	">>>", "<<", ">>", "==", "!=", "<=", ">=",
	"+", "-", "*", "/", "%", "&", "|", "^", "=", "<", ">", "(", ")", "~", ",", ".",
}

// lexer cuts an expression into tokens.
type lexer struct {
	text  string
	at    int
	radix int // of numbers without a prefix; 0: 16
}

// blank tells what separates tokens: also a new line inside a block, and the one
// that an alias brought.
func blank(c byte) bool { return c == ' ' || c >= '\t' && c <= '\r' }

// next gives the token at the lexer's place and moves behind it.
func (l *lexer) next() (token, error) {
	for l.at < len(l.text) && blank(l.text[l.at]) {
		l.at++
	}
	t := token{at: l.at}
	if l.at == len(l.text) {
		return t, nil
	}
	switch c := l.text[l.at]; {
	case strings.HasPrefix(l.text[l.at:], "@@"):
		return l.nested()
	case c == '"', strings.HasPrefix(l.text[l.at:], `@"`):
		return l.quoted()
	case c == '@':
		return l.register()
	case c == '!' && l.at+1 < len(l.text) && (isWord(l.text[l.at+1]) || l.text[l.at+1] == '?'):
		return l.word()
	case c == '\'':
		return l.character()
	case c == '`' || isWord(c) || c == '?':
		return l.word()
	}
	for _, s := range signs {
		if strings.HasPrefix(l.text[l.at:], s) {
			l.at += len(s)
			t.kind, t.text = tokOperator, s
			return t, nil
		}
	}
	return t, syntaxError(l.text, l.at, "unexpected character")
}

// nested reads "@@(...)", "@@c++(...)" or "@@masm(...)"; without a name it is
// C++ in a MASM expression.
func (l *lexer) nested() (token, error) {
	t := token{kind: tokNested, at: l.at, cpp: true}
	open := l.at + 2
	for _, name := range []string{"c++", "masm"} {
		if len(l.text) >= open+len(name) && strings.EqualFold(l.text[open:open+len(name)], name) {
			open, t.cpp = open+len(name), name == "c++"
			break
		}
	}
	if open == len(l.text) || l.text[open] != '(' {
		return t, syntaxError(l.text, l.at, "want @@( ), @@c++( ) or @@masm( )")
	}
	end, ok := closing(l.text, open)
	if !ok {
		return t, syntaxError(l.text, open, "')' is missing")
	}
	t.text, l.at = l.text[open+1:end-1], end
	return t, nil
}

// closing finds the place behind the parenthesis that closes the one at open,
// quotes passed over.
func closing(text string, open int) (end int, ok bool) {
	depth := 0
	for i := open; i < len(text); i++ {
		switch text[i] {
		case '"':
			i = cmd.QuoteEnd(text, i) - 1
		case '(':
			depth++
		case ')':
			if depth--; depth == 0 {
				return i + 1, true
			}
		}
	}
	return len(text), false
}

// quoted reads a string: in "..." a backslash has its meaning of C, in @"..."
// it is a character (documentation of ?, on string literals).
func (l *lexer) quoted() (token, error) {
	t := token{kind: tokString, at: l.at}
	plain := l.text[l.at] == '@'
	if plain {
		l.at++
	}
	var b strings.Builder
	for i := l.at + 1; i < len(l.text); i++ {
		switch c := l.text[i]; {
		case c == '"':
			t.text, l.at = b.String(), i+1
			return t, nil
		case c == '\\' && !plain && i+1 < len(l.text):
			i++
			b.WriteByte(unescape(l.text[i]))
		default:
			b.WriteByte(c)
		}
	}
	return t, syntaxError(l.text, t.at, "missing closing quote")
}

// unescape gives the character that a letter behind a backslash stands for.
func unescape(c byte) byte {
	if i := strings.IndexByte("abfnrtv0", c); i >= 0 {
		return "\a\b\f\n\r\t\v\x00"[i]
	}
	return c
}

// register reads "@name", "@$name", or "@!" and a quoted symbol name, which
// may hold any character.
func (l *lexer) register() (token, error) {
	t := token{kind: tokRegister, at: l.at}
	l.at++
	if rest, ok := strings.CutPrefix(l.text[l.at:], `!"`); ok {
		end := strings.IndexByte(rest, '"')
		if end < 0 {
			return t, syntaxError(l.text, t.at, "missing closing quote")
		}
		l.at += 2 + end + 1
		t.kind, t.text = tokName, rest[:end]
		return t, nil
	}
	start := l.at
	if l.at < len(l.text) && l.text[l.at] == '$' {
		l.at++
	}
	for l.at < len(l.text) && isWord(l.text[l.at]) {
		l.at++
	}
	if t.text = l.text[start:l.at]; t.text == "" || t.text == "$" {
		return t, syntaxError(l.text, t.at, "a register's name follows @")
	}
	return t, nil
}

// character reads 'a', or up to eight characters, first one highest.
func (l *lexer) character() (token, error) {
	t := token{kind: tokNumber, at: l.at}
	end := strings.IndexByte(l.text[l.at+1:], '\'')
	if end < 1 || end > 8 {
		return t, syntaxError(l.text, l.at, "want one to eight characters between quotes")
	}
	t.text = l.text[l.at : l.at+end+2]
	for _, c := range []byte(t.text[1 : end+1]) {
		t.value = t.value<<8 | uint64(c)
	}
	l.at += end + 2
	return t, nil
}

// word reads a number or a name. A word of hexadecimal digits is a number, as
// in kd, even where a symbol has that name; "nt!add" is a name.
func (l *lexer) word() (token, error) {
	t := token{kind: tokName, at: l.at}
	if rest := l.text[l.at:]; rest[0] == '`' {
		if n := strings.IndexByte(rest[1:], '`'); n >= 0 && strings.Contains(rest[:n+1], ":") {
			return t, resolveError(l.text, l.at, "source lines name no address here; ln and x show the symbols there are")
		}
	}
	end := l.at
	for end < len(l.text) && (isWord(l.text[end]) || l.text[end] == '`') {
		end++
	}
	if end < len(l.text) && l.text[end] == '!' && !strings.HasPrefix(l.text[end:], "!=") || end == l.at {
		for end++; end < len(l.text) && isSymbol(l.text[end]); end++ {
		}
	} else if strings.HasPrefix(l.text[end:], "::") { // "Class::Name"
		for end < len(l.text) && isSymbol(l.text[end]) {
			end++
		}
	} else if v, ok, err := parseNumber(l.text[l.at:end], l.radix); err != nil {
		return t, &SyntaxError{"Overflow error", l.text, l.at, err.Error()}
	} else if ok {
		t.kind, t.value = tokNumber, v
	} else {
		for end < len(l.text) && isSymbol(l.text[end]) {
			end++
		}
	}
	t.text, l.at = l.text[l.at:end], end
	return t, nil
}

func isWord(c byte) bool {
	return c >= '0' && c <= '9' || c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c == '_' || c == '$' || c >= 0x80
}

// isSymbol: decorated C++ names hold "?", "@", ":" and "~".
func isSymbol(c byte) bool {
	return isWord(c) || c == '?' || c == '@' || c == ':' || c == '~' || c == '.' || c == '#'
}

// parseNumber reads a number: in the radix (0: 16) unless 0x (hexadecimal), 0n
// (decimal), 0t (octal), 0y (binary) or a final h says otherwise; a prefix alone
// is 0. Back-ticks may separate digits. ok is false for a word that is no number;
// an error means a number that is too large.
//
// A hexadecimal constant from 80000000 to ffffffff written with at most eight
// digits is extended by its sign, as kd does in kernel mode, unless it has a
// back-tick (the debugger's documentation on sign extension).
func parseNumber(word string, radix int) (v uint64, ok bool, err error) {
	digits := strings.ReplaceAll(word, "`", "")
	base, prefixed := radix, true
	if base == 0 {
		base = 16
	}
	if len(digits) >= 2 && digits[0] == '0' {
		switch digits[1] {
		case 'x', 'X':
			digits, base = digits[2:], 16
		case 'n', 'N':
			digits, base = digits[2:], 10
		case 't', 'T':
			digits, base = digits[2:], 8
		case 'y', 'Y':
			digits, base = digits[2:], 2
		default:
			prefixed = false
		}
		if prefixed && digits == "" {
			return 0, true, nil
		}
	}
	if n := len(digits); n > 1 && digits[n-1]|0x20 == 'h' {
		digits, base = digits[:n-1], 16
	}
	for _, c := range []byte(digits) {
		if digitValue(c) >= base {
			return 0, false, nil
		}
	}
	if digits == "" {
		return 0, false, nil
	}
	v, err = strconv.ParseUint(digits, base, 64)
	if err != nil {
		return 0, false, fmt.Errorf("%s does not fit 64 bits", word)
	}
	if base == 16 && len(digits) <= 8 && v >= 1<<31 && !strings.Contains(word, "`") {
		v |= 0xffffffff00000000
	}
	return v, true, nil
}

func digitValue(c byte) int {
	switch {
	case c >= '0' && c <= '9':
		return int(c - '0')
	case c >= 'a' && c <= 'f':
		return int(c-'a') + 10
	case c >= 'A' && c <= 'F':
		return int(c-'A') + 10
	}
	return 99
}
