// Package pdbtest makes program databases for tests: from types and symbols as
// gokd knows them, a file that this project's reader, LLVM's tools and Windows
// debuggers read. What it makes depends on its input only.
//
// It shares no structure, offset or limit with the reader it tests; the facts
// about the format come from the public documentation of LLVM ("The PDB File
// Format") and of its CodeView records.
package pdbtest

import (
	"cmp"
	"fmt"
	"slices"

	"gokd/model/types"
)

// Spec says what goes into a program database.
type Spec struct {
	GUID      types.GUID
	Age       uint32 // that the image's RSDS record names; 0 is 1
	InfoAge   uint32 // of the file; 0 is 1
	Signature uint32
	Machine   uint16 // IMAGE_FILE_MACHINE_...; 0 is x64
	BlockSize uint32 // a power of two from 0x200; 0 is 0x1000
	Stripped  bool   // says that private symbols were left out

	// Types are defined in this order, each after the types it has by value. What
	// only pointers lead to is defined at the end, where it has fields. A name
	// that starts with "__unnamed" is written as that of a type without a name.
	Types []*types.Type
	// Symbols that are Private become functions and variables of a module, the
	// others public names. Each must lie in a section.
	Symbols []types.Symbol
	Typed   map[string]*types.Type // types of private symbols, by name
	// Typedefs are further names of types.
	Typedefs map[string]*types.Type
	// Sections of the image; with none, one of code that holds all symbols.
	Sections []Section
	Lines    []Lines

	// Raw are records of types as they are, in front of all others: the first has
	// index 0x1000.
	Raw []Raw

	// Original are the sections before the image was rearranged, in which symbols
	// and lines lie then; Moved says where their contents went.
	Original []Section
	Moved    []Move

	// FieldList bounds the bytes of one list of members, after which a
	// continuation follows; 0 is 0xf000.
	FieldList int
	// Unique says that types get a unique name too, as C++ compilers give them.
	Unique bool
}

// Section is a section of the image.
type Section struct {
	Name            string
	RVA, Size       uint32
	Characteristics uint32
}

// Raw is a record of a type: its kind and what follows.
type Raw struct {
	Leaf uint16
	Data []byte
}

// Move says that what was at an address is at another now; up to the next Move.
// It is nowhere where To is 0.
type Move struct{ From, To uint32 }

// Lines is the source of a piece of code.
type Lines struct {
	RVA, Size uint32
	File      string
	Lines     []Line
}

// Line says where the code of a line starts.
type Line struct{ Offset, Line uint32 }

// Streams with fixed numbers, and those that Build adds.
const (
	strOld = iota
	strInfo
	strTPI
	strDBI
	strIPI
	strNames
	strTPIHash
	strSections
	strModule
	strGlobals
	strPublics
	strRecords
	strOriginal
	strToSource
	strFromSource
	strCount
)

// Build makes a program database.
func Build(spec Spec) ([]byte, error) {
	spec.defaults()
	var streams [strCount][]byte
	tpi := newTypeWriter(spec.FieldList, spec.Unique)
	for _, r := range spec.Raw {
		if _, err := tpi.record(r.Leaf, r.Data, ""); err != nil {
			return nil, err
		}
	}
	if err := tpi.all(spec.Types); err != nil {
		return nil, err
	}
	names := newNameTable()
	sym := symbolWriter{spec: &spec, types: tpi, names: names}
	if err := sym.all(); err != nil {
		return nil, err
	}
	if err := tpi.pointees(); err != nil {
		return nil, err
	}
	streams[strInfo] = info(&spec)
	streams[strTPI], streams[strTPIHash] = tpi.streams(strTPIHash)
	streams[strIPI], _ = newTypeWriter(0, false).streams(0xffff)
	streams[strNames] = names.bytes()
	streams[strSections] = sectionHeaders(spec.Sections)
	if spec.Original != nil {
		streams[strOriginal] = sectionHeaders(spec.Original)
		streams[strFromSource], streams[strToSource] = moves(spec.Moved)
	}
	streams[strModule] = sym.module
	streams[strRecords] = sym.records
	streams[strGlobals] = hashTable(sym.globals)
	streams[strPublics] = publicTable(sym.publics)
	streams[strDBI] = sym.dbi()
	return container(streams[:], spec.BlockSize)
}

