package pool_test

import (
	"errors"
	"fmt"
	"testing"

	gocmp "github.com/google/go-cmp/cmp"

	"gokd/model"
	"gokd/model/mem"
	"gokd/model/pool"
	"gokd/model/pool/heaptest"
	"gokd/model/types"
)

// mixed makes a pool with blocks of every place that a family has.
func mixed(t testing.TB, l *types.Layout) (*heaptest.Builder, *model.Kernel) {
	t.Helper()
	b := heaptest.New(t, l)
	for i := range 60 {
		b.Alloc(heaptest.Ask{Pool: heaptest.NonpagedNx, Tag: "Leak", Bytes: uint64(i)*8 + 1, Owner: b.M.System})
		b.Alloc(heaptest.Ask{Pool: heaptest.Paged, Tag: "CM25", Bytes: uint64(i)*60 + 1})
		if i%3 == 0 {
			b.Free(b.Alloc(heaptest.Ask{Pool: heaptest.Paged, Tag: "Gone", Bytes: 48}))
		}
	}
	b.Cache(b.Alloc(heaptest.Ask{Pool: heaptest.Paged, Tag: "Kept", Bytes: 0x200 - 0x10}))
	b.Alloc(heaptest.Ask{Pool: heaptest.Paged, Tag: "Big1", Bytes: 0x5010})
	b.Alloc(heaptest.Ask{Pool: heaptest.NonpagedNx, Tag: "Big2", Bytes: 0x5000})
	return b, b.Open()
}

// TestLocate_everyBlock asks for the ends of every block of every family and
// holds the answer against what the machine was made of.
func TestLocate_everyBlock(t *testing.T) {
	t.Parallel()
	for _, l := range types.Layouts() {
		t.Run(l.Family(), func(t *testing.T) {
			t.Parallel()
			b, k := mixed(t, l)
			p, err := pool.Open(k)
			if err != nil {
				t.Fatal(err)
			}
			for _, want := range b.Blocks() {
				size := want.Size
				if size == 0 {
					size = want.Room // a free piece of a heap
				}
				for _, at := range []mem.VA{want.Header, want.Body, want.Header + mem.VA(size) - 1} {
					if err := holds(p, t, at, want); err != nil {
						t.Errorf("%s at %#x: %v", want.Tag, uint64(at), err)
					}
				}
			}
		})
	}
}

// holds asks for one address of a block.
func holds(p *pool.Pool, t *testing.T, at mem.VA, want *heaptest.Block) error {
	got, err := p.Locate(t.Context(), at)
	if err != nil {
		return err
	}
	part := pool.PartBody
	if at < want.Body {
		part = pool.PartHeader
	}
	var tag [4]byte
	copy(tag[:], want.Tag)
	state := pool.State(want.State)
	owner := want.Owner
	if state != pool.Allocated || want.Large() {
		owner = got.Owner
	}
	b := got.Block
	if !got.Found || b.Header != want.Header || b.Body != want.Body || b.Size != want.Size && state != pool.Free ||
		b.Tag != tag && state != pool.Free || b.State != state || got.Part != part || got.Owner != owner || len(got.Damage) != 0 {
		return fmt.Errorf("want %+v, got part %s, owner %#x, damage %v, block %+v", *want, got.Part, uint64(got.Owner), got.Damage, b)
	}
	if before, behind := got.Agree(); !before || !behind {
		return fmt.Errorf("headers do not agree: before %v, behind %v: %+v", before, behind, b)
	}
	if got.Next != nil && got.Next.Header < b.End() || got.Previous != nil && got.Previous.End() > b.Header {
		return fmt.Errorf("neighbours overlap: %+v, %+v", got.Previous, got.Next)
	}
	return nil
}

// harm is a page of three blocks, of which one byte or more is changed.
type harm struct {
	name  string
	off   int // from the page
	bytes []byte
	want  []string // what, relative place, why
}

