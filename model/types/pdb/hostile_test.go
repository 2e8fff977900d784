package pdb_test

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"strings"
	"sync"
	"testing"

	gocmp "github.com/google/go-cmp/cmp"

	"gokd/model/types"
	"gokd/model/types/pdb"
	"gokd/model/types/pdb/pdbtest"
)

var (
	ulong   = &types.Type{Name: "unsigned long", Kind: types.KindInt, Size: 4}
	voidPtr = &types.Type{Name: "*void", Kind: types.KindPointer, Size: 8, Elem: &types.Type{Name: "void"}}
)

func structure(name string, size uint32, fields ...types.Field) *types.Type {
	return &types.Type{Name: name, Kind: types.KindStruct, Size: size, Fields: fields}
}

// smallSpec is a database with one of most things, in small blocks.
func smallSpec() pdbtest.Spec {
	node := structure("_NODE", 24)
	next := &types.Type{Kind: types.KindPointer, Size: 8, Elem: node}
	state := &types.Type{Name: "_STATE", Kind: types.KindEnum, Size: 4, Consts: map[string]int64{"Off": 0, "On": 1}}
	node.Fields = []types.Field{
		{Name: "Next", Type: next}, {Name: "Bits", Offset: 8, Type: ulong, BitPos: 3, BitLen: 5},
		{Name: "State", Offset: 12, Type: state}, {Name: "Data", Offset: 16, Type: voidPtr},
	}
	routine := &types.Type{Kind: types.KindFunction, Elem: ulong, Fields: []types.Field{{Type: next}}}
	return pdbtest.Spec{
		GUID: types.GUID{1, 2, 3}, BlockSize: 0x200, Unique: true,
		Types: []*types.Type{node, structure("_PAIR", 48, types.Field{Name: "A", Type: node}, types.Field{Name: "B", Offset: 24, Type: node})},
		Symbols: []types.Symbol{
			{Name: "Start", RVA: 0x1000, Kind: types.SymFunction}, {Name: "Walk", RVA: 0x1040, Size: 32, Kind: types.SymFunction, Private: true},
			{Name: "Root", RVA: 0x1100, Private: true}, {Name: "Table", RVA: 0x1200},
		},
		Typed:    map[string]*types.Type{"Walk": routine, "Root": node},
		Typedefs: map[string]*types.Type{"NODE": node},
		Lines:    []pdbtest.Lines{{RVA: 0x1040, Size: 32, File: "walk.c", Lines: []pdbtest.Line{{Offset: 0, Line: 1}, {Offset: 9, Line: 3}}}},
	}
}

