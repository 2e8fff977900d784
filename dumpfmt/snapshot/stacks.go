package snapshot

import (
	"slices"
	"strings"

	"gokd/model/mem"
)

// frame is one row of a stack: a routine and where in it the program counter
// stands.
type frame struct {
	fn          *function
	off         uint32
	free        bool // the offset is still open
	trap        bool
	exact       bool
	interrupted bool // no call: a trap came in here, or the processor stands here
	sp, ret     mem.VA
	trapAt      mem.VA
	line        int
}

// pc is the program counter of the row.
func (f frame) pc() mem.VA { return f.fn.address() + mem.VA(f.off) }

// Pieces of stacks that every kernel has. The offsets are those of the kernel
// whose stacks the Ntdebugging blog and Microsoft's documentation print; where
// none is given, one is chosen.
var pieces = map[string][]string{
	"switch":    {"nt!KiSwapContext+0x7a", "nt!KiCommitThreadWait+0x1d2"},
	"single":    {"nt!KeWaitForSingleObject+0x19f"},
	"multiple":  {"nt!KeWaitForMultipleObjects+0x271"},
	"queue":     {"nt!KeRemoveQueueEx+0x323"},
	"delay":     {"nt!KeDelayExecutionThread+0x186"},
	"shared":    {"nt!KeWaitForSingleObject+0x19f", "nt!ExpWaitForResource+0xae", "nt!ExAcquireResourceSharedLite+0x2c6"},
	"exclusive": {"nt!KeWaitForSingleObject+0x19f", "nt!ExpWaitForResource+0xae", "nt!ExAcquireResourceExclusiveLite+0x14f"},

	"user single":   {"nt!NtWaitForSingleObject+0xde"},
	"user multiple": {"nt!ObpWaitForMultipleObjects+0x294", "nt!NtWaitForMultipleObjects+0xe6"},
	"user queue":    {"nt!IoRemoveIoCompletion+0x47", "nt!NtRemoveIoCompletion+0x10f"},
	"user delay":    {"nt!NtDelayExecution+0x59"},
	"user call":     {"nt!KiSystemServiceCopyEnd+0x13 (TrapFrame)"},

	"ready":      {"nt!KiSwapContext+0x7a", "nt!KiQuantumEnd+0x12b"},
	"terminated": {"nt!KiSwapContext+0x7a", "nt!KeTerminateThread+0x20d", "nt!PspExitThread+0x4de"},
	"system":     {"nt!PspSystemThreadStartup+0x5a", "nt!KxStartSystemThread+0x16"},
	"idle":       {"nt!PoIdle+0x53a", "nt!KiIdleLoop+0x2c"},
	"crash":      {"nt!KeBugCheckEx"},
}

// planStacks makes the frames of all threads: exact ones first, because they
// say where routines lie and how much stack they take.
func (m *machine) planStacks() error {
	all := slices.Concat(m.threads, m.idle.threads)
	for _, cpu := range m.cpus {
		if !cpu.current.idle {
			cpu.idle.state = "Standby"
		}
	}
	for _, t := range all {
		list, err := m.compose(t)
		if err != nil {
			return err
		}
		exact := slices.ContainsFunc(list, func(r row) bool { return r.exact })
		for i, r := range list {
			if r.exact != exact {
				return wrong(r.line, "a stack has addresses in every row or in none")
			}
			fn, err := m.routine(r.site(), r.line)
			if err != nil {
				return err
			}
			t.frames = append(t.frames, frame{
				fn: fn, off: r.offset, free: !r.hasOffset && !r.exact, trap: r.trap, exact: r.exact, line: r.line,
				sp: mem.VA(r.sp), ret: mem.VA(r.ret), trapAt: mem.VA(r.trapAt),
				interrupted: i == 0 && t.state == "Running" || i > 0 && list[i-1].trap,
			})
		}
		if err := m.planSegments(t); err != nil {
			return err
		}
	}
	for _, exact := range []bool{true, false} {
		for _, t := range all {
			if t.frames[0].exact != exact {
				continue
			}
			if exact {
				if err := t.learn(); err != nil {
					return err
				}
			}
			t.settle()
			if err := t.link(); err != nil {
				return err
			}
		}
	}
	return nil
}

