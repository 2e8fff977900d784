package code_test

import (
	"bytes"
	"encoding/hex"
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"gokd/commands/cmd"
	"gokd/commands/code"
	"gokd/commands/masm"
	"gokd/commands/report"
	"gokd/model"
	"gokd/model/mem"
	"gokd/model/modeltest"
	"gokd/model/types"
)

// newSession opens a machine without modules whose memory at 10000 holds code
// and ends at 11000.
func newSession(t testing.TB, pieces map[uint64]string) (*cmd.Session, *bytes.Buffer) {
	t.Helper()
	m := modeltest.New(t, types.Layouts()[0])
	for at, text := range pieces {
		b, err := hex.DecodeString(strings.ReplaceAll(text, " ", ""))
		if err != nil {
			t.Fatal(err)
		}
		m.Put(mem.VA(at), b...)
	}
	table, err := cmd.NewTable(code.Commands()...)
	if err != nil {
		t.Fatal(err)
	}
	var b bytes.Buffer
	s := &cmd.Session{Kernel: m.Open(), Commands: table, Out: cmd.NewOutput(&b, report.Era19041, false), KeepGoing: true}
	s.Eval = masm.ForSession(s)
	return s, &b
}

// sample is a function of three pieces: its start, a piece below it, and one
// that it ends in, with a jump through a register besides.
var sample = map[uint64]string{
	0x10100: "4885c9 7414 488bd9 ff1500010000 e8f0ffffff 85c0 74ef eb3a", // 10100 to 10119
	0x10119: "e9e2feffff",                                                // to 10000
	0x10000: "33c0 c3",
	0x100f0: strings.Repeat("cc", 16),
	0x10155: "ffe0",
	0x10280: "f604250803fe7f01",
	0x10ffe: "488b",
}

func TestCommands(t *testing.T) {
	t.Parallel()
	const bad = "       ^ Memory access error in 'u 20'\n         0x20: page not in dump\n"
	for _, tt := range []struct{ name, line, want string }{
		{"eight, and on", "u 10100 L6; u L2", `00000000` + "`" + `00010100 4885c9          test    rcx,rcx
00000000` + "`" + `00010103 7414            je      00000000` + "`" + `00010119
00000000` + "`" + `00010105 488bd9          mov     rbx,rcx
00000000` + "`" + `00010108 ff1500010000    call    qword ptr [00000000` + "`" + `0001020e]
00000000` + "`" + `0001010e e8f0ffffff      call    00000000` + "`" + `00010103
00000000` + "`" + `00010113 85c0            test    eax,eax
00000000` + "`" + `00010115 74ef            je      00000000` + "`" + `00010106
00000000` + "`" + `00010117 eb3a            jmp     00000000` + "`" + `00010153
`},
		{"a count, hexadecimal", "u 10000 La", ""},
		{"up to an address", "u 10100 10104", "00000000`00010100 4885c9          test    rcx,rcx\n00000000`00010103 7414            je      00000000`00010119\n"},
		{"what every process shares", "u 10280 L1", "00000000`00010280 f604250803fe7f01 test    byte ptr [SharedUserData+0x308 (00000000`7ffe0308)],1\n"},
		{"no code bytes", ".asm no_code_bytes; u 10000 L2; .asm- no_code_bytes", "Assembly options: no_code_bytes\n00000000`00010000 xor     eax,eax\n00000000`00010002 ret\nAssembly options: <none>\n"},
		{"backwards", "ub 10105 L2", "00000000`00010100 4885c9          test    rcx,rcx\n00000000`00010103 7414            je      00000000`00010119\n" +
			"Where these instructions begin is a guess: the start of the function is not known.\n"},
		{"cut off", "u 10ffe", "00000000`00010ffe ??              ???\n          ^ Memory access error in 'u 10ffe'\n            0x11000: page not in dump\n"},
		{"not there", "u 20", "00000000`00000020 ??              ???\n" + bad},
		{"past it", "uu 20 L2", "00000000`00000020 ??              ???\n00000000`00000021 ??              ???\n"},
		{"nothing before", "ub 20", "00000000`0000001f ??              ???\n        ^ Memory access error in 'ub 20'\n          0x1f: page not in dump\n"},
		{"no function", "uf 20", "No code found, aborting\n0x20: page not in dump\n"},
		{"physical", "up 1000", "up: this dump holds blocks of virtual memory, no physical memory\n"},
		{"an unknown option", ".asm fast", ".asm: \"fast\": no such option; want no_code_bytes, ignore_output_width, source_line, verbose\nusage: .asm [options]\n"},
		{"too much", "u 10000 L2 3", "u: \"3\": nothing may follow the range\nusage: u [range]\n"},
		{"counts", "uf /i 10000", "2 instructions scanned\n\n00000000`00010000 33c0            xor     eax,eax\n00000000`00010002 c3              ret\n"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			s, b := newSession(t, sample)
			_ = s.Execute(t.Context(), tt.line)
			got := b.String()
			if tt.want == "" { // only as many
				if n := strings.Count(got, "\n"); n != 10 {
					t.Errorf("%d lines, want 10:\n%s", n, got)
				}
				return
			}
			if d := cmp.Diff(tt.want, got); d != "" {
				t.Errorf("(-want +got):\n%s", d)
			}
		})
	}
}

