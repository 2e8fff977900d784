package snapshot

import (
	"encoding/binary"
	"fmt"
	"slices"

	"gokd/model/mem"
)

// Bits of an x64 page-table entry (AMD64 Architecture Programmer's Manual,
// volume 2); bit 11 is Windows' own "writable" bit (_MMPTE_HARDWARE.Write).
const (
	pteValid    = 1 << 0
	pteWrite    = 1 << 1
	pteUser     = 1 << 2
	pteAccessed = 1 << 5
	pteDirty    = 1 << 6
	pteLarge    = 1 << 7
	pteGlobal   = 1 << 8
	pteMayWrite = 1 << 11
	pteNX       = 1 << 63

	pteTable = pteValid | pteWrite | pteAccessed | pteDirty
	pteFrame = 0x000ffffffffff000

	flagsCode = pteValid | pteAccessed | pteGlobal
	flagsRead = flagsCode | pteNX
	flagsData = flagsRead | pteWrite | pteDirty | pteMayWrite
	flagsUser = pteValid | pteWrite | pteUser | pteAccessed | pteDirty | pteMayWrite | pteNX
)

const (
	pageSize  = mem.PageSize
	largePage = 0x200000

	// Low memory is used for page tables, which makes two runs of physical
	// memory out of one as every real machine has them.
	lowFirst, lowEnd = 0x1, 0x9f
	highFirst        = 0x100
	// System's top-level table lies where the loader of Windows 7 puts it;
	// Volatility 3 looks for it between 0x150000 and 0x29ffff.
	rootFrame = 0x187

	maxPages = 64 << 20 / pageSize // of one snapshot
)

// physical is the simulated physical memory: the frames in use, by number.
type physical struct {
	frames    map[uint64][]byte
	user      map[uint64]bool // frames of user space, which a kernel dump leaves out
	arena     []byte
	low, high uint64 // next free frames
}

func newPhysical() *physical {
	p := &physical{frames: map[uint64][]byte{}, user: map[uint64]bool{}, low: lowFirst, high: highFirst}
	p.put(rootFrame)
	return p
}

// put makes a frame of zeros.
func (p *physical) put(frame uint64) []byte {
	if len(p.arena) < pageSize {
		p.arena = make([]byte, 64*pageSize)
	}
	page := p.arena[:pageSize:pageSize]
	p.arena = p.arena[pageSize:]
	p.frames[frame] = page
	return page
}

var errTooBig = fmt.Errorf("it needs more than %d MiB of memory", maxPages*pageSize>>20)

// take gives a free frame; tables come from low memory while there is some.
func (p *physical) take(table bool) (uint64, []byte, error) {
	if len(p.frames) >= maxPages {
		return 0, nil, errTooBig
	}
	if table && p.low < lowEnd {
		p.low++
		return p.low - 1, p.put(p.low - 1), nil
	}
	if p.high == rootFrame {
		p.high++
	}
	p.high++
	return p.high - 1, p.put(p.high - 1), nil
}

// numbers lists the frames in use, ascending.
func (p *physical) numbers() []uint64 {
	list := make([]uint64, 0, len(p.frames))
	for n := range p.frames {
		list = append(list, n)
	}
	slices.Sort(list)
	return list
}

// space is an address space: page tables in the simulated memory.
type space struct {
	phys  *physical
	root  uint64            // frame of the top-level table
	pages map[mem.VA][]byte // leaves, so that writing need not walk
}

// newSpace makes a top-level table with its one self-reference.
func newSpace(phys *physical, root uint64, selfIndex uint64) *space {
	s := &space{phys: phys, root: root, pages: map[mem.VA][]byte{}}
	binary.LittleEndian.PutUint64(phys.frames[root][8*selfIndex:], root<<12|pteTable|pteNX)
	return s
}

// slot walks down to the entry for an address at a level (1: the entry of a
// page; 2: of a large page), making the tables on the way.
func (s *space) slot(at mem.VA, level int) ([]byte, error) {
	table := s.phys.frames[s.root]
	for l := 4; ; l-- {
		entry := table[uint64(at)>>(12+9*(l-1))&0x1ff*8:][:8]
		if l == level {
			return entry, nil
		}
		v := binary.LittleEndian.Uint64(entry)
		switch {
		case v&pteLarge != 0:
			return nil, fmt.Errorf("%#x: already mapped by a large page", uint64(at))
		case v == 0:
			frame, page, err := s.phys.take(true)
			if err != nil {
				return nil, err
			}
			v = frame<<12 | pteTable
			if at < 1<<47 {
				v |= pteUser
				s.phys.user[frame] = true
			}
			binary.LittleEndian.PutUint64(entry, v)
			table = page
		default:
			table = s.phys.frames[v&pteFrame>>12]
		}
	}
}

// mapPage backs one page; a page that is there already stays as it is.
func (s *space) mapPage(at mem.VA, flags uint64) error {
	at = at.Page()
	if s.pages[at] != nil {
		return nil
	}
	entry, err := s.slot(at, 1)
	if err != nil {
		return err
	}
	frame, page, err := s.phys.take(false)
	if err != nil {
		return err
	}
	if at < 1<<47 {
		s.phys.user[frame] = true
	}
	binary.LittleEndian.PutUint64(entry, frame<<12|flags)
	s.pages[at] = page
	return nil
}

// mapRange backs every page of a range.
func (s *space) mapRange(at mem.VA, size, flags uint64) error {
	if size == 0 {
		return nil
	}
	last := (at + mem.VA(size-1)).Page()
	for page := at.Page(); ; page += pageSize {
		if err := s.mapPage(page, flags); err != nil {
			return err
		}
		if page == last {
			return nil
		}
	}
}

// mapAbsent maps a large page onto frames that no dump of this machine holds.
func (s *space) mapAbsent(at mem.VA, frame uint64) error {
	entry, err := s.slot(at, 2)
	if err != nil {
		return err
	}
	if binary.LittleEndian.Uint64(entry) != 0 {
		return fmt.Errorf("%#x: already mapped", uint64(at))
	}
	binary.LittleEndian.PutUint64(entry, frame<<12|flagsData|pteLarge)
	return nil
}

// copyKernel makes the kernel half of a process's table that of System.
func (s *space) copyKernel(from *space, selfIndex uint64) {
	to, src := s.phys.frames[s.root], from.phys.frames[from.root]
	for i := uint64(256); i < 512; i++ {
		if i != selfIndex {
			copy(to[8*i:8*i+8], src[8*i:8*i+8])
		}
	}
}

// bytes copies between the space and a buffer, page by page.
func (s *space) bytes(at mem.VA, b []byte, write bool) error {
	for len(b) > 0 {
		page := s.pages[at.Page()]
		if page == nil {
			return fmt.Errorf("%#x: not backed", uint64(at))
		}
		n := 0
		if write {
			n = copy(page[at-at.Page():], b)
		} else {
			n = copy(b, page[at-at.Page():])
		}
		b, at = b[n:], at+mem.VA(n)
	}
	return nil
}
