package index

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"gokd/dumpfmt/dumptest/shared"
	"gokd/model/types"
)

const testISF = `{
"metadata": {"format": "6.2.0", "windows": {"pdb": {"GUID": "00112233445566778899AABBCCDDEEFF", "age": 3, "database": "t.pdb"},
    "pe": {"build": 26200}}},
"symbols": {"a": {"address": 16}, "b": {"address": 4660}, "longer": {"address": 4660}, "?odd@@": {"address": 4660}},
"user_types": {
  "_A": {"kind": "struct", "size": 40, "fields": {
    "Next": {"offset": 0, "type": {"kind": "pointer", "subtype": {"kind": "struct", "name": "_A"}}},
    "Flag": {"offset": 8, "type": {"kind": "bitfield", "bit_length": 3, "bit_position": 5, "type": {"kind": "base", "name": "unsigned long"}}},
    "Many": {"offset": 16, "type": {"count": 2, "subtype": {"kind": "array", "count": 3, "subtype": {"kind": "union", "name": "_U"}}, "kind": "array"}},
    "State": {"offset": 12, "type": {"kind": "enum", "name": "_E"}},
    "Run": {"offset": 32, "type": {"kind": "pointer", "subtype": {"kind": "function"}}},
    "Strange": {"offset": 24, "type": {"kind": "pointer", "subtype": {"kind": "struct", "name": "_NOWHERE"}}}}},
  "_U": {"kind": "union", "size": 2, "fields": {"C": {"offset": 0, "type": {"kind": "base", "name": "char"}}}}},
"enums": {"_E": {"base": "int", "size": 4, "constants": {"One": 1, "Minus": -1, "Big": 18446744073709551615}}, "_NONE": {"size": 4, "constants": {}}},
"base_types": {
  "char": {"kind": "char", "size": 1, "signed": true}, "unsigned long": {"kind": "int", "size": 4, "signed": false},
  "double": {"kind": "float", "size": 8, "signed": true}, "pointer": {"kind": "int", "size": 8, "signed": false}}
}`

func testTable(tb testing.TB) *types.ISF {
	tb.Helper()
	table, err := types.ReadISF(strings.NewReader(testISF), "dir/t.json")
	if err != nil {
		tb.Fatal(err)
	}
	return table
}

func testKey() Key {
	return Key{Name: "t.pdb", GUID: types.GUID{1, 2}, Age: 3, Kind: "isf", Source: "dir/t.json", Size: 99, ModTime: 1234}
}

// typed gives symbols of a table types, as a private PDB would.
type typed struct {
	types.Symbols
	of map[string]*types.Type
}

func (s typed) TypeOf(name string) (*types.Type, bool) { t, ok := s.of[name]; return t, ok }

// through gives a table's way through the cache.
func through(tb testing.TB, store types.Store, syms types.Symbols) *Table {
	tb.Helper()
	c, k := OpenCache(tb.TempDir(), 0), testKey()
	if err := c.Put(k, store, syms); err != nil {
		tb.Fatal(err)
	}
	t, err := c.Get(k)
	if err != nil {
		data, _ := os.ReadFile(filepath.Join(c.dir, k.fileName()))
		_, why := decode(data)
		tb.Fatalf("%v: %v", err, why)
	}
	return t
}

func TestTable(t *testing.T) {
	t.Parallel()
	src := testTable(t)
	a, err := src.Type("_A")
	if err != nil {
		t.Fatal(err)
	}
	ptr := &types.Type{Name: "*", Kind: types.KindPointer, Size: 8, Elem: a}
	syms := typed{src, map[string]*types.Type{"a": a, "longer": ptr}}
	got := through(t, src, syms)
	equal(t, src, syms, got)
	if diff := cmp.Diff(types.Origin{Build: 26200, Match: types.MatchExact, Source: "ISF table t.json", File: "dir/t.json"}, got.Origin()); diff != "" {
		t.Errorf("origin (-want +got):\n%s", diff)
	}
	if !got.HasTypes() || got.Describe() != "isf" || got.Key() != testKey() {
		t.Errorf("types %v, described %q, key %v", got.HasTypes(), got.Describe(), got.Key())
	}
	same, _ := got.Type("_A")
	if next, _ := same.Field("Next"); next.Type.Elem != same {
		t.Error("_A.Next leads to another _A")
	}
	if of, ok := got.TypeOf("longer"); !ok || of.Elem != same {
		t.Errorf("type of longer = %v, %v", of, ok)
	}
	if d, err := got.Type("double"); err != nil || d.Kind != types.KindFloat {
		t.Errorf("double, which no structure has: %v, %v", d, err)
	}
	var missing *types.NotFoundError
	if _, err := got.Type("_NOWHERE"); !errors.As(err, &missing) {
		t.Errorf("a type that is named only: %v", err)
	}
}

