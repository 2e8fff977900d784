package index

import (
	"bytes"
	"hash/crc32"
	"testing"

	"gokd/model/types"
)

// FuzzIndex reads files whose sums are made right first, so that the checks
// behind them are reached: whatever is taken can be read to the end.
func FuzzIndex(f *testing.F) {
	src := testTable(f)
	a, err := src.Type("_A")
	if err != nil {
		f.Fatal(err)
	}
	for _, syms := range []types.Symbols{nil, src, typed{src, map[string]*types.Type{"a": a}}} {
		for _, store := range []types.Store{nil, src} {
			data, err := encode(testKey(), store, syms)
			if err != nil {
				f.Fatal(err)
			}
			f.Add(data)
		}
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		data = bytes.Clone(data)
		mend(data)
		table, err := decode(data)
		if err != nil {
			return
		}
		readAll(t, table)
		again, err := encode(table.Key(), table, table)
		if err != nil {
			return // two names for one thing, or more
		}
		if _, err := decode(again); err != nil {
			t.Fatalf("written again: %v", err)
		}
	})
}

// mend makes the sums of a file right, as far as its header leads inside.
func mend(data []byte) {
	if len(data) < headerSize {
		return
	}
	for i := range sections {
		at := data[16+i*sectionSize:]
		off, size := uint64(le.Uint32(at)), uint64(le.Uint32(at[4:]))
		if off+size <= uint64(len(data)) {
			le.PutUint32(at[8:], crc32.Checksum(data[off:off+size], castagnoli))
		}
	}
	le.PutUint32(data[12:], crc32.Checksum(data[16:headerSize], castagnoli))
}

// readAll asks for everything.
func readAll(t *testing.T, table *Table) {
	t.Helper()
	for _, name := range table.TypeNames() {
		if typ, err := table.Type(name); err == nil {
			steps := 1000
			walk(t, typ, 0, &steps)
		}
	}
	n := 0
	for s := range table.All() {
		n++
		table.Lookup(s.Name)
		table.Nearest(s.RVA)
		if typ, ok := table.TypeOf(s.Name); ok {
			for level := 0; typ != nil && !isNamed(typ.Kind); level++ {
				if level > maxChain+1 {
					t.Fatal("a chain without an end")
				}
				typ = typ.Elem
			}
		}
	}
	if n != table.Len() {
		t.Fatalf("%d names, Len is %d", n, table.Len())
	}
	table.Prefix("", 10)
	for range table.Aliases() {
	}
}

// walk goes down the fields by value, as far as steps last: twice two fields of
// one type, 60 times over, never end.
func walk(t *testing.T, typ *types.Type, level int, steps *int) {
	if level > maxNesting+2 {
		t.Fatalf("type %q: deeper than any may be", typ.Name)
	}
	for _, f := range typ.Fields {
		if *steps--; *steps < 0 {
			return
		}
		walk(t, f.Type, level+1, steps)
	}
}
