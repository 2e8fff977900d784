package pool

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"slices"

	"gokd/model"
	"gokd/model/mem"
	"gokd/model/types"
)

// PlaceKind says as what the bytes of a tag stand in an image. The later ones
// say more about who allocates with the tag.
type PlaceKind uint8

// The kinds of places.
const (
	InText    PlaceKind = iota // inside a longer text: "File" in "CreateFile"
	InCode                     // in code, but no instruction was found that has them as its operand
	InData                     // four bytes of their own in data
	AsOperand                  // the last operand of an instruction: mov r8d, 'Leak'
	AsTag                      // of one whose function then calls a routine that takes a tag
)

var placeNames = [...]string{"text", "code", "data", "operand", "tag"}

// String gives the kind in a word, as records spell it.
func (k PlaceKind) String() string {
	if int(k) < len(placeNames) {
		return placeNames[k]
	}
	return "unknown"
}

// TagPlace is one place in an image that holds the bytes of a tag.
type TagPlace struct {
	At        mem.VA // of the first byte
	Section   string // of the image: ".text"; empty in its headers and where they are missing
	Kind      PlaceKind
	Protected bool // with bit 31 set, as the tag of protected allocations is passed

	// Of AsOperand and AsTag:
	Inst        mem.VA // the instruction
	Instruction string // "mov r8d,6B61654Ch"
	Argument    int    // which argument of a call its destination is, from 1; 0: none
	Call        mem.VA // the next call behind it; 0 where none was found
	Routine     string // what is called: "nt!ExAllocatePoolWithTag"; empty where not known
}

// TagUser is a loaded image whose memory holds the four characters of a tag.
type TagUser struct {
	Module *model.Module
	At     mem.VA // of the best place
	Places int    // of every kind
	ByKind [len(placeNames)]int
	Best   []TagPlace // the places that say most, at most some twenty
	Lost   uint64     // pages of the image that are not in the dump
}

// Kernel reports whether the image is the kernel itself, which has the tags of
// its own parts, and may allocate for drivers.
func (u *TagUser) Kernel() bool { return u.Module.Name == "nt" }

// Kind is the kind of the best place.
func (u *TagUser) Kind() PlaceKind {
	if len(u.Best) == 0 {
		return InText
	}
	return u.Best[0].Kind
}

// TagSearch is what a search for a tag's users found.
type TagSearch struct {
	Users    []TagUser // the most likely first; the kernel itself last among equals
	Images   int       // that were searched
	Bytes    uint64    // that were searched
	Missing  uint64    // pages of images that are not in the dump
	Partly   int       // images of which pages are missing
	Absent   int       // of these: images of which nothing is there
	Unlooked int       // images left out because of the limits
}

// Limits of the search.
const (
	maxImage     = 64 << 20 // bytes of one image
	maxImages    = 1 << 30  // bytes of all of them: page tables can map one page anywhere
	maxPlaces    = 4096     // of one image that are looked at
	maxBest      = 20       // of one image that are kept
	maxDecodings = 1 << 10  // of one image: functions that are decoded up to a place
)

// TagUsers gives the users that SearchTag finds. missing counts the pages of
// images that are not in the dump.
func TagUsers(ctx context.Context, k *model.Kernel, tag Tag) (users []TagUser, missing uint64, err error) {
	s, err := SearchTag(ctx, k, tag)
	return s.Users, s.Missing, err
}

// SearchTag searches the loaded images for the four bytes of a tag, with and
// without the protection bit, as "s -a" over every module would: a driver names
// its tag as a constant in its code. Each place is judged: the operand of an
// instruction whose function then calls a routine that allocates or frees with a
// tag says most, a part of a longer text least. Images in which it occurs are
// likely, not certain, to be the ones that allocate with it; a tag that a driver
// works out or reads from the registry stands in none. The error is ctx's.
func SearchTag(ctx context.Context, k *model.Kernel, tag Tag) (TagSearch, error) {
	s := imageSearch{ctx: ctx, k: k, tag: tag, buf: make([]byte, 1<<16)}
	for _, m := range k.Modules.All {
		if s.found.Bytes >= maxImages {
			s.found.Unlooked++
			continue
		}
		u, err := s.image(m)
		if err != nil {
			return s.found, err
		}
		s.found.Images++
		if u.Lost > 0 {
			s.found.Missing += u.Lost
			s.found.Partly++
		}
		if u.Places > 0 {
			s.found.Users = append(s.found.Users, u)
		}
	}
	slices.SortStableFunc(s.found.Users, compareUsers)
	return s.found, nil
}

