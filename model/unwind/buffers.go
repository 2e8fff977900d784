package unwind

import (
	"encoding/binary"

	"gokd/model/mem"
)

// stackWindow is how many bytes of the stack are read at once, a power of 2 that
// divides a page. Frames lie close together: reading each word by itself is most
// of the work of a walk.
const stackWindow = 1024

// buffers are what a walk reads into; on the heap once, not once for each read.
type buffers struct {
	info  [maxInfoSize]byte
	stack [stackWindow]byte
	at    mem.VA // of stack; 0 where nothing was read
	hole  mem.VA // of the last window that could not be read whole; 0 for none
}

// uint64 reads a word of the stack. A nil b reads it by itself.
func (b *buffers) uint64(s *mem.Space, at mem.VA) (uint64, error) {
	base := at &^ (stackWindow - 1)
	if b == nil || at%8 != 0 || base == 0 || base == b.hole {
		return s.Uint64(at)
	}
	if base != b.at {
		b.at = 0
		if _, err := s.ReadVirtual(b.stack[:], base); err != nil {
			b.hole = base
			return s.Uint64(at)
		}
		b.at = base
	}
	return binary.LittleEndian.Uint64(b.stack[at-base:]), nil
}
