package pdb

import (
	"fmt"
	"io"
	"os"
	"sync"

	"gokd/model/types"
)

// File is an open program database. Its methods may be called by several
// goroutines at once.
type File struct {
	name  string
	close func() error

	m    *msf
	info info
	dbi  *dbi        // nil in a database of types only
	tpi  *typeStream // nil without types
	ipi  *typeStream

	symbols  func() *symbolTable
	contribs func() *contributions
	strings  *stream // file names; nil without

	mu       sync.Mutex // protects the fields below
	keep     *decoder   // makes and keeps types
	typedefs map[string]uint32
}

// Open opens a program database. The error wraps [ErrFormat] where the file is
// none, or one of the old format 2.00.
func Open(path string) (*File, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	st, err := f.Stat()
	if err == nil && !st.Mode().IsRegular() {
		err = fmt.Errorf("program database %s: not a regular file", path)
	}
	var p *File
	if err == nil {
		p, err = open(f, st.Size(), path)
	}
	if err != nil {
		f.Close()
		return nil, err
	}
	p.close = f.Close
	return p, nil
}

// New reads a program database of that many bytes from r, which must serve
// several readers at once and is not closed.
func New(r io.ReaderAt, size int64) (*File, error) {
	return open(r, size, "")
}

func open(r io.ReaderAt, size int64, name string) (*File, error) {
	f := &File{name: name, close: func() error { return nil }}
	fail := func(part string, err error) (*File, error) {
		what := "program database"
		if name != "" {
			what += " " + name
		}
		return nil, fmt.Errorf("%s: %s%w", what, part, err)
	}
	var err error
	if f.m, err = openMSF(r, size); err != nil {
		return fail("", err)
	}
	if f.info, err = f.m.readInfo(); err != nil {
		return fail("information stream: ", err)
	}
	if f.dbi, err = f.m.readDBI(); err != nil {
		return fail("debug information stream: ", err)
	}
	if f.tpi, err = f.m.readTypes(streamTPI); err != nil {
		return fail("type stream: ", err)
	}
	// Functions refer to the stream of ids only in databases that lack a linker's
	// last pass: a damaged one costs their types.
	f.ipi, _ = f.m.readTypes(streamIPI)
	if num, ok := f.info.named["/names"]; ok {
		f.strings, _ = f.m.stream(num)
	}
	f.symbols = sync.OnceValue(f.readSymbols)
	f.contribs = sync.OnceValue(f.readContributions)
	return f, nil
}

// Close closes the file that Open opened. Nothing may be asked afterwards.
func (f *File) Close() error { return f.close() }

// GUID gives the identity that the image's RSDS record names.
func (f *File) GUID() types.GUID { return f.info.guid }

// Age gives the age that the image's RSDS record and symbol stores name: that
// of the debug information.
func (f *File) Age() uint32 {
	if f.dbi == nil {
		return f.info.age
	}
	return f.dbi.age
}

// InfoAge gives how often the file was written; it may differ from Age.
func (f *File) InfoAge() uint32 { return f.info.age }

// Signature gives the time of making in seconds since 1970, or a part of a hash
// where the linker was told to be reproducible.
func (f *File) Signature() uint32 { return f.info.signature }

// Machine gives the image's machine, IMAGE_FILE_MACHINE_..., 0 where unknown.
func (f *File) Machine() uint16 {
	if f.dbi == nil {
		return 0
	}
	return f.dbi.machine
}

// Stripped reports whether the linker left private symbols out.
func (f *File) Stripped() bool { return f.dbi != nil && f.dbi.flags&flagStripped != 0 }

// Check tells whether the database belongs to the image with that GUID and age.
func (f *File) Check(g types.GUID, age uint32) error {
	if f.info.guid != g || f.Age() != age {
		return fmt.Errorf("program database %s: made for %s-%d, want %s-%d", f.name, f.info.guid, f.Age(), g, age)
	}
	return nil
}

// Sections gives the sections of the image.
func (f *File) Sections() []Section {
	if f.dbi == nil {
		return nil
	}
	return append([]Section(nil), f.dbi.sections...)
}

// TypeAt gives a type by its index in the type stream, as symbols name it.
func (f *File) TypeAt(index uint32) (*types.Type, error) {
	if f.tpi == nil {
		return nil, &types.NotFoundError{What: "type", Name: fmt.Sprintf("%#x", index), In: f.Origin().Source}
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.typeAt(index)
}

// typeAt is TypeAt under the lock. Types refer to each other, so one decoder
// keeps those that were made; when it is full the next type starts another, and
// those handed out stay as they are.
func (f *File) typeAt(index uint32) (*types.Type, error) {
	if f.keep == nil || f.keep.full() {
		f.keep = newDecoder(f.tpi, true, keepFields+maxMembers)
	}
	t, err := f.keep.get(index, 0)
	f.keep.finish()
	return t, err
}