// compareUsers puts the more likely user first: by its best place, a driver
// before the kernel, then by how many places of that kind there are.
func compareUsers(a, b TagUser) int {
	order := 0
	if a.Kernel() != b.Kernel() {
		order = -1
		if a.Kernel() {
			order = 1
		}
	}
	return cmp.Or(cmp.Compare(b.Kind(), a.Kind()), order,
		cmp.Compare(b.ByKind[b.Kind()], a.ByKind[a.Kind()]), cmp.Compare(a.Module.Base, b.Module.Base))
}

// imageSearch is a search for one tag.
type imageSearch struct {
	ctx   context.Context
	k     *model.Kernel
	tag   Tag
	buf   []byte
	found TagSearch
}

// image searches one image.
func (s *imageSearch) image(m *model.Module) (TagUser, error) {
	u := TagUser{Module: m}
	var at []mem.VA
	present := false
	size := min(m.Size, maxImage)
	for off := uint64(0); off < size; {
		if s.ctx.Err() != nil {
			return u, s.ctx.Err()
		}
		from := m.Base + mem.VA(off)
		n, err := s.k.Space.ReadVirtual(s.buf[:min(uint64(len(s.buf)), size-off)], from)
		s.found.Bytes += uint64(n)
		present = present || n > 0
		for i := range tagIndexes(s.buf[:n], s.tag) {
			if u.Places++; len(at) < maxPlaces {
				at = append(at, from+mem.VA(i))
			}
		}
		var f *mem.Fault
		switch {
		case err == nil && uint64(n)+off >= size:
			off = size
		case err == nil:
			off += uint64(n) - uint64(len(s.tag)-1) // a tag may lie across two pieces
		case errors.As(err, &f):
			u.Lost++
			off = uint64((from+mem.VA(n)).Page()+mem.PageSize) - uint64(m.Base)
		default:
			return u, err
		}
	}
	if !present && size > 0 {
		s.found.Absent++
	}
	return u, s.judge(&u, at)
}

// tagIndexes yields where the bytes of a tag stand, whatever bit 31 is.
func tagIndexes(b []byte, tag Tag) func(yield func(int) bool) {
	return func(yield func(int) bool) {
		const last = len(tag) - 1
		for from := 0; ; {
			i := bytes.Index(b[from:], tag[:last])
			if i < 0 || from+i+last >= len(b) {
				return
			}
			i += from
			if b[i+last]&^0x80 == tag[last]&^0x80 && !yield(i) {
				return
			}
			from = i + 1
		}
	}
}

// judge finds out as what the places in an image stand, and keeps the best.
func (s *imageSearch) judge(u *TagUser, at []mem.VA) error {
	if len(at) == 0 {
		return nil
	}
	header, err := u.Module.Header()
	if err != nil {
		header = nil // every section counts as unknown then
	}
	code := codeReader{s: s, m: u.Module, left: maxDecodings}
	var all []TagPlace
	for _, va := range at {
		if s.ctx.Err() != nil {
			return s.ctx.Err()
		}
		p := s.place(&code, header, va)
		u.ByKind[p.Kind]++
		all = append(all, p)
	}
	slices.SortStableFunc(all, func(a, b TagPlace) int { return cmp.Compare(b.Kind, a.Kind) })
	u.Best = slices.Clone(all[:min(len(all), maxBest)])
	u.At = u.Best[0].At
	return nil
}

// place judges one place.
func (s *imageSearch) place(code *codeReader, header *types.Image, at mem.VA) TagPlace {
	p := TagPlace{At: at, Kind: InData}
	var b [5]byte // the tag and the byte behind it
	n, _ := s.k.Space.ReadVirtual(b[:], at)
	p.Protected = b[3]&0x80 != 0
	before, err := s.k.Space.Uint8(at - 1)
	inText := err == nil && letter(before) || n == len(b) && letter(b[4])
	executable := header == nil
	if header != nil {
		if sec, ok := header.SectionAt(uint32(at - code.m.Base)); ok {
			p.Section, executable = sec.Name, sec.Executable()
		}
	}
	if executable && code.operand(&p) {
		return p
	}
	switch {
	case inText:
		p.Kind = InText
	case executable && header != nil:
		p.Kind = InCode
	}
	return p
}

// letter reports whether a byte continues a word.
func letter(c byte) bool {
	return c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || c == '_'
}
