package pool

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"

	"gokd/model"
	"gokd/model/mem"
)

// Special pool gives every allocation a page of its own with an inaccessible
// page behind it, so that a driver that writes over its end or uses it after
// its release faults at once. Driver Verifier and a chosen tag (GFlags) switch
// it on.
//
// The form of its pages is known from ReactOS (ntoskrnl/mm/ARM3/special.c): a
// _POOL_HEADER at the page's start and the allocation at its end (to catch
// overruns), or the allocation at the start and the header at the end (to catch
// underruns). The low half of the header's first word is the number of bytes
// that were asked for, with bit 15 for paged pool; its third byte fills what the
// allocation leaves of the page. Up to 17763 Windows has structures for special
// pool as those of ReactOS; no dump of such a machine was at hand, so each page
// must prove itself by the filler.
const (
	specialPaged  = 0x8000
	specialFlags  = 0xf000 // of which specialPaged is one; what the others mean is not public
	specialSize   = 0x0fff // bytes asked for, at most a page less a header
	specialSlack  = 0x40   // behind the header, where a verifier keeps its own on some pages
	specialFreed  = 0x98764321
	maxSpecialEnd = pageSize - HeaderSize
)

// SpecialError says that the filler around an allocation of special pool was
// changed: someone wrote before its start or behind its end.
type SpecialError struct {
	Page mem.VA
	Body mem.VA // the allocation
	At   mem.VA // the first byte that is wrong
	Got  byte
	Want byte // the filler
	Bad  int  // how many bytes are wrong
}

func (e *SpecialError) Error() string {
	side := "behind its end"
	if e.At < e.Body {
		side = "before its start"
	}
	return fmt.Sprintf("special pool: the allocation at %#x was written %s: the byte at %#x is %#x, not %#x; %d bytes are wrong",
		uint64(e.Body), side, uint64(e.At), e.Got, e.Want, e.Bad)
}

// specialForm is one reading of a page.
type specialForm struct {
	header, body, size int // offsets and bytes
	word               uint32
}

// gaps gives the ranges of offsets that hold filler.
func (f specialForm) gaps() [2][2]int {
	if f.header == 0 {
		from := HeaderSize
		if f.word&(specialFlags&^specialPaged) != 0 {
			from += specialSlack
		}
		return [2][2]int{{min(from, f.body), f.body}, {f.body + f.size, pageSize}}
	}
	return [2][2]int{{f.size, f.header}, {0, 0}}
}

// specialForms gives the readings of a page that can be; size 0 where one can't.
// An allocation at the end of its page starts at a multiple of a header's size;
// the third reading has it at one of half of that, and must fit the filler better
// to be believed.
func specialForms(page *[pageSize]byte) (forms [3]specialForm) {
	const end, start, loose = 0, 1, 2
	for i, header := range [2]int{0, maxSpecialEnd} {
		word := binary.LittleEndian.Uint32(page[header:])
		size := int(word & specialSize)
		if size == 0 || size > maxSpecialEnd || !plausibleTag(page[header+4:header+8]) {
			continue
		}
		f := specialForm{header: header, size: size, word: word}
		if i == start {
			forms[start] = f
			continue
		}
		if f.body = (pageSize - size) &^ (HeaderSize - 1); f.body >= HeaderSize {
			forms[end] = f
		}
		if f.body = (pageSize - size) &^ (HeaderSize/2 - 1); f.body >= HeaderSize && f.body != forms[end].body {
			forms[loose] = f
		}
	}
	return forms
}

// check counts the filler bytes of a form and those that are not the filler.
func (f specialForm) check(page *[pageSize]byte) (filler, bad, first int) {
	want := byte(f.word >> 16)
	first = -1
	for _, gap := range f.gaps() {
		for off := gap[0]; off < gap[1]; off++ {
			filler++
			if page[off] != want {
				if first < 0 {
					first = off
				}
				bad++
			}
		}
	}
	return filler, bad, first
}

