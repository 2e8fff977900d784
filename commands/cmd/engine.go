package cmd

import (
	"context"
	"errors"
	"fmt"
	"strings"
)

// The engine runs texts of commands: lines, command files and blocks. A text is
// cut into commands where it stands, so that lines keep their numbers, and
// aliases are replaced once for a text, when it is entered (documentation of the
// debuggers, "Elements of a Debugger Command Program").

// place is where a command being run stands.
type place struct {
	file *fileRun // nil: typed, or run by a command that is no script
	line int      // in the file, from 1
}

// fileRun is one run of a command file.
type fileRun struct{ name string }

// jump is what .break, .continue, .leave and z give to the block around them. It
// is no failure.
type jump uint8

// The jumps.
const (
	jumpBreak jump = iota
	jumpContinue
	jumpLeave
	jumpAgain
)

// Error says where the jump could not go.
func (j jump) Error() string {
	switch j {
	case jumpLeave:
		return "'.leave' stands in no .catch block"
	case jumpAgain:
		return "'z' follows no command"
	case jumpContinue:
		return "'.continue' stands in no loop"
	}
	return "'.break' stands in no loop"
}

func isJump(err error) bool {
	_, ok := err.(jump) // a jump is never wrapped
	return ok
}

// Break ends the innermost loop: .break returns it. Outside a loop it is an
// error.
func (s *Session) Break() error { return s.jump(jumpBreak, s.loops) }

// Continue ends the round of the innermost loop: .continue returns it.
func (s *Session) Continue() error { return s.jump(jumpContinue, s.loops) }

// Leave ends the innermost .catch block: .leave returns it.
func (s *Session) Leave() error { return s.jump(jumpLeave, s.catches) }

// Again runs the commands before it once more: z returns it.
func (s *Session) Again() error { return jumpAgain }

func (s *Session) jump(j jump, around int) error {
	if around == 0 {
		return errors.New(j.Error())
	}
	return j
}

// wordsError is an error in kd's own words, which begin with a capital.
type wordsError string

// Error gives the words.
func (e wordsError) Error() string { return string(e) }

// InWords makes an error of kd's own words, as Errorf makes others.
func InWords(format string, args ...any) error { return wordsError(fmt.Sprintf(format, args...)) }

// shownError is a failure that was shown where it happened; the commands around
// it do not show it again.
type shownError struct{ err error }

// Error gives the failure's text.
func (e *shownError) Error() string { return e.err.Error() }

// Unwrap gives the failure.
func (e *shownError) Unwrap() error { return e.err }

// unshown takes the mark off a failure.
func unshown(err error) error {
	if e, ok := err.(*shownError); ok { // the mark is outermost or not at all
		return e.err
	}
	return err
}

// Execute runs a line: commands separated by semicolons. The first failing
// command ends it, unless KeepGoing is set. Failures are shown as they happen
// and returned joined.
func (s *Session) Execute(ctx context.Context, line string) error {
	defer s.enter(nil)()
	return s.runText(ctx, s.expand(line), 1)
}

// enter begins a text that no loop and no .catch reaches into; file is nil where
// it is no command file. The function it returns ends it.
func (s *Session) enter(file *fileRun) (leave func()) {
	at, loops, catches := s.at, s.loops, s.catches
	s.at, s.loops, s.catches = place{file: file}, 0, 0
	return func() { s.at, s.loops, s.catches = at, loops, catches }
}

// MaxBlockDepth limits blocks inside blocks.
const MaxBlockDepth = 100

// RunBlock runs commands that stand among the arguments of the command being
// run: raw is Args.Raw, and the commands are raw[from:to], without their braces.
// Aliases in them are replaced now.
func (s *Session) RunBlock(ctx context.Context, raw string, from, to int) error {
	if s.blocks >= MaxBlockDepth {
		return fmt.Errorf("blocks stand in blocks more than %d deep", MaxBlockDepth)
	}
	s.blocks++
	defer func() { s.blocks-- }()
	return s.runText(ctx, s.expand(raw[from:to]), s.at.line+strings.Count(raw[:from], "\n"))
}

// RunCommands is RunBlock for commands that stand in parentheses, as the first
// and the last part of .for do: they are no block, and aliases stay as they are.
func (s *Session) RunCommands(ctx context.Context, raw string, from, to int) error {
	return s.runText(ctx, strings.ReplaceAll(raw[from:to], "\n", " "), s.at.line+strings.Count(raw[:from], "\n"))
}

// Round runs a block as one round of a loop. done: the loop ends, by .break, a
// failure, an interruption, or the end of the session.
func (s *Session) Round(ctx context.Context, raw string, from, to int) (done bool, err error) {
	s.loops++
	defer func() { s.loops-- }()
	if ctx.Err() != nil {
		return true, ErrInterrupted
	}
	switch err = s.RunBlock(ctx, raw, from, to); err {
	case jumpBreak:
		return true, nil
	case jumpContinue:
		err = nil
	}
	return s.Quit || err != nil, err
}

