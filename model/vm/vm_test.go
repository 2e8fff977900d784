package vm_test

import (
	"context"
	"errors"
	"strings"
	"testing"

	gocmp "github.com/google/go-cmp/cmp"

	"gokd/model"
	"gokd/model/mem"
	"gokd/model/modeltest"
	"gokd/model/types"
	"gokd/model/vm"
)

func size(tb testing.TB, m *modeltest.Machine, typ string) int {
	tb.Helper()
	t, err := m.Layout.Type(typ)
	if err != nil {
		tb.Fatal(err)
	}
	return int(t.Size)
}

// TestRead_roots: the system's partition is found by its variable, or through
// nt!MiState; one that nobody filled in is no source of zeros.
func TestRead_roots(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name   string
		make   func(m *modeltest.Machine)
		want   uint64
		from   string
		reason string
	}{
		{"variable", func(m *modeltest.Machine) {
			at := m.Global("MiSystemPartition", size(t, m, "_MI_PARTITION"))
			m.Set(at, 1000, "_MI_PARTITION", "Vp", "NumberOfPhysicalPages")
			m.Set(at, 77, "_MI_PARTITION", "Vp", "AvailablePages")
		}, 77, "nt!MiSystemPartition.Vp.AvailablePages", ""},
		{"through MiState", func(m *modeltest.Machine) {
			at := m.Variable(size(t, m, "_MI_PARTITION"))
			m.Set(at, 1000, "_MI_PARTITION", "Vp", "NumberOfPhysicalPages")
			m.Set(at, 78, "_MI_PARTITION", "Vp", "AvailablePages")
			table := m.Variable(8)
			m.Put64(table, uint64(at))
			m.Set(m.Global("MiState", size(t, m, "_MI_SYSTEM_INFORMATION")), uint64(table), "_MI_SYSTEM_INFORMATION", "Partitions", "Partition")
		}, 78, "nt!MiSystemPartition.Vp.AvailablePages", ""},
		{"zeros", func(m *modeltest.Machine) {
			m.Global("MiSystemPartition", size(t, m, "_MI_PARTITION"))
		}, 0, "", "nt!MiSystemPartition: _MI_PARTITION at "},
		{"variables of a snapshot", func(m *modeltest.Machine) { m.SetGlobal("MmAvailablePages", 79) }, 79, "nt!MmAvailablePages", ""},
		{"unreadable", func(m *modeltest.Machine) {
			at := m.Global("MiSystemPartition", size(t, m, "_MI_PARTITION"))
			off, _ := m.Field("_MI_PARTITION", "Vp", "NumberOfPhysicalPages")
			m.NotCaptured(at + mem.VA(off))
		}, 0, "", "nt!MiSystemPartition: _MI_PARTITION.Vp.NumberOfPhysicalPages: "},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			m := modeltest.New(t, types.Embedded(22000)[0])
			tt.make(m)
			got, err := vm.Read(context.Background(), m.OpenPaged(nil))
			if err != nil {
				t.Fatal(err)
			}
			c := got.Counter(vm.Available)
			switch {
			case tt.reason != "" && (c.Known() || !strings.HasPrefix(c.Err.Error(), tt.reason)):
				t.Errorf("%+v, want the reason %s", c, tt.reason)
			case tt.reason == "":
				if diff := gocmp.Diff(vm.Counter{Name: vm.Available, Pages: tt.want, From: tt.from}, c); diff != "" {
					t.Errorf("(-want +got):\n%s", diff)
				}
			}
		})
	}
}

// TestRead_degraded: without any layout nothing is known, and nothing panics.
func TestRead_degraded(t *testing.T) {
	t.Parallel()
	m, err := vm.Read(context.Background(), &model.Kernel{Space: &mem.Space{}})
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{vm.Physical, vm.ProcessorCommit, vm.NonPagedUsage, "no such counter"} {
		if m.Counter(name).Known() {
			t.Errorf("%s is known", name)
		}
	}
}

func TestPageFiles(t *testing.T) {
	t.Parallel()
	l := types.Embedded(9600)[0]
	m := modeltest.New(t, l)
	table := m.Global("MmPagingFile", 128)
	m.SetGlobal("MmNumberOfPagingFiles", 2)
	at := m.Alloc(size(t, m, "_MMPAGING_FILE"))
	m.Set(at, 4096, "_MMPAGING_FILE", "Size")
	m.Put64(table, uint64(at))
	m.Put64(table+8, 0xffffa8000bad0000)
	k := m.OpenPaged(nil)
	list, err := vm.PageFiles(k)
	if err != nil || len(list) != 2 || list[0].Size != 4096 || len(list[0].Gaps) != 0 {
		t.Fatalf("%+v, %v", list, err)
	}
	for _, f := range []string{"size", "free", "minimum", "maximum", "name"} {
		if list[1].Gaps[f] == nil {
			t.Errorf("%s of a file that is not in the dump is known", f)
		}
	}
	m.SetGlobal("MmNumberOfPagingFiles", 17)
	if _, err := vm.PageFiles(k); err == nil || err.Error() != "paging files: the kernel counts 17, more than the 16 there can be" {
		t.Errorf("%v", err)
	}
}

