package pdb

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
)

// Line is a piece of code that comes from one line of a source file.
type Line struct {
	File string // as the compiler was told
	Line uint32
	RVA  uint32
	Size uint32 // bytes
}

// contribution says which module a piece of a section comes from.
type contribution struct {
	seg       uint16
	module    uint16
	off, size uint32
}

// contributions is sorted by section and offset.
type contributions struct {
	all     []contribution
	modules []Module // without names
	err     error
}

const (
	contribV1  = 0xeffe0000 + 19970605 // LLVM docs/PDB/DbiStream.rst
	contribV2  = 0xeffe0000 + 20140516
	maxContrib = 1 << 20
)

// readContributions reads which modules the code comes from.
func (f *File) readContributions() *contributions {
	c := &contributions{}
	if f.dbi == nil {
		return c
	}
	part, s := f.dbi.contribs, f.dbi.s
	if part.end-part.off < 4 {
		return c
	}
	head, err := s.view(part.off, 4)
	if err != nil {
		return &contributions{err: err}
	}
	each := uint32(28)
	switch version := le32(head); version {
	case contribV1:
	case contribV2:
		each = 32
	default:
		return &contributions{err: fmt.Errorf("section contributions: version %#x", version)}
	}
	for at := part.off + 4; uint64(at)+uint64(each) <= uint64(part.end) && len(c.all) < maxContrib; at += each {
		b, err := s.view(at, each)
		if err != nil {
			return &contributions{err: err}
		}
		c.all = append(c.all, contribution{seg: le16(b), off: le32(b[4:]), size: le32(b[8:]), module: le16(b[16:])})
	}
	slices.SortFunc(c.all, func(a, b contribution) int {
		return cmp.Or(cmp.Compare(a.seg, b.seg), cmp.Compare(a.off, b.off))
	})
	c.err = f.eachModule(func(m *Module) bool {
		m.Name, m.Object = "", ""
		c.modules = append(c.modules, *m)
		return true
	})
	return c
}

// find gives the module that a place comes from.
func (c *contributions) find(seg uint16, off uint32) (*Module, bool) {
	i, exact := slices.BinarySearchFunc(c.all, contribution{seg: seg, off: off}, func(a, b contribution) int {
		return cmp.Or(cmp.Compare(a.seg, b.seg), cmp.Compare(a.off, b.off))
	})
	if !exact {
		i--
	}
	if i < 0 || c.all[i].seg != seg || off-c.all[i].off >= c.all[i].size || int(c.all[i].module) >= len(c.modules) {
		return nil, false
	}
	return &c.modules[c.all[i].module], true
}

// ErrNoLines is the reason of Lines and LineAt where the database has no line
// numbers for an address.
var ErrNoLines = errors.New("no line numbers")

// LineAt gives the source line that the code at an address comes from.
func (f *File) LineAt(rva uint32) (Line, error) {
	all, err := f.Lines(rva)
	if err != nil {
		return Line{}, err
	}
	for _, l := range all {
		if rva-l.RVA < l.Size {
			return l, nil
		}
	}
	return Line{}, fmt.Errorf("address %#x: %w", rva, ErrNoLines)
}

// SourceLine is LineAt for users that know this package by an interface of their
// own: the file, the line, and how far the address is behind the line's start.
func (f *File) SourceLine(rva uint32) (file string, line, delta uint32, ok bool) {
	l, err := f.LineAt(rva)
	return l.File, l.Line, rva - l.RVA, err == nil
}

// Lines gives the lines of the function that an address lies in, or of the
// piece of one that its compiler put there, sorted by address. The error wraps
// [ErrNoLines] where the database has none, as those without private symbols.
func (f *File) Lines(rva uint32) ([]Line, error) {
	if f.dbi == nil {
		return nil, fmt.Errorf("address %#x: %w", rva, ErrNoLines)
	}
	c := f.contribs()
	seg, off, ok := f.dbi.place(rva)
	if !ok {
		return nil, fmt.Errorf("address %#x: in no section: %w", rva, ErrNoLines)
	}
	m, ok := c.find(seg, off)
	if !ok {
		if c.err != nil {
			return nil, fmt.Errorf("address %#x: %w", rva, c.err)
		}
		return nil, fmt.Errorf("address %#x: of no module: %w", rva, ErrNoLines)
	}
	lines, err := f.moduleLines(m, seg, off)
	if err == nil && len(lines) == 0 {
		err = ErrNoLines
	}
	if err != nil {
		return nil, fmt.Errorf("address %#x: module %d: %w", rva, m.number, err)
	}
	return lines, nil
}

// The parts of a module's C13 lines (LLVM CodeView.h, DebugSubsectionKind).
const (
	partLines     = 0xf2
	partChecksums = 0xf4
	partIgnore    = 0x80000000
	linesColumns  = 1        // flag of partLines: columns follow
	hiddenLine    = 0xf00000 // 0xfeefee and 0xf00f00 stand for code without a line
	lineMask      = 0xffffff
)

