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
		"k; kvn 3; .frame 2; r", "dt nt!_KTHREAD @$thread -r1", "dt -l ActiveProcessLinks.Flink nt!_EPROCESS poi(nt!PsActiveProcessHead)",
		"x nt!*", "ln @rip; u . L4; ub @rip; uf @rip", "db nt L40; dps @rsp L4; s -a nt L?1000 \"MZ\"; !pte nt; !address",
		".for (r $t0 = 0; @$t0 < 3; r $t0 = @$t0 + 1) { .printf \"%d %y\\n\", @$t0, nt }", ".foreach (x { lm1m }) { .echo x }",
		"as a b; .block { .echo ${a} }; ad a", "?? @$thread->Tcb.State", "!list -x \".echo @$extret\" nt!PsActiveProcessHead",
		".if (1) { .echo y } .else { q }", ".while (1) { .break }", ".cxr @rsp; .trap @rsp; .exr -1; .thread; .process", "!dh nt; !lmi nt",
	} {
		f.Add(line)
	}
	s := snapshotSession(f)
	s.OpenScript = func(name string) (io.ReadCloser, error) {
		return nil, &fs.PathError{Op: "open", Path: name, Err: fs.ErrNotExist}
	}
	f.Fuzz(func(t *testing.T, line string) {
		low := strings.ToLower(line)
		if strings.Contains(low, ".log") || strings.Contains(low, "sym") || strings.Contains(low, "*") && strings.Contains(low, "path") {
			return // writes files, or may ask a server
		}
		var text strings.Builder
		s.Out = cmd.NewOutput(&text, report.Era19041, false)
		s.Quit, s.CPU, s.Scope = false, 2, cmd.Scope{}
		ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
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
