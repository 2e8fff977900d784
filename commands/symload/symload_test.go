package symload

import (
	"errors"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"gokd/commands/cmd"
	"gokd/commands/report"
	"gokd/model"
	"gokd/model/types"
	"gokd/model/types/sympath"
)

func TestParseRequest(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]request{
		"":                  {},
		"/f":                {force: true},
		"-F nt":             {force: true, module: "nt"},
		"/i /o Ntfs.sys":    {force: true, ignore: true, overwrite: true, module: "Ntfs.sys"},
		"nt /u":             {unload: true, module: "nt"},
		"/n /v /w":          {kernelOnly: true, verbose: true, literal: true},
		"/user":             {userOnly: true},
		"/d /s /l /unl":     {list: true, unloaded: true},
		`/f "a driver.sys"`: {force: true, module: "a driver.sys"},
	} {
		got, err := parseRequest(text)
		if err != nil {
			t.Errorf(".reload %s: %v", text, err)
		}
		if d := cmp.Diff(want, got, cmp.AllowUnexported(request{})); d != "" {
			t.Errorf(".reload %s (-want +got):\n%s", text, d)
		}
	}
	for text, want := range map[string]string{
		"/x": "unknown option /x", "/": "unknown option /", "a b": `one module at a time; "b" follows "a"`,
		`"a`: `missing closing quote in "\"a"`, "nt=1,2": "nt: modules can't be added: gokd shows only those that the dump knows",
	} {
		if _, err := parseRequest(text); err == nil || err.Error() != want {
			t.Errorf(".reload %s: error %v, want %s", text, err, want)
		}
	}
}

func TestCutPath(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		raw, path string
		add       bool
		after     string
	}{
		{"", "", false, ""}, {"+", "", true, ""}, {"a;b", "a;b", false, ""}, {"+ a;b", "a;b", true, ""}, {"+a", "a", true, ""}, {";q", "", false, "q"}, {"+;.reload", "", true, ".reload"},
	} {
		path, add, after := cutPath(tt.raw)
		if path != tt.path || add != tt.add || after != tt.after {
			t.Errorf("%q: %q, %v, %q", tt.raw, path, add, after)
		}
	}
}

// TestDots follows T132 for 258 modules, and T194 for lines between the dots.
func TestDots(t *testing.T) {
	t.Parallel()
	var b strings.Builder
	p := report.NewPrinter(&b, report.Era19041, false)
	d := &dots{out: p, line: firstLine}
	for range 258 {
		if err := d.dot(); err != nil {
			t.Fatal(err)
		}
	}
	if err := d.end(); err != nil {
		t.Fatal(err)
	}
	line := strings.Repeat(".", 64) + "\n"
	want := line[1:] + line + line + line + "...\n"
	if diff := cmp.Diff(want, b.String()); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	b.Reset()
	d = &dots{out: p, line: firstLine}
	for i := range 70 {
		_ = d.dot()
		if i == 1 {
			_ = d.interrupt(p, "*** ERROR\n")
		}
	}
	_ = d.end()
	if want := "..*** ERROR\n" + line + "....\n"; b.String() != want {
		t.Errorf("got %q, want %q", b.String(), want)
	}
}

// TestSymopts: the table is whole, each bit once and in order.
func TestSymopts(t *testing.T) {
	t.Parallel()
	all, last := uint32(0), uint32(0)
	for _, o := range symopts {
		if o.bit&(o.bit-1) != 0 || o.bit <= last {
			t.Errorf("%s: %#x after %#x", o.name, o.bit, last)
		}
		last = o.bit
		all |= o.bit
	}
	if all != 0xffffffff {
		t.Errorf("bits %#x are missing", ^all)
	}
	got := optionsOf(sympath.LoadAnything | 1)
	want := &symbolOptions{0x41, []string{"SYMOPT_CASE_INSENSITIVE", "SYMOPT_LOAD_ANYTHING"}, []string{"SYMOPT_CASE_INSENSITIVE"}}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestWhy(t *testing.T) {
	t.Parallel()
	missing := &types.NotFoundError{What: "symbol file", Name: "t.pdb", In: "symbol path x"}
	for _, tt := range []struct {
		err error
		why string
	}{
		{missing, ""},
		{errors.Join(missing, errors.New("a broken one")), missing.Error() + "; a broken one"},
		{errNoIdentity, errNoIdentity.Error()},
		{&sympath.MismatchError{File: "f", Have: "a", Want: "b"}, "f: made for a, want b"},
	} {
		if got := why(tt.err); got != tt.why {
			t.Errorf("%v: %q, want %q", tt.err, got, tt.why)
		}
	}
}

// TestSummary follows a public session of debugger 10; older ones have no table.
func TestSummary(t *testing.T) {
	t.Parallel()
	missing := &types.NotFoundError{What: "symbol file", Name: "t.pdb", In: "symbol path x"}
	down := errors.New("h is not asked: it could not be reached")
	var r summary
	for _, f := range []struct {
		name string
		err  error
	}{{"a", missing}, {"b", down}, {"Driver", down}} {
		r.failed = append(r.failed, outcome{module: &model.Module{Name: f.name, Image: f.name + ".sys"}, err: f.err})
	}
	own := "b, Driver: h is not asked: it could not be reached\n"
	table := `
************* Symbol Loading Error Summary **************
Module name            Error
a                      The system cannot find the file specified
b                      The system cannot find the file specified
Driver                 The system cannot find the file specified

You can troubleshoot most symbol related issues by turning on symbol loading diagnostics (!sym noisy) and repeating the command that caused symbols to be loaded.
You should also verify that your symbol search path (.sympath) is correct.
`
	for era, want := range map[report.Era]string{report.Era62: own, report.Era19041: table + own} {
		var b strings.Builder
		if err := report.NewPrinter(&b, era, false).Emit(&r); err != nil {
			t.Error(err)
		}
		if diff := cmp.Diff(want, b.String()); diff != "" {
			t.Errorf("%v (-want +got):\n%s", era, diff)
		}
	}
}

// TestNoPath: a session without paths says so.
func TestNoPath(t *testing.T) {
	t.Parallel()
	for _, c := range Commands() {
		if c.Needs >= cmd.NeedTarget {
			continue
		}
		err := c.Run(t.Context(), &cmd.Session{}, cmd.Args{}, &report.Recorder{})
		if !errors.Is(err, cmd.ErrNeed) {
			t.Errorf("%s: %v", c.Name, err)
		}
	}
}
