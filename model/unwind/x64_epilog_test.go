package unwind

import (
	"context"
	"testing"

	"gokd/model"
	"gokd/model/mem"
)

// TestEpilog_version1 stops inside epilogs of every form the ABI allows, and
// beside look-alikes. The function pushes rbx, rbp and r14 and allocates 0x20;
// rbp is its frame register where the case says so.
func TestEpilog_version1(t *testing.T) {
	t.Parallel()
	const sp = testSP
	plain := []byte{1, 9, 4, 0, 9, 0x32, 5, 0xe0, 3, 0x50, 2, 0x30}
	framed := []byte{1, 14, 5, 0x15, 14, 0x03, 9, 0x32, 5, 0xe0, 3, 0x50, 2, 0x30, 0, 0}
	r12 := []byte{1, 14, 5, 0x1c, 14, 0x03, 9, 0x32, 5, 0xc0, 3, 0x50, 2, 0x30, 0, 0}
	for _, c := range []struct {
		name string
		info []byte
		code []byte // from the stop on
		pops int    // words before the return address; 7 in the body
		frm  uint64 // of the frame register over rsp
	}{
		{"add rsp, imm8", plain, []byte{0x48, 0x83, 0xc4, 0x20, 0x41, 0x5e, 0x5d, 0x5b, 0xc3}, 7, 0},
		{"add rsp, imm32", plain, []byte{0x48, 0x81, 0xc4, 0x20, 0, 0, 0, 0x41, 0x5e, 0x5d, 0x5b, 0xc3}, 7, 0},
		{"behind the add", plain, []byte{0x41, 0x5e, 0x5d, 0x5b, 0xc3}, 3, 0},
		{"behind a pop", plain, []byte{0x5d, 0x5b, 0xc3}, 2, 0},
		{"last pop", plain, []byte{0x5b, 0xc3}, 1, 0},
		{"at the return", plain, []byte{0xc3}, 0, 0},
		{"return with imm16", plain, []byte{0x5b, 0xc2, 8, 0}, 1, 0},
		{"rep ret", plain, []byte{0x5b, 0xf3, 0xc3}, 1, 0},
		{"bnd ret", plain, []byte{0x5b, 0xf2, 0xc3}, 1, 0},
		{"short jump out", plain, []byte{0x5b, 0xeb, 0x60}, 1, 0},
		{"near jump out", plain, []byte{0x5b, 0xe9, 0x00, 0x20, 0, 0}, 1, 0},
		{"bnd jump out", plain, []byte{0x5b, 0xf2, 0xe9, 0x00, 0x20, 0, 0}, 1, 0},
		{"jump to the start", plain, []byte{0x5b, 0xe9, 0xee, 0xff, 0xff, 0xff}, 1, 0}, // from 0x10c+6 to 0x100
		{"jump by a pointer", plain, []byte{0x5b, 0xff, 0x25, 0, 0, 0, 0}, 1, 0},
		{"jump by a register, REX.W", plain, []byte{0x5b, 0x48, 0xff, 0xe0}, 1, 0},
		{"jump by r10, REX.WB", plain, []byte{0x5b, 0x49, 0xff, 0xe2}, 1, 0},
		{"lea from the frame register, disp8", framed, []byte{0x48, 0x8d, 0x65, 0x10, 0x41, 0x5e, 0x5d, 0x5b, 0xc3}, 7, 0x10},
		{"lea from the frame register, disp32", framed, []byte{0x48, 0x8d, 0xa5, 0x10, 0, 0, 0, 0x41, 0x5e, 0x5d, 0x5b, 0xc3}, 7, 0x10},
		{"lea from r12", r12, []byte{0x49, 0x8d, 0x64, 0x24, 0x10, 0x41, 0x5c, 0x5d, 0x5b, 0xc3}, 7, 0x10},

		{"not: jump inside the function", plain, []byte{0x90, 0xeb, 0x01, 0x90, 0x90, 0x90}, 7, 0},
		{"not: jump by a register without REX", plain, []byte{0xff, 0xe0, 0x90}, 7, 0},
		{"not: pop and go on", plain, []byte{0x5b, 0x90, 0xc3}, 7, 0},
		{"not: call by a pointer", plain, []byte{0x48, 0xff, 0x15, 0, 0, 0, 0, 0xc3}, 7, 0},
		{"not: lea from another register", framed, []byte{0x48, 0x8d, 0x66, 0x10, 0x5b, 0xc3}, 7, 0x10},
		{"not: add to another register", plain, []byte{0x48, 0x83, 0xc0, 0x20, 0x5b, 0xc3}, 7, 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			l := newLab()
			// 14 bytes of prolog at most, filled with what is no epilog.
			code := append(make([]byte, 0, 64), 0x90, 0x90, 0x90, 0x90, 0x90, 0x90, 0x90, 0x90, 0x90, 0x90, 0x90, 0x90)
			if len(c.info) > 12 {
				code = append(code, 0x90, 0x90)
			}
			pc := uint32(len(code))
			code = append(code, c.code...)
			if pc == 12 {
				// Keeps the distance of the jump to the start.
				code = append(code, 0xcc)
			}
			l.fn(0x100, code, c.info)
			l.put(labImage+labText+0x7000, []byte{0xe8, 0, 0, 0, 0, 0x90})
			words := []uint64{1, 2, 3, 4, 5, 6, 7, 8, 9, 10}
			words[c.pops] = retAddr
			l.words(mem.VA(sp), words...)
			var r model.Registers
			r.RIP, r.GPR[model.RSP] = at(0x100+pc), sp
			r.GPR[model.RBP], r.GPR[12] = sp+c.frm, sp+c.frm
			if len(c.info) > 12 && c.name[:3] != "not" {
				r.GPR[model.RSP] = sp - 0x100 // moved by the body: only the frame register knows
			}
			s := From(context.Background(), l.kernel(t), r, []Segment{segment()}, Options{NoScan: true})
			if len(s.Frames) < 2 || s.Frames[1].RIP != mem.VA(retAddr) || s.Frames[1].ChildSP != mem.VA(sp)+mem.VA(8*c.pops)+8 {
				t.Errorf("%d frames, %v: %+v", len(s.Frames), s.Err, s.Frames[1:])
			}
		})
	}
}

