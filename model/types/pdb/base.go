package pdb

import (
	"fmt"

	"gokd/model/types"
)

// baseTypes are the types whose index is below 0x1000: the low byte is the
// kind, bits 8 to 10 make a pointer of it (LLVM TypeIndex.h). Names and kinds
// are those of volatility3's tables, which gokd's commands know; where those
// have a name nobody uses ("f32"), the C name stands instead.
var baseTypes = map[uint32]*types.Type{
	0x00: {Name: "<no type>", Kind: types.KindVoid},
	0x03: {Name: "void", Kind: types.KindVoid},
	0x07: {Name: "<no type>", Kind: types.KindVoid},
	0x08: {Name: "HRESULT", Kind: types.KindInt, Size: 4},
	0x10: {Name: "char", Kind: types.KindChar, Size: 1},
	0x11: {Name: "short", Kind: types.KindSigned, Size: 2},
	0x12: {Name: "long", Kind: types.KindSigned, Size: 4},
	0x13: {Name: "long long", Kind: types.KindSigned, Size: 8},
	0x14: {Name: "int128", Kind: types.KindSigned, Size: 16},
	0x20: {Name: "unsigned char", Kind: types.KindChar, Size: 1},
	0x21: {Name: "unsigned short", Kind: types.KindInt, Size: 2},
	0x22: {Name: "unsigned long", Kind: types.KindInt, Size: 4},
	0x23: {Name: "unsigned long long", Kind: types.KindInt, Size: 8},
	0x24: {Name: "uint128", Kind: types.KindInt, Size: 16},
	0x30: {Name: "bool", Kind: types.KindBool, Size: 1},
	0x31: {Name: "bool16", Kind: types.KindBool, Size: 2},
	0x32: {Name: "bool32", Kind: types.KindBool, Size: 4},
	0x33: {Name: "bool64", Kind: types.KindBool, Size: 8},
	0x40: {Name: "float", Kind: types.KindFloat, Size: 4},
	0x41: {Name: "double", Kind: types.KindFloat, Size: 8},
	0x42: {Name: "long double", Kind: types.KindFloat, Size: 10},
	0x43: {Name: "f128", Kind: types.KindFloat, Size: 16},
	0x44: {Name: "f48", Kind: types.KindFloat, Size: 6},
	0x45: {Name: "float", Kind: types.KindFloat, Size: 4},
	0x46: {Name: "f16", Kind: types.KindFloat, Size: 2},
	0x68: {Name: "int8", Kind: types.KindSigned, Size: 1},
	0x69: {Name: "uint8", Kind: types.KindInt, Size: 1},
	0x70: {Name: "char", Kind: types.KindChar, Size: 1},
	0x71: {Name: "wchar", Kind: types.KindSigned, Size: 2},
	0x72: {Name: "short", Kind: types.KindSigned, Size: 2},
	0x73: {Name: "unsigned short", Kind: types.KindInt, Size: 2},
	0x74: {Name: "int", Kind: types.KindSigned, Size: 4},
	0x75: {Name: "unsigned int", Kind: types.KindInt, Size: 4},
	0x76: {Name: "long long", Kind: types.KindSigned, Size: 8},
	0x77: {Name: "unsigned long long", Kind: types.KindInt, Size: 8},
	0x78: {Name: "int128", Kind: types.KindSigned, Size: 16},
	0x79: {Name: "uint128", Kind: types.KindInt, Size: 16},
	0x7a: {Name: "char16_t", Kind: types.KindInt, Size: 2},
	0x7b: {Name: "char32_t", Kind: types.KindInt, Size: 4},
	0x7c: {Name: "char8_t", Kind: types.KindChar, Size: 1},
}

// baseTable is baseTypes and the pointers to them, by the low 11 bits of the
// index.
var baseTable = func() (all [0x800]*types.Type) {
	for i, t := range baseTypes {
		all[i] = t
		for mode, size := range pointerSizes {
			if mode > 0 {
				all[i|uint32(mode)<<8] = &types.Type{Name: "*" + t.Name, Kind: types.KindPointer, Size: size, Elem: t}
			}
		}
	}
	return all
}()

// baseType gives a base type, or a pointer to one.
func baseType(ti uint32) (*types.Type, error) {
	if t := baseTable[ti&0x7ff]; t != nil {
		return t, nil
	}
	return nil, fmt.Errorf("base type %#x: not known", ti)
}

// baseByName finds base types by name, for Store.
var baseByName = func() map[string]*types.Type {
	all := map[string]*types.Type{}
	for i := uint32(0x01); i < 0x100; i++ {
		if t := baseTypes[i]; t != nil && t.Name[0] != '<' && all[t.Name] == nil {
			all[t.Name] = t
		}
	}
	return all
}()

// pointerSizes gives the bytes of each kind of pointer to a base type: near,
// far and huge of 16 bits, 32, 16:32, 64 and 128 bits.
var pointerSizes = [8]uint32{0, 2, 4, 4, 4, 6, 8, 16}

// debuggerNames are base types as kd spells them in the parameters of a
// function, where that is not the name in the table above.
var debuggerNames = map[uint32]string{
	0x00: "...", 0x13: "int64", 0x23: "unsigned int64", 0x71: "wchar_t", 0x76: "int64", 0x77: "unsigned int64",
}