// TestARM64: listings of words; a function; backwards by words.
func TestARM64(t *testing.T) {
	t.Parallel()
	for command, want := range map[string]string{
		"u 10200 L2":  "00000000`00010200 d503237f pacibsp\n00000000`00010204 a9bf7bfd stp         fp,lr,[sp,#-0x10]!\n",
		"u 10202 L1":  "00000000`00010200 d503237f pacibsp\n",
		"ub 10208 L1": "00000000`00010204 a9bf7bfd stp         fp,lr,[sp,#-0x10]!\n",
		"uf 10200": "00000000`00010200 d503237f pacibsp\n00000000`00010204 a9bf7bfd stp         fp,lr,[sp,#-0x10]!\n" +
			"00000000`00010208 b4000040 cbz         x0,00000000`00010210  Branch\n\n" +
			"00000000`0001020c 94000000 bl          00000000`0001020c\n\n00000000`00010210 d65f03c0 ret\n",
		"u 20 L1": "00000000`00000020 ???????? ???\n          ^ Memory access error in 'u 20 L1'\n            0x20: page not in dump\n",
	} {
		s, b := newSession(t, map[uint64]string{0x10200: "7f2303d5 fd7bbfa9 400000b4 00000094 c0035fd6"})
		s.Kernel.Source.Machine = model.MachineARM64
		_ = s.Execute(t.Context(), command)
		if d := cmp.Diff(want, b.String()); d != "" {
			t.Errorf("%s (-want +got):\n%s", command, d)
		}
	}
}

func TestMachine(t *testing.T) {
	t.Parallel()
	s, b := newSession(t, sample)
	s.Kernel.Source.Machine = 0x14c
	if err := s.Execute(t.Context(), "u 10100"); err == nil || b.String() != "u: machine type 0x14c: only code of x64 and ARM64 can be shown\n" {
		t.Errorf("%q, %v", b.String(), err)
	}
}

// TestFunction: blocks, a piece below the start, a jump through a register.
func TestFunction(t *testing.T) {
	t.Parallel()
	line := func(at uint64, text string) string { return fmt.Sprintf("00000000`%08x %s\n", at, text) }
	start := line(0x10100, "4885c9          test    rcx,rcx") +
		line(0x10103, "7414            je      00000000`00010119  Branch") + "\n" +
		line(0x10105, "488bd9          mov     rbx,rcx") +
		line(0x10108, "ff1500010000    call    qword ptr [00000000`0001020e]") +
		line(0x1010e, "e8f0ffffff      call    00000000`00010103") +
		line(0x10113, "85c0            test    eax,eax") +
		line(0x10115, "74ee            je      00000000`00010105  Branch") + "\n" +
		line(0x10117, "eb3c            jmp     00000000`00010155  Branch") + "\n" +
		line(0x10119, "e9e2feffff      jmp     00000000`00010000  Branch") + "\n" +
		line(0x10155, "ffe0            jmp     rax")
	below := line(0x10000, "33c0            xor     eax,eax") + line(0x10002, "c3              ret")
	const incomplete = "Flow analysis was incomplete, some code may be missing\n"
	const note = "1 jumps through a table or register were not followed.\n"
	code := map[uint64]string{}
	for at, text := range sample {
		code[at] = text
	}
	code[0x10100] = "4885c9 7414 488bd9 ff1500010000 e8f0ffffff 85c0 74ee eb3c"
	for command, want := range map[string]string{
		"uf 10100":    incomplete + start + "\n" + below + note,
		"uf /o 10100": incomplete + below + "\n" + start + note,
		"uf /c 10100": incomplete + " (00000000`00010100)\n" +
			"   (00000000`00010108):\n    call to 00000000`00000000\n   (00000000`0001010e):\n    call to 00000000`00010103\n" + note,
	} {
		s, b := newSession(t, code)
		if err := s.Execute(t.Context(), command); err != nil {
			t.Error(err)
		}
		if d := cmp.Diff(want, b.String()); d != "" {
			t.Errorf("%s (-want +got):\n%s", command, d)
		}
	}
}

// TestBackwards: from any instruction of a run, the ones before it are found,
// but for those that a run from farther away reads differently.
func TestBackwards(t *testing.T) {
	t.Parallel()
	s, b := newSession(t, map[uint64]string{0x10400: strings.Repeat("4889742410 488bf9 33c0 e800000000 85c0 7402 90", 40)})
	if err := s.Execute(t.Context(), "ub 10400+0n19*0n20 L7"); err != nil {
		t.Fatal(err)
	}
	var got []string
	for l := range strings.Lines(b.String()) {
		if f := strings.Fields(l); len(f) > 2 && strings.Contains(f[0], "`") {
			got = append(got, f[2])
		}
	}
	want := []string{"mov", "mov", "xor", "call", "test", "je", "nop"}
	if d := cmp.Diff(want, got); d != "" {
		t.Errorf("(-want +got):\n%s\n%s", d, b.String())
	}
}

func TestJSON(t *testing.T) {
	t.Parallel()
	s, _ := newSession(t, sample)
	var b, errs bytes.Buffer
	s.Out = cmd.NewJSONOutput(&b, &errs, report.Era19041)
	_ = s.Execute(t.Context(), "u 10103 L1")
	line, _, _ := strings.Cut(b.String(), "\n")
	want := `{"command":"u","args":"10103 L1","record":"instruction","address":"0x10103","symbol":null,"bytes":"7414","mnemonic":"je",` +
		`"operands":"00000000` + "`" + `00010119","text":"je      00000000` + "`" + `00010119","flow":"condjump","target":"0x10119","target_symbol":null}`
	if d := cmp.Diff(want, line); d != "" {
		t.Errorf("(-want +got):\n%s", d)
	}
}

func BenchmarkList(b *testing.B) {
	s, out := newSession(b, map[uint64]string{0x10400: strings.Repeat("4889742410 488bf9 33c0 e800000000 85c0 7402 90", 40)})
	b.ReportAllocs()
	for b.Loop() {
		out.Reset()
		if err := s.Execute(b.Context(), "u 10400 L0n100"); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(b.N)*100/b.Elapsed().Seconds(), "instructions/s")
}
