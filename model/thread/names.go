package thread

import (
	"fmt"
	"slices"
	"strings"

	"gokd/model"
	"gokd/model/types"
)

// State is KTHREAD_STATE.
type State uint8

// The thread states (_KTHREAD_STATE of the public type tables; 9 from 14393 on).
const (
	Initialized State = iota
	Ready
	Running
	Standby
	Terminated
	Waiting
	Transition
	DeferredReady
	GateWait
	WaitingForProcessInSwap
)

var stateNames = [...]string{"Initialized", "Ready", "Running", "Standby", "Terminated", "Waiting",
	"Transition", "DeferredReady", "GateWait", "WaitingForProcessInSwap"}

// String gives the name that JSON promises.
func (s State) String() string {
	if int(s) < len(stateNames) {
		return stateNames[s]
	}
	return fmt.Sprintf("State%d", uint8(s))
}

// waitReasons is _KWAIT_REASON of 22000; earlier builds have fewer, and number
// 14 was WrEventPair up to 7601.
var waitReasons = [...]string{"Executive", "FreePage", "PageIn", "PoolAllocation", "DelayExecution",
	"Suspended", "UserRequest", "WrExecutive", "WrFreePage", "WrPageIn", "WrPoolAllocation",
	"WrDelayExecution", "WrSuspended", "WrUserRequest", "WrSpare0", "WrQueue", "WrLpcReceive",
	"WrLpcReply", "WrVirtualMemory", "WrPageOut", "WrRendezvous", "WrKeyedEvent", "WrTerminated",
	"WrProcessInSwap", "WrCpuRateControl", "WrCalloutStack", "WrKernel", "WrResource", "WrPushLock",
	"WrMutex", "WrQuantumEnd", "WrDispatchInt", "WrPreempted", "WrYieldExecution", "WrFastMutex",
	"WrGuardedMutex", "WrRundown", "WrAlertByThreadId", "WrDeferredPreempt", "WrPhysicalFault", "WrIoRing"}

// WrResource is the wait reason of a thread that waits for an ERESOURCE.
const WrResource = 27

const wrSpare0, lastWithEventPair = 14, 7601

// ReasonName names a wait reason as the given build does.
func ReasonName(reason uint8, build uint32) string {
	switch {
	case reason == wrSpare0 && build <= lastWithEventPair:
		return "WrEventPair"
	case int(reason) < len(waitReasons):
		return waitReasons[reason]
	}
	return fmt.Sprintf("WaitReason%d", reason)
}

// Reason names a wait reason as the kernel's own types do; where they do not, as
// its build does.
func Reason(k *model.Kernel, reason uint8) string {
	if name, ok := memberOf(k, "_KWAIT_REASON", int64(reason)); ok && !strings.HasPrefix(name, "Maximum") {
		return name
	}
	return ReasonName(reason, k.Build)
}

// ResourceReason gives the number of the wait reason WrResource in this kernel.
func ResourceReason(k *model.Kernel) uint64 {
	if e := enumOf(k, "_KWAIT_REASON"); e != nil {
		if v, ok := e.Consts["WrResource"]; ok && v >= 0 {
			return uint64(v)
		}
	}
	return WrResource
}

// StateOf gives the state that a number in _KTHREAD.State means in this kernel.
func StateOf(k *model.Kernel, number uint8) State {
	if name, ok := memberOf(k, "_KTHREAD_STATE", int64(number)); ok {
		if i := slices.Index(stateNames[:], name); i >= 0 {
			return State(i)
		}
	}
	return State(number)
}

func enumOf(k *model.Kernel, name string) *types.Type {
	if k.Types == nil {
		return nil
	}
	t, err := k.Types.Type(name)
	if err != nil || t.Kind != types.KindEnum {
		return nil
	}
	return t
}

// memberOf gives the one member of an enumeration that has a value.
func memberOf(k *model.Kernel, enum string, value int64) (name string, ok bool) {
	e := enumOf(k, enum)
	if e == nil {
		return "", false
	}
	for member, v := range e.Consts {
		if v != value {
			continue
		}
		if ok {
			return "", false
		}
		name, ok = member, true
	}
	return name, ok
}

// Types of dispatcher objects (_KOBJECTS), after masking the lock bit.
const (
	objectNotificationEvent    = 0
	objectSynchronizationEvent = 1
	objectMutant               = 2
	objectProcess              = 3
	objectQueue                = 4
	objectSemaphore            = 5
	objectThread               = 6
	objectGate                 = 7
	objectNotificationTimer    = 8
	objectSynchronizationTimer = 9
	objectPriQueue             = 0x15 // 8 and later; EventPair before
	objectTimer2Notification   = 0x18
	objectTimer2Sync           = 0x19

	// lockBit is set in DISPATCHER_HEADER.Type while the object is locked.
	lockBit = 0x80
)

var objectNames = map[uint8]string{
	objectNotificationEvent: "NotificationEvent", objectSynchronizationEvent: "SynchronizationEvent",
	objectMutant: "Mutant", objectProcess: "Process", objectQueue: "Queue", objectSemaphore: "Semaphore",
	objectThread: "Thread", objectGate: "Gate", objectNotificationTimer: "NotificationTimer",
	objectSynchronizationTimer: "SynchronizationTimer", objectPriQueue: "Queue",
	objectTimer2Notification: "NotificationTimer", objectTimer2Sync: "SynchronizationTimer",
}
