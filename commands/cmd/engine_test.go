package cmd

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"gokd/commands/report"
)

// blockSession is newSession with commands that run blocks: "block { }" once,
// "loop { }" three times, and the jumps.
func blockSession(t *testing.T) (*Session, *bytes.Buffer) {
	t.Helper()
	s, b := newSession(t)
	rest := []Arg{{Name: "text", Kind: KindRest, Optional: true, Doc: "text"}}
	add := func(name string, run func(context.Context, *Session, Args, report.Sink) error) *Command {
		c := &Command{Name: name, Group: GroupScript, Summary: "do", Help: "Does.", Args: rest, Run: run}
		c.Block = strings.HasPrefix(name, "block") || strings.HasPrefix(name, "loop")
		return c
	}
	inside := func(raw string) (from, to int) {
		return strings.IndexByte(raw, '{') + 1, strings.LastIndexByte(raw, '}')
	}
	again := 0
	line := add("line", func(_ context.Context, s *Session, in Args, out report.Sink) error {
		return out.Emit(report.Textf("%s\n", in.Raw))
	})
	line.Cut = lineEnd
	tab, err := NewTable(append(s.Commands.All(),
		add("block", func(ctx context.Context, s *Session, in Args, _ report.Sink) error {
			from, to := inside(in.Raw)
			return s.RunBlock(ctx, in.Raw, from, to)
		}),
		add("loop", func(ctx context.Context, s *Session, in Args, _ report.Sink) error {
			from, to := inside(in.Raw)
			for range 3 {
				if done, err := s.Round(ctx, in.Raw, from, to); done {
					return err
				}
			}
			return nil
		}),
		line,
		add("as", func(_ context.Context, s *Session, in Args, _ report.Sink) error {
			name, text := cutWord(in.Raw)
			s.Aliases.Set(name, strings.TrimSpace(text))
			return nil
		}),
		add("break", func(_ context.Context, s *Session, _ Args, _ report.Sink) error { return s.Break() }),
		add("continue", func(_ context.Context, s *Session, _ Args, _ report.Sink) error { return s.Continue() }),
		add("leave", func(_ context.Context, s *Session, _ Args, _ report.Sink) error { return s.Leave() }),
		add("twice", func(_ context.Context, s *Session, _ Args, _ report.Sink) error {
			if again++; again%2 == 1 {
				return s.Again()
			}
			return nil
		}),
		add("set", func(ctx context.Context, s *Session, in Args, _ report.Sink) error {
			ok, err := s.Assign(ctx, in.Raw)
			if !ok && err == nil {
				err = errors.New("no assignment")
			}
			return err
		}),
	)...)
	if err != nil {
		t.Fatal(err)
	}
	s.Commands = tab
	return s, b
}

func TestBlocks(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct{ name, line, want string }{
		{"a block", "block { say a; say b }; say c", "a\nb\nc\n"},
		{"glued", "block{say a}", "a\n"},
		{"over lines", "block {\n say a\n say b }\nsay c", "a\nb\nc\n"},
		{"an unclosed quote ends with its line", "block {\n say it\"s\n say b\n}", "it\"s\nb\n"},
		{"inside another", "block { block { say a }; say b }", "a\nb\n"},
		{"a failure ends all", "block { fail; say a }; say b", "failed\n"},
		{"a failure is shown once", "block { block { block { fail } } }", "failed\n"},
		{"a loop", "loop { say a }", "a\na\na\n"},
		{"break", "loop { say a; break; say b }; say c", "a\nc\n"},
		{"break from a block", "loop { block { break }; say b }; say c", "c\n"},
		{"break ends the inner loop", "loop { loop { say a; break }; say b; break }", "a\nb\n"},
		{"continue", "loop { say a; continue; say b }", "a\na\na\n"},
		{"break outside", "break; say a", "'.break' stands in no loop\n"},
		{"continue outside", "continue", "'.continue' stands in no loop\n"},
		{"leave outside", "leave", "'.leave' stands in no .catch block\n"},
		{"leave", ".catch { say a; leave; say b }; say c", "a\nc\n"},
		{"leave from a block", ".catch { block { leave }; say b }; say c", "c\n"},
		{"break through a catch", "loop { .catch { break }; say b }; say c", "c\n"},
		{"catch in a loop", "loop { .catch { fail; say b } }", "failed\nfailed\nfailed\n"},
		{"again", "say a; twice; say b", "a\na\nb\n"},
		{"again in a block", "say x; block { say a; twice }; say b", "x\na\na\nb\n"},
		{"again on its line", "say x\nsay a; twice\nsay b", "x\na\na\nb\n"},
		{"a stray brace", "} say a", "Syntax error at '} say a': no block is open that this brace closes\n"},
		{"a bare block", "{ say a }", "Syntax error at '{ say a }': a block follows a control flow token; .block { } only groups commands\n"},
		{"a cut of its own", "line a; b\nsay c", "a; b\nc\n"},
		{"a quote kept by a backslash", `say "a \"b; c\" d"; say e`, "\"a \\\"b; c\\\" d\"\ne\n"},
		{"a literal string", `say @"c:\dir\"; say e`, "@\"c:\\dir\\\"\ne\n"},
		{"braces in quotes", `block { say "} {"; say e }`, "\"} {\"\ne\n"},
		{"a comment", "$$ a { b; say c", "c\n"},
		{"a comment over lines", "block {\n$$ first\nsay a; * rest; say b\nsay c\n}", "a\nc\n"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			s, b := blockSession(t)
			_ = s.Execute(t.Context(), tt.line) // shown
			if d := cmp.Diff(tt.want, b.String()); d != "" {
				t.Errorf("(-want +got):\n%s", d)
			}
		})
	}
}

