package vm

import (
	"strings"
	"testing"

	gocmp "github.com/google/go-cmp/cmp"

	"gokd/commands/report"
	"gokd/model/pool/heaptest"
	"gokd/model/types"
)

// TestVM_windows11 holds the lines that a public output of Windows 11 and a
// machine with its numbers have in common, columns and all.
func TestVM_windows11(t *testing.T) {
	t.Parallel()
	m := newMachine(t, types.Embedded(22000)[0])
	m.pageFiles(
		m.pageFile(`\??\C:\pagefile.sys`, 12582912/4, 12527296/4, 12582912/4, 12582912/4),
		m.pageFile(`\??\C:\swapfile.sys`, 262144/4, 223824/4, 262144/4, 6289836/4),
		m.pageFile("", 16776136/4, 16095604/4, 16776136/4, 16776136/4),
	)
	for _, p := range []heaptest.Pool{heaptest.Nonpaged, heaptest.NonpagedNx} {
		m.Alloc(heaptest.Ask{Pool: p, Tag: "Vmte", Bytes: 0x50})
	}
	x, nx := m.Heap(heaptest.Nonpaged, 0).At, m.Heap(heaptest.NonpagedNx, 0).At
	m.M.Set(m.M.PRCB(), 741, "_KPRCB", "CachedCommit")
	m.M.Set(m.M.System, 754817, "_EPROCESS", "CommitCharge")
	k := m.open()
	state, _ := k.Global("MiState")
	m.M.Set(state, 73746, "_MI_SYSTEM_INFORMATION", "SystemPtes", "KernelStackPteInfo", "PteFailures")
	m.M.Set(x, 272, "_SEGMENT_HEAP", "MemStats", "TotalCommittedPages")
	m.M.Set(nx, 33000, "_SEGMENT_HEAP", "MemStats", "TotalCommittedPages")
	m.M.Set(nx, 612, "_SEGMENT_HEAP", "LargeCommittedPages")
	s, out := open(t, k, report.Era19041)
	s.Out.Printer.KDOnly = true
	const want = `Page File: \??\C:\pagefile.sys
  Current:  12582912 Kb  Free Space:  12527296 Kb
  Minimum:  12582912 Kb  Maximum:     12582912 Kb
Page File: \??\C:\swapfile.sys
  Current:    262144 Kb  Free Space:    223824 Kb
  Minimum:    262144 Kb  Maximum:      6289836 Kb
No Name for Paging File
  Current:  16776136 Kb  Free Space:  16095604 Kb
  Minimum:  16776136 Kb  Maximum:     16776136 Kb

Physical Memory:          2844914 (   11379656 Kb)
Available Pages:           666710 (    2666840 Kb)
ResAvail Pages:           2714282 (   10857128 Kb)
Free System PTEs:        33494979 (  133979916 Kb)

******* 73746 kernel stack PTE allocations have failed ******

Modified Pages:             12504 (      50016 Kb)
Modified PF Pages:          12461 (      49844 Kb)
Modified No Write Pages:        0 (          0 Kb)
NonPagedPool Usage:           272 (       1088 Kb)
NonPagedPoolNx Usage:       33612 (     134448 Kb)
NonPagedPool Max:      4294967296 (17179869184 Kb)
PagedPool Usage:            66288 (     265152 Kb)
PagedPool Maximum:     4294967296 (17179869184 Kb)
Processor Commit:             741 (       2964 Kb)
Shared Commit:            1417735 (    5670940 Kb)
Pages For MDLs:              3008 (      12032 Kb)
ContigMem Pages:                4 (         16 Kb)
Partition Pages:                0 (          0 Kb)
Pages For AWE:                  0 (          0 Kb)
NonPagedPool Commit:        35482 (     141928 Kb)
Driver Commit:              13223 (      52892 Kb)
Boot Commit:                 4899 (      19596 Kb)
PFN Array Commit:           34410 (     137640 Kb)
SmallNonPagedPtesCommit:      462 (       1848 Kb)
SlabAllocatorPages:          4608 (      18432 Kb)
System PageTables:           1115 (       4460 Kb)
ProcessLockedFilePages:        14 (         56 Kb)
Pagefile Hash Pages:          106 (        424 Kb)
Total Private:             754817 (    3019268 Kb)
Committed pages:          2355436 (    9421744 Kb)
Commit limit:             5990642 (   23962568 Kb)
`
	if diff := gocmp.Diff(want, run(t, s, out, "!vm 1")); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

// TestVM_families shows each family's lines and what its notes say is missing.
func TestVM_families(t *testing.T) {
	t.Parallel()
	const (
		first = `
Physical Memory:          2844914 (   11379656 Kb)
Available Pages:           666710 (    2666840 Kb)
ResAvail Pages:           2714282 (   10857128 Kb)
Free System PTEs:        33494979 (  133979916 Kb)
Modified Pages:             12504 (      50016 Kb)
Modified PF Pages:          12461 (      49844 Kb)
Modified No Write Pages:        0 (          0 Kb)
NonPagedPool Usage:         33884 (     135536 Kb)
NonPagedPool Max:      4294967296 (17179869184 Kb)
`
		paged = `PagedPool Usage:            66288 (     265152 Kb)
PagedPool Maximum:     4294967296 (17179869184 Kb)
Processor Commit:               0 (          0 Kb)
Shared Commit:            1417735 (    5670940 Kb)
`
		special = "Special Pool:                   0 (          0 Kb)\n"
		mdls    = "Pages For MDLs:              3008 (      12032 Kb)\n"
		contig  = "ContigMem Pages:                4 (         16 Kb)\n"
		part    = "Partition Pages:                0 (          0 Kb)\n"
		awe     = "Pages For AWE:                  0 (          0 Kb)\n"
		npc     = "NonPagedPool Commit:        35482 (     141928 Kb)\n"
		ppc     = "PagedPool Commit:               0 (          0 Kb)\n"
		driver  = "Driver Commit:              13223 (      52892 Kb)\n"
		boot    = "Boot Commit:                 4899 (      19596 Kb)\n"
		pfn     = `PFN Array Commit:           34410 (     137640 Kb)
SmallNonPagedPtesCommit:      462 (       1848 Kb)
`
		slab   = "SlabAllocatorPages:          4608 (      18432 Kb)\n"
		tables = "System PageTables:           1115 (       4460 Kb)\n"
		vads   = "VAD/PageTable Bitmaps:          0 (          0 Kb)\n"
		files  = `ProcessLockedFilePages:        14 (         56 Kb)
Pagefile Hash Pages:          106 (        424 Kb)
`
		last = `Total Private:                  0 (          0 Kb)
Committed pages:          2355436 (    9421744 Kb)
Commit limit:             5990642 (   23962568 Kb)
`
		unknown3 = "Left out: Locked IO Pages, Kernel Stacks, PagedPool Commit (where this build keeps it is not known).\n"
		unknown2 = "Left out: Locked IO Pages, Kernel Stacks (where this build keeps it is not known).\n"
		session  = "Left out: Session Commit (the memory of sessions is not in this dump: none of the machine's sessions is in it).\n" +
			"Left out: Sum System Commit, Misc/Transient Commit (a part of it is not known: session_commit).\n"
		together = "NonPagedPool Usage counts executable and other nonpaged pool together.\n"
		pool0    = "PagedPool  0:                   0 (          0 Kb)\n"
	)
	noFiles := "Left out: page files (the symbols of this kernel tell where they are: GUID).\n"
	const stacks = "Kernel stacks of the listed threads (1): 6 pages (24 Kb).\n"
	seven := first + pool0 + paged + special + mdls + awe + ppc + driver + last + unknown2 + session + noFiles + stacks
	for _, tt := range []struct{ family, want string }{
		{"7601-early", seven}, {"7601-late", seven},
		{"9600", first + pool0 + paged + special + mdls + awe + driver + last + unknown3 + session + noFiles + stacks + together},
		{"14393", first + pool0 + paged + special + mdls + part + awe + npc + driver + boot + tables + vads + files + last + unknown3 + session + stacks + together},
		{"17763", first + pool0 + paged + special + mdls + part + awe + npc + driver + boot + pfn + slab + tables + files + last + unknown3 + session + stacks + together},
		{"18362", first + paged + mdls + part + awe + npc + driver + boot + pfn + slab + tables + files + last + unknown3 + session + stacks + together},
		{"19041", first + paged + mdls + awe + npc + driver + boot + pfn + slab + tables + files + last + unknown3 + session + stacks + together},
		{"20348", first + paged + mdls + contig + part + awe + npc + driver + boot + pfn + slab + tables + files + last + unknown3 + session + stacks + together},
		{"22000", first + paged + mdls + contig + part + awe + npc + driver + boot + pfn + slab + tables + files + last + unknown3 + session + stacks + together},
	} {
		t.Run(tt.family, func(t *testing.T) {
			t.Parallel()
			k := newMachine(t, family(t, tt.family)).open()
			s, out := open(t, k, report.Era19041)
			got := run(t, s, out, "!vm 1")
			// Which kernel the symbols are of is no matter of the family.
			if at := strings.Index(got, "where they are: "); at >= 0 {
				end := at + strings.Index(got[at:], ")")
				got = got[:at] + "where they are: GUID" + got[end:]
			}
			if diff := gocmp.Diff(tt.want, got); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

func family(t *testing.T, name string) *types.Layout {
	t.Helper()
	for _, l := range types.Layouts() {
		if l.Family() == name {
			return l
		}
	}
	t.Fatalf("no layout %s", name)
	return nil
}
