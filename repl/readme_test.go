package repl_test

import (
	"bytes"
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"gokd/repl"
)

// readme gives the README and the folder it lies in.
func readme(t *testing.T) (text, root string) {
	t.Helper()
	root, err := filepath.Abs("..")
	if err != nil {
		t.Fatal(err)
	}
	b, err := os.ReadFile(filepath.Join(root, "README.md"))
	if err != nil {
		t.Fatal(err)
	}
	return string(b), root
}

// fenced gives the fenced blocks of a language.
func fenced(text, language string) []string {
	var blocks []string
	for {
		_, rest, ok := strings.Cut(text, "\n```"+language+"\n")
		if !ok {
			return blocks
		}
		block, after, ok := strings.Cut(rest, "\n```")
		if !ok {
			return blocks
		}
		blocks, text = append(blocks, block), after
	}
}

// example is a command of the README with what it says comes out.
type example struct {
	args []string
	want []string
}

func examples(t *testing.T, text string) []example {
	t.Helper()
	var list []example
	for _, block := range fenced(text, "console") {
		for line := range strings.SplitSeq(block, "\n") {
			if cmd, ok := strings.CutPrefix(line, "$ gokd "); ok {
				list = append(list, example{args: shellWords(cmd)})
			} else if len(list) == 0 {
				t.Fatalf("README: output %q before any command", line)
			} else {
				e := &list[len(list)-1]
				e.want = append(e.want, line)
			}
		}
	}
	return list
}

// shellWords cuts a command line at blanks outside single quotes; inside double
// ones a shell would take "!" for a command of its own.
func shellWords(s string) []string {
	var words []string
	for i, part := range strings.Split(s, `'`) {
		if i%2 == 1 {
			words = append(words, part)
		} else {
			words = append(words, strings.Fields(part)...)
		}
	}
	return words
}

// matches compares output with what the README shows: a line "..." stands for
// any lines, and "..." at the end of a line for any rest.
func matches(want, got []string) (missing string, ok bool) {
	for i, w := range want {
		if w == "..." {
			if i == len(want)-1 {
				return "", true
			}
			for n := range got {
				if _, ok := matches(want[i+1:], got[n:]); ok {
					return "", true
				}
			}
			return want[i+1], false
		}
		if len(got) == 0 {
			return w, false
		}
		if head, cut := strings.CutSuffix(w, "..."); strings.TrimRight(got[0], " ") != strings.TrimRight(w, " ") && (!cut || !strings.HasPrefix(got[0], head)) {
			return w, false
		}
		got = got[1:]
	}
	return "", len(got) == 0
}

func TestReadme_examples(t *testing.T) {
	text, root := readme(t)
	t.Chdir(root)
	list := examples(t, text)
	if len(list) < 4 {
		t.Fatalf("%d examples found in the README", len(list))
	}
	for _, e := range list {
		t.Run(strings.Join(e.args, " "), func(t *testing.T) {
			var out, diag bytes.Buffer
			code := repl.Main(context.Background(), repl.Program{
				Args: e.args, Stdin: strings.NewReader(""), Stdout: &out, Stderr: &diag,
				Getenv: func(string) string { return "" }, Location: time.UTC,
				Scenarios: os.DirFS(filepath.Join("testdata", "snapshots")),
			})
			if code != 0 {
				t.Errorf("exit code %d: %s", code, diag.String())
			}
			got := strings.Split(strings.TrimSuffix(out.String(), "\n"), "\n")
			if missing, ok := matches(e.want, got); !ok {
				t.Errorf("the README's line %q does not come out here; got:\n%s", missing, out.String())
			}
		})
	}
}

// TestReadme_setUp runs the command that opens the embedded snapshot, and holds
// the two commands against what the checks run.
func TestReadme_setUp(t *testing.T) {
	text, root := readme(t)
	blocks := fenced(text, "sh")
	if len(blocks) != 1 {
		t.Fatalf("%d blocks of set-up commands, want one", len(blocks))
	}
	var commands []string
	for line := range strings.SplitSeq(blocks[0], "\n") {
		line, _, _ = strings.Cut(line, "#")
		commands = append(commands, strings.TrimSpace(line))
	}
	if len(commands) != 2 || commands[0] != "go run ." || commands[1] != "go test ./..." {
		t.Fatalf("set-up commands %q", commands)
	}
	ci, err := os.ReadFile(filepath.Join(root, ".ci", "run"))
	if err != nil || !strings.Contains(string(ci), "go test -race") || !strings.Contains(string(ci), "./...") {
		t.Errorf(".ci/run does not run the README's tests: %v", err)
	}
	run := exec.Command("go", "run", ".")
	run.Dir = root
	run.Stdin = strings.NewReader("!locks\n")
	var diag bytes.Buffer
	run.Stderr = &diag
	out, err := run.Output()
	if err != nil {
		t.Fatalf("go run .: %v\n%s", err, diag.String())
	}
	if !strings.Contains(string(out), "Exclusively owned") {
		t.Errorf("go run . does not show a held resource:\n%s", out)
	}
}
