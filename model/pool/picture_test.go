package pool

import (
	"context"
	"math/rand/v2"
	"testing"

	gocmp "github.com/google/go-cmp/cmp"

	"gokd/dumpfmt/dumptest/shared"
	"gokd/model/mem"
	"gokd/model/modeltest"
)

// TestPicture_sums holds the map, the classes and the walk's account against
// each other.
func TestPicture_sums(t *testing.T) {
	t.Parallel()
	for _, file := range []string{"dumps/x64/win7.kernel.dmp.xz", "dumps/x64/w10_19041.full.dmp.xz", "dumps/series/leak-6.kernel.dmp.xz"} {
		for _, kind := range []Kind{Nonpaged, Paged} {
			t.Run(file+"/"+kind.String(), func(t *testing.T) {
				t.Parallel()
				p, err := Open(modeltest.OpenDump(t, shared.Path(t, file)))
				if err != nil {
					t.Fatal(err)
				}
				pic, err := p.Picture(context.Background(), kind, nil)
				if err != nil || pic.LargeErr != nil || pic.MissingErr != nil {
					t.Fatal(err, pic.LargeErr, pic.MissingErr)
				}
				var units, classes Density
				for i, u := range pic.Units {
					units.add(u.Density)
					if uint64(u.At)%pic.Unit != 0 || i > 0 && u.At <= pic.Units[i-1].At {
						t.Errorf("unit %d at %#x", i, uint64(u.At))
					}
				}
				last := len(pic.Classes) - 1
				for _, c := range pic.Classes[:last] {
					classes.add(Density{Used: c.Bytes, Cached: c.CachedBytes, Free: c.FreeSize})
				}
				classes.Large = pic.Classes[last].Bytes
				// A heap gives back pages that its page tables still name.
				if classes.Missing = pic.Summary.PagesMissing * pageSize; !p.PagePool() {
					classes.Missing = max(classes.Missing, units.Missing)
				}
				if diff := gocmp.Diff(classes, units); diff != "" {
					t.Errorf("classes and map (-classes +map):\n%s", diff)
				}
				if c := pic.Summary.Coverage; c.Allocated != units.Used && p.PagePool() || units.Used == 0 {
					t.Errorf("the walk counts %d bytes in use, the map %d", c.Allocated, units.Used)
				}
				if len(pic.Units) > maxUnits {
					t.Errorf("%d units", len(pic.Units))
				}
			})
		}
	}
}

// TestUseMap adds at random and holds the map against a plain sum per page.
func TestUseMap(t *testing.T) {
	t.Parallel()
	rnd := rand.New(rand.NewPCG(1, 2))
	m := newMap()
	pages := map[mem.VA]*[uses]uint64{}
	const base mem.VA = 0xffff_e000_0000_0000
	for range 30_000 {
		at := base + mem.VA(rnd.Uint64N(1<<32)&^0xf)
		size, u := rnd.Uint64N(0x3000)&^0xf, use(rnd.IntN(int(uses)))
		m.add(at, size, u)
		for off := uint64(0); off < size; off += 0x10 {
			page := (at + mem.VA(off)).Page()
			if pages[page] == nil {
				pages[page] = new([uses]uint64)
			}
			pages[page][u] += 0x10
		}
	}
	if m.unit <= pageSize || len(m.units) > maxUnits {
		t.Fatalf("%d units of %#x", len(m.units), m.unit)
	}
	want := map[mem.VA]Density{}
	for page, d := range pages {
		at := page - mem.VA(uint64(page)%m.unit)
		e := want[at]
		e.add(Density{d[useUsed], d[useCached], d[useFree], d[useLarge], d[useMissing]})
		want[at] = e
	}
	got := map[mem.VA]Density{}
	for _, u := range m.sorted() {
		got[u.At] = u.Density
	}
	if diff := gocmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	var sum, coarse Density
	for _, u := range m.sorted() {
		sum.add(u.Density)
	}
	wide := Coarser(m.sorted(), m.unit, 8)
	for _, u := range wide {
		coarse.add(u.Density)
	}
	if sum != coarse || len(wide) >= len(m.units) {
		t.Errorf("coarser: %+v in %d units, want %+v", coarse, len(wide), sum)
	}
}

// TestUseMap_lies adds what only a damaged table tells of.
func TestUseMap_lies(t *testing.T) {
	t.Parallel()
	m := newMap()
	m.add(0xffff_8000_0000_0000, 1<<62, useLarge)
	m.add(^mem.VA(0)-0xf, 1<<63, useFree)
	m.add(0xffff_8000_0000_0010, 0x10, useUsed)
	var sum Density
	for _, u := range m.sorted() {
		sum.add(u.Density)
	}
	if sum != (Density{Used: 0x10, Free: 0x10, Large: 0x8000_0000_0000}) || len(m.units) > maxUnits {
		t.Errorf("%+v in %d units", sum, len(m.units))
	}
}

func BenchmarkPicture(b *testing.B) {
	k, _ := bigDump(b)
	p, err := Open(k)
	if err != nil {
		b.Fatal(err)
	}
	x, err := p.Index(context.Background(), Nonpaged, nil)
	if err != nil {
		b.Fatal(err)
	}
	b.SetBytes(int64(x.Len()) * 16)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := p.Picture(context.Background(), Nonpaged, nil); err != nil {
			b.Fatal(err)
		}
	}
}