// TestTable_shared compares every name and type of real tables.
func TestTable_shared(t *testing.T) {
	t.Parallel()
	files, err := filepath.Glob(filepath.Join(shared.Path(t, "isf", "windows", "ntkrnlmp.pdb"), "*.json.xz"))
	if err != nil || len(files) < 2 {
		t.Fatalf("%d tables, %v", len(files), err)
	}
	for _, file := range files[:2] {
		src, err := types.OpenISF(file)
		if err != nil {
			t.Fatal(err)
		}
		equal(t, src, src, through(t, src, src))
	}
}

// TestTable_embedded sends an embedded layout through.
func TestTable_embedded(t *testing.T) {
	t.Parallel()
	id := types.Kernels()[0]
	layout, _, ok := types.EmbeddedByGUID(id.GUID, id.Age)
	if !ok {
		t.Fatal("not embedded")
	}
	syms := testTable(t)
	equal(t, layout, syms, through(t, layout, syms))
}

func TestTable_parts(t *testing.T) {
	t.Parallel()
	src := testTable(t)
	names := through(t, nil, src)
	if names.HasTypes() || names.Len() != 4 {
		t.Errorf("names only: types %v, %d names", names.HasTypes(), names.Len())
	}
	if names.Origin().File != "dir/t.json" {
		t.Errorf("origin of names only: %+v", names.Origin())
	}
	only := through(t, src, nil)
	if _, _, ok := only.Nearest(5); ok || only.Len() != 0 || !only.HasTypes() {
		t.Error("types only: names found")
	}
}

// TestTable_concurrent lets the race detector see first users of types.
func TestTable_concurrent(t *testing.T) {
	t.Parallel()
	src := testTable(t)
	table := through(t, src, src)
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			for _, name := range table.TypeNames() {
				if typ, err := table.Type(name); err != nil || typ.Name != name {
					t.Errorf("%s: %v, %v", name, typ, err)
				}
			}
		})
	}
	wg.Wait()
}

// equal holds a table from the cache to its source.
func equal(t *testing.T, store types.Store, syms types.Symbols, got *Table) {
	t.Helper()
	names := store.(types.Lister).TypeNames()
	if diff := cmp.Diff(names, got.TypeNames()); diff != "" {
		t.Errorf("names of types (-want +got):\n%s", diff)
	}
	seen := map[[2]*types.Type]bool{}
	for _, name := range append(names, "char", "unsigned long", "long long", "no such type") {
		a, aerr := store.Type(name)
		b, berr := got.Type(name)
		if (aerr == nil) != (berr == nil) {
			t.Errorf("type %s: %v, want %v", name, berr, aerr)
			continue
		}
		if aerr == nil {
			if diff := differ(a, b, seen); diff != "" {
				t.Errorf("type %s: %s", name, diff)
			}
		}
	}
	if diff := cmp.Diff(slices.Collect(syms.All()), slices.Collect(got.All())); diff != "" {
		t.Errorf("symbols (-want +got):\n%s", diff)
	}
	typed, _ := syms.(types.TypedSymbols)
	for s := range syms.All() {
		for _, rva := range []uint32{s.RVA, s.RVA + 1, s.RVA - 1} {
			a, ad, aok := syms.Nearest(rva)
			b, bd, bok := got.Nearest(rva)
			if a != b || ad != bd || aok != bok {
				t.Fatalf("Nearest(%#x) = %v+%#x, %v; want %v+%#x, %v", rva, b, bd, bok, a, ad, aok)
			}
		}
		a, aok := syms.Lookup(s.Name)
		if b, bok := got.Lookup(s.Name); a != b || aok != bok {
			t.Fatalf("Lookup(%s) = %v, %v; want %v, %v", s.Name, b, bok, a, aok)
		}
		if typed == nil {
			continue
		}
		x, xok := typed.TypeOf(s.Name)
		y, yok := got.TypeOf(s.Name)
		if xok != yok {
			t.Errorf("TypeOf(%s): %v, want %v", s.Name, yok, xok)
		} else if diff := differ(x, y, seen); diff != "" {
			t.Errorf("TypeOf(%s): %s", s.Name, diff)
		}
	}
	for _, prefix := range []string{"", "a", "Ki", "zz", "Mm"} {
		if diff := cmp.Diff(syms.Prefix(prefix, 50), got.Prefix(prefix, 50)); diff != "" {
			t.Errorf("Prefix(%q) (-want +got):\n%s", prefix, diff)
		}
	}
	if a, b := syms.Len(), got.Len(); a != b || got.Describe() != syms.Describe() || store.Origin() != got.Origin() {
		t.Errorf("%d names of %s, %+v; want %d of %s, %+v", b, got.Describe(), got.Origin(), a, syms.Describe(), store.Origin())
	}
}

