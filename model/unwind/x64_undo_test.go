package unwind

import (
	"context"
	"testing"

	"github.com/google/go-cmp/cmp"

	"gokd/model"
	"gokd/model/mem"
)

// undoCase is a function, a moment in it, and what its caller's registers are.
type undoCase struct {
	name string
	code []byte
	info []byte
	pc   uint32
	regs map[int]uint64 // besides rsp
	rsp  uint64         // 0: testSP
	put  map[uint64][]uint64
	want map[int]uint64 // registers of the caller, rsp among them
	rip  uint64
	how  How
	tf   mem.VA
}

const (
	testSP  = uint64(labStack + 0x5000)
	retAddr = uint64(labImage) + labText + 0x7005 // behind a call
	userRIP = 0x7ff612345678
)

// Unwind data below is spelled in bytes by the documentation "x64 exception
// handling": version and flags, size of prolog, count of codes, frame register;
// then per code the offset and operation.
var undoCases = []undoCase{
	{
		name: "small allocation, body",
		code: []byte{0x48, 0x83, 0xec, 0x28, 0x90, 0x90, 0x48, 0x83, 0xc4, 0x28, 0xc3},
		info: []byte{1, 4, 1, 0, 4, 0x42, 0, 0}, pc: 4,
		put:  map[uint64][]uint64{testSP + 0x28: {retAddr}},
		want: map[int]uint64{model.RSP: testSP + 0x30},
	},
	{
		name: "small allocation, first instruction",
		code: []byte{0x48, 0x83, 0xec, 0x28, 0x90, 0x48, 0x83, 0xc4, 0x28, 0xc3},
		info: []byte{1, 4, 1, 0, 4, 0x42, 0, 0}, pc: 0,
		put:  map[uint64][]uint64{testSP: {retAddr}},
		want: map[int]uint64{model.RSP: testSP + 8},
	},
	{
		name: "largest small allocation",
		code: []byte{0x90, 0x90, 0x90, 0x90, 0x90},
		info: []byte{1, 4, 1, 0, 4, 0xf2, 0, 0}, pc: 4,
		put:  map[uint64][]uint64{testSP + 128: {retAddr}},
		want: map[int]uint64{model.RSP: testSP + 136},
	},
	{
		name: "allocation of scaled size",
		code: []byte{0x48, 0x81, 0xec, 0x00, 0x01, 0, 0, 0x90, 0x90},
		info: []byte{1, 7, 2, 0, 7, 0x01, 0x20, 0}, pc: 7,
		put:  map[uint64][]uint64{testSP + 0x100: {retAddr}},
		want: map[int]uint64{model.RSP: testSP + 0x108},
	},
	{
		name: "allocation of unscaled size",
		code: []byte{0x48, 0x81, 0xec, 0x08, 0x02, 0, 0, 0x90, 0x90},
		info: []byte{1, 7, 3, 0, 7, 0x11, 0x08, 0x02, 0, 0, 0, 0}, pc: 8,
		put:  map[uint64][]uint64{testSP + 0x208: {retAddr}},
		want: map[int]uint64{model.RSP: testSP + 0x210},
	},
	{
		name: "two pushes and an allocation, body",
		code: []byte{0x40, 0x53, 0x41, 0x57, 0x48, 0x83, 0xec, 0x28, 0x90, 0x90},
		info: []byte{1, 8, 3, 0, 8, 0x42, 4, 0xf0, 2, 0x30, 0, 0}, pc: 8,
		put:  map[uint64][]uint64{testSP + 0x28: {0x1515, 0xb0b0, retAddr}},
		want: map[int]uint64{model.RSP: testSP + 0x40, model.RBX: 0xb0b0, 15: 0x1515},
	},
	{
		name: "two pushes and an allocation, one push done",
		code: []byte{0x40, 0x53, 0x41, 0x57, 0x48, 0x83, 0xec, 0x28, 0x90, 0x90},
		info: []byte{1, 8, 3, 0, 8, 0x42, 4, 0xf0, 2, 0x30, 0, 0}, pc: 2,
		regs: map[int]uint64{15: 0xffff},
		put:  map[uint64][]uint64{testSP: {0xb0b0, retAddr}},
		want: map[int]uint64{model.RSP: testSP + 0x10, model.RBX: 0xb0b0, 15: 0xffff},
	},
	{
		name: "two pushes and an allocation, inside the second push",
		code: []byte{0x40, 0x53, 0x41, 0x57, 0x48, 0x83, 0xec, 0x28, 0x90, 0x90},
		info: []byte{1, 8, 3, 0, 8, 0x42, 4, 0xf0, 2, 0x30, 0, 0}, pc: 3,
		put:  map[uint64][]uint64{testSP: {0xb0b0, retAddr}},
		want: map[int]uint64{model.RSP: testSP + 0x10, model.RBX: 0xb0b0},
	},
	{
		name: "frame register, body with a moved rsp",
		code: []byte{0x55, 0x48, 0x83, 0xec, 0x40, 0x48, 0x8d, 0x6c, 0x24, 0x20, 0x90, 0x90},
		info: []byte{1, 10, 3, 0x25, 10, 0x03, 5, 0x72, 1, 0x50, 0, 0}, pc: 11,
		regs: map[int]uint64{model.RBP: testSP + 0x220},
		put:  map[uint64][]uint64{testSP + 0x240: {0xbbbb, retAddr}},
		want: map[int]uint64{model.RSP: testSP + 0x250, model.RBP: 0xbbbb},
	},
	{
		name: "frame register not set up yet",
		code: []byte{0x55, 0x48, 0x83, 0xec, 0x40, 0x48, 0x8d, 0x6c, 0x24, 0x20, 0x90, 0x90},
		info: []byte{1, 10, 3, 0x25, 10, 0x03, 5, 0x72, 1, 0x50, 0, 0}, pc: 5,
		regs: map[int]uint64{model.RBP: 0x1234},
		put:  map[uint64][]uint64{testSP + 0x40: {0xbbbb, retAddr}},
		want: map[int]uint64{model.RSP: testSP + 0x50, model.RBP: 0xbbbb},
	},
	{
		name: "saves relative to rsp",
		code: []byte{0x90, 0x90, 0x90, 0x90, 0x90, 0x90, 0x90, 0x90, 0x90, 0x90, 0x90, 0x90, 0x90},
		info: []byte{1, 12, 6, 0, 12, 0x64, 0x0a, 0, 10, 0xc5, 0x78, 0, 0, 0, 4, 0x42}, pc: 12,
		put:  map[uint64][]uint64{testSP + 0x28: {retAddr}, testSP + 0x50: {0x5151}, testSP + 0x78: {0xcccc}},
		want: map[int]uint64{model.RSP: testSP + 0x30, model.RSI: 0x5151, 12: 0xcccc},
	},
	{
		name: "saves relative to the frame register",
		code: []byte{0x90, 0x90, 0x90, 0x90, 0x90, 0x90, 0x90, 0x90, 0x90},
		info: []byte{1, 8, 4, 0x13, 8, 0x74, 2, 0, 6, 0x03, 4, 0x42}, pc: 8,
		regs: map[int]uint64{model.RBX: testSP + 0x110},
		put:  map[uint64][]uint64{testSP + 0x110: {0xd1d1}, testSP + 0x128: {retAddr}},
		want: map[int]uint64{model.RSP: testSP + 0x130, model.RDI: 0xd1d1},
	},
	{
		name: "frame register set up, the prolog not done",
		code: []byte{0x90, 0x90, 0x90, 0x90, 0x90, 0x90, 0x90, 0x90, 0x90, 0x90, 0x90, 0x90, 0x90},
		info: []byte{1, 12, 4, 0x13, 8, 0x74, 2, 0, 6, 0x03, 4, 0x42}, pc: 9,
		regs: map[int]uint64{model.RBX: testSP + 0x110},
		put:  map[uint64][]uint64{testSP + 0x110: {0xd1d1}, testSP + 0x128: {retAddr}},
		want: map[int]uint64{model.RSP: testSP + 0x130, model.RDI: 0xd1d1},
	},
	{
		name: "vector registers are passed over",
		code: []byte{0x90, 0x90, 0x90, 0x90, 0x90, 0x90, 0x90, 0x90, 0x90, 0x90},
		info: []byte{1, 9, 6, 0, 9, 0x68, 2, 0, 6, 0x79, 0x40, 0, 0, 0, 4, 0xa2}, pc: 9,
		put:  map[uint64][]uint64{testSP + 0x58: {retAddr}},
		want: map[int]uint64{model.RSP: testSP + 0x60},
	},
	{
		name: "the first form of vector codes, version 1",
		code: []byte{0x90, 0x90, 0x90, 0x90, 0x90, 0x90, 0x90, 0x90, 0x90, 0x90},
		info: []byte{1, 9, 6, 0, 9, 0x66, 2, 0, 6, 0x77, 0x40, 0, 0, 0, 4, 0xa2}, pc: 9,
		put:  map[uint64][]uint64{testSP + 0x58: {retAddr}},
		want: map[int]uint64{model.RSP: testSP + 0x60},
	},
	{
		name: "machine frame",
		code: []byte{0x90, 0x90, 0x90, 0x90, 0x90},
		info: []byte{1, 4, 2, 0, 4, 0x42, 0, 0x0a}, pc: 4,
		put:  map[uint64][]uint64{testSP + 0x28: {retAddr - 5, 0x10, 0x10246, testSP + 0x60, 0x18}},
		want: map[int]uint64{model.RSP: testSP + 0x60}, rip: retAddr - 5,
		how: HowMachineFrame, tf: mem.VA(testSP) + 0x28 - 0x168,
	},
	{
		name: "machine frame with an error code",
		code: []byte{0x90, 0x90, 0x90, 0x90, 0x90},
		info: []byte{1, 4, 3, 0, 4, 0x42, 1, 0x50, 0, 0x1a, 0, 0}, pc: 4,
		put:  map[uint64][]uint64{testSP + 0x28: {0xbbbb, 0xe, retAddr - 5, 0x10, 0x10246, testSP + 0x68, 0x18}},
		want: map[int]uint64{model.RSP: testSP + 0x68, model.RBP: 0xbbbb}, rip: retAddr - 5,
		how: HowMachineFrame, tf: mem.VA(testSP) + 0x38 - 0x168,
	},
	{
		name: "machine frame of user mode",
		code: []byte{0x90, 0x90, 0x90, 0x90, 0x90},
		info: []byte{1, 4, 2, 0, 4, 0x42, 0, 0x0a}, pc: 4,
		put:  map[uint64][]uint64{testSP + 0x28: {userRIP, 0x33, 0x246, 0x12f8a8, 0x2b}},
		want: map[int]uint64{model.RSP: 0x12f8a8}, rip: userRIP,
		how: HowUser, tf: mem.VA(testSP) + 0x28 - 0x168,
	},
}

