package pool

import (
	"strings"
	"testing"
)

func tagOf(s string) Tag { return Tag([]byte(s)) }

func TestTag_spelling(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		value        uint32
		text, spell  string
		protected    bool
		wantTagValue uint32
	}{
		{0x636f7250, "Proc", "Proc", false, 0x636f7250},
		{0xe36f7250, "Proc", "Proc", true, 0x636f7250},
		{0x20707249, "Irp ", "Irp ", false, 0x20707249},
		{0x4a325b1b, ".[2J", `\x1b[2J`, false, 0x4a325b1b},
		{0x015c7f80, `..\.`, `\x80\x7f\x5c\x01`, false, 0x015c7f80},
		{0, "....", `\x00\x00\x00\x00`, false, 0},
	} {
		tag, protected := TagOf(c.value)
		if tag.String() != c.text || tag.Spell() != c.spell || protected != c.protected || tag.Value() != c.wantTagValue {
			t.Errorf("%#x: %q %q %v %#x, want %+v", c.value, tag.String(), tag.Spell(), protected, tag.Value(), c)
		}
	}
}

func TestPattern_match(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		pattern  string
		yes, no  []string
		shown    string
		value    uint32
		isSingle bool
	}{
		{"Proc", []string{"Proc", "Pro\xe3"}, []string{"proc", "Pro ", "Prod"}, "Proc", 0x636f7250, true},
		{"Irp", []string{"Irp ", "Irp\xa0"}, []string{"Irp1", " Irp"}, "Irp ", 0x20707249, true},
		{"Io*", []string{"Io  ", "IoNm", "Io*x"}, []string{"I  o", "io  "}, "Io* ", 0x202a6f49, false},
		{"*", []string{"Proc", "\x00\x01\x02\x03"}, nil, "*   ", 0x2020202a, false},
		{"?UMD", []string{"-UMD", ".UMD"}, []string{"UMDx"}, "?UMD", 0x444d553f, false},
		{"*a*", []string{"abcd", "xaxx", "xxxa", "aaaa"}, []string{"xxxx", "xxxA"}, "*a* ", 0x202a612a, false},
		{"a*b", []string{"a  b", "abbb", "axxb"}, []string{"ab  ", "xabb"}, "a*b ", 0x20622a61, false},
		{"ab*cd", []string{"abcd"}, []string{"abxc", "abcx"}, "ab*c", 0x632a6261, true},
		{"***Leak", []string{"Leak"}, []string{"Leaj"}, "*Lea", 0x61654c2a, true},
		{`\x1b[2J`, []string{"\x1b[2J"}, []string{".[2J"}, ".[2J", 0x4a325b1b, true},
		{"é1m\a", []string{"\xe91m\a"}, nil, ".1m.", 0x076d31e9, true},
		{"0x636f7250", []string{"Proc"}, []string{"Prod"}, "Proc", 0x636f7250, true},
		{"0xe36f7250", []string{"Proc", "Pro\xe3"}, []string{"Prod"}, "Proc", 0xe36f7250, true},
		{"0X63", []string{"0X63"}, nil, "0X63", 0x33365830, true},
	} {
		p, err := ParsePattern(c.pattern, true)
		if err != nil {
			t.Errorf("%q: %v", c.pattern, err)
			continue
		}
		for _, s := range c.yes {
			if !p.match(tagOf(s).Value()) {
				t.Errorf("%q does not match %q", c.pattern, s)
			}
		}
		for _, s := range c.no {
			if p.Match(tagOf(s)) {
				t.Errorf("%q matches %q", c.pattern, s)
			}
		}
		_, one := p.One()
		if p.Text() != c.shown || p.Value() != c.value || one != c.isSingle {
			t.Errorf("%q: shown %q %#x, single %v", c.pattern, p.Text(), p.Value(), one)
		}
	}
	if !(Pattern{}).Match(tagOf("Proc")) {
		t.Error("the zero pattern matches nothing")
	}
}

func TestParsePattern_refuses(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ text, want string }{
		{"", "tag missing"},
		{"Leaks", "longer than four"},
		{"Le*aks", "longer than four"},
		{"0xzz", "up to eight hex digits"},
		{"0x", "up to eight hex digits"},
		{"0x123456789", "up to eight hex digits"},
		{"Тег", "no single byte"},
		{strings.Repeat("?*", 1000), "longer than four"},
	} {
		if p, err := ParsePattern(c.text, true); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%q: %+v, %v; want an error with %q", c.text, p, err, c.want)
		}
	}
	if p, err := ParsePattern("0x63", false); err != nil || !p.Match(tagOf("0x63")) {
		t.Errorf("quoted 0x63: %+v, %v", p, err)
	}
}

// like is a plain matcher to hold the expanded patterns against.
func like(pattern, tag string) bool {
	if pattern == "" {
		return tag == ""
	}
	if pattern[0] == '*' {
		return like(pattern[1:], tag) || tag != "" && like(pattern, tag[1:])
	}
	return tag != "" && (pattern[0] == '?' || pattern[0] == tag[0]) && like(pattern[1:], tag[1:])
}

func FuzzPattern(f *testing.F) {
	for _, s := range []string{"Proc", "*", "a*b", "?o*", "ab", "*a*b*", "0x636f7250"} {
		f.Add(s, uint32(0x636f7250))
	}
	f.Fuzz(func(t *testing.T, text string, value uint32) {
		p, err := ParsePattern(text, true)
		if err != nil {
			return
		}
		if len(p.alts) == 0 || len(p.alts) > 16 {
			t.Fatalf("%q: %d alternatives", text, len(p.alts))
		}
		tag, _ := TagOf(value)
		if p.match(value) != p.Match(tag) || p.match(value) != p.match(value|protectedBit) {
			t.Fatalf("%q, %#x: the protection bit matters", text, value)
		}
		ascii := strings.Trim(text, " !#$%&'()+,-./0123456789:;<=>@ABCDEFGHIJKLMNOPQRSTUVWXYZ[]^_`abcdefghijklmnopqrstuvwxyz{|}~*?") == ""
		if !ascii || strings.HasPrefix(text, "0x") || value&0x80808080 != 0 {
			return
		}
		if !strings.Contains(text, "*") {
			text = (text + "    ")[:4]
		}
		if got, want := p.Match(tag), like(text, string(tag[:])); got != want {
			t.Fatalf("%q matches %q: %v, want %v", text, tag[:], got, want)
		}
	})
}
