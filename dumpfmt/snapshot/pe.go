package snapshot

import (
	"crypto/sha256"
	"encoding/binary"
	"hash"
	"maps"
	"slices"
	"unicode"

	"gokd/model/mem"
	"gokd/model/types"
)

// digest makes identities out of names.
type digest struct{ h hash.Hash }

func newDigest() digest { return digest{sha256.New()} }

func (d digest) add(parts ...string) {
	for _, p := range parts {
		_, _ = d.h.Write(append([]byte(p), 0)) // never fails
	}
}

func (d digest) guid() (g types.GUID) {
	copy(g[:], d.h.Sum(nil))
	return g
}

// Parts of .rdata, in order: import slots, unwind data, debug directory and
// RSDS record, export directory.

func (img *image) unwindSize() uint32 {
	n := 0
	for _, f := range img.inOrder() {
		n += len(f.unwindInfo())
	}
	return uint32(n)
}

const (
	debugEntrySize = 28
	exportDirSize  = 40
)

func (img *image) debugSize() uint32 {
	return align8(debugEntrySize + 24 + uint32(len(img.id.PDB)) + 1)
}

func align8(n uint32) uint32 { return (n + 7) &^ 7 }

// readOnlySize gives the size of .rdata.
func (img *image) readOnlySize() uint32 {
	n := align8(uint32(8*(len(img.imports)+1))) + align8(img.unwindSize()) + img.debugSize() + exportDirSize
	for _, f := range img.exports() {
		n += 10 + uint32(len(f.name)) + 1
	}
	return n + uint32(len(img.file)) + 0x20
}

// exports lists the routines that other images may call: documented prefixes
// followed by a capital letter (Ke..., not Ki... or Kep...), by name.
func (img *image) exports() []*function {
	var list []*function
	for _, f := range img.inOrder() {
		for _, prefix := range []string{"Ex", "Ke", "Io", "Ob", "Ps", "Mm", "Rtl", "FsRtl", "Nt", "Zw", "Se", "Cc", "Hal", "Flt", "Kd"} {
			if n := len(prefix); len(f.name) > n && f.name[:n] == prefix && unicode.IsUpper(rune(f.name[n])) {
				list = append(list, f)
				break
			}
		}
	}
	return list
}

// readOnly is .rdata while it is written.
type readOnly struct {
	rva                    uint32
	b                      []byte
	debug, exports, expEnd uint32
}

func (r *readOnly) here() uint32 { return r.rva + uint32(len(r.b)) }

func (r *readOnly) align() {
	for len(r.b)%8 != 0 {
		r.b = append(r.b, 0)
	}
}

// emitReadOnly makes .rdata. The unwind data's places go into the routines.
func (img *image) emitReadOnly() *readOnly {
	le := binary.LittleEndian
	r := &readOnly{rva: img.part(".rdata").rva}
	slots := make([]byte, 8*(len(img.imports)+1)) // a null ends the table
	for f, slot := range img.imports {
		le.PutUint64(slots[slot-r.rva:], uint64(f.img.base)+uint64(f.rva))
	}
	r.b = append(r.b, slots...)
	for _, f := range img.sorted {
		f.unwind = r.here()
		r.b = append(r.b, f.unwindInfo()...)
	}
	r.align()
	r.debug = r.here()
	rsds := append([]byte("RSDS"), img.id.GUID[:]...)
	rsds = append(le.AppendUint32(rsds, img.id.Age), img.id.PDB...)
	rsds = append(rsds, 0)
	entry := make([]byte, debugEntrySize)
	le.PutUint32(entry[4:], img.stamp)
	le.PutUint32(entry[12:], 2) // IMAGE_DEBUG_TYPE_CODEVIEW
	le.PutUint32(entry[16:], uint32(len(rsds)))
	le.PutUint32(entry[20:], r.debug+debugEntrySize)
	le.PutUint32(entry[24:], r.debug+debugEntrySize)
	r.b = append(append(r.b, entry...), rsds...)
	r.align()
	img.emitExports(r)
	return r
}

// emitExports writes the export directory: addresses, names and ordinals.
func (img *image) emitExports(r *readOnly) {
	list := img.exports()
	if len(list) == 0 {
		return
	}
	le := binary.LittleEndian
	r.exports = r.here()
	n := uint32(len(list))
	addresses := r.exports + exportDirSize
	names, ordinals := addresses+4*n, addresses+8*n
	text := ordinals + 2*n
	dir := make([]byte, exportDirSize+10*n)
	le.PutUint32(dir[4:], img.stamp)
	le.PutUint32(dir[12:], text) // the image's own name
	le.PutUint32(dir[16:], 1)    // first ordinal
	le.PutUint32(dir[20:], n)
	le.PutUint32(dir[24:], n)
	le.PutUint32(dir[28:], addresses)
	le.PutUint32(dir[32:], names)
	le.PutUint32(dir[36:], ordinals)
	strings := append([]byte(img.file), 0)
	for i, f := range list {
		le.PutUint32(dir[exportDirSize+4*i:], f.rva)
		le.PutUint32(dir[exportDirSize+4*int(n)+4*i:], text+uint32(len(strings)))
		le.PutUint16(dir[exportDirSize+8*int(n)+2*i:], uint16(i))
		strings = append(append(strings, f.name...), 0)
	}
	r.b = append(append(r.b, dir...), strings...)
	r.expEnd = r.here()
}

