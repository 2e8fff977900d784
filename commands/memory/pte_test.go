package memory

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"gokd/commands/report"
	"gokd/model"
	"gokd/model/mem"
)

// indent is the column in which kd explains an entry of the lowest level.
const indent = "                                                                                  "

// TestPte compares with answers of kd that were posted: addresses, contents and
// page numbers are those of the posts.
func TestPte(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name    string
		self    uint64 // number of the self-map's entry
		va      uint64
		entries []uint64
		lost    bool // the table behind the last entry is not in the dump
		want    string
	}{
		{"freed", 0x17d, 0xffffe5068d8a4040, []uint64{0x0a00000107400863, 0x0a00000005dc8863, 0x1a0000025754a863, 0x00003e9800000000}, false,
			`                                           VA ffffe5068d8a4040
PXE at FFFFBEDF6FB7DE50    PPE at FFFFBEDF6FBCA0D0    PDE at FFFFBEDF7941A360    PTE at FFFFBEF28346C520
contains 0A00000107400863  contains 0A00000005DC8863  contains 1A0000025754A863  contains 00003E9800000000
pfn 107400    ---DA--KWEV  pfn 5dc8      ---DA--KWEV  pfn 25754a    ---DA--KWEV  not valid
                                                                                  Page has been freed
`},
		{"freed, with a page-file number", 0x1f8, 0xffffc48068d7d000, []uint64{0x0a00000010338863, 0x0a00000010339863, 0x0a0000000e0f5863, 0x00068dc000001000}, false,
			`                                           VA ffffc48068d7d000
PXE at FFFFFC7E3F1F8C48    PPE at FFFFFC7E3F189008    PDE at FFFFFC7E31201A30    PTE at FFFFFC6240346BE8
contains 0A00000010338863  contains 0A00000010339863  contains 0A0000000E0F5863  contains 00068DC000001000
pfn 10338     ---DA--KWEV  pfn 10339     ---DA--KWEV  pfn e0f5      ---DA--KWEV  not valid
                                                                                  Page has been freed
`},
		{"large page", 0x1ed, 0xfffff80002810cb0, []uint64{0x199063, 0x198063, 0x28009e3}, false,
			`                                           VA fffff80002810cb0
PXE at FFFFF6FB7DBEDF80    PPE at FFFFF6FB7DBF0000    PDE at FFFFF6FB7E0000A0    PTE at FFFFF6FC00014080
contains 0000000000199063  contains 0000000000198063  contains 00000000028009E3  contains 0000000000000000
pfn 199       ---DA--KWEV  pfn 198       ---DA--KWEV  pfn 2800      -GLDA--KWEV  LARGE PAGE pfn 2810        
`},
		{"large page that can't run", 0x19f, 0xffffbf0152163280, []uint64{0x0a00000005334863, 0x0a00000005337863, 0x8a0000011b8009e3}, false,
			`                                           VA ffffbf0152163280
PXE at FFFFCFE7F3F9FBF0    PPE at FFFFCFE7F3F7E028    PDE at FFFFCFE7EFC05480    PTE at FFFFCFDF80A90B18
contains 0A00000005334863  contains 0A00000005337863  contains 8A0000011B8009E3  contains 0000000000000000
pfn 5334      ---DA--KWEV  pfn 5337      ---DA--KWEV  pfn 11b800    -GLDA--KW-V  LARGE PAGE pfn 11b963      
`},
		{"user page", 0x19d, 0x7ffe47017344, []uint64{0x0a0000001857f867, 0x0a00000018582867, 0x0a000000185c8867, 0x010000000174a025}, false,
			`                                           VA 00007ffe47017344
PXE at FFFFCEE773B9D7F8    PPE at FFFFCEE773AFFFC8    PDE at FFFFCEE75FFF91C0    PTE at FFFFCEBFFF2380B8
contains 0A0000001857F867  contains 0A00000018582867  contains 0A000000185C8867  contains 010000000174A025
pfn 1857f     ---DA--UWEV  pfn 18582     ---DA--UWEV  pfn 185c8     ---DA--UWEV  pfn 174a      ----A--UREV
`},
		{"transition", 0x1d9, 0x1a42ea30240, []uint64{0x0a0000000ecc0867, 0x0a00000013341867, 0x0a000000077af867, 0x166b7880}, false,
			`                                           VA 000001a42ea30240
PXE at FFFFECF67B3D9018    PPE at FFFFECF67B203480    PDE at FFFFECF640690BA8    PTE at FFFFEC80D2175180
contains 0A0000000ECC0867  contains 0A00000013341867  contains 0A000000077AF867  contains 00000000166B7880
pfn ecc0      ---DA--UWEV  pfn 13341     ---DA--UWEV  pfn 77af      ---DA--UWEV  not valid
` + indent + "Transition: 166b7\n" + indent + "Protect: 4 - ReadWrite\n"},
		{"page file", 0x1f9, 0xfffff8071a6948f0, []uint64{0x1208063, 0x1209063, 0x1217063, 0x0000fef300002064}, false,
			`                                           VA fffff8071a6948f0
PXE at FFFFFCFE7F3F9F80    PPE at FFFFFCFE7F3F00E0    PDE at FFFFFCFE7E01C698    PTE at FFFFFCFC038D34A0
contains 0000000001208063  contains 0000000001209063  contains 0000000001217063  contains 0000FEF300002064
pfn 1208      ---DA--KWEV  pfn 1209      ---DA--KWEV  pfn 1217      ---DA--KWEV  not valid
` + indent + "PageFile:  2\n" + indent + "Offset: def3\n" + indent + "Protect: 3 - ExecuteRead\n"},
		{"prototype", 0x1f4, 0xfffff803712e5000, []uint64{0xf6c0b063, 0x10017063, 0x0a0000013bfbc863, 0xc182cc1ffdf80400}, false,
			`                                           VA fffff803712e5000
PXE at FFFFFA7D3E9F4F80    PPE at FFFFFA7D3E9F0068    PDE at FFFFFA7D3E00DC48    PTE at FFFFFA7C01B89728
contains 00000000F6C0B063  contains 0000000010017063  contains 0A0000013BFBC863  contains C182CC1FFDF80400
pfn f6c0b     ---DA--KWEV  pfn 10017     ---DA--KWEV  pfn 13bfbc    ---DA--KWEV  not valid
` + indent + "Proto: FFFFC182CC1FFDF8\n"},
		{"decided by the process", 0x1ed, 0x7ff600000000, []uint64{0x5067, 0x6067, 0x7067, 0xffffffff00000480}, false,
			`                                           VA 00007ff600000000
PXE at FFFFF6FB7DBED7F8    PPE at FFFFF6FB7DAFFEC0    PDE at FFFFF6FB5FFD8000    PTE at FFFFF6BFFB000000
contains 0000000000005067  contains 0000000000006067  contains 0000000000007067  contains FFFFFFFF00000480
pfn 5         ---DA--UWEV  pfn 6         ---DA--UWEV  pfn 7         ---DA--UWEV  not valid
` + indent + "Proto: VAD\n" + indent + "Protect: 4 - ReadWrite\n"},
		{"demand zero", 0x1ed, 0x1f0000, []uint64{0x5067, 0x6067, 0x7067, 0x80}, false,
			`                                           VA 00000000001f0000
PXE at FFFFF6FB7DBED000    PPE at FFFFF6FB7DA00000    PDE at FFFFF6FB40000000    PTE at FFFFF68000000F80
contains 0000000000005067  contains 0000000000006067  contains 0000000000007067  contains 0000000000000080
pfn 5         ---DA--UWEV  pfn 6         ---DA--UWEV  pfn 7         ---DA--UWEV  not valid
` + indent + "DemandZero\n" + indent + "Protect: 4 - ReadWrite\n"},
		{"no page table", 0x1ed, 0x1f0000, []uint64{0x5067, 0x6067, 0}, false,
			`                                           VA 00000000001f0000
PXE at FFFFF6FB7DBED000    PPE at FFFFF6FB7DA00000    PDE at FFFFF6FB40000000    PTE at FFFFF68000000F80
contains 0000000000005067  contains 0000000000006067  contains 0000000000000000
pfn 5         ---DA--UWEV  pfn 6         ---DA--UWEV  not valid
`},
		{"no page directory", 0x15b, 0, []uint64{0x8a00000082a29867, 0}, false,
			`                                           VA 0000000000000000
PXE at FFFFADD6EB75B000    PPE at FFFFADD6EB600000    PDE at FFFFADD6C0000000    PTE at FFFFAD8000000000
contains 8A00000082A29867  contains 0000000000000000
pfn 82a29     ---DA--UW-V  contains 0000000000000000
not valid
`},
		{"nothing", 0x15b, 0, []uint64{0}, false,
			`                                           VA 0000000000000000
PXE at FFFFADD6EB75B000    PPE at FFFFADD6EB600000    PDE at FFFFADD6C0000000    PTE at FFFFAD8000000000
contains 0000000000000000
not valid
`},
		{"a table that is not in the dump", 0x1af, 0xffff80091002ac08, []uint64{0x19e511063}, true,
			`                                           VA ffff80091002ac08
PXE at FFFFD7EBF5FAF800    PPE at FFFFD7EBF5F00120    PDE at FFFFD7EBE0024400    PTE at FFFFD7C004880150
Page 19e511 not present in the dump file. Type ".hh dbgerr004" for details
Unable to get PXE FFFFD7EBF5F00120
`},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			m := newMachine()
			m.put(m.root+8*mem.PA(c.self), uint64(m.root)|0x8000000000000063)
			m.entries(c.va, c.entries...)
			if last := c.entries[len(c.entries)-1]; !c.lost && last&pteValid != 0 && last&pteLarge == 0 {
				m.at(mem.PA(last & pteFrame))
			}
			k := m.kernel()
			soft := mem.SoftPTE{Swizzled: true}
			if c.name != "transition" { // that machine did not need the mask
				soft.InvalidMask = 0x200000000000
			}
			k.Space.SetSoftPTE(soft)
			s, b := sessionOf(t, k, report.Era19041)
			s.Out.Printer.KDOnly = true
			if err := s.Execute(t.Context(), "!pte "+mem.VA(c.va).String()); err != nil {
				t.Fatal(err)
			}
			if d := cmp.Diff(c.want, b.String()); d != "" {
				t.Errorf("(-want +got):\n%s", d)
			}
		})
	}
}

