package snapshot

import (
	"bytes"
	"encoding/binary"
	"fmt"
)

const machineX64 = 0x8664

// Offsets in DUMP_HEADER64 (mindumpdef.h of the Windows SDK; QEMU
// include/qemu/win_dump_defs.h; volatility3 crash64.json).
const (
	headerSize = 0x2000

	hdrMajor       = 0x08
	hdrMinor       = 0x0c
	hdrDTB         = 0x10
	hdrPfnDatabase = 0x18
	hdrModules     = 0x20
	hdrProcesses   = 0x28
	hdrMachine     = 0x30
	hdrProcessors  = 0x34
	hdrBugCheck    = 0x38
	hdrBugArgs     = 0x40
	hdrDebugData   = 0x80
	hdrMemory      = 0x88
	hdrMemorySize  = 0x2bc
	hdrContext     = 0x348
	hdrException   = 0xf00
	exceptionSize  = 0x98
	hdrType        = 0xf98
	hdrSpace       = 0xfa0
	hdrTime        = 0xfa8
	hdrComment     = 0xfb0
	commentSize    = 0x80
	hdrUpTime      = 0x1030
	hdrMiniFields  = 0x1038
	hdrProduct     = 0x1040
	hdrSuite       = 0x1044
	hdrStatus      = 0x1048
	hdrAttributes  = 0x1050

	maxRuns = (hdrMemorySize - 0x10) / 0x10

	statusBreakpoint = 0x80000003
)

// dumpTypes are the header's DumpType for each format.
var dumpTypes = map[Format]uint32{Full: 1, Bitmap: 5, Kernel: 6}

// header makes the dump header. What a writer leaves out holds "PAGE".
func (m *machine) header(format Format, runs []run, size uint64) ([]byte, error) {
	b := bytes.Repeat([]byte("PAGE"), headerSize/4)
	le := binary.LittleEndian
	copy(b, "PAGEDU64")
	cpu := m.cpus[m.spec.Crash.Processor.v]
	for _, f := range []struct {
		off int
		v   uint32
	}{
		{hdrMajor, 0xf}, {hdrMinor, m.prof.build}, {hdrMachine, machineX64}, {hdrProcessors, uint32(len(m.cpus))},
		{hdrBugCheck, uint32(m.crashArgument(0))}, {hdrType, dumpTypes[format]}, {hdrMiniFields, 0}, {hdrProduct, productServer},
		{hdrSuite, suiteMask}, {hdrStatus, 0}, {hdrAttributes, 0},
	} {
		le.PutUint32(b[f.off:], f.v)
	}
	for _, f := range []struct {
		off int
		v   uint64
	}{
		{hdrDTB, cpu.current.proc.dtb}, {hdrPfnDatabase, uint64(m.global("MmPfnDatabase"))},
		{hdrModules, uint64(m.global("PsLoadedModuleList"))}, {hdrProcesses, uint64(m.global("PsActiveProcessHead"))},
		{hdrDebugData, uint64(m.global("KdDebuggerDataBlock"))}, {hdrSpace, size},
		{hdrTime, m.now}, {hdrUpTime, m.ticks * m.tickLength},
	} {
		le.PutUint64(b[f.off:], f.v)
	}
	for i := range 4 {
		le.PutUint64(b[hdrBugArgs+8*i:], m.crashArgument(i+1))
	}
	m.headerContext(b, cpu)
	comment := b[hdrComment : hdrComment+commentSize]
	clear(comment)
	text := m.spec.Crash.Comment.or("synthetic snapshot " + m.spec.Name.or("without a name"))
	copy(comment[:commentSize-1], text)
	if format == Kernel { // its pages are in the bitmap alone
		return b, m.err
	}
	return b, headerRuns(b[hdrMemory:], runs)
}

