package pdb

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"math/bits"
	"sync"
)

// ErrFormat is wrapped by errors about files that are no program database this
// package reads.
var ErrFormat = errors.New("no program database of format 7.00")

// The containers' magic numbers (LLVM docs/PDB/MsfFile.rst; microsoft-pdb's
// public description for 2.00).
const (
	magic7 = "Microsoft C/C++ MSF 7.00\r\n\x1aDS\x00\x00\x00"
	magic2 = "Microsoft C/C++ program database 2.00\r\n\x1aJG"
)

const (
	superblockSize = 0x34    // without the list of directory map blocks
	minBlock       = 0x200   // bytes
	maxBlock       = 1 << 16 // lld writes up to 0x8000
	maxStreams     = 1 << 16 // stream numbers have 16 bits
	nilSize        = 0xffffffff
	noStream       = 0xffff
)

// msf is the container: a file of blocks, of which numbered streams are made.
type msf struct {
	r         io.ReaderAt
	size      int64
	blockSize uint32
	shift     uint
	numBlocks uint32
	dir       []byte   // the directory as it lies in the file
	sizes     []uint32 // bytes of each stream
	first     []uint32 // offset in dir of each stream's block numbers

	mu    sync.Mutex // protects the fields below
	slots []slot
	find  map[chunkKey]int // index in slots
	hand  int
}

// Pieces of streams are kept for random access, in slots that are used again
// for others: 4 MB in all.
const (
	chunkSize = 1 << 15
	maxSlots  = 128
)

type chunkKey struct {
	stream uint32
	chunk  uint32
}

type slot struct {
	key  chunkKey
	data []byte // never changed once here: readers may hold on to it
	used bool   // since the hand came by
}

// openMSF reads the superblock and the directory.
func openMSF(r io.ReaderAt, size int64) (*msf, error) {
	head := make([]byte, 4096)
	n, err := r.ReadAt(head, 0)
	if err != nil && err != io.EOF {
		return nil, fmt.Errorf("superblock: %w", err)
	}
	head = head[:n]
	if bytes.HasPrefix(head, []byte(magic2)) {
		return nil, fmt.Errorf("%w: format 2.00 (signature JG) of Visual C++ 6 and earlier; link with a newer linker", ErrFormat)
	}
	if len(head) < superblockSize || !bytes.HasPrefix(head, []byte(magic7)) {
		return nil, fmt.Errorf("%w: magic number missing", ErrFormat)
	}
	m := &msf{r: r, size: size, blockSize: le32(head[0x20:]), numBlocks: le32(head[0x28:]), find: map[chunkKey]int{}}
	if bits.OnesCount32(m.blockSize) != 1 || m.blockSize < minBlock || m.blockSize > maxBlock {
		return nil, fmt.Errorf("superblock at file offset 0x20: block size %#x: want a power of two, %#x to %#x", m.blockSize, minBlock, maxBlock)
	}
	m.shift = uint(bits.TrailingZeros32(m.blockSize))
	if end := uint64(m.numBlocks) << m.shift; end > uint64(max(size, 0)) {
		return nil, fmt.Errorf("superblock at file offset 0x28: %d blocks of %#x bytes: file has %#x bytes, truncated", m.numBlocks, m.blockSize, size)
	}
	if err := m.readDirectory(head); err != nil {
		return nil, fmt.Errorf("stream directory: %w", err)
	}
	return m, nil
}

// readDirectory reads the directory: its blocks are listed in map blocks, and
// those in the superblock.
func (m *msf) readDirectory(head []byte) error {
	size := uint64(le32(head[0x2c:]))
	// Each block belongs to at most one stream: a directory can't be larger.
	if limit := 4 * (uint64(m.numBlocks) + 2*maxStreams); size < 4 || size > limit {
		return fmt.Errorf("%#x bytes, want 4 to %#x", size, limit)
	}
	blocks := m.blocksOf(size)
	maps := m.blocksOf(4 * blocks)
	limit := min(uint64(len(head)), uint64(m.blockSize))
	if superblockSize+4*maps > limit {
		return fmt.Errorf("%d blocks of block numbers: more than the superblock lists", maps)
	}
	list, err := m.gather(head[superblockSize:superblockSize+4*maps], 4*blocks)
	if err != nil {
		return fmt.Errorf("block numbers: %w", err)
	}
	if m.dir, err = m.gather(list, size); err != nil {
		return err
	}
	return m.readStreams()
}

func (m *msf) blocksOf(size uint64) uint64 {
	return (size + uint64(m.blockSize) - 1) >> m.shift
}

// gather reads size bytes from the blocks whose numbers are listed.
func (m *msf) gather(list []byte, size uint64) ([]byte, error) {
	p := make([]byte, size) // the caller has checked it
	return p, m.readBlocks(p, list, 0)
}

// readBlocks fills p from the listed blocks, from an offset on. Neighbouring
// blocks are read at once.
func (m *msf) readBlocks(p, list []byte, off uint64) error {
	for len(p) > 0 {
		i := off >> m.shift
		if 4*i+4 > uint64(len(list)) {
			return errShort
		}
		block := le32(list[4*i:])
		in := off & uint64(m.blockSize-1)
		run := uint64(m.blockSize) - in
		for next := i + 1; run < uint64(len(p)) && 4*next+4 <= uint64(len(list)) && le32(list[4*next:]) == block+uint32(next-i); next++ {
			run += uint64(m.blockSize)
		}
		run = min(run, uint64(len(p)))
		if end := uint64(block)<<m.shift + in + run; end > uint64(m.numBlocks)<<m.shift {
			return fmt.Errorf("block %#x: beyond the %#x blocks of the file", block, m.numBlocks)
		}
		n, err := m.r.ReadAt(p[:run], int64(uint64(block)<<m.shift+in))
		if uint64(n) < run {
			if err == nil || err == io.EOF {
				err = io.ErrUnexpectedEOF
			}
			return fmt.Errorf("block %#x: %w", block, err)
		}
		p, off = p[run:], off+run
	}
	return nil
}

