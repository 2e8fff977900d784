// Package resource enumerates executive resources (_ERESOURCE) and finds who
// owns each and who waits for it.
//
// Owners stand in the resource's owner entry and table. Waiters are found from
// the threads: those that wait for the reason WrResource, matched with the
// resource by the object they wait on. Up to 9600 that is the resource's
// semaphore or event; later a shared waiter (and from 17763 on every waiter)
// waits on an event in a record on its own stack, which the resource's chain
// links.
package resource

import (
	"context"
	"errors"
	"fmt"
	"iter"

	"gokd/model"
	"gokd/model/mem"
)

// Ownership is how a resource is held.
type Ownership uint8

// The ways of holding a resource.
const (
	None Ownership = iota
	Exclusive
	Shared
)

// String gives the word that JSON promises.
func (o Ownership) String() string { return [...]string{"none", "exclusive", "shared"}[o] }

// Entry is one used entry of a resource's owner entry or table, in the order
// kd lists them.
type Entry struct {
	Raw   uint64 // OwnerThread as stored
	Count uint32 // acquisitions, or 1 for a thread that waits with a reserved slot
	// Granted entries own the resource; the others belong to threads that still
	// wait for shared access.
	Granted bool
	// Tagged is set where the low two bits mark a value stored by
	// ExSetResourceOwnerPointer; Thread is then the masked value if that is a
	// thread, else 0. For a plain entry Thread is Raw.
	Tagged bool
	Thread mem.VA
}

// Resource is one executive resource.
type Resource struct {
	Address         mem.VA
	Ownership       Ownership
	Fast            bool // a fast resource (17763 and later), whose owners are a list
	Flag            uint16
	ActiveCount     int16
	ActiveEntries   uint32
	ContentionCount uint32
	SharedWaiters   uint32 // as counted by the resource
	ExclusiveCount  uint32 // exclusive waiters, as counted by the resource

	Entries          []Entry
	WaitingShared    []mem.VA // threads
	WaitingExclusive []mem.VA
	Gaps             model.Gaps
}

// Held reports whether some thread holds the resource.
func (r *Resource) Held() bool { return r.Ownership != None }

// Contended reports whether threads wait for the resource.
func (r *Resource) Contended() bool { return r.SharedWaiters != 0 || r.ExclusiveCount != 0 }

// Waiters gives how many waiters were found and how many the resource counts.
func (r *Resource) Waiters() (found, counted int) {
	return len(r.WaitingShared) + len(r.WaitingExclusive), int(r.SharedWaiters) + int(r.ExclusiveCount)
}

// Owners gives the granted entries.
func (r *Resource) Owners() []Entry {
	var list []Entry
	for _, e := range r.Entries {
		if e.Granted {
			list = append(list, e)
		}
	}
	return list
}

// flagOwnedExclusive is ResourceOwnedExclusive in _ERESOURCE.Flag (ntddk.h).
const flagOwnedExclusive = 0x80

// Limits of one resource's lists.
const (
	maxOwners  = 1 << 16
	maxWaiters = 1 << 16
)

// maxWork limits the entries of owner tables, wait lists and chains that one
// walk reads in all. Real machines stay far below; many resources that name the
// same long table would take days.
const maxWork = 1 << 24

var errWork = errors.New("the owners and waiters of all resources are too many to be real")

// All yields every resource on the system's list (ExpSystemResourcesList links
// _ERESOURCE.SystemResourcesList), waiters included. A broken list is yielded
// as one error after what could be reached from both ends.
func All(ctx context.Context, k *model.Kernel) iter.Seq2[*Resource, error] {
	return func(yield func(*Resource, error) bool) {
		head, err := k.Global("ExpSystemResourcesList")
		if err != nil {
			yield(nil, err)
			return
		}
		w := newFinder(ctx, k)
		for o, err := range k.List(ctx, head, "_ERESOURCE", "SystemResourcesList", model.MaxResources) {
			if err != nil {
				yield(nil, err)
				return
			}
			r := w.read(o)
			if !yield(r, nil) {
				return
			}
		}
	}
}

