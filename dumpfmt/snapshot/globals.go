package snapshot

import (
	"fmt"

	"gokd/model/mem"
)

// variable is a kernel variable: bytes, or the size of a type.
type variable struct {
	name string
	size uint32
	typ  string
}

// kernelVariables are the variables of the kernel image that debuggers ask
// for. Names are those of the public symbol tables.
var kernelVariables = []variable{
	{name: "KdDebuggerDataBlock", size: 0x400},
	{name: "KdVersionBlock", typ: "_DBGKD_GET_VERSION64"},
	{name: "KdpDataBlockEncoded", size: 8},
	{name: "KdpDebuggerDataListHead", size: 16},
	{name: "PsLoadedModuleList", size: 16},
	{name: "PsActiveProcessHead", size: 16},
	{name: "KiProcessListHead", size: 16},
	{name: "ExpSystemResourcesList", size: 16},
	{name: "PspCidTable", size: 8},
	{name: "PsInitialSystemProcess", size: 8},
	{name: "PsIdleProcess", size: 8},
	{name: "PsProcessType", size: 8},
	{name: "PsThreadType", size: 8},
	{name: "ObpTypeObjectType", size: 8},
	{name: "ObpRootDirectoryObject", size: 8},
	{name: "ObTypeIndexTable", size: 0x200},
	{name: "KiBugCheckData", size: 0x28},
	{name: "KeBugCheckCallbackListHead", size: 16},
	{name: "KeTimeIncrement", size: 4},
	{name: "KeMaximumIncrement", size: 4},
	{name: "KeNumberProcessors", size: 4},
	{name: "KiProcessorBlock", size: 0x800},
	{name: "NtBuildNumber", size: 4},
	{name: "NtBuildLab", size: 0x40},
	{name: "NtBuildLabEx", size: 0x40},
	{name: "NtGlobalFlag", size: 4},
	{name: "CmNtCSDVersion", size: 4},
	{name: "MmPfnDatabase", size: 8},
	{name: "MmPhysicalMemoryBlock", size: 8},
	{name: "MmNumberOfPhysicalPages", size: 8},
	{name: "MmLowestPhysicalPage", size: 8},
	{name: "MmHighestPhysicalPage", size: 8},
	{name: "MmAvailablePages", size: 8},
	{name: "MmResidentAvailablePages", size: 8},
	{name: "MmTotalCommittedPages", size: 8},
	{name: "MmTotalCommitLimit", size: 8},
	{name: "MmHighestUserAddress", size: 8},
	{name: "MmSystemRangeStart", size: 8},
	{name: "MmUserProbeAddress", size: 8},
	{name: "MmNonPagedPoolStart", size: 8},
	{name: "MmNonPagedPoolEnd", size: 8},
	{name: "MiNonPagedPoolStartAligned", size: 8},
	{name: "MiNonPagedPoolEnd", size: 8},
	{name: "MiNonPagedPoolBitMap", size: 16},
	{name: "MmMaximumNonPagedPoolInBytes", size: 8},
	{name: "MmAllocatedNonPagedPool", size: 8},
	{name: "MmPagedPoolStart", size: 8},
	{name: "MmPagedPoolEnd", size: 8},
	{name: "MmPagedPoolCommit", size: 8},
	{name: "MmSizeOfPagedPoolInBytes", size: 8},
	{name: "MmSpecialPoolTag", size: 4},
	{name: "MmUnloadedDrivers", size: 8},
	{name: "MmLastUnloadedDriver", size: 4},
	{name: "PoolTrackTable", size: 8},
	{name: "PoolTrackTableSize", size: 8},
	{name: "PoolTrackTableMask", size: 8},
	{name: "PoolTrackTableExpansion", size: 8},
	{name: "PoolTrackTableExpansionSize", size: 8},
	{name: "ExPoolTagTables", size: 0x800},
	{name: "PoolBigPageTable", size: 8},
	{name: "PoolBigPageTableSize", size: 8},
	{name: "ExpSessionPoolTrackTable", size: 8},
	{name: "ExpSessionPoolTrackTableSize", size: 8},
	{name: "PoolVector", size: 16},
	{name: "ExpNumberOfPagedPools", size: 4},
	{name: "ExpNumberOfNonPagedPools", size: 4},
	{name: "ExpPagedPoolDescriptor", size: 0x88},
	{name: "ExpNonPagedPoolDescriptor", size: 0x80},
	{name: "NonPagedPoolDescriptor", typ: "_POOL_DESCRIPTOR"},
	{name: "ExWorkerQueue", typ: "_KQUEUE"},
	{name: "KiInitialPCR", typ: "_KPCR"},
	{name: "KiInitialProcess", typ: "_EPROCESS"},
	{name: "KiInitialThread", typ: "_ETHREAD"},
	{name: "KiInitialContext", typ: "_CONTEXT"}, // no name of Windows: where the crash saves processor 0
}

// declareVariables gives every variable its place in the kernel's .data.
func (m *machine) declareVariables() {
	for _, v := range m.variables() {
		size, align := v.size, min(v.size, 16)
		if v.typ != "" {
			size, align = uint32(m.size(v.typ)), 0x40
		}
		m.nt.variable(v.name, size, max(align, 4))
	}
}

// global gives the address of a kernel variable.
func (m *machine) global(name string) mem.VA {
	at, ok := m.nt.address(name)
	if !ok {
		m.fail(fmt.Errorf("nt!%s is not declared", name))
	}
	return at
}

// setGlobal writes a variable of 4 or 8 bytes.
func (m *machine) setGlobal(name string, v uint64) {
	at := m.global(name)
	for _, known := range m.variables() {
		if known.name != name {
			continue
		}
		if known.size == 4 {
			m.put32(at, uint32(v))
		} else {
			m.put64(at, v)
		}
		return
	}
	m.fail(fmt.Errorf("nt!%s is not declared", name))
}

// memoryMap backs what is known to be used: the images' data and the page that
// user mode shares.
func (m *machine) memoryMap() error {
	for _, img := range m.images {
		data := img.part(".data")
		m.fail(m.kernel.mapRange(img.base+mem.VA(data.rva), uint64(data.end-data.rva), flagsData))
	}
	m.fail(m.kernel.mapPage(sharedUserData, flagsRead))
	start := mem.VA(m.spec.Pool.NonPagedStart.or(uint64(m.prof.nonPaged)))
	size := m.spec.Pool.NonPagedSize.or(min(m.memory/4*3, 16<<30))
	line := max(m.spec.Pool.NonPagedStart.line, m.spec.Pool.NonPagedSize.line)
	if start%largePage != 0 || start < m.prof.pfnDatabase || size < 4<<20 || size > 128<<30 {
		return wrong(line, "nonpaged pool of %#x bytes at %#x: want a multiple of 2 MiB from %#x on, and 4MB to 128GB",
			size, uint64(start), uint64(m.prof.pfnDatabase))
	}
	m.nonpagedBytes = size &^ (largePage - 1)
	m.nonpaged = m.newPool(false, start, start+mem.VA(m.nonpagedBytes))
	m.paged = m.newPool(true, m.prof.paged, m.prof.paged+mem.VA(m.prof.pagedSize))
	return m.err
}
