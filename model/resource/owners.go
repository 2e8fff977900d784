package resource

import (
	"fmt"

	"gokd/model"
	"gokd/model/mem"
	"gokd/model/thread"
)

// owners reads OwnerEntry and the owner table. Entry 0 of the table holds its
// size in place of a count; the others are entries like OwnerEntry (layout in
// the public _OWNER_ENTRY type; the table's rule as ReactOS's
// resource.c has it).
func (f *finder) owners(r *Resource, o model.Object) {
	first := o.Field("OwnerEntry")
	f.entry(r, first, r.Ownership == Exclusive)
	table, err := o.Field("OwnerTable").Pointer()
	if !r.Gaps.Set("owners", err) || table == 0 {
		return
	}
	t := f.k.Object("_OWNER_ENTRY", table)
	size, err := t.Field("TableSize").Uint()
	if !r.Gaps.Set("owners", err) {
		return
	}
	if size > maxOwners {
		r.Gaps.Set("owners", fmt.Errorf("owner table at %#x: %d entries is no real size", uint64(table), size))
		return
	}
	if !f.spend(int(size)) {
		r.Gaps.Set("owners", errWork)
		return
	}
	step := mem.VA(t.Type().Size)
	for i := mem.VA(1); i < mem.VA(size); i++ {
		f.entry(r, f.k.Object("_OWNER_ENTRY", table+i*step), false)
		if r.Gaps["owners"] != nil {
			return
		}
	}
}

// entry adds a used owner entry. keepEmpty keeps the exclusive owner's entry
// even while its value is in flux.
func (f *finder) entry(r *Resource, o model.Object, keepEmpty bool) {
	raw, err := o.Field("OwnerThread").Uint()
	count, err2 := o.Field("OwnerCount").Uint()
	if !r.Gaps.Set("owners", err) || !r.Gaps.Set("owners", err2) {
		return
	}
	if raw == 0 && !keepEmpty {
		return
	}
	r.Entries = append(r.Entries, f.resolve(raw, uint32(count)))
}

// ownerTag is what ExSetResourceOwnerPointer sets in the pointer it stores.
const ownerTag = 3

func (f *finder) resolve(raw uint64, count uint32) Entry {
	e := Entry{Raw: raw, Count: count, Thread: mem.VA(raw)}
	if raw&ownerTag == ownerTag {
		e.Tagged, e.Thread = true, 0
		if at := mem.VA(raw &^ ownerTag); thread.IsThread(f.k, at) {
			e.Thread = at
		}
	}
	return e
}

// isFast tells a fast resource by its shape: in place of an owner entry it has
// a list head whose neighbour points back at it.
func (f *finder) isFast(at mem.VA) bool {
	head := f.k.Object("_FAST_ERESOURCE_INTERNAL", at).Field("OwnerEntryListHead")
	if head.Err() != nil {
		return false
	}
	first, err := f.k.Space.Pointer(head.Addr())
	if err != nil || first == 0 {
		return false
	}
	back, err := f.k.Space.Pointer(first + 8)
	return err == nil && back == head.Addr()
}

// fastOwners reads the list of a fast resource's owner entries.
func (f *finder) fastOwners(r *Resource) {
	head := f.k.Object("_FAST_ERESOURCE_INTERNAL", r.Address).Field("OwnerEntryListHead")
	for o, err := range f.k.List(f.ctx, head.Addr(), "_FAST_OWNER_ENTRY_INTERNAL", "ListEntry", maxOwners) {
		if err == nil && !f.spend(1) {
			err = errWork
		}
		if !r.Gaps.Set("owners", err) {
			return
		}
		at := r.Gaps.Uint("owners", o.Field("ThreadAddress"))
		waiting := r.Gaps.Uint("owners", o.Field("IsWaiting")) != 0
		exclusive := r.Gaps.Uint("owners", o.Field("CallerExclusive")) != 0
		e := f.resolve(at, 1)
		e.Granted = !waiting
		switch {
		case !waiting:
			r.Entries = append(r.Entries, e)
		case exclusive:
			r.WaitingExclusive = append(r.WaitingExclusive, mem.VA(at))
		default:
			r.Entries = append(r.Entries, e)
			r.WaitingShared = append(r.WaitingShared, mem.VA(at))
		}
	}
}