// moduleLines finds the lines around a place in a module: two passes over its
// parts, as names of files come in another part than lines.
func (f *File) moduleLines(m *Module, seg uint16, off uint32) ([]Line, error) {
	s, ok := f.m.stream(m.stream)
	if !ok {
		return nil, nil
	}
	from := uint64(m.syms) + uint64(m.old)
	if from+uint64(m.lines) > uint64(s.size) {
		return nil, fmt.Errorf("lines of %#x bytes at %#x: stream has %#x", m.lines, from, s.size)
	}
	part, found := span{}, false
	sums := span{}
	err := s.parts(uint32(from), uint32(from)+m.lines, func(kind uint32, body span) error {
		switch kind {
		case partChecksums:
			sums = body
		case partLines:
			if found || body.end-body.off < linesHeader {
				return nil
			}
			b, err := s.view(body.off, linesHeader)
			if err != nil {
				return err
			}
			if le16(b[4:]) == seg && off-le32(b) < le32(b[8:]) {
				part, found = body, true
			}
		}
		return nil
	})
	if err != nil || !found {
		return nil, err
	}
	return f.lineBlocks(s, part, sums)
}

// parts visits the parts of C13 lines: kind, length and body, padded.
func (s *stream) parts(at, end uint32, visit func(kind uint32, body span) error) error {
	for uint64(at)+8 <= uint64(end) {
		b, err := s.view(at, 8)
		if err != nil {
			return err
		}
		kind, size := le32(b), le32(b[4:])
		at += 8
		if uint64(at)+uint64(size) > uint64(end) {
			return fmt.Errorf("part %#x of %#x bytes at %#x: %w", kind, size, at, errShort)
		}
		if kind&partIgnore == 0 {
			if err := visit(kind, span{at, at + size}); err != nil {
				return err
			}
		}
		next := uint64(at) + uint64(size)
		at = uint32(min((next+3)&^3, uint64(end)))
	}
	return nil
}

const (
	linesHeader = 12 // offset, section, flags and bytes of the code
	blockHeader = 12 // file, count and bytes of the lines of one file
	maxLines    = 1 << 20
	maxFiles    = 1 << 12 // of one function
)

// lineBlocks reads the lines of a piece of code, file by file.
func (f *File) lineBlocks(s *stream, part, sums span) ([]Line, error) {
	head, err := s.view(part.off, linesHeader)
	if err != nil {
		return nil, err
	}
	start, seg, size := le32(head), le16(head[4:]), le32(head[8:])
	var all []Line
	names := map[uint32]string{}
	for at := part.off + linesHeader; uint64(at)+blockHeader <= uint64(part.end); {
		b, err := s.view(at, blockHeader)
		if err != nil {
			return nil, err
		}
		file, count, bytes := le32(b), le32(b[4:]), le32(b[8:])
		if bytes < blockHeader || uint64(at)+uint64(bytes) > uint64(part.end) || uint64(count)*8 > uint64(bytes-blockHeader) {
			return nil, fmt.Errorf("%d lines in %#x bytes at %#x", count, bytes, at)
		}
		if len(all)+int(count) > maxLines {
			return nil, fmt.Errorf("more than %d lines in one function", maxLines)
		}
		name, known := names[file]
		if !known && count > 0 && len(names) < maxFiles {
			name = f.sourceFile(s, sums, file)
			names[file] = name
		}
		for i := range count {
			l, err := s.view(at+blockHeader+8*i, 8)
			if err != nil {
				return nil, err
			}
			all = append(all, Line{File: name, Line: le32(l[4:]) & lineMask, RVA: le32(l)})
		}
		at += bytes
	}
	return f.measure(all, seg, start, size), nil
}

// measure turns offsets in a piece of code into addresses, and gives each line
// the bytes up to the next one. Code without a line of its own goes.
func (f *File) measure(all []Line, seg uint16, start, size uint32) []Line {
	slices.SortStableFunc(all, func(a, b Line) int { return cmp.Compare(a.RVA, b.RVA) })
	kept := all[:0]
	for i, l := range all {
		end := size
		if i+1 < len(all) {
			end = min(end, all[i+1].RVA)
		}
		rva, ok := f.dbi.rva(seg, start+l.RVA)
		if !ok || l.RVA >= end || l.Line >= hiddenLine {
			continue
		}
		l.RVA, l.Size = rva, end-l.RVA
		kept = append(kept, l)
	}
	return kept
}

// sourceFile gives the name of a file: lines name an entry of the checksums,
// and that a place in the stream of strings.
func (f *File) sourceFile(s *stream, sums span, entry uint32) string {
	at := uint64(sums.off) + uint64(entry)
	if f.strings == nil || at+4 > uint64(sums.end) {
		return ""
	}
	b, err := s.view(uint32(at), 4)
	if err != nil {
		return ""
	}
	return f.stringAt(le32(b))
}

// stringsHeader is a signature, a version and the bytes of the strings (LLVM
// docs/PDB, the "/names" stream).
const stringsHeader = 12

func (f *File) stringAt(off uint32) string {
	head, err := f.strings.view(0, stringsHeader)
	if err != nil {
		return ""
	}
	size := le32(head[8:])
	if off >= size || uint64(stringsHeader)+uint64(size) > uint64(f.strings.size) {
		return ""
	}
	name, err := f.strings.text(stringsHeader+off, stringsHeader+size)
	if err != nil {
		return ""
	}
	return name
}
