package sympath

import (
	"context"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"gokd/model/types"
)

// quick are limits for tests: nothing is worth waiting for.
var quick = Limits{Stall: 300 * time.Millisecond, Backoff: time.Microsecond, Tries: 3, Bytes: 1 << 20}

// symbolServer serves over https what handle answers; it gives the address and
// options that trust it.
func symbolServer(t testing.TB, handle http.HandlerFunc) (address string, opt Options) {
	t.Helper()
	s := httptest.NewUnstartedServer(handle)
	s.Config.ErrorLog = log.New(io.Discard, "", 0) // handshakes that fail on purpose
	s.StartTLS()
	t.Cleanup(s.Close)
	roots := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: s.Certificate().Raw})
	return s.URL, Options{CAFile: write(t, string(roots), t.TempDir(), "ca.pem"), Limits: quick, Version: "1.2"}
}

// filesOf answers with files by their paths, and counts questions.
func filesOf(files map[string]string, asked *sync.Map) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		n, _ := asked.LoadOrStore(r.URL.Path, new(atomic.Int32))
		n.(*atomic.Int32).Add(1)
		text, ok := files[r.URL.Path]
		if !ok {
			http.NotFound(w, r)
			return
		}
		_, _ = io.WriteString(w, text)
	}
}

func count(asked *sync.Map, path string) int32 {
	n, ok := asked.Load(path)
	if !ok {
		return 0
	}
	return n.(*atomic.Int32).Load()
}

const testPath = "/s/T.pdb/" + testKey + "/"

func TestServer(t *testing.T) {
	t.Parallel()
	good := string(makePDB(t, testGUID, 3, 200))
	other := string(makePDB(t, strings.Repeat("1", 32), 3, 0))
	in := "T.pdb/" + testKey + "/T.pdb"
	for _, tt := range []struct {
		name  string
		files map[string]string
		err   string // part of the error; SERVER is the address; empty: found
		keep  []string
	}{
		{"plain", map[string]string{testPath + "T.pdb": good}, "", []string{in, "pingme.txt"}},
		{"packed", map[string]string{testPath + "T.pd_": stored("T.pdb", []byte(good))}, "", []string{in, "pingme.txt"}},
		{"two letters", map[string]string{"/s/index2.txt": "", "/s/T./T.pdb/" + testKey + "/T.pdb": good}, "", []string{in, "pingme.txt"}},
		{"pointer to this server", map[string]string{testPath + "file.ptr": "PATH:SERVER/x/t", "/x/t": good}, "", []string{in, "pingme.txt"}},
		{"pointer to a file", map[string]string{testPath + "file.ptr": `PATH:\\evil\share\t.pdb`},
			`SERVER` + testPath + `file.ptr: it points to \\evil\share\t.pdb: only https addresses are followed from a server`, []string{"pingme.txt"}},
		{"message", map[string]string{testPath + "file.ptr": "MSG: gone"}, "SERVER" + testPath + "file.ptr: the store says: gone", []string{"pingme.txt"}},
		{"nothing", nil, "symbol file T.pdb/" + testGUID + "-3: not in symbol path ", []string{"pingme.txt"}},
		{"wrong GUID", map[string]string{testPath + "T.pdb": other}, "made for " + strings.Repeat("1", 32) + "-3, want " + testGUID + "-3", []string{"pingme.txt"}},
		{"web page", map[string]string{testPath + "T.pdb": "<!DOCTYPE html><title>Sign in</title>"},
			"SERVER" + testPath + "T.pdb: the answer is a web page, not a program database; a proxy or sign-in page?", []string{"pingme.txt"}},
		{"cut before it was sent", map[string]string{testPath + "T.pdb": good[:5000]}, "truncated", []string{"pingme.txt"}},
		{"packed web page", map[string]string{testPath + "T.pd_": "<html>"}, "the answer is a web page, not a cabinet", []string{"pingme.txt"}},
		{"bad cabinet", map[string]string{testPath + "T.pd_": "MSCF" + strings.Repeat("x", 99)}, "cabinet: CFFOLDER at file offset 0x64: unexpected EOF", []string{"pingme.txt"}},
		{"too large", map[string]string{testPath + "T.pdb": good + strings.Repeat("x", 1<<20)}, "more than 1048576 bytes", []string{"pingme.txt"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			var asked sync.Map
			files := map[string]string{}
			address, opt := symbolServer(t, func(w http.ResponseWriter, r *http.Request) { filesOf(files, &asked)(w, r) })
			for path, text := range tt.files {
				files[path] = strings.ReplaceAll(text, "SERVER", address)
			}
			dir := t.TempDir()
			var seen atomic.Uint64
			opt.Progress = func(_ string, done, _ uint64) { seen.Store(done) }
			p := Open("srv*"+dir+"*"+address+"/s", opt)
			f, err := p.Find(t.Context(), testID(t))
			switch want := strings.ReplaceAll(tt.err, "SERVER", address); {
			case want == "" && err != nil:
				t.Error(err)
			case want == "":
				if f.Path != filepath.Join(dir, filepath.FromSlash(in)) || seen.Load() == 0 {
					t.Errorf("found %s, progress %d", f.Path, seen.Load())
				}
			case err == nil || !strings.Contains(err.Error(), want):
				t.Errorf("error %v, want %s", err, want)
			case strings.Contains(err.Error(), ".new-"):
				t.Errorf("error %v: names a passing file", err)
			}
			if diff := cmp.Diff(tt.keep, under(t, dir)); diff != "" {
				t.Errorf("store (-want +got):\n%s", diff)
			}
		})
	}
}

