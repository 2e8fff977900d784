package sympath

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"gokd/model/types"
	"gokd/model/types/index"
	"gokd/model/types/pdb"
)

// MismatchError says that a file belongs to another image.
type MismatchError struct {
	File       string
	Have, Want string // identities: GUID and age, or time stamp and size
}

// Error names both identities.
func (e *MismatchError) Error() string {
	return fmt.Sprintf("%s: made for %s, want %s", e.File, e.Have, e.Want)
}

// Found is an answer of a path.
type Found struct {
	Path    string // of the file
	Kind    string // "pdb", "isf" or "image"
	Element string // of the path that had it, as written
	// Loose: the file belongs to another build and was taken because of
	// LoadAnything.
	Loose bool
	// Indexed: the file was not parsed; its names and types come from the index.
	Indexed bool
	// Note says what is wrong with a file that is used all the same.
	Note string

	Store   types.Store      // nil for an image, and where the file has no types
	Symbols types.Symbols    // nil for an image
	Image   *types.ImageFile // of an image; the caller closes it

	key   index.Key
	index bool // to be put into the index
	close func() error
}

// open opens a file as what is wanted. A file of another identity is a
// *MismatchError, unless loose is set.
func (s *search) open(path string, loose bool) (*Found, error) {
	if s.w.image {
		return s.openImage(path)
	}
	head := make([]byte, len(msfMagic))
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	n, err := io.ReadFull(f, head)
	f.Close()
	if err != nil && !errors.Is(err, io.ErrUnexpectedEOF) && err != io.EOF {
		return nil, err
	}
	if string(head[:n]) == msfMagic {
		return s.openPDB(path, loose)
	}
	switch ext := filepath.Ext(path); ext {
	case ".json", ".xz", ".gz":
		return s.openISF(path)
	}
	return nil, fmt.Errorf("%s: no program database: it starts with %q", path, head[:min(n, 24)])
}

// msfMagic is how program databases start (LLVM docs/PDB/MsfFile.rst). Older ones
// start likewise up to the number.
const msfMagic = "Microsoft C/C++ "

func (s *search) openImage(path string) (*Found, error) {
	image, err := types.OpenImageFile(path)
	if err != nil {
		return nil, err
	}
	id := s.w.id
	if image.Image.Timestamp != id.Timestamp || image.Image.Size != id.Size {
		return nil, errors.Join(&MismatchError{
			"image file " + path, fmt.Sprintf("time stamp %08X, size %#x", image.Image.Timestamp, image.Image.Size),
			fmt.Sprintf("%08X, %#x", id.Timestamp, id.Size),
		}, image.Close())
	}
	return &Found{Path: path, Kind: "image", Image: image, close: image.Close}, nil
}

// keyOf names a file for the index.
func (s *search) keyOf(path, kind string) index.Key {
	k := index.Key{GUID: s.w.id.GUID, Age: s.w.id.Age, Kind: kind, Source: path}
	if abs, err := filepath.Abs(path); err == nil {
		k.Source = abs
	}
	if len(s.w.names) > 0 {
		k.Name = s.w.names[0]
	}
	if info, err := os.Stat(path); err == nil {
		k.Size, k.ModTime = info.Size(), info.ModTime().UnixNano()
	}
	return k
}

// indexed gives the table that an earlier run kept of a file.
func (s *search) indexed(k index.Key) *Found {
	t, err := s.p.cache.Get(k)
	if err != nil {
		return nil
	}
	f := &Found{Path: k.Source, Kind: k.Kind, Indexed: true, Symbols: t, key: k, close: func() error { return nil }}
	if len(t.TypeNames()) > 0 {
		f.Store = t
	}
	return f
}

func (s *search) openPDB(path string, loose bool) (*Found, error) {
	k := s.keyOf(path, "pdb")
	if !loose {
		if f := s.indexed(k); f != nil {
			f.Path = path
			if t, ok := f.Symbols.(*index.Table); ok {
				x := &indexedPDB{Table: t, path: path}
				f.Symbols, f.close = x, x.close
			}
			return f, nil
		}
	}
	file, err := pdb.Open(path)
	if err != nil {
		return nil, err
	}
	id := s.w.id
	differs := file.GUID() != id.GUID || file.Age() != id.Age
	if differs && !loose {
		return nil, errors.Join(&MismatchError{
			"program database " + path, fmt.Sprintf("%s-%d", file.GUID(), file.Age()), fmt.Sprintf("%s-%d", id.GUID, id.Age),
		}, file.Close())
	}
	f := &Found{Path: path, Kind: "pdb", Symbols: file, key: k, index: !differs, close: file.Close}
	if s.light {
		return f, nil
	}
	if file.HasTypes() {
		f.Store = file
	}
	if differs {
		f.Loose = true
		f.Note = fmt.Sprintf("the PDB was made for %s-%d, the image wants %s-%d", file.GUID(), file.Age(), id.GUID, id.Age)
		if f.Store != nil {
			f.Store = looseStore{f.Store}
		}
	}
	if err := file.Err(); err != nil {
		f.Note, f.index = fmt.Sprintf("the PDB is damaged: %v", err), false
	}
	return f, nil
}

// looseStore marks layouts of another build: they must prove themselves.
type looseStore struct{ types.Store }

// Origin implements types.Store.
func (l looseStore) Origin() types.Origin {
	o := l.Store.Origin()
	o.Match, o.Source = types.MatchNearest, o.Source+" of another build"
	return o
}

// TypeNames implements types.Lister.
func (l looseStore) TypeNames() []string {
	if t, ok := l.Store.(types.Lister); ok {
		return t.TypeNames()
	}
	return nil
}

func (s *search) openISF(path string) (*Found, error) {
	k := s.keyOf(path, "isf")
	if f := s.indexed(k); f != nil {
		f.Path = path
		return f, nil
	}
	t, err := types.OpenISF(path)
	if err != nil {
		return nil, err
	}
	m := t.Metadata()
	if m.GUID != s.w.id.GUID || m.Age != s.w.id.Age {
		return nil, &MismatchError{
			"ISF table " + path, fmt.Sprintf("%s-%d", m.GUID, m.Age), fmt.Sprintf("%s-%d", s.w.id.GUID, s.w.id.Age),
		}
	}
	f := &Found{Path: path, Kind: "isf", Symbols: t, key: k, index: true, close: func() error { return nil }}
	if s.light {
		return f, nil
	}
	if err := t.Err(); err != nil {
		return nil, fmt.Errorf("ISF table %s: %w", path, err)
	}
	if t.HasTypes() {
		f.Store = t
	}
	return f, nil
}
