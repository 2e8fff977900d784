package dumpfmt

import (
	"encoding/binary"
	"fmt"
	"io"
	"math/bits"

	"gokd/model/mem"
)

const (
	// A superblock is the piece of a bitmap that one entry of the index stands
	// for: 4096 pages in 512 bytes.
	superBytes = 512
	superBits  = superBytes * 8
	superShift = 12
	// maxBitmapBits bounds what is scanned while opening: 64 TiB of memory.
	maxBitmapBits = 1 << 34
	// keepBitmap is the size up to which a bitmap is copied, so that looking
	// into it cannot fail: enough for 512 GiB of memory.
	keepBitmap = 16 << 20
)

// bitmapHeader is what the header before a page bitmap says.
type bitmapHeader struct {
	record
	first                        int64  // file offset of the first page
	pages                        uint64 // set bits
	bits                         uint64 // pages that the bitmap stands for
	start                        int64  // file offset of the bitmap
	offFirst, offPages, offCount int    // of the three fields in the record
}

// bitmap is the layout of a file that holds the pages whose bit is set, in
// ascending order. The index costs eight bytes for every 16 MiB of memory, so a
// page is found with one look at 512 bytes of the bitmap; a bitmap that is kept
// in memory has an index of its words too, and a page costs one look at a word.
type bitmap struct {
	first   int64
	bits    uint64
	present uint64      // pages that the file holds; later ones are cut off
	sums    []uint64    // set bits before each superblock, and in all
	data    []byte      // the bitmap, where it is small enough
	ranks   []uint16    // then: set bits before each word, in its superblock
	cache   *blockCache // else the way to it
	tail    []byte      // the last superblock, without bits past the end
}

var _ layout = (*bitmap)(nil)

// newBitmap counts the bits. It reads the bitmap once, 2 MiB for a machine with
// 64 GiB, and never a page.
func newBitmap(f File, start int64, count uint64) (*bitmap, error) {
	b := &bitmap{bits: count}
	size := int64((count + 7) / 8)
	src := io.NewSectionReader(f, start, size)
	if size <= keepBitmap {
		b.data = make([]byte, 0, (size+superBytes-1)/superBytes*superBytes)
		b.ranks = make([]uint16, 0, cap(b.data)/8)
	} else {
		b.cache = newBlockCache(src, size, 64)
	}
	blocks := (count + superBits - 1) >> superShift
	b.sums = make([]uint64, 1, blocks+1)
	chunk := make([]byte, min(blockSize, blocks*superBytes))
	for at := int64(0); at < size; at += int64(len(chunk)) {
		n := min(int64(len(chunk)), size-at)
		if err := readFull(src, chunk[:n], at); err != nil {
			return nil, err
		}
		b.count(chunk, int(n), at+n == size)
	}
	return b, nil
}

// count adds n bytes of the bitmap to the index. It may write into chunk.
func (b *bitmap) count(chunk []byte, n int, last bool) {
	if last && b.bits%8 != 0 {
		chunk[n-1] &= 1<<(b.bits%8) - 1
	}
	for n%superBytes != 0 { // the last superblock is padded with zeros
		chunk[n] = 0
		n++
	}
	for s := 0; s < n; s += superBytes {
		sum := b.sums[len(b.sums)-1]
		for w := s; w < s+superBytes; w += 8 {
			if b.cache == nil {
				b.ranks = append(b.ranks, uint16(sum-b.sums[len(b.sums)-1]))
			}
			sum += uint64(bits.OnesCount64(binary.LittleEndian.Uint64(chunk[w:])))
		}
		b.sums = append(b.sums, sum)
	}
	if b.cache == nil {
		b.data = append(b.data, chunk[:n]...)
	} else if last {
		b.tail = append(b.tail, chunk[n-superBytes:n]...)
	}
}

// total is the number of set bits.
func (b *bitmap) total() uint64 { return b.sums[len(b.sums)-1] }

