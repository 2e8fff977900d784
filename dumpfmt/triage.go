package dumpfmt

import (
	"encoding/binary"
	"fmt"
	"slices"

	"gokd/model/mem"
)

// Layout of TRIAGE_DUMP64 behind the dump header (Windows SDK mindumpdef.h;
// rizin librz/bin/format/dmp/dmp_specs.h; checked on real x64 and ARM64 dumps).
// All offsets in it are file offsets.
const (
	triageSize = 0x80

	offTriServicePack = 0x00
	offTriSize        = 0x04
	offTriValid       = 0x08
	offTriContext     = 0x0c
	offTriException   = 0x10
	offTriUnloaded    = 0x18
	offTriPrcb        = 0x1c
	offTriProcess     = 0x20
	offTriThread      = 0x24
	offTriStack       = 0x28
	offTriStackSize   = 0x2c
	offTriDrivers     = 0x30
	offTriDriverCount = 0x34
	offTriStrings     = 0x38
	offTriOptions     = 0x44
	offTriStackTop    = 0x48
	offTriPageVA      = 0x60
	offTriPage        = 0x68
	offTriPageSize    = 0x6c
	offTriDebug       = 0x70
	offTriDebugSize   = 0x74
	offTriBlocks      = 0x78
	offTriBlockCount  = 0x7c

	triageOverflowed = 0x100 // bit of TriageOptions, unless all are set
	triageBlockSize  = 0x10  // {address u64, file offset u32, size u32}
)

// Limits for what is copied out of a triage dump; real ones are far below.
const (
	maxTriageStack  = 16 << 20
	maxTriageDebug  = 64 << 10
	maxTriageObject = 256 << 10
	maxTriageBlocks = 1 << 18
	// claimLimit bounds how often the data blocks may use the file's bytes.
	// Writers store each block once; many blocks over the same bytes would make
	// a scan endless.
	claimLimit = 4
)

// Fields of KDDEBUGGER_DATA64 (WDBGEXTS.H): the tag KDBG, the block's size, and
// the sizes of the structures that a triage dump copies.
const (
	offKdbgTag     = 0x10
	offKdbgSize    = 0x14
	offKdbgProcess = 0x2a8
	offKdbgPrcb    = 0x2b0
	offKdbgThread  = 0x2c0
	kdbgSizesEnd   = 0x2c2
	kdbgTag        = "KDBG"
)

// triage is what its reader needs: every part is optional, and a bad one is a
// warning.
type triage struct {
	*opener
	t      record
	out    *Triage
	blocks *Blocks
}

// openTriage opens a triage ("small", "mini") dump, type 4.
func openTriage(o *opener) error {
	r, err := readRecord(o.f, "TRIAGE_DUMP64", dataOffset, triageSize)
	if err != nil {
		return err
	}
	t := &triage{opener: o, t: r, blocks: new(Blocks)}
	t.out = &Triage{ServicePack: r.opt32(offTriServicePack), StackTop: mem.VA(r.opt64(offTriStackTop)), Memory: t.blocks}
	o.d.Triage, o.d.Virtual = t.out, t.blocks
	if v := r.opt32(offTriOptions); v != 0xffffffff {
		t.out.Overflowed = v&triageOverflowed != 0
	}
	t.checkSize()
	t.headerRecords()
	t.debugData()
	t.stack()
	t.objects()
	t.dataPage()
	t.dataBlocks()
	t.drivers()
	t.unloaded()
	return nil
}

// checkSize compares the sizes that the writer noted with the file's. The last four
// bytes of the primary data are the mark TRGD, written when all else is.
func (t *triage) checkSize() {
	end, valid := int64(t.t.opt32(offTriSize)), int64(t.t.opt32(offTriValid))
	switch {
	case end == 0 && valid != 0:
		end = valid + 4
	case end == 0:
		t.d.warn("TRIAGE_DUMP64: size of dump at file offset %#x: absent", dataOffset+offTriSize)
		return
	case end > t.size:
		t.d.warn("the file is cut short at %#x: %#x bytes are missing%s", t.size, end-t.size, t.meant())
	}
	t.end = end
	if valid == 0 || valid+4 > t.size {
		return
	}
	if m, err := readRecord(t.f, "triage mark", valid, 4); err != nil || string(m.data) != "TRGD" {
		t.d.warn("TRIAGE_DUMP64: mark at file offset %#x: no TRGD there: the writer may not have finished", valid)
	}
}

