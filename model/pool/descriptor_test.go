package pool

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"

	gocmp "github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"gokd/model/mem"
	"gokd/model/pool/heaptest"
)

func TestDescriptors(t *testing.T) {
	t.Parallel()
	forFamilies(t, 0, 18362, func(t *testing.T, b *heaptest.Builder) {
		d := newDescriptors(b, 3)
		second := d.paged[1]
		b.M.Set(second, 70, "_POOL_DESCRIPTOR", "RunningAllocs")
		if b.M.Has("_POOL_DESCRIPTOR", "PagesAllocated") {
			b.M.Set(second, 30, "_POOL_DESCRIPTOR", "RunningDeallocs")
			for _, name := range []string{"Pages", "BigPages", "Bytes"} {
				b.M.Set(second, 90, "_POOL_DESCRIPTOR", name+"Allocated")
				b.M.Set(second, 80, "_POOL_DESCRIPTOR", name+"Deallocated")
			}
		} else {
			b.M.Set(second, 30, "_POOL_DESCRIPTOR", "RunningDeAllocs")
			for _, name := range []string{"TotalPages", "TotalBigPages", "TotalBytes"} {
				b.M.Set(second, 10, "_POOL_DESCRIPTOR", name)
			}
		}
		lists := b.M.Has("_POOL_DESCRIPTOR", "ListHeads")
		want := []Descriptor{{At: d.nonpaged[0], From: "nt!PoolVector[0]", Node: -1, HasLists: lists}}
		if len(d.nonpaged) > 1 {
			from := "nt!PoolVector[0]+0x1140"
			if !lists {
				from = "nt!PoolVector[0]+0x100"
			}
			want = append(want, Descriptor{At: d.nonpaged[1], From: from, Node: -1, HasLists: lists, Type: typeNX})
		}
		for i, at := range d.paged {
			want = append(want, Descriptor{At: at, From: "nt!ExpPagedPoolDescriptor[" + string(rune('0'+i)) + "]",
				Kind: Paged, Type: 1, Index: uint32(i), Node: -1, HasLists: lists})
		}
		more := &want[len(d.nonpaged)+1]
		more.Allocs, more.Frees, more.Pages, more.BigPages, more.Bytes = 70, 30, 10, 10, 10
		p := openBuilt(t, b)
		d.install()
		var got []Descriptor
		for d, err := range p.Descriptors(t.Context()) {
			if err != nil {
				t.Fatal(err)
			}
			got = append(got, d)
		}
		if d := gocmp.Diff(want, got, cmpopts.IgnoreUnexported(Descriptor{})); d != "" {
			t.Errorf("(-want +got):\n%s", d)
		}
	})
}

func TestDescriptors_none(t *testing.T) {
	t.Parallel()
	p := openBuilt(t, heaptest.New(t, family(t, "19041")))
	n := 0
	for _, err := range p.Descriptors(t.Context()) {
		if n++; err == nil || !strings.Contains(err.Error(), "segment heaps") {
			t.Errorf("error %v", err)
		}
	}
	if n != 1 {
		t.Errorf("%d items", n)
	}
	if _, err := p.FreeLists(t.Context()); !errors.Is(err, ErrNotWalked) {
		t.Errorf("free lists: %v", err)
	}
}

// TestDescriptors_hostile names descriptors that are none.
func TestDescriptors_hostile(t *testing.T) {
	t.Parallel()
	b := heaptest.New(t, family(t, "17763"))
	d := newDescriptors(b, 5)
	m := b.M
	p := openBuilt(t, b)
	d.install()
	m.Put64(d.pagedVector+8, 0x1000)                 // user space
	m.Put64(d.pagedVector+16, uint64(d.nonpaged[0])) // of nonpaged pool, told already
	m.Put64(d.pagedVector+24, 0xfffffffffffffff8)    // the end of memory
	m.Put64(m.Global("ExpNumberOfPagedPools", 8), 0xffffffff)
	good, bad := 0, 0
	for d, err := range p.Descriptors(t.Context()) {
		if err != nil {
			bad++
			if !strings.Contains(err.Error(), "nt!ExpPagedPoolDescriptor") {
				t.Error(err)
			}
			continue
		}
		good++
		if d.At == 0 {
			t.Errorf("%+v", d)
		}
	}
	if good != 4 || bad != 2 {
		t.Errorf("%d descriptors, %d errors", good, bad)
	}
}

