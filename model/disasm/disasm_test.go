package disasm_test

import (
	"encoding/hex"
	"errors"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"gokd/model/disasm"
)

// symbols names two addresses of the tests.
func symbols(at uint64) string {
	switch at {
	case 0xfffff803214d1000:
		return "nt!KiBugCheckDispatch"
	case 0xfffff80321fca084:
		return "nt!PerfGlobalGroupMask+0x4"
	}
	return ""
}

// TestOne_lines: lines of listings that were posted in public. "@" stands
// before bytes of which an operand is a named address.
func TestOne_lines(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		pc   uint64
		want string // bytes and text as u prints them
	}{
		// The documentation's listing of bug check 0x1aa.
		{0xffffdc0e9ee66850, "1030            adc     byte ptr [rax],dh"},
		{0xffffdc0e9ee66852, "1c51            sbb     al,51h"},
		{0xffffdc0e9ee66854, "81cbffffc068    or      ebx,68C0FFFFh"},
		{0xffffdc0e9ee6685a, "e69e            out     9Eh,al"},
		{0xffffdc0e9ee6685c, "0e              ???"},
		{0xffffdc0e9ee6685d, "dcff            fdiv    st(7),st"},
		{0xffffdc0e9ee6685f, "ff00            inc     dword ptr [rax]"},
		{0xffffdc0e9ee66871, "301c51          xor     byte ptr [rcx+rdx*2],bl"},
		// Registers and their last line.
		{0xfffff8002b7f8933, "48395808        cmp     qword ptr [rax+8],rbx"},
		{0xfffff80633e1432e, "8806            mov     byte ptr [rsi],al"},
		{0xfffff802bb8feba0, "48894c2408      mov     qword ptr [rsp+8],rcx"},
		{0xfffff803bb757020, "cc              int     3"},
		// The columns give way to long instructions.
		{0xfffff8012214d67d, "65488b042588010000 mov   rax,qword ptr gs:[188h]"},
		{0xfffff8012214d67d, "654889242510900000 mov   qword ptr gs:[9010h],rsp"},
		{0xfffff8012214d67d, "6548010c25f82e0000 add   qword ptr gs:[2EF8h],rcx"},
		{0xfffff8012214d67d, "650fae142580010000 ldmxcsr dword ptr gs:[180h]"},
		{0xfffff8012214d67d, "49b9ffffffff0f000000 mov r9,0FFFFFFFFFh"},
		{0xfffff8012214d67d, "4883b91804000000 cmp     qword ptr [rcx+418h],0"},
		{0xfffff8012214d67d, "41c74490fceefeeefe mov   dword ptr [r8+rdx*4-4],0FEEEFEEEh"},
		{0xfffff8012214d67d, "41c7852053000000000000 mov dword ptr [r13+5320h],0"},
		{0xfffff8012214d67d, "f7830001000080000000 test dword ptr [rbx+100h],80h"},
		{0xfffff8012214d67d, "a12003000080f7ffff mov   eax,dword ptr [FFFFF78000000320h]"},
		{0xfffff8012214d67d, "48a11400000080f7ffff mov rax,qword ptr [FFFFF78000000014h]"},
		{0xfffff8012214d67d, "666666666666660f1f840000000000 nop word ptr [rax+rax]"},
		// Prefixes.
		{0xfffff803d9af667a, "f0410fba750000  lock btr dword ptr [r13],0"},
		{0xfffff80321d70c35, "f041836610fe    lock and dword ptr [r14+10h],0FFFFFFFEh"},
		{0xfffff803334efd18, "f0480fc70f      lock cmpxchg16b oword ptr [rdi]"},
		{0xfffff803d9e0eb75, "f348ab          rep stos qword ptr [rdi]"},
		{0xfffff803d9e0eb75, "f3a4            rep movs byte ptr [rdi],byte ptr [rsi]"},
		{0xfffff803d9e0eb75, "f2ae            repne scas byte ptr [rdi]"},
		// System instructions.
		{0xfffff80003e7bec0, "0f01f8          swapgs"},
		{0xfffff80003e7bec0, "48cf            iretq"},
		{0xfffff80003e7bec0, "0f05            syscall"},
		{0xfffff80003e7bec0, "480f07          sysretq"},
		{0xfffff80003e7bec0, "0f20e1          mov     rcx,cr4"},
		{0xfffff80003e7bec0, "450f20c5        mov     r13,cr8"},
		{0xfffff80003e7bec0, "0f01d1          xsetbv"},
		{0xfffff80003e7bec0, "0fae5dac        stmxcsr dword ptr [rbp-54h]"},
		{0xfffff80003e7bec0, "0f0d8b90000000  prefetchw [rbx+90h]"},
		{0xfffff80003e7bec0, "480fc7f2        rdrand  rdx"},
		{0xfffff80003e7bec0, "cd29            int     29h"},
		// Vectors.
		{0x7ffa6e017230, "f2410f1144cc10  movsd   mmword ptr [r12+rcx*8+10h],xmm0"},
		{0x7ffa6e017230, "660fd6401c      movq    mmword ptr [rax+1Ch],xmm0"},
		{0x7ffa6e017230, "0f11400c        movups  xmmword ptr [rax+0Ch],xmm0"},
		{0x7ffa6e017230, "f2480f2a00      cvtsi2sd xmm0,qword ptr [rax]"},
		{0x7ffa6e017230, "0fc2c201        cmpltps xmm0,xmm2"},
		{0x7ffa6e017230, "c5f877          vzeroupper"},
		{0x7ffa6e017230, "c5fc77          vzeroall"},
		// Constants are as wide as what they are applied to.
		{0xfffff80003e7bec0, "6aff            push    0FFFFFFFFFFFFFFFFh"},
		{0xfffff80003e7bec0, "4883c9ff        or      rcx,0FFFFFFFFFFFFFFFFh"},
		{0xfffff80003e7bec0, "83c8ff          or      eax,0FFFFFFFFh"},
		{0xfffff80003e7bec0, "b0ff            mov     al,0FFh"},
		{0xfffff80003e7bec0, "66c700ffff      mov     word ptr [rax],0FFFFh"},
		{0xfffff80003e7bec0, "c20800          ret     8"},
		{0xfffff80003e7bec0, "48c1e020        shl     rax,20h"},
		{0xfffff80003e7bec0, "8ed8            mov     ds,ax"},
		// Addresses.
		{0xfffff803214d0ffb, "e800000000      call    nt!KiBugCheckDispatch (fffff803`214d1000)"},
		{0xfffff803214d0ffe, "7500            jne     nt!KiBugCheckDispatch (fffff803`214d1000)"},
		{0xfffff803214d0ff0, "eb05            jmp     fffff803`214d0ff7"},
		{0xfffff80321fca07e, "8b0500000000    mov     eax,dword ptr [nt!PerfGlobalGroupMask+0x4 (fffff803`21fca084)]"},
		{0xfffff80321fca07d, "488d0d00000000  lea     rcx,[nt!PerfGlobalGroupMask+0x4 (fffff803`21fca084)]"},
		{0x31f52c, "48890ded000000  mov     qword ptr [00000000`0031f620],rcx"},
		{0x1000, "8b0c8d00100000  mov     ecx,dword ptr [rcx*4+1000h]"},
		{0x1000, "ff15fa0f0000    call    qword ptr [00000000`00002000]"},
		{0x1000, "488dac24c0feffff lea     rbp,[rsp-140h]"},
		{0x1000, "8b042500ffffff  mov     eax,dword ptr [FFFFFFFFFFFFFF00h]"},
		{0x1000, "f6042508030000ff test    byte ptr [308h],0FFh"},
	} {
		text, _, _ := strings.Cut(tt.want, " ")
		code, err := hex.DecodeString(text)
		if err != nil {
			t.Fatal(err)
		}
		got, err := disasm.One(append(code, 0x90, 0x90), tt.pc, disasm.Options{Symbol: symbols})
		if err != nil {
			t.Errorf("%s: %v", tt.want, err)
			continue
		}
		if d := cmp.Diff(tt.want, got.Line(true)); d != "" {
			t.Errorf("(-want +got):\n%s", d)
		}
	}
}

