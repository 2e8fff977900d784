// Package show holds the records that several commands print: threads,
// processes, resources. It renders; it finds nothing out.
package show

import (
	"errors"
	"fmt"

	"gokd/commands/report"
	"gokd/model"
	"gokd/model/mem"
	"gokd/model/thread"
	"gokd/model/unwind"
)

// Bits of the Flags argument of !thread and !process.
const (
	FlagWait    = 0x2  // wait objects
	FlagStack   = 0x4  // with FlagWait: fields and stack
	FlagNoArgs  = 0x8  // no arguments in the stack
	FlagContext = 0x10 // in the context of the owning process
	FlagDefault = FlagWait | FlagStack
)

// CID is a client id.
type CID struct {
	PID uint64 `json:"pid"`
	TID uint64 `json:"tid"`
}

// WaitObject is an object that a thread waits for.
type WaitObject struct {
	Address report.Addr `json:"address"`
	Type    string      `json:"type"`
	Detail  *string     `json:"detail"` // nil where the type has none
}

// IRP is a request of a thread.
type IRP struct {
	Address report.Addr `json:"address"`
	Type    uint16      `json:"type"`
	Size    uint16      `json:"size"`
	Flags   uint32      `json:"flags"`
	MDL     report.Addr `json:"mdl"`
}

// StackBounds are a thread's stack pointers.
type StackBounds struct {
	Init    *report.Addr `json:"init"`
	Current *report.Addr `json:"current"`
	Base    *report.Addr `json:"base"`
	Limit   *report.Addr `json:"limit"`
	Call    *report.Addr `json:"call"`
}

// Thread is the record of a thread.
type Thread struct {
	Address           report.Addr    `json:"address"`
	Process           *report.Addr   `json:"process"`
	Image             *string        `json:"image"`
	CID               *CID           `json:"cid"`
	Teb               *report.Addr   `json:"teb"`
	Win32Thread       *report.Addr   `json:"win32_thread"`
	State             *string        `json:"state"`
	Processor         *uint32        `json:"processor"`
	WaitReason        *string        `json:"wait_reason"`
	WaitMode          *string        `json:"wait_mode"`
	Alertable         *bool          `json:"alertable"`
	WaitObjects       []WaitObject   `json:"wait_objects"`
	IRPs              []IRP          `json:"irps"`
	Token             *report.Addr   `json:"impersonation_token"`
	DeviceMap         *report.Addr   `json:"device_map"`
	Attached          *report.Addr   `json:"attached_process"`
	WaitStart         *uint32        `json:"wait_start_ticks"`
	WaitTicks         *uint32        `json:"wait_ticks"`
	Switches          *uint32        `json:"context_switches"`
	UserTime          *uint64        `json:"user_time_ms"`
	KernelTime        *uint64        `json:"kernel_time_ms"`
	StartAddress      *report.Addr   `json:"start_address"`
	Win32StartAddress *report.Addr   `json:"win32_start_address"`
	Stack             StackBounds    `json:"stack"`
	Priority          *int8          `json:"priority"`
	BasePriority      *int8          `json:"base_priority"`
	UnusualBoost      *uint8         `json:"unusual_boost"`
	ForegroundBoost   *uint8         `json:"foreground_boost"`
	IoPriority        *uint8         `json:"io_priority"`
	PagePriority      *uint8         `json:"page_priority"`
	InterpretedFrom   *report.Addr   `json:"interpreted_from"`
	Frames            []Frame        `json:"frames"`
	StackError        string         `json:"stack_error,omitempty"`
	StackNote         string         `json:"stack_note,omitempty"`
	Origin            string         `json:"layout,omitempty"`
	Missing           report.Missing `json:"missing,omitempty"`

	// What text needs beyond the fields.
	t      *thread.Thread
	k      *model.Kernel
	start  string
	flags  uint64
	indent int
	stack  bool
	notRes bool
	brief  bool
}

// Type names the record.
func (*Thread) Type() string { return "thread" }

// Options say how a thread is shown.
type Options struct {
	Flags           uint64
	Indent          int    // columns before the header
	InterpretedFrom mem.VA // the stack value the thread was found by; 0 for none
	Brief           bool   // a line that only says that a thread waits, not for what

	Source func(mem.VA) *Source // finds source lines, [Sources]; nil: none
}

// known gives a pointer to v, or nil where the field has a gap.
func known[T any](gaps model.Gaps, field string, v T) *T {
	if gaps[field] != nil {
		return nil
	}
	return &v
}

func addr[T ~uint64](gaps model.Gaps, field string, v T) *report.Addr {
	return known(gaps, field, report.Addr(v))
}

