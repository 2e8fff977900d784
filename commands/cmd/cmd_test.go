package cmd

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"gokd/commands/report"
	"gokd/model"
)

// hexEval evaluates hexadecimal numbers.
type hexEval struct{}

func (hexEval) Eval(_ context.Context, expr string) (v uint64, err error) {
	_, err = fmt.Sscanf(expr, "%x", &v)
	if err != nil {
		return 0, fmt.Errorf("%q is no number", expr)
	}
	return v, nil
}

func (h hexEval) EvalPrefix(ctx context.Context, text string) (uint64, string, error) {
	word, rest := cutWord(strings.TrimLeft(text, " \t"))
	v, err := h.Eval(ctx, word)
	return v, rest, err
}

var everyKind = &Command{
	Name: "!all", Aliases: []string{"every"}, Group: GroupSession, Summary: "take arguments", Help: "Takes one of each kind.",
	Args: []Arg{
		{Name: "verbose", Switch: "-v", Kind: KindSwitch, Optional: true, Doc: "more"},
		{Name: "tag", Switch: "-tag", Kind: KindTag, Optional: true, Doc: "a tag"},
		{Name: "time", Switch: "/t", Kind: KindCount, Optional: true, Doc: "seconds"},
		{Name: "address", Kind: KindAddr, Doc: "where"},
		{Name: "flags", Kind: KindFlags, Optional: true, Doc: "bits"},
		{Name: "word", Kind: KindWord, Optional: true, Doc: "a word"},
	},
	Run: func(context.Context, *Session, Args, report.Sink) error { return nil },
}

func TestParseArgs(t *testing.T) {
	t.Parallel()
	type want struct {
		Addr, Flags, Time uint64
		Verbose           bool
		Tag, Word         string
		Err               string
	}
	for _, tt := range []struct {
		line string
		want want
	}{
		{"1000", want{Addr: 0x1000}},
		{" 1000  7 name ", want{Addr: 0x1000, Flags: 7, Word: "name"}},
		{"-v 1000 -tag Leak", want{Addr: 0x1000, Verbose: true, Tag: "Leak"}},
		{"1000 /V", want{Addr: 0x1000, Verbose: true}},
		{`-tag "Fo o" 1000 1 "a \"b\" \\c"`, want{Addr: 0x1000, Flags: 1, Tag: "Fo o", Word: `a "b" \c`}},
		{"/t20 1000", want{Addr: 0x1000, Time: 20}},
		{"-t 0x20 1000", want{Addr: 0x1000, Time: 0x20}},
		{"", want{Err: "!all: address missing: where"}},
		{"1000 1 a b", want{Err: `!all: unexpected argument "b"`}},
		{"-w 1000", want{Err: "!all: unknown switch -w"}},
		{"1000 -tag", want{Err: "!all: -tag needs a value: a tag"}},
		{`1000 "x`, want{Err: `!all: missing closing quote`}},
		{"zz", want{Err: `!all: address: "zz" is no number`}},
		{"/tx 1000", want{Err: `!all: address: "/tx" is no number`}},
	} {
		t.Run(tt.line, func(t *testing.T) {
			t.Parallel()
			in, err := parseArgs(t.Context(), everyKind, tt.line, hexEval{})
			got := want{
				Addr: uint64(in.Addr("address")), Flags: in.Uint("flags", 0), Time: in.Uint("time", 0),
				Verbose: in.Has("verbose"), Tag: in.Text("tag"), Word: in.Text("word"),
			}
			if err != nil {
				var usage *UsageError
				if !errors.As(err, &usage) || !strings.HasPrefix(err.Error(), tt.want.Err) || tt.want.Err == "" {
					t.Fatalf("error %q, want one of usage that begins %q", err, tt.want.Err)
				}
				return
			}
			if d := cmp.Diff(tt.want, got); d != "" {
				t.Errorf("(-want +got):\n%s", d)
			}
		})
	}
}

func TestClosest(t *testing.T) {
	t.Parallel()
	names := []string{"_EPROCESS", "_KPROCESS", "_ETHREAD", "_KTHREAD", "_E", "OBJECT"}
	for name, want := range map[string][]string{
		"_EPROCES":  {"_EPROCESS", "_KPROCESS"},
		"eprocess":  {"_EPROCESS", "_KPROCESS"},
		"_ETHRAED":  {"_ETHREAD"},
		"OBJECTS":   {"OBJECT"},
		"_NOTHING":  nil,
		"E":         nil,
		"_EPROCESS": {"_EPROCESS", "_KPROCESS"},
	} {
		if d := cmp.Diff(want, Closest(name, names, 2), cmpopts.EquateEmpty()); d != "" {
			t.Errorf("%s (-want +got):\n%s", name, d)
		}
	}
}

