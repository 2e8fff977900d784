package repl

import (
	"context"
	"errors"
	"io"
	"io/fs"
	"strings"
	"testing"
	"time"

	"gokd/commands/cmd"
	"gokd/commands/report"
)

// FuzzSession types lines at a session over the embedded snapshot: whatever is
// typed, no command fails with a bug, and text carries no control character.
func FuzzSession(f *testing.F) {
	for _, line := range []string{
		"lm v m *", "!locks -v", "!thread fffff88007fab7f3 e", "!process 0 7", "!process 0 0 x", "!poolused 2 a*", "!poolfind -tag \"Le?k\"",
		"!pool nt", "? poi(nt+3c)", ".hh !locks", "~3s; ? @rip", ".catch {zork}", "lm a .", ".compat 6.2; !thread", "!locks -1", "!thread -1",
	} {
		f.Add(line)
	}
	s := snapshotSession(f)
	s.OpenScript = func(name string) (io.ReadCloser, error) {
		return nil, &fs.PathError{Op: "open", Path: name, Err: fs.ErrNotExist}
	}
	f.Fuzz(func(t *testing.T, line string) {
		if strings.Contains(strings.ToLower(line), ".log") {
			return // writes files
		}
		var text strings.Builder
		s.Out = cmd.NewOutput(&text, report.Era19041, false)
		s.Quit, s.CPU = false, 2
		ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
		defer cancel()
		err := s.Execute(ctx, line)
		if ctx.Err() != nil && !errors.Is(err, cmd.ErrInterrupted) {
			t.Fatalf("%q goes on after its end: %v", line, err)
		}
		if strings.Contains(text.String(), "internal error") && !strings.Contains(line, "internal error") {
			t.Fatalf("%q: %s", line, text.String())
		}
		for _, c := range text.String() {
			if (c < ' ' || c >= 0x7f && c <= 0x9f) && c != '\n' && c != '\t' {
				t.Fatalf("%q: control character %U in %q", line, c, text.String())
			}
		}
	})
}

// FuzzOptions reads command lines.
func FuzzOptions(f *testing.F) {
	for _, line := range []string{"-z\x00a\x00-q", "a\x00-c\x00lm;q", "--\x00-z", "-compat\x006.2\x00-json=x", "-"} {
		f.Add(line)
	}
	f.Fuzz(func(t *testing.T, line string) {
		opt, err := parseOptions(strings.Split(line, "\x00"), "")
		if err != nil && !errors.Is(err, errUsage) {
			t.Fatalf("%q: %v is no error of usage", line, err)
		}
		if err == nil && len(opt.dumps) > 1 {
			t.Fatalf("%q: dumps %q", line, opt.dumps)
		}
		_, _ = parseSize(line)
		_ = endsInQuit(line)
	})
}
