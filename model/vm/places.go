package vm

// Names of the counters, as records spell them. All count pages of 4 KiB.
const (
	Physical           = "physical_memory"
	Available          = "available"
	ResidentAvailable  = "resident_available"
	LockedIO           = "locked_io"
	FreeSystemPTEs     = "free_system_ptes"
	Modified           = "modified"
	ModifiedPagefile   = "modified_pagefile"
	ModifiedNoWrite    = "modified_no_write"
	NonPagedUsage      = "nonpaged_pool_usage"
	NonPagedNxUsage    = "nonpaged_pool_nx_usage"
	NonPagedMax        = "nonpaged_pool_max"
	PagedUsage         = "paged_pool_usage"
	PagedMax           = "paged_pool_max"
	ProcessorCommit    = "processor_commit"
	SessionCommit      = "session_commit"
	SharedCommit       = "shared_commit"
	SpecialPool        = "special_pool"
	KernelStacks       = "kernel_stacks"
	MDLPages           = "mdl_pages"
	ContiguousPages    = "contiguous_pages"
	PartitionPages     = "partition_pages"
	AWEPages           = "awe_pages"
	NonPagedCommit     = "nonpaged_pool_commit"
	PagedCommit        = "paged_pool_commit"
	DriverCommit       = "driver_commit"
	BootCommit         = "boot_commit"
	PFNCommit          = "pfn_array_commit"
	SmallPTEsCommit    = "small_nonpaged_ptes_commit"
	SlabPages          = "slab_allocator_pages"
	PageTableCommit    = "system_page_tables"
	BitmapPages        = "vad_bitmaps"
	LockedFilePages    = "process_locked_file_pages"
	PagefileHashPages  = "pagefile_hash_pages"
	ProcessTableCommit = "process_commit"
	Committed          = "committed"
	CommitLimit        = "commit_limit"
	PeakCommitted      = "peak_committed"
)

// places tells where each counter is, by the names of the public symbol files:
// the members from Windows 10 on, the variables before. A snapshot may have the
// variables on any build, through its debugger data block.
var places = []place{
	at(Physical, "Vp.NumberOfPhysicalPages", "MmNumberOfPhysicalPages"),
	at(Available, "Vp.AvailablePages", "MmAvailablePages"),
	at(ResidentAvailable, "Vp.ResidentAvailablePages", "MmResidentAvailablePages"),
	{FreeSystemPTEs, []member{{inVisible, "SystemPteInfo.TotalFreeSystemPtes"}}, []variable{{name: "MiSystemPteInfo", typ: "_MI_SYSTEM_PTE_TYPE", path: "TotalFreeSystemPtes"}}},
	{Modified, []member{{inPartition, "Vp.ModifiedPageListHead.Total"}}, []variable{{name: "MmModifiedPageListHead", typ: "_MMPFNLIST", path: "Total"}}},
	at(ModifiedPagefile, "Vp.TotalPagesForPagingFile", "MmTotalPagesForPagingFile"),
	{ModifiedNoWrite, []member{{inPartition, "Vp.ModifiedNoWritePageListHead.Total"}}, []variable{{name: "MmModifiedNoWritePageListHead", typ: "_MMPFNLIST", path: "Total"}}},
	{NonPagedUsage, []member{{inSystem, "Pools.AllocatedNonPagedPool"}}, []variable{{name: "MmAllocatedNonPagedPool"}}},
	{NonPagedMax, []member{{inVisible, "MaximumNonPagedPoolInPages"}}, []variable{{name: "MmMaximumNonPagedPoolInPages"}, {name: "MmMaximumNonPagedPoolInBytes", bytes: true}}},
	{PagedUsage, []member{{inVisible, "PagedPoolInfo.AllocatedPagedPool"}}, []variable{{name: "MmPagedPoolInfo", typ: "_MM_PAGED_POOL_INFO", path: "AllocatedPagedPool"}}},
	{PagedMax, []member{{inVisible, "SizeOfPagedPoolInPages"}}, []variable{{name: "MmSizeOfPagedPoolInPages"}, {name: "MmSizeOfPagedPoolInBytes", bytes: true}}},
	{SharedCommit, []member{{inPartition, "Vp.SharedCommit"}, {inVisible, "SharedCommit"}}, []variable{{name: "MmSharedCommit"}}},
	{SpecialPool, []member{{inVisible, "SpecialPagesInUse"}}, []variable{{name: "MmSpecialPagesInUse"}}},
	// The variable is followed by others at a distance of 4 bytes.
	{KernelStacks, nil, []variable{{name: "MmKernelStackPages", size: 4}}},
	{MDLPages, []member{{inVisible, "MdlPagesAllocated"}}, []variable{{name: "MmMdlPagesAllocated"}}},
	{ContiguousPages, []member{{inVisible, "ContiguousPagesAllocated"}}, nil},
	at(AWEPages, "Vp.VadPhysicalPages", "MmVadPhysicalPages"),
	{NonPagedCommit, []member{{inVisible, "NonPagedPoolCommit"}}, nil},
	{PagedCommit, nil, []variable{{name: "MmPagedPoolInfo", typ: "_MM_PAGED_POOL_INFO", path: "PagedPoolCommit"}, {name: "MmPagedPoolCommit"}}},
	{DriverCommit, []member{{inVisible, "DriverCommit"}}, []variable{{name: "MmDriverCommit", size: 4}}},
	{BootCommit, []member{{inVisible, "BootCommit"}}, nil},
	{PFNCommit, []member{{inVisible, "PfnDatabaseCommit"}}, nil},
	{SmallPTEsCommit, []member{{inVisible, "SmallNonPagedPtesCommit"}}, nil},
	at(SlabPages, "Vp.SlabAllocatorPages"),
	{PageTableCommit, []member{{inVisible, "SystemPageTableCommit"}}, nil},
	{BitmapPages, []member{{inVisible, "VadBitmapPages"}}, nil},
	at(LockedFilePages, "Vp.ProcessLockedFilePages"),
	{PagefileHashPages, []member{{inVisible, "PagefileHashPages"}}, nil},
	{ProcessTableCommit, []member{{inVisible, "ProcessCommit"}}, []variable{{name: "MmProcessCommit"}}},
	at(Committed, "Vp.TotalCommittedPages", "MmTotalCommittedPages"),
	at(CommitLimit, "Vp.TotalCommitLimit", "MmTotalCommitLimit"),
	at(PeakCommitted, "Commit.PeakCommitment", "MmPeakCommitment"),
}

// at is a counter of the system's partition and the variables before it.
func at(name, path string, vars ...string) place {
	p := place{name, []member{{inPartition, path}}, nil}
	for _, v := range vars {
		p.vars = append(p.vars, variable{name: v})
	}
	return p
}
