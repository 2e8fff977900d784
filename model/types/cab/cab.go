// Package cab reads Microsoft Cabinet files: the form in which symbol stores
// keep compressed files (ntkrnlmp.pd_, ntoskrnl.ex_).
//
// It reads single cabinets with one file or many, stored plainly or packed with
// MSZIP or LZX (windows of 32 KiB to 2 MiB, all that cabinets have). Quantum,
// and files that continue in another cabinet of a set, are errors. Cabinets come
// from servers and are hostile: sizes are checked against the file, and a file
// is unpacked as it is read, with one window in memory.
//
// The container is described in Microsoft's public [MS-CAB], MSZIP in [MS-MCI],
// and LZX in the public "Microsoft LZX Data Compression Format" and [MS-PATCH].
package cab

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"strings"
)

// ErrFormat is the class of errors of a damaged cabinet.
var ErrFormat = errors.New("not a valid cabinet")

// ErrUnsupported is the class of errors of a cabinet that is whole, but of a
// kind that is not read here.
var ErrUnsupported = errors.New("cabinet of a kind that is not supported")

// FormatError says what is wrong in a cabinet, and where.
type FormatError struct {
	What   string
	Offset int64 // of the structure in the file, in bytes
	Err    error
}

// Error names the structure, its place and the reason.
func (e *FormatError) Error() string {
	return fmt.Sprintf("cabinet: %s at file offset %#x: %v", e.What, e.Offset, e.Err)
}

// Unwrap gives the reason.
func (e *FormatError) Unwrap() error { return e.Err }

// Is reports whether a target is ErrFormat, of which this is one.
func (e *FormatError) Is(target error) bool {
	return target == ErrFormat && !errors.Is(e.Err, ErrUnsupported)
}

// File is a file in a cabinet.
type File struct {
	Name string // as stored, with its folders if any; untrusted
	Size uint32 // bytes when unpacked, as the directory says

	start  uint32 // in the unpacked data of its folder
	folder uint16
}

// folder is a run of blocks that were packed together.
type folder struct {
	at     int64 // of its first block
	blocks uint16
	method uint16
}

// Reader is an opened cabinet.
type Reader struct {
	r       io.ReaderAt
	size    int64
	files   []File
	folders []folder
	reserve int64 // bytes of every block's header that belong to others
}

// Flags of CFHEADER.
const (
	flagPrev    = 1
	flagNext    = 2
	flagReserve = 4
)

// Methods of CFFOLDER.typeCompress, in its low four bits.
const (
	methodStored  = 0
	methodMSZIP   = 1
	methodQuantum = 2
	methodLZX     = 3
	methodMask    = 15
)

const (
	headerSize    = 36
	folderSize    = 8
	fileSize      = 16
	blockSize     = 8
	continuedFrom = 0xfffd // CFFILE.iFolder: 0xfffd, 0xfffe and 0xffff continue in other cabinets
	maxName       = 256    // bytes of a stored name with its end
)

// Open reads the directory of a cabinet of size bytes. Errors are *FormatError.
func Open(r io.ReaderAt, size int64) (*Reader, error) {
	c := &Reader{r: r, size: size}
	d := &directory{r: bufio.NewReader(io.NewSectionReader(r, 0, max(size, 0)))}
	head := d.bytes("CFHEADER", headerSize)
	if d.err == nil && string(head[:4]) != "MSCF" {
		d.fail("CFHEADER", fmt.Errorf("signature %q, want \"MSCF\"", head[:4]))
	}
	if d.err != nil {
		return nil, d.err
	}
	le := binary.LittleEndian
	filesAt := int64(le.Uint32(head[16:]))
	folders, files, flags := le.Uint16(head[26:]), le.Uint16(head[28:]), le.Uint16(head[30:])
	perFolder := c.skipReserved(d, flags)
	for range folders {
		b := d.bytes("CFFOLDER", folderSize)
		d.bytes("CFFOLDER", perFolder)
		if d.err != nil {
			return nil, d.err
		}
		c.folders = append(c.folders, folder{int64(le.Uint32(b)), le.Uint16(b[4:]), le.Uint16(b[6:])})
	}
	d.seek(filesAt, r, size)
	for range files {
		b := d.bytes("CFFILE", fileSize)
		name := d.text("CFFILE")
		if d.err != nil {
			return nil, d.err
		}
		c.files = append(c.files, File{name, le.Uint32(b), le.Uint32(b[4:]), le.Uint16(b[8:])})
	}
	return c, d.err
}

