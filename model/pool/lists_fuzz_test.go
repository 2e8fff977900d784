package pool

import (
	"testing"

	"gokd/model/mem"
	"gokd/model/pool/heaptest"
	"gokd/model/types"
)

// FuzzLists writes bytes over the descriptors, the list heads and the links of
// free blocks: every walk ends, and gives only addresses that can be blocks.
func FuzzLists(f *testing.F) {
	f.Add([]byte{0, 0, 0, 0x80, 0xfa, 0xff, 0xff, 0xff}, uint16(0x100), uint16(0x140))
	f.Add([]byte{1, 0x02}, uint16(0), uint16(8))
	f.Add(make([]byte, 64), uint16(0x1130), uint16(0))
	var layout *types.Layout
	for _, l := range types.Layouts() {
		if l.Family() == "14393" {
			layout = l
		}
	}
	f.Fuzz(func(t *testing.T, data []byte, at, link uint16) {
		b := heaptest.New(t, layout)
		d := newDescriptors(b, 2)
		first := b.Alloc(heaptest.Ask{Pool: heaptest.Paged, Tag: "Some", Bytes: 100})
		for range 8 {
			b.Free(b.Alloc(heaptest.Ask{Pool: heaptest.Paged, Tag: "Some", Bytes: 32}))
		}
		p := openBuilt(t, b)
		d.install().list(b.Blocks())
		data = data[:min(len(data), 0x200)]
		b.M.Put(d.paged[0]+mem.VA(at)%0xf00, data...)
		b.M.Put(first.Header.Page()+mem.VA(link)%0xe00, data...)
		for range p.Descriptors(t.Context()) {
		}
		lists, err := p.FreeLists(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		for i, v := range lists.entries {
			header := mem.VA(listedKey(v) | 0xffff<<48)
			if e, ok := lists.Find(header); !ok || header%HeaderSize != 0 || e.Header != header {
				t.Errorf("entry %d: %#x, %+v", i, v, e)
			}
		}
		for at := range p.cachedBlocks(t.Context()) {
			if !kernelAddress(at) || at%HeaderSize != 0 {
				t.Errorf("cached %#x", uint64(at))
			}
		}
	})
}