// small is a machine with one page, self-mapped as before 1607.
func small() (*machine, uint64) {
	const va = 0xfffffa8000001000
	m := newMachine()
	m.put(m.root+8*0x1ed, uint64(m.root)|0x63)
	m.mapped(va, []byte("content"))
	return m, va
}

// TestPte_arguments: an entry's address, a literal one, a range, and misuse.
func TestPte_arguments(t *testing.T) {
	t.Parallel()
	m, _ := small()
	k := m.kernel()
	page := `                                           VA fffffa8000001000
PXE at FFFFF6FB7DBEDFA8    PPE at FFFFF6FB7DBF5000    PDE at FFFFF6FB7EA00000    PTE at FFFFF6FD40000008
contains 00000000001AE063  contains 00000000001AF063  contains 00000000001B0063  contains 80000000001B1063
pfn 1ae       ---DA--KWEV  pfn 1af       ---DA--KWEV  pfn 1b0       ---DA--KWEV  pfn 1b1       ---DA--KW-V
fffffa8000001000 is at physical address 1b1000, in a page of 4 KB.
`
	next := `                                           VA fffffa8000002000
PXE at FFFFF6FB7DBEDFA8    PPE at FFFFF6FB7DBF5000    PDE at FFFFF6FB7EA00000    PTE at FFFFF6FD40000010
contains 00000000001AE063  contains 00000000001AF063  contains 00000000001B0063  contains 0000000000000000
pfn 1ae       ---DA--KWEV  pfn 1af       ---DA--KWEV  pfn 1b0       ---DA--KWEV  not valid
`
	for line, want := range map[string]string{
		"!pte fffffa8000001000":                  page,
		"!pte fffff6fd40000008":                  page, // the address of its entry
		"!pte fffff6fd40000008 1":                "PTE at FFFFF6FD40000008\ncontains 80000000001B1063\npfn 1b1       ---DA--KW-V\n",
		"!pte fffffa8000001000 fffffa8000002fff": page + "\n" + next,
		"!pte fffffa8000001000 fffffa8000001001": page,
		"!pte 8000000000000000":                  strings.Repeat(" ", 43) + "VA 8000000000000000\n8000000000000000 is no address of this processor: bits 47 to 63 differ.\n",
		"!pte 1000 fffffa8000001000":             "!pte: 0xfffffa8000001 pages: at most 0x10000 are shown at once\nusage: !pte Address [1|End]\n",
		"!pte":                                   "!pte: Address [1|End] missing\nusage: !pte Address [1|End]\n",
		"!pte 1 2 3":                             "!pte: unexpected \"3\"\nusage: !pte Address [1|End]\n",
		"!vtop 1ad000 fffffa8000001234": "Amd64VtoP: Virt fffffa8000001234, pagedir 00000000001ad000\nAmd64VtoP: PML4E 00000000001adfa8\nAmd64VtoP: PDPE 00000000001ae000\n" +
			"Amd64VtoP: PDE 00000000001af000\nAmd64VtoP: PTE 00000000001b0008\nAmd64VtoP: Mapped phys 00000000001b1234\nVirtual address fffffa8000001234 translates to physical address 1b1234.\n",
		"!vtop 1ad 1f0000": "Amd64VtoP: Virt 00000000001f0000, pagedir 00000000001ad000\nAmd64VtoP: PML4E 00000000001ad000\nAmd64VtoP: zero PML4E\n" +
			"Virtual address 1f0000 translation fails, error 0xD0000147.\n0x1f0000: page not present (PXE 0x0)\n",
		"!ptov 0":      "Amd64PtoV: pagedir 00000000001ad000\n00000000001b1000 fffffa8000001000\nPages: 1, of 4 KB in all.\n",
		"!ptov 777000": "!ptov: the top page table at 0x777000: page not in dump\n",
	} {
		t.Run(line, func(t *testing.T) {
			t.Parallel()
			if d := cmp.Diff(want, answer(t, k, line)); d != "" {
				t.Errorf("(-want +got):\n%s", d)
			}
		})
	}
}

