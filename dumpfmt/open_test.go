package dumpfmt_test

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"gokd/dumpfmt"
	"gokd/dumpfmt/dumptest"
	"gokd/model/mem"
)

// open opens an image that must be good.
func open(t testing.TB, image []byte) *dumpfmt.Dump {
	t.Helper()
	d, err := dumpfmt.Open(dumpfmt.NewBytes(image), int64(len(image)))
	if err != nil {
		t.Fatalf("Open: %v", err)
	}
	return d
}

// runsOf lists the runs of a dump, at most 100000.
func runsOf(d *dumpfmt.Dump) (runs []mem.Run) {
	for r := range d.Physical.Runs() {
		if runs = append(runs, r); len(runs) == 100000 {
			break
		}
	}
	return runs
}

func runOf(pfn, pages uint64) mem.Run {
	return mem.Run{Base: mem.PA(pfn * dumptest.Page), Size: pages * dumptest.Page}
}

func TestOpen_headerFacts(t *testing.T) {
	t.Parallel()
	image := dumptest.Full(dumptest.Run{PFN: 1, Pages: 2})
	image.Put(0x1050, uint32(1<<4))
	d := open(t, image)
	want := &dumpfmt.Dump{
		Format: "64-bit full dump", Type: 1, Size: int64(len(image)),
		Machine: dumpfmt.MachineX64, Major: 15, Build: dumptest.Build, Processors: 4,
		DTB: dumptest.DTB, DebugData: dumptest.DebugBlock, LoadedModules: dumptest.Modules,
		ActiveProcs: dumptest.Processes, PfnDatabase: dumptest.Pfn,
		BugCheck: 0xe2, BugCheckArgs: [4]uint64{0x11, 0x22, 0x33, 0x44},
		SystemTime: dumptest.SystemTime, UpTime: dumptest.UpTime, ProductType: 3, SuiteMask: 0x110,
		Attributes: 1 << 4, Live: true, Comment: "made for a test", RequiredSpace: uint64(len(image)),
		PagesExpected: 2, PagesPresent: 2,
	}
	ignore := cmpopts.IgnoreFields(dumpfmt.Dump{}, "Context", "Exception", "Physical")
	if diff := cmp.Diff(want, d, ignore, cmpopts.IgnoreUnexported(dumpfmt.Dump{})); diff != "" {
		t.Errorf("header facts (-want +got):\n%s", diff)
	}
	if len(d.Context) != 0x4d0 || d.Context[0x98] != 0xc8 {
		t.Errorf("context: %#x bytes, want 0x4d0 with Rsp", len(d.Context))
	}
	if len(d.Exception) != 0x98 || d.Exception[0] != 3 {
		t.Errorf("exception: %#x bytes, want 0x98", len(d.Exception))
	}
}

// A header whose optional fields the writer left filled must not show filler.
func TestOpen_fillerIsAbsent(t *testing.T) {
	t.Parallel()
	image := dumptest.Full(dumptest.Run{PFN: 1, Pages: 1})
	fill := dumptest.Filled(dumptest.HeaderSize)
	for _, part := range [][2]int{{8, 48}, {52, 136}, {840, 3992}, {4000, 8192}} {
		copy(image[part[0]:part[1]], fill[part[0]:])
	}
	d := open(t, image)
	want := &dumpfmt.Dump{Format: "64-bit full dump", Type: 1, Size: int64(len(image)), Machine: dumpfmt.MachineX64,
		PagesExpected: 1, PagesPresent: 1}
	if diff := cmp.Diff(want, d, cmpopts.IgnoreFields(dumpfmt.Dump{}, "Physical"), cmpopts.IgnoreUnexported(dumpfmt.Dump{})); diff != "" {
		t.Errorf("a filled header (-want +got):\n%s", diff)
	}
}

func TestOpen_machines(t *testing.T) {
	t.Parallel()
	image := dumptest.Full(dumptest.Run{PFN: 1, Pages: 1})
	image.Put(48, uint32(0xaa64))
	image.Put(840, uint32(0x400007)) // ContextFlags of an ARM64 CONTEXT
	if d := open(t, image); d.Machine != dumpfmt.MachineARM64 || len(d.Context) != 0x390 {
		t.Errorf("ARM64: machine %#x, context of %#x bytes, want 0xaa64 and 0x390", d.Machine, len(d.Context))
	}
	for machine, want := range map[uint32]string{0x200: "Itanium", 0x14c: "x86", 0x1c4: "ARM"} {
		image.Put(48, machine)
		_, err := dumpfmt.Open(dumpfmt.NewBytes(image), int64(len(image)))
		var other *dumpfmt.UnsupportedError
		if !errors.As(err, &other) || !strings.Contains(other.Is, want) {
			t.Errorf("machine %#x: %v, want an UnsupportedError that names %s", machine, err, want)
		}
	}
}

