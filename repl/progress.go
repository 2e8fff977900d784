package repl

import (
	"bufio"
	"fmt"
	"io"
	"sync"
	"time"

	"gokd/commands/report"
)

// Progress appears after a while and is drawn anew no more often than this.
const (
	progressAfter = 700 * time.Millisecond
	progressEvery = 150 * time.Millisecond
)

// progress shows on a terminal how far a long walk is, on one line that is gone
// before anything else is written. (A library for bars would draw on its own
// goroutine and fight the line editor for the cursor.)
type progress struct {
	w io.Writer

	mu    sync.Mutex // protects the fields below
	start time.Time  // of the walk; zero between walks
	drawn time.Time
	shown bool
}

// show is a Session's Progress.
func (p *progress) show(what string, done, total uint64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	now := time.Now()
	if p.start.IsZero() {
		p.start = now
	}
	if now.Sub(p.start) < progressAfter || now.Sub(p.drawn) < progressEvery {
		return
	}
	p.drawn, p.shown = now, true
	text := fmt.Sprintf("%s: %d", report.Safe(what), done)
	if total > 0 {
		text = fmt.Sprintf("%s: %d of %d, %d%%", report.Safe(what), done, total, min(100, int(100*float64(done)/float64(total))))
	}
	fmt.Fprintf(p.w, "\r%.70s\x1b[K", text)
}

// clear takes the line away.
func (p *progress) clear() {
	if p == nil {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.shown {
		_, _ = io.WriteString(p.w, "\r\x1b[K") // a terminal that is gone is no one's loss
		p.shown = false
	}
}

// idle ends a walk: the next one begins anew.
func (p *progress) idle() {
	if p == nil {
		return
	}
	p.clear()
	p.mu.Lock()
	defer p.mu.Unlock()
	p.start = time.Time{}
}

// writer gathers output; on a terminal every line appears at once, and a
// progress line is cleared first.
type writer struct {
	*bufio.Writer
	byLine   bool
	progress *progress // nil: none
}

// Write keeps text until a line ends, on a terminal, or until much is there.
func (w *writer) Write(b []byte) (int, error) {
	if w.byLine {
		w.progress.clear()
	}
	n, err := w.Writer.Write(b)
	if w.byLine && err == nil && n > 0 && b[n-1] == '\n' {
		err = w.Flush()
	}
	return n, err
}

// idle ends the progress of a command.
func (w *writer) idle() { w.progress.idle() }

var _ io.Writer = (*writer)(nil)
