package repl_test

import (
	"bytes"
	"encoding/json"
	"encoding/pem"
	"errors"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"gokd/model/types"
	"gokd/model/types/pdb/pdbtest"
	"gokd/repl"
)

// sisGUID is the identity of sis.sys in the embedded snapshot.
const sisGUID = "447DF56958690199C2276461311C6C9C"

// sisPDB makes a PDB for that image with other names than the snapshot's.
func sisPDB(t testing.TB) []byte {
	t.Helper()
	g, err := types.ParseGUID(sisGUID)
	if err != nil {
		t.Fatal(err)
	}
	b, err := pdbtest.Build(pdbtest.Spec{GUID: g, Age: 1, Stripped: true, Symbols: []types.Symbol{
		{Name: "SipFromServer", RVA: 0x1000, Kind: types.SymFunction},
	}})
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// runWith runs the program with an environment and a cache folder.
func runWith(t testing.TB, env map[string]string, cache, stdin string, args ...string) result {
	t.Helper()
	var out, diag bytes.Buffer
	code := repl.Main(t.Context(), repl.Program{
		Args: args, Stdin: strings.NewReader(stdin), Stdout: &out, Stderr: &diag,
		Getenv: func(name string) string { return env[name] }, Version: "test", CacheDir: cache,
		Scenarios: scenarios(), Location: time.UTC,
	})
	return result{code, out.String(), diag.String()}
}

// TestSymbolServer fetches a PDB over https, keeps it and its index, and finds it
// there in the next session without asking.
func TestSymbolServer(t *testing.T) {
	t.Parallel()
	var asked atomic.Int32
	s := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/sis.pdb/"+sisGUID+"1/sis.pdb" {
			http.NotFound(w, r)
			return
		}
		asked.Add(1)
		_, _ = w.Write(sisPDB(t))
	}))
	s.Config.ErrorLog = log.New(io.Discard, "", 0)
	s.StartTLS()
	defer s.Close()
	dir := t.TempDir()
	ca := filepath.Join(dir, "ca.pem")
	if err := os.WriteFile(ca, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: s.Certificate().Raw}), 0o600); err != nil {
		t.Fatal(err)
	}
	cache := filepath.Join(dir, "cache")
	env := map[string]string{"GOKD_CA_FILE": ca}
	file := filepath.Join(cache, "symbols", "sis.pdb", sisGUID+"1", "sis.pdb")
	want := `fffff880'01400000 fffff880'0141e000   sis        (snapshot symbols)     
Symbol search path is: srv*SERVER
Expanded Symbol search path is: srv*SERVER
fffff880'01400000 fffff880'0141e000   sis        (pdb symbols)          FILE
Evaluate expression: -8246316232704 = fffff880'01401000
`
	want = strings.NewReplacer("'", "`", "SERVER", s.URL, "FILE", file).Replace(want)
	r := runWith(t, env, cache, "ld sis\nlm m sis\n.sympath srv*"+s.URL+"\n.reload /f sis.sys\nlm m sis\n? sis!SipFromServer\n", "-q")
	got := strings.ReplaceAll(strings.ReplaceAll(r.Out, "start             end                 module name\n", ""), "Symbols loaded for sis\n", "")
	if diff := cmp.Diff(want, got); diff != "" || r.Code != 0 {
		t.Errorf("code %d, %s (-want +got):\n%s", r.Code, r.Err, diff)
	}
	before := asked.Load()
	// The next session: from the index, and without a question.
	r = runWith(t, env, cache, "", "-q", "-json", "-y", "srv*"+s.URL, "-c", ".reload /f sis.sys;.symcache;q")
	type line struct {
		Record, Symbols, File string
		Names, Tables         int
	}
	var lines []line
	for text := range strings.SplitSeq(strings.TrimSpace(r.Out), "\n") {
		var l line
		if err := json.Unmarshal([]byte(text), &l); err != nil {
			t.Fatal(err)
		}
		if l.Record != "end" {
			lines = append(lines, l)
		}
	}
	wantLines := []line{{Record: "reload", Symbols: "pdb", File: file, Names: 1}, {Record: "symbol_cache", Tables: 1}}
	if diff := cmp.Diff(wantLines, lines); diff != "" || r.Code != 0 {
		t.Errorf("code %d, %s (-want +got):\n%s", r.Code, r.Err, diff)
	}
	if before != 1 || asked.Load() != 1 {
		t.Errorf("asked %d and %d times, want once", before, asked.Load())
	}
}