// Catch runs commands whose failure ends them but nothing else: the block of
// .catch. Only an interruption is an error, or a jump out of a loop around it.
// The commands are raw[from:], as in RunBlock.
func (s *Session) Catch(ctx context.Context, raw string, from int) error {
	failed, keep := s.Failed, s.KeepGoing
	s.KeepGoing = false
	s.catches++
	err := s.RunBlock(ctx, raw, from, len(raw))
	s.catches--
	s.Failed, s.KeepGoing = failed, keep
	switch {
	case err == jumpLeave:
		return nil
	case isJump(err), errors.Is(err, ErrInterrupted):
		return err
	}
	return nil
}

// runText runs the commands of a text whose first line has a number.
func (s *Session) runText(ctx context.Context, text string, line int) error {
	outer := s.at
	defer func() { s.at = outer }()
	var failed error
	begin, counted := 0, 0 // of the line; what of the text is counted in line
	for pos := 0; !s.Quit; {
		start, end := s.cut(text, pos)
		if start == end {
			break
		}
		if i := strings.LastIndexByte(text[pos:start], '\n'); i >= 0 {
			begin = pos + i + 1
		}
		line += strings.Count(text[counted:start], "\n")
		pos, counted = end, start
		s.at.line = line
		err := s.one(ctx, strings.TrimSpace(text[start:end]))
		if err == jumpAgain {
			line -= strings.Count(text[begin:counted], "\n")
			pos, counted = begin, begin
			continue
		}
		if isJump(err) {
			return err
		}
		if err != nil {
			s.Failed = true
			failed = errors.Join(failed, s.locate(err, line))
			if !s.KeepGoing || ctx.Err() != nil {
				break
			}
		}
	}
	if failed == nil {
		return nil
	}
	if list, ok := failed.(interface{ Unwrap() []error }); ok && len(list.Unwrap()) == 1 {
		failed = list.Unwrap()[0]
	}
	return &shownError{failed}
}

// locate adds to a failure where in the command file at hand it happened, unless
// a block inside knew better.
func (s *Session) locate(err error, line int) error {
	err = unshown(err)
	if s.at.file == nil {
		return err
	}
	if inner, ok := err.(*ScriptError); ok && inner.run == s.at.file {
		return err
	}
	if list, ok := err.(interface{ Unwrap() []error }); ok { // of a block, -keepgoing
		if inner, ok := list.Unwrap()[0].(*ScriptError); ok && inner.run == s.at.file {
			return err
		}
	}
	return &ScriptError{File: s.at.file.name, Line: line, Err: err, run: s.at.file}
}

// cut finds the next command of a text from a place on; start is end where there
// is none. A comment takes the rest of its line ("*") or goes up to a semicolon
// ("$$").
func (s *Session) cut(text string, pos int) (start, end int) {
	for pos < len(text) {
		if strings.IndexByte(blanks+";", text[pos]) >= 0 {
			pos++
			continue
		}
		if text[pos] == '*' {
			pos += lineEnd(text[pos:])
			continue
		}
		rest := text[pos:]
		c, after, known := s.Commands.Find(rest)
		switch {
		case !known && strings.HasPrefix(rest, "$$"):
			pos += commandEnd(rest, false)
			continue
		case fixedAssignment(rest), known && c.Line:
			return pos, pos + lineEnd(rest)
		case known && c.Cut != nil:
			name := len(rest) - len(after)
			return pos, pos + name + min(max(0, c.Cut(after)), len(after))
		}
		// One byte at least, so that the text gets shorter.
		return pos, pos + max(1, commandEnd(rest, known && c.Block))
	}
	return pos, pos
}

// lineEnd gives the length of the first line of a text.
func lineEnd(text string) int {
	if i := strings.IndexByte(text, '\n'); i >= 0 {
		return i
	}
	return len(text)
}

// commandEnd finds the semicolon or new line that ends the first command of a
// text, outside quotes and, for a command that takes a block, braces.
func commandEnd(text string, block bool) int {
	depth := 0
	for i := 0; i < len(text); i++ {
		switch c := text[i]; {
		case c == '"':
			i = QuoteEnd(text, i) - 1
		case c == '{' && block:
			depth++
		case c == '}' && block:
			depth--
		case (c == ';' || c == '\n') && depth <= 0:
			return i
		}
	}
	return len(text)
}

// QuoteEnd gives the place behind the string that the quote text[i] opens. In it
// a backslash keeps a quote or a backslash, unless an @ stands before the string.
// One that is not closed ends with its line.
func QuoteEnd(text string, i int) int {
	literal := i > 0 && text[i-1] == '@'
	for i++; i < len(text); i++ {
		switch c := text[i]; {
		case c == '"':
			return i + 1
		case c == '\n':
			return i
		case c == '\\' && !literal && i+1 < len(text) && (text[i+1] == '"' || text[i+1] == '\\'):
			i++
		}
	}
	return len(text)
}

// fixedAssignment tells whether a command sets a fixed-name alias, "r $.u0=...":
// what follows the sign is text up to the end of the line.
func fixedAssignment(line string) bool {
	if line == "" || line[0]|0x20 != 'r' {
		return false
	}
	return strings.HasPrefix(strings.TrimLeft(line[1:], " \t"), "$.u")
}

// clip shortens a text for an error.
func clip(text string) string {
	const most = 40
	text = text[:lineEnd(text)]
	if len(text) <= most {
		return text
	}
	return strings.ToValidUTF8(text[:most], "") + "..."
}
