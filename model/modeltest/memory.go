package modeltest

import (
	"iter"
	"sort"

	"gokd/model/mem"
)

// Memory is the physical memory of a machine with page tables. It hands out
// slices of up to a run's length, as a mapped dump does.
type Memory struct {
	runs []run
	// Copies makes it hand out no slices, as a compressed dump does.
	Copies bool
}

type run struct {
	base mem.PA
	data []byte
}

var (
	_ mem.Physical = (*Memory)(nil)
	_ mem.Slicer   = (*Memory)(nil)
)

// find gives the bytes from an address to the end of its run.
func (p *Memory) find(at mem.PA) []byte {
	i := sort.Search(len(p.runs), func(i int) bool { return p.runs[i].base > at }) - 1
	if i < 0 || uint64(at-p.runs[i].base) >= uint64(len(p.runs[i].data)) {
		return nil
	}
	return p.runs[i].data[at-p.runs[i].base:]
}

// ReadPhysical implements mem.Physical.
func (p *Memory) ReadPhysical(b []byte, at mem.PA) (n int, err error) {
	for n < len(b) {
		from := p.find(at + mem.PA(n))
		if from == nil {
			return n, &mem.Fault{Kind: mem.NotCaptured, PA: at + mem.PA(n)}
		}
		n += copy(b[n:], from)
	}
	return n, nil
}

// SlicePhysical implements mem.Slicer.
func (p *Memory) SlicePhysical(at mem.PA, n int) ([]byte, bool) {
	b := p.find(at)
	if p.Copies || n < 0 || len(b) < n {
		return nil, false
	}
	return b[:n:n], true
}

// FileOffset implements mem.Offsetter: as if the runs lay in a file one behind
// the other.
func (p *Memory) FileOffset(at mem.PA) (int64, bool) {
	off := int64(0)
	for _, r := range p.runs {
		if at >= r.base && uint64(at-r.base) < uint64(len(r.data)) {
			return off + int64(at-r.base), true
		}
		off += int64(len(r.data))
	}
	return 0, false
}

// Runs implements mem.Physical.
func (p *Memory) Runs() iter.Seq[mem.Run] {
	return func(yield func(mem.Run) bool) {
		for _, r := range p.runs {
			if !yield(mem.Run{Base: r.base, Size: uint64(len(r.data))}) {
				return
			}
		}
	}
}
