package cell

import "encoding/binary"

// Len is the size of a cell in a file, in bytes.
const Len = 16

// Put writes the cells to dst, which must have room for them, in the form that
// Get reads.
func Put(dst []byte, cells []Cell) {
	for i, c := range cells {
		b := dst[i*Len : i*Len+Len]
		binary.LittleEndian.PutUint64(b, c.at)
		binary.LittleEndian.PutUint64(b[8:], c.Word)
	}
}

// Get reads cells, as many as src holds. They can be anything: whether they make
// sense is for the caller to check.
func Get(dst []Cell, src []byte) []Cell {
	for ; len(src) >= Len; src = src[Len:] {
		dst = append(dst, Cell{binary.LittleEndian.Uint64(src), binary.LittleEndian.Uint64(src[8:])})
	}
	return dst
}
