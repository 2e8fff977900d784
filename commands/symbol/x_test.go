package symbol

import (
	"bytes"
	"context"
	"testing"

	"github.com/google/go-cmp/cmp"

	"gokd/commands/cmd"
	"gokd/commands/masm"
	"gokd/commands/report"
	"gokd/dumpfmt/dumptest/shared"
	"gokd/model"
	"gokd/model/mem"
	"gokd/model/modeltest"
	"gokd/model/types"
)

func TestParseX(t *testing.T) {
	t.Parallel()
	size := uint64(0xa8)
	for line, want := range map[string]xOptions{
		"nt!Ps*":             {module: "nt", pattern: "Ps*"},
		"/2 /f nt!Ps*":       {short: '2', functions: true, module: "nt", pattern: "Ps*"},
		"/v/t nt!x":          {verbose: true, types: true, module: "nt", pattern: "x"},
		"/vt nt!x":           {verbose: true, types: true, module: "nt", pattern: "x"},
		"/s a8 nt!Cm*":       {size: &size, module: "nt", pattern: "Cm*"},
		"/sa8 nt!Cm*":        {size: &size, module: "nt", pattern: "Cm*"},
		"/D /A nt!a":         {sort: 'A', module: "nt", pattern: "a"},
		"m!operator new":     {module: "m", pattern: "operator new"},
		"*!":                 {module: "*", modules: true},
		"Foo":                {pattern: "Foo"},
		"/0 /q /p /d /z a!b": {short: '0', quoted: true, tight: true, data: true, sort: 'z', module: "a", pattern: "b"},
	} {
		got, err := parseX(t.Context(), line, hexEval{})
		if err != nil {
			t.Errorf("x %s: %v", line, err)
		}
		if d := cmp.Diff(want, got, cmp.AllowUnexported(xOptions{})); d != "" {
			t.Errorf("x %s (-want +got):\n%s", line, d)
		}
	}
	for _, line := range []string{"", "/w a", "/s", "/s 0 a", "/s zz a", "/2"} {
		if _, err := parseX(t.Context(), line, hexEval{}); err == nil {
			t.Errorf("x %s: no error", line)
		}
	}
}

func TestSymbolMatcher(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		pattern, name string
		want          bool
	}{
		{"ps*", "PsIdleProcess", true}, {"*pool*", "ExAllocatePool", true}, {"pool", "ExAllocatePool", false},
		{"_c_*", "__C_specific_handler", true}, {"_c_*", "C_x", true}, {"__C*", "_C_x", true}, {"c_*", "_C_x", false},
		{"download[mx]??or", "DownloadMinor", true}, {"a#b", "AAAB", true},
	} {
		if got := symbolMatcher(tt.pattern)(tt.name); got != tt.want {
			t.Errorf("%s matches %s: %v", tt.pattern, tt.name, got)
		}
	}
}

