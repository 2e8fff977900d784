// Package snapshot makes crash dumps: it turns a scenario, a small YAML file
// that says what a machine was doing, into a dump of that machine that any
// reader of 64-bit Windows crash dumps opens.
//
// The dump is made byte by byte in a simulated physical memory: page tables,
// images with code, unwind data and identities, the debugger data block,
// processors, processes, threads with stacks, executive resources and pool.
// Where a structure's fields lie comes from a types.Store alone, so a further
// build needs a profile, not code. No reader shares code with this package.
//
// Nothing in a snapshot is a copy of a real system: routine names, addresses
// and numbers come from the scenario or are made up, and the code of routines
// consists of prologues, calls and filling.
package snapshot

import (
	"errors"
	"fmt"
	"io"

	"gokd/dumpfmt"
)

// Format is a container format that snapshots are written in.
type Format uint8

// The formats, with the DumpType of their header.
const (
	Default Format = iota // as the scenario says; Full where it does not
	Full                  // 1: every page that the machine uses
	Bitmap                // 5: the same with a page bitmap
	Kernel                // 6: without the pages of user memory
)

var formatNames = map[string]Format{"full": Full, "bitmap": Bitmap, "kernel": Kernel}

// ParseFormat reads "full", "bitmap" or "kernel"; "" is Default.
func ParseFormat(s string) (Format, error) {
	if f, ok := formatNames[s]; ok || s == "" {
		return f, nil
	}
	return Default, fmt.Errorf("dump format %q: want full, bitmap or kernel", s)
}

// String gives the name that ParseFormat reads.
func (f Format) String() string {
	for name, g := range formatNames {
		if f == g {
			return name
		}
	}
	return "default"
}

// Options say how a snapshot is written.
type Options struct {
	Format Format
	// Size is the physical memory in the dump in bytes, a multiple of 4096:
	// behind the pages in use it is filled with zeros. 0: only those pages. Of a
	// kernel dump it must be 0.
	Size uint64
	// Variant makes another machine of the scenario; nil: the build's own.
	Variant *Variant
}

// maxSize bounds Options.Size.
const maxSize = maxMemory

// Build makes a snapshot. The same scenario and options give the same bytes.
// What is wrong with a scenario is an error of class ErrScenario that names the
// line.
func Build(scenario []byte, opts Options) (*Image, error) {
	spec, err := parseScenario(scenario)
	if err != nil {
		return nil, err
	}
	format := opts.Format
	if format == Default {
		if format, err = ParseFormat(spec.Dump.s); err != nil {
			return nil, &lineError{spec.Dump.line, err}
		}
	}
	if format == Default {
		format = Full
	}
	switch {
	case dumpTypes[format] == 0:
		return nil, fmt.Errorf("dump format %d: there is no such format", format)
	case opts.Size%pageSize != 0 || opts.Size > maxSize:
		return nil, fmt.Errorf("a size of %#x bytes of memory: want whole pages, at most %#x", opts.Size, uint64(maxSize))
	case opts.Size != 0 && format == Kernel:
		return nil, errors.New("a kernel dump has no size of its own: it holds the pages in use")
	}
	m, err := build(spec, opts.Variant)
	if err != nil {
		return nil, err
	}
	data, zeros, err := m.container(format, opts.Size)
	if err != nil {
		return nil, asScenario(err)
	}
	return &Image{data: data, zeros: zeros, format: format, symbols: m.symbolTables()}, nil
}

// Image is a finished snapshot in memory. It is a dumpfmt.File and safe for
// concurrent use.
type Image struct {
	data    []byte
	zeros   int64 // bytes of zeros behind data
	format  Format
	symbols []*symbolTable
}

var (
	_ dumpfmt.File = (*Image)(nil)
	_ io.WriterTo  = (*Image)(nil)
)

// Size gives the length of the dump in bytes.
func (im *Image) Size() int64 { return int64(len(im.data)) + im.zeros }

// Format tells which container it is.
func (im *Image) Format() Format { return im.format }

// ReadAt implements io.ReaderAt.
func (im *Image) ReadAt(p []byte, off int64) (n int, err error) {
	if off < 0 {
		return 0, errors.New("negative file offset")
	}
	if off < int64(len(im.data)) {
		n = copy(p, im.data[off:])
	}
	if left := im.Size() - off - int64(n); n < len(p) && left > 0 {
		k := min(int64(len(p)-n), left)
		clear(p[n : n+int(k)])
		n += int(k)
	}
	if n < len(p) {
		err = io.EOF
	}
	return n, err
}

// Slice gives bytes of the snapshot without a copy; they must not be written.
func (im *Image) Slice(off int64, n int) ([]byte, bool) {
	if off < 0 || n < 0 || off > int64(len(im.data)) || int64(n) > int64(len(im.data))-off {
		return nil, false
	}
	return im.data[off : off+int64(n) : off+int64(n)], true
}

// WriteTo writes the dump.
func (im *Image) WriteTo(w io.Writer) (int64, error) {
	return io.Copy(w, io.NewSectionReader(im, 0, im.Size()))
}