// specialPage decodes a page of special pool. ok is false for a page that is
// none: its filler does not prove it. damage tells of a page most of whose
// filler is there and some is not.
func specialPage(page *[pageSize]byte, at mem.VA) (b Block, damage *SpecialError, ok bool) {
	if b, ok := specialReleased(page, at); ok {
		return b, nil, true
	}
	best, bestBad, bestFirst, bestFiller := specialForm{}, 0, -1, -1
	for _, f := range specialForms(page) {
		if f.size == 0 {
			continue
		}
		filler, bad, first := f.check(page)
		// Seven of eight bytes must be right, and where there are none to tell,
		// the rest of the header must be what the allocator leaves of it.
		if bad*8 > filler || filler == 0 && f.word>>24 != 0 || best.size != 0 && bad-filler >= bestBad-bestFiller {
			continue
		}
		best, bestBad, bestFirst, bestFiller = f, bad, first, filler
	}
	if best.size == 0 {
		return Block{}, nil, false
	}
	b = Block{
		Header: at + mem.VA(best.header), Body: at + mem.VA(best.body), Size: uint64(best.size), Room: pageSize,
		Billed: binary.LittleEndian.Uint64(page[best.header+8:]), Kind: Special, Place: InSpecial,
	}
	if best.word&specialPaged != 0 {
		b.Type = typePaged
	}
	b.Tag, b.Protected = TagOf(binary.LittleEndian.Uint32(page[best.header+4:]))
	if bestBad > 0 {
		damage = &SpecialError{Page: at, Body: b.Body, At: at + mem.VA(bestFirst), Got: page[bestFirst], Want: byte(best.word >> 16), Bad: bestBad}
	}
	return b, damage, true
}

// specialReleased decodes what is left in the page of an allocation that was
// released: behind the header a signature, the time, the bytes that were asked
// for, whether it was paged, and its address. Such a page is seldom mapped.
func specialReleased(page *[pageSize]byte, at mem.VA) (Block, bool) {
	if binary.LittleEndian.Uint32(page[HeaderSize:]) != specialFreed {
		return Block{}, false
	}
	size := binary.LittleEndian.Uint32(page[HeaderSize+8:])
	body := mem.VA(binary.LittleEndian.Uint64(page[HeaderSize+16:]))
	if size == 0 || size > maxSpecialEnd || body.Page() != at.Page() {
		return Block{}, false
	}
	b := Block{
		Header: at.Page(), Body: body, Size: uint64(size), Room: pageSize,
		Kind: Special, Place: InSpecial, State: Free, Type: uint16(page[HeaderSize+12] & typePaged),
	}
	b.Tag, b.Protected = TagOf(binary.LittleEndian.Uint32(page[4:]))
	return b, true
}

// specialRanges gives where special pool lies on builds up to 17763.
func (p *Pool) specialRanges(ctx context.Context) ([]Range, error) {
	if !p.PagePool() {
		return nil, fmt.Errorf("special pool of build %d lies in heaps of its own (nt!ExPoolState.SpecialHeaps) and has no range: its blocks are found with those of nonpaged and of paged pool; as pages it is %w",
			p.k.Build, ErrNotWalked)
	}
	list, why := p.declared(Special, p.assignedRegions, p.slotTypes, p.specialBitmaps, p.specialLimits)
	if _, err := p.k.Types.Type("_MI_VISIBLE_STATE"); len(list) == 0 && err != nil {
		// 7 and 8.1: what other builds have need not be looked for.
		ends, err := p.specialListEnds()
		why = err
		list = p.takeIn(nil, Special, ends, "nt!MiSpecialPool")
	}
	if len(list) == 0 && p.k.Build >= 7600 && p.k.Build <= 7601 {
		list = append(list, Range{Kind: Special, Start: dynamic7Start, Last: dynamic7Last,
			From: "published layout of Windows 7", Inferred: true, space: p.k.Space})
	}
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	if len(list) == 0 {
		if why == nil {
			why = errors.New("no structure of the kernel tells of it")
		}
		return nil, fmt.Errorf("special pool: its range is not known: %w", why)
	}
	return tidy(list), nil
}

// What Windows 7 x64 gives out by need: views of the system cache and special
// pool (the published map of its system space, CodeMachine).
const (
	dynamic7Start mem.VA = 0xfffff98000000000
	dynamic7Last  mem.VA = 0xfffffa7fffffffff
)

// specialLimits reads the variables of builds up to Vista and of ReactOS, which
// others lack.
func (p *Pool) specialLimits(Kind) ([]Range, error) {
	if _, err := p.k.Global("MmSpecialPoolStart"); err != nil {
		return nil, nil
	}
	start, from, err := p.firstSet("MmSpecialPoolStart")
	if err != nil {
		return nil, err
	}
	end, _, err := p.firstSet("MmSpecialPoolEnd")
	if err != nil {
		return nil, err
	}
	return []Range{{Start: start, Last: (end - 1) | (mem.PageSize - 1), From: from}}, nil
}

