package stack

import (
	"bytes"
	"encoding/binary"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"gokd/commands/report"
	"gokd/model"
)

func text(r report.Record) string {
	var b bytes.Buffer
	r.WriteText(report.NewPrinter(&b, report.Era19041, false))
	return b.String()
}

// TestX64 holds the layout against a public session's.
func TestX64(t *testing.T) {
	t.Parallel()
	c := model.Registers{RIP: 0xfffff803bb757020, EFlags: 0x202, CS: 0x10, SS: 0x18, DS: 0x2b, ES: 0x2b, FS: 0x53, GS: 0x2b}
	copy(c.GPR[:], []uint64{
		0xc301, 1, 0xd800000000, 0xffffe00173eed880, 0xffffd001f01f8988, 0xffffe00173f0b620, 0xffffe00173eed8e0, 0xffffe00173eed8f0,
		0x3e, 0xffffe00167a4a000, 0x1e, 0xffffd001f01f88f8, 0, 0xffffd001f01efdc0, 1, 0,
	})
	r := x64(&view{regs: c, known: allKnown})
	r.code = instruction{at: r.pc, line: "fffff803`bb757020 cc              int     3"}
	r.place = "nt!DbgBreakPointWithStatus"
	want := `rax=000000000000c301 rbx=ffffe00173eed880 rcx=0000000000000001
rdx=000000d800000000 rsi=ffffe00173eed8e0 rdi=ffffe00173eed8f0
rip=fffff803bb757020 rsp=ffffd001f01f8988 rbp=ffffe00173f0b620
 r8=000000000000003e  r9=ffffe00167a4a000 r10=000000000000001e
r11=ffffd001f01f88f8 r12=0000000000000000 r13=ffffd001f01efdc0
r14=0000000000000001 r15=0000000000000000
iopl=0         nv up ei pl nz na pe nc
cs=0010  ss=0018  ds=002b  es=002b  fs=0053  gs=002b             efl=00000202
nt!DbgBreakPointWithStatus:
` + "fffff803`bb757020 cc              int     3\n"
	if diff := cmp.Diff(want, text(r)); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestARM64(t *testing.T) {
	t.Parallel()
	b := make([]byte, 0x390)
	le := binary.LittleEndian
	le.PutUint32(b, 0x400007)
	le.PutUint32(b[4:], 0x60000044)
	le.PutUint64(b[8+8*28:], 0x1c)
	le.PutUint64(b[0x100:], 0xffffe00e0e4bc4a0)
	le.PutUint64(b[0x108:], 0xfffff803f32de014)
	c, ok := model.ParseARM64Context(b)
	if !ok {
		t.Fatal("the context is not taken for one")
	}
	r := arm64(c)
	r.code.at = r.pc
	got := text(r)
	for _, want := range []string{"x28=000000000000001c    fp=0000000000000000", " sp=ffffe00e0e4bc4a0\n", " pc=fffff803f32de014", "psr=60000044 -ZC- EL1", "fffff803`f32de014\n"} {
		if !strings.Contains(got, want) {
			t.Errorf("%q is not in:\n%s", want, got)
		}
	}
	for n := range 0x110 {
		if _, ok := model.ParseARM64Context(b[:n]); ok {
			t.Fatalf("%d bytes pass for a context", n)
		}
	}
}
