package pdbtest_test

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"gokd/dumpfmt/dumptest/shared"
	"gokd/model/types"
	"gokd/model/types/pdb"
	"gokd/model/types/pdb/pdbtest"
)

var (
	ulong    = &types.Type{Name: "unsigned long", Kind: types.KindInt, Size: 4}
	uchar    = &types.Type{Name: "unsigned char", Kind: types.KindChar, Size: 1}
	void     = &types.Type{Name: "void", Kind: types.KindVoid}
	voidPtr  = pointer(void)
	testGUID = types.GUID{1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16}
)

func pointer(to *types.Type) *types.Type {
	return &types.Type{Name: "*" + to.Name, Kind: types.KindPointer, Size: 8, Elem: to}
}

func array(of *types.Type, n uint32) *types.Type {
	return &types.Type{Name: fmt.Sprintf("[%d]%s", n, of.Name), Kind: types.KindArray, Size: n * of.Size, Count: n, Elem: of}
}

// sample is a database with one of everything.
func sample() pdbtest.Spec {
	state := &types.Type{Name: "_STATE", Kind: types.KindEnum, Size: 4, Consts: map[string]int64{"Off": 0, "On": 1, "Bad": -1, "All": 0x7fffffff}}
	far := &types.Type{Name: "_FAR", Kind: types.KindStruct, Size: 16, Fields: []types.Field{{Name: "A", Offset: 8, Type: voidPtr}}}
	inner := &types.Type{Name: "__unnamed_1", Kind: types.KindUnion, Size: 8, Fields: []types.Field{
		{Name: "Low", Type: ulong, BitLen: 4}, {Name: "High", Type: ulong, BitPos: 4, BitLen: 28}, {Name: "P", Type: voidPtr},
	}}
	node := &types.Type{Name: "_NODE", Kind: types.KindStruct, Size: 0x40}
	routine := &types.Type{Name: "function", Kind: types.KindFunction, Elem: ulong, Fields: []types.Field{{Type: pointer(node)}, {Type: ulong}}}
	node.Fields = []types.Field{
		{Name: "Next", Type: pointer(node)}, {Name: "U", Offset: 8, Type: inner}, {Name: "State", Offset: 16, Type: state},
		{Name: "Grid", Offset: 20, Type: array(array(uchar, 4), 3)}, {Name: "Far", Offset: 32, Type: pointer(far)},
		{Name: "Unknown", Offset: 40, Type: pointer(&types.Type{Name: "_NOWHERE", Kind: types.KindStruct})},
		{Name: "Run", Offset: 48, Type: pointer(routine)},
	}
	return pdbtest.Spec{
		GUID: testGUID, Age: 7, InfoAge: 3, Signature: 0x5f5e100, Unique: true,
		Types: []*types.Type{node},
		Symbols: []types.Symbol{
			{Name: "Start", RVA: 0x1010, Kind: types.SymFunction}, {Name: "Table", RVA: 0x2008},
			{Name: "Walk", RVA: 0x1040, Size: 0x20, Kind: types.SymFunction, Private: true},
			{Name: "Root", RVA: 0x2010, Kind: types.SymData, Private: true},
		},
		Typed:    map[string]*types.Type{"Walk": routine, "Root": node},
		Typedefs: map[string]*types.Type{"NODE": node},
		Sections: []pdbtest.Section{{".text", 0x1000, 0x800, 0x60000020}, {".data", 0x2000, 0x100, 0xc0000040}},
		Lines:    []pdbtest.Lines{{RVA: 0x1040, Size: 0x20, File: `c:\src\walk.c`, Lines: []pdbtest.Line{{Offset: 0, Line: 10}, {Offset: 8, Line: 12}}}},
	}
}

