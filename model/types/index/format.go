package index

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"os"

	"gokd/model/types"
)

// The form of a file, little-endian, made for this program alone:
//
//	header   magic, version, sum of the rest of the header,
//	         then per section: offset, length, sum (CRC-32C)
//	meta     key, origin and description, as strings with their length
//	...      the other sections, without gaps, in the order below
//
// Records have fixed sizes, so that a count follows from a section's length and
// a record is reached without reading those before it.
const (
	magic      = "gokdIDX\x1a"
	version    = 3 // of the form; any change of it or of what is kept counts it up
	headerSize = 8 + 4 + 4 + sections*sectionSize

	sectionSize = 12
	maxMeta     = 1 << 16 // bytes
)

// The sections.
const (
	secMeta    = iota
	secNames   // names of symbols, sorted, one after the other
	secNameEnd // u32 per symbol: where its name ends in secNames
	secSyms    // symbolSize per symbol, in the order of names
	secAddrs   // addrSize per address with a name, sorted
	secAliases // aliasSize per second name of a symbol, sorted by it
	secText    // names in types, one after the other
	secTextEnd // u32 per name: where it ends in secText
	secTypes   // typeSize per type; those that a type holds by value come before it
	secFields  // fieldSize per field or parameter, in the order of types
	secConsts  // constSize per constant, in the order of types
	secLookup  // lookupSize per type that has a name to be found by, sorted by it
	sections
)

// Sizes of records in bytes, with their members.
const (
	symbolSize = 16 // u32 RVA, u32 size, u32 type+1, u8 kind, u8 private, u16 0
	addrSize   = 8  // u32 RVA, u32 symbol that names it best
	aliasSize  = 8  // u32 name in secText, u32 symbol
	typeSize   = 24 // u32 name, u8 kind, u8 flags, u16 0, u32 size, u32 elem+1, u32 elements, u32 fields or constants
	fieldSize  = 16 // u32 name, u32 type, u32 offset, u8 bit, u8 bits, u16 0
	constSize  = 12 // u32 name, u64 value
	lookupSize = 8  // u32 name, u32 type | listed
)

const (
	listed    = 1 << 31 // in secLookup: TypeNames has it
	hasConsts = 1       // in flags of a type: it has a map of constants, if only an empty one
)

// recordSize is what a section's length must be a multiple of.
var recordSize = [sections]uint32{
	secMeta: 1, secNames: 1, secNameEnd: 4, secSyms: symbolSize, secAddrs: addrSize, secAliases: aliasSize,
	secText: 1, secTextEnd: 4, secTypes: typeSize, secFields: fieldSize, secConsts: constSize, secLookup: lookupSize,
}

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

var (
	le = binary.LittleEndian

	errForm = errors.New("no index of this version")
)

// section is one line of the header.
type section struct{ off, len, sum uint32 }

// readHeader checks the header against the file's size.
func readHeader(data []byte, size int64) (list [sections]section, err error) {
	if len(data) < headerSize || string(data[:len(magic)]) != magic || le.Uint32(data[8:]) != version {
		return list, errForm
	}
	if crc32.Checksum(data[16:headerSize], castagnoli) != le.Uint32(data[12:]) {
		return list, errors.New("header: wrong sum")
	}
	next := uint64(headerSize)
	for i := range list {
		at := data[16+i*sectionSize:]
		s := section{le.Uint32(at), le.Uint32(at[4:]), le.Uint32(at[8:])}
		if uint64(s.off) != next || s.len%recordSize[i] != 0 {
			return list, fmt.Errorf("section %d: offset %#x, length %#x", i, s.off, s.len)
		}
		next += uint64(s.len)
		list[i] = s
	}
	if next != uint64(size) {
		return list, fmt.Errorf("%#x bytes, want %#x", size, next)
	}
	return list, nil
}