func TestUndo(t *testing.T) {
	t.Parallel()
	for _, c := range undoCases {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			l := newLab()
			l.fn(0x100, c.code, c.info)
			checkUndo(t, l, c)
		})
	}
}

// TestUndo_trap: a handler whose frame is a whole trap frame gives back the
// registers that calls do not preserve; one that switched stacks does not.
func TestUndo_trap(t *testing.T) {
	t.Parallel()
	const frame, machine = uint64(testSP), uint64(testSP) + 0x168
	for _, c := range []struct {
		name string
		rsp  uint64 // of the interrupted function
		want uint16
	}{
		{"right below", machine + 0x30, 1<<model.RAX | 1<<model.RCX | 1<<model.RDX | 0xf<<8},
		{"another stack", machine + 0x200, 0},
	} {
		l := newLab()
		l.fn(0x100, []byte{0x90, 0x90, 0x90, 0x90, 0x90}, []byte{1, 4, 3, 0, 4, 0x01, 0x2d, 0, 0, 0x0a, 0, 0}) // sub rsp,168h; machine frame
		for i := range 7 {
			l.words(mem.VA(frame+0x30+8*uint64(i)), 0xa0+uint64(i))
		}
		l.words(mem.VA(frame+0x158), 0xbbbb)
		l.words(mem.VA(machine), retAddr-5, 0x10, 0x10246, c.rsp, 0x18)
		l.put(labImage+labText+0x7000, []byte{0xe8, 0, 0, 0, 0, 0x90})
		var r model.Registers
		r.RIP, r.GPR[model.RSP] = at(0x104), frame
		st := From(context.Background(), l.kernel(t), r, []Segment{segment()}, Options{MaxFrames: 2, NoScan: true, Known: 1 << model.RSP})
		if len(st.Frames) < 2 {
			t.Fatalf("%s: %+v", c.name, st)
		}
		f := st.Frames[1]
		if got := f.Known &^ savedRegs; got != c.want {
			t.Errorf("%s: known %#x, want %#x", c.name, got, c.want)
		}
		if c.want != 0 && (f.Regs.GPR[model.RCX] != 0xa1 || f.Regs.GPR[11] != 0xa6 || f.Regs.GPR[model.RBP] != 0xbbbb) {
			t.Errorf("%s: %x", c.name, f.Regs.GPR)
		}
	}
}