func TestBlocks_depth(t *testing.T) {
	t.Parallel()
	s, b := blockSession(t)
	line := strings.Repeat("block {", MaxBlockDepth+1) + "say a" + strings.Repeat("}", MaxBlockDepth+1)
	if err := s.Execute(t.Context(), line); err == nil || b.String() != "blocks stand in blocks more than 100 deep\n" {
		t.Errorf("error %v, text %q", err, b)
	}
	b.Reset()
	if err := s.Execute(t.Context(), "block { say a }"); err != nil || b.String() != "a\n" {
		t.Errorf("after it: error %v, text %q", err, b)
	}
}

func TestLoop_interrupt(t *testing.T) {
	t.Parallel()
	s, b := blockSession(t)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := s.Execute(ctx, "loop { say a }"); !errors.Is(err, ErrInterrupted) || b.String() != "interrupted\n" {
		t.Errorf("error %v, text %q", err, b)
	}
}

// TestScript_lines: a failure in blocks is told with the line of the command
// that failed, once.
func TestScript_lines(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct{ name, script, text, err string }{
		{"in a block", "say a\nblock {\n  say b\n  block {\n\n    fail\n  }\n}\nsay c", "a\nb\nfailed\n", "s:6: failed"},
		{"after a block", "block {\n say a\n}; fail", "a\nfailed\n", "s:3: failed"},
		{"in an inner script", "block {\n say a\n run inner\n}", "a\ni\nfailed\ninner:2: the script failed here\n", "s:3: inner:2: failed"},
		{"after again", "say a\n\nsay b; twice; fail", "a\nb\nb\nfailed\n", "s:3: failed"},
		{"a jump ends at the file", "loop {\n run jump\n}", "'.break' stands in no loop\njump:1: the script failed here\n", "s:2: jump:1: '.break' stands in no loop"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			s, b := blockSession(t)
			files(s, map[string]string{"s": tt.script, "inner": "say i\nfail", "jump": "break"})
			err := s.RunFile(t.Context(), "s", false)
			if d := cmp.Diff(tt.text, b.String()); d != "" {
				t.Errorf("text (-want +got):\n%s", d)
			}
			if d := cmp.Diff(tt.err, fmt.Sprint(err)); d != "" {
				t.Errorf("error (-want +got):\n%s", d)
			}
			var script *ScriptError
			if !errors.As(err, &script) || script.File != "s" {
				t.Errorf("error %#v is no *ScriptError of s", err)
			}
		})
	}
}

func TestScript_echo(t *testing.T) {
	t.Parallel()
	s, b := blockSession(t)
	files(s, map[string]string{"s": "say a; block {\n say b\n}\n\nsay c\nblock { say d\n say e }; say f"})
	if err := s.RunFile(t.Context(), "s", true); err != nil {
		t.Fatal(err)
	}
	want := "kd> say a; block {\n say b\n}\na\nb\nkd> say c\nc\nkd> block { say d\n say e }; say f\nd\ne\nf\n"
	if d := cmp.Diff(want, b.String()); d != "" {
		t.Errorf("(-want +got):\n%s", d)
	}
}

