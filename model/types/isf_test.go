package types

import (
	"bytes"
	"compress/gzip"
	"encoding/base64"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/ulikunitz/xz"
)

const testGUID = "00112233445566778899AABBCCDDEEFF"

// testISF is a small table with one of everything.
const testISF = `{
"metadata": {"format": "6.2.0", "producer": {"name": "t", "list": [1, [2, {}], "]"]},
  "windows": {"pdb": {"GUID": "` + testGUID + `", "age": 3, "database": "t.pdb", "machine_type": 34404},
    "pe": {"major": 10, "build": 19045}}},
"symbols": {"b": {"address": 4660, "type": {"kind": "base", "name": "void"}}, "a\u0062c": {"address": 16, "linkage_name": "_abc", "type": {"kind": "array", "count": 3, "subtype": {"kind": "struct", "name": "_A"}}},
  "fixed": {"type": {"kind": "base", "name": "long"}, "constant_data": "AQIDBA=="}, "nothing": {"address": 4661, "constant_data": null, "linkage_name": null, "type": {"kind": "function"}},
  "far": {"address": 4294967296}, "none": {"linkage_name": "x\"y"}, "esc\/\\": {"address": 32}},
"user_types": {
  "_A": {"kind": "struct", "size": 40, "fields": {
    "Next": {"offset": 0, "type": {"kind": "pointer", "subtype": {"kind": "struct", "name": "_A"}}},
    "Flag": {"offset": 8, "type": {"kind": "bitfield", "bit_length": 3, "bit_position": 5, "type": {"kind": "base", "name": "unsigned long"}}},
    "Low": {"offset": 8, "type": {"type": null, "kind": "base", "name": "unsigned long"}},
    "Many": {"offset": 16, "type": {"count": 2, "subtype": {"kind": "array", "count": 3, "subtype": {"kind": "union", "name": "_U"}}, "kind": "array"}},
    "State": {"offset": 12, "type": {"kind": "enum", "name": "_E"}, "anonymous": false},
    "Run": {"offset": 32, "type": {"kind": "pointer", "subtype": {"kind": "function"}}},
    "Odd": {"offset": 36, "type": {"kind": "array", "count": -28, "subtype": {"kind": "base", "name": "char"}}}}},
  "_C1": {"kind": "class", "size": 32, "fields": {
    "First": {"offset": 0, "type": {"kind": "base", "name": "long"}, "anonymous": null},
    "u1": {"offset": 8, "anonymous": true, "type": {"kind": "class", "name": "_C2"}},
    "kept": {"offset": 24, "anonymous": true, "type": {"kind": "base", "name": "long"}}}},
  "_C2": {"kind": "class", "size": 12, "fields": {
    "Tail": {"offset": 8, "type": {"kind": "base", "name": "long"}},
    "u2": {"offset": 4, "anonymous": true, "type": {"kind": "union", "name": "_U"}}}},
  "_U": {"kind": "union", "size": 2, "fields": {"C": {"offset": 0, "type": {"kind": "base", "name": "char"}}}},
  "_A": {"kind": "struct", "size": 1, "fields": {}}},
"enums": {"_E": {"base": "int", "size": 4, "constants": {"One": 1, "Minus": -1, "Big": 18446744073709551615, "Vast": 18446744073709551616, "Deep": -9223372036854775809, "Half": 1.5}},
  "_C": {"size": 4, "constants": {}}},
"base_types": {
  "char": {"kind": "char", "size": 1, "signed": true, "endian": "little"},
  "unsigned long": {"kind": "int", "size": 4, "signed": false},
  "long": {"kind": "int", "size": 4, "signed": true},
  "odd": {"kind": "?", "size": 3, "signed": false},
  "pointer": {"kind": "int", "size": 8, "signed": false}}
}`

func readTest(tb testing.TB, text string) *ISF {
	tb.Helper()
	table, err := ReadISF(strings.NewReader(text), "dir/t.json")
	if err != nil {
		tb.Fatal(err)
	}
	return table
}

