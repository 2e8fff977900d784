package dumpfmt

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math"
	"os"
	"runtime/debug"
	"sync/atomic"

	mmap "github.com/edsrzf/mmap-go"
)

// ErrUnreadable is the class of errors that come from the medium, not from the
// format: the file shrank or changed while it was open, or its disk fails.
var ErrUnreadable = errors.New("file cannot be read")

var errNegativeOffset = errors.New("negative file offset")

// Guard runs f and turns a memory fault inside it into an error of class
// ErrUnreadable. Whoever uses bytes handed out by Slice or SlicePhysical does
// so under Guard: a mapped file that shrinks, or a disk that fails, otherwise
// ends the process. It holds for the calling goroutine only; goroutines that f
// starts need their own. Every other panic passes through.
func Guard(f func() error) (err error) {
	defer catchFault(&err, debug.SetPanicOnFault(true))
	return f()
}

// catchFault is to be deferred: it restores the goroutine's fault mode and
// stores a fault as an error. Faults are told from other run-time errors by
// their address (runtime/debug.SetPanicOnFault); a nil pointer has none.
func catchFault(err *error, before bool) {
	debug.SetPanicOnFault(before)
	r := recover()
	if r == nil {
		return
	}
	fault, ok := r.(interface {
		error
		Addr() uintptr
	})
	if !ok {
		panic(r)
	}
	*err = fmt.Errorf("%w: memory fault at %#x", ErrUnreadable, fault.Addr())
}

// memory is a File over bytes that are there for good.
type memory struct {
	*bytes.Reader
	data []byte
}

// NewBytes makes a File of bytes in memory, which must not change.
func NewBytes(data []byte) File { return memory{bytes.NewReader(data), data} }

// Slice gives part of the bytes.
func (m memory) Slice(off int64, n int) ([]byte, bool) { return cut(m.data, off, n) }

// cut is data[off:off+n] if that lies inside.
func cut(data []byte, off int64, n int) ([]byte, bool) {
	if off < 0 || n < 0 || off > int64(len(data)) || int64(n) > int64(len(data))-off {
		return nil, false
	}
	return data[off : off+int64(n) : off+int64(n)], true
}

// mapped is a File over a read-only memory map of a whole file.
type mapped struct {
	f      *os.File
	data   []byte
	closed atomic.Bool
}

// newMapped maps a file; the map's length is the size that was asked for.
func newMapped(f *os.File, size int64) (*mapped, error) {
	if size > math.MaxInt {
		return nil, fmt.Errorf("%d bytes do not fit this machine's address space", size)
	}
	m, err := mmap.MapRegion(f, int(size), mmap.RDONLY, 0, 0)
	if err != nil {
		return nil, err
	}
	return &mapped{f: f, data: m}, nil
}

// Slice gives bytes of the map itself; use them under Guard.
func (m *mapped) Slice(off int64, n int) ([]byte, bool) {
	if m.closed.Load() {
		return nil, false
	}
	return cut(m.data, off, n)
}

// ReadAt copies out of the map. A fault on the way is an error.
func (m *mapped) ReadAt(p []byte, off int64) (n int, err error) {
	n, err = m.copy(p, off)
	if errors.Is(err, ErrUnreadable) {
		err = fmt.Errorf("read %#x bytes at file offset %#x: %w%s", len(p), off, err, m.why())
	}
	return n, err
}

func (m *mapped) copy(p []byte, off int64) (n int, err error) {
	switch {
	case m.closed.Load():
		return 0, os.ErrClosed
	case off < 0:
		return 0, errNegativeOffset
	case off >= int64(len(m.data)):
		return 0, io.EOF
	}
	defer catchFault(&err, debug.SetPanicOnFault(true))
	n = copy(p, m.data[off:])
	if n < len(p) {
		err = io.EOF
	}
	return n, err
}

// why explains a fault: the only usual cause is a file that was cut.
func (m *mapped) why() string {
	info, err := m.f.Stat()
	switch {
	case err != nil:
		return ": " + err.Error()
	case info.Size() < int64(len(m.data)):
		return fmt.Sprintf(": the file shrank from %#x to %#x bytes", len(m.data), info.Size())
	}
	return ": the disk or the network fails"
}

// Close unmaps and closes the file.
func (m *mapped) Close() error {
	if m.closed.Swap(true) {
		return os.ErrClosed
	}
	region := mmap.MMap(m.data)
	return errors.Join(region.Unmap(), m.f.Close())
}

// OpenFile opens a dump by name. Regular files on local disks are mapped into
// memory, read-only; all else, and whatever refuses to be mapped, is read
// through a cache of 16 MiB. Close the dump when done.
//
// Errors: those of the file system as they come, *UnsupportedError for a file
// that is something else, *FormatError for a broken dump.
func OpenFile(name string) (*Dump, error) {
	info, err := os.Stat(name)
	if err != nil {
		return nil, err
	}
	switch mode := info.Mode(); {
	case mode.IsDir():
		return nil, &UnsupportedError{Is: "a directory", Next: "name the dump file in it"}
	case mode&(fs.ModeNamedPipe|fs.ModeSocket|fs.ModeCharDevice) != 0:
		return nil, &UnsupportedError{Is: "a pipe or device without a size", Next: "copy it to a file and open that"}
	}
	f, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	file, closer, size, err := attach(f, name)
	if err != nil {
		_ = f.Close() // only read from
		return nil, err
	}
	d, err := Open(file, size)
	if err != nil {
		_ = closer.Close() // only read from
		return nil, err
	}
	d.closer, d.changed = closer, watch(f)
	return d, nil
}

// attach finds the size of an open file and the way to read it.
func attach(f *os.File, name string) (File, io.Closer, int64, error) {
	info, err := f.Stat()
	if err != nil {
		return nil, nil, 0, err
	}
	size := info.Size()
	if !info.Mode().IsRegular() { // a block device has its size at its end
		if size, err = f.Seek(0, io.SeekEnd); err != nil {
			return nil, nil, 0, err
		}
	} else if size > 0 && !onNetwork(f, name) {
		if m, err := newMapped(f, size); err == nil {
			return m, m, size, nil
		}
	}
	return NewCached(f, size), f, size, nil
}

// watch remembers size and time of a file and compares on demand.
func watch(f *os.File) func() error {
	first, err := f.Stat()
	if err != nil || !first.Mode().IsRegular() {
		return nil
	}
	return func() error {
		now, err := f.Stat()
		switch {
		case err != nil:
			return fmt.Errorf("%w: %w", ErrUnreadable, err)
		case now.Size() != first.Size():
			return fmt.Errorf("%w: it had %#x bytes when it was opened, now %#x", ErrUnreadable, first.Size(), now.Size())
		case !now.ModTime().Equal(first.ModTime()):
			return fmt.Errorf("%w: it was written to while open", ErrUnreadable)
		}
		return nil
	}
}
