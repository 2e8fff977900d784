package vm

import (
	"bytes"
	"context"
	"strconv"
	"strings"
	"testing"

	"gokd/commands/cmd"
	"gokd/commands/report"
	"gokd/model"
	"gokd/model/mem"
	"gokd/model/pool/heaptest"
	"gokd/model/types"
)

// hexEval reads every expression as a hex number.
type hexEval struct{}

func (hexEval) Eval(_ context.Context, expr string) (uint64, error) {
	return strconv.ParseUint(strings.TrimPrefix(strings.ReplaceAll(expr, "`", ""), "0x"), 16, 64)
}

func (h hexEval) EvalPrefix(ctx context.Context, text string) (uint64, string, error) {
	word, rest, _ := strings.Cut(strings.TrimLeft(text, " "), " ")
	v, err := h.Eval(ctx, word)
	return v, rest, err
}

// open starts a session on a kernel; what its commands print goes to the buffer.
func open(tb testing.TB, k *model.Kernel, era report.Era) (*cmd.Session, *bytes.Buffer) {
	tb.Helper()
	table, err := cmd.NewTable(Commands()...)
	if err != nil {
		tb.Fatal(err)
	}
	var b bytes.Buffer
	return &cmd.Session{Kernel: k, Commands: table, Out: cmd.NewOutput(&b, era, false), Eval: hexEval{}}, &b
}

// run gives what a line prints, errors included.
func run(tb testing.TB, s *cmd.Session, b *bytes.Buffer, line string) string {
	tb.Helper()
	b.Reset()
	if err := s.Execute(context.Background(), line); err != nil && !strings.Contains(b.String(), err.Error()) {
		b.WriteString(err.Error() + "\n")
	}
	return b.String()
}

// machine is a machine whose memory manager holds the numbers of a public output
// of Windows 11 (Windows 7 ones where that has others).
type machine struct {
	*heaptest.Builder
	t         *testing.T
	l         *types.Layout
	partition mem.VA
}

func newMachine(t *testing.T, l *types.Layout) *machine {
	m := &machine{Builder: heaptest.New(t, l), t: t, l: l}
	if m.has("_MI_PARTITION") {
		m.partition = m.M.Global("MiSystemPartition", m.size("_MI_PARTITION"))
		m.M.Global("MiState", m.size("_MI_SYSTEM_INFORMATION"))
	}
	m.M.Global("ExPagedLookasideListHead", 16) // tells that variables have names
	return m
}

func (m *machine) size(typ string) int {
	t, err := m.l.Type(typ)
	if err != nil {
		m.t.Fatal(err)
	}
	return int(t.Size)
}

// has reports whether the layout has a type, and down a path of members.
func (m *machine) has(typ string, path ...string) bool {
	t, err := m.l.Type(typ)
	if err != nil {
		return false
	}
	for _, name := range path {
		f, ok := t.Field(name)
		if !ok {
			return false
		}
		t = f.Type
	}
	return true
}

// set writes a member where the layout has it.
func (m *machine) set(at mem.VA, v uint64, typ string, path ...string) {
	if m.has(typ, path...) {
		m.M.Set(at, v, typ, path...)
	}
}

// filling is a counter of the memory manager: a member of the partition, of the
// visible state, or a variable of 7 and 8.1.
type filling struct {
	v                  uint64
	partition, visible string
	variable           string
	typ, member        string // of a variable that is a structure
}

