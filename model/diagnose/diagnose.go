// Package diagnose draws conclusions over what the walkers found: which thread
// stands behind an odd owner, and whether a thread waits for itself.
package diagnose

import (
	"fmt"
	"slices"
	"strings"

	"gokd/model/mem"
	"gokd/model/resource"
)

// Deadlock is a circle of threads that wait for each other.
type Deadlock struct {
	Kind        string // "self" or "cycle"
	Threads     []mem.VA
	Resources   []mem.VA
	Certain     bool
	Explanation string // lines for a reader who has not seen this before
}

// OwnerThread says whose an owner value of a resource is.
type OwnerThread struct {
	Entry  resource.Entry
	Thread mem.VA
	Stack  bool // the value points into the thread's stack
	Live   bool // into the part of the stack that is in use
	Waits  bool // the thread waits for this very resource
}

// StackOf maps a value to the thread in whose kernel stack it lies; live says
// that it lies where frames are, not in the free part below them.
type StackOf func(v uint64) (thread mem.VA, live, ok bool)

// Owners finds the threads behind the owner values of a resource that are no
// thread addresses.
func Owners(r *resource.Resource, stackOf StackOf) []OwnerThread {
	var list []OwnerThread
	waits := map[mem.VA]bool{}
	for _, t := range slices.Concat(r.WaitingShared, r.WaitingExclusive) {
		waits[t] = true
	}
	for _, e := range r.Owners() {
		if !e.Tagged {
			continue
		}
		o := OwnerThread{Entry: e, Thread: e.Thread}
		if o.Thread == 0 {
			t, live, ok := stackOf(e.Raw)
			if !ok {
				continue
			}
			o.Thread, o.Stack, o.Live = t, true, live
		}
		o.Waits = waits[o.Thread]
		list = append(list, o)
	}
	return list
}

// Self concludes that a thread has deadlocked on itself: it owns the resource
// under a value that ExSetResourceOwnerPointer stored, so the kernel's check
// "does this thread own it already" fails, and it waits for the resource that
// only it could release. A value in the free part of a stack is no certain sign of
// who owns the resource: the frame that it pointed into is gone.
func Self(r *resource.Resource, o OwnerThread) (Deadlock, bool) {
	if !o.Waits {
		return Deadlock{}, false
	}
	want := "shared"
	if slices.Contains(r.WaitingExclusive, o.Thread) {
		want = "exclusive"
	}
	var b strings.Builder
	fmt.Fprintf(&b, "Thread %s has deadlocked on itself: it owns resource %s and waits for %s access to it.\n", o.Thread, r.Address, want)
	b.WriteString("  The owner was set with ExSetResourceOwnerPointer, so the owner field no longer names the thread; when the\n")
	b.WriteString("  thread asks again, the kernel does not see that it owns the resource already, and lets it wait for itself.")
	if waiters, _ := r.Waiters(); waiters > 1 {
		fmt.Fprintf(&b, "\n  %d other threads wait behind it.", waiters-1)
	}
	return Deadlock{
		Kind: "self", Threads: []mem.VA{o.Thread}, Resources: []mem.VA{r.Address},
		Certain: o.Entry.Thread != 0 || o.Live, Explanation: b.String(),
	}, true
}
