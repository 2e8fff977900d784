package sympath

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"gokd/model/types/cab"
)

// folder looks into a folder of the path: plainly, as a tree of symbols by kinds
// of images, as a symbol store, and for Volatility's tables.
func (s *search) folder(dir, keep string) *Found {
	for _, name := range s.w.names {
		ways := [][]string{{name}, {s.w.sub, name}, {"symbols", s.w.sub, name}}
		if s.p.Flags()&FlatDirectory != 0 {
			ways = ways[:1]
		}
		for _, way := range ways {
			path, ok := s.st.folders.find(dir, way...)
			// A folder of the file's name is a store's, not the file.
			if !ok || !isFile(path) {
				s.event("DBGHELP: %s - file not found", path)
				if packed, ok := s.st.folders.find(dir, append(slices.Clone(way[:len(way)-1]), packedName(name))...); ok && isFile(packed) {
					if f := s.tryPacked(packed, name, keep); f != nil {
						return f
					}
				}
				continue
			}
			if f := s.try(path, true); f != nil {
				return f
			}
		}
	}
	if s.p.Flags()&NoAutodetect == 0 {
		if f := s.store(dir, keep, false); f != nil {
			return f
		}
	}
	return s.tables(dir)
}

// store looks into a symbol store. What is packed there is unpacked into keep.
func (s *search) store(dir, keep string, told bool) *Found {
	say := func(path string) {
		if !told {
			return
		}
		why := "file not found"
		if _, err := os.Stat(filepath.Dir(path)); err != nil {
			why = "path not found"
		}
		s.event("SYMSRV:  UNC: %s - %s", path, why)
	}
	for _, name := range s.w.names {
		for _, key := range s.w.keys {
			ways := [][]string{{name, key}}
			if len(name) >= 2 {
				ways = append(ways, []string{name[:2], name, key})
			}
			if _, three := s.st.folders.find(dir, indexFile); three {
				slices.Reverse(ways)
			}
			for i, way := range ways {
				at := func(last string) (string, bool) {
					path, ok := s.st.folders.find(dir, append(slices.Clone(way), last)...)
					if ok = ok && isFile(path); !ok && i == 0 {
						say(path)
					}
					return path, ok
				}
				if path, ok := at(name); ok {
					if f := s.try(path, false); f != nil {
						return f
					}
				}
				if path, ok := at(packedName(name)); ok {
					if f := s.tryPacked(path, name, keep); f != nil {
						return f
					}
				}
				if path, ok := at(pointerFile); ok {
					if f := s.follow(path); f != nil {
						return f
					}
				}
			}
		}
	}
	return nil
}

// Files in a store that are not symbols.
const (
	indexFile   = "index2.txt"
	pingFile    = "pingme.txt"
	pointerFile = "file.ptr"
)

// tables looks for a symbol table as Volatility 3 and symbol stores keep it:
// PDB/GUID-AGE.json, also below a folder named windows; then plainly
// GUID-AGE.json. The age is decimal, the ending may go on with .xz or .gz.
func (s *search) tables(dir string) *Found {
	if s.w.image {
		return nil
	}
	var ways [][]string
	for _, name := range s.w.names {
		ways = append(ways, []string{name}, []string{"windows", name})
	}
	for _, way := range append(ways, nil) {
		for _, ending := range []string{".json", ".json.xz", ".json.gz"} {
			name := fmt.Sprintf("%s-%d%s", s.w.id.GUID, s.w.id.Age, ending)
			if path, ok := s.st.folders.find(dir, append(slices.Clone(way), name)...); ok {
				if f := s.try(path, false); f != nil {
					return f
				}
			}
		}
	}
	return nil
}

// try opens a file; one that can't be used is noted. plain: it lies there by its
// name alone, so that LoadAnything may take it whatever its identity.
func (s *search) try(path string, plain bool) *Found {
	f, err := s.open(path, false)
	if err == nil && f.Note == "" {
		return f
	}
	if err == nil {
		// A damaged file serves where there is no whole one.
		s.spare(f)
		s.broken = append(s.broken, fmt.Errorf("%s: %s", path, f.Note))
		return nil
	}
	s.broken = append(s.broken, err)
	var mismatch *MismatchError
	if !errors.As(err, &mismatch) {
		s.event("DBGHELP: %s - %v", path, errorText(err))
		return nil
	}
	if s.w.image {
		s.event("DBGHELP: %s - mismatched timestamp", path)
		return nil
	}
	s.event("DBGHELP: %s - mismatched pdb", path)
	if plain && s.p.Flags()&LoadAnything != 0 {
		if f, err := s.open(path, true); err == nil {
			s.spare(f)
		}
	}
	return nil
}

// spare keeps a file for where nothing better is found; the first one counts.
func (s *search) spare(f *Found) {
	f.Element = s.element
	if s.second == nil {
		s.second = f
		return
	}
	_ = f.close()
}

// maxPointer bounds a file.ptr, which holds one path.
const maxPointer = 4 << 10

// follow opens what a file.ptr of a folder points to: "PATH:" and a path, the
// path alone, or "MSG:" and why there is no file.
func (s *search) follow(pointer string) *Found {
	text, err := readSmall(pointer)
	if err == nil {
		var path string
		if path, err = pointed(text); err == nil {
			if f := s.try(path, false); f != nil {
				return f
			}
			return nil
		}
	}
	s.broken = append(s.broken, fmt.Errorf("%s: %w", pointer, err))
	return nil
}

