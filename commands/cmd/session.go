package cmd

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"runtime/debug"
	"strings"
	"time"

	"gokd/model"
	"gokd/model/types/sympath"
)

// Session is one debugging session: the target and the user's settings. It is
// used from one goroutine.
type Session struct {
	Kernel *model.Kernel // nil where no dump is open
	// Changed tells whether the file behind Kernel is no longer what was opened;
	// nil where there is no file.
	Changed  func() error
	Commands *Table
	Out      *Output
	Eval     Evaluator

	Location *time.Location // of the clock that times are shown in; nil: UTC
	Version  string         // of the program

	Symbols *sympath.Path   // where symbols are looked for; nil: nowhere
	Images  *sympath.Images // where image files are looked for; nil: nowhere

	Vars    Vars    // pseudo-registers and settings of expressions
	Aliases Aliases // texts that stand for others in commands

	CPU         int // the current processor, ~N
	Scope       Scope
	StackDepth  int  // frames that k shows, .kframes; 0: 256
	KeepGoing   bool // a failing command does not stop a script
	Interactive bool // commands come from a terminal
	Quit        bool // q was typed
	Failed      bool // a command failed

	// Progress shows how far a long walk is; nil where nothing is shown. total
	// is 0 where it is not known.
	Progress func(what string, done, total uint64)
	// OpenScript opens a command file; nil: files of the system.
	OpenScript func(name string) (io.ReadCloser, error)

	depth  int // scripts inside scripts
	values map[any]any
}

// ErrNeed is the class of errors of a precondition that is not met.
var ErrNeed = errors.New("not possible here")

// Cached gives what a command keeps for the session under a key, made at the
// first call.
func Cached[T any](s *Session, key any, create func() (T, error)) (T, error) {
	if v, ok := s.values[key].(T); ok {
		return v, nil
	}
	v, err := create()
	if err != nil {
		return v, err
	}
	if s.values == nil {
		s.values = map[any]any{}
	}
	s.values[key] = v
	return v, nil
}

// Report tells progress where it is shown.
func (s *Session) Report(what string, done, total uint64) {
	if s.Progress != nil {
		s.Progress(what, done, total)
	}
}

// check tests the preconditions of a command.
func (s *Session) check(c *Command) error {
	switch {
	case c.Needs >= NeedTarget && s.Kernel == nil:
		return fmt.Errorf("%s: %w: no dump is open", c.Name, ErrNeed)
	case c.Needs >= NeedThreads && s.Kernel.Source.Machine == model.MachineARM64:
		return fmt.Errorf("%s: %w: ARM64 is not supported yet", c.Name, ErrNeed)
	case c.Needs >= NeedThreads && s.Kernel.Types == nil, c.Needs >= NeedKernel && s.Kernel.Degraded:
		return fmt.Errorf("%s: %w: %s", c.Name, ErrNeed, s.Kernel.NeedsSymbols())
	}
	return nil
}

// changed says for a command that needs the dump whether its file is no longer
// what was opened.
func (s *Session) changed(c *Command) error {
	if c.Needs < NeedTarget || s.Changed == nil {
		return nil
	}
	if err := s.Changed(); err != nil {
		return fmt.Errorf("%s: the dump changed: %w", c.Name, err)
	}
	return nil
}

// Execute runs a line: commands separated by semicolons. The first failing
// command ends it, unless KeepGoing is set. Failures are shown as they happen
// and returned joined.
func (s *Session) Execute(ctx context.Context, line string) error {
	var failed error
	for line != "" && !s.Quit {
		var one string
		one, line = s.cut(line)
		if one == "" {
			continue
		}
		if err := s.one(ctx, one); err != nil {
			s.Failed = true
			failed = errors.Join(failed, err)
			if !s.KeepGoing || ctx.Err() != nil {
				break
			}
		}
	}
	return failed
}

