package main

import (
	"bytes"
	"cmp"
	"fmt"
	"os"
	"slices"
	"strings"

	"gokd/model/types"
)

// data names the variables whose addresses are embedded: the roots of the
// walks. code names the functions that unwinding must recognize; their extents
// come along, so that an address inside them gets their name and no other does.
var (
	data = strings.Fields(`
ExpSystemResourcesList PsActiveProcessHead KiProcessListHead PsLoadedModuleList PspCidTable
PsIdleProcess PsInitialSystemProcess KiInitialProcess KiInitialThread KiProcessorBlock KeNumberProcessors
KeTimeIncrement KeMaximumIncrement MmPfnDatabase MmPhysicalMemoryBlock
KdDebuggerDataBlock KdpDataBlockEncoded KiWaitNever KiWaitAlways KdVersionBlock
NtBuildNumber NtBuildLab NtBuildLabEx KiBugCheckData CmNtCSDVersion NtGlobalFlag
ObTypeIndexTable ObHeaderCookie ObpRootDirectoryObject PsProcessType PsThreadType
MiState MiVisibleState MmPteBase MiInvalidPteMask MmSystemRangeStart MmHighestUserAddress
MmUnloadedDrivers MmLastUnloadedDriver
PoolTrackTable PoolTrackTableSize PoolTrackTableMask PoolTrackTableExpansion PoolTrackTableExpansionSize
ExPoolTagTables PoolBigPageTable PoolBigPageTableSize
ExpSessionPoolTrackTable ExpSessionPoolTrackTableSize MiSessionPoolTrackTable
ExpPoolQuotaCookie ExPoolState RtlpHpHeapGlobals PoolVector
ExpNumberOfPagedPools ExpNumberOfNonPagedPools ExpPagedPoolDescriptor ExpNonPagedPoolDescriptor
NonPagedPoolDescriptor MmNonPagedPoolStart MiNonPagedPoolStartAligned MiNonPagedPoolEnd
MiNonPagedPoolBitMap MmPagedPoolEnd MiPagedPoolStart MmSizeOfPagedPoolInBytes MmSpecialPoolTag
MmSpecialPoolCatchOverruns MiSpecialPool KeNumberNodes
MiSystemPartition MmNumberOfPhysicalPages MmAvailablePages MmResidentAvailablePages
MmTotalCommitLimit MmTotalCommittedPages MmPeakCommitment MmSharedCommit MmDriverCommit MmProcessCommit MmPagedPoolCommit
MmNumberOfPagingFiles MmPagingFile MmModifiedPageListHead MmModifiedNoWritePageListHead MmTotalPagesForPagingFile
MiModifiedPageWriterThread MiWorkingSetThread
MiSystemPteInfo MiKernelStackPteInfo MmKernelStackPages MmMdlPagesAllocated MmVadPhysicalPages MmSpecialPagesInUse
MmAllocatedNonPagedPool MmMaximumNonPagedPoolInPages MmPagedPoolInfo MmSizeOfPagedPoolInPages
MmPoolFailures MiChargeCommitmentFailures MiPageFileTraces MiPageFileTraceIndex MiSystemVaTypeCount MiSessionWsList
ExSystemLookasideListHead ExPoolLookasideListHead ExNPagedLookasideListHead ExPagedLookasideListHead
CcTwilightLookasideList IopSmallIrpLookasideList IopMediumIrpLookasideList IopLargeIrpLookasideList
IopMdlLookasideList IopCompletionLookasideList ObpCreateInfoLookasideList ObpNameBufferLookasideList
`)
	code = strings.Fields(`
KiSwapContext KiIdleLoop KxStartSystemThread KiStartSystemThread KxStartUserThread KiStartUserThread
KySwitchKernelStackCallout KxSwitchKernelStackCallout KiSwitchKernelStackContinue
`)
)

type globalsRow struct {
	kernel kernel
	family string
	size   uint32   // of _EPROCESS
	values []string // by column, "-" where the kernel lacks the name
}

func newGlobalsRow(k kernel, family string, t *types.ISF) globalsRow {
	row := globalsRow{kernel: k, family: family}
	if p, err := t.Type("_EPROCESS"); err == nil {
		row.size = p.Size
	}
	for _, name := range data {
		if sym, ok := t.Lookup(name); ok {
			row.values = append(row.values, fmt.Sprintf("%x", sym.RVA))
		} else {
			row.values = append(row.values, "-")
		}
	}
	for _, name := range code {
		sym, ok := t.Lookup(name)
		if !ok {
			row.values = append(row.values, "-")
			continue
		}
		row.values = append(row.values, fmt.Sprintf("%x+%x", sym.RVA, extent(t, sym.RVA)))
	}
	return row
}

// extent gives the bytes from a function's start to the next name.
func extent(t *types.ISF, rva uint32) uint32 {
	const most = 0x4000
	for n := uint32(1); n < most; n++ {
		if next, _, ok := t.Nearest(rva + n); ok && next.RVA > rva {
			return n
		}
	}
	return most
}

func writeGlobals(file string, rows []globalsRow) error {
	slices.SortFunc(rows, func(a, b globalsRow) int { return cmp.Compare(a.kernel.id, b.kernel.id) })
	var out bytes.Buffer
	out.WriteString("# Addresses of kernel globals, relative to the image's base, by image GUID and age.\n" +
		"# Facts from JPCERTCC/Windows-Symbol-Tables; LICENSE.tables has its notice. See README.md.\n")
	fmt.Fprintf(&out, "guid-age version layout eprocess %s %s\n", strings.Join(data, " "), strings.Join(code, " "))
	for _, row := range rows {
		fmt.Fprintf(&out, "%s %s %s %x %s\n", row.kernel.id, row.kernel.version, row.family, row.size, strings.Join(row.values, " "))
	}
	return os.WriteFile(file, out.Bytes(), 0o644)
}
