package pdbtest

import (
	"encoding/binary"
	"hash/crc32"
	"math"
)

// buffer collects little-endian values.
type buffer struct{ b []byte }

func (w *buffer) raw(p []byte) { w.b = append(w.b, p...) }
func (w *buffer) u8(v uint8)   { w.b = append(w.b, v) }

func (w *buffer) u16(vs ...uint16) {
	for _, v := range vs {
		w.b = binary.LittleEndian.AppendUint16(w.b, v)
	}
}

func (w *buffer) u32(vs ...uint32) {
	for _, v := range vs {
		w.b = binary.LittleEndian.AppendUint32(w.b, v)
	}
}

func (w *buffer) u64(v uint64) { w.b = binary.LittleEndian.AppendUint64(w.b, v) }

// text writes a string and its zero byte.
func (w *buffer) text(s string) {
	w.b = append(w.b, s...)
	w.b = append(w.b, 0)
}

// align pads with zero bytes.
func (w *buffer) align(n int) {
	for len(w.b)%n != 0 {
		w.b = append(w.b, 0)
	}
}

// pad aligns to four bytes as entries of a list of members are: each byte of
// padding tells how many follow.
func (w *buffer) pad() {
	for n := (4 - len(w.b)%4) % 4; n > 0; n-- {
		w.u8(0xf0 + uint8(n))
	}
}

// number writes a numeric leaf in the shortest form.
func (w *buffer) number(v int64) {
	switch {
	case v >= 0 && v < 0x8000:
		w.u16(uint16(v))
	case v >= 0 && v <= math.MaxUint16:
		w.u16(0x8002, uint16(v))
	case v >= 0 && v <= math.MaxUint32:
		w.u16(0x8004)
		w.u32(uint32(v))
	case v >= 0:
		w.u16(0x800a)
		w.u64(uint64(v))
	case v >= math.MinInt8:
		w.u16(0x8000)
		w.u8(uint8(v))
	case v >= math.MinInt16:
		w.u16(0x8001, uint16(v))
	case v >= math.MinInt32:
		w.u16(0x8003)
		w.u32(uint32(v))
	default:
		w.u16(0x8009)
		w.u64(uint64(v))
	}
}

// hashV1 is the hash of names (LLVM's hashStringV1).
func hashV1(s string) uint32 {
	var h uint32
	for ; len(s) >= 4; s = s[4:] {
		h ^= uint32(s[0]) | uint32(s[1])<<8 | uint32(s[2])<<16 | uint32(s[3])<<24
	}
	if len(s) >= 2 {
		h ^= uint32(s[0]) | uint32(s[1])<<8
		s = s[2:]
	}
	if len(s) == 1 {
		h ^= uint32(s[0])
	}
	h |= 0x20202020
	h ^= h >> 11
	return h ^ h>>16
}

// hashV8 is the hash of whole records: CRC-32 without the inversions.
func hashV8(p []byte) uint32 {
	return ^crc32.Update(math.MaxUint32, crc32.IEEETable, p)
}
