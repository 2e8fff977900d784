package mem

import (
	"errors"
	"testing"

	"github.com/google/go-cmp/cmp"
)

const kernelPage = VA(0xfffff8a000123000)

var (
	oldPTE   = SoftPTE{}
	newPTE   = SoftPTE{Swizzled: true}
	maskPTE  = SoftPTE{Swizzled: true, InvalidMask: 0x0000600000000000}
	fileHole = "in a mapped file, not in memory"
)

// TestTranslate_leafForms goes over the forms of a last-level entry. Entries
// are spelled by hand from the public type tables _MMPTE_SOFTWARE,
// _MMPTE_TRANSITION and _MMPTE_PROTOTYPE of both generations.
func TestTranslate_leafForms(t *testing.T) {
	t.Parallel()
	const pfn = 0x7654000 // of the page meant
	absent := func(entry uint64, why string) Fault {
		return Fault{Kind: NotPresent, VA: kernelPage + 8, Level: LevelPTE, Entry: entry, Why: why}
	}
	for _, c := range []struct {
		name  string
		soft  SoftPTE
		entry uint64
		pa    PA
		zero  bool
		fault string // "-": none
	}{
		{"valid", oldPTE, pfn | 0x8000000000000963, pfn, false, "-"},
		{"valid, software bits set", newPTE, pfn | 0xfff0000000000e21, pfn, false, "-"},
		{"nothing", newPTE, 0, 0, false, ""},
		{"nothing but protection 0", oldPTE, 0x800000 << 1, 0, false, ""},

		{"old transition", oldPTE, pfn | 0x880, pfn, false, "-"},
		{"old transition, page above 32 TB", oldPTE, 0x200007654880, 0x200007654000, false, "-"},
		{"new transition, swizzle bit set", newPTE, pfn | 0x890, pfn, false, "-"},
		{"new transition, swizzled, usual mask", newPTE, pfn | 0x200000000880, pfn, false, "-"},
		{"new transition, bit 45 clear, mask unknown", newPTE, pfn | 0x880, pfn, false, "-"},
		{"new transition, swizzled, mask known", maskPTE, pfn | 0x600000000880, pfn, false, "-"},
		{"new transition, swizzle bit set, mask known", maskPTE, pfn | 0x890, pfn, false, "-"},
		{"new transition, part of the mask in the page", maskPTE, pfn | 0x200000000880, pfn | 0x400000000000, false, "-"},

		{"old demand zero", oldPTE, 0x80, 0, true, "-"},
		{"new demand zero, not swizzled", newPTE, 0x80, 0, true, "-"},
		{"new demand zero, swizzle bit set", newPTE, 0x90, 0, true, "-"},
		{"new demand zero, not swizzled though the mask is known", maskPTE, 0x80, 0, true, "-"},
		{"new demand zero, swizzled", maskPTE, 0x0000600000000080, 0, true, "-"},

		{"old page file 0", oldPTE, 0x123400000080, 0, false, "paged out, page file 0, offset 0x1234"},
		{"old page file 3", oldPTE, 0x1234<<32 | 3<<1 | 0x80, 0, false, "paged out, page file 3, offset 0x1234"},
		{"old page file 2, offset 0", oldPTE, 2<<1 | 0x80, 0, false, "paged out, page file 2, offset 0x0"},
		{"old: bits 12-15 are no number", oldPTE, 0x1234<<32 | 0xf080, 0, false, "paged out, page file 0, offset 0x1234"},
		{"new page file 3", newPTE, 0x1234<<32 | 3<<12 | 0x90, 0, false, "paged out, page file 3, offset 0x1234"},
		{"new page file, swizzled, usual mask", newPTE, (0x1234|1<<13)<<32 | 0x3080, 0, false, "paged out, page file 3, offset 0x1234"},
		{"new page file, swizzled, mask known", maskPTE, (0x1234^0x6000)<<32 | 0x1080, 0, false, "paged out, page file 1, offset 0x1234"},
		{"new: bits 1-3 are no number", newPTE, 0x1234<<32 | 0x9e, 0, false, "paged out, page file 0, offset 0x1234"},

		{"mapped file of Windows 11", newPTE, 0xffff800012345800, 0, false, fileHole},
		{"descriptors decide", oldPTE, 0xffffffff00000400 | 0x80, 0, false, "decided by the process's address descriptors"},
		{"prototype in user space", oldPTE, 0x00001234567804a0, 0, false, "its prototype entry has no kernel address"},
		{"prototype at an odd address", oldPTE, 0xf8a0000100040480, 0, false, "its prototype entry has no kernel address"},
		{"prototype not mapped", oldPTE, 0xf8a0700010000480, 0, false, "prototype entry at 0xfffff8a070001000 cannot be read"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			m := newMachine()
			m.set(kernelPage, 1, c.entry)
			s := m.space()
			s.SetSoftPTE(c.soft)
			got, err := s.Translate(kernelPage + 8)
			if c.fault != "-" {
				wantFault(t, err, absent(c.entry, c.fault))
				return
			}
			want := Translation{PA: c.pa + 8, PageSize: 4096, Zero: c.zero}
			if c.zero {
				want.PA = 0
			}
			if diff := cmp.Diff(want, got); err != nil || diff != "" {
				t.Errorf("error %v (-want +got):\n%s", err, diff)
			}
		})
	}
}