// At reads the resource at an address.
func At(ctx context.Context, k *model.Kernel, at mem.VA) (*Resource, error) {
	o := k.Object("_ERESOURCE", at)
	if _, err := o.Field("ActiveCount").Uint(); err != nil {
		return nil, err
	}
	r := newFinder(ctx, k).read(o)
	if err := r.plausible(k); err != nil {
		return r, err
	}
	return r, nil
}

// plausible says why what lies at the address is no resource.
func (r *Resource) plausible(k *model.Kernel) error {
	flink, err := k.Space.Pointer(r.Address)
	if err != nil {
		return err
	}
	back, err := k.Space.Pointer(flink + 8)
	if err != nil || back != r.Address {
		return fmt.Errorf("%s: not linked into the list of resources: it may be none, or be deleted", r.Address)
	}
	return nil
}

// finder reads resources; it keeps what is learned of threads for the walk.
type finder struct {
	ctx   context.Context
	k     *model.Kernel
	fast  bool // the build has fast resources
	chain bool // shared waiters hang on a chain
	work  int  // entries read so far, see maxWork
	index *waitIndex
	// claimed are the waiting threads that some chain explains, slots the number
	// of contended resources in whose owner table a thread stands.
	claimed map[mem.VA]bool
	slots   map[mem.VA]int
	// contended are the resources with waiters, each with the threads that stand
	// in its owner table.
	contended map[mem.VA]map[mem.VA]bool
	// registers are the values that a waiting thread's frames hold, by thread.
	registers map[mem.VA]map[mem.VA]bool
}

// spend takes n entries off what a walk may read; ok is false where that is
// used up.
func (f *finder) spend(n int) (ok bool) {
	if n > maxWork-f.work {
		return false
	}
	f.work += n
	return true
}

func newFinder(ctx context.Context, k *model.Kernel) *finder {
	f := &finder{ctx: ctx, k: k}
	// A fast resource is told by its list of owners, which must lie where others
	// have their first owner, as it does on every build that has both.
	head := k.Object("_FAST_ERESOURCE_INTERNAL", 0).Field("OwnerEntryListHead")
	owner := k.Object("_ERESOURCE", 0).Field("OwnerEntry")
	f.fast = head.Err() == nil && owner.Err() == nil && head.Addr() == owner.Addr()
	f.chain = k.Object("_KWAIT_CHAIN_ENTRY", 0).Has("Event")
	return f
}

func (f *finder) read(o model.Object) *Resource {
	r := &Resource{Address: o.Addr()}
	g := &r.Gaps
	r.Flag = uint16(g.Uint("flag", o.Field("Flag")))
	r.ActiveCount = int16(g.Uint("active_count", o.Field("ActiveCount")))
	r.ActiveEntries = uint32(g.Uint("active_entries", o.Field("ActiveEntries")))
	r.ContentionCount = uint32(g.Uint("contention_count", o.Field("ContentionCount")))
	r.SharedWaiters = uint32(g.Uint("shared_waiters", o.Field("NumberOfSharedWaiters")))
	r.ExclusiveCount = uint32(g.Uint("exclusive_waiters", o.Field("NumberOfExclusiveWaiters")))
	switch {
	case r.ActiveCount == 0:
	case r.Flag&flagOwnedExclusive != 0:
		r.Ownership = Exclusive
	default:
		r.Ownership = Shared
	}
	if f.fast && f.isFast(r.Address) {
		r.Fast = true
		f.fastOwners(r)
	} else {
		f.owners(r, o)
	}
	if r.Contended() {
		f.waiters(r, o)
	}
	r.grant()
	return r
}

// grant marks the entries that own the resource. With an exclusive owner that
// is the owner entry alone; else every entry whose thread does not wait.
func (r *Resource) grant() {
	if r.Fast {
		return // its entries say themselves who waits
	}
	waits := map[mem.VA]bool{}
	for _, t := range r.WaitingShared {
		waits[t] = true
	}
	for i := range r.Entries {
		e := &r.Entries[i]
		switch r.Ownership {
		case Exclusive:
			e.Granted = i == 0
		case Shared:
			e.Granted = e.Tagged || !waits[e.Thread]
		}
	}
}
