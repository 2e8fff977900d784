package heap

import (
	"encoding/binary"
	"testing"

	"gokd/model"
	"gokd/model/mem"
	"gokd/model/types"
)

// The tests here write single subsegments byte by byte, so that every branch of
// the decoders is met without a machine around it.

const (
	testHeapKey = 0x06bf0c72a0c1b484
	testLfhKey  = 0x956d562fe226ecb4
	testArea    = mem.VA(0xffffba0c2a402000)
)

// plain gives heaps without a machine: keys and a layout.
func plain(t testing.TB) *Heaps {
	t.Helper()
	lay, err := newLayout(&model.Kernel{Types: types.Embedded(19041)[0]})
	if err != nil {
		t.Fatal(err)
	}
	return &Heaps{HeapKey: testHeapKey, LfhKey: testLfhKey, lay: lay, constant: segmentConstant}
}

// sub is a VS subsegment under construction.
type sub struct {
	b    []byte
	at   uint64 // of the next chunk
	prev uint64
	lost map[int]bool
}

func newSub(pages int) *sub {
	s := &sub{b: make([]byte, pages*pageSize), at: 0x30, lost: map[int]bool{}}
	units := uint16((len(s.b) - 0x30) / 16)
	binary.LittleEndian.PutUint16(s.b[0x20:], units)
	binary.LittleEndian.PutUint16(s.b[0x22:], units^0x2bed|0x8000)
	return s
}

// header writes a chunk header anywhere.
func (s *sub) header(at, size, prev uint64, used bool) {
	v := size/16<<16 | prev/16<<32
	if used {
		v |= 1 << 48
	}
	address := uint64(testArea) + at
	binary.LittleEndian.PutUint64(s.b[at:], v^address^testHeapKey)
	if used {
		s.b[at+8] = byte(at/pageSize) ^ byte(address) ^ byte(testHeapKey&0xff)
	}
}

// chunk adds a chunk and gives where it begins.
func (s *sub) chunk(size uint64, used bool) uint64 {
	s.header(s.at, size, s.prev, used)
	at := s.at
	s.at, s.prev = at+size, size
	return at
}

// block adds a chunk with a block of the tag that fills it.
func (s *sub) block(size uint64) uint64 {
	at := s.chunk(size, true)
	s.pool(at+16, size-16, 2, 0)
	return at
}

// rest ends the subsegment with a free chunk.
func (s *sub) rest() { s.chunk(uint64(len(s.b))-s.at, false) }

// pool writes a _POOL_HEADER.
func (s *sub) pool(at, size uint64, typ, previous byte) {
	copy(s.b[at:], []byte{previous, 0, byte(size / 16), typ, 'T', 'e', 's', 't'})
}

// pages gives the pages as a dump would: without the lost ones.
func (s *sub) pages() []*[pageSize]byte {
	list := make([]*[pageSize]byte, len(s.b)/pageSize)
	for i := range list {
		if !s.lost[i] {
			list[i] = (*[pageSize]byte)(s.b[i*pageSize:])
		}
	}
	return list
}

func (s *sub) area() *Area { return &Area{At: testArea, Size: uint64(len(s.b)), Kind: AreaVS} }

// slab is an LFH subsegment under construction.
type slab struct {
	sub
	size, first, count uint64
}

func newSlab(pages int, size uint64, short bool) *slab {
	s := &slab{sub: sub{b: make([]byte, pages*pageSize), lost: map[int]bool{}}, size: size}
	s.first = (0x30 + uint64(len(s.b))/size/4 + 16) &^ 15
	s.count = (uint64(len(s.b)) - s.first) / size
	number := uint32(testArea >> 12 & 0xffffffff)
	if short {
		number = uint32(testArea&0xffffffff) >> 12
	}
	binary.LittleEndian.PutUint16(s.b[0x22:], uint16(s.count))
	binary.LittleEndian.PutUint32(s.b[0x28:], (uint32(s.size)|uint32(s.first)<<16)^uint32(testLfhKey&0xffffffff)^number)
	return s
}

// use marks a slot's bits and writes the header of its block.
func (s *slab) use(i uint64, bits byte) {
	s.b[0x30+i/4] |= bits << (i % 4 * 2)
	s.pool(s.first+i*s.size, s.size, 2, 0)
}

func (s *slab) area() *Area { return &Area{At: testArea, Size: uint64(len(s.b)), Kind: AreaLFH} }