// TestScript_aliases: a file run as a block has its aliases replaced once, one
// that is run line by line at every line.
func TestScript_aliases(t *testing.T) {
	t.Parallel()
	const script = "as x one\nsay x\nblock { say x }\nblock {\nas x two\nsay x\nblock{ say ${x} }\n}"
	for _, tt := range []struct {
		echo bool
		want string
	}{
		{false, "x\none\none\ntwo\n"},
		{true, "one\none\none\ntwo\n"},
	} {
		s, b := blockSession(t)
		files(s, map[string]string{"s": script})
		if err := s.RunFile(t.Context(), "s", tt.echo); err != nil {
			t.Fatal(err)
		}
		var got strings.Builder
		for l := range strings.Lines(b.String()) {
			if l = strings.TrimSpace(l); l == "x" || l == "one" || l == "two" {
				got.WriteString(l + "\n")
			}
		}
		if d := cmp.Diff(tt.want, got.String()); d != "" {
			t.Errorf("echo %v (-want +got):\n%s", tt.echo, d)
		}
	}
}

func TestExpand(t *testing.T) {
	t.Parallel()
	s := &Session{}
	s.Aliases.Set("name", "value")
	s.Aliases.Set("lines", "a\r\nb")
	s.Aliases.fixed[3] = "three"
	err := s.WithVariable("name", "inner", func() error {
		if got := s.expand("name"); got != "inner" {
			t.Errorf("in a loop: %q", got)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	for text, want := range map[string]string{
		"say name":                   "say value",
		"name":                       "value",
		"say name;name":              "say value;value",
		`say "name"`:                 `say "value"`,
		"names name1 (name) nt!name": "names name1 (name) nt!name",
		"Name":                       "Name",
		"(${name})${name}":           "(value)value",
		"${other} ${}":               "${other} ${}",
		"${/v:name}":                 "${/v:name}",
		"${/d:name}${/d:other}":      "10",
		"[${/f:name}${/f:other}]":    "[value]",
		"${/n:name} ${/n:other}":     "name ${/n:other}",
		"x${name}name name":          "xvaluename value",
		"${name":                     "${name",
		"$u3x$u4-$u":                 "threex-$u",
		"as name x; name":            "as name x; name",
		"as name x\nname":            "as name x\nvalue",
		";as name x":                 ";as value x",
		" al name":                   " al value",
		"al name":                    "al name",
		"assign name":                "assign value",
		"lines":                      "a\vb",
	} {
		if got := s.expand(text); got != want {
			t.Errorf("%q becomes %q, want %q", text, got, want)
		}
	}
}

// TestExpand_limit: aliases full of aliases must not fill the memory.
func TestExpand_limit(t *testing.T) {
	t.Parallel()
	s := &Session{}
	s.Aliases.Set("a", strings.Repeat("x", 1<<20))
	s.Aliases.fixed[0] = strings.Repeat("y", 1<<20)
	if n := len(s.expand(strings.Repeat("a ", 1000) + strings.Repeat("$u0", 1000))); n > 4*maxAliasText {
		t.Errorf("%d bytes", n)
	}
}

func TestReplaceTokens(t *testing.T) {
	t.Parallel()
	tokens := map[string]string{"@#Base": "1000", "@#BaseName": "nt", "": "never"}
	if got := ReplaceTokens("@#Base @#BaseName @#Other x@#Basey", tokens); got != "1000 nt @#Other x1000y" {
		t.Errorf("%q", got)
	}
}

func TestAssign(t *testing.T) {
	t.Parallel()
	s, b := blockSession(t)
	for _, tt := range []struct{ line, want string }{
		{"set $t0 = 5", ""},
		{"set $T19=10", ""},
		{"set @$t1 = 7", ""},
		{"set $extret = 9", ""},
		{"set $t20 = 1", "Bad register error in 'r $t20 = 1'\n    the user's variables are $t0 to $t19\n"},
		{"set $t1done = 0", "Bad register error in 'r $t1done = 0'\n    the user's variables are $t0 to $t19\n"},
		{"set $t0", "no assignment\n"},
		{"set rax = 5", "no assignment\n"},
		{"set $t0 == 5", "no assignment\n"},
		{"set $t0 = zz", "\"zz\" is no number\n"},
		{"set ? $t0 = 5", "no evaluator of C++ expressions\n"},
		{"r $.u1 = a; b ", ""},
		{"r$.u2=x", ""},
		{"r $.u12 = a", "Bad register error in 'r $.u12'\n    the fixed-name aliases are $.u0 to $.u9\n"},
		{"say $u1$u2", "a\nCouldn't resolve 'bx': no such command; did you mean bug? (.help lists the commands)\n"},
	} {
		b.Reset()
		_ = s.Execute(t.Context(), tt.line) // shown
		if d := cmp.Diff(tt.want, b.String()); d != "" {
			t.Errorf("%s (-want +got):\n%s", tt.line, d)
		}
	}
	for name, want := range map[string]uint64{"$t0": 5, "$t19": 0x10, "$t1": 7, "$t2": 0, "$extret": 9, "$p": 0} {
		if v, ok := s.Pseudo(name); !ok || v.Value != want {
			t.Errorf("%s is %#x, %v; want %#x", name, v.Value, ok, want)
		}
	}
	if _, ok := s.Pseudo("$t01"); ok {
		t.Error("$t01 is a variable")
	}
	if err := s.SetPseudo("$ip", 1); !errors.Is(err, ErrPseudo) {
		t.Errorf("$ip was set: %v", err)
	}
}

// sumEval evaluates sums of hexadecimal numbers, for arguments with blanks.
type sumEval struct{ hexEval }

func (e sumEval) Eval(ctx context.Context, expr string) (sum uint64, err error) {
	for _, word := range strings.FieldsFunc(expr, func(r rune) bool { return strings.ContainsRune("()+ ", r) }) {
		v, err := e.hexEval.Eval(ctx, word)
		if err != nil {
			return 0, err
		}
		sum += v
	}
	return sum, nil
}

func TestParseArgs_expressions(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		line        string
		addr, flags uint64
		word        string
	}{
		{"(1000 + 8) 7", 0x1008, 7, ""},
		{"1000 + 8 7 name", 0x1008, 7, "name"},
		{"1000 +8 7", 0x1008, 7, ""},
		{"1000+ 8 7", 0x1008, 7, ""},
		{"1000,7,name", 0x1000, 7, "name"},
		{"-v 1000+8", 0x1008, 0, ""},
		{"( 1000\n+ 8 ) 1", 0x1008, 1, ""},
		{"1000 1 *", 0x1000, 1, "*"},
	} {
		in, err := parseArgs(t.Context(), everyKind, tt.line, sumEval{})
		if err != nil || uint64(in.Addr("address")) != tt.addr || in.Uint("flags", 0) != tt.flags || in.Text("word") != tt.word {
			t.Errorf("%q: %#x, %#x, %q, %v", tt.line, uint64(in.Addr("address")), in.Uint("flags", 0), in.Text("word"), err)
		}
	}
}

func TestCutExpression(t *testing.T) {
	t.Parallel()
	for line, want := range map[string]string{
		"nt!X":                "nt!X",
		"poi(nt!X + 8) 7":     "poi(nt!X + 8)",
		"poi nt!X 7":          "poi nt!X",
		"nt!X -8":             "nt!X",
		"nt!X - 8 7":          "nt!X - 8",
		"a and b c":           "a and b",
		"a * b":               "a * b",
		"a == b c":            "a == b",
		`$spat("a b", "c") d`: `$spat("a b", "c")`,
		"a +":                 "a +",
		",":                   ",",
		"not not a b":         "not not a",
	} {
		if got, rest := cutExpression(line); got != want || got+rest != line {
			t.Errorf("%q: %q and %q, want %q", line, got, rest, want)
		}
	}
}

// TestJSON_blocks: every command inside a block has its end record, a jump is no
// failure, and the failure of a block is told to both.
func TestJSON_blocks(t *testing.T) {
	t.Parallel()
	s, _ := blockSession(t)
	var out, errs bytes.Buffer
	s.Out = NewJSONOutput(&out, &errs, report.Era19041)
	_ = s.Execute(t.Context(), "loop { say a; break }; block { fail }")
	type end struct {
		Command, Record, Error string
		OK                     bool
	}
	var got []end
	for line := range strings.Lines(out.String()) {
		var e end
		if err := json.Unmarshal([]byte(line), &e); err != nil {
			t.Fatalf("%s: %v", line, err)
		}
		got = append(got, e)
	}
	want := []end{
		{"say", "end", "", true}, {"break", "end", "", true}, {"loop", "end", "", true},
		{"fail", "end", "failed", false}, {"block", "end", "failed", false},
	}
	if d := cmp.Diff(want, got); d != "" {
		t.Errorf("(-want +got):\n%s", d)
	}
	if errs.String() != "failed\n" {
		t.Errorf("diagnostics %q", errs.String())
	}
}

func FuzzExpand(f *testing.F) {
	for _, text := range []string{"a ${b} c", "${/v:a}", "$u0$u", "as a b\na", "${", "a;a\"a\"", "\v"} {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		s := &Session{}
		s.Aliases.Set("a", "x\ny")
		got := s.expand(text)
		if strings.Count(got, "\n") != strings.Count(text, "\n") {
			t.Fatalf("%q becomes %q: other lines", text, got)
		}
	})
}
