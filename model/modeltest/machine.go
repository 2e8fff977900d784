// Package modeltest makes small machines for tests: structures laid out for a
// build in memory of a few pages, opened through model.Load like any dump. Open
// gives them as blocks of virtual memory, as a triage dump holds them; OpenPaged
// as physical memory with page tables, of which each page has a state. It also
// opens the kernels of dump files.
//
// It writes fields by the embedded layouts and knows no rule of the walkers.
package modeltest

import (
	"context"
	"encoding/binary"
	"testing"

	"gokd/model"
	"gokd/model/mem"
	"gokd/model/types"
)

// Machine is a machine being made.
type Machine struct {
	t      testing.TB
	Layout *types.Layout
	pages  map[mem.VA]*[mem.PageSize]byte
	next   mem.VA

	// Unknown makes the kernel one that no layout fits: its debugger data block
	// gives a size of _ETHREAD that no build has.
	Unknown bool

	System  mem.VA // the process
	procs   []mem.VA
	threads map[mem.VA][]mem.VA
	res     []mem.VA
	modules []mem.VA // loader entries
	prcbs   []mem.VA // of the processors behind the first

	// What a machine with page tables has besides.
	variables mem.VA // the next free one
	globals   map[string]mem.VA
	guid      types.GUID // of the kernel
	age       uint32
	real      *types.Globals // of the kernel that it is; nil: it is none
	states    map[mem.VA]pageState
	large     map[mem.VA]bool // 2 MB pages
	lost      map[mem.VA]bool // 2 MB whose page table is not in the dump
	spaces    []*Machine
	memory    *Memory
	root      mem.PA // of the page tables

	// An address space of some processes: parent's, but for [first, last].
	parent      *Machine
	first, last mem.VA
	owners      []mem.VA
}

// Addresses of what every machine has.
const (
	base      = mem.VA(0xfffff80000200000)
	debugData = base + 0x1000
	procHead  = base + 0x2000
	resHead   = base + 0x2100
	blockList = base + 0x2200
	modHead   = base + 0x2300
	prcb      = base + 0x4000
	objects   = mem.VA(0xffffa80000000000)
	stacks    = mem.VA(0xffffd00000000000)
)

// StackSize is the size of every thread's kernel stack in bytes.
const StackSize = 0x6000

// New starts a machine of a layout, with the process System.
func New(t testing.TB, l *types.Layout) *Machine {
	t.Helper()
	m := &Machine{t: t, Layout: l, pages: map[mem.VA]*[mem.PageSize]byte{}, next: objects, threads: map[mem.VA][]mem.VA{}}
	m.guid, m.age = imageGUID, 1
	m.globals, m.states = map[string]mem.VA{}, map[mem.VA]pageState{}
	m.large, m.lost = map[mem.VA]bool{}, map[mem.VA]bool{}
	m.System = m.Process(4, 0, "System")
	return m
}

// Alloc gives n bytes of zeroed memory.
func (m *Machine) Alloc(n int) mem.VA {
	at := m.next
	m.next = (m.next + mem.VA(n) + 0x3f) &^ 0x3f
	for p := at.Page(); p < m.next; p += mem.PageSize {
		m.page(p)
	}
	return at
}

func (m *Machine) page(at mem.VA) *[mem.PageSize]byte {
	if m.parent != nil && m.private(at) == nil {
		return m.parent.page(at)
	}
	p := m.pages[at.Page()]
	if p == nil {
		p = new([mem.PageSize]byte)
		m.pages[at.Page()] = p
	}
	return p
}

// Put writes bytes.
func (m *Machine) Put(at mem.VA, b ...byte) {
	for len(b) > 0 {
		n := copy(m.page(at)[uint64(at)%mem.PageSize:], b)
		at, b = at+mem.VA(n), b[n:]
	}
}

// Put64 writes a quantity.
func (m *Machine) Put64(at mem.VA, v uint64) {
	m.Put(at, binary.LittleEndian.AppendUint64(nil, v)...)
}

// Field finds a field by its path.
func (m *Machine) Field(typ string, path ...string) (off uint32, f types.Field) {
	m.t.Helper()
	typed, err := m.Layout.Type(typ)
	if err != nil {
		m.t.Fatal(err)
	}
	for _, name := range path {
		var ok bool
		if f, ok = typed.Field(name); !ok {
			m.t.Fatalf("%s has no field %s in %s", typed.Name, name, m.Layout.Family())
		}
		off, typed = off+f.Offset, f.Type
	}
	return off, f
}

