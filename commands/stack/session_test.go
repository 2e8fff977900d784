package stack

import (
	"bytes"
	"context"
	"encoding/binary"
	"encoding/json"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"gokd/commands/cmd"
	"gokd/commands/report"
	"gokd/model"
	"gokd/model/mem"
	"gokd/model/modeltest"
	"gokd/model/types"
)

// prcb is where a small machine has its processor's control block.
const prcb = mem.VA(0xfffff80000204000)

// machine is a small machine of one processor, whose registers were saved, with
// a trap frame and an exception record on the stack of its thread.
type machine struct {
	s                               *cmd.Session
	out                             *bytes.Buffer
	process, thread                 mem.VA
	context, trap, exception, stack mem.VA
	put                             func(at mem.VA, b ...byte) // writes memory
}

func newMachine(t *testing.T) *machine {
	t.Helper()
	all := types.Layouts()
	l := all[slices.IndexFunc(all, func(l *types.Layout) bool { return l.Family() == "19041" })]
	m := modeltest.New(t, l)
	v := &machine{process: m.Process(0x1234, 4, "notepad.exe")}
	v.thread = m.Thread(v.process, 0x1238)
	v.context, v.stack = m.Alloc(model.ContextSize), m.OnStack(v.thread, 0x1800)
	b := contextBytes(0x10001f)
	binary.LittleEndian.PutUint64(b[0x98:], uint64(v.stack))
	m.Put(v.context, b...)
	m.Set(prcb, uint64(v.context), "_KPRCB", "Context")
	m.Set(prcb, 2, "_KPRCB", "DebuggerSavedIRQL")
	m.Set(prcb, 0x80050033, "_KPRCB", "ProcessorState", "SpecialRegisters", "Cr0")
	m.Set(prcb, 0xfffffa8012345678, "_KPRCB", "ProcessorState", "SpecialRegisters", "Cr2")
	m.Put64(v.stack, 0x1122334455667788)
	v.trap = v.stack + 0x200
	m.Put(v.trap, trapBytes(t, trapType(t, l), 1)...)
	v.exception = m.Alloc(exceptionSize)
	e := make([]byte, exceptionSize)
	binary.LittleEndian.PutUint32(e, statusInPage)
	binary.LittleEndian.PutUint32(e[0x18:], 3)
	binary.LittleEndian.PutUint64(e[0x28:], 0xffffb00012345000)
	binary.LittleEndian.PutUint64(e[0x30:], 0xc000009c)
	m.Put(v.exception, e...)
	v.s, v.out = open(t, m.Open())
	v.put = m.Put
	return v
}

const machineRegisters = `rax=0000000000000000 rbx=3333333333333333 rcx=1111111111111111
rdx=2222222222222222 rsi=6666666666666666 rdi=7777777777777777
rip=fffff8002b7f8933 rsp=STACK rbp=5555555555555555
 r8=8888888888888888  r9=9999999999999999 r10=aaaaaaaaaaaaaaaa
r11=bbbbbbbbbbbbbbbb r12=cccccccccccccccc r13=dddddddddddddddd
r14=eeeeeeeeeeeeeeee r15=ffffffffffffffff
iopl=0         nv up ei pl zr na po nc
cs=0010  ss=0018  ds=002b  es=002b  fs=0053  gs=002b             efl=00050246
` + "fffff800`2b7f8933 ??              ???\n"

const trapText = trapNote + `rax=0000000000000002 rbx=0000000000000000 rcx=0000000000000000
rdx=0000000000000000 rsi=0000000000000000 rdi=0000000000000000
rip=fffff8068a1c75b0 rsp=fffff80634cb6890 rbp=ffffd80c250e08b0
 r8=ffffd80c28de9530  r9=0000000000000000 r10=0000000000000000
r11=0000000000000000 r12=0000000000000000 r13=0000000000000000
r14=0000000000000000 r15=0000000000000000
iopl=0         nv up ei ng nz na po nc
` + "fffff806`8a1c75b0 ??              ???\n"

