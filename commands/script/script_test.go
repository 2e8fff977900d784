package script

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"io"
	"io/fs"
	"strings"
	"testing"
	"unicode/utf16"

	"github.com/google/go-cmp/cmp"

	"gokd/commands/cmd"
	"gokd/commands/masm"
	"gokd/commands/report"
	"gokd/commands/session"
	"gokd/model"
	"gokd/model/mem"
)

// memory is captured memory by address.
type memory map[mem.VA][]byte

// ReadVirtual reads inside one piece.
func (m memory) ReadVirtual(p []byte, at mem.VA) (int, error) {
	for base, b := range m {
		if at >= base && at < base+mem.VA(len(b)) {
			n := copy(p, b[at-base:])
			if n < len(p) {
				return n, &mem.Fault{Kind: mem.NotCaptured, VA: at + mem.VA(n)}
			}
			return n, nil
		}
	}
	return 0, &mem.Fault{Kind: mem.NotCaptured, VA: at}
}

func utf16Bytes(s string) []byte {
	var b []byte
	for _, u := range utf16.Encode([]rune(s)) {
		b = binary.LittleEndian.AppendUint16(b, u)
	}
	return b
}

// descriptor is an ANSI_STRING or UNICODE_STRING.
func descriptor(length uint16, at uint64) []byte {
	b := make([]byte, 16)
	binary.LittleEndian.PutUint16(b, length)
	binary.LittleEndian.PutUint16(b[2:], length+2)
	binary.LittleEndian.PutUint64(b[8:], at)
	return b
}

// testMemory: strings at 1000 (bytes) and 2000 (16-bit), their descriptors at
// 3000 and 4000, a list of three at 5000, bytes without an end at 6000.
var testMemory = memory{
	0x1000: []byte("narrow\x00more"),
	0x2000: append(utf16Bytes("wide ü"), 0, 0, 'x', 0),
	0x3000: descriptor(4, 0x1000),
	0x4000: descriptor(8, 0x2000),
	0x5000: binary.LittleEndian.AppendUint64(nil, 0x5100),
	0x5100: binary.LittleEndian.AppendUint64(nil, 0x5200),
	0x5200: binary.LittleEndian.AppendUint64(nil, 0x5000),
	0x6000: []byte("endless"),
	0x7000: descriptor(8, 0x9999),
}

// newSession gives a session over memory without a kernel in it. r is what of it
// concerns no processor.
func newSession(t testing.TB, files map[string]string) (*cmd.Session, *bytes.Buffer) {
	t.Helper()
	r := &cmd.Command{
		Name: "r", Group: cmd.GroupThread, Summary: "assign", Help: "Assigns.",
		Args: []cmd.Arg{{Name: "text", Kind: cmd.KindRest, Doc: "text"}},
		Run: func(ctx context.Context, s *cmd.Session, in cmd.Args, _ report.Sink) error {
			ok, err := s.Assign(ctx, in.Raw)
			if !ok && err == nil {
				err = errors.New("no assignment")
			}
			return err
		},
	}
	fail := &cmd.Command{
		Name: "fail", Group: cmd.GroupSession, Summary: "fail", Help: "Fails.",
		Run: func(context.Context, *cmd.Session, cmd.Args, report.Sink) error { return errors.New("failed") },
	}
	tab, err := cmd.NewTable(append(append(session.Commands(), Commands()...), r, fail)...)
	if err != nil {
		t.Fatal(err)
	}
	var b bytes.Buffer
	k := &model.Kernel{
		Space: mem.NewFlat(testMemory), Modules: &model.Modules{},
		Source: model.Source{Name: "/dumps/x.dmp", Machine: model.MachineX64},
	}
	s := &cmd.Session{Kernel: k, Commands: tab, Out: cmd.NewOutput(&b, report.Era19041, false)}
	s.Eval = masm.ForSession(s)
	s.OpenScript = func(name string) (io.ReadCloser, error) {
		text, ok := files[name]
		if !ok {
			return nil, &fs.PathError{Op: "open", Path: name, Err: fs.ErrNotExist}
		}
		return io.NopCloser(strings.NewReader(text)), nil
	}
	return s, &b
}