// Has reports whether a type of the layout has a field.
func (m *Machine) Has(typ, field string) bool {
	t, err := m.Layout.Type(typ)
	if err != nil {
		return false
	}
	_, ok := t.Field(field)
	return ok
}

// Set writes an integer field; bit-fields keep their neighbours.
func (m *Machine) Set(at mem.VA, v uint64, typ string, path ...string) {
	m.t.Helper()
	off, f := m.Field(typ, path...)
	size := f.Type.Size
	var b [8]byte
	if _, err := m.ReadVirtual(b[:size], at+mem.VA(off)); err != nil {
		clear(b[:])
	}
	if f.BitLen > 0 {
		mask := uint64(1)<<f.BitLen - 1
		v = binary.LittleEndian.Uint64(b[:])&^(mask<<f.BitPos) | v&mask<<f.BitPos
	}
	binary.LittleEndian.PutUint64(b[:], v)
	m.Put(at+mem.VA(off), b[:size]...)
}

// Link makes a ring of list entries.
func (m *Machine) Link(ring ...mem.VA) {
	for i, at := range ring {
		next := ring[(i+1)%len(ring)]
		m.Put64(at, uint64(next))
		m.Put64(next+8, uint64(at))
	}
}

// Process adds a process to the machine.
func (m *Machine) Process(pid, parent uint64, image string) mem.VA {
	t, err := m.Layout.Type("_EPROCESS")
	if err != nil {
		m.t.Fatal(err)
	}
	at := m.Alloc(int(t.Size))
	m.Set(at, 3, "_EPROCESS", "Pcb", "Header", "Type")
	m.Set(at, pid, "_EPROCESS", "UniqueProcessId")
	m.Set(at, parent, "_EPROCESS", "InheritedFromUniqueProcessId")
	off, _ := m.Field("_EPROCESS", "ImageFileName")
	m.Put(at+mem.VA(off), []byte(image)...)
	m.procs = append(m.procs, at)
	return at
}

// Thread adds a thread of a process, running on nothing and waiting for nothing.
func (m *Machine) Thread(process mem.VA, tid uint64) mem.VA {
	t, err := m.Layout.Type("_ETHREAD")
	if err != nil {
		m.t.Fatal(err)
	}
	at := m.Alloc(int(t.Size))
	n := mem.VA(0)
	for _, list := range m.threads {
		n += mem.VA(len(list))
	}
	limit := stacks + n*2*StackSize
	m.Set(at, 6, "_ETHREAD", "Tcb", "Header", "Type")
	m.Set(at, uint64(process), "_ETHREAD", "Tcb", "Process")
	m.Set(at, uint64(process), "_ETHREAD", "Tcb", "ApcState", "Process")
	m.Set(at, tid, "_ETHREAD", "Cid", "UniqueThread")
	m.Set(at, uint64(limit), "_ETHREAD", "Tcb", "StackLimit")
	m.Set(at, uint64(limit+StackSize), "_ETHREAD", "Tcb", "StackBase")
	m.Set(at, uint64(limit+StackSize-0x200), "_ETHREAD", "Tcb", "InitialStack")
	m.Set(at, uint64(limit+StackSize-0x1000), "_ETHREAD", "Tcb", "KernelStack")
	for p := limit; p < limit+StackSize; p += mem.PageSize {
		m.page(p)
	}
	irps, _ := m.Field("_ETHREAD", "IrpList")
	m.Link(at + mem.VA(irps))
	m.threads[process] = append(m.threads[process], at)
	return at
}

// OnStack gives an address in use in a thread's kernel stack, n bytes below its
// top.
func (m *Machine) OnStack(thread mem.VA, n int) mem.VA {
	off, _ := m.Field("_ETHREAD", "Tcb", "StackBase")
	return mem.VA(m.get64(thread+mem.VA(off))) - mem.VA(n)
}

func (m *Machine) get64(at mem.VA) uint64 {
	var b [8]byte
	if _, err := m.ReadVirtual(b[:], at); err != nil {
		m.t.Fatal(err)
	}
	return binary.LittleEndian.Uint64(b[:])
}

