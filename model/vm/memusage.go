package vm

import (
	"context"
	"errors"
	"fmt"

	"gokd/model"
	"gokd/model/mem"
)

// PageList is where a page of physical memory is: MMLISTS of the type tables.
type PageList uint8

// The places of pages.
const (
	Zeroed PageList = iota
	Free
	Standby
	ModifiedList
	ModifiedNoWriteList
	Bad
	Active
	Transition
	pageLists
)

// PageUse counts the pages of physical memory by where they are.
type PageUse struct {
	Lists   [pageLists]uint64
	Pages   uint64 // of physical memory, as its runs tell
	Missing uint64 // whose entries are not in the dump
}

// Bounds of the PFN database: more runs than any firmware reports, and 16 TB of
// memory.
const (
	maxMemoryRuns = 1 << 12
	maxFrames     = 1 << 32
)

// window is how many entries are read at once: with 48 bytes each, three pages.
const window = 256

// lostWindows ends the walk where so many windows in a row, from the first on,
// are not in the dump: then the database is not.
const lostWindows = 1 << 12

// ErrNoPFN says that a dump does not hold the PFN database.
var ErrNoPFN = errors.New("the PFN database is not in this dump")

// MemoryUse counts the pages of physical memory by the list that
// _MMPFN.u3.e1.PageLocation of their entries tells: nt!MmPfnDatabase, over the
// runs of nt!MmPhysicalMemoryBlock. progress, where not nil, is told how many
// entries were looked at. Pages on the short lists that processors keep count
// where their entries say they are.
func MemoryUse(ctx context.Context, k *model.Kernel, progress func(done, total uint64)) (PageUse, error) {
	var use PageUse
	base, err := k.GlobalPointer("MmPfnDatabase")
	if err != nil {
		return use, err
	}
	location := k.Object("_MMPFN", 0).Field("u3.e1.PageLocation")
	if err := location.Err(); err != nil {
		return use, err
	}
	if w := location.Type().Size; w != 1 {
		return use, fmt.Errorf("_MMPFN.u3.e1.PageLocation: %d bytes wide: %w", w, model.ErrNoLayout)
	}
	entry := k.Object("_MMPFN", 0).Type().Size
	runs, err := memoryRuns(k)
	if err != nil {
		return use, err
	}
	for _, r := range runs {
		use.Pages += r.count
	}
	w := &pfnWalk{space: k.Space, use: &use, base: base, entry: uint64(entry), at: uint64(location.Addr())}
	w.buf = make([]byte, window*w.entry)
	for _, r := range runs {
		for first := r.base; first < r.base+r.count; first += window {
			if err := ctx.Err(); err != nil {
				return use, err
			}
			w.read(first, min(window, r.base+r.count-first))
			if w.lost == lostWindows && w.lost == w.windows {
				return use, ErrNoPFN
			}
			if progress != nil && w.windows%4096 == 0 {
				progress(w.windows*window, use.Pages)
			}
		}
	}
	if w.lost == w.windows {
		return use, ErrNoPFN
	}
	return use, nil
}

// memoryRun is a piece of physical memory, in pages.
type memoryRun struct{ base, count uint64 }

// memoryRuns reads the pieces of physical memory.
func memoryRuns(k *model.Kernel) ([]memoryRun, error) {
	at, err := k.GlobalPointer("MmPhysicalMemoryBlock")
	if err != nil {
		return nil, err
	}
	d := k.Object("_PHYSICAL_MEMORY_DESCRIPTOR", at)
	n, err := d.Field("NumberOfRuns").Uint()
	if err != nil {
		return nil, err
	}
	if n == 0 || n > maxMemoryRuns {
		return nil, fmt.Errorf("_PHYSICAL_MEMORY_DESCRIPTOR at %#x: %d runs make no sense", uint64(at), n)
	}
	first := d.Field("Run")
	size := k.Object("_PHYSICAL_MEMORY_RUN", 0)
	if err := errors.Join(first.Err(), size.Err()); err != nil {
		return nil, err
	}
	var runs []memoryRun
	var total uint64
	for i := range n {
		o := k.Object("_PHYSICAL_MEMORY_RUN", first.Addr()+mem.VA(i*uint64(size.Type().Size)))
		base, err1 := o.Field("BasePage").Uint()
		count, err2 := o.Field("PageCount").Uint()
		if err := errors.Join(err1, err2); err != nil {
			return nil, err
		}
		if base >= 1<<40 || count > maxFrames || total+count > maxFrames {
			return nil, fmt.Errorf("_PHYSICAL_MEMORY_RUN %d at %#x: %#x pages from %#x make no sense", i, uint64(o.Addr()), count, base)
		}
		total += count
		runs = append(runs, memoryRun{base, count})
	}
	return runs, nil
}

// pfnWalk counts entries of the database.
type pfnWalk struct {
	space         *mem.Space
	use           *PageUse
	base          mem.VA
	entry, at     uint64 // size of an entry, and where in it the location is
	buf           []byte
	windows, lost uint64
}

// locationBits are those of PageLocation.
const locationBits = 7

// read counts n entries from one frame on.
func (w *pfnWalk) read(first, n uint64) {
	w.windows++
	at := w.base + mem.VA(first*w.entry)
	got, err := w.space.ReadVirtual(w.buf[:n*w.entry], at)
	if err == nil {
		for i := range n {
			w.use.Lists[w.buf[i*w.entry+w.at]&locationBits]++
		}
		return
	}
	found := false
	var lost mem.VA // a page that can't be read: entries need not ask again
	for i := range n {
		var b [1]byte
		off := i*w.entry + w.at
		page := (at + mem.VA(off)).Page()
		switch {
		case off < uint64(got):
			b[0] = w.buf[off]
		case page == lost:
			w.use.Missing++
			continue
		default:
			if _, err := w.space.ReadVirtual(b[:], at+mem.VA(off)); err != nil {
				lost = page
				w.use.Missing++
				continue
			}
		}
		found = true
		w.use.Lists[b[0]&locationBits]++
	}
	if !found {
		w.lost++
	}
}
