package pdbtest

import "fmt"

// container puts streams into the blocks of a multi-stream file: superblock, two
// maps of free blocks that come again every blockSize blocks, streams, directory
// and the list of its blocks.
func container(streams [][]byte, blockSize uint32) ([]byte, error) {
	if blockSize < 0x200 || blockSize&(blockSize-1) != 0 {
		return nil, fmt.Errorf("block size %#x", blockSize)
	}
	c := &blocks{size: int(blockSize), b: make([]byte, 3*int(blockSize))}
	dir := &buffer{}
	dir.u32(uint32(len(streams)))
	for _, s := range streams {
		dir.u32(uint32(len(s)))
	}
	for i, s := range streams {
		dir.u32(c.add(s)...)
		streams[i] = nil
	}
	list := &buffer{}
	list.u32(c.add(dir.b)...)
	at := c.add(list.b)
	if room := int(blockSize)/4 - 0x34/4; len(at) > room {
		return nil, fmt.Errorf("%d blocks of block numbers, the first block has room for %d", len(at), room)
	}
	head := &buffer{}
	head.raw([]byte("Microsoft C/C++ MSF 7.00\r\n\x1aDS\x00\x00\x00"))
	head.u32(blockSize, 1, uint32(len(c.b)/c.size), uint32(len(dir.b)), 0)
	head.u32(at...)
	copy(c.b, head.b)
	c.freeMap()
	return c.b, nil
}

// blocks is a growing file.
type blocks struct {
	size int
	b    []byte
}

// add appends data in blocks and gives their numbers; those for the maps of free
// blocks are left out.
func (c *blocks) add(data []byte) []uint32 {
	var list []uint32
	for len(data) > 0 {
		n := len(c.b) / c.size
		if n%c.size == 1 {
			c.b = append(c.b, make([]byte, 2*c.size)...)
			continue
		}
		piece := data[:min(len(data), c.size)]
		c.b = append(c.b, piece...)
		c.b = append(c.b, make([]byte, c.size-len(piece))...)
		list = append(list, uint32(n))
		data = data[len(piece):]
	}
	return list
}

// freeMap writes the map of free blocks: a bit is set for each block that is
// free, which is none but those behind the end.
func (c *blocks) freeMap() {
	count := len(c.b) / c.size
	for at := 0; at < (count+7)/8 || at%c.size != 0; at++ {
		bits := byte(0)
		for bit := range 8 {
			if at*8+bit >= count {
				bits |= 1 << bit
			}
		}
		block := at/c.size*c.size + 1
		if (block+1)*c.size > len(c.b) {
			break
		}
		c.b[block*c.size+at%c.size] = bits
	}
}
