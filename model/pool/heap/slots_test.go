package heap

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	"gokd/model/mem"
	"gokd/model/pool/heaptest"
	"gokd/model/types"
)

// slotted is a store of types whose VS contexts have slots, as those of Windows
// 11 24H2.
type slotted struct{ types.Store }

func (s slotted) Type(name string) (*types.Type, error) {
	u2 := &types.Type{Name: "u2", Kind: types.KindInt, Size: 2}
	u8 := &types.Type{Name: "u8", Kind: types.KindInt, Size: 8}
	delay, err := s.Store.Type("_HEAP_VS_DELAY_FREE_CONTEXT")
	if err != nil {
		return nil, err
	}
	switch name {
	case "_HEAP_VS_CONTEXT":
		return &types.Type{Name: name, Kind: types.KindStruct, Size: 0x60, Fields: []types.Field{
			{Name: "SlotMapRef", Offset: 0x50, Type: u2}, {Name: "AffinityMask", Offset: 0x52, Type: u2},
		}}, nil
	case "_HEAP_VS_SLOT_MAP":
		return &types.Type{Name: name, Kind: types.KindStruct, Size: 4, Fields: []types.Field{{Name: "SlotRef", Offset: 2, Type: u2}}}, nil
	case "_HEAP_VS_AFFINITY_SLOT":
		return &types.Type{Name: name, Kind: types.KindStruct, Size: 0x80, Fields: []types.Field{
			{Name: "VsContext", Type: u8}, {Name: "DelayFreeContext", Offset: 0x40, Type: delay},
		}}, nil
	}
	return s.Store.Type(name)
}

// TestSlots finds delayed frees in the slots of a VS context.
func TestSlots(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		put   func(b *heaptest.Builder, context, slots mem.VA)
		want  map[string]int
		means []string // trouble, from its second sentence on
	}{
		"two slots": {func(b *heaptest.Builder, context, slots mem.VA) {}, map[string]int{"Dely": 3}, nil},
		"a slot of another context": {
			func(b *heaptest.Builder, context, slots mem.VA) { b.M.Put64(slots+0x80, 0x1234) }, map[string]int{"Dely": 1},
			[]string{"_HEAP_VS_AFFINITY_SLOT at SLOT: it says that it is of the context at 0x1234; in the area at HEAP"},
		},
		"no map": {
			func(b *heaptest.Builder, context, slots mem.VA) { b.M.Put(context+0x50, 0, 0) }, map[string]int{},
			[]string{"a map of 4 slots at CONTEXT makes no sense"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b, v := small(t, 22000)
			var body []mem.VA
			for range 3 {
				body = append(body, v.Alloc(heaptest.Ask{Tag: "Dely", Bytes: 0x40}).Body)
			}
			k := b.Open()
			vs, _ := b.M.Field("_SEGMENT_HEAP", "VsContext")
			var context, slots mem.VA
			for i, p := range []heaptest.Pool{heaptest.NonpagedNx, heaptest.Paged} {
				at := b.Heap(p, 0).At
				context, slots = at+mem.VA(vs), at+mem.VA(vs)+16*64
				b.M.Put(context+0x50, 12, 0, 3, 0) // the map 12 units on, four entries
				b.M.Put(context+12*64, 0, 0, 16, 0, 0, 0, 18, 0, 0, 0, 16, 0, 0, 0, 0, 0)
				for s := range mem.VA(2) {
					b.M.Put64(slots+s*0x80, uint64(context))
				}
				if i == 0 { // one entry in the first slot, two in the second
					list(b, slots+0x40, body[:1])
					list(b, slots+0x80+0x40, body[1:])
					c.put(b, context, slots)
				}
			}
			k.Types = slotted{k.Types}
			h, err := Open(t.Context(), k)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(c.want, cachedTags(t, h)); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
			at := b.Heap(heaptest.NonpagedNx, 0).At
			var want []string
			for _, s := range c.means {
				s = replace(s, "SLOT", at+mem.VA(vs)+18*64)
				s = replace(replace(s, "HEAP", at), "CONTEXT", at+mem.VA(vs))
				want = append(want, "delayed frees of the _HEAP_VS_CONTEXT at "+hex(at+mem.VA(vs))+": "+s)
			}
			if diff := cmp.Diff(want, messages(h.Trouble)); diff != "" {
				t.Errorf("trouble (-want +got):\n%s", diff)
			}
		})
	}
}

// replace puts an address in the place of the last occurrence of a word that
// stands alone.
func replace(s, word string, at mem.VA) string {
	for i := len(s) - len(word); i > 0; i-- {
		if s[i:i+len(word)] == word && s[i-1] == ' ' {
			return s[:i] + hex(at) + s[i+len(word):]
		}
	}
	return s
}

// list writes a singly linked list of freed blocks.
func list(b *heaptest.Builder, head mem.VA, entries []mem.VA) {
	next := mem.VA(0)
	for _, at := range entries {
		b.M.Put64(at, uint64(next))
		next = at
	}
	b.M.Put64(head, uint64(len(entries)))
	b.M.Put64(head+8, uint64(next))
}
