package pool

import (
	"encoding/binary"
	"slices"
	"testing"

	"gokd/model/mem"
	"gokd/model/pool/heaptest"
	"gokd/model/types"
)

func TestSlist(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		low, high uint64
		first     mem.VA
		depth     uint16
	}{
		"sixteen bytes": {0x0000000000120003, 0xffffa80012345671, 0xffffa80012345670, 3},
		"without type":  {2, 0xffffa80012345670, 0xffffa80012345670, 2},
		"eight bytes":   {0x12345670>>4<<25 | 7<<16 | 4, 0xe000000000000002, 0xfffff80012345670, 4},
		"empty":         {0, 0, 0, 0},
		"empty, used":   {0x5510000, 1, 0, 0},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var b [16]byte
			binary.LittleEndian.PutUint64(b[:], c.low)
			binary.LittleEndian.PutUint64(b[8:], c.high)
			if first, depth := slist(&b); first != c.first || depth != c.depth {
				t.Errorf("%#x, %d", uint64(first), depth)
			}
		})
	}
}

// TestCached caches blocks on the lists of two processors.
func TestCached(t *testing.T) {
	t.Parallel()
	forFamilies(t, 0, lastPagePool, func(t *testing.T, b *heaptest.Builder) {
		b.Processor()
		var want []mem.VA
		for i := range 20 {
			k := b.Alloc(heaptest.Ask{Pool: heaptest.Paged, Tag: "Look", Bytes: 48})
			if i%3 == 0 {
				b.Cache(k)
				want = append(want, k.Body)
			}
		}
		p := openBuilt(t, b)
		if got := cachedBodies(t, p, Query{Kind: Paged}); !slices.Equal(got, want) {
			t.Errorf("cached %x, want %x", got, want)
		}
	})
}

// TestCached_shared follows lists that a processor's block names, as builds up to
// Vista have them: one of its own and one of all.
func TestCached_shared(t *testing.T) {
	t.Parallel()
	b := heaptest.New(t, family(t, "7601-early"))
	var list [3]mem.VA
	for i := range list {
		list[i] = b.Alloc(heaptest.Ask{Pool: heaptest.Paged, Tag: "Look", Bytes: 48}).Body
	}
	heads := b.M.Variable(0x200)
	pairs := b.M.Variable(0x40)
	p := openBuilt(t, b)
	for i, at := range []mem.VA{heads, heads + 0x80} {
		b.M.Put64(at, uint64(1+i))
		b.M.Put64(at+8, uint64(list[i])|1)
		b.M.Put64(pairs+mem.VA(8*i), uint64(at))
	}
	b.M.Put64(list[1], uint64(list[2]))
	old := oldLists{p.k.Types}
	k := *p.k
	k.Types = old
	p.k = &k
	got := map[mem.VA]bool{}
	p.followArray(k.Space, k.Object("_PAIRS", pairs).Field("Lists"), got)
	for _, at := range list {
		if !got[at] {
			t.Errorf("%#x is not known: %v", uint64(at), got)
		}
	}
}

// oldLists are layouts with an array of pairs of lists.
type oldLists struct{ types.Store }

func (o oldLists) Type(name string) (*types.Type, error) {
	if name != "_PAIRS" {
		return o.Store.Type(name)
	}
	pair, err := o.Store.Type("_PP_LOOKASIDE_LIST")
	if err != nil {
		return nil, err
	}
	array := &types.Type{Kind: types.KindArray, Name: "_PP_LOOKASIDE_LIST[1]", Elem: pair, Count: 1, Size: pair.Size}
	return &types.Type{Kind: types.KindStruct, Name: name, Size: pair.Size, Fields: []types.Field{{Name: "Lists", Type: array}}}, nil
}