// TestTranslate_prototype goes over what the shared entry behind a prototype
// entry can say.
func TestTranslate_prototype(t *testing.T) {
	t.Parallel()
	const shared = VA(0xfffff8a040001228)
	const proto = uint64(0xf8a0400012280480) // its address in bits 16-63, prototype, protection 4
	fault := func(entry uint64, why string) *Fault {
		return &Fault{Kind: NotPresent, VA: kernelPage, Level: LevelPTE, Entry: entry, Why: why}
	}
	for _, c := range []struct {
		name  string
		soft  SoftPTE
		entry uint64
		pa    PA
		zero  bool
		fault *Fault
	}{
		{"valid", oldPTE, 0x5000121, 0x5000000, false, nil},
		{"transition", oldPTE, 0x5000880, 0x5000000, false, nil},
		{"transition, swizzled", newPTE, 0x200005000880, 0x5000000, false, nil},
		{"demand zero", oldPTE, 0x80, 0, true, nil},
		{"in a file", oldPTE, 0xf8a0112233440480, 0, false, fault(proto, fileHole)},
		{"paged out", oldPTE, 0x77<<32 | 0x82, 0, false, fault(0x77<<32|0x82, "paged out, page file 1, offset 0x77")},
		{"nothing", oldPTE, 0, 0, false, fault(0, "")},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			m := newMachine()
			m.set(kernelPage, 1, proto)
			page := m.mapBytes(shared, nil)
			m.put(page+0x228, c.entry)
			s := m.space()
			s.SetSoftPTE(c.soft)
			got, err := s.Translate(kernelPage)
			if c.fault != nil {
				wantFault(t, err, *c.fault)
				return
			}
			if diff := cmp.Diff(Translation{PA: c.pa, PageSize: 4096, Zero: c.zero}, got); err != nil || diff != "" {
				t.Errorf("error %v (-want +got):\n%s", err, diff)
			}
		})
	}
}

func TestTranslate_prototypeChain(t *testing.T) {
	t.Parallel()
	m := newMachine()
	// The pages that hold shared entries may be mapped by prototypes themselves;
	// each of these leads to the next, the last to itself.
	at := []VA{kernelPage, 0xfffff8a040000000, 0xfffff8a080000000, 0xfffff8a0c0000000, 0xfffff8a100000000}
	for i, va := range at {
		next := at[min(i+1, len(at)-1)]
		m.set(va, 1, uint64(next)<<16|0x480)
	}
	s := m.space()
	_, err := s.Translate(kernelPage)
	if !errors.Is(err, ErrNotPresent) {
		t.Errorf("error %v, want %v", err, ErrNotPresent)
	}
	// Two steps are what real machines have.
	page := m.page()
	m.put(page+0x10, 0x5000121)
	m.set(at[2], 1, uint64(page)|0x63)
	shared := m.page()
	m.put(shared, uint64(page)|0x121)
	m.set(at[1], 1, uint64(shared)|0x63)
	m.set(kernelPage, 1, 0xf8a0800000100480)
	if got, err := m.space().Translate(kernelPage); err != nil || got.PA != 0x5000000 {
		t.Errorf("translation %+v, error %v", got, err)
	}
	// A shared entry on a page that is no longer captured.
	m.set(at[1], 1, 0x77777063)
	m.set(kernelPage, 1, uint64(at[1])<<16|0x480)
	if _, err := m.space().Translate(kernelPage); !errors.Is(err, ErrNotCaptured) {
		t.Errorf("error %v, want %v", err, ErrNotCaptured)
	}
}

