package pool

import (
	"bytes"
	"encoding/binary"
	"errors"
	"slices"
	"strings"
	"testing"
	"testing/iotest"
	"unicode/utf16"

	gocmp "github.com/google/go-cmp/cmp"
)

// userTags is a file with every form that a line may have.
const userTags = "rem a comment\r\n//another\r\n  REM\tand one\r\n\r\n" +
	"Proc - nt!ps        - Process objects\r\n" +
	"Ab   - my - driver.sys - with - dashes\r\n" +
	"8042 - i8042prt.sys  - PS/2\r\n" +
	"Io   - nt!io - general IO allocations\r\n" +
	"Zz*  - zz.sys - any Zz\r\n" +
	"Zz?1 - zz1.sys - Zz and 1\r\n" +
	"NoDs\r\n" +
	"ToLong - x - y\r\n" +
	"Txt1 - only a text\r\n" +
	"A-B  - dash.sys - dash in tag\r\n" +
	"Cont - <unknown>    - Contiguous memory\r\n" +
	"Tabs\ttab.sys\tparts with tabs\r\n" +
	"Tb2\t-\ttab2.sys\t-\tdashes and tabs\r\n" +
	"Long \u2013 long.sys \u2013 dashes of a word processor\r\n" +
	"Ntf? - my.sys - own NTFS\r\n" +
	" - nobody.sys - no tag\r\n" +
	"Gone - gone.sys -\r\n" +
	"Proc - other.sys - a second user of the tag\r\n" +
	"  Ind - ind.sys - indented\r\n" +
	"Tigh -tight.sys- tight dashes\r\n" +
	"0xFF - x.sys - a tag like a number"

func TestDescriptions(t *testing.T) {
	t.Parallel()
	d := Own()
	s, err := d.Add("user.txt", strings.NewReader(userTags))
	if err != nil {
		t.Fatal(err)
	}
	got := map[string]Description{}
	for _, tag := range []string{"Proc", "Ab  ", "8042", "Io  ", "Zz21", "Zz22", "Txt1", "A-B ", "Cont", "Tabs", "Tb2 ",
		"Long", "NtfQ", "NtfZ", "Ind ", "Tigh", "0xFF", "Thre", "MmQQ", "Q!Q!", "zz21", "Gone"} {
		if x, ok := d.Find(tagOf(tag)); ok {
			got[tag] = x
		}
	}
	want := map[string]Description{
		"Proc": {"Process objects", "nt!ps"}, "Ab  ": {"driver.sys - with - dashes", "my"}, "8042": {"PS/2", "i8042prt.sys"},
		"Io  ": {"general IO allocations", "nt!io"}, "Zz21": {"Zz and 1", "zz1.sys"}, "Zz22": {"any Zz", "zz.sys"},
		"Txt1": {"only a text", ""}, "A-B ": {"dash in tag", "dash.sys"}, "Cont": {"Contiguous memory", ""},
		"Tabs": {"parts with tabs", "tab.sys"}, "Tb2 ": {"dashes and tabs", "tab2.sys"},
		"Long": {"dashes of a word processor", "long.sys"}, "NtfQ": {"NTFS quota control blocks", "ntfs.sys"}, "NtfZ": {"own NTFS", "my.sys"}, "Ind ": {"indented", "ind.sys"},
		"Tigh": {"tight.sys- tight dashes", ""}, "0xFF": {"a tag like a number", "x.sys"},
		"Thre": {"Thread objects", "nt!ps"}, "MmQQ": {"Memory manager", "nt!mm"},
	}
	if diff := gocmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	wantBad := []BadLine{{11, "NoDs", whyForm}, {12, "ToLong - x - y", whyLong}, {20, " - nobody.sys - no tag", whyNoTag}, {21, "Gone - gone.sys -", whyText}}
	if diff := gocmp.Diff(wantBad, s.Bad); diff != "" || s.BadLines != 4 {
		t.Errorf("bad lines (-want +got):\n%s", diff)
	}
	if s.Tags != 14 || s.Patterns != 3 || s.Again != 1 || s.Encoding != "UTF-8" || s.Name != "user.txt" {
		t.Errorf("%d tags, %d patterns, %d again, %s, %s", s.Tags, s.Patterns, s.Again, s.Encoding, s.Name)
	}
	all := []DescriptionOf{
		{Description{"Process objects", "nt!ps"}, "Proc", "user.txt", 5},
		{Description{"a second user of the tag", "other.sys"}, "Proc", "user.txt", 22},
	}
	list := d.All(tagOf("Proc"))
	if diff := gocmp.Diff(all, list[:len(list)-1]); diff != "" || list[len(list)-1].Source != "" {
		t.Errorf("all (-want +got):\n%s", diff)
	}
	if x, _ := Own().Find(tagOf("8042")); x.Text == "PS/2" {
		t.Error("the own set changed with its copy")
	}
}

