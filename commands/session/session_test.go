package session

import (
	"bytes"
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"gokd/commands/cmd"
	"gokd/commands/masm"
	"gokd/commands/report"
	"gokd/model"
	"gokd/model/mem"
)

// flat is captured memory by address.
type flat map[mem.VA][]byte

// ReadVirtual reads inside one piece.
func (f flat) ReadVirtual(p []byte, at mem.VA) (int, error) {
	for base, b := range f {
		if at >= base && at < base+mem.VA(len(b)) {
			if n := copy(p, b[at-base:]); n == len(p) {
				return n, nil
			} else {
				return n, &mem.Fault{Kind: mem.NotCaptured, VA: at + mem.VA(n)}
			}
		}
	}
	return 0, &mem.Fault{Kind: mem.NotCaptured, VA: at}
}

// newSession gives a session over a kernel of a few facts.
func newSession(t *testing.T) (*cmd.Session, *bytes.Buffer) {
	t.Helper()
	tab, err := cmd.NewTable(Commands()...)
	if err != nil {
		t.Fatal(err)
	}
	shared := make([]byte, 0x400)
	binary.LittleEndian.PutUint32(shared[sharedProductType:], 3)
	binary.LittleEndian.PutUint32(shared[sharedSuiteMask:], 0x112)
	k := &model.Kernel{
		Build: 19041, Base: 0xfffff80122000000,
		Space:   mem.NewFlat(flat{model.SharedUserData: shared}),
		Modules: &model.Modules{},
		Source: model.Source{
			Name: "x.dmp", Machine: model.MachineX64, Build: 19041, Processors: 8, LoadedModules: 0xfffff80122c2a2b0,
			Crash: model.Crash{
				Code: 0x133, Args: [4]uint64{1, 0x1e00, 0xfffff80122cfb320},
				SystemTime: 133137241853320000, // 2022-11-24 00:43:05.332 UTC
				UpTime:     118680150000,
			},
		},
		Processors: []model.Processor{{Number: 0, PRCB: 0x1000, CurrentThread: 0x2000}},
	}
	var b bytes.Buffer
	s := &cmd.Session{
		Kernel: k, Commands: tab, Out: cmd.NewOutput(&b, report.Era19041, false),
		Location: time.FixedZone("CET", 3600), Version: "1.2.3",
	}
	s.Eval = masm.ForSession(s)
	return s, &b
}

