package masm

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"strings"
	"testing"

	"gokd/commands/cmd"
	"gokd/commands/report"
	"gokd/model"
	"gokd/model/mem"
	"gokd/model/modeltest"
	"gokd/model/types"
)

// machine gives a session over a small machine: processor 0 runs a thread of
// pid 4, tid 8, with registers that tell their number.
func machine(t testing.TB) (*cmd.Session, *modeltest.Machine, mem.VA, mem.VA) {
	t.Helper()
	m := modeltest.New(t, types.Embedded(19041)[0])
	process := m.Process(4, 0, "System")
	thread := m.Thread(process, 8)
	m.Set(thread, 4, "_ETHREAD", "Cid", "UniqueProcess")
	k := m.Open()
	r := &model.Registers{RIP: 0xfffff80012345678, EFlags: 0x3246, CS: 0x10, SS: 0x18, DS: 0x2b, ES: 0x2c, FS: 0x53, GS: 0x2d}
	for i := range r.GPR {
		r.GPR[i] = 0x1111111181828384 + uint64(i)<<56
	}
	var b bytes.Buffer
	s := &cmd.Session{Kernel: k, Out: cmd.NewOutput(&b, report.Era19041, false)}
	s.Scope.Registers, s.Scope.Thread, s.Scope.Process, s.Scope.Frame = r, thread, process, 3
	s.Eval = ForSession(s)
	k.Source.Crash.Code, k.Source.Crash.Args = 0x133, [4]uint64{1, 2, 3, 4}
	return s, m, process, thread
}

// exception is an EXCEPTION_RECORD64 of an access violation.
func exception() []byte {
	b := make([]byte, 0x98)
	binary.LittleEndian.PutUint32(b, 0xc0000005)
	binary.LittleEndian.PutUint32(b[0x18:], 2)
	binary.LittleEndian.PutUint64(b[0x28:], 0xdead)
	return b
}

func TestSession_registers(t *testing.T) {
	t.Parallel()
	s, _, process, thread := machine(t)
	s.Kernel.Source.Crash.Exception = exception()
	if err := errors.Join(s.SetPseudo("$t7", 0x77), s.SetPseudo("$extret", 0x78)); err != nil {
		t.Fatal(err)
	}
	for expr, want := range map[string]uint64{
		"@rax":            0x1111111181828384,
		"@rcx":            0x1211111181828384,
		"@eax":            0xffffffff81828384, // extended by its sign
		"@ax":             0x8384,
		"@al":             0x84,
		"@ah":             0x83,
		"@r8":             0x1911111181828384,
		"@r8d":            0xffffffff81828384,
		"@r8w":            0x8384,
		"@r8b":            0x84,
		"@sil":            0x84,
		"@sp":             0x8384,
		"@rip":            0xfffff80012345678,
		"@eip":            0x12345678,
		"@efl":            0x3246,
		"@zf":             1,
		"@pf":             1,
		"@cf":             0,
		"@if":             1,
		"@iopl":           3,
		"@cs":             0x10,
		"@ss":             0x18,
		"@ds":             0x2b,
		"@es":             0x2c,
		"@fs":             0x53,
		"@gs":             0x2d,
		"@$ip":            0xfffff80012345678,
		"@$scopeip":       0xfffff80012345678,
		".":               0xfffff80012345678,
		"@$csp":           0x1511111181828384,
		"@$retreg":        0x1111111181828384,
		"@$frame":         3,
		"@$thread":        uint64(thread),
		"@$proc":          uint64(process),
		"@$tid":           8,
		"@$tpid":          4,
		"@$t7":            0x77,
		"$t7":             0x77,
		"@$t8":            0,
		"@$extret":        0x78,
		"@$bp3":           0,
		"@$bug_code":      0x133,
		"@$bug_param4":    4,
		"@$exr_code":      0xc0000005,
		"@$exr_numparams": 2,
		"@$exr_param1":    0xdead,
		"@$dbgtime > 0":   1,
	} {
		if got, err := s.Eval.Eval(t.Context(), expr); err != nil || got != want {
			t.Errorf("%s = %#x, %v; want %#x", expr, got, err, want)
		}
	}
	for expr, want := range map[string]string{
		"@xmm0":        "xmm0 is wider than an expression: r xmm0 shows it",
		"@cr3":         "cr3 is no part of a saved context: r shows what the dump holds of it",
		"@$ea":         "has no value in a dump: no instruction was executed: the effective address stands in the last line of r",
		"@$previp":     "has no value in a dump: a dump has one event, and none before it",
		"@$exr_chance": "has no value in a dump: dumps do not hold the chance of their exception",
		"@$u3":         "$u3 is an alias, set by r $.u3=text: it is replaced by its text before expressions are read",
	} {
		_, err := s.Eval.Eval(t.Context(), expr)
		if wantAll := fmt.Sprintf("Couldn't resolve error at '%s'\n    %s\n    ^ %s", expr, expr, want); err == nil || err.Error() != wantAll {
			t.Errorf("%s: error %v, want %s", expr, err, wantAll)
		}
	}
	for _, expr := range []string{"@$bug_param5", "@$exr_param15", "@$t20", "@r16", "@$zork1"} {
		if _, err := s.Eval.Eval(t.Context(), expr); err == nil || !strings.HasPrefix(err.Error(), "Bad register error at '"+expr) {
			t.Errorf("%s: error %v", expr, err)
		}
	}
}

