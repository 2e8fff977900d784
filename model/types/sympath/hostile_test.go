package sympath

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"gokd/model/types"
)

// TestServer_hostile: names from a dump never leave their folder.
func TestServer_hostile(t *testing.T) {
	t.Parallel()
	var paths sync.Map
	address, opt := symbolServer(t, func(w http.ResponseWriter, r *http.Request) {
		paths.Store(r.URL.EscapedPath(), true)
		http.NotFound(w, r)
	})
	dir := t.TempDir()
	for _, name := range []string{`..\..\evil.pdb`, "/etc/passwd", "a b#c&d.pdb", "%2e%2e%2fx.pdb", "a\x00b", "con.pdb", "..", strings.Repeat("a", 500)} {
		id := testID(t)
		id.Name, id.PDB = "..", name
		if _, err := Open("srv*"+dir+"*"+address+"/s", opt).Find(t.Context(), id); err == nil {
			t.Errorf("%q found", name)
		}
	}
	paths.Range(func(k, _ any) bool {
		path := k.(string)
		if !strings.HasPrefix(path, "/s/") || strings.Contains(path, "..") || strings.Contains(path, "//") {
			t.Errorf("asked for %q", path)
		}
		return true
	})
	for _, want := range []string{"/s/evil.pdb/", "/s/passwd/", "/s/a%20b%23c&d.pdb/"} {
		if _, ok := paths.Load(want + testKey + strings.TrimPrefix(want, "/s")[:len(want)-3]); !ok {
			t.Errorf("not asked for %s", want)
		}
	}
	if got := under(t, filepath.Dir(dir)); len(got) != 2 { // the root certificate and pingme.txt
		t.Errorf("files: %q", got)
	}
}

// TestServer_parallel: many at once, several askers of one, and two sessions that
// share a folder.
func TestServer_parallel(t *testing.T) {
	t.Parallel()
	guid := func(i int) string { return fmt.Sprintf("%032X", i%8+1) }
	var n atomic.Int32
	address, opt := symbolServer(t, func(w http.ResponseWriter, r *http.Request) {
		key := strings.Split(r.URL.Path, "/")[2]
		n.Add(1)
		_, _ = w.Write(makePDB(t, key[:32], 1, 20))
	})
	dir := t.TempDir()
	sessions := []*Path{Open("srv*"+dir+"*"+address, opt), Open("srv*"+dir+"*"+address, opt)}
	var wg sync.WaitGroup
	for i := range 64 {
		wg.Go(func() {
			g, err := types.ParseGUID(guid(i))
			if err != nil {
				t.Error(err)
				return
			}
			f, err := sessions[i/8%2].Find(t.Context(), types.ImageID{Name: "t.sys", PDB: "t.pdb", GUID: g, Age: 1})
			if err != nil {
				t.Errorf("%d: %v", i, err)
			} else if !strings.Contains(f.Path, guid(i)) {
				t.Errorf("%d: found %s", i, f.Path)
			}
		})
	}
	wg.Wait()
	if n.Load() < 8 || n.Load() > 16 {
		t.Errorf("asked %d times for 8 files by 2 sessions", n.Load())
	}
	if got := under(t, dir); len(got) != 9 {
		t.Errorf("%d files: %q", len(got), got)
	}
}

// TestServer_abort: a download that is aborted ends that download only; it is
// tried again when the user wants it.
func TestServer_abort(t *testing.T) {
	t.Parallel()
	good := makePDB(t, testGUID, 3, 300)
	begun := make(chan struct{})
	var n atomic.Int32
	address, opt := symbolServer(t, func(w http.ResponseWriter, r *http.Request) {
		if n.Add(1) > 1 {
			_, _ = w.Write(good)
			return
		}
		close(begun)
		<-r.Context().Done()
	})
	opt.Limits.Stall = time.Minute
	dir := t.TempDir()
	write(t, testISF, dir, "later", testGUID+"-3.json")
	p := Open("srv*"+filepath.Join(dir, "down")+"*"+address, opt)
	ctx, abort := context.WithCancel(t.Context())
	end := p.AbortDownloads(ctx)
	go func() {
		<-begun
		abort()
	}()
	if _, err := p.Find(t.Context(), testID(t)); !errors.Is(err, errAborted) {
		t.Errorf("aborted: %v", err)
	}
	if _, err := p.Find(t.Context(), testID(t)); !errors.Is(err, errAborted) || n.Load() != 1 {
		t.Errorf("asked again at once: %v, %d times", err, n.Load())
	}
	p.Add(filepath.Join(dir, "later"))
	if f, err := p.Find(t.Context(), testID(t)); err != nil || f.Kind != "isf" {
		t.Errorf("the rest of the path: %+v, %v", f, err)
	}
	end()
	p.Forget("")
	if f, err := p.Find(t.Context(), testID(t)); err != nil || f.Kind != "pdb" {
		t.Errorf("asked again: %+v, %v", f, err)
	}
}

