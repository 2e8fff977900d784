//go:build unix

package repl

import (
	"errors"
	"os"
	"os/signal"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/pkg/term/termios"
	"golang.org/x/sys/unix"
)

// Waits of the terminal, in milliseconds: for a key at a time, and for the rest
// of an escape sequence.
const (
	waitKey    = 50
	waitEscape = 30
)

// resizeSettles is how long a window must keep its size before the line is
// drawn anew.
const resizeSettles = 150 * time.Millisecond

// terminal reads keys from a terminal and keeps its modes: raw while a line is
// edited, as it was found while a command runs.
type terminal struct {
	fd   int
	keys keys

	mu    sync.Mutex // protects the modes below
	saved unix.Termios
	raw   bool

	entered   bool         // Enter was handed out: the rest is for the next line
	last      byte         // the last single key, to tell Ctrl-D from an empty line
	byHand    bool         // Enter was typed, not pasted
	resized   atomic.Int64 // when the window changed its size; 0: it did not
	continued atomic.Bool  // the process was stopped and goes on
	redraw    atomic.Bool  // the line must be given up and drawn anew

	signals chan os.Signal
	done    chan struct{}
}

// openTerminal takes the terminal behind a file; known tells the prompt's keys.
func openTerminal(f interface{ Fd() uintptr }, known func([]byte) bool) (*terminal, error) {
	t := &terminal{fd: int(f.Fd()), keys: keys{known: known}, signals: make(chan os.Signal, 8), done: make(chan struct{})}
	mode, err := termios.Tcgetattr(uintptr(t.fd))
	if err != nil {
		return nil, err
	}
	t.saved = *mode // by value: the prompt's own parser edits what it saved
	signal.Notify(t.signals, unix.SIGWINCH, unix.SIGCONT, unix.SIGTERM)
	if !signal.Ignored(unix.SIGHUP) { // nohup
		signal.Notify(t.signals, unix.SIGHUP)
	}
	go t.watch()
	return t, nil
}

// close gives the terminal back.
func (t *terminal) close() error {
	signal.Stop(t.signals)
	close(t.done)
	return t.tearDown()
}

// watch takes the signals that concern the terminal.
func (t *terminal) watch() {
	for {
		select {
		case <-t.done:
			return
		case s := <-t.signals:
			switch s {
			case unix.SIGWINCH:
				t.resized.Store(time.Now().UnixNano())
			case unix.SIGCONT:
				t.continued.Store(true)
			default: // the end: leave a sane terminal behind, then end by the signal
				_ = t.tearDown()
				signal.Reset(s)
				_ = unix.Kill(unix.Getpid(), s.(syscall.Signal))
			}
		}
	}
}

// setup makes the terminal raw: every key at once, none with a meaning of its
// own. Output keeps its newline translation, for the prompt writes bare ones.
func (t *terminal) setup() error {
	t.entered, t.last = false, 0
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.makeRaw()
}

func (t *terminal) makeRaw() error {
	mode := t.saved
	mode.Iflag &^= unix.IGNBRK | unix.BRKINT | unix.PARMRK | unix.ISTRIP | unix.INLCR | unix.IGNCR | unix.ICRNL | unix.IXON
	mode.Lflag &^= unix.ECHO | unix.ECHONL | unix.ICANON | unix.IEXTEN | unix.ISIG
	mode.Cflag = mode.Cflag&^(unix.CSIZE|unix.PARENB) | unix.CS8
	mode.Cc[unix.VMIN], mode.Cc[unix.VTIME] = 0, 0
	t.raw = true
	return termios.Tcsetattr(uintptr(t.fd), termios.TCSANOW, &mode)
}

// tearDown gives the terminal the modes it was found with.
func (t *terminal) tearDown() error {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.raw = false
	mode := t.saved
	return termios.Tcsetattr(uintptr(t.fd), termios.TCSANOW, &mode)
}

// size gives rows and columns. A terminal without a size (0 by 0, in containers)
// counts as 24 by 80, and no less than ten rows are told, since the prompt
// clears a smaller screen.
func (t *terminal) size() (rows, cols uint16) {
	ws, err := unix.IoctlGetWinsize(t.fd, unix.TIOCGWINSZ)
	if err != nil || ws.Row == 0 || ws.Col == 0 {
		return 24, 80
	}
	return max(ws.Row, 10), max(ws.Col, 10)
}

var errNoKey = errors.New("no key")

// read gives one key, or errNoKey after a short wait. The end of the input is
// Ctrl-D.
func (t *terminal) read() (key []byte, err error) {
	defer func() {
		if r := recover(); r != nil { // this runs on a goroutine of the prompt
			_ = t.tearDown()
			key, err = []byte{keyCtrlD}, nil
		}
	}()
	if t.entered {
		time.Sleep(time.Millisecond)
		return nil, errNoKey
	}
	if t.continued.Swap(false) {
		_ = t.setup() // the shell set its own modes
		return keyIgnore, nil
	}
	if at := t.resized.Load(); at != 0 && time.Now().UnixNano()-at > int64(resizeSettles) {
		t.resized.Store(0)
		t.redraw.Store(true)
		return keyIgnore, nil
	}
	key = t.keys.next(false)
	if key == nil {
		if key, err = t.wait(); err != nil {
			return nil, err
		}
	}
	return t.hand(key)
}

// wait reads the next chunk.
func (t *terminal) wait() ([]byte, error) {
	timeout := waitKey
	if len(t.keys.pending) > 0 {
		timeout = waitEscape
	}
	poll := []unix.PollFd{{Fd: int32(t.fd), Events: unix.POLLIN}}
	n, err := unix.Poll(poll, timeout)
	switch {
	case err != nil && err != unix.EINTR:
		return []byte{keyCtrlD}, nil
	case n <= 0:
		if key := t.keys.next(true); key != nil {
			return key, nil
		}
		return nil, errNoKey
	}
	var b [1024]byte
	n, err = unix.Read(t.fd, b[:])
	switch {
	case n > 0:
		t.keys.add(b[:n])
	case err == unix.EAGAIN || err == unix.EINTR:
	case err != nil || poll[0].Revents&(unix.POLLHUP|unix.POLLERR) != 0:
		return []byte{keyCtrlD}, nil // hung up
	}
	if key := t.keys.next(false); key != nil {
		return key, nil
	}
	return nil, errNoKey
}

// hand notes what the loop must know of a key, and stops the process on Ctrl-Z.
func (t *terminal) hand(key []byte) ([]byte, error) {
	t.last = 0
	if len(key) != 1 {
		return key, nil
	}
	t.last = key[0]
	switch key[0] {
	case keyEnter, keyLineFeed:
		t.entered, t.byHand = true, t.keys.alone
	case keyCtrlZ:
		t.suspend()
		return keyIgnore, nil
	}
	return key, nil
}

// suspend stops the process group, as the terminal would, and goes on when the
// shell says so.
func (t *terminal) suspend() {
	_ = t.tearDown()
	goOn := make(chan os.Signal, 1)
	signal.Notify(goOn, unix.SIGCONT)
	defer signal.Stop(goOn)
	_ = unix.Kill(0, unix.SIGTSTP)
	select {
	case <-goOn:
	case <-time.After(time.Second): // no job control: nothing was stopped
	}
	t.continued.Store(false)
	_ = t.setup()
}

// ended reports whether the last line was ended by Ctrl-D.
func (t *terminal) ended() bool { return t.last == keyCtrlD }
