package symbol

import (
	"bytes"
	"errors"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"gokd/commands/report"
	"gokd/model"
	"gokd/model/types"
)

func TestParseList(t *testing.T) {
	t.Parallel()
	for line, want := range map[string]listOptions{
		`-t nt!_LIST_ENTRY.Flink 10`: {module: "nt", name: "_LIST_ENTRY", field: "Flink", commands: "dp", start: "10", max: maxElements},
		`-t MYTYPE.links.Flink -x "dd" -a "L2" 0x6bc00`: {
			name: "MYTYPE", field: "links.Flink", commands: "dd", arguments: "L2", start: "0x6bc00", max: maxElements},
		`"-t a!_L.F -e -x \"dd @$extret l4; dt b!_X @$extret-0x8\" b!List"`: {
			module: "a", name: "_L", field: "F", echo: true, commands: "dd @$extret l4; dt b!_X @$extret-0x8", start: "b!List", max: maxElements},
		`-t _L.F -m 5 poi(1) + 2`: {name: "_L", field: "F", commands: "dp", start: "poi(1) + 2", max: 5},
	} {
		got, err := parseList(t.Context(), line, hexEval{})
		if err != nil {
			t.Errorf("!list %s: %v", line, err)
		}
		if d := cmp.Diff(want, got, cmp.AllowUnexported(listOptions{})); d != "" {
			t.Errorf("!list %s (-want +got):\n%s", line, d)
		}
	}
	for _, line := range []string{"", "-t", "-t X 10", "-t X. 10", "-t X.F", "-x dd 10", `-t X.F "10`, "-t X.F -m zz 10"} {
		if _, err := parseList(t.Context(), line, hexEval{}); err == nil {
			t.Errorf("!list %s: no error", line)
		}
	}
}

// TestListLine: the address goes behind the commands, unless they use $extret.
func TestListLine(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct{ commands, arguments, want string }{
		{"dd", "L2", "dd 0x10 L2"}, {"dp", "", "dp 0x10"}, {"? @$extret", "", "? @$extret"}, {"dt X $EXTRET", "Y", "dt X $EXTRET Y"},
	} {
		o := &listOptions{commands: tt.commands, arguments: tt.arguments}
		if got := o.line(0x10); got != tt.want {
			t.Errorf("%q, %q: %q, want %q", tt.commands, tt.arguments, got, tt.want)
		}
	}
}

func TestListEnd(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{
		` -t a.b 1; next`:     ` -t a.b 1`,
		` -x "a; b" 1;x`:      ` -x "a; b" 1`,
		` "-x \"a; b\" 1"; x`: ` "-x \"a; b\" 1"`,
		` "a;b` + "\n;":       ` "a;b`,
		` -x "C:\\";x`:        ` -x "C:\\"`,
	} {
		if got := text[:listEnd(text)]; got != want {
			t.Errorf("%q ends at %q, want %q", text, got, want)
		}
	}
}

// TestLinkOf: a list entry inside a structure leads to the start of the next one.
func TestLinkOf(t *testing.T) {
	t.Parallel()
	node := &types.Type{Name: "_NODE", Kind: types.KindStruct, Size: 0x18}
	node.Fields = []types.Field{{Name: "Next", Type: ptr(node)}, {Name: "Links", Offset: 8, Type: listEntry}, {Name: "Plain", Offset: 0x18, Type: ulong}}
	deep := &types.Type{Name: "_DEEP", Kind: types.KindStruct, Fields: []types.Field{{Name: "Node", Offset: 0x10, Type: node}, {Name: "To", Offset: 0x40, Type: ptr(node)}}}
	for _, tt := range []struct {
		t      *types.Type
		path   string
		offset uint64
		err    bool
	}{
		{listEntry, "Flink", 0, false}, {node, "Next", 0, false}, {node, "Links.Flink", 8, false}, {node, "links.BLINK", 8, false},
		{deep, "Node.Links.Flink", 0x18, false}, {deep, "To.Next", 0, false}, {node, "Plain", 0, true}, {node, "None", 0, true}, {node, "Next.Next.X", 0, true},
	} {
		l, err := linkOf(nil, tt.t, tt.path)
		if (err != nil) != tt.err || err == nil && l.offset != tt.offset {
			t.Errorf("%s.%s: %+v, %v", tt.t.Name, tt.path, l, err)
		}
	}
}

// TestLink_next walks the list of the test memory.
func TestLink_next(t *testing.T) {
	t.Parallel()
	l, err := linkOf(nil, thing, "Links.Flink")
	if err != nil {
		t.Fatal(err)
	}
	m := testMemory()
	if next, err := l.next(m, thingAt); err != nil || next != thingAt+0x400 {
		t.Errorf("next %#x, %v", next, err)
	}
	if next, err := l.next(m, 0x1000); err == nil {
		t.Errorf("next of what is not there: %#x", next)
	}
}

