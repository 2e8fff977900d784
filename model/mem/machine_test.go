package mem

import (
	"encoding/binary"
	"iter"
	"slices"
	"testing"
)

// frames is physical memory for tests: the captured pages by address.
type frames map[PA]*[4096]byte

func (f frames) ReadPhysical(p []byte, at PA) (n int, err error) {
	for n < len(p) {
		pa := at + PA(n)
		page, ok := f[pa/4096*4096]
		if !ok {
			return n, &Fault{Kind: NotCaptured, PA: pa}
		}
		n += copy(p[n:], page[pa%4096:])
	}
	return n, nil
}

func (f frames) Runs() iter.Seq[Run] {
	return func(yield func(Run) bool) {
		all := make([]PA, 0, len(f))
		for at := range f {
			all = append(all, at)
		}
		slices.Sort(all)
		for _, at := range all {
			if !yield(Run{at, 4096}) {
				return
			}
		}
	}
}

var _ Physical = frames(nil)

// machine builds page tables by hand: every level is spelled out, so that it
// shares no arithmetic with the walker.
type machine struct {
	frames frames
	next   PA // the next free page
	root   PA
}

func newMachine() *machine {
	m := &machine{frames: frames{}, next: 0x1000}
	m.root = m.page()
	return m
}

// page captures a new page of zeros.
func (m *machine) page() PA {
	at := m.next
	m.next += 0x1000
	m.frames[at] = new([4096]byte)
	return at
}

func (m *machine) put(at PA, v uint64) {
	binary.LittleEndian.PutUint64(m.frames[at&^0xfff][at&0xfff:], v)
}

func (m *machine) get(at PA) uint64 {
	return binary.LittleEndian.Uint64(m.frames[at&^0xfff][at&0xfff:])
}

// slots gives the physical addresses of the entries that map va, root first, as
// far down as the level (4 the root, 1 the page table), making tables.
func (m *machine) slot(va VA, level int) PA {
	index := []uint64{4: uint64(va) >> 39 & 0x1ff, 3: uint64(va) >> 30 & 0x1ff, 2: uint64(va) >> 21 & 0x1ff, 1: uint64(va) >> 12 & 0x1ff}
	table := m.root
	for l := 4; l > level; l-- {
		slot := table + PA(8*index[l])
		e := m.get(slot)
		if e == 0 {
			e = uint64(m.page()) | 0x67 // present, writable, user, accessed, dirty
			m.put(slot, e)
		}
		table = PA(e & 0xffffffffff000)
	}
	return table + PA(8*index[level])
}

// set writes the entry of a level that maps va.
func (m *machine) set(va VA, level int, entry uint64) { m.put(m.slot(va, level), entry) }

// mapBytes maps a new small page with the given content.
func (m *machine) mapBytes(va VA, content []byte) PA {
	pa := m.page()
	copy(m.frames[pa][:], content)
	m.set(va, 1, uint64(pa)|0x8000000000000063)
	return pa
}

func (m *machine) space() *Space { return NewX64(m.frames, m.root) }

// fill gives bytes that name their own offset.
func fill(n int, seed uint32) []byte {
	b := make([]byte, n)
	for i := range b {
		seed = seed*1664525 + 1013904223
		b[i] = byte(seed >> 24)
	}
	return b
}

func wantFault(t *testing.T, err error, want Fault) {
	t.Helper()
	f, ok := err.(*Fault)
	if !ok {
		t.Fatalf("error %v (%T), want a fault", err, err)
	}
	if *f != want {
		t.Errorf("fault\n got %+v\nwant %+v", *f, want)
	}
}
