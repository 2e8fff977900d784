package repl

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strings"
	"sync"

	"gokd/commands/cmd"
	"gokd/commands/report"
)

// LineReader reads the lines of a session; io.EOF ends it.
type LineReader interface {
	ReadLine(prompt string) (string, error)
}

// interactive runs a session at a terminal.
func (p Program) interactive(ctx context.Context, s *cmd.Session, out *writer, opt options) error {
	if !opt.quiet {
		if err := s.Out.Emit(report.Note("Type .help for the commands, q to leave.")); err != nil {
			return err
		}
	}
	if err := out.Flush(); err != nil {
		return err
	}
	in, done := p.lineReader(s, out, opt)
	defer done()
	stop := newInterrupts()
	defer stop.close()
	last := ""
	for !s.Quit {
		line, err := in.ReadLine(s.Prompt())
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		if strings.TrimSpace(line) == "" {
			// An empty line repeats the last command, as in kd; one in a pasted
			// text does not.
			if t, ok := in.(interface{ Typed() bool }); ok && !t.Typed() {
				continue
			}
			line = last
		}
		last = line
		s.Out.LogInput(s.Prompt() + line)
		_ = stop.run(ctx, func(ctx context.Context) error { return s.Execute(ctx, line) }) // shown when it happened
	}
	return nil
}

// lineReader gives the line editor, or a plain reader where the terminal can't
// do it.
func (p Program) lineReader(s *cmd.Session, out *writer, opt options) (LineReader, func()) {
	plain := &plainReader{in: bufio.NewReaderSize(p.Stdin, 1<<16), out: out}
	in, ok := p.Stdin.(interface{ Fd() uintptr })
	if !ok || p.Getenv("TERM") == "dumb" {
		return plain, func() {}
	}
	h, err := openHistory(p.StateDir)
	if err != nil {
		fmt.Fprintf(p.Stderr, "gokd: %v\n", err)
	}
	e, err := newEditor(in, h, p.colored(opt), func(before string) []suggestion { return complete(s, before) })
	if err != nil {
		return plain, func() {}
	}
	return &fallback{e, plain}, func() { _ = e.Close() }
}

// fallback goes on with plain lines where the editor breaks.
type fallback struct {
	*editor
	plain *plainReader
}

// ReadLine implements LineReader.
func (f *fallback) ReadLine(prompt string) (string, error) {
	if f.editor == nil {
		return f.plain.ReadLine(prompt)
	}
	line, err := f.editor.ReadLine(prompt)
	if err != nil && !errors.Is(err, io.EOF) {
		_ = f.editor.Close()
		f.editor = nil
		return f.plain.ReadLine(prompt)
	}
	return line, err
}

// Typed reports whether the last Enter was typed.
func (f *fallback) Typed() bool { return f.editor == nil || f.editor.Typed() }

// plainReader reads lines that the terminal itself edits.
type plainReader struct {
	in  *bufio.Reader
	out *writer
}

// ReadLine implements LineReader.
func (r *plainReader) ReadLine(prompt string) (string, error) {
	if _, err := r.out.WriteString(prompt); err != nil {
		return "", err
	}
	if err := r.out.Flush(); err != nil {
		return "", err
	}
	line, err := r.in.ReadString('\n')
	if err != nil && line != "" {
		err = nil // the last line without its end
	}
	return strings.TrimRight(line, "\r\n"), err
}

// interrupts turns Ctrl-C into the end of the running command. Between commands
// it does nothing: the signal never ends a session.
type interrupts struct {
	signals chan os.Signal
	done    chan struct{}

	mu     sync.Mutex
	cancel context.CancelFunc // of the running command
}

func newInterrupts() *interrupts {
	i := &interrupts{signals: make(chan os.Signal, 1), done: make(chan struct{})}
	signal.Notify(i.signals, os.Interrupt)
	go func() {
		for {
			select {
			case <-i.done:
				return
			case <-i.signals:
				i.mu.Lock()
				if i.cancel != nil {
					i.cancel()
				}
				i.mu.Unlock()
			}
		}
	}()
	return i
}

func (i *interrupts) close() {
	signal.Stop(i.signals)
	close(i.done)
}

// run runs a command under a context that Ctrl-C cancels.
func (i *interrupts) run(ctx context.Context, f func(context.Context) error) error {
	ctx, cancel := context.WithCancel(ctx)
	i.set(cancel)
	defer func() {
		i.set(nil)
		cancel()
	}()
	return f(ctx)
}

func (i *interrupts) set(cancel context.CancelFunc) {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.cancel = cancel
}
