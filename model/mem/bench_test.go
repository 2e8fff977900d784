package mem

import "testing"

// dense is one captured extent of physical memory, as a container has it.
type dense struct {
	frames
	b []byte
}

func (d *dense) ReadPhysical(p []byte, at PA) (int, error) {
	if uint64(at) >= uint64(len(d.b)) || uint64(len(p)) > uint64(len(d.b))-uint64(at) {
		return 0, &Fault{Kind: NotCaptured, PA: at}
	}
	return copy(p, d.b[at:]), nil
}

const benchPages = 16384

// benchSpace maps 64 MB in small pages.
func benchSpace() (*Space, VA) {
	const base = VA(0xffffa00000000000)
	m := newMachine()
	for i := range VA(benchPages) {
		m.set(base+i<<12, 1, uint64(0x1000000+PA(i)<<12)|0x63)
	}
	d := &dense{b: make([]byte, 0x1000000+benchPages*4096)}
	for at, p := range m.frames {
		copy(d.b[at:], p[:])
	}
	return NewX64(d, m.root), base
}

func BenchmarkTranslate(b *testing.B) {
	s, base := benchSpace()
	b.ReportAllocs()
	for i := 0; b.Loop(); i++ {
		if _, err := s.Translate(base + VA(i*7919%(benchPages*4096))); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkTranslate_cold(b *testing.B) {
	s, base := benchSpace()
	b.ReportAllocs()
	for i := 0; b.Loop(); i++ {
		s.cache[(uint64(base)>>21+uint64(i)%32)%cacheSlots].Store(nil)
		if _, err := s.Translate(base + VA(i%32)<<21); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkReadVirtual_4KB(b *testing.B) {
	s, base := benchSpace()
	buf := make([]byte, 4096)
	b.ReportAllocs()
	b.SetBytes(int64(len(buf)))
	for i := 0; b.Loop(); i++ {
		if _, err := s.ReadVirtual(buf, base+VA(i%(benchPages-1))<<12+8); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkUint64(b *testing.B) {
	s, base := benchSpace()
	b.ReportAllocs()
	b.SetBytes(8)
	for i := 0; b.Loop(); i++ {
		if _, err := s.Uint64(base + VA(i*4104%(benchPages*4096))); err != nil {
			b.Fatal(err)
		}
	}
}
