package model

import (
	"context"
	"errors"
	"fmt"

	"gokd/model/mem"
	"gokd/model/types"
)

// debugOffsets are the fields of the debugger data block that repeat a layout,
// with the path they repeat. A layout that differs in one of them is not this
// kernel's.
var debugOffsets = []struct {
	field DebugField
	typ   string
	path  []string // empty: the size of the type
}{
	{DebugOffsetKThreadNextProcessor, "_KTHREAD", []string{"NextProcessor"}},
	{DebugOffsetKThreadTeb, "_KTHREAD", []string{"Teb"}},
	{DebugOffsetKThreadKernelStack, "_KTHREAD", []string{"KernelStack"}},
	{DebugOffsetKThreadInitialStack, "_KTHREAD", []string{"InitialStack"}},
	{DebugOffsetKThreadApcProcess, "_KTHREAD", []string{"ApcState", "Process"}},
	{DebugOffsetKThreadState, "_KTHREAD", []string{"State"}},
	{DebugOffsetKThreadStackLimit, "_KTHREAD", []string{"StackLimit"}},
	{DebugOffsetKThreadStackBase, "_KTHREAD", []string{"StackBase"}},
	{DebugOffsetKThreadQueueListEntry, "_KTHREAD", []string{"QueueListEntry"}},
	{DebugOffsetKThreadWaitReason, "_KTHREAD", []string{"WaitReason"}},
	{DebugOffsetEThreadIrpList, "_ETHREAD", []string{"IrpList"}},
	{DebugSizeEThread, "_ETHREAD", nil},
	{DebugOffsetEprocessPeb, "_EPROCESS", []string{"Peb"}},
	{DebugOffsetEprocessParentCID, "_EPROCESS", []string{"InheritedFromUniqueProcessId"}},
	{DebugOffsetEprocessDirectoryTableBase, "_EPROCESS", []string{"Pcb", "DirectoryTableBase"}},
	{DebugSizePrcb, "_KPRCB", nil},
	{DebugOffsetPrcbCurrentThread, "_KPRCB", []string{"CurrentThread"}},
	{DebugOffsetPrcbNumber, "_KPRCB", []string{"Number"}},
	{DebugOffsetPrcbContext, "_KPRCB", []string{"Context"}},
	{DebugOffsetPrcbIdleThread, "_KPRCB", []string{"IdleThread"}},
}

// OffsetOf gives the byte offset of a field path in a store's type.
func OffsetOf(s types.Store, typ string, path ...string) (uint32, error) {
	t, err := s.Type(typ)
	if err != nil {
		return 0, err
	}
	var off uint32
	for _, name := range path {
		f, ok := t.Field(name)
		if !ok {
			return 0, &types.NotFoundError{What: "field", Name: name, In: t.Name}
		}
		off += f.Offset
		if t = f.Type; t == nil {
			t = &types.Type{} // a table that gives no type has no members below
		}
		if len(t.Fields) == 0 && t.Name != "" {
			if full, err := s.Type(t.Name); err == nil {
				t = full
			}
		}
	}
	return off, nil
}

// ErrWrongLayout is the class of errors of a layout that does not fit.
var ErrWrongLayout = errors.New("layout is not this kernel's")

// prove checks a layout against what the dump says independently of it: the
// offsets and sizes in the debugger data block, the type of the running
// threads, process 4 named System at the head of the process list, and the
// closure of that list and of its threads'. It returns how many checks could be
// made; a layout without enough of them is not proved.
func (k *Kernel) prove(ctx context.Context, s types.Store) (checks int, err error) {
	for _, c := range debugOffsets {
		want, ok := k.Debug.Field(c.field)
		if !ok {
			continue
		}
		var have uint32
		if c.path == nil {
			t, err := s.Type(c.typ)
			if err != nil {
				return checks, err
			}
			have = t.Size
		} else if have, err = OffsetOf(s, c.typ, c.path...); err != nil {
			return checks, err
		}
		if uint64(have) != want {
			what := "size of " + c.typ
			if c.path != nil {
				what = fmt.Sprintf("%s.%s", c.typ, c.path[len(c.path)-1])
			}
			return checks, fmt.Errorf("%w: %s is %#x, the debugger data block says %#x", ErrWrongLayout, what, have, want)
		}
		checks++
	}
	trial := *k
	trial.Types = s
	n, err := trial.proveObjects(ctx)
	return checks + n, err
}

