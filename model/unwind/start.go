package unwind

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"strings"

	"gokd/model"
	"gokd/model/mem"
)

// ErrNotResident is the class of errors about stacks that are not in memory:
// swapped out, given back, or not in the dump.
var ErrNotResident = errors.New("kernel stack not resident")

// ErrNoContext is the class of errors about threads that were running, but
// whose registers are not in the dump.
var ErrNoContext = errors.New("its registers are not in the dump")

// Thread walks the stack of a thread. One that is some processor's current
// thread, whatever its state says, starts from that processor's saved CONTEXT;
// all others from the frame that the context switch left at
// _KTHREAD.KernelStack. The error says that there is no start; errors.Is tells
// ErrNotResident from others.
func Thread(ctx context.Context, k *model.Kernel, thread mem.VA, opts Options) (*Stack, error) {
	segments, broken := Segments(k, thread)
	for i := range k.Processors {
		if p := &k.Processors[i]; p.CurrentThread == thread && thread != 0 {
			return running(ctx, k, p, segments, opts)
		}
	}
	if broken != nil && len(segments) == 0 {
		return nil, broken
	}
	if r, ok := headerContext(k); ok && holds(segments, mem.VA(r.GPR[model.RSP])) {
		return From(ctx, k, r, segments, opts), nil
	}
	start, err := switchFrame(ctx, k, thread, segments)
	if err != nil {
		return nil, err
	}
	out := walk(ctx, k, start, HowSwitch, segments, opts)
	if out.Err != nil && broken != nil {
		out.Err = fmt.Errorf("%w; %w", out.Err, broken)
	}
	return out, nil
}

// headerContext gives the registers in the dump's header where no processor
// block can be read to tell whose they are: the stack pointer must tell then.
func headerContext(k *model.Kernel) (model.Registers, bool) {
	for _, p := range k.Processors {
		if p.CurrentThread != 0 {
			return model.Registers{}, false
		}
	}
	return model.ParseContext(k.Source.Crash.Context)
}

// running walks the stack of a processor's current thread. In a triage dump the
// thread itself may be missing, and with it the bounds of its stack.
func running(ctx context.Context, k *model.Kernel, p *model.Processor, segments []Segment, opts Options) (*Stack, error) {
	var out *Stack
	if p.Context != nil {
		out = From(ctx, k, *p.Context, segments, opts)
		if out.Err == nil || len(out.Frames) > 1 {
			return out, nil
		}
	}
	// Where that leads nowhere, the bugcheck may name another record, of the
	// exception itself.
	if r, err := CrashContext(k); err == nil && (len(segments) == 0 || holds(segments, mem.VA(r.GPR[model.RSP]))) {
		second := From(ctx, k, r, segments, opts)
		if out == nil || len(second.Frames) > len(out.Frames) {
			second.Note = "from the context record that the bugcheck names"
			return second, nil
		}
	}
	if out == nil {
		return nil, fmt.Errorf("thread %#x: running on processor %d: %w", uint64(p.CurrentThread), p.Number, ErrNoContext)
	}
	return out, nil
}

func holds(segments []Segment, at mem.VA) bool {
	for _, s := range segments {
		if at >= s.low() && at < s.Base {
			return true
		}
	}
	return false
}

// contextArg tells which parameter of a bugcheck, from 0, is the address of a
// context record of the exception (bug check code reference of the Windows
// driver documentation).
var contextArg = map[uint32]int{
	0x3b:       2, // SYSTEM_SERVICE_EXCEPTION
	0x7e:       3, // SYSTEM_THREAD_EXCEPTION_NOT_HANDLED
	0x1000007e: 3,
}

// CrashContextAt gives the address of the context record of the exception that a
// bugcheck reports; ok is false for those that name none.
func CrashContextAt(k *model.Kernel) (at mem.VA, ok bool) {
	i, ok := contextArg[k.Source.Crash.Code]
	if !ok {
		return 0, false
	}
	return mem.VA(k.Source.Crash.Args[i]), true
}

