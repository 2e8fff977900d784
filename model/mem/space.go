package mem

import (
	"encoding/binary"
	"errors"
	"io"
	"iter"
	"sync/atomic"
)

// SoftPTE says how Windows wrote the entries that the hardware ignores.
//
// Two generations exist (the update of August 2018 against the L1 terminal
// fault changed every supported build): in the old one the page-file number is
// in bits 1-4 and addresses are stored as they are; in the new one it is in
// bits 12-15, and bit 4 clear means that the address bits are XORed with the
// machine's invalid mask, so that a processor speculates on no real page.
type SoftPTE struct {
	Swizzled    bool   // the new generation
	InvalidMask uint64 // MiInvalidPteMask; 0 where unknown: bit 45 is assumed
	// Unknown: this build writes such entries in neither form. What the hardware
	// reads can be read, nothing else.
	Unknown bool
}

// defaultInvalidMask is what Windows uses on Intel machines with less than
// 32 TB of memory: physical address bit 45.
const defaultInvalidMask = 1 << 45

// overlay is memory that stands in where the dump has a hole, such as the
// read-only sections of an image file.
type overlay struct {
	at   VA
	size uint64
	from Virtual
}

// Space is one virtual address space of the target. Its read methods are safe
// for concurrent use; its configuration is not, and is done while loading.
type Space struct {
	phys     Physical
	root     PA
	flat     Virtual // instead of page tables, for containers of virtual blocks
	soft     SoftPTE
	overlays []overlay
	cache    *[cacheSlots]atomic.Pointer[region]
}

// NewX64 gives the address space whose 4-level page tables start at root.
// The low 12 bits of root (process-context identifier, flags) are ignored.
func NewX64(phys Physical, root PA) *Space {
	return &Space{phys: phys, root: root & entryMask, cache: new([cacheSlots]atomic.Pointer[region])}
}

// NewFlat gives an address space without page tables, over captured blocks of
// virtual memory.
func NewFlat(v Virtual) *Space { return &Space{flat: v} }

// WithRoot gives another address space of the same machine.
func (s *Space) WithRoot(root PA) *Space {
	if s.flat != nil {
		return s
	}
	n := NewX64(s.phys, root)
	n.soft, n.overlays = s.soft, s.overlays
	return n
}

// SetSoftPTE sets the generation of software page-table entries.
func (s *Space) SetSoftPTE(p SoftPTE) {
	s.soft = p
	// A page table found through a software entry may be another one now.
	if s.cache != nil {
		s.cache = new([cacheSlots]atomic.Pointer[region])
	}
}

// AddOverlay lets from answer for [at, at+size) where the dump has a hole.
func (s *Space) AddOverlay(at VA, size uint64, from Virtual) {
	s.overlays = append(s.overlays, overlay{at, size, from})
}

// Physical gives the physical memory below, nil where there is none.
func (s *Space) Physical() Physical { return s.phys }

// Captured visits the captured blocks of a space without page tables, in order
// of address and in pieces of at most 1 MB, until visit returns false; nil bytes
// mean that the file could not be read there. It reports false where the space
// cannot list what it holds.
func (s *Space) Captured(visit func(at VA, b []byte) bool) bool {
	list, ok := s.flat.(interface{ All() iter.Seq2[VA, []byte] })
	if !ok {
		return false
	}
	for at, b := range list.All() {
		if !visit(at, b) {
			break
		}
	}
	return true
}

// Root gives the physical address of the top page table; 0 without page tables.
func (s *Space) Root() PA { return s.root }

// Paged reports whether the space has page tables.
func (s *Space) Paged() bool { return s.flat == nil }

const wraps = "range wraps around the address space"

// ReadVirtual reads len(p) bytes at an address. n < len(p) implies an error;
// a hole gives a *Fault that names the first address missing.
func (s *Space) ReadVirtual(p []byte, at VA) (n int, err error) {
	for n < len(p) {
		va := at + VA(n)
		if va < at {
			return n, &Fault{Kind: NonCanonical, VA: at, Why: wraps}
		}
		chunk := min(len(p)-n, int(PageSize-uint64(va)%PageSize))
		m, err := s.readPiece(p[n:n+chunk], va)
		n += m
		if err != nil {
			return n, err
		}
	}
	return n, nil
}

// readPiece reads bytes of one page, from the dump or else from an overlay.
func (s *Space) readPiece(p []byte, at VA) (n int, err error) {
	if s.flat != nil {
		n, err = s.flat.ReadVirtual(p, at)
	} else {
		n, err = s.readPaged(p, at)
	}
	if err == nil || len(s.overlays) == 0 {
		return n, err
	}
	for _, o := range s.overlays {
		at := at + VA(n)
		if at < o.at || uint64(at-o.at) >= o.size {
			continue
		}
		rest := p[n:]
		if left := o.size - uint64(at-o.at); uint64(len(rest)) > left {
			rest = rest[:left]
		}
		m, oerr := o.from.ReadVirtual(rest, at)
		n += m
		if n == len(p) {
			return n, nil
		}
		if m > 0 {
			err = holeAt(oerr, err, at+VA(m))
		}
	}
	return n, err
}

