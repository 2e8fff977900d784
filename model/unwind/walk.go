package unwind

import (
	"context"
	"errors"
	"fmt"

	"gokd/model"
	"gokd/model/mem"
)

// state is the registers of one frame.
type state struct {
	regs  model.Registers
	known uint16 // bit i: GPR[i] is known
	exact bool   // RIP is where the machine was, not a return address
	// scanned tells that RIP and rsp were found by a scan and may be wrong.
	scanned bool
}

// Registers by their bits in state.known.
const (
	allRegs = 1<<16 - 1
	// callee-saved: rbx rsp rbp rsi rdi r12-r15 (x64 calling convention)
	savedRegs = 1<<model.RBX | 1<<model.RSP | 1<<model.RBP | 1<<model.RSI | 1<<model.RDI | 0xf<<12
)

func (s *state) rsp() mem.VA { return mem.VA(s.regs.GPR[model.RSP]) }
func (s *state) rip() mem.VA { return mem.VA(s.regs.RIP) }

func (s *state) set(reg int, v uint64) {
	s.regs.GPR[reg] = v
	s.known |= 1 << reg
}

// step is the way from one frame to its caller.
type step struct {
	caller  state
	how     How
	machine mem.VA // address of the machine frame in between, 0 without
}

// user reports whether the caller runs in user mode.
func (s *step) user() bool { return s.machine != 0 && s.caller.regs.CS&3 == 3 }

// ErrStack is the class of errors about stacks that make no sense.
var ErrStack = errors.New("not a stack of this thread")

// walker walks one stack. It ends because the stack pointer only rises within
// a stack, and each stack is entered once.
type walker struct {
	ctx    context.Context
	k      *model.Kernel
	opts   Options
	limit  int
	out    *Stack
	stacks []*stackRange // the thread's segments; behind them the processors' stacks, once needed
	all    bool          // stacks has the processors' too
	on     *stackRange   // the one that the walk is on; nil where unknown

	contextsTo mem.VA // how far a scan looks for CONTEXT records

	scratch buffers
}

// stackRange is a range in which the walk may move.
type stackRange struct {
	low, base mem.VA // [low, base]
	initial   mem.VA // of a thread's segment; 0 of a processor's stack
	left      bool   // the walk was there and went on to another
}

func (r *stackRange) contains(at mem.VA) bool { return at >= r.low && at <= r.base }

func stacksOf(segments []Segment) []*stackRange {
	var list []*stackRange
	for _, s := range segments {
		if s.plausible() == nil {
			list = append(list, &stackRange{low: s.low(), base: s.Base, initial: s.Initial})
		}
	}
	return list
}

// find gives the stack that holds an address and was not left yet.
func (w *walker) find(at mem.VA) *stackRange {
	for _, r := range w.stacks {
		if !r.left && r.contains(at) {
			return r
		}
	}
	if w.all {
		return nil
	}
	w.all = true
	for _, p := range ProcessorStacks(w.k) {
		w.stacks = append(w.stacks, &stackRange{low: p.Limit, base: p.Base})
	}
	return w.find(at)
}

func (w *walker) run(cur state, how How) {
	w.on = w.find(cur.rsp())
	for {
		if err := w.ctx.Err(); err != nil {
			w.out.Err = err
			return
		}
		if len(w.out.Frames) >= w.limit {
			w.out.Truncated = true
			return
		}
		f := Frame{
			ChildSP: cur.rsp(), RIP: cur.rip(), How: how,
			Regs: cur.regs, Known: cur.known, Name: w.k.NameOf(w.ctx, cur.rip()),
		}
		next, err := w.next(cur)
		if err != nil && !errors.Is(err, errEnd) {
			w.out.Err = err
		}
		if err == nil {
			w.describe(&f, next)
		}
		w.out.Frames = append(w.out.Frames, f)
		if err != nil || w.ended(next) {
			return
		}
		cur, how = next.caller, next.how
	}
}

// describe fills in what a frame shows of its caller.
func (w *walker) describe(f *Frame, next step) {
	f.ReturnAddress = next.caller.rip()
	if next.machine != 0 {
		f.TrapFrame = next.machine - trapFrameRIP
	}
	if w.opts.NoArgs || next.user() {
		return // the page tables at hand need not be that process's
	}
	for i := range f.Args {
		v, err := w.scratch.uint64(w.k.Space, next.caller.rsp()+mem.VA(8*i))
		if err != nil {
			f.Args = [4]uint64{}
			return
		}
		f.Args[i] = v
	}
	f.ArgsOK = true
}

// trapFrameRIP is the offset of Rip in _KTRAP_FRAME, where the machine frame
// starts; the same in all public x64 type tables.
const trapFrameRIP = 0x168

// ended reports whether the caller is no frame to walk: return address 0, the
// top of the outermost segment, or user mode, of which the first frame is kept.
func (w *walker) ended(next step) bool {
	if next.user() {
		if w.out.Truncated = len(w.out.Frames) >= w.limit; !w.out.Truncated {
			w.out.Frames = append(w.out.Frames, Frame{
				ChildSP: next.caller.rsp(), RIP: next.caller.rip(), How: HowUser,
				Regs: next.caller.regs, Known: next.caller.known,
			})
		}
		return true
	}
	// A jump through a null pointer is a frame of its own: its machine frame
	// says where it came from.
	if next.caller.rip() == 0 && next.machine == 0 {
		return true
	}
	return w.atTop(next.caller.rsp())
}