// headerRecords takes the CONTEXT and the exception from where the triage header
// says they are, if the dump header's own places were left empty.
func (t *triage) headerRecords() {
	c := contexts[t.d.Machine]
	if at := t.t.opt32(offTriContext); t.d.Context == nil && at != 0 && at != offContext {
		t.d.Context = contextAt(t.copy("context", offTriContext, uint64(c.size), uint64(c.size)), t.d.Machine)
	}
	if at := t.t.opt32(offTriException); t.d.Exception == nil && at != 0 && at != offException {
		t.d.Exception = exceptionAt(t.copy("exception", offTriException, exceptionSize, exceptionSize))
	}
}

// place gives the file offset in a field of the triage header; ok is false, with
// a warning unless the part is just absent, where nothing can be.
func (t *triage) place(part string, field int) (at int64, ok bool) {
	at = int64(t.t.opt32(field))
	switch {
	case at == 0:
		return 0, false
	case at < offContext || at >= t.size:
		t.d.warn("TRIAGE_DUMP64: %s at file offset %#x: %#x lies outside the dump", part, dataOffset+field, at)
		return 0, false
	}
	return at, true
}

// copy reads a part whose file offset is in a field: as much of it as the limit
// allows and the file has. nil where there is none.
func (t *triage) copy(part string, field int, size, limit uint64) []byte {
	at, ok := t.place(part, field)
	if !ok || size == 0 {
		return nil
	}
	n := min(size, limit, uint64(t.size-at))
	if n < size {
		t.d.warn("TRIAGE_DUMP64: %s at file offset %#x: %#x bytes, only %#x can be read", part, at, size, n)
	}
	p := make([]byte, n)
	if err := readFull(t.f, p, at); err != nil {
		t.d.warn("TRIAGE_DUMP64: %s at file offset %#x: %v", part, at, err)
		return nil
	}
	return p
}

// debugData copies the debugger data block. Its own size stands in for one that
// the triage header lacks.
func (t *triage) debugData() {
	size := uint64(t.t.opt32(offTriDebugSize))
	if size == 0 {
		at, ok := t.place("debugger data", offTriDebug)
		if !ok {
			return
		}
		head, err := readRecord(t.f, "KDDEBUGGER_DATA64", at, offKdbgSize+4)
		if err != nil || string(head.data[offKdbgTag:offKdbgTag+4]) != kdbgTag {
			return
		}
		size = uint64(head.u32(offKdbgSize))
	}
	b := t.copy("debugger data", offTriDebug, size, maxTriageDebug)
	if len(b) == 0 {
		return
	}
	if len(b) < offKdbgSize+4 || string(b[offKdbgTag:offKdbgTag+4]) != kdbgTag {
		t.d.warn("TRIAGE_DUMP64: debugger data at file offset %#x: no KDBG tag", t.t.u32(offTriDebug))
	}
	t.out.DebugData = b
	if t.d.DebugData != 0 {
		t.blocks.Add(t.d.DebugData, b)
	}
}

// stack copies the call stack. TopOfStack is the address of its first byte.
func (t *triage) stack() {
	t.out.Stack = t.copy("call stack", offTriStack, uint64(t.t.opt32(offTriStackSize)), maxTriageStack)
	if t.out.StackTop != 0 {
		t.blocks.Add(t.out.StackTop, t.out.Stack)
	}
}

// objects copies the KPRCB, EPROCESS and ETHREAD. Their sizes are in the
// debugger data; without it, each reaches at most to the next part.
func (t *triage) objects() {
	var kdbg record
	if b := t.out.DebugData; len(b) >= kdbgSizesEnd && string(b[offKdbgTag:offKdbgTag+4]) == kdbgTag {
		kdbg.data = b
	}
	for _, part := range []struct {
		name        string
		field, size int
		into        *[]byte
	}{
		{"processor block", offTriPrcb, offKdbgPrcb, &t.out.Prcb},
		{"process", offTriProcess, offKdbgProcess, &t.out.Process},
		{"thread", offTriThread, offKdbgThread, &t.out.Thread},
	} {
		var size uint64
		if kdbg.data != nil {
			size = uint64(kdbg.u16(part.size))
		}
		if size == 0 {
			size = t.gap(part.field)
		}
		*part.into = t.copy(part.name, part.field, size, maxTriageObject)
	}
}

// gap is the distance from one part to the next in the file, in bytes.
func (t *triage) gap(field int) uint64 {
	at := t.t.opt32(field)
	next := uint64(t.size)
	for _, other := range []int{offTriUnloaded, offTriPrcb, offTriProcess, offTriThread, offTriStack,
		offTriDrivers, offTriStrings, offTriPage, offTriDebug, offTriBlocks} {
		if v := t.t.opt32(other); v > at {
			next = min(next, uint64(v))
		}
	}
	if next < uint64(at) {
		return 0
	}
	return min(next-uint64(at), maxTriageObject)
}

