// Package cell holds what a walk keeps of one pool block: 16 bytes, whichever
// structure the block was found in. A pool has millions of blocks, and a session
// keeps them all, so nothing that can be read again when a block is shown is
// kept.
package cell

import "gokd/model/mem"

// Unit is the unit in which a _POOL_HEADER and the chunk headers of segment
// heaps count sizes, and the size of a _POOL_HEADER on x64, in bytes.
const Unit = 0x10

// MaxRoom is the most that Room can tell, in bytes.
const MaxRoom = 0xffff * Unit

// State tells whether a block is in use.
type State uint8

// The states of a block. Cached is a block that was freed and waits for its
// next use or for its release on a list of the kernel (lookaside, deferred or
// delayed free): its headers still look allocated.
const (
	Allocated State = iota
	Free
	Cached
)

// Cell is one block with a _POOL_HEADER, or one free piece.
type Cell struct {
	at uint64 // bits 0-3 State, 4-47 the header's address, 48-63 room in units

	// Word is the first eight bytes of the _POOL_HEADER as stored: PreviousSize
	// bits 0-7, PoolIndex 8-15, BlockSize 16-23, PoolType 24-31, PoolTag 32-63.
	// Of a free piece it is whatever lies there.
	Word uint64
}

// New makes a cell. The header's address is canonical, in the upper half and a
// multiple of Unit; room, in bytes from the header to the end of what was set
// aside for the block, is a multiple of Unit and at most MaxRoom.
func New(header mem.VA, room uint64, s State, word uint64) Cell {
	return Cell{at: uint64(header)&0xffff_ffff_fff0 | room/Unit<<48 | uint64(s)&0xf, Word: word}
}

// Header is the address of the _POOL_HEADER; of a free piece that has none the
// address where one would lie.
func (c Cell) Header() mem.VA { return mem.VA(c.at&0xffff_ffff_fff0 | 0xffff<<48) }

// Room is the bytes from the header to the end of what was set aside for the
// block: the block of a page pool, the rest of the chunk or slot of a heap.
func (c Cell) Room() uint64 { return c.at >> 48 * Unit }

// State tells whether the block is in use.
func (c Cell) State() State { return State(c.at & 0xf) }

// Tag is the PoolTag as stored, protection bit included.
func (c Cell) Tag() uint32 { return uint32(c.Word >> 32) }

// Size is the BlockSize of the header in bytes, header included.
func (c Cell) Size() uint64 { return c.Word >> 16 & 0xff * Unit }

// PoolType is the PoolType of the header as stored.
func (c Cell) PoolType() uint8 { return uint8(c.Word >> 24) }

// PoolIndex is the PoolIndex of the header as stored.
func (c Cell) PoolIndex() uint8 { return uint8(c.Word >> 8) }

// Previous is the PreviousSize of the header in bytes.
func (c Cell) Previous() uint64 { return c.Word & 0xff * Unit }
