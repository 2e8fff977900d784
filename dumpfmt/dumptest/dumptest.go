// Package dumptest builds the bytes of dump files for tests. It describes every
// container anew, from the public descriptions, and shares no structure,
// constant or offset with the readers: a mistake would have to be made twice.
package dumptest

import (
	"encoding/binary"
	"slices"
	"unicode/utf16"
)

// Page is the size of a page in bytes.
const Page = 4096

// HeaderSize is where the data of a 64-bit dump starts.
const HeaderSize = 8192

// Image is bytes under construction.
type Image []byte

// Put writes a value at an offset: uint16, uint32, uint64, string or []byte.
func (m Image) Put(at int, v any) {
	switch v := v.(type) {
	case uint16:
		binary.LittleEndian.PutUint16(m[at:], v)
	case uint32:
		binary.LittleEndian.PutUint32(m[at:], v)
	case uint64:
		binary.LittleEndian.PutUint64(m[at:], v)
	case string:
		copy(m[at:], v)
	case []byte:
		copy(m[at:], v)
	default:
		panic("dumptest: no such value")
	}
}

// Filled makes an image full of the text PAGE.
func Filled(n int) Image {
	m := make(Image, n)
	for i := range m {
		m[i] = "PAGE"[i%4]
	}
	return m
}

// Facts that every header made by Header states.
const (
	Build      = 7601
	DTB        = 0x187000
	Modules    = 0xfffff8000243fc90
	Processes  = 0xfffff80002421940
	DebugBlock = 0xfffff800023e8130
	Pfn        = 0xfffff800024a1234
	SystemTime = 129910738734115093
	UpTime     = 4306769660000
	RspValue   = 0xfffff88003b2a5c8
)

// Header makes a 64-bit header of a dump type, with a CONTEXT, an exception and
// a comment, and without a list of physical memory.
func Header(dumpType uint32) Image {
	m := Filled(HeaderSize)
	m.Put(0, "PAGEDU64")
	m.Put(8, uint32(15))
	m.Put(12, uint32(Build))
	m.Put(16, uint64(DTB))
	m.Put(24, uint64(Pfn))
	m.Put(32, uint64(Modules))
	m.Put(40, uint64(Processes))
	m.Put(48, uint32(0x8664))
	m.Put(52, uint32(4))
	m.Put(56, uint32(0xe2))
	for i := range 4 {
		m.Put(64+8*i, uint64(0x11*(i+1)))
	}
	m.Put(128, uint64(DebugBlock))
	m.Put(840, make([]byte, 1232)) // CONTEXT: flags at 48, Rsp at 152
	m.Put(840+48, uint32(0x10001f))
	m.Put(840+152, uint64(RspValue))
	m.Put(3840, make([]byte, 152)) // EXCEPTION_RECORD64
	m.Put(3840, uint32(0x80000003))
	m.Put(3992, dumpType)
	m.Put(4008, uint64(SystemTime))
	m.Put(4016, "made for a test\x00")
	m.Put(4144, uint64(UpTime))
	m.Put(4160, uint32(3))
	m.Put(4164, uint32(0x110))
	m.Put(4176, uint32(0))
	return m
}

// PageOf gives a page whose every 16 bytes tell its page frame number and the
// place inside.
func PageOf(pfn uint64) []byte {
	p := make(Image, Page)
	for i := 0; i < Page; i += 16 {
		p.Put(i, pfn^0xabcd000000000000)
		p.Put(i+8, uint64(i)|pfn<<16)
	}
	return p
}

// Run is consecutive pages.
type Run struct{ PFN, Pages uint64 }

func pagesOf(runs []Run) []byte {
	var out []byte
	for _, r := range runs {
		for i := range r.Pages {
			out = append(out, PageOf(r.PFN+i)...)
		}
	}
	return out
}

// Full makes a full dump, type 1.
func Full(runs ...Run) Image {
	m := Header(1)
	total := uint64(0)
	for i, r := range runs {
		m.Put(152+16*i, r.PFN)
		m.Put(160+16*i, r.Pages)
		total += r.Pages
	}
	m.Put(136, uint64(len(runs)))
	m.Put(144, total)
	m = append(m, pagesOf(runs)...)
	m.Put(4000, uint64(len(m)))
	return m
}