// differ tells the first difference of two types and all they lead to.
func differ(a, b *types.Type, seen map[[2]*types.Type]bool) string {
	if a == nil || b == nil {
		if a != b {
			return fmt.Sprintf("%v, want %v", b, a)
		}
		return ""
	}
	if seen[[2]*types.Type{a, b}] {
		return ""
	}
	seen[[2]*types.Type{a, b}] = true
	if a.Name != b.Name || a.Kind != b.Kind || a.Size != b.Size || a.Count != b.Count || len(a.Fields) != len(b.Fields) {
		return fmt.Sprintf("%+v, want %+v", b, a)
	}
	if diff := cmp.Diff(a.Consts, b.Consts); diff != "" {
		return diff
	}
	for i, f := range a.Fields {
		g := b.Fields[i]
		if f.Name != g.Name || f.Offset != g.Offset || f.BitPos != g.BitPos || f.BitLen != g.BitLen {
			return fmt.Sprintf("field %+v, want %+v", g, f)
		}
		if diff := differ(f.Type, g.Type, seen); diff != "" {
			return f.Name + ": " + diff
		}
	}
	return differ(a.Elem, b.Elem, seen)
}

// TestKept reminds of the file's form whoever adds a member to what it keeps.
func TestKept(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		what any
		want int
	}{{types.Type{}, 7}, {types.Field{}, 5}, {types.Symbol{}, 5}, {types.Origin{}, 4}, {Key{}, 7}} {
		if n := reflect.TypeOf(tt.what).NumField(); n != tt.want {
			t.Errorf("%T has %d members, %d are kept: keep the new ones and count the version up", tt.what, n, tt.want)
		}
	}
}

func TestCache_keys(t *testing.T) {
	t.Parallel()
	c := OpenCache(filepath.Join(t.TempDir(), "deep", "cache"), 0)
	src := testTable(t)
	k := testKey()
	if _, err := c.Get(k); err != ErrMiss {
		t.Errorf("empty cache: %v", err)
	}
	if n, _, err := c.Stat(); n != 0 || err != nil {
		t.Errorf("empty cache: %d entries, %v", n, err)
	}
	if err := c.Put(k, src, src); err != nil {
		t.Fatal(err)
	}
	for what, change := range map[string]func(*Key){
		"GUID": func(k *Key) { k.GUID[15]++ }, "age": func(k *Key) { k.Age++ }, "kind": func(k *Key) { k.Kind = "pdb" },
		"source": func(k *Key) { k.Source += "x" }, "size": func(k *Key) { k.Size++ }, "time": func(k *Key) { k.ModTime++ },
	} {
		other := k
		change(&other)
		if _, err := c.Get(other); err != ErrMiss {
			t.Errorf("another %s: %v, want ErrMiss", what, err)
		}
	}
	evil := k
	evil.Name = `..\..\a/b:` + strings.Repeat("é", 100) + ".pdb"
	if err := c.Put(evil, src, src); err != nil {
		t.Fatal(err)
	}
	if _, err := c.Get(evil); err != nil {
		t.Error(err)
	}
	list, err := c.List()
	if err != nil || len(list) != 2 || filepath.Dir(list[0].File) != c.Dir() || list[0].Key != evil {
		t.Errorf("list = %+v, %v", list, err)
	}
}