func (s *Spec) defaults() {
	s.Age, s.InfoAge = max(s.Age, 1), max(s.InfoAge, 1)
	s.Machine = cmp.Or(s.Machine, 0x8664)
	s.BlockSize = cmp.Or(s.BlockSize, 0x1000)
	s.FieldList = cmp.Or(s.FieldList, 0xf000)
	if len(s.Sections) > 0 {
		return
	}
	low, high := uint32(0x1000), uint32(0x1000)
	for _, sym := range s.Symbols {
		low, high = min(low, sym.RVA&^0xfff), max(high, sym.RVA+sym.Size)
	}
	s.Sections = []Section{{".text", low, high - low + 0x1000, 0x60000020}}
}

// place gives section, from 1, and offset of an address.
func (s *Spec) place(rva uint32) (seg uint16, off uint32, err error) {
	sections := s.Sections
	if s.Original != nil {
		sections = s.Original
	}
	for i, sec := range sections {
		if rva >= sec.RVA && rva-sec.RVA < sec.Size {
			return uint16(i + 1), rva - sec.RVA, nil
		}
	}
	return 0, 0, fmt.Errorf("address %#x: in no section", rva)
}

// info is the stream of identity, with the name of one stream: a hash table of
// eight buckets, in which that name has its place.
func info(spec *Spec) []byte {
	w := &buffer{}
	w.u32(20000404, spec.Signature, spec.InfoAge)
	w.raw(spec.GUID[:])
	const name, buckets = "/names", 8
	w.u32(uint32(len(name) + 1))
	w.text(name)
	bucket := uint32(uint16(hashV1(name))) % buckets
	w.u32(1, buckets, 1, 1<<bucket, 0) // used, capacity, one word of used buckets, none of deleted ones
	w.u32(0, strNames)
	w.u32(20140508) // has an IPI stream
	return w.b
}

func sectionHeaders(sections []Section) []byte {
	w := &buffer{}
	for _, s := range sections {
		var name [8]byte
		copy(name[:], s.Name)
		w.raw(name[:])
		w.u32(s.Size, s.RVA, s.Size, 0, 0, 0, 0, s.Characteristics)
	}
	return w.b
}

// moves gives the maps of addresses in both directions, sorted.
func moves(list []Move) (from, to []byte) {
	f, t := &buffer{}, &buffer{}
	slices.SortFunc(list, func(a, b Move) int { return cmp.Compare(a.From, b.From) })
	for _, m := range list {
		f.u32(m.From, m.To)
	}
	slices.SortFunc(list, func(a, b Move) int { return cmp.Compare(a.To, b.To) })
	for _, m := range list {
		if m.To != 0 {
			t.u32(m.To, m.From)
		}
	}
	return f.b, t.b
}

// nameTable is the stream of strings that other streams refer to.
type nameTable struct {
	at    map[string]uint32
	text  buffer
	order []string
}

func newNameTable() *nameTable {
	t := &nameTable{at: map[string]uint32{"": 0}}
	t.text.text("")
	return t
}

func (t *nameTable) add(s string) uint32 {
	off, ok := t.at[s]
	if !ok {
		off = uint32(len(t.text.b))
		t.at[s] = off
		t.order = append(t.order, s)
		t.text.text(s)
	}
	return off
}

// bytes gives the table: header, strings, and a hash table with linear probing.
func (t *nameTable) bytes() []byte {
	w := &buffer{}
	w.u32(0xeffeeffe, 1, uint32(len(t.text.b)))
	w.raw(t.text.b)
	buckets := make([]uint32, len(t.order)*2+2)
	for _, s := range t.order {
		i := hashV1(s) % uint32(len(buckets))
		for buckets[i] != 0 {
			i = (i + 1) % uint32(len(buckets))
		}
		buckets[i] = t.at[s]
	}
	w.u32(uint32(len(buckets)))
	w.u32(buckets...)
	w.u32(uint32(len(t.order)))
	return w.b
}

// sortedKeys gives the keys of a map in order.
func sortedKeys[V any](m map[string]V) []string {
	keys := make([]string, 0, len(m))
	for k := range m {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	return keys
}