// TestSymbol_text holds the lines to those of public answers of x.
func TestSymbol_text(t *testing.T) {
	t.Parallel()
	text := func(s string) *string { return &s }
	size := func(n uint32) *uint32 { return &n }
	echo := symbolRecord{Name: "EchoEvtTimerFunc", Module: "ECHO", Address: 0xfffff8010bf95ac0, Kind: "function", Value: text("(struct WDFTIMER__ *)"), Private: true, Size: size(0x249)}
	data := symbolRecord{Name: "CiSystemResponsiveness", Module: "mmcss", Address: 0xfffff805284482f8, Kind: "data"}
	public := symbolRecord{Name: "ViCreateProcessCallbackInternal", Module: "nt", Address: 0xfffff800030821cc, Kind: "function"}
	names := symbolRecord{Name: "CmTypeName", Module: "nt", Address: 0x806c9e68, Kind: "data", Size: size(0x150),
		TypeOf: text("struct _UNICODE_STRING [42]"), Value: text("struct _UNICODE_STRING [42]")}
	value := symbolRecord{Name: "_nstream", Module: "m", Address: 0x42a3c0, Kind: "data", TypeOf: text("int"), Value: text("0n512")}
	literal := symbolRecord{Name: "??_C@_0BC@X@abc@", Module: "nt", Address: 0x10, Kind: "data"}
	for _, tt := range []struct {
		r    symbolRecord
		o    xOptions
		era  report.Era
		want string
	}{
		{echo, xOptions{}, report.Era19041, "fffff801`0bf95ac0 ECHO!EchoEvtTimerFunc (struct WDFTIMER__ *)\n"},
		{echo, xOptions{tight: true}, report.Era19041, "fffff801`0bf95ac0 ECHO!EchoEvtTimerFunc(struct WDFTIMER__ *)\n"},
		{echo, xOptions{verbose: true}, report.Era19041, "prv func   fffff801`0bf95ac0  249 ECHO!EchoEvtTimerFunc (struct WDFTIMER__ *)\n"},
		{echo, xOptions{quoted: true}, report.Era19041, "fffff801`0bf95ac0 @!\"ECHO!EchoEvtTimerFunc\" (struct WDFTIMER__ *)\n"},
		{data, xOptions{types: true}, report.Era19041, "fffff805`284482f8 <NoType> mmcss!CiSystemResponsiveness = <no type information>\n"},
		{public, xOptions{}, report.Era62, "fffff800`030821cc   nt!ViCreateProcessCallbackInternal (<no parameter info>)\n"},
		{names, xOptions{verbose: true}, report.Era62, "global 00000000`806c9e68  150 nt!CmTypeName = struct _UNICODE_STRING [42]\n"},
		{names, xOptions{verbose: true}, report.Era19041, "pub global 00000000`806c9e68  150 nt!CmTypeName = struct _UNICODE_STRING [42]\n"},
		{value, xOptions{types: true}, report.Era19041, "00000000`0042a3c0 int m!_nstream = 0n512\n"},
		{value, xOptions{short: '0'}, report.Era19041, "00000000`0042a3c0\n"},
		{value, xOptions{short: '1'}, report.Era19041, "m!_nstream\n"},
		{value, xOptions{short: '2'}, report.Era19041, "00000000`0042a3c0 m!_nstream\n"},
		{literal, xOptions{}, report.Era19041, "00000000`00000010 nt!`string' = <no type information>\n"},
	} {
		tt.r.opt = &tt.o
		var b bytes.Buffer
		tt.r.WriteText(report.NewPrinter(&b, tt.era, false))
		if d := cmp.Diff(tt.want, b.String()); d != "" {
			t.Errorf("%+v (-want +got):\n%s", tt.o, d)
		}
	}
}

// typedNames is a table that knows types.
type typedNames struct {
	*types.Names
	of map[string]*types.Type
}

func (n typedNames) TypeOf(name string) (*types.Type, bool) {
	t, ok := n.of[name]
	return t, ok
}

// TestDescriber: what a table tells of a symbol, and what the section of the
// image tells where it does not.
func TestDescriber(t *testing.T) {
	t.Parallel()
	names := typedNames{types.NewNames("private pdb", []string{"Count", "Func", "Plain", "Thing"}, []uint32{0x1010, 0x100, 0x200, 0x1000}),
		map[string]*types.Type{"Count": short, "Thing": thing, "Func": {Name: "(void)", Kind: types.KindFunction, Elem: ulong}}}
	d := &describer{m: &model.Module{Name: "m", Base: 0xfffff80000000000}, typed: names,
		image:  &types.Image{Sections: []types.Section{{RVA: 0, VirtualSize: 0x1000, Characteristics: 0x20000000}, {RVA: 0x1000, VirtualSize: 0x1000}}},
		values: &valuer{mem: testMemory(), name: func(mem.VA) string { return "" }}}
	var got string
	for sym := range names.All() {
		h := d.hit(sym)
		r := d.record(&h, &xOptions{types: true})
		var b bytes.Buffer
		r.WriteText(report.NewPrinter(&b, report.Era19041, false))
		got += b.String()
	}
	want := "fffff800`00001010 short m!Count = 0n-2\n" +
		"fffff800`00000100 unsigned long (void) m!Func (void)\n" +
		"fffff800`00000200 <NoType> m!Plain (<no parameter info>)\n" +
		"fffff800`00001000 struct _THING m!Thing = struct _THING\n"
	if d := cmp.Diff(want, got); d != "" {
		t.Errorf("(-want +got):\n%s", d)
	}
}

