package pdb

import "fmt"

// windowSize is how much of a stream a scan holds: one record, of at most
// 0x10001 bytes, always fits.
const windowSize = 1 << 17

// records scans a stream of records, each a length, which does not count
// itself, a kind and data.
type records struct {
	s        *stream
	off, end uint32 // of the next record; of all of them
	window   []byte
	at       uint32 // offset in the stream of window[0]
	err      error  // why the scan ended early
}

// scan starts a scan of part of a stream.
func (s *stream) scan(off, end uint32) *records {
	return &records{s: s, off: off, end: min(end, s.size), at: off}
}

// record is a record in a scan.
type record struct {
	off  uint32 // in the stream, of the length
	kind uint16
	data []byte // valid until the next one is taken
}

// next takes the next record; false at the end and where a record is damaged,
// which err tells. No way leads on from a record without a sane length.
func (r *records) next() (record, bool) {
	if r.err != nil || r.off >= r.end {
		return record{}, false
	}
	head := r.need(4)
	if head == nil {
		return record{}, false
	}
	size := uint32(le16(head)) + 2
	if size < 4 {
		r.err = fmt.Errorf("record at %#x of stream %d: length %d", r.off, r.s.num, size-2)
		return record{}, false
	}
	whole := r.need(size)
	if whole == nil {
		return record{}, false
	}
	rec := record{off: r.off, kind: le16(whole[2:]), data: whole[4:]}
	r.off += size
	return rec, true
}

// need gives n bytes at the current place.
func (r *records) need(n uint32) []byte {
	if uint64(r.off)+uint64(n) > uint64(r.end) {
		r.err = fmt.Errorf("record at %#x of stream %d: %w", r.off, r.s.num, errShort)
		return nil
	}
	in := uint64(r.off - r.at)
	if in+uint64(n) > uint64(len(r.window)) {
		if r.window == nil {
			r.window = make([]byte, min(windowSize, r.end-r.off))
		}
		// What is left of the window is read again: at most one record.
		r.window = r.window[:min(uint32(cap(r.window)), r.end-r.off)]
		if r.err = r.s.readAt(r.window, r.off); r.err != nil {
			return nil
		}
		r.at, in = r.off, 0
	}
	return r.window[in : in+uint64(n) : in+uint64(n)]
}