func TestOpen_live(t *testing.T) {
	t.Parallel()
	image := dumptest.Full(dumptest.Run{PFN: 1, Pages: 1})
	if open(t, image).Live {
		t.Error("a crash is taken for a live dump")
	}
	image.Put(0x1050, uint32(0x45474151)) // filler with a bit set
	if d := open(t, image); d.Live || d.Attributes != 0 {
		t.Errorf("filler is taken for attributes %#x", d.Attributes)
	}
	image.Put(56, uint32(0x161))
	if !open(t, image).Live {
		t.Error("bug check 161 is not taken for a live dump")
	}
	image.Put(56, uint32(0x1000007e))
	if d := open(t, image); d.Live || d.BugCheck != 0x1000007e {
		t.Errorf("bug check %#x live %v, want 0x1000007e, not live", d.BugCheck, d.Live)
	}
}

func TestOpen_foreign(t *testing.T) {
	t.Parallel()
	all := dumptest.Foreign()
	for _, word := range slices.Sorted(maps.Keys(all)) {
		data := all[word]
		_, err := dumpfmt.Open(dumpfmt.NewBytes(data), int64(len(data)))
		var other *dumpfmt.UnsupportedError
		switch {
		case !errors.As(err, &other):
			t.Errorf("%s: %v, want an UnsupportedError", word, err)
		case !strings.Contains(other.Is, word):
			t.Errorf("%s: refused as %q", word, other.Is)
		case other.Next == "" || !errors.Is(err, dumpfmt.ErrFormat):
			t.Errorf("%s: no next step, or not an ErrFormat: %v", word, err)
		}
	}
	encrypted := dumptest.Full(dumptest.Run{PFN: 1, Pages: 1})
	encrypted.Put(0x1050, uint32(1<<8))
	_, err := dumpfmt.Open(dumpfmt.NewBytes(encrypted), int64(len(encrypted)))
	var other *dumpfmt.UnsupportedError
	if !errors.As(err, &other) || !strings.Contains(other.Next, "KernelDumpDecrypt") {
		t.Errorf("an encrypted dump: %v, want the way to decrypt it", err)
	}
	encrypted.Put(0x1050, uint32(3<<8))
	open(t, encrypted) // decrypted since
}

// Each kind of container must give back the very pages that went in.
func TestOpen_pages(t *testing.T) {
	t.Parallel()
	runs := []dumptest.Run{{PFN: 1, Pages: 3}, {PFN: 4, Pages: 2}, {PFN: 62, Pages: 5}, {PFN: 4090, Pages: 20}, {PFN: 8191, Pages: 1}}
	joined := []mem.Run{runOf(1, 5), runOf(62, 5), runOf(4090, 20), runOf(8191, 1)}
	unsorted := []dumptest.Run{{PFN: 100, Pages: 2}, {PFN: 5, Pages: 3}, {PFN: 8, Pages: 1}}
	for _, test := range []struct {
		name, format string
		image        dumptest.Image
		runs         []mem.Run
		warning      string
		unverified   bool
	}{
		{"full", "64-bit full dump", dumptest.Full(runs...), joined, "", false},
		{"full, unsorted", "64-bit full dump", dumptest.Full(unsorted...), []mem.Run{runOf(5, 4), runOf(100, 2)}, "ascending", false},
		{"bitmap", "64-bit full bitmap dump", dumptest.Bitmap(5, 8200, 4096, runs...), joined, "", false},
		{"kernel, pages unaligned", "64-bit kernel bitmap dump", dumptest.Bitmap(6, 8192, 8, runs...), joined, "", false},
		{"automatic, odd bits", "64-bit automatic bitmap dump", dumptest.Bitmap(7, 8193, 1, runs...), joined, "", false},
		{"summary", "64-bit kernel summary dump", dumptest.Summary(8192, 40, runs...), joined, "", true},
		{"summary, 32-bit form", "64-bit kernel summary dump", dumptest.Summary(8256, 32, runs...), joined, "", true},
		{"ranges, kernel", "64-bit kernel range dump", dumptest.Ranges(8, 10, runs...), joined, "", true},
		{"ranges, user", "64-bit kernel and user range dump", dumptest.Ranges(9, 10, unsorted...), []mem.Run{runOf(5, 4), runOf(100, 2)}, "", true},
		{"ranges, complete", "64-bit complete range dump", dumptest.Ranges(10, 6, runs...), joined, "", true},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			d := open(t, test.image)
			if d.Format != test.format || (d.Unverified != "") != test.unverified {
				t.Errorf("format %q, unverified %q", d.Format, d.Unverified)
			}
			if diff := cmp.Diff(test.runs, runsOf(d)); diff != "" {
				t.Errorf("runs (-want +got):\n%s", diff)
			}
			wantWarning(t, d, test.warning)
			pages := uint64(0)
			for _, r := range test.runs {
				checkPages(t, d, uint64(r.Base)/dumptest.Page, r.Size/dumptest.Page)
				pages += r.Size / dumptest.Page
			}
			if d.PagesExpected != pages || d.PagesPresent != pages {
				t.Errorf("pages: %d of %d, want %d", d.PagesPresent, d.PagesExpected, pages)
			}
			for _, hole := range []uint64{0, 61, 8192, 1 << 40, 1<<52 - 1} {
				wantHole(t, d, mem.PA(hole*dumptest.Page))
			}
		})
	}
}