// cut takes the first command off a line. A comment takes the rest of its line
// ("*") or goes up to a semicolon ("$$"); a command that takes whole lines
// takes semicolons too.
func (s *Session) cut(line string) (one, rest string) {
	line = strings.TrimLeft(line, " \t\r;")
	if strings.HasPrefix(line, "*") {
		return "", ""
	}
	c, _, known := s.Commands.Find(line)
	if known && c.Line {
		return strings.TrimSpace(line), ""
	}
	end := commandEnd(line, known && c.Block)
	one = strings.TrimSpace(line[:end])
	if end < len(line) {
		rest = line[end+1:]
	}
	if strings.HasPrefix(one, "$$") && !known {
		return "", rest
	}
	return one, rest
}

// commandEnd finds the semicolon that ends the first command of a line, outside
// quotes and, for a command that takes a block, braces.
func commandEnd(line string, block bool) int {
	in, depth := false, 0
	for i := 0; i < len(line); i++ {
		switch c := line[i]; {
		case c == '"':
			in = !in
		case in:
		case c == '{' && block:
			depth++
		case c == '}' && block:
			depth--
		case c == ';' && depth <= 0:
			return i
		}
	}
	return len(line)
}

// openBraces counts the braces of a text that are not closed, outside quotes.
func openBraces(text string) int {
	in, depth := false, 0
	for i := 0; i < len(text); i++ {
		switch c := text[i]; {
		case c == '"':
			in = !in
		case c == '{' && !in:
			depth++
		case c == '}' && !in:
			depth--
		}
	}
	return depth
}

// UnknownError says that no command has a name.
type UnknownError struct {
	Line    string
	Similar []string
}

func (e *UnknownError) Error() string {
	word, _ := cutWord(e.Line)
	msg := fmt.Sprintf("Couldn't resolve '%s': no such command", word)
	if strings.HasPrefix(word, "!") {
		msg = "No export " + word[1:] + " found"
	}
	if hint := instead(word); hint != "" {
		return msg + "; " + hint
	}
	if len(e.Similar) > 0 {
		msg += "; did you mean " + strings.Join(e.Similar, ", ") + "?"
	}
	return msg + " (.help lists the commands)"
}

// one runs one command: it finds it, checks its needs, reads its arguments,
// and closes the answer with an end record whatever happens.
func (s *Session) one(ctx context.Context, line string) (err error) {
	c, rest, ok := s.Commands.Find(line)
	name := line
	if ok {
		name = c.Name
	} else {
		name, rest = cutWord(line)
	}
	s.Out.Begin(name, strings.TrimSpace(rest))
	defer func() {
		if ok && c.NoEnd && err == nil {
			s.Out.drop()
			return
		}
		if s.Out.End(err) != nil && err == nil {
			err = errors.New("the output can't be written")
		}
	}()
	if !ok {
		return &UnknownError{line, s.Commands.Similar(name, 3)}
	}
	if err := cmp.Or(s.check(c), s.changed(c)); err != nil {
		return err
	}
	err = s.run(ctx, c, rest)
	// A file cut inside a page reads as zeros from there on: what was shown of it
	// must not pass for the machine's, nor a hole for the reason of a failure.
	switch changed := s.changed(c); {
	case changed == nil:
		return err
	case err == nil:
		return changed
	default:
		return fmt.Errorf("%w; %w", changed, err)
	}
}

// run is the one place that recovers: a bug in a command, or in the evaluation
// of its arguments, is reported with its stack and does not end the session.
func (s *Session) run(ctx context.Context, c *Command, rest string) (err error) {
	defer func() {
		if r := recover(); r != nil {
			err = fmt.Errorf("%s: internal error: %v\n%s", c.Name, r, debug.Stack())
		}
	}()
	in, err := parseArgs(ctx, c, rest, s.Eval)
	if err != nil {
		return err
	}
	err = c.Run(ctx, s, in, s.Out)
	var usage *UsageError
	if errors.As(err, &usage) && usage.Command == nil {
		usage.Command = c
	}
	if ctx.Err() != nil && (err == nil || errors.Is(err, context.Canceled)) {
		err = ErrInterrupted
	}
	return err
}

// ErrInterrupted ends a command that the user interrupted.
var ErrInterrupted = errors.New("interrupted")

// MaxScriptDepth limits scripts that run scripts.
const MaxScriptDepth = 32

// maxScriptSize limits a command file in bytes.
const maxScriptSize = 16 << 20

