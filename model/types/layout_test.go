package types

import (
	"bytes"
	"errors"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"gokd/dumpfmt/dumptest/shared"
)

// TestLayouts_tables holds every embedded layout against the public symbol
// table of its very image, and two more images of each kind of variant.
func TestLayouts_tables(t *testing.T) {
	t.Parallel()
	for _, file := range shared.Glob(t, "isf/windows/ntkrnlmp.pdb", "*.json*") {
		t.Run(filepath.Base(file), func(t *testing.T) {
			t.Parallel()
			table, err := ReadISF(bytes.NewReader(shared.Unpacked(t, file)), file)
			if err != nil {
				t.Fatal(err)
			}
			m := table.Metadata()
			l, g, ok := EmbeddedByGUID(m.GUID, m.Age)
			if !ok {
				t.Fatal("kernel not embedded")
			}
			compareLayout(t, l, table)
			compareGlobals(t, g, table)
			if o := table.Origin(); o.Build != l.Origin().Build {
				t.Errorf("build of the table = %d, want %d", o.Build, l.Origin().Build)
			}
		})
	}
}

func compareLayout(t *testing.T, l *Layout, table *ISF) {
	t.Helper()
	_, _, byHand := l.Evidence()
	names := slices.DeleteFunc(l.TypeNames(), func(name string) bool { return byHand[name] != "" || unnamed(name) })
	compareTypes(t, l, table, spell, names)
	if len(names) < 150 {
		t.Errorf("only %d types compared", len(names))
	}
}

// compareTypes compares what one function tells of types in both stores; all
// must be there.
func compareTypes[S any](t *testing.T, l *Layout, table *ISF, tell func(*Type) S, names []string) {
	t.Helper()
	for _, name := range names {
		got, err := l.Type(name)
		if err != nil {
			t.Error(err)
			continue
		}
		want, err := table.Type(name)
		if err != nil {
			t.Error(err)
			continue
		}
		if diff := cmp.Diff(tell(want), tell(got)); diff != "" {
			t.Errorf("%s (-want +got):\n%s", name, diff)
		}
	}
}

func compareGlobals(t *testing.T, g *Globals, table *ISF) {
	t.Helper()
	for _, name := range g.Names() {
		got, _ := g.Lookup(name)
		want, ok := table.Lookup(name)
		if !ok || got != want {
			t.Errorf("global %s = %#x, want %#x, %v", name, got.RVA, want.RVA, ok)
		}
	}
	if g.Len() < 40 {
		t.Errorf("only %d globals", g.Len())
	}
	p, err := table.Type("_EPROCESS")
	if err != nil || p.Size != g.SizeEProcess() {
		t.Errorf("sizeof(_EPROCESS) = %#x, want %#x, %v", g.SizeEProcess(), p.Size, err)
	}
	// These names share their addresses with others in some kernels.
	for name, inside := range map[string]uint32{
		"KySwitchKernelStackCallout": 0x27, "KxStartSystemThread": 0x16, "KiSwitchKernelStackContinue": 0,
	} {
		want, _ := table.Lookup(name)
		for _, s := range []Symbols{g, table} {
			sym, delta, ok := s.Nearest(want.RVA + inside)
			if !ok || sym != want || delta != inside {
				t.Errorf("%s: Nearest in %s = %s+%#x, %v", s.Describe(), name, sym.Name, delta, ok)
			}
		}
	}
	callout, _ := table.Lookup("KySwitchKernelStackCallout")
	if sym, delta, ok := g.Nearest(callout.RVA + 0x20000); ok {
		t.Errorf("Nearest far from every global = %s+%#x, want none", sym.Name, delta)
	}
}

