package pdb_test

import (
	"encoding/binary"
	"fmt"
	"strings"
	"testing"

	gocmp "github.com/google/go-cmp/cmp"

	"gokd/model/types"
	"gokd/model/types/pdb"
	"gokd/model/types/pdb/pdbtest"
)

// raw writes a record of a type by hand: uint16 and uint32 values, bytes and
// names.
func raw(leaf uint16, parts ...any) pdbtest.Raw {
	var b []byte
	for _, p := range parts {
		switch v := p.(type) {
		case uint8:
			b = append(b, v)
		case uint16:
			b = binary.LittleEndian.AppendUint16(b, v)
		case int: // a type index
			b = binary.LittleEndian.AppendUint32(b, uint32(v))
		case uint64:
			b = binary.LittleEndian.AppendUint64(b, v)
		case string:
			b = append(append(b, v...), 0)
		case []byte:
			b = append(b, v...)
		default:
			panic(fmt.Sprintf("%T", p))
		}
	}
	return pdbtest.Raw{Leaf: leaf, Data: b}
}

// item is a member in a field list: LF_MEMBER of that type and offset.
func item(ti int, offset uint16, name string) []byte {
	b := raw(0, uint16(0x150d), uint16(3), ti, offset, name).Data
	for n := (4 - len(b)%4) % 4; n > 0; n-- {
		b = append(b, 0xf0+byte(n))
	}
	return b
}

// oddTypes are records that no compiler at hand writes, from index 0x1000 on.
func oddTypes() []pdbtest.Raw {
	const none, forward, unique = uint16(0), uint16(0x80), uint16(0x200)
	return []pdbtest.Raw{
		raw(0x1203, item(0x74, 0, "a"), item(0x1002, 4, "me")),                        // 1000
		raw(0x1609, 0, 0x1000, 0, 0, uint16(2), uint16(8), "NEW"),                     // 1001: LF_STRUCTURE_VS19
		raw(0x1505, uint16(1), none, 0x1000, 0, 0, uint16(8), "SELF"),                 // 1002: contains itself
		raw(0x1002, 0x1003, 0x1000c),                                                  // 1003: a pointer to itself
		raw(0x1505, none, forward, 0, 0, 0, none, "LOST"),                             // 1004: defined nowhere
		raw(0x1203, uint16(0x1404), none, 0x1005),                                     // 1005: a list that goes on with itself
		raw(0x1505, uint16(1), none, 0x1005, 0, 0, uint16(8), "CIRCLE"),               // 1006
		raw(0x1505, uint16(1), none, 0x1002, 0, 0, uint16(8), "NO_LIST"),              // 1007: its list is a structure
		raw(0x1505, uint16(1), none, 0x9999, 0, 0, uint16(8), "FAR"),                  // 1008: its list is nowhere
		raw(0x1505, uint16(1), none, 0, 0, 0, uint16(0x8005), 0, "REAL"),              // 1009: a size of 1.0
		raw(0x1505, uint16(1), none, 0, 0, 0, uint16(0x800a), uint64(1)<<40, "LARGE"), // 100a
		raw(0x150a, 0x1001, "ALIAS"),                                                  // 100b: LF_ALIAS
		raw(0x1203, item(0x100b, 0, "x"), uint16(0x140c), none, 0x1003, 16, // 100c: LF_VFUNCOFF
			uint16(0x1400), none, 0x1001, uint16(24)), // LF_BCLASS
		raw(0x1504, uint16(3), unique, 0x100c, 0, 0, uint16(32), "Odd", ".?AVOdd@@"),            // 100d
		raw(0x1504, none, forward|unique, 0, 0, 0, none, "Other", ".?AVOdd@@"),                  // 100e: found by its unique name
		raw(0x1503, 0x100e, 0x23, uint16(96), ""),                                               // 100f: three of them
		raw(0x160a, 0, 0x1000, uint16(2), uint16(8), "NEW_UNION"),                               // 1010
		raw(0x1203, item(0x100f, 0, "many"), item(0x47, 96, "base"), item(0x1004, 104, "lost")), // 1011
		raw(0x1505, uint16(3), none, 0x1011, 0, 0, uint16(104), "USER"),                         // 1012
		raw(0x1507, uint16(1), none, 0x47, 0, "BAD_ENUM"),                                       // 1013
		raw(0x1505, uint16(1), none, 0x1000, 0, 0, uint16(8)),                                   // 1014: no name
	}
}

