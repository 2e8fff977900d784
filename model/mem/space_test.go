package mem

import (
	"bytes"
	"errors"
	"io"
	"math/rand/v2"
	"strings"
	"testing"
)

// property is an address space with every kind of neighbourhood, and the flat
// truth of its parts.
type property struct {
	space *Space
	areas []area
}

type area struct {
	name  string
	at    VA
	bytes []byte
	// before and after tell whether the bytes around the area are holes.
	before, after bool
}

const (
	lastPages = VA(0xffffffffffffd000)
	userPages = VA(0x00007ff612345000)
	nearLarge = VA(0xfffff80000400000) // a large page; small pages around it
	giant     = VA(0xffffe00040000000)
)

// newProperty maps small pages in scattered order, a 2 MB page between small
// pages, the front of a 1 GB page, and the last three pages of the space.
func newProperty() *property {
	m := newMachine()
	p := &property{}
	small := func(name string, at VA, pages int, before, after bool) {
		b := fill(pages*4096, uint32(at>>12))
		for _, i := range rand.New(rand.NewPCG(1, 2)).Perm(pages) {
			m.mapBytes(at+VA(i*4096), b[i*4096:(i+1)*4096])
		}
		p.areas = append(p.areas, area{name, at, b, before, after})
	}
	small("user pages", userPages, 7, true, true)
	small("top of the address space", lastPages, 3, true, true)

	// Two small pages, a large page, two small pages: one area.
	around := fill(2<<12+2<<20+2<<12, 7)
	copyPages := func(at VA, b []byte) {
		for ; len(b) > 0; at, b = at+4096, b[4096:] {
			m.mapBytes(at, b[:4096])
		}
	}
	copyPages(nearLarge-0x2000, around[:0x2000])
	copyPages(nearLarge+0x200000, around[0x202000:])
	base := PA(0x40000000)
	for i := range PA(512) {
		m.frames[base+i<<12] = (*[4096]byte)(around[0x2000+i<<12:])
	}
	m.set(nearLarge, 2, uint64(base)|0x80000000000010e3) // PAT bit 12 set: no part of the address
	p.areas = append(p.areas, area{"large page", nearLarge - 0x2000, around, true, true})

	// A page of 1 GB of which the machine's dump holds 16 pages in the middle.
	b := fill(16<<12, 9)
	for i := range PA(16) {
		m.frames[0x80000000+0x12345000+i<<12] = (*[4096]byte)(b[i<<12:])
	}
	m.set(giant, 3, 0x80000000|0xe3)
	p.areas = append(p.areas, area{"giant page", giant + 0x12345000, b, true, true})
	p.space = m.space()
	return p
}

// check reads a range that may begin and end outside the area and compares it
// with the flat bytes.
func (p *property) check(t *testing.T, a area, from VA, n int) {
	t.Helper()
	buf := bytes.Repeat([]byte{0xa5}, n)
	got, err := p.space.ReadVirtual(buf, from)
	end := a.at + VA(len(a.bytes)) // 0 at the very top
	want := 0
	if from >= a.at && uint64(from-a.at) < uint64(len(a.bytes)) {
		want = min(n, len(a.bytes)-int(from-a.at))
		if !bytes.Equal(buf[:want], a.bytes[from-a.at:][:want]) {
			t.Fatalf("%s: read of %#x bytes at %#x: wrong bytes", a.name, n, uint64(from))
		}
	}
	if got != want {
		t.Fatalf("%s: read of %#x bytes at %#x gave %#x, want %#x (%v)", a.name, n, uint64(from), got, want, err)
	}
	if (err == nil) != (want == n) {
		t.Fatalf("%s: read of %#x bytes at %#x: n %#x and error %v", a.name, n, uint64(from), got, err)
	}
	var f *Fault
	if err == nil {
		return
	}
	if !errors.As(err, &f) {
		t.Fatalf("%s: error %v is no fault", a.name, err)
	}
	first := from
	if want > 0 {
		first = end
	}
	if f.VA != first && !(end == 0 && want > 0) {
		t.Fatalf("%s: read of %#x bytes at %#x names %#x, want %#x", a.name, n, uint64(from), uint64(f.VA), uint64(first))
	}
}

func TestReadVirtual_againstFlatBytes(t *testing.T) {
	t.Parallel()
	p := newProperty()
	rnd := rand.New(rand.NewPCG(3, 4))
	for _, a := range p.areas {
		end := a.at + VA(len(a.bytes))
		always := []struct {
			name string
			from VA
			n    int
		}{
			{"whole", a.at, len(a.bytes)},
			{"unaligned over three pages", a.at + 0xffd, 0x1006},
			{"one byte", a.at, 1},
			{"last byte", end - 1, 1},
			{"first byte in a hole", a.at - 1, 2},
			{"last byte in a hole", end - 9, 10},
			{"all in a hole", a.at - 16, 8},
			{"nothing", a.at + 5, 0},
		}
		for _, c := range always {
			p.check(t, a, c.from, c.n)
		}
		for range 2000 {
			from := a.at - 32 + VA(rnd.IntN(len(a.bytes)+40))
			p.check(t, a, from, rnd.IntN(3*4096))
		}
	}
}

