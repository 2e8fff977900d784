package pool

import (
	"bytes"
	"encoding/hex"
	"testing"

	gocmp "github.com/google/go-cmp/cmp"

	"gokd/commands/report"
	"gokd/model/pool"
)

// TestPageRows_transcripts holds rows of !pool against lines that kd printed
// (public transcripts), in their 64-bit form.
func TestPageRows_transcripts(t *testing.T) {
	t.Parallel()
	tag := func(s string) pool.Tag { return pool.Tag([]byte(s)) }
	row := func(marked bool, desc string, b pool.Block) *pageBlock {
		return &pageBlock{blockRecord: &blockRecord{block: b}, marked: marked, desc: desc}
	}
	paged, nonpaged := "Paged", "Nonpaged"
	words, _ := hex.DecodeString("ffffffff5c0057004e0049004f004400" + "ffffffff5c0053007900730074006500")
	dump := row(false, "", pool.Block{Header: 0xe1001000, Body: 0xe1001008, Size: 0x40, Tag: tag("MmDT")})
	dump.contents = &contents{at: 0xe1001008, bytes: [32]byte(words), known: 32}
	torn := row(false, "", pool.Block{Header: 0xffffe2809abeeff0, Body: 0xffffe2809abef000, Size: 0x10, Tag: tag("MmDT")})
	torn.contents = &contents{at: 0xffffe2809abef000, known: 4}
	for _, c := range []struct {
		name string
		era  report.Era
		rec  report.Record
		want string
	}{
		{"paged pool", report.Era19041, &pageLine{Page: 0xffffe2809abee000, Pool: &paged}, "Pool page ffffe2809abee000 region is Paged pool\n"},
		{"nonpaged pool", report.Era62, &pageLine{Page: 0xfffffa800dba6fa0, Pool: &nonpaged}, "Pool page fffffa800dba6fa0 region is Nonpaged pool\n"},
		{"no pool", report.Era19041, &pageLine{Page: 0xffff80091002ac08}, "Pool page ffff80091002ac08 region is Unknown\n"},
		{"marked", report.Era19041, row(true, "Pooltag MmSt : Mm section object prototype ptes, Binary : nt!mm",
			pool.Block{Header: 0xffffe2809abee000, Body: 0xffffe2809abee010, Size: 0x880, Room: 0x880, Tag: tag("MmSt"), Place: pool.InVS}),
			"*ffffe2809abee000 size:  880 previous size:    0  (Allocated) *MmSt\n\t\tPooltag MmSt : Mm section object prototype ptes, Binary : nt!mm\n"},
		{"free chunk", report.Era19041, row(false, "",
			pool.Block{Header: 0xffffe2809abee890, Body: 0xffffe2809abee8a0, Size: 0x750, Room: 0x750, Tag: tag("\x05r.\""), Place: pool.InVS, State: pool.Free}),
			" ffffe2809abee880 size:  760 previous size:    0  (Free)       .r.\"\n"},
		{"free chunk over a page", report.Era19041, row(true, "Owning component : Unknown (update pooltag.txt)",
			pool.Block{Header: 0xffffbd06d46dfff0, Body: 0xffffbd06d46e0000, Size: 0x8010, Room: 0x8010, Tag: tag(">\x01g."), Place: pool.InVS, State: pool.Free}),
			"*ffffbd06d46dffe0 size: 8020 previous size:    0  (Free)      *>.g.\n\t\tOwning component : Unknown (update pooltag.txt)\n"},
		{"slot", report.Era19041, row(true, "Pooltag Proc : Process objects, Binary : nt!ps",
			pool.Block{Header: 0xffff8287b5c5b050, Body: 0xffff8287b5c5b060, Size: 0xe80, Tag: tag("Proc"), Place: pool.InLFH}),
			"*ffff8287b5c5b050 size:  e80 previous size:    0  (Allocated) *Proc\n\t\tPooltag Proc : Process objects, Binary : nt!ps\n"},
		{"large, 6.2", report.Era62, row(true, "",
			pool.Block{Header: 0xfffffa800dba5000, Body: 0xfffffa800dba5000, Size: 0x1fb0, Tag: tag("Io  "), Large: true}),
			"*fffffa800dba5000 : large page allocation, Tag is Io  , size is 0x1fb0 bytes\n"},
		{"large", report.Era26100, row(true, "",
			pool.Block{Header: 0xffff8287ad34f000, Body: 0xffff8287ad34f000, Size: 0x1000, Tag: tag("Proc"), Large: true}),
			"*ffff8287ad34f000 : large page allocation, tag is Proc, size is 0x1000 bytes\n"},
		{"rest of a page", report.Era62, row(true, "Owning component : Unknown (update pooltag.txt)",
			pool.Block{Header: 0xfffffa800dba6fb0, Body: 0xfffffa800dba6fc0, Size: 0x10, Tag: tag("Frag")}),
			"*fffffa800dba6fb0 size:   10 previous size:    0  (Allocated) *Frag\n\t\tOwning component : Unknown (update pooltag.txt)\n"},
		{"contents", report.Era19041, dump, " 00000000e1001000 size:   40 previous size:    0  (Allocated)  MmDT\n" +
			" 00000000e1001008  ffffffff 0057005c 0049004e 0044004f\n    00000000e1001018  ffffffff 0053005c 00730079 00650074\n\n"},
		{"contents that end", report.Era19041, torn, " ffffe2809abeeff0 size:   10 previous size:    0  (Allocated)  MmDT\n" +
			" ffffe2809abef000  00000000 ???????? ???????? ????????\n    ffffe2809abef010  ???????? ???????? ???????? ????????\n\n"},
		{"old row", report.Era19041, row(true, "", pool.Block{Header: 0x9655d468, Body: 0x9655d470, Size: 0xb0, PreviousSize: 8, Tag: tag("Bug_")}),
			"*000000009655d468 size:   b0 previous size:    8  (Allocated) *Bug_\n"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			var b bytes.Buffer
			if err := report.NewPrinter(&b, c.era, false).Emit(c.rec); err != nil {
				t.Fatal(err)
			}
			if d := gocmp.Diff(c.want, b.String()); d != "" {
				t.Errorf("(-want +got):\n%s", d)
			}
		})
	}
}
