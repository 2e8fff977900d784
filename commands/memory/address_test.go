package memory

import (
	"bytes"
	"encoding/binary"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"gokd/commands/cmd"
	"gokd/commands/report"
	"gokd/dumpfmt"
	"gokd/dumpfmt/dumptest/shared"
	"gokd/model"
	"gokd/model/mem"
	"gokd/model/modeltest"
	"gokd/model/types"
)

// open opens a dump of bytes.
func open(t *testing.T, data []byte) *model.Kernel {
	t.Helper()
	d, err := dumpfmt.Open(dumpfmt.NewBytes(data), int64(len(data)))
	if err != nil {
		t.Fatal(err)
	}
	return modeltest.Load(t, d)
}

// patch writes a quantity into the bytes of a dump, where it holds an address.
func patch(t *testing.T, k *model.Kernel, data []byte, at mem.VA, v uint64) {
	t.Helper()
	tr, err := k.Space.Translate(at)
	if err != nil {
		t.Fatal(err)
	}
	off, ok := k.Source.Physical.(mem.Offsetter).FileOffset(tr.PA)
	if !ok {
		t.Fatalf("%#x is not in the file", uint64(at))
	}
	binary.LittleEndian.PutUint64(data[off:], v)
}

// TestAddress_memoryManager: the regions and types that the memory manager keeps
// are read as the layouts say.
func TestAddress_memoryManager(t *testing.T) {
	t.Parallel()
	data := slices.Clone(shared.Unpacked(t, shared.Path(t, "dumps/x64/w10_19041-encoded.kernel.dmp.xz")))
	k := open(t, data)
	pointer, err := k.Global("MiVisibleState")
	if err != nil {
		t.Fatal(err)
	}
	// The block of a thread that is not asked for makes room for the state.
	room := k.Processors[3].CurrentThread.Page()
	state := k.Object("_MI_VISIBLE_STATE", room)
	kinds := state.Field("SystemVaType").Addr()
	cache := state.Field("SystemVaRegions").Index(2) // AssignedRegionSystemCache
	for i := range mem.VA(256 / 8) {
		patch(t, k, data, kinds+8*i, 0)
	}
	const slot = 0xffffa10000000000            // a unit of 512 GB: entry 0x142 of the top table
	patch(t, k, data, kinds+0x40, 8<<16|8<<24) // entries 0x142 and 0x143: MiVaSystemCache
	patch(t, k, data, cache.Field("BaseAddress").Addr(), slot+0x100000)
	patch(t, k, data, cache.Field("NumberOfBytes").Addr(), 0x200000)
	patch(t, k, data, pointer, uint64(room))
	k = open(t, data)
	for line, want := range map[string]string{
		"!address ffffa10000100010": "Usage:                  SystemCache\nBase Address:           ffffa100`00100000\nEnd Address:            ffffa100`00300000\n" +
			"Region Size:            00000000`00200000\nVA Type:                SystemCache\n",
		"!address ffffa10000000010": "Usage:                  SystemCache\nBase Address:           ffffa100`00000000\nEnd Address:            ffffa200`00000000\n" +
			"Region Size:            00000100`00000000\nVA Type:                SystemCache\n",
	} {
		if d := cmp.Diff(want, answer(t, k, line)); d != "" {
			t.Errorf("%s (-want +got):\n%s", line, d)
		}
	}
}

// TestAddress_triage: a dump of blocks knows modules and stacks, and says what it
// can't know.
func TestAddress_triage(t *testing.T) {
	t.Parallel()
	k := modeltest.OpenDump(t, shared.Path(t, "dumps/real/triage_x64.dmp"))
	want := `Usage:                  Module
Base Address:           fffff804` + "`7ba00000\nEnd Address:            fffff804`7ca46000\nRegion Size:            00000000`01046000" + `
Module name:            ntoskrnl.exe
Module path:            [\SystemRoot\system32\ntoskrnl.exe]
`
	if d := cmp.Diff(want, answer(t, k, "!address fffff8047ba00010")); d != "" {
		t.Errorf("(-want +got):\n%s", d)
	}
	list := answer(t, k, "!address")
	for _, row := range []string{"   151 00000000`0626c000  Module\n", "    16 00000000`000b0800  Processor control region\n"} {
		if !strings.Contains(list, row) {
			t.Errorf("no row %q in:\n%s", row, list)
		}
	}
}