// TestOne_extra: what x86asm does not know or takes for something else.
func TestOne_extra(t *testing.T) {
	t.Parallel()
	for code, want := range map[string]string{
		"0f01ca": "clac", "0f01cb": "stac", "f30f1efa": "endbr64", "0f01c1": "vmcall", "0f01c2": "vmlaunch",
		"0f7808":   "vmread  qword ptr [rax],rcx",
		"0f79c8":   "vmwrite rcx,rax",
		"f30f1ec8": "rdsspd  eax", "f3480f1ec8": "rdsspq  rax",
		"f3480faee9": "incsspq rcx", "f30f01e8": "setssbsy", "0fc7f8": "rdseed  eax", "480fc7f9": "rdseed  rcx",
		"66480f38f6c1": "adcx    rax,rcx", "f30f38f60510000000": "adox    eax,dword ptr [00000000`00001019]",
		"660fae38": "clflushopt [rax]", "660fae30": "clwb    [rax]", "0fae38": "clflush [rax]",
		"660faef1": "tpause  ecx", "f20faef1": "umwait  ecx", "f30faef1": "umonitor rcx",
		"660f388200": "invpcid rax,oword ptr [rax]", "660f388008": "invept  rcx,oword ptr [rax]",
		"480fc728": "xsaves64 [rax]", "480fc718": "xrstors64 [rax]", "0f30": "wrmsr", "0f32": "rdmsr", "0f33": "rdpmc",
		"f30fc7f8": "rdpid   rax", "f30f0128": "rstorssp qword ptr [rax]", "f30f01ea": "saveprevssp",
		"480f38f608": "wrssq   qword ptr [rax],rcx", "0fc730": "vmptrld qword ptr [rax]", "660fc730": "vmclear qword ptr [rax]",
		"0f1f4000": "nop     dword ptr [rax]", "660f1f440000": "nop     word ptr [rax+rax]", "0f1f08": "nop     dword ptr [rax]",
		"0faee8": "lfence", "0faef0": "mfence", "0faef8": "sfence", "0faee9": "lfence", "f390": "pause", "90": "nop",
		"f30f0900": "wbnoinvd", "0f0900": "wbinvd", "65f30fc730": "vmxon   qword ptr gs:[rax]",
	} {
		b, err := hex.DecodeString(code)
		if err != nil {
			t.Fatal(err)
		}
		got, err := disasm.One(append(b, 0x90), 0x1000, disasm.Options{})
		if err != nil || got.Text != want {
			t.Errorf("%s: %q of %d bytes, want %q (%v)", code, got.Text, got.Len, want, err)
		}
	}
}