// Wait lets a thread wait for a dispatcher object of a type.
func (m *Machine) Wait(thread mem.VA, reason uint64, object mem.VA, objectType byte) {
	off, _ := m.Field("_ETHREAD", "Tcb", "WaitBlock")
	block := thread + mem.VA(off)
	m.Set(thread, 5, "_ETHREAD", "Tcb", "State")
	m.Set(thread, reason, "_ETHREAD", "Tcb", "WaitReason")
	m.Set(thread, uint64(block), "_ETHREAD", "Tcb", "WaitBlockList")
	m.Set(block, uint64(object), "_KWAIT_BLOCK", "Object")
	m.Set(block, uint64(thread), "_KWAIT_BLOCK", "Thread")
	if m.Has("_KWAIT_BLOCK", "NextWaitBlock") {
		m.Set(block, uint64(block), "_KWAIT_BLOCK", "NextWaitBlock")
	} else {
		m.Set(thread, 1, "_ETHREAD", "Tcb", "WaitBlockCount")
	}
	m.Set(object, uint64(objectType), "_DISPATCHER_HEADER", "Type")
	// The block joins the end of the object's list.
	list, _ := m.Field("_DISPATCHER_HEADER", "WaitListHead")
	head := object + mem.VA(list)
	last := mem.VA(m.get64(head + 8))
	if last == 0 {
		last = head
	}
	m.Put64(last, uint64(block))
	m.Put64(block+8, uint64(last))
	m.Put64(block, uint64(head))
	m.Put64(head+8, uint64(block))
}

// Resource adds a free resource.
func (m *Machine) Resource() mem.VA {
	at := m.Alloc(0x68)
	m.res = append(m.res, at)
	return at
}

// existing gives the page of an address; nil where there is none.
func (m *Machine) existing(at mem.VA) *[mem.PageSize]byte {
	if m.parent != nil && m.private(at) == nil {
		return m.parent.existing(at)
	}
	return m.pages[at.Page()]
}

// ReadVirtual implements mem.Virtual.
func (m *Machine) ReadVirtual(b []byte, at mem.VA) (int, error) {
	for n := 0; n < len(b); {
		va := at + mem.VA(n)
		page := m.existing(va)
		if page == nil {
			return n, &mem.Fault{Kind: mem.NotCaptured, VA: va}
		}
		n += copy(b[n:], page[uint64(va)%mem.PageSize:])
	}
	return len(b), nil
}

// Open closes the lists and opens the machine.
func (m *Machine) Open() *model.Kernel {
	m.t.Helper()
	m.finish()
	k, err := model.Load(context.Background(), model.Source{
		Name: "machine", Machine: model.MachineX64, Build: m.Layout.Origin().Build, Virtual: m,
		DebugData: debugData, LoadedModules: modHead, ActiveProcs: procHead, Processors: uint32(1 + len(m.prcbs)),
	})
	if err != nil {
		m.t.Fatal(err)
	}
	if (k.Types == nil || k.Degraded) && !m.Unknown {
		m.t.Fatalf("the layout of %s did not prove itself: %v", m.Layout.Family(), k.Warnings)
	}
	return k
}

// finish closes the lists and writes the debugger data block.
func (m *Machine) finish() {
	m.link(procHead, m.procs, "_EPROCESS", "ActiveProcessLinks")
	m.link(resHead, m.res, "_ERESOURCE", "SystemResourcesList")
	m.link(modHead, m.modules, "_KLDR_DATA_TABLE_ENTRY", "InLoadOrderLinks")
	for _, p := range m.procs {
		ps, _ := m.Field("_EPROCESS", "ThreadListHead")
		ke, _ := m.Field("_EPROCESS", "Pcb", "ThreadListHead")
		m.link(p+mem.VA(ps), m.threads[p], "_ETHREAD", "ThreadListEntry")
		m.link(p+mem.VA(ke), m.threads[p], "_ETHREAD", "Tcb", "ThreadListEntry")
	}
	m.debugData()
}

func (m *Machine) link(head mem.VA, items []mem.VA, typ string, path ...string) {
	off, _ := m.Field(typ, path...)
	ring := []mem.VA{head}
	for _, at := range items {
		ring = append(ring, at+mem.VA(off))
	}
	m.Link(ring...)
}