func TestISF_types(t *testing.T) {
	t.Parallel()
	table := readTest(t, testISF)
	a, err := table.Type("_A")
	if err != nil {
		t.Fatal(err)
	}
	want := `kind 8 size 0x28 {
_A.Next 0x0:0+0 *_A
_A.Low 0x8:0+0 unsigned long/4
_A.Flag 0x8:5+3 unsigned long/4
_A.State 0xc:0+0 enum 4 3 constants
_A.Many 0x10:0+0 [2][3]kind 9 size 0x2 {
_A.Many.C 0x0:0+0 char/1
}
_A.Run 0x20:0+0 *function
}`
	if diff := cmp.Diff(want, spell(a)); diff != "" {
		t.Errorf("_A (-want +got):\n%s", diff)
	}
	if next, _ := a.Field("Next"); next.Type.Elem != a || next.Type.Size != 8 {
		t.Errorf("_A.Next leads to %p, want %p", next.Type.Elem, a)
	}
	if many, _ := a.Field("Many"); many.Type.Size != 12 || many.Type.Count != 2 {
		t.Errorf("_A.Many has %d bytes in %d elements, want 12 in 2", many.Type.Size, many.Type.Count)
	}
	e, err := table.Type("_E")
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(map[string]int64{"One": 1, "Minus": -1, "Big": -1}, e.Consts); diff != "" {
		t.Errorf("_E (-want +got):\n%s", diff)
	}
	if n := table.Skipped(); n != 4 {
		t.Errorf("%d fields and constants skipped, want 4", n)
	}
	if diff := cmp.Diff([]string{"_A", "_C", "_C1", "_C2", "_E", "_U"}, table.TypeNames()); diff != "" {
		t.Errorf("names (-want +got):\n%s", diff)
	}
	for name, kind := range map[string]Kind{"char": KindChar, "unsigned long": KindInt, "long": KindSigned, "odd": KindInt} {
		if typ, err := table.Type(name); err != nil || typ.Kind != kind {
			t.Errorf("base type %s: %+v, %v; want kind %d", name, typ, err, kind)
		}
	}
	var missing *NotFoundError
	if _, err := table.Type("_B"); !errors.As(err, &missing) {
		t.Errorf("error = %v, want a *NotFoundError", err)
	}
}

// TestISF_anonymous has members of unnamed structures in the one around them.
func TestISF_anonymous(t *testing.T) {
	t.Parallel()
	c, err := readTest(t, testISF).Type("_C1")
	if err != nil {
		t.Fatal(err)
	}
	want := `kind 8 size 0x20 {
_C1.First 0x0:0+0 long/4
_C1.C 0xc:0+0 char/1
_C1.Tail 0x10:0+0 long/4
_C1.kept 0x18:0+0 long/4
}`
	if diff := cmp.Diff(want, spell(c)); diff != "" {
		t.Errorf("_C1 (-want +got):\n%s", diff)
	}
}

// TestISF_typedSymbols checks what tables may say of a symbol besides its address.
func TestISF_typedSymbols(t *testing.T) {
	t.Parallel()
	table := readTest(t, testISF)
	for _, name := range []string{"abc", "_abc"} { // as the linker had it
		sym, ok := table.Lookup(name)
		if want := (Symbol{Name: "abc", RVA: 16, Size: 120, Kind: SymData}); !ok || sym != want {
			t.Errorf("Lookup(%s) = %+v, %v; want %+v", name, sym, ok, want)
		}
		typ, ok := table.TypeOf(name)
		if !ok || typ.Kind != KindArray || typ.Elem.Name != "_A" {
			t.Errorf("TypeOf(%s) = %+v, %v", name, typ, ok)
		}
	}
	if sym, _ := table.Lookup("nothing"); sym != (Symbol{Name: "nothing", RVA: 4661, Kind: SymFunction}) {
		t.Errorf("a function: %+v", sym)
	}
	if typ, ok := table.TypeOf("b"); ok {
		t.Errorf("type void, which says nothing: %+v", typ)
	}
	if data, ok := table.Constant("fixed"); !ok || !bytes.Equal(data, []byte{1, 2, 3, 4}) {
		t.Errorf("Constant = %v, %v", data, ok)
	}
	if _, ok := table.Lookup("fixed"); ok {
		t.Error("a constant has an address")
	}
	var aliases []string
	for alias, name := range table.Aliases() {
		aliases = append(aliases, alias+"="+name)
	}
	if diff := cmp.Diff([]string{"_abc=abc"}, aliases); diff != "" {
		t.Errorf("aliases (-want +got):\n%s", diff)
	}
}

