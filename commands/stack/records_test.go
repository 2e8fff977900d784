package stack

import (
	"context"
	"encoding/binary"
	"encoding/json"
	"testing"

	"github.com/google/go-cmp/cmp"

	"gokd/commands/cmd"
	"gokd/commands/report"
	"gokd/model"
	"gokd/model/modeltest"
	"gokd/model/types"
)

// contextBytes makes a CONTEXT by the offsets of winnt.h.
func contextBytes(flags uint32) []byte {
	b := make([]byte, model.ContextSize)
	le := binary.LittleEndian
	le.PutUint32(b[0x30:], flags)
	le.PutUint32(b[0x34:], 0x1f80) // MxCsr
	for i, v := range []uint16{0x10, 0x2b, 0x2b, 0x53, 0x2b, 0x18} {
		le.PutUint16(b[0x38+2*i:], v)
	}
	le.PutUint32(b[0x44:], 0x50246)
	le.PutUint64(b[0x48:], 0xfffff80012345678) // Dr0
	for i := range 16 {
		le.PutUint64(b[0x78+8*i:], 0x1111111111111111*uint64(i))
	}
	le.PutUint64(b[0x98:], 0xffffdc0e9ee66810)
	le.PutUint64(b[0xf8:], 0xfffff8002b7f8933)
	le.PutUint16(b[0x100:], 0x27f)
	le.PutUint16(b[0x102:], 0x3801)
	le.PutUint64(b[0x120:], 0xc000000000000000) // st0 = -1.5
	le.PutUint16(b[0x128:], 0xbfff)
	for i, v := range []uint32{0x3fc00000, 0, 0xc0000000, 0x41200000} {
		le.PutUint32(b[0x1a0+4*i:], v) // xmm0 = 10 -2 0 1.5
	}
	return b
}

func TestContext(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		name  string
		bytes []byte
		known uint16
		err   string
	}{
		{"all", contextBytes(0x10001f), allKnown, ""},
		{"of a thread in a system call", contextBytes(0x5810001f), allKnown, ""},
		{"control only", contextBytes(0x100001), 1 << model.RSP, ""},
		{"short", contextBytes(0x10001f)[:0x4cf], 0, "no context record: 1231 bytes of 1232"},
		{"of x86", contextBytes(0x1003f), 0, "no context record: its ContextFlags are 0x1003f, not those of x64"},
		{"of ARM64", contextBytes(0x400007), 0, "no context record: its ContextFlags are 0x400007, not those of x64"},
		{"without control", contextBytes(0x100008), 0, "no context record of use: its ContextFlags 0x100008 say that rip and rsp were not saved"},
	} {
		v, err := parseContext(test.bytes)
		if test.err != "" {
			if err == nil || err.Error() != test.err {
				t.Errorf("%s: error %v, want %s", test.name, err, test.err)
			}
			continue
		}
		if err != nil || v.known != test.known || v.regs.RIP != 0xfffff8002b7f8933 {
			t.Errorf("%s: %+v, %v", test.name, v, err)
		}
	}
}