// ScriptError says where in a command file a command failed.
type ScriptError struct {
	File string
	Line int
	Err  error
}

func (e *ScriptError) Error() string { return fmt.Sprintf("%s:%d: %v", e.File, e.Line, e.Err) }

// Unwrap gives the failure.
func (e *ScriptError) Unwrap() error { return e.Err }

// RunFile runs the commands of a file, line by line; echo shows each line with
// the prompt before it. A line that opens a brace goes on to the one that closes
// it. The first failing command ends the file, unless KeepGoing is set; the
// error is a *ScriptError.
func (s *Session) RunFile(ctx context.Context, name string, echo bool) error {
	return s.RunFileArgs(ctx, name, echo, nil)
}

// RunFileArgs is RunFile with arguments: ${$arg1} and so on in the file stand
// for them.
func (s *Session) RunFileArgs(ctx context.Context, name string, echo bool, args []string) error {
	if s.depth >= MaxScriptDepth {
		return fmt.Errorf("%s: scripts run scripts more than %d deep", name, MaxScriptDepth)
	}
	s.depth++
	defer func() { s.depth-- }()
	text, err := s.readScript(name)
	if err != nil {
		return err
	}
	for i, a := range args {
		text = strings.ReplaceAll(text, fmt.Sprintf("${$arg%d}", i+1), a)
	}
	return s.runLines(ctx, name, text, echo)
}

func (s *Session) readScript(name string) (string, error) {
	open := s.OpenScript
	if open == nil {
		open = func(name string) (io.ReadCloser, error) { return os.Open(name) }
	}
	f, err := open(name)
	if err != nil {
		return "", fmt.Errorf("command file: %w", err)
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, maxScriptSize+1))
	if err != nil {
		return "", fmt.Errorf("command file %s: %w", name, err)
	}
	if len(b) > maxScriptSize {
		return "", fmt.Errorf("command file %s: larger than %d bytes", name, maxScriptSize)
	}
	return strings.TrimPrefix(string(b), "\ufeff"), nil
}

func (s *Session) runLines(ctx context.Context, name, text string, echo bool) error {
	var failed error
	lines := strings.Split(text, "\n")
	for n := 0; n < len(lines) && !s.Quit && ctx.Err() == nil; {
		start := n
		n += s.span(lines[n:])
		line := strings.TrimRight(strings.Join(lines[start:n], ";"), "\r")
		if echo && strings.TrimSpace(line) != "" {
			s.Out.Echo(s.Prompt() + line)
		}
		if err := s.Execute(ctx, line); err != nil {
			failed = errors.Join(failed, &ScriptError{name, start + 1, err})
			if !s.KeepGoing {
				return failed
			}
		}
	}
	return failed
}

// span tells how many lines the first command takes: one, or those of a block up
// to its last brace.
func (s *Session) span(lines []string) int {
	c, _, ok := s.Commands.Find(strings.TrimLeft(lines[0], " \t;"))
	if !ok || !c.Block {
		return 1
	}
	open := 0
	for n, line := range lines {
		if open += openBraces(line); open <= 0 {
			return n + 1
		}
	}
	return len(lines)
}

// Catch runs commands whose failure ends them but nothing else: the block of
// .catch. Only an interruption is an error.
func (s *Session) Catch(ctx context.Context, block string) error {
	failed, keep := s.Failed, s.KeepGoing
	s.KeepGoing = false
	err := s.Execute(ctx, block)
	s.Failed, s.KeepGoing = failed, keep
	if errors.Is(err, ErrInterrupted) {
		return err
	}
	return nil
}

// Processor gives the current processor; nil where the dump tells nothing of it.
func (s *Session) Processor() *model.Processor {
	if s.Kernel == nil || s.CPU < 0 || s.CPU >= len(s.Kernel.Processors) {
		return nil
	}
	return &s.Kernel.Processors[s.CPU]
}

// Prompt gives kd's prompt: "2: kd> ", or "kd> " with one processor.
func (s *Session) Prompt() string {
	if s.Kernel != nil && s.Kernel.Source.Processors > 1 {
		return fmt.Sprintf("%d: kd> ", s.CPU)
	}
	return "kd> "
}
