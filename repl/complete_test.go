package repl

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"gokd/commands"
	"gokd/commands/cmd"
	"gokd/commands/masm"
	"gokd/commands/report"
)

// snapshotSession gives a session over the embedded snapshot.
func snapshotSession(t testing.TB) *cmd.Session {
	t.Helper()
	table, err := commands.Table()
	if err != nil {
		t.Fatal(err)
	}
	p := Program{Scenarios: os.DirFS("../testdata/snapshots"), Getenv: func(string) string { return "" }}
	s := &cmd.Session{Commands: table, Out: cmd.NewOutput(&strings.Builder{}, report.Era19041, false)}
	s.Eval = masm.ForSession(s)
	target, err := p.openInto(t.Context(), s, options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = target.Close() })
	return s
}

func texts(list []suggestion) []string {
	var out []string
	for _, s := range list {
		out = append(out, s.text)
	}
	return out
}

func TestComplete(t *testing.T) {
	t.Parallel()
	s := snapshotSession(t)
	dir := t.TempDir() + string(filepath.Separator)
	for _, name := range []string{"one.kd", "other.kd", "two.kd", "a b.kd", ".hidden"} {
		if err := os.WriteFile(dir+name, nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Mkdir(dir+"only", 0o700); err != nil {
		t.Fatal(err)
	}
	sep := string(filepath.Separator)
	for line, want := range map[string][]string{
		"":                      nil,
		".logo":                 {".logopen"},
		".LOG":                  {".logappend", ".logclose", ".logopen"},
		"logo":                  {".logopen"},
		"!lo":                   {"!locks"},
		"lm; .tim":              {".time"},
		".hh bugc":              {".bugcheck"},
		"!locks -v":             {"-v"},
		"? sis":                 {"sis!"},
		"? SR":                  {"srv2!", "srvnet!"},
		"? nt!KeBugCheckE":      {"nt!KeBugCheckEx"},
		"? 1+nt!KeBugCheckE":    {"nt!KeBugCheckEx"},
		"? zork!a":              nil,
		"!thread nt!ExpWorker":  {"nt!ExpWorkerThread", "nt!ExpWorkerThreadBalanceManager"},
		"lm m nt":               {"nt", "Ntfs"},
		".logopen " + dir + "o": {dir + "one.kd", dir + "only" + sep, dir + "other.kd"},
		"$$><" + dir + "t":      {"$$><" + dir + "two.kd"},
		"$$>< " + dir + "t":     {dir + "two.kd"},
		".logopen " + dir:       {dir + "one.kd", dir + "only" + sep, dir + "other.kd", dir + "two.kd"},
		".echo nt":              nil,
		"zork nt":               nil,
		"lm ":                   nil,
	} {
		got := texts(complete(s, line))
		if strings.HasPrefix(line, "!thread") { // whatever the snapshot has of these
			if len(got) == 0 || got[0] != want[0] {
				t.Errorf("%q offers %q", line, got)
			}
			continue
		}
		if d := cmp.Diff(want, got); d != "" {
			t.Errorf("%q (-want +got):\n%s", line, d)
		}
	}
}

// TestComplete_loadsNothing: a key must not wait for a symbol table.
func TestComplete_loadsNothing(t *testing.T) {
	t.Parallel()
	s := snapshotSession(t)
	if got := complete(s, "? sis!Sip"); got != nil {
		t.Errorf("offers %q", texts(got))
	}
	m, _ := s.Kernel.Modules.ByName("sis")
	if _, asked := m.LoadedSymbols(); asked {
		t.Error("symbols were loaded")
	}
	if err := s.Execute(t.Context(), "? sis!SipDereferenceCSFile"); err != nil {
		t.Fatal(err)
	}
	if got := texts(complete(s, "? sis!SipDereferenceCS")); !slices.Contains(got, "sis!SipDereferenceCSFile") {
		t.Errorf("offers %q", got)
	}
}

func TestComplete_bounded(t *testing.T) {
	t.Parallel()
	s := snapshotSession(t)
	if got := complete(s, "? nt!"); len(got) != maxSuggestions {
		t.Errorf("%d suggestions, want %d", len(got), maxSuggestions)
	}
	s.Kernel = nil
	for _, line := range []string{"? nt", "lm m nt", "!thread nt!K"} {
		if got := complete(s, line); got != nil {
			t.Errorf("%q offers %q without a dump", line, texts(got))
		}
	}
}

func FuzzComplete(f *testing.F) {
	s := snapshotSession(f)
	for _, line := range []string{"!locks -", "? nt!", "$$><", "lm m", ";", "!thread /", "-", "\x00é"} {
		f.Add(line)
	}
	f.Fuzz(func(t *testing.T, line string) {
		if strings.Contains(line, "/") || strings.Contains(line, "..") {
			return // no walks over this machine
		}
		if got := complete(s, line); len(got) > maxSuggestions {
			t.Fatalf("%d suggestions", len(got))
		}
	})
}

func BenchmarkComplete(b *testing.B) {
	s := snapshotSession(b)
	b.ReportAllocs()
	b.SetBytes(int64(len("? nt!Ke")))
	for b.Loop() {
		complete(s, "? nt!Ke")
	}
}
