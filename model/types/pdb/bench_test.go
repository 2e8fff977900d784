package pdb_test

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"testing"

	"gokd/model/types"
	"gokd/model/types/pdb"
	"gokd/model/types/pdb/pdbtest"
)

// kernelSpec is a database as large as a kernel's: that many structures of 24
// members each, and public names.
func kernelSpec(structures, publics int) pdbtest.Spec {
	fields := make([]types.Field, 24)
	for i := range fields {
		fields[i] = types.Field{Name: fmt.Sprintf("MemberOfTheStructure%02d", i), Offset: uint32(8 * i), Type: voidPtr}
	}
	spec := pdbtest.Spec{GUID: types.GUID{9}, Unique: true}
	for i := range structures {
		list := fields
		if i > 0 { // its own list: a pointer to the structure before it
			list = append([]types.Field{{Name: "Before", Offset: 192, Type: &types.Type{Kind: types.KindPointer, Size: 8, Elem: spec.Types[i-1]}}}, fields...)
		}
		spec.Types = append(spec.Types, structure(fmt.Sprintf("_STRUCTURE_OF_THE_KERNEL_%06d", i), 200, list...))
	}
	for i := range publics {
		kind := types.SymUnknown
		if i%4 != 0 {
			kind = types.SymFunction
		}
		spec.Symbols = append(spec.Symbols, types.Symbol{Name: fmt.Sprintf("KiFunctionWithAUsualName%06d", i*7919%publics), RVA: uint32(0x1000 + 64*i), Kind: kind})
	}
	return spec
}

// writeFile builds a database in the test's folder.
func writeFile(tb testing.TB, spec pdbtest.Spec) (path string, size int64) {
	tb.Helper()
	b := build(tb, spec)
	path = filepath.Join(tb.TempDir(), "large.pdb")
	if err := os.WriteFile(path, b, 0o600); err != nil {
		tb.Fatal(err)
	}
	return path, int64(len(b))
}

// largeTypes are structures of 201 members each, the last a pointer to the
// structure before: whoever follows pointers comes to all of them.
func largeTypes(n int) []pdbtest.Raw {
	var common []byte
	for i := range 200 {
		common = append(common, item(0x23, uint16(8*i), fmt.Sprintf("MemberOfTheStructure%03d", i))...)
	}
	var all []pdbtest.Raw
	for i := range n {
		first := 0x1000 + 3*i
		all = append(all,
			raw(0x1002, first-1, 0x1000c),
			raw(0x1203, common, item(first, 1600, "Before")),
			raw(0x1505, uint16(201), uint16(0), first+1, 0, 0, uint16(1608), fmt.Sprintf("_STRUCTURE_%06d", i)))
	}
	return all
}

// BenchmarkOpen opens a database of 12 MB with 40,000 public names, and looks up
// a name, an address and a type.
func BenchmarkOpen(b *testing.B) {
	path, size := writeFile(b, kernelSpec(10000, 40000))
	b.SetBytes(size)
	b.ReportAllocs()
	for b.Loop() {
		f := openOnce(b, path)
		if _, ok := f.Lookup("KiFunctionWithAUsualName000042"); !ok {
			b.Fatal("name not found")
		}
		if _, _, ok := f.Nearest(0x20010); !ok {
			b.Fatal("address not found")
		}
		if _, err := f.Type("_STRUCTURE_OF_THE_KERNEL_000007"); err != nil {
			b.Fatal(err)
		}
		f.Close()
	}
}

func openOnce(b *testing.B, path string) *pdb.File {
	b.Helper()
	f, err := pdb.Open(path)
	if err != nil {
		b.Fatal(err)
	}
	return f
}