func TestReadVirtual_largeToSmall(t *testing.T) {
	t.Parallel()
	p := newProperty()
	a := p.areas[2]
	for _, c := range []struct {
		name string
		from VA
	}{{"small to large", nearLarge - 5}, {"large to small", nearLarge + 0x200000 - 5}} {
		var b [10]byte
		if _, err := p.space.ReadVirtual(b[:], c.from); err != nil {
			t.Fatalf("%s: %v", c.name, err)
		}
		if !bytes.Equal(b[:], a.bytes[c.from-a.at:][:10]) {
			t.Errorf("%s: wrong bytes", c.name)
		}
	}
}

func TestReadVirtual_edges(t *testing.T) {
	t.Parallel()
	p := newProperty()
	b := make([]byte, 32)
	n, err := p.space.ReadVirtual(b, ^VA(0)-15)
	if n != 16 || !errors.Is(err, ErrNonCanonical) {
		t.Errorf("over the top: n %d, error %v, want 16 and %v", n, err, ErrNonCanonical)
	}
	if n, err = p.space.ReadVirtual(b[:16], ^VA(0)-15); n != 16 || err != nil {
		t.Errorf("the last 16 bytes: n %d, error %v", n, err)
	}
	for _, at := range []VA{1 << 47, 0xffff7fffffffffff, 0x1000000000000, 0x8000000000000000} {
		if _, err := p.space.ReadVirtual(b, at); !errors.Is(err, ErrNonCanonical) {
			t.Errorf("%#x: error %v, want %v", uint64(at), err, ErrNonCanonical)
		}
	}
	for _, at := range []VA{0, 1<<47 - 1, 0xffff800000000000} {
		if _, err := p.space.ReadVirtual(b[:1], at); !errors.Is(err, ErrNotPresent) {
			t.Errorf("%#x: error %v, want %v", uint64(at), err, ErrNotPresent)
		}
	}
}

func TestSpace_typedReads(t *testing.T) {
	t.Parallel()
	m := newMachine()
	m.mapBytes(0x5000, bytes.Repeat([]byte{0x11, 0x22, 0x33, 0x44, 0x55, 0x66, 0x77, 0x88}, 512))
	m.mapBytes(0x6000, append([]byte("name"), make([]byte, 10)...))
	copy(m.frames[PA(m.get(m.slot(0x5000, 1))&0xffffffffff000)][0xffc:], "fore")
	s := m.space()
	if v, err := s.Uint64(0x5000); v != 0x8877665544332211 || err != nil {
		t.Errorf("Uint64: %#x, %v", v, err)
	}
	if v, err := s.Uint32(0x5002); v != 0x66554433 || err != nil {
		t.Errorf("Uint32: %#x, %v", v, err)
	}
	if v, err := s.Uint16(0x5007); v != 0x1188 || err != nil {
		t.Errorf("Uint16: %#x, %v", v, err)
	}
	if v, err := s.Uint8(0x5003); v != 0x44 || err != nil {
		t.Errorf("Uint8: %#x, %v", v, err)
	}
	if v, err := s.Pointer(0x5000); v != 0x8877665544332211 || err != nil {
		t.Errorf("Pointer: %#x, %v", uint64(v), err)
	}
	if v, err := s.CString(0x5ffc, 100); v != "forename" || err != nil {
		t.Errorf("CString over a page end: %q, %v", v, err)
	}
	if v, err := s.CString(0x5ffc, 6); v != "forena" || err != nil {
		t.Errorf("CString cut at max: %q, %v", v, err)
	}
	if v, err := s.CString(0x4ffe, 6); v != "" || err == nil {
		t.Errorf("CString in a hole: %q, %v", v, err)
	}
	if _, err := s.Bytes(0x5000, MaxRead+1); err == nil {
		t.Error("Bytes took a length above MaxRead")
	}
	if _, err := s.Bytes(0x5000, -1); err == nil {
		t.Error("Bytes took a negative length")
	}
	if b, err := s.Bytes(0x6ffe, 4); len(b) != 2 || err == nil {
		t.Errorf("Bytes into a hole: %d bytes, error %v, want 2 and an error", len(b), err)
	}
	if !s.Readable(0x5000, 0x2000) || s.Readable(0x5000, 0x2001) || s.Readable(0x4fff, 2) {
		t.Error("Readable is wrong at the edges of [0x5000, 0x7000)")
	}
}

func TestSpace_readerAt(t *testing.T) {
	t.Parallel()
	m := newMachine()
	m.mapBytes(0x5000, fill(4096, 1))
	r := m.space().ReaderAt(0x5000, 100)
	b := make([]byte, 64)
	if n, err := r.ReadAt(b, 60); n != 40 || err != io.EOF {
		t.Errorf("read over the end: n %d, error %v, want 40 and EOF", n, err)
	}
	if n, err := r.ReadAt(b, 100); n != 0 || err != io.EOF {
		t.Errorf("read at the end: n %d, error %v", n, err)
	}
	if n, err := r.ReadAt(b, -1); n != 0 || err == nil {
		t.Errorf("read before the start: n %d, error %v", n, err)
	}
	if n, err := r.ReadAt(b, 36); n != 64 || err != nil || !bytes.Equal(b, fill(4096, 1)[36:100]) {
		t.Errorf("read up to the end: n %d, error %v", n, err)
	}
}

