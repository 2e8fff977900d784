package script

import (
	"fmt"
	"strings"

	"gokd/commands/cmd"
)

// span is a part of the arguments of a command: raw[from:to].
type span struct{ from, to int }

// blanks separate the parts of a control flow token. In a command file they may
// stand on lines of their own.
const blanks = " \t\r\n\v"

func skip(raw string, i int, set string) int {
	for i < len(raw) && strings.IndexByte(set, raw[i]) >= 0 {
		i++
	}
	return i
}

// closing finds the end of what raw[i] opens, a brace or a parenthesis: the place
// behind the sign that closes it. Quotes are passed over.
func closing(raw string, i int) (end int, ok bool) {
	open, shut := raw[i], byte('}')
	if open == '(' {
		shut = ')'
	}
	for depth := 0; i < len(raw); i++ {
		switch raw[i] {
		case '"':
			i = cmd.QuoteEnd(raw, i) - 1
		case open:
			depth++
		case shut:
			if depth--; depth == 0 {
				return i + 1, true
			}
		}
	}
	return len(raw), false
}

// statement gives the end of the command at i: a semicolon or new line outside
// quotes.
func statement(raw string, i int) int {
	for ; i < len(raw); i++ {
		switch raw[i] {
		case '\n', ';':
			return i
		case '"':
			i = cmd.QuoteEnd(raw, i) - 1
		}
	}
	return i
}

// braces reads a block: the commands without their braces, and the place behind.
func braces(raw string, i int, after string) (block span, end int, err error) {
	line := skip(raw, i, " \t\v") // what follows on other lines belongs to this only as a block
	if i = skip(raw, i, blanks); i == len(raw) || raw[i] != '{' {
		return span{}, statement(raw, line), syntax(raw, line, fmt.Sprintf("a block { } is expected after %s", after))
	}
	end, ok := closing(raw, i)
	if !ok {
		return span{}, end, syntax(raw, i, "this brace has no closing one: '}' is missing")
	}
	return span{i + 1, end - 1}, end, nil
}

// syntax is an error of a control flow token, in kd's words, and what is wrong.
func syntax(raw string, i int, why string) error {
	const most = 40
	text := raw[i:]
	if n := strings.IndexByte(text, '\n'); n >= 0 {
		text = text[:n]
	}
	if len(text) > most {
		text = strings.ToValidUTF8(text[:most], "") + "..."
	}
	return cmd.InWords("Syntax error at '%s': %s", text, why)
}

// condition reads what .if and .while test, up to the block behind it: in
// parentheses, or any expression on the line.
func condition(raw string, i int) (cond span, end int, err error) {
	start := skip(raw, i, blanks)
	for i = start; i < len(raw); i++ {
		switch c := raw[i]; {
		case c == '(':
			closed, ok := closing(raw, i)
			if !ok {
				return span{}, closed, syntax(raw, i, "')' is missing")
			}
			i = closed - 1
		case c == '"':
			i = cmd.QuoteEnd(raw, i) - 1
		case c == '{' && (i == 0 || raw[i-1] != '$'):
			return found(raw, start, i)
		case c == ';', c == '\n' && !blockAhead(raw, i):
			return found(raw, start, i)
		}
	}
	return found(raw, start, i)
}

func found(raw string, from, to int) (span, int, error) {
	if strings.TrimSpace(raw[from:to]) == "" {
		return span{}, to, errNoCondition
	}
	return span{from, to}, to, nil
}

var errNoCondition = cmd.InWords("Syntax error: a condition is expected")

// blockAhead tells whether the next thing on the following lines is a block.
func blockAhead(raw string, i int) bool {
	i = skip(raw, i, blanks)
	return i < len(raw) && raw[i] == '{'
}

// expr gives the text of a span as an expression on one line.
func expr(raw string, s span) string {
	return strings.TrimSpace(strings.Map(func(r rune) rune {
		if strings.ContainsRune(blanks, r) {
			return ' '
		}
		return r
	}, raw[s.from:s.to]))
}

// branch is one arm of .if; cond is empty for .else.
type branch struct{ cond, body span }

// jumps may follow a condition without braces, as the documentation of .break
// writes them.
var jumps = []string{".break", ".continue", ".leave"}

// readIf reads all arms of an .if; end is behind the last one, also where
// something is wrong.
func readIf(raw string) (list []branch, end int, err error) {
	i := 0
	for {
		cond, at, err := condition(raw, i)
		if err != nil {
			return nil, at, err
		}
		if short, end, ok := readJump(raw, cond); ok {
			return append(list, short), end, nil
		}
		body, at, err := conditional(raw, cond, at)
		if err != nil {
			return nil, at, err
		}
		list = append(list, branch{cond, body})
		end = at
		next := skip(raw, at, blanks+";")
		switch {
		case hasWord(raw[next:], ".elsif"):
			i = next + len(".elsif")
		case hasWord(raw[next:], ".else"):
			body, at, err := braces(raw, next+len(".else"), ".else")
			return append(list, branch{body: body}), at, err
		default:
			return list, end, nil
		}
	}
}

// conditional reads the block behind a condition. Where there is none, what
// follows a condition in parentheses is where it should be.
func conditional(raw string, cond span, i int) (body span, end int, err error) {
	if body, end, err = braces(raw, i, "the condition"); err == nil || blockAhead(raw, i) {
		return body, end, err
	}
	if raw[cond.from] == '(' {
		at, _ := closing(raw, cond.from) // condition found it closed
		i = skip(raw, at, " \t\v")
	}
	return body, end, syntax(raw, i, "a block { } is expected after the condition")
}

// readJump reads ".if (condition) .break".
func readJump(raw string, cond span) (b branch, end int, ok bool) {
	if raw[cond.from] != '(' {
		return b, 0, false
	}
	at, _ := closing(raw, cond.from) // condition found it closed
	i := skip(raw, at, blanks)
	for _, j := range jumps {
		if i < len(raw) && hasWord(raw[i:], j) {
			return branch{span{cond.from, at}, span{i, i + len(j)}}, i + len(j), true
		}
	}
	return b, 0, false
}

// hasWord tells whether a text begins with a token, whatever its case.
func hasWord(text, word string) bool {
	if len(text) < len(word) || !strings.EqualFold(text[:len(word)], word) {
		return false
	}
	return len(text) == len(word) || strings.IndexByte(blanks+"{(;}", text[len(word)]) >= 0
}

// parts cuts the inside of the parentheses of .for at semicolons that stand in
// no quotes, braces or parentheses; the third takes all that is left.
func parts(raw string, in span) (list []span) {
	from := in.from
	for i := in.from; i < in.to && len(list) < 2; i++ {
		switch c := raw[i]; c {
		case '"':
			i = cmd.QuoteEnd(raw[:in.to], i) - 1
		case '(', '{':
			if end, ok := closing(raw[:in.to], i); ok {
				i = end - 1
			}
		case ';':
			list = append(list, span{from, i})
			from = i + 1
		}
	}
	return append(list, span{from, in.to})
}
