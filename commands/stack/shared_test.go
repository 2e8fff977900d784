package stack

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"regexp"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"gokd/commands/cmd"
	"gokd/commands/masm"
	"gokd/commands/report"
	"gokd/dumpfmt/dumptest/shared"
	"gokd/model"
	"gokd/model/mem"
	"gokd/model/modeltest"
	"gokd/model/types/sympath"
	"gokd/model/unwind"
)

// open starts a session over a dump with this group's commands.
func open(t testing.TB, k *model.Kernel) (*cmd.Session, *bytes.Buffer) {
	t.Helper()
	tab, err := cmd.NewTable(Commands()...)
	if err != nil {
		t.Fatal(err)
	}
	var b bytes.Buffer
	s := &cmd.Session{Kernel: k, Commands: tab, Out: cmd.NewOutput(&b, report.Era19041, false), CPU: k.CrashProcessor()}
	s.Eval = masm.ForSession(s)
	return s, &b
}

// run gives the text of a line of commands.
func run(t testing.TB, s *cmd.Session, b *bytes.Buffer, line string) string {
	t.Helper()
	b.Reset()
	_ = s.Execute(context.Background(), line) // failures are text too
	return b.String()
}

func triage(t testing.TB) *model.Kernel {
	t.Helper()
	return modeltest.OpenDump(t, shared.Path(t, "dumps/real/triage_x64.dmp"), modeltest.Symbols(shared.Path(t, "isf")), images(t))
}

// images adds the image files of the shared store.
func images(t testing.TB) modeltest.Option {
	t.Helper()
	im := sympath.NewImages(shared.Path(t, "symstore"))
	return func(s *model.Source) { s.Images = im }
}

var (
	kRow        = regexp.MustCompile("(?m)^[0-9a-f]{2,} [0-9a-f]{8}`[0-9a-f]{8} ([0-9a-f]{8})`([0-9a-f]{8}) ")
	expectedRow = regexp.MustCompile(`(?m)^(\d+) +0x([0-9a-f]+) +sp: `)
)

