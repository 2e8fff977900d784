package pool

import (
	"testing"

	gocmp "github.com/google/go-cmp/cmp"

	"gokd/commands/report"
	"gokd/model/mem"
	"gokd/model/pool"
)

// TestFindRow_fields: the row that is written by hand has the fields of the
// record that other commands show.
func TestFindRow_fields(t *testing.T) {
	t.Parallel()
	p, err := pool.Open(openShared(t, "dumps/x64/win7.kernel.dmp.xz"))
	if err != nil {
		t.Fatal(err)
	}
	for _, b := range []pool.Block{
		{},
		{Header: 0xfffffa8000000000, Body: 0xfffffa8000000010, Size: 0xff0, PreviousSize: 0x20, Tag: pool.Tag{'A', '"', 0, 0xff}, Protected: true},
		{Header: 0xfffffa8000001000, Body: 0xfffffa8000001000, Size: 1 << 40, Tag: pool.Tag{'A', '\\', ' ', ' '}, Large: true, Kind: pool.Paged, Place: pool.InTable},
		{Header: 0x1000, Body: 0x1010, Tag: pool.Tag{'a', '<', '>', '&'}, State: pool.Free, Kind: pool.Session, Place: pool.InVS, Heap: 0xfffff80000000000, Room: 0x30},
		{Header: 0x1000, Body: 0x1010, State: pool.Cached, Kind: pool.Special, Place: pool.InSpecial},
		{Header: 0xfffffa8000001000, Billed: 0x123, Type: 8, Tag: pool.Tag{'I', 'r', 'p', ' '}},
		{Header: 0xfffffa8000001000, Billed: 0xfffffa8019007040, Type: 8},
	} {
		want := string(newBlock(p, b, true).AppendFields(nil))
		if d := gocmp.Diff(want, string((&findRow{pool: p, block: b}).AppendFields(nil))); d != "" {
			t.Errorf("(-want +got):\n%s", d)
		}
	}
}

// TestFindRow_text: sizes stand right-aligned in nine columns, zero is bare.
func TestFindRow_text(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		size uint64
		want string
	}{
		{0, "ffff830da0ce8010 : tag Pr.c, size         0, Paged pool\n"},
		{1, "ffff830da0ce8010 : tag Pr.c, size       0x1, Paged pool\n"},
		{0xb70, "ffff830da0ce8010 : tag Pr.c, size     0xb70, Paged pool\n"},
		{0x1234567, "ffff830da0ce8010 : tag Pr.c, size 0x1234567, Paged pool\n"},
		{1 << 40, "ffff830da0ce8010 : tag Pr.c, size 0x10000000000, Paged pool\n"},
	} {
		b := pool.Block{Body: 0xffff830da0ce8010, Size: c.size + pool.HeaderSize, Tag: pool.Tag{'P', 'r', 7, 'c'}, Kind: pool.Paged}
		if d := gocmp.Diff(c.want, string((&findRow{block: b}).AppendText(nil, report.Era19041))); d != "" {
			t.Errorf("(-want +got):\n%s", d)
		}
	}
	if got := string(appendPointer(nil, uint64(mem.VA(0x12)))); got != "0000000000000012" {
		t.Error(got)
	}
}