// bits makes a bitmap of page frame numbers, and their number.
func bits(runs []Run, count uint64) (bitmap []byte, set uint64) {
	bitmap = make([]byte, (count+7)/8)
	for _, r := range runs {
		for i := range r.Pages {
			bitmap[(r.PFN+i)/8] |= 1 << ((r.PFN + i) % 8)
		}
		set += r.Pages
	}
	return bitmap, set
}

// BitmapHeader makes all of a bitmap dump of Windows 8 and later before its
// first page, which lies at the next multiple of align.
func BitmapHeader(dumpType uint32, count uint64, align int, runs ...Run) Image {
	bitmap, set := bits(runs, count)
	m := Header(dumpType)
	sub := make(Image, 56)
	sub.Put(0, "SDMPDUMP")
	if dumpType == 5 {
		sub.Put(0, "FDMPDUMP")
	}
	first := (HeaderSize + len(sub) + len(bitmap) + align - 1) / align * align
	sub.Put(32, uint64(first))
	sub.Put(40, set)
	sub.Put(48, count)
	m = append(append(m, sub...), bitmap...)
	m = append(m, make([]byte, first-len(m))...)
	m.Put(4000, uint64(first)+set*Page)
	return m
}

// Bitmap makes a bitmap dump: type 5, 6 or 7. The runs ascend.
func Bitmap(dumpType uint32, count uint64, align int, runs ...Run) Image {
	return append(BitmapHeader(dumpType, count, align, runs...), pagesOf(runs)...)
}

// Summary makes a kernel dump with the older header, type 2; the bitmap starts
// 40 bytes into it on 64-bit Windows.
func Summary(count uint64, bitmapAt int, runs ...Run) Image {
	bitmap, set := bits(runs, count)
	sub := make(Image, bitmapAt)
	sub.Put(0, "SDMPDUMP")
	sub.Put(8, uint32(1))
	first := (HeaderSize + len(sub) + len(bitmap) + Page - 1) / Page * Page
	sub.Put(12, uint32(first))
	sub.Put(16, uint32(count))
	sub.Put(20, uint32(set))
	sub.Put(24, uint32(count))
	m := append(append(Header(2), sub...), bitmap...)
	m = append(m, make([]byte, first-len(m))...)
	return append(m, pagesOf(runs)...)
}

// Ranges makes a dump as recent WinDbg writes it: type 8, 9 or 10. Runs come in
// file order; room is for how many entries the table has, at least one more
// than runs.
func Ranges(dumpType uint32, room int, runs ...Run) Image {
	sub := make(Image, 48+16*room)
	sub.Put(0, uint32(64))
	sub.Put(4, "RDMPDUMP")
	first := HeaderSize + len(sub)
	sub.Put(16, uint64(first-8256+32))
	sub.Put(24, uint64(first))
	total := uint64(0)
	for i, r := range runs {
		sub.Put(48+16*i, r.PFN)
		sub.Put(56+16*i, r.Pages)
		total += r.Pages
	}
	if dumpType == 10 {
		sub.Put(32, uint32(len(runs)))
		sub.Put(40, total)
	}
	return append(append(Header(dumpType), sub...), pagesOf(runs)...)
}

// Stream is one stream of secondary data.
type Stream struct {
	Tag       [16]byte
	Data      []byte
	Pre, Post uint32
}

// Blob makes the secondary data that follows the primary data.
func Blob(streams ...Stream) []byte {
	m := make(Image, 16)
	m.Put(0, "DumpBlob")
	m.Put(8, uint32(16))
	m.Put(12, uint32(0xf0001db1))
	for _, s := range streams {
		e := make(Image, 32)
		e.Put(0, uint32(32))
		e.Put(4, s.Tag[:])
		e.Put(20, uint32(len(s.Data)))
		e.Put(24, s.Pre)
		e.Put(28, s.Post)
		m = append(m, e...)
		m = append(m, make([]byte, s.Pre)...)
		m = append(m, s.Data...)
		m = append(m, make([]byte, s.Post)...)
	}
	return m
}

// Units encodes text as UTF-16.
func Units(s string) []byte {
	var out []byte
	for _, u := range utf16.Encode([]rune(s)) {
		out = binary.LittleEndian.AppendUint16(out, u)
	}
	return out
}

// pad appends zeros up to a multiple of n.
func (m Image) pad(n int) Image {
	return append(m, make([]byte, (n-len(m)%n)%n)...)
}

// Clone copies an image, to damage it.
func (m Image) Clone() Image { return slices.Clone(m) }