// TestServer_agent: servers are told who asks, and are asked once.
func TestServer_agent(t *testing.T) {
	t.Parallel()
	good := makePDB(t, testGUID, 3, 0)
	var agent atomic.Value
	var n atomic.Int32
	address, opt := symbolServer(t, func(w http.ResponseWriter, r *http.Request) {
		agent.Store(r.UserAgent())
		n.Add(1)
		_, _ = w.Write(good)
	})
	dir := t.TempDir()
	for range 2 {
		if _, err := Open("srv*"+dir+"*"+address, opt).Find(t.Context(), testID(t)); err != nil {
			t.Fatal(err)
		}
	}
	want := "gokd/1.2 (compatible; Microsoft-Symbol-Server/10.0)"
	if agent.Load() != want || n.Load() != 1 {
		t.Errorf("agent %q, want %q; asked %d times", agent.Load(), want, n.Load())
	}
}

// cutting serves a file in pieces: each connection breaks after some bytes.
type cutting struct {
	data   []byte
	piece  int
	etag   string
	ranges sync.Map // of requests
	stall  bool
	length int // that is told; 0: the true one
	status []int
}

func (c *cutting) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if !strings.HasSuffix(r.URL.Path, "/T.pdb") {
		http.NotFound(w, r)
		return
	}
	n := 0
	c.ranges.Range(func(any, any) bool { n++; return true })
	c.ranges.Store(fmt.Sprintf("%d %s %s", n, r.Header.Get("Range"), r.Header.Get("If-Range")), true)
	if n < len(c.status) {
		http.Error(w, "later", c.status[n])
		return
	}
	from := 0
	if c.etag != "" {
		w.Header().Set("ETag", c.etag)
		if r.Header.Get("If-Range") == c.etag {
			_, _ = fmt.Sscanf(r.Header.Get("Range"), "bytes=%d-", &from)
		}
	}
	total := max(c.length, len(c.data))
	w.Header().Set("Content-Length", fmt.Sprint(total-from))
	if from > 0 {
		w.Header().Set("Content-Range", fmt.Sprintf("bytes %d-%d/%d", from, total-1, total))
		w.WriteHeader(http.StatusPartialContent)
	}
	_, _ = w.Write(c.data[from:min(len(c.data), from+c.piece)])
	if from+c.piece >= len(c.data) && c.length == 0 {
		return
	}
	_ = http.NewResponseController(w).Flush()
	if c.stall {
		<-r.Context().Done()
	}
	panic(http.ErrAbortHandler)
}

