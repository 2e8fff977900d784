package cab

import (
	"encoding/binary"
	"errors"
	"fmt"
)

// Numbers of the LZX format.
const (
	minWindowBits, maxWindowBits = 15, 21

	literals     = 256
	lengthCodes  = 249 // of the tree for long matches
	shortLengths = 7   // match lengths that the main tree tells itself
	minMatch     = 2
	frameSize    = 32 << 10

	blockVerbatim = 1
	blockAligned  = 2
	blockRaw      = 3

	// Only the first GiB is searched for calls, which saved old machines work.
	maxCallFrames = 1 << 15
)

// positionSlots tells how many ranges of match offsets a window has, by its
// number of bits from 15 on.
var positionSlots = [...]int{30, 32, 34, 36, 38, 42, 50}

// slotBase and slotBits give the first offset of a slot and how many more bits
// tell the offset in it.
var slotBase, slotBits = func() (base [50]uint32, bits [50]uint8) {
	at := uint32(0)
	for i := range base {
		base[i] = at
		if i >= 4 {
			bits[i] = uint8(min(i/2-1, 17))
		}
		at += 1 << bits[i]
	}
	return base, bits
}()

// lzx unpacks LZX: blocks of Huffman-coded literals and matches in a window,
// cut into frames of 32 KiB that each start at a 16-bit word. A cabinet's block
// holds one frame.
type lzx struct {
	window []byte
	mask   uint32
	at     uint32 // in the window
	total  uint64 // bytes unpacked
	frame  []byte // as handed out, with calls translated

	started  bool
	callSize int32 // size that calls are translated for; 0: they are not
	recent   [3]uint32

	kind    uint32
	left    uint32 // bytes of the block that are to come
	padding bool   // a byte follows the raw block

	mainLengths   [literals + 8*50]uint8
	lengthLengths [lengthCodes]uint8
	main          huffman
	lengths       huffman
	aligned       huffman
	pre           huffman
	slots         int
}

func newLZX(bits uint) (*lzx, error) {
	if bits < minWindowBits || bits > maxWindowBits {
		return nil, fmt.Errorf("LZX: a window of 2^%d bytes, want 2^%d to 2^%d", bits, minWindowBits, maxWindowBits)
	}
	return &lzx{
		mask: 1<<bits - 1, slots: positionSlots[bits-minWindowBits],
		recent: [3]uint32{1, 1, 1},
	}, nil
}

var errLZXEnd = errors.New("LZX: the block's data ends too early")

// unpack decodes a frame of size bytes.
func (z *lzx) unpack(packed []byte, size int) ([]byte, error) {
	if z.window == nil {
		z.window = make([]byte, z.mask+1)
		z.frame = make([]byte, frameSize)
	}
	if z.at&(frameSize-1) != 0 {
		return nil, errors.New("LZX: a block after the last, which alone may be short")
	}
	in := &bitReader{data: packed}
	if !z.started {
		z.started = true
		if in.bits(1) == 1 {
			z.callSize = int32(in.bits(16)<<16 | in.bits(16))
		}
	}
	start := z.at
	for rest := uint32(size); rest > 0; {
		if z.left == 0 {
			if err := z.block(in); err != nil {
				return nil, err
			}
		}
		n := min(rest, z.left)
		var err error
		if z.kind == blockRaw {
			err = z.raw(in, n)
		} else {
			err = z.matches(in, n)
		}
		if err != nil {
			return nil, err
		}
		rest, z.left = rest-n, z.left-n
		if z.left == 0 && z.padding && in.skipByte() {
			z.padding = false
		}
	}
	copy(z.frame, z.window[start:start+uint32(size)])
	if z.callSize != 0 && z.total/frameSize < maxCallFrames {
		translateCalls(z.frame[:size], int32(z.total), z.callSize)
	}
	z.total += uint64(size)
	z.at &= z.mask
	return z.frame[:size], nil
}

// block reads the header of a block.
func (z *lzx) block(in *bitReader) error {
	if z.padding {
		in.skipByte()
		z.padding = false
	}
	z.kind = in.bits(3)
	z.left = in.bits(16)<<8 | in.bits(8)
	if in.over() {
		return errLZXEnd
	}
	if z.left == 0 {
		return errors.New("LZX: an empty block")
	}
	switch z.kind {
	case blockVerbatim:
		return z.trees(in)
	case blockAligned:
		var lengths [8]uint8
		for i := range lengths {
			lengths[i] = uint8(in.bits(3))
		}
		if err := z.aligned.build(lengths[:]); err != nil {
			return err
		}
		return z.trees(in)
	case blockRaw:
		var recent [12]byte
		in.toWord()
		if !in.copy(recent[:]) {
			return errLZXEnd
		}
		for i := range z.recent {
			z.recent[i] = binary.LittleEndian.Uint32(recent[4*i:])
		}
		z.padding = z.left%2 == 1
		return nil
	}
	return fmt.Errorf("LZX: block of type %d", z.kind)
}