// run gives what lines print, one after the other.
func run(t *testing.T, files map[string]string, lines ...string) string {
	t.Helper()
	s, b := newSession(t, files)
	for _, l := range lines {
		_ = s.Execute(t.Context(), l) // shown
	}
	return b.String()
}

func TestControl(t *testing.T) {
	t.Parallel()
	for line, want := range map[string]string{
		".if (1) { .echo a } .else { .echo b }; .echo c":                              "a\nc\n",
		".if (0) { .echo a } .else { .echo b }; .echo c":                              "b\nc\n",
		".if(0){.echo a}.elsif(1){.echo b}.else{.echo c}":                             "b\n",
		".if (0) { .echo a } .elsif (0) { .echo b } .ELSE { .echo c }":                "c\n",
		".if (0) { .echo a } .elsif (0) { .echo b }; .echo c":                         "c\n",
		".if 1 == 1 { .echo a }":                                                      "a\n",
		".if (1) & (0) { .echo a } .else { .echo b }":                                 "b\n",
		".if (1)\n{\n.echo a\n}\n.else\n{\n.echo b\n}\n.echo c":                       "a\nc\n",
		".if (0);{ .echo a }; .else { .echo b }":                                      "Syntax error at '': a block { } is expected after the condition\n",
		".if (0) { .echo a }; .else { .echo b }":                                      "b\n",
		".if ($spat(\"{\", \"{\")) { .echo \"}\" }":                                   "}\n",
		".if (1) { .if (0) { .echo a } .else { .if (1) { .echo b } } }":               "b\n",
		".if (1) { .echo a":                                                           "Syntax error at '{ .echo a': this brace has no closing one: '}' is missing\n",
		".if":                                                                         ".if: (condition) { commands } [.elsif (condition) { commands }] [.else { commands }] missing\nusage: .if (condition) { commands } [.elsif (condition) { commands }] [.else { commands }]\n",
		".if (1) .echo a\n.echo b":                                                    "Syntax error at '.echo a': a block { } is expected after the condition\n",
		".if (1)\n.echo b":                                                            "Syntax error at '': a block { } is expected after the condition\n",
		".if (1":                                                                      "Syntax error at '(1': ')' is missing\n",
		".if () { .echo a }":                                                          "Syntax error at '()'",
		".if { .echo a }":                                                             ".if: (condition) { commands } [.elsif (condition) { commands }] [.else { commands }] missing\nusage: .if (condition) { commands } [.elsif (condition) { commands }] [.else { commands }]\n",
		".if (1) { .echo a } .echo b":                                                 "a\nb\n",
		".if (zork) { .echo a }; .echo b":                                             "Couldn't resolve error at 'zork)'",
		".else { .echo a }":                                                           "Syntax error at '.else': it follows the block of .if\n",
		".for (r $t0 = 0; @$t0 < 3; r $t0 = @$t0 + 1) { ? @$t0 }":                     "Evaluate expression: 0 = 00000000`00000000\nEvaluate expression: 1 = 00000000`00000001\nEvaluate expression: 2 = 00000000`00000002\n",
		".for (r $t0 = 0; @$t0 < 3; r $t0 = @$t0 + 1; r $t1 = @$t1 + 2) {}; ? @$t1":   "Evaluate expression: 6 = 00000000`00000006\n",
		".for (r $t0 = 0;; r $t0 = @$t0 + 1) { .if (@$t0 == 2) { .break }; .echo a }": "a\na\n",
		".for (r $t0 = 0; @$t0 < 4; r $t0 = @$t0 + 1) { .if (@$t0 & 1) .continue; .printf \"%d \", @$t0 }": "0 2 ",
		".for (r $t0 = 0; @$t0 < 3; r $t0 = @$t0 + 1) { fail; .echo a }; .echo b":                          "failed\n",
		".for (r $t0 = 0; @$t0 < 3) { .echo a }":                                                           "Syntax error at '(r $t0 = 0; @$t0 < 3) { .echo a }': two semicolons are expected between the parentheses: (command; condition; commands)\n",
		".for r $t0 = 0 { }":                                                                               "Syntax error at 'r $t0 = 0 { }': '(' is expected after .for\n",
		"r $t0 = 3; .while (@$t0 > 0) { .printf \"%d\", @$t0; r $t0 = @$t0 - 1 }":                          "321",
		"r $t0 = 5; .do { .printf \"%d\", @$t0; r $t0 = @$t0 + 1 } (@$t0 < 8); .echo":                      "567\n",
		".do { .echo a } (0)":                          "a\n",
		".do { .echo a }":                              "Syntax error: a condition is expected\n",
		".block { .echo a; .echo b }":                  "a\nb\n",
		".block .echo a":                               "Syntax error at '.echo a': a block { } is expected after .block\n",
		".catch { fail; .echo a }; .echo b":            "failed\nb\n",
		".catch { .echo a; .leave; .echo b }; .echo c": "a\nc\n",
		".catch { .if (1) .leave; .echo b }; .echo c":  "c\n",
		".while (1) { .catch { .break } }; .echo a":    "a\n",
		".break":                               "'.break' stands in no loop\n",
		".leave":                               "'.leave' stands in no .catch block\n",
		"j (1) '.echo a; .echo b' ; '.echo c'": "a\nb\n",
		"j (0) '.echo a; .echo b' ; '.echo c'; .echo d":                                             "c\n",
		"j 1 == 2 .echo a ; .echo b ; .echo c":                                                      "b\n",
		"j (0) '.echo a'; '.echo b;":                                                                "b\n",
		"j $spat(\"abc\", \"x*\") ; .echo b":                                                        "b\n",
		"j (1) ; .echo b":                                                                           "",
		"r@$t0=5;r$t1 =@$t0+1;.while(@$t1){.printf\"%i \",@$t1;r$t1=@$t1-3}":                        "6 3 ",
		"r @$t0 = 2; .while ((@$t0 & 0xffffffff) != 0) { .echo a; r @$t0 = @$t0 - 1; }":             "a\na\n",
		".if ($sicmp(\"AB\",\"ab\")=0) {.echo same} .else{.echo other}":                             "same\n",
		".if ($spat(@\"c:\\dir\\\", \"*dir*\")) { .printf \"\\\"}; {\\\"\\n\" } .else { .echo no }": "\"}; {\"\n",
		"r $t0 = 1, $t1 = 2 , @$t2=3; ? @$t0 + @$t1 + @$t2":                                         "Evaluate expression: 6 = 00000000`00000006\n",
		"r $t0 = 1, 2":    "Syntax error at ' 2': an assignment to a variable is expected after the comma\n",
		"r $t0 = 1 2":     "Syntax error at '2'\n    1 2\n      ^ an operator or the end is expected here\n",
		"j (0) '.echo a'": "",
		"r $t0 = @$t0 + 1; .printf \"%d\", @$t0; z(@$t0 < 3); .echo x": "123x\n",
	} {
		got := run(t, nil, line)
		switch {
		case strings.HasPrefix(want, "Couldn't"), want == "Syntax error at '()'":
			got = got[:min(len(got), len(want))]
			if want == "Syntax error at '()'" {
				want, got = "Syntax error at ", got[:min(len(got), 16)]
			}
		}
		if d := cmp.Diff(want, got); d != "" {
			t.Errorf("%s (-want +got):\n%s", line, d)
		}
	}
}