// TestPageFileWrites: the log is a ring, and its index counts on for ever.
func TestPageFileWrites(t *testing.T) {
	t.Parallel()
	m := modeltest.New(t, types.Embedded(19041)[0])
	at := m.Global("MiSystemPartition", size(t, m, "_MI_PARTITION"))
	m.Set(at, 1000, "_MI_PARTITION", "Vp", "NumberOfPhysicalPages")
	m.Set(at, 32*5+2, "_MI_PARTITION", "Vp", "PageFileTraceIndex")
	off, _ := m.Field("_MI_PARTITION", "Vp", "PageFileTraces")
	for i := range 32 {
		m.Set(at+mem.VA(off)+mem.VA(i*size(t, m, "_MI_PAGEFILE_TRACES")), uint64(1000+i), "_MI_PAGEFILE_TRACES", "AvailablePages")
	}
	list, err := vm.PageFileWrites(context.Background(), m.OpenPaged(nil))
	if err != nil || len(list) != 32 || list[0].Available != 1003 || list[31].Available != 1002 {
		t.Errorf("%d writes, first %+v, %v", len(list), list[0], err)
	}
}

func TestTypeName(t *testing.T) {
	t.Parallel()
	for typ, want := range map[uint32]string{
		0: "NonPagedPool", 1: "PagedPool", 0x11: "PagedPool RaiseIfAllocationFailure", 0x200: "NonPagedPoolNx", 4: "NonPagedPoolCacheAligned",
		0x21: "PagedPoolSession", 0x8: "NonPagedPool QuotaFailInsteadOfRaise", 0x9999: "unknown type 0x9981 RaiseIfAllocationFailure QuotaFailInsteadOfRaise",
	} {
		if got := vm.TypeName(typ); got != want {
			t.Errorf("%#x: %q, want %q", typ, got, want)
		}
	}
}

// TestAllLookasides_loop: a list of lists that bites its tail ends with an
// error, and the next list of lists is walked.
func TestAllLookasides_loop(t *testing.T) {
	t.Parallel()
	m := modeltest.New(t, types.Embedded(19041)[0])
	link, _ := m.Field("_GENERAL_LOOKASIDE", "ListEntry")
	var at [3]mem.VA
	for i := range at {
		at[i] = m.Alloc(0x80)
		m.Set(at[i], uint64(0x40+i), "_GENERAL_LOOKASIDE", "Size")
	}
	head := m.Global("ExNPagedLookasideListHead", 16)
	m.Link(head, at[0]+mem.VA(link), at[1]+mem.VA(link))
	m.Put64(at[1]+mem.VA(link), uint64(at[0]+mem.VA(link)))
	m.Link(m.Global("ExPagedLookasideListHead", 16), at[2]+mem.VA(link))
	var sizes []uint32
	broken := 0
	for l, err := range vm.AllLookasides(context.Background(), m.OpenPaged(nil)) {
		if err != nil {
			if walk, ok := errors.AsType[*model.WalkError](err); ok && walk.Shown == 2 {
				broken++
			}
			continue
		}
		sizes = append(sizes, l.Size)
	}
	if diff := gocmp.Diff([]uint32{0x40, 0x41, 0x42}, sizes); diff != "" || broken != 1 {
		t.Errorf("%d broken (-want +got):\n%s", broken, diff)
	}
}

func TestRegions(t *testing.T) {
	t.Parallel()
	for _, l := range types.Layouts() {
		m := modeltest.New(t, l)
		if _, err := l.Type("_MI_VISIBLE_STATE"); err != nil {
			if _, err := vm.Regions(m.OpenPaged(nil)); !errors.Is(err, vm.ErrNotKept) {
				t.Errorf("%s: %v", l.Family(), err)
			}
			continue
		}
		state := m.Variable(size(t, m, "_MI_VISIBLE_STATE"))
		m.SetGlobal("MiVisibleState", uint64(state))
		m.Set(state, 1, "_MI_VISIBLE_STATE", "ProcessCommit")
		off, f := m.Field("_MI_VISIBLE_STATE", "SystemVaRegions")
		m.Put64(state+mem.VA(off)+8, 0x1000)
		list, err := vm.Regions(m.OpenPaged(nil))
		if err != nil || len(list) != int(f.Type.Count) || list[0].Bytes != 0x1000 || strings.HasPrefix(list[0].Name, "Assigned") {
			t.Errorf("%s: %+v, %v", l.Family(), list, err)
		}
	}
}

// TestStacks: a thread whose bounds make no sense is told, not counted.
func TestStacks(t *testing.T) {
	t.Parallel()
	for _, l := range types.Layouts() {
		m := modeltest.New(t, l)
		m.Thread(m.System, 0x20)
		odd := m.Thread(m.System, 0x24)
		m.Set(odd, 0x1000, "_ETHREAD", "Tcb", "StackLimit")
		use, err := vm.Stacks(context.Background(), m.OpenPaged(nil))
		// The idle thread is one of the two that count.
		want := vm.StackUse{Threads: 2, Pages: 2 * modeltest.StackSize / mem.PageSize, Unread: 1}
		if diff := gocmp.Diff(want, use); diff != "" || err != nil {
			t.Errorf("%s: %v (-want +got):\n%s", l.Family(), err, diff)
		}
	}
}

// BenchmarkRead reads every counter of a machine.
func BenchmarkRead(b *testing.B) {
	m := modeltest.New(b, types.Embedded(22000)[0])
	at := m.Global("MiSystemPartition", size(b, m, "_MI_PARTITION"))
	m.Set(at, 1000, "_MI_PARTITION", "Vp", "NumberOfPhysicalPages")
	k := m.OpenPaged(nil)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := vm.Read(context.Background(), k); err != nil {
			b.Fatal(err)
		}
	}
}