// TestFill: names of a dump can't end a command, and longer words come first.
func TestFill(t *testing.T) {
	t.Parallel()
	words := []placeholder{{"@#ModuleName", tame(`evil"; .shell rm {`)}, {"@#ModuleNameSize", "5"}, {"@#Base", "fffff80000000000"}}
	got := fill("x ${@#ModuleName}!* ; ? @#ModuleNameSize + @#Base ; @#Other", words)
	if want := "x evil__ .shell rm _!* ; ? 5 + fffff80000000000 ; @#Other"; got != want {
		t.Errorf("%s, want %s", got, want)
	}
	for text, want := range map[string]string{` "a; b" `: "a; b", "a": "a", `"x \"y\""`: `x "y"`, `"`: `"`, "": ""} {
		if got := commandString(text); got != want {
			t.Errorf("%s: %s, want %s", text, got, want)
		}
	}
}

// TestTag holds .enumtag to the sample of the documentation.
func TestTag(t *testing.T) {
	t.Parallel()
	data := []byte("MZ\x90\x00\x03\x00\x00\x00\x04\x00\x00\x00\xff\xff\x00\x00\xb8\x00")
	tag := types.GUID{0x21, 0x43, 0x65, 0x87, 1, 0, 2, 0, 3, 4, 5, 6, 7, 8, 9, 10}
	var b bytes.Buffer
	p := report.NewPrinter(&b, report.Era19041, false)
	tagOf(model.SecondaryData{Tag: tag, Size: 18, Read: func() ([]byte, error) { return data, nil }}, true).WriteText(p)
	tagOf(model.SecondaryData{Tag: tag, Size: 18, Read: func() ([]byte, error) { return nil, errors.New("cut off") }}, true).WriteText(p)
	tagOf(model.SecondaryData{Tag: tag, Size: 18}, false).WriteText(p)
	want := "{87654321-0001-0002-0304-05060708090a} - 0x12 bytes\n" +
		"  4D 5A 90 00 03 00 00 00 04 00 00 00 FF FF 00 00  MZ..............\n" +
		"  B8 00                                            ..\n\n" +
		"{87654321-0001-0002-0304-05060708090a} - 0x12 bytes\n  cut off\n\n" +
		"{87654321-0001-0002-0304-05060708090a} - 0x12 bytes\n"
	if d := cmp.Diff(want, b.String()); d != "" {
		t.Errorf("(-want +got):\n%s", d)
	}
	big := tagOf(model.SecondaryData{Read: func() ([]byte, error) { return make([]byte, maxTagData+1), nil }}, true)
	if len(big.data) != maxTagData || big.Missing["rest"] == "" {
		t.Errorf("%d bytes kept, missing %v", len(big.data), big.Missing)
	}
}

// TestRights: the words for what may be done with a section.
func TestRights(t *testing.T) {
	t.Parallel()
	for flags, want := range map[uint32]string{
		0x60000020: "Execute Read", 0x40000040: "Read Only", 0xc0000040: "Read Write", 0xe0000020: "Execute Read Write", 0x20000000: "Execute", 0: "",
	} {
		if got := rights(flags); got != want {
			t.Errorf("%#x: %q, want %q", flags, got, want)
		}
	}
}

// TestRawHeaders_hostile: headers that are cut or absurd are errors.
func TestRawHeaders_hostile(t *testing.T) {
	t.Parallel()
	b := make(rvaBytes, 0x200)
	b[0x3c], b[0x40+4+16] = 0x40, 0xf0
	if _, optional, err := rawHeaders(b); err != nil || len(optional) != 0xf0 {
		t.Fatalf("%d bytes, %v", len(optional), err)
	}
	for name, damage := range map[string]func(rvaBytes) rvaBytes{
		"cut":          func(b rvaBytes) rvaBytes { return b[:0x100] },
		"no optional":  func(b rvaBytes) rvaBytes { b[0x54] = 8; return b },
		"far away":     func(b rvaBytes) rvaBytes { copy(b[0x3c:], "\xf0\xff\xff\xff"); return b },
		"nothing":      func(rvaBytes) rvaBytes { return nil },
		"header's end": func(b rvaBytes) rvaBytes { b[0x3d] = 0x2; return b },
	} {
		if _, _, err := rawHeaders(damage(append(rvaBytes{}, b...))); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
	// Every length that is accepted can be shown.
	for n := 96; n <= 0xf0; n += 4 {
		for _, magic := range []byte{0x0b, 0} {
			opt := make([]byte, n)
			opt[0], opt[1] = magic, 2
			if len(optionalFields(opt)) == 0 {
				t.Errorf("%d bytes: no fields", n)
			}
		}
	}
}

func FuzzParseList(f *testing.F) {
	for _, s := range []string{`-t a!_L.F -x "dd" 10`, `"-t _L.F -e -x \"dd @$extret; x\" -a \"L2\" 1"`, `-m 3 -t a.b`, `"`} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, line string) {
		if end := listEnd(line); end > len(line) {
			t.Errorf("ends at %d of %d", end, len(line))
		}
		o, err := parseList(t.Context(), line, hexEval{})
		if err == nil && (o.name == "" || o.field == "" || o.max > maxElements || !strings.Contains(o.line(1), o.commands)) {
			t.Errorf("%q: %+v", line, o)
		}
		if x, err := parseX(t.Context(), line, hexEval{}); err == nil {
			symbolMatcher(x.pattern)(line)
		}
	})
}
