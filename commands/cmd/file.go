package cmd

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
)

// MaxScriptDepth limits scripts that run scripts.
const MaxScriptDepth = 32

// maxScriptSize limits a command file in bytes.
const maxScriptSize = 16 << 20

// ScriptError says where in a command file a command failed.
type ScriptError struct {
	File string
	Line int
	Err  error

	run *fileRun
}

func (e *ScriptError) Error() string { return fmt.Sprintf("%s:%d: %v", e.File, e.Line, e.Err) }

// Unwrap gives the failure.
func (e *ScriptError) Unwrap() error { return e.Err }

// RunFile runs the commands of a file. Without echo the whole file is one block
// of commands, whose aliases are replaced before the first one runs; with it the
// file is run line by line, and each line is shown with the prompt before it. A
// line that opens a brace goes on to the one that closes it. The first failing
// command ends the file, unless KeepGoing is set; the error is a *ScriptError.
func (s *Session) RunFile(ctx context.Context, name string, echo bool) error {
	return s.RunFileArgs(ctx, name, echo, nil)
}

// RunFileArgs is RunFile with arguments: ${$arg1} and so on in the file stand
// for them. One without its argument stays as it is.
func (s *Session) RunFileArgs(ctx context.Context, name string, echo bool, args []string) error {
	if s.depth >= MaxScriptDepth {
		return fmt.Errorf("%s: scripts run scripts more than %d deep", name, MaxScriptDepth)
	}
	s.depth++
	defer func() { s.depth-- }()
	text, err := s.ReadText(name)
	if err != nil {
		return err
	}
	if len(args) > 0 {
		tokens := map[string]string{}
		for i, a := range args {
			tokens[fmt.Sprintf("${$arg%d}", i+1)] = a
		}
		text = ReplaceTokens(text, tokens)
	}
	defer s.enter(&fileRun{name})()
	if echo {
		return unshown(s.runLines(ctx, text))
	}
	return unshown(s.runText(ctx, s.expand(text), 1))
}

// ReadText gives the text of a command file, by Session.OpenScript, with line
// ends as "\n".
func (s *Session) ReadText(name string) (string, error) {
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
	return strings.ReplaceAll(strings.TrimPrefix(string(b), "\ufeff"), "\r\n", "\n"), nil
}

// runLines runs a text line by line and shows each line before it. A command
// that goes on behind the end of its line takes the following ones with it.
func (s *Session) runLines(ctx context.Context, text string) error {
	var failed error
	line := 1
	for text != "" && !s.Quit && ctx.Err() == nil {
		n := lineEnd(text)
		for pos := 0; ; {
			start, end := s.cut(text, pos)
			if start >= n || start == end {
				break
			}
			if pos = end; end > n {
				n = end + lineEnd(text[end:])
			}
		}
		if strings.TrimSpace(text[:n]) != "" {
			prompt := s.Prompt()
			for l := range strings.SplitSeq(text[:n], "\n") {
				s.Out.Echo(prompt + l)
				prompt = ""
			}
		}
		if err := s.runText(ctx, s.expand(text[:n]), line); err != nil {
			failed = errors.Join(failed, unshown(err))
			if !s.KeepGoing {
				return unshown(err)
			}
		}
		line += strings.Count(text[:n], "\n") + 1
		text = strings.TrimPrefix(text[n:], "\n")
	}
	return failed
}
