package script

import (
	"context"
	"errors"
	"fmt"
	"math"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"gokd/commands/cmd"
)

// TestPrograms runs what public programs for kd are made of.
func TestPrograms(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct{ script, want string }{
		"a list, by its links": {`$$ walks a ring
r $t0 = 5000
.for (r $t1 = poi(@$t0);
      (@$t1 != 0) & (@$t1 != @$t0);
      r $t1 = poi(@$t1))
{
    .printf "%p\n", @$t1
}`, "0000000000005100\n0000000000005200\n"},
		"a string in an alias": {`r $t0 = 1000;
.while (@$t0 == 1000)
{
    as /ma ${/v:#name} @$t0
    .block
    {
        .if ($spat(@"${#name}", "n*")) { .echo match: ${#name} }
        .else { .echo no match }
    }
    ad /q ${/v:#name}
    r $t0 = @$t0 + 1
}`, "match: narrow\n"},
		"words of an output": {`.foreach /pS 2 /ps 4 (value { ? 5; ? 6 })
{
    .printf "%d ", value
}
.printf "\n"`, "5 6 \n"},
		"arguments": {`.if (${/d:$arg1})
{
    .echo never
}
.else
{
    .printf "${$arg1} and %d\n", ${$arg2} + 1
    .echo ${$arg3}
}`, "first and 3\n${$arg3}\n"},
		"nested loops and jumps": {`.for (r $t0 = 0; @$t0 < 3; r $t0 = @$t0 + 1)
{
    $$ the inner one
    .for (r $t1 = 0; @$t1 < 3; r $t1 = @$t1 + 1)
    {
        .if (@$t1 == 2) { .break }
        .elsif (@$t0 == @$t1) { .continue }
        .printf "%d%d ", @$t0, @$t1
    }
}
.echo`, "01 10 20 21 \n"},
		"a failure that is caught": {`.catch
{
    ? poi(0) + 1
    .echo never
}
.echo on`, "Memory access error at '(0) + 1'\n    poi(0) + 1\n       ^ 0x0: page not in dump\non\n"},
	} {
		s, b := newSession(t, map[string]string{"s": tt.script})
		if err := s.Execute(t.Context(), "$$>a<s first 2"); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		if d := cmp.Diff(tt.want, b.String()); d != "" {
			t.Errorf("%s (-want +got):\n%s", name, d)
		}
	}
}

// TestRunners holds the five ways to run a file to the documentation's table.
func TestRunners(t *testing.T) {
	t.Parallel()
	files := map[string]string{"a": "as x 1\n.echo x", "a;.echo b": "as x 2\n.echo x"}
	for line, want := range map[string]string{
		"$$><a; .echo b":      "x\nb\n",
		"$$>a<a 1 2; .echo b": "x\nb\n",
		"$><a;.echo b":        "x\n",
		"$$<a; .echo b":       "kd> as x 1\nkd> .echo x\n1\nb\n",
		"$<a;.echo b":         "kd> as x 2\nkd> .echo x\n2\n",
		"$$>< \"a\"":          "x\n",
	} {
		if d := cmp.Diff(want, run(t, files, line)); d != "" {
			t.Errorf("%s (-want +got):\n%s", line, d)
		}
	}
}

// TestScript_place: what fails inside blocks of a file is told with its line.
func TestScript_place(t *testing.T) {
	t.Parallel()
	const script = ".if (1)\n{\n  .for (r $t0 = 0; @$t0 < 2; r $t0 = @$t0 + 1)\n  {\n    .echo a\n    ? zork(\n  }\n}\n"
	s, b := newSession(t, map[string]string{"s": script})
	err := s.Execute(t.Context(), "$$><s")
	var place *cmd.ScriptError
	if !errors.As(err, &place) || place.File != "s" || place.Line != 6 {
		t.Errorf("error %v, want one at s:6", err)
	}
	if want := "s:6: the script failed here\n"; !strings.HasSuffix(b.String(), want) || strings.Count(b.String(), "zork") != 2 {
		t.Errorf("text %q: want the error once and %q", b, want)
	}
}

func TestLoop_ends(t *testing.T) {
	t.Parallel()
	s, b := newSession(t, nil)
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if err := s.Execute(ctx, ".while (1) { r $t0 = 1 }"); !errors.Is(err, cmd.ErrInterrupted) {
		t.Errorf("error %v, text %q", err, b)
	}
}

func TestThreeDigits(t *testing.T) {
	t.Parallel()
	for in, want := range map[string]string{"1e-05": "1e-005", "1.5E+20": "1.5E+020", "1e+100": "1e+100", "2": "2", "": ""} {
		if got := ThreeDigits(in); got != want {
			t.Errorf("%q: %q, want %q", in, got, want)
		}
	}
}

// TestFloat_special: numbers that are none print and do not break a width.
func TestFloat_special(t *testing.T) {
	t.Parallel()
	got := run(t, nil, fmt.Sprintf(`.printf "[%%6.1f]", %x`, math.Float32bits(float32(math.Inf(1)))))
	if got != "[  +Inf]" {
		t.Errorf("%q", got)
	}
}

func FuzzExecute(f *testing.F) {
	for _, line := range []string{
		".if (1) { .echo a } .elsif (0) {} .else { .break }", ".for (;;) { .break }", ".foreach /s (a \"b c\") { .echo a }",
		".while (@$t0 < 3) { r $t0 = @$t0 + 1 }", ".do { .continue } (0)", "as x y; x", "aS /x n 5; .block { n }", ".printf \"%d%ma\\n\", 1, 1000",
		".catch { .leave }", "j 1 'a' ; 'b'", "a; z(1)", "?? (char)1 + sizeof(int)", "$$>a<s 1 2", "r $.u0=$u0$u0", ".foreach (w { .foreach (v {al}) {} }) {}",
		".if (${/d:x}) {${x}}", "}{", ".formats 1", "n 8; ? 9", ".expr /s c++; ? 1?2:3",
	} {
		f.Add(line)
	}
	f.Fuzz(func(t *testing.T, line string) {
		if strings.Contains(strings.ToLower(line), ".log") {
			t.Skip("writes files")
		}
		s, b := newSession(t, map[string]string{"s": line})
		ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
		defer cancel()
		_ = s.Execute(ctx, line)
		_ = s.RunFileArgs(ctx, "s", true, []string{"1"})
		if strings.Contains(b.String(), "internal error") {
			t.Fatalf("%q: %s", line, b)
		}
	})
}

func FuzzPrintf(f *testing.F) {
	for _, format := range []string{"%d", "%-08.3I64x", "%msu%ma%S", "%%", "%y", "%lf", "%1024c", "\\", "<a>&lt;"} {
		f.Add(format, uint64(0x1000))
	}
	f.Fuzz(func(t *testing.T, format string, v uint64) {
		s, _ := newSession(t, nil)
		list := strings.Repeat(fmt.Sprintf(", 0x%x", v), strings.Count(format, "%"))
		p := formatter{ctx: t.Context(), s: s, rest: list}
		text, err := p.format(format)
		if err == nil && len(text) > 2*maxText {
			t.Fatalf("%d bytes", len(text))
		}
		_ = stripMarkup(text)
	})
}

func BenchmarkLoop(b *testing.B) {
	s, out := newSession(b, nil)
	b.ReportAllocs()
	for b.Loop() {
		out.Reset()
		if err := s.Execute(b.Context(), ".for (r $t0 = 0; @$t0 < 100; r $t0 = @$t0 + 1) { .printf \"%d\\n\", @$t0 }"); err != nil {
			b.Fatal(err)
		}
	}
}