// TestSymbolServer_processes: two processes fetch one file into one folder at
// once; each has it, and it is there once.
func TestSymbolServer_processes(t *testing.T) {
	t.Parallel()
	const processes = 2
	var asking sync.WaitGroup // until both ask
	asking.Add(processes)
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if !strings.HasSuffix(r.URL.Path, "/sis.pdb") {
			http.NotFound(w, r)
			return
		}
		asking.Done()
		asking.Wait()
		_, _ = w.Write(sisPDB(t))
	}))
	defer s.Close()
	store := filepath.Join(t.TempDir(), "store")
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	for range processes {
		wg.Go(func() {
			c := exec.CommandContext(t.Context(), self, "-q", "-y", "srv*"+store+"*"+s.URL, "-c", ".reload /f sis.sys;lm m sis;q")
			c.Env = append(os.Environ(), asProgram+"=1")
			out, err := c.CombinedOutput()
			if err != nil || !strings.Contains(string(out), "sis        (pdb symbols)") {
				t.Errorf("%v\n%s", err, out)
			}
		})
	}
	wg.Wait()
	files, err := filepath.Glob(filepath.Join(store, "*", "*", "*"))
	if want := filepath.Join(store, "sis.pdb", sisGUID+"1", "sis.pdb"); err != nil || len(files) != 1 || files[0] != want {
		t.Errorf("files %q, %v; want %s", files, err, want)
	}
}

// TestReload_arrives: tables that are put into the path while a session runs are
// found by .reload, for the kernel too.
func TestReload_arrives(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	dump, symbols := filepath.Join(dir, "x.dmp"), filepath.Join(dir, "symbols")
	if r := run(t, "", "snapshot", "build", "self-deadlock", "-o", dump, "-symbols", symbols); r.Code != 0 {
		t.Fatalf("build: %+v", r)
	}
	env := map[string]string{"_NT_ALT_SYMBOL_PATH": filepath.Join(dir, "a"), "_NT_SYMBOL_PATH": filepath.Join(dir, "b")}
	r := runWith(t, env, "", "lm m nt\n.sympath\n.sympath "+symbols+"\n.reload\nlm m nt\n", "-q", dump)
	kind := func(line string) string {
		_, rest, _ := strings.Cut(line, "(")
		word, _, _ := strings.Cut(rest, ")")
		return word
	}
	var kinds []string
	for line := range strings.SplitSeq(r.Out, "\n") {
		if strings.Contains(line, " nt ") {
			kinds = append(kinds, kind(line))
		}
	}
	if diff := cmp.Diff([]string{"export symbols", "isf symbols"}, kinds); diff != "" || r.Code != 0 {
		t.Errorf("%+v (-want +got):\n%s", r, diff)
	}
	if want := "Symbol search path is: " + env["_NT_ALT_SYMBOL_PATH"] + ";" + env["_NT_SYMBOL_PATH"] + "\n"; !strings.Contains(r.Out, want) {
		t.Errorf("%s: want %s", r.Out, want)
	}
	// A table of another build is refused, and the banner says so.
	other := filepath.Join(dir, "other")
	tables, err := filepath.Glob(filepath.Join(symbols, "ntkrnlmp.pdb", "*"))
	if err != nil || len(tables) != 1 {
		t.Fatalf("tables %q, %v", tables, err)
	}
	text, err := os.ReadFile(tables[0])
	if err != nil {
		t.Fatal(err)
	}
	guid, _, _ := strings.Cut(filepath.Base(tables[0]), "-")
	file := filepath.Join(other, filepath.Base(tables[0]))
	text = bytes.Replace(text, []byte(guid), []byte(strings.Repeat("1", 32)), 1)
	if err := errors.Join(os.Mkdir(other, 0o700), os.WriteFile(file, text, 0o600)); err != nil {
		t.Fatal(err)
	}
	r = run(t, "", "-y", other, dump, "-c", "q")
	if want := "Warning: kernel symbols: ISF table " + file + ": made for " + strings.Repeat("1", 32) + "-1, want " + guid + "-1\n"; !strings.Contains(r.Out, want) {
		t.Errorf("%s\nwant %s", r.Out, want)
	}
	// What a dump needs, with what is at hand, and as addresses for other tools.
	r = run(t, "", "symbols", "-y", symbols+";srv*"+filepath.Join(dir, "c")+"*https://builds.example.com/sym", "-missing", "-urls", dump)
	if strings.Contains(r.Out, ".pdb") || !strings.Contains(r.Out, "https://builds.example.com/sym/sis.sys/4DBCE6081e000/sis.sys\n") {
		t.Errorf("missing files: %+v", r)
	}
	if _, err := os.Stat(filepath.Join(dir, "c")); err == nil {
		t.Error("a listing made a folder")
	}
}
