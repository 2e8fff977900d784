package pool

import (
	"encoding/binary"
	"fmt"
	"testing"

	gocmp "github.com/google/go-cmp/cmp"

	"gokd/model"
	"gokd/model/mem"
	"gokd/model/pool/cell"
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

// decodeOne decodes a page as a worker does.
func decodeOne(page *[pageSize]byte, kind Kind) *worker {
	k := newWorker(&scanner{q: Query{Kind: kind}}, &window{}, 0)
	k.room(pageCells)
	k.page(page, page, 0xffff900000001000, 0)
	return k
}

// said puts what a worker counted in words.
func said(k *worker) string {
	text := fmt.Sprintf("%d scanned, %d broken, %d other, %d blocks", k.count.PagesScanned, k.count.PagesBroken, k.count.PagesOther, len(k.cur))
	for _, e := range k.errs {
		text += fmt.Sprintf("; behind %d: %v", e.cells, e.err)
	}
	return text
}

func TestPage_decodes(t *testing.T) {
	t.Parallel()
	const base = mem.VA(0xffff900000001000)
	m := fakeMemory{0x5000: goodPage(), fakeRoot: new([pageSize]byte)}
	for at, to := range map[mem.PA]mem.PA{fakeRoot: 0x2000, 0x2000: 0x3000, 0x3000: 0x4000, 0x4000: 0x5000} {
		if m[at] == nil {
			m[at] = new([pageSize]byte)
		}
		i := map[mem.PA]int{fakeRoot: fakeSlot, 0x4000: 1}[at]
		entry(m[at], i, to)
	}
	p := &Pool{k: &model.Kernel{Space: mem.NewX64(m, fakeRoot)}}
	k := decodeOne(goodPage(), Nonpaged)
	var got []Block
	for _, c := range k.cur {
		got = append(got, p.blockOf(c, Range{Kind: Nonpaged, space: p.k.Space}, nil))
	}
	want := []Block{
		{Header: base, Body: base + 0x10, Size: 0x100, Room: 0x100, Type: 2, Tag: tagOf("AAAA")},
		{Header: base + 0x100, Body: base + 0x110, Size: 0xe00, Room: 0xe00, PreviousSize: 0x100, State: Free, Tag: tagOf("BBBB")},
		{
			Header: base + 0xf00, Body: base + 0xf10, Size: 0x100, Room: 0x100, PreviousSize: 0xe00, Type: 10,
			Tag: tagOf("CCCC"), Protected: true, Billed: 0x1122334455667788,
		},
	}
	if d := gocmp.Diff(want, got); d != "" || said(k) != "1 scanned, 0 broken, 0 other, 3 blocks" {
		t.Errorf("%s (-want +got):\n%s", said(k), d)
	}
	cover := Coverage{Allocated: 0x200, Free: 0xe00}
	if k.count.Coverage != cover {
		t.Errorf("covers %+v, want %+v", k.count.Coverage, cover)
	}
}

func TestPage_damage(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name string
		kind Kind
		harm func(*[pageSize]byte)
		want string
	}{
		{"zero size", Nonpaged, func(p *[pageSize]byte) { p[0x102] = 0 },
			"1 scanned, 1 broken, 0 other, 1 blocks; behind 1: _POOL_HEADER at 0xffff900000001100: BlockSize is zero; 1 blocks before it in the page"},
		{"wrong previous size", Nonpaged, func(p *[pageSize]byte) { p[0xf00] = 1 },
			"1 scanned, 1 broken, 0 other, 2 blocks; behind 2: _POOL_HEADER at 0xffff900000001f00: PreviousSize is 0x10, the block before it has another size; 2 blocks before it in the page"},
		{"past the page", Nonpaged, func(p *[pageSize]byte) { p[0x102] = 0xf1 },
			"1 scanned, 1 broken, 0 other, 1 blocks; behind 1: _POOL_HEADER at 0xffff900000001100: BlockSize 0xf10 runs past the end of the page; 1 blocks before it in the page"},
		{"first block zero", Nonpaged, func(p *[pageSize]byte) { p[2] = 0 },
			"1 scanned, 1 broken, 0 other, 0 blocks; behind 0: _POOL_HEADER at 0xffff900000001000: BlockSize is zero; 0 blocks before it in the page"},
		{"first block follows another", Nonpaged, func(p *[pageSize]byte) { p[0] = 1 }, "0 scanned, 0 broken, 1 other, 0 blocks"},
		{"broken, and of the other pool", Paged, func(p *[pageSize]byte) { p[0x102] = 0 }, "0 scanned, 0 broken, 1 other, 0 blocks"},
		{"broken, and no tag", Nonpaged, func(p *[pageSize]byte) { p[0x102], p[5] = 0, 1 }, "0 scanned, 0 broken, 1 other, 0 blocks"},
		{"empty", Nonpaged, func(p *[pageSize]byte) { clear(p[:]) }, "0 scanned, 0 broken, 1 other, 0 blocks"},
		{"all ones", Nonpaged, func(p *[pageSize]byte) {
			for i := range p {
				p[i] = 0xff
			}
		}, "0 scanned, 0 broken, 1 other, 0 blocks"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			p := goodPage()
			c.harm(p)
			k := decodeOne(p, c.kind)
			if said(k) != c.want {
				t.Errorf("%s; want %s", said(k), c.want)
			}
			if sum := k.count.Coverage.Sum(); sum != pageSize {
				t.Errorf("%#x bytes are accounted for: %+v", sum, k.count.Coverage)
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
		k := decodeOne(&page, Kind(kind%4))
		const base = mem.VA(0xffff900000001000)
		next, previous := base, uint64(0)
		var free, used uint64
		for _, c := range k.cur {
			if c.Header() != next || c.Size() == 0 || c.Room() != c.Size() || c.Previous() != previous {
				t.Fatalf("block %+v does not follow %#x", c, uint64(next))
			}
			next, previous = next+mem.VA(c.Size()), c.Size()
			if c.State() == cell.Free {
				free += c.Size()
			} else {
				used += c.Size()
			}
		}
		cover := k.count.Coverage
		if cover.Sum() != pageSize || cover.Free != free || cover.Allocated != used {
			t.Fatalf("%d cells of %#x free and %#x used bytes, covers %+v", len(k.cur), free, used, cover)
		}
		if broken := k.count.PagesBroken == 1; broken != (len(k.errs) == 1) || broken != (cover.Damaged > 0) {
			t.Fatalf("%+v, %d errors", k.count, len(k.errs))
		}
		if k.count.PagesOther == 1 && len(k.cur) != 0 {
			t.Fatalf("%d blocks of a page that holds none", len(k.cur))
		}
	})
}