// TestDescriptions_sources reads files one after the other: the last goes first,
// a file read again replaces itself, one that can't be read changes nothing.
func TestDescriptions_sources(t *testing.T) {
	t.Parallel()
	var d Descriptions
	find := func() string { x, _ := d.Find(tagOf("Leak")); return x.Text }
	for _, step := range []struct{ name, text, want string }{
		{"a", "Leak - a.sys - from a", "from a"},
		{"p", "Lea? - p.sys - a pattern\nL* - p.sys - a wider one", "from a"},
		{"b", "Leak - b.sys - from b", "from b"},
		{"a", "Leak - a.sys - from a again", "from a again"},
		{"c", "nothing", "from a again"},
	} {
		_, err := d.Add(step.name, strings.NewReader(step.text))
		if (step.name == "c") != errors.Is(err, ErrNoTags) {
			t.Errorf("%s: %v", step.name, err)
		}
		if got := find(); got != step.want {
			t.Errorf("after %s: %q, want %q", step.name, got, step.want)
		}
	}
	var names []string
	for _, s := range d.Sources() {
		names = append(names, s.Name)
	}
	if !slices.Equal(names, []string{"a", "b", "p"}) {
		t.Errorf("sources %q", names)
	}
	if !d.Remove("a") || d.Remove("a") || find() != "from b" {
		t.Errorf("after a is removed: %q", find())
	}
	if d.Remove("b"); find() != "a pattern" {
		t.Errorf("with patterns alone: %q", find())
	}
}

func TestDescriptions_encodings(t *testing.T) {
	t.Parallel()
	const text = "Leak - a.sys - a\u00e9b\nMm?? - b.sys - c\n"
	wide := func(order binary.AppendByteOrder, mark bool) string {
		var b []byte
		if mark {
			b = order.AppendUint16(b, 0xfeff)
		}
		for _, u := range utf16.Encode([]rune(text)) {
			b = order.AppendUint16(b, u)
		}
		return string(b)
	}
	for _, c := range []struct{ name, file string }{
		{"UTF-8", text}, {"UTF-8", "\ufeff" + text}, {"UTF-8", strings.ReplaceAll(text, "\n", "\r")},
		{"UTF-8", text + "\x1a"},
		{"single bytes", strings.ReplaceAll(text, "\u00e9", "\xe9")},
		{"UTF-16LE", wide(binary.LittleEndian, true)}, {"UTF-16LE", wide(binary.LittleEndian, false)},
		{"UTF-16BE", wide(binary.BigEndian, true)}, {"UTF-16BE", wide(binary.BigEndian, false)},
	} {
		var d Descriptions
		s, err := d.Add("x", strings.NewReader(c.file))
		if err != nil || s.Encoding != c.name || s.Tags != 1 || s.Patterns != 1 || s.BadLines != 0 {
			t.Errorf("%s: %+v, %v", c.name, s, err)
			continue
		}
		if x, _ := d.Find(tagOf("Leak")); x != (Description{"a\u00e9b", "a.sys"}) {
			t.Errorf("%s: %+v", c.name, x)
		}
	}
}

