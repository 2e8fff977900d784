//go:build unix

package repl_test

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/creack/pty"
	"github.com/google/go-cmp/cmp"
	"github.com/hinshun/vt10x"
	"github.com/pkg/term/termios"
	"golang.org/x/sys/unix"
)

// patience is how long a test waits for what must come; loaded machines are
// slow.
const patience = 60 * time.Second

// console is the program on a pseudo-terminal, with the screen as a user sees
// it.
type console struct {
	t    *testing.T
	cmd  *exec.Cmd
	ptm  *os.File
	tty  *os.File
	mode unix.Termios // before the program ran

	mu     sync.Mutex // protects the fields below
	screen vt10x.Terminal
	raw    bytes.Buffer
	fresh  chan struct{} // closed when something appears
	ended  bool
}

// size of the terminal in most tests.
var size = pty.Winsize{Rows: 40, Cols: 120}

// start starts the program on a terminal.
func start(t *testing.T, ws pty.Winsize, state string, args ...string) *console {
	t.Helper()
	return startAs(t, ws, state, "xterm", args...)
}

func startAs(t *testing.T, ws pty.Winsize, state, kind string, args ...string) *console {
	t.Helper()
	ptm, tty, err := pty.Open()
	if err != nil {
		t.Skipf("no pseudo-terminal here: %v", err)
	}
	if err := pty.Setsize(ptm, &ws); err != nil {
		t.Fatal(err)
	}
	mode, err := termios.Tcgetattr(tty.Fd())
	if err != nil {
		t.Fatal(err)
	}
	c := &console{
		t: t, ptm: ptm, tty: tty, mode: *mode, fresh: make(chan struct{}),
		screen: vt10x.New(vt10x.WithSize(int(max(ws.Cols, 80)), int(max(ws.Rows, 24)))),
		cmd:    program(t, tty, state, kind, args...),
	}
	if err := c.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go c.read()
	t.Cleanup(func() {
		_ = c.cmd.Process.Kill() // it may have ended
		_ = c.cmd.Wait()
		_ = tty.Close()
		_ = ptm.Close()
	})
	return c
}

// program is the test binary as the program, on a terminal of its own.
func program(t *testing.T, tty *os.File, state, kind string, args ...string) *exec.Cmd {
	t.Helper()
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(exe, args...)
	cmd.Env = append(os.Environ(), asProgram+"=1", "GOKD_TEST_STATE="+state, "TERM="+kind, "NO_COLOR=", "GOCOVERDIR="+t.TempDir())
	cmd.Stdin, cmd.Stdout, cmd.Stderr = tty, tty, tty
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Setctty: true}
	return cmd
}

// read takes what the program writes.
func (c *console) read() {
	b := make([]byte, 4096)
	for {
		n, err := c.ptm.Read(b)
		c.mu.Lock()
		_, _ = c.screen.Write(b[:n])
		c.raw.Write(b[:n])
		c.ended = c.ended || err != nil
		close(c.fresh)
		c.fresh = make(chan struct{})
		c.mu.Unlock()
		if err != nil {
			return
		}
	}
}

// until waits for a state of the screen and of all that was written.
func (c *console) until(what string, ok func(screen, raw string) bool) {
	c.t.Helper()
	deadline := time.After(patience)
	for {
		c.mu.Lock()
		screen, raw, fresh := c.screen.String(), c.raw.String(), c.fresh
		good := ok(screen, raw)
		c.mu.Unlock()
		if good {
			return
		}
		select {
		case <-fresh:
		case <-deadline:
			c.t.Fatalf("waited in vain for %s; the screen:\n%s", what, screen)
		}
	}
}

// written gives all that the program wrote.
func (c *console) written() string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.raw.String()
}

// see waits for a text on the screen.
func (c *console) see(text string) {
	c.t.Helper()
	c.until(fmt.Sprintf("%q", text), func(screen, _ string) bool { return strings.Contains(screen, text) })
}