// TestShared_triage: k shows every return address that an independent reader
// found with the images at hand, in their order; .ecxr and .trap start from the
// exception.
func TestShared_triage(t *testing.T) {
	t.Parallel()
	s, b := open(t, triage(t))
	truth, err := os.ReadFile(shared.Path(t, "dumps/real/triage_x64.expected.txt"))
	if err != nil {
		t.Fatal(err)
	}
	var want []string
	for _, m := range expectedRow.FindAllStringSubmatch(string(truth), -1) {
		if m[1] != "0" && m[2] != "0" {
			want = append(want, m[2])
		}
	}
	if len(want) != 35 {
		t.Fatalf("%d return addresses are expected, 35 should be", len(want))
	}
	found := 0
	for _, m := range kRow.FindAllStringSubmatch(run(t, s, b, "k"), -1) {
		if found < len(want) && m[1]+m[2] == want[found] {
			found++
		}
	}
	if found != len(want) {
		t.Errorf("return address %d, %s, is not shown in its place:\n%s", found+1, want[found], b)
	}
	registers := `rax=ffffc08be4da6240 rbx=0000000000000000 rcx=0000000000000020
rdx=0000000000000001 rsi=0000000000000000 rdi=0000000000000000
rip=fffff8048b58334c rsp=ffff850429892120 rbp=fffff8048b58f598
 r8=ffff9b0003360008  r9=0000000000000044 r10=0000000000000020
r11=0000000000000020 r12=0000000000000000 r13=0000000000000000
r14=0000000000000000 r15=0000000000000000
iopl=0         nv up ei pl zr na po nc
amdppm+0x334c:
` + "fffff804`8b58334c 43891401        mov     dword ptr [r9+r8],edx ds:ffff9b00`0336004c=????????\n"
	for _, test := range []struct{ line, want string }{
		{".trap ffff8504`29891f90", trapNote + registers},
		{"r", "Last set context:\n" + registers},
		{"kn 2", "  *** Stack trace for last set context - .thread/.cxr resets it\n # Child-SP          RetAddr           Call Site\n" +
			"00 ffff8504`29892120 fffff804`8b58313f amdppm+0x334c\n01 ffff8504`29892150 fffff804`8b583234 amdppm+0x313f\n"},
		{".trap", resetText},
		{"r rip", "rip=fffff8047bdf5a80\n"},
		{".cxr ffff8504`29891720; r rip,r15", "rax=ffffc08be4da6240 rbx=0000000000000001 rcx=0000000000000020\n" +
			"rdx=0000000000000001 rsi=ffffc08be457fcf0 rdi=ffffc08be52e7310\nrip=fffff8048b58334c rsp=ffff850429892120 rbp=fffff8048b58f598\n" +
			" r8=ffff9b0003360008  r9=0000000000000044 r10=0000000000000020\nr11=0000000000000020 r12=0000000000000015 r13=fffff8048b590b01\n" +
			"r14=0000000000000000 r15=0000000000000015\niopl=0         nv up ei pl zr na po nc\n" +
			"cs=0010  ss=0018  ds=002b  es=002b  fs=0053  gs=002b             efl=00050246\namdppm+0x334c:\nfffff804`8b58334c 43891401        mov     dword ptr [r9+r8],edx ds:002b:ffff9b00`0336004c=????????\n" +
			"rip=fffff8048b58334c r15=0000000000000015\n"},
		{".cxr", resetText},
		{".exr ffff8504`29891ee8", "ExceptionAddress: fffff8048b58334c (amdppm+0x000000000000334c)\n   ExceptionCode: c0000005 (Access violation)\n" +
			"  ExceptionFlags: 00000000\nNumberParameters: 2\n   Parameter[0]: 0000000000000001\n   Parameter[1]: ffffffffffffffff\n" +
			"Attempt to write to address ffffffffffffffff\n"},
		{".trap ffff8504`29891f98", ".trap: trap frame at 0xffff850429891f98: no trap frame: cs is 0x246 there\n"},
		{".thread ffffc08bde9e1640", "Implicit thread is now ffffc08b`de9e1640\n"},
		{".frame 1", "01 ffff8504`29890ef0 fffff804`7bdcc052 nt+0x40f4e1\n"},
		{".cxr; .frame /r b", resetText + "0b ffff8504`29892120 fffff804`8b58313f amdppm+0x334c\n" +
			"rax=ffffc08be4da6240 rbx=???????????????? rcx=0000000000000020\nrdx=0000000000000001 rsi=???????????????? rdi=????????????????\n" +
			"rip=fffff8048b58334c rsp=ffff850429892120 rbp=fffff8048b58f598\n r8=ffff9b0003360008  r9=0000000000000044 r10=0000000000000020\n" +
			"r11=0000000000000020 r12=???????????????? r13=????????????????\nr14=???????????????? r15=????????????????\n" +
			"iopl=0         nv up ei pl zr na po nc\ncs=0010  ss=0018  ds=????  es=????  fs=????  gs=????             efl=00050246\n" +
			"amdppm+0x334c:\nfffff804`8b58334c 43891401        mov     dword ptr [r9+r8],edx ds:ffff9b00`0336004c=????????\n"},
		{".frame ff", "Cannot find frame 0xff, previous scope unchanged\n"},
		{".context", ".context: this dump has no page tables\n"},
	} {
		if d := cmp.Diff(test.want, run(t, s, b, test.line)); d != "" {
			t.Errorf("%s (-want +got):\n%s", test.line, d)
		}
	}
}

// TestShared_names: with the driver's image and symbols at hand its frames are
// unwound and named, from the exception up to the framework that called it.
func TestShared_names(t *testing.T) {
	t.Parallel()
	k := modeltest.OpenDump(t, shared.Path(t, "dumps/real/triage_x64.dmp"),
		modeltest.Symbols(shared.Path(t, "isf")+";"+shared.Path(t, "symstore")), images(t))
	s, b := open(t, k)
	run(t, s, b, ".ecxr")
	want := `  *** Stack trace for last set context - .thread/.cxr resets it
 # Call Site
00 amdppm!WriteIoMemRawEx+0x70 <context>
01 amdppm!WriteGenAddrEx+0x6b <unwind data>
02 amdppm!WriteGenAddrMaybeHiddenEx+0x18 <unwind data>
03 amdppm!InitAcpiCpc+0x317 <unwind data>
04 amdppm!ProcLibDeviceStart+0x886 <unwind data>
05 amdppm!EvtDevicePrepareHardware+0xd2 <unwind data>
06 Wdf01000+0x7c027 <unwind data>
`
	if d := cmp.Diff(want, run(t, s, b, "kc 7 -how")); d != "" {
		t.Errorf("(-want +got):\n%s", d)
	}
}

