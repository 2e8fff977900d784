package pdb

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
)

// errShort is the reason of every read behind the end of a record or stream.
var errShort = errors.New("ends too early")

// reader takes values off a record. The first failure sticks and drops the
// rest, so callers check once.
type reader struct {
	b   []byte
	err error
}

func (r *reader) fail(err error) {
	if r.err == nil {
		r.err = err
	}
	r.b = nil
}

func (r *reader) bytes(n uint64) []byte {
	if n > uint64(len(r.b)) {
		r.fail(errShort)
		return nil
	}
	p := r.b[:n:n]
	r.b = r.b[n:]
	return p
}

func (r *reader) u8() uint8 {
	if len(r.b) < 1 {
		r.fail(errShort)
		return 0
	}
	v := r.b[0]
	r.b = r.b[1:]
	return v
}

func (r *reader) u16() uint16 {
	if len(r.b) < 2 {
		r.fail(errShort)
		return 0
	}
	v := binary.LittleEndian.Uint16(r.b)
	r.b = r.b[2:]
	return v
}

func (r *reader) u32() uint32 {
	if len(r.b) < 4 {
		r.fail(errShort)
		return 0
	}
	v := binary.LittleEndian.Uint32(r.b)
	r.b = r.b[4:]
	return v
}

// name takes a string up to its zero byte.
func (r *reader) name() []byte {
	n := bytes.IndexByte(r.b, 0)
	if n < 0 {
		r.fail(errors.New("name without an end"))
		return nil
	}
	s := r.b[:n:n]
	r.b = r.b[n+1:]
	return s
}

// Numeric leaves (LLVM CodeViewTypes.def; "Numeric Leaf" in kernel debuggers'
// public type tables): a value below 0x8000 stands for itself, else it names
// the form of the value that follows.
const (
	lfChar   = 0x8000
	lfShort  = 0x8001
	lfUShort = 0x8002
	lfLong   = 0x8003
	lfULong  = 0x8004
	lfQuad   = 0x8009
	lfUQuad  = 0x800a
	lfOct    = 0x8017
	lfUOct   = 0x8018
)

// number takes a numeric leaf. Signed values are extended to 64 bits.
func (r *reader) number() uint64 {
	v := r.u16()
	if v < lfChar {
		return uint64(v)
	}
	switch v {
	case lfChar:
		return uint64(int64(int8(r.u8())))
	case lfShort:
		return uint64(int64(int16(r.u16())))
	case lfUShort:
		return uint64(r.u16())
	case lfLong:
		return uint64(int64(int32(r.u32())))
	case lfULong:
		return uint64(r.u32())
	case lfQuad, lfUQuad:
		lo := uint64(r.u32())
		return lo | uint64(r.u32())<<32
	case lfOct, lfUOct:
		// 128 bits: an enumeration of __int128. The low half is kept.
		lo := uint64(r.u32())
		lo |= uint64(r.u32()) << 32
		r.bytes(8)
		return lo
	}
	r.fail(fmt.Errorf("number in form %#x", v))
	return 0
}

func le16(b []byte) uint16 { return binary.LittleEndian.Uint16(b) }
func le32(b []byte) uint32 { return binary.LittleEndian.Uint32(b) }
