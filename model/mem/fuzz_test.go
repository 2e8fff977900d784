package mem

import (
	"context"
	"encoding/binary"
	"testing"
)

// entriesOf packs page tables for the fuzzer: page u8, slot u16, value u64 for
// every entry that is not zero.
func entriesOf(m *machine) (packed []byte) {
	for run := range m.frames.Runs() {
		for i := range uint16(512) {
			if v := m.get(run.Base + 8*PA(i)); v != 0 && run.Base < fuzzPages<<12 {
				packed = append(packed, byte(run.Base>>12))
				packed = binary.LittleEndian.AppendUint16(packed, i)
				packed = binary.LittleEndian.AppendUint64(packed, v)
			}
		}
	}
	return packed
}

const fuzzPages = 32

// framesOf unpacks them. Every second page is not captured unless it is named.
func framesOf(packed []byte) frames {
	f := frames{}
	for i := PA(0); i < fuzzPages; i += 2 {
		f[i<<12] = new([4096]byte)
	}
	for ; len(packed) >= 11; packed = packed[11:] {
		at := PA(packed[0]) % fuzzPages << 12
		if f[at] == nil {
			f[at] = new([4096]byte)
		}
		copy(f[at][int(binary.LittleEndian.Uint16(packed[1:])%512)*8:], packed[3:11])
	}
	return f
}

// FuzzSpace reads an address space whose page tables are the fuzzer's.
func FuzzSpace(f *testing.F) {
	m, _ := forms()
	f.Add(entriesOf(m), uint64(m.root), uint64(kernelPage+0xff0), uint16(0x2000), true, uint64(0))
	f.Add(entriesOf(m), uint64(m.root), uint64(giant), uint16(1), false, uint64(1)<<45)
	f.Add([]byte{}, uint64(0), ^uint64(0), uint16(9), false, uint64(0))
	loop := newMachine()
	for i := range PA(4) {
		for _, at := range []PA{loop.root, 0x2000, 0x3000} {
			if loop.frames[at] == nil {
				loop.page()
			}
			loop.put(at+8*i, 0x1000*uint64(i%3+1)|0x63)
		}
	}
	f.Add(entriesOf(loop), uint64(loop.root), uint64(0x123), uint16(0xfff), true, uint64(0))
	f.Fuzz(func(t *testing.T, tables []byte, root, at uint64, n uint16, swizzled bool, mask uint64) {
		phys := framesOf(tables)
		s := NewX64(phys, PA(root))
		s.SetSoftPTE(SoftPTE{Swizzled: swizzled, InvalidMask: mask})
		b, err := s.Bytes(VA(at), int(n))
		if (len(b) == int(n)) != (err == nil) {
			t.Fatalf("read %d of %d bytes, error %v", len(b), n, err)
		}
		one, err1 := s.Translate(VA(at))
		steps, err2 := s.TranslateSteps(VA(at))
		if (err1 == nil) != (err2 == nil) || one.PA != steps.PA || len(steps.Steps) > 4 {
			t.Fatalf("Translate %+v, %v; TranslateSteps %+v, %v", one, err1, steps, err2)
		}
		visits, last := 0, VA(0)
		err = s.Leaves(context.Background(), VA(at), ^VA(0), func(l Leaf) bool {
			if l.VA < last || l.Size == 0 || l.VA < VA(at).Page() || uint64(l.VA)%4096 != 0 {
				t.Fatalf("leaf %+v after %#x, asked from %#x", l, uint64(last), at)
			}
			last = l.VA
			visits++
			return true
		})
		if limit := (maxTableVisits + 1) * 512 * (len(phys) + 1); err != nil || visits > limit {
			t.Fatalf("%d leaves of %d pages, error %v", visits, len(phys), err)
		}
	})
}
