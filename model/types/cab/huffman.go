package cab

import (
	"encoding/binary"
	"errors"
)

// bitReader reads bits from little-endian 16-bit words, the highest bit of a word
// first. Beyond the end it gives zeros; over tells that it did.
type bitReader struct {
	data []byte
	at   int    // of the next word in data
	buf  uint64 // the next bits, from bit 63 down
	have int    // bits in buf
	lack int    // bits in buf that are not in data
}

// need has n bits in the buffer, at most 32.
func (r *bitReader) need(n int) {
	for r.have < n {
		var word uint64
		switch rest := r.data[min(r.at, len(r.data)):]; {
		case len(rest) >= 2:
			word = uint64(binary.LittleEndian.Uint16(rest))
		case len(rest) == 1:
			word = uint64(rest[0])
			r.lack += 8
		default:
			r.lack += 16
		}
		r.at += 2
		r.buf |= word << (48 - r.have)
		r.have += 16
	}
}

func (r *bitReader) drop(n int) {
	r.buf <<= n
	r.have -= n
}

// bits reads n bits, at most 16 of which count for a format field; up to 32 work.
func (r *bitReader) bits(n uint) uint32 {
	if n == 0 {
		return 0
	}
	r.need(int(n))
	v := uint32(r.buf >> (64 - n))
	r.drop(int(n))
	return v
}

// over reports whether bits beyond the end were used.
func (r *bitReader) over() bool { return r.have < r.lack }

// toWord goes to the next 16-bit word for bytes that are not bits; where one ends
// just here, a whole word of padding stands.
func (r *bitReader) toWord() {
	if r.have == 0 {
		r.need(16)
	}
	// Whole words in the buffer are given back.
	back := r.have / 16 * 16
	if r.have%16 == 0 {
		back = r.have - 16
	}
	r.at -= back / 8
	r.buf, r.have, r.lack = 0, 0, 0
}

// copy reads whole bytes after toWord; false where there are too few.
func (r *bitReader) copy(p []byte) bool {
	if r.at < 0 || r.at > len(r.data) || len(p) > len(r.data)-r.at {
		return false
	}
	r.at += copy(p, r.data[r.at:])
	return true
}

// skipByte passes a byte where there is one.
func (r *bitReader) skipByte() bool {
	if r.have != 0 || r.at >= len(r.data) {
		return false
	}
	r.at++
	return true
}

const (
	maxCode   = 16 // bits
	tableBits = 10 // of codes found in one step
)

// huffman decodes canonical Huffman codes of up to 16 bits.
type huffman struct {
	table [1 << tableBits]uint16 // symbol<<5 | bits; 0: longer, or no code
	first [maxCode + 2]uint32    // first code of each length
	count [maxCode + 1]uint32
	start [maxCode + 1]uint32 // of each length in symbols
	syms  []uint16
}

var (
	errTree = errors.New("LZX: a Huffman tree with more codes than its lengths allow")
	errCode = errors.New("LZX: a code that no tree has")
)

// build makes the decoder of symbols with these code lengths; 0: not used.
func (h *huffman) build(lengths []uint8) error {
	clear(h.table[:])
	h.count = [maxCode + 1]uint32{}
	for _, n := range lengths {
		if n > 0 {
			h.count[n]++
		}
	}
	code, total := uint32(0), uint32(0)
	for n := 1; n <= maxCode; n++ {
		code <<= 1
		h.first[n], h.start[n] = code, total
		code += h.count[n]
		total += h.count[n]
		if code > 1<<n {
			return errTree
		}
	}
	if cap(h.syms) < len(lengths) {
		h.syms = make([]uint16, len(lengths))
	}
	h.syms = h.syms[:total]
	next := h.start
	for s, n := range lengths {
		if n == 0 {
			continue
		}
		h.syms[next[n]] = uint16(s)
		code := h.first[n] + next[n] - h.start[n]
		next[n]++
		if n <= tableBits {
			at := code << (tableBits - n)
			for i := range uint32(1) << (tableBits - n) {
				h.table[at+i] = uint16(s)<<5 | uint16(n)
			}
		}
	}
	return nil
}

// decode reads one symbol.
func (h *huffman) decode(in *bitReader) (uint32, error) {
	in.need(maxCode)
	bits := uint32(in.buf >> (64 - maxCode))
	if e := h.table[bits>>(maxCode-tableBits)]; e != 0 {
		in.drop(int(e & 31))
		return h.symbol(in, uint32(e>>5))
	}
	for n := tableBits + 1; n <= maxCode; n++ {
		code := bits >> (maxCode - n)
		if at := code - h.first[n]; code >= h.first[n] && at < h.count[n] {
			in.drop(n)
			return h.symbol(in, uint32(h.syms[h.start[n]+at]))
		}
	}
	return 0, errCode
}

func (h *huffman) symbol(in *bitReader, s uint32) (uint32, error) {
	if in.over() {
		return 0, errLZXEnd
	}
	return s, nil
}
