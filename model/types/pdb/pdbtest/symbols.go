package pdbtest

import (
	"cmp"
	"slices"
	"strings"

	"gokd/model/types"
)

// symbolWriter writes the stream of names, that of the one module and the debug
// information.
type symbolWriter struct {
	spec    *Spec
	types   *typeWriter
	names   *nameTable
	records []byte
	globals []named
	publics []named
	module  []byte
	symSize uint32 // bytes of symbols in module
	files   []string
}

// named is a record of the stream of names.
type named struct {
	name string
	off  uint32 // of the record
	seg  uint16
	at   uint32 // offset in the section
}

// symbolRecord encodes a record.
func symbolRecord(kind uint16, body []byte) []byte {
	r := &buffer{}
	r.u16(0, kind)
	r.raw(body)
	r.align(4)
	r.b[0], r.b[1] = byte(len(r.b)-2), byte((len(r.b)-2)>>8)
	return r.b
}

func (w *symbolWriter) all() error {
	mod := &buffer{}
	mod.u32(4)
	object := &buffer{}
	object.u32(0)
	object.text("pdbtest.obj")
	mod.raw(symbolRecord(0x1101, object.b))
	for _, sym := range w.spec.Symbols {
		if err := w.symbol(sym, mod); err != nil {
			return err
		}
	}
	for _, name := range sortedKeys(w.spec.Typedefs) {
		i, err := w.types.ref(w.spec.Typedefs[name])
		if err != nil {
			return err
		}
		b := &buffer{}
		b.u32(i)
		b.text(name)
		w.globals = append(w.globals, w.append(name, 0x1108, b.b, 0, 0))
	}
	w.symSize = uint32(len(mod.b))
	if err := w.lines(mod); err != nil {
		return err
	}
	mod.u32(0) // no references to global names
	w.module = mod.b
	return nil
}

// symbol writes one symbol.
func (w *symbolWriter) symbol(sym types.Symbol, mod *buffer) error {
	seg, off, err := w.spec.place(sym.RVA)
	if err != nil {
		return err
	}
	b := &buffer{}
	if !sym.Private {
		flags := uint32(0)
		if sym.Kind == types.SymFunction {
			flags = 2
		}
		b.u32(flags, off)
		b.u16(seg)
		b.text(sym.Name)
		w.publics = append(w.publics, w.append(sym.Name, 0x110e, b.b, seg, off))
		return nil
	}
	typ := uint32(0)
	if t := w.spec.Typed[sym.Name]; t != nil {
		if typ, err = w.types.ref(t); err != nil {
			return err
		}
	}
	if sym.Kind != types.SymFunction {
		b.u32(typ, off)
		b.u16(seg)
		b.text(sym.Name)
		w.globals = append(w.globals, w.append(sym.Name, 0x110d, b.b, seg, off))
		return nil
	}
	at := uint32(len(mod.b))
	b.u32(0, 0, 0, sym.Size, 0, sym.Size, typ, off)
	b.u16(seg)
	b.u8(0)
	b.text(sym.Name)
	rec := symbolRecord(0x1110, b.b)
	end := &buffer{}
	end.u32(at + uint32(len(rec)))
	copy(rec[8:], end.b)
	mod.raw(rec)
	mod.raw(symbolRecord(0x0006, nil))
	ref := &buffer{}
	ref.u32(0, at)
	ref.u16(1)
	ref.text(sym.Name)
	w.globals = append(w.globals, w.append(sym.Name, 0x1125, ref.b, seg, off))
	return nil
}

func (w *symbolWriter) append(name string, kind uint16, body []byte, seg uint16, at uint32) named {
	n := named{name, uint32(len(w.records)), seg, at}
	w.records = append(w.records, symbolRecord(kind, body)...)
	return n
}

// lines writes the C13 parts of the module: the files, without checksums, and
// one part per piece of code.
func (w *symbolWriter) lines(mod *buffer) error {
	if len(w.spec.Lines) == 0 {
		return nil
	}
	sums := &buffer{}
	entry := map[string]uint32{}
	for _, l := range w.spec.Lines {
		if _, ok := entry[l.File]; ok {
			continue
		}
		entry[l.File] = uint32(len(sums.b))
		w.files = append(w.files, l.File)
		sums.u32(w.names.add(l.File))
		sums.u16(0)
		sums.align(4)
	}
	mod.u32(0xf4, uint32(len(sums.b)))
	mod.raw(sums.b)
	for _, l := range w.spec.Lines {
		seg, off, err := w.spec.place(l.RVA)
		if err != nil {
			return err
		}
		mod.u32(0xf2, uint32(12+12+8*len(l.Lines)), off)
		mod.u16(seg, 0)
		mod.u32(l.Size, entry[l.File], uint32(len(l.Lines)), uint32(12+8*len(l.Lines)))
		for _, line := range l.Lines {
			mod.u32(line.Offset, line.Line|1<<31) // a statement
		}
	}
	return nil
}

