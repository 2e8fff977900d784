package symbol

import (
	"bytes"
	"encoding/binary"
	"strings"
	"testing"
	"unicode/utf16"

	"github.com/google/go-cmp/cmp"

	"gokd/commands/report"
	"gokd/dumpfmt/dumptest/shared"
	"gokd/model/types"
)

// versionBlock builds a block of a version resource.
func versionBlock(key string, text bool, value []byte, children ...[]byte) []byte {
	le := binary.LittleEndian
	b := make([]byte, 6)
	for _, u := range append(utf16.Encode([]rune(key)), 0) {
		b = le.AppendUint16(b, u)
	}
	pad := func() {
		for len(b)%4 != 0 {
			b = append(b, 0)
		}
	}
	pad()
	b = append(b, value...)
	for _, c := range children {
		pad()
		b = append(b, c...)
	}
	le.PutUint16(b, uint16(len(b)))
	length := len(value)
	if text {
		length /= 2
		le.PutUint16(b[4:], 1)
	}
	le.PutUint16(b[2:], uint16(length))
	return b
}

func utf16Bytes(text string) (b []byte) {
	for _, u := range append(utf16.Encode([]rune(text)), 0) {
		b = binary.LittleEndian.AppendUint16(b, u)
	}
	return b
}

func testVersion() []byte {
	fixed := make([]byte, fixedInfoSize)
	le := binary.LittleEndian
	for at, v := range map[int]uint32{
		0: fixedInfoMagic, 8: 10 << 16, 12: 19041<<16 | 508, 16: 6<<16 | 1, 20: 7601 << 16,
		24: 0x3f, 28: 0x29, 32: 0x40004, 36: 3, 40: 7, 44: 0x1234, 48: 0x5678,
	} {
		le.PutUint32(fixed[at:], v)
	}
	table := versionBlock("040904B0", true, nil,
		versionBlock("FileVersion", true, utf16Bytes("10.0.19041.508 (x)")),
		versionBlock("CompanyName", true, utf16Bytes("Evil\x1b[31m Corporation")),
		versionBlock("Unknown", true, utf16Bytes("not shown")))
	return versionBlock("VS_VERSION_INFO", false, fixed,
		versionBlock("StringFileInfo", true, nil, table),
		versionBlock("VarFileInfo", true, nil, versionBlock("Translation", false, []byte{9, 4, 0xb0, 4, 7, 4, 0xb0, 4})))
}

// TestVersion: the lines of lm v, and no escape of a terminal in them.
func TestVersion(t *testing.T) {
	t.Parallel()
	v, err := parseVersion(testVersion())
	if err != nil {
		t.Fatal(err)
	}
	r := &versionRecord{v.File, v.Product, v.Translations, nil, v}
	var b bytes.Buffer
	r.write(report.NewPrinter(&b, report.Era19041, false))
	want := `    File version:     10.0.19041.508
    Product version:  6.1.7601.0
    File flags:       29 (Mask 3F) Debug Private Special
    File OS:          40004 NT Win32
    File type:        3.7 Driver
    File date:        00001234.00005678
    Translations:     0409.04b0 0407.04b0
    Information from resource tables:
        CompanyName:      Evil\x1b[31m Corporation
        FileVersion:      10.0.19041.508 (x)
`
	if d := cmp.Diff(want, b.String()); d != "" {
		t.Errorf("(-want +got):\n%s", d)
	}
}

// TestVersion_prefixes: every prefix is an error or a part, never a panic.
func TestVersion_prefixes(t *testing.T) {
	t.Parallel()
	whole := testVersion()
	for n := range len(whole) {
		_, _ = parseVersion(whole[:n])
	}
	if _, err := parseVersion(whole[:5]); err == nil {
		t.Error("five bytes: no error")
	}
	if _, err := parseVersion(versionBlock("OTHER", true, nil)); err == nil {
		t.Error("another block: no error")
	}
}

