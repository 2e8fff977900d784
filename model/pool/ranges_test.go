package pool

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	gocmp "github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"gokd/model"
	"gokd/model/mem"
	"gokd/model/pool/heaptest"
)

// rangeLine gives a range as a line.
func rangeLine(r Range) string {
	mark := ""
	if r.Inferred {
		mark = " (inferred)"
	}
	return fmt.Sprintf("%s %x-%x %s%s", r.Kind, uint64(r.Start), uint64(r.Last), r.From, mark)
}

func tellRanges(t *testing.T, p *Pool, kind Kind) (lines []string) {
	t.Helper()
	list, err := p.Ranges(t.Context(), kind)
	if err != nil {
		return []string{err.Error()}
	}
	for _, r := range list {
		lines = append(lines, rangeLine(r))
	}
	return lines
}

func TestRanges(t *testing.T) {
	t.Parallel()
	want := map[string][]string{
		"7601-early": {"nonpaged ffffa80000000000-ffffa87fffffffff nt!MmNonPagedPoolStart", "paged fffff8a000000000-fffff8bfffffffff nt!MmPagedPoolEnd"},
		"7601-late":  {"nonpaged ffffa80000000000-ffffa87fffffffff nt!MmNonPagedPoolStart", "paged fffff8a000000000-fffff8bfffffffff nt!MmPagedPoolEnd"},
		"9600":       {"nonpaged ffffa80000000000-ffffa87fffffffff free lists (inferred)", "paged ffffc00000000000-ffffc07fffffffff nt!MiPagedPoolStart"},
	}
	forFamilies(t, 0, 1<<31, func(t *testing.T, b *heaptest.Builder) {
		b.Alloc(heaptest.Ask{Pool: heaptest.Nonpaged, Tag: "Some", Bytes: 100})
		lines := want[b.M.Layout.Family()]
		if lines == nil {
			lines = []string{"nonpaged ffffa80000000000-ffffa87fffffffff nt!MiVisibleState", "paged ffffc00000000000-ffffc07fffffffff nt!MiVisibleState"}
		}
		p := openBuilt(t, b)
		got := append(tellRanges(t, p, Nonpaged), tellRanges(t, p, Paged)...)
		if d := gocmp.Diff(lines, got); d != "" {
			t.Errorf("(-want +got):\n%s", d)
		}
	})
}

// nodes replaces the machine's NUMA nodes by others. The rest of the page
// behind them is of a variable's making.
func nodes(b *heaptest.Builder, behind uint64, limits ...[2]mem.VA) (array mem.VA, write func()) {
	typ, path := "_MI_SYSTEM_NODE_INFORMATION", "SystemNodeInformation"
	if b.M.Has("_MI_HARDWARE_STATE", "SystemNodeNonPagedPool") {
		typ, path = "_MI_SYSTEM_NODE_NONPAGED_POOL", "SystemNodeNonPagedPool"
	}
	t, _ := b.M.Layout.Type(typ)
	size := mem.VA(t.Size)
	array = b.M.Variable(int(size) * 70)
	return array, func() {
		for i := range size * 70 / 8 {
			b.M.Put64(array+8*i, behind)
		}
		for i, l := range limits {
			b.M.Set(array+mem.VA(i)*size, uint64(l[0]), typ, "NonPagedPoolFirstVa")
			b.M.Set(array+mem.VA(i)*size, uint64(l[1]), typ, "NonPagedPoolLastVa")
		}
		off, _ := b.M.Field("_MI_SYSTEM_INFORMATION", "Hardware", path)
		b.M.Put64(b.M.Global("MiState", 8)+mem.VA(off), uint64(array))
	}
}

// threeNodes are outside the region that the builder assigns, but for the first.
var threeNodes = [][2]mem.VA{
	{0xffffa80000000000, 0xffffa81fffffffff}, {0xffffb00000000000, 0xffffb000ffffffff}, {0xffffb20000000000, 0xffffb20000001fff},
}

