package script

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"gokd/commands/cmd"
)

// foreach is a .foreach that was read.
type foreach struct {
	first, between string // expressions: tokens to skip
	source         byte   // 0: commands, 's': a string, 'f': a file
	name           string
	in             span // the commands, the string or the file's name
	body           span
	end            int
}

var dotForeach = token(".foreach", "[/pS n] [/ps n] [/s|/f] (variable { commands }) { commands }",
	"run commands for each word of an output, a text or a file",
	`Runs the commands in parentheses without showing what they print, cuts that at
blanks and new lines, and runs the block for each piece: in the block the
variable, where it stands alone between blanks, or ${variable} anywhere, is
replaced by it. Lines that gokd adds to kd's answers are left out.

  /s (variable "text")    the words of a text
  /f (variable "file")    the words of a file
  /pS n                   skip n words at first
  /ps n                   skip n words after each one that is used
`+blockNote,
	".foreach /s (n \"1 2 3\") { ? n * 2 }",
	func(raw string) int { f, _ := readForeach(raw); return f.end }, runForeach)

func readForeach(raw string) (f foreach, err error) {
	i, err := f.options(raw)
	if err != nil {
		return f, err
	}
	if i == len(raw) || raw[i] != '(' {
		f.end = statement(raw, i)
		return f, syntax(raw, i, "'(' is expected after .foreach")
	}
	open := i
	i = skip(raw, i+1, blanks)
	from := i
	for i < len(raw) && strings.IndexByte(blanks+"{\"", raw[i]) < 0 {
		if strings.HasPrefix(raw[i:], "${") { // ${/v:name}
			i += max(2, strings.IndexByte(raw[i:], '}'))
		}
		i = min(i+1, len(raw))
	}
	f.name = cmd.AliasName(raw[from:i])
	if i, err = f.input(raw, skip(raw, i, blanks)); err != nil {
		return f, err
	}
	if i = skip(raw, i, blanks); i == len(raw) || raw[i] != ')' {
		f.end = statement(raw, i)
		return f, syntax(raw, open, "')' is missing")
	}
	f.body, f.end, err = braces(raw, i+1, ".foreach ( )")
	if err == nil && f.name == "" {
		err = syntax(raw, open, "a variable's name is expected first")
	}
	return f, err
}

// options reads what stands before the parenthesis.
func (f *foreach) options(raw string) (i int, err error) {
	for i = skip(raw, 0, blanks); i < len(raw) && raw[i] == '/'; i = skip(raw, i, blanks) {
		at := i
		word := wordAt(raw, i)
		i += len(word)
		switch word {
		case "/s", "/f":
			f.source = word[1]
			continue
		case "/pS", "/ps":
		default:
			f.end = statement(raw, at)
			return i, syntax(raw, at, "the options are /pS n, /ps n, /s and /f")
		}
		i = skip(raw, i, blanks)
		number := wordAt(raw, i)
		i += len(number)
		if word == "/pS" {
			f.first = number
		} else {
			f.between = number
		}
	}
	return i, nil
}

// wordAt gives the text up to a blank or parenthesis.
func wordAt(raw string, i int) string {
	if n := strings.IndexAny(raw[i:], blanks+"("); n >= 0 {
		return raw[i : i+n]
	}
	return raw[i:]
}

// input reads the commands, the string or the file's name.
func (f *foreach) input(raw string, i int) (int, error) {
	if f.source == 0 {
		var err error
		f.in, f.end, err = braces(raw, i, "the variable")
		return f.end, err
	}
	if i == len(raw) || raw[i] != '"' {
		f.end = statement(raw, i)
		return i, syntax(raw, i, "a text in quotes is expected after the variable")
	}
	// The text may hold quotes that an alias brought: the last one before the
	// parenthesis ends it.
	for end := i + 1; end < len(raw); end++ {
		if raw[end] != '"' {
			continue
		}
		if next := skip(raw, end+1, blanks); next < len(raw) && raw[next] == ')' {
			f.in = span{i + 1, end}
			return next, nil
		}
	}
	f.end = len(raw)
	return len(raw), syntax(raw, i, "the closing quote is missing")
}

func runForeach(ctx context.Context, s *cmd.Session, raw string) error {
	f, err := readForeach(raw)
	if err != nil {
		return err
	}
	first, err := count(ctx, s, f.first)
	if err != nil {
		return err
	}
	between, err := count(ctx, s, f.between)
	if err != nil {
		return err
	}
	var text string
	switch in := raw[f.in.from:f.in.to]; f.source {
	case 's':
		text = in
	case 'f':
		text, err = s.ReadText(in)
	default:
		text, err = capture(ctx, s, in)
	}
	if err != nil {
		return err
	}
	next := first // words to skip before the one that is used
	for word := range strings.FieldsSeq(text) {
		if next > 0 {
			next--
			continue
		}
		next = between
		var done bool
		err := s.WithVariable(f.name, word, func() (err error) {
			done, err = s.Round(ctx, raw, f.body.from, f.body.to)
			return err
		})
		if done {
			return err
		}
	}
	return nil
}

// count evaluates a number of words; an absent one is 0.
func count(ctx context.Context, s *cmd.Session, text string) (uint64, error) {
	if text == "" {
		return 0, nil
	}
	if s.Eval == nil {
		return 0, errors.New("no evaluator")
	}
	n, err := s.Eval.Eval(ctx, text)
	if err == nil && n > 1<<32 {
		err = fmt.Errorf("%#x words to skip: too many", n)
	}
	return n, err
}

// capture gives what commands print, without the lines that gokd adds: programs
// that were written for kd count the words of its answers.
func capture(ctx context.Context, s *cmd.Session, commands string) (string, error) {
	p := s.Out.Printer
	own := p.KDOnly
	p.KDOnly = true
	defer func() { p.KDOnly = own }()
	return s.Capture(ctx, strings.TrimSpace(commands))
}
