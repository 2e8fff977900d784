package cmd_test

import (
	"path"
	"strings"
	"testing"

	"gokd/commands/cmd"
)

func TestMatchWildcard(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		pattern, text string
		fold, want    bool
	}{
		{"", "", false, true}, {"", "a", false, false}, {"*", "", false, true}, {"*", "any", false, true},
		{"abc", "abc", false, true}, {"abc", "ABC", false, false}, {"abc", "ABC", true, true}, {"ABC", "abc", true, true},
		{"abc", "abcd", false, false}, {"a?c", "abc", false, true}, {"a?c", "ac", false, false}, {"?", "é", false, true},
		{"Ps*Process", "PsGetCurrentProcess", false, true}, {"Ps*Process", "PsProcessType", false, false},
		{"*Pool*", "ExAllocatePoolWithTag", false, true}, {"*pool*", "ExAllocatePoolWithTag", true, true},
		{"*ab", "aab", false, true}, {"*a*b*c", "xaybzcbc", false, true}, {"**a", "a", false, true},
		{"[abc]x", "bx", false, true}, {"[abc]x", "dx", false, false}, {"[a-cz]x", "zx", false, true}, {"[a-c]x", "Bx", true, true},
		{"[A-C]x", "bx", true, true}, {"[A-C]x", "bx", false, false}, {"[a-]", "-", false, true}, {"[", "[", false, true},
		{"[]", "[]", false, true}, {"[]", "", false, false}, {"a[b", "a[b", false, true}, {"[b-a]", "a", false, false},
		{"ab#c", "ac", false, true}, {"ab#c", "abbbc", false, true}, {"ab#c", "adc", false, false},
		{"ab+c", "ac", false, false}, {"ab+c", "abbc", false, true}, {"ab+c", "ABBC", true, true}, {"#a", "#a", false, true}, {"+", "+", false, true},
		{"[ab]+", "abab", false, true}, {"[ab]+", "", false, false}, {"?#x", "anyx", false, true}, {"*#x", "yx", false, true}, {"a##", "aaa", false, true},
		{"a+b#*c", "aabbzc", false, true}, {`a\*`, "a*", false, true}, {`a\*`, "ab", false, false}, {`a\`, `a\`, false, true}, {`\[a]`, "[a]", false, true},
		{"É*", "éa", true, true}, {"\xff?", "\xffa", false, true}, {"k", "\u212a", true, true}, {"*k", "a\u212a", true, true},
	} {
		if got := cmd.MatchWildcard(tt.pattern, tt.text, tt.fold); got != tt.want {
			t.Errorf("MatchWildcard(%q, %q, %v) = %v", tt.pattern, tt.text, tt.fold, got)
		}
	}
	if text, ok := cmd.NewWildcard(`a\*b`, false).Exact(); !ok || text != "a*b" {
		t.Errorf("Exact: %q, %v", text, ok)
	}
	if _, ok := cmd.NewWildcard("a#", false).Exact(); ok {
		t.Error("a# is exact")
	}
}

// FuzzMatchWildcard holds the two ways of matching to path.Match, where the
// grammars agree, and to each other.
func FuzzMatchWildcard(f *testing.F) {
	for _, s := range [][2]string{{"*a?b", "xayb"}, {"a#b+", "aab"}, {"[a-c]*", "cd"}, {`\*`, "*"}} {
		f.Add(s[0], s[1])
	}
	f.Fuzz(func(t *testing.T, pattern, text string) {
		if len(pattern) > 200 || len(text) > 2000 {
			return
		}
		cmd.MatchWildcard(pattern, text, true)
		got := cmd.MatchWildcard(pattern, text, false)
		// path.Match tries a * byte by byte, also inside characters.
		beyond := func(r rune) bool { return r > 0x7f }
		if !strings.ContainsAny(pattern, `[]#+\/`) && !strings.Contains(text, "/") && strings.IndexFunc(text, beyond) < 0 {
			if want, err := path.Match(pattern, text); err == nil && got != want {
				t.Errorf("MatchWildcard(%q, %q) = %v, want %v", pattern, text, got, want)
			}
			// A character that may stand any number of times, in front of nothing.
			if also := cmd.MatchWildcard(pattern+"\u0001#", text, false); got && !also {
				t.Errorf("MatchWildcard(%q#, %q) = false", pattern, text)
			}
		}
	})
}

func BenchmarkWildcard(b *testing.B) {
	b.ReportAllocs()
	w := cmd.NewWildcard("*Pool*", true)
	const name = "ExpAllocateFromSomeLookasideListOfPool"
	b.SetBytes(int64(len(name)))
	for b.Loop() {
		if !w.Match(name) {
			b.Fatal("no match")
		}
	}
}
