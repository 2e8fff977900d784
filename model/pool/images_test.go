package pool

import (
	"context"
	"encoding/binary"
	"errors"
	"strings"
	"testing"

	gocmp "github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"gokd/dumpfmt/dumptest/shared"
	"gokd/model"
	"gokd/model/mem"
	"gokd/model/modeltest"
	"gokd/model/types"
)

const (
	driverAt mem.VA = 0xfffff88001000000
	otherAt  mem.VA = 0xfffff88002000000
)

// imageHeaders writes the headers of an image with a section of code at +1000h
// and one of data at +3000h (PE format).
func imageHeaders(m *modeltest.Machine, at mem.VA) {
	var b [0x400]byte
	le := binary.LittleEndian
	copy(b[:], "MZ")
	le.PutUint32(b[0x3c:], 0x80)
	nt := b[0x80:]
	copy(nt, "PE\x00\x00")
	le.PutUint16(nt[4:], 0x8664)
	le.PutUint16(nt[6:], 2)
	le.PutUint16(nt[20:], 240)
	opt := nt[24:]
	le.PutUint16(opt, 0x20b)
	le.PutUint64(opt[24:], uint64(at))
	le.PutUint32(opt[56:], 0x5000)
	le.PutUint32(opt[60:], 0x400)
	le.PutUint32(opt[108:], 16)
	for i, s := range []struct {
		name  string
		at    uint32
		flags uint32
	}{{".text", 0x1000, 0x60000020}, {".rdata", 0x3000, 0x40000040}} {
		sec := opt[240+40*i:]
		copy(sec, s.name)
		le.PutUint32(sec[8:], 0x2000)
		le.PutUint32(sec[12:], s.at)
		le.PutUint32(sec[36:], s.flags)
	}
	m.Put(at, b[:]...)
}

// tagMachine has a driver whose code and data hold "Leak" in every way, another
// that holds it in a text, and a kernel that holds it in data.
func tagMachine(t *testing.T, l *types.Layout) *model.Kernel {
	m := modeltest.New(t, l)
	m.SetGlobal("NotCode", 0)
	alloc := m.Global("ExAllocatePoolWithTag", 0x10)
	m.Put(m.Variable(8), 'L', 'e', 'a', 'k')
	m.Module("driver.sys", driverAt, 0x5000)
	imageHeaders(m, driverAt)
	code := func(rva mem.VA, parts ...string) { m.Put(driverAt+rva, []byte(strings.Join(parts, ""))...) }
	// mov r8d,'Leak'; xor ecx,ecx; mov edx,eax; call [import]
	code(0x1010, "\x41\xb8Leak", "\x33\xc9", "\x8b\xd0", "\xff\x15", rel(0x1010+10+6, 0x3800))
	m.Put64(driverAt+0x3800, uint64(alloc))
	// mov edx,'Leak'|bit 31; mov rcx,rbx; call rax
	code(0x1100, "\xba\x4c\x65\x61\xeb", "\x48\x8b\xcb", "\xff\xd0")
	// mov dword ptr [rsp+28h],'Leak'; ret
	code(0x1200, "\xc7\x44\x24\x28Leak", "\xc3")
	// cmp dword ptr [rax+10h],'Leak'
	code(0x1300, "\x81\x78\x10Leak", "\xc3")
	// lea rcx,[rcx+6B61654Ch]: an offset, no operand
	code(0x1400, "\x48\x8d\x89Leak", "\xc3")
	// mov edx,'Leak'; jmp [import that is not bound]
	code(0x1500, "\xba\x4c\x65\x61\x6b", "\x48\xff\x25", rel(0x1500+5+7, 0x3808))
	m.Put64(driverAt+0x3808, 0x3900)
	code(0x3900, "\x12\x34ExFreePoolWithTag\x00")
	code(0x3010, "Leak")
	code(0x3100, "LeakDetector")
	code(0x3ffe, "Leak") // across two pages
	code(0x2000, "\xc3")
	m.Module("other.sys", otherAt, 0x5000)
	imageHeaders(m, otherAt)
	for rva := mem.VA(0x1000); rva < 0x5000; rva += mem.PageSize {
		m.Put(otherAt+rva, 0)
	}
	m.Put(otherAt+0x3100, []byte("aLeak")...)
	m.NotCaptured(otherAt + 0x1000)
	m.NotCaptured(otherAt + 0x4000)
	m.Module("gone.sys", 0xfffff88003000000, 0x3000)
	return m.OpenPaged(nil)
}

// rel gives a displacement from the end of an instruction.
func rel(end, to uint32) string {
	return string(binary.LittleEndian.AppendUint32(nil, to-end))
}

