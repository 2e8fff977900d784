package vm

import (
	"testing"

	gocmp "github.com/google/go-cmp/cmp"

	"gokd/commands/report"
	"gokd/model/mem"
	"gokd/model/types"
)

// TestMemusage counts the pages of a small machine on every family, with a page
// of the database missing, and without a database.
func TestMemusage(t *testing.T) {
	t.Parallel()
	const pfn = mem.VA(0xfffffa8000000000)
	for _, l := range types.Layouts() {
		t.Run(l.Family(), func(t *testing.T) {
			t.Parallel()
			m := newMachine(t, l)
			m.M.SetGlobal("MmPfnDatabase", uint64(pfn))
			d := m.M.Alloc(m.size("_PHYSICAL_MEMORY_DESCRIPTOR") + 2*m.size("_PHYSICAL_MEMORY_RUN"))
			m.M.SetGlobal("MmPhysicalMemoryBlock", uint64(d))
			m.M.Set(d, 2, "_PHYSICAL_MEMORY_DESCRIPTOR", "NumberOfRuns")
			off, _ := m.M.Field("_PHYSICAL_MEMORY_DESCRIPTOR", "Run")
			for i, r := range [][2]uint64{{1, 99}, {256, 300}} {
				at := d + mem.VA(off) + mem.VA(i*m.size("_PHYSICAL_MEMORY_RUN"))
				m.M.Set(at, r[0], "_PHYSICAL_MEMORY_RUN", "BasePage")
				m.M.Set(at, r[1], "_PHYSICAL_MEMORY_RUN", "PageCount")
			}
			set := func(first, n, list int) {
				for i := first; i < first+n; i++ {
					m.M.Set(pfn+mem.VA(i*0x30), uint64(list), "_MMPFN", "u3", "e1", "PageLocation")
				}
			}
			set(1, 9, 0)
			set(10, 20, 1)
			set(30, 70, 2)
			set(256, 100, 6)
			set(356, 50, 3)
			set(406, 100, 6)
			set(506, 40, 4)
			set(546, 6, 7)
			set(552, 4, 5)
			s, out := open(t, m.open(), report.Era19041)
			const want = `loading PFN database
loading (100% complete)
Compiling memory usage data (99% Complete).
             Zeroed:        9 (      36 kb)
               Free:       20 (      80 kb)
            Standby:       70 (     280 kb)
           Modified:       50 (     200 kb)
    ModifiedNoWrite:       40 (     160 kb)
       Active/Valid:      200 (     800 kb)
         Transition:        6 (      24 kb)
                Bad:        4 (      16 kb)
            Unknown:        0 (       0 kb)
              TOTAL:      399 (    1596 kb)
`
			if diff := gocmp.Diff(want, run(t, s, out, "!memusage 8")); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

func TestMemusage_missing(t *testing.T) {
	t.Parallel()
	const pfn = mem.VA(0xfffffa8000000000)
	m := newMachine(t, types.Embedded(19041)[0])
	m.M.SetGlobal("MmPfnDatabase", uint64(pfn))
	d := m.M.Alloc(0x100)
	m.M.SetGlobal("MmPhysicalMemoryBlock", uint64(d))
	m.M.Set(d, 1, "_PHYSICAL_MEMORY_DESCRIPTOR", "NumberOfRuns")
	off, _ := m.M.Field("_PHYSICAL_MEMORY_DESCRIPTOR", "Run")
	m.M.Set(d+mem.VA(off), 256, "_PHYSICAL_MEMORY_RUN", "PageCount")
	m.M.Put(pfn+0x2000, make([]byte, 0x1000)...) // the first two pages of three are not there
	s, out := open(t, m.open(), report.Era19041)
	// 86 entries lie in the last page, or end in it with their location: entry 170
	// starts before it.
	const want = `loading PFN database
loading (100% complete)
Compiling memory usage data (99% Complete).
             Zeroed:       86 (     344 kb)
               Free:        0 (       0 kb)
            Standby:        0 (       0 kb)
           Modified:        0 (       0 kb)
    ModifiedNoWrite:        0 (       0 kb)
       Active/Valid:        0 (       0 kb)
         Transition:        0 (       0 kb)
                Bad:        0 (       0 kb)
            Unknown:      170 (     680 kb)
              TOTAL:      256 (    1024 kb)
The entries of 170 pages are not in the dump: they stand as Unknown, and all other numbers but the total are floors.
`
	if diff := gocmp.Diff(want, run(t, s, out, "!memusage")); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	m.M.SetGlobal("MmPfnDatabase", 0xfffffb8000000000)
	for _, tt := range []struct{ line, want string }{
		{"!memusage", "!memusage: the PFN database is not in this dump\n"},
		{"!memusage 1", "!memusage: the modified pages that are not written are counted only, by !memusage 8\n"},
		{"!memusage 4", "!memusage: flags 0x4: want 0 or 8\nusage: !memusage [Flags]\n"},
	} {
		if diff := gocmp.Diff(tt.want, run(t, s, out, tt.line)); diff != "" {
			t.Errorf("%s (-want +got):\n%s", tt.line, diff)
		}
	}
	m.M.Set(d, 1<<20, "_PHYSICAL_MEMORY_DESCRIPTOR", "NumberOfRuns")
	if got := run(t, s, out, "!memusage"); got != "!memusage: _PHYSICAL_MEMORY_DESCRIPTOR at 0x"+report.Addr(d).String()+": 1048576 runs make no sense\n" {
		t.Errorf("%s", got)
	}
}
