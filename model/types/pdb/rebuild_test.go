package pdb_test

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// TestRebuild makes driver.sys and driver.pdb from their sources and finds them
// unchanged, where the compiler that made them is installed.
func TestRebuild(t *testing.T) {
	t.Parallel()
	for tool, version := range map[string]string{"clang": "clang version 14.0.6", "lld-link": "LLD 14.0.6"} {
		out, err := exec.Command(tool, "--version").Output()
		if err != nil || !strings.Contains(string(out), version) {
			if os.Getenv("GOKD_REQUIRE_LLVM") == "1" {
				t.Fatalf("%s: want %q: %q, %v", tool, version, out, err)
			}
			t.Skipf("%s: no %q: %v", tool, version, err)
		}
	}
	dir := t.TempDir()
	if out, err := exec.Command("sh", ownFile("build.sh"), dir).CombinedOutput(); err != nil {
		t.Fatalf("build.sh: %v\n%s", err, out)
	}
	for _, name := range []string{"driver.sys", "driver.pdb"} {
		want, err := os.ReadFile(ownFile(name))
		if err != nil {
			t.Fatal(err)
		}
		got, err := os.ReadFile(filepath.Join(dir, name))
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(want, got) {
			t.Errorf("%s: built anew it differs", name)
		}
	}
}
