package symbol

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"gokd/commands/cmd"
)

// dtOptions are what a line of dt asks for (documentation of dt).
type dtOptions struct {
	block, compact, verbose, enumerate  bool
	noIndent, noOffsets, physical, help bool
	again                               bool // . for the name: the last one
	depth                               int  // of -r; 0: none
	array                               int  // elements of -a on the name; noArray: not given, 0: all
	size                                *uint64
	module, name                        string
	prefix                              bool // -y before the name
	count                               int  // NAME[n]; noArray: not given
	fields                              []fieldPath
	address                             *uint64
	list                                string // of -l
}

const noArray = -1

// fieldPath chooses fields: "a.b[3].c..", "Active*".
type fieldPath struct {
	parts  []fieldPart
	expand int // levels to show below: the dots at the end
	array  int // of -a before it; noArray: not given
	typed  int // length as typed: kd aligns the colons to the longest
}

type fieldPart struct {
	pattern string
	prefix  bool // the name only begins like this
	index   int  // noArray: none
	match   *cmd.Wildcard
}

// Limits of a line.
const (
	maxFieldPath = 32 // parts, and levels below
	maxIndex     = 1 << 24
)

// parseField reads a field as dt takes it. A part that a dot follows is taken
// for the beginning of names, one left out for any.
func parseField(word string, prefix bool) (fieldPath, error) {
	f := fieldPath{array: noArray, typed: len(word)}
	rest := strings.TrimRight(word, ".")
	f.expand = len(word) - len(rest)
	if f.expand > maxFieldPath {
		return f, fmt.Errorf("field %q: at most %d levels", word, maxFieldPath)
	}
	for text := range strings.SplitSeq(rest, ".") {
		if len(f.parts) == maxFieldPath {
			return f, fmt.Errorf("field %q: at most %d parts", word, maxFieldPath)
		}
		p, err := parsePart(text)
		if err != nil {
			return f, fmt.Errorf("field %q: %w", word, err)
		}
		f.parts = append(f.parts, p)
	}
	last := len(f.parts) - 1
	for i := range f.parts {
		p := &f.parts[i]
		p.prefix = prefix || i < last || f.expand > 0
		pattern := p.pattern
		if pattern == "" || p.prefix {
			pattern += "*"
		}
		p.match = cmd.NewWildcard(pattern, true)
	}
	return f, nil
}

func parsePart(text string) (fieldPart, error) {
	p := fieldPart{pattern: text, index: noArray}
	open := strings.IndexByte(text, '[')
	if open < 0 || !strings.HasSuffix(text, "]") {
		return p, nil
	}
	n, err := index(text[open+1 : len(text)-1])
	if err != nil {
		// Brackets with letters in them are a wildcard.
		return p, nil
	}
	p.pattern, p.index = text[:open], n
	return p, nil
}

// index reads a subscript, which is decimal whatever the radix.
func index(text string) (int, error) {
	n, err := strconv.ParseUint(text, 10, 32)
	if err != nil || n > maxIndex {
		return 0, fmt.Errorf("subscript %q: want a decimal number up to %d", text, maxIndex)
	}
	return int(n), nil
}

// dtLine is a line of dt while it is read.
type dtLine struct {
	ctx     context.Context
	eval    cmd.Evaluator
	o       dtOptions
	words   []string
	prefix  bool // -y before the next word
	isName  bool // -n before the next word
	array   int  // -a before the next word
	unknown []string
}

// parseDt reads the arguments of dt. isField tells whether a type is known to
// have a field that a word names; words that are none are addresses.
func parseDt(ctx context.Context, text string, eval cmd.Evaluator, isField func(o *dtOptions, f fieldPath) bool) (*dtOptions, error) {
	words, err := dtWords(text)
	if err != nil {
		return nil, err
	}
	p := &dtLine{ctx: ctx, eval: eval, words: words, array: noArray}
	p.o.array, p.o.count = noArray, noArray
	for len(p.words) > 0 {
		w := p.words[0]
		p.words = p.words[1:]
		if len(w) > 1 && w[0] == '-' && !(w[1] >= '0' && w[1] <= '9') && w[1] != '(' {
			err = p.options(w[1:])
		} else {
			err = p.word(w, isField)
		}
		if err != nil {
			return nil, err
		}
	}
	return &p.o, p.finish()
}

// dtWords cuts a line at blanks outside parentheses.
func dtWords(text string) ([]string, error) {
	var words []string
	start, depth := -1, 0
	for i := 0; i <= len(text); i++ {
		blank := i == len(text) || text[i] == ' ' || text[i] == '\t'
		switch {
		case blank && depth > 0 && i < len(text):
		case blank && start >= 0:
			words = append(words, text[start:i])
			start = -1
		case blank:
		default:
			if start < 0 {
				start = i
			}
			switch text[i] {
			case '(':
				depth++
			case ')':
				depth--
			}
		}
	}
	if depth > 0 {
		return nil, errors.New("a closing parenthesis is missing")
	}
	return words, nil
}

