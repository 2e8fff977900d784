// Package dumpfmt opens memory-dump containers: it finds out what a file is,
// checks its header and says where in the file each page or captured block
// lies. It knows bytes only: no page tables, no kernel structures.
//
// OpenFile opens a file by name and Open any other source of bytes; both look
// the container up in Formats, and name what is no kernel dump together with
// the next step. Nothing is read per page: runs are kept as they are, a page
// bitmap gets an index of eight bytes per 16 MiB of memory. So a dump of 64 GB
// opens in milliseconds.
//
// A dump may be cut, damaged or made to mislead. Whatever is needed to place
// memory is checked against the file's size and against the other fields; if it
// is wrong, the answer is a *FormatError with the file offset, or the part that
// is certain and a warning. Optional parts that are wrong are left out with a
// warning.
//
// Files are read by a read-only memory map where that is possible. Reads
// through ReadAt, ReadPhysical and ReadVirtual report a failing map as an error
// of class ErrUnreadable; whoever uses slices of the map does so under Guard.
package dumpfmt

import (
	"errors"
	"fmt"
	"io"

	"gokd/model/mem"
)

// File is the bytes of a dump.
type File interface {
	io.ReaderAt
	// Slice gives n bytes at off straight from the memory map, if there is one.
	Slice(off int64, n int) (b []byte, ok bool)
}

// Format is one container format.
type Format struct {
	Name string // "64-bit crash dump"
	Doc  string // a line for the manual
	// Sniff looks at the first bytes (up to SniffLen) of a file.
	Sniff func(head []byte) bool
	// Open reads the header; it never reads an entry per page.
	Open func(f File, size int64) (*Dump, error)
}

// ErrFormat is the class of every *FormatError.
var ErrFormat = errors.New("not a usable dump")

// FormatError says what is wrong with a file, and where in it.
type FormatError struct {
	Format string // name of the container format
	What   string // the structure or field: "DUMP_HEADER64: run count"
	Offset int64  // file offset in bytes
	Err    error  // why
}

func (e *FormatError) Error() string {
	return fmt.Sprintf("%s at file offset %#x: %v", e.What, e.Offset, e.Err)
}

// Unwrap gives the reason and the class.
func (e *FormatError) Unwrap() []error { return []error{e.Err, ErrFormat} }

// UnsupportedError names a file that is something else than a kernel dump that
// can be read, and the next step for its owner.
type UnsupportedError struct {
	Is   string // "a user-mode minidump"
	Next string // "open it with a user-mode debugger; gokd reads kernel dumps"
}

func (e *UnsupportedError) Error() string { return "this is " + e.Is + ": " + e.Next }

// Machine types of the header (IMAGE_FILE_MACHINE_*).
const (
	MachineX64   = 0x8664
	MachineARM64 = 0xaa64
	MachineX86   = 0x14c
)

// Dump is an opened container: header facts and captured memory.
type Dump struct {
	Format string // "64-bit full dump", "64-bit kernel bitmap dump", "64-bit triage dump" ...
	Type   uint32 // DumpType of the header
	Size   int64  // bytes in the file

	Machine       uint16
	Major, Build  uint32 // MajorVersion (0xf free, 0xc checked) and MinorVersion of the header
	Processors    uint32
	DTB           mem.PA
	DebugData     mem.VA // KdDebuggerDataBlock
	LoadedModules mem.VA // PsLoadedModuleList
	ActiveProcs   mem.VA // PsActiveProcessHead
	PfnDatabase   mem.VA // address of MmPfnDatabase

	BugCheck      uint32
	BugCheckArgs  [4]uint64
	Context       []byte // raw CONTEXT of the header, for the machine; nil where absent
	Exception     []byte // raw EXCEPTION_RECORD64; nil where absent
	SystemTime    uint64 // FILETIME; 0 where absent
	UpTime        uint64 // 100 ns units; 0 where absent
	ProductType   uint32 // 0 where absent
	SuiteMask     uint32
	Attributes    uint32 // DUMP_HEADER64.Attributes, 0 where absent
	Live          bool   // made on a running machine, not by a crash
	Unverified    string // why this container's layout is not certain; empty where it is
	Comment       string
	RequiredSpace uint64 // bytes the writer meant to write; 0 where absent
	PagesExpected uint64 // pages the header promises
	PagesPresent  uint64 // pages the file holds

	Physical  mem.Physical // nil for a triage dump
	Virtual   mem.Virtual  // the captured blocks of a triage dump, else nil
	Triage    *Triage      // of a triage dump, else nil
	Secondary []Secondary  // secondary data streams ("DumpBlob")

	Warnings []string // oddities that were tolerated

	header  func() []HeaderField // nil where the container has none
	closer  io.Closer
	changed func() error // looks at the file again; nil where there is none
}

// Header gives the numbers of the container's headers as they stand in the file;
// nil where it has none.
func (d *Dump) Header() []HeaderField {
	if d.header == nil {
		return nil
	}
	return d.header()
}

// Close releases the file. Slices handed out before are invalid afterwards, and
// no read may be under way.
func (d *Dump) Close() error {
	if d.closer == nil {
		return nil
	}
	return d.closer.Close()
}

// Changed tells whether the file behind the dump is still the one that was
// opened: an error, of class ErrUnreadable, names a new size or time. A read
// that fails is always reported; this finds the rest: a file that was written
// to, or cut inside a page, where the map shows zeros.
func (d *Dump) Changed() error {
	if d.changed == nil {
		return nil
	}
	return d.changed()
}

// maxWarnings bounds Warnings: a file that is wrong everywhere says so once.
const maxWarnings = 64

func (d *Dump) warn(format string, args ...any) {
	switch n := len(d.Warnings); {
	case n < maxWarnings:
		d.Warnings = append(d.Warnings, fmt.Sprintf(format, args...))
	case n == maxWarnings:
		d.Warnings = append(d.Warnings, "further warnings are left out")
	}
}

// Triage is what a triage dump holds besides memory blocks.
type Triage struct {
	Drivers     []Driver
	Unloaded    []UnloadedDriver
	Prcb        []byte // copy of the crashing processor's KPRCB; nil where absent
	Process     []byte // copy of its EPROCESS
	Thread      []byte // copy of its ETHREAD
	StackTop    mem.VA // address of the first byte of Stack
	Stack       []byte
	DebugData   []byte // copy of the debugger data block
	Blocks      []Block
	Memory      *Blocks // Dump.Virtual by its own type: more copies can be added to it
	Overflowed  bool    // the writer ran out of room
	ServicePack uint32
}

// Block is a captured piece of virtual memory.
type Block struct {
	VA     mem.VA
	Size   uint32 // bytes
	Offset int64  // in the file
}

// Driver is a loaded image as a triage dump's driver list has it.
type Driver struct {
	Name      string // full path as stored
	Base      mem.VA
	Entry     mem.VA
	Size      uint32
	CheckSum  uint32
	Timestamp uint32
}

// UnloadedDriver is an image that was unloaded before the crash.
type UnloadedDriver struct {
	Name       string // cut by the writer to 12 characters
	Start, End mem.VA
}

// Secondary is one secondary data stream.
type Secondary struct {
	Tag  [16]byte // GUID
	Data func() ([]byte, error)
	Size uint32 // bytes
}

// Unwrap makes every UnsupportedError an ErrFormat.
func (e *UnsupportedError) Unwrap() error { return ErrFormat }
