package vm

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"math/bits"

	"gokd/model"
	"gokd/model/mem"
)

// PTERange is a range of page table entries that the kernel maps memory of its
// own with.
type PTERange struct {
	Name     string // "System", "Kernel Stack"
	At       mem.VA // its _MI_SYSTEM_PTE_TYPE
	Base     mem.VA // the first entry
	Total    uint64 // entries of the range
	Free     uint64 // as the kernel counts them
	Failures uint64 // requests that were refused since boot
	Bits     uint64 // of the bitmap: a set one is in use
	Each     uint64 // entries that a bit stands for

	bitmap mem.VA
}

// PTERun is a run of free entries.
type PTERun struct {
	At    mem.VA // the first entry
	Count uint64
}

// PTEFree is what a bitmap says of the free entries.
type PTEFree struct {
	Runs    uint64
	Free    uint64 // entries
	Largest PTERun
	Unknown uint64 // entries whose part of the bitmap is not in the dump
}

// pteRanges are the ranges that debuggers show, by variable (7 and 8.1) or
// member.
var pteRanges = []struct{ name, root, path, variable string }{
	{"System", inVisible, "SystemPteInfo", "MiSystemPteInfo"},
	{"Kernel Stack", inSystem, "SystemPtes.KernelStackPteInfo", "MiKernelStackPteInfo"},
}

// maxPTEBits is more than the 16 TB of addresses that a range may have.
const maxPTEBits = 1 << 33

// PTERanges lists the ranges of system page table entries that this build has.
// The error tells why there is none, or what the list lacks.
func PTERanges(k *model.Kernel) ([]PTERange, error) {
	r := newRoots(k)
	var list []PTERange
	var first error
	for _, p := range pteRanges {
		o, err := r.pteRange(p.root, p.path, p.variable)
		if err == nil {
			var n PTERange
			if n, err = readPTERange(o); err == nil {
				n.Name = p.name
				list = append(list, n)
				continue
			}
		}
		if first == nil && !errors.Is(err, ErrNotKept) {
			first = err
		}
	}
	if len(list) == 0 && first == nil {
		first = ErrNotKept
	}
	return list, first
}

func (r *roots) pteRange(root, path, variable string) (model.Object, error) {
	if o, ok := r.objects[root]; ok {
		f := o.Field(path)
		if notFound(f.Err()) {
			return f, ErrNotKept
		}
		return f, f.Err()
	}
	if r.resolvable[root] {
		return model.Object{}, r.errs[root]
	}
	at, err := r.k.Global(variable)
	if _, unnamed := errors.AsType[*model.GlobalError](err); unnamed && r.named {
		err = ErrNotKept
	}
	return r.k.Object("_MI_SYSTEM_PTE_TYPE", at), err
}

func readPTERange(o model.Object) (PTERange, error) {
	n := PTERange{At: o.Addr()}
	var gaps model.Gaps
	n.Base = mem.VA(gaps.Uint("BasePte", o.Field("BasePte")))
	n.Total = gaps.Uint("TotalSystemPtes", o.Field("TotalSystemPtes"))
	n.Free = gaps.Uint("TotalFreeSystemPtes", o.Field("TotalFreeSystemPtes"))
	n.Failures = gaps.Uint("PteFailures", o.Field("PteFailures"))
	n.Bits = gaps.Uint("SizeOfBitMap", o.Field("Bitmap.SizeOfBitMap"))
	n.bitmap = mem.VA(gaps.Uint("Buffer", o.Field("Bitmap.Buffer")))
	for _, err := range gaps {
		return n, err
	}
	switch {
	case n.Total == 0 || n.Bits == 0:
		return n, fmt.Errorf("_MI_SYSTEM_PTE_TYPE at %#x %w", uint64(n.At), ErrNotFilled)
	case n.Bits > maxPTEBits:
		return n, fmt.Errorf("_MI_SYSTEM_PTE_TYPE at %#x: a bitmap of %#x bits makes no sense", uint64(n.At), n.Bits)
	}
	// A range may hand out its entries in groups: then it has fewer bits.
	n.Each = max(1, n.Total/n.Bits)
	return n, nil
}

// FreePTEs goes over a range's bitmap. visit, where not nil, is told of each run
// of free entries until it reports false. Parts of the bitmap that are not in
// the dump end a run.
func FreePTEs(ctx context.Context, k *model.Kernel, r PTERange, visit func(PTERun) bool) (PTEFree, error) {
	w := &pteWalk{r: r, visit: visit}
	var buf [mem.PageSize]byte
	for first := uint64(0); first < r.Bits; {
		if err := ctx.Err(); err != nil {
			return w.free, err
		}
		at := r.bitmap + mem.VA(first/8)
		// Up to the end of the page: what is missing is missing by pages.
		n := min(mem.PageSize-uint64(at)%mem.PageSize, (r.Bits-first+7)/8)
		here := min(8*n, r.Bits-first)
		if _, err := k.Space.ReadVirtual(buf[:n], at); err != nil {
			w.end()
			w.free.Unknown += here * r.Each
		} else {
			w.take(buf[:n], first, here)
		}
		first += here
	}
	w.end()
	return w.free, nil
}

// pteWalk gathers runs of free entries.
type pteWalk struct {
	r     PTERange
	visit func(PTERun) bool
	free  PTEFree
	start uint64 // the run's first bit
	count uint64 // its bits
}

// take goes over n bits, of which the first is the range's bit first.
func (w *pteWalk) take(b []byte, first, n uint64) {
	for i := uint64(0); i < n; {
		// Eight bytes of one kind at once: most of a bitmap is.
		if i%8 == 0 && n-i >= 64 {
			switch binary.LittleEndian.Uint64(b[i/8:]) {
			case 0:
				w.add(first+i, 64)
				i += 64
				continue
			case ^uint64(0):
				w.end()
				i += 64
				continue
			}
		}
		c := b[i/8] >> (i % 8)
		left := min(8-i%8, n-i)
		if c&1 == 1 {
			w.end()
			i += min(uint64(bits.TrailingZeros8(^c)), left)
			continue
		}
		zeros := min(uint64(bits.TrailingZeros8(c)), left)
		w.add(first+i, zeros)
		i += zeros
	}
}

func (w *pteWalk) add(bit, n uint64) {
	if w.count == 0 {
		w.start = bit
	}
	w.count += n
}

func (w *pteWalk) end() {
	if w.count == 0 {
		return
	}
	run := PTERun{w.r.Base + mem.VA(8*w.start*w.r.Each), w.count * w.r.Each}
	w.count = 0
	w.free.Runs++
	w.free.Free += run.Count
	if run.Count > w.free.Largest.Count {
		w.free.Largest = run
	}
	if w.visit != nil && !w.visit(run) {
		w.visit = nil
	}
}