// options reads a word of option letters.
func (p *dtLine) options(letters string) error {
	for letters != "" {
		c := letters[0]
		letters = letters[1:]
		digits := letters[:len(letters)-len(strings.TrimLeft(letters, "0123456789"))]
		switch c {
		case 'a':
			p.array = 0
			if digits != "" {
				n, err := index(digits)
				if err != nil {
					return err
				}
				p.array, letters = n, letters[len(digits):]
			}
		case 'r':
			p.o.depth = defaultDepth
			if digits != "" {
				n, err := index(digits)
				if err != nil {
					return err
				}
				p.o.depth, letters = max(1, min(n, defaultDepth*2)), letters[len(digits):]
			}
		case 's':
			return p.sizeOption(letters)
		case 'l':
			if letters == "" && len(p.words) > 0 {
				letters, p.words = p.words[0], p.words[1:]
			}
			if letters == "" {
				return errors.New("-l needs the field that links the list")
			}
			p.o.list = letters
			return nil
		case 'n':
			p.isName = true
		case 'y':
			p.prefix = true
		default:
			if !p.o.set(c) {
				return fmt.Errorf("unknown option -%c", c)
			}
		}
	}
	return nil
}

// sizeOption reads the size of -s, which may be joined to it.
func (p *dtLine) sizeOption(text string) error {
	if text == "" && len(p.words) > 0 {
		text, p.words = p.words[0], p.words[1:]
	}
	v, err := p.evaluate(text)
	if err != nil {
		return fmt.Errorf("-s needs a size: %w", err)
	}
	p.o.size, p.o.enumerate = &v, true
	return nil
}

func (o *dtOptions) set(c byte) bool {
	switch c {
	case 'b':
		o.block = true
	case 'c':
		o.compact = true
	case 'd', 'v':
		o.verbose = true
	case 'e', 't':
		o.enumerate = true
	case 'i':
		o.noIndent = true
	case 'o':
		o.noOffsets = true
	case 'p':
		o.physical = true
	case 'h', '?':
		o.help = true
	default:
		return false
	}
	return true
}

func (p *dtLine) evaluate(text string) (uint64, error) {
	if text == "" {
		return 0, errors.New("a number is missing")
	}
	if p.eval == nil {
		return 0, fmt.Errorf("no evaluator for %q", text)
	}
	return p.eval.Eval(p.ctx, text)
}

// word reads a word that is no option: the name, a field or the address.
func (p *dtLine) word(w string, isField func(*dtOptions, fieldPath) bool) error {
	prefix, isName, array := p.prefix, p.isName, p.array
	p.prefix, p.isName, p.array = false, false, noArray
	if p.o.name == "" && !p.o.again {
		if !isName && !prefix && p.o.address == nil && addressLike(w) {
			v, err := p.evaluate(w)
			p.o.address = &v
			return err
		}
		p.o.array, p.o.prefix = array, prefix
		return p.o.setName(w)
	}
	f, ferr := parseField(w, prefix)
	f.array = array
	named := ferr == nil && (isName || prefix || f.expand > 0 || isField(&p.o, f))
	if p.o.address == nil && !isName && !prefix && (addressLike(w) || !named) {
		v, err := p.evaluate(w)
		if err == nil {
			p.o.address = &v
			return nil
		}
		if !named && ferr == nil && plainName(w) {
			// A field that the type does not have, or a symbol that is not known.
			p.unknown = append(p.unknown, w)
			p.o.fields = append(p.o.fields, f)
			return nil
		}
		if !named {
			return err
		}
	}
	if ferr != nil {
		return ferr
	}
	p.o.fields = append(p.o.fields, f)
	return nil
}

// plainName reports whether a word could be a field's name.
func plainName(w string) bool {
	return !strings.ContainsAny(w, "()@!+-`/&|") && w != ""
}

// setName takes the type or variable, "nt!_X", "nt!_X[3]" or "(unsigned long)".
func (o *dtOptions) setName(w string) error {
	if len(w) > 1 && w[0] == '(' && w[len(w)-1] == ')' {
		w = strings.TrimSpace(w[1 : len(w)-1])
	}
	if w == "." {
		o.again = true
		return nil
	}
	if module, name, ok := strings.Cut(w, "!"); ok {
		o.module, w = module, name
	}
	if open := strings.LastIndexByte(w, '['); open > 0 && strings.HasSuffix(w, "]") {
		if n, err := index(w[open+1 : len(w)-1]); err == nil {
			w, o.count = w[:open], n
		}
	}
	if w == "" {
		return errors.New("a name is missing behind the module")
	}
	o.name = w
	return nil
}

// addressLike: kd takes what consists of hexadecimal digits for an address, as
// registers, numbers with a prefix and what stands in parentheses.
func addressLike(w string) bool {
	switch {
	case w[0] == '(':
		return strings.ContainsAny(w, "+-@`0123456789") // else a name with blanks in it
	case w[0] == '@' || strings.HasPrefix(strings.ToLower(w), "poi("):
		return true
	case strings.HasPrefix(w, "0x") || strings.HasPrefix(w, "0n"):
		return true
	case strings.ContainsAny(w, "+`") && !strings.Contains(w, "*"):
		return true
	}
	return strings.Trim(w, "0123456789abcdefABCDEF") == ""
}

// finish looks at the line as a whole.
func (p *dtLine) finish() error {
	o := &p.o
	switch {
	case o.help:
		return nil
	case o.name == "" && o.address == nil && !o.again:
		return errors.New("a type, a variable or an address is missing")
	case o.list != "" && o.address == nil:
		return errors.New("-l needs the address of the list's first structure")
	}
	return nil
}

// enumerates reports whether the line asks for a list of types.
func (o *dtOptions) enumerates() bool {
	return o.enumerate || o.prefix || strings.ContainsAny(o.name, "*?[#+")
}

// width is the column of the colons: that of the longest field asked for, else
// 16, as kd does.
func (o *dtOptions) width() int {
	if len(o.fields) == 0 {
		return 16
	}
	return slices.MaxFunc(o.fields, func(a, b fieldPath) int { return a.typed - b.typed }).typed
}
