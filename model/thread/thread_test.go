package thread_test

import (
	"context"
	"testing"

	"github.com/google/go-cmp/cmp"

	"gokd/model/mem"
	"gokd/model/modeltest"
	"gokd/model/thread"
	"gokd/model/types"
)

func TestAt_families(t *testing.T) {
	t.Parallel()
	for _, l := range types.Layouts() {
		t.Run(l.Family(), func(t *testing.T) {
			t.Parallel()
			m := modeltest.New(t, l)
			p := m.Process(0x1a4, 4, "a\x07b\xffc.exe")
			at := m.Thread(p, 0x2c8)
			sem := m.Alloc(0x40)
			m.Wait(at, 6, sem, 5)
			m.Set(sem, 0x7f, "_KSEMAPHORE", "Limit")
			m.Set(at, 0x1a4, "_ETHREAD", "Cid", "UniqueProcess")
			m.Set(at, 1, "_ETHREAD", "Tcb", "WaitMode")
			m.Set(at, 1, "_ETHREAD", "Tcb", "Alertable")
			m.Set(at, 0x31, "_ETHREAD", "Tcb", "PriorityDecrement")
			m.Set(at, 14, "_ETHREAD", "Tcb", "Priority")
			m.Set(at, 3, "_ETHREAD", "ThreadIoPriority")
			m.Set(at, 5, "_ETHREAD", "ThreadPagePriority")
			m.Set(at, 1, "_ETHREAD", "ActiveImpersonationInfo")
			off, _ := m.Field("_ETHREAD", "ClientSecurity")
			m.Put64(at+mem.VA(off), 0xffff900000001236)
			m.Set(at, uint64(m.System), "_ETHREAD", "Tcb", "ApcState", "Process")
			irps, _ := m.Field("_ETHREAD", "IrpList")
			irp := m.Alloc(0x100)
			link, _ := m.Field("_IRP", "ThreadListEntry")
			m.Set(irp, 6, "_IRP", "Type")
			m.Set(irp, 0x1f0, "_IRP", "Size")
			m.Link(at+mem.VA(irps), irp+mem.VA(link))
			k := m.Open()
			got, err := thread.At(context.Background(), k, at)
			if err != nil {
				t.Fatal(err)
			}
			if got.Image != "a\u0007b\u00ffc.exe" || got.PID != 0x1a4 || got.TID != 0x2c8 || got.Process != p {
				t.Errorf("%q %x.%x of %v", got.Image, got.PID, got.TID, got.Process)
			}
			if got.State != thread.Waiting || thread.ReasonName(got.WaitReason, k.Build) != "UserRequest" || got.WaitMode != 1 || !got.Alertable {
				t.Errorf("%v, reason %d, mode %d, alertable %v", got.State, got.WaitReason, got.WaitMode, got.Alertable)
			}
			if diff := cmp.Diff([]thread.WaitObject{{Address: sem, Type: "Semaphore", Limit: 0x7f}}, got.WaitObjects); diff != "" {
				t.Errorf("wait objects (-want +got):\n%s", diff)
			}
			if diff := cmp.Diff([]thread.IRP{{Address: irp, Type: 6, Size: 0x1f0}}, got.IRPs); diff != "" {
				t.Errorf("requests (-want +got):\n%s", diff)
			}
			if got.Priority != 14 || got.UnusualBoost != 3 || got.ForegroundBoost != 1 || got.IoPriority != 3 || got.PagePriority != 5 {
				t.Errorf("priorities %d %d %d %d %d", got.Priority, got.UnusualBoost, got.ForegroundBoost, got.IoPriority, got.PagePriority)
			}
			if !got.Impersonating || got.ImpersonationToken != 0xffff900000001230 || got.ImpersonationLevel != 2 {
				t.Errorf("impersonates %v, token %v, level %d", got.Impersonating, got.ImpersonationToken, got.ImpersonationLevel)
			}
			if got.Attached != m.System || got.AttachedImage != "System" {
				t.Errorf("attached to %v %q", got.Attached, got.AttachedImage)
			}
		})
	}
}