// TestPending checks that blocks whose release was put off are cached.
func TestPending(t *testing.T) {
	t.Parallel()
	forFamilies(t, 0, lastPagePool, func(t *testing.T, b *heaptest.Builder) {
		d := newDescriptors(b, 2)
		var gone []mem.VA
		for i := range 20 {
			k := b.Alloc(heaptest.Ask{Pool: heaptest.Paged, Tag: "Wait", Bytes: 40})
			if i%4 == 0 {
				gone = append(gone, k.Body)
			}
		}
		p := openBuilt(t, b)
		d.install().pending(d.paged[1], gone...)
		if got := cachedBodies(t, p, Query{Kind: Paged}); !slices.Equal(got, gone) {
			t.Errorf("cached %x, want %x", got, gone)
		}
		for d, err := range p.Descriptors(t.Context()) {
			if err == nil && d.Index == 1 && (d.PendingListed != len(gone) || int(d.PendingDepth) != len(gone) || d.PendingErr != nil) {
				t.Errorf("%+v", d)
			}
		}
	})
}

// cachedBodies gives the cached blocks that a walk finds.
func cachedBodies(t *testing.T, p *Pool, q Query) (list []mem.VA) {
	t.Helper()
	w, err := p.Find(t.Context(), q)
	if err != nil {
		t.Fatal(err)
	}
	for b, err := range w.Blocks(t.Context()) {
		if err != nil {
			t.Fatal(err)
		}
		if b.State == Cached {
			list = append(list, b.Body)
		}
	}
	return list
}

// TestPending_broken lets the list of deferred frees loop and leave the kernel.
func TestPending_broken(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		last mem.VA // 0: back to the first
		want string
	}{
		"loop":      {0, "comes back"},
		"user":      {0x10000, "no block"},
		"odd":       {0xffffa80000000008, "no block"},
		"not there": {0xffffa90000000010, "0xffffa90000000010"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := heaptest.New(t, family(t, "14393"))
			d := newDescriptors(b, 1)
			k := b.Alloc(heaptest.Ask{Pool: heaptest.Paged, Tag: "Wait", Bytes: 40})
			p := openBuilt(t, b)
			d.install().pending(d.paged[0], k.Body)
			if c.last == 0 {
				c.last = k.Body
			}
			d.m.Put64(k.Body, uint64(c.last))
			for d, err := range p.Descriptors(t.Context()) {
				if err != nil || d.Kind != Paged {
					continue
				}
				if d.PendingErr == nil || !strings.Contains(d.PendingErr.Error(), c.want) || d.PendingListed != 1 {
					t.Errorf("%d listed, error %v", d.PendingListed, d.PendingErr)
				}
			}
			if got := cachedBodies(t, p, Query{Kind: Paged}); !slices.Equal(got, []mem.VA{k.Body}) {
				t.Errorf("cached %x", got)
			}
		})
	}
}

// freePools is a machine with free blocks of several sizes in both pools.
func freePools(b *heaptest.Builder) *descriptors {
	d := newDescriptors(b, 2)
	for i := range 60 {
		for _, pool := range []heaptest.Pool{heaptest.Nonpaged, heaptest.Paged} {
			k := b.Alloc(heaptest.Ask{Pool: pool, Tag: "Some", Bytes: uint64(i%7)*48 + 16})
			if i%3 == 0 {
				b.Free(k)
			}
		}
	}
	return d
}

