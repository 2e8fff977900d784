package pool

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/ulikunitz/xz"

	"gokd/dumpfmt"
	"gokd/model"
	"gokd/model/types"
)

// sharedPath gives a file of the shared folder; the test is skipped where it
// is absent, unless GOKD_REQUIRE_SHARED says that it must be there.
func sharedPath(tb testing.TB, name string) string {
	tb.Helper()
	dir := os.Getenv("GOKD_SHARED")
	if dir == "" {
		dir = filepath.Join("..", "..", "..", "shared")
	}
	file := filepath.Join(dir, filepath.FromSlash(name))
	if _, err := os.Stat(file); err != nil {
		if os.Getenv("GOKD_REQUIRE_SHARED") == "1" {
			tb.Fatalf("required: %v", err)
		}
		tb.Skipf("no shared dumps: %v", err)
	}
	return file
}

// unpacked keeps every packed file that a test asked for, so that it is
// unpacked once; TestMain removes them.
var unpacked struct {
	mu    sync.Mutex
	dir   string
	files map[string]*sync.Once
}

func TestMain(m *testing.M) {
	dir, err := os.MkdirTemp("", "gokd-pool")
	if err != nil {
		panic(err)
	}
	unpacked.dir, unpacked.files = dir, map[string]*sync.Once{}
	code := m.Run()
	_ = os.RemoveAll(dir) // a leftover in the temporary folder harms nothing
	os.Exit(code)
}

// unpack gives the name of a plain copy of an xz file of the shared folder.
func unpack(tb testing.TB, name string) string {
	tb.Helper()
	from := sharedPath(tb, name)
	to := filepath.Join(unpacked.dir, strings.TrimSuffix(filepath.Base(name), ".xz"))
	unpacked.mu.Lock()
	once := unpacked.files[name]
	if once == nil {
		once = new(sync.Once)
		unpacked.files[name] = once
	}
	unpacked.mu.Unlock()
	once.Do(func() {
		if err := copyXZ(to, from); err != nil {
			tb.Errorf("%s: %v", name, err)
		}
	})
	return to
}

func copyXZ(to, from string) error {
	in, err := os.Open(from)
	if err != nil {
		return err
	}
	defer in.Close()
	r, err := xz.NewReader(bufio.NewReaderSize(in, 1<<20))
	if err != nil {
		return err
	}
	out, err := os.Create(to)
	if err != nil {
		return err
	}
	_, err = io.CopyBuffer(struct{ io.Writer }{out}, r, make([]byte, 1<<20))
	return errors.Join(err, out.Close())
}

// loadShared opens a packed dump of the shared folder.
func loadShared(tb testing.TB, name string, symbols ...string) *model.Kernel {
	tb.Helper()
	d, err := dumpfmt.OpenFile(unpack(tb, name))
	if err != nil {
		tb.Fatalf("%s: %v", name, err)
	}
	tb.Cleanup(func() {
		if err := d.Close(); err != nil {
			tb.Errorf("%s: %v", name, err)
		}
	})
	return load(tb, name, d, symbols...)
}

func load(tb testing.TB, name string, d *dumpfmt.Dump, symbols ...string) *model.Kernel {
	tb.Helper()
	src := model.Source{
		Name: name, Machine: uint16(d.Machine), Build: d.Build, Physical: d.Physical, Virtual: d.Virtual,
		DTB: d.DTB, DebugData: d.DebugData, LoadedModules: d.LoadedModules, ActiveProcs: d.ActiveProcs,
		Processors: d.Processors,
	}
	for _, dir := range symbols {
		src.Symbols = types.NewPath(sharedPath(tb, dir))
	}
	k, err := model.Load(context.Background(), src)
	if err != nil {
		tb.Fatalf("%s: %v", name, err)
	}
	return k
}

// truthBlock is a line of a NAME.blocks.json file: header address, size with
// header, the stored tag in hex, a(llocated) or f(ree), n(onpaged) or p(aged),
// and the process it is charged to.
type truthBlock struct {
	address string
	size    uint64
	tag     string
	state   string
	pool    string
	billed  string
}

func (b *truthBlock) UnmarshalJSON(data []byte) error {
	var billed any
	cells := []any{&b.address, &b.size, &b.tag, &b.state, &b.pool, &billed}
	if err := json.Unmarshal(data, &cells); err != nil {
		return err
	}
	b.billed = "0x0"
	if s, ok := billed.(string); ok {
		b.billed = s
	}
	return nil
}

// truth is the part of a truth file that speaks of the pool.
type truth struct {
	Pool struct {
		Trackers map[string]truthTag `json:"tracker_totals"`
		Big      []struct {
			VA    string `json:"va"`
			Tag   string `json:"tag"`
			Pool  string `json:"pool"`
			Bytes uint64 `json:"bytes"`
			Free  bool   `json:"free"`
		} `json:"big_pages"`
		Bulk struct {
			Pages, Blocks uint64
		} `json:"bulk"`
	} `json:"pool"`
}

type truthTag struct {
	Tag            string `json:"tag_hex"`
	NonpagedAllocs uint64 `json:"nonpaged_allocs"`
	NonpagedFrees  uint64 `json:"nonpaged_frees"`
	NonpagedBytes  int64  `json:"nonpaged_bytes"`
	PagedAllocs    uint64 `json:"paged_allocs"`
	PagedFrees     uint64 `json:"paged_frees"`
	PagedBytes     int64  `json:"paged_bytes"`
}

func readTruth(tb testing.TB, name string) truth {
	tb.Helper()
	var t truth
	readJSON(tb, name+".truth.json.xz", &t)
	return t
}

func readBlocks(tb testing.TB, name string) []truthBlock {
	tb.Helper()
	var list []truthBlock
	readJSON(tb, name+".blocks.json.xz", &list)
	return list
}

func readJSON(tb testing.TB, name string, to any) {
	tb.Helper()
	b, err := os.ReadFile(unpack(tb, name))
	if err == nil {
		err = json.Unmarshal(b, to)
	}
	if err != nil {
		tb.Fatalf("%s: %v", name, err)
	}
}
