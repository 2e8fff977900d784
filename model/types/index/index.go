// Package index keeps what was learned from symbol files in a folder of the
// user, so that a later open of the same image parses nothing.
//
// A file of the cache holds one table: names and addresses with kind, size and
// type, and types with their fields and constants, in a form that is read by
// offsets. The package knows no PDB and no ISF; it is given a types.Store and
// types.Symbols and gives the same back. A cache never makes an answer wrong:
// a file that is damaged, foreign, of another version or of another source is
// as good as none.
package index

import (
	"errors"
	"fmt"
	"hash/crc32"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"gokd/model/types"
)

// DefaultBytes bounds a cache whose owner names no bound. A kernel's table takes
// 2 MB, so this is some hundred images.
const DefaultBytes = 512 << 20

// ErrMiss says that the cache has no table for a key.
var ErrMiss = errors.New("not in the index cache")

// Key names one table: the image's identity, and the file that the table was
// made from. A file that has changed since, by size or time, is another one.
type Key struct {
	Name    string // of the PDB, "ntkrnlmp.pdb"; untrusted
	GUID    types.GUID
	Age     uint32
	Kind    string // "pdb", "isf"
	Source  string // path of the file
	Size    int64  // of the file, bytes
	ModTime int64  // of the file, nanoseconds since 1970
}

// Cache is a folder of tables. Its methods may be called from several
// goroutines, and several processes may use one folder: a table appears whole
// or not at all.
type Cache struct {
	dir string
	max int64
}

// OpenCache gives the cache in a folder, which is made at the first Put. The
// tables take at most maxBytes; 0 and less mean DefaultBytes. A cache without a
// folder keeps nothing.
func OpenCache(dir string, maxBytes int64) *Cache {
	if maxBytes <= 0 {
		maxBytes = DefaultBytes
	}
	return &Cache{dir: dir, max: maxBytes}
}

// Dir gives the cache's folder, empty for a cache that keeps nothing.
func (c *Cache) Dir() string { return c.dir }

const (
	ending     = ".gokdx"
	tempPrefix = "new-"
	tempAge    = time.Hour // a temporary file as old as this was left by a process that died
	maxFile    = 256 << 20 // bytes of one table; the largest public PDBs give some 20 MB
	maxEntries = 1 << 16   // files looked at in the folder
)

