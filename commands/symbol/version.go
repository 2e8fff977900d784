package symbol

import (
	"encoding/binary"
	"errors"
	"fmt"
	"unicode/utf16"

	"gokd/model"
	"gokd/model/mem"
	"gokd/model/types"
)

// The version resource of an image: the resource directory and its data entries
// are those of Microsoft's public PE format, the blocks inside (VS_VERSIONINFO,
// VS_FIXEDFILEINFO, StringFileInfo, VarFileInfo) those of the public
// documentation of version resources.
const (
	dirResource     = 2  // number of the directory
	resourceVersion = 16 // RT_VERSION
	maxResourceDir  = 4096
	maxVersion      = 64 << 10 // bytes of a version resource; real ones have under 2 KB
	maxVersionText  = 64       // strings and translations
	fixedInfoSize   = 52
	fixedInfoMagic  = 0xfeef04bd
)

// version is what a version resource says.
type version struct {
	File, Product        string // "10.0.19041.508"
	FlagsMask, Flags, OS uint32
	Kind, Subkind        uint32
	Date                 uint64
	Fixed                bool // the numbers above were there
	Translations         []string
	Strings              []versionString
}

type versionString struct{ Key, Value string }

var (
	errNoResources = errors.New("the image has no resources")
	errNoVersion   = errors.New("the image has no version resource")
)

// moduleReader reads an image in memory by RVA.
func moduleReader(k *model.Kernel, m *model.Module) types.RVAReader {
	return types.RVAReaderFunc(func(p []byte, rva uint32) (int, error) {
		return k.Space.ReadVirtual(p, m.Base+mem.VA(rva))
	})
}

// readVersion reads the version resource of an image in memory.
func readVersion(r types.RVAReader, im *types.Image) (*version, error) {
	dir, ok := im.Directory(dirResource)
	if !ok {
		return nil, errNoResources
	}
	at, size, err := findResource(r, dir, resourceVersion)
	if err != nil {
		return nil, fmt.Errorf("resource directory: %w", err)
	}
	b, err := readRVA(r, uint64(at), min(size, maxVersion))
	if err != nil {
		return nil, fmt.Errorf("version resource at RVA %#x: %w", at, err)
	}
	return parseVersion(b)
}

func readRVA(r types.RVAReader, rva uint64, n uint32) ([]byte, error) {
	if rva+uint64(n) > 1<<32 {
		return nil, fmt.Errorf("%#x bytes at RVA %#x: beyond the image", n, rva)
	}
	b := make([]byte, n)
	got, err := r.ReadRVA(b, uint32(rva))
	if got < len(b) && err == nil {
		err = errors.New("read short")
	}
	if got == len(b) {
		err = nil
	}
	return b, err
}

// findResource goes down the three levels of the directory, type, name and
// language, of which the first of the latter two is taken, to the data.
func findResource(r types.RVAReader, dir types.Directory, kind uint32) (rva, size uint32, err error) {
	le := binary.LittleEndian
	off := uint32(0)
	for level := range 3 {
		head, err := readRVA(r, uint64(dir.RVA)+uint64(off), 16)
		if err != nil {
			return 0, 0, err
		}
		count := uint32(le.Uint16(head[12:])) + uint32(le.Uint16(head[14:]))
		if count > maxResourceDir {
			return 0, 0, fmt.Errorf("%d entries at RVA %#x: at most %d", count, dir.RVA+off, maxResourceDir)
		}
		table, err := readRVA(r, uint64(dir.RVA)+uint64(off)+16, 8*count)
		if err != nil {
			return 0, 0, err
		}
		next, found := uint32(0), false
		for ; len(table) >= 8 && !found; table = table[8:] {
			if level > 0 || le.Uint32(table) == kind {
				next, found = le.Uint32(table[4:]), true
			}
		}
		switch {
		case !found:
			return 0, 0, errNoVersion
		case level < 2 && next>>31 == 0:
			return 0, 0, fmt.Errorf("level %d ends in data", level)
		}
		off = next &^ (1 << 31)
	}
	entry, err := readRVA(r, uint64(dir.RVA)+uint64(off), 16)
	if err != nil {
		return 0, 0, err
	}
	return le.Uint32(entry), le.Uint32(entry[4:]), nil
}

