package pdb_test

import (
	"crypto/sha256"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	gocmp "github.com/google/go-cmp/cmp"

	"gokd/dumpfmt/dumptest/shared"
	"gokd/model/types"
	"gokd/model/types/pdb"
)

var update = flag.Bool("update", false, "write the expected files anew")

// TestExpected compares what is read with what was read when llvm-pdbutil
// agreed, for machines without it.
func TestExpected(t *testing.T) {
	t.Parallel()
	file := ownFile("expected.txt")
	data, err := os.ReadFile(file)
	if err != nil && !*update {
		t.Fatal(err)
	}
	want := map[string]string{}
	for line := range strings.Lines(string(data)) {
		name, rest, _ := strings.Cut(strings.TrimSpace(line), " ")
		want[name] = rest
	}
	got := map[string]string{}
	for _, path := range slices.Concat([]string{ownFile("driver.pdb")}, sharedPaths(t)) {
		f := openFile(t, path)
		got[filepath.Base(path)] = digest(t, f)
	}
	if *update {
		var b strings.Builder
		for _, name := range slices.Sorted(keysOf(got)) {
			fmt.Fprintf(&b, "%s %s\n", name, got[name])
		}
		if err := os.WriteFile(file, []byte(b.String()), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	for name, text := range got {
		if diff := gocmp.Diff(want[name], text); diff != "" {
			t.Errorf("%s (-want +got):\n%s", name, diff)
		}
	}
}

func keysOf(m map[string]string) func(func(string) bool) {
	return func(yield func(string) bool) {
		for k := range m {
			if !yield(k) {
				return
			}
		}
	}
}

// sharedPaths gives the shared files that are there; their absence is no reason
// to skip those of the project.
func sharedPaths(t *testing.T) []string {
	t.Helper()
	var paths []string
	for _, name := range sharedFiles {
		t.Run("find "+filepath.Base(name), func(t *testing.T) { paths = append(paths, shared.Path(t, name)) })
	}
	return paths
}

// digest counts and hashes what a database holds.
func digest(t *testing.T, f *pdb.File) string {
	t.Helper()
	var b strings.Builder
	fmt.Fprintf(&b, "%s-%d info %d %s", f.GUID(), f.Age(), f.InfoAge(), strings.ReplaceAll(f.Describe(), " ", "_"))
	for _, part := range []struct {
		name  string
		lines []string
	}{{"types", describeTypes(t, f)}, {"publics", describePublics(f)}, {"functions", describeFunctions(f)}, {"data", describeData(f)}, {"lines", describeLines(f)}} {
		sum := sha256.Sum256([]byte(strings.Join(part.lines, "\n")))
		fmt.Fprintf(&b, " %s:%d:%x", part.name, len(part.lines), sum[:8])
	}
	return b.String()
}

// describeLines gives the lines of all functions.
func describeLines(f *pdb.File) []string {
	var out []string
	for fn := range f.Functions() {
		lines, err := f.Lines(fn.RVA)
		if err != nil {
			continue
		}
		for _, l := range lines {
			out = append(out, fmt.Sprintf("%#x+%#x %s %d", l.RVA, l.Size, l.File, l.Line))
		}
	}
	slices.Sort(out)
	return slices.Compact(out)
}

// TestDriver compares the project's own database with driver.txt, in words.
func TestDriver(t *testing.T) {
	t.Parallel()
	f := openFile(t, ownFile("driver.pdb"))
	got := describeDriver(t, f)
	file := ownFile("driver.txt")
	if *update {
		if err := os.WriteFile(file, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if diff := gocmp.Diff(string(want), got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func describeDriver(t *testing.T, f *pdb.File) string {
	t.Helper()
	var b strings.Builder
	fmt.Fprintf(&b, "%s-%d machine %#x %s\n\nsections\n", f.GUID(), f.Age(), f.Machine(), f.Describe())
	for _, s := range f.Sections() {
		fmt.Fprintf(&b, "  %-8s %#x+%#x %#x\n", s.Name, s.VirtualAddress, s.VirtualSize, s.Characteristics)
	}
	fmt.Fprintln(&b, "\nsymbols")
	for s := range f.All() {
		fmt.Fprintf(&b, "  %#x+%#x %s kind %d private %v", s.RVA, s.Size, s.Name, s.Kind, s.Private)
		if typ, ok := f.TypeOf(s.Name); ok {
			fmt.Fprintf(&b, ": %s", typ.Name)
			if typ.Kind == types.KindFunction {
				fmt.Fprintf(&b, " returns %s", typ.Elem.Name)
			}
		}
		b.WriteByte('\n')
	}
	fmt.Fprintln(&b, "\ntypes")
	for _, name := range f.TypeNames() {
		typ, err := f.Type(name)
		if err != nil {
			t.Error(err)
			continue
		}
		fmt.Fprintf(&b, "%s %s %d\n", kindWord(typ), typ.Name, typ.Size)
		members := describeMembers(typ)
		for i, m := range typ.Fields {
			members[len(typ.Consts)+i] += " " + m.Type.Name
		}
		for i, line := range members {
			if i >= 5 && i < len(members)-5 && len(members) > 100 {
				continue // the list that needs two records
			}
			fmt.Fprintln(&b, line)
		}
	}
	fmt.Fprintln(&b, "\nlines")
	for _, line := range describeLines(f) {
		fmt.Fprintln(&b, " ", line)
	}
	return b.String()
}
