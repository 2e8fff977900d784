package types

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"strings"
)

// RVAReader reads an image as it lies in memory. Like io.ReaderAt, n < len(p)
// implies an error: in a dump, any page of an image may be missing.
type RVAReader interface {
	ReadRVA(p []byte, rva uint32) (n int, err error)
}

// RVAReaderFunc makes an RVAReader of a function.
type RVAReaderFunc func(p []byte, rva uint32) (n int, err error)

// ReadRVA implements RVAReader.
func (f RVAReaderFunc) ReadRVA(p []byte, rva uint32) (int, error) { return f(p, rva) }

// ErrImage is the class of errors about images whose headers make no sense.
var ErrImage = errors.New("not a PE image")

// Limits of an image. The public PE format allows 96 sections; the linker
// writes 16 directories.
const (
	maxSections    = 96
	maxDirectories = 16
	maxNTHeader    = 1 << 20 // bytes before the PE signature
	maxImage       = 1 << 30 // bytes of SizeOfImage
	maxDebug       = 64      // entries of the debug directory
	maxPDBName     = 1 << 10 // bytes of a PDB's name in the image
)

// Numbers of directories, in the order of the optional header.
const (
	DirExport    = 0
	DirImport    = 1
	DirException = 3
	DirDebug     = 6
)

// Image is what the headers of a PE image say. Offsets are those of Microsoft's
// public "PE Format" specification; the RSDS record (signature, GUID, age, name)
// is as public readers such as LLVM's and saferwall/pe have it.
type Image struct {
	Machine         uint16
	Characteristics uint16
	Timestamp       uint32 // TimeDateStamp; since Windows 10 a hash in most system files
	Size            uint32 // SizeOfImage, bytes
	HeaderSize      uint32 // SizeOfHeaders, bytes
	CheckSum        uint32
	EntryPoint      uint32 // RVA, 0 for none
	Base            uint64 // preferred base address
	PE32Plus        bool   // 64-bit optional header
	Sections        []Section
	Directories     []Directory
	Debug           DebugID // zero where the image has none or it can't be read

	// Warnings tell what could not be read or makes no sense: a missing page
	// with the debug directory, an absurd directory.
	Warnings []error
}

// Section is one section of an image.
type Section struct {
	Name            string // at most 8 bytes; untrusted
	RVA             uint32
	VirtualSize     uint32 // bytes in memory
	RawOffset       uint32 // in the file
	RawSize         uint32 // bytes in the file
	Characteristics uint32
}

// Executable reports whether the section holds code (IMAGE_SCN_MEM_EXECUTE).
func (s Section) Executable() bool { return s.Characteristics&0x20000000 != 0 }

// Discardable reports whether the section's memory is given back after the
// driver's start (IMAGE_SCN_MEM_DISCARDABLE); what lies there then is not its.
func (s Section) Discardable() bool { return s.Characteristics&0x02000000 != 0 }

// Contains reports whether the section covers an RVA in memory.
func (s Section) Contains(rva uint32) bool {
	return rva >= s.RVA && rva-s.RVA < max(s.VirtualSize, s.RawSize)
}

// Directory is the place of one of the image's tables.
type Directory struct {
	RVA  uint32
	Size uint32 // bytes
}

// DebugID is the identity in an image's RSDS record.
type DebugID struct {
	PDB  string // file name, maybe with a path; untrusted
	GUID GUID
	Age  uint32
}

// Directory gives a directory by its number; false where there is none.
func (im *Image) Directory(n int) (Directory, bool) {
	if n < 0 || n >= len(im.Directories) || im.Directories[n].RVA == 0 || im.Directories[n].Size == 0 {
		return Directory{}, false
	}
	return im.Directories[n], true
}

// SectionAt gives the section that covers an RVA.
func (im *Image) SectionAt(rva uint32) (Section, bool) {
	for _, s := range im.Sections {
		if s.Contains(rva) {
			return s, true
		}
	}
	return Section{}, false
}

// ID gives the identity to look for symbols with; name is the loader's.
func (im *Image) ID(name string) ImageID {
	return ImageID{
		Name: name, PDB: im.Debug.PDB, GUID: im.Debug.GUID, Age: im.Debug.Age,
		Timestamp: im.Timestamp, Size: im.Size,
	}
}

// ParseImage reads an image's headers and its RSDS record. An error says that
// the headers are missing or no PE headers; anything less is a warning.
func ParseImage(r RVAReader) (*Image, error) {
	c := newPages(r)
	im, err := parseHeaders(c)
	if err != nil {
		return nil, fmt.Errorf("image headers: %w", err)
	}
	if err := im.parseDebug(c); err != nil {
		im.Warnings = append(im.Warnings, fmt.Errorf("debug directory: %w", err))
	}
	return im, nil
}

