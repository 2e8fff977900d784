package unwind

import (
	"context"
	"encoding/binary"
	"testing"

	"gokd/model"
	"gokd/model/mem"
)

// FuzzInfo decodes unwind data: no panic, an error or a value, and never more
// codes than slots.
func FuzzInfo(f *testing.F) {
	for _, c := range undoCases {
		f.Add(c.info)
	}
	f.Add([]byte{0x21, 0, 1, 0, 0, 0x02, 0, 0, 1, 0, 0, 0, 2, 0, 0, 0, 3, 0, 0, 0})
	f.Add([]byte{2, 5, 6, 0, 6, 0x16, 16, 0x06, 5, 0xe0, 3, 0x70, 2, 0x30, 1, 0x02})
	f.Fuzz(func(t *testing.T, b []byte) {
		in, err := parseInfo(b)
		if (in == nil) == (err == nil) {
			t.Fatalf("%v and %v", in, err)
		}
		if err != nil {
			return
		}
		if len(in.codes)+len(in.epilogs) > int(b[2]) || infoSize([infoHead]byte(b)) > maxInfoSize {
			t.Fatalf("%d codes and %d epilogs of %d slots", len(in.codes), len(in.epilogs), b[2])
		}
	})
}

// FuzzWalk walks over random stacks through random functions.
func FuzzWalk(f *testing.F) {
	small := at(fnSmall + afterCall)
	stack := func(words ...uint64) (b []byte) {
		for _, w := range words {
			b = binary.LittleEndian.AppendUint64(b, w)
		}
		return b
	}
	f.Add(stack(1, 2, 3, 4, 5, small, 0, 0, 0, 0, 0, small), []byte{1, 0, 1, 0, 0, 0x42, 0, 0}, []byte{0x5b, 0xc3}, uint16(0), uint64(0))
	f.Add(stack(1, 2, 3, 4, 5, at(fnLeaf), 0x10, 0x246, uint64(labStack)+0x100, 0x18), []byte{1, 0, 2, 0, 0, 0x42, 0, 0x0a}, []byte{}, uint16(1), uint64(1))
	f.Add(stack(lost(1), lost(2), lost(3), 4, 5, lost(4), small), []byte{9, 9, 9, 9}, []byte{0x48, 0x83, 0xc4, 0x20}, uint16(2), uint64(7))
	f.Add(stack(0, at(0x100), at(0x105), at(0x100), at(0x105), at(0x106)), []byte{0x21, 0, 0, 0, 0, 0x11, 0, 0, 0x10, 0x11, 0, 0, 0, 0xc0, 0, 0}, []byte{}, uint16(9), uint64(labStack)+8)
	l := blind()
	l.fn(0x100, make([]byte, 0x40), []byte{1, 0, 0, 0})
	k := l.kernel(f)
	pristine := map[mem.VA][4096]byte{}
	for page, b := range l.pages {
		pristine[page] = *b
	}
	f.Fuzz(func(t *testing.T, content, info, code []byte, off uint16, reg uint64) {
		for page, b := range pristine {
			*l.pages[page] = b
		}
		l.put(labImage+labXdata+4*0x100, info[:min(len(info), 0x100)])
		l.put(labImage+labText+0x100, code[:min(len(code), 0x40)])
		sp := labStack + mem.VA(off)%0x6000&^7
		for i := 0; len(content) > 0 && sp+mem.VA(i) < labBase; i++ {
			l.put(sp+mem.VA(i), content[i%len(content):i%len(content)+1])
		}
		r := regsAt(at(0x100+uint32(off)%0x40), uint64(sp))
		for i := range r.GPR {
			if i != model.RSP {
				r.GPR[i] = reg
			}
		}
		outer := Segment{Limit: labOther, Base: labOther + 0x6000, Initial: labOther + 0x5db0}
		for _, segments := range [][]Segment{nil, {segment()}, {segment(), outer}} {
			s := From(context.Background(), k, r, segments, Options{})
			checkWalk(t, s, segments)
		}
	})
}

// checkWalk holds a stack against what every stack fulfils.
func checkWalk(t *testing.T, s *Stack, segments []Segment) {
	t.Helper()
	if n := len(s.Frames); n == 0 || n > DefaultFrames {
		t.Fatalf("%d frames", n)
	}
	on := func(at mem.VA) int {
		for i, g := range segments {
			if at >= g.Limit && at <= g.Base {
				return i
			}
		}
		return -1
	}
	left := map[int]bool{}
	for i := 1; i < len(s.Frames); i++ {
		a, b := s.Frames[i-1], s.Frames[i]
		if b.How == HowUser {
			continue
		}
		if b.RIP == 0 && b.How != HowMachineFrame {
			t.Errorf("frame %d has no rip", i)
		}
		switch from, to := on(a.ChildSP), on(b.ChildSP); {
		case to >= 0 && left[to]:
			t.Errorf("frame %d is back on segment %d", i, to)
		case from == to && b.ChildSP <= a.ChildSP:
			t.Errorf("frame %d: the stack pointer goes from %#x to %#x", i, uint64(a.ChildSP), uint64(b.ChildSP))
		case from != to:
			left[from] = true
		}
	}
}

func BenchmarkFrom(b *testing.B) {
	l := plant()
	k := l.kernel(b)
	sp := labInit - 0x30*30
	for i := range mem.VA(29) {
		l.words(sp+0x28+0x30*i, at(fnSmall+afterCall))
	}
	b.ReportAllocs()
	for b.Loop() {
		if s := From(context.Background(), k, regsAt(at(fnSmall+6), uint64(sp)), []Segment{segment()}, Options{}); len(s.Frames) != 30 {
			b.Fatalf("%d frames, %v", len(s.Frames), s.Err)
		}
	}
}

func BenchmarkFrom_scan(b *testing.B) {
	l := blind()
	k := l.kernel(b)
	sp := labInit - 0x1000
	for i := range mem.VA(0x50) {
		l.words(sp+8+0x30*i, lost(int(i)))
	}
	b.ReportAllocs()
	b.SetBytes(0x1000)
	for b.Loop() {
		if s := From(context.Background(), k, regsAt(lost(0), uint64(sp)), []Segment{segment()}, Options{}); len(s.Frames) < 0x50 {
			b.Fatalf("%d frames, %v", len(s.Frames), s.Err)
		}
	}
}
