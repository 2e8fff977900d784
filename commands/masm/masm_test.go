package masm

import (
	"context"
	"encoding/binary"
	"errors"
	"strings"
	"testing"

	"gokd/model/mem"
)

// fake is a target of a few symbols, a page of memory and some registers.
type fake struct{}

func (fake) Symbol(_ context.Context, module, name string) (mem.VA, bool) {
	at, ok := map[string]mem.VA{
		"!nt": 0xfffff80000000000, "nt!Foo": 0xfffff80000001000, "!Foo": 0xfffff80000001000,
		"nt!add": 0x77, "!add": 0x77, "nt!??0A@B@@Q:~.#": 0x99, "!poi": 0x42, "!A::B": 0x43, "nt!x": 1,
	}[module+"!"+name]
	return at, ok
}

func (fake) ReadVirtual(p []byte, at mem.VA) (int, error) {
	if at < 0x1000 || at >= 0x2000 {
		return 0, &mem.Fault{Kind: mem.NotCaptured, VA: at}
	}
	var b [8]byte
	binary.LittleEndian.PutUint64(b[:], 0x1122334455667788)
	return copy(p, b[:]), nil
}

func (fake) Register(name string) (uint64, bool, error) {
	switch name {
	case "rip", "$ip":
		return 0xfffff80000001010, true, nil
	case "$thread":
		return 0x5000, true, nil
	case "$proc":
		return 0, true, errors.New("not in the dump")
	}
	return 0, false, nil
}

func TestEval(t *testing.T) {
	t.Parallel()
	for expr, want := range map[string]uint64{
		"10":                           0x10,
		"0x1F":                         0x1f,
		"0n10":                         10,
		"0t17":                         15,
		"0y101":                        5,
		"1fh":                          0x1f,
		"0":                            0,
		"fffff800`00001000":            0xfffff80000001000,
		"1`2":                          0x12,
		"add":                          0xadd, // a number before a symbol
		"nt!add":                       0x77,
		"@add":                         0x77,
		"eaaa1122":                     0xffffffffeaaa1122,
		"0`eaaa1122":                   0xeaaa1122,
		"00000000eaaa1122":             0xeaaa1122,
		"0n4294967295":                 0xffffffff,
		"7fffffff":                     0x7fffffff,
		"'A'":                          0x41,
		"'Leak'":                       0x4c65616b,
		"1+2*3":                        7,
		"(1+2)*3":                      9,
		"2*3+1":                        7,
		"10-2-3":                       0xb,
		"100/10/2":                     8,
		"7 mod 4":                      3,
		"7%4":                          3,
		"1<<4|1":                       0x11,
		"f0>>4":                        0xf,
		"-10>>>4":                      0xffffffffffffffff,
		"1<<40":                        0x0, // shifts by 64 and more leave nothing
		"6 and 3 or 8":                 0xa,
		"6 xor 3":                      5,
		"1==1 & 2>1":                   1,
		"1 = 2":                        0,
		"3!=4":                         1,
		"2<=2":                         1,
		"2>=3":                         0,
		"2<1":                          0,
		"-1":                           0xffffffffffffffff,
		"~0":                           0xffffffffffffffff,
		"not 5":                        0,
		"not(0)":                       1,
		"hi(12345678)":                 0x1234,
		"low 12345678":                 0x5678,
		"+5":                           5,
		"- - 5":                        5,
		"nt":                           0xfffff80000000000,
		"nt+1000":                      0xfffff80000001000,
		"nt!Foo+0x10":                  0xfffff80000001010,
		"Foo-nt":                       0x1000,
		"nt!??0A@B@@Q:~.#":             0x99,
		`@!"nt!??0A@B@@Q:~.#"`:         0x99,
		"A::B":                         0x43,
		"nt!x!=1":                      0,
		"poi(1000)":                    0x1122334455667788,
		"poi 1000+1":                   0x1122334455667789,
		"qwo(1000)":                    0x1122334455667788,
		"dwo(1000)":                    0x55667788,
		"wo(1000)":                     0x7788,
		"by(1ff8)":                     0x88,
		"poi":                          0x42, // a symbol of that name
		"poi(poi)":                     0,
		"@rip":                         0xfffff80000001010,
		"rip":                          0xfffff80000001010,
		"@$ip":                         0xfffff80000001010,
		".":                            0xfffff80000001010,
		".-nt":                         0x1010,
		"@$thread":                     0x5000,
		"$thread+@$ptrsize":            0x5008,
		"@$pagesize":                   0x1000,
		"$vvalid(1000,1000)":           1,
		"$vvalid(1000, 1001)":          0,
		"$vvalid(0, 0)":                1,
		"$vvalid(-1, 2)":               0,
		"0x":                           0,
		"0n + 0t + 0y":                 0,
		"0X1f":                         0x1f,
		"12H":                          0x12,
		"!add":                         0x77,
		"1 + !Foo":                     0xfffff80000001001,
		"$scmp(\"a\", \"b\")":          0xffffffffffffffff,
		"$scmp(\"a\", \"a\")":          0,
		"$scmp(\"b\", \"a\")":          1,
		"$sicmp(\"AB\",\"ab\")":        0,
		"$spat(\"ntoskrnl\", \"NT*\")": 1,
		"$spat(\"x\", \"[a-c]\")":      0,
		"$spat(\"c:\\dir\\name.txt\", \"*name*\")":  0, // \n is a new line
		"$spat(@\"c:\\dir\\name.txt\", \"*name*\")": 1,
		"$spat(@\"c:\\dir\\\", \"*filename*\")":     0,
		"not $spat(\"a\", \"b\") & 1":               1,
		"@@masm(1+1)*2":                             4,
		"@@(1+1)":                                   2,
		"@@c++(0x10 + 010)":                         0x18,
		"2 and\n3":                                  2,
		"1\v+ 1":                                    2,
	} {
		got, err := New(fake{}).Eval(t.Context(), expr)
		if expr == "poi(poi)" {
			var me *MemoryError
			if !errors.As(err, &me) || !errors.Is(err, mem.ErrNotCaptured) || me.VA != 0x42 {
				t.Errorf("%s: error %v, want that of memory", expr, err)
			}
			continue
		}
		if err != nil || got != want {
			t.Errorf("%s = %#x, %v; want %#x", expr, got, err, want)
		}
	}
}