// TestNamed: parts, flags and types of registers.
func TestNamed(t *testing.T) {
	t.Parallel()
	v, err := parseContext(contextBytes(0x10001f))
	if err != nil {
		t.Fatal(err)
	}
	v.regs.GPR[model.RAX] = 0x8877665544332211
	for _, test := range []struct{ name, typ, want string }{
		{"rax", "", "rax=8877665544332211"}, {"eax", "", "eax=44332211"}, {"ax", "", "ax=2211"},
		{"al", "", "al=11"}, {"ah", "", "ah=22"}, {"sil", "", "sil=66"}, {"r9d", "", "r9d=99999999"},
		{"r9w", "", "r9w=9999"}, {"r9b", "", "r9b=99"}, {"rip", "", "rip=fffff8002b7f8933"}, {"efl", "", "efl=00050246"},
		{"zf", "", "zf=1"}, {"cf", "", "cf=0"}, {"pf", "", "pf=1"}, {"iopl", "", "iopl=0"}, {"gs", "", "gs=002b"},
		{"rax", "ub", "rax=88 77 66 55 44 33 22 11"}, {"rax", "2uw", "rax=4433 2211"},
		{"rax", "ib", "rax=-120 119 102 85 68 51 34 17"}, {"rax", "iq", "rax=-8613303245920329199"},
		{"xmm0", "", "xmm0=10 -2 0 1.5"}, {"xmm0", "uq", "xmm0=41200000c0000000 000000003fc00000"},
		{"mxcsr", "", "mxcsr=00001f80"}, {"st0", "", "st0=-1.500000000000000000000e+0000"}, {"mm0", "", "mm0=c000000000000000"},
		{"dr0", "", "dr0=fffff80012345678"}, {"fpcw", "", "fpcw=027f"},
	} {
		w, ok := v.named(test.name)
		if !ok {
			t.Errorf("%s is not found", test.name)
			continue
		}
		if test.typ != "" {
			if w, err = w.as(test.typ); err != nil {
				t.Errorf("%s:%s: %v", test.name, test.typ, err)
			}
		}
		if d := cmp.Diff(test.want, w.String()); d != "" {
			t.Errorf("%s:%s (-want +got):\n%s", test.name, test.typ, d)
		}
	}
	for _, name := range []string{"", "rzx", "xmm16", "xmm00", "dr4", "st8", "r16", "hl", "spl0", "rspl"} {
		if w, ok := v.named(name); ok {
			t.Errorf("%q passes for a register: %v", name, w)
		}
	}
	w, _ := v.named("rax")
	if _, err := w.as("zz"); err == nil || err.Error() != `r: there is no type "zz": ib ub iw uw id ud iq uq f d are` {
		t.Errorf("%v", err)
	}
	if _, err := w.as("0ub"); err == nil {
		t.Error("no elements can be asked for")
	}
}

// TestLost: a frame's unknown registers are question marks, a thread's are zeros
// as in kd, and both are null in JSON.
func TestLost(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		marks bool
		want  string
	}{{true, "rbx=????????????????"}, {false, "rbx=0000000000000000"}} {
		v := &view{known: 1 << model.RSP, marks: test.marks, noFlags: true}
		v.regs.GPR[model.RBX] = 5 // stale
		r := x64(v)
		if got := r.list[1].String(); got != test.want {
			t.Errorf("%s, want %s", got, test.want)
		}
		b, err := r.MarshalJSON()
		var got struct {
			Registers map[string]*string
			Missing   map[string]string
		}
		if err != nil || json.Unmarshal(b, &got) != nil {
			t.Fatal(err, string(b))
		}
		if v, ok := got.Registers["rbx"]; !ok || v != nil || got.Missing["rbx"] != "not saved in this context" || got.Missing["efl"] == "" {
			t.Errorf("%s", b)
		}
		if w, _ := v.named("ebx"); !w.lost {
			t.Errorf("%v is known", w)
		}
	}
}

// TestFloat: rF and rX.
func TestFloat(t *testing.T) {
	t.Parallel()
	v, err := parseContext(contextBytes(0x10001f))
	if err != nil {
		t.Fatal(err)
	}
	lines, err := v.floatLines()
	if err != nil {
		t.Fatal(err)
	}
	got := text(&registerLines{lines: lines[:3], gap: "  "})
	want := `fpcw=027F: rn 53 puozdi  fpsw=3801: top=7 cc=0000 -------i  fptw=0000
fopcode=0000  fpip=0000:00000000  fpdp=0000:00000000
st0=-1.500000000000000000000e+0000  st1= 0.000000000000000000000e+0000
`
	if d := cmp.Diff(want, got); d != "" {
		t.Errorf("(-want +got):\n%s", d)
	}
	v, err = parseContext(contextBytes(0x100003))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := v.xmmLines(); err != errNoFloat {
		t.Errorf("a context without them shows xmm registers: %v", err)
	}
	if w, ok := v.named("xmm3"); !ok || !w.lost || w.text != "" {
		t.Errorf("%+v", w)
	}
}