// super gives the 512 bytes of a superblock.
func (b *bitmap) super(i uint64) ([]byte, error) {
	at := i * superBytes
	switch {
	case b.cache == nil:
		return b.data[at : at+superBytes], nil
	case i+2 == uint64(len(b.sums)):
		return b.tail, nil
	}
	block, err := b.cache.block(int64(at / blockSize))
	if err != nil {
		return nil, err
	}
	in := at % blockSize
	if in+superBytes > uint64(len(block)) {
		return nil, io.ErrUnexpectedEOF
	}
	return block[in : in+superBytes], nil
}

func (b *bitmap) find(pa mem.PA, want uint64) (int64, uint64, error) {
	pfn, in := uint64(pa)>>pageShift, uint64(pa)%pageSize
	if pfn >= b.bits {
		return 0, 0, nil
	}
	i, bit := pfn>>superShift, pfn%superBits
	s, err := b.super(i)
	if err != nil {
		return 0, 0, fmt.Errorf("page bitmap: %w", err)
	}
	word := binary.LittleEndian.Uint64(s[bit/64*8:])
	if word>>(bit%64)&1 == 0 {
		return 0, 0, nil
	}
	rank := b.sums[i] + uint64(bits.OnesCount64(word&(1<<(bit%64)-1)))
	if b.cache == nil {
		rank += uint64(b.ranks[pfn/64])
	} else {
		for w := uint64(0); w < bit/64*8; w += 8 {
			rank += uint64(bits.OnesCount64(binary.LittleEndian.Uint64(s[w:])))
		}
	}
	if rank >= b.present {
		return 0, 0, nil
	}
	need := (in + want + pageSize - 1) >> pageShift
	pages := uint64(1)
	if need > 1 {
		pages = min(b.streak(i, bit, s, need), b.present-rank)
	}
	return b.first + int64(rank<<pageShift+in), min(want, pages<<pageShift-in), nil
}

// streak counts set bits from one on, up to need of them. A superblock that
// cannot be read ends it: the next read says why.
func (b *bitmap) streak(i, bit uint64, s []byte, need uint64) (n uint64) {
	for {
		for bit < superBits {
			word := binary.LittleEndian.Uint64(s[bit/64*8:]) >> (bit % 64)
			ones := uint64(bits.TrailingZeros64(^word))
			n += ones
			if n >= need || ones < 64-bit%64 {
				return min(n, need)
			}
			bit += ones
		}
		i, bit = i+1, 0
		if i+1 >= uint64(len(b.sums)) {
			return n
		}
		var err error
		if s, err = b.super(i); err != nil {
			return n
		}
	}
}

// runs yields the streaks of set bits, at least one per superblock; superblocks
// without a page cost nothing.
func (b *bitmap) runs(yield func(mem.Run) bool) {
	for i := range uint64(len(b.sums) - 1) {
		if b.sums[i] == b.sums[i+1] {
			continue
		}
		s, err := b.super(i)
		if err != nil {
			continue // the pages cannot be read either, and reading says why
		}
		left := min(b.sums[i+1], b.present) - min(b.sums[i], b.present)
		for bit := uint64(0); left > 0 && bit < superBits; {
			word := binary.LittleEndian.Uint64(s[bit/64*8:]) >> (bit % 64)
			if word == 0 {
				bit = bit/64*64 + 64
				continue
			}
			bit += uint64(bits.TrailingZeros64(word))
			n := min(inSuper(s, bit), left)
			if !yield(mem.Run{Base: mem.PA((i<<superShift + bit) << pageShift), Size: n << pageShift}) {
				return
			}
			bit, left = bit+n, left-n
		}
	}
}

// inSuper counts set bits from one on, within its superblock.
func inSuper(s []byte, bit uint64) (n uint64) {
	for bit < superBits {
		word := binary.LittleEndian.Uint64(s[bit/64*8:]) >> (bit % 64)
		ones := uint64(bits.TrailingZeros64(^word))
		n, bit = n+ones, bit+ones
		if bit%64 != 0 || ones == 0 {
			break
		}
	}
	return n
}

