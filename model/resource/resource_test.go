package resource_test

import (
	"context"
	"testing"

	"github.com/google/go-cmp/cmp"

	"gokd/model"
	"gokd/model/mem"
	"gokd/model/modeltest"
	"gokd/model/resource"
	"gokd/model/types"
)

const wrResource = 27

// contended is a machine with a resource that a thread owns, others wait for.
type contended struct {
	*modeltest.Machine
	res, owner   mem.VA
	shared, excl []mem.VA
}

const (
	eventType, semaphoreType = 1, 5
)

// build makes the machine: one owner, two shared waiters, two exclusive ones.
func build(t *testing.T, l *types.Layout, exclusive bool) *contended {
	m := &contended{Machine: modeltest.New(t, l)}
	m.owner = m.Thread(m.System, 0x10)
	m.res = m.Resource()
	table := m.Alloc(0x10 * 8)
	m.Set(table, 8, "_OWNER_ENTRY", "TableSize")
	m.Set(m.res, uint64(table), "_ERESOURCE", "OwnerTable")
	m.Set(m.res, 1, "_ERESOURCE", "ActiveCount")
	m.Set(m.res, 1, "_ERESOURCE", "ActiveEntries")
	m.Set(m.res, 7, "_ERESOURCE", "ContentionCount")
	m.Set(m.res, uint64(m.owner), "_ERESOURCE", "OwnerEntry", "OwnerThread")
	m.Set(m.res, 3, "_ERESOURCE", "OwnerEntry", "OwnerCount")
	if exclusive {
		m.Set(m.res, 0x80, "_ERESOURCE", "Flag")
	}
	for i := range 2 {
		w := m.Thread(m.System, uint64(0x20+4*i))
		m.shared = append(m.shared, w)
		slot := table + mem.VA(0x10*(1+2*i)) // a free slot between them
		m.Set(slot, uint64(w), "_OWNER_ENTRY", "OwnerThread")
		m.Set(slot, 1, "_OWNER_ENTRY", "OwnerCount")
		m.excl = append(m.excl, m.Thread(m.System, uint64(0x40+4*i)))
	}
	m.Set(m.res, 2, "_ERESOURCE", "NumberOfSharedWaiters")
	m.Set(m.res, 2, "_ERESOURCE", "NumberOfExclusiveWaiters")
	m.waitShared()
	m.waitExclusive()
	return m
}

func (m *contended) field(name string) mem.VA {
	off, _ := m.Field("_ERESOURCE", name)
	return m.res + mem.VA(off)
}

func (m *contended) waitShared() {
	if !m.Has("_KWAIT_CHAIN_ENTRY", "Event") {
		sem := m.Alloc(0x40)
		m.Put64(m.field("SharedWaiters"), uint64(sem))
		for _, w := range m.shared {
			m.Wait(w, wrResource, sem, semaphoreType)
		}
		return
	}
	m.chain(m.field("SharedWaiters"), m.shared)
}

func (m *contended) waitExclusive() {
	if !m.Has("_KWAIT_CHAIN_ENTRY", "Thread") {
		event := m.Alloc(0x40)
		m.Put64(m.field("ExclusiveWaiters"), uint64(event))
		for _, w := range m.excl {
			m.Wait(w, wrResource, event, eventType)
		}
		return
	}
	m.chain(m.field("ExclusiveWaiters"), m.excl)
}

// chain links records on the waiters' stacks, each with the event its thread
// waits on.
func (m *contended) chain(head mem.VA, waiters []mem.VA) {
	event, _ := m.Field("_KWAIT_CHAIN_ENTRY", "Event")
	link := head
	for _, w := range waiters {
		e := m.OnStack(w, 0x400)
		m.Put64(link, uint64(e))
		m.Wait(w, wrResource, e+mem.VA(event), eventType)
		if m.Has("_KWAIT_CHAIN_ENTRY", "Thread") {
			m.Set(e, uint64(w), "_KWAIT_CHAIN_ENTRY", "Thread")
		}
		link = e
	}
	m.Put64(link, 0)
}

func one(t *testing.T, k *model.Kernel) *resource.Resource {
	t.Helper()
	var got *resource.Resource
	for r, err := range resource.All(context.Background(), k) {
		if err != nil || got != nil {
			t.Fatalf("resource %v, error %v", r, err)
		}
		got = r
	}
	if got == nil {
		t.Fatal("no resource")
	}
	return got
}

// TestAll_families runs one scene on every family, since each keeps its waiters
// in its own way.
func TestAll_families(t *testing.T) {
	t.Parallel()
	for _, l := range types.Layouts() {
		for name, exclusive := range map[string]bool{"exclusive": true, "shared": false} {
			t.Run(l.Family()+" "+name, func(t *testing.T) {
				t.Parallel()
				m := build(t, l, exclusive)
				r := one(t, m.Open())
				want := resource.Shared
				if exclusive {
					want = resource.Exclusive
				}
				if r.Ownership != want || r.ContentionCount != 7 || r.Address != m.res {
					t.Errorf("%v owned, contention %d at %v", r.Ownership, r.ContentionCount, r.Address)
				}
				if diff := cmp.Diff(m.shared, r.WaitingShared); diff != "" {
					t.Errorf("shared waiters (-want +got):\n%s", diff)
				}
				if diff := cmp.Diff(m.excl, r.WaitingExclusive); diff != "" {
					t.Errorf("exclusive waiters (-want +got):\n%s", diff)
				}
				owners := []resource.Entry{{Raw: uint64(m.owner), Count: 3, Granted: true, Thread: m.owner}}
				if diff := cmp.Diff(owners, r.Owners()); diff != "" {
					t.Errorf("owners (-want +got):\n%s", diff)
				}
				if len(r.Gaps) > 0 {
					t.Errorf("gaps: %v", r.Gaps)
				}
			})
		}
	}
}

