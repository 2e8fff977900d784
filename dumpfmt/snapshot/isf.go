package snapshot

import (
	"encoding/json"
	"fmt"
	"strings"

	"gokd/model/types"
)

// The intermediate symbol format, version 6.2 (volatility3
// schemas/schema-6.2.0.json).
type (
	isfTable struct {
		Metadata  isfMetadata          `json:"metadata"`
		BaseTypes map[string]isfBase   `json:"base_types"`
		UserTypes map[string]isfUser   `json:"user_types"`
		Enums     map[string]isfEnum   `json:"enums"`
		Symbols   map[string]isfSymbol `json:"symbols"`
	}
	isfMetadata struct {
		Format   string      `json:"format"`
		Producer isfProducer `json:"producer"`
		Windows  isfWindows  `json:"windows"`
	}
	isfProducer struct {
		Name     string `json:"name"`
		Version  string `json:"version"`
		Datetime string `json:"datetime"`
	}
	isfWindows struct {
		PDB isfPDB  `json:"pdb"`
		PE  *isfExe `json:"pe,omitempty"`
	}
	isfPDB struct {
		GUID     string `json:"GUID"`
		Age      uint32 `json:"age"`
		Database string `json:"database"`
		Machine  uint32 `json:"machine_type"`
	}
	isfExe struct {
		Major    uint32 `json:"major"`
		Minor    uint32 `json:"minor"`
		Revision uint32 `json:"revision"`
		Build    uint32 `json:"build"`
	}
	isfBase struct {
		Size   uint32 `json:"size"`
		Signed bool   `json:"signed"`
		Kind   string `json:"kind"`
		Endian string `json:"endian"`
	}
	isfUser struct {
		Kind   string              `json:"kind"`
		Size   uint32              `json:"size"`
		Fields map[string]isfField `json:"fields"`
	}
	isfField struct {
		Type   *isfType `json:"type"`
		Offset uint32   `json:"offset"`
	}
	isfType struct {
		Kind        string   `json:"kind"`
		Name        string   `json:"name,omitempty"`
		Subtype     *isfType `json:"subtype,omitempty"`
		Count       *uint32  `json:"count,omitempty"`
		Type        *isfType `json:"type,omitempty"`
		BitPosition *uint8   `json:"bit_position,omitempty"`
		BitLength   *uint8   `json:"bit_length,omitempty"`
	}
	isfEnum struct {
		Size      uint32           `json:"size"`
		Base      string           `json:"base"`
		Constants map[string]int64 `json:"constants"`
	}
	isfSymbol struct {
		Address uint32 `json:"address"`
	}
)

// isf writes the table.
func (t *symbolTable) isf() ([]byte, error) {
	w := &isfWriter{table: isfTable{
		Metadata: isfMetadata{
			Format:   "6.2.0",
			Producer: isfProducer{"gokd snapshot", "1.0", "2012-01-01T00:00:00"},
			Windows:  isfWindows{PDB: isfPDB{t.id.GUID.String(), t.id.Age, t.id.PDB, machineX64}},
		},
		BaseTypes: map[string]isfBase{"pointer": {8, false, "int", "little"}, "void": {0, false, "void", "little"}},
		UserTypes: map[string]isfUser{}, Enums: map[string]isfEnum{}, Symbols: map[string]isfSymbol{},
	}}
	for i, name := range t.names {
		w.table.Symbols[name] = isfSymbol{t.rvas[i]}
	}
	if t.store != nil {
		w.table.Metadata.Windows.PE = &isfExe{6, 1, 1, t.build}
		if err := w.types(t.store); err != nil {
			return nil, err
		}
	}
	return json.Marshal(w.table)
}

type isfWriter struct{ table isfTable }

// opaque are structures that layouts do not have, because no debugger of
// kernels' locks and pool needs them, but that Volatility refuses a table
// without (volatility3 framework/symbols/windows/__init__.py).
var opaque = []string{
	"_CMHIVE", "_CM_KEY_BODY", "_CM_KEY_NODE", "_CM_KEY_VALUE", "_HMAP_ENTRY", "_IMAGE_DOS_HEADER", "_SHARED_CACHE_MAP", "_VACB",
}

