package vm

import (
	"context"
	"errors"
	"strings"
	"testing"

	gocmp "github.com/google/go-cmp/cmp"

	"gokd/commands/cmd"
	"gokd/commands/report"
	"gokd/model/mem"
	"gokd/model/pool/heaptest"
	"gokd/model/types"
)

// TestVM_classic holds the layout with a title, its warnings and its processes
// to public outputs of the time: the columns are those of x64, the words of the
// warnings those of x86.
func TestVM_classic(t *testing.T) {
	t.Parallel()
	m := newMachine(t, family(t, "7601-late"))
	m.pageFiles(m.pageFile(`\??\C:\pagefile.sys`, 50331648/4, 50306732/4, 50331648/4, 50331648/4))
	m.M.Set(m.M.System, 304, "_EPROCESS", "CommitCharge")
	m.M.Set(m.M.Process(0xa30, 4, "CCC.exe"), 11078, "_EPROCESS", "CommitCharge")
	pte := m.M.Global("MiSystemPteInfo", m.size("_MI_SYSTEM_PTE_TYPE"))
	m.M.Set(pte, 356363, "_MI_SYSTEM_PTE_TYPE", "PteFailures")
	m.M.Put64(m.M.Global("MmPoolFailures", 36), 48530)
	m.M.Put64(m.M.Global("MiChargeCommitmentFailures", 16)+8, 294)
	k := m.open()
	for name, v := range map[string]uint64{
		"MmAllocatedNonPagedPool": 59613, "MmMaximumNonPagedPoolInPages": 69377, "MmTotalCommittedPages": 5990000,
	} {
		m.M.SetGlobal(name, v)
	}
	s, out := open(t, k, report.Era62)
	s.Out.Printer.KDOnly = true
	const want = `
*** Virtual Memory Usage ***
      Physical Memory:     2844914 (  11379656 Kb)
      Page File: \??\C:\pagefile.sys
        Current:  50331648 Kb  Free Space:  50306732 Kb
        Minimum:  50331648 Kb  Maximum:     50331648 Kb
      Available Pages:      666710 (   2666840 Kb)
      ResAvail Pages:      2714282 (  10857128 Kb)
      Free System PTEs:   33494979 ( 133979916 Kb)

      ******* 356363 system PTE allocations have failed ******

      Modified Pages:        12504 (     50016 Kb)
      Modified PF Pages:     12461 (     49844 Kb)
      NonPagedPool Usage:    59613 (    238452 Kb)
      NonPagedPool Max:      69377 (    277508 Kb)
      NonPaged Pool Usage :  85%
      ********** Excessive NonPaged Pool Usage *****
      PagedPool 0 Usage:         0 (         0 Kb)
      PagedPool Usage:       66288 (    265152 Kb)
      PagedPool Maximum: 4294967296 (17179869184 Kb)

      ********** 48530 pool allocations have failed **********

      Shared Commit:       1417735 (   5670940 Kb)
      Special Pool:              0 (         0 Kb)
      PagedPool Commit:          0 (         0 Kb)
      Driver Commit:         13223 (     52892 Kb)
      Committed pages:     5990000 (  23960000 Kb)
      Commit limit:        5990642 (  23962568 Kb)

      ********** Number of committed pages is near limit ********
      ********** 294 commit requests have failed  **********

      Total Private:         11382 (     45528 Kb)
         0a30 CCC.exe             11078 (     44312 Kb)
         0004 System                304 (      1216 Kb)
`
	if diff := gocmp.Diff(want, run(t, s, out, "!vm")); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

// TestVM_processes holds the rows of processes to a public output of 2026.
func TestVM_processes(t *testing.T) {
	t.Parallel()
	m := newMachine(t, types.Embedded(19041)[0])
	for _, p := range []struct {
		pid                   uint64
		image                 string
		private, shared, debt uint64
	}{
		{0x163c, "hydradragonlauncher.exe"[:14], 932, 372, 0}, {0xddc, "svchost.exe", 1296, 1996, 0}, {0x1e2c, "um_engine.exe", 1292, 368, 4},
		{0x1cc, "smss.exe", 1264, 244, 0},
	} {
		at := m.M.Process(p.pid, 4, p.image)
		m.M.Set(at, p.private/4, "_EPROCESS", "CommitCharge")
		m.M.Set(at, p.shared/4, "_EPROCESS", "SharedCommitCharge")
		m.M.Set(at, p.debt/4, "_EPROCESS", "Vm", "Shared", "ReleasedCommitDebt")
	}
	s, out := open(t, m.open(), report.Era19041)
	s.Out.Printer.KDOnly = true
	_, got, _ := strings.Cut(run(t, s, out, "!vm"), "Commit limit:             5990642 (   23962568 Kb)\n")
	const want = `
  Pid ImageName                        Commit   SharedCommit        Debt

  ddc svchost.exe                     1296 Kb        1996 Kb        0 Kb
 1e2c um_engine.exe                   1292 Kb         368 Kb        4 Kb
  1cc smss.exe                        1264 Kb         244 Kb        0 Kb
 163c hydradragonlau                   932 Kb         372 Kb        0 Kb
    4 System                             0 Kb           0 Kb        0 Kb
`
	if diff := gocmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

// withSessions adds two sessions with the use that a public output shows.
func withSessions(m *machine) {
	for id, v := range [][3]uint64{{3060 / 4, 316 / 4, 6484 / 4}, {0, 324 / 4, 324 / 4}} {
		at := mem.VA(0xfffff88002dfa000) + mem.VA(id*0x100000)
		p := m.M.Process(uint64(0x188+id*0x100), 4, "csrss.exe")
		m.M.Set(p, uint64(at), "_EPROCESS", "Session")
		const typ = "_MM_SESSION_SPACE"
		own := m.M.Private(at, at+0xfffff, p)
		own.Put(at, make([]byte, m.size(typ))...)
		own.Set(at, uint64(id), typ, "SessionId")
		if m.has(typ, "PagedPoolInfo", "AllocatedPagedPool") { // it moved within two families
			own.Set(at, v[0], typ, "PagedPoolInfo", "AllocatedPagedPool")
		}
		own.Set(at, v[1], typ, "NonPagablePages")
		own.Set(at, v[2], typ, "CommittedPages")
	}
}

func TestVM_sessions(t *testing.T) {
	t.Parallel()
	m := newMachine(t, types.Embedded(9600)[0])
	withSessions(m)
	s, out := open(t, m.open(), report.Era19041)
	const (
		title = "\nTerminal Server Memory Usage By Session:\n"
		zero  = `
Session ID 0 @ fffff88002dfa000:
Paged Pool Usage:     3060 Kb
NonPaged Usage:        316 Kb
Commit Usage:         6484 Kb
`
		one = `
Session ID 1 @ fffff88002efa000:
Paged Pool Usage:        0 Kb
NonPaged Usage:        324 Kb
Commit Usage:          324 Kb
`
		sum = `
Session Summary
Paged Pool Usage:     3060 Kb
NonPaged Usage:        640 Kb
Commit Usage:         6808 Kb
`
	)
	s.Out.Printer.KDOnly = true
	got := run(t, s, out, "!vm 5")
	if !strings.Contains(got, "\nSession Commit:              1702 (       6808 Kb)\n") {
		t.Errorf("the commit of sessions is not theirs:\n%s", got)
	}
	if diff := gocmp.Diff(title+zero+one+sum, got[strings.Index(got, title):]); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	run(t, s, out, "!session -s 1")
	got = run(t, s, out, "!vm 5")
	if diff := gocmp.Diff(title+one, got[strings.Index(got, title):]); diff != "" {
		t.Errorf("of one session (-want +got):\n%s", diff)
	}
}

func TestSession(t *testing.T) {
	t.Parallel()
	m := newMachine(t, types.Embedded(9600)[0])
	withSessions(m)
	s, out := open(t, m.open(), report.Era19041)
	for _, tt := range []struct{ line, want string }{
		{"!session", "Sessions on machine: 2\nValid Sessions: 0 1\nThe current session is not known: process ffffa80000000000 belongs to no session.\n"},
		{"!session -s 1", "Sessions on machine: 2\nImplicit process is now ffffa800`000014c0\n.cache forcedecodeptes done\nUsing session 1l\n"},
		{"!session", "Sessions on machine: 2\nValid Sessions: 0 1\nCurrent Session 1\n"},
		{"!session 0", "Sessions on machine: 2\nImplicit process is now ffffa800`00000dc0\n.cache forcedecodeptes done\nUsing session 0l\n"},
		{"!session /s 0n1", "!session: \"0n1\" is no number of a session\nusage: !session [DefaultSession]\n"},
		{"!session -s", "!session: -s needs the number of a session, or -1\nusage: !session [DefaultSession]\n"},
		{"!session -s 1 2", "!session: unexpected argument \"2\"\nusage: !session [DefaultSession]\n"},
		{"!session -x", "!session: unknown switch -x\nusage: !session [DefaultSession]\n"},
		{"!session -s 7", "!session: session 7 is not in the dump; there are 0, 1\n"},
		{"!session -s -1", "Sessions on machine: 2\nImplicit process is now ffffa800`00000dc0\n.cache forcedecodeptes done\nUsing session 0l\n"},
	} {
		got := run(t, s, out, tt.line)
		got = strings.ReplaceAll(got, "ffffa800`"+tick(m, 1), "ffffa800`000014c0")
		got = strings.ReplaceAll(got, "ffffa800`"+tick(m, 0), "ffffa800`00000dc0")
		if diff := gocmp.Diff(tt.want, got); diff != "" {
			t.Errorf("%s (-want +got):\n%s", tt.line, diff)
		}
	}
	if s.LogonSession != nil {
		t.Errorf("-s -1 left session %d chosen", *s.LogonSession)
	}
}

// tick gives the low half of the address of a session's process.
func tick(m *machine, id int) string {
	at := m.M.System
	n, _ := m.l.Type("_EPROCESS")
	for range id + 1 {
		at = (at + mem.VA(n.Size) + 0x3f) &^ 0x3f
	}
	_, low, _ := strings.Cut(report.Addr(at).Tick(), "`")
	return low
}

// TestVM_regions holds the rows to a public output of 19041.
func TestVM_regions(t *testing.T) {
	t.Parallel()
	m := newMachine(t, types.Embedded(19041)[0])
	k := m.open()
	visible, _ := k.GlobalPointer("MiVisibleState")
	off, _ := m.M.Field("_MI_VISIBLE_STATE", "SystemVaRegions")
	m.M.Put64(visible+mem.VA(off), 0xffff828000000000)
	m.M.Put64(visible+mem.VA(off)+8, 0x100000000000)
	s, out := open(t, k, report.Era19041)
	const want = `System Region               Base Address    NumberOfBytes

NonPagedPool          : ffff828000000000     100000000000
`
	if got := run(t, s, out, "!vm 0x20"); !strings.HasPrefix(got, want) || strings.Count(got, "\n") != 15 {
		t.Errorf("%s", got)
	}
	seven := newMachine(t, family(t, "7601-late"))
	s, out = open(t, seven.open(), report.Era19041)
	const pools = `System Region               Base Address    NumberOfBytes

NonPagedPool          : ffffa80000000000       8000000000
PagedPool             : fffff8a000000000       2000000000
Only the pools are shown, by other variables of the kernel: the table of regions is not known: regions of system space: this build of Windows does not keep it.
`
	if diff := gocmp.Diff(pools, run(t, s, out, "!vm 20")); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestVM_writes(t *testing.T) {
	t.Parallel()
	m := newMachine(t, types.Embedded(22000)[0])
	k := m.open()
	const typ = "_MI_PAGEFILE_TRACES"
	off, _ := m.M.Field("_MI_PARTITION", "Vp", "PageFileTraces")
	m.M.Set(m.partition, 1, "_MI_PARTITION", "Vp", "PageFileTraceIndex")
	for i, w := range [][6]uint64{{0, 132000000000000000, 1000, 500, 400, 3}, {0xc000007f, 132000000100000000, 900, 600, 500, 0}} {
		at := m.partition + mem.VA(off) + mem.VA(i*m.size(typ))
		for j, f := range []string{"Status", "CurrentTime", "AvailablePages", "ModifiedPagesTotal", "ModifiedPagefilePages", "ModifiedNoWritePages"} {
			path := []string{f}
			if j == 1 {
				path = append(path, "QuadPart")
			}
			m.M.Set(at, w[j], typ, path...)
		}
		m.M.Set(at, 0x10000, typ, "MdlHack", "Mdl", "ByteCount")
	}
	s, out := open(t, k, report.Era19041)
	s.Out.Printer.KDOnly = true
	got := run(t, s, out, "!vm 9")
	const want = `
Page File Write Log (2 writes, oldest first)

Time                         Status      Bytes  Available   Modified   PageFile    NoWrite
2019-04-17 18:40:00.0000000  00000000    10000       1000        500        400          3
2019-04-17 18:40:10.0000000  c000007f    10000        900        600        500          0
`
	if at := strings.Index(got, "\nPage File Write Log"); at < 0 || got[at:] != want {
		t.Errorf("%s", got)
	}
}

func TestVM_threads(t *testing.T) {
	t.Parallel()
	m := newMachine(t, types.Embedded(22000)[0])
	writer := m.M.Thread(m.M.System, 0x20)
	owner := m.M.Thread(m.M.System, 0x24)
	m.M.Set(owner, 1, "_ETHREAD", "OwnsProcessAddressSpaceExclusive")
	m.M.Set(m.partition, uint64(writer), "_MI_PARTITION", "Modwriter", "ModifiedPageWriterThread")
	s, out := open(t, m.open(), report.Era19041)
	got := run(t, s, out, "!vm 13")
	for _, want := range []string{
		"\nMemory Management Thread Stacks:\n\nTHREAD " + report.Addr(writer).String() + "  Cid 0000.0020",
		"\nWorking Set Owner Thread Stacks:\n\nTHREAD " + report.Addr(owner).String() + "  Cid 0000.0024",
		"\nIt is known by nt!MiSystemPartition.Modwriter.ModifiedPageWriterThread.\n",
		"\nIt holds: OwnsProcessAddressSpaceExclusive.\n",
		"\nThreads of this build do not tell which working sets they hold: those that hold address spaces are shown.\n",
	} {
		if !strings.Contains(got, want) {
			t.Errorf("%q is missing in\n%s", want, got)
		}
	}
	if strings.Count(got, "THREAD ") != 2 {
		t.Errorf("more threads than two:\n%s", got)
	}
}

func TestMisuse(t *testing.T) {
	t.Parallel()
	m := newMachine(t, types.Embedded(19041)[0])
	list := m.M.Alloc(0x80)
	s, out := open(t, m.open(), report.Era19041)
	const changed = "!lookaside: counters and depth of a list in a dump can't be changed: dumps are only read\n"
	for _, tt := range []struct{ line, want string }{
		{"!vm 40", "!vm: flags 0x40: want a sum of 1, 2, 4, 8, 10 and 20\nusage: !vm [Flags]\n"},
		{"!frag 8", "!frag: flags 0x8: want a sum of 1, 2 and 4\nusage: !frag [Flags]\n"},
		{"!lookaside 1000 1", changed}, {"!lookaside 1000 2 100", changed}, {"!lookaside 0 0 5", changed},
		{"!lookaside 1000 3", "!lookaside: options 0x3: want 0, 1 or 2\nusage: !lookaside [-all] [Address [Options [Depth]]]\n"},
		{"!lookaside 1000 -all", "!lookaside: -all shows every list: it goes with no address or 0\nusage: !lookaside [-all] [Address [Options [Depth]]]\n"},
		{"!lookaside ffffa80000ffff00", "!lookaside: _GENERAL_LOOKASIDE: 0xffffa80000ffff00: page not present (PDE 0x0)\n"},
		{"!lookaside " + report.Addr(list).String(), "!lookaside: lookaside list at 0x" + report.Addr(list).String() + " holds only zeros\n"},
	} {
		if diff := gocmp.Diff(tt.want, run(t, s, out, tt.line)); diff != "" {
			t.Errorf("%s (-want +got):\n%s", tt.line, diff)
		}
	}
}

// TestInterrupt: every command ends with a cancelled context.
func TestInterrupt(t *testing.T) {
	t.Parallel()
	m := newMachine(t, types.Embedded(19041)[0])
	m.Alloc(heaptest.Ask{Pool: heaptest.NonpagedNx, Tag: "Vmte", Bytes: 0x50})
	s, _ := open(t, m.open(), report.Era19041)
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	for _, line := range []string{"!vm", "!vm 20", "!vm 1e", "!session", "!lookaside", "!lookaside -all", "!frag"} {
		if err := s.Execute(ctx, line); !errors.Is(err, cmd.ErrInterrupted) {
			t.Errorf("%s: %v", line, err)
		}
	}
}