func TestForeach(t *testing.T) {
	t.Parallel()
	files := map[string]string{"list": "one two\r\nthree\t four\n"}
	for line, want := range map[string]string{
		".foreach (w { .echo a b; .echo c }) { .echo [ w ] ${w}! }":                           "[ a ] a!\n[ b ] b!\n[ c ] c!\n",
		".foreach(w{.echo a b}){.echo w}":                                                     "a\nb\n",
		".foreach /s (w \"a b  c\") { .echo w }":                                              "a\nb\nc\n",
		".foreach /f (w \"list\") { .echo w }":                                                "one\ntwo\nthree\nfour\n",
		".foreach /pS 1 /s (w \"a b c\") { .echo w }":                                         "b\nc\n",
		".foreach /pS 1 /ps 2 /s (w \"a b c d e f\") { .echo w }":                             "b\ne\n",
		".foreach /ps 1 /f (w \"list\") { .echo w }":                                          "one\nthree\n",
		".foreach /s (w \"a b c\") { .if ($scmp(\"${w}\", \"b\") == 0) { .break }; .echo w }": "a\n",
		".foreach /s (w \"1 2\") { .foreach /s (v \"x y\") { .echo w v } }":                   "1 x\n1 y\n2 x\n2 y\n",
		".foreach /s (w \"a\") { .echo wx (w) w; .echo nt!w }":                                "wx (w) a\nnt!w\n",
		".foreach /s (w \"a b\") { aS /x ${/v:n} 5; .block { .echo w n } }":                   "a 0x5\nb 0x5\n",
		".foreach (w { fail }) { .echo w }; .echo x":                                          "failed\n",
		".foreach (w { }) { .echo w }; .echo x":                                               "x\n",
		".foreach /f (w \"none\") { .echo w }":                                                "command file: open none: file does not exist\n",
		".foreach /x (w \"a\") { .echo w }":                                                   "Syntax error at '/x (w \"a\") { .echo w }': the options are /pS n, /ps n, /s and /f\n",
		".foreach w { .echo w }":                                                              "Syntax error at 'w { .echo w }': '(' is expected after .foreach\n",
		".foreach /s (w \"a) { .echo w }":                                                     "Syntax error at '\"a) { .echo w }': the closing quote is missing\n",
		".foreach (w { .echo a }) .echo w":                                                    "Syntax error at '.echo w': a block { } is expected after .foreach ( )\n",
		".foreach ({ .echo a }) { .echo w }":                                                  "Syntax error at '({ .echo a }) { .echo w }': a variable's name is expected first\n",
		".foreach /pS 1 (w { ? 5 }) { .echo w }":                                              "expression:\n5\n=\n00000000`00000005\n",
	} {
		if d := cmp.Diff(want, run(t, files, line)); d != "" {
			t.Errorf("%s (-want +got):\n%s", line, d)
		}
	}
}