func build(t *testing.T, spec pdbtest.Spec) []byte {
	t.Helper()
	b, err := pdbtest.Build(spec)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// TestBuild reads back what was built.
func TestBuild(t *testing.T) {
	t.Parallel()
	for _, block := range []uint32{0x200, 0x400, 0x1000, 0x2000, 0x8000} {
		spec := sample()
		spec.BlockSize = block
		b := build(t, spec)
		f, err := pdb.New(bytes.NewReader(b), int64(len(b)))
		if err != nil {
			t.Fatal(err)
		}
		want := `01020304 age 7 info 3 sig 5f5e100 machine 8664 private pdb
Root 0x2010+0x0 kind 2 private true
Start 0x1010+0x0 kind 1 private false
Table 0x2008+0x0 kind 2 private false
Walk 0x1040+0x20 kind 1 private true
Walk: (struct _NODE *, unsigned long) returns unsigned long
Walk: c:\src\walk.c 12 0x1048+0x18
_FAR 16: A+0x8 *void
_NODE 64: Next+0x0 *_NODE, U+0x8 __unnamed_1005, State+0x10 _STATE, Grid+0x14 [3][4]unsigned char, Far+0x20 *_FAR, Unknown+0x28 *_NOWHERE, Run+0x30 *(struct _NODE *, unsigned long)
_STATE 4: map[All:2147483647 Bad:-1 Off:0 On:1]
__unnamed_1005 8: Low+0x0:0+4 unsigned long, High+0x0:4+28 unsigned long, P+0x0 *void
NODE is _NODE
`
		if diff := cmp.Diff(want, describe(t, f)); diff != "" {
			t.Errorf("block size %#x (-want +got):\n%s", block, diff)
		}
	}
}

// describe writes what the reader finds in the sample.
func describe(t *testing.T, f *pdb.File) string {
	t.Helper()
	var b strings.Builder
	g := f.GUID()
	fmt.Fprintf(&b, "%x age %d info %d sig %x machine %x %s\n", g[:4], f.Age(), f.InfoAge(), f.Signature(), f.Machine(), f.Describe())
	for s := range f.All() {
		fmt.Fprintf(&b, "%s %#x+%#x kind %d private %v\n", s.Name, s.RVA, s.Size, s.Kind, s.Private)
	}
	if typ, ok := f.TypeOf("Walk"); ok {
		fmt.Fprintf(&b, "Walk: %s returns %s\n", typ.Name, typ.Elem.Name)
	}
	l, err := f.LineAt(0x1050)
	if err != nil {
		t.Error(err)
	}
	fmt.Fprintf(&b, "Walk: %s %d %#x+%#x\n", l.File, l.Line, l.RVA, l.Size)
	if file, line, delta, ok := f.SourceLine(0x1050); !ok || file != l.File || line != l.Line || delta != 8 {
		t.Errorf("SourceLine = %s %d+%d, %v", file, line, delta, ok)
	}
	for _, name := range f.TypeNames() {
		typ, err := f.Type(name)
		if err != nil {
			t.Error(err)
			continue
		}
		fmt.Fprintf(&b, "%s %d:", typ.Name, typ.Size)
		if typ.Kind == types.KindEnum {
			fmt.Fprint(&b, " ", typ.Consts)
		}
		for i, fl := range typ.Fields {
			if i > 0 {
				b.WriteByte(',')
			}
			fmt.Fprintf(&b, " %s+%#x", fl.Name, fl.Offset)
			if fl.BitLen > 0 {
				fmt.Fprintf(&b, ":%d+%d", fl.BitPos, fl.BitLen)
			}
			fmt.Fprint(&b, " ", fl.Type.Name)
		}
		b.WriteByte('\n')
	}
	if typ, err := f.Type("NODE"); err == nil {
		fmt.Fprintf(&b, "NODE is %s\n", typ.Name)
	}
	return b.String()
}

// TestBuild_llvm lets an independent reader judge the file.
func TestBuild_llvm(t *testing.T) {
	t.Parallel()
	tool, err := exec.LookPath("llvm-pdbutil")
	if err != nil {
		if os.Getenv("GOKD_REQUIRE_LLVM") == "1" {
			t.Fatal(err)
		}
		t.Skipf("no llvm-pdbutil: %v", err)
	}
	file := filepath.Join(t.TempDir(), "t.pdb")
	if err := os.WriteFile(file, build(t, sample()), 0o600); err != nil {
		t.Fatal(err)
	}
	out, err := exec.Command(tool, "dump", "-all", file).CombinedOutput()
	if err != nil {
		t.Fatalf("llvm-pdbutil: %v\n%s", err, out)
	}
	for _, want := range []string{
		"GUID: {04030201-0605-0807-090A-0B0C0D0E0F10}",
		"forward ref (-> 0x1012)",
		"Age: 3",
		"S_GPROC32 [size = 44] `Walk`",
		"parent = 0, end = 68, addr = 0001:0064, code size = 32",
		"addr = 0001:0016",
		`c:\src\walk.c`,
		"[name = `High`, Type = 0x1003, offset = 0, attrs = public]",
	} {
		if !bytes.Contains(out, []byte(want)) {
			t.Errorf("llvm-pdbutil dump -all does not print %q", want)
		}
	}
	for _, complaint := range []string{"rror", "our hash"} {
		if i := bytes.Index(out, []byte(complaint)); i >= 0 {
			t.Errorf("complains: %s", out[max(i-200, 0):min(i+200, len(out))])
		}
	}
}

// TestBuild_kernel builds databases with the layouts of every known kernel and
// finds the same layouts in them.
func TestBuild_kernel(t *testing.T) {
	t.Parallel()
	for _, layout := range types.Layouts() {
		t.Run(layout.Family(), func(t *testing.T) {
			t.Parallel()
			spec := pdbtest.Spec{GUID: testGUID}
			for _, name := range layout.TypeNames() {
				typ, err := layout.Type(name)
				if err != nil {
					t.Fatal(err)
				}
				spec.Types = append(spec.Types, typ)
			}
			b := build(t, spec)
			f, err := pdb.New(bytes.NewReader(b), int64(len(b)))
			if err != nil {
				t.Fatal(err)
			}
			for _, want := range spec.Types {
				got, err := f.Type(want.Name)
				if err != nil {
					t.Error(err)
					continue
				}
				if diff := cmp.Diff(spell(want, 0), spell(got, 0)); diff != "" {
					t.Errorf("%s (-want +got):\n%s", want.Name, diff)
				}
			}
		})
	}
}

// TestBuild_table turns a public symbol table of a real kernel into a database:
// all types and names stay.
func TestBuild_table(t *testing.T) {
	t.Parallel()
	table, err := types.OpenISF(shared.Path(t, "isf", "windows", "ntkrnlmp.pdb", "0CE4A95C0CD782A7596B034D8648E585-1.json.xz"))
	if err != nil {
		t.Fatal(err)
	}
	meta := table.Metadata()
	spec := pdbtest.Spec{GUID: meta.GUID, Age: meta.Age, Machine: meta.Machine}
	for _, name := range table.TypeNames() {
		typ, err := table.Type(name)
		if err != nil {
			t.Fatal(err)
		}
		spec.Types = append(spec.Types, typ)
	}
	spec.Symbols = slices.Collect(table.All())
	b := build(t, spec)
	f, err := pdb.New(bytes.NewReader(b), int64(len(b)))
	if err != nil {
		t.Fatal(err)
	}
	if o := f.Origin(); o.Build != table.Origin().Build || o.Build == 0 || f.Check(meta.GUID, meta.Age) != nil {
		t.Errorf("origin %+v, of the table %+v", o, table.Origin())
	}
	for _, want := range spec.Types {
		if strings.HasPrefix(want.Name, "__unnamed") {
			continue // a new number; compared where it is a member
		}
		got, err := f.Type(want.Name)
		if err != nil {
			t.Error(err)
			continue
		}
		if diff := cmp.Diff(spell(want, 0), spell(got, 0)); diff != "" {
			t.Errorf("%s (-want +got):\n%s", want.Name, diff)
		}
	}
	if f.Len() != table.Len() || f.Len() < 20000 {
		t.Errorf("%d names, want %d", f.Len(), table.Len())
	}
	for _, want := range spec.Symbols {
		near, delta, ok := f.Nearest(want.RVA)
		tnear, _, _ := table.Nearest(want.RVA)
		if !ok || delta != 0 || near.Name != tnear.Name {
			t.Fatalf("%#x is %s+%#x, want %s", want.RVA, near.Name, delta, tnear.Name)
		}
	}
}

// spell writes a type with all it has by value.
func spell(t *types.Type, level int) string {
	switch {
	case t == nil || level > 40:
		return "?"
	case t.Kind == types.KindPointer && t.Elem == nil, t.Kind == types.KindPointer && t.Elem.Kind == types.KindVoid:
		return fmt.Sprintf("*void/%d", t.Size)
	case t.Kind == types.KindPointer:
		return fmt.Sprintf("*%d", t.Elem.Kind)
	case t.Kind == types.KindArray:
		return fmt.Sprintf("[%d]%s", t.Count, spell(t.Elem, level+1))
	case t.Kind == types.KindEnum:
		return fmt.Sprint("enum ", t.Size, t.Consts)
	}
	var b strings.Builder
	fmt.Fprintf(&b, "%d/%d", t.Kind, t.Size)
	for _, f := range t.Fields {
		fmt.Fprintf(&b, "\n%*s%s+%#x:%d+%d %s", level, "", f.Name, f.Offset, f.BitPos, f.BitLen, spell(f.Type, level+1))
	}
	return b.String()
}

// TestBuild_same builds twice.
func TestBuild_same(t *testing.T) {
	t.Parallel()
	if !bytes.Equal(build(t, sample()), build(t, sample())) {
		t.Error("two files of one description differ")
	}
}

// TestBuild_refuses lists descriptions that can't be built.
func TestBuild_refuses(t *testing.T) {
	t.Parallel()
	self := &types.Type{Name: "_SELF", Kind: types.KindStruct, Size: 8}
	self.Fields = []types.Field{{Name: "Me", Type: self}}
	for name, spec := range map[string]pdbtest.Spec{
		"block size":      {BlockSize: 0x300},
		"no section":      {Symbols: []types.Symbol{{Name: "a", RVA: 0x5000}}, Sections: []pdbtest.Section{{".text", 0x1000, 0x1000, 0}}},
		"contains itself": {Types: []*types.Type{self}},
		"no index for it": {Types: []*types.Type{{Name: "odd", Kind: types.KindInt, Size: 3}}},
	} {
		if _, err := pdbtest.Build(spec); err == nil || !strings.Contains(err.Error(), name) {
			t.Errorf("error = %v, want one with %q", err, name)
		}
	}
}
