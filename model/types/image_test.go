package types

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"gokd/dumpfmt/dumptest/shared"
)

// testImage builds a small PE32+ image as it lies in memory: headers, and at
// 0x1000 one section with the export table, the debug directory and the code.
func testImage() []byte {
	le := binary.LittleEndian
	b := make([]byte, 0x3000)
	copy(b, "MZ")
	le.PutUint32(b[0x3c:], 0x80)
	nt := b[0x80:]
	copy(nt, "PE\x00\x00")
	le.PutUint16(nt[4:], 0x8664)
	le.PutUint16(nt[6:], 1)          // sections
	le.PutUint32(nt[8:], 0x5eedbeef) // timestamp
	le.PutUint16(nt[20:], 0xf0)      // optional header
	le.PutUint16(nt[22:], 0x2022)
	opt := nt[24:]
	le.PutUint16(opt, 0x20b)
	le.PutUint32(opt[16:], 0x1010)
	le.PutUint64(opt[24:], 0xfffff80000000000)
	le.PutUint32(opt[56:], 0x3000)
	le.PutUint32(opt[60:], 0x400)
	le.PutUint32(opt[64:], 0xc0de)
	le.PutUint32(opt[108:], 16)
	directory := func(n int, rva, size uint32) {
		le.PutUint32(opt[112+8*n:], rva)
		le.PutUint32(opt[116+8*n:], size)
	}
	directory(DirExport, 0x1100, 0x200)
	directory(DirException, 0x1400, 0xc)
	directory(DirDebug, 0x1500, 56)
	section := opt[0xf0:]
	copy(section, ".text\x00\x00\x00")
	le.PutUint32(section[8:], 0x2000)
	le.PutUint32(section[12:], 0x1000)
	le.PutUint32(section[16:], 0x1800)
	le.PutUint32(section[20:], 0x400)
	le.PutUint32(section[36:], 0x68000020)

	put := func(at int, values ...uint32) {
		for i, v := range values {
			le.PutUint32(b[at+4*i:], v)
		}
	}
	put(0x1100, 0, 0, 0, 0, 1, 4, 5, 0x1130, 0x1150, 0x1170) // export directory
	put(0x1130, 0x1010, 0x1020, 0x11c0, 0x9000)              // functions
	put(0x1150, 0x1180, 0x1188, 0x1190, 0x1198, 0x11a0)      // names
	for i, ordinal := range []uint16{0, 1, 2, 3, 9} {
		le.PutUint16(b[0x1170+2*i:], ordinal)
	}
	for i, name := range []string{"Alpha", "Beta", "Fwd", "Out", "Bad"} {
		copy(b[0x1180+8*i:], name)
	}
	copy(b[0x11c0:], "HAL.Fwd")
	put(0x1500, 0, 0, 0, 16, 4, 0x1600, 0)         // some other entry
	put(0x1500+28, 0, 0, 0, 2, 4+16+4+6, 0x1700)   // CodeView
	copy(b[0x1700:], "RSDS0123456789abcdef")       // the GUID
	le.PutUint32(b[0x1714:], 7)                    // the age
	copy(b[0x1718:], "t.pdb\x00behind the record") // the name
	return b
}

// memory reads an image from a slice; pages listed as holes are missing.
func memory(b []byte, holes ...uint32) RVAReader {
	return RVAReaderFunc(func(p []byte, rva uint32) (int, error) {
		for _, hole := range holes {
			if rva/pageSize == hole {
				return 0, errors.New("page not in dump")
			}
		}
		return bytes.NewReader(b).ReadAt(p, int64(rva))
	})
}

// testFile makes the file of testImage: the section's data follow the headers.
func testFile() []byte {
	b := testImage()
	return append(bytes.Clone(b[:0x400]), b[0x1000:0x2800]...)
}