func TestFreeLists(t *testing.T) {
	t.Parallel()
	forFamilies(t, 0, lastPagePool, func(t *testing.T, b *heaptest.Builder) {
		d := freePools(b)
		p := openBuilt(t, b)
		d.install().list(b.Blocks())
		f, err := p.FreeLists(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		want := 0
		for _, k := range b.Blocks() {
			if k.Place != heaptest.InPage {
				continue
			}
			e, ok, err := p.FreeListed(t.Context(), k.Header)
			listed := k.State == heaptest.Free && k.Size > HeaderSize
			if err != nil || ok != listed || ok && (e.List != int(k.Size/HeaderSize)-1 || (e.Descriptor.Kind == Paged) != k.Pool.Paged()) {
				t.Errorf("block at %#x: listed %v, %+v: %v", uint64(k.Header), ok, e, err)
			}
			if listed {
				want++
			}
		}
		if !f.Complete() || f.Len() != want || want == 0 {
			t.Errorf("%d of %d blocks, damage %v", f.Len(), want, f.Damage)
		}
	})
}

// TestFreeLists_damage breaks a link of a list.
func TestFreeLists_damage(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		link uint64
		want string
	}{
		"user":      {0x1000, "where no block can be"},
		"header":    {0xffffc00000100008, "where no block can be"},
		"itself":    {0, "its link back names"},
		"not there": {0xffffc05000000010, "page not present"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := heaptest.New(t, family(t, "9600"))
			d := freePools(b)
			p := openBuilt(t, b)
			d.install().list(b.Blocks())
			var victim *heaptest.Block
			for _, k := range b.Blocks() {
				if k.State == heaptest.Free && k.Pool.Paged() && k.Size == 0x20 {
					victim = k
				}
			}
			if c.link == 0 {
				c.link = uint64(victim.Body)
			}
			d.m.Put64(victim.Body, c.link)
			f, err := p.FreeLists(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			var damage *ListDamage
			if f.Complete() || len(f.Damage) != 1 || !errors.As(f.Damage[0], &damage) {
				t.Fatalf("damage %v", f.Damage)
			}
			at := victim.Body
			if name == "not there" {
				at = mem.VA(c.link)
			}
			if damage.List != 1 || damage.At != at || !strings.Contains(damage.Error(), c.want) {
				t.Errorf("%v", damage)
			}
			if _, ok := f.Find(victim.Header); !ok {
				t.Error("the block before the break is not known")
			}
		})
	}
}

// TestBuilt holds the lists of the builder against its truth.
func TestBuilt(t *testing.T) {
	t.Parallel()
	forFamilies(t, 0, lastPagePool, func(t *testing.T, b *heaptest.Builder) {
		var gone []mem.VA
		for i := range 60 {
			k := b.Alloc(heaptest.Ask{Pool: heaptest.Paged, Tag: "Some", Bytes: uint64(i%7)*48 + 16})
			switch i % 5 {
			case 0:
				b.Free(k)
			case 1:
				b.Pend(k)
				gone = append(gone, k.Body)
			}
		}
		p := openBuilt(t, b)
		if got := cachedBodies(t, p, Query{Kind: Paged}); !slices.Equal(got, gone) {
			t.Errorf("cached %x, want %x", got, gone)
		}
		f, err := p.FreeLists(t.Context())
		if err != nil || !f.Complete() {
			t.Fatalf("%+v: %v", f, err)
		}
		for _, k := range b.Blocks() {
			_, ok := f.Find(k.Header)
			if want := k.Place == heaptest.InPage && k.State == heaptest.Free && k.Size > HeaderSize; ok != want {
				t.Errorf("block at %#x: listed %v, want %v", uint64(k.Header), ok, want)
			}
		}
	})
}

func TestFreeLists_interrupted(t *testing.T) {
	t.Parallel()
	b := heaptest.New(t, family(t, "17763"))
	freePools(b)
	p := openBuilt(t, b)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if f, err := p.FreeLists(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("%+v, error %v", f, err)
	}
}
