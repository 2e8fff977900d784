package pool

import (
	"context"
	"errors"
	"testing"

	gocmp "github.com/google/go-cmp/cmp"

	"gokd/dumpfmt/dumptest/shared"
	"gokd/model/modeltest"
	"gokd/model/pool/cell"
)

func TestSizesByTag(t *testing.T) {
	t.Parallel()
	leak, proc := tagOf("Leak").Value(), tagOf("Proc").Value()
	got := sizesByTag(map[sizeKey]uint64{
		{tag: leak, size: 0x210}:                                   40,
		{tag: leak, size: 0x210, state: cell.Free}:                 3,
		{tag: leak, size: 0x210, state: cell.Cached}:               2,
		{tag: leak, size: 0xfa000, large: true}:                    541,
		{tag: proc, size: 0x500}:                                   7,
		{tag: proc, size: 0x40, state: cell.Cached}:                1,
		{tag: proc, size: 1 << 63, large: true}:                    4, // a table that lies
		{tag: tagOf("Gone").Value(), size: 0x20, state: cell.Free}: 9,
	})
	want := []TagSizes{
		{Tag: tagOf("Proc"), Live: 11, Bytes: 1<<64 - 1, Cached: 1, Sizes: []SizeUse{
			{Size: 1 << 63, Large: true, Live: 4}, {Size: 0x500, Live: 7}, {Size: 0x40, Cached: 1}}},
		{Tag: tagOf("Leak"), Live: 581, Bytes: 541*0xfa000 + 40*0x210, Cached: 2, Freed: 3, Sizes: []SizeUse{
			{Size: 0xfa000, Large: true, Live: 541}, {Size: 0x210, Live: 40, Cached: 2, Freed: 3}}},
		{Tag: tagOf("Gone"), Freed: 9, Sizes: []SizeUse{{Size: 0x20, Freed: 9}}},
	}
	if diff := gocmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestSizeUse_Asked(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		use         SizeUse
		least, most uint64
	}{
		{SizeUse{Size: 0x10}, 0, 0}, {SizeUse{Size: 0x20}, 1, 0x10}, {SizeUse{Size: 0x210}, 0x1f1, 0x200},
		{SizeUse{Size: 0x2000, Large: true}, 0x1001, 0x2000}, {SizeUse{Size: 0x1234, Large: true}, 0x1234, 0x1234},
		{SizeUse{Size: 0x1000, Large: true}, 0xfe1, 0x1000}, {SizeUse{Large: true}, 0, 0},
	} {
		if least, most := c.use.Asked(); least != c.least || most != c.most {
			t.Errorf("%+v: %#x to %#x, want %#x to %#x", c.use, least, most, c.least, c.most)
		}
	}
}

func TestBlockSize(t *testing.T) {
	t.Parallel()
	word := func(units uint64) uint64 { return units << 16 }
	for _, c := range []struct {
		room, units, want uint64
	}{{0x210, 0x21, 0x210}, {0x240, 0x21, 0x210}, {0x240, 0, 0x240}, {0x1230, 0x23, 0x1230}} {
		if got := blockSize(cell.New(0xfffffa8000000010, c.room, cell.Allocated, word(c.units))); got != c.want {
			t.Errorf("room %#x, %#x units: %#x, want %#x", c.room, c.units, got, c.want)
		}
	}
}

// TestSizes_sums holds the counts by size against the blocks one by one.
func TestSizes_sums(t *testing.T) {
	t.Parallel()
	for _, file := range []string{"dumps/x64/win7.kernel.dmp.xz", "dumps/x64/w10_19041.full.dmp.xz"} {
		for _, kind := range []Kind{Nonpaged, Paged} {
			t.Run(file+"/"+kind.String(), func(t *testing.T) {
				t.Parallel()
				k := modeltest.OpenDump(t, shared.Path(t, file))
				p, err := Open(k)
				if err != nil {
					t.Fatal(err)
				}
				s, err := p.Sizes(context.Background(), kind, Pattern{}, nil)
				if err != nil {
					t.Fatal(err)
				}
				want := map[Tag]uint64{}
				for b, err := range Blocks(context.Background(), k, kind, Pattern{}) {
					if err == nil && b.State == Allocated {
						want[b.Tag]++
					}
				}
				got := map[Tag]uint64{}
				for i, t := range s.Tags {
					if t.Live > 0 {
						got[t.Tag] = t.Live
					}
					if i > 0 && t.Bytes > s.Tags[i-1].Bytes {
						got[Tag{}]++ // not sorted
					}
				}
				if diff := gocmp.Diff(want, got); diff != "" || len(got) < 10 {
					t.Errorf("live blocks of %d tags (-want +got):\n%s", len(got), diff)
				}
			})
		}
	}
}

func TestSizes_ends(t *testing.T) {
	t.Parallel()
	p, err := Open(modeltest.OpenDump(t, shared.Path(t, "dumps/x64/win7.kernel.dmp.xz")))
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if _, err := p.Sizes(ctx, Nonpaged, Pattern{}, nil); !errors.Is(err, context.Canceled) {
		t.Errorf("after Ctrl-C: %v", err)
	}
}

func BenchmarkSizes(b *testing.B) {
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
		if _, err := p.Sizes(context.Background(), Nonpaged, Pattern{}, nil); err != nil {
			b.Fatal(err)
		}
	}
}