// prompt waits for an empty prompt at the bottom of the screen.
func (c *console) prompt() {
	c.t.Helper()
	c.until("a prompt", func(screen, _ string) bool {
		lines := strings.Split(strings.TrimRight(screen, " \n"), "\n")
		return strings.HasSuffix(strings.TrimRight(lines[len(lines)-1], " "), "kd>")
	})
}

func (c *console) send(text string) {
	c.t.Helper()
	if _, err := c.ptm.WriteString(text); err != nil {
		c.t.Fatal(err)
	}
}

// say types a line and waits for its answer and the next prompt.
func (c *console) say(line, answer string) {
	c.t.Helper()
	c.send(line + "\r")
	c.see(answer)
	c.prompt()
}

// end waits for the program and holds the terminal to the modes it had.
func (c *console) end(code int) {
	c.t.Helper()
	done := make(chan error, 1)
	go func() { done <- c.cmd.Wait() }()
	select {
	case err := <-done:
		var exit *exec.ExitError
		if err != nil && !errors.As(err, &exit) {
			c.t.Fatal(err)
		}
	case <-time.After(patience):
		c.t.Fatal("the program does not end")
	}
	if got := c.cmd.ProcessState.ExitCode(); got != code {
		c.t.Errorf("exit code %d, want %d; written:\n%q", got, code, c.written())
	}
	c.sane()
}

// sane holds the terminal to the modes it had before.
func (c *console) sane() {
	c.t.Helper()
	mode, err := termios.Tcgetattr(c.tty.Fd())
	if err != nil {
		c.t.Fatal(err)
	}
	if d := cmp.Diff(c.mode, *mode); d != "" {
		c.t.Errorf("the terminal is left with other modes (-before +after):\n%s", d)
	}
}

func TestTerminal_session(t *testing.T) {
	t.Parallel()
	c := start(t, size, "")
	c.see("Type .help for the commands, q to leave.")
	c.prompt()
	c.say("lm m nt", "nt         (snapshot symbols)")
	c.say("~0s", "0: kd>")
	c.say("zork", "no such command")
	c.send("q\r")
	c.end(0)
}

// TestTerminal_ctrlD: on an empty line it ends the session, elsewhere it
// deletes.
func TestTerminal_ctrlD(t *testing.T) {
	t.Parallel()
	c := start(t, size, "", "-q")
	c.prompt()
	c.send(".echo axb\x1b[D\x1b[D\x04\r")
	c.see("\nab")
	c.prompt()
	c.send("\x04")
	c.end(0)
}

func TestTerminal_complete(t *testing.T) {
	t.Parallel()
	c := start(t, size, "", "-q")
	c.prompt()
	c.send("loc")
	c.see("  !locks  ")
	c.send("\t\r")
	c.see("total locks")
	c.prompt()
	c.send("? nt!KeBugCheckE")
	c.see("nt!KeBugCheckEx")
	c.send("\t\r")
	c.see("Evaluate expression")
	c.prompt()
	c.send("!locks -")
	c.see("-v ")
	c.send("\x15\x04") // nothing is left of the line: the end
	c.end(0)
}

// TestTerminal_history: the last lines come back with the up arrow, in this
// session and the next.
func TestTerminal_history(t *testing.T) {
	t.Parallel()
	state := filepath.Join(t.TempDir(), "state")
	c := start(t, size, state, "-q")
	c.prompt()
	c.say(".echo one", "\none")
	c.say(".echo two", "\ntwo")
	c.say(".echo two", "\ntwo") // kept once
	c.send("\x1b[A\x1b[A")      // quickly: two keys in one chunk
	c.see("kd> .echo one")
	c.send("!\r")
	c.see("\none!")
	c.prompt()
	c.send("q\r")
	c.end(0)
	text, err := os.ReadFile(filepath.Join(state, "history"))
	if d := cmp.Diff(".echo one\n.echo two\n.echo two\n.echo one!\nq\n", string(text)); err != nil || d != "" {
		t.Errorf("%v (-want +got):\n%s", err, d)
	}
	c = start(t, size, state, "-q")
	c.prompt()
	c.send("\x1b[A\x1b[A\r")
	c.see("\none!")
	c.send("q\r")
	c.end(0)
}