func TestServer_trouble(t *testing.T) {
	t.Parallel()
	good := makePDB(t, testGUID, 3, 300)
	for _, tt := range []struct {
		name string
		c    *cutting
		err  string
		want []string // requests
	}{
		{"cut and resumed", &cutting{piece: 60000, etag: `"a"`}, "", []string{"0  ", `1 bytes=60000- "a"`, `2 bytes=120000- "a"`}},
		{"cut, no tag", &cutting{piece: 60000}, "60000 bytes of 156160: unexpected EOF", []string{"0  ", "1  ", "2  "}},
		{"stalls", &cutting{piece: 60000, etag: `"a"`, stall: true}, "", []string{"0  ", `1 bytes=60000- "a"`, `2 bytes=120000- "a"`}},
		{"stalls for ever", &cutting{piece: 1000, stall: true}, "1000 bytes of 156160: the server stopped sending for 300ms", []string{"0  ", "1  ", "2  "}},
		{"lies on its length", &cutting{piece: 1 << 20, length: 200000}, "156160 bytes of 200000: unexpected EOF", []string{"0  ", "1  ", "2  "}},
		{"busy, then there", &cutting{piece: 1 << 20, status: []int{503, 500}}, "", []string{"0  ", "1  ", "2  "}},
		{"busy", &cutting{piece: 1 << 20, status: []int{503, 503, 503}}, "T.pdb: 503 Service Unavailable", []string{"0  ", "1  ", "2  "}},
		{"refused", &cutting{piece: 1 << 20, status: []int{401}}, "T.pdb: 401 Unauthorized", []string{"0  "}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			tt.c.data = good
			address, opt := symbolServer(t, tt.c.ServeHTTP)
			dir := t.TempDir()
			_, err := Open("srv*"+dir+"*"+address, opt).Find(t.Context(), testID(t))
			if (tt.err == "") != (err == nil) || err != nil && !strings.Contains(err.Error(), tt.err) {
				t.Errorf("error %v, want %q", err, tt.err)
			}
			for _, want := range tt.want {
				if _, ok := tt.c.ranges.LoadAndDelete(want); !ok {
					t.Errorf("request %q is missing", want)
				}
			}
			tt.c.ranges.Range(func(k, _ any) bool { t.Errorf("request %q too many", k); return true })
			for _, name := range under(t, dir) {
				if strings.Contains(name, ".new-") || err != nil && strings.HasSuffix(name, ".pdb") {
					t.Errorf("left behind: %s", name)
				}
			}
		})
	}
}

// TestServer_cancel: Ctrl-C ends a download, leaves nothing, and the next asker
// gets an answer of its own.
func TestServer_cancel(t *testing.T) {
	t.Parallel()
	good := makePDB(t, testGUID, 3, 300)
	begun := make(chan struct{})
	var n atomic.Int32
	address, opt := symbolServer(t, func(w http.ResponseWriter, r *http.Request) {
		if n.Add(1) > 1 {
			_, _ = w.Write(good)
			return
		}
		_, _ = w.Write(good[:70000])
		_ = http.NewResponseController(w).Flush()
		close(begun)
		<-r.Context().Done()
	})
	opt.Limits.Stall = time.Minute
	dir := t.TempDir()
	p := Open("srv*"+dir+"*"+address, opt)
	ctx, cancel := context.WithCancel(t.Context())
	go func() {
		<-begun
		cancel()
	}()
	if _, err := p.Find(ctx, testID(t)); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: %v", err)
	}
	if got := under(t, dir); len(got) != 1 {
		t.Errorf("left behind: %q", got)
	}
	if _, err := p.Find(t.Context(), testID(t)); err != nil {
		t.Errorf("asked again: %v", err)
	}
}

func TestServer_certificate(t *testing.T) {
	t.Parallel()
	address, opt := symbolServer(t, func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write(makePDB(t, testGUID, 3, 0)) })
	dir := t.TempDir()
	for _, tt := range []struct{ name, ca, err string }{
		{"unknown", "", "certificate"},
		{"no file", filepath.Join(dir, "none.pem"), "root certificates: open"},
		{"no certificate", write(t, "hello", dir, "bad.pem"), "has none in PEM form"},
		{"trusted", opt.CAFile, ""},
	} {
		o := opt
		o.CAFile = tt.ca
		p := Open("srv*"+t.TempDir()+"*"+address, o)
		_, err := p.Find(t.Context(), testID(t))
		if (tt.err == "") != (err == nil) || err != nil && !strings.Contains(err.Error(), tt.err) {
			t.Errorf("%s: error %v, want %q", tt.name, err, tt.err)
		}
	}
}

func TestServer_redirect(t *testing.T) {
	t.Parallel()
	good := makePDB(t, testGUID, 3, 0)
	plain := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write(good) }))
	defer plain.Close()
	var to string
	address, opt := symbolServer(t, func(w http.ResponseWriter, r *http.Request) {
		switch {
		case strings.HasPrefix(r.URL.Path, "/blob"):
			_, _ = w.Write(good)
		case strings.HasPrefix(r.URL.Path, "/round"):
			http.Redirect(w, r, "/round", http.StatusFound)
		default:
			http.Redirect(w, r, to, http.StatusFound)
		}
	})
	for _, tt := range []struct{ to, err string }{
		{address + "/blob", ""},
		{plain.URL, "the server sends to " + plain.URL + ", which is not encrypted: refused"},
		{address + "/round", "from place to place without end"},
		{"file:///etc/passwd", "refused"},
	} {
		to = tt.to
		_, err := Open("srv*"+t.TempDir()+"*"+address, opt).Find(t.Context(), testID(t))
		if (tt.err == "") != (err == nil) || err != nil && !strings.Contains(err.Error(), tt.err) {
			t.Errorf("to %s: error %v, want %q", tt.to, err, tt.err)
		}
	}
	// A server of this machine may do without encryption.
	if _, err := Open("srv*"+t.TempDir()+"*"+plain.URL, opt).Find(t.Context(), testID(t)); err != nil {
		t.Errorf("plain http on this machine: %v", err)
	}
}