// TestLocate_damage breaks a page in every known way: exact words, and where
// headers make sense again.
func TestLocate_damage(t *testing.T) {
	t.Parallel()
	for _, c := range []harm{
		{"previous size", 0x100, []byte{0x13}, []string{
			"_POOL_HEADER +0x100: PreviousSize is 0x130, the block before it has 0x100 bytes; its other fields fit; resumes +0x100; suspect +0x0: its owner may have written past its end"}},
		{"previous size, one bit", 0x100, []byte{0x11}, []string{
			"_POOL_HEADER +0x100: PreviousSize is 0x110, the block before it has 0x100 bytes; its other fields fit; resumes +0x100; one bit"}},
		{"block size zero", 0x102, []byte{0}, []string{
			"_POOL_HEADER +0x100: BlockSize is zero; the header at +0x300 says that it has 0x200 bytes; resumes +0x300; one bit"}},
		{"block size past the end", 0x102, []byte{0xf7}, []string{
			"_POOL_HEADER +0x100: BlockSize 0xf70 runs past the end of the page; the header at +0x300 says that it has 0x200 bytes; resumes +0x300; PreviousSize, PoolType and tag beside it are whole: an overrun of the block before it would have met them first"}},
		{"block size too small", 0x102, []byte{0x16}, []string{
			"_POOL_HEADER +0x100: BlockSize is 0x160, the header at +0x300 says that it has 0x200 bytes; resumes +0x300; PreviousSize, PoolType and tag beside it are whole: an overrun of the block before it would have met them first"}},
		{"block size too large", 0x102, []byte{0x60}, []string{
			"_POOL_HEADER +0x100: BlockSize is 0x600, the header at +0x300 says that it has 0x200 bytes; resumes +0x300; one bit"}},
		{"overrun", 0xf8, []byte("OVERRUN! by a driver that does not count"), []string{
			"_POOL_HEADER +0x100: PreviousSize is 0x200, the block before it has 0x100 bytes; the header at +0x300 says that it has 0x200 bytes; resumes +0x300; suspect +0x0: its owner may have written past its end"}},
		{"overrun with zeros", 0x100, make([]byte, 0x20), []string{
			"_POOL_HEADER +0x100: PreviousSize is 0x0, the block before it has 0x100 bytes; the header at +0x300 says that it has 0x200 bytes; resumes +0x300; suspect +0x0: its owner seems to have written past its end: what lies behind it is no header"}},
		{"two places", 0x100, nil, nil},
		{"the last header", 0xf00, []byte{0xff, 0xff, 0xff, 0xff, 0xff, 0xff}, []string{
			"_POOL_HEADER +0xf00: PreviousSize is 0xff0, the block before it has 0xc00 bytes; suspect +0x300: its owner seems to have written past its end: what lies behind it is no header"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			b := heaptest.New(t, types.Embedded(7601)[0])
			pg := b.Page(heaptest.NonpagedNx)
			for _, n := range []uint64{0xf0, 0x1f0, 0xbf0, 0xf0} {
				pg.Alloc(heaptest.Ask{Pool: heaptest.NonpagedNx, Tag: "Leak", Bytes: n})
			}
			k := b.Open()
			if c.bytes == nil { // two places
				c.off, c.bytes = 0x100, make([]byte, 0x10)
				b.M.Put(pg.At+0xf02, 0)
				c.want = []string{
					"_POOL_HEADER +0x100: PreviousSize is 0x0, the block before it has 0x100 bytes; the header at +0x300 says that it has 0x200 bytes; resumes +0x300; suspect +0x0: its owner seems to have written past its end: what lies behind it is no header",
					"_POOL_HEADER +0xf00: BlockSize is zero; PreviousSize, PoolType and tag beside it are whole: an overrun of the block before it would have met them first"}
			}
			b.M.Put(pg.At+mem.VA(c.off), c.bytes...)
			p, err := pool.Open(k)
			if err != nil {
				t.Fatal(err)
			}
			l, err := p.Locate(t.Context(), pg.At+0x20)
			if err != nil || !l.Found {
				t.Fatalf("the block before the damage is not found: %v", err)
			}
			if d := gocmp.Diff(c.want, damageText(l.Damage, pg.At)); d != "" {
				t.Errorf("(-want +got):\n%s", d)
			}
		})
	}
}