// block is one block of a version resource.
type block struct {
	key             string
	value, children []byte
}

// cutBlock takes the first block off b: its length, that of its value, its kind,
// a key in UTF-16, then value and children at multiples of four.
func cutBlock(b []byte) (one block, rest []byte, ok bool) {
	if len(b) < 6 {
		return one, nil, false
	}
	le := binary.LittleEndian
	length, value, text := int(le.Uint16(b)), int(le.Uint16(b[2:])), le.Uint16(b[4:]) == 1
	if length < 6 || length > len(b) {
		return one, nil, false
	}
	body := b[:length]
	end := 6
	for end+2 <= length && le.Uint16(body[end:]) != 0 {
		end += 2
	}
	one.key = utf16Text(body[6:end])
	at := min(align4(end+2), length)
	if text {
		value *= 2 // the value's length counts characters
	}
	value = min(value, length-at)
	one.value = body[at : at+value]
	one.children = body[min(align4(at+value), length):]
	return one, b[min(align4(length), len(b)):], true
}

func align4(n int) int { return (n + 3) &^ 3 }

// utf16Text decodes UTF-16 up to its NUL.
func utf16Text(b []byte) string {
	var units []uint16
	for ; len(b) >= 2; b = b[2:] {
		u := binary.LittleEndian.Uint16(b)
		if u == 0 {
			break
		}
		units = append(units, u)
	}
	return string(utf16.Decode(units))
}

// parseVersion reads VS_VERSIONINFO. What is damaged ends it; what came before
// stays.
func parseVersion(b []byte) (*version, error) {
	root, _, ok := cutBlock(b)
	if !ok || root.key != "VS_VERSION_INFO" {
		return nil, errors.New("version resource: it does not begin with VS_VERSION_INFO")
	}
	v := new(version)
	v.fixed(root.value)
	for rest := root.children; ; {
		var one block
		if one, rest, ok = cutBlock(rest); !ok {
			return v, nil
		}
		switch one.key {
		case "StringFileInfo":
			v.tables(one.children)
		case "VarFileInfo":
			v.vars(one.children)
		}
	}
}

// fixed reads VS_FIXEDFILEINFO.
func (v *version) fixed(b []byte) {
	le := binary.LittleEndian
	if len(b) < fixedInfoSize || le.Uint32(b) != fixedInfoMagic {
		return
	}
	number := func(at int) string {
		ms, ls := le.Uint32(b[at:]), le.Uint32(b[at+4:])
		return fmt.Sprintf("%d.%d.%d.%d", ms>>16, ms&0xffff, ls>>16, ls&0xffff)
	}
	v.Fixed, v.File, v.Product = true, number(8), number(16)
	v.FlagsMask, v.Flags, v.OS = le.Uint32(b[24:]), le.Uint32(b[28:]), le.Uint32(b[32:])
	v.Kind, v.Subkind = le.Uint32(b[36:]), le.Uint32(b[40:])
	v.Date = uint64(le.Uint32(b[44:]))<<32 | uint64(le.Uint32(b[48:]))
}

// tables reads the strings of the first language.
func (v *version) tables(b []byte) {
	table, _, ok := cutBlock(b)
	for rest := table.children; ok && len(v.Strings) < maxVersionText; {
		var one block
		if one, rest, ok = cutBlock(rest); ok {
			v.Strings = append(v.Strings, versionString{one.key, utf16Text(one.value)})
		}
	}
}

// vars reads the list of translations: language and character set.
func (v *version) vars(b []byte) {
	for {
		one, rest, ok := cutBlock(b)
		if !ok {
			return
		}
		for t := one.value; one.key == "Translation" && len(t) >= 4 && len(v.Translations) < maxVersionText; t = t[4:] {
			v.Translations = append(v.Translations,
				fmt.Sprintf("%04x.%04x", binary.LittleEndian.Uint16(t), binary.LittleEndian.Uint16(t[2:])))
		}
		b = rest
	}
}

// get gives a string by its key.
func (v *version) get(key string) string {
	for _, s := range v.Strings {
		if s.Key == key {
			return s.Value
		}
	}
	return ""
}