// TestShared_frames: the registers of frames, of every thread of a machine, are
// what .frame /c makes k start from: the rest of the stack is the same.
func TestShared_frames(t *testing.T) {
	t.Parallel()
	k := modeltest.OpenDump(t, shared.Path(t, "dumps/x64/win7seed.kernel.dmp.xz"), modeltest.Symbols(shared.Path(t, "dumps/symbols/win7seed")))
	s, b := open(t, k)
	at := mem.VA(0xfffffa80169538a0)
	st, err := unwind.Thread(context.Background(), k, at, unwind.Options{})
	if err != nil || len(st.Frames) < 8 {
		t.Fatalf("%+v, %v", st, err)
	}
	all := rows(run(t, s, b, ".thread fffffa80169538a0; k"))
	if len(all) != len(st.Frames) {
		t.Fatalf("k shows %d frames of %d", len(all), len(st.Frames))
	}
	for n := range len(all) - 1 {
		text := run(t, s, b, fmt.Sprintf(".thread fffffa80169538a0; .frame /c %x; k", n))
		got := rows(text)
		// The first row is the line of .frame.
		if d := cmp.Diff(all[n:], got[1:]); d != "" {
			t.Errorf("from frame %d (-want +got):\n%s", n, d)
		}
	}
	v, err := s.ReturnAddress(context.Background())
	if err != nil || v == 0 {
		t.Errorf("the frame's return address: %#x, %v", uint64(v), err)
	}
	s.SetProcessor(s.CPU)
	if d := cmp.Diff(cmd.Scope{}, s.Scope); d != "" {
		t.Errorf("changing the processor keeps (-want +got):\n%s", d)
	}
}

// rows gives stack pointer, return address and site of each row.
func rows(text string) []string {
	var out []string
	for line := range strings.SplitSeq(text, "\n") {
		if kRow.MatchString(line) {
			_, rest, _ := strings.Cut(line, " ")
			out = append(out, rest)
		}
	}
	return out
}

// TestShared_process: user-mode addresses belong to the implicit process.
func TestShared_process(t *testing.T) {
	t.Parallel()
	k := modeltest.OpenDump(t, shared.Path(t, "dumps/x64/win7seed.kernel.dmp.xz"), modeltest.Symbols(shared.Path(t, "dumps/symbols/win7seed")))
	s, b := open(t, k)
	before := run(t, s, b, ".context")
	for _, test := range []struct{ line, want string }{
		{".process 4", "0000000000000004 is not a process object: the process with the id 4 is at fffffa800cd6a5f0\n"},
		{".process fffffa80169538a0", "fffffa80169538a0 is not a process object: it is a thread object: .thread takes it\n"},
		{".thread fffffa800cd6a5f0", "fffffa800cd6a5f0 is not a thread object: it is a process object: .process takes it\n"},
		{".thread fffff88007fab7f3", "fffff88007fab7f3 is not a thread object: it lies in the kernel stack of thread fffffa80169538a0\n"},
		{".process /i fffffa800cd6a5f0", ".process /i: only a live target can be made to run a process\n"},
		{".process /p /r fffffa800cd6a5f0", "Implicit process is now fffffa80`0cd6a5f0\n"},
	} {
		if d := cmp.Diff(test.want, run(t, s, b, test.line)); d != "" {
			t.Errorf("%s (-want +got):\n%s", test.line, d)
		}
	}
	if s.Space() == k.Space {
		t.Error(".process does not change the address space")
	}
	run(t, s, b, ".process 0")
	if d := cmp.Diff(before, run(t, s, b, ".context")); d != "" || s.Space() != k.Space {
		t.Errorf("after .process 0 (-want +got):\n%s", d)
	}
}

// BenchmarkTrace walks the 35 and more frames of a real crash, as k does; warm.
func BenchmarkTrace(b *testing.B) {
	s, _ := open(b, triage(b))
	walk := func(b *testing.B, o unwind.Options) {
		b.ReportAllocs()
		for b.Loop() {
			if st, err := trace(context.Background(), s, o); err != nil || len(st.Frames) < 30 {
				b.Fatal(len(st.Frames), err)
			}
		}
	}
	b.Run("scanned", func(b *testing.B) { walk(b, unwind.Options{}) })
}

// BenchmarkTrace_unwound walks the 30 and more frames of a thread whose images
// all have unwind data.
func BenchmarkTrace_unwound(b *testing.B) {
	k := modeltest.OpenDump(b, shared.Path(b, "dumps/x64/win7seed.kernel.dmp.xz"), modeltest.Symbols(shared.Path(b, "dumps/symbols/win7seed")))
	s, _ := open(b, k)
	s.Scope.Thread = 0xfffffa80169538a0
	frames := 0
	b.ReportAllocs()
	for b.Loop() {
		st, err := trace(context.Background(), s, unwind.Options{})
		if err != nil {
			b.Fatal(err)
		}
		frames = len(st.Frames)
	}
	b.ReportMetric(float64(frames), "frames")
}
