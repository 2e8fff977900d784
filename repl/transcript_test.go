package repl

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestParseTranscript(t *testing.T) {
	t.Parallel()
	text := "\ufeffbanner\r\nmore\r\n2: kd> !locks -v  \r\na  \r\n\r\nb\r\n\r\n2: kd>\r\nkd> lm\nlkd> ? 1\n   0: kd> x\n32.0: kd:x86> y\nno kd> prompt\n"
	head, list := parseTranscript(text)
	if d := cmp.Diff([]string{"banner", "more"}, head); d != "" {
		t.Errorf("head (-want +got):\n%s", d)
	}
	want := []exchange{
		{3, "2: kd> ", "!locks -v", []string{"a", "", "b"}},
		{8, "2: kd> ", "", nil},
		{9, "kd> ", "lm", nil},
		{10, "lkd> ", "? 1", nil},
		{11, "0: kd> ", "x", nil},
		{12, "32.0: kd:x86> ", "y", []string{"no kd> prompt"}},
	}
	if d := cmp.Diff(want, list); d != "" {
		t.Errorf("(-want +got):\n%s", d)
	}
}

func TestDiff(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct{ want, got, diff string }{
		{"a|b", "a|b", ""},
		{"a  b|", "|a b", ""},
		{"a|b|c", "a|c", "- b"},
		{"a|c", "a|b|c", "+ b"},
		{"a|b|c", "a|x|c", "- b|+ x"},
		{"", "a", "+ a"},
	} {
		want, got := strings.Split(tt.want, "|"), strings.Split(tt.got, "|")
		if d := strings.Join(diff(want, got), "|"); d != tt.diff {
			t.Errorf("diff of %q and %q is %q, want %q", tt.want, tt.got, d, tt.diff)
		}
		if same := sameText(want, got); same != (tt.diff == "") {
			t.Errorf("sameText of %q and %q is %v", tt.want, tt.got, same)
		}
	}
	long := make([]string, maxDiff+1)
	for i := range long {
		long[i] = "x"
	}
	other := append(append([]string{}, long[:maxDiff]...), "y", "z")
	if d := diff(long, other); !cmp.Equal(d, []string{"- x", "+ y", "+ z"}) {
		t.Errorf("by line: %v", d)
	}
}

func FuzzTranscript(f *testing.F) {
	f.Add("a\n2: kd> lm\nb\n", "b")
	f.Add("kd>\r\nkd> x", "")
	f.Fuzz(func(t *testing.T, text, other string) {
		_, list := parseTranscript(text)
		for _, x := range list {
			if n := len(x.Answer); n > 0 && x.Answer[n-1] == "" {
				t.Fatalf("answer of %q ends in an empty line", x.Command)
			}
			if len(diff(x.Answer, x.Answer)) > 0 || !sameText(x.Answer, x.Answer) {
				t.Fatal("an answer differs from itself")
			}
			o := lines(other)
			if (len(diff(x.Answer, o)) == 0) != sameText(x.Answer, o) {
				t.Fatalf("diff and sameText disagree on %q and %q", x.Answer, o)
			}
		}
	})
}