// holeAt makes the error of a read that went on behind a hole name the next one.
func holeAt(next, first error, at VA) error {
	if next != nil {
		return next
	}
	var f *Fault
	if errors.As(first, &f) {
		return &Fault{Kind: f.Kind, VA: at, Why: f.Why}
	}
	return first
}

func (s *Space) readPaged(p []byte, at VA) (int, error) {
	t, err := s.Translate(at)
	if err != nil {
		return 0, err
	}
	if t.Zero {
		clear(p)
		return len(p), nil
	}
	n, err := s.phys.ReadPhysical(p, t.PA)
	if err != nil {
		return n, captureFault(err, at+VA(n), t.PA+PA(n))
	}
	return n, nil
}

// captureFault turns a physical fault into one that names the virtual address.
func captureFault(err error, at VA, pa PA) error {
	var f *Fault
	if errors.As(err, &f) {
		return &Fault{Kind: f.Kind, VA: at, PA: pa, Why: f.Why}
	}
	return err
}

// Bytes reads n bytes at an address. What could be read is returned with the
// error. n is limited to MaxRead.
func (s *Space) Bytes(at VA, n int) ([]byte, error) {
	if n < 0 || n > MaxRead {
		return nil, &Fault{Kind: NonCanonical, VA: at, Why: "read of unreasonable length"}
	}
	b := make([]byte, n)
	n, err := s.ReadVirtual(b, at)
	return b[:n], err
}

// MaxRead is the most that Bytes reads at once.
const MaxRead = 64 << 20

// Uint64 reads a little-endian quantity.
func (s *Space) Uint64(at VA) (uint64, error) {
	var b [8]byte
	_, err := s.ReadVirtual(b[:], at)
	return binary.LittleEndian.Uint64(b[:]), err
}

// Uint32 reads a little-endian quantity.
func (s *Space) Uint32(at VA) (uint32, error) {
	var b [4]byte
	_, err := s.ReadVirtual(b[:], at)
	return binary.LittleEndian.Uint32(b[:]), err
}

// Uint16 reads a little-endian quantity.
func (s *Space) Uint16(at VA) (uint16, error) {
	var b [2]byte
	_, err := s.ReadVirtual(b[:], at)
	return binary.LittleEndian.Uint16(b[:]), err
}

// Uint8 reads a byte.
func (s *Space) Uint8(at VA) (uint8, error) {
	var b [1]byte
	_, err := s.ReadVirtual(b[:], at)
	return b[0], err
}

// Pointer reads an address.
func (s *Space) Pointer(at VA) (VA, error) {
	v, err := s.Uint64(at)
	return VA(v), err
}

// CString reads bytes up to a NUL, at most max. A string without a NUL in
// reach is returned as far as it goes, without an error.
func (s *Space) CString(at VA, max int) (string, error) {
	b := make([]byte, 0, min(max, 256))
	for len(b) < max {
		var piece [64]byte
		va := at + VA(len(b))
		if va < at {
			return string(b), &Fault{Kind: NonCanonical, VA: at, Why: wraps}
		}
		n := min(len(piece), max-len(b), int(PageSize-uint64(va)%PageSize))
		m, err := s.ReadVirtual(piece[:n], va)
		for i, c := range piece[:m] {
			if c == 0 {
				return string(append(b, piece[:i]...)), nil
			}
		}
		b = append(b, piece[:m]...)
		if err != nil {
			return string(b), err
		}
	}
	return string(b), nil
}

// Readable reports whether all n bytes at an address can be read.
func (s *Space) Readable(at VA, n int) bool {
	var piece [256]byte
	for n > 0 {
		m := min(n, len(piece))
		if _, err := s.ReadVirtual(piece[:m], at); err != nil {
			return false
		}
		at, n = at+VA(m), n-m
	}
	return true
}

// ReaderAt gives the space as an io.ReaderAt whose offset 0 is at base, limited
// to size bytes, for parsers of images in memory.
func (s *Space) ReaderAt(base VA, size uint64) io.ReaderAt { return &window{s, base, size} }

type window struct {
	s    *Space
	base VA
	size uint64
}

func (w *window) ReadAt(p []byte, off int64) (int, error) {
	if off < 0 || uint64(off) >= w.size {
		return 0, io.EOF
	}
	short := uint64(len(p)) > w.size-uint64(off)
	if short {
		p = p[:w.size-uint64(off)]
	}
	n, err := w.s.ReadVirtual(p, w.base+VA(off))
	if err == nil && short {
		err = io.EOF
	}
	return n, err
}

var (
	_ Virtual    = (*Space)(nil)
	_ Translator = (*Space)(nil)
)

// Translator finds the physical page behind a virtual address.
type Translator interface {
	Translate(at VA) (Translation, error)
}
