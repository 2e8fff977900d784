package cmd

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
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
	SourceLines bool // source lines are shown, .lines
	// LogonSession is the number of the session that !session chose, whose pool
	// and memory commands about session space speak of; nil: none was chosen,
	// all of them count.
	LogonSession *uint32
	KeepGoing    bool // a failing command does not stop a script
	Interactive  bool // commands come from a terminal
	Quit         bool // q was typed
	Failed       bool // a command failed

	// CacheDir is the program's folder for what can be had again; empty where
	// the user has none.
	CacheDir string
	// TagFiles are the files in the form of pooltag.txt that are read without being
	// asked for, the most important first.
	TagFiles []string

	// Progress shows how far a long walk is; nil where nothing is shown. total
	// is 0 where it is not known.
	Progress func(what string, done, total uint64)
	// OpenScript opens a command file; nil: files of the system.
	OpenScript func(name string) (io.ReadCloser, error)

	depth   int   // scripts inside scripts
	blocks  int   // blocks inside blocks, of all scripts
	loops   int   // loops of the script at hand that .break can leave
	catches int   // .catch blocks of the script at hand
	at      place // of the command being run
	values  map[any]any
	kept    map[any]any
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
	if fixedAssignment(line) {
		s.Out.Begin("r", strings.TrimSpace(line[1:]))
		_, err := s.Assign(ctx, line[1:])
		_ = s.Out.End(err) // a failed write shows at the next answer
		return err
	}
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
		failure := err
		if isJump(err) {
			failure = nil // .break does what it is for
		}
		if s.Out.End(failure) != nil && err == nil {
			err = errors.New("the output can't be written")
		}
	}()
	switch {
	case !ok && strings.HasPrefix(line, "{"):
		return InWords("Syntax error at '%s': a block follows a control flow token; .block { } only groups commands", clip(line))
	case !ok && strings.HasPrefix(line, "}"):
		return InWords("Syntax error at '%s': no block is open that this brace closes", clip(line))
	case !ok:
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
	// Blocks count their lines from the start of the arguments.
	s.at.line += strings.Count(rest[:len(rest)-len(strings.TrimLeft(rest, blanks))], "\n")
	err = c.Run(ctx, s, in, s.Out)
	var usage *UsageError
	if errors.As(err, &usage) && usage.Command == nil {
		usage.Command = c
	}
	if ctx.Err() != nil && (err == nil || err == jumpAgain || errors.Is(err, context.Canceled)) {
		err = ErrInterrupted
	}
	return err
}

// ErrInterrupted ends a command that the user interrupted.
var ErrInterrupted = errors.New("interrupted")

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