// TestLayouts_early holds the Windows 7 layout that no public table of symbols
// has against one made from the same public facts.
func TestLayouts_early(t *testing.T) {
	t.Parallel()
	table, err := OpenISF(shared.Path(t, "dumps/symbols/win7seed/ntkrnlmp.pdb/5EEDDEADBEEF4C0CA11E760100020601-1.json.xz"))
	if err != nil {
		t.Fatal(err)
	}
	compareTypes(t, Embedded(7601)[0], table, places, []string{
		"_KTHREAD", "_ETHREAD", "_KPROCESS", "_EPROCESS", "_KWAIT_BLOCK", "_ERESOURCE", "_OWNER_ENTRY", "_KPRCB",
		"_POOL_HEADER", "_POOL_TRACKER_TABLE", "_POOL_TRACKER_BIG_PAGES", "_KAPC_STATE", "_HANDLE_TABLE", "_IRP",
		"_KERNEL_STACK_CONTROL", "_MMPTE_SOFTWARE", "_CONTEXT", "_KTRAP_FRAME",
	})
}

// places gives where the fields lie, without their types.
func places(t *Type) map[string][4]uint32 {
	m := map[string][4]uint32{"": {t.Size}}
	for _, f := range t.Fields {
		m[f.Name] = [4]uint32{f.Offset, uint32(f.BitPos), uint32(f.BitLen), f.Type.Size}
	}
	return m
}

// required names what the walkers of the project cannot do without.
var required = strings.Fields(`
_KTHREAD.Header _KTHREAD.InitialStack _KTHREAD.StackLimit _KTHREAD.StackBase _KTHREAD.KernelStack _KTHREAD.ApcState
_KTHREAD.WaitBlockList _KTHREAD.WaitBlock _KTHREAD.State _KTHREAD.WaitTime _KTHREAD.WaitReason _KTHREAD.Process
_KTHREAD.ThreadListEntry _KTHREAD.Alertable _KTHREAD.EnableStackSwap _KTHREAD.KernelStackResident
_KTHREAD.ForegroundBoost _KTHREAD.UnusualBoost _KTHREAD.NextProcessor _KTHREAD.TrapFrame _KTHREAD.SavedApcState
_ETHREAD.Tcb _ETHREAD.Cid _ETHREAD.ClientSecurity _ETHREAD.IrpList _ETHREAD.Win32StartAddress _ETHREAD.StartAddress
_ETHREAD.ThreadListEntry _ETHREAD.CrossThreadFlags _ETHREAD.ActiveImpersonationInfo _ETHREAD.ThreadIoPriority
_ETHREAD.StartAddressInvalid _KPROCESS.DirectoryTableBase _KPROCESS.ThreadListHead _EPROCESS.Pcb
_EPROCESS.UniqueProcessId _EPROCESS.ActiveProcessLinks _EPROCESS.ImageFileName _EPROCESS.ThreadListHead
_EPROCESS.ActiveThreads _EPROCESS.Peb _EPROCESS.Session _EPROCESS.InheritedFromUniqueProcessId _EPROCESS.DeviceMap
_EPROCESS.ObjectTable _EPROCESS.Token _EPROCESS.SeAuditProcessCreationInfo _KWAIT_BLOCK.Thread _KWAIT_BLOCK.Object
_DISPATCHER_HEADER.Type _DISPATCHER_HEADER.SignalState _DISPATCHER_HEADER.WaitListHead _KSEMAPHORE.Limit
_KMUTANT.OwnerThread _KTIMER.DueTime _KQUEUE.EntryListHead _KGATE.Header _ERESOURCE.OwnerEntry
_ERESOURCE.ActiveEntries _OWNER_ENTRY.OwnerThread _OWNER_ENTRY.OwnerCount _OWNER_ENTRY.TableSize
_KPCR.Prcb _KPRCB.CurrentThread _KPRCB.IdleThread _KPRCB.ProcessorState _KPRCB.Context _KPRCB.DpcStack _KPRCB.PPNPagedLookasideList
_KPROCESSOR_STATE.ContextFrame _KSPECIAL_REGISTERS.Cr3 _CONTEXT.Rip _KTRAP_FRAME.Rip _KEXCEPTION_FRAME.Return
_MACHINE_FRAME.Rsp _KSWITCH_FRAME.Return _IRP.Tail _IRP.Tail.Overlay _IRP.Tail.Overlay.Thread _IRP.ThreadListEntry
_IO_STACK_LOCATION.MajorFunction _FILE_OBJECT.FileName _DEVICE_OBJECT.DriverObject _DRIVER_OBJECT.DriverName
_MDL.StartVa _KLDR_DATA_TABLE_ENTRY.DllBase _LDR_DATA_TABLE_ENTRY.DllBase _UNICODE_STRING.Buffer _LIST_ENTRY.Flink
_SINGLE_LIST_ENTRY.Next _CLIENT_ID.UniqueThread _EX_FAST_REF.RefCnt _OBJECT_HEADER.TypeIndex _OBJECT_TYPE.Name
_OBJECT_NAME_INFORMATION.Name _SE_AUDIT_PROCESS_CREATION_INFO.ImageFileName _HANDLE_TABLE.TableCode
_HANDLE_TABLE_ENTRY.VolatileLowValue|Object _POOL_HEADER.PoolTag _POOL_HEADER.BlockSize _POOL_TRACKER_TABLE.Key
_POOL_TRACKER_TABLE.PagedBytes _POOL_TRACKER_BIG_PAGES.Va _GENERAL_LOOKASIDE.ListHead _GENERAL_LOOKASIDE_POOL.ListHead
_MM_SESSION_SPACE.SessionId _MMPTE.u _MMPTE_HARDWARE.PageFrameNumber _MMPTE_SOFTWARE.PageFileHigh
_MMPTE_PROTOTYPE.ProtoAddress _MMPTE_TRANSITION.PageFrameNumber _MMPTE_SUBSECTION.SubsectionAddress
_MMPTE_TIMESTAMP.MustBeZero|Valid _MMPTE_LIST.NextEntry _MMPFN.PteAddress _KUSER_SHARED_DATA.TickCountMultiplier _KUSER_SHARED_DATA.SystemTime
_KSYSTEM_TIME.High1Time _PS_CLIENT_SECURITY_CONTEXT.ImpersonationLevel _TOKEN.TokenSource _UNLOADED_DRIVER.StartAddress
`)