// trapType gives _KTRAP_FRAME of a layout.
func trapType(t testing.TB, l *types.Layout) *types.Type {
	t.Helper()
	typ, err := l.Type("_KTRAP_FRAME")
	if err != nil {
		t.Fatal(err)
	}
	return typ
}

// trapBytes fills a trap frame: cs, flags and selectors as after a fault in the
// kernel.
func trapBytes(t testing.TB, typ *types.Type, active byte) []byte {
	t.Helper()
	b := make([]byte, typ.Size)
	for name, v := range map[string]uint64{
		"Rip": 0xfffff8068a1c75b0, "SegCs": 0x10, "EFlags": 0x50286, "Rsp": 0xfffff80634cb6890, "SegSs": 0x18,
		"Rbp": 0xffffd80c250e08b0, "Rax": 2, "R8": 0xffffd80c28de9530, "Rbx": 7, "Rsi": 8, "Rdi": 9, "ExceptionActive": uint64(active),
	} {
		f, ok := typ.Field(name)
		if !ok {
			t.Fatalf("no field %s", name)
		}
		copy(b[f.Offset:f.Offset+f.Type.Size], binary.LittleEndian.AppendUint64(nil, v))
	}
	return b
}

// TestTrap holds .trap against a public session, in every layout.
func TestTrap(t *testing.T) {
	t.Parallel()
	want := `NOTE: The trap frame does not contain all registers.
Some register values may be zeroed or incorrect.
rax=0000000000000002 rbx=0000000000000000 rcx=0000000000000000
rdx=0000000000000000 rsi=0000000000000000 rdi=0000000000000000
rip=fffff8068a1c75b0 rsp=fffff80634cb6890 rbp=ffffd80c250e08b0
 r8=ffffd80c28de9530  r9=0000000000000000 r10=0000000000000000
r11=0000000000000000 r12=0000000000000000 r13=0000000000000000
r14=0000000000000000 r15=0000000000000000
iopl=0         nv up ei ng nz na po nc
tunnel!RemoveEntryList+0x3:
` + "fffff806`8a1c75b0 48395a08        cmp     qword ptr [rdx+8],rbx ds:00000000`00000008=????????????????\n"
	for _, l := range types.Layouts() {
		typ := trapType(t, l)
		v, err := parseTrap(typ, trapBytes(t, typ, 1))
		if err != nil {
			t.Fatalf("%s: %v", l.Family(), err)
		}
		r := x64(v)
		r.note, r.place = true, "tunnel!RemoveEntryList+0x3"
		r.code = instruction{at: r.pc, line: "fffff806`8a1c75b0 48395a08        cmp     qword ptr [rdx+8],rbx", comment: "ds:00000000`00000008=????????????????"}
		if d := cmp.Diff(want, text(r)); d != "" {
			t.Errorf("%s (-want +got):\n%s", l.Family(), d)
		}
		v, err = parseTrap(typ, trapBytes(t, typ, 2))
		if err != nil || v.regs.GPR[model.RBX] != 7 || v.known>>model.RDI&1 == 0 {
			t.Errorf("%s: a system call saves rbx, rsi and rdi: %+v, %v", l.Family(), v, err)
		}
	}
}