// checkUndo walks from a moment in the function at 0x100 and compares the first
// two frames.
func checkUndo(t *testing.T, l *lab, c undoCase) {
	t.Helper()
	// What the return address is behind of: call rel32.
	l.put(labImage+labText+0x7000, []byte{0xe8, 0, 0, 0, 0, 0x90})
	for at, words := range c.put {
		l.words(mem.VA(at), words...)
	}
	var r model.Registers
	r.RIP, r.GPR[model.RSP] = at(0x100+c.pc), testSP
	if c.rsp != 0 {
		r.GPR[model.RSP] = c.rsp
	}
	for i, v := range c.regs {
		r.GPR[i] = v
	}
	s := From(context.Background(), l.kernel(t), r, []Segment{segment()}, Options{NoScan: true})
	if len(s.Frames) < 2 {
		t.Fatalf("%d frames, %v", len(s.Frames), s.Err)
	}
	rip, how := c.rip, c.how
	if rip == 0 {
		rip, how = retAddr, HowData
	}
	if c.how != 0 {
		how = c.how
	}
	f, up := s.Frames[0], s.Frames[1]
	got := map[int]uint64{}
	for i := range c.want {
		if up.Known>>i&1 == 1 {
			got[i] = up.Regs.GPR[i]
		}
	}
	if diff := cmp.Diff(c.want, got); diff != "" {
		t.Errorf("registers of the caller (-want +got):\n%s", diff)
	}
	type found struct {
		RIP, Ret, TF, SP mem.VA
		How              How
	}
	want := found{mem.VA(rip), mem.VA(rip), c.tf, mem.VA(c.want[model.RSP]), how}
	if diff := cmp.Diff(want, found{up.RIP, f.ReturnAddress, f.TrapFrame, up.ChildSP, up.How}); diff != "" {
		t.Errorf("caller (-want +got):\n%s", diff)
	}
	if up.Known&^uint16(savedRegs) != 0 {
		t.Errorf("volatile registers known in the caller: %#x", up.Known)
	}
}

