package modeltest

import (
	"context"
	"sync"
	"testing"

	"gokd/dumpfmt"
	"gokd/dumpfmt/dumptest/shared"
	"gokd/model"
	"gokd/model/types/sympath"
	"gokd/repl/source"
)

// Option adds to what a dump says what is not in dumps.
type Option func(*model.Source)

// Load opens the kernel of a dump as the program does.
func Load(t testing.TB, d *dumpfmt.Dump, options ...Option) *model.Kernel {
	t.Helper()
	src := source.Of(t.Name(), d)
	for _, o := range options {
		o(&src)
	}
	k, err := model.Load(context.Background(), src)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

// OpenDump opens the kernel of a dump file, which may be packed, from memory.
func OpenDump(t testing.TB, path string, options ...Option) *model.Kernel {
	t.Helper()
	data := shared.Unpacked(t, path)
	d, err := dumpfmt.Open(dumpfmt.NewBytes(data), int64(len(data)))
	if err != nil {
		t.Fatalf("%s: %v", path, err)
	}
	return Load(t, d, options...)
}

// paths keeps a *sympath.Path for each symbol path: a Path reads each table once,
// and reading a kernel's takes longer than most tests.
var paths sync.Map

// Symbols adds a symbol path; none where it is empty. All who name the same one
// share its tables.
func Symbols(path string) Option {
	return func(s *model.Source) {
		if path == "" {
			return
		}
		p, ok := paths.Load(path)
		if !ok {
			p, _ = paths.LoadOrStore(path, sympath.New(path))
		}
		s.Symbols = p.(*sympath.Path)
	}
}

// Images adds a path of image files; none where it is empty.
func Images(path string) Option {
	return func(s *model.Source) {
		if path != "" {
			s.Images = sympath.NewImages(path)
		}
	}
}