func TestOneARM64(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		word uint32
		want string
	}{
		// The public documentation of ARM64EC shows these.
		{0xd503237f, "d503237f pacibsp"},
		{0xa9bc7bfd, "a9bc7bfd stp         fp,lr,[sp,#-0x40]!"},
		{0xa90153f3, "a90153f3 stp         x19,x20,[sp,#0x10]"},
		{0xf9001bf9, "f9001bf9 str         x25,[sp,#0x30]"},
		{0x910003fd, "910003fd mov         fp,sp"},
		{0xd10083ff, "d10083ff sub         sp,sp,#0x20"},
		{0xd63f01e0, "d63f01e0 blr         x15"},
		{0xd65f03c0, "d65f03c0 ret"},
		{0xd65f0fff, "d65f0fff retab"},
		{0x94000001, "94000001 bl          00000000`00001004"},
		{0x54000041, "54000041 bne         00000000`00001008"},
		{0xb0000230, "b0000230 adrp        x16,00000000`00046000"},
		{0xf8e00020, "f8e00020 ldaddal     x0,x0,[x1]"},
		{0xc8e0fc41, "c8e0fc41 casal       x0,x1,[x2]"},
		{0xd43e0000, "d43e0000 brk         #0xF000"},
		{0x00000000, "00000000 udf         #0"},
		{0xffffffff, "ffffffff ???"},
	} {
		b := []byte{byte(tt.word), byte(tt.word >> 8), byte(tt.word >> 16), byte(tt.word >> 24)}
		got, err := disasm.OneARM64(b, 0x1000, disasm.Options{})
		if err != nil || got.Line(true) != tt.want {
			t.Errorf("got %q, want %q (%v)", got.Line(true), tt.want, err)
		}
	}
}