// requiredEnums are there in every layout.
var requiredEnums = map[string]string{
	"_KWAIT_REASON": "WrResource", "_KTHREAD_STATE": "DeferredReady", "_KOBJECTS": "TimerSynchronizationObject",
	"_MI_SYSTEM_VA_TYPE": "MiVaNonPagedPool",
}

func TestLayouts_required(t *testing.T) {
	t.Parallel()
	all := Layouts()
	if len(all) != 9 {
		t.Errorf("%d embedded layouts, want 9", len(all))
	}
	for _, l := range all {
		for _, path := range required {
			owner, field := path[:strings.LastIndex(path, ".")], path[strings.LastIndex(path, ".")+1:]
			typ, err := l.Type(owner)
			if err != nil {
				t.Error(err)
				continue
			}
			found := false
			for _, name := range strings.Split(field, "|") {
				_, ok := typ.Field(name)
				found = found || ok
			}
			if !found {
				t.Errorf("%s: %s missing", l.Family(), path)
			}
		}
		for name, constant := range requiredEnums {
			if typ, err := l.Type(name); err != nil {
				t.Error(err)
			} else if _, ok := typ.Consts[constant]; !ok && name != "_KOBJECTS" {
				t.Errorf("%s: %s has no %s: %v", l.Family(), name, constant, typ.Consts)
			}
		}
	}
}