// TestEpilog_sibling: a jump between two parts of one function is no end of it.
func TestEpilog_sibling(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name   string
		target uint32
		pops   uint64
	}{
		{"to the other part", 0x108, 3},
		{"to the function's start", 0x100, 0},
		{"to another function", 0x300, 0},
		{"to a leaf", 0x500, 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			l := newLab()
			parent := l.fn(0x100, make([]byte, 0x20), []byte{1, 4, 1, 0, 4, 0x22, 0, 0})
			l.fn(0x300, make([]byte, 0x20), []byte{1, 4, 1, 0, 4, 0x22, 0, 0})
			disp := c.target - 0x209
			l.fn(0x200, []byte{0x90, 0x90, 0x90, 0x90, 0xe9, byte(disp), byte(disp >> 8), byte(disp >> 16), byte(disp >> 24)}, []byte{
				0x21, 0, 0, 0, 0, 0x11, 0, 0, 0x20, 0x11, 0, 0, byte(parent), byte(parent >> 8), 0, 0})
			l.words(mem.VA(testSP), retAddr, retAddr, retAddr, retAddr)
			l.put(labImage+labText+0x7000, []byte{0xe8, 0, 0, 0, 0, 0x90})
			var r model.Registers
			r.RIP, r.GPR[model.RSP] = at(0x204), testSP
			s := From(context.Background(), l.kernel(t), r, []Segment{segment()}, Options{NoScan: true})
			if len(s.Frames) < 2 || s.Frames[1].ChildSP != mem.VA(testSP+8*c.pops+8) {
				t.Errorf("%v: %+v", s.Err, s.Frames[1:])
			}
		})
	}
}