func TestSession_radix(t *testing.T) {
	t.Parallel()
	s, _, _, _ := machine(t)
	for _, tt := range []struct {
		radix int
		expr  string
		want  uint64
	}{
		{0, "10", 16}, {16, "10", 16}, {10, "10", 10}, {8, "10", 8}, {10, "0x10", 16}, {10, "10h", 16}, {8, "0n10", 10}, {10, "0y10", 2},
	} {
		s.Vars.Radix = tt.radix
		if got, err := s.Eval.Eval(t.Context(), tt.expr); err != nil || got != tt.want {
			t.Errorf("base %d: %s = %d, %v; want %d", tt.radix, tt.expr, got, err, tt.want)
		}
	}
	s.Vars.Radix = 10
	if _, err := s.Eval.Eval(t.Context(), "ff"); err == nil {
		t.Error("ff is a number in base 10")
	}
}

// TestSession_cpp evaluates over structures of the embedded layout.
func TestSession_cpp(t *testing.T) {
	t.Parallel()
	s, m, process, thread := machine(t)
	m.Set(thread, 5, "_KTHREAD", "State")
	links, _ := m.Field("_EPROCESS", "ActiveProcessLinks")
	name, _ := m.Field("_EPROCESS", "ImageFileName")
	size := func(typ string) uint64 {
		st, err := s.Kernel.Types.Type(typ)
		if err != nil {
			t.Fatal(err)
		}
		return uint64(st.Size)
	}
	if err := s.SetTyped("$t1", mustTyped(t, s, "(nt!_EPROCESS*)@$proc")); err != nil {
		t.Fatal(err)
	}
	for expr, want := range map[string]uint64{
		"10":                                    10,
		"0x10":                                  16,
		"010":                                   8,
		"1 + 2 * 3":                             7,
		"(1 + 2) * 3":                           9,
		"7 % 4 | 8":                             11,
		"1 << 4":                                16,
		"-8 >> 1":                               0xfffffffffffffffc,
		"0x80000000 >> 31":                      1,
		"-1":                                    0xffffffffffffffff,
		"(unsigned long)-1":                     0xffffffff,
		"(unsigned char)0x1ff":                  0xff,
		"(char)0xff":                            0xffffffffffffffff,
		"~0u":                                   0xffffffff,
		"!5":                                    0,
		"-1 < 1":                                1,
		"-1 < 1u":                               0,
		"-7 / 2":                                0xfffffffffffffffd,
		"1 ? 2 : 1/0":                           2,
		"0 && *(int*)0":                         0,
		"1 || *(int*)0":                         1,
		"(1, 2, 3)":                             3,
		"'A'":                                   0x41,
		"'\\n'":                                 10,
		"1.5 * 2":                               3,
		"(int)2.9":                              2,
		"sizeof(int)":                           4,
		"sizeof(unsigned __int64)":              8,
		"sizeof(void*)":                         8,
		"sizeof(_EPROCESS)":                     size("_EPROCESS"),
		"sizeof(nt!_EPROCESS)":                  size("_EPROCESS"),
		"sizeof(struct _ETHREAD)":               size("_ETHREAD"),
		"sizeof(EPROCESS)":                      size("_EPROCESS"),
		"sizeof(*@$thread)":                     size("_ETHREAD"),
		"sizeof @$thread":                       8,
		"@$thread":                              uint64(thread),
		"@$thread->Tcb.State":                   5,
		"@$thread.Tcb.State":                    5,
		"(*@$thread).Tcb.State":                 5,
		"@$thread->Cid.UniqueThread":            8,
		"&@$proc->ImageFileName":                uint64(process) + uint64(name),
		"&@$proc->ImageFileName[2]":             uint64(process) + uint64(name) + 2,
		"@$proc->ImageFileName[0]":              'S',
		"*@$proc->ImageFileName":                'S',
		"@$t1->ImageFileName[1]":                'y',
		"((PEPROCESS)@$proc)->ImageFileName[2]": 's',
		"((_EPROCESS*)@@masm(@$proc))->ImageFileName[2]": 's',
		"@$proc + 1":                                                                             uint64(process) + size("_EPROCESS"),
		"(@$proc + 3) - @$proc":                                                                  3,
		"(char*)@$proc + 1":                                                                      uint64(process) + 1,
		"static_cast<unsigned char>(0x123)":                                                      0x23,
		"#FIELD_OFFSET(nt!_EPROCESS, ActiveProcessLinks)":                                        uint64(links),
		"#FIELD_OFFSET(_EPROCESS, ActiveProcessLinks.Blink)":                                     uint64(links) + 8,
		"#RTL_FIELD_SIZE(_EPROCESS, ActiveProcessLinks)":                                         16,
		"#RTL_SIZEOF_THROUGH_FIELD(_EPROCESS, ActiveProcessLinks)":                               uint64(links) + 16,
		"#CONTAINING_RECORD(0x1000, nt!_EPROCESS, ActiveProcessLinks)":                           0x1000 - uint64(links),
		"#RTL_NUMBER_OF(@$proc->ImageFileName)":                                                  15,
		"#RTL_CONTAINS_FIELD(@$proc, 8, ActiveProcessLinks)":                                     0,
		"#RTL_CONTAINS_FIELD(*@$proc, sizeof(_EPROCESS), ActiveProcessLinks)":                    1,
		"((nt!_EPROCESS**)@@(@$thread))[0] == *(unsigned __int64*)@$thread":                      1,
		"(*(_LIST_ENTRY*)&@$proc->ActiveProcessLinks).Flink == @$proc->ActiveProcessLinks.Flink": 1,
		"@@(10)":     16, // MASM inside C++
		"5 // words": 5,
		"@rax":       0x1111111181828384,
		"@eax":       0x81828384, // no sign in C++
		"true + 1":   2,
		"@$tid":      8,
	} {
		got, err := mustEval(t, s, expr)
		if err != nil || got != want {
			t.Errorf("%s = %#x, %v; want %#x", expr, got, err, want)
		}
	}
	for expr, want := range map[string]uint64{
		"@@c++(010) + 10":                      0x18,
		"@@(sizeof(_EPROCESS)) - 0":            size("_EPROCESS"),
		"poi(@@c++(&@$proc->UniqueProcessId))": 4,
		"@@c++(@@masm(10))":                    0x10,
		"@@masm(10)":                           0x10,
	} {
		if got, err := s.Eval.Eval(t.Context(), expr); err != nil || got != want {
			t.Errorf("MASM %s = %#x, %v; want %#x", expr, got, err, want)
		}
	}
}

