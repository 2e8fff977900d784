package snapshot_test

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"gokd/dumpfmt"
	"gokd/dumpfmt/snapshot"
	"gokd/model/types"
)

var scenarios = []string{"self-deadlock.yaml", "pool-leak.yaml"}

var formats = []snapshot.Format{snapshot.Full, snapshot.Bitmap, snapshot.Kernel}

func TestBuild_opens(t *testing.T) {
	t.Parallel()
	for _, name := range scenarios {
		for _, format := range formats {
			t.Run(fmt.Sprintf("%s as %s", name, format), func(t *testing.T) {
				t.Parallel()
				im := build(t, scenario(t, name), snapshot.Options{Format: format})
				d, err := dumpfmt.Open(im, im.Size())
				if err != nil {
					t.Fatal(err)
				}
				if len(d.Warnings) > 0 || d.PagesExpected != d.PagesPresent || d.RequiredSpace < uint64(im.Size()) {
					t.Errorf("warnings %q, %d of %d pages, %#x of %#x bytes",
						d.Warnings, d.PagesPresent, d.PagesExpected, im.Size(), d.RequiredSpace)
				}
				want := map[snapshot.Format]uint32{snapshot.Full: 1, snapshot.Bitmap: 5, snapshot.Kernel: 6}[format]
				if d.Type != want || d.Build != 7601 || d.BugCheck != 0xe2 || d.Machine != 0x8664 {
					t.Errorf("type %d, build %d, bug check %#x, machine %#x", d.Type, d.Build, d.BugCheck, d.Machine)
				}
			})
		}
	}
}

func TestBuild_deterministic(t *testing.T) {
	t.Parallel()
	for _, name := range scenarios {
		a := open(t, build(t, scenario(t, name), snapshot.Options{}))
		b := open(t, build(t, scenario(t, name), snapshot.Options{}))
		if !bytes.Equal(a.b, b.b) {
			t.Errorf("%s: two builds differ", name)
		}
	}
}

func TestBuild_header(t *testing.T) {
	t.Parallel()
	r := open(t, build(t, scenario(t, "self-deadlock.yaml"), snapshot.Options{}))
	const ticks, length = 27607093, 156001
	type facts struct {
		Signature, Comment            string
		Processors, Product, BugCheck uint32
		DTB, UpTime, Pages            uint64
	}
	comment, _, _ := strings.Cut(string(r.b[0xfb0:0x1030]), "\x00")
	got := facts{string(r.b[:8]), comment, r.u32(0x34), r.u32(0x1040), r.u32(0x38), r.u64(0x10), r.u64(0x1030), r.u64(0x90)}
	want := facts{"PAGEDU64", "synthetic snapshot self-deadlock", 4, 3, 0xe2, 0x187000, ticks * length, uint64(len(r.b)-0x2000) / 0x1000}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("header (-want +got):\n%s", diff)
	}
	const shared = 0xfffff78000000000
	if n := r.at64(shared + 0x320); n != ticks {
		t.Errorf("tick count %d", n)
	}
	if m := r.at32(shared + 4); (uint64(m)*10000+1<<24-1)/(1<<24) != length {
		t.Errorf("a tick of %#x does not have %d units", m, length)
	}
}

func TestBuild_pageTables(t *testing.T) {
	t.Parallel()
	for _, format := range formats {
		r := open(t, build(t, scenario(t, "self-deadlock.yaml"), snapshot.Options{Format: format}))
		var self []int
		for i := range uint64(512) {
			if r.entry(r.dtb, i)&0xffffffffff000 == r.dtb {
				self = append(self, int(i))
			}
		}
		if diff := cmp.Diff([]int{0x1ed}, self); diff != "" {
			t.Errorf("self references (-want +got):\n%s", diff)
		}
		// Through the self reference the top-level table is memory itself.
		if e := r.at64(0xfffff6fb7dbed000 + 8*0x1ed); e&0xffffffffff000 != r.dtb {
			t.Errorf("entry of the self reference: %#x", e)
		}
		if mz := r.mem(0xfffff80002206000, 2); string(mz) != "MZ" {
			t.Errorf("the kernel starts with %q", mz)
		}
		_, user, captured := r.page(0x7fffffd3000)
		if user || captured {
			t.Error("System has user memory")
		}
	}
}

