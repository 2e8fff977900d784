package pool

import (
	"bytes"
	"context"
	"regexp"
	"testing"

	gocmp "github.com/google/go-cmp/cmp"

	"gokd/commands/cmd"
	"gokd/commands/report"
	"gokd/dumpfmt/dumptest/shared"
	"gokd/model/modeltest"
	"gokd/model/pool"
)

// TestPoolsig_text holds the answers on dumps with known blocks: a page pool, a
// segment heap, one that is damaged, and one without pools.
func TestPoolsig_text(t *testing.T) {
	t.Parallel()
	const leak = "Leak in nonpaged pool: 13 live blocks, 274432 bytes\n" +
		"  Deliberate leak of Sysinternals NotMyFault , Binary: myfault.sys\n\n" +
		"        Size       Live        Bytes   Share    Cached      Free  Asked for\n" +
		"     0x40000          1       262144     96%         -         -  pages, 0x3f001 to 0x40000\n" +
		"       0x400         12        12288    4.5%         -         -  0x3e1 to 0x3f0\n"
	const none = "the table of large allocations is not in this dump: a triage dump has no tables of the pool\n"
	for _, c := range []struct{ file, line, want string }{
		{"dumps/x64/win7.kernel.dmp.xz", "!poolsig -nonpaged Leak", leak},
		{"dumps/x64/w10_19041.full.dmp.xz", "!poolsig -nonpaged Leak", leak},
		{"dumps/damaged/bad-pool-corrupt.kernel.dmp.xz", "!poolsig -nonpaged Leak", leak +
			"Covers: without the rest of 3 pages behind headers that make no sense: counts are floors.\n" +
			"The kernel counts as many live ones: none of them is missing.\n"},
		{"dumps/x64/w10_19041.full.dmp.xz", "!poolsig -paged -n 2", "Paged pool: tags by what their live blocks take\n\n" +
			" Tag        Live          Bytes  Sizes  Signature\n" +
			" CM31         15         601280     12  0x10000 x 2 (22%), 0xb000 x 2, 0x125e0 x 1, ...\n" +
			" MmSt         76         590240     62  0x11000 x 2 (24%), 0x13000 x 1, 0x11b40 x 1, ...\n" +
			" TOTAL      1051        2034464         2 of 22 tags\n"},
		{"dumps/real/triage_x64.dmp", "!poolsig", none},
		{"dumps/real/triage_x64.dmp", "!poolmap", none},
	} {
		t.Run(c.file+c.line, func(t *testing.T) {
			t.Parallel()
			s, out := session(t, modeltest.OpenDump(t, shared.Path(t, c.file)), report.Era19041)
			_ = s.Execute(context.Background(), c.line)
			got := out.String()
			if c.line == "!poolmap" { // what is said of the counters is !poolused's
				got = regexp.MustCompile(`(?m)^The kernel's counters.*\n`).ReplaceAllString(got, "")
			}
			if diff := gocmp.Diff(c.want, got); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

// TestPooltag_JSON holds the records of !pooltag.
func TestPooltag_JSON(t *testing.T) {
	t.Parallel()
	k := modeltest.OpenDump(t, shared.Path(t, "dumps/real/triage_x64.dmp"), modeltest.Images(shared.Path(t, "symstore")))
	table, err := cmd.NewTable(Commands()...)
	if err != nil {
		t.Fatal(err)
	}
	var b, errs bytes.Buffer
	s := &cmd.Session{Kernel: k, Commands: table, Out: cmd.NewJSONOutput(&b, &errs, report.Era19041), Eval: hexEval{}}
	if err := s.Execute(context.Background(), `!pooltag ACPI`); err != nil {
		t.Fatal(err, errs.String())
	}
	const head = `{"command":"!pooltag","args":"ACPI","record":`
	place := func(at, offset string) string {
		return `{"address":"0xfffff8048b59` + at + `","offset":` + offset + `,"symbol":null,"section":".rdata","kind":"data","protected":false,"instruction":null}`
	}
	want := head + `"pool_tag_description","tag":"ACPI","value":"0x49504341","description":"ACPI driver, unspecific","binary":"acpi.sys","as":"ACPI","file":null,"line":13}` + "\n" +
		head + `"note","text":"The kernel's counters of tags are not known: the pool tracker table is not in this dump: a triage dump has no tables of the pool."}` + "\n" +
		head + `"pool_tag_image","tag":"ACPI","image":"amdppm.sys","module":"amdppm","start":"0xfffff8048b580000","kernel":false,"kind":"data","count":3,"places":[` +
		place("0978", "67960") + "," + place("0990", "67984") + "," + place("09a8", "68008") + `],"missing_pages":13,"described":false}` + "\n" +
		head + `"pool_tag_images","images":151,"holding":1,"bytes":N,"missing_pages":N,"partly":151,"absent":140,"unlooked":0}` + "\n" +
		head + `"end","ok":true,"skipped":N,"elapsed_ms":N}` + "\n"
	got := regexp.MustCompile(`("bytes"|"missing_pages"|"skipped"|"elapsed_ms"):[0-9.]{3,}`).ReplaceAllString(b.String(), "$1:N")
	if diff := gocmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestSignature(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		sizes pool.TagSizes
		want  string
	}{
		{pool.TagSizes{}, "none live"},
		{pool.TagSizes{Bytes: 0x900, Sizes: []pool.SizeUse{{Size: 0x90, Live: 16}}}, "0x90 x 16 (100%)"},
		{pool.TagSizes{Bytes: 0x90 * 4, Sizes: []pool.SizeUse{{Size: 0x90, Live: 3}, {Size: 0x50, Live: 1}, {Size: 0x40, Live: 1}, {Size: 0x20, Live: 1}, {Size: 0x20, Freed: 1}}},
			"0x90 x 3 (75%), 0x50 x 1, 0x40 x 1, ..."},
		{pool.TagSizes{Sizes: []pool.SizeUse{{Size: 0x90, Freed: 3}}}, "none live"},
	} {
		if got := signature(c.sizes); got != c.want {
			t.Errorf("%+v: %s, want %s", c.sizes, got, c.want)
		}
	}
}