// TestCache_bound fills a small cache: what was not used for long goes.
func TestCache_bound(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	src := testTable(t)
	if err := OpenCache(dir, 0).Put(testKey(), src, src); err != nil {
		t.Fatal(err)
	}
	_, one, err := OpenCache(dir, 0).Stat()
	if err != nil {
		t.Fatal(err)
	}
	c := OpenCache(dir, 3*one+one/2)
	keys := []Key{testKey()}
	for i := range 3 {
		age(t, c, keys, time.Duration(i+1)*time.Hour)
		k := testKey()
		k.Age = uint32(10 + i)
		if i == 2 {
			if _, err := c.Get(keys[0]); err != nil { // used again: the second is the oldest now
				t.Fatal(err)
			}
		}
		if err := c.Put(k, src, src); err != nil {
			t.Fatal(err)
		}
		keys = append(keys, k)
	}
	for i, k := range keys {
		if _, err := c.Get(k); (err == nil) != (i != 1) {
			t.Errorf("table %d: %v", i, err)
		}
	}
	if err := OpenCache(dir, 100).Put(testKey(), src, src); err == nil {
		t.Error("a table larger than the cache was taken")
	}
}

// age makes what is in the cache older.
func age(t *testing.T, c *Cache, keys []Key, by time.Duration) {
	t.Helper()
	for i, k := range keys {
		at := time.Now().Add(-by*10 + time.Duration(i)*time.Minute)
		if err := os.Chtimes(filepath.Join(c.dir, k.fileName()), at, at); err != nil {
			t.Fatal(err)
		}
	}
}

func TestCache_clear(t *testing.T) {
	t.Parallel()
	c := OpenCache(t.TempDir(), 0)
	src := testTable(t)
	if err := c.Put(testKey(), src, src); err != nil {
		t.Fatal(err)
	}
	stale := filepath.Join(c.dir, tempPrefix+"1"+ending)
	mine := filepath.Join(c.dir, "notes.txt")
	for _, name := range []string{stale, mine} {
		if err := os.WriteFile(name, []byte("x"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	old := time.Now().Add(-2 * tempAge)
	if err := os.Chtimes(stale, old, old); err != nil {
		t.Fatal(err)
	}
	if err := c.Put(testKey(), src, src); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(stale); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("a temporary file left behind stays: %v", err)
	}
	if n, err := c.Clear(); n != 1 || err != nil {
		t.Errorf("cleared %d, %v", n, err)
	}
	if _, err := os.Stat(mine); err != nil {
		t.Errorf("a file of somebody else is gone: %v", err)
	}
	if _, err := c.Get(testKey()); err != ErrMiss {
		t.Errorf("cleared: %v", err)
	}
	if _, _, err := OpenCache(mine, 0).Stat(); err == nil {
		t.Error("a file taken for a folder")
	}
	if err := OpenCache(mine, 0).Put(testKey(), src, src); err == nil {
		t.Error("put below a file")
	}
	none := OpenCache("", 0)
	if err := none.Put(testKey(), src, src); err != nil {
		t.Errorf("no folder: %v", err)
	}
	if _, err := none.Get(testKey()); err != ErrMiss {
		t.Errorf("no folder: %v", err)
	}
}

// TestCache_damaged changes every byte and cuts every length: each is a miss,
// and says why to nobody.
func TestCache_damaged(t *testing.T) {
	t.Parallel()
	c := OpenCache(t.TempDir(), 0)
	src := testTable(t)
	if err := c.Put(testKey(), src, src); err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(c.dir, testKey().fileName())
	good, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	for i := range good {
		bad := slices.Clone(good)
		bad[i] ^= 0x41
		if _, err := decode(bad); err == nil {
			t.Errorf("byte %#x changed: taken", i)
		}
		if _, err := decode(good[:i:i]); err == nil {
			t.Errorf("cut at %#x: taken", i)
		}
	}
	if err := os.WriteFile(file, good[:len(good)/2], 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := c.Get(testKey()); err != ErrMiss {
		t.Errorf("a truncated file: %v", err)
	}
	if list, err := c.List(); err != nil || len(list) != 1 || list[0].Key != (Key{}) {
		t.Errorf("list with a truncated file: %+v, %v", list, err)
	}
	if err := c.Put(testKey(), src, src); err != nil {
		t.Fatal(err)
	}
	if _, err := c.Get(testKey()); err != nil {
		t.Errorf("put again: %v", err)
	}
}

// TestCache_two lets two caches of one folder write and read at once.
func TestCache_two(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	src := testTable(t)
	var wg sync.WaitGroup
	for range 2 {
		wg.Go(func() {
			c := OpenCache(dir, 0)
			for range 20 {
				if err := c.Put(testKey(), src, src); err != nil {
					t.Error(err)
				}
				if table, err := c.Get(testKey()); err != nil || table.Len() != 4 {
					t.Errorf("%v, %v", table, err)
				}
			}
		})
	}
	wg.Wait()
}