// TestTerminal_interrupt: Ctrl-C ends the running command, keeps what it
// printed, and the session goes on.
func TestTerminal_interrupt(t *testing.T) {
	t.Parallel()
	script := filepath.Join(t.TempDir(), "long.kd")
	if err := os.WriteFile(script, []byte(strings.Repeat("!process 0 0\n", 1<<16)), 0o600); err != nil {
		t.Fatal(err)
	}
	c := start(t, size, "", "-q", "-keepgoing")
	c.prompt()
	c.send("$$><" + script + "\r")
	c.see("PROCESS")
	if mode, err := termios.Tcgetattr(c.tty.Fd()); err != nil || mode.Lflag&unix.ISIG == 0 {
		t.Errorf("%v: the terminal is raw while a command runs", err)
	}
	c.send("\x03")
	c.see("interrupted")
	c.prompt()
	c.say(".echo on", "\non")
	c.send("q\r")
	c.end(0)
}

// TestTerminal_clear: Ctrl-C at the prompt gives the line up.
func TestTerminal_clear(t *testing.T) {
	t.Parallel()
	c := start(t, size, "", "-q")
	c.prompt()
	c.send("zork\x03")
	c.prompt()
	c.say(".echo on", "\non")
	if strings.Contains(c.written(), "no such command") {
		t.Error("the line ran")
	}
	c.send("q\r")
	c.end(0)
}

// TestTerminal_repeat: an empty line runs the last command again; one in a
// pasted text does not.
func TestTerminal_repeat(t *testing.T) {
	t.Parallel()
	c := start(t, size, "", "-q")
	c.prompt()
	c.say(".echo again", "\nagain")
	c.send("\r")
	c.until("the answer twice", func(screen, _ string) bool { return strings.Count(screen, "\nagain") == 2 })
	c.prompt()
	c.send(".echo pasted\r\r\r.echo done\r")
	c.see("\ndone")
	c.prompt()
	c.until("each answer once", func(screen, _ string) bool {
		return strings.Count(screen, "\npasted") == 1 && strings.Count(screen, "\ndone") == 1
	})
	c.send("q\r")
	c.end(0)
}

// TestTerminal_paste: many lines at once run one after the other.
func TestTerminal_paste(t *testing.T) {
	t.Parallel()
	c := start(t, size, "", "-q")
	c.prompt()
	var text strings.Builder
	for i := range 40 {
		fmt.Fprintf(&text, ".echo line%d\r\n", i)
	}
	c.send(text.String())
	c.see("\nline39")
	c.prompt()
	last := -1
	for i := range 40 {
		at := strings.Index(c.written(), fmt.Sprintf("\nline%d\r", i))
		if at < last {
			t.Fatalf("line %d is missing or out of order", i)
		}
		last = at
	}
	c.send("q\r")
	c.end(0)
}

// TestTerminal_noSize: containers give terminals of 0 by 0.
func TestTerminal_noSize(t *testing.T) {
	t.Parallel()
	c := start(t, pty.Winsize{}, "", "-q")
	c.prompt()
	c.say(".echo on", "\non")
	c.send("q\r")
	c.end(0)
}

// TestTerminal_resize: a line survives a change of the window's size.
func TestTerminal_resize(t *testing.T) {
	t.Parallel()
	c := start(t, size, "", "-q")
	c.prompt()
	c.send(".echo ab")
	c.see(".echo ab")
	if err := pty.Setsize(c.ptm, &pty.Winsize{Rows: 30, Cols: 90}); err != nil {
		t.Fatal(err)
	}
	c.until("the line drawn anew", func(screen, _ string) bool { return strings.Count(screen, "kd> .echo ab") == 2 })
	c.send("cd\r")
	c.see("\nabcd")
	c.send("q\r")
	c.end(0)
}