func build(t testing.TB, spec pdbtest.Spec) []byte {
	t.Helper()
	b, err := pdbtest.Build(spec)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func read(t testing.TB, b []byte) *pdb.File {
	t.Helper()
	f, err := pdb.New(bytes.NewReader(b), int64(len(b)))
	if err != nil {
		t.Fatal(err)
	}
	return f
}

// use asks a database for everything it has and counts what it got. It must end
// soon, whatever the file says.
func use(f *pdb.File) (n int) {
	for typ, err := range f.Types() {
		if err == nil {
			n += 1 + len(typ.Fields) + len(typ.Consts)
			walkDown(typ, 0, &n)
		}
	}
	for _, name := range f.TypeNames()[:min(200, len(f.TypeNames()))] {
		if typ, err := f.Type(name); err == nil {
			n += len(typ.Fields)
			walkDown(typ, 0, &n)
		}
	}
	for s := range f.All() {
		if near, _, ok := f.Nearest(s.RVA); !ok || near.RVA != s.RVA {
			panic(fmt.Sprintf("Nearest(%#x) = %#x, %v", s.RVA, near.RVA, ok))
		}
		if _, ok := f.Lookup(s.Name); !ok {
			panic(fmt.Sprintf("%q is listed but not found", s.Name))
		}
		f.TypeOf(s.Name)
		n++
	}
	for fn := range f.Functions() {
		lines, _ := f.Lines(fn.RVA)
		n += 1 + len(lines)
	}
	for range f.Publics() {
		n++
	}
	for range f.Globals() {
		n++
	}
	for range f.Modules() {
		n++
	}
	f.Type("NODE")
	f.Type("__unnamed_1000")
	f.Prefix("", 10)
	f.Describe()
	f.Err()
	return n
}

// walkDown goes to the members by value, as commands do; that ends because no
// type contains itself.
func walkDown(t *types.Type, level int, n *int) {
	if level > 100 {
		panic("type " + t.Name + " contains itself")
	}
	if *n++; *n > 1<<20 {
		return
	}
	if t.Kind == types.KindArray && t.Elem != nil {
		walkDown(t.Elem, level+1, n)
	}
	if t.Kind == types.KindStruct || t.Kind == types.KindUnion {
		for _, f := range t.Fields {
			walkDown(f.Type, level+1, n)
		}
	}
}

// TestNew_refuses lists files that are no database, with what is said of them.
func TestNew_refuses(t *testing.T) {
	t.Parallel()
	good := build(t, smallSpec())
	patch := func(off int, v uint32) []byte {
		b := bytes.Clone(good)
		binary.LittleEndian.PutUint32(b[off:], v)
		return b
	}
	for _, tt := range []struct {
		name string
		file []byte
		want string
	}{
		{"empty", nil, "magic number missing"},
		{"text", []byte(strings.Repeat("MZ", 4000)), "magic number missing"},
		{"format 2.00", append([]byte("Microsoft C/C++ program database 2.00\r\n\x1aJG"), make([]byte, 4096)...), "format 2.00 (signature JG) of Visual C++ 6 and earlier"},
		{"magic only", good[:0x30], "magic number missing"},
		{"truncated", good[:len(good)-1], "truncated"},
		{"block size 0", patch(0x20, 0), "block size 0x0: want a power of two"},
		{"block size 0x300", patch(0x20, 0x300), "block size 0x300"},
		{"blocks", patch(0x28, 0xffffffff), "truncated"},
		{"directory of 4 GB", patch(0x2c, 0xffffffff), "stream directory: 0xffffffff bytes"},
		{"directory of 3 bytes", patch(0x2c, 3), "stream directory: 0x3 bytes"},
		{"directory's map", patch(0x34, 0xfffffff), "block 0xfffffff: beyond"},
		{"no blocks", patch(0x28, 0), "stream directory: "},
	} {
		_, err := pdb.New(bytes.NewReader(tt.file), int64(len(tt.file)))
		if err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: error = %v, want one with %q", tt.name, err, tt.want)
		}
	}
	if _, err := pdb.New(bytes.NewReader(nil), 0); !errors.Is(err, pdb.ErrFormat) {
		t.Errorf("error = %v, want ErrFormat", err)
	}
	if _, err := pdb.Open(t.TempDir()); err == nil || !strings.Contains(err.Error(), "not a regular file") {
		t.Errorf("folder: error = %v", err)
	}
	if _, err := pdb.Open("none.pdb"); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("no file: error = %v", err)
	}
}

// TestPrefixes reads every prefix of a database: cut off, it is refused; with
// zeros in place of the rest, some of it is read, and nothing goes wrong.
func TestPrefixes(t *testing.T) {
	t.Parallel()
	good := build(t, smallSpec())
	whole := use(read(t, good))
	for n := range good {
		if f, err := pdb.New(bytes.NewReader(good[:n]), int64(n)); err == nil {
			t.Fatalf("%d of %d bytes: accepted: %v", n, len(good), f.GUID())
		}
		if n > 0 && good[n-1] == 0 {
			continue // padded, it is the prefix before it
		}
		padded := make([]byte, len(good))
		copy(padded, good[:n])
		f, err := pdb.New(bytes.NewReader(padded), int64(len(padded)))
		if err != nil {
			continue
		}
		if got := use(f); got > whole {
			t.Fatalf("%d of %d bytes: %d things found, the whole has %d", n, len(good), got, whole)
		}
	}
}

// TestFlips changes one byte at a time.
func TestFlips(t *testing.T) {
	t.Parallel()
	b := build(t, smallSpec())
	for i := range b {
		if bytes.Count(b[max(i-8, 0):min(i+8, len(b))], []byte{0}) > 14 {
			continue // the end of a block, which nothing reads
		}
		for _, v := range []byte{0, 0x7f, 0xff} {
			old := b[i]
			b[i] = v
			if f, err := pdb.New(bytes.NewReader(b), int64(len(b))); err == nil {
				use(f)
			}
			b[i] = old
		}
	}
}