// wantWarning checks that the only warning contains a word, or that there is none.
func wantWarning(t *testing.T, d *dumpfmt.Dump, word string) {
	t.Helper()
	switch {
	case word == "" && len(d.Warnings) > 0:
		t.Errorf("warnings: %q, want none", d.Warnings)
	case word != "" && !slices.ContainsFunc(d.Warnings, func(w string) bool { return strings.Contains(w, word) }):
		t.Errorf("warnings: %q, want one with %q", d.Warnings, word)
	}
}

// checkPages compares pages of a run with what dumptest put there, read one by
// one, all at once, by slice and by file offset.
func checkPages(t *testing.T, d *dumpfmt.Dump, pfn, pages uint64) {
	t.Helper()
	var want []byte
	for i := range pages {
		want = append(want, dumptest.PageOf(pfn+i)...)
	}
	got := make([]byte, len(want))
	if n, err := d.Physical.ReadPhysical(got, mem.PA(pfn*dumptest.Page)); n != len(got) || err != nil || !bytes.Equal(got, want) {
		t.Errorf("pages %#x to %#x: %d bytes, %v, or other bytes", pfn, pfn+pages, n, err)
	}
	for i := range pages {
		at := mem.PA((pfn + i) * dumptest.Page)
		part, ok := d.Physical.(mem.Slicer).SlicePhysical(at+16, 64)
		if !ok || !bytes.Equal(part, want[i*dumptest.Page+16:][:64]) {
			t.Errorf("slice of page %#x: %v % x", pfn+i, ok, part)
		}
		if off, ok := d.Physical.(mem.Offsetter).FileOffset(at + 5); !ok || off < dumptest.HeaderSize || off >= d.Size {
			t.Errorf("file offset of page %#x: %#x, %v", pfn+i, off, ok)
		}
	}
}

// wantHole checks that a byte and the page before it are a typed hole.
func wantHole(t *testing.T, d *dumpfmt.Dump, at mem.PA) {
	t.Helper()
	var fault *mem.Fault
	n, err := d.Physical.ReadPhysical(make([]byte, 8), at)
	if n != 0 || !errors.As(err, &fault) || fault.Kind != mem.NotCaptured || fault.PA != at {
		t.Errorf("hole at %s: %d bytes, %v", at, n, err)
	}
	if _, ok := d.Physical.(mem.Slicer).SlicePhysical(at, 1); ok {
		t.Errorf("hole at %s has a slice", at)
	}
	if _, ok := d.Physical.(mem.Offsetter).FileOffset(at); ok {
		t.Errorf("hole at %s has a file offset", at)
	}
}

// samples are small valid dumps of every kind.
func samples() map[string]dumptest.Image {
	runs := []dumptest.Run{{PFN: 1, Pages: 2}, {PFN: 7, Pages: 1}}
	blob := dumptest.Blob(dumptest.Stream{Tag: [16]byte{1}, Data: []byte("hello"), Pre: 3, Post: 7}, dumptest.Stream{Tag: [16]byte{2}})
	return map[string]dumptest.Image{
		"full":    append(dumptest.Full(runs...), blob...),
		"bitmap":  append(dumptest.Bitmap(6, 64, 8, runs...), blob...),
		"summary": dumptest.Summary(64, 40, runs...),
		"ranges":  dumptest.Ranges(10, 3, runs...),
		"triage":  triageSample().Image(),
	}
}