func TestCommands(t *testing.T) {
	t.Parallel()
	const clocks = "Debug session time: Thu Nov 24 01:43:05.332 2022 (UTC + 1:00)\nSystem Uptime: 0 days 3:17:48.015\n"
	for _, tt := range []struct{ line, want string }{
		{".bugcheck", "Bugcheck code 00000133\nArguments 00000000`00000001 00000000`00001e00 fffff801`22cfb320 00000000`00000000\n"},
		{".time", clocks},
		{"vertarget", "Windows 10 Kernel Version 19041 MP (8 procs) Free x64\nProduct: Server, suite: Enterprise TerminalServer SingleUserTS\n" +
			"Machine Name:\nKernel base = 0xfffff801`22000000 PsLoadedModuleList = 0xfffff801`22c2a2b0\n" + clocks +
			"Layouts: none fits this kernel; only what the debugger data block gives is known\nKernel symbols: none\n"},
		{".kdonly 1;.compat 10.0.26100;vertarget", "kd's own lines only: on\nlayout of debugger 10.0.26100\n" +
			"Windows 10 Kernel Version 19041 MP (8 procs) Free x64\nProduct: Server, suite: Enterprise TerminalServer SingleUserTS\n" +
			"Kernel base = 0xfffff801`22000000 PsLoadedModuleList = 0xfffff801`22c2a2b0\n" + clocks},
		{"~", "processor 0  prcb 0000000000001000  thread 0000000000002000\n"},
		{"~3s;~", "processor 3\nprcb and thread are not known: not found in the dump\n"},
		{"~7", ""},
		{"~8", "8 is not a valid processor number: the machine has processors 0 to 7\n"},
		{"~x", "~: \"x\" is no processor's number\nusage: ~ [number]\n"},
		{"? 0n4660", "Evaluate expression: 4660 = 00000000`00001234\n"},
		{"?-1", "Evaluate expression: -1 = ffffffff`ffffffff\n"},
		{"? @$thread", "Evaluate expression: 8192 = 00000000`00002000\n"},
		{"? @$bug_param2 + @$bug_code", "Evaluate expression: 7987 = 00000000`00001f33\n"},
		{"? @rip", "Couldn't resolve error at '@rip'\n    @rip\n    ^ processor 0: its registers were not saved in the dump\n"},
		{"~1s;? @$thread", "Couldn't resolve error at '@$thread'\n    @$thread\n    ^ processor 1: its control block was not found in the dump\n"},
		{"n", "base is 16\n"},
		{"n 10; ? 10; n 8; ? 10; n 16", "base is 10\nEvaluate expression: 10 = 00000000`0000000a\nbase is 8\nEvaluate expression: 8 = 00000000`00000008\nbase is 16\n"},
		{"n 7", "n: a base of \"7\": want 8, 10 or 16\nusage: n [base]\n"},
		{".expr", "Current expression evaluator: MASM - Microsoft Assembler expressions\n"},
		{".expr /s c++; ? 010; ? @@(010)", "Current expression evaluator: C++ - C++ source expressions\nEvaluate expression: 8 = 00000000`00000008\nEvaluate expression: 16 = 00000000`00000010\n"},
		{".expr /q", "Available expression evaluators:\nMASM - Microsoft Assembler expressions\nC++ - C++ source expressions\nCurrent expression evaluator: MASM - Microsoft Assembler expressions\n"},
		{".expr /s go", ".expr: no evaluator is named \"go\": want masm or c++\nusage: .expr [/s name] [/q]\n"},
		{"? 5; ? @$exp + 1", "Evaluate expression: 5 = 00000000`00000005\nEvaluate expression: 6 = 00000000`00000006\n"},
		{"?? 5", "int 0n5\n"},
		{"??-5", "int 0n-5\n"},
		{"?? @$t0 + 9", "unsigned int64 9\n"},
		{"?? @$t0 + 0x1f", "unsigned int64 0x1f\n"},
		{"?? 'A'", "char 0n65 'A'\n"},
		{"?? (unsigned char)200", "unsigned char 0xc8 ''\n"},
		{"?? 1 < 2", "bool true\n"},
		{"?? (void*)0", "void * (null)\n"},
		{"?? (char**)0x1000", "char ** 0x00000000`00001000\n"},
		{"?? 1 / 4.0", "double 0.25\n"},
		{"?? (float)1e", "Syntax error at '1e'\n    (float)1e\n           ^ 1e is no number in base 10; a hexadecimal one begins with 0x\n"},
		{"?? sizeof(_TEB)", "Couldn't resolve error at '_TEB)'\n    sizeof(_TEB)\n           ^ no such symbol or type; a register begins with @\n"},
		{"??", "??: expression missing\nusage: ?? expression\n"},
		{".echo a  b; .echo \"c; d\"", "a  b\nc; d\n"},
		{".echo", "\n"},
		{".kdonly 2", ".kdonly: want 0 or 1\nusage: .kdonly [on]\n"},
		{".compat 5", ".compat: era \"5\": want one of 6.2, 10.0.19041, 10.0.26100\nusage: .compat [era]\n"},
		{".logclose", "no log file is open; .logopen FILE begins one\n"},
		{".help log*", "Session\n  .logopen          write a new log of the session\n  .logappend        write a log of the session at the end of a file\n  .logclose         close the log\n"},
		{".help zork", "no command matches \"zork\"; .help alone lists all\n"},
		{".hh zork", "Couldn't resolve 'zork': no such command (.help lists the commands)\n"},
		{"qq; .echo a", ""},
	} {
		t.Run(tt.line, func(t *testing.T) {
			t.Parallel()
			s, b := newSession(t)
			_ = s.Execute(t.Context(), tt.line) // shown in the text
			if d := cmp.Diff(tt.want, b.String()); d != "" {
				t.Errorf("(-want +got):\n%s", d)
			}
		})
	}
}

