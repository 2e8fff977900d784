package dumpfmt

import (
	"encoding/binary"
	"unicode/utf16"

	"gokd/model/mem"
)

// Layout of the driver list: DUMP_DRIVER_ENTRY64 records of {file offset of the
// name, padding, loader entry}. The loader entry is the debugger's stable form
// (rizin dmp_specs.h), 0x88 bytes, with CheckSum at 0x78 and TimeDateStamp at
// 0x80; records of 0x98 and 0xa8 bytes also occur. An entry of 0xa0 bytes has
// the size of the kernel's own _KLDR_DATA_TABLE_ENTRY since 14393, where 0x80
// is the pointer CoverageSection and TimeDateStamp is at 0x9c (public symbols).
const (
	driverEntry       = 0x90
	offDrvName        = 0x00
	offDrvBase        = 0x38
	offDrvEntry       = 0x40
	offDrvSize        = 0x48
	offDrvCheckSum    = 0x80
	offDrvTime        = 0x88
	offDrvTimeKernel  = 0xa4
	driverEntryKernel = 0xa8

	maxDrivers     = 4096
	maxDriverEntry = 0x400
	maxName        = 1024 // UTF-16 units
)

// driverStrides are the sizes of known records, tried when the list's own
// arithmetic does not work out.
var driverStrides = []int64{driverEntry, 0x98, driverEntryKernel}

// drivers reads the list of loaded images. The record size is not stored: it
// follows from the count and the string pool, which begins where the list ends.
func (t *triage) drivers() {
	count := int64(t.t.opt32(offTriDriverCount))
	if count == 0 {
		return
	}
	at, ok := t.place("driver list", offTriDrivers)
	if !ok {
		return
	}
	end := int64(t.t.opt32(offTriStrings))
	if end <= at || end > t.size {
		end = t.size
	}
	stride := t.stride(at, end, count)
	if room := min((end-at)/stride, maxDrivers); count > room {
		t.d.warn("TRIAGE_DUMP64: driver count at file offset %#x: %d, there is room for %d", dataOffset+offTriDriverCount, count, room)
		count = room
	}
	nameless := 0
	for i := range count {
		r, err := readRecord(t.f, "DUMP_DRIVER_ENTRY64", at+i*stride, int(stride))
		if err != nil {
			t.d.warn("%v", err)
			break
		}
		d := Driver{
			Base: mem.VA(r.u64(offDrvBase)), Entry: mem.VA(r.u64(offDrvEntry)), Size: r.u32(offDrvSize),
			CheckSum: r.u32(offDrvCheckSum), Timestamp: driverTime(r),
		}
		if d.Name = t.name(int64(r.opt32(offDrvName))); d.Name == "" {
			nameless++
		}
		t.out.Drivers = append(t.out.Drivers, d)
	}
	if nameless > 0 {
		t.d.warn("TRIAGE_DUMP64: driver list at file offset %#x: %d of %d drivers have no readable name", at, nameless, count)
	}
}

// driverTime finds the image's time. A record as long as the kernel's own entry
// has it at that entry's place if the usual place holds a pointer or nothing.
func driverTime(r record) uint32 {
	if v := r.u64(offDrvTime); len(r.data) >= driverEntryKernel && (v == 0 || v>>47 == 0x1ffff) {
		return r.u32(offDrvTimeKernel)
	}
	return r.u32(offDrvTime)
}

// stride finds the record size: what the count makes of the space up to the
// strings, if the records then read as drivers, else the known size under which
// most of them do.
func (t *triage) stride(at, end, count int64) int64 {
	counted := (end - at) / count &^ 7 // records are aligned to 8
	best, most := int64(driverEntry), 0
	for _, s := range append([]int64{counted}, driverStrides...) {
		if s < driverEntry || s > maxDriverEntry {
			continue
		}
		good, all := t.plausible(at, end, count, s)
		if good == all && all > 0 {
			return s
		}
		if good > most {
			best, most = s, good
		}
	}
	return best
}

// plausible counts, among the first records of a given size, those that look
// like drivers: a page-aligned kernel base, a size, and a name inside the file.
func (t *triage) plausible(at, end, count, stride int64) (good, all int) {
	for i := range min(count, 16) {
		if at+(i+1)*stride > end {
			break
		}
		r, err := readRecord(t.f, "DUMP_DRIVER_ENTRY64", at+i*stride, driverEntry)
		if err != nil {
			break
		}
		all++
		base, name := r.u64(offDrvBase), int64(r.u32(offDrvName))
		if base>>47 == 0x1ffff && base%pageSize == 0 && r.u32(offDrvSize) != 0 && name >= dataOffset && name < t.size {
			good++
		}
	}
	return good, all
}

// name reads a DUMP_STRING: the length u32 in UTF-16 units, then the units. A
// length that is too long is cut, at the end of the file or at a NUL.
func (t *triage) name(at int64) string {
	if at < dataOffset || at > t.size-4 {
		return ""
	}
	head, err := readRecord(t.f, "DUMP_STRING", at, 4)
	if err != nil {
		return ""
	}
	n := min(int64(head.opt32(0)), maxName, (t.size-at-4)/2)
	p := make([]byte, 2*n)
	if readFull(t.f, p, at+4) != nil {
		return ""
	}
	return utf16Text(p)
}

// utf16Text decodes UTF-16 up to a NUL. Lone surrogates become U+FFFD.
func utf16Text(p []byte) string {
	units := make([]uint16, 0, len(p)/2)
	for ; len(p) >= 2; p = p[2:] {
		u := binary.LittleEndian.Uint16(p)
		if u == 0 {
			break
		}
		units = append(units, u)
	}
	return string(utf16.Decode(units))
}
