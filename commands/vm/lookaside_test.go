package vm

import (
	"strings"
	"testing"

	gocmp "github.com/google/go-cmp/cmp"

	"gokd/commands/report"
	"gokd/model/mem"
	"gokd/model/pool/heaptest"
	"gokd/model/types"
)

// list is what a lookaside list holds.
type list struct {
	depth, max        uint16
	allocates, misses uint32
	frees, freeMisses uint32
	typ, size         uint32
	tag               string
}

// put writes a list, and links it behind a head where that is not 0.
func (l list) put(m *machine, at, head mem.VA, last mem.VA) {
	const typ = "_GENERAL_LOOKASIDE"
	m.M.Put(at, byte(l.depth), byte(l.depth>>8), 0x11, 0x22) // the sequence number follows
	for field, v := range map[string]uint32{
		"Depth": uint32(l.max), "TotalAllocates": l.allocates, "AllocateMisses": l.misses, "TotalFrees": l.frees, "FreeMisses": l.freeMisses,
		"Type": l.typ, "Size": l.size,
	} {
		m.M.Set(at, uint64(v), typ, field)
	}
	off, _ := m.M.Field(typ, "Tag")
	m.M.Put(at+mem.VA(off), []byte(l.tag)...)
	if head == 0 {
		return
	}
	link, _ := m.M.Field(typ, "ListEntry")
	if last == 0 {
		m.M.Link(head, at+mem.VA(link))
		return
	}
	m.M.Link(head, last+mem.VA(link), at+mem.VA(link))
}

var (
	twilight = list{0, 34, 759, 534, 715, 467, 0, 32, "CcWk"}
	smallIRP = list{0, 4, 263, 217, 113, 66, 0, 280, "Irps"}
	ntfs     = list{3, 4, 272492, 8, 272488, 0, 0x11, 496, "Ntfs"}
)

const (
	twilightText = `
Lookaside "nt!CcTwilightLookasideList" @ 0xTWILIGHT  Tag(hex): 0x6b576343 "CcWk"
    Type           =       0000  NonPagedPool
    Current Depth  =          0  Max Depth  =         34
    Size           =         32  Max Alloc  =       1088
    AllocateMisses =        534  FreeMisses =        467
    TotalAllocates =        759  TotalFrees =        715
    Hit Rate       =         29% Hit Rate   =         34%
`
	irpText = `
Lookaside "nt!IopSmallIrpLookasideList" @ 0xSMALLIRP  Tag(hex): 0x73707249 "Irps"
    Type           =       0000  NonPagedPool
    Current Depth  =          0  Max Depth  =          4
    Size           =        280  Max Alloc  =       1120
    AllocateMisses =        217  FreeMisses =         66
    TotalAllocates =        263  TotalFrees =        113
    Hit Rate       =         17% Hit Rate   =         41%
`
	ntfsText = `
Lookaside "" @ 0xNTFS  Tag(hex): 0x7366744e "Ntfs"
    Type           =       0011  PagedPool RaiseIfAllocationFailure
    Current Depth  =          3  Max Depth  =          4
    Size           =        496  Max Alloc  =       1984
    AllocateMisses =          8  FreeMisses =          0
    TotalAllocates =     272492  TotalFrees =     272488
    Hit Rate       =         99% Hit Rate   =        100%
`
)

// TestLookaside holds the blocks to public outputs, on every family.
func TestLookaside(t *testing.T) {
	t.Parallel()
	for _, l := range types.Layouts() {
		t.Run(l.Family(), func(t *testing.T) {
			t.Parallel()
			m := newMachine(t, l)
			a, b := m.M.Global("CcTwilightLookasideList", 0x80), m.M.Global("IopSmallIrpLookasideList", 0x80)
			c := m.M.Alloc(0x80)
			twilight.put(m, a, m.M.Global("ExSystemLookasideListHead", 16), 0)
			smallIRP.put(m, b, m.M.Global("ExSystemLookasideListHead", 16), a)
			paged := m.M.Global("ExPagedLookasideListHead", 16)
			ntfs.put(m, c, paged, 0)
			for _, head := range []string{"ExPoolLookasideListHead", "ExNPagedLookasideListHead"} {
				m.M.Link(m.M.Global(head, 16))
			}
			s, out := open(t, m.open(), report.Era19041)
			texts := strings.NewReplacer("TWILIGHT", report.Addr(a).String(), "SMALLIRP", report.Addr(b).String(), "NTFS", report.Addr(c).String())
			const known = `
Total NonPaged currently allocated for above lists =        0
Total NonPaged potential for above lists           =     2208
Total Paged currently allocated for above lists    =        0
Total Paged potential for above lists              =        0
`
			const all = `
Total NonPaged currently allocated for above lists =        0
Total NonPaged potential for above lists           =     2208
Total Paged currently allocated for above lists    =     1488
Total Paged potential for above lists              =     1984
`
			for _, tt := range []struct{ line, want string }{
				{"!lookaside", twilightText + irpText + known},
				{"!lookaside 0 -all", twilightText + irpText + ntfsText + all},
				{"!lookaside 0x" + report.Addr(c).String(), ntfsText},
			} {
				got := run(t, s, out, tt.line)
				if i := strings.Index(got, "The lookaside lists of the segment heaps could not be read"); i >= 0 {
					got = got[:i] // the machine has no heaps
				}
				if diff := gocmp.Diff(texts.Replace(tt.want), got); diff != "" {
					t.Errorf("%s (-want +got):\n%s", tt.line, diff)
				}
			}
		})
	}
}