// fileName gives a key's file: the name for people who look into the folder,
// the identity, and a sum that tells sources of one identity apart, such as a
// private PDB from its stripped one.
func (k Key) fileName() string {
	name := filepath.Base(strings.ReplaceAll(k.Name, `\`, "/"))
	name = strings.Map(func(r rune) rune {
		switch {
		case r >= 'a' && r <= 'z', r >= 'A' && r <= 'Z', r >= '0' && r <= '9', r == '_', r == '.', r == '-':
			return r
		}
		return -1
	}, name)
	name = strings.TrimLeft(name[:min(len(name), 40)], ".-")
	sum := crc32.Checksum([]byte(k.Kind+"\x00"+k.Source), castagnoli)
	return fmt.Sprintf("%s-%s-%x-%08x%s", name, k.GUID, k.Age, sum, ending)
}

// Get gives the table of a key and marks it as used. The error is ErrMiss
// whatever the reason: the caller then reads the source.
func (c *Cache) Get(k Key) (*Table, error) {
	if c.dir == "" {
		return nil, ErrMiss
	}
	path := filepath.Join(c.dir, k.fileName())
	data, err := readWhole(path)
	if err != nil {
		return nil, ErrMiss
	}
	t, err := decode(data)
	if err != nil || t.key != k {
		return nil, ErrMiss
	}
	// The time of change tells the order of use. A folder that can't be
	// written to only loses that order.
	now := time.Now()
	_ = os.Chtimes(path, now, now)
	return t, nil
}

// readWhole reads a file of the cache in one go.
func readWhole(path string) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() || info.Size() > maxFile || info.Size() < headerSize {
		return nil, errors.New("no table")
	}
	data := make([]byte, info.Size())
	if n, err := f.ReadAt(data, 0); n < len(data) {
		return nil, err
	}
	return data, nil
}

// Put keeps a table; either of its parts may be nil. It asks the store for all
// of its types, so it takes as long as parsing them. Where the folder would
// outgrow its bound, the tables that were not used for the longest time go. A
// cache without a folder takes everything and keeps nothing.
func (c *Cache) Put(k Key, store types.Store, syms types.Symbols) error {
	if c.dir == "" {
		return nil
	}
	data, err := encode(k, store, syms)
	if err == nil && int64(len(data)) > min(c.max, maxFile) {
		err = fmt.Errorf("%#x bytes, at most %#x", len(data), min(c.max, maxFile))
	}
	if err == nil {
		err = c.write(k.fileName(), data)
	}
	if err != nil {
		return fmt.Errorf("index cache %s: %s: %w", c.dir, k.fileName(), err)
	}
	return nil
}

// write puts the file in its place in one step, so that another process finds
// the whole of it or nothing.
func (c *Cache) write(name string, data []byte) error {
	if err := os.MkdirAll(c.dir, 0o700); err != nil {
		return err
	}
	c.makeRoom(int64(len(data)), name)
	f, err := os.CreateTemp(c.dir, tempPrefix+"*"+ending)
	if err != nil {
		return err
	}
	_, err = f.Write(data)
	if cerr := f.Close(); err == nil {
		err = cerr
	}
	if err == nil {
		err = os.Rename(f.Name(), filepath.Join(c.dir, name))
	}
	if err != nil {
		return errors.Join(err, os.Remove(f.Name()))
	}
	return nil
}

// makeRoom removes what was not used for the longest time until need more bytes
// fit, and what dead processes left behind. A file that can't be removed, in
// use on Windows perhaps, stays; the next Put tries again.
func (c *Cache) makeRoom(need int64, replaced string) {
	files := c.files()
	total := need
	for _, f := range files {
		if f.name != replaced {
			total += f.size
		}
	}
	slices.SortFunc(files, func(a, b file) int { return a.used.Compare(b.used) })
	for _, f := range files {
		switch {
		case f.name == replaced:
		case f.temp && time.Since(f.used) < tempAge: // somebody's Put under way
		case f.temp || total > c.max:
			if os.Remove(filepath.Join(c.dir, f.name)) == nil {
				total -= f.size
			}
		}
	}
}

// file is one of the cache's files in its folder.
type file struct {
	name string
	size int64
	used time.Time
	temp bool
}

// files lists the cache's own files and leaves all others alone. A folder that
// can't be read has none.
func (c *Cache) files() []file {
	if c.dir == "" {
		return nil
	}
	d, err := os.Open(c.dir)
	if err != nil {
		return nil
	}
	defer d.Close()
	entries, _ := d.ReadDir(maxEntries)
	var files []file
	for _, e := range entries {
		if !strings.HasSuffix(e.Name(), ending) || !e.Type().IsRegular() {
			continue
		}
		info, err := e.Info()
		if err != nil {
			continue // removed meanwhile
		}
		files = append(files, file{e.Name(), info.Size(), info.ModTime(), strings.HasPrefix(e.Name(), tempPrefix)})
	}
	slices.SortFunc(files, func(a, b file) int { return strings.Compare(a.name, b.name) })
	return files
}

// Stat counts the tables and the bytes that the cache takes in its folder. A
// folder that does not exist has none.
func (c *Cache) Stat() (entries int, bytes int64, err error) {
	if err := c.readable(); err != nil {
		return 0, 0, err
	}
	for _, f := range c.files() {
		if !f.temp {
			entries++
		}
		bytes += f.size
	}
	return entries, bytes, nil
}

func (c *Cache) readable() error {
	if c.dir == "" {
		return nil
	}
	info, err := os.Stat(c.dir)
	switch {
	case errors.Is(err, os.ErrNotExist):
		return nil
	case err == nil && !info.IsDir():
		err = errors.New("not a folder")
	}
	if err != nil {
		return fmt.Errorf("index cache %s: %w", c.dir, err)
	}
	return nil
}

// Entry is a table in the cache.
type Entry struct {
	Key   Key // zero for a file that can't be used
	File  string
	Bytes int64
	Used  time.Time
}

// List gives the cache's tables, the last used first. It reads only what names
// them.
func (c *Cache) List() ([]Entry, error) {
	if err := c.readable(); err != nil {
		return nil, err
	}
	var entries []Entry
	for _, f := range c.files() {
		if f.temp {
			continue
		}
		path := filepath.Join(c.dir, f.name)
		k, err := readKey(path)
		if err != nil {
			k = Key{}
		}
		entries = append(entries, Entry{Key: k, File: path, Bytes: f.size, Used: f.used})
	}
	slices.SortStableFunc(entries, func(a, b Entry) int { return b.Used.Compare(a.Used) })
	return entries, nil
}

// Clear removes the cache's files, nothing else, and gives how many tables went.
func (c *Cache) Clear() (int, error) {
	if err := c.readable(); err != nil {
		return 0, err
	}
	removed := 0
	var failed []error
	for _, f := range c.files() {
		err := os.Remove(filepath.Join(c.dir, f.name))
		switch {
		case err == nil && !f.temp:
			removed++
		case err != nil && !errors.Is(err, os.ErrNotExist):
			failed = append(failed, err)
		}
	}
	return removed, errors.Join(failed...)
}