func TestFlow(t *testing.T) {
	t.Parallel()
	for code, want := range map[string]disasm.Flow{
		"90": disasm.FlowNone, "c3": disasm.FlowReturn, "48cf": disasm.FlowReturn, "cc": disasm.FlowTrap, "0f0b": disasm.FlowTrap,
		"cd29": disasm.FlowTrap, "cd2e": disasm.FlowNone, "eb10": disasm.FlowJump, "ffe0": disasm.FlowJump, "e810000000": disasm.FlowCall,
		"ff1510000000": disasm.FlowCall, "7410": disasm.FlowCondJump, "e310": disasm.FlowCondJump, "0e": disasm.FlowTrap,
	} {
		b, _ := hex.DecodeString(code)
		got, err := disasm.One(b, 0x1000, disasm.Options{})
		if err != nil || got.Flow != want {
			t.Errorf("%s: flow %v, want %v (%v)", code, got.Flow, want, err)
		}
		direct := map[string]uint64{"eb10": 0x1012, "7410": 0x1012, "e810000000": 0x1015, "e310": 0x1012}
		if got.HasTarget != (direct[code] != 0) || got.Target != direct[code] {
			t.Errorf("%s: target %#x, want %#x", code, got.Target, direct[code])
		}
	}
}

// TestTaken: a jump and its opposite, with every one of the flags.
func TestTaken(t *testing.T) {
	t.Parallel()
	for flags, want := range map[uint32]string{ // the conditions that hold, jo to jg
		0x000: "0101010101010101", 0x001: "0110011001010101", 0x004: "0101010101100101",
		0x040: "0101101001010110", 0x080: "0101010110011010", 0x800: "1001010101011010", 0x880: "1001010110010101",
	} {
		got := ""
		for c := range byte(16) {
			i, err := disasm.One([]byte{0x70 + c, 0}, 0, disasm.Options{})
			taken, ok := i.Taken(flags)
			if err != nil || !ok {
				t.Fatal(err, ok)
			}
			if taken {
				got += "1"
			} else {
				got += "0"
			}
		}
		if got != want {
			t.Errorf("flags %#x: %s, want %s", flags, got, want)
		}
	}
	if i, _ := disasm.One([]byte{0xe3, 0}, 0, disasm.Options{}); i.Condition != -1 {
		t.Error("jrcxz has no condition code")
	}
}

