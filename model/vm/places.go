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
	ran(at(Physical, "Vp.NumberOfPhysicalPages", "MmNumberOfPhysicalPages")),
	at(Available, "Vp.AvailablePages", "MmAvailablePages"),
	at(ResidentAvailable, "Vp.ResidentAvailablePages", "MmResidentAvailablePages"),
	{name: FreeSystemPTEs, alive: true, members: []member{{inVisible, "SystemPteInfo.TotalFreeSystemPtes"}}, vars: []variable{{name: "MiSystemPteInfo", typ: "_MI_SYSTEM_PTE_TYPE", path: "TotalFreeSystemPtes"}}},
	{name: Modified, members: []member{{inPartition, "Vp.ModifiedPageListHead.Total"}}, vars: []variable{{name: "MmModifiedPageListHead", typ: "_MMPFNLIST", path: "Total"}}},
	at(ModifiedPagefile, "Vp.TotalPagesForPagingFile", "MmTotalPagesForPagingFile"),
	{name: ModifiedNoWrite, members: []member{{inPartition, "Vp.ModifiedNoWritePageListHead.Total"}}, vars: []variable{{name: "MmModifiedNoWritePageListHead", typ: "_MMPFNLIST", path: "Total"}}},
	{name: NonPagedUsage, alive: true, members: []member{{inSystem, "Pools.AllocatedNonPagedPool"}}, vars: []variable{{name: "MmAllocatedNonPagedPool"}}},
	{name: NonPagedMax, alive: true, members: []member{{inVisible, "MaximumNonPagedPoolInPages"}}, vars: []variable{{name: "MmMaximumNonPagedPoolInPages"}, {name: "MmMaximumNonPagedPoolInBytes", bytes: true}}},
	{name: PagedUsage, alive: true, members: []member{{inVisible, "PagedPoolInfo.AllocatedPagedPool"}}, vars: []variable{{name: "MmPagedPoolInfo", typ: "_MM_PAGED_POOL_INFO", path: "AllocatedPagedPool"}}},
	{name: PagedMax, alive: true, members: []member{{inVisible, "SizeOfPagedPoolInPages"}}, vars: []variable{{name: "MmSizeOfPagedPoolInPages"}, {name: "MmSizeOfPagedPoolInBytes", bytes: true}}},
	{name: SharedCommit, members: []member{{inPartition, "Vp.SharedCommit"}, {inVisible, "SharedCommit"}}, vars: []variable{{name: "MmSharedCommit"}}},
	{name: SpecialPool, members: []member{{inVisible, "SpecialPagesInUse"}}, vars: []variable{{name: "MmSpecialPagesInUse"}}},
	// The variable is followed by others at a distance of 4 bytes.
	{name: KernelStacks, vars: []variable{{name: "MmKernelStackPages", size: 4}}},
	{name: MDLPages, members: []member{{inVisible, "MdlPagesAllocated"}}, vars: []variable{{name: "MmMdlPagesAllocated"}}},
	{name: ContiguousPages, members: []member{{inVisible, "ContiguousPagesAllocated"}}},
	at(AWEPages, "Vp.VadPhysicalPages", "MmVadPhysicalPages"),
	{name: NonPagedCommit, members: []member{{inVisible, "NonPagedPoolCommit"}}},
	{name: PagedCommit, vars: []variable{{name: "MmPagedPoolInfo", typ: "_MM_PAGED_POOL_INFO", path: "PagedPoolCommit"}, {name: "MmPagedPoolCommit"}}},
	{name: DriverCommit, members: []member{{inVisible, "DriverCommit"}}, vars: []variable{{name: "MmDriverCommit", size: 4}}},
	{name: BootCommit, members: []member{{inVisible, "BootCommit"}}},
	{name: PFNCommit, members: []member{{inVisible, "PfnDatabaseCommit"}}},
	{name: SmallPTEsCommit, members: []member{{inVisible, "SmallNonPagedPtesCommit"}}},
	at(SlabPages, "Vp.SlabAllocatorPages"),
	{name: PageTableCommit, members: []member{{inVisible, "SystemPageTableCommit"}}},
	{name: BitmapPages, members: []member{{inVisible, "VadBitmapPages"}}},
	at(LockedFilePages, "Vp.ProcessLockedFilePages"),
	{name: PagefileHashPages, members: []member{{inVisible, "PagefileHashPages"}}},
	{name: ProcessTableCommit, members: []member{{inVisible, "ProcessCommit"}}, vars: []variable{{name: "MmProcessCommit"}}},
	ran(at(Committed, "Vp.TotalCommittedPages", "MmTotalCommittedPages")),
	ran(at(CommitLimit, "Vp.TotalCommitLimit", "MmTotalCommitLimit")),
	at(PeakCommitted, "Commit.PeakCommitment", "MmPeakCommitment"),
}

// at is a counter of the system's partition and the variables before it.
func at(name, path string, vars ...string) place {
	p := place{name: name, members: []member{{inPartition, path}}}
	for _, v := range vars {
		p.vars = append(p.vars, variable{name: v})
	}
	return p
}

// ran marks a counter that is never zero on a machine that ran.
func ran(p place) place {
	p.alive = true
	return p
}
