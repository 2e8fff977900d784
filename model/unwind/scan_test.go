package unwind

import (
	"context"
	"testing"

	"github.com/google/go-cmp/cmp"

	"gokd/model"
	"gokd/model/mem"
)

// TestFollowsCall: every form of a near call (Intel SDM volume 2, CALL), by
// hand, and what looks alike.
func TestFollowsCall(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		text string
		code []byte // up to the return address
		want bool
	}{
		{"call rel32", []byte{0xe8, 1, 2, 3, 4}, true},
		{"call rax", []byte{0xff, 0xd0}, true},
		{"call r11", []byte{0x41, 0xff, 0xd3}, true},
		{"call [rax]", []byte{0xff, 0x10}, true},
		{"call [rsp]", []byte{0xff, 0x14, 0x24}, true},
		{"call [rax+8]", []byte{0xff, 0x50, 8}, true},
		{"call [rsp+8]", []byte{0xff, 0x54, 0x24, 8}, true},
		{"call [rax*8+disp32]", []byte{0xff, 0x14, 0xc5, 1, 2, 3, 4}, true},
		{"call [rip+disp32]", []byte{0xff, 0x15, 1, 2, 3, 4}, true},
		{"rex.w call [rip+disp32]", []byte{0x48, 0xff, 0x15, 1, 2, 3, 4}, true},
		{"call [rax+disp32]", []byte{0xff, 0x90, 1, 2, 3, 4}, true},
		{"call [rsp+disp32]", []byte{0xff, 0x94, 0x24, 1, 2, 3, 4}, true},

		{"jmp rax", []byte{0xff, 0xe0}, false},
		{"push [rax]", []byte{0xff, 0x30}, false},
		{"call rel32, one byte early", []byte{0xe8, 1, 2, 3}, false},
		{"call [rax+8], its last byte missing", []byte{0xff, 0x50}, false},
		{"call [rip+disp32], cut", []byte{0xff, 0x15, 1, 2, 3}, false},
		{"call rax, and on", []byte{0xff, 0xd0, 0x90}, false},
		{"nothing", nil, false},
	} {
		var b [callBytes]byte
		copy(b[callBytes-len(c.code):], c.code)
		if got := followsCall(b); got != c.want {
			t.Errorf("%s: %v, want %v", c.text, got, c.want)
		}
	}
}

// blind gives a lab whose second module has code without headers and unwind
// data: calls at every multiple of 0x10.
func blind() *lab {
	l := plant()
	for i := range mem.VA(0x100) {
		l.put(labSecond+0x1000+0x10*i, []byte{0xff, 0xd0, 0x90})
	}
	return l
}

// lost gives a return address in code without unwind data.
func lost(i int) uint64 { return uint64(labSecond) + 0x1002 + 0x10*uint64(i) }

