package mem

import (
	"encoding/binary"
	"errors"
	"fmt"
)

// Bits of an x64 page-table entry (Intel SDM volume 3, 4.5), and of the
// software forms Windows gives to entries that are not valid (the _MMPTE_*
// types of the public symbol files).
const (
	entryMask = 0x000ffffffffff000 // bits 12-51: page frame
	bitValid  = 1 << 0
	bitWrite  = 1 << 1
	bitLarge  = 1 << 7
	bitProto  = 1 << 10
	bitTrans  = 1 << 11

	bitSwizzle     = 1 << 4
	protectionMask = 0x3e0

	// Windows 11 22H2 and later write entries of mapped files with the bits above
	// 46 set and the low four clear (MemProcFS mm_win.c). No page frame, page-file
	// offset or pool address of a prototype entry looks so.
	fileMask = 0xffff80000000000f
	fileBits = 0xffff800000000000

	// A prototype entry's address is in the kernel's half and aligned to 8.
	protoMask = 0x8000000000070401
	protoBits = 0x8000000000000400
)

const (
	cacheSlots    = 2048
	entriesPerTab = PageSize / 8
)

// region is a cached piece of 2 MB: the page table that maps it, or the large
// page behind it.
type region struct {
	number uint64 // VA >> 21
	table  *[entriesPerTab]uint64
	at     PA // of the table
	base   PA // of the large page
	size   uint64
}

// Canonical reports whether bits 47-63 of an address are alike, as 4-level
// paging asks.
func Canonical(at VA) bool { return uint64(int64(at)<<16>>16) == uint64(at) }

// Translate finds the physical address of a byte. Transition pages, prototype
// entries and demand-zero pages resolve as the memory manager would; other
// holes give a *Fault.
func (s *Space) Translate(at VA) (Translation, error) {
	if s.flat != nil {
		return Translation{}, &Fault{Kind: NotCaptured, VA: at, Why: "this dump holds no page tables"}
	}
	return s.translate(at, 0)
}

// maxProtoDepth limits prototype entries that lie behind prototype entries.
const maxProtoDepth = 3

func (s *Space) translate(at VA, depth int) (Translation, error) {
	if !Canonical(at) {
		return Translation{}, &Fault{Kind: NonCanonical, VA: at}
	}
	number := uint64(at) >> 21
	slot := &s.cache[number%cacheSlots]
	r := slot.Load()
	if r == nil || r.number != number {
		var err error
		if r, err = s.walkTo(at, nil); err != nil {
			return Translation{}, err
		}
		slot.Store(r)
	}
	if r.table == nil {
		off := uint64(at) & (r.size - 1)
		return Translation{PA: r.base + PA(off), PageSize: r.size}, nil
	}
	pte := r.table[uint64(at)>>12&511]
	page, zero, err := s.leaf(pte, at, depth)
	switch {
	case err != nil:
		return Translation{}, err
	case zero:
		return Translation{Zero: true, PageSize: PageSize}, nil
	}
	return Translation{PA: page + PA(uint64(at)%PageSize), PageSize: PageSize}, nil
}

// walkTo goes down the upper levels to the page table or large page of at.
func (s *Space) walkTo(at VA, steps *[]Step) (*region, error) {
	table := s.root
	for level := LevelPXE; level >= LevelPDE; level-- {
		shift := 12 + 9*(uint(level)-1)
		where := table + PA(uint64(at)>>shift&511*8)
		var b [8]byte
		if _, err := s.phys.ReadPhysical(b[:], where); err != nil {
			return nil, &Fault{Kind: NotCaptured, VA: at, PA: where, Level: level, Why: "its page table is not in the dump"}
		}
		e := binary.LittleEndian.Uint64(b[:])
		if steps != nil {
			*steps = append(*steps, Step{Level: level, At: where, Value: e, Format: s.format(e)})
		}
		next := PA(e & entryMask)
		if e&bitValid == 0 {
			var err error
			if next, err = s.upper(e, at, level); err != nil {
				return nil, err
			}
		} else if e&bitLarge != 0 && level < LevelPXE {
			size := uint64(1) << shift
			return &region{number: uint64(at) >> 21, base: next &^ PA(size-1), size: size}, nil
		}
		table = next
	}
	var b [PageSize]byte
	if _, err := s.phys.ReadPhysical(b[:], table); err != nil {
		return nil, &Fault{Kind: NotCaptured, VA: at, PA: table, Level: LevelPTE, Why: "its page table is not in the dump"}
	}
	r := &region{number: uint64(at) >> 21, at: table, table: new([entriesPerTab]uint64)}
	for i := range r.table {
		r.table[i] = binary.LittleEndian.Uint64(b[8*i:])
	}
	return r, nil
}

// upper reads an entry of an upper level that is not valid. A page table can be
// in transition itself; its content is still there.
func (s *Space) upper(e uint64, at VA, level Level) (table PA, err error) {
	page, zero, err := s.leaf(e, at, maxProtoDepth)
	var f *Fault
	switch {
	case errors.As(err, &f):
		return 0, &Fault{Kind: NotPresent, VA: at, Level: level, Entry: e, Why: f.Why}
	case zero:
		// No table was ever made: nothing below was touched.
		return 0, &Fault{Kind: NotPresent, VA: at, Level: level, Entry: e}
	}
	return page, err
}

