package report

import (
	"bytes"
	"encoding/json"
	"errors"
	"strings"
	"testing"
	"unicode"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"
)

// item is a record of all that JSON must get right.
type item struct {
	At      Addr    `json:"at"`
	None    *Addr   `json:"none"`
	Name    string  `json:"name"`
	Missing Missing `json:"missing,omitempty"`
}

func (item) Type() string           { return "item" }
func (i item) WriteText(p *Printer) { p.Printf("%s %s\n", i.At, i.Name) }

type summary struct {
	N int `json:"n"`
}

func (summary) Type() string        { return "summary" }
func (summary) WriteText(*Printer)  {}
func (s summary) SkippedItems() int { return s.N }

type list []int

func (list) Type() string       { return "list" }
func (list) WriteText(*Printer) {}

func TestJSON(t *testing.T) {
	t.Parallel()
	var b bytes.Buffer
	j := NewJSON(&b)
	j.Begin("!x", "-v")
	i := item{At: 0xfffffa8011efede8, Name: "a<&>\x1b\x7f\u0085é"}
	i.Missing.Set("none", errors.New("page not in dump"))
	i.Missing.Set("none", errors.New("a later reason"))
	i.Missing.Set("name", nil)
	for _, r := range []Record{i, Text("heading"), Note("ours"), summary{3}, summary{4}} {
		if err := j.Emit(r); err != nil {
			t.Fatal(err)
		}
	}
	if err := j.End(errors.New("why")); err != nil {
		t.Fatal(err)
	}
	got := strings.Split(strings.TrimSpace(b.String()), "\n")
	want := []string{
		`{"command":"!x","args":"-v","record":"item","at":"0xfffffa8011efede8","none":null,"name":"a<&>\u001b\u007f\u0085é","missing":{"none":"page not in dump"}}`,
		`{"command":"!x","args":"-v","record":"note","text":"ours"}`,
		`{"command":"!x","args":"-v","record":"summary","n":3}`,
		`{"command":"!x","args":"-v","record":"summary","n":4}`,
	}
	if d := cmp.Diff(want, got[:len(got)-1]); d != "" {
		t.Errorf("(-want +got):\n%s", d)
	}
	var end struct {
		Record, Error string
		OK            bool
		Skipped       int
		ElapsedMS     *float64 `json:"elapsed_ms"`
	}
	if err := json.Unmarshal([]byte(got[len(got)-1]), &end); err != nil {
		t.Fatal(err)
	}
	if end.Record != "end" || end.OK || end.Skipped != 7 || end.Error != "why" || end.ElapsedMS == nil {
		t.Errorf("end record %+v", end)
	}
}

func TestJSON_nested(t *testing.T) {
	t.Parallel()
	var b bytes.Buffer
	j := NewJSON(&b)
	j.Begin("outer", "")
	j.Begin("inner", "")
	for range 2 {
		if err := j.End(nil); err != nil {
			t.Fatal(err)
		}
	}
	lines := strings.Split(b.String(), "\n")
	if !strings.Contains(lines[0], `"inner"`) || !strings.Contains(lines[1], `"outer"`) {
		t.Errorf("ends out of order:\n%s", b.String())
	}
	j.Drop() // nothing is open: nothing happens
	if err := j.Emit(summary{}); err != nil {
		t.Error(err)
	}
}

func TestMarshal_noObject(t *testing.T) {
	t.Parallel()
	if _, err := Marshal("", "", list{1}); err == nil {
		t.Error("a record that is no object went through")
	}
	if b, err := Marshal("c", "", Recordless{}); err != nil || string(b) != `{"command":"c","args":"","record":"bare"}`+"\n" {
		t.Errorf("%s, %v", b, err)
	}
}

// Recordless has no fields of its own.
type Recordless struct{}

func (Recordless) Type() string       { return "bare" }
func (Recordless) WriteText(*Printer) {}

func TestAddr(t *testing.T) {
	t.Parallel()
	for a, want := range map[Addr][3]string{
		0:                  {"0000000000000000", "00000000`00000000", `"0x0"`},
		0xfffff80012345678: {"fffff80012345678", "fffff800`12345678", `"0xfffff80012345678"`},
	} {
		b, err := json.Marshal(a)
		if got := [3]string{a.String(), a.Tick(), string(b)}; got != want || err != nil {
			t.Errorf("%#x: got %q, want %q", uint64(a), got, want)
		}
	}
}

