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
		t = f.Type
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

// proveObjects checks running threads and the process list under k.Types.
func (k *Kernel) proveObjects(ctx context.Context) (checks int, err error) {
	for _, p := range k.readProcessors() {
		if p.CurrentThread == 0 {
			continue
		}
		typ, err := k.Object("_ETHREAD", p.CurrentThread).Field("Tcb.Header.Type").Uint()
		if err != nil {
			continue // not in the dump: no evidence either way
		}
		if typ&0x7f != threadObject {
			return checks, fmt.Errorf("%w: current thread %#x of processor %d has object type %d", ErrWrongLayout, uint64(p.CurrentThread), p.Number, typ)
		}
		checks++
	}
	n, err := k.proveSystem(ctx)
	return checks + n, err
}

// threadObject is DISPATCHER_HEADER.Type of a thread (_KOBJECTS ThreadObject).
const threadObject = 6

// proveSystem checks the first process and that its list of threads closes.
func (k *Kernel) proveSystem(ctx context.Context) (checks int, err error) {
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
	p := k.Object("_EPROCESS", first-mem.VA(link))
	pid, err1 := p.Field("UniqueProcessId").Uint()
	name, err2 := p.Field("ImageFileName").CString()
	if err1 != nil || err2 != nil {
		return 0, nil
	}
	if pid != 4 || name != "System" {
		return 0, fmt.Errorf("%w: the first process has id %d and name %q, not System", ErrWrongLayout, pid, name)
	}
	checks = 2
	threads := 0
	for t, err := range k.List(ctx, p.Field("ThreadListHead").Addr(), "_ETHREAD", "ThreadListEntry", 4096) {
		if err != nil {
			break // a damaged list is no evidence against a layout that found its way in
		}
		typ, err := t.Field("Tcb.Header.Type").Uint()
		if err == nil && typ&0x7f != threadObject {
			return checks, fmt.Errorf("%w: a thread of System at %#x has object type %d", ErrWrongLayout, uint64(t.Addr()), typ)
		}
		threads++
	}
	// A wrong link offset does not land on thread objects again and again.
	return checks + min(threads, enoughThreads), nil
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
	if l, g, ok := types.EmbeddedByGUID(k.ID.GUID, k.ID.Age); ok {
		k.globals = g
		if _, err := k.prove(ctx, l); err == nil {
			k.Types = l
			return
		} else if errors.Is(err, ErrWrongLayout) {
			k.warn("embedded layout of %s: %v", k.ID.GUID, err)
		}
	}
	var why error
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
	if why != nil {
		k.warn("no layout fits: %v; symbols of this kernel are needed (%s, %s, age %d)", why, k.ID.PDB, k.ID.GUID, k.ID.Age)
	}
}