// TestLongDirectory reads a file in so small blocks that the numbers of the
// directory's blocks need several blocks themselves.
func TestLongDirectory(t *testing.T) {
	t.Parallel()
	spec := smallSpec()
	spec.Raw = largeTypes(1500)
	spec.BlockSize = 0x2000
	want := use(read(t, build(t, spec)))
	spec.BlockSize = 0x200
	b := build(t, spec)
	if dir := binary.LittleEndian.Uint32(b[0x2c:]); dir/0x200*4 <= 0x200 {
		t.Fatalf("a directory of %#x bytes needs one block", dir)
	}
	if got := use(read(t, b)); got != want {
		t.Errorf("%d things found, want %d", got, want)
	}
}

// TestMissingTables reads names where a table of names is damaged, or there is
// none: from all records.
func TestMissingTables(t *testing.T) {
	t.Parallel()
	good := build(t, smallSpec())
	version := binary.LittleEndian.AppendUint32(binary.LittleEndian.AppendUint32(nil, 0xffffffff), 0xeffe0000+19990810)
	damaged := bytes.Clone(good)
	for i := bytes.Index(damaged, version); i >= 0; i = bytes.Index(damaged, version) {
		damaged[i] = 0
	}
	absent := bytes.Clone(good)
	dbi := bytes.Index(absent, []byte{0xff, 0xff, 0xff, 0xff, 0x77, 0x09, 0x31, 0x01}) // version 19990903
	if dbi < 0 {
		t.Fatal("no debug information")
	}
	copy(absent[dbi+0xc:], []byte{0xff, 0xff})
	copy(absent[dbi+0x10:], []byte{0xff, 0xff})
	for _, tt := range []struct {
		name string
		file []byte
		want string
	}{{"good", good, ""}, {"damaged", damaged, "table of names: signature 0xffffff00, version 0xf12f091a"}, {"absent", absent, ""}} {
		f := read(t, tt.file)
		said := ""
		if err := f.Err(); err != nil {
			said = err.Error()
		}
		if f.Len() != 4 || said != tt.want {
			t.Errorf("%s: %d names, error %q; want 4, %q", tt.name, f.Len(), said, tt.want)
		}
		if typ, err := f.Type("NODE"); err != nil || typ.Name != "_NODE" {
			t.Errorf("%s: NODE: %v", tt.name, err)
		}
	}
}

// TestOverlap lets the table of names list a record inside another.
func TestOverlap(t *testing.T) {
	t.Parallel()
	b := build(t, smallSpec())
	version := binary.LittleEndian.AppendUint32(binary.LittleEndian.AppendUint32(nil, 0xffffffff), 0xeffe0000+19990810)
	publics := bytes.LastIndex(b, version)
	second := publics + 16 + 8
	first := binary.LittleEndian.Uint32(b[publics+16:])
	binary.LittleEndian.PutUint32(b[second:], first+4)
	f := read(t, b)
	n := 0
	for range f.Publics() {
		n++
	}
	want := fmt.Sprintf("table of names: record at %#x inside another", first+3)
	if err := f.Err(); n != 1 || err == nil || err.Error() != want {
		t.Errorf("%d names, error %v; want 1, %s", n, err, want)
	}
}

// TestSharedStream lets two modules have one stream: it counts once.
func TestSharedStream(t *testing.T) {
	t.Parallel()
	f := read(t, sharedStream(t))
	modules, functions := 0, 0
	for range f.Modules() {
		modules++
	}
	for range f.Functions() {
		functions++
	}
	if modules != 2 || functions != 1 {
		t.Errorf("%d modules, %d functions, want 2, 1", modules, functions)
	}
}

// sharedStream gives a database whose module is listed twice: the record of the
// module is followed by a copy in place of the contributions, of which there are
// enough for one.
func sharedStream(t *testing.T) []byte {
	t.Helper()
	spec := smallSpec()
	for i := range 4 {
		spec.Sections = append(spec.Sections, pdbtest.Section{Name: ".text", RVA: uint32(0x1000 * (i + 1)), Size: 0x1000, Characteristics: 0x60000020})
	}
	b := build(t, spec)
	dbi := bytes.Index(b, []byte{0xff, 0xff, 0xff, 0xff, 0x77, 0x09, 0x31, 0x01})
	size := binary.LittleEndian.Uint32(b[dbi+0x18:])
	rest := binary.LittleEndian.Uint32(b[dbi+0x1c:])
	if size > rest {
		t.Fatalf("a module of %#x bytes, contributions of %#x", size, rest)
	}
	copy(b[dbi+0x40+int(size):], b[dbi+0x40:dbi+0x40+int(size)])
	binary.LittleEndian.PutUint32(b[dbi+0x18:], 2*size)
	binary.LittleEndian.PutUint32(b[dbi+0x1c:], rest-size)
	return b
}

