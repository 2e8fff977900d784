package symbol

import (
	"encoding/binary"
	"fmt"
	"strings"

	"gokd/model/types"
)

// The names of the public PE format's constants, as !dh prints them.
var (
	machineNames = map[uint16]string{0x8664: "X64", 0x14c: "i386", 0xaa64: "ARM64", 0x1c0: "ARM", 0x1c4: "ARMNT", 0x200: "IA64"}

	subsystemNames = map[uint16]string{
		0: "Unknown", 1: "Native", 2: "Windows GUI", 3: "Windows CUI", 5: "OS/2 CUI", 7: "Posix CUI", 9: "Windows CE GUI",
		10: "EFI Application", 11: "EFI Boot Service Driver", 12: "EFI Runtime Driver", 13: "EFI ROM", 14: "XBOX", 16: "Windows Boot Application",
	}

	characteristicWords = []bitWord{
		{0x1, "Relocations stripped"}, {0x2, "Executable"}, {0x4, "Line numbers stripped"}, {0x8, "Symbols stripped"},
		{0x20, "App can handle >2gb addresses"}, {0x80, "Bytes reversed"}, {0x100, "32 bit word machine"},
		{0x200, "Debug information stripped"}, {0x400, "Removable media: run from swap"}, {0x800, "Network media: run from swap"},
		{0x1000, "System"}, {0x2000, "DLL"}, {0x4000, "Uniprocessor only"}, {0x8000, "Bytes reversed"},
	}

	dllWords = []bitWord{
		{0x20, "High entropy VA supported"}, {0x40, "Dynamic base"}, {0x80, "Force integrity"}, {0x100, "NX compatible"},
		{0x200, "No isolation"}, {0x400, "No structured exception handler"}, {0x800, "Do not bind"}, {0x1000, "App container"},
		{0x2000, "WDM driver"}, {0x4000, "Guard"}, {0x8000, "Terminal server aware"},
	}

	sectionWords = []bitWord{
		{0x20, "Code"}, {0x40, "Initialized Data"}, {0x80, "Uninitialized Data"}, {0x200, "Info"}, {0x800, "Remove"}, {0x1000, "Communal"},
		{0x02000000, "Discardable"}, {0x04000000, "Not Cached"}, {0x08000000, "Not Paged"}, {0x10000000, "Shared"},
	}

	directoryNames = [16]string{
		"Export", "Import", "Resource", "Exception", "Security", "Base Relocation", "Debug", "Description", "Special",
		"Thread Storage", "Load Configuration", "Bound Import", "Import Address Table", "Delay Import", "COR20 Header", "Reserved",
	}

	debugNames = map[uint32]string{1: "coff", 2: "cv", 3: "fpo", 4: "misc", 5: "exc", 6: "fixup", 7: "omapto", 8: "omapfr", 20: "dllchar"}
)

type bitWord struct {
	bit  uint32
	word string
}

// wordsOf names the bits that are set.
func wordsOf(v uint32, table []bitWord) (words []string) {
	for _, w := range table {
		if v&w.bit != 0 {
			words = append(words, w.word)
		}
	}
	return words
}

// rights names what may be done with a section's memory.
func rights(flags uint32) string {
	var words []string
	for _, w := range []bitWord{{0x20000000, "Execute"}, {0x40000000, "Read"}, {0x80000000, "Write"}} {
		if flags&w.bit != 0 {
			words = append(words, w.word)
		}
	}
	if len(words) == 1 && words[0] == "Read" {
		return "Read Only"
	}
	return strings.Join(words, " ")
}

// Types of debug directory entries (IMAGE_DEBUG_TYPE_* of the PE format).
const (
	debugCodeView = 2
	debugRepro    = 16
	maxDebug      = 64
)

// debugEntry is one entry of an image's debug directory.
type debugEntry struct {
	Type    uint32 `json:"type"`
	Size    uint32 `json:"size"`
	RVA     uint32 `json:"rva"`
	Pointer uint32 `json:"file_offset"`
}

// debugEntries reads the debug directory as far as it can be read: entries of 28
// bytes with type, size, RVA and file offset at 12, 16, 20 and 24.
func debugEntries(r types.RVAReader, im *types.Image) (list []debugEntry) {
	dir, ok := im.Directory(types.DirDebug)
	if !ok {
		return nil
	}
	le := binary.LittleEndian
	for i := range min(dir.Size/28, maxDebug) {
		b, err := readRVA(r, uint64(dir.RVA)+uint64(i)*28, 28)
		if err != nil {
			break
		}
		list = append(list, debugEntry{le.Uint32(b[12:]), le.Uint32(b[16:]), le.Uint32(b[20:]), le.Uint32(b[24:])})
	}
	return list
}

// headerField is a number of an image's headers with kd's words for it.
type headerField struct {
	Name  string `json:"name"`
	Value uint64 `json:"value"`
	Text  string `json:"text"` // the number as !dh prints it, with what stands behind its name
	lines []string
}

