package dumpfmt

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
)

// Writers fill what they leave unused with the repeating ASCII text PAGE, so
// these values mean "absent" in every optional field.
const (
	filler32 = 0x45474150
	filler64 = 0x4547415045474150
)

// record is a fixed structure of the file, read whole. Offsets into it are
// constants of the layout and lie inside by construction.
type record struct {
	what string // name of the structure: "DUMP_HEADER64"
	at   int64  // file offset
	data []byte
}

// readRecord reads n bytes at a file offset; n is a constant of the layout.
func readRecord(f File, what string, at int64, n int) (record, error) {
	r := record{what: what, at: at, data: make([]byte, n)}
	if err := readFull(f, r.data, at); err != nil {
		return record{}, &FormatError{What: what, Offset: at, Err: err}
	}
	return r, nil
}

// readFull reads len(p) bytes; less than that is an error that says how much.
func readFull(f io.ReaderAt, p []byte, at int64) error {
	n, err := f.ReadAt(p, at)
	switch {
	case n == len(p):
		return nil
	case err == nil || errors.Is(err, io.EOF):
		return fmt.Errorf("%d bytes needed, the file holds %d: %w", len(p), n, io.ErrUnexpectedEOF)
	}
	return err
}

func (r record) u16(off int) uint16 { return binary.LittleEndian.Uint16(r.data[off:]) }
func (r record) u32(off int) uint32 { return binary.LittleEndian.Uint32(r.data[off:]) }
func (r record) u64(off int) uint64 { return binary.LittleEndian.Uint64(r.data[off:]) }

// opt32 is an optional field: 0 where the writer left it filled.
func (r record) opt32(off int) uint32 {
	if v := r.u32(off); v != filler32 {
		return v
	}
	return 0
}

// opt64 is an optional field: 0 where the writer left it filled.
func (r record) opt64(off int) uint64 {
	if v := r.u64(off); v != filler64 {
		return v
	}
	return 0
}

// bad makes the error for a field of the record.
func (r record) bad(field string, off int, format string, args ...any) error {
	return &FormatError{What: r.what + ": " + field, Offset: r.at + int64(off), Err: fmt.Errorf(format, args...)}
}
