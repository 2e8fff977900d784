package sympath

import (
	"bufio"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"time"
)

// misses remembers what servers did not have: a machine has a hundred drivers
// whose symbols are nowhere, and each would be asked for in every session.
//
// The file has a line for each: the time in seconds since 1970, a blank, and the
// address. Lines are appended, so that several processes can share it.
type misses struct {
	file     string // empty: in memory only
	remember time.Duration

	mu    sync.Mutex
	known map[string]int64 // nil: not read yet
}

// Bounds of the file. One that is larger is written anew without what is old.
const (
	maxMisses    = 1 << 14
	maxMissFile  = 8 << 20
	compactAbove = 1 << 20
)

func openMisses(file string, remember time.Duration) *misses {
	return &misses{file: file, remember: remember}
}

// load reads the file once; mu is held.
func (m *misses) load() {
	if m.known != nil {
		return
	}
	m.known = map[string]int64{}
	f, err := os.Open(m.file)
	if m.file == "" || err != nil {
		return
	}
	defer f.Close()
	oldest := time.Now().Add(-m.remember).Unix()
	lines := bufio.NewScanner(io.LimitReader(f, maxMissFile))
	for lines.Scan() && len(m.known) < maxMisses {
		at, url, ok := strings.Cut(lines.Text(), " ")
		t, err := strconv.ParseInt(at, 10, 64)
		if ok && err == nil && t > oldest && t <= time.Now().Add(time.Hour).Unix() {
			m.known[url] = t
		}
	}
	if info, err := f.Stat(); err == nil && info.Size() > compactAbove {
		m.rewrite()
	}
}

// has reports whether a file was missing lately.
func (m *misses) has(url string) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.load()
	t, ok := m.known[url]
	return ok && time.Since(time.Unix(t, 0)) < m.remember
}

// add notes that a file is missing. Where it can't be written it is asked for
// again in the next session.
func (m *misses) add(url string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.load()
	if len(m.known) >= maxMisses {
		return
	}
	now := time.Now().Unix()
	m.known[url] = now
	if m.file == "" || os.MkdirAll(filepath.Dir(m.file), 0o700) != nil {
		return
	}
	f, err := os.OpenFile(m.file, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		return
	}
	defer f.Close()
	_, _ = fmt.Fprintf(f, "%d %s\n", now, url)
}

// forget drops what is remembered of a name; of all where it is empty.
func (m *misses) forget(name string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.load()
	before := len(m.known)
	for url := range m.known {
		if name == "" || strings.Contains(strings.ToLower(url), "/"+strings.ToLower(name)+"/") {
			delete(m.known, url)
		}
	}
	if len(m.known) < before {
		m.rewrite()
	}
}

// rewrite writes the file anew; mu is held.
func (m *misses) rewrite() {
	if m.file == "" {
		return
	}
	var b strings.Builder
	for url, t := range m.known {
		fmt.Fprintf(&b, "%d %s\n", t, url)
	}
	tmp, err := os.CreateTemp(filepath.Dir(m.file), ".new-*")
	if err != nil {
		return
	}
	_, err = tmp.WriteString(b.String())
	if cerr := tmp.Close(); err == nil {
		err = cerr
	}
	if err == nil {
		err = os.Rename(tmp.Name(), m.file)
	}
	if err != nil {
		_ = os.Remove(tmp.Name())
	}
}