// proveObjects checks running threads and the process list under k.Types. One
// object that does not fit is damage to the machine; a layout is refuted where
// most of them do not.
func (k *Kernel) proveObjects(ctx context.Context) (checks int, err error) {
	var threads evidence
	for _, p := range k.readProcessors() {
		if p.CurrentThread != 0 {
			threads.thread(k.Object("_ETHREAD", p.CurrentThread))
		}
	}
	running := threads.good
	checks, err = k.proveSystem(ctx, &threads)
	if err == nil {
		err = threads.verdict()
	}
	// A wrong link offset does not land on thread objects again and again.
	return checks + running + min(threads.good-running, enoughThreads), err
}

// evidence counts objects that are and are not what a layout has them be.
type evidence struct {
	good, bad int
	first     error // of the bad
}

// thread looks at what should be a thread object; one that is not in the dump
// is no evidence either way.
func (e *evidence) thread(t Object) {
	typ, err := t.Field("Tcb.Header.Type").Uint()
	switch {
	case err != nil:
	case typ&0x7f == threadObject:
		e.good++
	default:
		if e.bad++; e.first == nil {
			e.first = fmt.Errorf("%#x has object type %d", uint64(t.Addr()), typ)
		}
	}
}

func (e *evidence) verdict() error {
	if e.bad <= e.good {
		return nil
	}
	return fmt.Errorf("%w: %d of %d running threads and threads of System are none: %w", ErrWrongLayout, e.bad, e.good+e.bad, e.first)
}

// threadObject is DISPATCHER_HEADER.Type of a thread (_KOBJECTS ThreadObject).
const threadObject = 6

// proveSystem checks the first process and gathers what its threads say.
func (k *Kernel) proveSystem(ctx context.Context, threads *evidence) (checks int, err error) {
	head, err := k.Global("PsActiveProcessHead")
	if err != nil {
		return 0, nil
	}
	first, err := k.Space.Pointer(head)
	if err != nil {
		return 0, nil // a triage dump need not hold it
	}
	link, err := OffsetOf(k.Types, "_EPROCESS", "ActiveProcessLinks")
	if err != nil {
		return 0, err
	}
	if back, err := k.Space.Pointer(first + 8); err != nil || back != head {
		return 0, nil // the head's own link is damaged
	}
	p := k.Object("_EPROCESS", first-mem.VA(link))
	pid, err1 := p.Field("UniqueProcessId").Uint()
	name, err2 := p.Field("ImageFileName").CString()
	if err1 != nil || err2 != nil {
		return 0, nil
	}
	// One of the two may have been changed on purpose.
	if pid != 4 && name != "System" {
		return 0, fmt.Errorf("%w: the first process has id %d and name %q, not System", ErrWrongLayout, pid, name)
	}
	for t, err := range k.List(ctx, p.Field("ThreadListHead").Addr(), "_ETHREAD", "ThreadListEntry", 4096) {
		if err != nil {
			break // a damaged list is no evidence against a layout that found its way in
		}
		threads.thread(t)
	}
	return 2, nil
}

// enoughThreads is how many thread objects in a row count as evidence.
const enoughThreads = 8

// minChecks is how many agreements prove a nearest layout: fewer could be
// chance.
const minChecks = 6

// loadLayouts picks the types of the kernel: the table that matches its GUID
// and age, the embedded layout of that very kernel, or an embedded one of the
// same or a near build that proves itself.
func (k *Kernel) loadLayouts(ctx context.Context) {
	if k.Types != nil {
		return // a table with types matched the kernel's identity
	}
	exact, g, ok := types.EmbeddedByGUID(k.ID.GUID, k.ID.Age)
	var why error
	if ok {
		k.globals = g
		if _, why = k.prove(ctx, exact); why == nil {
			k.Types = exact
			return
		}
		why = fmt.Errorf("embedded layout of %s: %w", k.ID.GUID, why)
	}
	for _, l := range types.Embedded(k.Build) {
		l = l.As(types.MatchNearest)
		n, err := k.prove(ctx, l)
		if err == nil && n >= minChecks {
			k.Types = l
			return
		}
		if err == nil {
			err = fmt.Errorf("only %d of its facts could be checked", n)
		}
		if why == nil {
			why = fmt.Errorf("layout of build %d: %w", l.Origin().Build, err)
		}
	}
	if ok {
		// The GUID and age stand for the layout more than what was found against it
		// stands against it: that may be the damage that is being looked for.
		k.warn("%v: used all the same, for it is this kernel's by its identity", why)
		k.Types = exact
		return
	}
	// What is left is what the block says of threads and stacks.
	if s := newDebugStore(k.Debug, k.Build); s != nil {
		k.Types, k.Degraded = s, true
	}
	if why != nil {
		k.warn("%s (%v)", k.NeedsSymbols(), why)
	}
}
