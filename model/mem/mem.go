// Package mem reads the memory of a dumped machine: physical pages as a
// container captured them, and virtual addresses through page tables.
//
// It knows hardware (page-table formats, canonical addresses) and the software
// forms that Windows gives to non-present page-table entries; it knows no
// kernel structure, symbol or object. Everything it reads may lie, so every
// read is bounded and a hole is a typed result, a *Fault, never a panic.
package mem

import (
	"errors"
	"fmt"
	"iter"
)

// PageSize is the size of a small page in bytes, on every architecture read here.
const PageSize = 0x1000

// VA is a virtual address.
type VA uint64

// PA is a physical address.
type PA uint64

// String gives the address as kd prints a pointer: 16 hex digits, no prefix.
func (v VA) String() string { return fmt.Sprintf("%016x", uint64(v)) }

// String gives the address as hex with a prefix.
func (p PA) String() string { return fmt.Sprintf("%#x", uint64(p)) }

// Page gives the address of the page that holds v.
func (v VA) Page() VA { return v &^ (PageSize - 1) }

// Run is one extent of captured physical memory, in bytes.
type Run struct {
	Base PA
	Size uint64
}

// Physical is captured physical memory.
type Physical interface {
	// ReadPhysical reads len(p) bytes at the address. Like io.ReaderAt,
	// n < len(p) implies an error; a hole gives a *Fault.
	ReadPhysical(p []byte, at PA) (n int, err error)
	// Runs yields the captured extents: sorted, non-overlapping, non-empty.
	Runs() iter.Seq[Run]
}

// Slicer is implemented by a Physical that can hand out its bytes without a
// copy. The slice is valid until the dump is closed and must not be written.
// ok is false where the range is not wholly captured in one piece.
type Slicer interface {
	SlicePhysical(at PA, n int) (b []byte, ok bool)
}

// Guarder is implemented by a Physical whose slices may lie in a memory map.
// Guard runs f and turns a memory fault in it (the file shrank, its disk fails)
// into an error; use slices inside f only. It holds for the calling goroutine.
type Guarder interface {
	Guard(f func() error) error
}

// Offsetter is implemented by a Physical that can tell where in the file a
// page lies, so that a scan may read in file order.
type Offsetter interface {
	FileOffset(at PA) (off int64, ok bool)
}

// Virtual is memory addressed by virtual address. The contract of ReadVirtual
// is that of ReadPhysical.
type Virtual interface {
	ReadVirtual(p []byte, at VA) (n int, err error)
}

// FaultKind tells why an address could not be read.
type FaultKind uint8

// The three kinds of "not there".
const (
	NotCaptured  FaultKind = iota + 1 // the machine had it, the dump does not
	NotPresent                        // the page tables map nothing there
	NonCanonical                      // no address of this architecture
)

// The classes behind a *Fault, for errors.Is.
var (
	ErrNotCaptured  = errors.New("page not in dump")
	ErrNotPresent   = errors.New("page not present")
	ErrNonCanonical = errors.New("address not canonical")
)

// Level names a level of the page tables; LevelNone where none is to blame.
type Level uint8

// The levels of x64 page tables, from the root.
const (
	LevelNone Level = iota
	LevelPTE
	LevelPDE
	LevelPPE
	LevelPXE
)

// String gives the level as kd's !pte names it.
func (l Level) String() string {
	switch l {
	case LevelPTE:
		return "PTE"
	case LevelPDE:
		return "PDE"
	case LevelPPE:
		return "PPE"
	case LevelPXE:
		return "PXE"
	}
	return "none"
}

// Fault is a hole in memory: which address, why, and at which level.
type Fault struct {
	Kind  FaultKind
	VA    VA     // the first address that could not be read; 0 for a physical read
	PA    PA     // the physical address, where one was found
	Level Level  // the level whose entry ended the walk
	Entry uint64 // that entry
	Why   string // more about it: "paged out (page file 0, offset 0x1234)"; may be empty
}

// Error gives the address, the class and the reason in one line.
func (f *Fault) Error() string {
	at := fmt.Sprintf("%#x", uint64(f.VA))
	if f.VA == 0 && f.PA != 0 {
		at = fmt.Sprintf("physical %#x", uint64(f.PA))
	}
	msg := at + ": " + f.Unwrap().Error()
	if f.Level != LevelNone {
		msg += fmt.Sprintf(" (%s %#x", f.Level, f.Entry)
		if f.Why != "" {
			msg += ": " + f.Why
		}
		return msg + ")"
	}
	if f.Why != "" {
		msg += " (" + f.Why + ")"
	}
	return msg
}

// Unwrap gives the class: ErrNotCaptured, ErrNotPresent or ErrNonCanonical.
func (f *Fault) Unwrap() error {
	switch f.Kind {
	case NotPresent:
		return ErrNotPresent
	case NonCanonical:
		return ErrNonCanonical
	}
	return ErrNotCaptured
}

// Step is one level of a translation: which entry was read and where.
type Step struct {
	Level  Level
	At     PA // physical address of the entry
	Value  uint64
	Format string // "hardware", "transition", "prototype", "software"
}

// Translation is the physical page behind a virtual address.
type Translation struct {
	PA       PA     // the physical address of the byte itself
	PageSize uint64 // 4 KB, 2 MB or 1 GB
	Zero     bool   // a demand-zero page: it reads as zeros and has no PA
	Steps    []Step // the levels walked, root first; only filled by TranslateSteps
}