// TestEpilog_version2 stops at every byte of the body and of the epilogs that
// version 2 lists:
//
//	0: push rax (8 bytes of nothing); push rbx; push rdi; push r14
//	5: body
//	20: pop r14; pop rdi; pop rbx; pop rcx; ret    (listed by its distance)
//	26: body
//	30: the same at the end
func TestEpilog_version2(t *testing.T) {
	t.Parallel()
	epilog := []byte{0x41, 0x5e, 0x5f, 0x5b, 0x59, 0xc3}
	code := make([]byte, 36)
	for i := range code {
		code[i] = 0x90
	}
	copy(code, []byte{0x50, 0x53, 0x57, 0x41, 0x56})
	copy(code[20:], epilog)
	copy(code[30:], epilog)
	info := []byte{2, 5, 6, 0, 6, 0x16, 16, 0x06, 5, 0xe0, 3, 0x70, 2, 0x30, 1, 0x02}
	// Pushed, first to last: 8 bytes, rbx, rdi, r14. On the stack from rsp up:
	stack := []uint64{0xe0e0, 0x7070, 0x3030, 0, retAddr}
	for pc := uint32(5); pc < 36; pc++ {
		popped := 0 // words gone at pc; the pop of r14 takes two bytes
		for _, start := range []uint32{20, 30} {
			if pc >= start && pc < start+6 {
				popped = []int{0, 1, 1, 2, 3, 4}[pc-start]
			}
		}
		l := newLab()
		l.fn(0x100, code, info)
		l.put(labImage+labText+0x7000, []byte{0xe8, 0, 0, 0, 0, 0x90})
		l.words(mem.VA(testSP), stack...)
		var r model.Registers
		r.RIP, r.GPR[model.RSP] = at(0x100+pc), testSP+8*uint64(popped)
		r.GPR[14], r.GPR[model.RDI], r.GPR[model.RBX] = 1, 2, 3
		s := From(context.Background(), l.kernel(t), r, []Segment{segment()}, Options{NoScan: true})
		if len(s.Frames) < 2 || s.Frames[1].RIP != mem.VA(retAddr) || s.Frames[1].ChildSP != mem.VA(testSP)+0x28 {
			t.Errorf("pc %d, %d popped: %v: %+v", pc, popped, s.Err, s.Frames[1:])
			continue
		}
		up := s.Frames[1].Regs.GPR
		want := [3]uint64{0xe0e0, 0x7070, 0x3030}
		for i, own := range []uint64{1, 2, 3}[:min(popped, 3)] {
			want[i] = own // popped already: the register has it
		}
		if got := [3]uint64{up[14], up[model.RDI], up[model.RBX]}; got != want {
			t.Errorf("pc %d: r14, rdi, rbx %#x, want %#x", pc, got, want)
		}
	}
}

// TestEpilog_version2Chained: the pushes that an epilog undoes are told by the
// entry that its part of the function is chained to.
func TestEpilog_version2Chained(t *testing.T) {
	t.Parallel()
	l := newLab()
	parent := l.fn(0x100, make([]byte, 0x20), []byte{2, 6, 3, 0, 6, 0x32, 2, 0x70, 1, 0x30, 0, 0})
	part := append(make([]byte, 8), 0x5f, 0x5b, 0xc3)
	l.fn(0x200, part, []byte{0x22, 0, 4, 0, 3, 0x16, 0, 0x06, 0, 0x34, 8, 0,
		0x00, 0x11, 0, 0, 0x20, 0x11, 0, 0, byte(parent), byte(parent >> 8), 0, 0})
	l.put(labImage+labText+0x7000, []byte{0xe8, 0, 0, 0, 0, 0x90})
	l.words(mem.VA(testSP), 0x7070, 0x3030, retAddr)
	for pc, popped := range []uint64{8: 0, 9: 1, 10: 2} {
		if pc < 8 {
			continue
		}
		s := From(context.Background(), l.kernel(t), regsAt(at(0x200+uint32(pc)), testSP+8*popped), []Segment{segment()}, Options{NoScan: true})
		if len(s.Frames) < 2 || s.Frames[1].RIP != mem.VA(retAddr) || s.Frames[1].ChildSP != mem.VA(testSP)+0x18 {
			t.Errorf("pc %d: %v: %+v", pc, s.Err, s.Frames[1:])
		}
	}
}