// TestFamilies: lists, stacks and processors of every family of Windows, over a
// machine without page tables.
func TestFamilies(t *testing.T) {
	t.Parallel()
	for _, l := range types.Layouts() {
		t.Run(l.Family(), func(t *testing.T) {
			t.Parallel()
			m := modeltest.New(t, l)
			thread := m.Thread(m.System, 8)
			at := m.OnStack(thread, 0x100)
			m.Put64(at, uint64(thread))
			k := m.Open()
			links, _ := m.Field("_EPROCESS", "ActiveProcessLinks")
			entry := m.System + mem.VA(links)
			head, err := k.Space.Pointer(entry)
			if err != nil {
				t.Fatal(err)
			}
			tick := func(v mem.VA) string { return report.Addr(v).Tick() }
			limit := at.Page() + mem.PageSize - modeltest.StackSize
			for line, want := range map[string]string{
				"dl " + entry.String() + " 10 1":                           tick(entry) + "  " + tick(head) + "\n" + tick(head) + "  " + tick(entry) + "\n",
				"dq " + at.String() + " L1":                                tick(at) + "  " + tick(thread) + "\n",
				"s -q " + at.Page().String() + " L1000 " + thread.String(): tick(at) + "  " + tick(thread) + " 00000000`00000000\n",
				"!address " + at.String(): "Usage:                  Kernel stack\nBase Address:           " + tick(limit) + "\nEnd Address:            " +
					tick(limit+modeltest.StackSize) + "\nRegion Size:            00000000`00006000\n" +
					"The stack of thread " + thread.String() + "; !thread " + thread.String() + " shows it.\n",
				"!pte " + at.String(): "!pte: this dump holds no page tables: it holds some blocks of virtual memory only\n",
			} {
				if d := cmp.Diff(want, answer(t, k, line)); d != "" {
					t.Errorf("%s (-want +got):\n%s", line, d)
				}
			}
		})
	}
}

// TestAtlas_kept: regions are found once for a target, and anew for another.
func TestAtlas_kept(t *testing.T) {
	t.Parallel()
	m, _ := small()
	s, _ := sessionOf(t, m.kernel(), report.Era19041)
	first, err := atlasOf(t.Context(), s)
	if err != nil {
		t.Fatal(err)
	}
	if again, _ := atlasOf(t.Context(), s); again != first {
		t.Error("the regions were found twice")
	}
	s.Kernel = m.kernel()
	if other, _ := atlasOf(t.Context(), s); other == first {
		t.Error("the regions of another target were kept")
	}
}

// TestJSON: the records as scripts read them.
func TestJSON(t *testing.T) {
	t.Parallel()
	m, _ := small()
	s, _ := sessionOf(t, m.kernel(), report.Era19041)
	var b bytes.Buffer
	sink := report.NewJSON(&b)
	run := func(name, args string) {
		c, _, _ := s.Commands.Find(name)
		sink.Begin(name, args)
		if err := c.Run(t.Context(), s, cmd.Args{Raw: args}, sink); err != nil {
			t.Fatal(err)
		}
	}
	run("dd", "fffffa8000000ffc L3")
	run("dc", "fffffa8000001000 L1")
	run("dpa", "fffffa8000001000 L1")
	run("da", "fffffa8000001000")
	run("s", "-[1]a fffffa8000001000 L1000 tent")
	run("!vtop", "0 fffffa8000000000")
	want := `{"command":"dd","args":"fffffa8000000ffc L3","record":"memory","address":"0xfffffa8000000ffc","physical":false,"unit":4,"values":[null,"0x746e6f63","0x746e65"],"ascii":null,"missing":{"values":"0xfffffa8000000ffc: page not present (PTE 0x0)"}}
{"command":"dc","args":"fffffa8000001000 L1","record":"memory","address":"0xfffffa8000001000","physical":false,"unit":4,"values":["0x746e6f63"],"ascii":"cont"}
{"command":"dpa","args":"fffffa8000001000 L1","record":"memory","address":"0xfffffa8000001000","physical":false,"unit":8,"values":["0x746e65746e6f63"],"ascii":null,"text":[null]}
{"command":"da","args":"fffffa8000001000","record":"string","address":"0xfffffa8000001000","physical":false,"unit":1,"length":7,"ended":true,"text":"content"}
{"command":"s","args":"-[1]a fffffa8000001000 L1000 tent","record":"match","address":"0xfffffa8000001003"}
{"command":"s","args":"-[1]a fffffa8000001000 L1000 tent","record":"search_summary","matches":1,"bytes":4096,"pages_missing":0,"gaps":0}
{"command":"!vtop","args":"0 fffffa8000000000","record":"translation","va":"0xfffffa8000000000","dir_base":"0x1ad000","levels":[{"level":"PML4E","address":null,"physical":"0x1adfa8","value":"0x1ae063","state":"valid","pfn":"0x1ae","flags":"---DA--KWEV"},{"level":"PDPE","address":null,"physical":"0x1ae000","value":"0x1af063","state":"valid","pfn":"0x1af","flags":"---DA--KWEV"},{"level":"PDE","address":null,"physical":"0x1af000","value":"0x1b0063","state":"valid","pfn":"0x1b0","flags":"---DA--KWEV"},{"level":"PTE","address":null,"physical":"0x1b0000","value":"0x0","state":"zero","pfn":null,"flags":""}],"physical":null,"page_size":0,"missing":{"physical":"0xfffffa8000000000: page not present (PTE 0x0)"}}
`
	if d := cmp.Diff(want, b.String()); d != "" {
		t.Errorf("(-want +got):\n%s", d)
	}
}
