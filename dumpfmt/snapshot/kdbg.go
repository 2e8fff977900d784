package snapshot

import (
	"fmt"
	"maps"
	"slices"

	"gokd/model/mem"
)

func sortedKeys[V any](set map[string]V) []string { return slices.Sorted(maps.Keys(set)) }

// sharedUserData is where KUSER_SHARED_DATA is mapped on x64 (ntddk.h).
const sharedUserData mem.VA = 0xfffff78000000000

// debugPointers are the fields of KDDEBUGGER_DATA64 (wdbgexts.h) that name
// kernel variables, in the order of their offsets.
var debugPointers = []struct {
	off  mem.VA
	name string
}{
	{0x048, "PsLoadedModuleList"}, {0x050, "PsActiveProcessHead"}, {0x058, "PspCidTable"},
	{0x060, "ExpSystemResourcesList"}, {0x068, "ExpPagedPoolDescriptor"}, {0x070, "ExpNumberOfPagedPools"},
	{0x078, "KeTimeIncrement"}, {0x080, "KeBugCheckCallbackListHead"}, {0x088, "KiBugCheckData"},
	{0x098, "ObpRootDirectoryObject"}, {0x0a0, "ObpTypeObjectType"}, {0x0c0, "MmPfnDatabase"},
	{0x0e8, "MmLowestPhysicalPage"}, {0x0f0, "MmHighestPhysicalPage"}, {0x0f8, "MmNumberOfPhysicalPages"},
	{0x100, "MmMaximumNonPagedPoolInBytes"}, {0x110, "MmNonPagedPoolStart"}, {0x118, "MmNonPagedPoolEnd"},
	{0x120, "MmPagedPoolStart"}, {0x128, "MmPagedPoolEnd"}, {0x140, "MmSizeOfPagedPoolInBytes"},
	{0x148, "MmTotalCommitLimit"}, {0x150, "MmTotalCommittedPages"}, {0x170, "MmPagedPoolCommit"},
	{0x1a8, "MmAvailablePages"}, {0x1b0, "MmResidentAvailablePages"}, {0x1b8, "PoolTrackTable"},
	{0x1c0, "NonPagedPoolDescriptor"}, {0x1c8, "MmHighestUserAddress"}, {0x1d0, "MmSystemRangeStart"},
	{0x1d8, "MmUserProbeAddress"}, {0x208, "NtBuildLab"}, {0x218, "KiProcessorBlock"},
	{0x220, "MmUnloadedDrivers"}, {0x228, "MmLastUnloadedDriver"}, {0x238, "MmSpecialPoolTag"},
	{0x250, "MmAllocatedNonPagedPool"}, {0x268, "CmNtCSDVersion"}, {0x270, "MmPhysicalMemoryBlock"},
}

// debugOffsets are its fields that repeat the layout: offsets, and sizes where
// the path is empty.
var debugOffsets = []struct {
	off       mem.VA
	typ, path string
}{
	{0x030, "_KTHREAD", "CallbackStack"},
	{0x298, "_KTHREAD", "NextProcessor"}, {0x29a, "_KTHREAD", "Teb"}, {0x29c, "_KTHREAD", "KernelStack"},
	{0x29e, "_KTHREAD", "InitialStack"}, {0x2a0, "_KTHREAD", "ApcState.Process"}, {0x2a2, "_KTHREAD", "State"},
	{0x2a8, "_EPROCESS", ""}, {0x2aa, "_EPROCESS", "Peb"}, {0x2ac, "_EPROCESS", "InheritedFromUniqueProcessId"},
	{0x2ae, "_EPROCESS", "Pcb.DirectoryTableBase"}, {0x2b0, "_KPRCB", ""}, {0x2b2, "_KPRCB", "DpcRoutineActive"},
	{0x2b4, "_KPRCB", "CurrentThread"}, {0x2b6, "_KPRCB", "MHz"}, {0x2b8, "_KPRCB", "CpuType"},
	{0x2ba, "_KPRCB", "VendorString"}, {0x2bc, "_KPRCB", "ProcessorState.ContextFrame"}, {0x2be, "_KPRCB", "Number"},
	{0x2c0, "_ETHREAD", ""}, {0x2e0, "_KPCR", ""}, {0x2e2, "_KPCR", "Self"}, {0x2e4, "_KPCR", "CurrentPrcb"},
	{0x2e6, "_KPCR", "Prcb"}, {0x2f2, "_KPRCB", "ProcessorState.SpecialRegisters"}, {0x338, "_KPRCB", "Context"},
}