func TestUndo_chained(t *testing.T) {
	t.Parallel()
	nops := make([]byte, 16)
	// The parent pushes rbx and allocates; the part chained to it saves rsi.
	parent := []byte{1, 5, 2, 0, 5, 0x42, 1, 0x30}
	chain := func(flags byte, codes []byte, to fnEntry) []byte {
		b := append([]byte{1 | flags<<3, 4, byte(len(codes) / 2), 0}, codes...)
		if len(codes)%4 != 0 {
			b = append(b, 0, 0)
		}
		for _, v := range []uint32{to.begin, to.end, to.unwind} {
			b = append(b, byte(v), byte(v>>8), byte(v>>16), byte(v>>24))
		}
		return b
	}
	stack := map[uint64][]uint64{testSP + 0x28: {0xb0b0, retAddr}, testSP + 0x10: {0x5151}}
	for _, c := range []struct {
		name  string
		build func(l *lab)
		want  map[int]uint64
	}{
		{"one link, odd count of codes", func(l *lab) {
			rva := l.fn(0x400, nops, parent)
			l.fn(0x100, nops, chain(4, []byte{4, 0x64, 2, 0, 0, 0x02}, fnEntry{labText + 0x400, labText + 0x410, rva}))
		}, map[int]uint64{model.RSP: testSP + 0x40, model.RSI: 0x5151, model.RBX: retAddr}},
		{"no codes of its own", func(l *lab) {
			rva := l.fn(0x400, nops, parent)
			l.fn(0x100, nops, chain(4, nil, fnEntry{labText + 0x400, labText + 0x410, rva}))
		}, map[int]uint64{model.RSP: testSP + 0x38, model.RBX: 0xb0b0}},
		{"parent close before", func(l *lab) {
			rva := l.fn(0xfe, []byte{0x53, 0x90}, []byte{1, 12, 2, 0, 12, 0x42, 9, 0x30})
			l.fn(0x100, nops, chain(4, nil, fnEntry{labText + 0xfe, labText + 0x100, rva}))
		}, map[int]uint64{model.RSP: testSP + 0x38, model.RBX: 0xb0b0}},
		{"three links", func(l *lab) {
			a := l.fn(0x400, nops, parent)
			b := l.fn(0x500, nops, chain(4, nil, fnEntry{labText + 0x400, labText + 0x410, a}))
			l.fn(0x100, nops, chain(4, nil, fnEntry{labText + 0x500, labText + 0x510, b}))
		}, map[int]uint64{model.RSP: testSP + 0x38, model.RBX: 0xb0b0}},
		{"indirect entry", func(l *lab) {
			l.fn(0x400, nops, parent)
			l.entry(0x100, nops, 0)
			l.fns[0].unwind = l.entryAt(0x400) | 1
			l.put32(labImage+labPdata+8, l.fns[0].unwind)
		}, map[int]uint64{model.RSP: testSP + 0x38, model.RBX: 0xb0b0}},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			l := newLab()
			c.build(l)
			put := stack
			if _, both := c.want[model.RSI]; both {
				// Its own push of nothing: 8 bytes more on the stack.
				put = map[uint64][]uint64{testSP + 0x28: {0xb0b0, retAddr, retAddr}, testSP + 0x10: {0x5151}}
			}
			pc := uint32(6)
			if c.name == "indirect entry" {
				pc = 2 // as if in the prolog, but that is the other entry's
			}
			checkUndo(t, l, undoCase{pc: pc, put: put, want: c.want})
		})
	}
}