// TestServer_misses: what a server did not have is asked for again only when the
// user wants it, in other sessions too.
func TestServer_misses(t *testing.T) {
	t.Parallel()
	var asked sync.Map
	files := map[string]string{}
	address, opt := symbolServer(t, filesOf(files, &asked))
	opt.CacheDir = t.TempDir()
	find := func(again bool) error {
		p := Open("srv*"+address+"/s", opt)
		if again {
			p.ForgetMisses("t.PDB")
		}
		_, err := p.Find(t.Context(), testID(t))
		return errors.Join(err, p.Close())
	}
	for i, again := range []bool{false, false, true} {
		var missing *types.NotFoundError
		if err := find(again); !errors.As(err, &missing) {
			t.Errorf("run %d: %v", i, err)
		}
		if want := []int32{1, 1, 2}[i]; count(&asked, testPath+"T.pdb") != want || count(&asked, testPath+"file.ptr") != want {
			t.Errorf("run %d: asked %d times, want %d", i, count(&asked, testPath+"T.pdb"), want)
		}
	}
	// What was put there meanwhile is found after that.
	files[testPath+"T.pdb"] = string(makePDB(t, testGUID, 3, 0))
	if err := find(false); err == nil {
		t.Error("asked though it was missing lately")
	}
	if err := find(true); err != nil {
		t.Error(err)
	}
	want := []string{"symbol-misses", "symbols/T.pdb/" + testKey + "/T.pdb", "symbols/pingme.txt", "symbols-index/INDEX"}
	got := under(t, opt.CacheDir)
	for i, name := range got {
		if strings.HasPrefix(name, "symbols-index/") {
			got[i] = "symbols-index/INDEX"
		}
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("cache (-want +got):\n%s", diff)
	}
}

// TestServer_overwrite: .reload /o replaces a file that a store has already.
func TestServer_overwrite(t *testing.T) {
	t.Parallel()
	var asked sync.Map
	files := map[string]string{testPath + "T.pdb": string(makePDB(t, testGUID, 3, 9))}
	address, opt := symbolServer(t, filesOf(files, &asked))
	dir := t.TempDir()
	old := write(t, string(makePDB(t, testGUID, 3, 0)), dir, "T.pdb", testKey, "T.pdb")
	p := Open("srv*"+dir+"*"+address+"/s", opt)
	size := func() int64 {
		t.Helper()
		if _, err := p.Find(t.Context(), testID(t)); err != nil {
			t.Fatal(err)
		}
		info, err := os.Stat(old)
		if err != nil {
			t.Fatal(err)
		}
		return info.Size()
	}
	if n := size(); n != 5*0x200 || count(&asked, testPath+"T.pdb") != 0 {
		t.Errorf("%#x bytes: replaced without being told to", n)
	}
	p.SetFlags(DefaultFlags | Overwrite)
	p.Forget("")
	if n := size(); n != 14*0x200 {
		t.Errorf("%#x bytes: not replaced", n)
	}
	delete(files, testPath+"T.pdb")
	p.Forget("")
	if n := size(); n != 14*0x200 {
		t.Errorf("%#x bytes: lost when the server has none", n)
	}
}

// TestServer_down: a server that can't be reached is not waited for with every
// module.
func TestServer_down(t *testing.T) {
	t.Parallel()
	s := httptest.NewServer(http.NotFoundHandler())
	address := s.URL
	s.Close()
	p := Open("srv*"+t.TempDir()+"*"+address, Options{Limits: quick})
	id := testID(t)
	if _, err := p.Find(t.Context(), id); err == nil || !strings.Contains(err.Error(), address+"/T.pdb/"+testKey+"/T.pdb: dial tcp") {
		t.Errorf("first: %v", err)
	}
	id.Age++
	host := strings.TrimPrefix(address, "http://")
	if _, err := p.Find(t.Context(), id); err == nil || !strings.HasPrefix(err.Error(), host+" is not asked: ") {
		t.Errorf("second: %v", err)
	}
	p.Forget("")
	if _, err := p.Find(t.Context(), id); err == nil || strings.Contains(err.Error(), "is not asked") {
		t.Errorf("after Forget: %v", err)
	}
}
