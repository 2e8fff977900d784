package pdb

import (
	"fmt"
)

// dbi is the debug information stream: which streams hold the symbols, which
// modules went into the image, where the image's sections are (LLVM
// docs/PDB/DbiStream.rst).
type dbi struct {
	s        *stream
	age      uint32
	globals  uint32 // streams
	publics  uint32
	records  uint32
	flags    uint16
	machine  uint16
	modules  span
	contribs span
	debug    [16]uint32 // the streams of the optional debug header; noStream where absent
	sections []Section
	orig     []Section // before the image was rearranged, with fromSrc
	fromSrc  *stream   // maps addresses in orig to sections; nil for most images
	toSrc    *stream
}

// span is a part of a stream.
type span struct{ off, end uint32 }

// The order of streams in the optional debug header.
const (
	debugOmapToSrc      = 3
	debugOmapFromSrc    = 4
	debugSections       = 5
	debugSectionsBefore = 10
)

// flagStripped says that private symbols were left out.
const flagStripped = 2

// Section is a section of the image.
type Section struct {
	Name            string
	VirtualAddress  uint32 // bytes from the image's base
	VirtualSize     uint32
	Characteristics uint32 // IMAGE_SCN_...
}

const (
	dbiHeaderSize = 0x40
	versionDBI    = 19970606 // V60; V70 is 19990903; what is older has another header
	sectionSize   = 40       // IMAGE_SECTION_HEADER
	maxSections   = 1 << 12
	sectionExec   = 0x20000000 // IMAGE_SCN_MEM_EXECUTE
)

// readDBI reads the header of the debug information; nil where there is none,
// as in a database of types only.
func (m *msf) readDBI() (*dbi, error) {
	s, ok := m.stream(streamDBI)
	if !ok || s.size == 0 {
		return nil, nil
	}
	head, err := s.view(0, dbiHeaderSize)
	if err != nil {
		return nil, err
	}
	if sig, version := le32(head), le32(head[4:]); sig != 0xffffffff || version < versionDBI {
		return nil, fmt.Errorf("signature %#x, version %d: want 0xffffffff, %d or later", sig, version, versionDBI)
	}
	d := &dbi{
		s: s, age: le32(head[8:]),
		globals: uint32(le16(head[0xc:])), publics: uint32(le16(head[0x10:])), records: uint32(le16(head[0x14:])),
		flags: le16(head[0x38:]), machine: le16(head[0x3a:]),
	}
	// The parts follow each other in this order: modules, contributions, section
	// map, source files, type servers, edit and continue, debug header.
	at := uint64(dbiHeaderSize)
	var parts [7]span
	for i, field := range [7]int{0x18, 0x1c, 0x20, 0x24, 0x28, 0x34, 0x30} {
		size := uint64(le32(head[field:]))
		if at+size > uint64(s.size) {
			return nil, fmt.Errorf("part %d of %#x bytes at %#x: stream has %#x bytes", i, size, at, s.size)
		}
		parts[i] = span{uint32(at), uint32(at + size)}
		at += size
	}
	d.modules, d.contribs = parts[0], parts[1]
	return d, d.readDebugHeader(parts[6])
}

// readDebugHeader reads the numbers of further streams and the sections.
func (d *dbi) readDebugHeader(part span) error {
	for i := range d.debug {
		d.debug[i] = noStream
		if at := part.off + 2*uint32(i); at+2 <= part.end {
			b, err := d.s.view(at, 2)
			if err != nil {
				return err
			}
			d.debug[i] = uint32(le16(b))
		}
	}
	var err error
	if d.sections, err = d.readSections(d.debug[debugSections]); err != nil {
		return fmt.Errorf("section headers: %w", err)
	}
	if d.orig, err = d.readSections(d.debug[debugSectionsBefore]); err != nil {
		return fmt.Errorf("original section headers: %w", err)
	}
	if s, ok := d.s.m.stream(d.debug[debugOmapFromSrc]); ok && s.size >= omapSize && d.orig != nil {
		d.fromSrc = s
	}
	if s, ok := d.s.m.stream(d.debug[debugOmapToSrc]); ok && s.size >= omapSize && d.orig != nil {
		d.toSrc = s
	}
	return nil
}

func (d *dbi) readSections(num uint32) ([]Section, error) {
	s, ok := d.s.m.stream(num)
	if !ok {
		return nil, nil
	}
	n := s.size / sectionSize
	if n > maxSections {
		return nil, fmt.Errorf("%d sections, at most %d", n, maxSections)
	}
	var all []Section
	for i := range n {
		b, err := s.view(i*sectionSize, sectionSize)
		if err != nil {
			return nil, err
		}
		name := string(cString(b[:8]))
		all = append(all, Section{name, le32(b[12:]), le32(b[8:]), le32(b[36:])})
	}
	return all, nil
}

// cString cuts at the first zero byte.
func cString(b []byte) []byte {
	for i, c := range b {
		if c == 0 {
			return b[:i]
		}
	}
	return b
}

// rva gives the address of an offset in a section, numbered from 1; false where
// it lies in no section, or in code that was thrown away. The sections and
// offsets of an image that was rearranged after linking are those from before.
func (d *dbi) rva(seg uint16, off uint32) (uint32, bool) {
	sections := d.sections
	if d.fromSrc != nil {
		sections = d.orig
	}
	if seg == 0 || int(seg) > len(sections) {
		return 0, false
	}
	rva := sections[seg-1].VirtualAddress + off
	if rva < off {
		return 0, false
	}
	if d.fromSrc != nil {
		return mapAddress(d.fromSrc, rva)
	}
	return rva, true
}

// place gives the section and offset of an address, as records spell it; the
// inverse of rva.
func (d *dbi) place(rva uint32) (seg uint16, off uint32, ok bool) {
	sections := d.sections
	if d.toSrc != nil {
		sections = d.orig
		if rva, ok = mapAddress(d.toSrc, rva); !ok {
			return 0, 0, false
		}
	}
	for i, s := range sections {
		if off := rva - s.VirtualAddress; rva >= s.VirtualAddress && off < max(s.VirtualSize, 1) {
			return uint16(i + 1), off, true
		}
	}
	return 0, 0, false
}

// omapSize is the size of an entry of an address map: where something was and
// where it went, 0 for nowhere. Entries are sorted by the first, and an address
// between two moves as the entry below it does (the public documentation of
// OMAP in dbghelp.h; volatility3's pdbconv).
const omapSize = 8

// mapAddress looks an address up in an address map by binary search.
func mapAddress(s *stream, rva uint32) (uint32, bool) {
	lo, hi := uint32(0), s.size/omapSize
	for lo < hi {
		mid := (lo + hi) / 2
		b, err := s.view(mid*omapSize, omapSize)
		if err != nil {
			return 0, false
		}
		if le32(b) <= rva {
			lo = mid + 1
		} else {
			hi = mid
		}
	}
	if lo == 0 {
		return 0, false
	}
	b, err := s.view((lo-1)*omapSize, omapSize)
	if err != nil {
		return 0, false
	}
	from, to := le32(b), le32(b[4:])
	if to == 0 || to+(rva-from) < to {
		return 0, false
	}
	return to + (rva - from), true
}