// TestTerminal_killed: a signal leaves a sane terminal.
func TestTerminal_killed(t *testing.T) {
	t.Parallel()
	for _, s := range []syscall.Signal{syscall.SIGTERM, syscall.SIGHUP} {
		c := start(t, size, "", "-q")
		c.prompt()
		if err := c.cmd.Process.Signal(s); err != nil {
			t.Fatal(err)
		}
		c.end(-1)
		if status := c.cmd.ProcessState.Sys().(syscall.WaitStatus); status.Signal() != s {
			t.Errorf("ended by %v, want %v", status.Signal(), s)
		}
	}
}

// TestTerminal_sigint: a SIGINT from elsewhere does not end the session.
func TestTerminal_sigint(t *testing.T) {
	t.Parallel()
	c := start(t, size, "", "-q")
	c.prompt()
	if err := c.cmd.Process.Signal(os.Interrupt); err != nil {
		t.Fatal(err)
	}
	c.say(".echo on", "\non")
	c.send("q\r")
	c.end(0)
}

// TestTerminal_dumb: a terminal that can't move its cursor gets plain lines.
func TestTerminal_dumb(t *testing.T) {
	t.Parallel()
	c := startAs(t, size, "", "dumb", "-q")
	c.prompt()
	c.say(".echo on", "\non")
	c.send("half a line\x03") // the terminal drops the line; a new prompt follows
	c.until("a new prompt", func(_, raw string) bool { return strings.HasSuffix(raw, "^C\r\n2: kd> ") })
	c.say(".echo on again", "\non again")
	c.send("\x04")
	c.end(0)
	c.until("the end of the last line", func(_, raw string) bool { return strings.HasSuffix(raw, "\n") })
	if strings.Contains(c.written(), "\x1b") {
		t.Errorf("escape sequences for a dumb terminal: %q", c.written())
	}
}

// TestTerminal_hangup: a terminal that goes away ends the program. A read that
// is under way keeps a terminal alive, so this test reads by itself.
func TestTerminal_hangup(t *testing.T) {
	t.Parallel()
	ptm, tty, err := pty.Open()
	if err != nil {
		t.Skipf("no pseudo-terminal here: %v", err)
	}
	cmd := program(t, tty, "", "xterm", "-q")
	if err := errors.Join(cmd.Start(), tty.Close()); err != nil {
		t.Fatal(err)
	}
	seen := ""
	for b := make([]byte, 4096); !strings.Contains(seen, "kd> "); {
		n, err := ptm.Read(b)
		if err != nil {
			t.Fatal(err)
		}
		seen += string(b[:n])
	}
	if err := ptm.Close(); err != nil {
		t.Fatal(err)
	}
	done := make(chan error, 1)
	go func() { done <- cmd.Wait() }()
	select {
	case <-done:
	case <-time.After(patience):
		_ = cmd.Process.Kill()
		t.Fatal("the program polls a terminal that is gone")
	}
}

// TestTerminal_plain: with -c and q there is no prompt.
func TestTerminal_plain(t *testing.T) {
	t.Parallel()
	c := start(t, size, "", "-q", "-c", ".echo one;q")
	c.end(0)
	c.until("the answer", func(_, raw string) bool { return raw == "one\r\n" })
}

// TestTerminal_bare: without color and with one the screen is the same.
func TestTerminal_bare(t *testing.T) {
	t.Parallel()
	c := start(t, size, "", "-q", "-no-color")
	c.prompt()
	c.say("zork", "no such command")
	c.send("q\r")
	c.end(0)
	for _, color := range []string{"\x1b[31m", "\x1b[0;96;49m"} {
		if strings.Contains(c.written(), color) {
			t.Errorf("colour %q in spite of -no-color", color)
		}
	}
}