// Every prefix of every sample gives an error, or a dump whose bytes are those
// of the whole.
func TestOpen_everyPrefix(t *testing.T) {
	t.Parallel()
	for name, image := range samples() {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			whole := open(t, image)
			if len(whole.Warnings) > 0 {
				t.Fatalf("the sample itself: %q", whole.Warnings)
			}
			step := 1
			for n := 0; n < len(image); n += step {
				// Inside the header and the pages one byte is like the next.
				step = 1
				if n < dumptest.HeaderSize-8 || n > dumptest.HeaderSize+0x800 && n < len(image)-0x200 {
					step = 61
				}
				d, err := dumpfmt.Open(dumpfmt.NewBytes(image[:n]), int64(n))
				if err != nil {
					if !errors.Is(err, dumpfmt.ErrFormat) {
						t.Fatalf("prefix %#x: %v is no ErrFormat", n, err)
					}
					continue
				}
				if err := sameBytes(whole, d); err != nil {
					t.Fatalf("prefix %#x: %v", n, err)
				}
				if len(d.Warnings) == 0 && d.PagesPresent < whole.PagesPresent {
					t.Fatalf("prefix %#x: pages are missing without a warning", n)
				}
			}
		})
	}
}

// sameBytes checks that all that part holds is in whole too.
func sameBytes(whole, part *dumpfmt.Dump) error {
	if part.BugCheck != whole.BugCheck || part.DTB != whole.DTB {
		return errors.New("other header facts")
	}
	if part.Physical != nil {
		for r := range part.Physical.Runs() {
			a, b := make([]byte, r.Size), make([]byte, r.Size)
			if _, err := part.Physical.ReadPhysical(a, r.Base); err != nil {
				return err
			}
			if _, err := whole.Physical.ReadPhysical(b, r.Base); err != nil || !bytes.Equal(a, b) {
				return fmt.Errorf("other bytes at %s (%w)", r.Base, err)
			}
		}
		return nil
	}
	for at, got := range part.Triage.Memory.All() {
		want := make([]byte, len(got))
		if _, err := whole.Virtual.ReadVirtual(want, at); err != nil || !bytes.Equal(got, want) {
			return fmt.Errorf("other bytes at %s (%w)", at, err)
		}
	}
	return nil
}

func TestOpen_secondary(t *testing.T) {
	t.Parallel()
	streams := []dumptest.Stream{
		{Tag: [16]byte{1}, Data: []byte("odd"), Pre: 5, Post: 1},
		{}, // padding
		{Tag: [16]byte{2}},
		{Tag: [16]byte{3}, Data: bytes.Repeat([]byte{7}, 4097)},
	}
	blob := dumptest.Blob(streams...)
	run := dumptest.Run{PFN: 3, Pages: 1}
	unaligned := dumptest.Bitmap(6, 64, 8, run)
	padded := append(unaligned.Clone(), make([]byte, (512-len(unaligned)%512)%512)...)
	triage := triageSample()
	triage.Secondary = streams
	for name, image := range map[string][]byte{
		"full":                    append(dumptest.Full(run), blob...),
		"bitmap":                  append(unaligned.Clone(), blob...),
		"bitmap, at a sector":     append(padded, blob...),
		"ranges":                  append(dumptest.Ranges(8, 2, run), blob...),
		"summary":                 append(dumptest.Summary(64, 40, run), blob...),
		"triage":                  triage.Image(),
		"bytes behind the blob":   append(append(dumptest.Full(run), blob...), 1, 2, 3),
		"triage without its size": withField(triage.Image(), "size", 0),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			d := open(t, image)
			type stream struct {
				Tag  byte
				Size uint32
				Data string
			}
			var got []stream
			for _, s := range d.Secondary {
				data, err := s.Data()
				if err != nil {
					t.Fatal(err)
				}
				got = append(got, stream{s.Tag[0], s.Size, string(data)})
			}
			want := []stream{{1, 3, "odd"}, {2, 0, ""}, {3, 4097, strings.Repeat("\a", 4097)}}
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("secondary data (-want +got):\n%s", diff)
			}
			wantWarning(t, d, "")
		})
	}
	bad := append(dumptest.Full(run), blob...)
	bad.Put(len(bad)-4097-12, uint32(0x7fffffff)) // the last stream's size
	d := open(t, bad)
	wantWarning(t, d, "DUMP_BLOB_HEADER: data size at file offset")
	if len(d.Secondary) != 2 {
		t.Errorf("%d streams before the bad one, want 2", len(d.Secondary))
	}
}

