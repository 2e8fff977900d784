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
	in, plain, done := p.lineReader(s, out, opt)
	defer done()
	stop := newInterrupts(plain.interrupted)
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
func (p Program) lineReader(s *cmd.Session, out *writer, opt options) (in LineReader, plain *plainReader, done func()) {
	plain = &plainReader{in: bufio.NewReaderSize(p.Stdin, 1<<16), out: out}
	tty, ok := p.Stdin.(interface{ Fd() uintptr })
	if !ok || p.Getenv("TERM") == "dumb" {
		return plain, plain, func() {}
	}
	h, err := openHistory(p.StateDir)
	if err != nil {
		fmt.Fprintf(p.Stderr, "gokd: %v\n", err)
	}
	e, err := newEditor(tty, h, p.colored(opt), func(before string) []suggestion { return complete(s, before) })
	if err != nil {
		return plain, plain, func() {}
	}
	return &fallback{e, plain}, plain, func() { _ = e.Close() }
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
	in *bufio.Reader

	mu      sync.Mutex
	out     *writer
	waiting string // the prompt of the line that is awaited; empty: none is
}

// ReadLine implements LineReader.
func (r *plainReader) ReadLine(prompt string) (string, error) {
	if err := r.show(prompt, prompt); err != nil {
		return "", err
	}
	line, err := r.in.ReadString('\n')
	if err != nil && line != "" {
		err = nil // the last line without its end
	}
	end := ""
	if err != nil {
		end = "\n" // the terminal shows no Ctrl-D
	}
	if shown := r.show(end, ""); shown != nil && err == nil {
		err = shown
	}
	return strings.TrimRight(line, "\r\n"), err
}

// show writes a text, and notes the prompt of the line that is awaited from
// then on.
func (r *plainReader) show(text, waiting string) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.waiting = waiting
	if _, err := r.out.WriteString(text); err != nil {
		return err
	}
	return r.out.Flush()
}

// interrupted shows the prompt anew after a Ctrl-C, with which the terminal drops
// what was typed.
func (r *plainReader) interrupted() {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.waiting != "" {
		_, _ = r.out.WriteString("\n" + r.waiting) // a terminal that is gone ends the read too
		_ = r.out.Flush()
	}
}

// interrupts turns Ctrl-C into the end of the running command. The signal never
// ends a session.
type interrupts struct {
	signals chan os.Signal
	done    chan struct{}
	idle    func() // called for a signal between commands

	mu     sync.Mutex
	cancel context.CancelFunc // of the running command
}

func newInterrupts(idle func()) *interrupts {
	i := &interrupts{signals: make(chan os.Signal, 1), done: make(chan struct{}), idle: idle}
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
				} else {
					i.idle()
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
