package cmd

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"gokd/model/mem"
)

// ArgKind is how an argument is read.
type ArgKind uint8

// The kinds of arguments.
const (
	KindSwitch ArgKind = iota // present or not
	KindAddr                  // an expression whose value is an address
	KindFlags                 // an expression whose value is a bit mask
	KindCount                 // a number, decimal unless 0x or 0n says otherwise
	KindWord                  // a word, quotes removed
	KindTag                   // a pool tag, a pattern, or 0x and a value
	KindRest                  // the rest of the line as it stands
)

// Completion is what the prompt offers for an argument.
type Completion uint8

// What can be offered. Arguments of KindAddr offer symbols by themselves.
const (
	CompleteNothing Completion = iota
	CompleteFile
	CompleteCommand
	CompleteModule
	CompleteSymbol
	CompleteType     // types, and symbols
	CompleteField    // a type, then its fields and an address
	CompleteRegister // registers and pseudo-registers, without "@"
)

// Arg declares one argument.
type Arg struct {
	Name     string
	Kind     ArgKind
	Switch   string // "-v": the argument is given by this switch; else it is positional
	Optional bool
	Complete Completion
	Doc      string
}

// Args are the arguments of one run, read by their declarations.
type Args struct {
	Raw    string // the rest of the line as typed, spaces trimmed
	Joined bool   // Raw follows the command's name without a space: "kb", "r$t0"
	values map[string]value
}

type value struct {
	number uint64
	text   string
	quoted bool
}

// Has reports whether an argument was given.
func (a Args) Has(name string) bool { _, ok := a.values[name]; return ok }

// Uint gives the value of a number, or def where it was not given.
func (a Args) Uint(name string, def uint64) uint64 {
	if v, ok := a.values[name]; ok {
		return v.number
	}
	return def
}

// Addr gives the value of an address; 0 where it was not given.
func (a Args) Addr(name string) mem.VA { return mem.VA(a.Uint(name, 0)) }

// Text gives a word as typed, without quotes; empty where it was not given.
func (a Args) Text(name string) string { return a.values[name].text }

// Quoted reports whether a word stood in quotes.
func (a Args) Quoted(name string) bool { return a.values[name].quoted }

// Evaluator works out an expression.
type Evaluator interface {
	// Eval gives the value of a whole text.
	Eval(ctx context.Context, expr string) (uint64, error)
	// EvalPrefix gives the value of the longest expression at the front of a
	// text, and what follows it.
	EvalPrefix(ctx context.Context, text string) (v uint64, rest string, err error)
}

type word struct {
	text   string
	quoted bool
}

// splitWords cuts a line at blanks outside double quotes; quotes are removed.
// Inside quotes a backslash before a quote or a backslash keeps it.
func splitWords(line string) ([]word, error) {
	var words []word
	for {
		line = strings.TrimLeft(line, blanks)
		if line == "" {
			return words, nil
		}
		var w word
		var err error
		if w, line, err = nextWord(line); err != nil {
			return nil, err
		}
		words = append(words, w)
	}
}

// Words cuts a text at blanks outside double quotes, as arguments are cut.
func Words(text string) ([]string, error) {
	words, err := splitWords(text)
	out := make([]string, len(words))
	for i, w := range words {
		out[i] = w.text
	}
	return out, err
}

func nextWord(line string) (w word, rest string, err error) {
	var b strings.Builder
	in := false
	for i := 0; i < len(line); i++ {
		switch c := line[i]; {
		case c == '"':
			in, w.quoted = !in, true
		case in && c == '\\' && i+1 < len(line) && (line[i+1] == '"' || line[i+1] == '\\'):
			i++
			b.WriteByte(line[i])
		case !in && strings.IndexByte(blanks, c) >= 0:
			w.text = b.String()
			return w, line[i:], nil
		default:
			b.WriteByte(c)
		}
	}
	if in {
		return w, "", fmt.Errorf("missing closing quote in %q", line)
	}
	w.text = b.String()
	return w, "", nil
}

// parseArgs reads a line by the command's declarations: switches in any order,
// positional arguments in theirs.
func parseArgs(ctx context.Context, c *Command, line string, eval Evaluator) (Args, error) {
	in := Args{Raw: strings.TrimSpace(line), values: map[string]value{}}
	in.Joined = line != "" && line[0] != ' ' && line[0] != '\t'
	usage := func(format string, args ...any) (Args, error) {
		return in, &UsageError{Command: c, What: fmt.Sprintf(format, args...)}
	}
	var positional []Arg
	for _, a := range c.Args {
		if a.Switch == "" {
			positional = append(positional, a)
		}
	}
	if len(positional) > 0 && positional[0].Kind == KindRest {
		return in, in.rest(c, positional[0])
	}
	for line = strings.TrimLeft(line, blanks); line != ""; line = strings.TrimLeft(line, blanks) {
		w, rest, err := nextWord(line)
		if err != nil {
			return usage("%v", err)
		}
		arg, joined, isSwitch := c.switchFor(w)
		switch {
		case isSwitch && arg.Kind == KindSwitch:
			in.values[arg.Name] = value{number: 1}
			line = rest
			continue
		case isSwitch && joined != "":
			w = word{text: joined}
		case isSwitch:
			if rest = strings.TrimLeft(rest, blanks); rest == "" {
				return usage("%s needs a value: %s", arg.Switch, arg.Doc)
			}
			w, rest, err = arg.next(rest)
		case looksLikeSwitch(w):
			return usage("unknown switch %s", w.text)
		case len(positional) == 0:
			return usage("unexpected argument %q", w.text)
		default:
			arg, positional = positional[0], positional[1:]
			w, rest, err = arg.next(line)
		}
		if err != nil {
			return usage("%v", err)
		}
		v, err := readArg(ctx, arg, w, eval)
		if wrong, ok := wrongExpression(err); ok {
			return in, &UsageError{Command: c, What: wrong.Error(), kd: true}
		}
		if err != nil {
			return usage("%s: %v", arg.Name, err)
		}
		in.values[arg.Name] = v
		line = rest
	}
	for _, a := range c.Args {
		if !a.Optional && !in.Has(a.Name) {
			return usage("%s missing: %s", a.Name, a.Doc)
		}
	}
	return in, nil
}

