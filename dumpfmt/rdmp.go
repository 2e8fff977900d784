package dumpfmt

import (
	"encoding/binary"
	"fmt"
	"io"
)

// Layout of the RDMP header behind the dump header, as recent WinDbg writes it
// for .dump /k, /ka and /f (kdmp-parser-rs src/structs.rs and src/parse.rs, the
// only public source): Marker 0x40, "RDMP", "DUMP"; MetadataSize; the file
// offset of the first page; for type 10 the number of ranges and of pages; then
// ranges of {page frame number, count}, the end marked by page frame 0.
const (
	offRdmpMarker = 0x00
	offRdmpSig    = 0x04
	offRdmpMeta   = 0x10
	offRdmpFirst  = 0x18
	offRdmpPages  = 0x28
	rdmpSize      = 0x30
	rangeSize     = 0x10
	rdmpMarker    = 0x40
	// Metadata is counted from here: FirstPageOffset - 0x2040 is
	// MetadataSize - 0x20.
	rdmpMetaStart = dataOffset + 0x20
	// maxRanges bounds what is kept of the ranges.
	maxRanges = 1 << 21
)

const typeComplete = 10

const unverifiedRdmp = "RDMP dumps (types 8, 9 and 10) are known from one public reader; no document describes them"

// openRdmp opens dumps of types 8, 9 and 10.
func openRdmp(o *opener) error {
	r, err := readRecord(o.f, "RDMP header", dataOffset, rdmpSize)
	if err != nil {
		return err
	}
	o.d.Unverified = unverifiedRdmp
	meta, first := r.u64(offRdmpMeta), r.u64(offRdmpFirst)
	switch {
	case string(r.data[offRdmpSig:offRdmpSig+8]) != "RDMPDUMP":
		return r.bad("signature", offRdmpSig, "%q instead of RDMPDUMP", r.data[offRdmpSig:offRdmpSig+8])
	case r.u32(offRdmpMarker) != rdmpMarker:
		return r.bad("marker", offRdmpMarker, "%#x instead of %#x", r.u32(offRdmpMarker), rdmpMarker)
	case first < dataOffset+rdmpSize || first > uint64(o.size):
		return r.bad("first page", offRdmpFirst, "file offset %#x is not between %#x and the end of the file, %#x%s",
			first, dataOffset+rdmpSize, o.size, o.meant())
	case meta != first-rdmpMetaStart:
		return r.bad("metadata size", offRdmpMeta, "%#x bytes do not end at the first page, %#x", meta, first)
	}
	limit := uint64(maxPFN)
	if o.d.Type == typeComplete {
		limit = r.u64(offRdmpPages)
	}
	given, expected, err := readRanges(o, int64(first), limit)
	if err != nil {
		return err
	}
	if o.d.Type == typeComplete && expected != limit {
		o.d.warn("RDMP header: page count at file offset %#x: %d pages promised, the ranges have %d", r.at+offRdmpPages, limit, expected)
	}
	return o.setSpans(int64(first), given, expected, func(i int, err error) error {
		return &FormatError{What: fmt.Sprintf("RDMP range of pages %#x", given[i].pfn), Offset: dataOffset + rdmpSize, Err: err}
	})
}

// readRanges reads the ranges up to the first page or limit pages. A range that
// is none ends the list with a warning, as no later page can be placed.
func readRanges(o *opener, first int64, limit uint64) (given []span, index uint64, err error) {
	table := io.NewSectionReader(o.f, dataOffset+rdmpSize, first-dataOffset-rdmpSize)
	chunk := make([]byte, min(blockSize, table.Size()/rangeSize*rangeSize))
	given = make([]span, 0, min(table.Size()/rangeSize, maxRanges)) // growing takes several times as much
	for at := int64(0); index < limit && at+rangeSize <= table.Size(); at += int64(len(chunk)) {
		chunk = chunk[:min(int64(len(chunk)), (table.Size()-at)/rangeSize*rangeSize)]
		if err := readFull(table, chunk, at); err != nil {
			return nil, 0, &FormatError{What: "RDMP ranges", Offset: dataOffset + rdmpSize + at, Err: err}
		}
		for i := 0; i < len(chunk) && index < limit; i += rangeSize {
			pfn, pages := binary.LittleEndian.Uint64(chunk[i:]), binary.LittleEndian.Uint64(chunk[i+8:])
			switch where := dataOffset + rdmpSize + at + int64(i); {
			case pfn == 0:
				return given, index, ranges(given)
			case pages == 0:
				continue
			case pages > maxPFN || pfn > maxPFN-pages || index > maxPFN-pages:
				o.d.warn("RDMP range at file offset %#x: %#x pages from page %#x are no physical memory: using the %d ranges before it",
					where, pages, pfn, len(given))
				return given, index, ranges(given)
			case len(given) == maxRanges:
				return nil, 0, &FormatError{What: "RDMP ranges", Offset: where, Err: fmt.Errorf("more than %d ranges", maxRanges)}
			}
			if k := len(given); k > 0 && given[k-1].joins(span{pfn: pfn, index: index}) {
				given[k-1].pages += pages
			} else {
				given = append(given, span{pfn, pages, index})
			}
			index += pages
		}
	}
	return given, index, ranges(given)
}

// ranges refuses an empty list.
func ranges(given []span) error {
	if len(given) == 0 {
		return &FormatError{What: "RDMP ranges", Offset: dataOffset + rdmpSize, Err: fmt.Errorf("no range of pages")}
	}
	return nil
}
