package thread

import "fmt"

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