func TestPrintf(t *testing.T) {
	t.Parallel()
	for line, want := range map[string]string{
		`.printf "a\tb\n"`:                                                      "a\tb\n",
		`.printf "\"q\" \\ 100%%\n"`:                                            "\"q\" \\ 100%\n",
		`.printf"%d", 10`:                                                       "16",
		`.printf "%d %i %u", -1, 0n5, ffffffff`:                                 "-1 5 4294967295",
		`.printf "%x %X %#x %#X %o %#o", ab, ab, ab, ab, 8, 8`:                  "ab AB 0xab 0XAB 10 010",
		`.printf "%x", 0x1122334455667788`:                                      "55667788",
		`.printf "%I64x %I64d %llu", 0x1122334455667788, -1, -1`:                "1122334455667788 -1 18446744073709551615",
		`.printf "%hx %hd", 0x12345, 0xffff`:                                    "2345 -1",
		`.printf "[%5d][%-5d][%05d][%+d][% d][%.3d]", 1, 2, 3, 4, 5, 6`:         "[    1][2    ][00003][+4][ 5][006]",
		`.printf "[%08x][%#10x][%#010x][%-8x]", 1, 2, 3, 4`:                     "[00000001][       0x2][0x00000003][4       ]",
		`.printf "[%05d][%5d]", -1, -1`:                                         "[-0001][   -1]",
		`.printf "%p %N %I %I", 1234, abcd, abcd, 0x100000000`:                  "0000000000001234 000000000000ABCD 0000abcd 00000001`00000000",
		`.printf "%c%c%C", 41, 'b', e9`:                                         "Abé",
		`.printf "%ma|%mu|%msa|%msu|%s|%S", 1000, 2000, 3000, 4000, 1000, 2000`: "narrow|wide ü|narr|wide|narrow|wide ü",
		`.printf "[%10ma][%-10mu][%.3ma]", 1000, 2000, 1000`:                    "[    narrow][wide ü    ][nar]",
		`.printf "%ma", 6000`:                                                   "endless",
		`.printf "%y %ly", 1234, 5`:                                             "00000000`00001234 00000000`00000005",
		`.printf "%f %.2f %e %g %lf %.1lf", 3fc00000, 3fc00000, 3fc00000, 3fc00000, 3ff8000000000000, 3ff8000000000000`: "1.500000 1.50 1.500000e+000 1.5 1.500000 1.5",
		`.printf /D "<link cmd=\"x\">a</link> &lt;%d&gt;\n", 1`:                                                         "a <1>\n",
		`.printf /od "a"`:                         "a",
		`.printf /oD /D "<b>a</b>"`:               "a",
		`.printf "a;b"; .echo c`:                  "a;bc\n",
		`.printf "a\";b"; .echo c`:                "a\";bc\n",
		`.printf "%d", poi(5000) == 5100 ; .echo`: "1\n",
		`.printf "%d", (1 + 2), 3, zork`:          "3",
		`.printf "%d %d", 1`:                      ".printf: the value for %d is missing\n",
		`.printf "%d" 1`:                          ".printf: a comma is expected before \"1\"\n",
		`.printf "%q", 1`:                         ".printf: unknown conversion \"%q\"\n",
		`.printf "%"`:                             ".printf: unknown conversion \"%\"\n",
		`.printf "%9999d", 1`:                     ".printf: width 9999: at most 1024\n",
		`.printf "%ma", 0`:                        ".printf: %ma of 0x0: 0x0: page not in dump\n",
		`.printf "%msu", 7000`:                    ".printf: %msu of 0x7000: 0x9999: page not in dump\n",
		`.printf a`:                               ".printf: a format in quotes is expected\nusage: .printf [/D] \"text\" [, expression ...]\n",
		`.printf "a`:                              ".printf: the closing quote is missing\nusage: .printf [/D] \"text\" [, expression ...]\n",
		`.printf /q "a"`:                          ".printf: unknown switch /q\nusage: .printf [/D] \"text\" [, expression ...]\n",
		`.printf "\x1b[2J"`:                       "x1b[2J",
		`.printf "%c", 1b`:                        `\x1b`,
	} {
		if d := cmp.Diff(want, run(t, nil, line)); d != "" {
			t.Errorf("%s (-want +got):\n%s", line, d)
		}
	}
}