// TestDamage breaks one type and reads the others.
func TestDamage(t *testing.T) {
	t.Parallel()
	b := build(t, smallSpec())
	at := bytes.Index(b, []byte("Next\x00"))
	binary.LittleEndian.PutUint16(b[at-10:], 0x1599) // the entry's kind
	f := read(t, b)
	_, err := f.Type("_NODE")
	if want := "unreadable type _NODE: field list: member of kind 0x1599"; err == nil || err.Error() != want {
		t.Errorf("error = %v, want %s", err, want)
	}
	var missing *types.NotFoundError
	if errors.As(err, &missing) {
		t.Error("a damaged type is reported as missing")
	}
	pair, err := f.Type("_PAIR")
	if err != nil {
		t.Fatal(err)
	}
	for _, field := range pair.Fields {
		if !strings.HasPrefix(field.Type.Name, "<unreadable type 0x") || field.Type.Size != 0 {
			t.Errorf("%s is a %s of %d bytes", field.Name, field.Type.Name, field.Type.Size)
		}
	}
	var said []string
	for typ, err := range f.Types() {
		if err != nil {
			said = append(said, err.Error())
			continue
		}
		said = append(said, typ.Name)
	}
	want := []string{"_STATE", "unreadable type _NODE: field list: member of kind 0x1599", "_PAIR"}
	if diff := gocmp.Diff(want, said); diff != "" {
		t.Errorf("types (-want +got):\n%s", diff)
	}
	if f.Err() != nil || f.Len() != 4 {
		t.Errorf("%d names, %v", f.Len(), f.Err())
	}
}

// TestConcurrent lets the race detector see several first users.
func TestConcurrent(t *testing.T) {
	t.Parallel()
	f := read(t, build(t, smallSpec()))
	var wg sync.WaitGroup
	counts := make([]int, 8)
	for i := range counts {
		wg.Go(func() { counts[i] = use(f) })
	}
	wg.Wait()
	for _, n := range counts {
		if n != counts[0] || n == 0 {
			t.Fatalf("counts differ: %v", counts)
		}
	}
}

// FuzzPDB damages good databases, opens them and asks for everything. The input
// is which one, and edits of four bytes: where, and what the byte there becomes.
// Whole files as input would keep the engine busy with making them smaller.
// With a number that no database has, the input is the file.
func FuzzPDB(f *testing.F) {
	odd := smallSpec()
	odd.FieldList, odd.Raw = 0x30, oddTypes()
	moved := odd
	moved.Original, moved.Moved = []pdbtest.Section{{Name: ".text", RVA: 0x1000, Size: 0x1000}}, []pdbtest.Move{{From: 0x1000, To: 0x5000}}
	files := [][]byte{build(f, smallSpec()), build(f, odd), build(f, moved)}
	driver, err := os.ReadFile(ownFile("driver.pdb"))
	if err != nil {
		f.Fatal(err)
	}
	files = append(files, driver)
	for i := range files {
		f.Add(uint8(i), []byte{})
		f.Add(uint8(i), []byte{0x28, 0, 0, 0xff, 0x00, 0x0a, 0, 0x7f})
	}
	f.Add(uint8(len(files)), []byte("Microsoft C/C++ program database 2.00\r\n\x1aJG"))
	f.Fuzz(func(t *testing.T, which uint8, edits []byte) {
		data := edits
		if int(which) < len(files) {
			data = bytes.Clone(files[which])
			for ; len(edits) >= 4; edits = edits[4:] {
				at := int(edits[0]) | int(edits[1])<<8 | int(edits[2])<<16
				data[at%len(data)] = edits[3]
			}
		}
		file, err := pdb.New(bytes.NewReader(data), int64(len(data)))
		if err != nil {
			return
		}
		use(file)
	})
}
