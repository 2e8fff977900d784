package repl

import (
	"bufio"
	"bytes"
	"strings"
	"testing"
	"time"
)

// TestProgress: nothing at first, then one line at a time, and none left when
// output comes.
func TestProgress(t *testing.T) {
	t.Parallel()
	var tty, out bytes.Buffer
	p := &progress{w: &tty}
	w := &writer{Writer: bufio.NewWriter(&out), byLine: true, progress: p}
	p.show("pool pages", 1, 10)
	if tty.Len() > 0 {
		t.Errorf("a short walk shows %q", tty.String())
	}
	p.start = time.Now().Add(-progressAfter)
	p.show("pool\x1b pages", 5, 10)
	if got := tty.String(); got != "\rpool\\x1b pages: 5 of 10, 50%\x1b[K" {
		t.Errorf("shows %q", got)
	}
	tty.Reset()
	p.show("pool pages", 6, 10)
	if tty.Len() > 0 {
		t.Error("drawn anew at once")
	}
	if _, err := w.Write([]byte("answer\n")); err != nil || tty.String() != "\r\x1b[K" || out.String() != "answer\n" {
		t.Errorf("%v: output leaves %q, %q", err, tty.String(), out.String())
	}
	tty.Reset()
	p.drawn = time.Time{}
	p.show(strings.Repeat("y", 200), 7, 0)
	if len(tty.String()) > 80 || !strings.HasPrefix(tty.String(), "\ryyy") {
		t.Errorf("a line of %d characters", tty.Len())
	}
	tty.Reset()
	w.idle()
	if tty.String() != "\r\x1b[K" || !p.start.IsZero() {
		t.Errorf("the end of a command leaves %q", tty.String())
	}
	var none *progress
	none.clear()
	none.idle()
}