func TestUsage(t *testing.T) {
	t.Parallel()
	want := "!all [-v] [-tag tag] [/t time] address [flags [word]]"
	if got := everyKind.Usage(); got != want {
		t.Errorf("usage %q, want %q", got, want)
	}
}

func TestNewTable_refuses(t *testing.T) {
	t.Parallel()
	good := func(change func(*Command)) *Command {
		c := *everyKind
		change(&c)
		return &c
	}
	for name, list := range map[string][]*Command{
		"a name twice":              {everyKind, good(func(*Command) {})},
		"an alias that is a name":   {everyKind, good(func(c *Command) { c.Name, c.Aliases = "other", []string{"!ALL"} })},
		"no help":                   {good(func(c *Command) { c.Help = "" })},
		"no body":                   {good(func(c *Command) { c.Run = nil })},
		"a blank in the name":       {good(func(c *Command) { c.Name = "a b" })},
		"an argument twice":         {good(func(c *Command) { c.Args = append(c.Args[:1:1], c.Args[0]) })},
		"required after optional":   {good(func(c *Command) { c.Args = []Arg{c.Args[5], c.Args[3]} })},
		"a switch without spelling": {good(func(c *Command) { c.Args = []Arg{{Name: "x", Kind: KindSwitch, Doc: "x"}} })},
	} {
		if _, err := NewTable(list...); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
}

// TestFind_case: a command whose case counts stands beside one of the other case.
func TestFind_case(t *testing.T) {
	t.Parallel()
	named := func(name string, exact bool) *Command {
		c := *everyKind
		c.Name, c.Aliases, c.Prefix, c.Case = name, nil, true, exact
		return &c
	}
	tab, err := NewTable(named("dd", false), named("dD", true), named("d", false))
	if err != nil {
		t.Fatal(err)
	}
	for line, want := range map[string]string{"dd 1": "dd", "dD 1": "dD", "DD 1": "dd", "Dd": "dd", "dD@rsp": "dD", "dd@rsp": "dd", "d": "d"} {
		c, _, ok := tab.Find(line)
		if !ok || c.Name != want {
			t.Errorf("%s: found %v, want %s", line, c, want)
		}
	}
	if c, ok := tab.Lookup("dD"); !ok || c.Name != "dD" {
		t.Errorf("Lookup(dD) gives %v", c)
	}
	if _, err := NewTable(named("dD", true), named("dD", true)); err == nil {
		t.Error("a name twice: no error")
	}
}

// newSession gives a session with a few commands that tell what they do.
func newSession(t *testing.T) (*Session, *bytes.Buffer) {
	t.Helper()
	say := func(_ context.Context, _ *Session, in Args, out report.Sink) error {
		return out.Emit(report.Text(in.Raw + "\n"))
	}
	rest := []Arg{{Name: "text", Kind: KindRest, Optional: true, Doc: "text"}}
	simple := func(name string, run func(context.Context, *Session, Args, report.Sink) error) *Command {
		return &Command{Name: name, Group: GroupSession, Summary: "do", Help: "Does.", Args: rest, Run: run}
	}
	whole := simple("whole", say)
	whole.Line = true
	glued := simple("=", say)
	glued.Prefix = true
	kernel := simple("kernel", say)
	kernel.Needs = NeedKernel
	catch := simple(".catch", func(ctx context.Context, s *Session, in Args, _ report.Sink) error {
		return s.Catch(ctx, strings.Trim(in.Raw, "{}"), 0)
	})
	catch.Block = true
	quit := simple("q", func(_ context.Context, s *Session, _ Args, _ report.Sink) error { s.Quit = true; return nil })
	quit.NoEnd = true
	tab, err := NewTable(
		simple("say", say), whole, glued, kernel, quit,
		simple("fail", func(context.Context, *Session, Args, report.Sink) error { return errors.New("failed") }),
		simple("bug", func(context.Context, *Session, Args, report.Sink) error { var p *int; *p = 1; return nil }),
		simple("wait", func(ctx context.Context, _ *Session, _ Args, _ report.Sink) error { <-ctx.Done(); return ctx.Err() }),
		simple("run", func(ctx context.Context, s *Session, in Args, _ report.Sink) error {
			return s.RunFile(ctx, in.Raw, false)
		}),
		catch,
	)
	if err != nil {
		t.Fatal(err)
	}
	var b bytes.Buffer
	return &Session{Commands: tab, Out: NewOutput(&b, report.Era19041, false), Eval: hexEval{}}, &b
}

func TestExecute(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name, line, want string
		keepGoing, fails bool
	}{
		{name: "one", line: "say a", want: "a\n"},
		{name: "several", line: " say a ; say b;;", want: "a\nb\n"},
		{name: "a semicolon in quotes", line: `say "a;b";say c`, want: "\"a;b\"\nc\n"},
		{name: "upper case", line: "SAY a", want: "a\n"},
		{name: "a line comment", line: "* say a; say b", want: ""},
		{name: "a comment", line: "$$ say a; say b", want: "b\n"},
		{name: "a whole line", line: "whole a; say b", want: "a; say b\n"},
		{name: "glued", line: "=1;= 2", want: "1\n2\n"},
		{name: "stops", line: "fail; say b", want: "failed\n", fails: true},
		{name: "keeps going", line: "fail; say b", want: "failed\nb\n", keepGoing: true, fails: true},
		{name: "catches", line: ".catch {fail; say a}; say b", want: "failed\nb\n"},
		{name: "a brace elsewhere", line: "say {a; say b", want: "{a\nb\n"},
		{name: "ends", line: "q; say a", want: ""},
		{name: "a command of kd's", line: "G 5", want: "Couldn't resolve 'G': no such command; a dump is a machine that stands still: nothing in it runs, and gokd changes nothing\n", fails: true},
		{name: "an extension of kd's", line: "!stacks 1", want: "No export stacks found; !process 0 7 shows all threads with their stacks\n", fails: true},
		{name: "unknown", line: "sya a", want: "Couldn't resolve 'sya': no such command; did you mean say? (.help lists the commands)\n", fails: true},
		{name: "unknown extension", line: "!zork", want: "No export zork found (.help lists the commands)\n", fails: true},
		{name: "no dump", line: "kernel", want: "kernel: not possible here: no dump is open\n", fails: true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			s, b := newSession(t)
			s.KeepGoing = tt.keepGoing
			err := s.Execute(t.Context(), tt.line)
			if d := cmp.Diff(tt.want, b.String()); d != "" {
				t.Errorf("(-want +got):\n%s", d)
			}
			if (err != nil) != tt.fails || s.Failed != tt.fails {
				t.Errorf("error %v, failed %v; want failure %v", err, s.Failed, tt.fails)
			}
		})
	}
}