// TestEvaluate_processor asks for what is known of a processor whose block is
// not in the dump, and of one that can't be read.
func TestEvaluate_processor(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		of         model.Processor
		line, want string
	}{
		{model.Processor{CurrentThread: 0x2000}, "? @$thread", "Evaluate expression: 8192 = 00000000`00002000\n"},
		{model.Processor{Context: &model.Registers{RIP: 0x1234}}, "? @rip", "Evaluate expression: 4660 = 00000000`00001234\n"},
		{model.Processor{}, "? @$prcb", "Couldn't resolve error at '@$prcb'\n    @$prcb\n    ^ processor 0: its control block is not in the dump\n"},
		{model.Processor{}, "? @$thread", "Couldn't resolve error at '@$thread'\n    @$thread\n    ^ processor 0: its current thread is not in the dump\n"},
		{model.Processor{Err: errors.New("torn")}, "? @$prcb", "Couldn't resolve error at '@$prcb'\n    @$prcb\n    ^ processor 0: torn\n"},
		{model.Processor{PRCB: 0x1000, Err: errors.New("torn")}, "? @rip", "Couldn't resolve error at '@rip'\n    @rip\n    ^ processor 0: torn\n"},
	} {
		s, b := newSession(t)
		s.Kernel.Processors = []model.Processor{tt.of}
		_ = s.Execute(t.Context(), tt.line) // shown in the text
		if d := cmp.Diff(tt.want, b.String()); d != "" {
			t.Errorf("%s of %+v (-want +got):\n%s", tt.line, tt.of, d)
		}
	}
}

// TestHelp_all runs .hh over every command and .help over all.
func TestHelp_all(t *testing.T) {
	t.Parallel()
	s, b := newSession(t)
	if err := s.Execute(t.Context(), ".help"); err != nil {
		t.Fatal(err)
	}
	all := b.String()
	for _, c := range s.Commands.All() {
		b.Reset()
		if err := s.Execute(t.Context(), ".hh "+c.Name); err != nil {
			t.Fatal(err)
		}
		if !strings.Contains(b.String(), c.Usage()) || !strings.Contains(b.String(), c.Help) {
			t.Errorf(".hh %s lacks usage or help:\n%s", c.Name, b)
		}
		if !strings.Contains(all, "  "+c.Name+" ") {
			t.Errorf(".help lacks %s", c.Name)
		}
	}
	b.Reset()
	if err := s.Execute(t.Context(), "?"); err != nil || b.String() != all {
		t.Errorf("? alone is not .help: %v", err)
	}
}

// TestJSON holds records to their promised keys.
func TestJSON(t *testing.T) {
	t.Parallel()
	s, _ := newSession(t)
	var b, errs bytes.Buffer
	s.Out = cmd.NewJSONOutput(&b, &errs, report.Era19041)
	if err := s.Execute(t.Context(), "vertarget;.bugcheck;? 10;.hh q"); err != nil {
		t.Fatal(err)
	}
	var got []map[string]any
	for _, line := range strings.Split(strings.TrimSpace(b.String()), "\n") {
		var r map[string]any
		if err := json.Unmarshal([]byte(line), &r); err != nil {
			t.Fatalf("%s: %v", line, err)
		}
		if r["record"] != "end" {
			got = append(got, r)
		}
	}
	for i, want := range []map[string]any{
		{"record": "target", "build": 19041.0, "processors": 8.0, "kernel_base": "0xfffff80122000000", "product": "Server",
			"build_lab": nil, "session_time": "2022-11-24T00:43:05.332Z", "uptime_ms": 11868015.0},
		{"record": "bugcheck", "code": "0x133", "arguments": []any{"0x1", "0x1e00", "0xfffff80122cfb320", "0x0"}},
		{"record": "evaluation", "value": "0x10", "signed": "16"},
		{"record": "command", "name": "q", "usage": "q"},
	} {
		for key, v := range want {
			if d := cmp.Diff(v, got[i][key]); d != "" {
				t.Errorf("record %d, %s (-want +got):\n%s", i, key, d)
			}
		}
	}
	if missing := got[0]["missing"].(map[string]any); missing["build_lab"] == nil || missing["kernel_pdb"] == nil {
		t.Errorf("null fields without a reason: %v", missing)
	}
}