// hashTable writes the hash table of names: entries bucket by bucket, a bit set
// of buckets in use, and where each starts, counted as if entries had 12 bytes.
func hashTable(names []named) []byte {
	const buckets = 4096
	type slot struct {
		named
		bucket uint32
	}
	all := make([]slot, len(names))
	for i, n := range names {
		all[i] = slot{n, hashV1(n.name) % buckets}
	}
	slices.SortStableFunc(all, func(a, b slot) int {
		return cmp.Or(
			cmp.Compare(a.bucket, b.bucket),
			cmp.Compare(len(a.name), len(b.name)),
			strings.Compare(strings.ToLower(a.name), strings.ToLower(b.name)),
		)
	})
	entries, starts := &buffer{}, &buffer{}
	var used [(buckets + 32) / 32]uint32
	for i, s := range all {
		entries.u32(s.off+1, 1)
		if used[s.bucket/32]&(1<<(s.bucket%32)) == 0 {
			used[s.bucket/32] |= 1 << (s.bucket % 32)
			starts.u32(uint32(i) * 12)
		}
	}
	w := &buffer{}
	w.u32(0xffffffff, 0xeffe0000+19990810, uint32(len(entries.b)), uint32(4*len(used)+len(starts.b)))
	w.raw(entries.b)
	w.u32(used[:]...)
	w.raw(starts.b)
	return w.b
}

// publicTable writes the table of public names: header, hash table, and the
// records in order of their addresses.
func publicTable(names []named) []byte {
	hash := hashTable(names)
	byPlace := slices.Clone(names)
	slices.SortStableFunc(byPlace, func(a, b named) int {
		return cmp.Or(cmp.Compare(a.seg, b.seg), cmp.Compare(a.at, b.at))
	})
	w := &buffer{}
	w.u32(uint32(len(hash)), uint32(4*len(byPlace)), 0, 0, 0, 0, 0)
	w.raw(hash)
	for _, n := range byPlace {
		w.u32(n.off)
	}
	return w.b
}

// dbi writes the debug information: header, one module, the sections it
// contributes to, the map of sections, the source files, names, and the streams.
func (w *symbolWriter) dbi() []byte {
	module, contribs, sectionMap, sources := w.moduleInfo(), w.contributions(), w.sectionMap(), w.sources()
	names := newNameTable().bytes() // of edit and continue: none
	streams := &buffer{}
	debug := map[int]uint16{5: strSections}
	if w.spec.Original != nil {
		debug = map[int]uint16{3: strToSource, 4: strFromSource, 5: strSections, 10: strOriginal}
	}
	for i := range 11 {
		num, ok := debug[i]
		if !ok {
			num = 0xffff
		}
		streams.u16(num)
	}
	d := &buffer{}
	d.u32(0xffffffff, 19990903, w.spec.Age)
	d.u16(strGlobals, 0x8e1d, strPublics, 0, strRecords, 0)
	d.u32(uint32(len(module)), uint32(len(contribs)), uint32(len(sectionMap)), uint32(len(sources)), 0, 0, uint32(len(streams.b)), uint32(len(names)))
	flags := uint16(0)
	if w.spec.Stripped {
		flags = 2
	}
	d.u16(flags, w.spec.Machine)
	d.u32(0)
	for _, part := range [][]byte{module, contribs, sectionMap, sources, names, streams.b} {
		d.raw(part)
	}
	return d.b
}

func (w *symbolWriter) moduleInfo() []byte {
	m := &buffer{}
	m.u32(0)
	m.raw(w.contribution(0))
	m.u16(0, strModule)
	m.u32(w.symSize, 0, uint32(len(w.module))-4-w.symSize)
	m.u16(uint16(len(w.files)), 0)
	m.u32(0, 0, 0)
	m.text("pdbtest.obj")
	m.text("pdbtest.obj")
	m.align(4)
	return m.b
}

// contribution says that all of a section comes from the module.
func (w *symbolWriter) contribution(i int) []byte {
	s := w.sections()[i]
	c := &buffer{}
	c.u16(uint16(i+1), 0)
	c.u32(0, s.Size, s.Characteristics)
	c.u16(0, 0)
	c.u32(0, 0)
	return c.b
}

// sections gives those that symbols lie in.
func (w *symbolWriter) sections() []Section {
	if w.spec.Original != nil {
		return w.spec.Original
	}
	return w.spec.Sections
}

func (w *symbolWriter) contributions() []byte {
	c := &buffer{}
	c.u32(0xeffe0000 + 19970605)
	for i := range w.sections() {
		c.raw(w.contribution(i))
	}
	return c.b
}

// sectionMap describes the sections as segments: readable, writable or code, of
// 32 bits, by selector; at its end stands one for absolute values.
func (w *symbolWriter) sectionMap() []byte {
	n := uint16(len(w.spec.Sections) + 1)
	m := &buffer{}
	m.u16(n, n)
	for i, s := range w.spec.Sections {
		flags := uint16(0x109)
		if s.Characteristics&0x20000000 != 0 {
			flags |= 4
		}
		if s.Characteristics&0x80000000 != 0 {
			flags |= 2
		}
		m.u16(flags, 0, 0, uint16(i+1), 0xffff, 0xffff)
		m.u32(0, s.Size)
	}
	m.u16(0x208, 0, 0, n, 0xffff, 0xffff)
	m.u32(0, 0xffffffff)
	return m.b
}

// sources lists the source files of the module.
func (w *symbolWriter) sources() []byte {
	s := &buffer{}
	s.u16(1, uint16(len(w.files)), 0, uint16(len(w.files)))
	text := &buffer{}
	for _, f := range w.files {
		s.u32(uint32(len(text.b)))
		text.text(f)
	}
	s.raw(text.b)
	s.align(4)
	return s.b
}