func TestScan(t *testing.T) {
	t.Parallel()
	small := at(fnSmall + afterCall)
	const first = labInit - 0x800 // rsp of the first frame, which has no unwind data
	start := func(ret mem.VA) brief {
		return brief{first, mem.VA(lost(0)), ret, 0, HowContext}
	}
	end := func(l *lab) { l.words(labInit-0x38, small) }
	last := brief{labInit - 0x30, mem.VA(small), 0, 0, HowScan}
	for _, c := range []struct {
		name  string
		build func(l *lab)
		want  []brief
	}{
		{"straight to a frame with unwind data", end, []brief{start(mem.VA(small)), last}},
		{"not every value", func(l *lab) {
			l.words(first+0x8, lost(3), 0, lost(3))           // home slots
			l.words(first+0x100, lost(3))                     // even slot
			l.words(first+0x118, lost(3)+1)                   // not behind a call
			l.words(first+0x128, uint64(labImage)+labPdata+4) // no code
			l.words(first+0x138, at(fnLeaf+afterCall))        // a leaf calls nothing
			l.words(first+0x148, small, 1, 2, 3, 4, 5, 77)    // returns to nowhere
			l.words(first+0x188, small)                       // returns to 0, far below the first function
			l.words(first+0x1a8, lost(5))
			end(l)
		}, []brief{
			start(mem.VA(lost(5))),
			{first + 0x1b0, mem.VA(lost(5)), mem.VA(small), 0, HowScan}, last,
		}},
		{"back to unwind data and to a scan again", func(l *lab) {
			l.words(first+0x108, small)
			l.words(first+0x108+0x30, lost(7))
			end(l)
		}, []brief{
			start(mem.VA(small)),
			{first + 0x110, mem.VA(small), mem.VA(lost(7)), 0, HowScan},
			{first + 0x140, mem.VA(lost(7)), mem.VA(small), 0, HowData}, last,
		}},
		{"a trap frame", func(l *lab) {
			l.words(first+0x108, lost(2))
			tf := first + 0x110
			l.words(tf+0x38, lost(9)) // a register
			l.words(tf+0x168, lost(4)-1, 0x10, 0x10246, uint64(tf)+0x198, 0x18)
			l.words(tf+0x198, lost(6)) // right at rsp: the trap hit a leaf
			end(l)
		}, []brief{
			start(mem.VA(lost(2))),
			{first + 0x110, mem.VA(lost(2)), mem.VA(lost(4) - 1), first + 0x110, HowScan},
			{first + 0x2a8, mem.VA(lost(4) - 1), mem.VA(lost(6)), 0, HowMachineFrame},
			{first + 0x2b0, mem.VA(lost(6)), mem.VA(small), 0, HowScan}, last,
		}},
		{"the way to user mode", func(l *lab) {
			l.words(labInit-0x28, userRIP, 0x33, 0x246, 0x12f8a8, 0x2b)
		}, []brief{
			{first, mem.VA(lost(0)), userRIP, labInit - 0x190, HowContext},
			{0x12f8a8, userRIP, 0, 0, HowUser},
		}},
		{"machine frames that are none", func(l *lab) {
			l.words(first+0x100, lost(4), 0x10, 0x10246, uint64(first)+0x80, 0x18)     // back down
			l.words(first+0x140, lost(4), 0x10, 0x10244, uint64(first)+0x168, 0x18)    // bit 1 of rflags
			l.words(first+0x180, lost(4), 0x23, 0x10246, uint64(first)+0x1a8, 0x18)    // 32-bit code
			l.words(first+0x1c0, userRIP, 0x10, 0x10246, uint64(first)+0x1e8, 0x18)    // user code in the kernel
			l.words(first+0x200, userRIP, 0x33, 0x10246, uint64(labInit)-0x40, 0x2b)   // kernel stack in user mode
			l.words(first+0x240, lost(4), 0x10, 0x10246, uint64(first)+0x268+16, 0x18) // a gap
			end(l)
		}, []brief{start(mem.VA(small)), last}},
		{"a CONTEXT on the stack", func(l *lab) {
			ctx := first + 0x100
			l.words(ctx+0x108, lost(8), 0, lost(9)) // in its floating-point part
			l.put32(ctx+0x30, 0x10001f)
			l.put32(ctx+0x34, 0x1f80)
			l.put(ctx+0x38, []byte{0x10, 0, 0x2b, 0, 0x2b, 0, 0x53, 0, 0x2b, 0, 0x18, 0})
			l.words(ctx+0x98, uint64(first)+0x20)
			l.words(ctx+0xf8, small)
			l.words(ctx+0x4d8, lost(1))
			end(l)
		}, []brief{start(mem.VA(lost(1))), {first + 0x5e0, mem.VA(lost(1)), mem.VA(small), 0, HowScan}, last}},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			l := blind()
			c.build(l)
			// The first frame is a return address itself: its home slots are passed over.
			r := state{regs: regsAt(lost(0), uint64(first)), known: savedRegs}
			s := walk(context.Background(), l.kernel(t), r, HowContext, []Segment{segment()}, Options{})
			check(t, s, c.want, nil)
			s = walk(context.Background(), l.kernel(t), r, HowContext, []Segment{segment()}, Options{NoScan: true})
			if len(s.Frames) != 1 || s.Err == nil {
				t.Errorf("without a scan: %d frames, error %v", len(s.Frames), s.Err)
			}
		})
	}
}

