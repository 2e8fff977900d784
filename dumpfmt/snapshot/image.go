package snapshot

import (
	"cmp"
	"fmt"
	"maps"
	"path"
	"slices"
	"strings"

	"gokd/model/mem"
	"gokd/model/types"
)

const maxImageSize = 64 << 20

// image is a loaded module: its sections, routines and variables.
type image struct {
	name, file, path string
	base             mem.VA
	size             uint32
	stamp, checksum  uint32
	id               types.ImageID
	entry            uint32

	funcs   map[string]*function
	sorted  []*function // by address, after planning
	vars    map[string]uint32
	dataEnd uint32
	imports map[*function]uint32 // routines of other images: their slots
	parts   []section
	ldr     mem.VA // loader entry
	spec    moduleSpec
}

// section is one section of an image; its bytes are made late.
type section struct {
	name     string
	rva, end uint32
	flags    uint32
	first    uint32 // lowest RVA of a template
}

// Section characteristics (Microsoft's "PE Format").
const (
	scnCode    = 0x68000020 // code, executable, readable, not pageable
	scnPage    = 0x60000020
	scnRead    = 0x48000040
	scnData    = 0xc8000040
	scnInit    = 0xe2000020 // discardable
	scnReloc   = 0x42000040
	scnExecute = 0x20000000
)

// Where the sections of a kernel image start; a driver's follow each other.
// The order is that of Windows 7 kernels, with POOLCODE in the first header
// page, by which memory forensics tells kernels from other images.
var kernelParts = []section{
	{name: ".text", first: 0x1000, flags: scnCode},
	{name: "POOLCODE", first: 0x19b000, flags: scnCode},
	{name: ".rdata", first: 0x1a0000, flags: scnRead},
	{name: ".data", first: 0x1e0000, flags: scnData},
	{name: ".pdata", first: 0x250000, flags: scnRead},
	{name: "PAGE", first: 0x2a0000, flags: scnPage},
	{name: "INIT", first: 0x500000, flags: scnInit},
	{name: ".reloc", first: 0x5d0000, flags: scnReloc},
}

var driverParts = []section{
	{name: ".text", first: 0x1000, flags: scnCode},
	{name: ".rdata", flags: scnRead},
	{name: ".data", flags: scnData},
	{name: ".pdata", flags: scnRead},
	{name: "INIT", flags: scnInit},
	{name: ".reloc", flags: scnReloc},
}

