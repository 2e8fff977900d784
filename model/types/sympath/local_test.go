package sympath

import (
	"bytes"
	"encoding/binary"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"gokd/model/types"
)

// stored gives a cabinet with one file that is not packed ([MS-CAB]).
func stored(name string, data []byte) string {
	le := binary.LittleEndian
	var blocks []byte
	n := 0
	for rest := data; len(rest) > 0; n++ {
		size := min(len(rest), 32768)
		blocks = le.AppendUint32(blocks, 0) // no checksum
		blocks = le.AppendUint16(le.AppendUint16(blocks, uint16(size)), uint16(size))
		blocks = append(blocks, rest[:size]...)
		rest = rest[size:]
	}
	first := 36 + 8 + 16 + len(name) + 1
	b := append([]byte("MSCF"), make([]byte, 32)...)
	le.PutUint32(b[8:], uint32(first+len(blocks)))
	b[16], b[24], b[25], b[26], b[28] = 44, 3, 1, 1, 1 // files, version, counts
	b = le.AppendUint32(b, uint32(first))
	b = le.AppendUint16(le.AppendUint16(b, uint16(n)), 0)
	b = le.AppendUint32(le.AppendUint32(b, uint32(len(data))), 0)
	b = append(b, 0, 0, 0, 0, 0, 0, 0, 0)
	b = append(append(b, name...), 0)
	return string(append(b, blocks...))
}

