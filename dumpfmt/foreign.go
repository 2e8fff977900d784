package dumpfmt

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"slices"
	"unicode/utf8"
)

// foreign is a kind of file that people hand to a dump reader and that is none,
// with the step that leads further.
type foreign struct {
	is, next string
	match    func(head []byte) bool
}

const unpack = "unpack it first, then open the .dmp file in it"

// foreigns is searched from the top. Magic numbers: ELF, LiME (1.0 manual) and
// VMware (volatility3 layers/vmware.py) headers; LeechCore device_hibr.c for
// hibernation files; the archive and disk formats' own specifications.
var foreigns = []foreign{
	{"a user-mode minidump", "open it with a user-mode debugger; gokd reads kernel dumps", starts("MDMP")},
	{"a user-mode crash dump of an old format", "open it with a user-mode debugger; gokd reads kernel dumps", starts("USERDUMP", "USERDU64")},
	{"a 32-bit kernel dump", "open it with WinDbg; gokd reads dumps of 64-bit Windows", starts("PAGEDUMP")},
	{"a crash dump with an unknown signature, perhaps encrypted",
		"decrypt it where its private key is (KernelDumpDecrypt.exe memory.dmp plain.dmp), or copy it again if it should be plain", starts("PAGE")},
	{"a zip archive", unpack, starts("PK\x03\x04", "PK\x05\x06", "PK\x07\x08")},
	{"a cabinet archive", "unpack it first (expand.exe or cabextract), then open the .dmp file in it", starts("MSCF")},
	{"a gzip-compressed file", unpack, starts("\x1f\x8b")},
	{"an xz-compressed file", unpack, starts("\xfd7zXZ\x00")},
	{"a 7z archive", unpack, starts("7z\xbc\xaf\x27\x1c")},
	{"a zstd-compressed file", unpack, starts("\x28\xb5\x2f\xfd")},
	{"a bzip2-compressed file", unpack, starts("BZh")},
	{"an lz4-compressed file", unpack, starts("\x04\x22\x4d\x18")},
	{"a rar archive", unpack, starts("Rar!\x1a\x07")},
	{"a tar archive", unpack, func(head []byte) bool { return len(head) >= 262 && string(head[257:262]) == "ustar" }},
	{"an ELF core file", "convert it to a Windows dump, for QEMU with elf2dmp or dump-guest-memory -w", elf(true)},
	{"an ELF program or library", "name a Windows kernel dump", elf(false)},
	{"a LiME memory image", "gokd reads Windows crash dumps; convert it with a memory-forensics tool", starts("EMiL")},
	{"a VMware snapshot", "convert it with vmss2core -W8 and open memory.dmp",
		starts("\xd0\xbe\xd2\xbe", "\xd1\xba\xd1\xba", "\xd2\xbe\xd2\xbe", "\xd3\xbe\xd3\xbe")},
	{"a hibernation file", "convert it to a crash dump with a memory-forensics tool", starts("HIBR", "hibr", "WAKE", "wake", "RSTR", "rstr")},
	{"a virtual disk", "start or mount it and copy the dump out of it", starts("vhdxfile", "conectix", "KDMV", "QFI\xfb")},
	{"a program database (PDB)", "give its folder with -y; it holds symbols, no memory", starts("Microsoft C/C++ MSF")},
	{"a Windows program or driver", "give its folder with -i; it is an image, no memory", starts("MZ")},
	{"a file of zeros", "copy the dump again; Windows had not written it yet, or the copy failed", zeros},
	{"a text file", "name a dump, or a snapshot scenario", text},
}

// refuse names a file that no format wants.
func refuse(head []byte, size int64) error {
	i := slices.IndexFunc(foreigns, func(f foreign) bool { return f.match(head) })
	switch {
	case i >= 0:
		return &UnsupportedError{Is: foreigns[i].is, Next: foreigns[i].next}
	case size < dataOffset:
		return &UnsupportedError{Is: fmt.Sprintf("a file of %d bytes, too short for a dump", size),
			Next: "copy the dump again"}
	}
	return &UnsupportedError{Is: fmt.Sprintf("no dump that gokd knows (it starts with % x)", head[:min(8, len(head))]),
		Next: "gokd reads 64-bit Windows crash dumps, which start with PAGEDU64"}
}

// starts matches files that begin with one of the texts.
func starts(magics ...string) func([]byte) bool {
	return func(head []byte) bool {
		return slices.ContainsFunc(magics, func(m string) bool { return bytes.HasPrefix(head, []byte(m)) })
	}
}

// elf matches ELF files: e_type, at 0x10 in the file's byte order (e_ident[5]),
// is 4 in core files.
func elf(core bool) func([]byte) bool {
	return func(head []byte) bool {
		if len(head) < 0x12 || string(head[:4]) != "\x7fELF" {
			return false
		}
		typ := binary.LittleEndian.Uint16(head[0x10:])
		if head[5] == 2 {
			typ = binary.BigEndian.Uint16(head[0x10:])
		}
		return (typ == 4) == core
	}
}

// zeros matches files whose start is all zero.
func zeros(head []byte) bool {
	return !slices.ContainsFunc(head, func(c byte) bool { return c != 0 })
}

// text matches UTF-8 and UTF-16 (by its mark) without control characters.
func text(head []byte) bool {
	if bytes.HasPrefix(head, []byte("\xff\xfe")) || bytes.HasPrefix(head, []byte("\xfe\xff")) {
		return true
	}
	for len(head) > 0 {
		r, n := utf8.DecodeRune(head)
		switch {
		case r == utf8.RuneError && n == 1:
			return !utf8.FullRune(head) // a rune that the sniffed length cuts
		case r < ' ' && r != '\t' && r != '\n' && r != '\r' && r != '\f' && r != 0x1b, r == 0x7f:
			return false
		}
		head = head[n:]
	}
	return true
}
