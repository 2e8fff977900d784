// Package thread enumerates the threads of a target and reads one thread's
// state: what it waits for, its IRPs, its clocks, priorities and stack bounds.
//
// It knows no stack frames; those are model/unwind's.
package thread

import (
	"context"
	"errors"
	"fmt"
	"iter"

	"gokd/model"
	"gokd/model/mem"
	"gokd/model/process"
)

// WaitObject is one object that a thread waits for.
type WaitObject struct {
	Address mem.VA
	Type    string // "Semaphore", "NotificationEvent", ...; "Unknown" for what is no dispatcher object
	Limit   uint32 // of a semaphore
	Owner   mem.VA // thread that owns a mutant
	Err     error  // why the object's type is not known
}

// IRP is an I/O request that a thread has not finished.
type IRP struct {
	Address    mem.VA
	Type, Size uint16
	Flags      uint32
	MDL        mem.VA
}

// Thread is one thread.
type Thread struct {
	Address     mem.VA
	Process     mem.VA
	Image       string // of Process, bytes as Latin-1
	PID, TID    uint64
	Teb         mem.VA
	Win32Thread mem.VA

	State       State
	Processor   uint32 // it runs on, or would run on next
	OnProcessor bool   // some processor names it as its current thread
	WaitReason  uint8
	WaitMode    uint8 // 0 kernel, 1 user
	Alertable   bool
	WaitObjects []WaitObject
	IRPs        []IRP

	Impersonating      bool
	ImpersonationToken mem.VA
	ImpersonationLevel uint8
	DeviceMap          mem.VA
	Attached           mem.VA // the process it is attached to; 0 where it is not
	AttachedImage      string

	WaitStart       uint32 // ticks, low 32 bits
	WaitTicks       uint32 // since then
	ContextSwitches uint32
	IdealProcessor  uint32
	LargeStack      bool
	UserTicks       uint64
	KernelTicks     uint64

	StartAddress      mem.VA
	Win32StartAddress mem.VA

	StackInit, StackCurrent, StackBase, StackLimit, CallbackStack mem.VA
	StackResident                                                 bool

	Priority, BasePriority        int8
	PriorityDecrement             uint8
	UnusualBoost, ForegroundBoost uint8
	IoPriority, PagePriority      uint8
	SuspendCount, FreezeCount     uint8
	Terminated                    bool
	Gaps                          model.Gaps
}

// Addresses yields the address of every thread: per process the kernel's and
// the executive's list, each thread once, then the idle threads of the
// processors. Broken lists are yielded as errors and the walk goes on with the
// next process.
func Addresses(ctx context.Context, k *model.Kernel) iter.Seq2[mem.VA, error] {
	return func(yield func(mem.VA, error) bool) {
		seen := map[mem.VA]struct{}{}
		once := func(at mem.VA) bool {
			if _, twice := seen[at]; twice || at == 0 {
				return true
			}
			if len(seen) == model.MaxThreads {
				yield(0, fmt.Errorf("threads: %w; %d shown", model.ErrLimit, len(seen)))
				return false
			}
			seen[at] = struct{}{}
			return yield(at, nil)
		}
		for p, err := range process.All(ctx, k) {
			if err != nil {
				if !yield(0, err) {
					return
				}
				continue
			}
			if !ofProcess(ctx, k, p.Address, once, yield) {
				return
			}
		}
		for _, p := range k.Processors {
			for _, at := range []mem.VA{p.CurrentThread, p.NextThread, p.IdleThread} {
				if !once(at) {
					return
				}
			}
		}
	}
}

// OfProcess yields the threads of one process.
func OfProcess(ctx context.Context, k *model.Kernel, at mem.VA) iter.Seq2[mem.VA, error] {
	return func(yield func(mem.VA, error) bool) {
		seen := map[mem.VA]bool{}
		ofProcess(ctx, k, at, func(t mem.VA) bool {
			if seen[t] {
				return true
			}
			seen[t] = true
			return yield(t, nil)
		}, yield)
	}
}

// maxStrangers is how many threads of other processes a process's list may hold.
// A thread whose owner can't be right is shown; lists that lead into another
// process's again and again would be walked once for each process.
const maxStrangers = 64

var errStrangers = errors.New("it leads to threads of other processes")