// TestAll_brokenChain: a chain that leads nowhere must not lose the shared
// waiters, whose slots in the owner table name them, nor count strangers.
func TestAll_brokenChain(t *testing.T) {
	t.Parallel()
	for _, l := range types.Layouts() {
		t.Run(l.Family(), func(t *testing.T) {
			t.Parallel()
			m := build(t, l, true)
			if !m.Has("_KWAIT_CHAIN_ENTRY", "Event") {
				return // no chain in this family: nothing to break
			}
			m.Put64(m.field("SharedWaiters"), uint64(m.OnStack(m.owner, 0x800)))
			r := one(t, m.Open())
			if diff := cmp.Diff(m.shared, r.WaitingShared); diff != "" {
				t.Errorf("shared waiters (-want +got):\n%s", diff)
			}
		})
	}
}

// TestAll_unidentified: where a count is higher than what can be shown, it is said.
func TestAll_unidentified(t *testing.T) {
	t.Parallel()
	for _, l := range types.Layouts() {
		m := build(t, l, true)
		m.Set(m.res, 9, "_ERESOURCE", "NumberOfExclusiveWaiters")
		r := one(t, m.Open())
		found, counted := r.Waiters()
		if found != 4 || counted != 11 || r.Gaps["waiters"] == nil {
			t.Errorf("%s: %d of %d identified, gap %v", l.Family(), found, counted, r.Gaps["waiters"])
		}
	}
}

// TestOwners_tagged: values that ExSetResourceOwnerPointer stored.
func TestOwners_tagged(t *testing.T) {
	t.Parallel()
	for _, l := range types.Layouts() {
		m := build(t, l, true)
		on := m.OnStack(m.shared[0], 0x300)
		m.Set(m.res, uint64(on)|3, "_ERESOURCE", "OwnerEntry", "OwnerThread")
		other := m.Resource()
		m.Set(other, 0x80, "_ERESOURCE", "Flag")
		m.Set(other, 1, "_ERESOURCE", "ActiveCount")
		m.Set(other, uint64(m.owner)|3, "_ERESOURCE", "OwnerEntry", "OwnerThread")
		m.Set(other, 1, "_ERESOURCE", "OwnerEntry", "OwnerCount")
		k := m.Open()
		var got []resource.Entry
		for r, err := range resource.All(context.Background(), k) {
			if err != nil {
				t.Fatal(err)
			}
			got = append(got, r.Owners()...)
		}
		want := []resource.Entry{
			{Raw: uint64(on) | 3, Count: 3, Granted: true, Tagged: true},
			{Raw: uint64(m.owner) | 3, Count: 1, Granted: true, Tagged: true, Thread: m.owner},
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%s (-want +got):\n%s", l.Family(), diff)
		}
	}
}

// TestAll_hostile: sizes and pointers that lie end in a gap, not in a loop.
func TestAll_hostile(t *testing.T) {
	t.Parallel()
	l := types.Embedded(19041)[0]
	m := build(t, l, false)
	off, _ := m.Field("_ERESOURCE", "OwnerTable")
	table := m.Alloc(0x40)
	m.Put64(m.res+mem.VA(off), uint64(table))
	m.Set(table, 0xffffffff, "_OWNER_ENTRY", "TableSize")
	m.Put64(m.field("SharedWaiters"), uint64(m.field("SharedWaiters")))
	r := one(t, m.Open())
	if r.Gaps["owners"] == nil {
		t.Error("a table of four billion owners was believed")
	}
}

// TestAll_fast: a fast resource has a list of owner entries in place of the
// owner entry and the table.
func TestAll_fast(t *testing.T) {
	t.Parallel()
	for _, l := range types.Layouts() {
		m := modeltest.New(t, l)
		if !m.Has("_FAST_ERESOURCE_INTERNAL", "OwnerEntryListHead") {
			continue
		}
		owner, waiter := m.Thread(m.System, 0x10), m.Thread(m.System, 0x14)
		res := m.Resource()
		off, _ := m.Field("_FAST_ERESOURCE_INTERNAL", "OwnerEntryListHead")
		ring := []mem.VA{res + mem.VA(off)}
		for _, th := range []mem.VA{owner, waiter} {
			e := m.Alloc(0x60)
			m.Set(e, uint64(th), "_FAST_OWNER_ENTRY_INTERNAL", "ThreadAddress")
			ring = append(ring, e)
			if th == waiter {
				m.Set(e, 1, "_FAST_OWNER_ENTRY_INTERNAL", "IsWaiting")
				m.Set(e, 1, "_FAST_OWNER_ENTRY_INTERNAL", "CallerExclusive")
			}
		}
		m.Link(ring...)
		m.Set(res, 1, "_ERESOURCE", "ActiveCount")
		m.Set(res, 1, "_ERESOURCE", "NumberOfExclusiveWaiters")
		r := one(t, m.Open())
		if !r.Fast || len(r.Owners()) != 1 || r.Owners()[0].Thread != owner {
			t.Errorf("%s: fast %v, owners %v", l.Family(), r.Fast, r.Owners())
		}
		if diff := cmp.Diff([]mem.VA{waiter}, r.WaitingExclusive); diff != "" {
			t.Errorf("%s: exclusive waiters (-want +got):\n%s", l.Family(), diff)
		}
	}
}