func TestAddresses(t *testing.T) {
	t.Parallel()
	m := modeltest.New(t, types.Embedded(14393)[0])
	p := m.Process(8, 4, "b.exe")
	want := map[mem.VA]bool{m.Thread(m.System, 0x10): true, m.Thread(p, 0x20): true, m.Thread(p, 0x24): true}
	k := m.Open()
	want[k.Processors[0].IdleThread] = true
	got := map[mem.VA]bool{}
	for at, err := range thread.Addresses(context.Background(), k) {
		if err != nil || got[at] {
			t.Errorf("%v twice, or %v", at, err)
		}
		got[at] = true
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("threads (-want +got):\n%s", diff)
	}
}

func TestIsThread(t *testing.T) {
	t.Parallel()
	m := modeltest.New(t, types.Embedded(9600)[0])
	at := m.Thread(m.System, 0x10)
	k := m.Open()
	for v, want := range map[mem.VA]bool{at: true, at + 8: false, m.System: false, 0: false, m.OnStack(at, 0x100): false, 0x7fff00001000: false} {
		if got := thread.IsThread(k, v); got != want {
			t.Errorf("IsThread(%v) = %v", v, got)
		}
	}
}

func TestWaitBlocks_hostile(t *testing.T) {
	t.Parallel()
	m := modeltest.New(t, types.Embedded(7601)[0])
	at := m.Thread(m.System, 0x10)
	sem := m.Alloc(0x40)
	m.Wait(at, 0, sem, 5)
	// A ring that never comes back to its first block.
	off, _ := m.Field("_ETHREAD", "Tcb", "WaitBlock")
	block := at + mem.VA(off)
	second := block + 0x30
	m.Set(block, uint64(second), "_KWAIT_BLOCK", "NextWaitBlock")
	m.Set(second, uint64(second), "_KWAIT_BLOCK", "NextWaitBlock")
	got, err := thread.At(context.Background(), m.Open(), at)
	if err != nil {
		t.Fatal(err)
	}
	if len(got.WaitObjects) > 65 || got.Gaps["wait_objects"] == nil {
		t.Errorf("%d wait objects, gap %v", len(got.WaitObjects), got.Gaps["wait_objects"])
	}
}

func TestReasonName(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		reason uint8
		build  uint32
		want   string
	}{{14, 7601, "WrEventPair"}, {14, 9600, "WrSpare0"}, {27, 7601, "WrResource"}, {40, 22000, "WrIoRing"}, {200, 22000, "WaitReason200"}} {
		if got := thread.ReasonName(tt.reason, tt.build); got != tt.want {
			t.Errorf("ReasonName(%d, %d) = %s, want %s", tt.reason, tt.build, got, tt.want)
		}
	}
}

// TestAt_degraded: where no layout fits, the debugger data block still tells
// where a thread's stack is, and everything else is said to be unknown.
func TestAt_degraded(t *testing.T) {
	t.Parallel()
	for _, l := range types.Layouts() {
		m := modeltest.New(t, l)
		m.Unknown = true
		at := m.Thread(m.System, 0x10)
		m.Set(at, 5, "_ETHREAD", "Tcb", "State")
		m.Set(at, 0x7ff01000, "_ETHREAD", "Tcb", "Teb")
		k := m.Open()
		if !k.Degraded || k.Origin().Match != types.MatchNone {
			t.Fatalf("%s: degraded %v, %v", l.Family(), k.Degraded, k.Origin())
		}
		got, err := thread.At(context.Background(), k, at)
		if err != nil {
			t.Fatalf("%s: %v", l.Family(), err)
		}
		if got.State != thread.Waiting || got.Teb != 0x7ff01000 || got.Process != m.System || got.StackBase-got.StackLimit != modeltest.StackSize {
			t.Errorf("%s: %v, TEB %v, of %v, stack %v to %v", l.Family(), got.State, got.Teb, got.Process, got.StackLimit, got.StackBase)
		}
		for _, f := range []string{"cid", "priority", "image", "win32_start_address"} {
			if got.Gaps[f] == nil {
				t.Errorf("%s: %s is not said to be unknown", l.Family(), f)
			}
		}
	}
}