// readStreams finds the streams in the directory: their number, their sizes,
// then the numbers of their blocks.
func (m *msf) readStreams() error {
	count := uint64(le32(m.dir))
	if count > maxStreams || 4+4*count > uint64(len(m.dir)) {
		return fmt.Errorf("%d streams in %#x bytes", count, len(m.dir))
	}
	m.sizes, m.first = make([]uint32, count), make([]uint32, count)
	at := 4 + 4*count
	var total uint64
	for i := range m.sizes {
		size := le32(m.dir[4+4*i:])
		if size == nilSize {
			size = 0
		}
		need := 4 * m.blocksOf(uint64(size))
		if at+need > uint64(len(m.dir)) {
			return fmt.Errorf("stream %d of %#x bytes: its block numbers end behind the directory", i, size)
		}
		// A block is part of one stream: a small file has no large streams. Twice
		// over leaves room for those that an older generation shares.
		if total += need / 4; total > 2*uint64(m.numBlocks) {
			return fmt.Errorf("stream %d of %#x bytes: the streams have more blocks than the file", i, size)
		}
		m.sizes[i], m.first[i] = size, uint32(at)
		at += need
	}
	return nil
}

// stream is one stream of the container.
type stream struct {
	m    *msf
	num  uint32
	size uint32
	list []byte // its block numbers
}

// stream gives a stream by number; false where the file has none of it.
func (m *msf) stream(num uint32) (*stream, bool) {
	if num >= uint32(len(m.sizes)) || num == noStream {
		return nil, false
	}
	size := m.sizes[num]
	first := uint64(m.first[num])
	return &stream{m: m, num: num, size: size, list: m.dir[first : first+4*m.blocksOf(uint64(size))]}, true
}

// readAt fills p from the stream.
func (s *stream) readAt(p []byte, off uint32) error {
	if uint64(off)+uint64(len(p)) > uint64(s.size) {
		return fmt.Errorf("stream %d at %#x: %#x bytes wanted, %#x there: %w", s.num, off, len(p), s.size, errShort)
	}
	if err := s.m.readBlocks(p, s.list, uint64(off)); err != nil {
		return fmt.Errorf("stream %d at %#x: %w", s.num, off, err)
	}
	return nil
}

// view gives n bytes of the stream, which the caller must not change. Use it
// for pieces of at most some ten kilobytes.
func (s *stream) view(off, n uint32) ([]byte, error) { return s.viewNear(nil, off, n) }

// near keeps pieces of one stream at hand for one goroutine, which needs no lock
// to find them again.
type near [32]struct {
	chunk uint32 // number + 1
	data  []byte
}

// viewNear is view with pieces at hand.
func (s *stream) viewNear(near *near, off, n uint32) ([]byte, error) {
	if uint64(off)+uint64(n) > uint64(s.size) {
		return nil, fmt.Errorf("stream %d at %#x: %#x bytes wanted, %#x there: %w", s.num, off, n, s.size, errShort)
	}
	data, err := s.chunkNear(near, off/chunkSize)
	if err != nil {
		return nil, err
	}
	data = data[min(off%chunkSize, uint32(len(data))):]
	if n <= uint32(len(data)) {
		return data[:n:n], nil
	}
	p := make([]byte, n)
	for done := copy(p, data); done < len(p); {
		if data, err = s.chunkNear(near, (off+uint32(done))/chunkSize); err != nil {
			return nil, err
		}
		done += copy(p[done:], data)
	}
	return p, nil
}

// chunkNear gives a piece of the stream, from those at hand if it is one.
func (s *stream) chunkNear(near *near, n uint32) ([]byte, error) {
	if near == nil {
		return s.chunk(n)
	}
	c := &near[n%uint32(len(near))]
	if c.chunk != n+1 {
		data, err := s.chunk(n)
		if err != nil {
			return nil, err
		}
		c.chunk, c.data = n+1, data
	}
	return c.data, nil
}

// chunk gives a piece of the stream, which has it.
func (s *stream) chunk(n uint32) ([]byte, error) {
	key := chunkKey{s.num, n}
	m := s.m
	m.mu.Lock()
	defer m.mu.Unlock()
	if i, ok := m.find[key]; ok {
		m.slots[i].used = true
		return m.slots[i].data, nil
	}
	start := n * chunkSize
	data := make([]byte, min(chunkSize, s.size-start))
	if err := s.readAt(data, start); err != nil {
		return nil, err
	}
	m.keep(key, data)
	return data, nil
}

// keep puts a piece into a slot: a free one, or the next one that was not used
// since the hand came by.
func (m *msf) keep(key chunkKey, data []byte) {
	if len(m.slots) < maxSlots {
		m.find[key] = len(m.slots)
		m.slots = append(m.slots, slot{key: key, data: data})
		return
	}
	for m.slots[m.hand].used {
		m.slots[m.hand].used = false
		m.hand = (m.hand + 1) % len(m.slots)
	}
	delete(m.find, m.slots[m.hand].key)
	m.slots[m.hand] = slot{key: key, data: data}
	m.find[key] = m.hand
	m.hand = (m.hand + 1) % len(m.slots)
}
