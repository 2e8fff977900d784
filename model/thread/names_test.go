package thread_test

import (
	"testing"

	"gokd/model"
	"gokd/model/thread"
	"gokd/model/types"
)

// renumbered is a store whose enumerations have other numbers.
type renumbered struct {
	types.Store
	enums map[string]map[string]int64
}

func (s renumbered) Type(name string) (*types.Type, error) {
	if c, ok := s.enums[name]; ok {
		return &types.Type{Name: name, Kind: types.KindEnum, Size: 4, Consts: c}, nil
	}
	return s.Store.Type(name)
}

// TestReason_fromTypes names reasons and states as the kernel's own types do.
func TestReason_fromTypes(t *testing.T) {
	t.Parallel()
	k := &model.Kernel{Build: 28000, Types: renumbered{types.Layouts()[0], map[string]map[string]int64{
		"_KWAIT_REASON":  {"Executive": 0, "WrFuture": 41, "WrResource": 30, "MaximumWaitReason": 60, "WrOne": 7, "WrOther": 7},
		"_KTHREAD_STATE": {"Waiting": 3, "Running": 2, "GateWaitObsolete": 8},
	}}}
	for reason, want := range map[uint8]string{0: "Executive", 41: "WrFuture", 30: "WrResource", 60: "WaitReason60", 7: "WrExecutive", 5: "Suspended"} {
		if got := thread.Reason(k, reason); got != want {
			t.Errorf("reason %d = %s, want %s", reason, got, want)
		}
	}
	if n := thread.ResourceReason(k); n != 30 {
		t.Errorf("WrResource is %d, want 30", n)
	}
	for number, want := range map[uint8]thread.State{3: thread.Waiting, 2: thread.Running, 8: thread.GateWait, 1: thread.Ready} {
		if got := thread.StateOf(k, number); got != want {
			t.Errorf("state %d = %s, want %s", number, got, want)
		}
	}
	none := &model.Kernel{Build: 7601}
	if got := thread.Reason(none, 14); got != "WrEventPair" {
		t.Errorf("reason 14 of 7601 without types = %s", got)
	}
	if thread.ResourceReason(none) != thread.WrResource || thread.StateOf(none, 5) != thread.Waiting {
		t.Error("without types the known numbers do not hold")
	}
	// Every embedded family's own names agree with those that are known.
	for _, l := range types.Layouts() {
		k := &model.Kernel{Build: l.Origin().Build, Types: l}
		for reason := range uint8(37) {
			if got, want := thread.Reason(k, reason), thread.ReasonName(reason, k.Build); got != want {
				t.Errorf("%s: reason %d = %s, want %s", l.Family(), reason, got, want)
			}
		}
		if thread.ResourceReason(k) != thread.WrResource {
			t.Errorf("%s: WrResource is %d", l.Family(), thread.ResourceReason(k))
		}
		for state := range uint8(10) {
			if thread.StateOf(k, state) != thread.State(state) {
				t.Errorf("%s: state %d is %s", l.Family(), state, thread.StateOf(k, state))
			}
		}
	}
}