func TestTranslate_upperLevels(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name  string
		level int
		entry uint64
		want  Fault
	}{
		{"no PXE", 4, 0, Fault{Kind: NotPresent, Level: LevelPXE}},
		{"no PPE", 3, 0, Fault{Kind: NotPresent, Level: LevelPPE}},
		{"no PDE", 2, 0, Fault{Kind: NotPresent, Level: LevelPDE}},
		{"no PTE", 1, 0, Fault{Kind: NotPresent, Level: LevelPTE}},
		{"page table paged out", 2, 0x99<<32 | 0x80, Fault{Kind: NotPresent, Level: LevelPDE, Entry: 0x99<<32 | 0x80, Why: "paged out, page file 0, offset 0x99"}},
		{"page table never made", 3, 0x80, Fault{Kind: NotPresent, Level: LevelPPE, Entry: 0x80}},
		{"PPE table not captured", 4, 0x66666063, Fault{Kind: NotCaptured, PA: 0x66666000 + 8*0x80, Level: LevelPPE, Why: "its page table is not in the dump"}},
		{"page table not captured", 2, 0x66666063, Fault{Kind: NotCaptured, PA: 0x66666000, Level: LevelPTE, Why: "its page table is not in the dump"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			m := newMachine()
			m.set(kernelPage, c.level, c.entry)
			_, err := m.space().Translate(kernelPage)
			c.want.VA = kernelPage
			wantFault(t, err, c.want)
		})
	}
}

func TestTranslate_pageTableInTransition(t *testing.T) {
	t.Parallel()
	m := newMachine()
	pa := m.mapBytes(kernelPage, nil)
	for level := 2; level <= 4; level++ {
		slot := m.slot(kernelPage, level)
		e := m.get(slot)
		m.put(slot, e&^0xfff|0x200000000880)
		s := m.space()
		if _, err := s.Translate(kernelPage); err == nil {
			t.Errorf("level %d: a swizzled table was found without knowing of it", level)
		}
		// The same space, told later, must forget what it found.
		s.SetSoftPTE(newPTE)
		if got, err := s.Translate(kernelPage); err != nil || got.PA != pa {
			t.Errorf("level %d: %+v, %v, want page %#x", level, got, err, pa)
		}
		m.put(slot, e)
	}
}

// TestSetSoftPTE_forgets: a page table found under the wrong mask is another one
// under the right mask.
func TestSetSoftPTE_forgets(t *testing.T) {
	t.Parallel()
	m := newMachine()
	wrong := m.mapBytes(kernelPage, nil)
	slot := m.slot(kernelPage, 2)
	table := PA(m.get(slot) & 0xffffffffff000)
	other := m.page()
	m.put(other+PA(uint64(kernelPage)>>12&511*8), 0x7777063)
	m.put(slot, uint64(table)|0x880)
	s := m.space()
	if got, err := s.Translate(kernelPage); err != nil || got.PA != wrong {
		t.Fatalf("%+v, %v", got, err)
	}
	s.SetSoftPTE(SoftPTE{Swizzled: true, InvalidMask: uint64(table ^ other)})
	if got, err := s.Translate(kernelPage); err != nil || got.PA != 0x7777000 {
		t.Errorf("%+v, %v, want page 0x7777000", got, err)
	}
}

func TestTranslate_largePages(t *testing.T) {
	t.Parallel()
	m := newMachine()
	m.set(giant, 3, 0x1c0000000|0x10e3) // PAT bit set
	m.set(nearLarge, 2, 0x15600000|0x10e3)
	m.set(0xffffa00000000000, 4, 0x2000|0xe3) // bit 7 of a PXE means nothing
	s := m.space()
	for _, c := range []struct {
		at   VA
		want Translation
	}{
		{giant + 0x3fffffff, Translation{PA: 0x1ffffffff, PageSize: 1 << 30}},
		{giant + 0x12345678, Translation{PA: 0x1d2345678, PageSize: 1 << 30}},
		{nearLarge + 0x1fffff, Translation{PA: 0x157fffff, PageSize: 1 << 21}},
	} {
		got, err := s.Translate(c.at)
		if diff := cmp.Diff(c.want, got); err != nil || diff != "" {
			t.Errorf("%#x: %v (-want +got):\n%s", uint64(c.at), err, diff)
		}
	}
	if _, err := s.Translate(0xffffa00000000000); errors.Is(err, nil) {
		t.Error("an entry of the root was taken for a large page")
	}
}