// specialBitmaps reads the bitmaps that special pool is given out by: one in
// 14393, one each for paged and nonpaged pool in 16299 to 17763.
func (p *Pool) specialBitmaps(Kind) (list []Range, why error) {
	state, err := p.miState()
	if err != nil {
		return nil, err
	}
	field := state.Field("SystemVa.DynamicBitMapSpecialPool")
	if err := field.Err(); err != nil {
		return nil, err
	}
	bitmaps := []model.Object{field}
	if n := field.Type().Count; n > 0 {
		bitmaps = nil
		for i := range min(n, 4) {
			bitmaps = append(bitmaps, field.Index(i))
		}
	}
	for _, bitmap := range bitmaps {
		found, err := p.bitmapRange(bitmap, "nt!MiState")
		why = errors.Join(why, err)
		list = append(list, found...)
	}
	return list, why
}

// specialListEnds gives addresses in the special pool of 7 and 8.1: those that
// the ends of its lists of free page-table entries map. The lists link entries
// by their number from PteBase on (_MMPTE_LIST.NextEntry, bits 32-63).
func (p *Pool) specialListEnds() ([]mem.VA, error) {
	at, err := p.k.Global("MiSpecialPool")
	if err != nil {
		return nil, err
	}
	o := p.k.Object("_MI_SPECIAL_POOL", at)
	ends := unitEnds{}
	for _, name := range []string{"Paged", "NonPaged"} {
		list := o.Field(name)
		base := list.Field("PteBase") // from 8 on
		if base.Err() != nil {
			base = o.Field("PteBase")
		}
		first, err := base.Pointer()
		if err != nil {
			return nil, err
		}
		for _, end := range []string{"Flink", "Blink", "FreePteHead", "FreePteTail"} {
			entry := list.Field(end)
			if entry.Err() != nil {
				continue
			}
			v, err := p.k.Space.Uint64(entry.Addr())
			const none = 0xffffffff
			if err != nil || v>>32 == 0 || v>>32 == none {
				continue
			}
			if at, ok := p.mappedBy(first + mem.VA(v>>32)*8); ok {
				ends.add(at)
			}
		}
	}
	if len(ends) == 0 {
		return nil, fmt.Errorf("nt!MiSpecialPool at %#x has no free page, by which to find it", uint64(at))
	}
	return ends.list(), nil
}

// SpecialSettings is what the kernel was told of special pool.
type SpecialSettings struct {
	Tag      Tag    // allocations of this tag go there; meaningful with TagSet
	TagSet   bool   // a tag or a size was chosen (nt!MmSpecialPoolTag)
	Overruns bool   // faults behind the end are to be caught, not those before the start
	Pages    uint64 // pages in use; 0 where not told
}

// SpecialSettings reads nt!MmSpecialPoolTag and its neighbours. A tag below
// 0x1000 is a size: allocations of so many bytes go to special pool (GFlags).
func (p *Pool) SpecialSettings() (SpecialSettings, error) {
	var s SpecialSettings
	tag, err := p.k.Global32("MmSpecialPoolTag")
	if err != nil {
		return s, err
	}
	s.Tag, _ = TagOf(tag)
	s.TagSet = tag != 0 && tag != 0xffffffff
	s.Overruns = true
	if v, err := p.k.Global32("MmSpecialPoolCatchOverruns"); err == nil {
		s.Overruns = v&0xff != 0
	}
	if at, err := p.k.Global("MmSpecialPagesInUse"); err == nil {
		s.Pages, _ = p.k.Space.Uint64(at)
	}
	if state, err := p.k.GlobalPointer("MiVisibleState"); err == nil {
		if o := p.k.Object("_MI_VISIBLE_STATE", state).Field("SpecialPagesInUse"); o.Err() == nil {
			s.Pages, _ = o.Uint()
		}
	}
	return s, nil
}

// SpecialAt decodes the page of special pool that holds an address. The error
// is a *SpecialError beside a block whose surroundings were written, and
// ErrNotPool where the page is none of special pool or nothing is mapped there,
// such as the inaccessible page behind an allocation.
func (p *Pool) SpecialAt(ctx context.Context, at mem.VA) (Block, error) {
	list, err := p.Ranges(ctx, Special)
	if err != nil {
		return Block{}, err
	}
	if !within(list, at, at) {
		return Block{}, fmt.Errorf("%#x: %w: it lies outside special pool", uint64(at), ErrNotPool)
	}
	var page [pageSize]byte
	if _, err := p.k.Space.ReadVirtual(page[:], at.Page()); err != nil {
		return Block{}, fmt.Errorf("page of special pool at %#x: %w: %w", uint64(at.Page()), ErrNotPool, err)
	}
	b, damage, ok := specialPage(&page, at.Page())
	switch {
	case !ok:
		return b, fmt.Errorf("%#x: %w: its page has not the form of special pool", uint64(at), ErrNotPool)
	case damage != nil:
		return b, damage
	}
	return b, nil
}