func TestEcho(t *testing.T) {
	t.Parallel()
	for line, want := range map[string]string{
		".echo a, 'b'  c; .echo d": "a, 'b'  c\nd\n",
		`.echo "a; b"; .echo c`:    "a; b\nc\n",
		`.echo a "b; .echo c`:      "a \"b\nc\n",
		".echo":                    "\n",
		`.echo "a`:                 "\"a\n",
		"!echo a":                  "a\n",
	} {
		if d := cmp.Diff(want, run(t, nil, line)); d != "" {
			t.Errorf("%s (-want +got):\n%s", line, d)
		}
	}
}

func TestAliases(t *testing.T) {
	t.Setenv("GOKD_TEST_ALIAS", "from outside")
	files := map[string]string{"text": "line one\nline two"}
	for _, tt := range []struct {
		name  string
		lines []string
		want  string
	}{
		{"none", []string{"al"}, "No aliases\n"},
		{"the rest of the line", []string{"as x .echo a; .echo b", "x", "al"}, "a\nb\n  Alias            Value  \n -------          ------- \n x                .echo a; .echo b \n"},
		{"a phrase", []string{"aS x a b ; .echo ${x}", ".echo ${x}"}, "${x}\na b\n"},
		{"a phrase in quotes", []string{`aS x "a; b"`, `.echo "${x}"`}, "a; b\n"},
		{"a value", []string{"aS /x n 5 + 1; .block { .echo n }"}, "0x6\n"},
		{"as with a value ends, too", []string{"as /x n 5 + 1; .block { .echo n }"}, "0x6\n"},
		{"not before the next block", []string{"aS /x n 5 + 1; .echo n"}, "n\n"},
		{"strings", []string{"as /ma a 1000", "as /mu b 2000", "as /msa c 3000", "as /msu d 4000", ".echo a b c d"}, "narrow wide ü narr wide\n"},
		{"a string that is missing", []string{"as /ma a 0"}, "0x0: page not in dump\n"},
		{"the environment", []string{"as /e v GOKD_TEST_ALIAS", ".echo v"}, "from outside\n"},
		{"no such variable", []string{"as /e v GOKD_TEST_NONE"}, "the environment has no variable \"GOKD_TEST_NONE\"\n"},
		{"a file", []string{"aS /f t text", ".echo t", ".foreach /s (w \"${t}\") { .printf \"${w},\" }"}, "line one\nline two\nline,one,line,two,"},
		{"commands", []string{"as /c c .echo 1; .echo 2", `.if ($spat("${c}", "*2*")) { .echo found }`}, "found\n"},
		{"changed", []string{"as x 1", "as x 2", ".echo x"}, "2\n"},
		{"case counts", []string{"as x 1", ".echo X x"}, "X 1\n"},
		{"deleted", []string{"as x 1", "ad x", ".echo x", "ad x", "ad /q x"}, "x\nno alias is named 'x'; al lists them\n"},
		{"all deleted", []string{"as x 1", "as y 2", "ad *", "al"}, "No aliases\n"},
		{"its own name kept", []string{"as x 1", "as ${/v:x} 2", ".echo x", "ad ${/v:x}", ".echo x"}, "2\nx\n"},
		{"as is left as it is", []string{"as x 1", "as y x", ".echo y", ";as z x", ".echo z"}, "x\n1\n"},
		{"fixed names", []string{"r $.u2=2", "r $.u1=1+$u2", "r $.u2=6", "? $u1"}, "Evaluate expression: 3 = 00000000`00000003\n"},
		{"a user's name in a fixed one", []string{"as fred 2", "r $.u1= 1 + fred", "as fred 6", "? $u1"}, "Evaluate expression: 3 = 00000000`00000003\n"},
		{"a fixed name in itself", []string{"r $.u0=2", "r $.u0=7+$u0", "? $u0"}, "Evaluate expression: 9 = 00000000`00000009\n"},
		{"automatic", []string{".echo ${$ntnsym} ${$CurrentDumpFile} ${$CurrentDumpPath}"}, "nt x.dmp /dumps\n"},
		{"as in a loop", []string{".foreach /s (Token \"5\") {as y Token}", ".echo y", "ad y", ".foreach /s (Token \"5\") {;as y Token}", ".echo y"}, "Token\n5\n"},
		{"a reserved name", []string{"as al 5"}, "al is the name of a command on aliases\n"},
		{"no name", []string{"as"}, "as: [/switch] name text missing\nusage: as [/switch] name text\n"},
		{"unknown switch", []string{"as /q x 1"}, "as: unknown switch /q\nusage: as [/switch] name text\n"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got := run(t, files, tt.lines...)
			if d := cmp.Diff(tt.want, got); d != "" {
				t.Errorf("(-want +got):\n%s", d)
			}
		})
	}
}
