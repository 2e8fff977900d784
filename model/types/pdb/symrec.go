package pdb

// The symbol records that are read (LLVM CodeViewSymbols.def).
const (
	sEnd          = 0x0006
	sPub32ST      = 0x1009 // with a counted name; some databases of Windows XP
	sThunk32      = 0x1102
	sConstant     = 0x1107
	sUDT          = 0x1108
	sLData32      = 0x110c
	sGData32      = 0x110d
	sPub32        = 0x110e
	sLProc32      = 0x110f
	sGProc32      = 0x1110
	sProcRef      = 0x1125
	sDataRef      = 0x1126
	sLProcRef     = 0x1127
	sLProc32ID    = 0x1146
	sGProc32ID    = 0x1147
	sProcIDEnd    = 0x114f
	sLProc32DPC   = 0x1155
	sLProc32DPCID = 0x1156
)

// Flags of a public name.
const (
	publicCode     = 1
	publicFunction = 2
)

// symbol is a symbol record of any kind.
type symbol struct {
	kind  uint16
	name  []byte // of the record's bytes
	seg   uint16
	off   uint32
	size  uint32 // of code
	typ   uint32 // type index; of an ID form, index of the IPI stream
	end   uint32 // of a function: where its records end
	flags uint32
	value uint64 // of a constant
	mod   uint16 // of a reference: module, from 1
}

// parseSymbol reads a record; false where it is of no kind that is read, or
// damaged.
func parseSymbol(kind uint16, data []byte) (symbol, bool) {
	r := reader{b: data}
	s := symbol{kind: kind}
	switch kind {
	case sPub32, sPub32ST:
		s.flags, s.off, s.seg = r.u32(), r.u32(), r.u16()
		if kind == sPub32ST {
			s.name = r.bytes(uint64(r.u8()))
			return s, r.err == nil
		}
	case sGData32, sLData32:
		s.typ, s.off, s.seg = r.u32(), r.u32(), r.u16()
	case sGProc32, sLProc32, sGProc32ID, sLProc32ID, sLProc32DPC, sLProc32DPCID:
		r.u32() // parent
		s.end = r.u32()
		r.u32() // next
		s.size = r.u32()
		r.bytes(8) // ends of prologue and body
		s.typ, s.off, s.seg = r.u32(), r.u32(), r.u16()
		s.flags = uint32(r.u8())
	case sThunk32:
		r.u32()
		s.end = r.u32()
		r.u32()
		s.off, s.seg = r.u32(), r.u16()
		s.size = uint32(r.u16())
		r.u8() // kind of thunk
	case sProcRef, sLProcRef, sDataRef:
		r.u32()         // sum of the name
		s.off = r.u32() // in the module's symbols
		s.mod = r.u16() // from 1
	case sConstant:
		s.typ, s.value = r.u32(), r.number()
	case sUDT:
		s.typ = r.u32()
	default:
		return s, false
	}
	s.name = r.name()
	return s, r.err == nil
}

// isProc reports whether a record is that of a function.
func isProc(kind uint16) bool {
	switch kind {
	case sGProc32, sLProc32, sGProc32ID, sLProc32ID, sLProc32DPC, sLProc32DPCID:
		return true
	}
	return false
}

// byID reports whether the type of a function is an index of the IPI stream.
func byID(kind uint16) bool {
	return kind == sGProc32ID || kind == sLProc32ID || kind == sLProc32DPCID
}

// static reports whether the name is known in one module only.
func static(kind uint16) bool {
	switch kind {
	case sLProc32, sLProc32ID, sLProc32DPC, sLProc32DPCID, sLData32, sThunk32:
		return true
	}
	return false
}