func TestSearchTag(t *testing.T) {
	t.Parallel()
	for _, l := range types.Layouts() {
		t.Run(l.Family(), func(t *testing.T) {
			t.Parallel()
			k := tagMachine(t, l)
			s, err := SearchTag(context.Background(), k, tagOf("Leak"))
			if err != nil {
				t.Fatal(err)
			}
			at := func(rva mem.VA) mem.VA { return driverAt + rva }
			want := []TagUser{
				{At: at(0x1012), Places: 9, ByKind: [5]int{1, 1, 2, 3, 2}, Best: []TagPlace{
					{At: at(0x1012), Section: ".text", Kind: AsTag, Inst: at(0x1010), Instruction: "mov r8d,6B61654Ch",
						Argument: 3, Call: at(0x101a), Routine: "nt!ExAllocatePoolWithTag"},
					{At: at(0x1501), Section: ".text", Kind: AsTag, Inst: at(0x1500), Instruction: "mov edx,6B61654Ch",
						Argument: 2, Call: at(0x1505), Routine: "ExFreePoolWithTag"},
					{At: at(0x1101), Section: ".text", Kind: AsOperand, Protected: true, Inst: at(0x1100),
						Instruction: "mov edx,0EB61654Ch", Argument: 2, Call: at(0x1108)},
					{At: at(0x1204), Section: ".text", Kind: AsOperand, Inst: at(0x1200),
						Instruction: "mov dword ptr [rsp+28h],6B61654Ch", Argument: 6},
					{At: at(0x1303), Section: ".text", Kind: AsOperand, Inst: at(0x1300),
						Instruction: "cmp dword ptr [rax+10h],6B61654Ch"},
					{At: at(0x3010), Section: ".rdata", Kind: InData},
					{At: at(0x3ffe), Section: ".rdata", Kind: InData},
					{At: at(0x1403), Section: ".text", Kind: InCode},
					{At: at(0x3100), Section: ".rdata", Kind: InText},
				}},
				{At: s.Users[1].At, Places: 1, ByKind: [5]int{InData: 1}, Best: s.Users[1].Best, Lost: s.Users[1].Lost},
				{At: otherAt + 0x3101, Places: 1, ByKind: [5]int{InText: 1}, Lost: 2,
					Best: []TagPlace{{At: otherAt + 0x3101, Section: ".rdata", Kind: InText}}},
			}
			if diff := gocmp.Diff(want, s.Users, cmpopts.IgnoreFields(TagUser{}, "Module")); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
			var names []string
			for _, u := range s.Users {
				names = append(names, u.Module.Image)
			}
			if diff := gocmp.Diff([]string{"driver.sys", "ntoskrnl.exe", "other.sys"}, names); diff != "" {
				t.Errorf("images (-want +got):\n%s", diff)
			}
			if s.Images != 4 || s.Absent != 1 || s.Partly != 3 || !s.Users[1].Kernel() || s.Users[0].Kernel() {
				t.Errorf("%d images, %d absent, %d partly", s.Images, s.Absent, s.Partly)
			}
		})
	}
}

// TestSearchTag_real searches a real driver, of which the file is at hand.
func TestSearchTag_real(t *testing.T) {
	t.Parallel()
	k := modeltest.OpenDump(t, shared.Path(t, "dumps/real/triage_x64.dmp"), modeltest.Images(shared.Path(t, "symstore")))
	s, err := SearchTag(context.Background(), k, tagOf("FxDr"))
	if err != nil || len(s.Users) != 1 {
		t.Fatalf("%+v, %v", s, err)
	}
	u := s.Users[0]
	if u.Module.Image != "Wdf01000.sys" || u.Places != 11 || u.ByKind != [5]int{InText: 1, AsOperand: 1, AsTag: 9} || u.Lost != 16 {
		t.Errorf("%s: %d places, %v, %d pages missing", u.Module.Image, u.Places, u.ByKind, u.Lost)
	}
	want := TagPlace{At: u.Module.Base + 0x2d41f, Section: ".text", Kind: AsTag, Inst: u.Module.Base + 0x2d41d,
		Instruction: "mov r8d,72447846h", Argument: 3, Call: u.Module.Base + 0x2d423, Routine: "ExAllocatePoolWithTag"}
	if diff := gocmp.Diff(want, u.Best[0]); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestSearchTag_ends(t *testing.T) {
	t.Parallel()
	k := tagMachine(t, types.Layouts()[0])
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if _, err := SearchTag(ctx, k, tagOf("Leak")); !errors.Is(err, context.Canceled) {
		t.Errorf("after Ctrl-C: %v", err)
	}
	// Images without end: 40 of 64 MB, all over the same page.
	many := modeltest.New(t, types.Layouts()[0])
	for i := range 40 {
		many.Module("big.sys", otherAt+mem.VA(i)<<28, 1<<40)
	}
	k = many.Open()
	s, err := SearchTag(context.Background(), k, tagOf("Leak"))
	if err != nil || s.Images != 40 || len(s.Users) > 0 {
		t.Errorf("%+v, %v", s, err)
	}
}

func TestTakesTag(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		routine  string
		argument int
		want     bool
	}{
		{"nt!ExAllocatePool2", 3, true}, {"nt!ExAllocatePoolWithTag", 2, false}, {"nt!ExFreePoolWithTag", 2, true},
		{"nt!ExInitializeNPagedLookasideList", 6, true}, {"nt!ExInitializeLookasideListEx", 7, true},
		{"FLTMGR!FltAllocatePoolAlignedWithTag", 4, true}, {"ndis!NdisAllocateMemoryWithTagPriority", 3, true},
		{"nt!ObfReferenceObjectWithTag", 2, false}, {"", 3, false}, {"nt!MmAllocateMappingAddress", 2, true},
	} {
		if got := takesTag(c.routine, c.argument); got != c.want {
			t.Errorf("%s, argument %d: %v", c.routine, c.argument, got)
		}
	}
}

func BenchmarkSearchTag(b *testing.B) {
	k, _ := bigDump(b)
	b.ReportAllocs()
	for b.Loop() {
		s, err := SearchTag(context.Background(), k, tagOf("Leak"))
		if err != nil {
			b.Fatal(err)
		}
		b.SetBytes(int64(s.Bytes))
	}
}
