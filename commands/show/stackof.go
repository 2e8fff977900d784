package show

import (
	"context"

	"gokd/commands/cmd"
	"gokd/model"
	"gokd/model/diagnose"
	"gokd/model/mem"
	"gokd/model/thread"
	"gokd/model/unwind"
)

type stackKey struct{}

// maxPrevious limits the segments that threads left for larger ones, over all
// threads. Few threads run on an expanded stack at a time; each may name 16.
const maxPrevious = 1 << 16

// StackIndex gives the index of all kernel stacks of the session's target,
// previous segments of expanded stacks included. It is made once.
func StackIndex(ctx context.Context, s *cmd.Session) (*unwind.Index, error) {
	return cmd.Cached(s, stackKey{}, func() (*unwind.Index, error) {
		var all []unwind.Segment
		previous := 0
		for at, err := range thread.Addresses(ctx, s.Kernel) {
			if err != nil {
				continue // a broken list still leaves the threads before the break
			}
			segs, _ := unwind.Segments(s.Kernel, at)
			if len(segs) == 0 {
				continue // what is known is kept with the error that ended the search
			}
			if previous += len(segs) - 1; previous > maxPrevious {
				segs = segs[:1]
			}
			all = append(all, segs...)
		}
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		return unwind.NewIndex(all...), nil
	})
}

// StackOf gives the function that maps a value to the thread in whose kernel
// stack it lies.
func StackOf(ctx context.Context, s *cmd.Session) (diagnose.StackOf, error) {
	x, err := StackIndex(ctx, s)
	if err != nil {
		return nil, err
	}
	return func(v uint64) (thread mem.VA, live, ok bool) {
		t, seg, _, ok := x.Find(v)
		if !ok {
			return 0, false, false
		}
		// Only the segment that the thread runs on has a free part; it left the
		// others at their lowest frame.
		sp, err := s.Kernel.Object("_KTHREAD", t).Field("KernelStack").Pointer()
		inUse := err == nil && (sp < seg.Limit || sp >= seg.Base || mem.VA(v) >= sp)
		return t, inUse, true
	}, nil
}

// NameOf gives a function that names addresses for text, empty outside every
// module.
func NameOf(ctx context.Context, k *model.Kernel) func(mem.VA) string {
	return func(at mem.VA) string { return k.NameOf(ctx, at).String() }
}

// ThreadAt reads a thread and, where the flags ask for it, its stack.
func ThreadAt(ctx context.Context, k *model.Kernel, at mem.VA, o Options) (*Thread, error) {
	t, err := thread.At(ctx, k, at)
	if err != nil {
		return nil, err
	}
	var stack *unwind.Stack
	var stackErr error
	if o.Flags&FlagDefault == FlagDefault {
		stack, stackErr = unwind.Thread(ctx, k, at, unwind.Options{})
	}
	return NewThread(k, t, NameOf(ctx, k), stack, stackErr, o), nil
}