func TestParseImage(t *testing.T) {
	t.Parallel()
	var g GUID
	copy(g[:], "0123456789abcdef")
	want := &Image{
		Machine: 0x8664, Characteristics: 0x2022, Timestamp: 0x5eedbeef, Size: 0x3000, HeaderSize: 0x400,
		CheckSum: 0xc0de, EntryPoint: 0x1010, Base: 0xfffff80000000000, PE32Plus: true,
		Sections: []Section{{".text", 0x1000, 0x2000, 0x400, 0x1800, 0x68000020}},
		Debug:    DebugID{"t.pdb", g, 7},
	}
	want.Directories = make([]Directory, 16)
	want.Directories[DirExport] = Directory{0x1100, 0x200}
	want.Directories[DirException] = Directory{0x1400, 0xc}
	want.Directories[DirDebug] = Directory{0x1500, 56}
	got, err := ParseImage(memory(testImage()))
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	wantID := ImageID{Name: "t.sys", PDB: "t.pdb", GUID: g, Age: 7, Timestamp: 0x5eedbeef, Size: 0x3000}
	if diff := cmp.Diff(wantID, got.ID("t.sys")); diff != "" {
		t.Errorf("ID (-want +got):\n%s", diff)
	}
	if s, ok := got.SectionAt(0x2fff); !ok || !s.Executable() || s.Discardable() {
		t.Errorf("SectionAt(0x2fff) = %+v, %v", s, ok)
	}
	if _, ok := got.SectionAt(0x3000); ok {
		t.Error("SectionAt finds a section beyond the image")
	}
	if _, ok := got.Directory(DirImport); ok {
		t.Error("Directory finds an empty one")
	}
	if _, ok := got.Directory(99); ok {
		t.Error("Directory finds number 99")
	}
}

// TestParseImage_damaged changes one thing of the image at a time.
func TestParseImage_damaged(t *testing.T) {
	t.Parallel()
	le := binary.LittleEndian
	tests := []struct {
		name    string
		change  func(b []byte) []byte
		holes   []uint32
		err     string // of ParseImage
		warning string
	}{
		{"no MZ", func(b []byte) []byte { b[0] = 0; return b }, nil, "not a PE image", ""},
		{"PE header far away", func(b []byte) []byte { le.PutUint32(b[0x3c:], 0xfffffff0); return b }, nil, "PE header at 0xfffffff0", ""},
		{"no PE", func(b []byte) []byte { b[0x80] = 0; return b }, nil, "signature", ""},
		{"short optional header", func(b []byte) []byte { le.PutUint16(b[0x94:], 8); return b }, nil, "optional header of 0x8", ""},
		{"magic", func(b []byte) []byte { le.PutUint16(b[0x98:], 0x107); return b }, nil, "magic 0x107", ""},
		{"no size", func(b []byte) []byte { le.PutUint32(b[0x98+56:], 0); return b }, nil, "SizeOfImage 0x0", ""},
		{"huge", func(b []byte) []byte { le.PutUint32(b[0x98+56:], 0xffffffff); return b }, nil, "SizeOfImage 0xffffffff", ""},
		{"cut in the headers", func(b []byte) []byte { return b[:0x90] }, nil, "EOF", ""},
		{"headers missing", nil, []uint32{0}, "page not in dump", ""},
		{"debug directory missing", nil, []uint32{1}, "", "page not in dump"},
		{"sections cut off", func(b []byte) []byte { return b[:0x190] }, nil, "", "section 0 of 1"},
		{"many sections", func(b []byte) []byte { le.PutUint16(b[0x86:], 0xffff); return b }, nil, "", "65535 sections"},
		{"record too short", func(b []byte) []byte { le.PutUint32(b[0x1500+28+16:], 24); return b }, nil, "", "CodeView record of 0x18"},
		{"record of another kind", func(b []byte) []byte { b[0x1700] = 'N'; return b }, nil, "", "signature"},
		{"record far away", func(b []byte) []byte { le.PutUint32(b[0x1500+28+20:], 0xfffffff8); return b }, nil, "", "beyond the image"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			b := testImage()
			if tt.change != nil {
				b = tt.change(b)
			}
			im, err := ParseImage(memory(b, tt.holes...))
			if tt.err != "" {
				if err == nil || !strings.Contains(err.Error(), tt.err) {
					t.Errorf("error = %v, want one with %q", err, tt.err)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if text := fmt.Sprint(im.Warnings); !strings.Contains(text, tt.warning) {
				t.Errorf("warnings = %s, want one with %q", text, tt.warning)
			}
		})
	}
}

func TestParseExports(t *testing.T) {
	t.Parallel()
	r := memory(testImage())
	im, err := ParseImage(r)
	if err != nil {
		t.Fatal(err)
	}
	e, err := ParseExports(r, im)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]string{"Alpha", "Beta"}, e.Prefix("", 10)); diff != "" {
		t.Errorf("names (-want +got):\n%s", diff)
	}
	// "Out" leads out of the image, "Bad" has an ordinal beyond the functions.
	if e.Forwarded != 1 || e.Skipped != 2 || e.Describe() != "export" {
		t.Errorf("forwarded %d, skipped %d, %q; want 1, 2, export", e.Forwarded, e.Skipped, e.Describe())
	}
	if sym, delta, ok := e.Nearest(0x1025); !ok || sym.Name != "Beta" || delta != 5 {
		t.Errorf("Nearest = %v+%#x, %v", sym, delta, ok)
	}
}

