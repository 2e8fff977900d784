package index

import (
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"

	"gokd/dumpfmt/dumptest/shared"
	"gokd/model/types"
)

// BenchmarkISF opens a kernel's table, first as it came and then from the
// cache, each with names and types.
func BenchmarkISF(b *testing.B) {
	file := shared.Path(b, "isf", "windows", "ntkrnlmp.pdb", "0CE4A95C0CD782A7596B034D8648E585-1.json.xz")
	src, err := types.OpenISF(file)
	if err != nil {
		b.Fatal(err)
	}
	c, k := OpenCache(b.TempDir(), 0), testKey()
	if err := c.Put(k, src, src); err != nil {
		b.Fatal(err)
	}
	info, err := os.Stat(filepath.Join(c.dir, k.fileName()))
	if err != nil {
		b.Fatal(err)
	}
	b.Run("first", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			t, err := types.OpenISF(file)
			if err != nil {
				b.Fatal(err)
			}
			use(b, t, t)
		}
	})
	b.Run("put", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			if err := c.Put(k, src, src); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("open", func(b *testing.B) { get(b, c, k, info.Size(), func(*Table) {}) })
	b.Run("cached", func(b *testing.B) { get(b, c, k, info.Size(), func(t *Table) { use(b, t, t) }) })
	b.Run("one name", func(b *testing.B) {
		get(b, c, k, info.Size(), func(t *Table) {
			if _, ok := t.Lookup("KeBugCheckEx"); !ok {
				b.Fatal("no KeBugCheckEx")
			}
		})
	})
}

// use asks for a type, which brings all, and for names both ways.
func use(b *testing.B, store types.Store, syms types.Symbols) {
	b.Helper()
	if _, err := store.Type("_EPROCESS"); err != nil {
		b.Fatal(err)
	}
	for _, name := range store.(types.Lister).TypeNames() {
		if _, err := store.Type(name); err != nil {
			b.Fatal(err)
		}
	}
	if _, _, ok := syms.Nearest(0x200000); !ok || syms.Len() < 1000 {
		b.Fatal("no names")
	}
}

func get(b *testing.B, c *Cache, k Key, size int64, use func(*Table)) {
	b.ReportAllocs()
	b.SetBytes(size)
	for b.Loop() {
		t, err := c.Get(k)
		if err != nil {
			b.Fatal(err)
		}
		use(t)
	}
}

// BenchmarkPublics opens a table of 40,000 public names, as a stripped PDB has.
func BenchmarkPublics(b *testing.B) {
	rng := rand.New(rand.NewPCG(1, 2))
	names := make([]string, 40000)
	rvas := make([]uint32, len(names))
	for i := range names {
		names[i], rvas[i] = fmt.Sprintf("?SomeFunction%08x@Class@@QEAAJPEAX@Z", rng.Uint32()), rng.Uint32N(1<<24)
	}
	c, k := OpenCache(b.TempDir(), 0), testKey()
	if err := c.Put(k, nil, types.NewNames("pdb", names, rvas)); err != nil {
		b.Fatal(err)
	}
	get(b, c, k, 0, func(t *Table) {
		if _, _, ok := t.Nearest(0x200000); !ok {
			b.Fatal("no name")
		}
	})
}