// skipReserved passes what the header holds for others: reserved areas and the
// names of the neighbours in a set. It gives the reserved bytes of a folder.
func (c *Reader) skipReserved(d *directory, flags uint16) (perFolder int) {
	if flags&flagReserve != 0 {
		if b := d.bytes("CFHEADER", 4); d.err == nil {
			perFolder, c.reserve = int(b[2]), int64(b[3])
			d.bytes("CFHEADER", int(binary.LittleEndian.Uint16(b)))
		}
	}
	for _, flag := range []uint16{flagPrev, flagNext} {
		if flags&flag != 0 {
			d.text("CFHEADER") // the cabinet
			d.text("CFHEADER") // its disk
		}
	}
	return perFolder
}

// Files gives the directory in its order.
func (c *Reader) Files() []File { return append([]File(nil), c.files...) }

// Extract gives the contents of a file by its name, whatever its case; an empty
// name is the first file. They are unpacked as they are read; an error of the
// reader says that what came before it is good, and no more is to be had.
func (c *Reader) Extract(name string) (io.Reader, error) {
	for i := range c.files {
		if name == "" || strings.EqualFold(c.files[i].Name, name) {
			return c.open(&c.files[i])
		}
	}
	return nil, &FormatError{"directory", 0, fmt.Errorf("no file %q", clip(name))}
}

func (c *Reader) open(f *File) (io.Reader, error) {
	if f.folder >= continuedFrom {
		return nil, &FormatError{"CFFILE " + clip(f.Name), 0, fmt.Errorf("%w: the file continues in another cabinet", ErrUnsupported)}
	}
	if int(f.folder) >= len(c.folders) {
		return nil, &FormatError{"CFFILE " + clip(f.Name), 0, fmt.Errorf("folder %d of %d", f.folder, len(c.folders))}
	}
	d := c.folders[f.folder]
	u, err := newUnpacker(d.method)
	if err != nil {
		return nil, &FormatError{"CFFOLDER", d.at, err}
	}
	return &contents{
		blocks: blocks{c: c, at: d.at, left: int(d.blocks), unpack: u},
		skip:   int64(f.start), left: int64(f.Size),
	}, nil
}

func clip(s string) string {
	const most = 40
	if len(s) > most {
		return s[:most] + "..."
	}
	return s
}

// directory reads the front of a cabinet; the first failure sticks.
type directory struct {
	r   *bufio.Reader
	at  int64
	err error
}

func (d *directory) fail(what string, err error) {
	if d.err == nil {
		d.err = &FormatError{what, d.at, err}
	}
}

// bytes reads n bytes; n comes from at most 16 bits of the file.
func (d *directory) bytes(what string, n int) []byte {
	b := make([]byte, n)
	if d.err != nil {
		return b
	}
	if _, err := io.ReadFull(d.r, b); err != nil {
		if err == io.EOF {
			err = io.ErrUnexpectedEOF
		}
		d.fail(what, err)
	}
	d.at += int64(n)
	return b
}

// text reads a string up to its zero byte.
func (d *directory) text(what string) string {
	var b []byte
	for d.err == nil {
		c := d.bytes(what, 1)[0]
		if c == 0 {
			break
		}
		if b = append(b, c); len(b) >= maxName {
			d.fail(what, fmt.Errorf("a name of more than %d bytes", maxName-1))
		}
	}
	return string(b)
}

func (d *directory) seek(at int64, r io.ReaderAt, size int64) {
	if d.err != nil {
		return
	}
	if at < headerSize || at > size {
		d.fail("CFHEADER", fmt.Errorf("files at %#x in a cabinet of %#x bytes", at, size))
		return
	}
	d.at = at
	d.r.Reset(io.NewSectionReader(r, at, size-at))
}
