// Package shared finds the test files that are too big to lie in the project:
// dumps with known truth, symbol tables, images. It unpacks them and knows
// nothing of what they hold.
//
// $GOKD_SHARED names their folder; by default it is the folder "shared" beside
// the module. Tests are skipped where a file is absent, unless
// GOKD_REQUIRE_SHARED=1 says that it must be there.
package shared

import (
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// Path gives the path of a file or folder below the shared folder; the elements
// may hold slashes. The test is skipped, or fails, where it is absent.
func Path(t testing.TB, elem ...string) string {
	t.Helper()
	root, err := folder()
	if err != nil {
		t.Fatalf("shared test data: %v", err)
	}
	path := filepath.Join(root, filepath.FromSlash(filepath.Join(elem...)))
	if _, err := os.Stat(path); err != nil {
		if os.Getenv("GOKD_REQUIRE_SHARED") == "1" {
			t.Fatalf("shared test data: %v", err)
		}
		t.Skipf("no shared test data: %v", err)
	}
	// The folder may be a link, into which a walk of files would not go.
	if real, err := filepath.EvalSymlinks(path); err == nil {
		path = real
	}
	return path
}

// folder gives the shared folder, whether it is there or not.
func folder() (string, error) {
	if dir := os.Getenv("GOKD_SHARED"); dir != "" {
		return dir, nil
	}
	dir, err := os.Getwd() // a test runs in its package's folder
	if err != nil {
		return "", err
	}
	for {
		if _, err := os.Stat(filepath.Join(dir, "go.mod")); err == nil {
			return filepath.Join(dir, "..", "shared"), nil
		}
		if dir == filepath.Dir(dir) {
			return "", errors.New("no go.mod above the test")
		}
		dir = filepath.Dir(dir)
	}
}

// Glob gives the files of a shared folder whose names match a pattern, sorted.
// The test fails where the folder is there and none matches.
func Glob(t testing.TB, dir, pattern string) []string {
	t.Helper()
	paths, err := filepath.Glob(filepath.Join(Path(t, dir), pattern))
	if err != nil || len(paths) == 0 {
		t.Fatalf("no %s in the shared folder %s: %v", pattern, dir, err)
	}
	return paths
}

// Unpacked gives the contents of a file, decompressed where its name ends in
// .xz. Other tests may get the same bytes: they must not be changed.
func Unpacked(t testing.TB, path string) []byte {
	t.Helper()
	data, err := kept.get(path)
	if err != nil {
		t.Fatalf("%s: %v", path, err)
	}
	return data
}

// JSON decodes a file's contents, unpacked, into a value.
func JSON(t testing.TB, path string, to any) {
	t.Helper()
	if err := json.Unmarshal(Unpacked(t, path), to); err != nil {
		t.Fatalf("%s: %v", path, err)
	}
}

// Dump gives the path of an unpacked copy that belongs to the test, which may
// change it, and that ends with it.
func Dump(t testing.TB, path string) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), strings.TrimSuffix(filepath.Base(path), ".xz"))
	if err := os.WriteFile(file, Unpacked(t, path), 0o600); err != nil {
		t.Fatal(err)
	}
	return file
}