// TestLookaside_pools: the processors' lists count hits, and segment heaps have
// lists of their own.
func TestLookaside_pools(t *testing.T) {
	t.Parallel()
	m := newMachine(t, family(t, "7601-late"))
	off, _ := m.M.Field("_KPRCB", "PPNPagedLookasideList")
	list{5, 16, 100, 90, 80, 60, 0, 32, "Pool"}.put(m, m.M.PRCB()+mem.VA(off), 0, 0)
	s, out := open(t, m.open(), report.Era19041)
	got := run(t, s, out, "!lookaside -all")
	want := `
Lookaside "processor 0 PPNPagedLookasideList[0]" @ 0x` + report.Addr(m.M.PRCB()+mem.VA(off)).String() + `  Tag(hex): 0x6c6f6f50 "Pool"
    Type           =       0000  NonPagedPool
    Current Depth  =          5  Max Depth  =         16
    Size           =         32  Max Alloc  =        512
    AllocateMisses =         10  FreeMisses =         20
    TotalAllocates =        100  TotalFrees =         80
    Hit Rate       =         90% Hit Rate   =         75%

Total NonPaged currently allocated for above lists =      160
Total NonPaged potential for above lists           =      512
Total Paged currently allocated for above lists    =        0
Total Paged potential for above lists              =        0
`
	if !strings.HasPrefix(got, want) || !strings.Contains(got, "4 lists, or lists of lists, could not be read, the first: ") {
		t.Errorf("%s", got)
	}

	_, alone, _ := strings.Cut(want, "@")
	alone, _, _ = strings.Cut(alone, "\n\n")
	if got := run(t, s, out, "!lookaside "+report.Addr(m.M.PRCB()+mem.VA(off)).String()); got != "\nLookaside \"\" @"+alone+"\n" {
		t.Errorf("%s", got)
	}

	m = newMachine(t, types.Embedded(19041)[0])
	m.Alloc(heaptest.Ask{Pool: heaptest.NonpagedNx, Tag: "Vmte", Bytes: 0x50})
	m.Alloc(heaptest.Ask{Pool: heaptest.NonpagedNx, Tag: "Vmte", Bytes: 0x50})
	m.Heap(heaptest.NonpagedNx, 0).VS(4)
	k := m.open()
	state, err := k.Global("ExPoolState")
	if err != nil {
		t.Fatal(err)
	}
	nodes, _ := m.M.Field("_EX_POOL_HEAP_MANAGER_STATE", "PoolNode")
	looks, _ := m.M.Field("_EX_HEAP_POOL_NODE", "Lookasides")
	buckets, _ := m.M.Field("_RTL_DYNAMIC_LOOKASIDE", "Buckets")
	at := state + mem.VA(nodes+looks+buckets) + 2*mem.VA(m.size("_RTL_LOOKASIDE"))
	m.M.Put(at, 7, 0)
	for f, v := range map[string]uint64{"Depth": 16, "TotalAllocates": 200, "AllocateMisses": 50, "TotalFrees": 100, "FreeMisses": 1} {
		m.M.Set(at, v, "_RTL_LOOKASIDE", f)
	}
	s, out = open(t, k, report.Era19041)
	const rows = `
Lookaside lists of the segment heaps:
Node Lookaside Bucket  Depth Max Depth  Allocates     Misses  Hit Rate       Frees     Misses  Hit Rate
   0         0      2      7        16        200         50        75%        100          1        99%
`
	if got := run(t, s, out, "!lookaside -all"); !strings.HasPrefix(got, rows) {
		t.Errorf("%s", got)
	}
}
