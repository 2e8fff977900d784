package sympath

import (
	"os"
	"path/filepath"
	"testing"

	"gokd/model/types"
	"gokd/model/types/pdb"
)

// TestPath_indexLines: a PDB that is served from the index still tells source
// lines, from the file; when that has gone it tells none.
func TestPath_indexLines(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	data, err := os.ReadFile(filepath.Join("..", "..", "..", "testdata", "pdb", "driver.pdb"))
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(dir, "driver.pdb")
	if err := os.WriteFile(path, data, 0o600); err != nil {
		t.Fatal(err)
	}
	file, err := pdb.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	id := types.ImageID{Name: "driver.sys", PDB: "driver.pdb", GUID: file.GUID(), Age: file.Age()}
	sym, ok := file.Lookup("DriverEntry")
	if !ok {
		t.Fatal("no DriverEntry")
	}
	wantFile, wantLine, wantDelta, ok := file.SourceLine(sym.RVA + 1)
	if !ok {
		t.Fatal("DriverEntry has no source line")
	}
	for i, indexed := range []bool{false, true} {
		p := Open(dir, Options{CacheDir: filepath.Join(dir, "own")})
		f, err := p.Find(t.Context(), id)
		if err != nil {
			t.Fatal(err)
		}
		lines, ok := f.Symbols.(interface {
			SourceLine(rva uint32) (string, uint32, uint32, bool)
		})
		if f.Indexed != indexed || !ok {
			t.Fatalf("run %d: indexed %v, tells lines %v", i, f.Indexed, ok)
		}
		name, line, delta, ok := lines.SourceLine(sym.RVA + 1)
		if !ok || name != wantFile || line != wantLine || delta != wantDelta {
			t.Errorf("run %d: %s:%d+%d, %v; want %s:%d+%d", i, name, line, delta, ok, wantFile, wantLine, wantDelta)
		}
		if err := p.Close(); err != nil {
			t.Error(err)
		}
		if _, _, _, ok := lines.SourceLine(sym.RVA); indexed && ok {
			t.Error("a source line from a closed file")
		}
	}
	gone := &indexedPDB{path: filepath.Join(dir, "gone.pdb")}
	if _, _, _, ok := gone.SourceLine(sym.RVA); ok {
		t.Error("a source line from a file that is not there")
	}
}