func mustTyped(t *testing.T, s *cmd.Session, expr string) cmd.Typed {
	t.Helper()
	v, err := s.Eval.(cmd.TypedEvaluator).EvalTyped(t.Context(), expr)
	if err != nil {
		t.Fatal(err)
	}
	return v
}

// mustEval evaluates as with .expr /s c++.
func mustEval(t *testing.T, s *cmd.Session, expr string) (uint64, error) {
	t.Helper()
	s.Vars.CPP = true
	defer func() { s.Vars.CPP = false }()
	return s.Eval.Eval(t.Context(), expr)
}

func TestSession_types(t *testing.T) {
	t.Parallel()
	s, _, _, _ := machine(t)
	for expr, want := range map[string]string{
		"5":                             "int",
		"5u":                            "unsigned int",
		"5I64":                          "int64",
		"0x80000000":                    "unsigned int",
		"0x100000000":                   "int64",
		"1.5":                           "double",
		"1 == 2":                        "bool",
		"@rax":                          "unsigned int64",
		"@eax":                          "unsigned int",
		"@$thread":                      "struct _ETHREAD *",
		"&@$thread":                     "",
		"*@$thread":                     "struct _ETHREAD",
		"@$proc->ImageFileName":         "unsigned char [15]",
		"&@$proc->ImageFileName":        "unsigned char [15] *",
		"(void*)0":                      "void *",
		"(void**)0":                     "void **",
		"(unsigned long)1":              "unsigned long",
		"(ULONG)1 + (ULONG)1":           "unsigned long",
		"(long)1 + 1":                   "long",
		"sizeof(int)":                   "unsigned int64",
		"#FIELD_OFFSET(_EPROCESS, Pcb)": "long",
	} {
		v, err := s.Eval.(cmd.TypedEvaluator).EvalTyped(t.Context(), expr)
		if want == "" {
			if err == nil {
				t.Errorf("%s has a value", expr)
			}
			continue
		}
		if got := cmd.TypeName(v.Type); err != nil || got != want {
			t.Errorf("%s is of type %q, %v; want %q", expr, got, err, want)
		}
	}
}