const (
	ntHeaders     = 0xf8 // offset of the PE signature
	optionalSize  = 240
	sectionHeader = 40
)

// headers makes the image's first page.
func (img *image) headers(r *readOnly) []byte {
	le := binary.LittleEndian
	b := make([]byte, pageSize)
	copy(b, "MZ\x90\x00\x03")
	le.PutUint32(b[0x3c:], ntHeaders)
	copy(b[0x4e:], "This program cannot be run in DOS mode.\r\r\n$")
	nt := b[ntHeaders:]
	copy(nt, "PE\x00\x00")
	le.PutUint16(nt[4:], 0x8664)
	le.PutUint16(nt[6:], uint16(len(img.parts)))
	le.PutUint32(nt[8:], img.stamp)
	le.PutUint16(nt[20:], optionalSize)
	le.PutUint16(nt[22:], 0x22) // executable, large addresses
	img.optionalHeader(nt[24:], r)
	table := nt[24+optionalSize:]
	for i, p := range img.parts {
		s := table[i*sectionHeader:]
		copy(s[:8], p.name)
		le.PutUint32(s[8:], p.end-p.rva)
		le.PutUint32(s[12:], p.rva)
		le.PutUint32(s[16:], (p.end-p.rva+0x1ff)&^0x1ff)
		le.PutUint32(s[20:], p.rva)
		le.PutUint32(s[36:], p.flags)
	}
	return b
}

func (img *image) optionalHeader(o []byte, r *readOnly) {
	le := binary.LittleEndian
	le.PutUint16(o[0:], 0x20b) // 64-bit
	o[2], o[3] = 9, 0          // linker version
	le.PutUint32(o[16:], img.entry)
	le.PutUint32(o[20:], img.parts[0].rva)
	le.PutUint64(o[24:], uint64(img.base))
	le.PutUint32(o[32:], pageSize)
	le.PutUint32(o[36:], 0x200)
	for _, off := range []int{40, 44, 48} { // versions of system, image and subsystem: 6.1
		le.PutUint16(o[off:], 6)
		le.PutUint16(o[off+2:], 1)
	}
	le.PutUint32(o[56:], img.size)
	le.PutUint32(o[60:], 0x400)
	le.PutUint32(o[64:], img.checksum)
	le.PutUint16(o[68:], 1) // native
	le.PutUint32(o[108:], 16)
	dir := func(n int, at, size uint32) {
		le.PutUint32(o[112+8*n:], at)
		le.PutUint32(o[116+8*n:], size)
	}
	if r.exports != 0 {
		dir(types.DirExport, r.exports, r.expEnd-r.exports)
	}
	dir(types.DirException, img.part(".pdata").rva, uint32(12*len(img.sorted)))
	dir(types.DirDebug, r.debug, debugEntrySize)
}

// emit writes the whole image into memory; .data stays zero for its owners.
func (m *machine) emit(img *image) error {
	r := img.emitReadOnly()
	put := func(rva uint32, b []byte, flags uint64) {
		m.fail(m.kernel.mapRange(img.base+mem.VA(rva), uint64(len(b)), flags))
		m.write(img.base+mem.VA(rva), b)
	}
	put(0, img.headers(r), flagsRead)
	put(r.rva, r.b, flagsRead)
	table := make([]byte, 0, 12*len(img.sorted))
	for _, f := range img.sorted {
		for _, v := range []uint32{f.start, f.end, f.unwind} {
			table = binary.LittleEndian.AppendUint32(table, v)
		}
		if init := img.part("INIT"); f.start >= init.rva && f.start < init.end {
			continue // given back after start-up
		}
		code, err := f.code()
		if err != nil {
			return err
		}
		put(f.start, code, flagsCode)
	}
	put(img.part(".pdata").rva, table, flagsRead)
	return m.err
}

// planImports gives every routine of another image that this one calls a slot
// in its import table, which starts .rdata.
func (img *image) planImports() {
	need := map[string]*function{}
	for _, f := range img.funcs {
		for _, callee := range f.sites {
			if callee != nil && callee.img != img {
				need[callee.String()] = callee
			}
		}
	}
	for i, name := range slices.Sorted(maps.Keys(need)) {
		img.imports[need[name]] = uint32(8 * i)
	}
}

// placeImports turns slot offsets into RVAs once .rdata is placed.
func (img *image) placeImports() {
	for f, off := range img.imports {
		img.imports[f] = img.part(".rdata").rva + off
	}
}