// headerContext writes the registers of the processor that stopped, and the
// exception record of its breakpoint.
func (m *machine) headerContext(b []byte, cpu *processor) {
	context := b[hdrContext : hdrContext+m.size("_CONTEXT")]
	// Debuggers take the crashing processor's registers from here, and the
	// others' from their control blocks.
	at := m.object("_KPRCB", cpu.prcb).field("ProcessorState.ContextFrame")
	m.read(at, context)
	record := b[hdrException : hdrException+exceptionSize]
	clear(record)
	le := binary.LittleEndian
	le.PutUint32(record, statusBreakpoint)
	le.PutUint64(record[16:], uint64(cpu.current.pc))
}

// headerRuns writes PHYSICAL_MEMORY_DESCRIPTOR.
func headerRuns(b []byte, runs []run) error {
	if len(runs) > maxRuns {
		return fmt.Errorf("%d runs of memory do not fit the header", len(runs))
	}
	le := binary.LittleEndian
	var pages uint64
	for i, r := range runs {
		le.PutUint64(b[0x10+16*i:], r.first)
		le.PutUint64(b[0x18+16*i:], r.count)
		pages += r.count
	}
	le.PutUint32(b, uint32(len(runs)))
	le.PutUint64(b[8:], pages)
	return nil
}

// run is a stretch of page frames.
type run struct{ first, count uint64 }

// runsOf joins ascending frame numbers to runs.
func runsOf(frames []uint64) []run {
	var list []run
	for _, n := range frames {
		if last := len(list) - 1; last >= 0 && list[last].first+list[last].count == n {
			list[last].count++
			continue
		}
		list = append(list, run{n, 1})
	}
	return list
}

// Layout of the header before a page bitmap (kdmp-parser-rs src/structs.rs,
// volatility3 crash_common.json).
const (
	bitmapStart = 0x38
	bitmapFirst = 0x20
	bitmapPages = 0x28
	bitmapBits  = 0x30
)

// bitmapHeader makes the header and bitmap of types 5 and 6. It ends with a
// word of zeros, for readers that lose count in a last word of ones, and the
// pages start at a multiple of their size.
func bitmapHeader(frames []uint64, memory uint64) []byte {
	bits := (max(memory/pageSize, frames[len(frames)-1]+1)+63)&^63 + 64
	size := (headerSize + bitmapStart + bits/8 + pageSize - 1) &^ (pageSize - 1)
	b := make([]byte, size-headerSize)
	copy(b, "SDMPDUMP")
	le := binary.LittleEndian
	le.PutUint64(b[bitmapFirst:], size)
	le.PutUint64(b[bitmapPages:], uint64(len(frames)))
	le.PutUint64(b[bitmapBits:], bits)
	for _, n := range frames {
		b[bitmapStart+n/8] |= 1 << (n % 8)
	}
	return b
}

// container writes the dump: header, pages in the order of their addresses,
// and how many zeros follow.
func (m *machine) container(format Format, size uint64) (data []byte, zeros int64, err error) {
	var frames []uint64
	for _, n := range m.phys.numbers() {
		if format != Kernel || !m.phys.user[n] {
			frames = append(frames, n)
		}
	}
	// The header lists runs in types 1 and 5; a bitmap of type 6 says it all.
	runs := runsOf(frames)
	last := &runs[len(runs)-1]
	top := last.first + last.count
	var extra uint64 // pages of zeros behind the last
	if size != 0 {
		if size/pageSize < top {
			return nil, 0, fmt.Errorf("a size of %#x bytes of memory: at least %#x are used", size, top*pageSize)
		}
		extra = size/pageSize - top
	}
	if format == Full {
		last.count += extra
	} else {
		for i := range extra {
			frames = append(frames, top+i)
		}
	}
	var second []byte
	if format != Full {
		second = bitmapHeader(frames, m.memory)
	}
	pages := uint64(len(m.phys.frames)) * pageSize
	h, err := m.header(format, runs, uint64(headerSize+len(second))+pages+extra*pageSize)
	if err != nil {
		return nil, 0, err
	}
	data = make([]byte, 0, uint64(len(h)+len(second))+pages)
	data = append(append(data, h...), second...)
	for _, n := range frames {
		data = append(data, m.phys.frames[n]...) // nothing for the zeros behind
	}
	return data, int64(extra * pageSize), nil
}
