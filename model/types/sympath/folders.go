package sympath

import (
	"cmp"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
)

// maxListing bounds the entries read of one folder.
const maxListing = 1 << 17

// folders finds files by names that differ in case only, as Windows would. It
// opens nothing but what a listing has shown, so a name from a dump is only
// ever compared. Listings are kept; what others change meanwhile is not
// noticed.
type folders struct {
	mu       sync.Mutex
	listings map[string]map[string]string // folder -> lower-case name -> name as stored
}

// find gives the path of an entry reached by names from a folder, each in any
// case; else how far it came.
func (f *folders) find(dir string, names ...string) (path string, ok bool) {
	for i, name := range names {
		stored, ok := f.list(dir)[strings.ToLower(name)]
		if !ok {
			return filepath.Join(append([]string{dir}, names[i:]...)...), false
		}
		dir = filepath.Join(dir, stored)
	}
	return dir, true
}

func (f *folders) list(dir string) map[string]string {
	f.mu.Lock()
	defer f.mu.Unlock()
	if known, ok := f.listings[dir]; ok {
		return known
	}
	listing := map[string]string{}
	if d, err := os.Open(dir); err == nil {
		names, err := d.Readdirnames(maxListing)
		d.Close()
		if err != nil && err != io.EOF {
			names = nil
		}
		slices.Sort(names) // of names that differ in case only, always the same one
		for _, name := range names {
			lower := strings.ToLower(name)
			if _, twice := listing[lower]; !twice {
				listing[lower] = name
			}
		}
	}
	if f.listings == nil {
		f.listings = map[string]map[string]string{}
	}
	f.listings[dir] = listing
	return listing
}

// changed forgets the listings of the folders from the root of a store down to
// a file in it.
func (f *folders) changed(root, file string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for dir := filepath.Dir(file); ; dir = filepath.Dir(dir) {
		delete(f.listings, dir)
		if dir == filepath.Clean(root) || dir == filepath.Dir(dir) {
			delete(f.listings, root)
			return
		}
	}
}

// forget has all folders listed anew.
func (f *folders) forget() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.listings = nil
}

// errorText drops the operation and path that the note has already.
func errorText(err error) error {
	if pe, ok := err.(*os.PathError); ok {
		return cmp.Or(pe.Err, err)
	}
	return err
}

func isFile(path string) bool {
	info, err := os.Stat(path)
	return err == nil && info.Mode().IsRegular()
}

// clip shortens a name from a target for a message.
func clip(s string) string {
	const most = 60
	if len(s) > most {
		return s[:most] + "..."
	}
	return s
}