// TestScan_record: records that the bugcheck names are passed over in whatever
// function.
func TestScan_record(t *testing.T) {
	t.Parallel()
	const sp = labInit - 0x800
	l := blind()
	l.words(sp+0x108, lost(2)) // in the exception record
	l.words(sp+0x308, lost(3)) // in the context record
	l.words(labInit-0x38, at(fnSmall+afterCall))
	k := l.kernel(t)
	rips := func() (list []mem.VA) {
		for _, f := range From(context.Background(), k, regsAt(lost(0), uint64(sp)), []Segment{segment()}, Options{}).Frames[1:] {
			list = append(list, f.RIP)
		}
		return list
	}
	end := mem.VA(at(fnSmall + afterCall))
	if diff := cmp.Diff([]mem.VA{mem.VA(lost(2)), mem.VA(lost(3)), end}, rips()); diff != "" {
		t.Errorf("no record (-want +got):\n%s", diff)
	}
	k.Source.Crash.Code, k.Source.Crash.Args = 0x1000007e, [4]uint64{0, 0, uint64(sp) + 0x100, uint64(sp) + 0x200}
	if diff := cmp.Diff([]mem.VA{end}, rips()); diff != "" {
		t.Errorf("records (-want +got):\n%s", diff)
	}
}

// TestScan_lostRegister: a function whose frame register a scan lost is scanned
// over, not unwound with a wrong one.
func TestScan_lostRegister(t *testing.T) {
	t.Parallel()
	l := blind()
	// push rbp; sub rsp, 40; lea rbp, [rsp+20] and a call.
	l.fn(0x6000, []byte{0x55, 0x48, 0x83, 0xec, 0x40, 0x48, 0x8d, 0x6c, 0x24, 0x20, 0xff, 0xd0, 0x90}, []byte{1, 10, 3, 0x25, 10, 0x03, 5, 0x72, 1, 0x50, 0, 0})
	const sp = labInit - 0x400
	l.words(sp+0x108, at(0x600c))
	l.words(labInit-0x38, at(fnSmall+afterCall))
	s := From(context.Background(), l.kernel(t), regsAt(lost(0), uint64(sp)), []Segment{segment()}, Options{})
	check(t, s, []brief{
		{sp, mem.VA(lost(0)), mem.VA(at(0x600c)), 0, HowContext},
		{sp + 0x110, mem.VA(at(0x600c)), mem.VA(at(fnSmall + afterCall)), 0, HowScan},
		{labInit - 0x30, mem.VA(at(fnSmall + afterCall)), 0, 0, HowScan},
	}, nil)
}

func TestScan_nothing(t *testing.T) {
	t.Parallel()
	l := blind()
	l.words(labInit-8, 1) // no thread's first function
	s := From(context.Background(), l.kernel(t), regsAt(lost(0), uint64(labInit)-0x400), []Segment{segment()}, Options{})
	if len(s.Frames) != 1 || s.Err == nil {
		t.Errorf("%d frames, error %v", len(s.Frames), s.Err)
	}
	s = From(context.Background(), l.kernel(t), regsAt(lost(0), 0xfffffffffffffff0), nil, Options{})
	if len(s.Frames) != 1 || s.Err == nil {
		t.Errorf("at the top of the address space: %d frames, error %v", len(s.Frames), s.Err)
	}
	s = From(context.Background(), &model.Kernel{Space: mem.NewFlat(newLab())}, regsAt(lost(0), uint64(labInit)-0x400), nil, Options{})
	if len(s.Frames) != 1 || s.Err == nil {
		t.Errorf("without modules: %d frames, error %v", len(s.Frames), s.Err)
	}
}