// TestOddTypes reads them.
func TestOddTypes(t *testing.T) {
	t.Parallel()
	f := read(t, build(t, pdbtest.Spec{Raw: oddTypes()}))
	var got []string
	for typ, err := range f.Types() {
		if err != nil {
			got = append(got, err.Error())
			continue
		}
		got = append(got, fmt.Sprintf("%s %s %d", kindWord(typ), typ.Name, typ.Size))
		for _, m := range typ.Fields {
			got = append(got, fmt.Sprintf("  %s +%d %s/%d", m.Name, m.Offset, m.Type.Name, m.Type.Size))
		}
	}
	want := strings.Split(strings.TrimSpace(`
struct NEW 8
  a +0 int/4
  me +4 SELF/8
struct SELF 8
  a +0 int/4
  me +4 <unreadable type 0x1002>/0
unreadable type CIRCLE: field list leads back to itself
unreadable type NO_LIST: field list: type 0x1002 is of kind 0x1505
unreadable type FAR: field list: type 0x9999: database has 0x1000 to 0x1015
unreadable type 0x1009: number in form 0x8005
unreadable type LARGE: 0x10000000000 bytes, at most 0x80000000
struct Odd 32
  x +0 NEW/8
  __VFN_table +16 */8
  a +24 int/4
  me +28 SELF/8
union NEW_UNION 8
  a +0 int/4
  me +4 SELF/8
struct USER 104
  many +0 [3]Odd/96
  base +96 <unreadable type 0x47>/0
  lost +104 LOST/0
unreadable type BAD_ENUM: underlying type: base type 0x47: not known
unreadable type 0x1014: name without an end`), "\n")
	if diff := gocmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	for name, want := range map[string]string{
		"FAR":            "unreadable type FAR: field list: type 0x9999: database has 0x1000 to 0x1015",
		"LOST":           "type LOST: not in PDB .",
		"__unnamed_1012": "type __unnamed_1012: not in PDB .",
	} {
		if _, err := f.Type(name); err == nil || err.Error() != want {
			t.Errorf("%s: error = %v, want %s", name, err, want)
		}
	}
}

