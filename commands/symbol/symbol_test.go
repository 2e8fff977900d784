package symbol

import (
	"bytes"
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"gokd/commands/report"
	"gokd/model/mem"
)

// hexEval evaluates hexadecimal numbers.
type hexEval struct{}

// EvalPrefix gives the value of the first word.
func (h hexEval) EvalPrefix(ctx context.Context, text string) (uint64, string, error) {
	word, rest, _ := strings.Cut(strings.TrimLeft(text, " "), " ")
	v, err := h.Eval(ctx, word)
	return v, rest, err
}

func (hexEval) Eval(_ context.Context, expr string) (v uint64, err error) {
	_, err = fmt.Sscanf(expr, "%x", &v)
	return v, err
}

func TestParseOptions(t *testing.T) {
	t.Parallel()
	at := mem.VA(0x1234)
	for text, want := range map[string]options{
		"":           {},
		"vm nt":      {verbose: true, pattern: "nt"},
		"v m NT":     {verbose: true, pattern: "nt"},
		"m echo* v":  {verbose: true, pattern: "echo*"},
		"t n":        {times: true, image: true},
		"kn":         {image: true},
		"1m":         {namesOnly: true},
		"sm o":       {byName: true, loadedOnly: true},
		"l f":        {withSymbols: true, full: true},
		"a 1234":     {at: &at},
		"-u":         {user: true},
		"M *\\DRV/x": {paths: "*\\drv\x00x"},
		"Dvmsis":     {verbose: true, pattern: "sis"},
		"ec":         {problems: true, checksums: true},
	} {
		got, err := parseOptions(t.Context(), text, hexEval{})
		if err != nil {
			t.Errorf("lm %s: %v", text, err)
		}
		if d := cmp.Diff(want, got, cmp.AllowUnexported(options{})); d != "" {
			t.Errorf("lm %s (-want +got):\n%s", text, d)
		}
	}
	for _, text := range []string{"m", "x", "vq", "a", "a zz", "M"} {
		if _, err := parseOptions(t.Context(), text, hexEval{}); err == nil {
			t.Errorf("lm %s: no error", text)
		}
	}
	if _, err := parseOptions(t.Context(), "a 1", nil); err == nil {
		t.Error("lm a without an evaluator: no error")
	}
}

func TestWild(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		pattern, name string
		want          bool
	}{
		{"", "nt", true}, {"nt", "NT", true}, {"n*", "Ntfs", true}, {"n?", "nt", true}, {"n?", "ntfs", false},
		{`*\drivers\*`, `\SystemRoot\system32\DRIVERS\sis.sys`, true}, {"[a]", "a", false}, {"[a]", "[a]", true},
		{"s*", "hal", false},
	} {
		if got := wild(tt.pattern, tt.name); got != tt.want {
			t.Errorf("wild(%q, %q) = %v", tt.pattern, tt.name, got)
		}
	}
}

// TestModule_text holds the lines to what public transcripts show.
func TestModule_text(t *testing.T) {
	t.Parallel()
	stamp := uint32(0x655244fd)
	m := module{
		Name: "SysmonDrv", Image: "SysmonDrv.sys", Path: "SysmonDrv.sys",
		Start: 0xfffff8025c000000, End: 0xfffff8025c02e000, Timestamp: &stamp, CheckSum: 0x2c5e2, Symbols: "deferred",
	}
	storahci := module{Name: "storahci", Start: 0xfffff806bcb00000, End: 0xfffff806bcb23000, Symbols: "deferred"}
	mmcss := module{Name: "mmcss", Start: 0xfffff80528440000, End: 0xfffff80528456000, Symbols: "pdb", File: `c:\symbols\mmcss.pdb`}
	for _, tt := range []struct {
		name string
		m    module
		opt  options
		era  report.Era
		want string
	}{
		{"short", storahci, options{}, report.Era19041, "fffff806`bcb00000 fffff806`bcb23000   storahci   (deferred)             \n"},
		{"symbols", mmcss, options{}, report.Era19041, "fffff805`28440000 fffff805`28456000   mmcss      (pdb symbols)          c:\\symbols\\mmcss.pdb\n"},
		{"long name", m, options{}, report.Era19041, "fffff802`5c000000 fffff802`5c02e000   SysmonDrv   (deferred)             \n"},
		{"names", m, options{namesOnly: true}, report.Era19041, "SysmonDrv\n"},
		{"times", m, options{times: true, image: true}, report.Era19041, "fffff802`5c000000 fffff802`5c02e000   SysmonDrv SysmonDrv.sys Mon Nov 13 15:47:09 2023 (655244FD)\n"},
		{"paths", m, options{full: true}, report.Era19041, "fffff802`5c000000 fffff802`5c02e000   SysmonDrv SysmonDrv.sys\n"},
		{"verbose", m, options{verbose: true}, report.Era26100, "fffff802`5c000000 fffff802`5c02e000   SysmonDrv   (deferred)             \n" +
			"    Image path: SysmonDrv.sys\n    Image name: SysmonDrv.sys\n    Browse all global symbols  functions  data\n" +
			"    Timestamp:        Mon Nov 13 15:47:09 2023 (655244FD)\n    CheckSum:         0002C5E2\n    ImageSize:        0002E000\n"},
		{"unknown time", storahci, options{times: true}, report.Era19041, "fffff806`bcb00000 fffff806`bcb23000   storahci unavailable (00000000)\n"},
	} {
		var b bytes.Buffer
		tt.m.opt = tt.opt
		tt.m.WriteText(report.NewPrinter(&b, tt.era, false))
		if d := cmp.Diff(tt.want, b.String()); d != "" {
			t.Errorf("%s (-want +got):\n%s", tt.name, d)
		}
	}
}

// TestModule_zone: kd shows times in the zone of the debugger.
func TestModule_zone(t *testing.T) {
	t.Parallel()
	stamp := uint32(0x655244fd)
	m := module{Timestamp: &stamp, zone: time.FixedZone("", -8*3600)}
	if got := m.time(); got != "Mon Nov 13 07:47:09 2023 (655244FD)" {
		t.Error(got)
	}
}

func TestUnloaded_text(t *testing.T) {
	t.Parallel()
	var b bytes.Buffer
	p := report.NewPrinter(&b, report.Era19041, false)
	unloadedRecord{"dam.sys", 0xfffff80487de0000, 0xfffff80487dfc000}.WriteText(p)
	moduleGap{"list broken"}.WriteText(p)
	want := "fffff804`87de0000 fffff804`87dfc000   dam.sys\nmodule list: list broken\n"
	if d := cmp.Diff(want, b.String()); d != "" {
		t.Errorf("(-want +got):\n%s", d)
	}
}

func FuzzParseOptions(f *testing.F) {
	for _, s := range []string{"vm nt", "1m sm", "a 10", "M *", "m", "é"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, text string) {
		o, err := parseOptions(t.Context(), text, hexEval{})
		if err == nil {
			_ = o.match(text, strings.ToUpper(text))
		}
	})
}