// leaf reads a last-level entry: the page, or a demand-zero page, or why there
// is none. The order of the tests is the memory manager's, as MemProcFS's
// mm_win.c and the public _MMPTE types show it.
func (s *Space) leaf(pte uint64, at VA, depth int) (page PA, zero bool, err error) {
	fault := func(why string) error {
		return &Fault{Kind: NotPresent, VA: at, Level: LevelPTE, Entry: pte, Why: why}
	}
	switch {
	case pte&bitValid != 0:
		return PA(pte & entryMask), false, nil
	case pte == 0:
		return 0, false, fault("")
	case s.soft.Unknown:
		return 0, false, fault("this build writes entries without a page in a form that is not known")
	case pte&(fileMask|bitProto) == fileBits:
		return 0, false, fault("in a mapped file, not in memory")
	case pte&(bitProto|bitTrans) == bitTrans:
		return PA(s.unswizzle(pte) & entryMask), false, nil
	case pte&bitProto != 0:
		return s.prototype(pte, at, depth)
	}
	number, offset := s.PageFile(pte)
	if number == 0 && offset == 0 {
		if pte&protectionMask == 0 {
			return 0, false, fault("")
		}
		return 0, true, nil
	}
	return 0, false, fault(fmt.Sprintf("paged out, page file %d, offset %#x", number, offset))
}

// prototype follows a prototype entry, whose bits 16-63 are the address of the
// shared entry.
func (s *Space) prototype(pte uint64, at VA, depth int) (PA, bool, error) {
	fault := func(why string) error {
		return &Fault{Kind: NotPresent, VA: at, Level: LevelPTE, Entry: pte, Why: why}
	}
	where := VA(int64(pte) >> 16)
	switch {
	case where>>32 == 0xffffffff:
		return 0, false, fault("decided by the process's address descriptors")
	case pte&protoMask != protoBits:
		return 0, false, fault("its prototype entry has no kernel address")
	}
	if depth >= maxProtoDepth {
		return 0, false, fault("prototype entries nested too deep")
	}
	t, err := s.translate(where, depth+1)
	if err != nil || t.Zero {
		return 0, false, fault(fmt.Sprintf("prototype entry at %#x cannot be read", uint64(where)))
	}
	var b [8]byte
	if _, err := s.phys.ReadPhysical(b[:], t.PA); err != nil {
		return 0, false, &Fault{Kind: NotCaptured, VA: at, Level: LevelPTE, Entry: pte, Why: "its prototype entry is not in the dump"}
	}
	proto := binary.LittleEndian.Uint64(b[:])
	if proto&bitValid == 0 && proto&bitProto != 0 {
		return 0, false, fault("in a mapped file, not in memory")
	}
	return s.leaf(proto, at, maxProtoDepth)
}

// Unswizzle gives a software entry as it would stand without the XOR of the new
// generation: its page frame or page-file offset can then be read off.
func (s *Space) Unswizzle(pte uint64) uint64 { return s.unswizzle(pte) }

// SelfMap finds the entry of the top page table that maps the table itself: page
// tables appear as memory in the 512 GB below it. Windows picks it at random
// since 1607; before it was always 0x1ed. ok is false where the table is not in
// the dump, or no entry leads back to it.
func (s *Space) SelfMap() (index int, ok bool) {
	if s.flat != nil || s.phys == nil {
		return 0, false
	}
	var b [PageSize]byte
	n, _ := s.phys.ReadPhysical(b[:], s.root)
	// The upper half is the kernel's; an entry below it would be a process's.
	for i := entriesPerTab / 2; i < n/8; i++ {
		e := binary.LittleEndian.Uint64(b[8*i:])
		if e&bitValid != 0 && e&bitLarge == 0 && PA(e&entryMask) == s.root {
			return i, true
		}
	}
	return 0, false
}

// unswizzle undoes the XOR of the new generation.
func (s *Space) unswizzle(pte uint64) uint64 {
	if !s.soft.Swizzled || pte&bitSwizzle != 0 {
		return pte
	}
	mask := s.soft.InvalidMask
	if mask == 0 {
		// Without the machine's mask only the usual one can be undone: clearing
		// the bit is right whether or not it was set.
		return pte &^ defaultInvalidMask
	}
	return pte ^ mask
}

// PageFile gives the page-file number and the page offset in it that a software
// entry names.
func (s *Space) PageFile(pte uint64) (number int, offset uint64) {
	if s.soft.Swizzled {
		v := s.unswizzle(pte)
		// A demand-zero entry is not swizzled: its high half is zero as it is.
		if pte>>32 == 0 {
			v = pte
		}
		return int(pte >> 12 & 15), v >> 32
	}
	return int(pte >> 1 & 15), pte >> 32
}

func (s *Space) format(e uint64) string {
	switch {
	case e&bitValid != 0:
		return "hardware"
	case e&(bitProto|bitTrans) == bitTrans:
		return "transition"
	case e&bitProto != 0:
		return "prototype"
	}
	return "software"
}

// TranslateSteps is Translate with every level's entry, for display.
func (s *Space) TranslateSteps(at VA) (Translation, error) {
	if s.flat != nil {
		return s.Translate(at)
	}
	if !Canonical(at) {
		return Translation{}, &Fault{Kind: NonCanonical, VA: at}
	}
	var steps []Step
	r, err := s.walkTo(at, &steps)
	if err != nil {
		return Translation{Steps: steps}, err
	}
	if r.table != nil {
		i := uint64(at) >> 12 & 511
		steps = append(steps, Step{Level: LevelPTE, At: r.at + PA(8*i), Value: r.table[i], Format: s.format(r.table[i])})
	}
	t, err := s.translate(at, 0)
	t.Steps = steps
	return t, err
}
