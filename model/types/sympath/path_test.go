package sympath

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"gokd/dumpfmt/dumptest/shared"
	"gokd/model/types"
)

func TestPath_resolve(t *testing.T) {
	t.Parallel()
	id := testID(t)
	name := testGUID + "-3.json"
	namesOnly := strings.Replace(testISF, `"user_types"`, `"user_typos"`, 1)
	tests := []struct {
		name  string
		files map[string]string // path -> text
		store bool
		found bool
	}{
		{"as Volatility keeps it", map[string]string{"t.pdb/" + name: testISF}, true, true},
		{"other case", map[string]string{"T.PDB/" + strings.ToLower(name): testISF}, true, true},
		{"below windows", map[string]string{"windows/t.pdb/" + name: testISF}, true, true},
		{"plain", map[string]string{name: testISF}, true, true},
		{"names only", map[string]string{name: namesOnly}, false, true},
		{"broken, then good", map[string]string{"t.pdb/" + name: "{", name: testISF}, true, true},
		{"other age", map[string]string{"t.pdb/" + testGUID + "-4.json": testISF}, false, false},
		{"other folder", map[string]string{"u.pdb/" + name: testISF}, false, false},
		{"nothing", nil, false, false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			for path, text := range tt.files {
				write(t, text, dir, filepath.FromSlash(path))
			}
			store, symbols, err := New(dir).Resolve(t.Context(), id)
			var missing *types.NotFoundError
			if !tt.found {
				if !errors.As(err, &missing) {
					t.Errorf("error = %v, want a *types.NotFoundError", err)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if (store != nil) != tt.store || symbols.Len() != 3 {
				t.Errorf("store %v, %d names; want store: %v, 3 names", store, symbols.Len(), tt.store)
			}
		})
	}
}

func TestPath_refused(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	id := testID(t)
	write(t, strings.Replace(testISF, testGUID, strings.Repeat("1", 32), 1), dir, testGUID+"-3.json")
	write(t, testISF, dir, "out", testGUID+"-3.json")
	p := New(filepath.Join(dir))
	var missing *types.NotFoundError
	if _, _, err := p.Resolve(t.Context(), id); err == nil || errors.As(err, &missing) || !strings.Contains(err.Error(), "made for") {
		t.Errorf("a table renamed: %v", err)
	}
	deeper := filepath.Join(dir, "in")
	if err := os.Mkdir(deeper, 0o700); err != nil {
		t.Fatal(err)
	}
	p = New(deeper)
	for _, pdb := range []string{"..", "../out", `..\out`, "a\x00b", strings.Repeat("a", 200)} {
		evil := id
		evil.PDB = pdb
		if _, _, err := p.Resolve(t.Context(), evil); err == nil {
			t.Errorf("PDB %q resolved", pdb)
		}
	}
	noGUID := id
	noGUID.GUID = types.GUID{}
	if _, _, err := p.Resolve(t.Context(), noGUID); err == nil {
		t.Error("resolved without a GUID")
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, _, err := p.Resolve(ctx, id); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: %v", err)
	}
}

// TestPath_kept checks that a table is read once for an identity.
func TestPath_kept(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	write(t, testISF, dir, testGUID+"-3.json")
	p := New(dir)
	first, _, err := p.Resolve(t.Context(), testID(t))
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Remove(filepath.Join(dir, testGUID+"-3.json")); err != nil {
		t.Fatal(err)
	}
	second, _, err := p.Resolve(t.Context(), testID(t))
	if err != nil || first != second {
		t.Errorf("second answer %v, %v; want the first again", second, err)
	}
}

// TestPath_shared resolves real tables by every way of naming their folder.
func TestPath_shared(t *testing.T) {
	t.Parallel()
	g, err := types.ParseGUID("169C65213E3E42DDBEB4E3AC66312B82")
	if err != nil {
		t.Fatal(err)
	}
	kernel := types.ImageID{Name: "ntoskrnl.exe", PDB: "ntkrnlmp.pdb", GUID: g, Age: 1}
	for _, dir := range []string{shared.Path(t, "isf"), shared.Path(t, "isf", "windows"), shared.Path(t, "isf", "windows", "ntkrnlmp.pdb")} {
		store, symbols, err := New(dir).Resolve(t.Context(), kernel)
		if err != nil {
			t.Error(err)
			continue
		}
		if _, err := store.Type("_ETHREAD"); err != nil || symbols.Len() < 10000 {
			t.Errorf("%s: %d names, %v", dir, symbols.Len(), err)
		}
	}
	if g, err = types.ParseGUID("A201494933C6DD88157D4E2CB01A4CDD"); err != nil {
		t.Fatal(err)
	}
	store, symbols, err := New(shared.Path(t, "dumps", "symbols", "win7")).Resolve(t.Context(), types.ImageID{PDB: "srv2.pdb", GUID: g, Age: 1})
	if err != nil || store != nil {
		t.Fatalf("srv2: store %v, %v; want names only", store, err)
	}
	if _, ok := symbols.Lookup("SrvProcWorkerThread"); !ok {
		t.Error("srv2: SrvProcWorkerThread missing")
	}
}

// BenchmarkFind finds a kernel's table: read from the file, and from the index.
func BenchmarkFind(b *testing.B) {
	dir := shared.Path(b, "isf", "windows")
	g, err := types.ParseGUID("169C65213E3E42DDBEB4E3AC66312B82")
	if err != nil {
		b.Fatal(err)
	}
	id := types.ImageID{Name: "ntoskrnl.exe", PDB: "ntkrnlmp.pdb", GUID: g, Age: 1}
	find := func(b *testing.B, opt Options) {
		p := Open(dir, opt)
		if _, err := p.Find(b.Context(), id); err != nil {
			b.Fatal(err)
		}
		if err := p.Close(); err != nil {
			b.Fatal(err)
		}
	}
	b.Run("file", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			find(b, Options{})
		}
	})
	b.Run("index", func(b *testing.B) {
		opt := Options{CacheDir: b.TempDir()}
		find(b, opt)
		b.ReportAllocs()
		for b.Loop() {
			find(b, opt)
		}
	})
}

func FuzzPath(f *testing.F) {
	for _, name := range []string{"t.pdb", `..\t.pdb`, "a\x00", "windows", "CON"} {
		f.Add(name, "srv*"+name+";.")
	}
	empty := f.TempDir()
	f.Fuzz(func(t *testing.T, name, spec string) {
		if clean, err := types.CleanName(name); err == nil {
			if clean != filepath.Base(clean) || len(clean) > 128 || !filepath.IsLocal(clean) {
				t.Fatalf("types.CleanName(%q) = %q", name, clean)
			}
		}
		_ = expand(parsing{}.parse(spec))
		if _, _, err := New(empty).Resolve(t.Context(), types.ImageID{PDB: name, GUID: types.GUID{1}, Age: 1}); err == nil {
			t.Fatal("resolved in an empty folder")
		}
	})
}