// writeDebugData fills the debugger data block.
func (m *machine) writeDebugData() {
	at := m.global("KdDebuggerDataBlock")
	put16 := func(off mem.VA, v uint32) { m.write(at+off, []byte{byte(v), byte(v >> 8)}) }
	m.listAdd(m.global("KdpDebuggerDataListHead"), at)
	// Header.OwnerTag and Size: debuggers know by it how much of the block there
	// is. It stands plain, which KdpDataBlockEncoded says with a zero.
	m.write(at+0x10, []byte("KDBG"))
	m.put32(at+0x14, m.prof.kdbgSize)
	m.put64(at+0x18, uint64(m.nt.base))
	for _, f := range debugPointers {
		m.put64(at+f.off, uint64(m.global(f.name)))
	}
	for _, f := range debugOffsets {
		if f.path != "" && m.layout.lenient && !m.layout.has(f.typ, f.path) {
			continue // zero: this build has none
		}
		v := uint32(m.size(f.typ))
		if f.path != "" {
			v = uint32(m.offset(f.typ, f.path))
		}
		put16(f.off, v)
	}
	put16(0x36, 1) // PaeEnabled: entries have 64 bits
	m.put64(at+0x138, pageSize)
	for _, s := range []struct {
		off mem.VA
		v   uint32
	}{{0x2f4, kernelCS}, {0x2f6, kernelSS}, {0x2fa, userCS}, {0x2fc, userDS}, {0x2fe, userFS}, {0x302, 0x40}, {0x304, 0x23}, {0x306, userFS}} {
		put16(s.off, s.v)
	}
	version := m.object("_DBGKD_GET_VERSION64", m.global("KdVersionBlock"))
	version.puts("MajorVersion", 0xf, "MinorVersion", m.prof.build, "ProtocolVersion", 6, "Flags", 7, "MachineType", machineX64,
		"KernBase", m.nt.base, "PsLoadedModuleList", m.global("PsLoadedModuleList"), "DebuggerDataList", m.global("KdpDebuggerDataListHead"))
}

// writeShared fills KUSER_SHARED_DATA.
func (m *machine) writeShared() {
	u := m.object("_KUSER_SHARED_DATA", sharedUserData)
	up := m.ticks * m.tickLength
	// Milliseconds per tick in 8.24 fixed point.
	u.puts("TickCountMultiplier", m.tickLength*(1<<24)/10000, "TickCountQuad", m.ticks,
		"NtMajorVersion", m.prof.major, "NtMinorVersion", m.prof.minor, "NtProductType", productServer, "ProductTypeIsValid", 1,
		"SuiteMask", suiteMask, "NumberOfPhysicalPages", m.memory/pageSize, "ActiveProcessorCount", len(m.cpus), "ActiveGroupCount", 1,
		"ImageNumberLow", machineX64, "ImageNumberHigh", machineX64, "ActiveConsoleId", 1)
	for _, f := range []struct {
		path string
		v    uint64
	}{{"InterruptTime", up}, {"SystemTime", m.now}} {
		u.puts(f.path+".LowPart", f.v&0xffffffff, f.path+".High1Time", f.v>>32, f.path+".High2Time", f.v>>32)
	}
	root := u.field("NtSystemRoot")
	for i, c := range []byte(`C:\Windows`) {
		m.write(root+mem.VA(2*i), []byte{c, 0})
	}
}

const (
	productServer = 3     // VER_NT_SERVER
	suiteMask     = 0x112 // terminal services, single-user terminal services
)