// TestSession: the commands on a machine that needs no files.
func TestSession(t *testing.T) {
	t.Parallel()
	m := newMachine(t)
	at := strings.NewReplacer(
		"STACK+4", report.Addr(m.stack+4).Tick(), "STACK'", report.Addr(m.stack).Tick(), "STACK", m.stack.String(),
		"THREAD'", report.Addr(m.thread).Tick(), "THREAD", m.thread.String(),
		"PROCESS'", report.Addr(m.process).Tick(), "PROCESS", m.process.String(),
		"CONTEXT", m.context.String(), "TRAP+8", (m.trap + 8).String(), "TRAP", m.trap.String(), "EXCEPTION", m.exception.String(),
	)
	for _, test := range []struct{ line, want string }{
		{"r", machineRegisters},
		{"r rip,ecx,xmm0", "rip=fffff8002b7f8933 ecx=11111111 xmm0=10 -2 0 1.5\n"},
		{"r rcx:ub,cr0,cr2", "rcx=11 11 11 11 11 11 11 11 cr0=0000000080050033 cr2=fffffa8012345678\n"},
		{"rM 88", "cs=0010 ss=0018 ds=002b es=002b fs=0053 gs=002b\ncr0=0000000080050033 cr2=fffffa8012345678 cr3=0000000000000000\n" +
			"cr4=0000000000000000 cr8=0000000000000000\n"},
		{"rM 30", "mm0=c000000000000000 mm1=0000000000000000\nmm2=0000000000000000 mm3=0000000000000000\nmm4=0000000000000000 mm5=0000000000000000\n" +
			"mm6=0000000000000000 mm7=0000000000000000\ndr0=fffff80012345678 dr1=0000000000000000 dr2=0000000000000000\n" +
			"dr3=0000000000000000 dr6=0000000000000000 dr7=0000000000000000\n"},
		{"rM 0", "r: mask 0x0: its bits are 1 to 100\nusage: r [registers]\n"},
		{"rM 1 2", "r: unexpected \"2\" behind the mask\nusage: r [registers]\n"},
		{"r rax=5", "r: rax can't be set: a dump is read only, and nothing in it is changed; r $t0 = VALUE sets a pseudo-register\n"},
		{"r @zf = 1", "r: zf can't be set: a dump is read only, and nothing in it is changed; r $t0 = VALUE sets a pseudo-register\n"},
		{"r $t3 = 2 * 4; r $t3, @rip", "$t3=0000000000000008 rip=fffff8002b7f8933\n"},
		{"r$t3=9; r@$t3", "$t3=0000000000000009\n"},
		{"r zork", "r: there is no register \"zork\"; r alone shows all\n"},
		{"rzork", "Couldn't resolve 'rzork': no such command (.help lists the commands)\n"},
		{"kd 2", "STACK'  55667788\nSTACK+4  11223344\n"},
		{"kd 0", "kd: 0x0 words: 1 to 0xffff can be shown\nusage: kd [WordCount]\n"},
		{".kframes 10; .kframes", "Default stack trace depth is 0n16 frames\nDefault stack trace depth is 0n16 frames\n"},
		{".trap TRAP", trapText},
		{"r", "Last set context:\n" + strings.TrimPrefix(trapText, trapNote)},
		{"rX", "rX: the floating-point registers were not saved in this context\n"},
		{"rF", "rF: the floating-point registers were not saved in this context\n"},
		{".trap TRAP+8", ".trap: trap frame at 0xTRAP+8: no trap frame: cs is 0x286 there\n"},
		{".trap", resetText},
		{".cxr CONTEXT", machineRegisters},
		{".cxr EXCEPTION", ".cxr: context record at 0xEXCEPTION: no context record: its ContextFlags are 0xc000009c, not those of x64\n"},
		{".cxr", resetText},
		{".exr EXCEPTION", "ExceptionAddress: 0000000000000000\n   ExceptionCode: c0000006 (In-page I/O error)\n  ExceptionFlags: 00000000\n" +
			"NumberParameters: 3\n   Parameter[0]: 0000000000000000\n   Parameter[1]: ffffb00012345000\n   Parameter[2]: 00000000c000009c\n" +
			"Inpage operation failed at ffffb00012345000, due to I/O error 00000000c000009c\n"},
		{".exr -1", "Last event was not an exception\n"},
		{".ecxr", "Unable to get exception context, HRESULT 0x8000FFFF\n"},
		{".process PROCESS", "Implicit process is now PROCESS'\n"},
		{".process", "Implicit process is now PROCESS'\n"},
		{".process 1234", "0000000000001234 is not a process object: the process with the id 1234 is at PROCESS\n"},
		{".thread THREAD", "Implicit thread is now THREAD'\n(its registers are not known: thread 0xTHREAD: kernel stack not resident)\n"},
		{"r", "thread 0xTHREAD: kernel stack not resident\n"},
		{"k", "k: thread 0xTHREAD: kernel stack not resident\n"},
		{".thread PROCESS", "PROCESS is not a thread object: it is a process object: .process takes it\n"},
	} {
		want := at.Replace(test.want)
		if d := cmp.Diff(want, run(t, m.s, m.out, at.Replace(test.line))); d != "" {
			t.Errorf("%s (-want +got):\n%s", test.line, d)
		}
	}
}

// TestSession_json: records by their promised keys.
func TestSession_json(t *testing.T) {
	t.Parallel()
	m := newMachine(t)
	m.s.Out = cmd.NewJSONOutput(m.out, &bytes.Buffer{}, report.Era19041)
	for _, test := range []struct {
		line, record string
		keys         string
	}{
		{"k 1", "frame", "arguments child_sp displacement function how instruction module number offset return_address trap_frame"},
		{"r", "registers", "place processor registers"},
		{"kd 1", "stack_word", "address value"},
		{"rF", "registers", "processor registers"},
		{".trap " + m.trap.String(), "registers", "missing place processor registers set"},
		{".process " + m.process.String(), "context", "dir_base process reset thread"},
		{".exr " + m.exception.String(), "exception", "address chained_record code flags meaning name parameters place"},
		{".kframes", "stack_depth", "depth"},
	} {
		m.out.Reset()
		if err := m.s.Execute(context.Background(), test.line); err != nil {
			t.Errorf("%s: %v", test.line, err)
			continue
		}
		first, _, _ := strings.Cut(m.out.String(), "\n")
		var got map[string]any
		if err := json.Unmarshal([]byte(first), &got); err != nil {
			t.Fatalf("%s: %v", first, err)
		}
		var keys []string
		for k := range got {
			if k != "command" && k != "args" && k != "record" {
				keys = append(keys, k)
			}
		}
		slices.Sort(keys)
		if d := cmp.Diff(test.keys, strings.Join(keys, " ")); got["record"] != test.record || d != "" {
			t.Errorf("%s: record %v (-want +got):\n%s", test.line, got["record"], d)
		}
		if strings.HasPrefix(test.line, ".trap") {
			if v, ok := got["registers"].(map[string]any)["r15"]; !ok || v != nil {
				t.Errorf("r15 is not in a trap frame, yet it is %v", v)
			}
		}
	}
}
