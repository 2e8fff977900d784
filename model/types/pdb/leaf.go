package pdb

import (
	"bytes"
	"errors"
	"fmt"
)

// The leaves that are read (LLVM CodeViewTypes.def; for those of 0x16xx that
// newer compilers write, volatility3's tables).
const (
	lfModifier   = 0x1001
	lfPointer    = 0x1002
	lfProcedure  = 0x1008
	lfMFunction  = 0x1009
	lfArgList    = 0x1201
	lfFieldList  = 0x1203
	lfBitfield   = 0x1205
	lfBClass     = 0x1400
	lfVBClass    = 0x1401
	lfIVBClass   = 0x1402
	lfIndex      = 0x1404
	lfVFuncTab   = 0x1409
	lfFriendCls  = 0x140a
	lfVFuncOff   = 0x140c
	lfEnumerate  = 0x1502
	lfArray      = 0x1503
	lfClass      = 0x1504
	lfStructure  = 0x1505
	lfUnion      = 0x1506
	lfEnum       = 0x1507
	lfAlias      = 0x150a
	lfFriendFcn  = 0x150c
	lfMember     = 0x150d
	lfSTMember   = 0x150e
	lfMethod     = 0x150f
	lfNestType   = 0x1510
	lfOneMethod  = 0x1511
	lfNestTypeEx = 0x1512
	lfInterface  = 0x1519
	lfBInterface = 0x151a
	lfFuncID     = 0x1601
	lfMFuncID    = 0x1602
	lfClass2     = 0x1608
	lfStructure2 = 0x1609
	lfUnion2     = 0x160a
	lfInterface2 = 0x160b
)

// Properties of a class, structure, union or enumeration.
const (
	propForward = 0x80
	propUnique  = 0x200 // has a unique name after the name
)

// udt is the record of a class, structure, union or enumeration.
type udt struct {
	leaf         uint16
	props        uint16
	fields       uint32 // type index of its list
	underlying   uint32 // of an enumeration
	count        uint64 // entries of the list, as the record tells
	size         uint64
	name, unique []byte
}

func isUDT(leaf uint16) bool {
	switch leaf {
	case lfClass, lfStructure, lfUnion, lfEnum, lfInterface, lfClass2, lfStructure2, lfUnion2, lfInterface2:
		return true
	}
	return false
}

func (u *udt) forward() bool { return u.props&propForward != 0 }

// parseUDT reads such a record.
func parseUDT(leaf uint16, data []byte) (udt, error) {
	r := reader{b: data}
	u := udt{leaf: leaf}
	switch leaf {
	case lfEnum:
		r.u16() // count of constants
		u.props = r.u16()
		u.underlying = r.u32()
		u.fields = r.u32()
	case lfUnion:
		u.count = uint64(r.u16())
		u.props = r.u16()
		u.fields = r.u32()
		u.size = r.number()
	case lfClass, lfStructure, lfInterface:
		u.count = uint64(r.u16())
		u.props = r.u16()
		u.fields = r.u32()
		r.bytes(8) // derived classes, shape of the virtual table
		u.size = r.number()
	case lfUnion2:
		u.props = uint16(r.u32())
		u.fields = r.u32()
		u.count = r.number()
		u.size = r.number()
	default: // the new forms: properties of 32 bits, and the count as a number
		u.props = uint16(r.u32())
		u.fields = r.u32()
		r.bytes(8)
		u.count = r.number()
		u.size = r.number()
	}
	u.name = r.name()
	if u.props&propUnique != 0 && r.err == nil {
		u.unique = r.name()
	}
	return u, r.err
}

// anonymous reports whether a type has no name of its own. Compilers write one
// of three words, in C++ behind the scope.
func anonymous(name []byte) bool {
	if i := bytes.LastIndex(name, []byte("::")); i >= 0 {
		name = name[i+2:]
	}
	switch string(name) {
	case "<unnamed-tag>", "<anonymous-tag>", "__unnamed":
		return true
	}
	return false
}

// fieldItem is an entry of a field list.
type fieldItem struct {
	leaf  uint16
	typ   uint32 // type index
	value uint64 // offset of a member, value of a constant
	name  []byte
}

// parseItem takes the next entry off a field list; those that take no place in
// an object are read past.
func parseItem(r *reader) fieldItem {
	// Entries are padded to four bytes by bytes above 0xf0 that tell how many.
	for len(r.b) > 0 && r.b[0] > 0xf0 {
		r.bytes(uint64(max(r.b[0]&0xf, 1)))
	}
	it := fieldItem{}
	if len(r.b) == 0 {
		return it
	}
	if it.plain(r) {
		return it
	}
	it.leaf = r.u16()
	attr := r.u16() // access, kind of method; padding where there is none
	switch it.leaf {
	case lfEnumerate:
		it.value = r.number()
		it.name = r.name()
	case lfMember:
		it.typ = r.u32()
		it.value = r.number()
		it.name = r.name()
	case lfBClass, lfBInterface:
		it.typ = r.u32()
		it.value = r.number()
	case lfVBClass, lfIVBClass:
		r.bytes(8) // the base's type and that of the pointer to the table
		r.number()
		r.number()
	case lfIndex, lfVFuncTab, lfFriendCls:
		it.typ = r.u32()
	case lfVFuncOff:
		it.typ = r.u32()
		it.value = uint64(r.u32())
	case lfSTMember, lfNestType, lfNestTypeEx, lfFriendFcn, lfMethod:
		r.u32()
		r.name()
	case lfOneMethod:
		r.u32()
		if kind := attr >> 2 & 7; kind == 4 || kind == 6 {
			r.u32() // introducing virtual: its offset in the table
		}
		r.name()
	default:
		r.fail(fmt.Errorf("member of kind %#x", it.leaf))
	}
	return it
}

// plain takes the entry that nearly all are, a member at an offset below 0x8000,
// in one go; false for any other.
func (it *fieldItem) plain(r *reader) bool {
	b := r.b
	if len(b) < 12 || le16(b) != lfMember || b[9] >= lfChar>>8 {
		return false
	}
	n := bytes.IndexByte(b[10:], 0)
	if n < 0 {
		return false
	}
	*it = fieldItem{leaf: lfMember, typ: le32(b[4:]), value: uint64(le16(b[8:])), name: b[10 : 10+n]}
	r.b = b[10+n+1:]
	return true
}

// Limits of one type.
const (
	maxTypeSize = 1 << 31 // bytes
	maxMembers  = 1 << 17
	maxDepth    = 64 // types inside each other, and pointers to pointers
)

var (
	errMembers = fmt.Errorf("more than %d members", maxMembers)
	errCircle  = errors.New("field list leads back to itself")
)
