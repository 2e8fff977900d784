// Package types knows the shapes of a target's data: structures with their
// fields and bit-fields, and names with their addresses relative to an image.
//
// They come from a symbol table that matches the image's GUID and age, or from
// layouts and global addresses embedded in the program. The package knows no
// memory and no object; it only says where things would be.
package types

import (
	"context"
	"encoding/hex"
	"fmt"
	"iter"
	"strings"
)

// Kind tells what a Type is.
type Kind uint8

// The kinds of types.
const (
	KindVoid   Kind = iota
	KindInt         // unsigned integer of Size bytes
	KindSigned      // signed integer of Size bytes
	KindFloat
	KindChar
	KindBool
	KindPointer  // Elem is what it points at
	KindArray    // Count elements of Elem
	KindStruct   // Fields
	KindUnion    // Fields
	KindEnum     // Consts
	KindFunction // a function; size 0
)

// Type is one type of the target. Types are immutable once handed out.
//
// The type that a pointer leads to may be incomplete, of size 0 and without
// fields, where its table does not describe it. A member of anonymous type has
// a type with a made-up name. "char" and "unsigned char" are both KindChar.
type Type struct {
	Name   string
	Kind   Kind
	Size   uint32 // bytes
	Elem   *Type  // of a pointer or array; nil where unknown
	Count  uint32 // elements of an array
	Fields []Field
	Consts map[string]int64 // of an enumeration
}

// Field is a member of a structure or union.
type Field struct {
	Name   string
	Offset uint32 // bytes from the start of the structure
	Type   *Type  // for a bit-field: its storage unit
	BitPos uint8  // lowest bit inside the storage unit
	BitLen uint8  // 0: no bit-field
}

// Field finds a member by name.
func (t *Type) Field(name string) (Field, bool) {
	for _, f := range t.Fields {
		if f.Name == name {
			return f, true
		}
	}
	return Field{}, false
}

// NotFoundError says which name a store or table lacks.
type NotFoundError struct {
	What string // "type", "field", "symbol"
	Name string
	In   string // where it was looked for
}

func (e *NotFoundError) Error() string {
	return fmt.Sprintf("%s %s: not in %s", e.What, e.Name, e.In)
}

// Match says how well a layout fits the image it is used for.
type Match uint8

// From worst to best.
const (
	MatchNone      Match = iota // no layout at all
	MatchNearest                // embedded, of another build of the same family; must prove itself
	MatchSynthetic              // made by hand, for tests
	MatchExact                  // same GUID and age, or an embedded layout of that very build family with that GUID
)

// String gives the match in a word for the banner.
func (m Match) String() string {
	return [...]string{"none", "nearest", "synthetic", "exact"}[m]
}

// Origin says where a Store's layouts come from.
type Origin struct {
	Build  uint32 // Windows build of the layout
	Match  Match
	Source string // "embedded layout 7601 (6.1.7601.24540)", "ISF table FILE"
	File   string // path of the table, empty for embedded ones
}

// Store gives types by name.
type Store interface {
	// Type gives a structure, union, enumeration or base type; a *NotFoundError otherwise.
	Type(name string) (*Type, error)
	Origin() Origin
}

// SymbolKind tells what a Symbol names, as far as its source knows.
type SymbolKind uint8

// The kinds of symbols.
const (
	SymUnknown  SymbolKind = iota
	SymFunction            // code
	SymData                // a variable
)

// Symbol is a name in an image.
type Symbol struct {
	Name string
	RVA  uint32 // bytes from the image's base
	Size uint32 // bytes of a function or variable; 0 where unknown
	Kind SymbolKind
	// Private: from the records of a compiler, which know kind and type; else
	// from a table of public names or exports.
	Private bool
}

// Symbols gives the names of one image, relative to its base.
type Symbols interface {
	// Lookup finds a name exactly as spelled.
	Lookup(name string) (Symbol, bool)
	// Nearest gives the symbol at or below an RVA and the distance in bytes.
	Nearest(rva uint32) (sym Symbol, delta uint32, ok bool)
	// Prefix gives at most max names that start with prefix, sorted.
	Prefix(prefix string, max int) []string
	// All gives every symbol, sorted by name as bytes compare.
	All() iter.Seq[Symbol]
	// Len is the number of names.
	Len() int
	// Describe says where the names come from, for lm: "isf", "export", "embedded".
	Describe() string
}

// TypedSymbols is implemented by Symbols that know the types of some names.
type TypedSymbols interface {
	Symbols
	// TypeOf gives the type of a function or variable, by its name as spelled.
	TypeOf(name string) (*Type, bool)
}

// Lister is implemented by stores that can list their types.
type Lister interface {
	// TypeNames gives the names of all structures, unions and enumerations, sorted.
	TypeNames() []string
}

// GUID is the identity in an image's RSDS record, in its byte order on disk.
type GUID [16]byte

// String gives the 32 upper-case hex digits that symbol stores use.
func (g GUID) String() string {
	return fmt.Sprintf("%02X%02X%02X%02X%02X%02X%02X%02X%X", g[3], g[2], g[1], g[0], g[5], g[4], g[7], g[6], g[8:])
}

// ParseGUID reads 32 hex digits, with or without dashes.
func ParseGUID(s string) (g GUID, err error) {
	b, err := hex.DecodeString(strings.ReplaceAll(s, "-", ""))
	if err == nil && len(b) != len(g) {
		err = fmt.Errorf("%d bytes, want %d", len(b), len(g))
	}
	if err != nil {
		return g, fmt.Errorf("GUID %q: %w", clip(s), err)
	}
	order := [16]int{3, 2, 1, 0, 5, 4, 7, 6, 8, 9, 10, 11, 12, 13, 14, 15}
	for i, from := range order {
		g[i] = b[from]
	}
	return g, nil
}

// ImageID identifies an image and its symbols.
type ImageID struct {
	Name      string // image name as the loader has it, "ntoskrnl.exe"
	PDB       string // file name in the RSDS record, "ntkrnlmp.pdb"; hostile: never used as a path uncleaned
	GUID      GUID
	Age       uint32
	Timestamp uint32 // of the PE header
	Size      uint32 // SizeOfImage
}

// Zero reports whether the identity has no GUID.
func (id ImageID) Zero() bool { return id.GUID == GUID{} }

// Resolver finds what is known about an image: its types (nil where the source
// has none) and its symbols. A *NotFoundError where nothing matches.
type Resolver interface {
	Resolve(ctx context.Context, id ImageID) (Store, Symbols, error)
}