// benchFiles are the files to compare with llvm-pdbutil: made here, and, where
// they are at hand, of Microsoft's linker.
func benchFiles(b *testing.B) map[string]string {
	b.Helper()
	path, _ := writeFile(b, kernelSpec(10000, 40000))
	files := map[string]string{"made-12MB": path}
	if root := os.Getenv("GOKD_NODE_PTY"); root != "" {
		files["node-pty-6MB"] = filepath.Join(root, "prebuilds", "win32-x64", "conpty.pdb")
	}
	return files
}

// BenchmarkAllTypesAndPublics reads every type with its members and every public
// name, beside "llvm-pdbutil dump -types -publics" of the same file.
func BenchmarkAllTypesAndPublics(b *testing.B) {
	for name, path := range benchFiles(b) {
		b.Run(name+"/pdb", func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				f := openOnce(b, path)
				n := 0
				for t, err := range f.Types() {
					if err != nil {
						b.Fatal(err)
					}
					n += len(t.Fields)
				}
				for range f.Publics() {
					n++
				}
				f.Close()
				b.ReportMetric(float64(n), "items")
			}
		})
		b.Run(name+"/llvm-pdbutil", func(b *testing.B) {
			tool, err := exec.LookPath("llvm-pdbutil")
			if err != nil {
				b.Skip(err)
			}
			for b.Loop() {
				if err := exec.Command(tool, "dump", "-types", "-publics", path).Run(); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// BenchmarkType reads one large type, and all it leads to, from an open file.
func BenchmarkType(b *testing.B) {
	path := ownFile("driver.pdb")
	b.ReportAllocs()
	for b.Loop() {
		f := openOnce(b, path)
		if _, err := f.Type("_DRIVER"); err != nil {
			b.Fatal(err)
		}
		f.Close()
	}
}

const (
	memoryFile  = "GOKD_TEST_PDB_MEMORY" // the file for the second process
	memoryLimit = 64 << 20
	largeCount  = 14000
)

// TestMemory reads a database of 100 MB, with 50,000 public names, in a process
// of its own and looks at all the memory that it ever asked the system for.
func TestMemory(t *testing.T) {
	if path := os.Getenv(memoryFile); path != "" {
		readAll(t, path)
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		fmt.Printf("\nmemory %d\n", m.Sys)
		return
	}
	t.Parallel()
	if testing.Short() {
		t.Skip("builds 100 MB")
	}
	spec := kernelSpec(0, 50000)
	spec.BlockSize, spec.Raw = 0x2000, largeTypes(largeCount)
	path, size := writeFile(t, spec)
	if size < 100<<20 {
		t.Fatalf("the file has %d bytes, want 100 MB", size)
	}
	cmd := exec.Command(os.Args[0], "-test.run=^TestMemory$", "-test.v")
	cmd.Env = append(os.Environ(), memoryFile+"="+path)
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	_, text, _ := strings.Cut(string(out), "\nmemory ")
	text, _, _ = strings.Cut(text, "\n")
	used, err := strconv.Atoi(text)
	if err != nil {
		t.Fatalf("%v in:\n%s", err, out)
	}
	t.Logf("%d MB of file, %d MB of memory", size>>20, used>>20)
	if used > memoryLimit {
		t.Errorf("%d MB of memory, want at most %d", used>>20, memoryLimit>>20)
	}
}

// readAll reads names, then every type, then types one by one as commands do.
func readAll(t *testing.T, path string) {
	f := openFile(t, path)
	names := f.Len()
	n := 0
	for typ, err := range f.Types() {
		if err != nil {
			t.Fatal(err)
		}
		n += len(typ.Fields)
	}
	if names < 50000 || n != 201*largeCount {
		t.Errorf("%d names, %d members", names, n)
	}
	for i := range 50 {
		if _, err := f.Type(fmt.Sprintf("_STRUCTURE_%06d", largeCount-1-i*250)); err != nil {
			t.Error(err)
		}
	}
	if list := f.TypeNames(); len(list) != largeCount {
		t.Errorf("%d types listed", len(list))
	}
	runtime.KeepAlive(f)
}