func TestISF_symbols(t *testing.T) {
	t.Parallel()
	table := readTest(t, testISF)
	if diff := cmp.Diff([]string{"abc", "b", `esc/\`, "nothing"}, table.Prefix("", 10)); diff != "" {
		t.Errorf("names (-want +got):\n%s", diff)
	}
	if sym, delta, ok := table.Nearest(0x1240); !ok || sym.Name != "nothing" || delta != 0xb {
		t.Errorf("Nearest = %v+%#x, %v", sym, delta, ok)
	}
	if table.Len() != 4 || table.Describe() != "isf" {
		t.Errorf("Len, Describe = %d, %s", table.Len(), table.Describe())
	}
}

func TestISF_metadata(t *testing.T) {
	t.Parallel()
	table := readTest(t, testISF)
	g, err := ParseGUID(testGUID)
	if err != nil {
		t.Fatal(err)
	}
	want := Metadata{Format: "6.2.0", PDB: "t.pdb", GUID: g, Age: 3, Machine: 0x8664, Build: 19045}
	if diff := cmp.Diff(want, table.Metadata()); diff != "" {
		t.Errorf("metadata (-want +got):\n%s", diff)
	}
	wantOrigin := Origin{Build: 19045, Match: MatchExact, Source: "ISF table t.json", File: "dir/t.json"}
	if diff := cmp.Diff(wantOrigin, table.Origin()); diff != "" {
		t.Errorf("origin (-want +got):\n%s", diff)
	}
	if err := table.Check(g, 3); err != nil {
		t.Error(err)
	}
	if table.Check(g, 2) == nil || table.Check(GUID{}, 3) == nil {
		t.Error("Check accepts another identity")
	}
}

// TestISF_packed reads the same table in each container.
func TestISF_packed(t *testing.T) {
	t.Parallel()
	for name, text := range map[string][]byte{"plain": []byte(testISF), "gzip": packGzip(t), "xz": packXZ(t, 1<<20), "bzip2": packedBzip2(t)} {
		table, err := ReadISF(bytes.NewReader(text), name)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if err := table.Err(); err != nil || table.Len() != 4 {
			t.Errorf("%s: %d names, %v", name, table.Len(), err)
		}
		if _, err := ReadISF(bytes.NewReader(text[:len(text)-20]), name); err == nil {
			t.Errorf("%s: truncated table accepted", name)
		}
	}
	if _, err := ReadISF(bytes.NewReader(packXZ(t, 128<<20)), "big window"); err == nil || !strings.Contains(err.Error(), "window") {
		t.Errorf("xz with a window of 128 MB: %v", err)
	}
}

func packGzip(tb testing.TB) []byte {
	var b bytes.Buffer
	w := gzip.NewWriter(&b)
	if _, err := w.Write([]byte(testISF)); err != nil {
		tb.Fatal(err)
	}
	if err := w.Close(); err != nil {
		tb.Fatal(err)
	}
	return b.Bytes()
}

// packedBzip2 is four names, packed by the program bzip2: the standard library
// only unpacks that format.
func packedBzip2(tb testing.TB) []byte {
	data, err := base64.StdEncoding.DecodeString("QlpoOTFBWSZTWf8/cMYAAD0ZgFAFfRA/BpwqIABUJUjyTTIDRieUEkSA000A9Q05Awh4hGtdt5fIxTDU/BualwVQqDBE3fIpAQGB" +
		"VZHTppBpUHcJbGa8EK4+bVR/xdyRThQkP8/cMYA=")
	if err != nil {
		tb.Fatal(err)
	}
	return data
}

func packXZ(tb testing.TB, window int) []byte {
	var b bytes.Buffer
	w, err := xz.WriterConfig{DictCap: window}.NewWriter(&b)
	if err == nil {
		_, err = w.Write([]byte(testISF))
	}
	if err == nil {
		err = w.Close()
	}
	if err != nil {
		tb.Fatal(err)
	}
	return b.Bytes()
}

// TestISF_hostile lists files that must be refused, when opened or when used.
func TestISF_hostile(t *testing.T) {
	t.Parallel()
	user := func(types string) string {
		return `{"metadata": {}, "user_types": ` + types + `}`
	}
	field := func(typ string) string {
		return user(`{"_A": {"size": 8, "kind": "struct", "fields": {"F": {"offset": 0, "type": ` + typ + `}}}}`)
	}
	tests := []struct{ name, text, want string }{
		{"empty", "", "want '{'"},
		{"no object", "[]", "want '{'"},
		{"no metadata", "{}", "metadata missing"},
		{"text after it", `{"metadata": {}} x`, "after the end"},
		{"open object", `{"metadata": {`, "want '\"'"},
		{"open string", `{"metadata": {"format": "6`, "without an end"},
		{"escape at the end", `{"metadata": {"format": "6\"`, "without an end"},
		{"bad escape", `{"metadata": {"format": "\q"}}`, "string"},
		{"no colon", `{"metadata" {}}`, "want ':'"},
		{"bad GUID", `{"metadata": {"windows": {"pdb": {"GUID": "zz"}}}}`, "GUID"},
		{"age too large", `{"metadata": {"windows": {"pdb": {"age": 4294967296}}}}`, "number"},
		{"open bracket", `{"metadata": {}, "x": [[[[`, "without its end"},
		{"deep", strings.Repeat(`{"metadata":{"windows":`, 1) + strings.Repeat(`{"pdb":`, 200), "JSON"},
		{"constant no number", `{"metadata": {}, "enums": {"_E": {"size": 4, "constants": {"A": "x"}}}}`, "number"},
		{"type of a symbol", `{"metadata": {}, "symbols": {"a": {"address": 1, "type": {"kind": 5}}}}`, "symbols"},
		{"anonymous in itself", user(`{"_A": {"size": 8, "kind": "struct", "fields": {"F": {"offset": 0, "anonymous": true, "type": {"kind": "struct", "name": "_A"}}}}}`), "contains itself"},
		{"contains itself", field(`{"kind": "struct", "name": "_A"}`), "contains itself"},
		{"array of itself", field(`{"kind": "array", "count": 2, "subtype": {"kind": "struct", "name": "_A"}}`), "contains itself"},
		{"deep pointers", field(strings.Repeat(`{"kind": "pointer", "subtype": `, 40) + `null` + strings.Repeat(`}`, 40)), "more than 32"},
		{"huge array", `{"metadata": {}, "base_types": {"c": {"size": 8}}, "user_types": {"_A": {"fields": {"F": {"offset": 0, "type":
			{"kind": "array", "count": 2147483648, "subtype": {"kind": "base", "name": "c"}}}}}}}`, "bytes, at most"},
		{"size no number", user(`{"_A": {"size": "x"}}`), "number"},
		{"symbols no object", `{"metadata": {}, "symbols": [1]}`, "want '{'"},
		{"address no number", `{"metadata": {}, "symbols": {"a": {"address": true}}}`, "number"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			table, err := ReadISF(strings.NewReader(tt.text), "t.json")
			if err == nil {
				err = table.Err()
			}
			if err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("error = %v, want one with %q", err, tt.want)
			}
		})
	}
}

// TestISF_limits checks the counts that guard against tables made to exhaust memory.
func TestISF_limits(t *testing.T) {
	t.Parallel()
	var b strings.Builder
	b.WriteString(`{"metadata": {}, "user_types": {`)
	for i := range maxTypes + 1 {
		fmt.Fprintf(&b, `"%d": {"size": 1},`, i)
	}
	b.WriteString(`"x": {}}}`)
	if err := readTest(t, b.String()).Err(); err == nil || !strings.Contains(err.Error(), "types") {
		t.Errorf("too many types: %v", err)
	}
}

// TestISF_concurrent lets the race detector see two first users.
func TestISF_concurrent(t *testing.T) {
	t.Parallel()
	table := readTest(t, testISF)
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			if _, err := table.Type("_A"); err != nil {
				t.Error(err)
			}
			table.Nearest(100)
		})
	}
	wg.Wait()
}