func TestParseExports_damaged(t *testing.T) {
	t.Parallel()
	le := binary.LittleEndian
	tests := []struct {
		name   string
		change func(b []byte)
		holes  []uint32
		want   string
	}{
		{"none", func(b []byte) { le.PutUint32(b[0x98+112:], 0) }, nil, "no export table"},
		{"missing", nil, []uint32{1}, "page not in dump"},
		{"many names", func(b []byte) { le.PutUint32(b[0x1118:], 0x10001) }, nil, "at most"},
		{"names far away", func(b []byte) { le.PutUint32(b[0x1120:], 0xfffffffc) }, nil, "none of 5 names"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			b := testImage()
			im, err := ParseImage(memory(b))
			if err != nil {
				t.Fatal(err)
			}
			if tt.change != nil {
				tt.change(b)
				if im, err = ParseImage(memory(b)); err != nil {
					t.Fatal(err)
				}
			}
			if _, err = ParseExports(memory(b, tt.holes...), im); err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("error = %v, want one with %q", err, tt.want)
			}
		})
	}
}

func TestPages_text(t *testing.T) {
	t.Parallel()
	b := make([]byte, 2*pageSize)
	copy(b[pageSize-3:], "across")
	copy(b[2*pageSize-3:], "end")
	c := newPages(memory(b))
	if got, err := c.text(pageSize-3, 6); got != "across" || err != nil {
		t.Errorf("text over a page boundary = %q, %v", got, err)
	}
	if got, err := c.text(pageSize-3, 5); err == nil {
		t.Errorf("text over its limit = %q, want an error", got)
	}
	if got, err := c.text(2*pageSize-3, 100); err == nil {
		t.Errorf("text without an end = %q, want an error", got)
	}
	if got, err := c.bytes(pageSize-3, 6); string(got) != "across" || err != nil {
		t.Errorf("bytes over a page boundary = %q, %v", got, err)
	}
	if _, err := c.bytes(0xffffffff, 2); err == nil {
		t.Error("bytes beyond 4 GB: want an error")
	}
}