// strip is virtual memory of one extent, for overlays and flat spaces.
type strip struct {
	at VA
	b  []byte
}

func (s strip) ReadVirtual(p []byte, at VA) (int, error) {
	if at < s.at || uint64(at-s.at) >= uint64(len(s.b)) {
		return 0, &Fault{Kind: NotCaptured, VA: at}
	}
	n := copy(p, s.b[at-s.at:])
	if n < len(p) {
		return n, &Fault{Kind: NotCaptured, VA: at + VA(n)}
	}
	return n, nil
}

func TestSpace_overlay(t *testing.T) {
	t.Parallel()
	m := newMachine()
	m.mapBytes(0x5000, bytes.Repeat([]byte{'d'}, 4096))
	m.mapBytes(0x8000, bytes.Repeat([]byte{'d'}, 4096))
	s := m.space()
	// Answers for 5000-7800 only; what the dump has goes first.
	s.AddOverlay(0x5000, 0x3000, strip{0x5000, bytes.Repeat([]byte{'o'}, 0x2800)})
	b := make([]byte, 0x4000)
	n, err := s.ReadVirtual(b, 0x5000)
	if want := strings.Repeat("d", 0x1000) + strings.Repeat("o", 0x1800); n != 0x2800 || string(b[:n]) != want {
		t.Errorf("read %#x bytes, want the dump's page and %#x of the overlay", n, 0x1800)
	}
	var f *Fault
	if !errors.As(err, &f) || f.VA != 0x7800 {
		t.Errorf("error %v, want a fault at 0x7800", err)
	}
	if n, err := s.ReadVirtual(b[:8], 0x8000); n != 8 || err != nil || b[0] != 'd' {
		t.Errorf("behind the overlay: %d, %v, %q", n, err, b[0])
	}
	// A second overlay goes on where the first ends, and keeps to its own end.
	s.AddOverlay(0x7800, 0x10, strip{0x7800, bytes.Repeat([]byte{'p'}, 0x800)})
	n, err = s.ReadVirtual(b[:0x100], 0x77f8)
	if n != 24 || string(b[:n]) != "oooooooopppppppppppppppp" || !errors.As(err, &f) || f.VA != 0x7810 {
		t.Errorf("over two overlays: %q, %v", b[:n], err)
	}
	if got := s.WithRoot(m.root + 0xfff); got.Root() != m.root || !got.Readable(0x6000, 8) {
		t.Error("WithRoot lost the overlays or kept the flags of the root")
	}
}

func TestSpace_flat(t *testing.T) {
	t.Parallel()
	s := NewFlat(strip{0x1ff0, fill(0x20, 5)})
	if s.Paged() || s.Root() != 0 || s.Physical() != nil || s.WithRoot(0x1000) != s {
		t.Error("a flat space claims page tables")
	}
	s.SetSoftPTE(SoftPTE{Swizzled: true})
	b, err := s.Bytes(0x1ff0, 0x30)
	if !bytes.Equal(b, fill(0x20, 5)) || !errors.Is(err, ErrNotCaptured) {
		t.Errorf("read %d bytes, %v", len(b), err)
	}
	if _, err := s.Translate(0x1ff0); !errors.Is(err, ErrNotCaptured) {
		t.Errorf("Translate: %v", err)
	}
	if _, err := s.TranslateSteps(0x1ff0); !errors.Is(err, ErrNotCaptured) {
		t.Errorf("TranslateSteps: %v", err)
	}
}

func TestFault_text(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		f    Fault
		want string
	}{
		{Fault{Kind: NotCaptured, VA: 0x1234}, "0x1234: page not in dump"},
		{Fault{Kind: NotCaptured, PA: 0x5000}, "physical 0x5000: page not in dump"},
		{Fault{Kind: NonCanonical, VA: 1 << 47, Why: wraps}, "0x800000000000: address not canonical (range wraps around the address space)"},
		{Fault{Kind: NotPresent, VA: 0x1000, Level: LevelPPE}, "0x1000: page not present (PPE 0x0)"},
		{Fault{Kind: NotPresent, VA: 0x1000, Level: LevelPTE, Entry: 0x20, Why: "because"}, "0x1000: page not present (PTE 0x20: because)"},
	} {
		if got := c.f.Error(); got != c.want {
			t.Errorf("got  %s\nwant %s", got, c.want)
		}
	}
	if VA(0x1f).String() != "000000000000001f" || PA(0x1f).String() != "0x1f" || VA(0x1fff).Page() != 0x1000 {
		t.Error("addresses print wrong")
	}
	if LevelPXE.String()+LevelPPE.String()+LevelPDE.String()+LevelPTE.String()+LevelNone.String() != "PXEPPEPDEPTEnone" {
		t.Error("levels print wrong")
	}
}
