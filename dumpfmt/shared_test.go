package dumpfmt_test

import (
	"bytes"
	"encoding/binary"
	"os"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"gokd/dumpfmt"
	"gokd/dumpfmt/dumptest/shared"
	"gokd/model/mem"
)

// The real triage dump against the facts that another reader found in it.
func TestShared_triage(t *testing.T) {
	t.Parallel()
	d, err := dumpfmt.OpenFile(shared.Path(t, "dumps/real/triage_x64.dmp"))
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	text, err := os.ReadFile(shared.Path(t, "dumps/real/triage_x64.expected.txt"))
	if err != nil {
		t.Fatal(err)
	}
	want := make(map[string]uint64)
	for _, m := range regexp.MustCompile(`(?m)^\s*(\w+) *[:=] (0x[0-9a-f]+)`).FindAllStringSubmatch(string(text), -1) {
		if want[m[1]], err = strconv.ParseUint(m[2], 0, 64); err != nil {
			t.Fatal(err)
		}
	}
	tri := d.Triage
	// The other reader takes the registers of the processor, whose CONTEXT the
	// processor block points to at 0x85c0 (OffsetPrcbContext) and a captured
	// block holds; the header's CONTEXT is that of the exception.
	context := make([]byte, 0x4d0)
	if _, err := d.Virtual.ReadVirtual(context, mem.VA(binary.LittleEndian.Uint64(tri.Prcb[0x85c0:]))); err != nil {
		t.Fatal(err)
	}
	reg := func(off int) uint64 { return binary.LittleEndian.Uint64(context[off:]) }
	got := map[string]uint64{
		"MajorVersion": uint64(d.Major), "MinorVersion": uint64(d.Build), "DirectoryTableBase": uint64(d.DTB),
		"PfnDataBase": uint64(d.PfnDatabase), "PsLoadedModuleList": uint64(d.LoadedModules),
		"PsActiveProcessHead": uint64(d.ActiveProcs), "MachineImageType": uint64(d.Machine),
		"NumberProcessors": uint64(d.Processors), "BugCheckCode": uint64(d.BugCheck),
		"BugCheckParameter1": d.BugCheckArgs[0], "BugCheckParameter2": d.BugCheckArgs[1],
		"BugCheckParameter3": d.BugCheckArgs[2], "BugCheckParameter4": d.BugCheckArgs[3],
		"KdDebuggerDataBlock": uint64(d.DebugData), "ProductType": uint64(d.ProductType), "SuiteMask": uint64(d.SuiteMask),
		"ServicePackBuild": uint64(tri.ServicePack), "SizeOfCallStack": uint64(len(tri.Stack)),
		"TopOfStack": uint64(tri.StackTop), "DebuggerDataSize": uint64(len(tri.DebugData)),
		"DriverCount": uint64(len(tri.Drivers)), "DataBlocksCount": uint64(len(tri.Blocks)),
		"rax": reg(0x78), "rsp": reg(0x98), "rip": reg(0xf8), "r15": reg(0xf0),
	}
	for field, v := range got {
		if w, ok := want[field]; !ok || w != v {
			t.Errorf("%s: %#x, want %#x (listed: %v)", field, v, w, ok)
		}
	}
	if rip := binary.LittleEndian.Uint64(d.Context[0xf8:]); rip != d.BugCheckArgs[1] {
		t.Errorf("Rip of the header's CONTEXT: %#x, want %#x", rip, d.BugCheckArgs[1])
	}
	wantWarning(t, d, "")
	if len(tri.Prcb) != 0xaf00 || len(tri.Process) != 0xa40 || len(tri.Thread) != 0x898 || tri.Overflowed || d.Live {
		t.Errorf("prcb %#x, process %#x, thread %#x bytes; overflowed %v, live %v",
			len(tri.Prcb), len(tri.Process), len(tri.Thread), tri.Overflowed, d.Live)
	}
	first := dumpfmt.Driver{Name: `\SystemRoot\system32\ntoskrnl.exe`, Base: 0xfffff8047ba00000, Size: 0x1046000,
		CheckSum: 0xa5938c, Timestamp: 0xd8333e6}
	if diff := cmp.Diff(first, tri.Drivers[0]); diff != "" {
		t.Errorf("first driver (-want +got):\n%s", diff)
	}
	if last := tri.Drivers[len(tri.Drivers)-1]; !strings.HasSuffix(last.Name, ".sys") || last.Base%0x1000 != 0 {
		t.Errorf("last driver: %+v", last)
	}
	if diff := cmp.Diff(dumpfmt.UnloadedDriver{Name: "dam.sys", Start: 0xfffff80487de0000, End: 0xfffff80487dfc000}, tri.Unloaded[0]); diff != "" {
		t.Errorf("first unloaded driver (-want +got):\n%s", diff)
	}
	if len(d.Secondary) == 0 {
		t.Error("no secondary data")
	}
	checkTriageBytes(t, d)
}