func TestServer_image(t *testing.T) {
	t.Parallel()
	image := string(makeImage(0x5eedbeef, 0x3000))
	var asked sync.Map
	address, opt := symbolServer(t, filesOf(map[string]string{"/t.sys/5EEDBEEF3000/t.sy_": stored("t.sys", []byte(image))}, &asked))
	dir := t.TempDir()
	id := types.ImageID{Name: "t.sys", Timestamp: 0x5eedbeef, Size: 0x3000}
	p := OpenImages("", Open("srv*"+dir+"*"+address, opt))
	if _, err := p.Find(t.Context(), id); err == nil || count(&asked, "/t.sys/5EEDBEEF3000/t.sys") != 0 {
		t.Errorf("a server is asked where nothing is to be fetched: %v", err)
	}
	f, err := p.Fetch(t.Context(), id)
	if want := filepath.Join(dir, "t.sys", "5EEDBEEF3000", "t.sys"); err != nil || f.Path != want {
		t.Errorf("fetched %s, %v; want %s", f.Path, err, want)
	}
	found, err := p.Find(t.Context(), id)
	if err != nil {
		t.Fatal(err)
	}
	if err := found.Close(); err != nil {
		t.Error(err)
	}
}

// TestServer_events follows a public session of kd with !sym noisy.
func TestServer_events(t *testing.T) {
	t.Parallel()
	var asked sync.Map
	address, opt := symbolServer(t, filesOf(map[string]string{testPath + "T.pd_": stored("T.pdb", makePDB(t, testGUID, 3, 0))}, &asked))
	dir := t.TempDir()
	p := Open("srv*"+dir+"*"+address+"/s", opt)
	p.SetFlags(DefaultFlags | Debug)
	id := testID(t)
	if _, err := p.Find(t.Context(), id); err != nil {
		t.Fatal(err)
	}
	want := `SYMSRV:  BYINDEX: 0x1
         DIR*SERVER/s
         T.pdb
         KEY
SYMSRV:  UNC: DIR/T.pdb/KEY/T.pdb - path not found
SYMSRV:  UNC: DIR/T.pdb/KEY/T.pd_ - path not found
SYMSRV:  UNC: DIR/T.pdb/KEY/file.ptr - path not found
SYMSRV:  HTTPGET: /s/T.pdb/KEY/T.pdb
SYMSRV:  HttpQueryInfo: 80190194 - HTTP_STATUS_NOT_FOUND
SYMSRV:  HTTPGET: /s/T.pdb/KEY/T.pd_
SYMSRV:  HttpQueryInfo: 200 - HTTP_STATUS_OK
SYMSRV:  PATH: DIR/T.pdb/KEY/T.pdb
SYMSRV:  RESULT: 0x00000000
DBGHELP: t - public symbols
        DIR/T.pdb/KEY/T.pdb`
	got := strings.Join(p.Events(), "\n")
	for _, r := range [][2]string{{address, "SERVER"}, {dir, "DIR"}, {testKey, "KEY"}} {
		got = strings.ReplaceAll(got, r[0], r[1])
	}
	if diff := cmp.Diff(want, filepath.ToSlash(got)); diff != "" {
		t.Errorf("events (-want +got):\n%s", diff)
	}
}

// FuzzAnswer lets a server answer anything: nothing but the PDB that is wanted
// may appear in the store.
func FuzzAnswer(f *testing.F) {
	f.Add(makePDB(f, testGUID, 3, 0), 200)
	f.Add([]byte(stored("t.pdb", makePDB(f, testGUID, 3, 0))), 200)
	f.Add([]byte("PATH:https://127.0.0.1:1/x"), 200)
	f.Add([]byte("<html>"), 302)
	var mu sync.Mutex
	var body []byte
	var status int
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		mu.Lock()
		defer mu.Unlock()
		w.WriteHeader(status)
		_, _ = w.Write(body)
	}))
	f.Cleanup(s.Close)
	limits := Limits{Stall: time.Second, Backoff: time.Nanosecond, Tries: 1, Bytes: 1 << 20}
	f.Fuzz(func(t *testing.T, data []byte, code int) {
		mu.Lock()
		body, status = bytes.Clone(data), max(200, min(code, 599))
		mu.Unlock()
		dir := t.TempDir()
		p := Open("srv*"+dir+"*"+s.URL, Options{Limits: limits})
		_, err := p.Find(t.Context(), testID(t))
		if err := p.Close(); err != nil {
			t.Fatal(err)
		}
		if files := under(t, dir); len(files) > 1 != (err == nil) {
			t.Fatalf("error %v, files %q", err, files)
		}
	})
}
