package index

import (
	"bytes"
	"os"
	"testing"

	"gokd/dumpfmt/dumptest/shared"
	"gokd/model/types"
	"gokd/model/types/pdb"
	"gokd/model/types/pdb/pdbtest"
)

// TestTable_pdb sends made and real program databases through.
func TestTable_pdb(t *testing.T) {
	t.Parallel()
	src := testTable(t)
	var list []*types.Type
	for _, name := range []string{"_U", "_E", "_A"} {
		typ, err := src.Type(name)
		if err != nil {
			t.Fatal(err)
		}
		list = append(list, typ)
	}
	a := list[2]
	made, err := pdbtest.Build(pdbtest.Spec{
		GUID: types.GUID{1, 2}, Age: 3, Types: list,
		Symbols: []types.Symbol{
			{Name: "Variable", RVA: 0x1100, Private: true, Kind: types.SymData}, {Name: "Run", RVA: 0x1000, Size: 0x40, Private: true, Kind: types.SymFunction},
			{Name: "Public", RVA: 0x1200}, {Name: "?Mangled@@YAXXZ", RVA: 0x1200}, {Name: "memmove", RVA: 0x1300}, {Name: "memcpy", RVA: 0x1300},
		},
		Typed:    map[string]*types.Type{"Variable": a},
		Typedefs: map[string]*types.Type{"A_ALIAS": a},
	})
	if err != nil {
		t.Fatal(err)
	}
	file, err := pdb.New(bytes.NewReader(made), int64(len(made)))
	if err != nil {
		t.Fatal(err)
	}
	got := through(t, file, file)
	equal(t, file, file, got)
	if typ, ok := got.TypeOf("Variable"); !ok || typ.Name != "_A" {
		t.Errorf("TypeOf(Variable) = %v, %v", typ, ok)
	}
	if typ, err := got.Type("A_ALIAS"); err != nil || typ.Name != "_A" {
		t.Errorf("a typedef: %v, %v", typ, err)
	}
}

func TestTable_realPDB(t *testing.T) {
	t.Parallel()
	for _, name := range []string{
		shared.Path(t, "pdb", "systeminformer.pdb"),
		shared.Path(t, "symstore", "amdppm.pdb", "1C19FDDB27BB3399D9B45973EFEAFCF31", "amdppm.pdb"),
	} {
		file, err := pdb.Open(name)
		if err != nil {
			t.Fatal(err)
		}
		defer file.Close()
		equal(t, file, file, through(t, file, file))
	}
}

// BenchmarkPDB opens a driver's private program database, first as it came and
// then from the cache.
func BenchmarkPDB(b *testing.B) {
	name := shared.Path(b, "pdb", "systeminformer.pdb")
	file, err := pdb.Open(name)
	if err != nil {
		b.Fatal(err)
	}
	defer file.Close()
	c, k := OpenCache(b.TempDir(), 0), testKey()
	if err := c.Put(k, file, file); err != nil {
		b.Fatal(err)
	}
	info, err := os.Stat(name)
	if err != nil {
		b.Fatal(err)
	}
	all := func(b *testing.B, s types.Store, n types.Symbols) {
		for _, name := range s.(types.Lister).TypeNames() {
			if _, err := s.Type(name); err != nil {
				b.Fatal(err)
			}
		}
		n.Nearest(0x1000)
	}
	b.Run("first", func(b *testing.B) {
		b.ReportAllocs()
		b.SetBytes(info.Size())
		for b.Loop() {
			f, err := pdb.Open(name)
			if err != nil {
				b.Fatal(err)
			}
			all(b, f, f)
			if err := f.Close(); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("put", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			if err := c.Put(k, file, file); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("open", func(b *testing.B) { get(b, c, k, info.Size(), func(*Table) {}) })
	b.Run("cached", func(b *testing.B) { get(b, c, k, info.Size(), func(t *Table) { all(b, t, t) }) })
}