// CrashContext reads the context record of the exception that a bugcheck
// reports, for those that name one.
func CrashContext(k *model.Kernel) (model.Registers, error) {
	at, ok := CrashContextAt(k)
	if !ok {
		return model.Registers{}, fmt.Errorf("bugcheck %#x names no context record", k.Source.Crash.Code)
	}
	b, err := k.Space.Bytes(at, model.ContextSize)
	if err != nil {
		return model.Registers{}, fmt.Errorf("context record at %#x: %w", uint64(at), err)
	}
	r, ok := model.ParseContext(b)
	if !ok {
		return model.Registers{}, fmt.Errorf("context record at %#x: it holds no registers", uint64(at))
	}
	return r, nil
}

// switchReturn is the offset of Return in _KSWITCH_FRAME, of Windows 7 to 11,
// for kernels whose types do not tell; others are of builds whose frame is
// smaller or larger.
const switchReturn = 0x38

// maxSwitchFrame bounds an offset in the frame; it is how much is read.
const maxSwitchFrame = 0x80

var switchReturns = [...]int{switchReturn, 0x18, 0x28, 0x30, 0x40, 0x48}

// switchFrame gives the registers that a context switch saved: the return
// address, and the caller's rbp in the slot below it (_KSWITCH_FRAME: home
// slots, ApcBypass, Rbp, Return). The rest is in the frame of KiSwapContext,
// whose unwind data finds it.
func switchFrame(ctx context.Context, k *model.Kernel, thread mem.VA, segments []Segment) (state, error) {
	what := func(err error) error { return fmt.Errorf("thread %#x: %w", uint64(thread), err) }
	t := k.Object("_KTHREAD", thread)
	if resident, err := t.Field("KernelStackResident").Uint(); err == nil && resident == 0 {
		return state{}, what(ErrNotResident)
	}
	at, err := threadPointer(k, thread, "KernelStack", model.DebugOffsetKThreadKernelStack)
	switch {
	case err != nil:
		return state{}, what(err)
	case at == 0 || len(segments) == 0:
		return state{}, what(fmt.Errorf("%w: it has no stack", ErrNotResident))
	case !holds(segments, at):
		return state{}, what(fmt.Errorf("kernel stack pointer %#x: %w", uint64(at), ErrStack))
	}
	b, err := k.Space.Bytes(at, maxSwitchFrame)
	if err != nil && len(b) < switchReturn+8 {
		return state{}, what(fmt.Errorf("%w: %w", ErrNotResident, err))
	}
	off, ok := returnSlot(ctx, k, b)
	if !ok {
		return state{}, what(fmt.Errorf("no switch frame at %#x: %w", uint64(at), ErrStack))
	}
	var s state
	s.regs.RIP = binary.LittleEndian.Uint64(b[off:])
	s.set(model.RBP, binary.LittleEndian.Uint64(b[off-8:]))
	s.set(model.RSP, uint64(at)+uint64(off)+8)
	return s, nil
}

// returnSlot finds the return address in a switch frame: one into KiSwapContext
// wherever it is, else the usual slot if it points to code, else another that
// looks like a return address. A thread that never ran returns to the start of
// its first function.
func returnSlot(ctx context.Context, k *model.Kernel, b []byte) (int, bool) {
	w := &walker{ctx: ctx, k: k}
	found := 0
	usual := int(k.OffsetOr(switchReturn, maxSwitchFrame, "_KSWITCH_FRAME", "Return"))
	for i, off := range append([]int{usual}, switchReturns[:]...) {
		if len(b) < off+8 || off < 8 || i > 0 && off == usual {
			continue
		}
		v := mem.VA(binary.LittleEndian.Uint64(b[off:]))
		m, ok := k.Modules.At(v)
		if !ok || !inCode(m, v) {
			continue
		}
		if strings.HasPrefix(k.NameOf(ctx, v).Function, "KiSwapContext") {
			return off, true
		}
		if found == 0 && (off == usual || w.returnAddress(v)) {
			found = off
		}
	}
	return found, found != 0
}
