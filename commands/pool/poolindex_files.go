package pool

import (
	"bufio"
	"cmp"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"gokd/model/pool"
)

// indexFiles is the folder in which indexes of pools are kept from one session
// to the next: a folder of the user, never that of the dump, which may be
// evidence. Several processes may use it: a file appears whole or not at all.
type indexFiles struct{ dir string }

const (
	indexEnding = ".gokdpool"
	badEnding   = ".bad"    // of a file that could not be used
	newPrefix   = "new-"    // of a file that is being written
	newAge      = time.Hour // one as old as this was left by a process that died
	maxIndexes  = 4 << 30   // bytes of all files
	maxFolder   = 1 << 16   // files looked at
	fileBuffer  = 1 << 20   // bytes written at once
	folderMode  = os.FileMode(0o700)
)

// errNoFolder says that there is nowhere to keep indexes.
var errNoFolder = errors.New("there is no cache folder: $GOKD_CACHE names one")

// name gives the file of a dump's pool; id is the dump's identity in hex.
func (f indexFiles) name(id string, kind pool.Kind) string {
	return filepath.Join(f.dir, id+"-"+kind.String()+indexEnding)
}

// save writes a file in one step: whole, or not at all.
func (f indexFiles) save(id string, kind pool.Kind, write func(io.Writer) error) (size int64, err error) {
	if f.dir == "" {
		return 0, errNoFolder
	}
	if err := os.MkdirAll(f.dir, folderMode); err != nil {
		return 0, fmt.Errorf("index of %s pool: %w", kind, err)
	}
	file, err := os.CreateTemp(f.dir, newPrefix+"*"+indexEnding)
	if err != nil {
		return 0, fmt.Errorf("index of %s pool: %w", kind, err)
	}
	b := bufio.NewWriterSize(file, fileBuffer)
	if err = write(b); err == nil {
		err = b.Flush()
	}
	if err == nil {
		size, err = file.Seek(0, io.SeekCurrent)
	}
	if cerr := file.Close(); err == nil {
		err = cerr
	}
	name := f.name(id, kind)
	if err == nil {
		f.makeRoom(size, name)
		err = os.Rename(file.Name(), name)
	}
	if err != nil {
		return 0, errors.Join(fmt.Errorf("index of %s pool: %w", kind, err), os.Remove(file.Name()))
	}
	return size, nil
}

// load reads a file; missing reports that there is none. One that can't be used
// is set aside, so that it is not tried again, and the error says so.
func (f indexFiles) load(id string, kind pool.Kind, read func(r io.ReaderAt, size int64) error) (missing bool, err error) {
	if f.dir == "" {
		return true, nil
	}
	name := f.name(id, kind)
	file, err := os.Open(name)
	if errors.Is(err, os.ErrNotExist) {
		return true, nil
	}
	if err != nil {
		return false, fmt.Errorf("index of %s pool: %w", kind, err)
	}
	info, err := file.Stat()
	if err == nil && !info.Mode().IsRegular() {
		err = errors.New("no regular file")
	}
	if err == nil {
		err = read(file, info.Size())
	}
	// On Windows a file that is open can't be renamed.
	if cerr := file.Close(); err == nil {
		err = cerr
	}
	if err == nil {
		now := time.Now()
		_ = os.Chtimes(name, now, now) // only the order of use is lost
		return false, nil
	}
	if os.Rename(name, name+badEnding) == nil {
		return false, fmt.Errorf("%s can't be used and was set aside as %s: %w", name, filepath.Base(name)+badEnding, err)
	}
	return false, fmt.Errorf("%s can't be used: %w", name, err)
}

// indexFile is a file of the folder.
type indexFile struct {
	name string
	size int64
	used time.Time
}

// list gives the folder's own files; all others are left alone.
func (f indexFiles) list() []indexFile {
	if f.dir == "" {
		return nil
	}
	d, err := os.Open(f.dir)
	if err != nil {
		return nil
	}
	defer d.Close()
	entries, _ := d.ReadDir(maxFolder)
	var list []indexFile
	for _, e := range entries {
		name := strings.TrimSuffix(e.Name(), badEnding)
		if info, err := e.Info(); err == nil && e.Type().IsRegular() && strings.HasSuffix(name, indexEnding) {
			list = append(list, indexFile{e.Name(), info.Size(), info.ModTime()})
		}
	}
	slices.SortFunc(list, func(a, b indexFile) int { return cmp.Or(a.used.Compare(b.used), cmp.Compare(a.name, b.name)) })
	return list
}

// makeRoom removes what was not used for the longest time until need more bytes
// fit, and what dead processes left behind.
func (f indexFiles) makeRoom(need int64, replaced string) {
	list := f.list()
	total := need
	for _, e := range list {
		total += e.size
	}
	for _, e := range list {
		fresh := strings.HasPrefix(e.name, newPrefix) && time.Since(e.used) < newAge // being written
		stale := strings.HasPrefix(e.name, newPrefix) && !fresh
		if e.name != filepath.Base(replaced) && !fresh && (stale || total > maxIndexes) && os.Remove(filepath.Join(f.dir, e.name)) == nil {
			total -= e.size
		}
	}
}

// clear removes all files and gives their number.
func (f indexFiles) clear() (n int, err error) {
	for _, e := range f.list() {
		if strings.HasPrefix(e.name, newPrefix) && time.Since(e.used) < newAge {
			continue
		}
		if rerr := os.Remove(filepath.Join(f.dir, e.name)); rerr != nil {
			err = errors.Join(err, rerr)
			continue
		}
		n++
	}
	return n, err
}