// damageText spells damage with places relative to a page.
func damageText(list []pool.Damage, page mem.VA) (out []string) {
	for _, d := range list {
		s := fmt.Sprintf("%s +%#x: %s", d.What, uint64(d.At-page), relative(d.Why, page))
		if d.Resume != 0 {
			s += fmt.Sprintf("; resumes +%#x", uint64(d.Resume-page))
		}
		if d.OneBit {
			s += "; one bit"
		}
		if d.Culprit != nil {
			s += fmt.Sprintf("; suspect +%#x: %s", uint64(d.Culprit.Header-page), d.Suspect)
		} else if d.Suspect != "" {
			s += "; " + d.Suspect
		}
		out = append(out, s)
	}
	return out
}

// relative replaces addresses in a page by their offsets.
func relative(text string, page mem.VA) string {
	var out []byte
	for i := 0; i < len(text); {
		var at uint64
		if n, _ := fmt.Sscanf(text[i:], "0x%x", &at); n == 1 && mem.VA(at).Page() == page {
			out = append(out, fmt.Sprintf("+%#x", at-uint64(page))...)
			for i += 2; i < len(text) && (text[i] >= '0' && text[i] <= '9' || text[i] >= 'a' && text[i] <= 'f'); i++ {
			}
			continue
		}
		out = append(out, text[i])
		i++
	}
	return string(out)
}

// TestLocate_firstHeader: an overrun from one page into the next.
func TestLocate_firstHeader(t *testing.T) {
	t.Parallel()
	b := heaptest.New(t, types.Embedded(7601)[0])
	low := b.Page(heaptest.NonpagedNx)
	low.Alloc(heaptest.Ask{Pool: heaptest.NonpagedNx, Tag: "Good", Bytes: 0x7f0})
	last := low.Alloc(heaptest.Ask{Pool: heaptest.NonpagedNx, Tag: "Bad1", Bytes: 0x7f0})
	pg := b.Page(heaptest.NonpagedNx)
	for _, n := range []uint64{0xf0, 0x1f0, 0xbf0, 0xf0} {
		pg.Alloc(heaptest.Ask{Pool: heaptest.NonpagedNx, Tag: "Leak", Bytes: n})
	}
	if pg.At != low.At+mem.PageSize {
		t.Skip("the pages do not follow each other")
	}
	k := b.Open()
	b.M.Put(pg.At-8, []byte("written by a driver")...)
	p, err := pool.Open(k)
	if err != nil {
		t.Fatal(err)
	}
	l, err := p.Locate(t.Context(), pg.At+0x310)
	if err != nil || !l.Found || l.Block.Header != pg.At+0x300 {
		t.Fatalf("%+v, %v", l.Block, err)
	}
	if len(l.Damage) != 1 || l.Damage[0].At != pg.At || l.Damage[0].Culprit == nil || l.Damage[0].Culprit.Header != last.Header {
		t.Errorf("%+v", l.Damage)
	}
	if _, err := p.Locate(t.Context(), pg.At+0x20); !errors.As(err, new(*pool.PageError)) {
		t.Errorf("an address behind the broken header: %v", err)
	}
}

// TestLocate_freedTwice: headers against the free lists.
func TestLocate_freedTwice(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name string
		harm func(b *heaptest.Builder, free *heaptest.Block)
		want string
	}{
		{"in use and on a list", func(b *heaptest.Builder, free *heaptest.Block) { b.M.Put(free.Header+3, 2) },
			"PoolType 0x2 says that it is in use, and free list 6 of the pool descriptor holds it: it was freed while in use, or twice"},
		{"free and on no list", func(b *heaptest.Builder, free *heaptest.Block) { b.M.Put(free.Header-0x100+3, 0) }, ""},
		{"links", func(b *heaptest.Builder, free *heaptest.Block) { b.M.Put(free.Body+8, 0x41, 0x41) },
			"free list 6 of the pool descriptor breaks here: its link back names other, not other"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			b := heaptest.New(t, types.Embedded(7601)[0])
			pg := b.Page(heaptest.NonpagedNx)
			pg.Alloc(heaptest.Ask{Pool: heaptest.NonpagedNx, Tag: "Leak", Bytes: 0xf0})
			free := pg.Alloc(heaptest.Ask{Pool: heaptest.NonpagedNx, Tag: "Gone", Bytes: 0x60})
			pg.Alloc(heaptest.Ask{Pool: heaptest.NonpagedNx, Tag: "Leak", Bytes: 0xe00})
			b.Free(free)
			k := b.Open()
			c.harm(b, free)
			p, err := pool.Open(k)
			if err != nil {
				t.Fatal(err)
			}
			l, err := p.Locate(t.Context(), free.Body)
			if c.want == "" && err == nil && len(l.Damage) == 0 {
				return
			}
			if err != nil || len(l.Damage) != 1 {
				t.Fatalf("%v, damage %v", err, l.Damage)
			}
			if got := plain(l.Damage[0].Why); got != c.want {
				t.Errorf("%s\nwant %s", got, c.want)
			}
		})
	}
}