func TestTranslate_selfMap(t *testing.T) {
	t.Parallel()
	m := newMachine()
	pa := m.mapBytes(kernelPage, nil)
	m.put(m.root+8*0x1ed, uint64(m.root)|0x63) // where Windows 7 has it
	s := m.space()
	// The entry that maps an address lies at a fixed place of the self-map.
	pte := VA(0xfffff68000000000) + VA(uint64(kernelPage)>>9&0x7ffffffff8)
	if got, err := s.Uint64(pte); err != nil || PA(got&0xffffffffff000) != pa {
		t.Errorf("entry %#x, error %v, want one of page %#x", got, err, pa)
	}
	if got, err := s.Translate(0xfffff6fb7dbed000); err != nil || got.PA != m.root {
		t.Errorf("the root through itself: %+v, %v", got, err)
	}
}

func TestTranslateSteps(t *testing.T) {
	t.Parallel()
	m := newMachine()
	m.set(kernelPage, 1, 0x5000880)
	m.set(nearLarge, 2, 0x15600000|0xe3)
	s := m.space()
	levels := []Level{4: LevelPXE, 3: LevelPPE, 2: LevelPDE, 1: LevelPTE}
	steps := func(at VA, last int, formats ...string) (want []Step) {
		for i, f := range formats {
			slot := m.slot(at, 4-i)
			want = append(want, Step{Level: levels[4-i], At: slot, Value: m.get(slot), Format: f})
		}
		return want
	}
	for _, c := range []struct {
		at   VA
		want Translation
		ok   bool
	}{
		{kernelPage, Translation{PA: 0x5000000, PageSize: 4096, Steps: steps(kernelPage, 1, "hardware", "hardware", "hardware", "transition")}, true},
		{nearLarge, Translation{PA: 0x15600000, PageSize: 2 << 20, Steps: steps(nearLarge, 2, "hardware", "hardware", "hardware")}, true},
		{kernelPage + 4096, Translation{Steps: steps(kernelPage+4096, 1, "hardware", "hardware", "hardware", "software")}, false},
		{0, Translation{Steps: []Step{{Level: LevelPXE, At: m.root, Format: "software"}}}, false},
		{1 << 50, Translation{}, false},
	} {
		got, err := s.TranslateSteps(c.at)
		if diff := cmp.Diff(c.want, got); (err == nil) != c.ok || diff != "" {
			t.Errorf("%#x: error %v (-want +got):\n%s", uint64(c.at), err, diff)
		}
	}
}

func TestSpace_readsDemandZero(t *testing.T) {
	t.Parallel()
	m := newMachine()
	m.mapBytes(kernelPage-0x1000, []byte{0: 1, 4095: 1})
	m.set(kernelPage, 1, 0x80)
	m.mapBytes(kernelPage+0x1000, []byte{1})
	b := []byte{9, 9, 9, 9}
	s := m.space()
	if _, err := s.ReadVirtual(b, kernelPage-1); err != nil || b[0] != 1 || b[1] != 0 || b[3] != 0 {
		t.Errorf("read %v, %v", b, err)
	}
	if v, err := s.Uint32(kernelPage + 0xffd); err != nil || v != 0x01000000 {
		t.Errorf("read %#x, %v", v, err)
	}
}

// TestSoftPTE_unknown reads what the hardware reads, and nothing else, of a build
// whose other entries have a form that is not known.
func TestSoftPTE_unknown(t *testing.T) {
	t.Parallel()
	s := &Space{soft: SoftPTE{Unknown: true}}
	if page, zero, err := s.leaf(0x5000|bitValid, 0, 0); err != nil || zero || page != 0x5000 {
		t.Errorf("a valid entry: %#x, %v, %v", uint64(page), zero, err)
	}
	for _, pte := range []uint64{0x5000 | bitTrans, 0x80, 0xffffa80000000000 | bitProto, 0x200002} {
		if page, zero, err := s.leaf(pte, 0, 0); err == nil {
			t.Errorf("entry %#x: page %#x, zero %v", pte, uint64(page), zero)
		}
	}
}