// TestLn_text: both neighbours, then the names at the address, as posted answers
// of ln have them.
func TestLn_text(t *testing.T) {
	t.Parallel()
	opt := new(xOptions)
	create := &neighbour{"nt", "NtCreateFile", 0xfffff800fc901270, 0}
	open := &neighbour{"nt", "NtOpenKey", 0xfffff800fc9012f4, 0x84}
	exact := []*symbolRecord{{Name: "NtCreateFile", Module: "nt", Kind: "function", opt: opt}}
	for _, tt := range []struct {
		r    nearest
		era  report.Era
		want string
	}{
		{nearest{Before: create, After: open, Exact: exact}, report.Era19041,
			"(fffff800`fc901270)   nt!NtCreateFile   |  (fffff800`fc9012f4)   nt!NtOpenKey\nExact matches:\n    nt!NtCreateFile (<no parameter info>)\n"},
		{nearest{Before: &neighbour{"nt", "NtCreateFile", 0xfffff800fc901270, 0x10}, After: open}, report.Era26100,
			"Browse module\nSet bu breakpoint\n\n(fffff800`fc901270)   nt!NtCreateFile+0x10   |  (fffff800`fc9012f4)   nt!NtOpenKey\n"},
		{nearest{Before: create}, report.Era19041, "(fffff800`fc901270)   nt!NtCreateFile\n"},
		{nearest{Before: &neighbour{"nt", "", 0xfffff800fc000000, 0x10}, After: open}, report.Era19041,
			"(fffff800`fc000000)   nt+0x10   |  (fffff800`fc9012f4)   nt!NtOpenKey\n"},
		{nearest{}, report.Era19041, ""},
	} {
		var b bytes.Buffer
		tt.r.WriteText(report.NewPrinter(&b, tt.era, false))
		if d := cmp.Diff(tt.want, b.String()); d != "" {
			t.Errorf("(-want +got):\n%s", d)
		}
	}
}

// TestLn_find: of several names at one address the one that stands for it comes
// first.
func TestLn_find(t *testing.T) {
	t.Parallel()
	names := types.NewNames("isf", []string{"KiStart", "KxStart", "Next", "memmove", "memcpy"}, []uint32{0x100, 0x100, 0x200, 0x300, 0x300})
	d := &describer{m: &model.Module{Name: "nt", Base: 0x1000}}
	for rva, want := range map[uint32]string{
		0x100: "KxStart+0x0 Next+0x100 KxStart KiStart ", 0x108: "KxStart+0x8 Next+0xf8 ", 0x2ff: "Next+0xff memcpy+0x1 ",
		0x300: "memcpy+0x0 memcpy memmove ", 0x10: "+0x10 KxStart+0xf0 ",
	} {
		var r nearest
		r.find(d, names, rva)
		got := ""
		for _, n := range []*neighbour{r.Before, r.After} {
			if n != nil {
				got += report.Sprintf("%s+%#x ", n.Name, n.Offset)
			}
		}
		for _, e := range r.Exact {
			got += e.Name + " "
		}
		if got != want {
			t.Errorf("%#x: %s, want %s", rva, got, want)
		}
	}
}

// realSession opens the real small dump with its symbols.
func realSession(t testing.TB) *cmd.Session {
	t.Helper()
	k := modeltest.OpenDump(t, shared.Path(t, "dumps/real/triage_x64.dmp"),
		modeltest.Symbols(shared.Path(t, "isf")), modeltest.Images(shared.Path(t, "symstore")))
	return sessionOf(t, k)
}

// sessionOf gives a session with the group's commands, which prints nowhere.
func sessionOf(t testing.TB, k *model.Kernel) *cmd.Session {
	t.Helper()
	table, err := cmd.NewTable(Commands()...)
	if err != nil {
		t.Fatal(err)
	}
	s := &cmd.Session{Kernel: k, Commands: table, Out: cmd.NewOutput(new(bytes.Buffer), report.Era19041, false)}
	s.Eval = masm.ForSession(s)
	return s
}

