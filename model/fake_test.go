package model

import (
	"encoding/binary"
	"testing"

	"gokd/model/mem"
	"gokd/model/types"
)

// pages is memory for tests: whole pages at the addresses written to.
type pages map[mem.VA]*[mem.PageSize]byte

func (p pages) ReadVirtual(b []byte, at mem.VA) (int, error) {
	for n := range b {
		page := p[(at + mem.VA(n)).Page()]
		if page == nil {
			return n, &mem.Fault{Kind: mem.NotCaptured, VA: at + mem.VA(n)}
		}
		b[n] = page[uint64(at+mem.VA(n))%mem.PageSize]
	}
	return len(b), nil
}

func (p pages) put(at mem.VA, b ...byte) {
	for n, c := range b {
		va := at + mem.VA(n)
		if p[va.Page()] == nil {
			p[va.Page()] = new([mem.PageSize]byte)
		}
		p[va.Page()][uint64(va)%mem.PageSize] = c
	}
}

func (p pages) put64(at mem.VA, v uint64) {
	p.put(at, binary.LittleEndian.AppendUint64(nil, v)...)
}

// link writes a ring of list entries.
func (p pages) link(ring ...mem.VA) {
	for i, at := range ring {
		next := ring[(i+1)%len(ring)]
		p.put64(at, uint64(next))
		p.put64(next+8, uint64(at))
	}
}

// fake gives a kernel over pages with the layout of Windows 10 2004.
func fake(t *testing.T, p pages) *Kernel {
	t.Helper()
	list := types.Embedded(19041)
	if len(list) == 0 {
		t.Fatal("no embedded layout of 19041")
	}
	return &Kernel{Space: mem.NewFlat(p), Types: list[0], Build: 19041, Modules: &Modules{}}
}
