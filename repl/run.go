package repl

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"strings"

	"golang.org/x/term"

	"gokd/commands"
	"gokd/commands/cmd"
	"gokd/commands/masm"
)

// session runs a whole session: it opens the dump, runs what the command line
// asks for, then what is typed or piped in.
func (p Program) session(ctx context.Context, opt options) error {
	interactive := isTerminal(p.Stdin) && isTerminal(p.Stdout) && !endsInQuit(opt.commands)
	s, out, err := p.newSession(opt, interactive)
	if err != nil {
		return err
	}
	defer out.Flush()
	t, err := p.openInto(ctx, s, opt)
	if err != nil {
		return err
	}
	defer t.Close()
	if opt.log != "" {
		if err := s.Out.OpenLog(opt.log, opt.logAppend); err != nil {
			return err
		}
	}
	defer func() { _ = s.Out.CloseLog() }()
	if !opt.quiet {
		if err := banner(t, s, opt.paths); err != nil {
			return err
		}
	}
	err = p.drive(ctx, s, out, opt, interactive)
	if lost := out.Flush(); lost != nil {
		// A full disk; a closed pipe ends the process before this.
		return fmt.Errorf("standard output: %w", lost)
	}
	return err
}

// newSession makes the session without a target.
func (p Program) newSession(opt options, interactive bool) (*cmd.Session, *writer, error) {
	table, err := commands.Table()
	if err != nil {
		return nil, nil, err
	}
	s := &cmd.Session{
		Commands: table, KeepGoing: opt.keepGoing, Interactive: interactive,
		Location: p.Location, Version: p.Version, TagFiles: p.TagFiles, CacheDir: p.CacheDir,
	}
	out := &writer{Writer: bufio.NewWriterSize(p.Stdout, 1<<16), byLine: isTerminal(p.Stdout)}
	if isTerminal(p.Stderr) {
		out.progress = &progress{w: p.Stderr}
		s.Progress = out.progress.show
	}
	if opt.json {
		s.Out = cmd.NewJSONOutput(out, p.Stderr, opt.era)
	} else {
		s.Out = cmd.NewOutput(out, opt.era, p.colored(opt))
		s.Out.Printer.Screen = p.screen()
	}
	s.Out.Flush = func() error {
		out.idle()
		return out.Flush()
	}
	showEvents(s)
	s.Eval = masm.ForSession(s)
	return s, out, nil
}

// preload has the kernel's symbols at hand before the first Tab.
func preload(ctx context.Context, s *cmd.Session) {
	if nt, ok := s.Kernel.Modules.ByName("nt"); ok {
		_, _ = nt.Symbols(ctx) // lm and the banner tell what there is
	}
}

// drive runs the command file, the commands of -c, and the input.
func (p Program) drive(ctx context.Context, s *cmd.Session, out *writer, opt options, interactive bool) error {
	if opt.script != "" {
		s.Out.LogInput(s.Prompt() + "$$><" + opt.script)
		err := interruptible(ctx, func(ctx context.Context) error { return s.RunFile(ctx, opt.script, false) })
		if err != nil && !interactive {
			p.stopped(out, err)
		} else if err != nil {
			s.Out.Fail(err)
		}
		if stop := s.Quit || err != nil && !interactive && !s.KeepGoing; stop {
			return failed(s, err)
		}
	}
	if opt.commands != "" && !s.Quit {
		s.Out.LogInput(s.Prompt() + opt.commands)
		err := interruptible(ctx, func(ctx context.Context) error { return s.Execute(ctx, opt.commands) })
		if s.Quit || err != nil && !interactive && !s.KeepGoing || endsInQuit(opt.commands) {
			return failed(s, err)
		}
	}
	if interactive {
		return p.interactive(ctx, s, out, opt)
	}
	return p.pipe(ctx, s, out)
}

// failed is what a run without a prompt ends with.
func failed(s *cmd.Session, err error) error {
	if s.Failed || err != nil {
		return errFailed
	}
	return nil
}

// stopped says on standard error where a script ended.
func (p Program) stopped(out *writer, err error) {
	_ = out.Flush() // what failed stands before where
	var at *cmd.ScriptError
	if errors.As(err, &at) {
		fmt.Fprintf(p.Stderr, "gokd: %s:%d: a command failed\n", at.File, at.Line)
		return
	}
	fmt.Fprintf(p.Stderr, "gokd: %v\n", err)
}

// interruptible runs a command or script under a context that Ctrl-C cancels.
func interruptible(ctx context.Context, run func(context.Context) error) error {
	ctx, stop := signal.NotifyContext(ctx, os.Interrupt)
	defer stop()
	return run(ctx)
}

// stdinName is how messages call standard input.
const stdinName = "stdin"

// maxLine limits a piped line in bytes.
const maxLine = 1 << 20

// pipe runs the lines of standard input as a script.
func (p Program) pipe(ctx context.Context, s *cmd.Session, out *writer) error {
	lines := bufio.NewScanner(p.Stdin)
	lines.Buffer(make([]byte, 0, 4096), maxLine)
	for n := 1; !s.Quit && lines.Scan(); n++ {
		line := strings.TrimRight(lines.Text(), "\r")
		s.Out.LogInput(s.Prompt() + line)
		err := interruptible(ctx, func(ctx context.Context) error { return s.Execute(ctx, line) })
		if err != nil {
			p.stopped(out, &cmd.ScriptError{File: stdinName, Line: n, Err: err})
			if !s.KeepGoing {
				return errFailed
			}
		}
	}
	if err := lines.Err(); err != nil {
		return fmt.Errorf("%s: %w", stdinName, err)
	}
	return failed(s, nil)
}

// isTerminal reports whether a stream is one.
func isTerminal(stream any) bool {
	f, ok := stream.(interface{ Fd() uintptr })
	return ok && term.IsTerminal(int(f.Fd()))
}

// colored reports whether colours are wanted: only on a terminal, and not where
// the user says no (no-color.org).
func (p Program) colored(opt options) bool {
	return !opt.noColor && isTerminal(p.Stdout) && p.Getenv("NO_COLOR") == "" && p.Getenv("TERM") != "dumb"
}