// TestEval_errors holds messages to kd's words, with the caret under the place.
func TestEval_errors(t *testing.T) {
	t.Parallel()
	for expr, want := range map[string]string{
		"":                                       "Syntax error at ''\n    \n    ^ ",
		"zork+1":                                 "Couldn't resolve error at 'zork+1'\n    zork+1\n    ^ no such symbol",
		"1+zork":                                 "Couldn't resolve error at 'zork'\n    1+zork\n      ^ no such symbol",
		"nt!":                                    "Syntax error at 'nt!'",
		"1 2":                                    "Syntax error at '2'\n    1 2\n      ^ an operator",
		"1+":                                     "Syntax error at ''\n    1+\n      ^ a value",
		"(1":                                     "Syntax error at ''\n    (1\n      ^ ')' is missing for '(' at character 1",
		"1)":                                     "Syntax error at ')'",
		"*1":                                     "Syntax error at '*1'",
		"1/0":                                    "Operand error at '/0'\n    1/0\n     ^ division by zero",
		"1%0":                                    "Operand error at '%0'",
		"@":                                      "Syntax error at '@'",
		"@$zork":                                 "Bad register error at '@$zork'",
		"@$proc":                                 "Couldn't resolve error at '@$proc'\n    @$proc\n    ^ not in the dump",
		"$proc":                                  "Couldn't resolve error at '$proc'",
		"'":                                      "Syntax error at '''",
		"'123456789'":                            "Syntax error at",
		`@!"nt`:                                  "Syntax error at",
		"12345678123456789":                      "Overflow error at '12345678123456789'\n    12345678123456789\n    ^ 12345678123456789 does not fit 64 bits",
		"poi(0)":                                 "Memory access error at '(0)'",
		"'é'+[":                                  "Syntax error at '['\n    'é'+[\n        ^ unexpected",
		"1,2":                                    "Syntax error at ',2'",
		"$vvalid 1":                              "Syntax error at '1'",
		"$vvalid(1":                              "Syntax error at ''",
		"$scmp(1, 2)":                            "Syntax error at '1, 2)'\n    $scmp(1, 2)\n          ^ $scmp takes strings in quotes",
		"$scmp(\"a\")":                           "Syntax error at '(\"a\")'",
		"$spat( \"c:\\dir\\\", \"*filename*\" )": "Syntax error at '( \"c:\\dir\\\", \"*filename*\" )'\n",
		"\"a\"":                                  "Syntax error at '\"a\"'\n    \"a\"\n    ^ a string has no value",
		"\"a":                                    "Syntax error at '\"a'\n    \"a\n    ^ missing closing quote",
		"@@(1":                                   "Syntax error at '(1'\n    @@(1\n      ^ ')' is missing",
		"@@x":                                    "Syntax error at '@@x'\n    @@x\n    ^ want @@( ), @@c++( ) or @@masm( )",
		"`nt!a.c:23`":                            "Couldn't resolve error at '`nt!a.c:23`'\n    `nt!a.c:23`\n    ^ source lines name no address here",
		"$ppoi(0)":                               "Couldn't resolve error at '(0)'\n    $ppoi(0)\n         ^ no dump is open",
		"$iment(0)":                              "Couldn't resolve error at '0)'",
	} {
		_, err := New(fake{}).Eval(t.Context(), expr)
		if err == nil || !strings.HasPrefix(err.Error(), want) {
			t.Errorf("%q: error\n%v\nwant\n%s", expr, err, want)
		}
	}
}