var numbers = []filling{
	{2844914, "Vp.NumberOfPhysicalPages", "", "MmNumberOfPhysicalPages", "", ""},
	{666710, "Vp.AvailablePages", "", "MmAvailablePages", "", ""},
	{2714282, "Vp.ResidentAvailablePages", "", "MmResidentAvailablePages", "", ""},
	{12504, "Vp.ModifiedPageListHead.Total", "", "MmModifiedPageListHead", "_MMPFNLIST", "Total"},
	{12461, "Vp.TotalPagesForPagingFile", "", "MmTotalPagesForPagingFile", "", ""},
	{0, "Vp.ModifiedNoWritePageListHead.Total", "", "MmModifiedNoWritePageListHead", "_MMPFNLIST", "Total"},
	{0, "", "NonPagedPoolCommit", "MmSpecialPagesInUse", "", ""},
	{1417735, "Vp.SharedCommit", "SharedCommit", "MmSharedCommit", "", ""},
	{3008, "", "MdlPagesAllocated", "MmMdlPagesAllocated", "", ""},
	{4, "", "ContiguousPagesAllocated", "", "", ""},
	{13223, "", "DriverCommit", "MmDriverCommit", "", ""},
	{4899, "", "BootCommit", "", "", ""},
	{34410, "", "PfnDatabaseCommit", "", "", ""},
	{462, "", "SmallNonPagedPtesCommit", "", "", ""},
	{1115, "", "SystemPageTableCommit", "", "", ""},
	{106, "", "PagefileHashPages", "", "", ""},
	{4608, "Vp.SlabAllocatorPages", "", "", "", ""},
	{14, "Vp.ProcessLockedFilePages", "", "", "", ""},
	{0, "Vp.VadPhysicalPages", "", "MmVadPhysicalPages", "", ""},
	{2355436, "Vp.TotalCommittedPages", "", "MmTotalCommittedPages", "", ""},
	{5990642, "Vp.TotalCommitLimit", "", "MmTotalCommitLimit", "", ""},
	{66288, "", "PagedPoolInfo.AllocatedPagedPool", "MmPagedPoolInfo", "_MM_PAGED_POOL_INFO", "AllocatedPagedPool"},
	{4294967296, "", "MaximumNonPagedPoolInPages", "MmMaximumNonPagedPoolInPages", "", ""},
	{4294967296, "", "SizeOfPagedPoolInPages", "MmSizeOfPagedPoolInPages", "", ""},
	{33494979, "", "SystemPteInfo.TotalFreeSystemPtes", "MiSystemPteInfo", "_MI_SYSTEM_PTE_TYPE", "TotalFreeSystemPtes"},
}

// open opens the machine and fills in the numbers.
func (m *machine) open() *model.Kernel {
	m.t.Helper()
	if m.partition == 0 {
		for _, n := range numbers {
			if n.variable == "" {
				continue
			}
			if n.typ == "" {
				m.M.SetGlobal(n.variable, n.v)
				continue
			}
			at := m.M.Global(n.variable, m.size(n.typ))
			m.set(at, n.v, n.typ, n.member)
		}
		m.M.SetGlobal("MmAllocatedNonPagedPool", 33884)
	}
	k := m.Open()
	if m.partition == 0 {
		return k
	}
	visible, err := k.GlobalPointer("MiVisibleState")
	if err != nil {
		m.t.Fatal(err)
	}
	state, err := k.Global("MiState")
	if err != nil {
		m.t.Fatal(err)
	}
	for _, n := range numbers {
		if n.partition != "" {
			m.set(m.partition, n.v, "_MI_PARTITION", strings.Split(n.partition, ".")...)
		}
		if n.visible != "" {
			m.set(visible, n.v, "_MI_VISIBLE_STATE", strings.Split(n.visible, ".")...)
		}
	}
	m.set(visible, 35482, "_MI_VISIBLE_STATE", "NonPagedPoolCommit")
	m.set(state, 33884, "_MI_SYSTEM_INFORMATION", "Pools", "AllocatedNonPagedPool")
	return k
}

// pageFile makes a paging file of some pages.
func (m *machine) pageFile(name string, size, free, minimum, maximum uint64) mem.VA {
	const typ = "_MMPAGING_FILE"
	at := m.M.Alloc(m.size(typ))
	for field, v := range map[string]uint64{"Size": size, "FreeSpace": free, "MinimumSize": minimum, "MaximumSize": maximum} {
		m.M.Set(at, v, typ, field)
	}
	if name != "" {
		text := m.M.Alloc(2 * len(name))
		for i := range len(name) {
			m.M.Put(text+mem.VA(2*i), name[i], 0)
		}
		m.M.Set(at, uint64(2*len(name)), typ, "PageFileName", "Length")
		m.M.Set(at, uint64(2*len(name)), typ, "PageFileName", "MaximumLength")
		m.M.Set(at, uint64(text), typ, "PageFileName", "Buffer")
	}
	return at
}

// pageFiles links paging files where the family keeps their addresses.
func (m *machine) pageFiles(files ...mem.VA) {
	var table mem.VA
	if m.partition != 0 {
		off, _ := m.M.Field("_MI_PARTITION", "Vp", "PagingFile")
		table = m.partition + mem.VA(off)
		m.M.Set(m.partition, uint64(len(files)), "_MI_PARTITION", "Vp", "NumberOfPagingFiles")
	} else {
		table = m.M.Global("MmPagingFile", 128)
		m.M.SetGlobal("MmNumberOfPagingFiles", uint64(len(files)))
	}
	for i, f := range files {
		m.M.Put64(table+mem.VA(8*i), uint64(f))
	}
}