func TestTarget_names(t *testing.T) {
	t.Parallel()
	for build, want := range map[uint32]string{
		2600: "Windows XP", 3790: "Windows Server 2003", 6000: "Windows Vista", 6002: "Windows Server 2008/Windows Vista",
		7600: "Windows 7", 7601: "Windows 7", 9200: "Windows 8", 9600: "Windows 8.1", 10240: "Windows 10", 26100: "Windows 10", 1: "Windows",
	} {
		if got := systemName(build); got != want {
			t.Errorf("%d: %s, want %s", build, got, want)
		}
	}
	if name := machineName(model.MachineARM64); !strings.Contains(name, "ARM") {
		t.Error(name)
	}
	if name := machineName(0x14c); name != "machine 0x14c" {
		t.Error(name)
	}
}

// TestTarget_lies: clocks that are no clocks are told as missing.
func TestTarget_lies(t *testing.T) {
	t.Parallel()
	for _, ft := range []uint64{1, 1 << 63, 0x4547415045474150} {
		s, b := newSession(t)
		s.Kernel.Source.Crash.SystemTime, s.Kernel.Source.Crash.UpTime = ft, 0
		if err := s.Execute(t.Context(), ".time"); err != nil || b.String() != "Debug session time: not available\nSystem Uptime: not available\n" {
			t.Errorf("%#x: %v, %q", ft, err, b)
		}
	}
}

func TestSessionTime(t *testing.T) {
	t.Parallel()
	at := time.Date(2025, 8, 7, 1, 22, 8, 961e6, time.UTC)
	for offset, want := range map[int]string{
		8 * 3600:         "Thu Aug  7 09:22:08.961 2025 (UTC + 8:00)",
		-7 * 3600:        "Wed Aug  6 18:22:08.961 2025 (UTC - 7:00)",
		5*3600 + 30*60:   "Thu Aug  7 06:52:08.961 2025 (UTC + 5:30)",
		-(3*3600 + 1800): "Wed Aug  6 21:52:08.961 2025 (UTC - 3:30)",
	} {
		if got := sessionTime(at, time.FixedZone("", offset)); got != want {
			t.Errorf("%s, want %s", got, want)
		}
	}
	if got := sessionTime(at, nil); !strings.HasSuffix(got, "(UTC + 0:00)") {
		t.Error(got)
	}
}

func TestLog(t *testing.T) {
	t.Parallel()
	s, b := newSession(t)
	name := filepath.Join(t.TempDir(), "a b.log")
	run := func(line string) {
		t.Helper()
		if err := s.Execute(t.Context(), line); err != nil {
			t.Fatal(err)
		}
	}
	run(`.logopen "` + name + `"; .echo one`)
	run(`.logappend "` + name + `"; .echo two; .logclose`)
	want := "Opened log file '" + name + "'\none\nClosing open log file " + name + "\n"
	want += "Opened log file '" + name + "'\ntwo\nClosing open log file " + name + "\n"
	if d := cmp.Diff(want, b.String()); d != "" {
		t.Errorf("shown (-want +got):\n%s", d)
	}
	text, err := os.ReadFile(name)
	if d := cmp.Diff(want, string(text)); err != nil || d != "" {
		t.Errorf("%v, logged (-want +got):\n%s", err, d)
	}
}

