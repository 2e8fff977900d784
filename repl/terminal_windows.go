package repl

import (
	"errors"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/windows"
)

// terminal reads keys from a Windows console in virtual-terminal mode and keeps
// its modes: raw while a line is edited, as it was found while a command runs.
type terminal struct {
	handle windows.Handle
	keys   keys
	chunks chan []byte
	start  sync.Once

	saved   uint32
	entered bool
	last    byte
	byHand  bool
	redraw  atomic.Bool // never set: the size is read anew at every prompt
}

// openTerminal takes the console behind a file; known tells the prompt's keys.
func openTerminal(f interface{ Fd() uintptr }, known func([]byte) bool) (*terminal, error) {
	t := &terminal{handle: windows.Handle(f.Fd()), keys: keys{known: known}, chunks: make(chan []byte, 16)}
	return t, windows.GetConsoleMode(t.handle, &t.saved)
}

// close gives the console back.
func (t *terminal) close() error { return t.tearDown() }

// setup makes the console raw, with the sequences that other terminals send.
func (t *terminal) setup() error {
	t.entered, t.last = false, 0
	const cooked = windows.ENABLE_ECHO_INPUT | windows.ENABLE_LINE_INPUT | windows.ENABLE_PROCESSED_INPUT
	if err := windows.SetConsoleMode(t.handle, t.saved&^cooked|windows.ENABLE_VIRTUAL_TERMINAL_INPUT); err != nil {
		return err
	}
	t.start.Do(func() { go t.readAll() })
	return nil
}

// tearDown gives the console the modes it was found with.
func (t *terminal) tearDown() error { return windows.SetConsoleMode(t.handle, t.saved) }

// size gives rows and columns of the visible window.
func (t *terminal) size() (rows, cols uint16) {
	out, err := windows.GetStdHandle(windows.STD_OUTPUT_HANDLE)
	var info windows.ConsoleScreenBufferInfo
	if err != nil || windows.GetConsoleScreenBufferInfo(out, &info) != nil {
		return 24, 80
	}
	w := info.Window
	return max(uint16(w.Bottom-w.Top+1), 10), max(uint16(w.Right-w.Left+1), 10)
}

// readAll reads in a goroutine of its own, for a read of a console can't be
// given up.
func (t *terminal) readAll() {
	for {
		b := make([]byte, 1024)
		var n uint32
		if err := windows.ReadFile(t.handle, b, &n, nil); err != nil {
			close(t.chunks)
			return
		}
		t.chunks <- b[:n]
	}
}

// waitKey is how long a read waits for a key.
const waitKey = 50 * time.Millisecond

var errNoKey = errors.New("no key")

// read gives one key, or errNoKey after a short wait. The end of the input is
// Ctrl-D.
func (t *terminal) read() ([]byte, error) {
	if t.entered {
		time.Sleep(time.Millisecond)
		return nil, errNoKey
	}
	key := t.keys.next(false)
	if key == nil {
		select {
		case chunk, ok := <-t.chunks:
			if !ok {
				chunk = []byte{keyCtrlD}
			}
			t.keys.add(chunk)
			key = t.keys.next(false)
		case <-time.After(waitKey):
			key = t.keys.next(true)
		}
	}
	if key == nil {
		return nil, errNoKey
	}
	t.last = 0
	if len(key) == 1 {
		t.last = key[0]
		if key[0] == keyEnter || key[0] == keyLineFeed {
			t.entered, t.byHand = true, t.keys.alone
		}
	}
	return key, nil
}

// ended reports whether the last line was ended by Ctrl-D.
func (t *terminal) ended() bool { return t.last == keyCtrlD }
