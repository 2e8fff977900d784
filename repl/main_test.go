package repl_test

import (
	"bytes"
	"context"
	"flag"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"gokd/repl"
)

var update = flag.Bool("update", false, "rewrite transcripts")

// asProgram in the environment makes the test binary the program itself, for
// tests that need a process of its own.
const asProgram = "GOKD_TEST_AS_PROGRAM"

func TestMain(m *testing.M) {
	if os.Getenv(asProgram) == "" {
		os.Exit(m.Run())
	}
	os.Exit(repl.Main(context.Background(), repl.Program{
		Args: os.Args[1:], Stdin: os.Stdin, Stdout: os.Stdout, Stderr: os.Stderr,
		Getenv: os.Getenv, Version: "test", Scenarios: scenarios(),
		Location: time.UTC, StateDir: os.Getenv("GOKD_TEST_STATE"),
	}))
}

// result is what a run of the program left behind.
type result struct {
	Code     int
	Out, Err string
}

// run runs the program inside the test.
func run(t testing.TB, stdin string, args ...string) result {
	t.Helper()
	return runFrom(t, strings.NewReader(stdin), args...)
}

func runFrom(t testing.TB, stdin io.Reader, args ...string) result {
	t.Helper()
	var out, diag bytes.Buffer
	code := repl.Main(t.Context(), repl.Program{
		Args: args, Stdin: stdin, Stdout: &out, Stderr: &diag,
		Getenv: func(string) string { return "" }, Version: "test",
		Scenarios: scenarios(), Location: time.UTC,
	})
	return result{code, out.String(), diag.String()}
}

// scenarios are the embedded ones; the path holds wherever a test goes.
func scenarios() fs.FS { return os.DirFS(filepath.Join(root, "testdata", "snapshots")) }

// root is the project's folder.
var root = func() string {
	dir, err := filepath.Abs("..")
	if err != nil {
		panic(err) // tests run in a folder that is there
	}
	return dir
}()
