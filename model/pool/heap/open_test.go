package heap

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"gokd/model"
	"gokd/model/mem"
	"gokd/model/pool/heaptest"
	"gokd/model/types"
)

// small builds a machine with two small segments: chunks, slots, a range.
func small(t testing.TB, build uint32) (*heaptest.Builder, *heaptest.VS) {
	b := heaptest.New(t, types.Embedded(build)[0])
	h := b.Heap(heaptest.NonpagedNx, 0)
	v := h.VS(16)
	for i := range 20 {
		v.Alloc(heaptest.Ask{Tag: "Test", Bytes: uint64(100 + i*8)})
	}
	l := h.LFH(0x80, 4)
	for range 40 {
		l.Alloc(heaptest.Ask{Tag: "Slot", Bytes: 0x60})
	}
	h.Range(heaptest.Ask{Tag: "Rang", Bytes: 0x2345})
	b.Heap(heaptest.Paged, 0).VS(16).Alloc(heaptest.Ask{Tag: "Page", Bytes: 64})
	return b, v
}

// address gives a variable of the kernel.
func address(t testing.TB, k *model.Kernel, name string) mem.VA {
	t.Helper()
	at, err := k.Global(name)
	if err != nil {
		t.Fatal(err)
	}
	return at
}

// TestRefused refuses what does not prove itself, and says why.
func TestRefused(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		break_ func(t *testing.T, b *heaptest.Builder, k *model.Kernel)
		why    string
	}{
		"wrong heap key": {
			func(t *testing.T, b *heaptest.Builder, k *model.Kernel) {
				b.M.Put64(address(t, k, "RtlpHpHeapGlobals"), 0x1111)
			},
			"heap key does not fit: 0 of 2 segments have a signature that it makes",
		},
		"two keys": {
			func(t *testing.T, b *heaptest.Builder, k *model.Kernel) {
				b.M.Put64(address(t, k, "ExPoolState"), 0xffffa80000001000)
			},
			"heap keys: nt!RtlpHpHeapGlobals is at <keys>, HeapManager.Globals names 0xffffa80000001000",
		},
		"no pools": {
			func(t *testing.T, b *heaptest.Builder, k *model.Kernel) {
				b.M.Set(address(t, k, "ExPoolState"), 0, "_EX_POOL_HEAP_MANAGER_STATE", "NumberOfPools")
			},
			"_EX_POOL_HEAP_MANAGER_STATE.NumberOfPools at <pools> is 0, not 1 to 64",
		},
		"too many pools": {
			func(t *testing.T, b *heaptest.Builder, k *model.Kernel) {
				b.M.Set(address(t, k, "ExPoolState"), 65, "_EX_POOL_HEAP_MANAGER_STATE", "NumberOfPools")
			},
			"_EX_POOL_HEAP_MANAGER_STATE.NumberOfPools at <pools> is 65, not 1 to 64",
		},
		"signatures of heaps overwritten": {
			func(t *testing.T, b *heaptest.Builder, k *model.Kernel) {
				for _, p := range []heaptest.Pool{heaptest.NonpagedNx, heaptest.Paged} {
					b.M.Set(b.Heap(p, 0).At, 0, "_SEGMENT_HEAP", "Signature")
				}
			},
			"none of the heaps that the pool manager at <state> names can be read\n" +
				"NonPagedNx heap, which _EX_HEAP_POOL_NODE.Heaps names: _SEGMENT_HEAP at <nx>: its signature is 0x0, not 0xddeeddee; in the area at <nx>\n" +
				"Paged heap, which _EX_HEAP_POOL_NODE.Heaps names: _SEGMENT_HEAP at <paged>: its signature is 0x0, not 0xddeeddee; in the area at <paged>",
		},
		"no segment": {
			func(t *testing.T, b *heaptest.Builder, k *model.Kernel) {
				off, _ := b.M.Field("_HEAP_SEG_CONTEXT", "SegmentListHead")
				contexts, _ := b.M.Field("_SEGMENT_HEAP", "SegContexts")
				for _, p := range []heaptest.Pool{heaptest.NonpagedNx, heaptest.Paged} {
					head := b.Heap(p, 0).At + mem.VA(contexts+off)
					b.M.Link(head)
				}
			},
			"nothing proves the heap key: none of the segments of 2 heaps is in the dump",
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b, _ := small(t, 19041)
			k := b.Open()
			c.break_(t, b, k)
			h, err := Open(t.Context(), k)
			if h != nil || !errors.Is(err, ErrRefused) {
				t.Fatalf("heaps %v, error %v", h, err)
			}
			state := address(t, k, "ExPoolState")
			off, _ := b.M.Field("_EX_POOL_HEAP_MANAGER_STATE", "NumberOfPools")
			want := strings.NewReplacer("<keys>", hex(address(t, k, "RtlpHpHeapGlobals")), "<pools>", hex(state+mem.VA(off)), "<state>", hex(state),
				"<nx>", hex(b.Heap(heaptest.NonpagedNx, 0).At), "<paged>", hex(b.Heap(heaptest.Paged, 0).At)).Replace(c.why)
			if diff := cmp.Diff(ErrRefused.Error()+": "+want, err.Error()); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

func hex(at mem.VA) string { return fmt.Sprintf("%#x", uint64(at)) }

// TestRefusedTypes refuses kernels without types, or with those of builds that
// have no such pools.
func TestRefusedTypes(t *testing.T) {
	t.Parallel()
	if _, err := Open(t.Context(), &model.Kernel{Build: 26100}); !errors.Is(err, ErrRefused) || !errors.Is(err, model.ErrNoLayout) {
		t.Errorf("without types: %v", err)
	}
	for _, build := range []uint32{7601, 9600, 14393} {
		_, err := Open(t.Context(), &model.Kernel{Build: build, Types: types.Embedded(build)[0]})
		var missing *types.NotFoundError
		if !errors.Is(err, ErrRefused) || !errors.As(err, &missing) {
			t.Errorf("%d: %v", build, err)
		}
	}
}

// TestConstant reads a machine whose segments' signatures have no constant in
// them, as from Windows 11 24H2 on.
func TestConstant(t *testing.T) {
	t.Parallel()
	b, _ := small(t, 22000)
	k := b.Open()
	for _, p := range []heaptest.Pool{heaptest.NonpagedNx, heaptest.Paged} {
		h := b.Heap(p, 0)
		off, _ := b.M.Field("_HEAP_SEG_CONTEXT", "SegmentListHead")
		contexts, _ := b.M.Field("_SEGMENT_HEAP", "SegContexts")
		context := h.At + mem.VA(contexts)
		s, err := k.Space.Pointer(context + mem.VA(off))
		if err != nil {
			t.Fatal(err)
		}
		b.M.Put64(s+0x10, uint64(s)^uint64(context)^b.HeapKey)
	}
	h, err := Open(t.Context(), k)
	if err != nil {
		t.Fatal(err)
	}
	if h.constant != 0 {
		t.Errorf("the constant is %#x", h.constant)
	}
	if diff := cmp.Diff(built(b), read(t, h)); diff != "" {
		t.Errorf("blocks (-want +got):\n%s", diff)
	}
}

// TestOneHeapDamaged reads the others and tells of the one.
func TestOneHeapDamaged(t *testing.T) {
	t.Parallel()
	b, _ := small(t, 19041)
	k := b.Open()
	paged := b.Heap(heaptest.Paged, 0).At
	b.M.Set(paged, 0x77, "_SEGMENT_HEAP", "Signature")
	h, err := Open(t.Context(), k)
	if err != nil {
		t.Fatal(err)
	}
	want := []string{fmt.Sprintf("Paged heap, which _EX_HEAP_POOL_NODE.Heaps names: _SEGMENT_HEAP at %#x: its signature is 0x77, not 0xddeeddee; in the area at %#x", uint64(paged), uint64(paged))}
	if diff := cmp.Diff(want, messages(h.Trouble)); diff != "" {
		t.Errorf("trouble (-want +got):\n%s", diff)
	}
	if len(h.List) != 1 || h.List[0].Role != NonpagedNx {
		t.Errorf("heaps %+v", h.List)
	}
}

// TestCancelled ends with the context's error, whatever it is asked.
func TestCancelled(t *testing.T) {
	t.Parallel()
	b, _ := small(t, 19041)
	k := b.Open()
	ctx, cancel := context.WithCancel(t.Context())
	h, err := Open(ctx, k)
	if err != nil {
		t.Fatal(err)
	}
	cancel()
	if _, err := Open(ctx, k); !errors.Is(err, context.Canceled) || errors.Is(err, ErrRefused) {
		t.Errorf("Open: %v", err)
	}
	if _, _, err := h.At(ctx, 0xffff800000000000); !errors.Is(err, context.Canceled) {
		t.Errorf("At: %v", err)
	}
	var last error
	for _, err := range h.Areas(ctx, h.List[0]) {
		last = err
	}
	if !errors.Is(last, context.Canceled) {
		t.Errorf("Areas: %v", last)
	}
	if _, ok, err := h.At(t.Context(), h.List[0].At); ok || err != nil {
		t.Errorf("a cancelled question spoils the next: %v %v", ok, err)
	}
}