func parseHeaders(c *pages) (*Image, error) {
	dos, err := c.bytes(0, 0x40)
	if err != nil {
		return nil, err
	}
	if dos[0] != 'M' || dos[1] != 'Z' {
		return nil, fmt.Errorf("%w: starts with %#x", ErrImage, dos[:2])
	}
	nt := binary.LittleEndian.Uint32(dos[0x3c:]) // e_lfanew
	if nt > maxNTHeader {
		return nil, fmt.Errorf("%w: PE header at %#x", ErrImage, nt)
	}
	head, err := c.bytes(nt, 24) // signature and IMAGE_FILE_HEADER
	if err != nil {
		return nil, err
	}
	if string(head[:4]) != "PE\x00\x00" {
		return nil, fmt.Errorf("%w: signature %#x at %#x", ErrImage, head[:4], nt)
	}
	im := &Image{
		Machine:         binary.LittleEndian.Uint16(head[4:]),
		Timestamp:       binary.LittleEndian.Uint32(head[8:]),
		Characteristics: binary.LittleEndian.Uint16(head[22:]),
	}
	optSize := uint32(binary.LittleEndian.Uint16(head[20:]))
	if err := im.parseOptional(c, nt+24, optSize); err != nil {
		return nil, err
	}
	count := int(binary.LittleEndian.Uint16(head[6:]))
	if count > maxSections {
		im.Warnings = append(im.Warnings, fmt.Errorf("%d sections: at most %d", count, maxSections))
		count = maxSections
	}
	return im, im.parseSections(c, nt+24+optSize, count)
}

// parseOptional reads IMAGE_OPTIONAL_HEADER64 or its 32-bit form.
func (im *Image) parseOptional(c *pages, at, size uint32) error {
	if size < 96 {
		return fmt.Errorf("%w: optional header of %#x bytes", ErrImage, size)
	}
	opt, err := c.bytes(at, size)
	if err != nil {
		return err
	}
	le := binary.LittleEndian
	directories := 0
	switch magic := le.Uint16(opt); {
	case magic == 0x20b && size >= 112:
		im.PE32Plus = true
		im.Base = le.Uint64(opt[24:])
		directories = 112
	case magic == 0x10b:
		im.Base = uint64(le.Uint32(opt[28:]))
		directories = 96
	default:
		return fmt.Errorf("%w: optional header magic %#x of %#x bytes", ErrImage, magic, size)
	}
	im.EntryPoint = le.Uint32(opt[16:])
	im.Size = le.Uint32(opt[56:])
	im.HeaderSize = le.Uint32(opt[60:])
	im.CheckSum = le.Uint32(opt[64:])
	if im.Size == 0 || im.Size > maxImage {
		return fmt.Errorf("%w: SizeOfImage %#x", ErrImage, im.Size)
	}
	count := min(le.Uint32(opt[directories-4:]), maxDirectories)
	for dir := opt[directories:]; count > 0 && len(dir) >= 8; count-- {
		im.Directories = append(im.Directories, Directory{RVA: le.Uint32(dir), Size: le.Uint32(dir[4:])})
		dir = dir[8:]
	}
	return nil
}

// parseSections reads the section table, 40 bytes an entry.
func (im *Image) parseSections(c *pages, at uint32, count int) error {
	le := binary.LittleEndian
	for i := range uint32(count) {
		b, err := c.bytes(at+i*40, 40)
		if err != nil {
			im.Warnings = append(im.Warnings, fmt.Errorf("section %d of %d: %w", i, count, err))
			return nil
		}
		name, _, _ := bytes.Cut(b[:8], []byte{0})
		im.Sections = append(im.Sections, Section{
			Name:            string(name),
			VirtualSize:     le.Uint32(b[8:]),
			RVA:             le.Uint32(b[12:]),
			RawSize:         le.Uint32(b[16:]),
			RawOffset:       le.Uint32(b[20:]),
			Characteristics: le.Uint32(b[36:]),
		})
	}
	return nil
}

// parseDebug looks for the CodeView entry (type 2) of the debug directory.
func (im *Image) parseDebug(c *pages) error {
	dir, ok := im.Directory(DirDebug)
	if !ok {
		return nil
	}
	le := binary.LittleEndian
	for i := range min(dir.Size/28, maxDebug) {
		entry, err := c.bytes(dir.RVA+i*28, 28)
		if err != nil {
			return err
		}
		if le.Uint32(entry[12:]) != 2 {
			continue
		}
		size, at := le.Uint32(entry[16:]), le.Uint32(entry[20:])
		if size <= 24 {
			return fmt.Errorf("CodeView record of %#x bytes at %#x: want more than 0x18", size, at)
		}
		record, err := c.bytes(at, min(size, 24+maxPDBName))
		if err != nil {
			return err
		}
		if string(record[:4]) != "RSDS" {
			return fmt.Errorf("CodeView record at %#x: signature %#x", at, record[:4])
		}
		copy(im.Debug.GUID[:], record[4:20])
		im.Debug.Age = le.Uint32(record[20:])
		name, _, _ := strings.Cut(string(record[24:]), "\x00")
		im.Debug.PDB = name
		return nil
	}
	return nil
}