func TestExecute_bug(t *testing.T) {
	t.Parallel()
	s, b := newSession(t)
	if err := s.Execute(t.Context(), "bug"); err == nil || !strings.HasPrefix(b.String(), "bug: internal error: ") || !strings.Contains(b.String(), "cmd_test.go") {
		t.Errorf("error %v, text %q: want the bug with its place", err, b)
	}
	if err := s.Execute(t.Context(), "say on"); err != nil {
		t.Error("the session does not go on after a bug")
	}
}

func TestExecute_interrupt(t *testing.T) {
	t.Parallel()
	s, b := newSession(t)
	s.KeepGoing = true
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := s.Execute(ctx, "wait; say b"); !errors.Is(err, ErrInterrupted) || b.String() != "interrupted\n" {
		t.Errorf("error %v, text %q", err, b)
	}
}

func TestNeedKernel(t *testing.T) {
	t.Parallel()
	s, b := newSession(t)
	s.Kernel = &model.Kernel{Build: 12345, Source: model.Source{Machine: model.MachineX64}}
	if err := s.Execute(t.Context(), "kernel"); !errors.Is(err, ErrNeed) || !strings.Contains(b.String(), "no layout of build 12345") {
		t.Errorf("error %v, text %q", err, b)
	}
	s.Kernel.Source.Machine = model.MachineARM64
	b.Reset()
	if err := s.Execute(t.Context(), "kernel"); !errors.Is(err, ErrNeed) || !strings.Contains(b.String(), "ARM64") {
		t.Errorf("error %v, text %q", err, b)
	}
}

// files lets a session read scripts from memory.
func files(s *Session, list map[string]string) {
	s.OpenScript = func(name string) (io.ReadCloser, error) {
		text, ok := list[name]
		if !ok {
			return nil, &fs.PathError{Op: "open", Path: name, Err: fs.ErrNotExist}
		}
		return io.NopCloser(strings.NewReader(text)), nil
	}
}

func TestRunFile(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name, script, want, err string
		keepGoing, echo         bool
	}{
		{name: "lines", script: "\ufeffsay a\r\n\r\n* comment {\nsay b", want: "a\nb\n"},
		{name: "echo", script: "say a\n\nsay b", echo: true, want: "kd> say a\na\nkd> say b\nb\n"},
		{name: "stops", script: "say a\nfail\nsay b", want: "a\nfailed\n", err: "s:2: failed"},
		{name: "keeps going", script: "fail\nsay b\nfail", keepGoing: true, want: "failed\nb\nfailed\n", err: "s:1: failed\ns:3: failed"},
		{name: "a block over lines", script: ".catch {\n say a\n fail\n say b\n}\nsay c", want: "a\nfailed\nc\n"},
		{name: "nested", script: "run inner\nsay a", want: "i\nfailed\ninner:2: the script failed here\n", err: "s:1: inner:2: failed"},
		{name: "missing", script: "run nothing", want: "command file: open nothing: file does not exist\n", err: "s:1: command file: open nothing: file does not exist"},
		{name: "ends", script: "say a\nq\nsay b", want: "a\n"},
		{name: "arguments", script: "say ${$arg1} ${$arg2}", want: "one ${$arg2}\n"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			s, b := newSession(t)
			s.KeepGoing = tt.keepGoing
			files(s, map[string]string{"s": tt.script, "inner": "say i\nfail"})
			err := s.RunFileArgs(t.Context(), "s", tt.echo, []string{"one"})
			if d := cmp.Diff(tt.want, b.String()); d != "" {
				t.Errorf("text (-want +got):\n%s", d)
			}
			got := ""
			if err != nil {
				got = err.Error()
			}
			if d := cmp.Diff(tt.err, got); d != "" {
				t.Errorf("error (-want +got):\n%s", d)
			}
		})
	}
}