// TestVtop_old: debuggers of the 2010s did not fill up with zeros.
func TestVtop_old(t *testing.T) {
	t.Parallel()
	m, _ := small()
	s, b := sessionOf(t, m.kernel(), report.Era62)
	if err := s.Execute(t.Context(), "!vtop 0 fffffa8000001234;!ptov"); err != nil {
		t.Fatal(err)
	}
	want := "Amd64VtoP: Virt fffffa80`00001234, pagedir 1ad000\nAmd64VtoP: PML4E 1adfa8\nAmd64VtoP: PDPE 1ae000\nAmd64VtoP: PDE 1af000\nAmd64VtoP: PTE 1b0008\n" +
		"Amd64VtoP: Mapped phys 1b1234\nVirtual address fffffa8000001234 translates to physical address 1b1234.\n" +
		"Amd64PtoV: pagedir 1ad000\n1b1000 fffffa80`00001000\nPages: 1, of 4 KB in all.\n"
	if d := cmp.Diff(want, b.String()); d != "" {
		t.Errorf("(-want +got):\n%s", d)
	}
}

// TestPte_unknownSelfMap: without it the entries still tell.
func TestPte_unknownSelfMap(t *testing.T) {
	t.Parallel()
	m, _ := small()
	m.put(m.root+8*0x1ed, 0)
	want := "PXE at ????????????????    PPE at ????????????????    PDE at ????????????????    PTE at ????????????????\n"
	if got := answer(t, m.kernel(), "!pte fffffa8000001000"); !strings.Contains(got, want) {
		t.Errorf("no line %q in:\n%s", want, got)
	}
	k := m.kernel()
	k.Build = 9600
	want = "The addresses of the entries follow from the fixed address of builds before 14393.\n"
	if got := answer(t, k, "!pte fffffa8000001000"); !strings.HasSuffix(got, want) {
		t.Errorf("no line %q in:\n%s", want, got)
	}
}