// join makes a file of its sections.
func join(parts [sections][]byte) ([]byte, error) {
	size := uint64(headerSize)
	for _, p := range parts {
		size += uint64(len(p))
	}
	if size > maxFile {
		return nil, fmt.Errorf("%#x bytes, at most %#x", size, maxFile)
	}
	data := make([]byte, headerSize, size)
	copy(data, magic)
	le.PutUint32(data[8:], version)
	for i, p := range parts {
		at := data[16+i*sectionSize:]
		le.PutUint32(at, uint32(len(data)))
		le.PutUint32(at[4:], uint32(len(p)))
		le.PutUint32(at[8:], crc32.Checksum(p, castagnoli))
		data = append(data, p...)
	}
	le.PutUint32(data[12:], crc32.Checksum(data[16:headerSize], castagnoli))
	return data, nil
}

// meta is what a table says about itself.
type meta struct {
	key      Key
	origin   types.Origin
	describe string
	store    bool // there was a store, if only without types
}

func (m meta) encode() []byte {
	var b []byte
	str := func(s string) {
		b = binary.AppendUvarint(b, uint64(len(s)))
		b = append(b, s...)
	}
	str(m.key.Name)
	b = append(b, m.key.GUID[:]...)
	b = binary.AppendUvarint(b, uint64(m.key.Age))
	str(m.key.Kind)
	str(m.key.Source)
	b = binary.AppendVarint(b, m.key.Size)
	b = binary.AppendVarint(b, m.key.ModTime)
	b = binary.AppendUvarint(b, uint64(m.origin.Build))
	b = append(b, byte(m.origin.Match))
	str(m.origin.Source)
	str(m.origin.File)
	str(m.describe)
	if m.store {
		return append(b, 1)
	}
	return append(b, 0)
}

// metaReader reads what meta.encode wrote; the first failure sticks.
type metaReader struct {
	data []byte
	bad  bool
}

func (r *metaReader) bytes(n uint64) []byte {
	if r.bad || n > uint64(len(r.data)) {
		r.bad = true
		return nil
	}
	b := r.data[:n:n]
	r.data = r.data[n:]
	return b
}

func (r *metaReader) uint(most uint64) uint64 {
	v, n := binary.Uvarint(r.data)
	if n <= 0 || v > most {
		r.bad = true
		return 0
	}
	r.data = r.data[n:]
	return v
}

func (r *metaReader) int() int64 {
	v, n := binary.Varint(r.data)
	if n <= 0 {
		r.bad = true
		return 0
	}
	r.data = r.data[n:]
	return v
}

func (r *metaReader) byte(most byte) byte {
	b := r.bytes(1)
	if len(b) == 0 || b[0] > most {
		r.bad = true
		return 0
	}
	return b[0]
}

func (r *metaReader) str() string { return string(r.bytes(r.uint(maxMeta))) }

func decodeMeta(data []byte) (m meta, err error) {
	r := &metaReader{data: data}
	m.key.Name = r.str()
	copy(m.key.GUID[:], r.bytes(16))
	m.key.Age = uint32(r.uint(1<<32 - 1))
	m.key.Kind = r.str()
	m.key.Source = r.str()
	m.key.Size = r.int()
	m.key.ModTime = r.int()
	m.origin.Build = uint32(r.uint(1<<32 - 1))
	m.origin.Match = types.Match(r.byte(byte(types.MatchExact)))
	m.origin.Source = r.str()
	m.origin.File = r.str()
	m.describe = r.str()
	m.store = r.byte(1) == 1
	if r.bad || len(r.data) > 0 {
		return meta{}, errors.New("meta: wrong length")
	}
	return m, nil
}

// readKey reads only what names a file's table.
func readKey(path string) (Key, error) {
	f, err := os.Open(path)
	if err != nil {
		return Key{}, err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return Key{}, err
	}
	head := make([]byte, headerSize)
	if _, err := io.ReadFull(f, head); err != nil {
		return Key{}, err
	}
	list, err := readHeader(head, info.Size())
	if err != nil {
		return Key{}, err
	}
	s := list[secMeta]
	if s.len > maxMeta {
		return Key{}, errForm
	}
	data := make([]byte, s.len)
	if _, err := io.ReadFull(f, data); err != nil {
		return Key{}, err
	}
	if crc32.Checksum(data, castagnoli) != s.sum {
		return Key{}, errors.New("meta: wrong sum")
	}
	m, err := decodeMeta(data)
	return m.key, err
}
