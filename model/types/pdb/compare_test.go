package pdb_test

import (
	"cmp"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"testing"

	gocmp "github.com/google/go-cmp/cmp"

	"gokd/dumpfmt/dumptest/shared"
	"gokd/model/types"
	"gokd/model/types/pdb"
)

// sharedFiles are databases of Microsoft's linkers, by path below the shared
// folder: a driver's private one, and a driver's public one with blocks of 0x400
// bytes.
var sharedFiles = []string{
	"pdb/systeminformer.pdb",
	"symstore/amdppm.pdb/1C19FDDB27BB3399D9B45973EFEAFCF31/amdppm.pdb",
}

// ownFiles are the project's own, below testdata/pdb.
var ownFiles = []string{"driver.pdb"}

func openFile(t testing.TB, path string) *pdb.File {
	t.Helper()
	f, err := pdb.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := f.Close(); err != nil {
			t.Error(err)
		}
	})
	return f
}

func ownFile(name string) string {
	return filepath.Join("..", "..", "..", "testdata", "pdb", name)
}

// eachFile runs a test for every database there is: the project's, the shared
// ones and, below $GOKD_NODE_PTY, those of the unpacked npm package node-pty.
func eachFile(t *testing.T, test func(t *testing.T, path string)) {
	t.Helper()
	for _, name := range ownFiles {
		t.Run(name, func(t *testing.T) { t.Parallel(); test(t, ownFile(name)) })
	}
	for _, name := range sharedFiles {
		t.Run(filepath.Base(name), func(t *testing.T) { t.Parallel(); test(t, shared.Path(t, name)) })
	}
	t.Run("node-pty", func(t *testing.T) {
		t.Parallel()
		for _, path := range nodePty(t) {
			arch := filepath.Base(filepath.Dir(path))
			t.Run(arch+" "+filepath.Base(path), func(t *testing.T) { t.Parallel(); test(t, path) })
		}
	})
}

// nodePty gives the databases of the npm package.
func nodePty(t *testing.T) []string {
	t.Helper()
	root := os.Getenv("GOKD_NODE_PTY")
	if root == "" {
		t.Skip("GOKD_NODE_PTY does not name an unpacked npm package node-pty")
	}
	files, err := filepath.Glob(filepath.Join(root, "prebuilds", "win32-*", "*.pdb"))
	if err != nil || len(files) == 0 {
		t.Fatalf("no databases below GOKD_NODE_PTY=%s: %v", root, err)
	}
	return files
}

// TestOracle compares types, names and lines with what llvm-pdbutil prints.
func TestOracle(t *testing.T) {
	t.Parallel()
	eachFile(t, func(t *testing.T, path string) {
		f := openFile(t, path)
		for _, c := range []struct {
			what      string
			want, got []string
		}{
			{"types", readOracle(t, path).describe(), describeTypes(t, f)},
			{"publics", oraclePublics(t, path), describePublics(f)},
			{"functions", oracleFunctions(t, path), describeFunctions(f)},
			{"data", oracleData(t, path), describeData(f)},
		} {
			t.Logf("%d lines of %s", len(c.want), c.what)
			if len(c.want) == 0 && c.what != "functions" && c.what != "data" {
				t.Errorf("%s: nothing to compare", c.what)
			}
			if !slices.Equal(c.want, c.got) {
				t.Errorf("%s (-want +got):\n%s", c.what, shortDiff(c.want, c.got))
			}
		}
		compareLines(t, f, oracleLines(t, path))
	})
}

// shortDiff shows the first lines that differ.
func shortDiff(want, got []string) string {
	i := 0
	for i < len(want) && i < len(got) && want[i] == got[i] {
		i++
	}
	end := func(s []string) []string { return s[min(max(i-1, 0), len(s)):min(i+4, len(s))] }
	return fmt.Sprintf("%d lines, %d lines; first difference in line %d\n%s", len(want), len(got), i, gocmp.Diff(end(want), end(got)))
}

func describeTypes(t *testing.T, f *pdb.File) []string {
	t.Helper()
	var out []string
	for typ, err := range f.Types() {
		if err != nil {
			t.Error(err)
			continue
		}
		out = append(out, fmt.Sprintf("%s %s %d", kindWord(typ), typ.Name, typ.Size))
		out = append(out, describeMembers(typ)...)
	}
	return out
}

func kindWord(t *types.Type) string {
	switch t.Kind {
	case types.KindUnion:
		return "union"
	case types.KindEnum:
		return "enum"
	}
	return "struct"
}

func describeMembers(typ *types.Type) []string {
	var out []string
	for name, v := range typ.Consts {
		out = append(out, fmt.Sprintf("  const %s %d", name, v))
	}
	slices.Sort(out)
	for _, m := range typ.Fields {
		out = append(out, fmt.Sprintf("  %s +%d bits %d+%d size %d", m.Name, m.Offset, m.BitPos, m.BitLen, m.Type.Size))
	}
	return out
}

func describePublics(f *pdb.File) []string {
	var out []string
	for p := range f.Publics() {
		out = append(out, fmt.Sprintf("%s %d:%d function %v", p.Name, p.Segment, p.Offset, p.Function))
	}
	slices.Sort(out)
	return out
}

func describeFunctions(f *pdb.File) []string {
	var out []string
	for p := range f.Functions() {
		if !p.Thunk {
			out = append(out, fmt.Sprintf("%s %d:%d size %d", p.Name, p.Segment, p.Offset, p.Size))
		}
	}
	slices.Sort(out)
	return out
}

func describeData(f *pdb.File) []string {
	var out []string
	for g := range f.Globals() {
		if g.Kind == pdb.SymbolData {
			out = append(out, fmt.Sprintf("%s %d:%d", g.Name, g.Segment, g.Offset))
		}
	}
	slices.Sort(out)
	return out
}

// compareLines compares the lines of every piece of code.
func compareLines(t *testing.T, f *pdb.File, pieces map[[2]uint32][]oracleLine) {
	t.Helper()
	t.Logf("%d pieces of code with lines", len(pieces))
	sections := f.Sections()
	wrong := 0
	for key, want := range pieces {
		if key[0] == 0 || int(key[0]) > len(sections) {
			continue
		}
		base := sections[key[0]-1].VirtualAddress
		slices.SortStableFunc(want, func(a, b oracleLine) int { return cmp.Compare(a.at, b.at) })
		var wantText, gotText []string
		for i, l := range want {
			// Of lines at one address the last counts, and some numbers mean none.
			if i+1 < len(want) && want[i+1].at == l.at || l.line >= 0xf00000 {
				continue
			}
			wantText = append(wantText, fmt.Sprintf("%#x %s %d", base+l.at, l.file, l.line))
		}
		got, err := f.Lines(base + key[1])
		if err != nil && len(wantText) > 0 {
			t.Errorf("%v", err)
			wrong++
		}
		for _, l := range got {
			gotText = append(gotText, fmt.Sprintf("%#x %s %d", l.RVA, l.File, l.Line))
		}
		if diff := gocmp.Diff(wantText, gotText); diff != "" && err == nil {
			t.Errorf("lines at %#x (-want +got):\n%s", base+key[1], diff)
			wrong++
		}
		if wrong > 5 {
			break
		}
	}
}
