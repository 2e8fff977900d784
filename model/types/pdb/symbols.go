package pdb

import (
	"cmp"
	"fmt"
	"iter"
	"math/bits"
)

// Place is where a symbol is.
type Place struct {
	Segment uint16 // section, from 1; of the image before it was rearranged
	Offset  uint32 // in the section
	RVA     uint32 // bytes from the image's base, where Placed
	Placed  bool   // in the image; a name of a constant has no place
}

// Public is a public name, as the linker knows it.
type Public struct {
	Name string
	Place
	Function bool // of code that can be called
}

// GlobalKind tells what a Global is.
type GlobalKind uint8

// The kinds of globals.
const (
	SymbolData     GlobalKind = iota // a variable; Place and Type
	SymbolConstant                   // Value and Type
	SymbolTypedef                    // Type
	SymbolProcRef                    // a function; Module
)

// Global is an entry of the table of names that all modules share.
type Global struct {
	Name   string
	Kind   GlobalKind
	Static bool // known in one module only
	Place
	Type   uint32 // type index, for TypeAt
	Value  int64
	Module int // from 0
}

// Function is a function, from the private symbols of a module.
type Function struct {
	Name string
	Place
	Size   uint32 // bytes
	Type   uint32 // type index, for TypeAt; 0 where unknown
	Static bool   // known in one module only
	Thunk  bool   // made by the linker, jumps to another
	Module int    // from 0
}

func (f *File) place(seg uint16, off uint32) Place {
	p := Place{Segment: seg, Offset: off}
	p.RVA, p.Placed = f.dbi.rva(seg, off)
	return p
}

// Publics yields the public names in the order of their records. The names are
// those that the table of public names lists; where that is damaged, those of
// all records.
func (f *File) Publics() iter.Seq[Public] {
	return func(yield func(Public) bool) {
		var names texts
		f.publics(func(s symbol) bool {
			return yield(Public{names.text(s.name), f.place(s.seg, s.off), s.flags&publicFunction != 0})
		})
	}
}

// publics visits the public names until visit says false, and tells of damage.
func (f *File) publics(visit func(symbol) bool) error {
	if f.dbi == nil {
		return nil
	}
	return f.dbi.named(f.dbi.publics, publicHeader, func(s symbol) bool {
		return s.kind != sPub32 && s.kind != sPub32ST || visit(s)
	})
}

// Globals yields the variables, constants, typedefs and references to functions
// of the table of global names.
func (f *File) Globals() iter.Seq[Global] {
	return func(yield func(Global) bool) {
		f.globals(func(s symbol) bool {
			g := Global{Name: string(s.name), Static: static(s.kind), Type: s.typ}
			switch s.kind {
			case sGData32, sLData32:
				g.Place = f.place(s.seg, s.off)
			case sConstant:
				g.Kind, g.Value = SymbolConstant, int64(s.value)
			case sUDT:
				g.Kind = SymbolTypedef
			case sProcRef, sLProcRef, sDataRef:
				g.Kind, g.Module, g.Static = SymbolProcRef, int(s.mod)-1, s.kind == sLProcRef
			default:
				return true
			}
			return yield(g)
		})
	}
}

func (f *File) globals(visit func(symbol) bool) error {
	if f.dbi == nil {
		return nil
	}
	return f.dbi.named(f.dbi.globals, 0, func(s symbol) bool {
		return s.kind == sPub32 || s.kind == sPub32ST || visit(s)
	})
}

const (
	publicHeader = 0x1c       // bytes before the hash table in the stream of public names
	gsiSignature = 0xffffffff // LLVM docs/PDB/GlobalStream.rst
	gsiVersion   = 0xeffe0000 + 19990810
	maxNames     = 1 << 21
)

// named visits the records that a hash table of names lists, in their order in
// the stream of records. Where there is no table or it makes no sense, it visits
// all records: a linker may leave behind some that count no more, but none is
// missed.
func (d *dbi) named(table, header uint32, visit func(symbol) bool) error {
	s, ok := d.s.m.stream(d.records)
	if !ok {
		return nil
	}
	r := s.scan(0, s.size)
	var offsets []uint32
	var damage error
	if table != noStream {
		offsets, damage = d.listed(table, header, s.size)
	}
	if damage != nil || table == noStream {
		for {
			rec, ok := r.next()
			if !ok {
				return cmp.Or(damage, r.err)
			}
			if sym, ok := parseSymbol(rec.kind, rec.data); ok && !visit(sym) {
				return damage
			}
		}
	}
	for _, off := range offsets {
		if off < r.off { // a record inside another could make names without end
			damage = fmt.Errorf("table of names: record at %#x inside another", off)
			continue
		}
		r.off, r.err = off, nil
		rec, ok := r.next()
		if !ok {
			damage = r.err
			continue
		}
		if sym, ok := parseSymbol(rec.kind, rec.data); ok && !visit(sym) {
			break
		}
	}
	return damage
}

// listed gives the offsets of the records that a hash table lists, sorted. The
// table is a header, then pairs of offset + 1 and a count, then buckets.
func (d *dbi) listed(table, header, size uint32) ([]uint32, error) {
	s, ok := d.s.m.stream(table)
	if !ok || s.size < header+16 {
		return nil, fmt.Errorf("table of names: no stream %d", table)
	}
	head, err := s.view(header, 16)
	if err != nil {
		return nil, err
	}
	if sig, version := le32(head), le32(head[4:]); sig != gsiSignature || version != gsiVersion {
		return nil, fmt.Errorf("table of names: signature %#x, version %#x", sig, version)
	}
	length := le32(head[8:])
	if length%8 != 0 || uint64(length) > uint64(s.size-header-16) || length/8 > maxNames {
		return nil, fmt.Errorf("table of names: %#x bytes in a stream of %#x", length, s.size)
	}
	// Records begin at multiples of four: a bit for each sorts them.
	marked := make([]uint64, size/256+1)
	count := 0
	pairs := make([]byte, min(length, chunkSize))
	for at := uint32(0); at < length; at += uint32(len(pairs)) {
		pairs = pairs[:min(length-at, chunkSize)]
		if err := s.readAt(pairs, header+16+at); err != nil {
			return nil, err
		}
		for b := pairs; len(b) > 0; b = b[8:] {
			off := le32(b) - 1
			if off >= size || off%4 != 0 {
				return nil, fmt.Errorf("table of names: record at %#x of %#x bytes", off, size)
			}
			marked[off/256] |= 1 << (off / 4 % 64)
			count++
		}
	}
	offsets := make([]uint32, 0, count)
	for i, word := range marked {
		for ; word != 0; word &= word - 1 {
			offsets = append(offsets, uint32(i)*256+uint32(bits.TrailingZeros64(word))*4)
		}
	}
	return offsets, nil
}