func TestSession_cppErrors(t *testing.T) {
	t.Parallel()
	s, _, _, _ := machine(t)
	for expr, want := range map[string]string{
		"":                         "Syntax error at ''",
		"1 +":                      "Syntax error at ''\n    1 +\n       ^ a value is expected here",
		"(1":                       "Syntax error at ''\n    (1\n      ^ ')' is expected here",
		"1)":                       "Syntax error at ')'",
		"zork":                     "Couldn't resolve error at 'zork'\n    zork\n    ^ no such symbol or type; a register begins with @",
		"nt!zork":                  "Couldn't resolve error at 'nt!zork'",
		"@zork":                    "Bad register error at '@zork'",
		"@$thread->Zork":           "Couldn't resolve error at 'Zork'\n    @$thread->Zork\n              ^ struct _ETHREAD has no member Zork",
		"5->Zork":                  "Type conflict error at '->Zork'\n    5->Zork\n     ^ int is no pointer",
		"*5":                       "Type conflict error at '*5'",
		"*(void*)5":                "Type conflict error at '*(void*)5'\n    *(void*)5\n    ^ a pointer to void leads to no value: cast it",
		"&5":                       "Type conflict error at '&5'",
		"*(int*)0":                 "Memory access error at '*(int*)0'",
		"1/0":                      "Operand error at '/0'\n    1/0\n     ^ division by zero",
		"1.5 % 2":                  "Type conflict error at '% 2'",
		"@$thread * 2":             "Type conflict error at '* 2'",
		"$t0 = 5":                  "Couldn't resolve error at '$t0 = 5'",
		"@$t0 = 5":                 "Syntax error at '= 5'\n    @$t0 = 5\n         ^ an expression changes nothing here",
		"@$t0++":                   "Syntax error at '++'",
		"99999999999999999999":     "Overflow error at '99999999999999999999'",
		"0n10":                     "Syntax error at '0n10'\n    0n10\n    ^ 0n is a prefix of MASM numbers",
		"1f":                       "Syntax error at '1f'\n    1f\n    ^ 1f is no number in base 10; a hexadecimal one begins with 0x",
		"''":                       "Syntax error at ''''",
		"sizeof(zork)":             "Couldn't resolve error at 'zork)'",
		"#ZORK(1)":                 "Couldn't resolve error at '#ZORK(1)'",
		"#FIELD_OFFSET(_EPROCESS)": "Syntax error at ')'\n    #FIELD_OFFSET(_EPROCESS)\n                           ^ ',' is expected here",
		"#FIELD_OFFSET(_ZORK, A)":  "Couldn't resolve error at '_ZORK, A)'\n    #FIELD_OFFSET(_ZORK, A)\n                  ^ no such type",
		"$!local":                  "Couldn't resolve error at '$!local'\n    $!local\n    ^ local variables are not known here",
		"(int)@$proc->Pcb":         "Type conflict error at '(int)@$proc->Pcb'",
		"@@c++(":                   "Syntax error at '('",
		strings.Repeat("(", 200):   "Syntax error at '",
		strings.Repeat("-", 200):   "Syntax error at '",
	} {
		_, err := s.Eval.(cmd.TypedEvaluator).EvalTyped(t.Context(), expr)
		if err == nil || !strings.HasPrefix(err.Error(), want) {
			t.Errorf("%q: error\n%v\nwant\n%s", expr, err, want)
		}
	}
}

