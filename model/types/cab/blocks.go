package cab

import (
	"bytes"
	"compress/flate"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
)

// Limits of a block (CFDATA): packed data grows by at most 6144 bytes.
const (
	maxUnpacked = 32 << 10
	maxPacked   = maxUnpacked + 6144
)

// unpacker turns the blocks of a folder, in order, into what was packed.
type unpacker interface {
	// unpack gives size bytes for a packed block; they are valid until the next.
	unpack(packed []byte, size int) ([]byte, error)
}

func newUnpacker(method uint16) (unpacker, error) {
	switch method & methodMask {
	case methodStored:
		return stored{}, nil
	case methodMSZIP:
		return &mszip{}, nil
	case methodLZX:
		return newLZX(uint(method >> 8 & 0x1f))
	case methodQuantum:
		return nil, fmt.Errorf("%w: packed with Quantum", ErrUnsupported)
	}
	return nil, fmt.Errorf("%w: packing method %d", ErrUnsupported, method&methodMask)
}

// blocks reads and unpacks the blocks of a folder.
type blocks struct {
	c      *Reader
	at     int64
	left   int
	unpack unpacker
	packed [maxPacked]byte
}

// next gives the unpacked bytes of the next block; io.EOF after the last.
func (b *blocks) next() ([]byte, error) {
	if b.left == 0 {
		return nil, io.EOF
	}
	at := b.at
	data, err := b.read()
	if err != nil {
		return nil, &FormatError{"CFDATA", at, err}
	}
	b.left--
	return data, nil
}

func (b *blocks) read() ([]byte, error) {
	var head [blockSize]byte
	if err := b.c.readFull(head[:], b.at); err != nil {
		return nil, err
	}
	le := binary.LittleEndian
	sum, packed, size := le.Uint32(head[:]), int(le.Uint16(head[4:])), int(le.Uint16(head[6:]))
	switch {
	case packed > maxPacked || size > maxUnpacked:
		return nil, fmt.Errorf("%d bytes for %d: a block has at most %d for %d", packed, size, maxPacked, maxUnpacked)
	case size == 0:
		return nil, fmt.Errorf("%w: the block continues in another cabinet", ErrUnsupported)
	}
	data := b.packed[:packed]
	if err := b.c.readFull(data, b.at+blockSize+b.c.reserve); err != nil {
		return nil, err
	}
	b.at += blockSize + b.c.reserve + int64(packed)
	// A sum of zero was not computed.
	if got := checksum(head[4:], checksum(data, 0)); sum != 0 && got != sum {
		return nil, fmt.Errorf("checksum %#x, want %#x", got, sum)
	}
	return b.unpack.unpack(data, size)
}

// readFull reads the bytes of the cabinet at an offset, all of them.
func (c *Reader) readFull(p []byte, at int64) error {
	if at < 0 || at > c.size || int64(len(p)) > c.size-at {
		return io.ErrUnexpectedEOF
	}
	n, err := c.r.ReadAt(p, at)
	if n == len(p) {
		return nil
	}
	if err == nil || err == io.EOF {
		err = io.ErrUnexpectedEOF
	}
	return err
}

// checksum is the CSUMCompute of [MS-CAB] 3.1: 32-bit words added without carry,
// the last one to three bytes in the opposite order.
func checksum(b []byte, sum uint32) uint32 {
	for ; len(b) >= 4; b = b[4:] {
		sum ^= binary.LittleEndian.Uint32(b)
	}
	var rest uint32
	for _, c := range b {
		rest = rest<<8 | uint32(c)
	}
	return sum ^ rest
}

// contents is a file's part of the unpacked bytes of its folder.
type contents struct {
	blocks
	data       []byte // unpacked, not given out
	skip, left int64
	err        error
}

// Read implements io.Reader.
func (f *contents) Read(p []byte) (int, error) {
	for f.err == nil && f.left > 0 && len(f.data) == 0 {
		if f.data, f.err = f.next(); f.err == io.EOF {
			f.err = &FormatError{"CFFOLDER", f.at, fmt.Errorf("%d bytes of the file are missing: %w", f.left, io.ErrUnexpectedEOF)}
		}
		n := min(f.skip, int64(len(f.data)))
		f.data, f.skip = f.data[n:], f.skip-n
	}
	switch {
	case len(p) == 0:
		return 0, nil
	case f.left == 0:
		return 0, io.EOF
	case len(f.data) == 0:
		return 0, f.err
	}
	n := copy(p, f.data[:min(f.left, int64(len(f.data)))])
	f.data, f.left = f.data[n:], f.left-int64(n)
	return n, nil
}

// stored is the method of blocks that are not packed.
type stored struct{}

func (stored) unpack(packed []byte, size int) ([]byte, error) {
	if len(packed) != size {
		return nil, fmt.Errorf("a stored block of %d bytes for %d", len(packed), size)
	}
	return packed, nil
}

// mszip is MSZIP ([MS-MCI]): each block is a deflate stream after the letters
// CK, which may refer to the 32 KiB unpacked before it.
type mszip struct {
	out  []byte // of the block before
	next []byte
	r    io.ReadCloser
	in   bytes.Reader
}

func (m *mszip) unpack(packed []byte, size int) ([]byte, error) {
	if len(packed) < 2 || packed[0] != 'C' || packed[1] != 'K' {
		return nil, errors.New("an MSZIP block without its signature CK")
	}
	m.in.Reset(packed[2:])
	if m.r == nil {
		m.r = flate.NewReaderDict(&m.in, nil)
		m.next = make([]byte, maxUnpacked)
		m.out = make([]byte, 0, maxUnpacked)
	} else if err := m.r.(flate.Resetter).Reset(&m.in, m.out); err != nil {
		return nil, err
	}
	n, err := io.ReadFull(m.r, m.next[:size])
	if err != nil {
		return nil, fmt.Errorf("MSZIP: %d bytes of %d: %w", n, size, err)
	}
	m.out, m.next = m.next[:size], m.out[:maxUnpacked]
	return m.out, nil
}