func TestImageFile(t *testing.T) {
	t.Parallel()
	file := testFile()
	f, err := NewImageFile(bytes.NewReader(file), int64(len(file)))
	if err != nil {
		t.Fatal(err)
	}
	if f.Image.Debug.PDB != "t.pdb" || len(f.Image.Warnings) != 0 {
		t.Errorf("debug %+v, warnings %v", f.Image.Debug, f.Image.Warnings)
	}
	want := testImage()
	clear(want[0x400:0x1000])
	clear(want[0x2800:])
	got := make([]byte, len(want)+1)
	n, err := f.ReadRVA(got, 0)
	if n != len(want) || !errors.Is(err, io.EOF) {
		t.Errorf("ReadRVA past the end = %#x, %v; want %#x, EOF", n, err, len(want))
	}
	if diff := cmp.Diff(want, got[:n]); diff != "" {
		t.Errorf("image (-want +got):\n%s", diff)
	}
	if n, err := f.ReadRVA(got[:16], 0x3000); n != 0 || !errors.Is(err, io.EOF) {
		t.Errorf("ReadRVA at the end = %d, %v", n, err)
	}
	part := []byte{1, 2, 3, 4}
	if n, err := f.ReadRVA(part, 0x1180); n != 4 || err != nil || string(part) != "Alph" {
		t.Errorf("ReadRVA = %d, %v, %q", n, err, part)
	}
	if e, err := ParseExports(f, f.Image); err != nil || e.Len() != 2 {
		t.Errorf("exports: %v", err)
	}
	if err := f.Close(); err != nil {
		t.Error(err)
	}
}

// TestOpenImageFile_real reads real drivers and a file that is none.
func TestOpenImageFile_real(t *testing.T) {
	t.Parallel()
	tests := []struct {
		path            []string
		pdb             string
		timestamp, size uint32
	}{
		{[]string{"symstore", "Wdf01000.sys", "A9A9D36Ed1000", "Wdf01000.sys"}, "Wdf01000.pdb", 0xa9a9d36e, 0xd1000},
		{[]string{"symstore", "amdppm.sys", "C9C030003b000", "amdppm.sys"}, "amdppm.pdb", 0xc9c03000, 0x3b000},
		{[]string{"pdb", "systeminformer.sys"}, "systeminformer.pdb", 0, 0},
	}
	for _, tt := range tests {
		f, err := OpenImageFile(shared.Path(t, tt.path...))
		if err != nil {
			t.Error(err)
			continue
		}
		defer f.Close()
		im := f.Image
		if base := im.Debug.PDB[strings.LastIndex(im.Debug.PDB, `\`)+1:]; !strings.EqualFold(base, tt.pdb) || im.ID("").Zero() {
			t.Errorf("%s: debug %+v", f.Path, im.Debug)
		}
		if tt.size != 0 && (im.Timestamp != tt.timestamp || im.Size != tt.size) {
			t.Errorf("%s: timestamp %#x, size %#x", f.Path, im.Timestamp, im.Size)
		}
		if im.Machine != 0x8664 || len(im.Sections) < 5 || len(im.Warnings) != 0 {
			t.Errorf("%s: %+v", f.Path, im)
		}
		if d, ok := im.Directory(DirException); !ok || d.Size%12 != 0 {
			t.Errorf("%s: exception directory %+v, %v", f.Path, d, ok)
		}
		if _, err := ParseExports(f, im); !errors.Is(err, ErrNoExports) {
			t.Errorf("%s: exports: %v, want none", f.Path, err)
		}
	}
	if _, err := OpenImageFile(shared.Path(t, "pdb", "systeminformer.pdb")); !errors.Is(err, ErrImage) {
		t.Errorf("a PDB as image: %v", err)
	}
	if _, err := OpenImageFile(t.TempDir()); err == nil {
		t.Error("opened a folder")
	}
}

func FuzzParseImage(f *testing.F) {
	f.Add(testImage())
	f.Add(testFile())
	f.Fuzz(func(t *testing.T, data []byte) {
		r := memory(data)
		if im, err := ParseImage(r); err == nil {
			if e, err := ParseExports(r, im); err == nil && e.Len() > maxExports {
				t.Fatalf("%d exports", e.Len())
			}
		}
		file, err := NewImageFile(bytes.NewReader(data), int64(len(data)))
		if err != nil {
			return
		}
		buf := make([]byte, 0x3000)
		for _, rva := range []uint32{0, 0x1000, file.Image.Size - 1, 0xffffffff} {
			if n, err := file.ReadRVA(buf, rva); n < len(buf) && err == nil || n > len(buf) {
				t.Fatalf("ReadRVA(%#x) = %d, %v", rva, n, err)
			}
		}
		if _, err := ParseExports(file, file.Image); err != nil {
			return
		}
	})
}