func TestRunFile_endless(t *testing.T) {
	t.Parallel()
	s, b := newSession(t)
	files(s, map[string]string{"s": "run s"})
	err := s.RunFile(t.Context(), "s", false)
	if want := "s: scripts run scripts more than 32 deep\ns:1: the script failed here\n"; err == nil || b.String() != want {
		t.Errorf("error %v, text %q, want %q", err, b, want)
	}
}

// TestJSON_ends holds every line to one end record, a script's own after those
// of its lines, and q to none.
func TestJSON_ends(t *testing.T) {
	t.Parallel()
	s, _ := newSession(t)
	var out, errs bytes.Buffer
	s.Out = NewJSONOutput(&out, &errs, report.Era19041)
	s.KeepGoing = true
	files(s, map[string]string{"s": "say a\nfail"})
	_ = s.Execute(t.Context(), "run s; zork 1; fail; q") // told by the records
	type end struct {
		Command, Args, Record, Error string
		OK                           bool
	}
	var got []end
	for _, line := range strings.Split(strings.TrimSpace(out.String()), "\n") {
		var e end
		if err := json.Unmarshal([]byte(line), &e); err != nil {
			t.Fatalf("%s: %v", line, err)
		}
		got = append(got, e)
	}
	want := []end{
		{"say", "a", "end", "", true},
		{"fail", "", "end", "failed", false},
		{"run", "s", "end", "s:2: failed", false},
		{"zork", "1", "end", "Couldn't resolve 'zork': no such command (.help lists the commands)", false},
		{"fail", "", "end", "failed", false},
	}
	if d := cmp.Diff(want, got); d != "" {
		t.Errorf("(-want +got):\n%s", d)
	}
	if !strings.HasPrefix(errs.String(), "failed\ns:2: the script failed here\n") {
		t.Errorf("diagnostics %q", errs.String())
	}
}

func TestLog(t *testing.T) {
	t.Parallel()
	s, _ := newSession(t)
	name := t.TempDir() + "/log"
	if err := s.Out.OpenLog(name, false); err != nil {
		t.Fatal(err)
	}
	s.Out.LogInput(s.Prompt() + "say a")
	_ = s.Execute(t.Context(), "say a; fail")
	if err := s.Out.CloseLog(); err != nil {
		t.Fatal(err)
	}
	if err := s.Out.OpenLog(name, true); err != nil {
		t.Fatal(err)
	}
	_ = s.Execute(t.Context(), "say b")
	if err := s.Out.CloseLog(); err != nil {
		t.Fatal(err)
	}
	text, err := readAll(name)
	if d := cmp.Diff("kd> say a\na\nfailed\nb\n", text); err != nil || d != "" {
		t.Errorf("%v (-want +got):\n%s", err, d)
	}
	if err := s.Out.OpenLog(t.TempDir(), false); err == nil {
		t.Error("a folder was opened as a log")
	}
}

func readAll(name string) (string, error) {
	s := &Session{}
	return s.ReadText(name)
}

func TestCached(t *testing.T) {
	t.Parallel()
	s := &Session{}
	type key struct{}
	calls := 0
	for range 2 {
		v, err := Cached(s, key{}, func() (int, error) { calls++; return 7, nil })
		if v != 7 || err != nil {
			t.Fatal(v, err)
		}
	}
	if calls != 1 {
		t.Errorf("made %d times", calls)
	}
}

func FuzzExecute(f *testing.F) {
	for _, line := range []string{"say a;fail", `say "`, ".catch {say a", "$$ x", "*", "=;;=", "q", "whole ;", "-\x00"} {
		f.Add(line)
	}
	f.Fuzz(func(t *testing.T, line string) {
		s, _ := newSession(t)
		files(s, nil)
		ctx, cancel := context.WithCancel(t.Context())
		cancel() // "wait" ends
		_ = s.Execute(ctx, line)
		_ = s.runLines(ctx, line)
		_, _ = parseArgs(ctx, everyKind, line, hexEval{})
	})
}