// Offsets of Windows 7 SP1 before its late updates (volatility,
// overlays/windows/win7_sp1_x64_vtypes.py).
const (
	oProcessPid     = 0x180
	oProcessLinks   = 0x188
	oProcessName    = 0x2e0
	oProcessThreads = 0x308
	oProcessDTB     = 0x28
	oThreadLinks    = 0x420
	oThreadCid      = 0x3b0
	oThreadState    = 0x164
	oThreadBase     = 0x278
	oThreadKernel   = 0x38
	oThreadInitial  = 0x28
)

func TestBuild_lists(t *testing.T) {
	t.Parallel()
	r := open(t, build(t, scenario(t, "self-deadlock.yaml"), snapshot.Options{}))
	if n := len(r.list(r.kdbg(0x48))); n != 24 {
		t.Errorf("%d modules", n)
	}
	var names []string
	threads := 0
	for _, link := range r.list(r.kdbg(0x50)) {
		p := link - oProcessLinks
		name, _, _ := strings.Cut(string(r.mem(p+oProcessName, 15)), "\x00")
		names = append(names, name)
		pid := r.at64(p + oProcessPid)
		for _, tl := range r.list(p + oProcessThreads) {
			th := tl - oThreadLinks
			if typ := r.mem(th, 1)[0]; typ != 6 {
				t.Errorf("thread %#x: object type %d", th, typ)
			}
			if cid := r.at64(th + oThreadCid); cid != pid {
				t.Errorf("thread %#x of process %#x: id %#x", th, pid, cid)
			}
			base, init := r.at64(th+oThreadBase), r.at64(th+oThreadInitial)
			if base-init != 0x250 {
				t.Errorf("thread %#x: stack from %#x, first used %#x", th, base, init)
			}
			threads++
		}
	}
	want := []string{"System", "smss.exe", "csrss.exe", "csrss.exe", "wininit.exe", "services.exe", "lsass.exe", "svchost.exe",
		"svchost.exe", "groveler.exe", "explorer.exe", "notmyfault.exe"}
	if diff := cmp.Diff(want, names); diff != "" {
		t.Errorf("processes (-want +got):\n%s", diff)
	}
	if threads != 53 {
		t.Errorf("%d threads", threads)
	}
}

// TestBuild_processTables reads kernel memory through another process's tables.
func TestBuild_processTables(t *testing.T) {
	t.Parallel()
	r := open(t, build(t, scenario(t, "self-deadlock.yaml"), snapshot.Options{}))
	links := r.list(r.kdbg(0x50))
	base := r.kdbg(0x18)
	r.dtb = r.at64(links[3] - oProcessLinks + oProcessDTB)
	if r.dtb == 0x187000 || string(r.mem(base, 2)) != "MZ" {
		t.Errorf("tables at %#x do not lead to the kernel", r.dtb)
	}
	peb := r.at64(links[3] - oProcessLinks + 0x338)
	if build := binary.LittleEndian.Uint16(r.mem(peb+0x120, 2)); build != 7601 {
		t.Errorf("PEB.OSBuildNumber at %#x: %d", peb, build)
	}
}