func TestSafe(t *testing.T) {
	t.Parallel()
	for in, want := range map[string]string{
		"plain é 日本":        "plain é 日本",
		"\x1b[2J\a":         `\x1b[2J\x07`,
		"a\nb\tc":           `a\x0ab\x09c`,
		"\u009b31m":         `\x9b31m`,
		"x\u202ecod.exe":    `x\u202ecod.exe`,
		"bad \xff\xfe utf8": `bad \xff\xfe utf8`,
		"zero\u200bwidth":   `zero\u200bwidth`,
		"line\u2028sep":     `line\u2028sep`,
		"\ufffd":            `\ufffd`,
	} {
		if got := Safe(in); got != want {
			t.Errorf("Safe(%q) = %q, want %q", in, got, want)
		}
	}
	if got := Layout("a\n\tb\x1b"); got != "a\n\tb\\x1b" {
		t.Errorf("Layout: %q", got)
	}
}

func TestPrinter(t *testing.T) {
	t.Parallel()
	evil := "\x1b]0;x\a"
	var b bytes.Buffer
	p := NewPrinter(&b, Era19041, false)
	p.Printf("%s|%v|%s|%-6s|%016x\n", evil, errors.New(evil), Text("a\n"), "é", Addr(7))
	p.Own("own\n")
	p.KDOnly = true
	p.Own("hidden\n")
	for _, r := range []Record{Note("hidden"), item{1, nil, evil, nil}} {
		if err := p.Emit(r); err != nil {
			t.Fatal(err)
		}
	}
	want := `\x1b]0;x\x07|\x1b]0;x\x07|a` + "\n|é     |0000000000000007\nown\n0000000000000001 " + `\x1b]0;x\x07` + "\n"
	if d := cmp.Diff(want, b.String()); d != "" {
		t.Errorf("(-want +got):\n%s", d)
	}
}

func TestPrinter_colors(t *testing.T) {
	t.Parallel()
	var b bytes.Buffer
	p := NewPrinter(&b, Era19041, true)
	p.Styled(Failure, "bad\n\n")
	p.Styled(Plain, "plain")
	if got := b.String(); got != "\x1b[31mbad\x1b[0m\n\nplain" {
		t.Errorf("%q", got)
	}
}

// broken fails every write.
type broken struct{}

func (broken) Write([]byte) (int, error) { return 0, errors.New("pipe") }

func TestPrinter_error(t *testing.T) {
	t.Parallel()
	p := NewPrinter(broken{}, Era19041, false)
	if err := p.Emit(Text("x")); err == nil || p.Err() == nil {
		t.Error("a failed write is not reported")
	}
	p.SetWriter(&bytes.Buffer{})
	if p.Err() != nil {
		t.Error("a new writer keeps the old error")
	}
}

func TestParseEra(t *testing.T) {
	t.Parallel()
	for _, e := range []Era{Era62, Era19041, Era26100} {
		if got, err := ParseEra(e.String()); got != e || err != nil {
			t.Errorf("%s: %v, %v", e, got, err)
		}
	}
	if _, err := ParseEra("11"); err == nil || !strings.Contains(err.Error(), "10.0.19041") {
		t.Errorf("error %v does not name the eras", err)
	}
}

// FuzzSafe: whatever a dump holds, a terminal sees no control character and
// JSON stays one line.
func FuzzSafe(f *testing.F) {
	for _, s := range []string{"", "a\x1b[0m", "\xff", "\u202e", "\x00\n", "\u0085\u2028\ufeff"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		for _, r := range Safe(s) {
			if unicode.IsControl(r) || unicode.Is(unicode.Cf, r) {
				t.Fatalf("Safe(%q) lets %U through", s, r)
			}
		}
		if !utf8.ValidString(Safe(s)) {
			t.Fatalf("Safe(%q) is no UTF-8", s)
		}
		line, err := Marshal(s, s, item{Name: s})
		if err != nil || !json.Valid(line) || bytes.Count(line, []byte("\n")) != 1 {
			t.Fatalf("%q: %q, %v", s, line, err)
		}
		for _, c := range string(line[:len(line)-1]) {
			if unicode.IsControl(c) {
				t.Fatalf("%q: control character %U in JSON", s, c)
			}
		}
	})
}

func BenchmarkJSON(b *testing.B) {
	var sink bytes.Buffer
	j := NewJSON(&sink)
	j.Begin("!x", "")
	b.ReportAllocs()
	for b.Loop() {
		sink.Reset()
		if err := j.Emit(item{At: 1, Name: "name"}); err != nil {
			b.Fatal(err)
		}
		b.SetBytes(int64(sink.Len()))
	}
}

func BenchmarkPrinter(b *testing.B) {
	var sink bytes.Buffer
	p := NewPrinter(&sink, Era19041, false)
	b.ReportAllocs()
	for b.Loop() {
		sink.Reset()
		if err := p.Emit(item{At: 1, Name: "name"}); err != nil {
			b.Fatal(err)
		}
		b.SetBytes(int64(sink.Len()))
	}
}