// writeVariables fills the variables that hold plain numbers.
func (m *machine) writeVariables() {
	build := uint64(m.prof.build)
	physical := m.memory / pageSize
	nonpagedEnd := uint64(m.nonpaged.start) + m.nonpagedBytes
	// Pool is committed memory: a machine that leaks has more of it than most.
	_, nonpaged := m.nonpaged.totals()
	_, paged := m.paged.totals()
	committed := max(physical/2, (nonpaged+paged)/pageSize+physical/8)
	for _, v := range []struct {
		name string
		v    uint64
	}{
		{"NtBuildNumber", 0xf0000000 | build}, {"CmNtCSDVersion", 0x100},
		{"KeTimeIncrement", m.tickLength}, {"KeMaximumIncrement", m.tickLength},
		{"MmPfnDatabase", uint64(m.prof.pfnDatabase)}, {"MmHighestUserAddress", 0x7fffffeffff}, {"MmUserProbeAddress", 0x7ffffff0000},
		{"MmSystemRangeStart", 0xffff080000000000},
		{"MmNumberOfPhysicalPages", physical}, {"MmLowestPhysicalPage", lowFirst}, {"MmHighestPhysicalPage", physical - 1},
		{"MmAvailablePages", physical / 3}, {"MmResidentAvailablePages", physical / 3}, {"MmTotalCommittedPages", committed},
		{"MmTotalCommitLimit", physical * 2},
		{"MmNonPagedPoolStart", uint64(m.nonpaged.start)}, {"MiNonPagedPoolStartAligned", uint64(m.nonpaged.start)},
		{"MmNonPagedPoolEnd", nonpagedEnd}, {"MiNonPagedPoolEnd", nonpagedEnd}, {"MmMaximumNonPagedPoolInBytes", m.nonpagedBytes},
		{"MmPagedPoolStart", uint64(m.paged.start)}, {"MmPagedPoolEnd", uint64(m.paged.end) - 1},
		{"MmSizeOfPagedPoolInBytes", m.prof.pagedSize},
	} {
		m.setGlobal(v.name, v.v)
	}
	m.write(m.global("NtBuildLab"), []byte(m.prof.lab))
	m.write(m.global("NtBuildLabEx"), []byte(m.prof.lab))
	for i := range 5 {
		m.put64(m.global("KiBugCheckData")+mem.VA(8*i), m.crashArgument(i))
	}
	m.put32(m.global("MiNonPagedPoolBitMap"), uint32(m.nonpagedBytes/pageSize))
	m.writeMemoryBlock()
}

// writeMemoryBlock describes the machine's physical memory, which is more than
// the snapshot holds: two runs around the hole below 1 MiB.
func (m *machine) writeMemoryBlock() {
	at := m.nonpaged.alloc(tagOf("MmPb"), m.size("_PHYSICAL_MEMORY_DESCRIPTOR")+m.size("_PHYSICAL_MEMORY_RUN"))
	d := m.object("_PHYSICAL_MEMORY_DESCRIPTOR", at)
	high := m.memory/pageSize - highFirst
	d.puts("NumberOfRuns", 2, "NumberOfPages", lowEnd-lowFirst+high)
	run := d.field("Run")
	for i, r := range [][2]uint64{{lowFirst, lowEnd - lowFirst}, {highFirst, high}} {
		m.object("_PHYSICAL_MEMORY_RUN", run+mem.VA(i)*mem.VA(m.size("_PHYSICAL_MEMORY_RUN"))).puts("BasePage", r[0], "PageCount", r[1])
	}
	m.setGlobal("MmPhysicalMemoryBlock", uint64(at))
}

// writeImages writes code and tables of every image.
func (m *machine) writeImages() error {
	for _, img := range m.images {
		if err := m.emit(img); err != nil {
			return err
		}
	}
	return m.err
}

// finish writes what sums up the rest.
func (m *machine) finish() error {
	m.writeDebugData()
	m.encodeDebugData()
	m.writeShared()
	m.writeVariables()
	m.trackers()
	for _, p := range m.procs {
		if p.space != nil {
			p.space.copyKernel(m.kernel, m.prof.selfIndex)
		}
	}
	if m.err == nil && m.phys.high*pageSize > m.memory {
		return fmt.Errorf("the machine's memory of %#x bytes holds %#x", m.memory, m.phys.high*pageSize)
	}
	return m.err
}