func TestRanges_nodes(t *testing.T) {
	t.Parallel()
	want := []string{
		"nonpaged ffffa80000000000-ffffa87fffffffff nt!MiVisibleState",
		"nonpaged ffffb00000000000-ffffb000ffffffff nt!MiState, node 1",
		"nonpaged ffffb20000000000-ffffb20000001fff nt!MiState, node 2",
	}
	for name, c := range map[string]struct {
		behind uint64
		count  uint64 // 0: KeNumberNodes is not known
		want   []string
	}{
		"counted":                {0xffffb40000000000, 3, want},
		"counted, fewer":         {0, 2, want[:2]},
		"not counted":            {0, 0, want},
		"not counted, pointers":  {0xffffb40000000000, 0, want},
		"not counted, text":      {0x2064207020612063, 0, want},
		"counted, more than any": {0, 0xffff, want},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			forFamilies(t, 14393, 1<<31, func(t *testing.T, b *heaptest.Builder) {
				_, write := nodes(b, c.behind, threeNodes...)
				if c.count > 0 {
					b.Set("KeNumberNodes", c.count)
				}
				p := openBuilt(t, b)
				write()
				if d := gocmp.Diff(c.want, tellRanges(t, p, Nonpaged)); d != "" {
					t.Errorf("(-want +got):\n%s", d)
				}
			})
		})
	}
}

// TestRanges_slots marks more units of system space as pool.
func TestRanges_slots(t *testing.T) {
	t.Parallel()
	forFamilies(t, 17763, 1<<31, func(t *testing.T, b *heaptest.Builder) {
		p := openBuilt(t, b)
		enum, err := b.M.Layout.Type("_MI_SYSTEM_VA_TYPE")
		if err != nil {
			t.Fatal(err)
		}
		state, err := p.k.GlobalPointer("MiVisibleState")
		if err != nil {
			t.Fatal(err)
		}
		off, _ := b.M.Field("_MI_VISIBLE_STATE", "SystemVaType")
		for _, slot := range []mem.VA{0x10, 0x11, 0x30} {
			b.M.Put(state+mem.VA(off)+slot, byte(enum.Consts["MiVaPagedPool"]))
		}
		want := []string{
			"paged ffff880000000000-ffff88ffffffffff _MI_VISIBLE_STATE.SystemVaType",
			"paged ffff980000000000-ffff987fffffffff _MI_VISIBLE_STATE.SystemVaType",
			"paged ffffc00000000000-ffffc07fffffffff nt!MiVisibleState",
		}
		if d := gocmp.Diff(want, tellRanges(t, p, Paged)); d != "" {
			t.Errorf("(-want +got):\n%s", d)
		}
	})
}

// TestRanges_hostile lets a region be of 2^63 bytes, wrap around, and lie in
// user space; a bitmap and the nodes then tell, or nobody does.
func TestRanges_hostile(t *testing.T) {
	t.Parallel()
	for name, region := range map[string][2]uint64{
		"huge":  {0xffffa80000000000, 1 << 63},
		"wraps": {0xffffa80000000000, 0xffffffffffffffff},
		"user":  {0x10000, 0x10000},
		"none":  {0, 0},
		"hole":  {0x8000000000000000, 0x100000},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := heaptest.New(t, family(t, "14393"))
			p := openBuilt(t, b)
			state, err := p.k.GlobalPointer("MiVisibleState")
			if err != nil {
				t.Fatal(err)
			}
			off, _ := b.M.Field("_MI_VISIBLE_STATE", "SystemVaRegions")
			for i := range mem.VA(14) {
				at := state + mem.VA(off) + i*16
				b.M.Set(at, region[0], "_MI_SYSTEM_VA_ASSIGNMENT", "BaseAddress")
				b.M.Set(at, region[1], "_MI_SYSTEM_VA_ASSIGNMENT", "NumberOfBytes")
			}
			want := []string{"nonpaged ffffa80000000000-ffffa87fffffffff nt!MiState", "paged ffffc00000000000-ffffc07fffffffff nt!MiState"}
			got := append(tellRanges(t, p, Nonpaged), tellRanges(t, p, Paged)...)
			if d := gocmp.Diff(want, got); d != "" {
				t.Errorf("(-want +got):\n%s", d)
			}
		})
	}
}

