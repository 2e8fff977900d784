package repl_test

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// A transcript (.kdt) is a pasted session: comments, the line that starts the
// program, then prompts with commands and below each its exact answer.
//
//	# What it shows.
//	$ gokd -compat 6.2 self-deadlock.yaml
//	2: kd> .bugcheck
//	Bugcheck code 000000E2
//
// Run "go test ./repl -run Transcripts -update" to write answers anew.
const transcripts = "../testdata/transcripts"

// typed is a prompt and a command at the start of a line.
var typed = regexp.MustCompile(`^(?:\d+: )?kd> (.*)$`)

func TestTranscripts(t *testing.T) {
	t.Parallel()
	files, err := filepath.Glob(filepath.Join(transcripts, "*.kdt"))
	if err != nil || len(files) == 0 {
		t.Fatalf("no transcripts: %v", err)
	}
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".kdt"), func(t *testing.T) {
			t.Parallel()
			b, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			got := replayed(t, string(b))
			if *update {
				if err := os.WriteFile(file, []byte(got), 0o644); err != nil {
					t.Fatal(err)
				}
				return
			}
			if d := cmp.Diff(string(b), got); d != "" {
				t.Errorf("%s (-want +got):\n%s", file, d)
			}
		})
	}
}

// replayed gives a transcript with the answers of today.
func replayed(t *testing.T, text string) string {
	t.Helper()
	var head, commands []string
	var args []string
	for line := range strings.SplitSeq(text, "\n") {
		if m := typed.FindStringSubmatch(line); m != nil {
			commands = append(commands, m[1])
			continue
		}
		if len(commands) > 0 {
			continue
		}
		head = append(head, line)
		if cmd, ok := strings.CutPrefix(line, "$ gokd"); ok {
			args = strings.Fields(cmd)
		}
	}
	if len(commands) == 0 || args == nil && !strings.Contains(text, "$ gokd") {
		t.Fatal(`a transcript has a line "$ gokd ..." and prompts below it`)
	}
	// $< shows each line with its prompt, as a terminal does.
	script := filepath.Join(t.TempDir(), "script.kd")
	if err := os.WriteFile(script, []byte(strings.Join(commands, "\n")+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	r := run(t, "", append(args, "-q", "-keepgoing", "-c", "$<"+script)...)
	if r.Code > 1 {
		t.Fatalf("exit code %d: %s", r.Code, r.Err)
	}
	out := r.Out
	if i := strings.LastIndex(out, script+":"); i >= 0 { // where the script failed is no part of the session
		out = out[:i]
	}
	return strings.Join(head, "\n") + "\n" + out
}
