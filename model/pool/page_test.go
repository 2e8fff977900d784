package pool

import (
	"encoding/binary"
	"fmt"
	"testing"

	gocmp "github.com/google/go-cmp/cmp"

	"gokd/model/mem"
)

// put writes a pool header in units of 16 bytes.
func put(page *[pageSize]byte, at, previous, size, typ int, tag string) {
	page[at], page[at+1], page[at+2], page[at+3] = byte(previous), 0, byte(size), byte(typ)
	copy(page[at+4:at+8], tag)
}

// goodPage has three blocks: allocated, free, protected.
func goodPage() *[pageSize]byte {
	var p [pageSize]byte
	put(&p, 0, 0, 0x10, 2, "AAAA")
	put(&p, 0x100, 0x10, 0xe0, 0, "BBBB")
	put(&p, 0xf00, 0xe0, 0x10, 10, "CCC\xc3")
	binary.LittleEndian.PutUint64(p[0xf08:], 0x1122334455667788)
	return &p
}

func decode(page *[pageSize]byte, kind Kind, p Pattern) (string, []Block) {
	d := newDecoder(p, kind, nil)
	blocks, state, chain, stop, why := d.page(nil, page, 0xffff900000001000)
	return fmt.Sprintf("state %d, %d blocks, stop %#x, why %d", state, chain, stop, why), blocks
}

func TestPage_decodes(t *testing.T) {
	t.Parallel()
	said, got := decode(goodPage(), Nonpaged, Pattern{})
	const base = mem.VA(0xffff900000001000)
	want := []Block{
		{Header: base, Body: base + 0x10, Size: 0x100, Type: 2, Tag: tagOf("AAAA")},
		{Header: base + 0x100, Body: base + 0x110, Size: 0xe00, PreviousSize: 0x100, State: Free, Tag: tagOf("BBBB")},
		{Header: base + 0xf00, Body: base + 0xf10, Size: 0x100, PreviousSize: 0xe00, Type: 10, Tag: tagOf("CCCC"), Protected: true, Billed: 0x1122334455667788},
	}
	if d := gocmp.Diff(want, got); d != "" || said != "state 0, 3 blocks, stop 0x1000, why 0" {
		t.Errorf("%s (-want +got):\n%s", said, d)
	}
	if said, got := decode(goodPage(), Nonpaged, pattern(t, "CCCC")); len(got) != 1 || got[0].Header != base+0xf00 {
		t.Errorf("one tag: %s, %+v", said, got)
	}
	if said, got := decode(goodPage(), Nonpaged, pattern(t, "*B*")); len(got) != 1 || got[0].Header != base+0x100 {
		t.Errorf("a pattern of alternatives: %s, %+v", said, got)
	}
}

func TestPage_damage(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name string
		kind Kind
		harm func(*[pageSize]byte)
		want string
		kept int
	}{
		{"zero size", Nonpaged, func(p *[pageSize]byte) { p[0x102] = 0 }, "state 2, 1 blocks, stop 0x100, why 2", 1},
		{"wrong previous size", Nonpaged, func(p *[pageSize]byte) { p[0xf00] = 1 }, "state 2, 2 blocks, stop 0xf00, why 1", 2},
		{"past the page", Nonpaged, func(p *[pageSize]byte) { p[0x102] = 0xf1 }, "state 2, 1 blocks, stop 0x100, why 3", 1},
		{"first block zero", Nonpaged, func(p *[pageSize]byte) { p[2] = 0 }, "state 2, 0 blocks, stop 0x0, why 2", 0},
		{"first block follows another", Nonpaged, func(p *[pageSize]byte) { p[0] = 1 }, "state 1, 0 blocks, stop 0x0, why 0", 0},
		{"broken, and of the other pool", Paged, func(p *[pageSize]byte) { p[0x102] = 0 }, "state 1, 0 blocks, stop 0x0, why 0", 0},
		{"broken, and no tag", Nonpaged, func(p *[pageSize]byte) { p[0x102], p[5] = 0, 1 }, "state 1, 0 blocks, stop 0x0, why 0", 0},
		{"empty", Nonpaged, func(p *[pageSize]byte) { clear(p[:]) }, "state 1, 0 blocks, stop 0x0, why 0", 0},
		{"all ones", Nonpaged, func(p *[pageSize]byte) {
			for i := range p {
				p[i] = 0xff
			}
		}, "state 1, 0 blocks, stop 0x0, why 0", 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			p := goodPage()
			c.harm(p)
			said, blocks := decode(p, c.kind, Pattern{})
			if said != c.want || len(blocks) != c.kept {
				t.Errorf("%s, kept %d; want %s, %d", said, len(blocks), c.want, c.kept)
			}
		})
	}
}

func FuzzPage(f *testing.F) {
	f.Add(goodPage()[:], uint8(0))
	pages := benchPages(1)
	f.Add(pages[0][:], uint8(1))
	f.Add(make([]byte, pageSize), uint8(3))
	f.Fuzz(func(t *testing.T, data []byte, kind uint8) {
		var page [pageSize]byte
		copy(page[:], data)
		d := newDecoder(Pattern{}, Kind(kind%4), nil)
		const base = mem.VA(0xffff900000000000)
		blocks, state, chain, stop, why := d.page(nil, &page, base)
		next, previous := base, uint64(0)
		for _, b := range blocks {
			if b.Header != next || b.Body != next+HeaderSize || b.Size == 0 || uint64(b.PreviousSize) != previous {
				t.Fatalf("block %+v does not follow %#x", b, uint64(next))
			}
			next, previous = b.End(), b.Size
		}
		switch state {
		case pageBlocks:
			if uint64(next-base) != pageSize || len(blocks) != chain {
				t.Fatalf("a whole page of %d blocks ends at %#x", len(blocks), uint64(next))
			}
		case pageBroken:
			if uint64(next-base) != stop || stop >= pageSize || why == breachNone {
				t.Fatalf("broken at %#x, blocks end at %#x, why %d", stop, uint64(next-base), why)
			}
			if e := pageError(&page, base, chain, stop, why); e.Error() == "" {
				t.Fatal("no words for it")
			}
		case pageOther:
			if len(blocks) != 0 {
				t.Fatalf("%d blocks of a page that holds none", len(blocks))
			}
		}
		kindByType(&page)
	})
}