func TestScripts(t *testing.T) {
	t.Parallel()
	s, b := newSession(t)
	name := filepath.Join(t.TempDir(), "s.kd")
	if err := os.WriteFile(name, []byte(".echo ${$arg1}\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, line := range []string{"$$><" + name, `$$>< "` + name + `"; .echo b`, "$><" + name, "$$<" + name, "$< " + name, "$$>a<" + name + ` "x y"`} {
		if err := s.Execute(t.Context(), line); err != nil {
			t.Fatal(line, err)
		}
	}
	want := "${$arg1}\n${$arg1}\nb\n${$arg1}\n0: kd> .echo ${$arg1}\n${$arg1}\n0: kd> .echo ${$arg1}\n${$arg1}\nx y\n"
	if d := cmp.Diff(want, b.String()); d != "" {
		t.Errorf("(-want +got):\n%s", d)
	}
	b.Reset()
	if err := s.Execute(context.Background(), "$><"+name+";x"); err == nil || !strings.Contains(b.String(), "s.kd;x") {
		t.Errorf("the rest of the line is not the name: %v, %s", err, b)
	}
}

func TestVersion(t *testing.T) {
	t.Parallel()
	s, b := newSession(t)
	s.Kernel = nil
	if err := s.Execute(t.Context(), "version"); err != nil || b.String() != "gokd version 1.2.3\n" {
		t.Errorf("%v, %q", err, b)
	}
}

// TestFormats holds .formats to public transcripts: the first is of a computer
// seven hours behind UTC, the second of one eight hours behind.
func TestFormats(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		line  string
		hours int
		era   report.Era
		want  string
	}{
		{".formats 57724231h", -7, report.Era19041, `Evaluate expression:
  Hex:     00000000` + "`" + `57724231
  Decimal: 1467105841
  Decimal (unsigned) : 1467105841
  Octal:   0000000000012734441061
  Binary:  00000000 00000000 00000000 00000000 01010111 01110010 01000010 00110001
  Chars:   ....WrB1
  Time:    Tue Jun 28 02:24:01 2016
  Float:   low 2.66366e+014 high 0
  Double:  7.24847e-315
`},
		{".formats 1c407e62", -8, report.Era62, `Evaluate expression:
  Hex:     00000000` + "`" + `1c407e62
  Decimal: 473988706
  Octal:   0000000000003420077142
  Binary:  00000000 00000000 00000000 00000000 00011100 01000000 01111110 01100010
  Chars:   .....@~b
  Time:    Mon Jan 07 15:31:46 1985
  Float:   low 6.36908e-022 high 0
  Double:  2.34182e-315
`},
		{".formats 1d8ffa1`5ce57d80", 1, report.Era19041, `Evaluate expression:
  Hex:     01d8ffa1` + "`" + `5ce57d80
  Decimal: 133137257520790912
  Decimal (unsigned) : 133137257520790912
  Octal:   0007307772053471276600
  Binary:  00000001 11011000 11111111 10100001 01011100 11100101 01111101 10000000
  Chars:   ....\.}.
  Time:    Thu Nov 24 02:09:12.079 2022 (UTC + 1:00)
  Float:   low 5.16766e+017 high 7.97127e-038
  Double:  9.3321e-300
`},
		{".formats -1", 0, report.Era19041, `Evaluate expression:
  Hex:     ffffffff` + "`" + `ffffffff
  Decimal: -1
  Decimal (unsigned) : 18446744073709551615
  Octal:   1777777777777777777777
  Binary:  11111111 11111111 11111111 11111111 11111111 11111111 11111111 11111111
  Chars:   ........
  Time:    ***** Invalid FILETIME
  Float:   low -1.#QNAN high -1.#QNAN
  Double:  -1.#QNAN
`},
	} {
		s, b := newSession(t)
		s.Location, s.Out.Printer.Era = time.FixedZone("", tt.hours*3600), tt.era
		if err := s.Execute(t.Context(), tt.line); err != nil {
			t.Error(err)
		}
		if d := cmp.Diff(tt.want, b.String()); d != "" {
			t.Errorf("%s (-want +got):\n%s", tt.line, d)
		}
	}
}

func TestShortFloat(t *testing.T) {
	t.Parallel()
	for f, want := range map[float64]string{
		0: "0", 1: "1", -2.5: "-2.5", 100000: "100000", 1e6: "1e+006", 0.0001: "0.0001", 0.00001: "1e-005", 1.0 / 3: "0.333333",
		1e300: "1e+300", math.Inf(1): "1.#INF", math.Inf(-1): "-1.#INF",
	} {
		if got := shortFloat(f); got != want {
			t.Errorf("%v: %q, want %q", f, got, want)
		}
	}
	for bits, want := range map[uint64]string{0x7ff8000000000001: "1.#QNAN", 0xfff8000000000000: "-1.#IND", 0xfff8000000000001: "-1.#QNAN"} {
		if got := shortFloat(math.Float64frombits(bits)); got != want {
			t.Errorf("%#x: %q, want %q", bits, got, want)
		}
	}
}
