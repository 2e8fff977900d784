package resource

import (
	"errors"
	"fmt"
	"maps"
	"slices"

	"gokd/model"
	"gokd/model/mem"
	"gokd/model/thread"
	"gokd/model/unwind"
)

// waitIndex is the threads that wait for a resource: thread by the object it
// waits on.
type waitIndex struct {
	byObject map[mem.VA][]mem.VA
	onStack  map[mem.VA]mem.VA // thread -> the event in its own stack that it waits on
	err      error             // threads that could not be listed
}

// indexWaits lists the threads that wait for the reason WrResource, once a
// walk.
func (f *finder) indexWaits() *waitIndex {
	if f.index != nil {
		return f.index
	}
	x := &waitIndex{byObject: map[mem.VA][]mem.VA{}, onStack: map[mem.VA]mem.VA{}}
	waitsFor := thread.ResourceReason(f.k)
	f.index = x
	for at, err := range thread.Addresses(f.ctx, f.k) {
		if err != nil {
			x.err = errors.Join(x.err, err)
			continue
		}
		o := f.k.Object("_KTHREAD", at)
		state, err1 := o.Field("State").Uint()
		reason, err2 := o.Field("WaitReason").Uint()
		if err1 != nil || err2 != nil || thread.StateOf(f.k, uint8(state)) != thread.Waiting || reason != waitsFor {
			continue
		}
		block, err := o.Field("WaitBlockList").Pointer()
		if err != nil {
			continue
		}
		object, err := f.k.Object("_KWAIT_BLOCK", block).Field("Object").Pointer()
		if err != nil {
			continue
		}
		x.byObject[object] = append(x.byObject[object], at)
		limit, err1 := o.Field("StackLimit").Pointer()
		base, err2 := o.Field("StackBase").Pointer()
		if err1 == nil && err2 == nil && object >= limit && object < base {
			x.onStack[at] = object
		}
	}
	return x
}

// waiters finds the threads behind the resource's two counts.
func (f *finder) waiters(r *Resource, o model.Object) {
	x := f.indexWaits()
	if r.SharedWaiters > 0 && !r.Fast {
		r.WaitingShared = f.waitersOn(r, o.Field("SharedWaiters"), f.chain)
		if f.chain {
			f.sharedBySlot(r, x)
		}
		r.WaitingShared = order(r.WaitingShared, r.Entries)
	}
	if r.ExclusiveCount > 0 && len(r.WaitingExclusive) == 0 {
		r.WaitingExclusive = f.waitersOn(r, o.Field("ExclusiveWaiters"), f.exclusiveChain())
		if f.exclusiveChain() {
			f.exclusiveByRegisters(r, x)
		}
	}
	found, counted := r.Waiters()
	if found < counted {
		why := fmt.Errorf("%d of %d waiters identified", found, counted)
		if x.err != nil {
			why = fmt.Errorf("%w: %w", why, x.err)
		}
		r.Gaps.Set("waiters", why)
	}
}

// exclusiveChain: from 17763 on the chain entry names its thread, and
// exclusive waiters hang on a chain too.
func (f *finder) exclusiveChain() bool {
	return f.k.Object("_KWAIT_CHAIN_ENTRY", 0).Has("Thread")
}

// waitersOn gives the threads behind a waiters field: the field points at a
// dispatcher object on which they wait, or heads a chain of records on their
// stacks. An event in place of a chain, as earlier updates keep it, is told by
// the threads that wait on it.
func (f *finder) waitersOn(r *Resource, field model.Object, chain bool) []mem.VA {
	if err := field.Err(); err != nil {
		r.Gaps.Set("waiters", err)
		return nil
	}
	// In 14393 the field is a _KWAIT_CHAIN, one pointer wide; elsewhere a pointer.
	object, err := f.k.Space.Pointer(field.Addr())
	if !r.Gaps.Set("waiters", err) || object == 0 {
		return nil
	}
	if threads := f.index.byObject[object]; len(threads) > 0 || !chain {
		if !f.spend(len(threads)) {
			r.Gaps.Set("waiters", errWork)
			return nil
		}
		return f.onObject(object, threads)
	}
	return f.onChain(field.Addr(), object)
}

// onObject orders the threads that wait on an object as its own wait list
// does; a thread that the list does not reach comes last.
func (f *finder) onObject(object mem.VA, threads []mem.VA) []mem.VA {
	listed, _ := thread.Waiters(f.ctx, f.k, object, min(maxWaiters, maxWork-f.work))
	f.spend(len(listed))
	left := map[mem.VA]bool{}
	for _, t := range threads {
		left[t] = true
	}
	var list []mem.VA
	for _, t := range listed {
		if left[t] || thread.IsThread(f.k, t) {
			list = append(list, t)
			delete(left, t)
		}
	}
	for _, t := range threads {
		if left[t] {
			list = append(list, t)
		}
	}
	return list
}

// onChain follows a chain of _KWAIT_CHAIN_ENTRY. How the chain ends is inferred
// (no public source shows it), so an entry counts only if a thread waits for a
// resource on the very event in it, and the first that does not ends the walk.
func (f *finder) onChain(head, first mem.VA) []mem.VA {
	var list []mem.VA
	seen := map[mem.VA]bool{head: true}
	for at := first; at != 0 && !seen[at] && len(list) < maxWaiters && f.spend(1); {
		seen[at] = true
		e := f.k.Object("_KWAIT_CHAIN_ENTRY", at)
		event := e.Field("Event")
		if event.Err() != nil {
			break
		}
		threads := f.index.byObject[event.Addr()]
		if len(threads) != 1 {
			break
		}
		list = append(list, threads[0])
		next, err := f.k.Space.Pointer(at)
		if err != nil {
			break
		}
		at = next
	}
	return list
}