func TestPath_places(t *testing.T) {
	t.Parallel()
	good := string(makePDB(t, testGUID, 3, 0))
	other := string(makePDB(t, strings.Repeat("1", 32), 3, 0))
	older := string(makePDB(t, testGUID, 2, 0))
	elsewhere := write(t, good, t.TempDir(), "build", "T.pdb")
	for _, tt := range []struct {
		name  string
		files map[string]string
		path  string // DIR is the folder
		want  string // below DIR, with slashes; empty: not found
		kind  string
	}{
		{"plain", map[string]string{"T.pdb": good}, "DIR", "T.pdb", "pdb"},
		{"other case", map[string]string{"t.PDB": good}, "DIR", "t.PDB", "pdb"},
		{"by the image's name", map[string]string{"t.pdb": good}, "DIR", "t.pdb", "pdb"},
		{"sys", map[string]string{"sys/t.pdb": good}, "DIR", "sys/t.pdb", "pdb"},
		{"symbols", map[string]string{"symbols/sys/t.pdb": good}, "DIR", "symbols/sys/t.pdb", "pdb"},
		{"store", map[string]string{"T.pdb/" + testKey + "/T.pdb": good}, "DIR", "T.pdb/" + testKey + "/T.pdb", "pdb"},
		{"srv", map[string]string{"t.pdb/" + strings.ToLower(testKey) + "/T.pdb": good}, "srv*DIR", "t.pdb/" + strings.ToLower(testKey) + "/T.pdb", "pdb"},
		{"two letters", map[string]string{"index2.txt": "", "t./t.pdb/" + testKey + "/t.pdb": good}, "srv*DIR", "t./t.pdb/" + testKey + "/t.pdb", "pdb"},
		{"table", map[string]string{"t.pdb/" + testGUID + "-3.json": testISF}, "DIR", "t.pdb/" + testGUID + "-3.json", "isf"},
		{"table in a store", map[string]string{"t.pdb/" + testGUID + "-3.json": testISF}, "srv*DIR", "t.pdb/" + testGUID + "-3.json", "isf"},
		{"PDB before table", map[string]string{"t.pdb": good, testGUID + "-3.json": testISF}, "DIR", "t.pdb", "pdb"},
		{"other, then good", map[string]string{"a/t.pdb": other, "b/t.pdb": good}, "DIR/a;DIR/b", "b/t.pdb", "pdb"},
		{"older, then good", map[string]string{"a/t.pdb": older, "b/t.pdb": good}, "DIR/a;DIR/b", "b/t.pdb", "pdb"},
		{"cut, then good", map[string]string{"a/t.pdb": good[:0x500], "b/t.pdb": good}, "DIR/a;DIR/b", "b/t.pdb", "pdb"},
		{"text, then good", map[string]string{"a/t.pdb": "<html>", "b/t.pdb": good}, "DIR/a;DIR/b", "b/t.pdb", "pdb"},
		{"pointer", map[string]string{"t.pdb/" + testKey + "/file.ptr": "PATH:" + elsewhere + "\r\n"}, "srv*DIR", elsewhere, "pdb"},
		{"old pointer", map[string]string{"t.pdb/" + testKey + "/file.ptr": elsewhere}, "srv*DIR", elsewhere, "pdb"},
		{"copied by a store", map[string]string{"up/t.pdb/" + testKey + "/t.pdb": good}, "srv*DIR/down*DIR/up", "down/T.pdb/" + testKey + "/T.pdb", "pdb"},
		{"copied by two", map[string]string{"up/t.pdb/" + testKey + "/t.pdb": good}, "srv*DIR/down*DIR/mid*DIR/up", "down/T.pdb/" + testKey + "/T.pdb", "pdb"},
		{"copied by cache*", map[string]string{"up/t.pdb": good}, "cache*DIR/keep;DIR/up", "keep/T.pdb/" + testKey + "/T.pdb", "pdb"},
		{"left of cache*", map[string]string{"up/t.pdb": good}, "DIR/up;cache*DIR/keep", "up/t.pdb", "pdb"},
		{"packed", map[string]string{"up/t.pdb/" + testKey + "/t.pd_": stored("t.pdb", []byte(good))}, "srv*DIR/down*DIR/up", "down/T.pdb/" + testKey + "/T.pdb", "pdb"},
		{"packed, plainly", map[string]string{"up/t.pd_": stored("t.pdb", []byte(good))}, "cache*DIR/keep;DIR/up", "keep/T.pdb/" + testKey + "/T.pdb", "pdb"},
		{"packed, no folder", map[string]string{"t.pdb/" + testKey + "/t.pd_": stored("t.pdb", []byte(good))}, "srv*DIR", "", ""},
		{"two letters below", map[string]string{"down/index2.txt": "", "up/t.pdb": good}, "cache*DIR/down;DIR/up", "down/T./T.pdb/" + testKey + "/T.pdb", "pdb"},
		{"folder of that name", map[string]string{"t.pdb/x": ""}, "DIR", "", ""},
		{"nothing", nil, "DIR;srv*DIR/none;cache*DIR/none", "", ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			for path, text := range tt.files {
				write(t, text, dir, filepath.FromSlash(path))
			}
			p := New(filepath.FromSlash(strings.ReplaceAll(tt.path, "DIR", filepath.ToSlash(dir))))
			f, err := p.Find(t.Context(), testID(t))
			if tt.want == "" {
				var missing *types.NotFoundError
				if !errors.As(err, &missing) && !strings.Contains(err.Error(), "packed, and the path has no folder") {
					t.Errorf("found %v, error %v", f.Path, err)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if want := filepath.FromSlash(tt.want); f.Path != want && f.Path != filepath.Join(dir, want) || f.Kind != tt.kind || f.Loose {
				t.Errorf("found %s (%s), want %s", f.Path, f.Kind, want)
			}
			if err := p.Close(); err != nil {
				t.Error(err)
			}
			for _, name := range under(t, dir) {
				if strings.Contains(name, ".new-") {
					t.Errorf("left behind: %s", name)
				}
			}
		})
	}
}

func TestPath_errors(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	file := filepath.Join(dir, "T.pdb")
	other := strings.Repeat("1", 32)
	for _, tt := range []struct{ name, text, want string }{
		{"other image", string(makePDB(t, other, 3, 0)), "program database FILE: made for " + other + "-3, want " + testGUID + "-3"},
		{"other age", string(makePDB(t, testGUID, 9, 0)), "program database FILE: made for " + testGUID + "-9, want " + testGUID + "-3"},
		{"web page", "<!DOCTYPE html>", `FILE: no program database: it starts with "<!DOCTYPE html>"`},
	} {
		write(t, tt.text, file)
		_, err := New(dir).Find(t.Context(), testID(t))
		if want := strings.ReplaceAll(tt.want, "FILE", file); err == nil || err.Error() != want {
			t.Errorf("%s: error %v, want %s", tt.name, err, want)
		}
	}
	for _, tt := range []struct{ text, want string }{
		{"MSG: removed last year", "FILE: the store says: removed last year"},
		{"PATH:", "FILE: names no file"},
		{"a\nb", "FILE: names no file"},
	} {
		dir := t.TempDir()
		file := write(t, tt.text, dir, "t.pdb", testKey, "file.ptr")
		_, err := New("srv*"+dir).Find(t.Context(), testID(t))
		if want := strings.ReplaceAll(tt.want, "FILE", file); err == nil || err.Error() != want {
			t.Errorf("%q: error %v, want %s", tt.text, err, want)
		}
	}
}

func TestUnpack_limit(t *testing.T) {
	t.Parallel()
	packed := stored("t.pdb", make([]byte, 50000))
	for limit, want := range map[int64]string{50000: "", 49999: "unpacks to more than 49999 bytes"} {
		var b bytes.Buffer
		err := unpackFrom(&b, strings.NewReader(packed), int64(len(packed)), limit)
		if (want == "") != (err == nil) || err != nil && err.Error() != want {
			t.Errorf("limit %d: error %v, want %q", limit, err, want)
		}
	}
}

// TestInstall_sweep: a passing file of a process that died goes, a fresh one is
// somebody's.
func TestInstall_sweep(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	up := filepath.Join(dir, "up")
	write(t, string(makePDB(t, testGUID, 3, 0)), up, "t.pdb")
	old := write(t, "x", dir, "down", "T.pdb", testKey, ".new-1")
	write(t, "x", dir, "down", "T.pdb", testKey, ".new-2")
	yesterday := time.Now().Add(-24 * time.Hour)
	if err := os.Chtimes(old, yesterday, yesterday); err != nil {
		t.Fatal(err)
	}
	if _, err := New("cache*"+filepath.Join(dir, "down")+";"+up).Find(t.Context(), testID(t)); err != nil {
		t.Fatal(err)
	}
	want := []string{"T.pdb/" + testKey + "/.new-2", "T.pdb/" + testKey + "/T.pdb"}
	if diff := cmp.Diff(want, under(t, filepath.Join(dir, "down"))); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

// TestPath_loadAnything: .symopt+0x40 takes what does not match, but only where
// nothing does, and says so.
func TestPath_loadAnything(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	other := strings.Repeat("1", 32)
	write(t, string(makePDB(t, other, 1, 0)), dir, "a", "t.pdb")
	p := New(filepath.Join(dir, "a") + ";" + filepath.Join(dir, "b"))
	if _, err := p.Find(t.Context(), testID(t)); err == nil {
		t.Fatal("taken without being told to")
	}
	p.SetFlags(DefaultFlags | LoadAnything)
	p.Forget("")
	f, err := p.Find(t.Context(), testID(t))
	want := "the PDB was made for " + other + "-1, the image wants " + testGUID + "-3"
	if err != nil || !f.Loose || f.Note != want {
		t.Errorf("%+v, %v; want a note: %s", f, err, want)
	}
	write(t, string(makePDB(t, testGUID, 3, 0)), dir, "b", "t.pdb")
	p.Forget("t.sys")
	if f, err := p.Find(t.Context(), testID(t)); err != nil || f.Loose {
		t.Errorf("with a better one: %+v, %v", f, err)
	}
}

// TestPath_forget: an answer is kept until it is forgotten.
func TestPath_forget(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	p := New(dir)
	id := testID(t)
	if _, err := p.Find(t.Context(), id); err == nil {
		t.Fatal("found in an empty folder")
	}
	write(t, string(makePDB(t, testGUID, 3, 0)), dir, "t.pdb")
	for _, tt := range []struct {
		name  string
		found bool
	}{{"", false}, {"other.pdb", false}, {"T.PDB", true}} {
		if tt.name != "" {
			p.Forget(tt.name)
		}
		if _, err := p.Find(t.Context(), id); (err == nil) != tt.found {
			t.Errorf("after Forget(%q): %v, want found: %v", tt.name, err, tt.found)
		}
	}
	if err := os.Remove(filepath.Join(dir, "t.pdb")); err != nil {
		t.Fatal(err)
	}
	if _, err := p.Find(t.Context(), id); err != nil {
		t.Errorf("kept: %v", err)
	}
	p.Forget("")
	if _, err := p.Find(t.Context(), id); err == nil {
		t.Error("found after it was removed and forgotten")
	}
}

func TestPath_index(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	own := filepath.Join(dir, "own")
	write(t, testISF, dir, "isf", testGUID+"-3.json")
	for i, indexed := range []bool{false, true} {
		p := Open(filepath.Join(dir, "isf"), Options{CacheDir: own})
		f, err := p.Find(t.Context(), testID(t))
		if err != nil {
			t.Fatal(err)
		}
		if f.Indexed != indexed || f.Symbols.Len() != 3 || f.Store == nil || f.Symbols.Describe() != "isf" {
			t.Errorf("run %d: indexed %v, %d names, types %v, %s", i, f.Indexed, f.Symbols.Len(), f.Store != nil, f.Symbols.Describe())
		}
		a, err := f.Store.Type("_A")
		if err != nil || a.Size != 40 {
			t.Errorf("run %d: _A: %+v, %v", i, a, err)
		}
		if err := p.Close(); err != nil {
			t.Error(err)
		}
		if n, _, err := p.Cache().Stat(); n != 1 || err != nil {
			t.Errorf("run %d: %d tables in the index, %v", i, n, err)
		}
	}
}

func TestImages(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	image := string(makeImage(0x5eedbeef, 0x3000))
	key := "5EEDBEEF3000"
	for path, text := range map[string]string{
		"store/T.sys/" + key + "/t.SYS": image, "nested/t./t.sys/" + key + "/t.sys": image,
		"packed/t.sys/" + key + "/t.sy_": stored("t.sys", []byte(image)), "plain/t.sys": image, "tree/symbols/sys/t.sys": image,
		"other/t.sys": "no image", "plain/ntfs.pdbx": "",
	} {
		write(t, text, dir, filepath.FromSlash(path))
	}
	id := types.ImageID{Name: `\SystemRoot\drivers\t.sys`, Timestamp: 0x5eedbeef, Size: 0x3000}
	in := func(name string) string { return filepath.Join(dir, name) }
	for _, path := range []string{"plain", "store", "nested", "tree", "packed"} {
		p := NewImages(in("other") + ";cache*" + in("keep-"+path) + ";" + in(path))
		f, err := p.Find(t.Context(), id)
		if err != nil {
			t.Errorf("%s: %v", path, err)
			continue
		}
		if err := f.Close(); err != nil {
			t.Error(err)
		}
	}
	// The stores of the symbol path are asked too.
	f, err := OpenImages("", New("srv*"+in("store"))).Find(t.Context(), id)
	if err != nil {
		t.Fatalf("through the symbol path: %v", err)
	}
	if err := f.Close(); err != nil {
		t.Error(err)
	}
	p := NewImages(in("plain"))
	var missing *types.NotFoundError
	for _, other := range []types.ImageID{
		{Name: "t.sys", Timestamp: 1, Size: 0x3000},
		{Name: "t.sys", Timestamp: 0x5eedbeef, Size: 0x4000},
		{Name: "u.sys", Timestamp: 0x5eedbeef, Size: 0x3000},
	} {
		if _, err := p.Find(t.Context(), other); !errors.As(err, &missing) {
			t.Errorf("%+v: %v, want a *types.NotFoundError", other, err)
		}
	}
	if _, err := p.Find(t.Context(), types.ImageID{Name: ".."}); err == nil || errors.As(err, &missing) {
		t.Errorf("name ..: %v", err)
	}
}

// TestPath_events follows what kd shows with !sym noisy (public transcripts).
func TestPath_events(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	down, up := filepath.Join(dir, "down"), filepath.Join(dir, "up")
	file := write(t, string(makePDB(t, testGUID, 3, 0)), up, "T.pdb", testKey, "T.pdb")
	write(t, string(makePDB(t, testGUID, 8, 0)), dir, "plain", "T.pdb")
	p := New(filepath.Join(dir, "plain") + ";srv*" + down + "*" + up)
	id := testID(t)
	id.PDB = "T.pdb"
	if _, err := p.Find(t.Context(), id); err != nil {
		t.Fatal(err)
	}
	if got := p.Events(); got != nil {
		t.Errorf("told without being asked: %q", got)
	}
	if err := os.RemoveAll(down); err != nil {
		t.Fatal(err)
	}
	p.SetFlags(p.Flags() | Debug)
	p.Forget("")
	if _, err := p.Find(t.Context(), id); err != nil {
		t.Fatal(err)
	}
	want := `DBGHELP: DIR/plain/T.pdb - mismatched pdb
DBGHELP: DIR/plain/sys/T.pdb - file not found
DBGHELP: DIR/plain/symbols/sys/T.pdb - file not found
SYMSRV:  BYINDEX: 0x2
         DIR/down*DIR/up
         T.pdb
         KEY
SYMSRV:  UNC: DIR/down/T.pdb/KEY/T.pdb - path not found
SYMSRV:  UNC: DIR/down/T.pdb/KEY/T.pd_ - path not found
SYMSRV:  UNC: DIR/down/T.pdb/KEY/file.ptr - path not found
SYMSRV:  PATH: DIR/down/T.pdb/KEY/T.pdb
SYMSRV:  RESULT: 0x00000000
DBGHELP: t - public symbols
        DIR/down/T.pdb/KEY/T.pdb`
	got := strings.ReplaceAll(strings.Join(p.Events(), "\n"), dir, "DIR")
	got = strings.ReplaceAll(filepath.ToSlash(got), testKey, "KEY")
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("events (-want +got):\n%s", diff)
	}
	a, err := os.ReadFile(file)
	b, err2 := os.ReadFile(filepath.Join(down, "T.pdb", testKey, "T.pdb"))
	if err != nil || err2 != nil || !bytes.Equal(a, b) {
		t.Errorf("the copy differs: %v, %v", err, err2)
	}
	if diff := cmp.Diff([]string{"T.pdb/" + testKey + "/T.pdb", "pingme.txt"}, under(t, down)); diff != "" {
		t.Errorf("store (-want +got):\n%s", diff)
	}
}