// plain takes the addresses out of a text.
func plain(text string) string {
	out := ""
	for i := 0; i < len(text); {
		var at uint64
		if n, _ := fmt.Sscanf(text[i:], "0x%x", &at); n == 1 && at > 1<<47 {
			word := fmt.Sprintf("%#x", at)
			i += len(word)
			if len(out) > 4 && out[len(out)-4:] == " at " {
				out = out[:len(out)-4]
				continue
			}
			out += "other"
			continue
		}
		out += text[i : i+1]
		i++
	}
	return out
}

func TestLocate_nowhere(t *testing.T) {
	t.Parallel()
	b, k := mixed(t, types.Embedded(7601)[0])
	p, err := pool.Open(k)
	if err != nil {
		t.Fatal(err)
	}
	thread := b.M.Thread(b.M.System, 8)
	for _, c := range []struct {
		at    mem.VA
		where string
		err   error
	}{
		{0x1000, "it is an address of a process, not of the kernel", mem.ErrNotPresent},
		{0x8000_0000_0000, "it is no canonical address", mem.ErrNonCanonical},
		{b.M.OnStack(thread, 8), fmt.Sprintf("it lies in the kernel stack of thread %#x, which runs on processor 0", uint64(k.Processors[0].CurrentThread)), pool.ErrNotPool},
	} {
		l, err := p.Locate(t.Context(), c.at)
		if err == nil || l.Found || l.Where != c.where || c.err != nil && !errors.Is(err, c.err) {
			t.Errorf("%#x: %q, %v", uint64(c.at), l.Where, err)
		}
	}
}

// TestBlockAt_damaged: what no block is known to hold says why.
func TestBlockAt_damaged(t *testing.T) {
	t.Parallel()
	b := heaptest.New(t, types.Embedded(19041)[0])
	vs := b.Heap(heaptest.Paged, 0).VS(4)
	ask := heaptest.Ask{Pool: heaptest.Paged, Tag: "Leak", Bytes: 0x100}
	first, second := vs.Alloc(ask), vs.Alloc(ask)
	vs.Alloc(ask)
	p, err := pool.Open(b.Open())
	if err != nil {
		t.Fatal(err)
	}
	b.M.Put(second.Header-0x10, []byte("written over")...)
	if got, err := p.BlockAt(t.Context(), first.Body); err != nil || got.Header != first.Header || got.Kind != pool.Paged {
		t.Errorf("the block before it: %+v, %v", got, err)
	}
	var d pool.Damage
	if _, err := p.BlockAt(t.Context(), second.Body); !errors.As(err, &d) || d.At != second.Header-0x10 {
		t.Errorf("behind a broken chunk header: %v", err)
	}
	if _, err := p.BlockAt(t.Context(), vs.At); !errors.Is(err, pool.ErrNotPool) {
		t.Errorf("the subsegment's header: %v", err)
	}
}

