package repl_test

import (
	"bytes"
	"context"
	"io"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"gokd/repl"
)

// dialog is a session over a pipe whose answers a test can wait for.
type dialog struct {
	t    *testing.T
	in   *io.PipeWriter
	out  *listener
	code chan int
}

// listener keeps what is printed and wakes who waits for it.
type listener struct {
	mu      sync.Mutex
	text    bytes.Buffer
	changed *sync.Cond
	closed  bool
	onWrite func(all string) // called with the lock held
}

func (l *listener) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.text.Write(p)
	if l.onWrite != nil {
		l.onWrite(l.text.String())
	}
	l.changed.Broadcast()
	return len(p), nil
}

// startDialog runs the program over a dump, with a pipe as standard input.
func startDialog(t *testing.T, args ...string) *dialog {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), endless)
	t.Cleanup(cancel)
	r, w := io.Pipe()
	out := &listener{}
	out.changed = sync.NewCond(&out.mu)
	d := &dialog{t: t, in: w, out: out, code: make(chan int, 1)}
	go func() {
		code := repl.Main(ctx, repl.Program{
			Args: append([]string{"-q", "-keepgoing"}, args...), Stdin: r, Stdout: out, Stderr: out,
			Getenv: func(string) string { return "" }, Location: time.UTC,
		})
		_ = r.Close() // whoever still writes is told
		out.mu.Lock()
		out.closed = true
		out.changed.Broadcast()
		out.mu.Unlock()
		d.code <- code
	}()
	return d
}

// ask sends a command and gives what is printed up to its end.
func (d *dialog) ask(command string) string {
	d.t.Helper()
	const mark = "answer ends here"
	d.out.mu.Lock()
	from := d.out.text.Len()
	d.out.mu.Unlock()
	if _, err := io.WriteString(d.in, command+"\n.echo "+mark+"\n"); err != nil {
		d.t.Fatalf("%s: the program ended: %v\n%s", command, err, d.out.text.String())
	}
	d.out.mu.Lock()
	defer d.out.mu.Unlock()
	for !d.out.closed && !strings.Contains(d.out.text.String()[from:], mark) {
		d.out.changed.Wait()
	}
	return d.out.text.String()[from:]
}

// end closes the input and gives the exit code.
func (d *dialog) end() int {
	d.t.Helper()
	if err := d.in.Close(); err != nil {
		d.t.Fatal(err)
	}
	return <-d.code
}

// writeDump writes the dump of an embedded scenario into a file of its own.
func writeDump(t *testing.T, scenario string) (name string, size int64) {
	t.Helper()
	dump := buildDump(t, scenario)
	name = filepath.Join(t.TempDir(), "memory.dmp")
	if err := os.WriteFile(name, dump, 0o600); err != nil {
		t.Fatal(err)
	}
	return name, int64(len(dump))
}

// TestShrink_betweenCommands cuts the file of an open dump: no command takes
// what is left for the machine, and none ends the process.
func TestShrink_betweenCommands(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name string
		size func(size int64) int64
	}{
		{"to nothing", func(int64) int64 { return 0 }},
		{"to the header", func(int64) int64 { return headerBytes }},
		{"inside a page", func(size int64) int64 { return size/2 + 0x123 }},
		{"by a byte", func(size int64) int64 { return size - 1 }},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			name, size := writeDump(t, "self-deadlock")
			d := startDialog(t, "-z", name)
			if got := d.ask("!process 0 0"); !strings.Contains(got, "Image: System") {
				t.Fatalf("before the cut: %s", got)
			}
			if err := os.Truncate(name, tt.size(size)); err != nil {
				t.Fatal(err)
			}
			for _, command := range []string{
				"!process 0 0", "!locks", "lmv", "!thread", "!poolfind * ", "!poolused", "!pool fffffa8011efede8", "vertarget", ".bugcheck",
			} {
				got := d.ask(command)
				if !strings.Contains(got, "the dump changed: file cannot be read") || !strings.Contains(got, "when it was opened") {
					t.Errorf("%s: no error says that the file shrank: %.300s", command, got)
				}
			}
			if got := d.ask("? 1 + 1"); !strings.Contains(got, "Evaluate expression: 2") {
				t.Errorf("a command that needs no dump: %s", got)
			}
			if code := d.end(); code != repl.ExitFailed {
				t.Errorf("exit code %d, want %d", code, repl.ExitFailed)
			}
		})
	}
}

// TestShrink_written: a file of the old size, but not the old bytes.
func TestShrink_written(t *testing.T) {
	t.Parallel()
	name, _ := writeDump(t, "self-deadlock")
	d := startDialog(t, "-z", name)
	d.ask("vertarget")
	later := time.Now().Add(time.Hour)
	if err := os.Chtimes(name, later, later); err != nil {
		t.Fatal(err)
	}
	if got := d.ask("!process 0 0"); !strings.Contains(got, "it was written to while open") {
		t.Errorf("no error says that the file was written to: %.300s", got)
	}
	if code := d.end(); code != repl.ExitFailed {
		t.Errorf("exit code %d, want %d", code, repl.ExitFailed)
	}
}

// TestShrink_duringCommand cuts the file while a command runs whose answer is
// longer than what the output keeps back: what was shown stays, an error says
// why it is not to be relied on, and the process lives.
func TestShrink_duringCommand(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct{ scenario, command, flag string }{
		{"self-deadlock", "!process 0 7", "-q"}, {"self-deadlock", "!locks -v", "-json"},
		{"pool-leak", "!poolfind *", "-json"},
	} {
		t.Run(tt.command+" "+tt.flag, func(t *testing.T) {
			t.Parallel()
			name, _ := writeDump(t, tt.scenario)
			d := startDialog(t, "-z", name, tt.flag)
			d.ask("? 0")
			cut := false
			d.out.mu.Lock()
			d.out.onWrite = func(string) { // with the first piece of the answer
				if !cut {
					cut = true
					if err := os.Truncate(name, headerBytes); err != nil {
						t.Error(err)
					}
				}
			}
			d.out.mu.Unlock()
			got := d.ask(tt.command)
			if !cut || !strings.Contains(got, "the dump changed: file cannot be read") {
				t.Errorf("no error says that the file shrank: ...%s", got[max(0, len(got)-500):])
			}
			if strings.Contains(got, "internal error") {
				t.Errorf("a bug shows: %s", got)
			}
			if got := d.ask("? 1 + 1"); !strings.Contains(got, "2") {
				t.Errorf("the next command: %s", got)
			}
			if code := d.end(); code != repl.ExitFailed {
				t.Errorf("exit code %d, want %d", code, repl.ExitFailed)
			}
		})
	}
}
