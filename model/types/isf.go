package types

import (
	"bufio"
	"compress/bzip2"
	"compress/gzip"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"sync"

	"github.com/ulikunitz/xz"
)

// maxISF bounds the decompressed size of a table. The largest public kernel
// table has 7 MB; a compressed file of a few kilobytes could claim anything.
const maxISF = 256 << 20

// ISF is a symbol table in Volatility 3's intermediate symbol format.
//
// Opening one checks its outline and reads its metadata. Types and names are
// decoded when first asked for, each all at once: types refer to each other in
// circles, and with all of them in hand every Elem is complete and nothing
// needs a lock later.
//
// The format is described by volatility3/schemas/schema-6.2.0.json of the
// public project volatilityfoundation/volatility3; 6.0 and 6.1 are parts of it.
type ISF struct {
	file     string
	text     string
	sections map[string]section
	meta     Metadata

	types   func() (*builder, error)
	symbols func() (*isfNames, error)
	typed   func() bool
}

// section is where a section's value lies in the text.
type section struct{ start, end int }

// Metadata is what a table says about itself.
type Metadata struct {
	Format  string // "6.1.0"
	PDB     string // metadata.windows.pdb.database; untrusted
	GUID    GUID
	Age     uint32
	Machine uint16 // of the PE header, 0 where not told
	Build   uint32 // metadata.windows.pe.build, 0 where not told
}

// OpenISF opens a table: JSON, or JSON in xz, gzip or bzip2 format, told by content.
func OpenISF(path string) (*ISF, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	var hint int64
	if info, err := f.Stat(); err == nil {
		hint = info.Size()
	}
	t, err := readISF(f, path, hint)
	if err != nil {
		return nil, fmt.Errorf("ISF table %s: %w", path, err)
	}
	return t, nil
}

// ReadISF reads a table from r. The name is for Origin and messages only.
func ReadISF(r io.Reader, name string) (*ISF, error) {
	return readISF(r, name, 0)
}

// readISF reads a table; size is that of the file, 0 where unknown.
func readISF(r io.Reader, name string, size int64) (*ISF, error) {
	text, err := unpack(r, size)
	if err != nil {
		return nil, err
	}
	t := &ISF{file: name, text: text, sections: map[string]section{}}
	t.types = sync.OnceValues(t.decodeTypes)
	t.symbols = sync.OnceValues(t.decodeSymbols)
	t.typed = sync.OnceValue(t.hasSymbolTypes)
	p := &scanner{s: text}
	p.object(func(key string) {
		p.peek()
		start := p.i
		if key == "metadata" {
			t.meta = readMetadata(p)
		} else {
			p.skip()
		}
		t.sections[key] = section{start, p.i}
	})
	if p.err == nil && p.peek() != 0 {
		p.fail("text after the end")
	}
	if p.err != nil {
		return nil, p.err
	}
	if _, ok := t.sections["metadata"]; !ok {
		return nil, errors.New("section metadata missing")
	}
	return t, nil
}

// unpack reads a table, decompressed by what its first bytes say.
func unpack(r io.Reader, size int64) (string, error) {
	// The decompressors read byte by byte: without a buffer, system calls
	// would take most of the time.
	buf := bufio.NewReaderSize(r, 1<<16)
	head, err := buf.Peek(6)
	if err != nil && err != io.EOF {
		return "", err
	}
	r = buf
	switch {
	case string(head) == "\xfd7zXZ\x00":
		if err := checkXZ(buf); err != nil {
			return "", err
		}
		if r, err = xz.NewReader(buf); err != nil {
			return "", err
		}
		size *= 11 // what tables pack to; a guess too low costs a copy
	case len(head) > 1 && head[0] == 0x1f && head[1] == 0x8b:
		if r, err = gzip.NewReader(buf); err != nil {
			return "", err
		}
		size *= 8
	case len(head) > 3 && string(head[:3]) == "BZh" && head[3] >= '1' && head[3] <= '9':
		r = bzip2.NewReader(buf)
		size *= 11
	}
	var text strings.Builder
	text.Grow(int(min(max(size, 0), 16<<20)))
	read, err := io.Copy(&text, io.LimitReader(r, maxISF+1))
	if err != nil {
		return "", err
	}
	if read > maxISF {
		return "", fmt.Errorf("more than %#x bytes of JSON", int64(maxISF))
	}
	return text.String(), nil
}

// maxXZDict bounds the window that unpacking keeps in memory. "xz -9" takes 64 MB;
// a file may ask for 4 GB.
const maxXZDict = 64 << 20

