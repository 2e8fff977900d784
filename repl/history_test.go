package repl

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestHistory(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "new", "gokd")
	h, err := openHistory(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, line := range []string{"lm", "!locks", "lm", "  ", "a\x1b[0m"} {
		h.add(line)
	}
	want := []string{"!locks", "lm"}
	if d := cmp.Diff(want, h.lines()); d != "" {
		t.Errorf("in the session (-want +got):\n%s", d)
	}
	info, err := os.Stat(filepath.Join(dir, "history"))
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("%v, %v: want mode 0600", info, err)
	}
	again, err := openHistory(dir)
	if d := cmp.Diff(want, again.lines()); err != nil || d != "" {
		t.Errorf("%v, in the next one (-want +got):\n%s", err, d)
	}
}

func TestHistory_bounded(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	var b strings.Builder
	for i := range 3 * maxHistory {
		fmt.Fprintf(&b, "line %d\n", i)
	}
	file := filepath.Join(dir, "history")
	if err := os.WriteFile(file, []byte(b.String()), 0o600); err != nil {
		t.Fatal(err)
	}
	h, err := openHistory(dir)
	if err != nil {
		t.Fatal(err)
	}
	list := h.lines()
	if len(list) != maxHistory || list[maxHistory-1] != fmt.Sprintf("line %d", 3*maxHistory-1) {
		t.Errorf("%d lines, last %q", len(list), list[len(list)-1])
	}
	text, err := os.ReadFile(file)
	if n := strings.Count(string(text), "\n"); err != nil || n != maxHistory {
		t.Errorf("%v: %d lines in the file, want %d", err, n, maxHistory)
	}
	if left, _ := filepath.Glob(filepath.Join(dir, "history-*")); len(left) > 0 {
		t.Errorf("left behind: %v", left)
	}
}

// TestHistory_unusable: a session works without a place for its history.
func TestHistory_unusable(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for dir, fails := range map[string]bool{"": false, filepath.Join(file, "sub"): true} {
		h, err := openHistory(dir)
		if (err != nil) != fails {
			t.Errorf("%q: error %v", dir, err)
		}
		h.add("lm")
		if d := cmp.Diff([]string{"lm"}, h.lines()); d != "" {
			t.Errorf("(-want +got):\n%s", d)
		}
	}
}