// dataPage adds the page of memory that old writers captured on its own.
func (t *triage) dataPage() {
	va, size := t.t.opt64(offTriPageVA), t.t.opt32(offTriPageSize)
	if va == 0 || size == 0 {
		return
	}
	if at, ok := t.place("data page", offTriPage); ok {
		t.addBlock(mem.VA(va), at, size)
	}
}

// addBlock adds a captured block, cut at the end of the file.
func (t *triage) addBlock(va mem.VA, at int64, size uint32) (whole bool) {
	n := size
	if room := t.size - at; int64(n) > room {
		n = uint32(max(0, room))
	}
	if n > 0 {
		t.out.Blocks = append(t.out.Blocks, Block{VA: va, Size: n, Offset: at})
		t.blocks.addFile(va, t.f, at, uint64(n))
	}
	return n == size
}

// dataBlocks adds the captured memory: TRIAGE_DATA_BLOCK records. Blocks that
// overlap are all listed; the first one is read.
func (t *triage) dataBlocks() {
	count := uint64(t.t.opt32(offTriBlockCount))
	if count == 0 {
		return
	}
	at, ok := t.place("data blocks", offTriBlocks)
	if !ok {
		return
	}
	if room := min(uint64(t.size-at)/triageBlockSize, maxTriageBlocks); count > room {
		t.d.warn("TRIAGE_DUMP64: data block count at file offset %#x: %d, there is room for %d", dataOffset+offTriBlockCount, count, room)
		count = room
	}
	table := make([]byte, count*triageBlockSize)
	if err := readFull(t.f, table, at); err != nil {
		t.d.warn("TRIAGE_DUMP64: data blocks at file offset %#x: %v", at, err)
		return
	}
	t.out.Blocks = slices.Grow(t.out.Blocks, int(count))
	cut, left := 0, claimLimit*uint64(t.size)
	for b := range slices.Chunk(table, triageBlockSize) {
		va := binary.LittleEndian.Uint64(b)
		off, size := binary.LittleEndian.Uint32(b[8:]), binary.LittleEndian.Uint32(b[12:])
		if uint64(size) > left {
			t.d.warn("TRIAGE_DUMP64: data blocks at file offset %#x: they claim more than %d times the file's bytes: the rest is left out", at, claimLimit)
			break
		}
		left -= uint64(size)
		switch {
		case va == filler64 || off == filler32 || size == filler32 || off < offContext && size > 0:
			cut++
		case !t.addBlock(mem.VA(va), int64(off), size):
			cut++
		}
	}
	if cut > 0 {
		t.d.warn("TRIAGE_DUMP64: data blocks at file offset %#x: %d of %d lie outside the file, wholly or in part", at, cut, count)
	}
}

// Layout of the unloaded drivers: a count u64, then DUMP_UNLOADED_DRIVERS64
// records of {UNICODE_STRING64, 12 UTF-16 units, start, end} (mindumpdef.h).
const (
	unloadedSize    = 0x38
	unloadedName    = 0x10
	unloadedNameLen = 24 // bytes
	offUnloadStart  = 0x28
	offUnloadEnd    = 0x30
	maxUnloaded     = 512 // Windows keeps 50
)

func (t *triage) unloaded() {
	at, ok := t.place("unloaded drivers", offTriUnloaded)
	if !ok || t.size-at < 8 {
		return
	}
	head, err := readRecord(t.f, "unloaded drivers", at, 8)
	if err != nil {
		t.d.warn("%v", err)
		return
	}
	count := head.opt64(0)
	room := min(uint64(t.size-at-8)/unloadedSize, maxUnloaded)
	if count > room { // the upper half may be padding that was never written
		count = uint64(head.opt32(0))
	}
	if count > room {
		t.d.warn("unloaded drivers: count at file offset %#x: %d, there is room for %d: leaving them out", at, count, room)
		return
	}
	for i := range int64(count) {
		r, err := readRecord(t.f, "DUMP_UNLOADED_DRIVERS64", at+8+i*unloadedSize, unloadedSize)
		if err != nil {
			t.d.warn("%v", err)
			return
		}
		n := min(int(r.u16(0)), unloadedNameLen)
		t.out.Unloaded = append(t.out.Unloaded, UnloadedDriver{
			Name:  utf16Text(r.data[unloadedName : unloadedName+n]),
			Start: mem.VA(r.u64(offUnloadStart)),
			End:   mem.VA(r.u64(offUnloadEnd)),
		})
	}
}

// String gives the block as address, size and place.
func (b Block) String() string {
	return fmt.Sprintf("%s size %#x at file offset %#x", b.VA, b.Size, b.Offset)
}