// checkXZ looks at the first block's header, after the 12 bytes of the stream's,
// and refuses a file whose window is too large (xz-file-format.txt 3.1, 5.3.1 of
// the public XZ project). Tools write one window size for all blocks.
func checkXZ(buf *bufio.Reader) error {
	head, err := buf.Peek(12 + 24)
	if err != nil {
		return err
	}
	flags, rest := head[13], head[14:]
	for _, sized := range []bool{flags&0x40 != 0, flags&0x80 != 0} {
		for sized && len(rest) > 0 {
			sized = rest[0]&0x80 != 0 // seven bits a byte, the last one without the top bit
			rest = rest[1:]
		}
	}
	if flags&3 != 0 || len(rest) < 3 || rest[0] != 0x21 || rest[1] != 1 || rest[2] > 40 {
		return errors.New("xz: want one LZMA2 filter")
	}
	if size := (2 | uint64(rest[2])&1) << (rest[2]/2 + 11); size > maxXZDict {
		return fmt.Errorf("xz: window of %#x bytes, at most %#x", size, maxXZDict)
	}
	return nil
}

// readMetadata reads the section metadata; what it does not know, it skips.
func readMetadata(p *scanner) (m Metadata) {
	windows := func(key string) {
		switch key {
		case "pdb":
			p.object(func(key string) { readPDBMetadata(p, key, &m) })
		case "pe":
			p.object(func(key string) {
				if key == "build" {
					m.Build = p.uint(1<<32 - 1)
					return
				}
				p.skip()
			})
		default:
			p.skip()
		}
	}
	p.object(func(key string) {
		switch key {
		case "format":
			m.Format = p.str()
		case "windows":
			p.object(windows)
		default:
			p.skip()
		}
	})
	return m
}

func readPDBMetadata(p *scanner, key string, m *Metadata) {
	switch key {
	case "GUID":
		at := p.i
		g, err := ParseGUID(p.str())
		if err != nil && p.err == nil {
			p.i = at
			p.fail("%v", err)
		}
		m.GUID = g
	case "age":
		m.Age = p.uint(1<<32 - 1)
	case "database":
		m.PDB = p.str()
	case "machine_type":
		m.Machine = uint16(p.uint(1<<16 - 1))
	default:
		p.skip()
	}
}

// Metadata gives what the table says about itself.
func (t *ISF) Metadata() Metadata { return t.meta }

// Check tells whether the table belongs to the image with that GUID and age. A
// file's name proves nothing: a table that was renamed by mistake would give
// wrong answers everywhere.
func (t *ISF) Check(g GUID, age uint32) error {
	if t.meta.GUID != g || t.meta.Age != age {
		return fmt.Errorf("ISF table %s: made for %s-%d, want %s-%d", t.file, t.meta.GUID, t.meta.Age, g, age)
	}
	return nil
}

// HasTypes reports whether the table has any structure. Tables of most drivers
// have names only.
func (t *ISF) HasTypes() bool {
	b, err := t.types()
	return err == nil && len(b.user) > 0
}

// Type implements Store. An error other than *NotFoundError says that the
// table's types could not be read at all.
func (t *ISF) Type(name string) (*Type, error) {
	b, err := t.types()
	if err != nil {
		return nil, err
	}
	if found, ok := b.lookup(name); ok {
		return found, nil
	}
	return nil, &NotFoundError{What: "type", Name: name, In: "ISF table " + filepath.Base(t.file)}
}

// TypeNames gives the names of all structures, unions and enumerations, sorted.
func (t *ISF) TypeNames() []string {
	b, err := t.types()
	if err != nil {
		return nil
	}
	return b.names()
}

// Origin implements Store. The match is exact: whoever resolves an image's
// table has compared GUID and age. Build is 0 where the table does not tell.
func (t *ISF) Origin() Origin {
	build := t.meta.Build
	if build == 0 {
		if row, ok := kernelByGUID(t.meta.GUID, t.meta.Age); ok {
			build = row.build
		}
	}
	return Origin{Build: build, Match: MatchExact, Source: "ISF table " + filepath.Base(t.file), File: t.file}
}

// Skipped counts fields that make no sense and are left out: an array of a
// negative number of elements, a bit-field beyond 64 bits.
func (t *ISF) Skipped() int {
	b, err := t.types()
	if err != nil {
		return 0
	}
	return b.skipped
}

// Err gives the first error in the table's types or names, decoding both.
func (t *ISF) Err() error {
	_, terr := t.types()
	_, serr := t.symbols()
	return errors.Join(terr, serr)
}

// Describe implements Symbols.
func (t *ISF) Describe() string { return "isf" }

var (
	_ Store        = (*ISF)(nil)
	_ Lister       = (*ISF)(nil)
	_ TypedSymbols = (*ISF)(nil)
)