// TestNoTables: a dump of blocks says that it has none.
func TestNoTables(t *testing.T) {
	t.Parallel()
	k := &model.Kernel{Space: mem.NewFlat(nothing{}), Modules: &model.Modules{}, Source: model.Source{Machine: model.MachineX64, Virtual: nothing{}}}
	const why = ": this dump holds no page tables: it holds some blocks of virtual memory only\n"
	const noPhysical = ": this dump holds blocks of virtual memory, no physical memory\n"
	for line, want := range map[string]string{
		"!pte 1000": "!pte" + why, "!vtop 0 1000": "!vtop" + why, "!ptov": "!ptov" + why,
		"!db 1000": "!db" + noPhysical, "dd /p 1000": "dd /p" + noPhysical,
		"s -[w]b 1000 L10 1": "s: the flag w needs page tables, and this dump has none\n",
		"db 1000 L2":         "00000000`00001000  ?? ??                                            ??\n",
	} {
		if d := cmp.Diff(want, answer(t, k, line)); d != "" {
			t.Errorf("%s (-want +got):\n%s", line, d)
		}
	}
	// The tables of another architecture would be misread: nothing is.
	m, va := small()
	k = m.kernel()
	k.Source.Machine = model.MachineARM64
	const other = "the page tables of ARM64 machines are not read; /p shows physical memory\n"
	at := mem.VA(va).String()
	for line, want := range map[string]string{
		"!pte " + at: "!pte: the page tables of ARM64 machines are not read\n", "db " + at: "db: " + other, "dS " + at: "dS: " + other,
		"dl " + at: other, "c " + at + " L1 " + at: other, "s " + at + " L1 1": other, "dd /p 1b1000 L1": "00000000`001b1000  746e6f63\n",
	} {
		if d := cmp.Diff(want, answer(t, k, line)); d != "" {
			t.Errorf("%s (-want +got):\n%s", line, d)
		}
	}
}

