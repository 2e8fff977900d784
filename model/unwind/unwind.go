// Package unwind walks kernel stacks of x64 machines: from a thread's saved
// registers or switch frame upward, by the unwind data of the images, over
// machine frames and switches between stacks, to the thread's first function.
// It also knows which address ranges are whose stack.
//
// Where unwind data is not at hand it scans the stack for return addresses and
// marks what it finds as such. It does not walk user-mode frames, and it knows
// no other architecture.
//
// The format of unwind data is public: "x64 exception handling" in Microsoft's
// C++ documentation, and for version 2 the unwinder of the .NET runtime
// (dotnet/runtime, src/coreclr/unwinder).
package unwind

import (
	"context"
	"fmt"

	"gokd/model"
	"gokd/model/mem"
)

// How says how a frame was found.
type How uint8

// From the most to the least certain.
const (
	HowContext      How = iota + 1 // the first frame, from a saved CONTEXT
	HowSwitch                      // the first frame, from the thread's switch frame
	HowData                        // the frame below has unwind data
	HowMachineFrame                // the frame below was entered by a trap or a switch of stacks
	HowLeaf                        // the frame below is a leaf function, which needs no unwind data
	HowUser                        // user mode, entered or left by the frame below; not walked further
	HowScan                        // a value on the stack that looks like a return address; unverified
)

// String gives the way in a word or two.
func (h How) String() string {
	switch h {
	case HowContext:
		return "context"
	case HowSwitch:
		return "switch frame"
	case HowData:
		return "unwind data"
	case HowMachineFrame:
		return "machine frame"
	case HowLeaf:
		return "leaf"
	case HowUser:
		return "user mode"
	case HowScan:
		return "scan"
	}
	return fmt.Sprintf("How(%d)", uint8(h))
}

// Frame is one function's activation.
type Frame struct {
	ChildSP       mem.VA // rsp in the function's body, kd's Child-SP
	RIP           mem.VA // where it executes or will return to
	ReturnAddress mem.VA // the RIP of the frame above; 0 at the end of the stack
	// TrapFrame is the _KTRAP_FRAME around the machine frame that the function's
	// unwind data names, 0 without one. For functions that only switch stacks it
	// is the address kd prints, not a whole trap frame.
	TrapFrame mem.VA
	How       How
	Regs      model.Registers // in this frame; see Known
	Known     uint16          // bit i: Regs.GPR[i] is known
	Name      model.Name      // of RIP
	// Args are the four home slots at the caller's stack pointer, kd's "Args to
	// Child". The function may have used them for something else.
	Args   [4]uint64
	ArgsOK bool // Args could be read
}

// Stack is a walked stack, innermost frame first.
type Stack struct {
	Frames    []Frame
	Segments  []Segment // of the thread, current one first
	Err       error     // why the walk ended before the end of the stack; nil where it did not
	Truncated bool      // it ended at Options.MaxFrames
	Note      string    // where the walk began, if not where it should have
}

// DefaultFrames is how many frames are walked unless told otherwise.
const DefaultFrames = 0x100

// maxFrames is how many frames are walked at most, whatever the options say.
const maxFrames = 0xffff

// usualFrames is how many frames most stacks have room for.
const usualFrames = 40

// Options changes a walk. The zero value is the usual one.
type Options struct {
	MaxFrames int  // 0: DefaultFrames
	NoScan    bool // end where unwind data ends
	NoArgs    bool // leave Frame.Args empty

	// Known tells From which of the general registers it is given, bit i for
	// GPR[i]; 0 for all of them. The stack pointer always counts as known.
	Known uint16
	// Called tells From that RIP is a return address, as in any frame but the
	// first, and not where the machine was.
	Called bool
}

// From walks the stack that the registers belong to. The segments are those of
// the thread, current one first, and may be empty: then the stack pointer may
// only rise in small steps.
func From(ctx context.Context, k *model.Kernel, regs model.Registers, segments []Segment, opts Options) *Stack {
	known := uint16(allRegs)
	if opts.Known != 0 {
		known = opts.Known | 1<<model.RSP
	}
	return walk(ctx, k, state{regs: regs, known: known, exact: !opts.Called}, HowContext, segments, opts)
}

func walk(ctx context.Context, k *model.Kernel, start state, how How, segments []Segment, opts Options) *Stack {
	limit := opts.MaxFrames
	if limit <= 0 {
		limit = DefaultFrames
	}
	w := &walker{
		ctx: ctx, k: k, opts: opts, limit: min(limit, maxFrames),
		out:    &Stack{Segments: segments},
		stacks: stacksOf(segments),
	}
	w.out.Frames = make([]Frame, 0, min(w.limit, usualFrames))
	w.run(start, how)
	return w.out
}