// atTop reports whether a stack pointer is at the top of the thread's outermost
// segment, where no frame has room.
func (w *walker) atTop(sp mem.VA) bool {
	if w.on == nil || w.on.initial == 0 || sp < w.on.initial {
		return false
	}
	for _, r := range w.stacks {
		if r != w.on && r.initial != 0 && !r.left {
			return false
		}
	}
	return true
}

// errEnd says that the stack ends without a return address of 0.
var errEnd = errors.New("end of the stack")

// next finds the caller: by unwind data or as a leaf, else by a scan.
func (w *walker) next(cur state) (step, error) {
	s, err := w.undo(cur)
	if err == nil {
		err = w.accept(cur, &s)
	}
	if err == nil {
		w.enter(s)
		return s, nil
	}
	if w.opts.NoScan {
		return step{}, err
	}
	s, serr := w.scan(cur)
	switch {
	case serr == nil:
		w.enter(s)
		return s, nil
	case errors.Is(serr, errEnd) || w.ctx.Err() != nil:
		return step{}, serr
	}
	return step{}, err
}

// undo undoes the frame of the function that holds rip.
func (w *walker) undo(cur state) (step, error) {
	m, ok := w.k.Modules.At(cur.rip())
	if !ok {
		if cur.exact {
			return w.leaf(cur, fmt.Errorf("%#x: in no module", uint64(cur.rip())))
		}
		return step{}, fmt.Errorf("return address %#x: in no module", uint64(cur.rip()))
	}
	rva := uint32(cur.rip() - m.Base)
	f, ok, err := m.FunctionAt(rva)
	switch {
	case err != nil:
		return step{}, err
	case !ok && cur.exact:
		return w.leaf(cur, fmt.Errorf("%s+%#x: no unwind data", m.Name, rva))
	case !ok:
		return step{}, fmt.Errorf("%s+%#x: no unwind data, yet it called another function", m.Name, rva)
	}
	u := &undoer{k: w.k, m: m, state: cur, rva: rva, scratch: &w.scratch}
	return u.run(f)
}

// leaf undoes a function without a frame. Only the topmost frame, and one that
// a trap interrupted, can be one: all others made a call. The value at rsp must
// look like a return address, since nothing else vouches for it.
func (w *walker) leaf(cur state, why error) (step, error) {
	v, err := w.k.Space.Pointer(cur.rsp())
	if err != nil {
		return step{}, fmt.Errorf("%w; as a leaf: %w", why, err)
	}
	if !w.returnAddress(v) && (v != 0 || !w.firstFrame(cur.rsp())) {
		return step{}, fmt.Errorf("%w; %#x at %#x is no return address", why, uint64(v), uint64(cur.rsp()))
	}
	s := step{caller: cur, how: HowLeaf}
	s.caller.regs.RIP = uint64(v)
	s.caller.set(model.RSP, uint64(cur.rsp())+8)
	s.caller.known &= savedRegs
	s.caller.exact = false
	return s, nil
}

// firstFrame reports whether a thread's first function can have its return
// address there, which is 0: some home slots below the top of the stack.
func (w *walker) firstFrame(sp mem.VA) bool {
	return w.on != nil && w.on.initial > sp && w.on.initial-sp <= 0x40
}

// accept checks where a step leads.
func (w *walker) accept(cur state, s *step) error {
	rip, rsp := s.caller.rip(), s.caller.rsp()
	if s.user() {
		if userHalf(rip) && userHalf(rsp) {
			return nil
		}
		return fmt.Errorf("machine frame at %#x: user mode at %#x, stack %#x: %w", uint64(s.machine), uint64(rip), uint64(rsp), ErrStack)
	}
	if rip != 0 && (!mem.Canonical(rip) || userHalf(rip)) {
		return fmt.Errorf("return address %#x below %#x: not kernel code", uint64(rip), uint64(rsp))
	}
	return w.reach(cur.rsp(), rsp)
}

func userHalf(at mem.VA) bool { return at>>47 == 0 }

// maxStep is the most by which one frame can rise where the stack's bounds are
// not known.
const maxStep = 1 << 16

// reach checks that the walk can come from one stack pointer to another.
func (w *walker) reach(from, to mem.VA) error {
	switch {
	case to%8 != 0:
		return fmt.Errorf("stack pointer %#x: not aligned", uint64(to))
	case w.on != nil && w.on.contains(to):
		if to <= from {
			return fmt.Errorf("stack pointer %#x after %#x: %w: it must rise", uint64(to), uint64(from), ErrStack)
		}
		return nil
	case w.find(to) != nil:
		return nil
	case w.on == nil && to > from && to-from <= maxStep:
		return nil
	}
	return fmt.Errorf("stack pointer %#x after %#x: %w", uint64(to), uint64(from), ErrStack)
}

// enter notes the stack that the walk is on now.
func (w *walker) enter(s step) {
	sp := s.caller.rsp()
	if s.user() || w.on != nil && w.on.contains(sp) {
		return
	}
	if r := w.find(sp); r != nil {
		if w.on != nil {
			w.on.left = true
		}
		w.on = r
	}
}
