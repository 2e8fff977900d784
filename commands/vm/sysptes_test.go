package vm

import (
	"testing"

	gocmp "github.com/google/go-cmp/cmp"

	"gokd/commands/report"
	"gokd/model/mem"
	"gokd/model/types"
)

// bitmap makes a range of entries with a bitmap of the given bytes at an address.
func (m *machine) bitmap(at mem.VA, free, failures uint64, buffer mem.VA, bits, each uint64, data ...byte) {
	const typ = "_MI_SYSTEM_PTE_TYPE"
	m.M.Put(buffer, data...)
	m.M.Set(at, 0xfffff6fc40000000, typ, "BasePte")
	m.M.Set(at, bits*each, typ, "TotalSystemPtes")
	m.M.Set(at, free, typ, "TotalFreeSystemPtes")
	m.M.Set(at, failures, typ, "PteFailures")
	m.M.Set(at, bits, typ, "Bitmap", "SizeOfBitMap")
	m.M.Set(at, uint64(buffer), typ, "Bitmap", "Buffer")
}

// TestSysptes shows two small ranges by hand, before and from Windows 10 on.
func TestSysptes(t *testing.T) {
	t.Parallel()
	const want = `System PTE Information
  Total System Ptes 150

    starting PTE: fffff6fc40000000

      free ptes: fffff6fc40000018   number free: 2.
      free ptes: fffff6fc40000040   number free: 128.
      free ptes: fffff6fc40000448   number free: 13.

  free blocks: 3   total free: 143    largest free block: 128
7 requests for entries of this range have failed.

Kernel Stack PTE Information
  Total System Ptes 32

    starting PTE: fffff6fc40000000

      free ptes: fffff6fc40000020   number free: 12.

  free blocks: 1   total free: 12    largest free block: 12
The kernel counts 16 free entries; those that processors keep at hand are used in the bitmap.
The bitmap has 8 bits: each is taken for 4 entries.
`
	one := append([]byte{0xe7}, make([]byte, 18)...)
	one[17] = 0x01
	for _, name := range []string{"7601-late", "9600", "22000"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			m := newMachine(t, family(t, name))
			first, second := m.M.Alloc(64), m.M.Alloc(64)
			var a, b mem.VA
			if m.partition == 0 {
				a = m.M.Global("MiSystemPteInfo", m.size("_MI_SYSTEM_PTE_TYPE"))
				b = m.M.Global("MiKernelStackPteInfo", m.size("_MI_SYSTEM_PTE_TYPE"))
			}
			k := m.open()
			if m.partition != 0 {
				visible, _ := k.GlobalPointer("MiVisibleState")
				state, _ := k.Global("MiState")
				off, _ := m.M.Field("_MI_VISIBLE_STATE", "SystemPteInfo")
				a = visible + mem.VA(off)
				off, _ = m.M.Field("_MI_SYSTEM_INFORMATION", "SystemPtes", "KernelStackPteInfo")
				b = state + mem.VA(off)
			}
			m.bitmap(a, 143, 7, first, 150, 1, one...)
			m.bitmap(b, 16, 0, second, 8, 4, 0xf1)
			s, out := open(t, k, report.Era19041)
			if diff := gocmp.Diff(want, run(t, s, out, "!sysptes 1")); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

func TestSysptes_missing(t *testing.T) {
	t.Parallel()
	m := newMachine(t, types.Embedded(9600)[0])
	at := m.M.Global("MiSystemPteInfo", m.size("_MI_SYSTEM_PTE_TYPE"))
	buffer := mem.VA(0xfffff8a000000000 + 0x123000)
	m.M.Put(buffer+0x1000, 0xff)
	k := m.open()
	m.bitmap(at, 0, 0, buffer+0x1000, 3*0x8000, 1)
	m.M.Set(at, uint64(buffer), "_MI_SYSTEM_PTE_TYPE", "Bitmap", "Buffer")
	s, out := open(t, k, report.Era19041)
	const want = `System PTE Information
  Total System Ptes 98304

    starting PTE: fffff6fc40000000

  free blocks: 1   total free: 32760    largest free block: 32760
The kernel counts 0 free entries; those that processors keep at hand are used in the bitmap.
The bits of 65536 entries are not in the dump: the free ones are a floor.
`
	for _, tt := range []struct{ line, want string }{
		{"!sysptes", want},
		{"!sysptes 4", "!sysptes: flags 0x4: entries of special pool and who holds entries are not shown: want 0 or 1\n"},
		{"!sysptes 100", "!sysptes: flags 0x100: want 0 or 1\nusage: !sysptes [Flags]\n"},
	} {
		if diff := gocmp.Diff(tt.want, run(t, s, out, tt.line)); diff != "" {
			t.Errorf("%s (-want +got):\n%s", tt.line, diff)
		}
	}
	m.M.Set(at, 1<<40, "_MI_SYSTEM_PTE_TYPE", "Bitmap", "SizeOfBitMap")
	if got := run(t, s, out, "!sysptes"); got != "!sysptes: no range of system page table entries is known: _MI_SYSTEM_PTE_TYPE at 0x"+report.Addr(at).String()+": a bitmap of 0x10000000000 bits makes no sense\n" {
		t.Errorf("%s", got)
	}
}