// TestRanges_pagedPoolInfo finds paged pool by the page-table entry of its first
// page.
func TestRanges_pagedPoolInfo(t *testing.T) {
	t.Parallel()
	forFamilies(t, 7601, 9600, func(t *testing.T, b *heaptest.Builder) {
		info := b.M.Global("MmPagedPoolInfo", 0x100)
		const start = mem.VA(0xffffc10000000000)
		b.M.Set(info, uint64(oldPteBase+(start&0xffffffffffff)/mem.PageSize*8), "_MM_PAGED_POOL_INFO", "FirstPteForPagedPool")
		b.M.Set(info, 0x1000, "_MM_PAGED_POOL_INFO", "PagedPoolAllocationMap", "SizeOfBitMap")
		lines := tellRanges(t, openBuilt(t, b), Paged)
		if !slices.Contains(lines, "paged ffffc10000000000-ffffc10000ffffff nt!MmPagedPoolInfo") {
			t.Errorf("%q", lines)
		}
	})
}

// TestRanges_expansion splits the nonpaged pool of builds up to Vista in two.
func TestRanges_expansion(t *testing.T) {
	t.Parallel()
	b := heaptest.New(t, family(t, "7601-early"))
	b.Set("MmNonPagedPoolExpansionStart", 0xffffa87000000000)
	b.Set("MmSizeOfNonPagedPoolInBytes", 0x20000000)
	want := []string{
		"nonpaged ffffa80000000000-ffffa8001fffffff nt!MmNonPagedPoolStart",
		"nonpaged ffffa87000000000-ffffa87fffffffff nt!MmNonPagedPoolExpansionStart",
	}
	if d := gocmp.Diff(want, tellRanges(t, openBuilt(t, b), Nonpaged)); d != "" {
		t.Errorf("(-want +got):\n%s", d)
	}
}

// TestRanges_unknown asks a kernel that no variable is known of.
func TestRanges_unknown(t *testing.T) {
	t.Parallel()
	p := &Pool{k: &model.Kernel{
		Types: family(t, "19041"), Space: mem.NewX64(fakeTables(1), fakeRoot), Modules: &model.Modules{},
	}, ranges: map[Kind][]Range{}}
	_, err := p.Ranges(t.Context(), Paged)
	var unknown *model.GlobalError
	if !errors.As(err, &unknown) || !strings.Contains(err.Error(), "paged pool: its range is not known: nt!MiVisibleState") {
		t.Errorf("%v", err)
	}
}

func TestTidy(t *testing.T) {
	t.Parallel()
	list := []Range{
		{Start: 0x5000, Last: 0x5fff, From: "c"},
		{Start: 0x1000, Last: 0x2fff, From: "a"},
		{Start: 0x3000, Last: 0x3fff, From: "b", Inferred: true},
		{Start: 0xfffffffffffff000, Last: 0xffffffffffffffff, From: "d"},
		{Start: 0x2000, Last: 0x2fff, From: "a"},
	}
	want := []Range{
		{Start: 0x1000, Last: 0x3fff, From: "a, b", Inferred: true},
		{Start: 0x5000, Last: 0x5fff, From: "c"},
		{Start: 0xfffffffffffff000, Last: 0xffffffffffffffff, From: "d"},
	}
	if d := gocmp.Diff(want, tidy(list), cmpopts.IgnoreUnexported(Range{})); d != "" {
		t.Errorf("(-want +got):\n%s", d)
	}
}

// TestMappedBy maps page-table entries back to what they map.
func TestMappedBy(t *testing.T) {
	t.Parallel()
	p := openBuilt(t, heaptest.New(t, family(t, "9600")))
	for _, c := range []struct {
		pte, want mem.VA
		ok        bool
	}{
		{0xfffff6fb7dbedf68, 0xfffff6fb7dbed000, true}, // the top table maps itself there
		{0xfffff6fffffffff8, 0xfffffffffffff000, true},
		{0xfffff68000000000, 0, false}, // user space
		{0xfffff67ffffffff8, 0, false},
		{0xfffff70000000000, 0, false},
		{0xfffff6fb7dbedf69, 0, false},
	} {
		if got, ok := p.mappedBy(c.pte); ok != c.ok || ok && got != c.want {
			t.Errorf("%#x: %#x, %v", uint64(c.pte), uint64(got), ok)
		}
	}
}