// NewThread makes the record of a thread. The stack may be nil where none was
// asked for; stackErr says why there is none.
func NewThread(k *model.Kernel, t *thread.Thread, name func(mem.VA) string, stack *unwind.Stack, stackErr error, o Options) *Thread {
	r := &Thread{
		Address: report.Addr(t.Address), Process: addr(t.Gaps, "process", t.Process), Image: known(t.Gaps, "image", t.Image),
		CID: known(t.Gaps, "cid", CID{t.PID, t.TID}), Teb: addr(t.Gaps, "teb", t.Teb), Win32Thread: addr(t.Gaps, "win32_thread", t.Win32Thread),
		State: known(t.Gaps, "state", t.State.String()), DeviceMap: addr(t.Gaps, "device_map", t.DeviceMap),
		WaitStart: known(t.Gaps, "wait_start_ticks", t.WaitStart), WaitTicks: known(t.Gaps, "wait_ticks", t.WaitTicks),
		Switches:     known(t.Gaps, "context_switches", t.ContextSwitches),
		UserTime:     known(t.Gaps, "user_time_ms", k.Time.Milliseconds(t.UserTicks)),
		KernelTime:   known(t.Gaps, "kernel_time_ms", k.Time.Milliseconds(t.KernelTicks)),
		StartAddress: addr(t.Gaps, "start_address", t.StartAddress), Win32StartAddress: addr(t.Gaps, "win32_start_address", t.Win32StartAddress),
		Stack: StackBounds{
			Init: addr(t.Gaps, "stack.init", t.StackInit), Current: addr(t.Gaps, "stack.current", t.StackCurrent),
			Base: addr(t.Gaps, "stack.base", t.StackBase), Limit: addr(t.Gaps, "stack.limit", t.StackLimit),
			Call: addr(t.Gaps, "stack.call", t.CallbackStack),
		},
		Priority: known(t.Gaps, "priority", t.Priority), BasePriority: known(t.Gaps, "base_priority", t.BasePriority),
		UnusualBoost:    known(t.Gaps, "priority_decrement", t.UnusualBoost),
		ForegroundBoost: known(t.Gaps, "priority_decrement", t.ForegroundBoost),
		IoPriority:      known(t.Gaps, "io_priority", t.IoPriority), PagePriority: known(t.Gaps, "page_priority", t.PagePriority),
		WaitObjects: []WaitObject{}, IRPs: []IRP{},
		t: t, k: k, flags: o.Flags, indent: o.Indent, brief: o.Brief, start: name(t.Win32StartAddress),
	}
	if o.InterpretedFrom != 0 {
		from := report.Addr(o.InterpretedFrom)
		r.InterpretedFrom = &from
	}
	r.setState(t)
	r.setLists(t)
	r.setStack(stack, stackErr, o.Source)
	r.Origin = LayoutNote(k)
	for f, err := range t.Gaps {
		r.Missing.Set(f, err)
	}
	return r
}

// LayoutNote says where a layout comes from when it is not exact; empty when
// it is.
func LayoutNote(k *model.Kernel) string {
	if o := k.Origin(); o.Match != matchExact {
		return fmt.Sprintf("%s, %s", o.Match, o.Source)
	}
	return ""
}

func (r *Thread) setState(t *thread.Thread) {
	if t.State == thread.Running || t.State == thread.Ready || t.State == thread.Standby || t.State == thread.DeferredReady {
		r.Processor = known(t.Gaps, "processor", t.Processor)
	}
	if t.State == thread.Waiting || t.State == thread.GateWait {
		r.WaitReason = known(t.Gaps, "wait_reason", thread.Reason(r.k, t.WaitReason))
		r.WaitMode = known(t.Gaps, "wait_mode", waitMode(t.WaitMode))
		r.Alertable = known(t.Gaps, "alertable", t.Alertable)
	}
	if t.Impersonating {
		r.Token = addr(t.Gaps, "impersonation_token", t.ImpersonationToken)
	}
	if t.Attached != 0 {
		r.Attached = addr(t.Gaps, "attached_process", t.Attached)
	}
}

func waitMode(m uint8) string {
	if m == 0 {
		return "KernelMode"
	}
	return "UserMode"
}

func (r *Thread) setLists(t *thread.Thread) {
	for _, w := range t.WaitObjects {
		o := WaitObject{Address: report.Addr(w.Address), Type: w.Type}
		detail := ""
		switch w.Type {
		case "Semaphore":
			detail = fmt.Sprintf("Limit %#x", w.Limit)
		case "Mutant":
			detail = fmt.Sprintf("owning thread %x", uint64(w.Owner))
		}
		if detail != "" {
			o.Detail = &detail
		}
		if w.Err != nil {
			r.Missing.Set("wait_objects", w.Err)
		}
		r.WaitObjects = append(r.WaitObjects, o)
	}
	for _, i := range t.IRPs {
		r.IRPs = append(r.IRPs, IRP{report.Addr(i.Address), i.Type, i.Size, i.Flags, report.Addr(i.MDL)})
	}
}

func (r *Thread) setStack(stack *unwind.Stack, err error, source func(mem.VA) *Source) {
	r.stack = stack != nil || err != nil
	if errors.Is(err, unwind.ErrNotResident) {
		r.notRes = true
	}
	if err != nil {
		r.StackError = err.Error()
		r.Missing.Set("frames", err)
	}
	if stack != nil {
		r.Frames = Frames(stack, source)
		r.StackNote = stack.Note
		if stack.Err != nil {
			r.StackError = stack.Err.Error()
		}
	}
}
