package pool

import (
	"testing"

	"gokd/model/mem"
	"gokd/model/modeltest"
	"gokd/model/pool/heaptest"
	"gokd/model/types"
)

// forFamilies runs a test on every family of kernels whose build is in a range.
func forFamilies(t *testing.T, from, to uint32, test func(t *testing.T, b *heaptest.Builder)) {
	for _, l := range types.Layouts() {
		if build := l.Origin().Build; build < from || build > to {
			continue
		}
		t.Run(l.Family(), func(t *testing.T) {
			t.Parallel()
			test(t, heaptest.New(t, l))
		})
	}
}

// lastPagePool is the last build with page pools.
const lastPagePool = 17763

// family gives the layouts of one family.
func family(t *testing.T, name string) *types.Layout {
	t.Helper()
	for _, l := range types.Layouts() {
		if l.Family() == name {
			return l
		}
	}
	t.Fatalf("no family %s", name)
	return nil
}

// openBuilt opens the pools of a machine that was built.
func openBuilt(t *testing.T, b *heaptest.Builder, options ...modeltest.Option) *Pool {
	t.Helper()
	p, err := Open(b.Open(options...))
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// descriptors writes the pool manager's account of a machine's page pools.
type descriptors struct {
	m           *modeltest.Machine
	nonpaged    []mem.VA // for executable memory and, from 8 on, for other
	paged       []mem.VA
	pagedVector mem.VA
}

// newDescriptors makes descriptors of both pools with empty lists: one or two
// side by side for nonpaged pool, so many for paged pool.
func newDescriptors(b *heaptest.Builder, paged int) *descriptors {
	m := b.M
	d := &descriptors{m: m}
	n := 1
	if m.Has("_KPRCB", "PPNxPagedLookasideList") {
		n = 2
	}
	size := descriptorSize(m)
	at := m.Global("NonPagedPoolDescriptor", n*int(size))
	for i := range n {
		d.nonpaged = append(d.nonpaged, d.init(at+mem.VA(i)*size, uint64(i)*0x200, 0))
	}
	d.pagedVector = m.Global("ExpPagedPoolDescriptor", 65*8)
	for i := range paged {
		d.paged = append(d.paged, d.init(m.Variable(int(size)), 1, uint64(i)))
	}
	m.Global("PoolVector", 16)
	m.Global("ExpNumberOfPagedPools", 8)
	m.Global("ExpNumberOfNonPagedPools", 8)
	return d
}

// install names the descriptors in the kernel's variables. The machine is open:
// its builder has named descriptors of its own.
func (d *descriptors) install() *descriptors {
	m := d.m
	for i, at := range d.nonpaged {
		d.init(at, uint64(i)*0x200, 0)
	}
	for i, p := range d.paged {
		m.Put64(d.pagedVector+mem.VA(8*i), uint64(p))
	}
	vector := m.Global("PoolVector", 16)
	m.Put64(vector, uint64(d.nonpaged[0]))
	m.Put64(vector+8, uint64(d.paged[0]))
	m.SetGlobal("ExpNumberOfPagedPools", uint64(len(d.paged)-1))
	m.SetGlobal("ExpNumberOfNonPagedPools", 1)
	return d
}

func descriptorSize(m *modeltest.Machine) mem.VA {
	t, err := m.Layout.Type("_POOL_DESCRIPTOR")
	if err != nil {
		return 0
	}
	return mem.VA(t.Size)
}

// setter is a machine or an address space of it.
type setter interface {
	Set(at mem.VA, v uint64, typ string, path ...string)
	Put64(at mem.VA, v uint64)
}

func (d *descriptors) init(at mem.VA, typ, index uint64) mem.VA {
	initDescriptor(d.m, d.m, at, typ, index)
	return at
}

// initDescriptor writes a descriptor with empty lists.
func initDescriptor(m *modeltest.Machine, to setter, at mem.VA, typ, index uint64) {
	to.Set(at, typ, "_POOL_DESCRIPTOR", "PoolType")
	to.Set(at, index, "_POOL_DESCRIPTOR", "PoolIndex")
	if !m.Has("_POOL_DESCRIPTOR", "ListHeads") {
		return
	}
	heads := listHead(m, at, 0)
	for i := range mem.VA(256) {
		to.Put64(heads+16*i, uint64(heads+16*i))
		to.Put64(heads+16*i+8, uint64(heads+16*i))
	}
}

func listHead(m *modeltest.Machine, descriptor mem.VA, i int) mem.VA {
	off, _ := m.Field("_POOL_DESCRIPTOR", "ListHeads")
	return descriptor + mem.VA(off) + mem.VA(16*i)
}

// list puts free blocks on the lists of their sizes. The machine is open: its
// builder has written links of its own.
func (d *descriptors) list(blocks []*heaptest.Block) {
	rings := map[mem.VA][]mem.VA{}
	for _, k := range blocks {
		if k.State != heaptest.Free || k.Place != heaptest.InPage || k.Size <= HeaderSize {
			continue
		}
		of := d.nonpaged[0]
		if k.Pool.Paged() {
			of = d.paged[len(k.Tag)%len(d.paged)]
		}
		head := listHead(d.m, of, int(k.Size/HeaderSize)-1)
		rings[head] = append(rings[head], k.Body)
	}
	for head, bodies := range rings {
		d.m.Link(append([]mem.VA{head}, bodies...)...)
	}
}

// pending frees blocks onto the list of deferred frees of a descriptor. Their
// headers stay as they are.
func (d *descriptors) pending(of mem.VA, bodies ...mem.VA) {
	setPending(d.m, d.m, of, bodies...)
}

func setPending(m *modeltest.Machine, to setter, of mem.VA, bodies ...mem.VA) {
	path := []string{"PendingFrees"}
	if m.Has("_SINGLE_LIST_ENTRY", "Next") {
		if _, f := m.Field("_POOL_DESCRIPTOR", "PendingFrees"); f.Type.Kind != types.KindPointer {
			path = append(path, "Next")
		}
	}
	to.Set(of, uint64(bodies[0]), "_POOL_DESCRIPTOR", path...)
	for i, at := range bodies {
		next := mem.VA(0)
		if i+1 < len(bodies) {
			next = bodies[i+1]
		}
		to.Put64(at, uint64(next))
	}
	to.Set(of, uint64(len(bodies)), "_POOL_DESCRIPTOR", "PendingFreeDepth")
}