// TestLayouts_form holds the files to what style and reader promise.
func TestLayouts_form(t *testing.T) {
	t.Parallel()
	for _, f := range families() {
		file, err := f.file()
		if err != nil {
			t.Error(err)
			continue
		}
		if file.Family != f.name || file.Build != f.build || file.PDB == "" || file.FileVersion == "" {
			t.Errorf("layouts/%s.json says family %q, build %d, version %q", f.name, file.Family, file.Build, file.FileVersion)
		}
		if file.Origin == "" || file.Evidence == "" {
			t.Errorf("layouts/%s.json: origin or evidence missing", f.name)
		}
		if file.ID != "" {
			if _, _, err := parseID(file.ID); err != nil {
				t.Errorf("layouts/%s.json: %v", f.name, err)
			}
		}
		for name, why := range file.ByHand {
			if file.Types[name] == nil && file.Enums[name] == nil || why == "" {
				t.Errorf("layouts/%s.json: by_hand %s: no such type or no evidence", f.name, name)
			}
		}
		for _, l := range []*Layout{{family: f, types: f.view}} {
			checkForm(t, l)
		}
	}
}

func checkForm(t *testing.T, l *Layout) {
	t.Helper()
	for _, name := range l.TypeNames() {
		typ, err := l.Type(name)
		if err != nil {
			t.Error(err)
			continue
		}
		if typ.Name != name || typ.Kind == KindEnum != (len(typ.Consts) > 0) || typ.Kind != KindEnum && typ.Size == 0 {
			t.Errorf("%s: %s: name %q, kind %d, size %#x", l.Family(), name, typ.Name, typ.Kind, typ.Size)
		}
		for _, f := range typ.Fields {
			if f.Name == "" || f.Type == nil || f.Type.Size == 0 && f.Type.Kind != KindArray && f.Type.Name != "_TERMINATION_PORT" {
				t.Errorf("%s: %s.%s: incomplete", l.Family(), name, f.Name)
			}
			// An array of no or one element at the end stands for any number.
			if uint64(f.Offset)+uint64(f.Type.Size) > uint64(typ.Size) {
				t.Errorf("%s: %s.%s: ends at %#x, beyond size %#x", l.Family(), name, f.Name, f.Offset+f.Type.Size, typ.Size)
			}
			if int(f.BitPos)+int(f.BitLen) > int(f.Type.Size)*8 && f.BitLen > 0 {
				t.Errorf("%s: %s.%s: bits %d+%d beyond the unit", l.Family(), name, f.Name, f.BitPos, f.BitLen)
			}
		}
	}
}

func TestEmbedded_order(t *testing.T) {
	t.Parallel()
	tests := []struct {
		build uint32
		want  []string
	}{
		{3790, []string{"7601-early", "7601-late"}},
		{7601, []string{"7601-early", "7601-late"}},
		{9200, []string{"7601-late", "7601-early", "9600"}},
		{9600, []string{"9600"}},
		{15063, []string{"14393", "17763"}},
		{18363, []string{"18362", "19041"}},
		{19045, []string{"19041", "20348"}},
		{26100, []string{"22000"}},
	}
	for _, tt := range tests {
		var got []string
		for _, l := range Embedded(tt.build) {
			got = append(got, l.Family())
			if o := l.Origin(); o.Match != MatchNearest || o.File != "" || !strings.HasPrefix(o.Source, "embedded layout ") {
				t.Errorf("%d: origin %+v", tt.build, o)
			}
		}
		if diff := cmp.Diff(tt.want, got); diff != "" {
			t.Errorf("Embedded(%d) (-want +got):\n%s", tt.build, diff)
		}
	}
}