// TestSession_functions evaluates those that need a machine.
func TestSession_functions(t *testing.T) {
	t.Parallel()
	s, _, _, thread := machine(t)
	for expr, want := range map[string]uint64{
		"$vvalid(@$thread, 10)":               1,
		"$vvalid(0, 10)":                      0,
		"$fnsucc(1, 1, 0)":                    1,
		"$fnsucc(1, 1, 1)":                    0,
		"by(@$thread)":                        6, // the type of a dispatcher object: a thread
		fmt.Sprintf("by(%x)", uint64(thread)): 6,
	} {
		if got, err := s.Eval.Eval(t.Context(), expr); err != nil || got != want {
			t.Errorf("%s = %#x, %v; want %#x", expr, got, err, want)
		}
	}
	for expr, want := range map[string]string{
		"$iment(0)":        "Memory access error at '0)'",
		"$ppoi(0)":         "Memory access error at '(0)'\n    $ppoi(0)\n         ^ the dump holds no physical memory",
		"$fnsucc(1, 1, 2)": "Syntax error at '2)'",
	} {
		if _, err := s.Eval.Eval(t.Context(), expr); err == nil || !strings.HasPrefix(err.Error(), want) {
			t.Errorf("%s: error %v, want %s", expr, err, want)
		}
	}
}

// TestRange_unknown: a public transcript shows kd's words for an unknown symbol
// with a length behind it.
func TestRange_unknown(t *testing.T) {
	t.Parallel()
	s, _, _, _ := machine(t)
	_, _, err := cmd.ParseRange(t.Context(), s.Eval, "KiGlobalTimerResolutionRequests L1", 4, 4)
	want := "Couldn't resolve error at 'KiGlobalTimerResolutionRequests '\n"
	if err == nil || !strings.HasPrefix(err.Error(), want) {
		t.Errorf("error %v, want %s", err, want)
	}
}

func FuzzCPP(f *testing.F) {
	for _, expr := range []string{
		"@$thread->Tcb.State", "sizeof(_EPROCESS)+1", "(char)65", "#FIELD_OFFSET(_EPROCESS, Pcb)", "1?2:3", "*(int*)@$proc", "0x1`2L", "1.5e3", "'a'", "@@(1)+@@c++(2)",
		"static_cast<int>(1)", "a::b", "$!x", "nt!x[3]", "(int)(long)-1>>3", "!_x",
	} {
		f.Add(expr)
	}
	s, _, _, _ := machine(f)
	f.Fuzz(func(t *testing.T, expr string) {
		v, err := s.Eval.(cmd.TypedEvaluator).EvalTyped(t.Context(), expr)
		if err != nil {
			_ = err.Error()
			return
		}
		if cmd.TypeName(v.Type) == "" {
			t.Fatalf("%q: a value without a type", expr)
		}
	})
}