// sharedBySlot adds the shared waiters that the chain did not give: a thread
// that waits for shared access has reserved a slot in the owner table before,
// and waits on an event in its own stack. Only a thread whose wait no chain
// explains, and that has a slot in no other resource with shared waiters, is
// taken; the rest stays uncounted rather than guessed.
func (f *finder) sharedBySlot(r *Resource, x *waitIndex) {
	if len(r.WaitingShared) >= int(r.SharedWaiters) {
		return
	}
	f.prepareClaims()
	for i, e := range r.Entries {
		if len(r.WaitingShared) >= int(r.SharedWaiters) {
			return
		}
		_, waits := x.onStack[e.Thread]
		owner := r.Ownership == Exclusive && i == 0
		if waits && !owner && !e.Tagged && !f.claimed[e.Thread] && f.slots[e.Thread] == 1 {
			r.WaitingShared = append(r.WaitingShared, e.Thread)
			f.claimed[e.Thread] = true
		}
	}
}

// exclusiveByRegisters adds exclusive waiters that no chain explains and that
// have reserved no slot: the functions that wait keep the resource's address in
// a register that calls preserve, and the frames above still hold it.
func (f *finder) exclusiveByRegisters(r *Resource, x *waitIndex) {
	if len(r.WaitingExclusive) >= int(r.ExclusiveCount) || !f.spend(len(x.onStack)) {
		return
	}
	f.prepareClaims()
	for _, t := range slices.Sorted(maps.Keys(x.onStack)) { // in no known order
		if len(r.WaitingExclusive) >= int(r.ExclusiveCount) {
			break
		}
		if at, ok := f.onlyHeld(t); ok && at == r.Address && !f.claimed[t] {
			r.WaitingExclusive = append(r.WaitingExclusive, t)
			f.claimed[t] = true
		}
	}
}

// onlyHeld gives the contended resource that a waiting thread's frames name. A
// thread that stands in a resource's owner table does not wait for it this way,
// and one whose frames name several is not guessed at.
func (f *finder) onlyHeld(t mem.VA) (at mem.VA, ok bool) {
	for v := range f.held(t) {
		owners, contended := f.contended[v]
		if !contended || owners[t] {
			continue
		}
		if ok {
			return 0, false
		}
		at, ok = v, true
	}
	return at, ok
}

// waitFrames is how far up the stack of a waiting thread the resource is looked
// for: the wait itself, ExpWaitForResource, and the two routines above it.
const waitFrames = 8

// preserved are the registers that a call preserves: rbx, rbp, rsi, rdi, r12-r15.
const preserved = 1<<model.RBX | 1<<model.RBP | 1<<model.RSI | 1<<model.RDI | 0xf000

// held gives the values that a waiting thread's frames hold in preserved
// registers.
func (f *finder) held(t mem.VA) map[mem.VA]bool {
	if v, ok := f.registers[t]; ok {
		return v
	}
	values := map[mem.VA]bool{}
	if f.registers == nil {
		f.registers = map[mem.VA]map[mem.VA]bool{}
	}
	f.registers[t] = values
	stack, err := unwind.Thread(f.ctx, f.k, t, unwind.Options{MaxFrames: waitFrames, NoScan: true, NoArgs: true})
	if err != nil || stack == nil {
		return values
	}
	for _, fr := range stack.Frames {
		for i, v := range fr.Regs.GPR {
			if preserved&fr.Known&(1<<i) != 0 {
				values[mem.VA(v)] = true
			}
		}
	}
	return values
}

// prepareClaims looks once at every contended resource: which waiting threads
// its chains explain, and in how many owner tables each thread has a slot.
func (f *finder) prepareClaims() {
	if f.claimed != nil {
		return
	}
	f.claimed, f.slots = map[mem.VA]bool{}, map[mem.VA]int{}
	f.contended = map[mem.VA]map[mem.VA]bool{}
	head, err := f.k.Global("ExpSystemResourcesList")
	if err != nil {
		return
	}
	for o, err := range f.k.List(f.ctx, head, "_ERESOURCE", "SystemResourcesList", model.MaxResources) {
		if err != nil {
			return
		}
		shared, err1 := o.Field("NumberOfSharedWaiters").Uint()
		exclusive, err2 := o.Field("NumberOfExclusiveWaiters").Uint()
		if err1 != nil || err2 != nil || shared+exclusive == 0 {
			continue
		}
		r := &Resource{Address: o.Addr()}
		for _, t := range append(f.waitersOn(r, o.Field("SharedWaiters"), true), f.waitersOn(r, o.Field("ExclusiveWaiters"), f.exclusiveChain())...) {
			f.claimed[t] = true
		}
		f.owners(r, o)
		in := map[mem.VA]bool{}
		for _, e := range r.Entries {
			in[e.Thread] = true
			if shared > 0 {
				f.slots[e.Thread]++
			}
		}
		f.contended[r.Address] = in
	}
}

// order puts waiters in the order of their slots in the owner table, which is
// how kd lists them; those without a slot keep their order at the end.
func order(waiters []mem.VA, entries []Entry) []mem.VA {
	left := map[mem.VA]int{}
	for _, t := range waiters {
		left[t]++
	}
	var list []mem.VA
	for _, e := range entries {
		if !e.Tagged && left[e.Thread] > 0 {
			left[e.Thread]--
			list = append(list, e.Thread)
		}
	}
	for _, t := range waiters {
		if left[t] > 0 {
			left[t]--
			list = append(list, t)
		}
	}
	return list
}