// ofProcess walks both lists of a process: a thread leaves the dispatcher's
// list (KPROCESS.ThreadListHead) when it ends and the executive's
// (EPROCESS.ThreadListHead) when it is deleted.
func ofProcess(ctx context.Context, k *model.Kernel, at mem.VA, once func(mem.VA) bool, yield func(mem.VA, error) bool) bool {
	p := k.Object("_EPROCESS", at)
	for _, list := range []struct {
		head model.Object
		link string
	}{{p.Field("ThreadListHead"), "ThreadListEntry"}, {p.Field("Pcb.ThreadListHead"), "Tcb.ThreadListEntry"}} {
		if err := list.head.Err(); err != nil {
			if !yield(0, err) {
				return false
			}
			continue
		}
		strangers := 0
		for t, err := range k.List(ctx, list.head.Addr(), "_ETHREAD", list.link, model.MaxThreads) {
			if of, oerr := owner(k, t.Addr()); err == nil && oerr == nil && of != at {
				if strangers++; strangers > maxStrangers {
					err = &model.WalkError{What: "_ETHREAD", At: t.Addr(), Shown: strangers - 1, Err: errStrangers}
				}
			}
			if err != nil {
				if !yield(0, fmt.Errorf("process %#x: %w", uint64(at), err)) {
					return false
				}
				break
			}
			if !once(t.Addr()) {
				return false
			}
		}
	}
	return true
}

// IsThread reports whether a thread object lies at an address: its dispatcher
// header has the type of a thread and a size that fits one.
func IsThread(k *model.Kernel, at mem.VA) bool {
	if uint64(at)&0xf != 0 || at < 0xffff800000000000 {
		return false
	}
	h := k.Object("_ETHREAD", at).Field("Tcb.Header")
	typ, err := h.Field("Type").Uint()
	if err != nil || typ&^lockBit != objectThread {
		return false
	}
	// The owning process must be one too; this keeps stray bytes of value 6 out.
	p, err := owner(k, at)
	return err == nil && p >= 0xffff800000000000
}

// owner gives _KTHREAD.Process; where only the debugger data block tells of
// threads, the process that the thread is attached to.
func owner(k *model.Kernel, at mem.VA) (mem.VA, error) {
	if t := k.Object("_KTHREAD", at); !t.Has("Process") {
		return t.Field("ApcState.Process").Pointer()
	}
	return k.Object("_KTHREAD", at).Field("Process").Pointer()
}

// At reads the thread at an address. It fails where there is no thread object;
// fields that can't be read stand in Gaps.
func At(ctx context.Context, k *model.Kernel, at mem.VA) (*Thread, error) {
	if !IsThread(k, at) {
		return nil, fmt.Errorf("%s is not a thread object", at)
	}
	o := k.Object("_ETHREAD", at)
	t := &Thread{Address: at}
	t.readIdentity(k, o)
	t.readState(k, o)
	t.readTimes(k, o)
	t.readStack(o)
	t.readPriorities(o)
	if t.State == Waiting || t.State == GateWait {
		t.WaitObjects = waitObjects(k, o, &t.Gaps)
	}
	t.readIRPs(ctx, k, o)
	return t, nil
}

func (t *Thread) readIdentity(k *model.Kernel, o model.Object) {
	g := &t.Gaps
	at, err := owner(k, t.Address)
	t.Process = at
	g.Set("process", err)
	g.Set("image", err)
	g.Set("device_map", err)
	if t.Process != 0 {
		image, err := process.ImageOf(k, t.Process)
		t.Image = image
		g.Set("image", err)
		dm, err := process.DeviceMapOf(k.Object("_EPROCESS", t.Process))
		t.DeviceMap = dm
		g.Set("device_map", err)
	}
	t.PID = g.Uint("cid", o.Field("Cid.UniqueProcess"))
	t.TID = g.Uint("cid", o.Field("Cid.UniqueThread"))
	t.Teb = mem.VA(g.Uint("teb", o.Field("Tcb.Teb")))
	t.Win32Thread = mem.VA(g.Uint("win32_thread", o.Field("Tcb.Win32Thread")))
	t.StartAddress = mem.VA(g.Uint("start_address", o.Field("StartAddress")))
	t.Win32StartAddress = mem.VA(g.Uint("win32_start_address", o.Field("Win32StartAddress")))
	t.readImpersonation(o)
	t.readAttached(k, o)
}

// readImpersonation: a flag says whether ClientSecurity is in use; its low
// three bits are level and EffectiveOnly, the rest is the token.
func (t *Thread) readImpersonation(o model.Object) {
	active := t.Gaps.Uint("impersonation_token", o.Field("ActiveImpersonationInfo"))
	if active == 0 {
		return
	}
	v := t.Gaps.Uint("impersonation_token", o.Field("ClientSecurity").As("_EX_FAST_REF").Field("Value"))
	t.Impersonating = true
	t.ImpersonationToken, t.ImpersonationLevel = mem.VA(v&^7), uint8(v&3)
}

// readAttached: ApcState.Process is the address space the thread runs in; it
// is the owner's unless the thread is attached.
func (t *Thread) readAttached(k *model.Kernel, o model.Object) {
	at := mem.VA(t.Gaps.Uint("attached_process", o.Field("Tcb.ApcState.Process")))
	if at == 0 || at == t.Process {
		return
	}
	t.Attached = at
	image, err := process.ImageOf(k, at)
	t.AttachedImage = image
	t.Gaps.Set("attached_image", err)
}