// nothing is virtual memory without a byte.
type nothing struct{}

func (nothing) ReadVirtual(_ []byte, at mem.VA) (int, error) {
	return 0, &mem.Fault{Kind: mem.NotCaptured, VA: at}
}

// FuzzPte: tables that lie end in text.
func FuzzPte(f *testing.F) {
	f.Add(uint64(0xfffff80002810cb0), uint64(0x1ed), uint64(0x199063), uint64(0x198063), uint64(0x28009e3), uint64(0))
	f.Add(uint64(0x7ffe0000), uint64(0x100), uint64(0x880), uint64(0x1ad063), uint64(0x1ad8e3), uint64(0x400))
	f.Add(uint64(0xffff800000000000), uint64(0), uint64(0x1ad0e3), uint64(0xe3), uint64(0x80), uint64(0xffffffff00000480))
	f.Fuzz(func(t *testing.T, va, self, a, b, c, d uint64) {
		m := newMachine()
		m.put(m.root+8*mem.PA(self&511), uint64(m.root)|0x63)
		// What entries point at is captured up to 4 GB only.
		table := m.root
		for i, v := range []uint64{a, b, c, d} {
			m.put(table+8*index(va, 3-i), v)
			if table = mem.PA(v & 0xfffff000); i == 3 && v&1 != 0 {
				break
			}
			m.at(table)
		}
		k := m.kernel()
		for _, soft := range []mem.SoftPTE{{}, {Swizzled: true}, {Swizzled: true, InvalidMask: 1 << 45}} {
			k.Space.SetSoftPTE(soft)
			for _, era := range []report.Era{report.Era62, report.Era19041} {
				s, out := sessionOf(t, k, era)
				at := mem.VA(va).String()
				_ = s.Execute(t.Context(), "!pte "+at+";!pte "+at+" 1;!vtop 0 "+at+";!address "+at+";dq "+at+" L2;s -b "+at+" L10 0")
				if text := out.String(); strings.Contains(text, "internal error") || strings.Contains(text, "%!") {
					t.Fatal(text)
				}
			}
		}
	})
}