// compose puts a thread's whole stack together: how it waits, what the
// scenario says, how it began.
func (m *machine) compose(t *thread) ([]row, error) {
	middle, err := m.splice(t.spec.Stack)
	if err != nil {
		return nil, err
	}
	if slices.ContainsFunc(middle, func(r row) bool { return r.exact }) {
		return middle, nil
	}
	crashed := t.state == "Running" && uint64(t.cpu) == m.spec.Crash.Processor.v
	var before, after []row
	if crashed {
		before = piece("crash")
		if extra, err := m.splice(m.spec.Crash.Stack); err != nil || len(extra) > 0 {
			before = slices.Concat(before, extra)
			if err != nil {
				return nil, err
			}
		}
	}
	before = slices.Concat(before, t.waitRows())
	if t.wait != nil && t.wait.user && len(middle) == 0 {
		before = slices.Concat(before, piece("user "+t.waitKind()))
	}
	switch {
	case t.idle && t.state == "Standby":
		after = piece("idle")[1:]
	case t.idle:
		after = piece("idle")
	case t.proc.pid == 4:
		after = piece("system")
		if t.start != nil {
			after = slices.Insert(after, 0, row{module: t.start.img.name, function: t.start.name, line: t.spec.Start.line})
		}
	default:
		after = piece("user call")
	}
	if n := len(before); n > 0 && len(middle) > 0 && acquires(before[n-1]) && acquires(middle[0]) {
		before = before[:n-1] // the scenario says by which routine
	}
	return join(join(before, middle, false), after, true), nil
}

// acquires reports the routines that wait for a resource.
func acquires(r row) bool { return r.module == "nt" && strings.HasPrefix(r.function, "ExAcquire") }

// waitRows gives the innermost rows by the thread's state.
func (t *thread) waitRows() []row {
	if t.idle && t.state == "Standby" {
		return piece("switch")[:1]
	}
	switch t.state {
	case "Running":
		return nil
	case "Waiting":
		return slices.Concat(piece("switch"), piece(t.waitKind()))
	case "Terminated":
		return piece("terminated")
	}
	return piece("ready")
}

// waitKind names the piece of stack for the thread's wait.
func (t *thread) waitKind() string {
	w := t.wait
	switch {
	case w.resource != nil && slices.Contains(w.resource.shared, t):
		return "shared"
	case w.resource != nil:
		return "exclusive"
	case w.queue:
		return "queue"
	case w.delay:
		return "delay"
	case len(w.targets) > 1:
		return "multiple"
	}
	return "single"
}

// join puts two pieces of a stack together. A routine that both have is where
// they meet, and one piece's row of it stays.
func join(inner, outer []row, keepInner bool) []row {
	for i, a := range inner {
		for j, b := range outer {
			if a.site() != b.site() {
				continue
			}
			if i == 0 { // the outer piece is whole
				return outer
			}
			keep := b
			if a.hasOffset && (keepInner || !b.hasOffset) {
				keep = a
				keep.trap = a.trap || b.trap
			}
			return slices.Concat(inner[:i], []row{keep}, outer[j+1:])
		}
	}
	return slices.Concat(inner, outer)
}

func piece(name string) []row {
	var list []row
	for _, line := range pieces[name] {
		r, err := parseRow(line)
		if err == nil {
			list = append(list, r)
		}
	}
	return list
}

// splice replaces the names of pieces by their rows.
func (m *machine) splice(list rows) ([]row, error) {
	var out []row
	for _, r := range list {
		if r.module != "" {
			out = append(out, r)
			continue
		}
		part, ok := m.spec.Stacks[r.function]
		if !ok {
			return nil, wrong(r.line, "%q is no piece of a stack; a routine is written module!function", r.function)
		}
		for _, p := range part {
			if p.module == "" {
				return nil, wrong(p.line, "the piece %q names a further piece", r.function)
			}
			out = append(out, p)
		}
	}
	if len(out) > maxStackRows {
		return nil, wrong(list[0].line, "%d rows, at most %d are possible", len(out), maxStackRows)
	}
	return out, nil
}