func (t *Thread) readState(k *model.Kernel, o model.Object) {
	g := &t.Gaps
	t.State = StateOf(k, uint8(g.Uint("state", o.Field("Tcb.State"))))
	t.WaitReason = uint8(g.Uint("wait_reason", o.Field("Tcb.WaitReason")))
	t.WaitMode = uint8(g.Uint("wait_mode", o.Field("Tcb.WaitMode")))
	t.Alertable = g.Uint("alertable", o.Field("Tcb.Alertable")) != 0
	t.SuspendCount = uint8(g.Uint("suspend_count", o.Field("Tcb.SuspendCount")))
	t.FreezeCount = uint8(g.Uint("freeze_count", o.Field("Tcb.FreezeCount")))
	t.Terminated = g.Uint("terminated", o.Field("Terminated")) != 0
	// Bit 31 of NextProcessor says that the thread waits in a queue that
	// several processors share (8 and later).
	t.Processor = uint32(g.Uint("processor", o.Field("Tcb.NextProcessor"))) &^ (1 << 31)
	for _, p := range k.Processors {
		if p.CurrentThread == t.Address {
			t.Processor, t.OnProcessor = uint32(p.Number), true
		}
	}
}

func (t *Thread) readTimes(k *model.Kernel, o model.Object) {
	g := &t.Gaps
	t.WaitStart = uint32(g.Uint("wait_start_ticks", o.Field("Tcb.WaitTime")))
	t.WaitTicks = uint32(k.Time.Ticks) - t.WaitStart
	if k.Time.Err != nil && k.Time.Ticks == 0 {
		g.Set("wait_ticks", k.Time.Err)
	}
	t.ContextSwitches = uint32(g.Uint("context_switches", o.Field("Tcb.ContextSwitches")))
	t.IdealProcessor = uint32(g.Uint("ideal_processor", o.Field("Tcb.IdealProcessor")))
	t.UserTicks = g.Uint("user_time_ms", o.Field("Tcb.UserTime"))
	t.KernelTicks = g.Uint("kernel_time_ms", o.Field("Tcb.KernelTime"))
	if k.Time.Increment == 0 {
		g.Set("user_time_ms", k.Time.Err)
		g.Set("kernel_time_ms", k.Time.Err)
	}
}

func (t *Thread) readStack(o model.Object) {
	g := &t.Gaps
	t.StackInit = mem.VA(g.Uint("stack.init", o.Field("Tcb.InitialStack")))
	t.StackCurrent = mem.VA(g.Uint("stack.current", o.Field("Tcb.KernelStack")))
	t.StackBase = mem.VA(g.Uint("stack.base", o.Field("Tcb.StackBase")))
	t.StackLimit = mem.VA(g.Uint("stack.limit", o.Field("Tcb.StackLimit")))
	t.StackResident = g.Uint("stack.resident", o.Field("Tcb.KernelStackResident")) != 0
	tcb := o.Field("Tcb")
	// Up to 7601 the thread names its callback frame and says that its stack is
	// large; later builds do neither.
	if tcb.Has("CallbackStack") {
		t.CallbackStack = mem.VA(g.Uint("stack.call", tcb.Field("CallbackStack")))
	}
	if tcb.Has("LargeStack") {
		t.LargeStack = g.Uint("large_stack", tcb.Field("LargeStack")) != 0
	}
}

func (t *Thread) readPriorities(o model.Object) {
	g := &t.Gaps
	t.Priority = int8(g.Uint("priority", o.Field("Tcb.Priority")))
	t.BasePriority = int8(g.Uint("base_priority", o.Field("Tcb.BasePriority")))
	t.PriorityDecrement = uint8(g.Uint("priority_decrement", o.Field("Tcb.PriorityDecrement")))
	t.ForegroundBoost, t.UnusualBoost = t.PriorityDecrement&0xf, t.PriorityDecrement>>4
	t.IoPriority = uint8(g.Uint("io_priority", o.Field("ThreadIoPriority")))
	t.PagePriority = uint8(g.Uint("page_priority", o.Field("ThreadPagePriority")))
}

// maxIRPs limits the list of requests of one thread.
const maxIRPs = 4096

func (t *Thread) readIRPs(ctx context.Context, k *model.Kernel, o model.Object) {
	head := o.Field("IrpList")
	if err := head.Err(); err != nil {
		t.Gaps.Set("irps", err)
		return
	}
	for i, err := range k.List(ctx, head.Addr(), "_IRP", "ThreadListEntry", maxIRPs) {
		if err != nil {
			t.Gaps.Set("irps", err)
			return
		}
		t.IRPs = append(t.IRPs, IRP{
			Address: i.Addr(),
			Type:    uint16(t.Gaps.Uint("irps", i.Field("Type"))),
			Size:    uint16(t.Gaps.Uint("irps", i.Field("Size"))),
			Flags:   uint32(t.Gaps.Uint("irps", i.Field("Flags"))),
			MDL:     mem.VA(t.Gaps.Uint("irps", i.Field("MdlAddress"))),
		})
	}
}