func TestEval_noTarget(t *testing.T) {
	t.Parallel()
	e := New(nil)
	if v, err := e.Eval(t.Context(), "0n16*2"); v != 32 || err != nil {
		t.Errorf("%#x, %v", v, err)
	}
	for _, expr := range []string{"nt", "poi(0)", "@rip", "zork"} {
		if _, err := e.Eval(t.Context(), expr); !errors.Is(err, ErrExpression) {
			t.Errorf("%s: error %v", expr, err)
		}
	}
	if v, err := e.Eval(t.Context(), "$vvalid(0,1)"); v != 0 || err != nil {
		t.Errorf("$vvalid: %#x, %v", v, err)
	}
}

// TestEval_limits: what no one types must not exhaust the stack.
func TestEval_limits(t *testing.T) {
	t.Parallel()
	for _, expr := range []string{
		strings.Repeat("(", 2000) + "1" + strings.Repeat(")", 2000),
		strings.Repeat("-", 4000) + "1",
		strings.Repeat("not ", 1000) + "1",
		strings.Repeat("1", 5000),
	} {
		if _, err := New(fake{}).Eval(t.Context(), expr); err == nil {
			t.Errorf("%.20q... has a value", expr)
		}
	}
	if v, err := New(fake{}).Eval(t.Context(), strings.Repeat("1+", 2000)+"1"); v != 2001 || err != nil {
		t.Errorf("a long sum: %#x, %v", v, err)
	}
}

func FuzzEval(f *testing.F) {
	for _, expr := range []string{
		"nt!Foo+0x10", "poi(@$thread)*2", "1<<3|'A'", `@!"a b"`, "not hi low by(1000)", "$vvalid(1,2)", "0n99", "a`b", "((((", ".", "@$",
	} {
		f.Add(expr)
	}
	f.Fuzz(func(t *testing.T, expr string) {
		v, err := New(fake{}).Eval(t.Context(), expr)
		if err != nil {
			if v != 0 {
				t.Fatalf("%q: value %#x with error %v", expr, v, err)
			}
			_ = err.Error()
			return
		}
		if again, err := New(fake{}).Eval(t.Context(), "("+strings.TrimSpace(expr)+")"); len(expr) < maxLength-2 && (err != nil || again != v) {
			var se *SyntaxError
			if !errors.As(err, &se) || se.Why != "nested too deep" {
				t.Fatalf("%q is %#x, in parentheses %#x, %v", expr, v, again, err)
			}
		}
	})
}

func BenchmarkEval(b *testing.B) {
	e := New(fake{})
	const expr = "nt!Foo+(poi(1000)&0n255)*8"
	b.ReportAllocs()
	b.SetBytes(int64(len(expr)))
	for b.Loop() {
		if _, err := e.Eval(b.Context(), expr); err != nil {
			b.Fatal(err)
		}
	}
}