// TestReal: a real dump with its kernel's table, right to the last offset.
func TestReal(t *testing.T) {
	t.Parallel()
	s := realSession(t)
	for _, tt := range []struct{ line, want string }{
		{"lmvm Wdf01000", "start             end                 module name\n" +
			"fffff804`79950000 fffff804`79a21000   Wdf01000   (deferred)             \n" +
			"    Image path: \\SystemRoot\\system32\\drivers\\Wdf01000.sys\n    Image name: Wdf01000.sys\n" +
			"    Image was built with /Brepro flag.\n    Timestamp:        A9A9D36E (This is a reproducible build file hash, not a timestamp)\n" +
			"    CheckSum:         000D3980\n    ImageSize:        000D1000\n    File version:     1.31.19041.423\n    Product version:  1.31.19041.423\n" +
			"    File flags:       0 (Mask 3F)\n    File OS:          40004 NT Win32\n    File type:        3.7 Driver\n    File date:        00000000.00000000\n" +
			"    Translations:     0409.04b0\n    Information from resource tables:\n        CompanyName:      Microsoft Corporation\n" +
			"        ProductName:      Microsoft® Windows® Operating System\n        InternalName:     wdf01000.sys\n        OriginalFilename: wdf01000.sys\n" +
			"        ProductVersion:   1.31.19041.423\n        FileVersion:      1.31.19041.423 (WinBuild.160101.0800)\n" +
			"        FileDescription:  Kernel Mode Driver Framework Runtime\n        LegalCopyright:   © Microsoft Corporation. All rights reserved.\n"},
		{"ln fffff8047bdf5aa0", "(fffff804`7bdf5a80)   nt!KeBugCheckEx+0x20   |  (fffff804`7bdf5bb0)   nt!KeContextToKframes\n"},
		{"x nt!KeBugCheckE?", "fffff804`7bdf5a80 nt!KeBugCheckEx (<no parameter info>)\n"},
		{"dt nt!_KTHREAD @$thread Priority WaitIrql", "   +0x0c3 Priority : 13 ''\n   +0x186 WaitIrql : 0 ''\n"},
		{"dt _EPROCESS @$proc UniqueProcessId ImageFileName", "nt!_EPROCESS\n   +0x440 UniqueProcessId : 0x00000000`00000004 Void\n   +0x5a8 ImageFileName   : [15]  \"System\"\n"},
		{"dt nt!_NOTHING", "Symbol nt!_NOTHING not found.\n"},
		{"dt nt!_EPROCES", "Symbol nt!_EPROCES not found.\nDid you mean _EPROCESS, _KPROCESS?\n"},
		{"dt eproces", "Symbol nt!eproces not found.\nDid you mean _EPROCESS, _KPROCESS?\n"},
		{"dt nt!_KDPC Nothing", "Cannot find specified field members. _KDPC has no such member\n"},
		{"dt nt!PsIdleProcess", "nt!PsIdleProcess at 0xfffff804`7c6fc4b8: <no type information>: its isf symbols do not tell its type; dt TYPE fffff8047c6fc4b8 shows it as a type that you name\n"},
		{"dt nt!_OBJECT_HEADER_*_INFO", "          nt!_OBJECT_HEADER_AUDIT_INFO\n          nt!_OBJECT_HEADER_CREATOR_INFO\n          nt!_OBJECT_HEADER_EXTENDED_INFO\n" +
			"          nt!_OBJECT_HEADER_HANDLE_INFO\n          nt!_OBJECT_HEADER_NAME_INFO\n          nt!_OBJECT_HEADER_PADDING_INFO\n" +
			"          nt!_OBJECT_HEADER_PROCESS_INFO\n          nt!_OBJECT_HEADER_QUOTA_INFO\n"},
	} {
		s.Out.Printer.KDOnly = true
		got, _ := s.Capture(t.Context(), tt.line)
		if d := cmp.Diff(tt.want, got); d != "" {
			t.Errorf("%s (-want +got):\n%s", tt.line, d)
		}
	}
}

// discard takes records and keeps nothing.
type discard struct{ p *report.Printer }

func (d discard) Emit(r report.Record) error { return d.p.Emit(r) }

type null struct{}

func (null) Write(p []byte) (int, error) { return len(p), nil }

// BenchmarkDt shows a whole process of the real dump; 5 ms are the limit.
func BenchmarkDt(b *testing.B) {
	s := realSession(b)
	benchmark(b, s, "nt!_EPROCESS @$proc", runDt)
}

// BenchmarkX looks for a part of a name among the kernel's 40,000; 30 ms are the
// limit.
func BenchmarkX(b *testing.B) {
	s := realSession(b)
	benchmark(b, s, "nt!*Pool*", runX)
}

// BenchmarkLn names the neighbours of an address.
func BenchmarkLn(b *testing.B) {
	s := realSession(b)
	benchmark(b, s, "fffff8047bdf5aa0", runLn)
}

func benchmark(b *testing.B, s *cmd.Session, args string, run func(context.Context, *cmd.Session, cmd.Args, report.Sink) error) {
	b.Helper()
	out := discard{report.NewPrinter(null{}, report.Era19041, false)}
	if err := run(b.Context(), s, cmd.Args{Raw: args}, out); err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	for b.Loop() {
		if err := run(b.Context(), s, cmd.Args{Raw: args}, out); err != nil {
			b.Fatal(err)
		}
	}
}