// TestTrap_refused: memory that is no trap frame.
func TestTrap_refused(t *testing.T) {
	t.Parallel()
	typ := trapType(t, types.Layouts()[0])
	for _, test := range []struct {
		field string
		value byte
		want  string
	}{
		{"SegCs", 0x2b, "no trap frame: cs is 0x2b there"},
		{"EFlags", 0x80, "no trap frame: the flags are 0x50280 there"},
	} {
		b := trapBytes(t, typ, 0)
		f, _ := typ.Field(test.field)
		b[f.Offset] = test.value
		if test.field == "EFlags" {
			b[f.Offset] = 0x80
		}
		if _, err := parseTrap(typ, b); err == nil || err.Error() != test.want {
			t.Errorf("%s: %v, want %s", test.field, err, test.want)
		}
	}
	if _, err := parseTrap(typ, make([]byte, 0x20)); err == nil {
		t.Error("a short trap frame passes")
	}
}

// TestException: the text of .exr, and its sentences.
func TestException(t *testing.T) {
	t.Parallel()
	k := modeltest.New(t, types.Layouts()[0]).Open()
	s := &cmd.Session{Kernel: k}
	for _, test := range []struct {
		e    exception
		want string
	}{
		{exception{code: 0xc0000005, address: 0xfffff8048b58334c, count: 2, info: [15]uint64{1, ^uint64(0)}},
			`ExceptionAddress: fffff8048b58334c
   ExceptionCode: c0000005 (Access violation)
  ExceptionFlags: 00000000
NumberParameters: 2
   Parameter[0]: 0000000000000001
   Parameter[1]: ffffffffffffffff
Attempt to write to address ffffffffffffffff
`},
		{exception{code: 0xc0000409, address: 0x1000, flags: 1, count: 1, info: [15]uint64{3}},
			`ExceptionAddress: 0000000000001000
   ExceptionCode: c0000409 (Security check failure or stack buffer overrun)
  ExceptionFlags: 00000001
NumberParameters: 1
   Parameter[0]: 0000000000000003
Subcode: 0x3 FAST_FAIL_CORRUPT_LIST_ENTRY
`},
		{exception{code: 0x12345678, chained: 0xffff850429891ee8},
			`ExceptionAddress: 0000000000000000
   ExceptionCode: 12345678
  ExceptionFlags: 00000000
  Chained Record: ffff850429891ee8
NumberParameters: 0
`},
	} {
		if d := cmp.Diff(test.want, text(newException(context.Background(), s, &test.e))); d != "" {
			t.Errorf("(-want +got):\n%s", d)
		}
	}
}

func FuzzContext(f *testing.F) {
	f.Add(contextBytes(0x10001f))
	f.Add(contextBytes(0x100001))
	f.Fuzz(func(t *testing.T, b []byte) {
		v, err := parseContext(b)
		if (v == nil) == (err == nil) {
			t.Fatalf("%v, %v", v, err)
		}
		if err != nil {
			return
		}
		_ = text(x64(v))
		if lines, err := v.floatLines(); err == nil {
			_ = text(&registerLines{lines: lines})
		}
		for _, name := range []string{"xmm15", "st7", "mm7", "dr7", "mxcsr", "fpsw", "ah", "zf"} {
			if w, ok := v.named(name); !ok {
				t.Errorf("%s is not found", name)
			} else if _, err := w.as("ub"); err != nil {
				t.Error(err)
			}
		}
	})
}

func FuzzTrap(f *testing.F) {
	all := types.Layouts()
	for i := range all {
		f.Add(byte(i), trapBytes(f, trapType(f, all[i]), 2))
	}
	f.Fuzz(func(t *testing.T, i byte, b []byte) {
		v, err := parseTrap(trapType(t, all[int(i)%len(all)]), b)
		if err == nil {
			_ = text(x64(v))
		}
	})
}

func FuzzException(f *testing.F) {
	f.Add(make([]byte, exceptionSize))
	f.Fuzz(func(t *testing.T, b []byte) {
		if e, ok := parseException(b); ok {
			if e.count > maxParameters {
				t.Errorf("%d parameters", e.count)
			}
			_ = e.meaning()
		}
	})
}

var _ report.Record = (*exceptionView)(nil)