// rvaBytes reads an image from bytes.
type rvaBytes []byte

func (b rvaBytes) ReadRVA(p []byte, rva uint32) (int, error) {
	if int64(rva) >= int64(len(b)) {
		return 0, errNoVersion
	}
	return copy(p, b[rva:]), nil
}

// resources builds a resource directory at RVA 0x100 with one version resource.
func resources() (rvaBytes, types.Directory) {
	data := testVersion()
	b := make([]byte, 0x200+len(data))
	le := binary.LittleEndian
	level := func(at int, id, to uint32) {
		le.PutUint16(b[at+14:], 1)
		le.PutUint32(b[at+16:], id)
		le.PutUint32(b[at+20:], to)
	}
	level(0x100, resourceVersion, 0x20|1<<31)
	level(0x120, 1, 0x40|1<<31)
	level(0x140, 0x409, 0x60)
	le.PutUint32(b[0x160:], 0x200)
	le.PutUint32(b[0x164:], uint32(len(data)))
	copy(b[0x200:], data)
	return b, types.Directory{RVA: 0x100, Size: 0x100}
}

func TestReadVersion(t *testing.T) {
	t.Parallel()
	b, dir := resources()
	im := &types.Image{Directories: []types.Directory{2: dir}}
	v, err := readVersion(b, im)
	if err != nil || v.File != "10.0.19041.508" {
		t.Fatalf("version %+v, %v", v, err)
	}
	if _, err := readVersion(b, &types.Image{}); err != errNoResources {
		t.Errorf("without resources: %v", err)
	}
	le := binary.LittleEndian
	for name, damage := range map[string]func(rvaBytes){
		"too many entries": func(b rvaBytes) { le.PutUint16(b[0x10e:], 0xffff) },
		"no version":       func(b rvaBytes) { le.PutUint32(b[0x110:], 3) },
		"data too early":   func(b rvaBytes) { le.PutUint32(b[0x114:], 0x60) },
		"beyond the image": func(b rvaBytes) { le.PutUint32(b[0x160:], 0xfffffff0) },
		"a loop":           func(b rvaBytes) { le.PutUint32(b[0x134:], 0x20|1<<31); le.PutUint32(b[0x154:], 0xffff0) },
	} {
		bad := append(rvaBytes{}, b...)
		damage(bad)
		if v, err := readVersion(bad, im); err == nil {
			t.Errorf("%s: version %+v, no error", name, v)
		}
	}
}

// TestReadVersion_real reads the version of a real driver.
func TestReadVersion_real(t *testing.T) {
	t.Parallel()
	f, err := types.OpenImageFile(shared.Path(t, "symstore/amdppm.sys/C9C030003b000/amdppm.sys"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	v, err := readVersion(f, f.Image)
	if err != nil {
		t.Fatal(err)
	}
	got := []string{v.File, v.get("FileVersion"), v.get("FileDescription"), strings.Join(v.Translations, " ")}
	want := []string{"10.0.19041.1110", "10.0.19041.1110 (WinBuild.160101.0800)", "Processor Device Driver", "0409.04b0"}
	if d := cmp.Diff(want, got); d != "" {
		t.Errorf("(-want +got):\n%s", d)
	}
}

func FuzzReadVersion(f *testing.F) {
	b, dir := resources()
	f.Add([]byte(b))
	f.Add([]byte(b[:0x210]))
	f.Fuzz(func(t *testing.T, b []byte) {
		im := &types.Image{Directories: []types.Directory{2: dir, 6: {RVA: 0x20, Size: 0xffffff}}}
		if v, err := readVersion(rvaBytes(b), im); (v == nil) == (err == nil) {
			t.Errorf("version %v, error %v", v, err)
		}
		if n := len(debugEntries(rvaBytes(b), im)); n > maxDebug {
			t.Errorf("%d debug entries", n)
		}
		_, _ = parseVersion(b)
	})
}
