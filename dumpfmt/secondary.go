package dumpfmt

import (
	"fmt"
	"slices"
)

// Layout of secondary data, which drivers' bug check callbacks add behind the
// primary data (checked byte by byte on two real triage dumps): a header
// "DumpBlob", its own size, the build; then entries of {own size, tag GUID, data
// size, padding before the data, padding behind it} and the data.
const (
	blobHeaderSize = 0x10
	offBlobSize    = 0x08

	blobEntrySize = 0x20
	offBlobTag    = 0x04
	offBlobData   = 0x14
	offBlobPre    = 0x18
	offBlobPost   = 0x1c

	maxBlobEntries = 4096
	// maxBlobData bounds one stream; real ones have at most a few megabytes.
	maxBlobData = 256 << 20
)

// secondary looks for secondary data at the end of the primary data, and at the
// next sector and page boundary. Nothing there is no oddity.
func (o *opener) secondary() {
	if o.end <= 0 {
		return
	}
	tried := make([]int64, 0, 4)
	for _, align := range []int64{1, 8, 512, pageSize} {
		at := (o.end + align - 1) / align * align
		if at+blobHeaderSize > o.size || slices.Contains(tried, at) {
			continue
		}
		tried = append(tried, at)
		h, err := readRecord(o.f, "DUMP_BLOB_FILE_HEADER", at, blobHeaderSize)
		if err != nil || string(h.data[:8]) != "DumpBlob" {
			continue
		}
		size := h.u32(offBlobSize)
		if size < blobHeaderSize || int64(size) > o.size-at {
			o.d.warn("%v", h.bad("header size", offBlobSize, "%#x bytes", size))
			return
		}
		o.blobs(at + int64(size))
		return
	}
}

// blobs walks the entries from one file offset to the end of the file.
func (o *opener) blobs(at int64) {
	for n := 0; o.size-at >= blobEntrySize; n++ {
		if n == maxBlobEntries {
			o.d.warn("secondary data at file offset %#x: more than %d entries: the rest is left out", at, maxBlobEntries)
			return
		}
		e, err := readRecord(o.f, "DUMP_BLOB_HEADER", at, blobEntrySize)
		if err != nil {
			o.d.warn("%v", err)
			return
		}
		head, size := e.u32(0), e.u32(offBlobData)
		if head < blobEntrySize || head == filler32 {
			o.d.warn("%v", e.bad("header size", 0, "%#x bytes, at least %#x needed", head, blobEntrySize))
			return
		}
		start := at + int64(head) + int64(e.u32(offBlobPre))
		next := start + int64(size) + int64(e.u32(offBlobPost))
		if start+int64(size) > o.size {
			o.d.warn("%v", e.bad("data size", offBlobData, "%#x bytes at %#x reach past the end of the file, %#x", size, start, o.size))
			return
		}
		s := Secondary{Size: size, Data: o.blobData(start, size)}
		copy(s.Tag[:], e.data[offBlobTag:])
		if size != 0 || s.Tag != [16]byte{} { // entries without tag and data occur: padding
			o.d.Secondary = append(o.d.Secondary, s)
		}
		at = next
	}
}

// blobData makes the function that reads a stream.
func (o *opener) blobData(at int64, size uint32) func() ([]byte, error) {
	f := o.f
	return func() ([]byte, error) {
		if size > maxBlobData {
			return nil, &FormatError{What: "secondary data", Offset: at, Err: fmt.Errorf("%#x bytes, more than %#x", size, maxBlobData)}
		}
		p := make([]byte, size)
		if err := readFull(f, p, at); err != nil {
			return nil, &FormatError{What: "secondary data", Offset: at, Err: err}
		}
		return p, nil
	}
}
