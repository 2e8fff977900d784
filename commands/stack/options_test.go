package stack

import (
	"context"
	"errors"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"gokd/commands/cmd"
	"gokd/commands/masm"
	"gokd/commands/report"
	"gokd/commands/show"
)

var compareOptions = cmp.AllowUnexported(traceOptions{}, frameOptions{}, start{})

// noTarget is an evaluator of numbers: no dump is open.
func noTarget() cmd.Evaluator { return masm.ForSession(&cmd.Session{}) }

func TestParseTrace(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		text   string // as typed behind the k
		joined bool
		want   traceOptions
		err    string
	}{
		{text: "", want: traceOptions{}},
		{text: "b", joined: true, want: traceOptions{args: true}},
		{text: "b", want: traceOptions{count: 0xb}}, // "k b" is eleven frames
		{text: "bn 5", joined: true, want: traceOptions{args: true, numbers: true, count: 5}},
		{text: "vnf", joined: true, want: traceOptions{verbose: true, numbers: true, distance: true}},
		{text: "fnv", joined: true, want: traceOptions{verbose: true, numbers: true, distance: true}},
		{text: "BN", joined: true, want: traceOptions{args: true, numbers: true}},
		{text: "VF 2", joined: true, want: traceOptions{verbose: true, distance: true, count: 2}},
		{text: "C", joined: true, want: traceOptions{sites: true}},
		{text: "cL", joined: true, want: traceOptions{sites: true, noSource: true}},
		{text: "PML 0n10", joined: true, want: traceOptions{count: 10, noSource: true}},
		{text: "5", joined: true, want: traceOptions{count: 5}},
		{text: "L 20", want: traceOptions{count: 0x20, noSource: true}},
		{text: "M L 3", want: traceOptions{count: 3, noSource: true}},
		{text: "-how 2", want: traceOptions{how: true, count: 2}},
		{text: "2 -how", want: traceOptions{how: true, count: 2}},
		{text: "= ffff850429890ee8", want: traceOptions{start: &start{sp: 0xffff850429890ee8}}},
		{text: "= ffff850429890ee8 5", want: traceOptions{count: 5, start: &start{sp: 0xffff850429890ee8}}},
		{text: "=ffff850429890ee8 fffff80412345678 4", joined: true,
			want: traceOptions{count: 4, start: &start{sp: 0xffff850429890ee8, ip: 0xfffff80412345678}}},
		{text: "b = ffff850429892c10 ffff850429890ee8 fffff80412345678", joined: true,
			want: traceOptions{args: true, start: &start{bp: 0xffff850429892c10, sp: 0xffff850429890ee8, ip: 0xfffff80412345678, hasBP: true}}},
		{text: "bv", joined: true, err: "of b, p, P and v only one can stand behind k"},
		{text: "ill", joined: true, err: errNoSuchCommand.Error()},
		{text: "-x", err: "unknown switch -x"},
		{text: "0", err: "0x0 frames: 1 to 0xffff can be shown"},
		{text: "10000", err: "0x10000 frames: 1 to 0xffff can be shown"},
		{text: "5 6", err: `"6": a number of frames was given already`},
		{text: "=", err: "= needs the stack pointer: = StackPtr, = StackPtr InstructionPtr or = BasePtr StackPtr InstructionPtr"},
		{text: "= 1000000 0", err: "0 frames: at least one can be shown"},
		{text: "= 100000 200000 300000 400000 5", err: `more than BasePtr StackPtr InstructionPtr FrameCount: "5"`},
	} {
		got, err := parseTrace(context.Background(), noTarget(), test.text, test.joined)
		if test.err != "" {
			if err == nil || err.Error() != test.err {
				t.Errorf("k %q (joined %v): error %v, want %s", test.text, test.joined, err, test.err)
			}
			continue
		}
		if err != nil {
			t.Errorf("k %q (joined %v): %v", test.text, test.joined, err)
			continue
		}
		if d := cmp.Diff(test.want, got, compareOptions); d != "" {
			t.Errorf("k %q (joined %v) (-want +got):\n%s", test.text, test.joined, d)
		}
	}
}

func TestParseFrame(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		text string
		want frameOptions
		err  string
	}{
		{text: "", want: frameOptions{}},
		{text: "0n12", want: frameOptions{given: true, number: 12}},
		{text: "/r 0n2", want: frameOptions{registers: true, given: true, number: 2}},
		{text: "/c/r a", want: frameOptions{registers: true, use: true, given: true, number: 10}},
		{text: "/r = ffff850429890ee8 fffff80412345678",
			want: frameOptions{registers: true, given: true, start: &start{sp: 0xffff850429890ee8, ip: 0xfffff80412345678}}},
		{text: "1 2", err: `unexpected "2" behind the frame's number`},
		{text: "10000", err: "frame 0x10000: numbers go up to 0xffff"},
		{text: "/x", err: "unknown switch /x"},
	} {
		got, err := parseFrame(context.Background(), noTarget(), test.text)
		if test.err != "" {
			if err == nil || err.Error() != test.err {
				t.Errorf(".frame %q: error %v, want %s", test.text, err, test.err)
			}
			continue
		}
		if err != nil {
			t.Errorf(".frame %q: %v", test.text, err)
		} else if d := cmp.Diff(test.want, got, compareOptions); d != "" {
			t.Errorf(".frame %q (-want +got):\n%s", test.text, d)
		}
	}
}