// TestUndo_bad: unwind data that makes no sense ends the walk with an error.
func TestUndo_bad(t *testing.T) {
	t.Parallel()
	nops := make([]byte, 16)
	for _, c := range []struct {
		name  string
		build func(l *lab)
		want  string
	}{
		{"version 0", func(l *lab) { l.fn(0x100, nops, []byte{0, 0, 0, 0}) },
			"unwind data of nt at 0xc000: bad unwind data: version 0"},
		{"version 3", func(l *lab) { l.fn(0x100, nops, []byte{3, 0, 0, 0}) },
			"unwind data of nt at 0xc000: bad unwind data: version 3"},
		{"unknown code", func(l *lab) { l.fn(0x100, nops, []byte{1, 4, 1, 0, 4, 0x0b, 0, 0}) },
			"unwind data of nt at 0xc000: bad unwind data: code 11 with 0"},
		{"code cut short", func(l *lab) { l.fn(0x100, nops, []byte{1, 4, 1, 0, 4, 0x01, 0, 0}) },
			"unwind data of nt at 0xc000: bad unwind data: code 1 is cut short"},
		{"allocation of a third kind", func(l *lab) { l.fn(0x100, nops, []byte{1, 4, 2, 0, 4, 0x21, 0, 0}) },
			"unwind data of nt at 0xc000: bad unwind data: code 1 with 2"},
		{"outside the image", func(l *lab) { l.entry(0x100, nops, labSize-2) },
			"unwind data of nt at 0x1fffe: outside the image"},
		{"reaches out of the image", func(l *lab) {
			l.entry(0x100, nops, labSize-4)
			l.put(labImage+labSize-4, []byte{1, 0, 9, 0})
		}, "unwind data of nt at 0x1fffc: reaches out of the image"},
		{"page not captured", func(l *lab) { l.entry(0x100, nops, 0x18000) },
			"unwind data of nt at 0x18000: 0xfffff80001018000: page not in dump"},
		{"chained to itself", func(l *lab) {
			l.fn(0x100, nops, []byte{0x21, 0, 0, 0, 0, 0x11, 0, 0, 0x10, 0x11, 0, 0, 0, 0xc0, 0, 0})
		}, "unwind data of nt for 0x1104: bad unwind data: chained without end"},
		{"indirect to itself", func(l *lab) { l.entry(0x100, nops, labPdata|1) },
			"function table of nt at 0x1100: bad unwind data: indirect without end"},
		{"stack pointer falls", func(l *lab) {
			l.fn(0x100, nops, []byte{1, 4, 3, 0, 4, 0x11, 0, 0xff, 0xff, 0xff, 0, 0})
		}, ""},
		{"saved register not captured", func(l *lab) {
			l.fn(0x100, nops, []byte{1, 4, 3, 0, 4, 0x35, 0, 0, 0, 0x10, 0, 0})
		}, "saved rbx: 0xfffff88013005000: page not in dump"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			l := newLab()
			c.build(l)
			var r model.Registers
			r.RIP, r.GPR[model.RSP] = at(0x104), testSP
			s := From(context.Background(), l.kernel(t), r, []Segment{segment()}, Options{NoScan: true})
			if len(s.Frames) != 1 || s.Err == nil || c.want != "" && s.Err.Error() != c.want {
				t.Errorf("%d frames\n got %v\nwant %s", len(s.Frames), s.Err, c.want)
			}
		})
	}
}
