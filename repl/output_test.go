package repl_test

import (
	"bytes"
	"errors"
	"io"
	"path/filepath"
	"strings"
	"testing"

	"gokd/repl"
)

// fullDisk takes nothing.
type fullDisk struct{}

func (fullDisk) Write([]byte) (int, error) { return 0, errors.New("no space left on device") }

// TestRun_outputLost: an answer that reached nobody is no success, and no
// silent failure.
func TestRun_outputLost(t *testing.T) {
	t.Parallel()
	for _, args := range [][]string{
		{"-q", "-c", "lm m nt;q"}, {"-c", "q"}, {"-q", "-json", "-c", "lm;q"}, {"-q", "-c", ".echo a", "self-deadlock.yaml"},
	} {
		var diag bytes.Buffer
		code := repl.Main(t.Context(), repl.Program{
			Args: args, Stdin: strings.NewReader("lm\n"), Stdout: io.Writer(fullDisk{}), Stderr: &diag,
			Getenv: func(string) string { return "" }, Scenarios: scenarios(),
		})
		if code != repl.ExitFailed || !strings.Contains(diag.String(), "gokd: standard output: no space left on device\n") {
			t.Errorf("%q: exit code %d, diagnostics %q", args, code, diag.String())
		}
	}
}

// TestSnapshot_noFolder names the file that was asked for.
func TestSnapshot_noFolder(t *testing.T) {
	t.Parallel()
	name := filepath.Join(t.TempDir(), "no", "o.dmp")
	r := run(t, "", "snapshot", "build", "self-deadlock.yaml", "-o", name)
	if r.Code != repl.ExitFailed || !strings.Contains(r.Err, "can't write "+name+": ") || strings.Contains(r.Err, ".gokd-") {
		t.Errorf("exit code %d, diagnostics %q", r.Code, r.Err)
	}
}