func TestMemory(t *testing.T) {
	t.Parallel()
	register := func(name string) (uint64, bool) {
		v, ok := map[string]uint64{"rax": 0x1000, "rcx": 0x10, "rsp": 0x8000, "r13": 0xffffffff00000000}[name]
		return v, ok
	}
	for code, want := range map[string]string{
		"488b44c8f8":         "ds:1078 8",
		"48890424":           "ss:8000 8",
		"65488b042588010000": "gs:188 8",
		"0fb605f9ffffff":     "ds:1000 1",
		"67418a4500":         "ds:0 1",
		"418b442400":         "unknown",
		"488d4010":           "none", // lea
		"90":                 "none",
		"0f0d08":             "none", // prefetchw
		"a4":                 "unknown",
		"f20f1100":           "ds:1000 8",
	} {
		b, _ := hex.DecodeString(code)
		i, err := disasm.One(b, 0x1000, disasm.Options{})
		if err != nil {
			t.Fatal(err)
		}
		got := "none"
		if i.HasMem {
			got = "unknown"
			if at, ok := i.Mem.Address(register); ok {
				got = i.Mem.Segment + ":" + strings.TrimLeft(strings.ReplaceAll(disasm.Tick(at), "`", ""), "0")
				if at == 0 {
					got += "0"
				}
				got += " " + string(rune('0'+i.Mem.Size))
			}
		}
		if got != want {
			t.Errorf("%s %s: %s, want %s", code, i.Text, got, want)
		}
	}
}

func TestOne_short(t *testing.T) {
	t.Parallel()
	if _, err := disasm.One(nil, 0, disasm.Options{}); !errors.Is(err, disasm.ErrNoCode) {
		t.Errorf("no bytes: %v", err)
	}
	if _, err := disasm.One([]byte{0x48, 0x8b}, 0, disasm.Options{}); !errors.Is(err, disasm.ErrShort) {
		t.Errorf("half an instruction: %v", err)
	}
	if _, err := disasm.OneARM64([]byte{0x48, 0x8b}, 0, disasm.Options{}); !errors.Is(err, disasm.ErrShort) {
		t.Errorf("half an instruction: %v", err)
	}
}

// FuzzOne: whatever the bytes are, something of a sensible length comes out.
func FuzzOne(f *testing.F) {
	for _, s := range []string{"90", "65488b042588010000", "c5f877", "62f17c48588000000000", "f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0", "67660f38f8", "0f01ca"} {
		b, _ := hex.DecodeString(s)
		f.Add(b, uint64(0xfffff80000000000))
	}
	f.Fuzz(func(t *testing.T, code []byte, pc uint64) {
		check := func(i disasm.Inst, err error) {
			switch {
			case err != nil && !errors.Is(err, disasm.ErrNoCode) && !errors.Is(err, disasm.ErrShort):
				t.Fatalf("% x: %v", code, err)
			case err == nil && (i.Len < 1 || i.Len > disasm.MaxLen || i.Len > len(code) || len(i.Bytes) != i.Len || i.Mnemonic == "" || len(i.Line(true)) > 200):
				t.Fatalf("% x: %+v", code, i)
			}
			i.Taken(0)
			i.Mem.Address(func(string) (uint64, bool) { return pc, true })
		}
		check(disasm.One(code, pc, disasm.Options{Symbol: symbols}))
		check(disasm.OneARM64(code, pc, disasm.Options{Symbol: symbols}))
	})
}

func BenchmarkOne(b *testing.B) {
	code, _ := hex.DecodeString("48895c24086548" + "8b0425880100004883ec20488b05a01234008b4708e81122334483f8017505488bc3c3")
	b.ReportAllocs()
	b.SetBytes(int64(len(code)))
	for b.Loop() {
		for at := 0; at < len(code); {
			i, err := disasm.One(code[at:], 0xfffff80000001000+uint64(at), disasm.Options{})
			if err != nil {
				b.Fatal(err)
			}
			at += i.Len
		}
	}
}

func BenchmarkOneARM64(b *testing.B) {
	code, _ := hex.DecodeString("7f2303d5fd7bbca9f35301a9f91b00f9fd030091ff8300d1e0013fd6c0035fd6")
	b.ReportAllocs()
	b.SetBytes(int64(len(code)))
	for b.Loop() {
		for at := 0; at < len(code); at += 4 {
			if _, err := disasm.OneARM64(code[at:], 0x1000, disasm.Options{}); err != nil {
				b.Fatal(err)
			}
		}
	}
}