// rest takes the whole line for one argument.
func (a Args) rest(c *Command, arg Arg) error {
	switch {
	case a.Raw != "":
		a.values[arg.Name] = value{text: a.Raw}
	case !arg.Optional:
		return &UsageError{Command: c, What: arg.Name + " missing"}
	}
	return nil
}

// next takes the text of an argument off a line: an expression with its blanks,
// else a word.
func (a Arg) next(line string) (w word, rest string, err error) {
	if (a.Kind == KindAddr || a.Kind == KindFlags) && line[0] != '"' {
		text, rest := cutExpression(line)
		return word{text: text}, rest, nil
	}
	return nextWord(line)
}

// binaryWords are operators that go on with an expression where they stand
// between blanks, unaryWords those that begin one.
var (
	binaryWords = strings.Fields("+ - * / % & | ^ = == != < > <= >= << >> >>> mod and or xor")
	unaryWords  = strings.Fields("not hi low by wo dwo qwo poi $pby $pwo $pdwo $pqwo $ppoi")
)

// cutExpression takes an expression off the front of a line of arguments:
// parentheses and quotes hold it together, and so do operators with blanks on
// both sides or none; "nt!X -8" are two. A comma outside parentheses ends it.
func cutExpression(line string) (text, rest string) {
	end := 0
	for {
		from := end
		end += wordEnd(line[end:])
		if end < len(line) && line[end] == ',' && from < end {
			return line[:end], line[end+1:]
		}
		gap := len(line) - len(strings.TrimLeft(line[end:], blanks))
		if gap == len(line) {
			return line[:end], ""
		}
		last := strings.ToLower(line[from:end])
		next := strings.ToLower(line[gap : gap+wordEnd(line[gap:])])
		more := gap+len(next) < len(line)
		switch {
		case slices.Contains(unaryWords, last), slices.Contains(binaryWords, last), strings.ContainsAny(last[len(last)-1:], "+*&|^=<>"):
		case more && slices.Contains(binaryWords, next):
		case strings.IndexByte("+&|^=<>", next[0]) >= 0:
		default:
			return line[:end], line[end:]
		}
		end = gap
	}
}

// wordEnd gives the length of the word that a text begins with, one byte at
// least. Blanks and commas inside parentheses and quotes belong to it.
func wordEnd(text string) int {
	depth := 0
	for i := 0; i < len(text); i++ {
		switch c := text[i]; {
		case c == '"':
			i = QuoteEnd(text, i) - 1
		case c == '(':
			depth++
		case c == ')':
			depth--
		case depth <= 0 && i > 0 && (c == ',' || strings.IndexByte(blanks, c) >= 0):
			return i
		}
	}
	return len(text)
}

// switchFor finds the switch a word spells; a numeric value may be joined to
// it ("/t20").
func (c *Command) switchFor(w word) (arg Arg, joined string, ok bool) {
	if w.quoted || w.text == "" || w.text[0] != '-' && w.text[0] != '/' {
		return Arg{}, "", false
	}
	for _, a := range c.Args {
		if a.Switch != "" && strings.EqualFold(a.Switch[1:], w.text[1:]) {
			return a, "", true
		}
	}
	for _, a := range c.Args {
		if a.Switch != "" && a.Kind == KindCount && len(w.text) > len(a.Switch) &&
			strings.EqualFold(a.Switch[1:], w.text[1:len(a.Switch)]) && digit(w.text[len(a.Switch)]) {
			return a, w.text[len(a.Switch):], true
		}
	}
	return Arg{}, "", false
}

func digit(c byte) bool { return c >= '0' && c <= '9' }

// looksLikeSwitch: "-v" is a switch, "-1" a number.
func looksLikeSwitch(w word) bool {
	return !w.quoted && len(w.text) > 1 && w.text[0] == '-' && !digit(w.text[1]) && w.text[1] != '('
}

func readArg(ctx context.Context, a Arg, w word, eval Evaluator) (value, error) {
	v := value{text: w.text, quoted: w.quoted}
	var err error
	switch a.Kind {
	case KindAddr, KindFlags:
		if eval == nil {
			return v, fmt.Errorf("no evaluator for %q", w.text)
		}
		v.number, err = eval.Eval(ctx, w.text)
	case KindCount:
		text, base := w.text, 10
		switch {
		case strings.HasPrefix(text, "0x"):
			text, base = text[2:], 16
		case strings.HasPrefix(text, "0n"):
			text = text[2:]
		}
		v.number, err = strconv.ParseUint(text, base, 64)
		if err != nil {
			err = fmt.Errorf("%q is no number", w.text)
		}
	}
	return v, err
}