// enumFields are fields whose enumeration Volatility asks for by name; the
// layouts of older builds know them as numbers.
var enumFields = map[string]string{"_KUSER_SHARED_DATA.NtProductType": "_NT_PRODUCT_TYPE"}

// types writes every structure, union and enumeration of a store.
func (w *isfWriter) types(s types.Store) error {
	named, ok := s.(interface{ TypeNames() []string })
	if !ok {
		return fmt.Errorf("%T does not list its types", s)
	}
	for _, name := range opaque {
		w.table.UserTypes[name] = isfUser{Kind: "struct", Fields: map[string]isfField{}}
	}
	for _, name := range named.TypeNames() {
		t, err := s.Type(name)
		if err != nil {
			return err
		}
		if t.Kind == types.KindEnum {
			w.enum(t)
			continue
		}
		kind := "struct"
		if t.Kind == types.KindUnion {
			kind = "union"
		}
		u := isfUser{Kind: kind, Size: t.Size, Fields: map[string]isfField{}}
		for _, f := range t.Fields {
			d := w.describe(f.Type)
			if e := enumFields[name+"."+f.Name]; e != "" {
				d = &isfType{Kind: "enum", Name: e}
			}
			if f.BitLen != 0 {
				d = &isfType{Kind: "bitfield", Type: d, BitPosition: &f.BitPos, BitLength: &f.BitLen}
			}
			u.Fields[f.Name] = isfField{d, f.Offset}
		}
		w.table.UserTypes[t.Name] = u
	}
	return nil
}

// enum writes an enumeration with the base type of its size.
func (w *isfWriter) enum(t *types.Type) {
	base := "unsigned long"
	if t.Size != 4 {
		base = map[uint32]string{1: "unsigned char", 2: "unsigned short", 8: "unsigned long long"}[t.Size]
	}
	w.base(&types.Type{Name: base, Kind: types.KindInt, Size: t.Size})
	w.table.Enums[t.Name] = isfEnum{t.Size, base, t.Consts}
}

// describe writes a type where it is used.
func (w *isfWriter) describe(t *types.Type) *isfType {
	if t == nil {
		return &isfType{Kind: "base", Name: "void"}
	}
	switch t.Kind {
	case types.KindPointer:
		return &isfType{Kind: "pointer", Subtype: w.describe(t.Elem)}
	case types.KindArray:
		return &isfType{Kind: "array", Subtype: w.describe(t.Elem), Count: &t.Count}
	case types.KindStruct, types.KindUnion:
		if t.Size == 0 && len(t.Fields) == 0 { // only pointers lead to it
			w.table.UserTypes[t.Name] = isfUser{Kind: "struct", Fields: map[string]isfField{}}
		}
		kind := "struct"
		if t.Kind == types.KindUnion {
			kind = "union"
		}
		return &isfType{Kind: kind, Name: t.Name}
	case types.KindEnum:
		return &isfType{Kind: "enum", Name: t.Name}
	case types.KindFunction:
		return &isfType{Kind: "function"}
	}
	w.base(t)
	return &isfType{Kind: "base", Name: t.Name}
}

// base notes a base type that is used.
func (w *isfWriter) base(t *types.Type) {
	b := isfBase{Size: t.Size, Endian: "little", Kind: "int"}
	switch t.Kind {
	case types.KindVoid:
		b.Kind = "void"
	case types.KindChar:
		b.Kind, b.Signed = "char", t.Name == "char"
	case types.KindSigned:
		b.Signed = true
	case types.KindFloat:
		b.Kind, b.Signed = "float", true
	case types.KindBool:
		b.Kind = "bool"
	}
	if strings.TrimSpace(t.Name) != "" {
		w.table.BaseTypes[t.Name] = b
	}
}