// load reads the bitmap that a header describes. A size that cannot be true is
// an error, unless the bits up to the first page are exactly as many as the
// header promises pages: then the size alone lies, and is corrected.
func (h *bitmapHeader) load(o *opener) (*bitmap, error) {
	switch {
	case h.first <= h.start:
		return nil, h.bad("first page", h.offFirst, "file offset %#x lies inside the header", uint64(h.first))
	case h.first > o.size:
		return nil, h.bad("first page", h.offFirst, "file offset %#x lies behind the end of the file, %#x%s",
			uint64(h.first), o.size, o.meant())
	case h.bits == 0:
		return nil, h.bad("bitmap size", h.offCount, "the bitmap is empty")
	}
	room := uint64(h.first - h.start)
	count, lies := h.bits, h.bits > maxBitmapBits || (h.bits+7)/8 > room
	if lies {
		if room > keepBitmap {
			return nil, h.tooBig(room)
		}
		count = room * 8
	}
	b, err := newBitmap(o.f, h.start, count)
	switch {
	case err != nil:
		return nil, &FormatError{What: h.what + ": bitmap", Offset: h.start, Err: err}
	case lies && b.total() != h.pages:
		return nil, h.tooBig(room)
	case b.total() == 0:
		return nil, &FormatError{What: h.what + ": bitmap", Offset: h.start, Err: fmt.Errorf("it marks no page")}
	}
	b.first = h.first
	return b, nil
}

func (h *bitmapHeader) tooBig(room uint64) error {
	return h.bad("bitmap size", h.offCount, "%#x pages need %#x bytes, the header has room for %#x",
		h.bits, h.bits/8+min(h.bits%8, 1), room)
}

// use makes a bitmap the dump's physical memory.
func (h *bitmapHeader) use(o *opener, b *bitmap) error {
	if b.bits != h.bits {
		o.d.warn("%s: bitmap size at file offset %#x: %#x pages cannot be, the bits before the first page are the %d promised: using these",
			h.what, h.at+int64(h.offCount), h.bits, h.pages)
	}
	if b.total() != h.pages {
		o.d.warn("%s: page count at file offset %#x: %d pages promised, the bitmap marks %d: pages may be taken for others",
			h.what, h.at+int64(h.offPages), h.pages, b.total())
	}
	present, err := o.present(h.first, b.total())
	if err != nil {
		return err
	}
	b.present = present
	o.d.Physical = &physical{o.f, b}
	return nil
}

// Layout of the bitmap header of Windows 8 and later behind the dump header
// (kdmp-parser-rs src/structs.rs, volatility3 crash_common.json, LeechCore
// device_file.c): HeaderSize, the offset of the first page, which need not be
// page-aligned (0xa038 is known); Pages; BitmapSize in bits; then the bits.
const (
	offBmpFirst = 0x20
	offBmpPages = 0x28
	offBmpBits  = 0x30
	bmpSize     = 0x38
)

// openBitmap opens dumps of types 5, 6 and 7. Should the newer header make no
// sense, the older one of openSummary is tried.
func openBitmap(o *opener) error {
	h, err := readBitmapHeader(o)
	if err != nil {
		return err
	}
	b, err := h.load(o)
	if err == nil {
		return h.use(o, b)
	}
	if old, bits := findSummary(o); old != nil {
		o.d.warn("%v: using the older summary header", err)
		o.d.Unverified = unverifiedSummary
		return old.use(o, bits)
	}
	return err
}

func readBitmapHeader(o *opener) (*bitmapHeader, error) {
	r, err := readRecord(o.f, "DUMP_BITMAP_HEADER", dataOffset, bmpSize)
	if err != nil {
		return nil, err
	}
	switch sig := string(r.data[:8]); sig {
	case "SDMPDUMP", "FDMPDUMP":
	default:
		return nil, r.bad("signature", 0, "%q instead of SDMPDUMP or FDMPDUMP", sig)
	}
	return &bitmapHeader{
		record: r,
		first:  int64(r.u64(offBmpFirst)), pages: r.u64(offBmpPages), bits: r.u64(offBmpBits),
		start: dataOffset + bmpSize, offFirst: offBmpFirst, offPages: offBmpPages, offCount: offBmpBits,
	}, nil
}