// rawHeaders reads the file header and the optional header of an image in
// memory, at the offsets of the public PE format.
func rawHeaders(r types.RVAReader) (file, optional []byte, err error) {
	dos, err := readRVA(r, 0, 0x40)
	if err != nil {
		return nil, nil, err
	}
	nt := binary.LittleEndian.Uint32(dos[0x3c:])
	head, err := readRVA(r, uint64(nt), 24)
	if err != nil {
		return nil, nil, err
	}
	size := uint32(binary.LittleEndian.Uint16(head[20:]))
	if size < 96 {
		return nil, nil, fmt.Errorf("optional header of %#x bytes", size)
	}
	optional, err = readRVA(r, uint64(nt)+24, size)
	return head, optional, err
}

// hexField makes a number of at least eight columns.
func hexField(v uint64, name string) headerField {
	return headerField{Name: name, Value: v, Text: fmt.Sprintf("%8X %s", v, name)}
}

func versionField(b []byte, name string) headerField {
	major, minor := binary.LittleEndian.Uint16(b), binary.LittleEndian.Uint16(b[2:])
	return headerField{Name: name, Value: uint64(major)<<16 | uint64(minor), Text: fmt.Sprintf("%5d.%02d %s", major, minor, name)}
}

// named adds words behind a field's name.
func (f headerField) named(text string) headerField {
	if text != "" {
		f.Text += " " + text
	}
	return f
}

// fileFields gives IMAGE_FILE_HEADER, which begins four bytes into head.
func fileFields(head []byte, stamp string) []headerField {
	le := binary.LittleEndian
	machine, flags := le.Uint16(head[4:]), le.Uint16(head[22:])
	name := machineNames[machine]
	if name == "" {
		name = "unknown"
	}
	all := []headerField{
		hexField(uint64(machine), "machine").named("(" + name + ")"),
		hexField(uint64(le.Uint16(head[6:])), "number of sections"),
		hexField(uint64(le.Uint32(head[8:])), "time date stamp").named(stamp),
		hexField(uint64(le.Uint32(head[12:])), "file pointer to symbol table"),
		hexField(uint64(le.Uint32(head[16:])), "number of symbols"),
		hexField(uint64(le.Uint16(head[20:])), "size of optional header"),
		hexField(uint64(flags), "characteristics"),
	}
	all[3].Text = "\n" + all[3].Text // kd leaves a line free behind the time
	all[6].lines = wordsOf(uint32(flags), characteristicWords)
	return all
}

// optionalFields gives IMAGE_OPTIONAL_HEADER in the order of !dh.
func optionalFields(b []byte) []headerField {
	le := binary.LittleEndian
	wide := le.Uint16(b) == 0x20b
	u16 := func(at int, name string) headerField { return hexField(uint64(le.Uint16(b[at:])), name) }
	u32 := func(at int, name string) headerField { return hexField(uint64(le.Uint32(b[at:])), name) }
	all := []headerField{
		u16(0, "magic #"),
		{Name: "linker version", Value: uint64(le.Uint16(b[2:])), Text: fmt.Sprintf("%5d.%02d linker version", b[2], b[3])},
		u32(4, "size of code"), u32(8, "size of initialized data"), u32(12, "size of uninitialized data"),
		u32(16, "address of entry point"), u32(20, "base of code"),
		{Text: "         ----- new -----"},
	}
	// Pointers have eight bytes in the 64-bit form, four in the other.
	base := headerField{Name: "image base", Value: uint64(le.Uint32(b[28:])), Text: fmt.Sprintf("%08x image base", le.Uint32(b[28:]))}
	if wide {
		base = headerField{Name: "image base", Value: le.Uint64(b[24:]), Text: fmt.Sprintf("%016x image base", le.Uint64(b[24:]))}
	}
	all = append(all, base,
		u32(32, "section alignment"), u32(36, "file alignment"), u16(68, "subsystem").named("("+subsystemNames[le.Uint16(b[68:])]+")"),
		versionField(b[40:], "operating system version"), versionField(b[44:], "image version"), versionField(b[48:], "subsystem version"),
		u32(56, "size of image"), u32(60, "size of headers"), u32(64, "checksum"),
	)
	for i, name := range []string{"size of stack reserve", "size of stack commit", "size of heap reserve", "size of heap commit"} {
		f := headerField{Name: name, Value: uint64(le.Uint32(b[72+4*i:]))}
		f.Text = fmt.Sprintf("%08x %s", f.Value, name)
		if wide && len(b) >= 104 {
			f.Value = le.Uint64(b[72+8*i:])
			f.Text = fmt.Sprintf("%016x %s", f.Value, name)
		}
		all = append(all, f)
	}
	flags := u16(70, " DLL characteristics")
	flags.Name, flags.lines = "DLL characteristics", wordsOf(uint32(le.Uint16(b[70:])), dllWords)
	return append(all, flags)
}