// TestPointers reads pointers of all kinds and how they are spelled.
func TestPointers(t *testing.T) {
	t.Parallel()
	list := raw(0x1201, 9)
	for i := range 6 {
		list.Data = append(list.Data, raw(0, 0x1000+i).Data...)
	}
	list.Data = append(list.Data, raw(0, 0x623, 0x471, 0).Data...)
	f := read(t, build(t, pdbtest.Spec{Raw: []pdbtest.Raw{
		raw(0x1002, 0x74, 0xa),                          // 1000: 32 bits, no size told
		raw(0x1002, 0x74, 0xc),                          // 1001: 64 bits, no size told
		raw(0x1002, 0x1001, 0x1002c),                    // 1002: a reference
		raw(0x1002, 0x12, 0x1008c),                      // 1003: of an rvalue
		raw(0x1002, 0x1007, 0x1000c),                    // 1004: to a function
		raw(0x1002, 0x1009, 0x1000c),                    // 1005: to an array
		list,                                            // 1006
		raw(0x1008, 0x12, uint16(0), uint16(9), 0x1006), // 1007
		raw(0x1505, uint16(0), uint16(0x80), 0, 0, 0, uint16(0), "_S"), // 1008
		raw(0x1503, 0x1008, 0x23, uint16(64), ""),                      // 1009: of unknown elements
	}}))
	var got []string
	for _, ti := range []uint32{0x1000, 0x1001, 0x1002, 0x1004, 0x1005, 0x1007} {
		typ, err := f.TypeAt(ti)
		if err != nil {
			t.Fatal(err)
		}
		got = append(got, fmt.Sprintf("%s/%d", typ.Name, typ.Size))
	}
	function := "(int *, int *, int *&, long &&, <function> *, struct _S [64] *, unsigned int64 *, wchar_t *, ...)"
	want := []string{"*int/4", "*int/8", "**int/8", "*" + function + "/8", "*[0]_S/8", function + "/0"}
	if diff := gocmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

// TestDeepTypes reads types nested too deep and used in each other too often.
func TestDeepTypes(t *testing.T) {
	t.Parallel()
	var chain []pdbtest.Raw
	for i := range 1000 { // an array of an array of ...
		chain = append(chain, raw(0x1503, 0x1000+i+1, 0x23, uint16(4), ""))
	}
	chain = append(chain,
		raw(0x1203, item(0x1000, 0, "deep")),
		raw(0x1505, uint16(1), uint16(0), 0x1000+1000, 0, 0, uint16(4), "DEEP"))
	f := read(t, build(t, pdbtest.Spec{Raw: chain}))
	deep, err := f.Type("DEEP")
	if err != nil || deep.Fields[0].Type.Name != "<unreadable type 0x1000>" {
		t.Errorf("DEEP: %+v, %v", deep, err)
	}

	// Each class has the one before twice as a base: 2^40 members in all.
	double := []pdbtest.Raw{raw(0x1203, item(0x74, 0, "a")), raw(0x1504, uint16(1), uint16(0), 0x1000, 0, 0, uint16(4), "C0")}
	for i := range 40 {
		base := 0x1001 + 2*i
		double = append(double,
			raw(0x1203, uint16(0x1400), uint16(3), base, uint16(0), uint16(0xf1f2), uint16(0x1400), uint16(3), base, uint16(4)),
			raw(0x1504, uint16(2), uint16(0), base+1, 0, 0, uint16(8), fmt.Sprintf("C%d", i+1)))
	}
	f = read(t, build(t, pdbtest.Spec{Raw: double}))
	if c, err := f.Type("C10"); err != nil || len(c.Fields) != 1024 {
		t.Errorf("C10: %v", err)
	}
	for _, name := range []string{"C19", "C40"} {
		want := "unreadable type " + name + ": its types are used in each other too often"
		if _, err := f.Type(name); err == nil || err.Error() != want {
			t.Errorf("error = %v, want %s", err, want)
		}
	}
	if c, err := f.Type("C3"); err != nil || len(c.Fields) != 8 { // those that are small are read as before
		t.Errorf("C3: %v", err)
	}
	n := 0
	for typ, err := range f.Types() {
		if err == nil {
			n += len(typ.Fields)
		}
	}
	if n > 1<<23 {
		t.Errorf("%d members", n)
	}
}

// TestRearranged reads an image whose pieces were moved after linking.
func TestRearranged(t *testing.T) {
	t.Parallel()
	f := read(t, build(t, pdbtest.Spec{
		Symbols: []types.Symbol{
			{Name: "First", RVA: 0x1000, Kind: types.SymFunction}, {Name: "Second", RVA: 0x1104, Kind: types.SymFunction},
			{Name: "Gone", RVA: 0x1200, Kind: types.SymFunction}, {Name: "Third", RVA: 0x1308, Size: 8, Kind: types.SymFunction, Private: true},
			{Name: "Data", RVA: 0x3010, Kind: types.SymData},
		},
		Sections: []pdbtest.Section{{Name: ".text", RVA: 0x1000, Size: 0x2000, Characteristics: 0x60000020}, {Name: ".data", RVA: 0x8000, Size: 0x100, Characteristics: 0xc0000040}},
		Original: []pdbtest.Section{{Name: ".text", RVA: 0x1000, Size: 0x1000, Characteristics: 0x60000020}, {Name: ".data", RVA: 0x3000, Size: 0x100, Characteristics: 0xc0000040}},
		Moved:    []pdbtest.Move{{From: 0x1000, To: 0x2500}, {From: 0x1100, To: 0x1000}, {From: 0x1200, To: 0}, {From: 0x1300, To: 0x1800}, {From: 0x3000, To: 0x8000}},
		Lines:    []pdbtest.Lines{{RVA: 0x1308, Size: 8, File: "t.c", Lines: []pdbtest.Line{{Offset: 0, Line: 5}, {Offset: 4, Line: 6}}}},
	}))
	var got []string
	for s := range f.All() {
		got = append(got, fmt.Sprintf("%s %#x", s.Name, s.RVA))
	}
	if diff := gocmp.Diff([]string{"Data 0x8010", "First 0x2500", "Second 0x1004", "Third 0x1808"}, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	placed := map[string]bool{}
	for p := range f.Publics() {
		placed[p.Name] = p.Placed
	}
	if diff := gocmp.Diff(map[string]bool{"First": true, "Second": true, "Gone": false, "Data": true}, placed); diff != "" {
		t.Errorf("placed (-want +got):\n%s", diff)
	}
	if l, err := f.LineAt(0x180d); err != nil || l != (pdb.Line{File: "t.c", Line: 6, RVA: 0x180c, Size: 4}) {
		t.Errorf("line: %+v, %v", l, err)
	}
	if _, err := f.LineAt(0x1300); err == nil {
		t.Error("a line for code that is nowhere")
	}
}
