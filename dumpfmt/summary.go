package dumpfmt

import "fmt"

// Layout of SUMMARY_DUMP64 (Windows SDK mindumpdef.h): DumpOptions u32 at 8
// (1 kernel pages, 2 user pages too), HeaderSize u32, BitmapSize u32 in bits,
// Pages u32; then an RTL_BITMAP whose 64-bit form has a padded size and a
// pointer without meaning, and the bits.
const (
	offSumFirst = 0x0c
	offSumBits  = 0x10
	offSumPages = 0x14
	sumSize     = 0x28
	sumSize32   = 0x20 // as a 32-bit writer lays it out
)

const unverifiedSummary = "the header of 64-bit summary dumps (type 2) is known from published declarations only; " +
	"the bitmap has as many pages as the header says"

// openSummary opens the kernel dumps of Windows 7 and before, type 2. Three
// layouts are tried, the published one first; the one whose bitmap has exactly
// the promised number of pages is taken, and none else.
func openSummary(o *opener) error {
	if h, b := findSummary(o); h != nil {
		o.d.Unverified = unverifiedSummary
		return h.use(o, b)
	}
	if h, err := readBitmapHeader(o); err == nil {
		if b, err := h.load(o); err == nil && b.total() == h.pages {
			o.d.warn("DUMP_HEADER64: dump type at file offset %#x: 2, but the bitmap header is that of Windows 8 and later", offDumpType)
			return h.use(o, b)
		}
	}
	h, err := readSummary(o, sumSize)
	if err != nil {
		return err
	}
	b, err := h.load(o)
	if err != nil {
		return err
	}
	return h.bad("page count", offSumPages, "%d pages promised, the bitmap marks %d", h.pages, b.total())
}

// findSummary finds the older header, if its page count bears it out.
func findSummary(o *opener) (*bitmapHeader, *bitmap) {
	for _, start := range []int{sumSize, sumSize32} {
		h, err := readSummary(o, start)
		if err != nil || h.first%pageSize != 0 || h.pages == 0 {
			continue
		}
		if b, err := h.load(o); err == nil && b.total() == h.pages {
			return h, b
		}
	}
	return nil, nil
}

func readSummary(o *opener, start int) (*bitmapHeader, error) {
	r, err := readRecord(o.f, "SUMMARY_DUMP64", dataOffset, sumSize)
	if err != nil {
		return nil, err
	}
	if sig := string(r.data[:8]); sig != "SDMPDUMP" && sig != "FDMPDUMP" {
		return nil, &FormatError{What: r.what + ": signature", Offset: r.at, Err: fmt.Errorf("%q instead of SDMPDUMP", sig)}
	}
	return &bitmapHeader{
		record: r,
		first:  int64(r.u32(offSumFirst)), pages: uint64(r.u32(offSumPages)), bits: uint64(r.u32(offSumBits)),
		start: dataOffset + int64(start), offFirst: offSumFirst, offPages: offSumPages, offCount: offSumBits,
	}, nil
}