func TestOpenISF(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	file := filepath.Join(dir, "t.json")
	if err := os.WriteFile(file, []byte(testISF), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := OpenISF(file); err != nil {
		t.Error(err)
	}
	if _, err := OpenISF(filepath.Join(dir, "none.json")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("missing file: %v", err)
	}
	if _, err := OpenISF(dir); err == nil {
		t.Error("opened a folder")
	}
}

func FuzzReadISF(f *testing.F) {
	f.Add([]byte(testISF))
	f.Add(packGzip(f))
	f.Add(packXZ(f, 1<<16))
	f.Add([]byte(`{"metadata": {}, "user_types": {"_A": {"size": 8, "fields": {"F": {"offset": 0, "type": {"kind": "struct", "name": "_A"}}}}}}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		table, err := ReadISF(bytes.NewReader(data), "fuzz")
		if err != nil {
			return
		}
		for _, name := range table.TypeNames() {
			typ, err := table.Type(name)
			if err != nil {
				t.Fatalf("%s is listed: %v", name, err)
			}
			spell(typ) // ends, whatever contains what
		}
		for _, name := range table.Prefix("", 100) {
			sym, ok := table.Lookup(name)
			if !ok {
				t.Fatalf("%q is listed but not found", name)
			}
			if near, delta, ok := table.Nearest(sym.RVA); !ok || near.RVA != sym.RVA || delta != 0 {
				t.Fatalf("Nearest(%#x) = %v+%#x", sym.RVA, near, delta)
			}
		}
	})
}
