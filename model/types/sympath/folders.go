package sympath

import (
	"cmp"
	"fmt"
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
// ever compared. Listings are kept; a folder that changes meanwhile is not
// noticed.
type folders struct {
	mu       sync.Mutex
	listings map[string]map[string]string // folder -> lower-case name -> name as stored
}

// find gives the path of an entry reached by names from a folder, each in any case.
func (f *folders) find(dir string, names ...string) (string, bool) {
	for _, name := range names {
		stored, ok := f.list(dir)[strings.ToLower(name)]
		if !ok {
			return "", false
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

// parsePath splits a path as kd takes it, at semicolons. It gives the folders
// and a note for each part that is none.
func parsePath(spec string) (dirs, notes []string) {
	for part := range strings.SplitSeq(spec, ";") {
		part = strings.TrimSpace(part)
		word, _, isServer := strings.Cut(strings.ToLower(part), "*")
		switch {
		case part == "":
		case isServer && (word == "srv" || word == "symsrv"):
			notes = append(notes, fmt.Sprintf("%s: not used yet: servers need a network, which this version has not", part))
		case isServer && word == "cache":
			notes = append(notes, fmt.Sprintf("%s: not used yet: caches are filled from servers only", part))
		case strings.Contains(part, "://"):
			notes = append(notes, fmt.Sprintf("%s: not used yet: servers need a network, which this version has not", part))
		default:
			info, err := os.Stat(part)
			if err == nil && !info.IsDir() {
				err = fmt.Errorf("not a folder")
			}
			if err != nil {
				notes = append(notes, fmt.Sprintf("%s: not used: %v", part, errorText(err)))
				continue
			}
			dirs = append(dirs, part)
		}
	}
	return dirs, notes
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
