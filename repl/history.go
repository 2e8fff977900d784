package repl

import (
	"bufio"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// maxHistory limits the lines that are kept; the file is written anew when it
// holds twice as many.
const maxHistory = 1000

// history is the lines that were typed, oldest first, none twice. They are kept
// in a file between sessions, which may be shared by sessions that run at once:
// a line is added by one write at its end.
type history struct {
	file string // empty: none
	list []string
}

// openHistory reads the file in a folder, which is made. Without a folder, or
// where it can't be used, lines are kept for the session only; the error then
// says why.
func openHistory(dir string) (*history, error) {
	h := &history{}
	if dir == "" {
		return h, nil
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return h, fmt.Errorf("history: %w", err)
	}
	file := filepath.Join(dir, "history")
	f, err := os.Open(file)
	if errors.Is(err, fs.ErrNotExist) {
		h.file = file
		return h, nil
	}
	if err != nil {
		return h, fmt.Errorf("history: %w", err)
	}
	defer f.Close()
	lines := bufio.NewScanner(f)
	read := 0
	for ; lines.Scan(); read++ {
		h.remember(lines.Text())
	}
	if err := lines.Err(); err != nil {
		return h, fmt.Errorf("history: %w", err)
	}
	h.file = file
	if read > 2*maxHistory {
		return h, h.rewrite()
	}
	return h, nil
}

// remember puts a line at the end, once.
func (h *history) remember(line string) {
	if strings.TrimSpace(line) == "" || strings.ContainsAny(line, "\x00\r\n\x1b") {
		return
	}
	if i := slices.Index(h.list, line); i >= 0 {
		h.list = slices.Delete(h.list, i, i+1)
	}
	h.list = append(h.list, line)
	if len(h.list) > maxHistory {
		h.list = slices.Delete(h.list, 0, len(h.list)-maxHistory)
	}
}

// lines gives a copy of the list.
func (h *history) lines() []string { return slices.Clone(h.list) }

// add remembers a line, in the file too. Failing to write it is no reason to
// stop a session.
func (h *history) add(line string) {
	h.remember(line)
	if h.file == "" {
		return
	}
	f, err := os.OpenFile(h.file, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		h.file = ""
		return
	}
	_, err = f.WriteString(line + "\n")
	if errors.Join(err, f.Close()) != nil {
		h.file = ""
	}
}

// rewrite replaces the file by what is remembered.
func (h *history) rewrite() error {
	tmp, err := os.CreateTemp(filepath.Dir(h.file), "history-*") // mode 0600
	if err != nil {
		return fmt.Errorf("history: %w", err)
	}
	_, err = tmp.WriteString(strings.Join(h.list, "\n") + "\n")
	if err = errors.Join(err, tmp.Close()); err == nil {
		err = os.Rename(tmp.Name(), h.file)
	}
	if err != nil {
		_ = os.Remove(tmp.Name())
		return fmt.Errorf("history: %w", err)
	}
	return nil
}
