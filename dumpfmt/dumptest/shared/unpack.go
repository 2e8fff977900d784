package shared

import (
	"bufio"
	"bytes"
	"os"
	"os/exec"
	"slices"
	"strings"
	"sync"

	"github.com/ulikunitz/xz"
)

// maxKept bounds the bytes that a cache keeps: some of the largest dumps have
// 60 MiB, and the tests that read one run about the same time.
const maxKept = 128 << 20

// kept holds what was unpacked last, for all tests of the process: many read
// the same dump, and unpacking takes longer than most of what they do with it.
var kept = cache{max: maxKept}

type cache struct {
	max int

	mu   sync.Mutex // protects the fields below
	list []*entry   // the last used one last
}

// entry is a file; once keeps a second asker waiting for the first.
type entry struct {
	path string
	once sync.Once
	data []byte
	err  error
	size int // in memory; 0 while it is being read. Protected by the cache's mu
}

func (c *cache) get(path string) ([]byte, error) {
	e := c.entry(path)
	e.once.Do(func() { e.data, e.err = unpack(path) })
	c.done(e)
	return e.data, e.err
}

func (c *cache) entry(path string) *entry {
	c.mu.Lock()
	defer c.mu.Unlock()
	i := slices.IndexFunc(c.list, func(e *entry) bool { return e.path == path })
	if i < 0 {
		e := &entry{path: path}
		c.list = append(c.list, e)
		return e
	}
	e := c.list[i]
	c.list = append(slices.Delete(c.list, i, i+1), e)
	return e
}

// done counts an entry that has been read and drops the oldest ones that are
// too much, but never this one: whoever asked is about to use it.
func (c *cache) done(last *entry) {
	c.mu.Lock()
	defer c.mu.Unlock()
	last.size = cap(last.data)
	total := 0
	for _, e := range c.list {
		total += e.size
	}
	c.list = slices.DeleteFunc(c.list, func(e *entry) bool {
		if total <= c.max || e == last || e.size == 0 {
			return false
		}
		total -= e.size
		return true
	})
}

// unpack reads a file. The xz program is three times as fast as the library,
// thirty times where the tests run under the race detector, but it need not be
// there; the library has the last word on a file that the program refuses.
func unpack(path string) ([]byte, error) {
	if !strings.HasSuffix(path, ".xz") {
		return os.ReadFile(path)
	}
	if data, err := exec.Command("xz", "--decompress", "--stdout", "--", path).Output(); err == nil {
		return data, nil
	}
	return unpackSlowly(path)
}

// unpackSlowly reads an .xz file by the library alone.
func unpackSlowly(path string) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	r, err := xz.NewReader(bufio.NewReaderSize(f, 1<<16)) // it reads byte by byte
	if err != nil {
		return nil, err
	}
	var b bytes.Buffer
	_, err = b.ReadFrom(r)
	return b.Bytes(), err
}