// checkTriageBytes reads back what the dump lists.
func checkTriageBytes(t *testing.T, d *dumpfmt.Dump) {
	t.Helper()
	p := make([]byte, 4)
	if _, err := d.Virtual.ReadVirtual(p, d.DebugData+0x10); err != nil || string(p) != "KDBG" {
		t.Errorf("debugger data by address: %q, %v", p, err)
	}
	top := make([]byte, len(d.Triage.Stack))
	if _, err := d.Virtual.ReadVirtual(top, d.Triage.StackTop); err != nil || !bytes.Equal(top, d.Triage.Stack) {
		t.Errorf("stack by address: %v, or other bytes", err)
	}
	for _, b := range d.Triage.Blocks {
		if _, err := d.Virtual.ReadVirtual(make([]byte, b.Size), b.VA); err != nil {
			t.Errorf("block %s: %v", b, err)
		}
	}
	for _, s := range d.Secondary {
		if data, err := s.Data(); err != nil || uint32(len(data)) != s.Size {
			t.Errorf("secondary data %x: %d bytes, %v", s.Tag, len(data), err)
		}
	}
}

// truth is what the maker of a synthetic dump knows about it.
type truth struct {
	System struct {
		DTB         string `json:"dtb"`
		Modules     string `json:"PsLoadedModuleList"`
		Processes   string `json:"PsActiveProcessHead"`
		DebugData   string `json:"KdDebuggerDataBlock"`
		Processors  uint32 `json:"processors"`
		SystemTime  uint64 `json:"system_time"`
		PhysicalMax uint64 `json:"reported_physical_pages"`
	} `json:"system"`
	Containers map[string]struct {
		Present uint64 `json:"present_pages"`
	} `json:"containers"`
}

func hex(t *testing.T, s string) uint64 {
	t.Helper()
	v, err := strconv.ParseUint(s, 0, 64)
	if err != nil {
		t.Fatal(err)
	}
	return v
}

// One machine in three containers: the facts are the truth's, the pages agree.
func TestShared_sameMachine(t *testing.T) {
	t.Parallel()
	var want truth
	shared.JSON(t, shared.Path(t, "dumps/x64/win7seed.truth.json.xz"), &want)
	dumps := make(map[string]*dumpfmt.Dump)
	for kind, format := range map[string]string{
		"full": "64-bit full dump", "bitmap": "64-bit full bitmap dump", "kernel": "64-bit kernel bitmap dump",
	} {
		d := open(t, shared.Unpacked(t, shared.Path(t, "dumps/x64/win7seed."+kind+".dmp.xz")))
		dumps[kind] = d
		wantWarning(t, d, "")
		got := []uint64{uint64(d.DTB), uint64(d.LoadedModules), uint64(d.ActiveProcs), uint64(d.DebugData), uint64(d.Processors), d.SystemTime}
		sys := want.System
		facts := []uint64{hex(t, sys.DTB), hex(t, sys.Modules), hex(t, sys.Processes), hex(t, sys.DebugData), uint64(sys.Processors), sys.SystemTime}
		if diff := cmp.Diff(facts, got); diff != "" || d.Format != format {
			t.Errorf("%s, %s: facts (-want +got):\n%s", kind, d.Format, diff)
		}
		if n := want.Containers[kind].Present; n != 0 && d.PagesPresent != n || d.PagesPresent != d.PagesExpected {
			t.Errorf("%s: %d of %d pages, want %d", kind, d.PagesPresent, d.PagesExpected, n)
		}
	}
	if diff := cmp.Diff(runsOf(dumps["full"]), runsOf(dumps["bitmap"])); diff != "" {
		t.Errorf("runs of full and bitmap dump (-full +bitmap):\n%s", diff)
	}
	for _, kind := range []string{"bitmap", "kernel"} {
		if err := sameBytes(dumps["full"], dumps[kind]); err != nil {
			t.Errorf("%s against full: %v", kind, err)
		}
	}
	checkDamaged(t, dumps["full"])
}

// checkDamaged opens the same machine's damaged dumps: they open with what is
// left, and say what is wrong.
func checkDamaged(t *testing.T, whole *dumpfmt.Dump) {
	t.Helper()
	for _, test := range []struct {
		name, warning  string
		pages, present uint64
	}{
		{"bad-lying-runs.full", "run count at file offset 0x88: the header says 2147483647", 10239, 10239},
		{"bad-lying-bitmap.kernel", "bitmap size at file offset 0x2030", 1922, 1922},
		{"bad-truncated.full", "4097 of 10239 pages are missing", 10239, 6142},
	} {
		d := open(t, shared.Unpacked(t, shared.Path(t, "dumps/damaged", test.name+".dmp.xz")))
		wantWarning(t, d, test.warning)
		if d.PagesExpected != test.pages || d.PagesPresent != test.present {
			t.Errorf("%s: %d of %d pages, want %d of %d", test.name, d.PagesPresent, d.PagesExpected, test.present, test.pages)
		}
		if err := sameBytes(whole, d); err != nil {
			t.Errorf("%s: %v", test.name, err)
		}
	}
}