// TestColumns holds the headings of each command and era against public sessions.
func TestColumns(t *testing.T) {
	t.Parallel()
	const args = ": Args to Child                                                           : Call Site"
	for _, test := range []struct {
		letters string
		era     report.Era
		want    string
	}{
		{"", report.Era62, "Child-SP          RetAddr           Call Site"},
		{"n", report.Era62, " # Child-SP          RetAddr           Call Site"},
		{"b", report.Era62, "RetAddr           " + args},
		{"v", report.Era62, "Child-SP          RetAddr           " + args},
		{"", report.Era19041, " # Child-SP          RetAddr           Call Site"},
		{"b", report.Era19041, " # RetAddr           " + args},
		{"", report.Era26100, " # Child-SP          RetAddr               Call Site"},
		{"f", report.Era26100, " #   Memory  Child-SP          RetAddr               Call Site"},
		{"c", report.Era62, "Call Site"},
		{"c", report.Era26100, " # Call Site"},
	} {
		o, err := parseTrace(context.Background(), noTarget(), test.letters, true)
		if err != nil {
			t.Fatal(err)
		}
		if d := cmp.Diff(test.want, o.columns(test.era).Heading(test.era)); d != "" {
			t.Errorf("k%s %s (-want +got):\n%s", test.letters, test.era, d)
		}
	}
}

// TestRow holds the rows of frames against public sessions.
func TestRow(t *testing.T) {
	t.Parallel()
	trap := report.Addr(0xffffdc0e9ee66680)
	below := show.Frame{ChildSP: 0xffffdc0e9ee66810}
	f := show.Frame{ChildSP: 0xffffdc0e9ee66850, ReturnAddress: 0xfffff8002b7f8801, TrapFrame: &trap, How: "unwind data"}
	for _, test := range []struct {
		letters string
		era     report.Era
		want    string
	}{
		{"f", report.Era26100, "02        40 ffffdc0e`9ee66850 fffff800`2b7f8801     \n"},
		{"", report.Era19041, "02 ffffdc0e`9ee66850 fffff800`2b7f8801 \n"},
		{"", report.Era62, "ffffdc0e`9ee66850 fffff800`2b7f8801 \n"},
		{"b", report.Era62, "fffff800`2b7f8801 : ????????`???????? ????????`???????? ????????`???????? ????????`???????? : \n"},
		{"v", report.Era62, "ffffdc0e`9ee66850 fffff800`2b7f8801 : ????????`???????? ????????`???????? ????????`???????? ????????`???????? :  (TrapFrame @ ffffdc0e`9ee66680)\n"},
		{" -how", report.Era62, "ffffdc0e`9ee66850 fffff800`2b7f8801  <unwind data>\n"},
	} {
		o, err := parseTrace(context.Background(), noTarget(), test.letters, true)
		if err != nil {
			t.Fatal(err)
		}
		var b strings.Builder
		o.columns(test.era).WriteRow(report.NewPrinter(&b, test.era, false), "", 2, &f, &below)
		if d := cmp.Diff(test.want, b.String()); d != "" {
			t.Errorf("k%s %s (-want +got):\n%s", test.letters, test.era, d)
		}
	}
}

func FuzzTraceOptions(f *testing.F) {
	for _, s := range []string{"", "b", "vnf 5", "cL", "= 1 2 3", "-how", "L M 0n10", "=ffff850429890ee8 4", "P@$t0"} {
		f.Add(s, true)
		f.Add(s, false)
	}
	f.Fuzz(func(t *testing.T, text string, joined bool) {
		o, err := parseTrace(context.Background(), noTarget(), text, joined)
		if err == nil && (o.count < 0 || o.count > maxFrames) {
			t.Errorf("%q: %d frames", text, o.count)
		}
		if err != nil && !errors.Is(err, errNoSuchCommand) && err.Error() == "" {
			t.Errorf("%q: an error that says nothing", text)
		}
	})
}

func FuzzFrameOptions(f *testing.F) {
	for _, s := range []string{"", "/r 0n2", "/c/r a", "/r = 1 2 3", "/c 3"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, text string) {
		if o, err := parseFrame(context.Background(), noTarget(), text); err == nil && (o.number < 0 || o.number > maxFrames) {
			t.Errorf("%q: frame %d", text, o.number)
		}
	})
}
