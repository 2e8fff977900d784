package shared

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/ulikunitz/xz"
)

// recorder is a test that notes how it ends.
type recorder struct {
	testing.TB
	end string
}

func (r *recorder) Helper() {}

func (r *recorder) Skipf(format string, args ...any) { r.stop("skipped", format, args...) }

func (r *recorder) Fatalf(format string, args ...any) { r.stop("failed", format, args...) }

func (r *recorder) stop(how, format string, args ...any) {
	r.end = how
	panic(r.end + ": " + fmt.Sprintf(format, args...))
}

// ending runs a test function and tells how it ended.
func ending(f func(testing.TB)) string {
	r := &recorder{end: "passed"}
	func() {
		defer func() {
			if v := recover(); v != nil && r.end == "passed" {
				panic(v)
			}
		}()
		f(r)
	}()
	return r.end
}

// TestPath_absent is not parallel: it sets the environment.
func TestPath_absent(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "here.txt"), []byte("{"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name, shared, required string
		do                     func(testing.TB)
		want                   string
	}{
		{"file", dir, "", func(t testing.TB) { Path(t, "here.txt") }, "passed"},
		{"absent file", dir, "", func(t testing.TB) { Path(t, "dumps/none.dmp") }, "skipped"},
		{"absent, required", dir, "1", func(t testing.TB) { Path(t, "dumps", "none.dmp") }, "failed"},
		{"absent folder", filepath.Join(dir, "none"), "", func(t testing.TB) { Path(t) }, "skipped"},
		{"glob of an absent folder", dir, "", func(t testing.TB) { Glob(t, "none", "*") }, "skipped"},
		{"glob without a match", dir, "", func(t testing.TB) { Glob(t, ".", "*.dmp") }, "failed"},
		{"no JSON", dir, "", func(t testing.TB) { JSON(t, Path(t, "here.txt"), new(any)) }, "failed"},
		{"absent contents", dir, "", func(t testing.TB) { Unpacked(t, filepath.Join(dir, "none.xz")) }, "failed"},
	} {
		t.Setenv("GOKD_SHARED", c.shared)
		t.Setenv("GOKD_REQUIRE_SHARED", c.required)
		if got := ending(c.do); got != c.want {
			t.Errorf("%s: %s, want %s", c.name, got, c.want)
		}
	}
}

// TestPath_default is not parallel: it sets the environment.
func TestPath_default(t *testing.T) {
	dir := t.TempDir()
	inner := filepath.Join(dir, "module", "a", "b")
	for _, d := range []string{inner, filepath.Join(dir, "shared")} {
		if err := os.MkdirAll(d, 0o700); err != nil {
			t.Fatal(err)
		}
	}
	t.Setenv("GOKD_SHARED", "")
	t.Chdir(inner)
	if got := ending(func(t testing.TB) { Path(t) }); got != "failed" {
		t.Errorf("without go.mod: %s, want failed", got)
	}
	if err := os.WriteFile(filepath.Join(dir, "module", "go.mod"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	want, err := os.Stat(filepath.Join(dir, "shared"))
	if err != nil {
		t.Fatal(err)
	}
	if got, err := os.Stat(Path(t)); err != nil || !os.SameFile(want, got) {
		t.Errorf("the folder found is %s, %v", Path(t), err)
	}
}

// packed writes an .xz file.
func packed(t *testing.T, name string, data []byte) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	w, err := xz.NewWriter(f)
	if err == nil {
		_, err = w.Write(data)
	}
	if err == nil {
		err = w.Close()
	}
	if err == nil {
		err = f.Close()
	}
	if err != nil {
		t.Fatal(err)
	}
	return path
}

func TestUnpacked(t *testing.T) {
	t.Parallel()
	want := bytes.Repeat([]byte("0123456789abcde\n"), 1<<14)
	path := packed(t, "a.json.xz", want)
	for name, read := range map[string]func(string) ([]byte, error){"kept": kept.get, "unpack": unpack, "library": unpackSlowly} {
		if got, err := read(path); err != nil || !bytes.Equal(got, want) {
			t.Errorf("%s: %d bytes, %v, want %d", name, len(got), err, len(want))
		}
	}
	// A copy is the test's own: a change does not reach the next one.
	for range 2 {
		file := Dump(t, path)
		if got, err := os.ReadFile(file); err != nil || filepath.Base(file) != "a.json" || !bytes.Equal(got, want) {
			t.Errorf("%s: %d bytes, %v", file, len(got), err)
		}
		if err := os.WriteFile(file, nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
}

func TestUnpacked_damaged(t *testing.T) {
	t.Parallel()
	path := packed(t, "a.xz", []byte(strings.Repeat("some text ", 1000)))
	whole, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for i, bad := range [][]byte{nil, []byte("no xz at all"), whole[:len(whole)/2], append(bytes.Clone(whole[:20]), make([]byte, 20)...)} {
		if err := os.WriteFile(path, bad, 0o600); err != nil {
			t.Fatal(err)
		}
		if got, err := unpack(path); err == nil {
			t.Errorf("%d: %d bytes and no error", i, len(got))
		}
	}
}

func TestCache(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	c := &cache{max: 100 << 10}
	for i, step := range []struct {
		name string
		size int
		want string
	}{
		{"a", 40 << 10, "a"},
		{"b", 40 << 10, "a b"},
		{"a", 40 << 10, "b a"},
		{"c", 40 << 10, "a c"},
		{"large", 101 << 10, "large"},
		{"a", 40 << 10, "a"},
	} {
		path := filepath.Join(dir, step.name)
		if err := os.WriteFile(path, make([]byte, step.size), 0o600); err != nil {
			t.Fatal(err)
		}
		first, err := c.get(path)
		if err != nil || len(first) != step.size {
			t.Fatalf("%d: %d bytes, %v", i, len(first), err)
		}
		if again, err := c.get(path); err != nil || &again[0] != &first[0] {
			t.Errorf("%d: %s was read again, %v", i, step.name, err)
		}
		var kept []string
		for _, e := range c.list {
			kept = append(kept, filepath.Base(e.path))
		}
		if diff := cmp.Diff(step.want, strings.Join(kept, " ")); diff != "" {
			t.Errorf("%d: kept (-want +got):\n%s", i, diff)
		}
	}
}

// TestCache_together has several ask at once for files that do not all fit.
func TestCache_together(t *testing.T) {
	t.Parallel()
	c := &cache{max: 100 << 10}
	var paths []string
	for i := range 4 {
		paths = append(paths, packed(t, fmt.Sprint(i, ".xz"), bytes.Repeat([]byte{byte(i)}, 40<<10)))
	}
	var wg sync.WaitGroup
	for i := range 16 {
		wg.Go(func() {
			data, err := c.get(paths[i%4])
			if err != nil || len(data) != 40<<10 || data[0] != byte(i%4) {
				t.Errorf("%s: %d bytes, %v", paths[i%4], len(data), err)
			}
		})
	}
	wg.Wait()
	if n := len(c.list); n == 0 || n > 2 {
		t.Errorf("%d files are kept", n)
	}
}