func newImage(spec moduleSpec) *image {
	file := spec.Image.s
	img := &image{
		file: file, name: strings.TrimSuffix(file, path.Ext(file)), spec: spec,
		base: mem.VA(spec.Base.v), size: uint32(min(spec.Size.v, maxImageSize+1)),
		funcs: map[string]*function{}, vars: map[string]uint32{}, imports: map[*function]uint32{},
	}
	img.parts = slices.Clone(driverParts)
	switch {
	case strings.EqualFold(file, kernelFile):
		img.name, img.parts = "nt", slices.Clone(kernelParts)
		img.path = `\SystemRoot\system32\` + file
		img.id.PDB = "ntkrnlmp.pdb"
	case strings.HasSuffix(strings.ToLower(file), ".dll"):
		img.path = `\SystemRoot\system32\` + file
	default:
		img.path = `\SystemRoot\system32\DRIVERS\` + file
	}
	if img.id.PDB == "" {
		img.id.PDB = img.name + ".pdb"
	}
	img.stamp = 0x4ce70000 + hashOf(file, "stamp")%0x1000000 // November 2010 to May 2011
	img.checksum = hashOf(file, "checksum") % 0x600000
	return img
}

func (img *image) kernel() bool { return img.name == "nt" }

// function gives a routine, made when first asked for.
func (img *image) function(name string, line int) *function {
	f := img.funcs[name]
	if f == nil {
		f = &function{img: img, name: name, frame: -1, sites: map[uint32]*function{}, stops: map[uint32]bool{}, line: line}
		img.funcs[name] = f
	}
	return f
}

func (img *image) part(name string) *section {
	for i := range img.parts {
		if img.parts[i].name == name {
			return &img.parts[i]
		}
	}
	return nil
}

// variable gives the RVA of a variable, placed in .data when first asked for.
// Offsets are relative until the section is placed; see address.
func (img *image) variable(name string, size, align uint32) {
	if _, ok := img.vars[name]; ok {
		return
	}
	img.dataEnd = (img.dataEnd + align - 1) &^ (align - 1)
	img.vars[name] = img.dataEnd
	img.dataEnd += size
}

// address gives a variable's address once the image is planned.
func (img *image) address(name string) (mem.VA, bool) {
	off, ok := img.vars[name]
	return img.base + mem.VA(img.part(".data").rva+off), ok
}

// inOrder lists the routines by name: maps have no order.
func (img *image) inOrder() []*function {
	names := slices.Sorted(maps.Keys(img.funcs))
	list := make([]*function, len(names))
	for i, name := range names {
		list[i] = img.funcs[name]
	}
	return list
}

// planCode places every routine: those with an address first, the others in
// the gaps of the section where they belong.
func (img *image) planCode(exception *exceptionLayout) error {
	var fixed, free []*function
	for _, f := range img.inOrder() {
		f.plan(exception)
		if err := f.check(); err != nil {
			return err
		}
		if f.fixed {
			fixed = append(fixed, f)
		} else {
			free = append(free, f)
		}
	}
	slices.SortFunc(fixed, func(a, b *function) int { return cmp.Compare(a.start, b.start) })
	for i, f := range fixed {
		if i+1 < len(fixed) && f.end > fixed[i+1].start {
			f.end = fixed[i+1].start
		}
		if err := img.checkPlace(f); err != nil {
			return err
		}
	}
	next := map[string]uint32{}
	for _, f := range free {
		length, lead := f.end-f.start, f.rva-f.start
		part := img.partFor(f)
		at := max(next[part], img.part(part).first, pageSize)
		for _, g := range fixed {
			if at < g.end && at+length > g.start {
				at = (g.end + 15) &^ 15
			}
		}
		f.start, f.end, f.rva = at, at+length, at+lead
		next[part] = f.end
	}
	img.sorted = append(fixed, free...)
	slices.SortFunc(img.sorted, func(a, b *function) int { return cmp.Compare(a.start, b.start) })
	return nil
}

// partFor names the section of a routine without an address.
func (img *image) partFor(f *function) string {
	switch {
	case f.name == "DriverEntry" || f.name == "KiSystemStartup":
		return "INIT"
	case img.kernel() && strings.HasPrefix(f.name, "Ex") && strings.Contains(f.name, "Pool"):
		return "POOLCODE"
	}
	return ".text"
}

// checkPlace refuses a given address that a kernel has its data at.
func (img *image) checkPlace(f *function) error {
	if f.end <= f.rva+f.maxOffset() {
		return wrong(f.line, "%s overlaps the function behind it", f)
	}
	if !img.kernel() {
		return nil
	}
	part := img.parts[0]
	for _, p := range img.parts {
		if f.start >= p.first {
			part = p
		}
	}
	if part.flags&scnExecute == 0 || part.flags == scnInit {
		return wrong(f.line, "%s at %#x lies in the kernel's section %s, not in its code", f, uint64(img.base)+uint64(f.rva), part.name)
	}
	return nil
}

// planSections places the sections around the code and the tables that the
// code needs.
func (img *image) planSections() error {
	init := img.takeInit()
	for _, f := range img.sorted {
		p := &img.parts[0]
		for i := range img.parts {
			if first := img.parts[i].first; first != 0 && f.start >= first {
				p = &img.parts[i]
			}
		}
		p.end = max(p.end, f.end)
	}
	lengths := map[string]uint32{
		".rdata": img.readOnlySize(), ".data": max(img.dataEnd, 0x200), ".reloc": 0x200,
		".pdata": max(uint32(len(img.sorted)+1)*12, 12), "INIT": 0x400, ".text": 0x200, "POOLCODE": 0x200, "PAGE": 0x200,
	}
	at := uint32(pageSize)
	for i := range img.parts {
		p := &img.parts[i]
		at = max(at, p.first)
		p.rva = at
		p.end = max(p.end, at+lengths[p.name])
		at = (p.end + pageSize - 1) &^ (pageSize - 1)
		if next := i + 1; next < len(img.parts) && img.parts[next].first != 0 && at > img.parts[next].first {
			return wrong(img.spec.Image.line, "%s: its section %s grows into the next", img.file, p.name)
		}
	}
	if init != nil {
		init.shift(img.part("INIT").rva)
		img.sorted = append(img.sorted, init)
		slices.SortFunc(img.sorted, func(a, b *function) int { return cmp.Compare(a.start, b.start) })
		img.entry = init.rva
	}
	if img.size != 0 && img.size < at {
		return wrong(img.spec.Size.line, "%s: the image needs %#x bytes", img.file, at)
	}
	img.size = (max(img.size, at) + pageSize - 1) &^ (pageSize - 1)
	return nil
}

// takeInit takes the entry point out of the routines: its section is placed
// last.
func (img *image) takeInit() *function {
	for i, f := range img.sorted {
		if !f.fixed && img.partFor(f) == "INIT" {
			img.sorted = slices.Delete(img.sorted, i, i+1)
			return f
		}
	}
	return nil
}

func (f *function) shift(to uint32) {
	delta := to - f.start
	f.start, f.rva, f.end = f.start+delta, f.rva+delta, f.end+delta
}

// identify gives the image an identity that follows from what its symbols are:
// two snapshots share a GUID only where the same names lie at the same places.
func (img *image) identify() {
	h := newDigest()
	h.add(img.file)
	for _, f := range img.sorted {
		h.add(f.name, fmt.Sprint(f.rva))
	}
	for _, name := range slices.Sorted(maps.Keys(img.vars)) {
		at, _ := img.address(name)
		h.add(name, fmt.Sprint(uint64(at-img.base)))
	}
	img.id.Name, img.id.GUID, img.id.Age = img.file, h.guid(), 1
	img.id.Timestamp, img.id.Size = img.stamp, img.size
}