func TestOpenFile(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	name := filepath.Join(dir, "memory.dmp")
	image := dumptest.Full(dumptest.Run{PFN: 1, Pages: 4})
	if err := os.WriteFile(name, image, 0o600); err != nil {
		t.Fatal(err)
	}
	d, err := dumpfmt.OpenFile(name)
	if err != nil {
		t.Fatal(err)
	}
	checkPages(t, d, 1, 4)
	if err := d.Changed(); err != nil {
		t.Errorf("Changed: %v", err)
	}
	if err := d.Close(); err != nil {
		t.Errorf("Close: %v", err)
	}
	if _, err := d.Physical.ReadPhysical(make([]byte, 8), 0x1000); !errors.Is(err, os.ErrClosed) {
		t.Errorf("a read after Close: %v, want os.ErrClosed", err)
	}
	var other *dumpfmt.UnsupportedError
	if _, err := dumpfmt.OpenFile(dir); !errors.As(err, &other) || other.Is != "a directory" {
		t.Errorf("a directory: %v", err)
	}
	if _, err := dumpfmt.OpenFile(os.DevNull); !errors.As(err, &other) || !strings.Contains(other.Is, "device") {
		t.Errorf("a device: %v", err)
	}
	if _, err := dumpfmt.OpenFile(filepath.Join(dir, "none")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("a missing file: %v", err)
	}
}

// All that needs no map works through the block cache alike.
func TestOpen_cached(t *testing.T) {
	t.Parallel()
	image := dumptest.Bitmap(6, 8192, 8, dumptest.Run{PFN: 3, Pages: 40}, dumptest.Run{PFN: 100, Pages: 3})
	d, err := dumpfmt.Open(dumpfmt.NewCached(bytes.NewReader(image), int64(len(image))), int64(len(image)))
	if err != nil {
		t.Fatal(err)
	}
	got := make([]byte, 40*dumptest.Page)
	if _, err := d.Physical.ReadPhysical(got, 3*dumptest.Page); err != nil {
		t.Fatal(err)
	}
	for i := range uint64(40) {
		if !bytes.Equal(got[i*dumptest.Page:][:dumptest.Page], dumptest.PageOf(3+i)) {
			t.Errorf("page %d differs", 3+i)
		}
	}
	if _, ok := d.Physical.(mem.Slicer).SlicePhysical(3*dumptest.Page, 8); ok {
		t.Error("the cache hands out slices")
	}
	one := make([]byte, 8)
	if _, err := d.Physical.ReadPhysical(one, 101*dumptest.Page+16); err != nil || !bytes.Equal(one, dumptest.PageOf(101)[16:24]) {
		t.Errorf("page 101: % x, %v", one, err)
	}
}

// A medium that fails gives its own error, not a hole.
func TestOpen_failingMedium(t *testing.T) {
	t.Parallel()
	image := dumptest.Full(dumptest.Run{PFN: 1, Pages: 40})
	file := &failing{Reader: bytes.NewReader(image)}
	d, err := dumpfmt.Open(dumpfmt.NewCached(file, int64(len(image))), int64(len(image)))
	if err != nil {
		t.Fatal(err)
	}
	file.err = errors.New("bad sector")
	var fault *mem.Fault
	if _, err := d.Physical.ReadPhysical(make([]byte, 8), 39*dumptest.Page); !errors.Is(err, file.err) || errors.As(err, &fault) {
		t.Errorf("a failing read: %v, want the medium's error", err)
	}
	file.err = nil
	if _, err := d.Physical.ReadPhysical(make([]byte, 8), 39*dumptest.Page); err != nil {
		t.Errorf("after the medium recovered: %v", err)
	}
}

type failing struct {
	*bytes.Reader
	err error
}

func (f *failing) ReadAt(p []byte, off int64) (int, error) {
	if f.err != nil {
		return 0, f.err
	}
	return f.Reader.ReadAt(p, off)
}

var _ io.ReaderAt = (*failing)(nil)