func TestBuild_deadlock(t *testing.T) {
	t.Parallel()
	r := open(t, build(t, scenario(t, "self-deadlock.yaml"), snapshot.Options{}))
	const resource, semaphore, thread = 0xfffffa8011efede8, 0xfffffa80139ea3e0, 0xfffffa80169538a0
	if all := r.list(r.kdbg(0x60)); len(all) != 231 || all[72] != resource {
		t.Errorf("%d resources, the 73rd is %#x", len(all), all[72])
	}
	waiters := []uint64{
		thread, 0xfffffa801ea69b60, 0xfffffa8017dfd430, 0xfffffa800cd76b60,
		0xfffffa801512a410, 0xfffffa801279b340, 0xfffffa8016d079a0, 0xfffffa8015452aa0,
		0xfffffa801607bb60, 0xfffffa8012f79b60, 0xfffffa8013b4e040, 0xfffffa801b03e300,
		0xfffffa800cd77040, 0xfffffa8013a8e040, 0xfffffa800cd76040, 0xfffffa80172d7490,
	}
	type state struct {
		Owner, Semaphore          uint64
		Count, Contention, Shared uint32
		Flag                      byte
	}
	got := state{r.at64(resource + 0x30), r.at64(resource + 0x20), r.at32(resource+0x38) >> 2, r.at32(resource + 0x44), r.at32(resource + 0x48), r.mem(resource+0x1a, 1)[0]}
	if diff := cmp.Diff(state{0xfffff88007fab7f3, semaphore, 2, 20, 16, 0x80}, got); diff != "" {
		t.Errorf("resource (-want +got):\n%s", diff)
	}
	table := r.at64(resource + 0x10)
	size := r.at32(table + 8)
	var entries, queue []uint64
	for i := uint64(1); i < uint64(size); i++ {
		if owner := r.at64(table + 16*i); owner != 0 {
			entries = append(entries, owner)
		}
	}
	for _, block := range r.list(semaphore + 8) {
		queue = append(queue, r.at64(block+0x10))
	}
	if diff := cmp.Diff(waiters, entries); diff != "" {
		t.Errorf("owner table (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff(waiters, queue); diff != "" {
		t.Errorf("waiters of the semaphore (-want +got):\n%s", diff)
	}
	if limit := r.at32(semaphore + 0x18); limit != 0x7fffffff {
		t.Errorf("limit %#x", limit)
	}
	// The machine frame at the top of the new stack leads to the old one.
	if rip, rsp := r.at64(0xfffff88007fabd88), r.at64(0xfffff88007fabda0); rip != 0xfffff8000227e741 || rsp != 0xfffff880085fffe0 {
		t.Errorf("machine frame: %#x, %#x", rip, rsp)
	}
}

func TestImage_size(t *testing.T) {
	t.Parallel()
	text := []byte("name: small\n")
	used := build(t, text, snapshot.Options{})
	const size = 32 << 20
	for _, format := range []snapshot.Format{snapshot.Full, snapshot.Bitmap} {
		im := build(t, text, snapshot.Options{Format: format, Size: size})
		d, err := dumpfmt.Open(im, im.Size())
		if err != nil {
			t.Fatal(err)
		}
		if len(d.Warnings) > 0 || im.Size() <= used.Size() || uint64(im.Size()) != d.RequiredSpace {
			t.Errorf("%s: %d bytes for %d, warnings %q", format, im.Size(), d.RequiredSpace, d.Warnings)
		}
		var out bytes.Buffer
		if n, err := im.WriteTo(&out); n != im.Size() || err != nil || int64(out.Len()) != n {
			t.Errorf("%s: wrote %d of %d: %v", format, n, im.Size(), err)
		}
		tail := make([]byte, 16)
		if n, err := im.ReadAt(tail, im.Size()-8); n != 8 || !errors.Is(err, io.EOF) {
			t.Errorf("%s: read %d behind the end: %v", format, n, err)
		}
		if _, ok := im.Slice(im.Size()-8, 16); ok {
			t.Errorf("%s: a slice behind the end", format)
		}
	}
	for _, opts := range []snapshot.Options{{Size: 4096}, {Size: 1}, {Format: snapshot.Kernel, Size: size}, {Format: 77}, {Size: 1 << 50}} {
		if _, err := snapshot.Build(text, opts); err == nil {
			t.Errorf("options %+v are accepted", opts)
		}
	}
}

func TestParseFormat(t *testing.T) {
	t.Parallel()
	for _, f := range append(formats, snapshot.Default) {
		name := f.String()
		if f == snapshot.Default {
			name = ""
		}
		if got, err := snapshot.ParseFormat(name); got != f || err != nil {
			t.Errorf("%q: %v, %v", name, got, err)
		}
	}
	if _, err := snapshot.ParseFormat("triage"); err == nil {
		t.Error("triage is accepted")
	}
}

// TestSymbolFiles holds the symbol files against the resolver.
func TestSymbolFiles(t *testing.T) {
	t.Parallel()
	im := build(t, scenario(t, "self-deadlock.yaml"), snapshot.Options{})
	files, err := im.SymbolFiles()
	if err != nil {
		t.Fatal(err)
	}
	if len(files) != len(im.Images()) {
		t.Errorf("%d files for %d images", len(files), len(im.Images()))
	}
	for _, id := range im.Images() {
		path := fmt.Sprintf("%s/%s-%d.json", id.PDB, id.GUID, id.Age)
		table, err := types.ReadISF(bytes.NewReader(files[path]), path)
		if err != nil {
			t.Fatalf("%s: %v", path, err)
		}
		store, names, err := im.Resolver().Resolve(context.Background(), id)
		if err != nil {
			t.Fatal(err)
		}
		for _, name := range names.Prefix("", 1<<20) {
			want, _ := names.Lookup(name)
			if got, ok := table.Lookup(name); !ok || got != want {
				t.Errorf("%s: %s is %+v, want %+v", path, name, got, want)
			}
		}
		if (store != nil) != (id.PDB == "ntkrnlmp.pdb") {
			t.Errorf("%s: types %v", path, store != nil)
		}
		if store == nil {
			continue
		}
		for name, path := range map[string]string{"_ETHREAD": "CrossThreadFlags", "_KTHREAD": "WaitReason", "_OWNER_ENTRY": "OwnerCount", "_IRP": "Tail"} {
			want, err1 := store.Type(name)
			got, err2 := table.Type(name)
			if err1 != nil || err2 != nil || want.Size != got.Size {
				t.Errorf("%s: %v %v", name, err1, err2)
				continue
			}
			f, _ := want.Field(path)
			g, _ := got.Field(path)
			if f.Offset != g.Offset || f.BitPos != g.BitPos || f.BitLen != g.BitLen {
				t.Errorf("%s.%s: %+v, want %+v", name, path, g, f)
			}
		}
	}
	if _, _, err := im.Resolver().Resolve(context.Background(), types.ImageID{PDB: "other.pdb"}); err == nil {
		t.Error("an image of another machine is resolved")
	}
}

// TestReadme builds the example that explains the fields.
func TestReadme(t *testing.T) {
	t.Parallel()
	text := string(scenario(t, "README.md"))
	_, text, _ = strings.Cut(text, "```yaml\n")
	text, _, ok := strings.Cut(text, "```\n")
	if !ok {
		t.Fatal("there is no example")
	}
	text = strings.Replace(text, "  - image: mydriver.sys\n", "  - {image: i8042prt.sys}\n  - image: mydriver.sys\n", 1)
	build(t, []byte(text), snapshot.Options{})
}

// TestScenarios holds the folder to what the tests above know.
func TestScenarios(t *testing.T) {
	t.Parallel()
	found, err := filepath.Glob(filepath.Join("..", "..", "testdata", "snapshots", "*.yaml"))
	if err != nil || len(found) < len(scenarios) {
		t.Fatalf("%v: %v", found, err)
	}
	for _, name := range found {
		b, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		if im, err := snapshot.Build(b, snapshot.Options{}); err != nil {
			t.Errorf("%s: %v", name, err)
		} else if im.Size() > 8<<20 {
			t.Errorf("%s: %d bytes are no small dump", name, im.Size())
		}
	}
}

func BenchmarkBuild(b *testing.B) {
	for _, name := range scenarios {
		b.Run(name, func(b *testing.B) {
			text := scenario(b, name)
			im := build(b, text, snapshot.Options{})
			b.SetBytes(im.Size())
			b.ReportAllocs()
			for b.Loop() {
				build(b, text, snapshot.Options{})
			}
		})
	}
}

// FuzzBuild builds whatever parses, and opens what was built.
func FuzzBuild(f *testing.F) {
	for _, name := range scenarios {
		f.Add(scenario(f, name))
	}
	for _, c := range badScenarios {
		f.Add([]byte(c.text))
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		im, err := snapshot.Build(text, snapshot.Options{})
		if err != nil {
			if im != nil || !errors.Is(err, snapshot.ErrScenario) {
				t.Fatalf("%v: %v", im, err)
			}
			return
		}
		d, err := dumpfmt.Open(im, im.Size())
		if err != nil || len(d.Warnings) > 0 {
			t.Fatalf("%v: %q", err, d.Warnings)
		}
	})
}