// FuzzLocate breaks a page at will: whatever stands there, the answer is bounded
// and the blocks lie in order.
func FuzzLocate(f *testing.F) {
	f.Add([]byte{0, 0, 0x10, 2, 'L', 'e', 'a', 'k'}, uint16(0x100))
	f.Add(make([]byte, 64), uint16(0x2f0))
	f.Add([]byte{0xff, 0xff, 0xff}, uint16(0xffd))
	b := heaptest.New(f, types.Embedded(7601)[0])
	pg := b.Page(heaptest.NonpagedNx)
	for _, n := range []uint64{0xf0, 0x1f0, 0xbf0, 0xf0} {
		pg.Alloc(heaptest.Ask{Pool: heaptest.NonpagedNx, Tag: "Leak", Bytes: n})
	}
	k := b.Open()
	good := make([]byte, mem.PageSize)
	if _, err := k.Space.ReadVirtual(good, pg.At); err != nil {
		f.Fatal(err)
	}
	p, err := pool.Open(k)
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, data []byte, off uint16) {
		page := append([]byte(nil), good...)
		copy(page[int(off)%len(page):], data)
		b.M.Put(pg.At, page...)
		for at := pg.At; at < pg.At+mem.PageSize; at += 0x230 {
			l, err := p.Locate(t.Context(), at)
			if err == nil && !l.Found && len(l.Damage) == 0 {
				t.Fatalf("%#x: no block and no reason", uint64(at))
			}
			last := pg.At
			for _, b := range l.Blocks {
				if b.Header < last || b.Room == 0 || b.Header+mem.VA(b.Room) > pg.At+mem.PageSize {
					t.Fatalf("block %+v behind %#x", b, uint64(last))
				}
				last = b.Header + mem.VA(b.Room)
			}
			if len(l.Damage) > 64 {
				t.Fatalf("%d damages", len(l.Damage))
			}
		}
	})
}

// FuzzLocateHeap breaks subsegments of a segment heap at will.
func FuzzLocateHeap(f *testing.F) {
	f.Add([]byte("too long a text"), uint16(0x350))
	f.Add(make([]byte, 64), uint16(0x10))
	f.Add([]byte{0xff, 0xff, 0xff, 0xff}, uint16(0x4028))
	b := heaptest.New(f, types.Embedded(19041)[0])
	h := b.Heap(heaptest.NonpagedNx, 0)
	vs := h.VS(4)
	lfh := h.LFH(0x40, 1)
	for i := range 12 {
		a := heaptest.Ask{Pool: heaptest.NonpagedNx, Tag: "Leak", Bytes: uint64(i)*0x48 + 1, Owner: b.M.System}
		vs.Alloc(a)
		a.Bytes = 0x30
		lfh.AllocAt(uint64(3*i), a)
	}
	k := b.Open()
	p, err := pool.Open(k)
	if err != nil {
		f.Fatal(err)
	}
	areas := []struct {
		at   mem.VA
		size int
	}{{vs.At, 4 * mem.PageSize}, {lfh.At, mem.PageSize}}
	var good [2][]byte
	for i, a := range areas {
		good[i] = make([]byte, a.size)
		if _, err := k.Space.ReadVirtual(good[i], a.at); err != nil {
			f.Fatal(err)
		}
	}
	f.Fuzz(func(t *testing.T, data []byte, off uint16) {
		for i, a := range areas {
			area := append([]byte(nil), good[i]...)
			copy(area[int(off)%len(area):], data)
			b.M.Put(a.at, area...)
			for at := a.at; at < a.at+mem.VA(a.size); at += 0x3f0 {
				l, err := p.Locate(t.Context(), at)
				if err == nil && !l.Found && len(l.Damage) == 0 {
					t.Fatalf("%#x: no block and no reason", uint64(at))
				}
				last := a.at
				for _, b := range l.Blocks {
					if b.Header < last || b.Room == 0 || b.Header+mem.VA(b.Room) > a.at+mem.VA(a.size) {
						t.Fatalf("block %+v behind %#x", b, uint64(last))
					}
					last = b.Header + mem.VA(b.Room)
				}
			}
		}
	})
}

// BenchmarkLocate asks for a block: in a page, and in a subsegment, which is
// decoded as a whole.
func BenchmarkLocate(b *testing.B) {
	for _, build := range []uint32{7601, 19041} {
		h := heaptest.New(b, types.Embedded(build)[0])
		h.Fill(1, 200)
		var at mem.VA
		for _, k := range h.Blocks() {
			if k.State == heaptest.Allocated && !k.Large() && k.Place != heaptest.InLFH {
				at = k.Body
				break
			}
		}
		p, err := pool.Open(h.Open())
		if err != nil {
			b.Fatal(err)
		}
		b.Run(fmt.Sprint(build), func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if l, err := p.Locate(b.Context(), at); err != nil || !l.Found {
					b.Fatal(err)
				}
			}
		})
	}
}