// pointed gives the path that a file.ptr names.
func pointed(text string) (string, error) {
	text = strings.TrimSpace(text)
	switch {
	case len(text) >= 4 && strings.EqualFold(text[:4], "MSG:"):
		return "", fmt.Errorf("the store says: %s", clip(strings.TrimSpace(text[4:])))
	case len(text) >= 5 && strings.EqualFold(text[:5], "PATH:"):
		text = strings.TrimSpace(text[5:])
	}
	if text == "" || strings.ContainsAny(text, "\x00\r\n") {
		return "", errors.New("names no file")
	}
	return text, nil
}

func readSmall(path string) (string, error) {
	f, err := os.Open(path)
	if err != nil {
		return "", err
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, maxPointer))
	return string(b), err
}

// tryPacked unpacks a file into a store and opens it there.
func (s *search) tryPacked(packed, name, keep string) *Found {
	if keep == "" {
		s.broken = append(s.broken, fmt.Errorf("%s: packed, and the path has no folder to unpack it to; put cache*FOLDER before it", packed))
		return nil
	}
	path, err := s.install(keep, name, func(f *os.File) error { return s.unpack(f, packed) })
	if err != nil {
		s.broken = append(s.broken, fmt.Errorf("%s: %w", packed, err))
		return nil
	}
	return s.try(path, false)
}

// unpack writes the first file of a cabinet.
func (s *search) unpack(to io.Writer, packed string) error {
	f, err := os.Open(packed)
	if err != nil {
		return err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return err
	}
	return unpackFrom(to, f, info.Size(), s.p.opt.Limits.Bytes)
}

func unpackFrom(to io.Writer, from io.ReaderAt, size, limit int64) error {
	c, err := cab.Open(from, size)
	if err != nil {
		return err
	}
	r, err := c.Extract("")
	if err != nil {
		return err
	}
	n, err := io.Copy(to, io.LimitReader(r, limit+1))
	if err == nil && n > limit {
		err = fmt.Errorf("unpacks to more than %d bytes", limit)
	}
	return err
}

// install puts a file into a store: written by fill under a name that nothing
// looks for, checked, then renamed, so that it appears whole or not at all and
// two processes may do the same.
func (s *search) install(root, name string, fill func(*os.File) error) (path string, err error) {
	way := []string{name, s.w.keys[0]}
	if _, err := os.Stat(filepath.Join(root, indexFile)); err == nil && len(name) >= 2 {
		way = slices.Insert(way, 0, name[:2])
	}
	dir := filepath.Join(append([]string{root}, way...)...)
	path = filepath.Join(dir, name)
	if isFile(path) && s.p.Flags()&Overwrite == 0 {
		// Another process was faster, if it is the one.
		if f, err := s.open(path, false); err == nil {
			s.st.folders.changed(root, path)
			return path, f.close()
		}
	}
	if err := makeStore(root); err != nil {
		return "", err
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return "", err
	}
	sweep(dir)
	tmp, err := os.CreateTemp(dir, newFile+"*")
	if err != nil {
		return "", err
	}
	defer func() {
		if err != nil {
			_ = os.Remove(tmp.Name())
			_ = os.Remove(dir) // only if it is empty
			_ = os.Remove(filepath.Dir(dir))
		}
	}()
	err = fill(tmp)
	err = errors.Join(err, tmp.Chmod(0o644), tmp.Close())
	if err == nil {
		err = s.check(tmp.Name())
	}
	if err == nil {
		err = os.Rename(tmp.Name(), path)
		if err != nil && s.check(path) == nil {
			// Another process was faster and has it open, which Windows minds.
			err = os.Remove(tmp.Name())
		}
	}
	if err != nil {
		return "", lasting{err, tmp.Name(), path}
	}
	s.st.folders.changed(root, path)
	return path, nil
}

// newFile starts the names of files that are being written.
const newFile = ".new-"

// sweep removes what a process left that was killed while it wrote.
func sweep(dir string) {
	const abandoned = 6 * time.Hour
	left, _ := filepath.Glob(filepath.Join(dir, newFile+"*")) // the pattern is well formed, or nothing matches
	for _, name := range left {
		if info, err := os.Lstat(name); err == nil && time.Since(info.ModTime()) > abandoned {
			_ = os.Remove(name)
		}
	}
}

// lasting is an error about a file under its passing name; it tells the lasting
// one.
type lasting struct {
	error
	from, to string
}

// Error gives the text with the lasting name.
func (p lasting) Error() string { return strings.ReplaceAll(p.error.Error(), p.from, p.to) }

// Unwrap gives the error.
func (p lasting) Unwrap() error { return p.error }

// check tells whether a new file is the one that is wanted.
func (s *search) check(path string) error {
	f, err := s.open(path, false)
	if err != nil {
		return err
	}
	return f.close()
}

// makeStore makes the root of a store as symsrv does.
func makeStore(root string) error {
	if err := os.MkdirAll(root, 0o755); err != nil {
		return err
	}
	ping := filepath.Join(root, pingFile)
	if isFile(ping) {
		return nil
	}
	entries, err := os.Open(root)
	if err != nil {
		return err
	}
	defer entries.Close()
	if names, _ := entries.Readdirnames(1); len(names) > 0 {
		return nil // somebody's folder: nothing is put into it but what is asked for
	}
	return os.WriteFile(ping, nil, 0o644)
}

// copyTo keeps a found file in a store too; the copy is what is used then.
func (s *search) copyTo(root string, f *Found) *Found {
	if f.Kind == "isf" || f.Loose {
		return f // has no place in a store
	}
	path, err := s.install(root, s.w.names[0], func(to *os.File) error {
		from, err := os.Open(f.Path)
		if err != nil {
			return err
		}
		defer from.Close()
		_, err = io.Copy(to, from)
		return err
	})
	if err != nil {
		s.broken = append(s.broken, fmt.Errorf("not kept in %s: %w", root, err))
		return f
	}
	copied, err := s.open(path, false)
	if err != nil {
		return f
	}
	_ = f.close()
	return copied
}
