package pool

import (
	"bytes"
	"testing"

	gocmp "github.com/google/go-cmp/cmp"

	"gokd/commands/report"
	"gokd/model/mem"
	"gokd/model/pool"
)

// drawn gives the text of records on a terminal of a width; 0 is none.
func drawn(columns int, records ...report.Record) string {
	var b bytes.Buffer
	p := report.NewPrinter(&b, report.Era19041, false)
	if columns > 0 {
		p.Screen = &report.Screen{Columns: func() int { return columns }, Blocks: true}
	}
	for _, r := range records {
		r.WriteText(p)
	}
	return b.String()
}

func TestBar(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		n, most       uint64
		width         int
		ascii, blocks string
	}{
		{0, 10, 10, "", ""}, {10, 10, 5, "#####", "█████"}, {5, 10, 5, "###", "██▌"}, {1, 1000000, 10, "|", "▏"},
		{99, 100, 10, "##########", "█████████▉"}, {20, 10, 4, "####", "████"}, {5, 10, 0, "", ""}, {5, 0, 4, "", ""},
	} {
		if a, b := bar(false, c.n, c.most, c.width), bar(true, c.n, c.most, c.width); a != c.ascii || b != c.blocks {
			t.Errorf("%d of %d in %d: %q %q, want %q %q", c.n, c.most, c.width, a, b, c.ascii, c.blocks)
		}
	}
}

func TestTagBar(t *testing.T) {
	t.Parallel()
	leak, binary := "Leak", "myfault.sys"
	rows := []report.Record{
		&tagBar{Tag: &leak, Bytes: 900, Binary: &binary, tag: pool.Tag([]byte("Leak")), total: 1000, max: 900},
		&tagBar{Tag: &leak, Bytes: 90, tag: pool.Tag([]byte("\x1b[2J")), total: 1000, max: 900},
		&tagBar{Tags: 1, Bytes: 10, total: 1000, max: 900},
	}
	want := " Leak    90%           900  ####################################  myfault.sys\n" +
		" .[2J   9.0%            90  ####\n" +
		" rest   1.0%            10                                        1 tag\n"
	if diff := gocmp.Diff(want, drawn(0, rows...)); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	want = " Leak    90%           900  ████████████████  myfault.sys\n" +
		" .[2J   9.0%            90  █▋\n" +
		" rest   1.0%            10                    1 tag\n"
	if diff := gocmp.Diff(want, drawn(20, rows...)); diff != "" {
		t.Errorf("narrow (-want +got):\n%s", diff)
	}
}

// picture has a full, a half, a little used, a free, a large and a missing unit,
// and one far away.
func picture() *pool.Picture {
	const at mem.VA = 0xfffffa8000c00000
	return &pool.Picture{Kind: pool.Nonpaged, Unit: 0x1000, Units: []pool.MapUnit{
		{At: at, Density: pool.Density{Used: 0x1000}},
		{At: at + 0x1000, Density: pool.Density{Used: 0x800, Free: 0x700}},
		{At: at + 0x2000, Density: pool.Density{Used: 0x300}},
		{At: at + 0x3000, Density: pool.Density{Used: 0x300, Cached: 0x200, Free: 0x200}},
		{At: at + 0x5000, Density: pool.Density{Large: 0x1000}},
		{At: at + 0x6000, Density: pool.Density{Missing: 0x1000}},
		{At: at + 0x1000000, Density: pool.Density{Used: 0x1000}},
	}}
}

func TestUseMap(t *testing.T) {
	t.Parallel()
	want := "Map of nonpaged pool, a character for 0x1000 bytes:\n\n" +
		" fffffa80`00c00000  #+-. L?\n fffffa80`01c00000  #\n\n" +
		" # in use, + in part, - little, . more free than used, L large allocations, ? not here\n"
	if diff := gocmp.Diff(want, drawn(0, newUseMap(picture()))); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	want = "Map of nonpaged pool, a character for 0x1000 bytes:\n\n" +
		" fffffa80`00c00000  █▓░· L?\n fffffa80`01c00000  █\n\n" +
		" █ in use, ▓ in part, ░ little, · more free than used, L large allocations, ? not here\n"
	if diff := gocmp.Diff(want, drawn(132, newUseMap(picture()))); diff != "" {
		t.Errorf("blocks (-want +got):\n%s", diff)
	}
	if got := drawn(0, newUseMap(&pool.Picture{Kind: pool.Paged})); got != "Map of paged pool: nothing to draw\n" {
		t.Errorf("empty: %q", got)
	}
	// Units that lie far apart: the scale grows until there are few rows.
	far := &pool.Picture{Kind: pool.Paged, Unit: 0x1000}
	for i := range mem.VA(1000) {
		far.Units = append(far.Units, pool.MapUnit{At: 0xfffff8a000000000 + i<<20, Density: pool.Density{Used: 0x1000}})
	}
	rows := rowsOf(far.Units, far.Unit, 48)
	if text := drawn(0, newUseMap(far)); len(rows) != 1000 || bytes.Count([]byte(text), []byte("`")) > mapRows {
		t.Errorf("%d rows at first:\n%s", len(rows), text)
	}
}

func TestPercent(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		part, of uint64
		want     string
	}{{0, 0, "-"}, {0, 5, "-"}, {5, 5, "100%"}, {999999, 1000000, "99.9%"}, {1, 1000000, "<0.1%"}, {1, 100, "1.0%"},
		{99960, 1000000, "10%"}, {50, 100, "50%"}, {985, 1000, "98%"}, {995, 1000, "99.5%"}} {
		if got := percent(c.part, c.of); got != c.want {
			t.Errorf("%d of %d: %s, want %s", c.part, c.of, got, c.want)
		}
	}
}

func TestSpellTag(t *testing.T) {
	t.Parallel()
	for tag, want := range map[string]string{"Leak": "Leak", "Irp ": "Irp", "A B ": `"A B "`, "a;b\"": `"a;b\""`, "0x12": `"0x12"`, "\x01abc": `\x01abc`} {
		if got := spellTag(pool.Tag([]byte(tag))); got != want {
			t.Errorf("%q: %s, want %s", tag, got, want)
		}
	}
}