// planSegments takes over the given bounds of a thread's stack.
func (m *machine) planSegments(t *thread) error {
	s := t.spec
	line := max(s.StackBase.line, s.StackLimit.line, s.Outer.Base.line, s.Outer.Limit.line)
	if !s.StackBase.set {
		if len(t.frames) > 0 && t.frames[0].exact {
			return wrong(t.frames[0].line, "a stack with addresses needs stack_base")
		}
		if s.Outer.Base.set || s.StackLimit.set {
			return wrong(line, "stack_limit and outer_stack need stack_base")
		}
		return nil
	}
	seg, err := m.segment(s.StackBase, s.StackLimit)
	if err != nil {
		return err
	}
	t.base, t.limit, t.init = seg.base, seg.limit, seg.init
	if s.Outer.Base.set {
		if t.outer, err = m.segment(s.Outer.Base, s.Outer.Limit); err != nil {
			return err
		}
	}
	return nil
}

const (
	stackSize = 0x6000 // KERNEL_STACK_SIZE of x64
	// Above InitialStack lie _KERNEL_STACK_CONTROL and the save area of the
	// floating-point unit (FXSAVE, 512 bytes).
	fxSaveSize = 0x200
)

// initial gives InitialStack for a stack's base.
func (m *machine) initial(base mem.VA) mem.VA {
	return base - fxSaveSize - mem.VA(m.size(m.controlType()))
}

func (m *machine) segment(base, limit number) (*segment, error) {
	seg := &segment{base: mem.VA(base.v), limit: mem.VA(limit.or(base.v - stackSize))}
	size := uint64(seg.base - seg.limit)
	if seg.base%pageSize != 0 || seg.limit%pageSize != 0 || size == 0 || size > 0x40000 || seg.limit < 0xffff800000000000 {
		return nil, wrong(base.line, "a stack from %#x to %#x: want whole pages of the kernel, at most 256KB", uint64(seg.limit), uint64(seg.base))
	}
	seg.init = m.initial(seg.base)
	return seg, m.taken.add(seg.limit, size, "a kernel stack", base.line)
}

// segmentOf gives InitialStack of the piece of stack that holds an address.
func (t *thread) segmentOf(sp mem.VA) (init mem.VA, ok bool) {
	switch {
	case sp >= t.limit && sp < t.init:
		return t.init, true
	case t.outer != nil && sp >= t.outer.limit && sp < t.outer.init:
		return t.outer.init, true
	}
	return 0, false
}

// learn takes from an exact stack where routines start and how much stack each
// takes.
func (t *thread) learn() error {
	for i, f := range t.frames {
		init, ok := t.segmentOf(f.sp)
		if !ok || f.sp%16 != 0 {
			return wrong(f.line, "%#x is no place in the thread's stack", uint64(f.sp))
		}
		size := init - f.sp - 8 // the outermost routine's frame ends where the stack begins
		if i+1 < len(t.frames) {
			next := t.frames[i+1]
			if err := next.fn.setAddress(uint64(f.ret)-uint64(next.off), next.line); err != nil {
				return err
			}
			size = next.sp - f.sp - 8
			if _, ok := t.segmentOf(next.sp); !ok || next.sp <= f.sp && !f.trap {
				return wrong(next.line, "%#x does not lie above %#x in the stack", uint64(next.sp), uint64(f.sp))
			}
		}
		if f.trap {
			f.fn.trap = true
			size = f.trapAt + machineFrameAt - f.sp
			if _, ok := t.segmentOf(f.trapAt + machineFrameAt); !ok {
				return wrong(f.line, "the trap frame at %#x does not lie in the thread's stack", uint64(f.trapAt))
			}
		}
		if err := f.fn.setFrame(int64(size), f.line); err != nil {
			return err
		}
	}
	return nil
}

// machineFrameAt is the offset of Rip in _KTRAP_FRAME: where the processor
// pushes its own frame.
const machineFrameAt = 0x168
