package stack

import (
	"cmp"
	"context"
	"errors"
	"fmt"

	"gokd/commands/cmd"
	"gokd/commands/show"
	"gokd/model"
	"gokd/model/mem"
	"gokd/model/unwind"
)

// defaultDepth is how many frames k shows until .kframes changes it, as in the
// debuggers of the 2020s.
const defaultDepth = 0x100

func depth(s *cmd.Session) int { return cmp.Or(s.StackDepth, defaultDepth) }

// errARM64 tells what the walker of stacks can't do.
var errARM64 = errors.New("stacks of ARM64 machines are not walked yet")

// trace walks the stack of the session's scope: of the registers that were set,
// of the implicit thread, or of what the processor ran.
func trace(ctx context.Context, s *cmd.Session, o unwind.Options) (*unwind.Stack, error) {
	k, scope := s.Kernel, &s.Scope
	switch {
	case k.Source.Machine == model.MachineARM64:
		return nil, errARM64
	case scope.Thread != 0 && (scope.Set == setThread || scope.Registers == nil):
		return unwind.Thread(ctx, k, scope.Thread, o)
	case scope.Registers != nil:
		o.Known, o.Called = scope.Known, scope.Called
		return from(ctx, s, *scope.Registers, o)
	}
	// The processor's current thread has its registers, or the bug check's record
	// of them where those lead nowhere.
	var first error
	if p := s.Processor(); p != nil && p.CurrentThread != 0 {
		st, err := unwind.Thread(ctx, k, p.CurrentThread, o)
		if err == nil {
			return st, nil
		}
		first = err
	}
	r, err := s.Registers()
	if err != nil {
		return nil, cmp.Or(first, err)
	}
	return from(ctx, s, *r, o)
}

// traceAt walks from addresses that were typed, or the stack of the scope where
// at is nil.
func traceAt(ctx context.Context, s *cmd.Session, at *start, o unwind.Options) (*unwind.Stack, error) {
	if at == nil {
		return trace(ctx, s, o)
	}
	return traceFrom(ctx, s, at, o)
}

// traceFrom walks from addresses that were typed.
func traceFrom(ctx context.Context, s *cmd.Session, at *start, o unwind.Options) (*unwind.Stack, error) {
	if s.Kernel.Source.Machine == model.MachineARM64 {
		return nil, errARM64
	}
	var r model.Registers
	r.GPR[model.RSP], r.RIP = uint64(at.sp), uint64(at.ip)
	o.Known = 1 << model.RSP
	if at.hasBP {
		r.GPR[model.RBP] = uint64(at.bp)
		o.Known |= 1 << model.RBP
	}
	if at.ip == 0 {
		now, err := s.Registers()
		if err != nil {
			return nil, err
		}
		r.RIP = now.RIP
	}
	return from(ctx, s, r, o)
}

// from walks from registers, on the stack that holds their stack pointer.
func from(ctx context.Context, s *cmd.Session, r model.Registers, o unwind.Options) (*unwind.Stack, error) {
	segments, err := segmentsOf(ctx, s, mem.VA(r.GPR[model.RSP]))
	if err != nil {
		return nil, err
	}
	st := unwind.From(ctx, s.Kernel, r, segments, o)
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	return st, nil
}

// segmentsOf gives the segments of the thread on whose kernel stack an address
// lies: the implicit thread's if it does, else any thread's; none where no
// thread owns it, as on the stacks of interrupts.
func segmentsOf(ctx context.Context, s *cmd.Session, sp mem.VA) ([]unwind.Segment, error) {
	k := s.Kernel
	if k.Types == nil || sp>>47 == 0 {
		return nil, nil
	}
	if t, err := s.Thread(); err == nil {
		segments, _ := unwind.Segments(k, t)
		if inside(segments, sp) {
			return segments, nil
		}
	}
	for _, p := range unwind.ProcessorStacks(k) {
		if sp >= p.Limit && sp < p.Base && p.Base != 0 {
			// From there a walk goes on to the stack of the interrupted thread.
			if t := processorThread(k, p.Processor); t != 0 {
				segments, _ := unwind.Segments(k, t)
				return segments, nil
			}
			return nil, nil
		}
	}
	if k.Degraded || k.Triage() {
		return nil, nil // no list of threads to look through
	}
	x, err := show.StackIndex(ctx, s)
	if err != nil {
		return nil, err
	}
	t, _, _, ok := x.Find(uint64(sp))
	if !ok {
		return nil, nil
	}
	segments, _ := unwind.Segments(k, t)
	return segments, nil
}

func processorThread(k *model.Kernel, number int) mem.VA {
	for i := range k.Processors {
		if k.Processors[i].Number == number {
			return k.Processors[i].CurrentThread
		}
	}
	return 0
}

func inside(segments []unwind.Segment, at mem.VA) bool {
	for _, g := range segments {
		if at >= g.Limit && at < g.Base {
			return true
		}
	}
	return false
}

// returnAddress serves Session.ReturnAddress.
func returnAddress(ctx context.Context, s *cmd.Session) (mem.VA, error) {
	n := s.Scope.Frame
	st, err := trace(ctx, s, unwind.Options{MaxFrames: n + 1, NoArgs: true})
	switch {
	case err != nil:
		return 0, err
	case len(st.Frames) <= n:
		return 0, fmt.Errorf("frame %#x: the stack has %#x", n, len(st.Frames))
	case st.Frames[n].ReturnAddress == 0 && st.Err != nil:
		return 0, st.Err
	}
	return st.Frames[n].ReturnAddress, nil
}