// TestEmbedded_kernels opens what is embedded for each of the public set's kernels.
func TestEmbedded_kernels(t *testing.T) {
	t.Parallel()
	kernels := Kernels()
	if len(kernels) != 213 {
		t.Errorf("%d kernels, want 213", len(kernels))
	}
	for _, id := range kernels {
		l, g, ok := EmbeddedByGUID(id.GUID, id.Age)
		if !ok {
			t.Errorf("%s-%d: not found", id.GUID, id.Age)
			continue
		}
		if o := l.Origin(); o.Match != MatchExact || l.FileVersion() != g.Version() {
			t.Errorf("%s: origin %+v, version %s", id.GUID, o, g.Version())
		}
		if got, age, ok := l.ID(); !ok || got != id.GUID || age != id.Age {
			t.Errorf("%s: ID = %s-%d, %v", id.GUID, got, age, ok)
		}
		p, err := l.Type("_EPROCESS")
		if err != nil || p.Size != g.SizeEProcess() {
			t.Errorf("%s: sizeof(_EPROCESS) = %#x, want %#x, %v", g.Version(), p.Size, g.SizeEProcess(), err)
			continue
		}
		if diff := cmp.Diff([]uint32{p.Size}, l.AcceptSizes("_EPROCESS")); diff != "" {
			t.Errorf("%s: sizes (-want +got):\n%s", g.Version(), diff)
		}
		if _, ok := g.Lookup("PsActiveProcessHead"); !ok {
			t.Errorf("%s: no PsActiveProcessHead", g.Version())
		}
	}
	if _, _, ok := EmbeddedByGUID(GUID{1}, 1); ok {
		t.Error("found a kernel with an invented GUID")
	}
	if _, _, ok := EmbeddedByGUID(kernels[0].GUID, kernels[0].Age+1); ok {
		t.Error("found a kernel with another age")
	}
}

// TestLayout_moving checks that without a known GUID a layout lacks the fields
// that move inside its family, and has the others.
func TestLayout_moving(t *testing.T) {
	t.Parallel()
	tests := []struct {
		build   uint32
		path    string
		present bool
	}{
		{19041, "_KTHREAD.ResourceIndex", false},
		{20348, "_KTHREAD.ResourceIndex", false},
		{22000, "_KTHREAD.ResourceIndex", false},
		{18362, "_KTHREAD.ResourceIndex", true},
		{19041, "_KPRCB.CoresPerPhysicalProcessor", false},
		{19041, "_KPRCB.CurrentThread", true},
		{20348, "_KPROCESS.KernelTimeLow", true}, // only renamed
		{9600, "_EPROCESS.ImageFileName", true},
	}
	for _, tt := range tests {
		owner, field, _ := strings.Cut(tt.path, ".")
		typ, err := Embedded(tt.build)[0].Type(owner)
		if err != nil {
			t.Fatal(err)
		}
		if _, ok := typ.Field(field); ok != tt.present {
			t.Errorf("%d: %s present = %v, want %v", tt.build, tt.path, ok, tt.present)
		}
	}
	sizes := map[uint32][]uint32{
		9600: {0x700, 0x708}, 14393: {0x7c8, 0x7d0}, 17763: {0x850, 0x858}, 18362: {0x880}, 20348: {0xb80, 0xbc0},
	}
	for build, want := range sizes {
		if diff := cmp.Diff(want, Embedded(build)[0].AcceptSizes("_EPROCESS")); diff != "" {
			t.Errorf("%d: sizes of _EPROCESS (-want +got):\n%s", build, diff)
		}
	}
}

func TestLayout_as(t *testing.T) {
	t.Parallel()
	l := Embedded(19041)[0]
	other := l.As(MatchSynthetic)
	if l.Origin().Match != MatchNearest || other.Origin().Match != MatchSynthetic {
		t.Errorf("match = %v and %v", l.Origin().Match, other.Origin().Match)
	}
	if _, err := other.Type("_KTHREAD"); err != nil {
		t.Error(err)
	}
	var missing *NotFoundError
	if _, err := l.Type("_NO_SUCH"); !errors.As(err, &missing) || missing.What != "type" || missing.Name != "_NO_SUCH" {
		t.Errorf("error = %v, want a *NotFoundError", err)
	}
	if sizes := l.AcceptSizes("_NO_SUCH"); sizes != nil {
		t.Errorf("sizes of a missing type = %v", sizes)
	}
}