func TestDescriptions_refuses(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ text, want string }{
		{"no tags here", "no line has the form"},
		{"", "no line has the form"},
		{strings.Repeat("\n", maxTagLines+1), "more than 262144 lines"},
		{strings.Repeat("x", maxTagFile+1), "more than 16777216 bytes"},
	} {
		if _, err := new(Descriptions).Add("x", strings.NewReader(c.text)); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%.20q: %v, want %q", c.text, err, c.want)
		}
	}
	if _, err := new(Descriptions).Add("x", iotest.ErrReader(errors.New("disk"))); err == nil || err.Error() != "tag file: disk" {
		t.Errorf("of the reader: %v", err)
	}
	many := "Leak - a.sys - a\n" + strings.Repeat("bad line "+strings.Repeat("x", 200)+"\n", 100)
	s, err := new(Descriptions).Add("x", strings.NewReader(many))
	if err != nil || s.BadLines != 100 || len(s.Bad) != maxBadLines || len(s.Bad[0].Text) != maxBadText {
		t.Errorf("%+v, %v", s, err)
	}
}

// TestOwnTable holds the embedded table to its form.
func TestOwnTable(t *testing.T) {
	t.Parallel()
	var tags []string
	for line := range strings.Lines(ownTags) {
		line = strings.TrimSuffix(line, "\n")
		if line == "#" || strings.HasPrefix(line, "# ") {
			continue
		}
		f := strings.Split(line, "\t")
		if len(f) != 3 || len(f[0]) != 4 || f[1] == "" || f[2] == "" || strings.TrimSpace(line) != line && f[0][0] != ' ' {
			t.Errorf("not of the form: %q", line)
			continue
		}
		l, skip, why := parseTagLine(line)
		if skip || why != "" || l.as != f[0] || l.Binary != f[1] || l.Text != f[2] {
			t.Errorf("%q is read as %+v, %s", line, l, why)
		}
		if c := f[2][0]; c >= 'a' && c <= 'z' || strings.HasSuffix(f[2], ".") {
			t.Errorf("%q: a description starts with a capital and ends without a full stop", line)
		}
		tags = append(tags, f[0])
	}
	if !slices.IsSorted(tags) {
		for i := 1; i < len(tags); i++ {
			if tags[i-1] > tags[i] {
				t.Errorf("%q stands before %q", tags[i-1], tags[i])
			}
		}
	}
	if n := len(slices.Compact(slices.Clone(tags))); n != len(tags) || n < 300 {
		t.Errorf("%d lines, %d distinct tags; want 300 or more and none twice", len(tags), n)
	}
	if s := ownSource(); s.Tags+s.Patterns != len(tags) || s.BadLines > 0 {
		t.Errorf("%d + %d of %d lines read: %+v", s.Tags, s.Patterns, len(tags), s.Bad)
	}
}

func FuzzDescriptions(f *testing.F) {
	f.Add([]byte(ownTags[:1200]))
	f.Add([]byte(userTags))
	f.Add([]byte("\xff\xfeL\x00e\x00a\x00k\x00 \x00-\x00 \x00x\x00"))
	f.Add([]byte("Io*  - x - y\nrem\n - \n"))
	f.Fuzz(func(t *testing.T, file []byte) {
		var d Descriptions
		s, err := d.Add("f", bytes.NewReader(file))
		if (err == nil) != (s != nil && s.Tags+s.Patterns > 0) {
			t.Fatalf("%+v, %v", s, err)
		}
		if err != nil {
			return
		}
		for tag, list := range s.exact {
			if got := d.All(tag); len(got) < len(list) || got[0] != list[0] || got[0].Text == "" {
				t.Fatalf("%q: %+v of %+v", tag, got, list)
			}
		}
		if s.BadLines < len(s.Bad) || len(s.Bad) > maxBadLines {
			t.Fatalf("%d bad lines, %d kept", s.BadLines, len(s.Bad))
		}
	})
}
