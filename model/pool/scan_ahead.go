package pool

import (
	"slices"

	"gokd/model/mem"
)

// readAhead asks for the pages of a window before the workers come to them, in
// order of the file: pages of a pool lie anywhere in it, and a file that is not
// in memory would be read page by page. The zero value does nothing.
type readAhead struct {
	advise func(off, n int64)
	off    []int64
}

// adviser is implemented by physical memory whose file can be told what of it
// will be read.
type adviser interface {
	WillRead(off, n int64)
}

// adviseGap is how far apart, in bytes, pieces of the file may lie to be asked
// for as one: what a disk reads in the time of a seek.
const adviseGap = 64 << 10

func newReadAhead(phys mem.Physical) readAhead {
	a, ok := phys.(adviser)
	if _, known := phys.(mem.Offsetter); !ok || !known {
		return readAhead{}
	}
	return readAhead{advise: a.WillRead}
}

// window asks for the pages of a window.
func (a *readAhead) window(s *scanner, w *window) {
	if a.advise == nil {
		return
	}
	a.off = a.off[:0]
	for i, pa := range w.pas {
		if i > 0 && w.pas[i-1]+pageSize == pa {
			a.off = append(a.off, a.off[len(a.off)-1]+pageSize)
			continue
		}
		off, _ := s.offsets.FileOffset(pa)
		a.off = append(a.off, off)
	}
	slices.Sort(a.off)
	for i := 0; i < len(a.off); {
		j := i + 1
		for j < len(a.off) && a.off[j]-a.off[j-1] <= adviseGap {
			j++
		}
		a.advise(a.off[i], a.off[j-1]-a.off[i]+pageSize)
		i = j
	}
}
