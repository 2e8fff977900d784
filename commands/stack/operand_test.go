package stack

import (
	"context"
	"encoding/binary"
	"testing"

	"github.com/google/go-cmp/cmp"

	"gokd/commands/cmd"
	"gokd/commands/report"
	"gokd/model"
	"gokd/model/mem"
	"gokd/model/modeltest"
	"gokd/model/types"
)

// TestEffective: what stands behind the instruction in r, as in public sessions.
func TestEffective(t *testing.T) {
	t.Parallel()
	m := modeltest.New(t, types.Layouts()[0])
	at := m.Alloc(0x40)
	m.Put64(at, 0x8877665544332211)
	m.Put64(at+8, 0xffffd80bf90ded60)
	s := &cmd.Session{Kernel: m.Open()}
	v := &view{known: allKnown &^ (1 << 14)}
	v.regs = model.Registers{RIP: 0xfffff80633e1432e, EFlags: 0x246, CS: 0x10, SS: 0x18, DS: 0x2b, ES: 0x2b, FS: 0x53, GS: 0x2b}
	v.regs.GPR[model.RSP], v.regs.GPR[model.RSI], v.regs.GPR[model.RDI] = uint64(at), uint64(at), uint64(at)+8
	v.regs.GPR[model.RAX], v.regs.GPR[model.RCX] = 0x3f8b813f20b6e0, 2
	a, b := tick(uint64(at)), tick(uint64(at)+8)
	for _, test := range []struct{ code, want string }{
		{"mov     byte ptr [rsi],al", "ds:002b:" + a + "=11"},
		{"mov     qword ptr [rsp+8],rcx", "ss:0018:" + b + "=ffffd80bf90ded60"},
		{"cmp     qword ptr [rax+8],rbx", "ds:002b:003f8b81`3f20b6e8=????????????????"},
		{"mov     eax,dword ptr [rsi+rcx*4]", "ds:002b:" + b + "=f90ded60"},
		{"mov     rax,qword ptr [rdi-8]", "ds:002b:" + a + "=8877665544332211"},
		{"movups  xmm0,xmmword ptr [rsi]", "ds:002b:" + a + "=ffffd80bf90ded608877665544332211"},
		{"mov     rax,qword ptr gs:[188h]", "gs:002b:00000000`00000188=????????????????"},
		{"cmp     dword ptr [nt!KiFreezeFlag (" + a + ")],0", "ds:002b:" + a + "=44332211"},
		{"mov     rax,qword ptr [" + b + "]", "ds:002b:" + b + "=ffffd80bf90ded60"},
		{"movs    byte ptr [rdi],byte ptr [rsi]", "ds:002b:" + b + "=60 ds:002b:" + a + "=11"},
		{"lea     rcx,[rsp+20h]", ""},
		{"mov     rax,qword ptr [r14+8]", ""}, // r14 is not known
		{"mov     qword ptr [rsp+zork],rcx", ""},
		{"je      nt!Foo+0x12 (fffff800`12345678)", "[br=1]"},
		{"jne     nt!Foo+0x12 (fffff800`12345678)", "[br=0]"},
		{"ja      nt!Foo+0x12 (fffff800`12345678)", "[br=0]"},
		{"jge     nt!Foo+0x12 (fffff800`12345678)", "[br=1]"},
		{"jmp     nt!Foo+0x12 (fffff800`12345678)", ""},
		{"ret", ""},
		{"call    rax", ""}, // leads to no module
		{"", ""},
	} {
		if d := cmp.Diff(test.want, effective(context.Background(), s, v, test.code, 3)); d != "" {
			t.Errorf("%s (-want +got):\n%s", test.code, d)
		}
	}
	v.noSegments = true
	if got := effective(context.Background(), s, v, "cmp     qword ptr [rdx+8],rbx", 4); got != "ds:00000000`00000008=????????????????" {
		t.Errorf("in a trap frame: %s", got)
	}
}

func tick(at uint64) string {
	b := binary.BigEndian.AppendUint64(nil, at)
	const digits = "0123456789abcdef"
	var out []byte
	for i, c := range b {
		if i == 4 {
			out = append(out, '`')
		}
		out = append(out, digits[c>>4], digits[c&15])
	}
	return string(out)
}

// TestInstruction: the line is that of u; memory that can't be read is missing.
func TestInstruction(t *testing.T) {
	t.Parallel()
	m := newMachine(t)
	code := m.stack + 0x400
	end := m.thread&^(mem.PageSize-1) + 0x10*mem.PageSize // no page of the machine
	m.put(code, 0x48, 0x89, 0x4c, 0x24, 0x08, 0xcc)
	line := report.Addr(code).Tick()
	for _, test := range []struct {
		name string
		want instruction
	}{
		{"operands", instruction{at: code, line: line + " 48894c2408      mov     qword ptr [rsp+8],rcx",
			bytes: []byte{0x48, 0x89, 0x4c, 0x24, 8}, text: "mov     qword ptr [rsp+8],rcx"}},
		{"no operands", instruction{at: code + 5, line: report.Addr(code+5).Tick() + " cc              int     3",
			bytes: []byte{0xcc}, text: "int     3"}},
		{"unreadable", instruction{at: end, missing: true}},
	} {
		got := instructionAt(t.Context(), m.s, test.want.at)
		if d := cmp.Diff(test.want, got, cmp.AllowUnexported(instruction{})); d != "" {
			t.Errorf("%s (-want +got):\n%s", test.name, d)
		}
	}
}

func FuzzEffective(f *testing.F) {
	m := modeltest.New(f, types.Layouts()[0])
	s := &cmd.Session{Kernel: m.Open()}
	v := &view{known: allKnown}
	for _, c := range []string{"mov byte ptr [rsi+rcx*8-10h],al", "jne x", "call rax", "x qword ptr gs:[188h]", " ptr [", "a ptr ]["} {
		f.Add(c)
	}
	f.Fuzz(func(t *testing.T, code string) { _ = effective(context.Background(), s, v, code, 4) })
}
