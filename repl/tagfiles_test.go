package repl

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

func TestTagFiles_named(t *testing.T) {
	sep := string(os.PathListSeparator)
	t.Setenv("GOKD_POOLTAGS", "a.txt"+sep+" "+sep+"b.txt")
	if got := TagFiles(""); !slices.Equal(got, []string{"a.txt", "b.txt"}) {
		t.Errorf("%q", got)
	}
	t.Setenv("GOKD_POOLTAGS", "")
	if got := TagFiles(""); len(got) != 0 {
		t.Errorf("with an empty variable: %q", got)
	}
}

func TestKitFiles(t *testing.T) {
	t.Parallel()
	env := map[string]string{"ProgramFiles(x86)": `P86`, "ProgramFiles": `P`}
	got := kitFiles(func(name string) string { return env[name] })
	want := filepath.Join("P86", "Windows Kits", "10", "Debuggers", "x64", "triage", "pooltag.txt")
	if len(got) != 22 || got[0] != want || !strings.HasPrefix(got[11], "P"+string(filepath.Separator)) {
		t.Errorf("%q", got)
	}
	if got := kitFiles(func(string) string { return "" }); got != nil {
		t.Errorf("without the variables of Windows: %q", got)
	}
}

func TestExisting(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	var names, want []string
	for _, name := range []string{"a", "b", "c", "d"} {
		file := filepath.Join(dir, name)
		names = append(names, file)
		if name == "a" || name == "c" {
			continue
		}
		if err := os.WriteFile(file, nil, 0o600); err != nil {
			t.Fatal(err)
		}
		want = append(want, file)
	}
	if got := existing(names, 4); !slices.Equal(got, want) {
		t.Errorf("%q, want %q", got, want)
	}
	if got := existing(names, 1); !slices.Equal(got, want[:1]) {
		t.Errorf("the first: %q", got)
	}
}
