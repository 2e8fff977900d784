package pdb

import (
	"bytes"
	"errors"
	"fmt"

	"gokd/model/types"
)

// The streams with fixed numbers (LLVM docs/PDB/index.rst).
const (
	streamInfo = 1
	streamTPI  = 2
	streamDBI  = 3
	streamIPI  = 4
)

// info is the stream that tells the database's identity.
type info struct {
	version   uint32
	signature uint32 // time of making, or part of a hash
	age       uint32
	guid      types.GUID
	named     map[string]uint32 // streams by name, "/names"
}

// versionVC70 is the oldest version with a GUID (LLVM docs/PDB/PdbStream.rst).
const versionVC70 = 20000404

// maxInfo bounds the stream with the names of streams, of which there are five
// or, with embedded sources, a few hundred.
const maxInfo = 1 << 20

func (m *msf) readInfo() (info, error) {
	s, ok := m.stream(streamInfo)
	if !ok || s.size == 0 {
		return info{}, errors.New("missing")
	}
	b := make([]byte, min(s.size, maxInfo))
	if err := s.readAt(b, 0); err != nil {
		return info{}, err
	}
	r := &reader{b: b}
	i := info{version: r.u32(), signature: r.u32(), age: r.u32(), named: map[string]uint32{}}
	copy(i.guid[:], r.bytes(16))
	if r.err != nil {
		return info{}, r.err
	}
	if i.version < versionVC70 {
		return info{}, fmt.Errorf("version %d has no GUID, want %d or later", i.version, versionVC70)
	}
	i.readNames(r)
	return i, nil
}

// readNames reads the hash table of named streams, as far as it makes sense:
// names in one buffer, then capacity, two bit sets, and pairs of name offset
// and stream number for each bit of the first set.
func (i *info) readNames(r *reader) {
	names := r.bytes(uint64(r.u32()))
	count := r.u32()
	r.u32() // capacity
	r.bytes(4 * uint64(r.u32()))
	r.bytes(4 * uint64(r.u32()))
	for range min(count, uint32(len(r.b)/8)) {
		at, num := r.u32(), r.u32()
		if r.err != nil || at >= uint32(len(names)) {
			continue
		}
		if name, _, ok := bytes.Cut(names[at:], []byte{0}); ok {
			i.named[string(name)] = num
		}
	}
}