// trees reads the trees of a block; they are told as differences to those of the
// block before.
func (z *lzx) trees(in *bitReader) error {
	symbols := literals + 8*z.slots
	for _, part := range [][]uint8{z.mainLengths[:literals], z.mainLengths[literals:symbols]} {
		if err := z.treeLengths(in, part); err != nil {
			return err
		}
	}
	if err := z.main.build(z.mainLengths[:symbols]); err != nil {
		return err
	}
	if err := z.treeLengths(in, z.lengthLengths[:]); err != nil {
		return err
	}
	return z.lengths.build(z.lengthLengths[:])
}

// treeLengths reads the code lengths of a tree, by a small tree of their own.
func (z *lzx) treeLengths(in *bitReader, lengths []uint8) error {
	var small [20]uint8
	for i := range small {
		small[i] = uint8(in.bits(4))
	}
	if err := z.pre.build(small[:]); err != nil {
		return err
	}
	for i := 0; i < len(lengths); {
		code, err := z.pre.decode(in)
		if err != nil {
			return err
		}
		run, value := 1, uint8(0)
		switch code {
		case 17:
			run = 4 + int(in.bits(4))
		case 18:
			run = 20 + int(in.bits(5))
		case 19:
			run = 4 + int(in.bits(1))
			if code, err = z.pre.decode(in); err != nil {
				return err
			}
			if code > 16 {
				return fmt.Errorf("LZX: a run of code %d in a tree", code)
			}
			value = (lengths[i] + 17 - uint8(code)) % 17
		default:
			value = (lengths[i] + 17 - uint8(code)) % 17
		}
		if run > len(lengths)-i {
			return errors.New("LZX: a run beyond the end of a tree")
		}
		for ; run > 0; run-- {
			lengths[i] = value
			i++
		}
	}
	return nil
}

// raw copies n bytes that are not packed.
func (z *lzx) raw(in *bitReader, n uint32) error {
	if !in.copy(z.window[z.at : z.at+n]) {
		return errLZXEnd
	}
	z.at += n
	return nil
}

// matches decodes literals and matches that make exactly n bytes.
func (z *lzx) matches(in *bitReader, n uint32) error {
	end := z.at + n
	for z.at < end {
		symbol, err := z.main.decode(in)
		if err != nil {
			return err
		}
		if symbol < literals {
			z.window[z.at] = byte(symbol)
			z.at++
			continue
		}
		length, offset, err := z.match(in, symbol-literals)
		if err != nil {
			return err
		}
		if length > end-z.at {
			return errors.New("LZX: a match beyond the end of its block or frame")
		}
		// Frames are aligned in the window.
		if uint64(offset) > z.total+uint64(z.at&(frameSize-1)) || offset > z.mask+1 || offset == 0 {
			return fmt.Errorf("LZX: a match at distance %#x before the start", offset)
		}
		from := z.at - offset
		for range length {
			z.window[z.at] = z.window[from&z.mask]
			z.at++
			from++
		}
	}
	return nil
}

// match decodes the length and the offset of a match.
func (z *lzx) match(in *bitReader, symbol uint32) (length, offset uint32, err error) {
	length = symbol & 7
	if length == shortLengths {
		more, err := z.lengths.decode(in)
		if err != nil {
			return 0, 0, err
		}
		length += more
	}
	length += minMatch
	slot := symbol >> 3
	if slot < 3 { // one of the last three offsets
		offset = z.recent[slot]
		z.recent[slot], z.recent[0] = z.recent[0], offset
		return length, offset, nil
	}
	bits := uint(slotBits[slot])
	offset = slotBase[slot] - 2
	if z.kind == blockAligned && bits >= 3 {
		offset += in.bits(bits-3) << 3
		low, err := z.aligned.decode(in)
		if err != nil {
			return 0, 0, err
		}
		offset += low
	} else {
		offset += in.bits(bits)
	}
	if in.over() {
		return 0, 0, errLZXEnd
	}
	z.recent = [3]uint32{offset, z.recent[0], z.recent[1]}
	return length, offset, nil
}

// translateCalls undoes what made x86 code pack better: the relative targets of
// call instructions were made absolute, as if the frame stood at an offset in a
// file of that size.
func translateCalls(frame []byte, at, size int32) {
	for i := 0; i < len(frame)-10; i++ {
		if frame[i] != 0xe8 {
			continue
		}
		target := int32(binary.LittleEndian.Uint32(frame[i+1:]))
		here := at + int32(i)
		if target >= -here && target < size {
			if target >= 0 {
				target -= here
			} else {
				target += size
			}
			binary.LittleEndian.PutUint32(frame[i+1:], uint32(target))
		}
		i += 4
	}
}
