package modeltest

import (
	"context"
	"encoding/binary"
	"maps"
	"slices"

	"gokd/model"
	"gokd/model/mem"
	"gokd/model/types"
)

// pageState is how the page tables tell of a page.
type pageState uint8

const (
	resident   pageState = iota
	pagedOut             // in a page file
	transition           // not valid, its content still in memory
	missing              // valid, not in the dump
	untouched            // demand zero
)

// Where physical memory lies. What is missing lies nowhere.
const (
	tablesAt  mem.PA = 0x1000000
	pagesAt   mem.PA = 0x40000000
	largeAt   mem.PA = 0x200000000
	missingAt mem.PA = 0x4000000000
)

// Bits of x64 page-table entries (Intel SDM volume 3, 4.5).
const (
	pteTable = 0x63                 // valid, write, accessed, dirty
	ptePage  = 1<<63 | 0x100 | 0x63 // no execute, global
	pteLarge = 0x80

	largePage = 2 << 20

	// Windows writes entries that are not valid in bits of its own: protection
	// bits 5-9 (4: read and write), transition bit 11, swizzle bit 4.
	softWrite      = 4 << 5
	softTransition = 1 << 11
	// Without the swizzle bit the new form XORs addresses with a mask, which is
	// physical address bit 45 on usual machines.
	softMask = 1 << 45
)

// Kernel is what OpenPaged gives, by a name for packages that build upon this
// one and know nothing else of the model.
type Kernel = model.Kernel

// PageOut lets the page of an address be in the page file: it is mapped and its
// content is not in the dump.
func (m *Machine) PageOut(at mem.VA) { m.mark(at, pagedOut) }

// InTransition takes the page of an address out of the working set: the entry
// is not valid, the content is still in memory.
func (m *Machine) InTransition(at mem.VA) { m.mark(at, transition) }

// NotCaptured leaves the page of an address out of the dump: its entry is valid.
func (m *Machine) NotCaptured(at mem.VA) { m.mark(at, missing) }

// Untouched makes the page of an address a demand-zero one.
func (m *Machine) Untouched(at mem.VA) { m.mark(at, untouched) }

// TableNotCaptured leaves the page table out of the dump that maps the 2 MB
// around an address.
func (m *Machine) TableNotCaptured(at mem.VA) {
	m.page(at)
	m.lost[at&^(largePage-1)] = true
}

func (m *Machine) mark(at mem.VA, s pageState) {
	if m.private(at) == nil && m.parent != nil {
		m.parent.mark(at, s)
		return
	}
	m.page(at)
	m.states[at.Page()] = s
}

// private gives m where an address is among those that only its processes map.
func (m *Machine) private(at mem.VA) *Machine {
	if m.parent != nil && at >= m.first && at <= m.last {
		return m
	}
	return nil
}

// Alias maps the physical page of one address at another too; both pages must
// not be parts of large ones. It is how a test makes a large pool of few pages.
func (m *Machine) Alias(at, of mem.VA) { m.pages[at.Page()] = m.page(of) }

// Unmap takes the page of an address away.
func (m *Machine) Unmap(at mem.VA) { delete(m.pages, at.Page()) }

// LargePage maps the 2 MB around an address by one large page.
func (m *Machine) LargePage(at mem.VA) {
	at &^= largePage - 1
	for p := at; p < at+largePage; p += mem.PageSize {
		m.page(p)
	}
	m.large[at] = true
}

// Private gives an address space of some processes: the machine's, with memory
// of its own from first to last. Write to that memory through the result; add
// processes and the like to the machine itself.
func (m *Machine) Private(first, last mem.VA, processes ...mem.VA) *Machine {
	c := &Machine{t: m.t, Layout: m.Layout, parent: m, first: first, last: last, next: first, owners: processes}
	c.pages, c.states = map[mem.VA]*[mem.PageSize]byte{}, map[mem.VA]pageState{}
	c.large, c.lost = map[mem.VA]bool{}, map[mem.VA]bool{}
	m.spaces = append(m.spaces, c)
	return c
}

// Processor adds a processor, with an idle thread, and gives its _KPRCB. Every
// machine has one to start with.
func (m *Machine) Processor() mem.VA {
	t, err := m.Layout.Type("_KPRCB")
	if err != nil {
		m.t.Fatal(err)
	}
	at := m.Variable(int(t.Size))
	m.Set(at, uint64(1+len(m.prcbs)), "_KPRCB", "Number")
	m.prcbs = append(m.prcbs, at)
	return at
}

// PRCB gives the _KPRCB of the machine's first processor.
func (m *Machine) PRCB() mem.VA { return prcb }

// Memory gives the physical memory of a machine that was opened by OpenPaged.
func (m *Machine) Memory() *Memory { return m.memory }

// OpenPaged opens the machine with page tables over physical memory, as a dump
// of a whole machine has them. The variables that Global made and those of
// globals, which must lie within 4 GB behind the image's base, are known by
// name. Bytes may still be changed by Put afterwards; pages not be added.
func (m *Machine) OpenPaged(globals map[string]mem.VA, options ...Option) *model.Kernel {
	m.t.Helper()
	t, err := m.Layout.Type("_KPRCB")
	if err != nil {
		m.t.Fatal(err)
	}
	for p := prcb; p < prcb+mem.VA(t.Size); p += mem.PageSize {
		m.page(p)
	}
	m.headers()
	m.modules = slices.Insert(m.modules, 0, m.kernelModule())
	m.finish()
	b := &tableBuilder{m: m, swizzled: m.Has("_MMPTE_SOFTWARE", "SwizzleBit")}
	b.place()
	root := b.root(m, nil)
	for _, p := range m.procs {
		m.Set(p, uint64(root), "_EPROCESS", "Pcb", "DirectoryTableBase")
	}
	for _, c := range m.spaces {
		own := b.root(m, c)
		for _, p := range c.owners {
			m.Set(p, uint64(own), "_EPROCESS", "Pcb", "DirectoryTableBase")
		}
	}
	m.memory = b.memory()
	src := model.Source{
		Name: "machine", Machine: model.MachineX64, Build: m.Layout.Origin().Build, Physical: m.memory, DTB: root,
		DebugData: debugData, LoadedModules: modHead, ActiveProcs: procHead, Processors: uint32(1 + len(m.prcbs)),
		Symbols: m.resolver(globals),
	}
	if m.real != nil {
		src.Symbols = nil
	}
	for _, o := range options {
		o(&src)
	}
	m.root = root
	k, err := model.Load(context.Background(), src)
	if err != nil {
		m.t.Fatal(err)
	}
	if l, ok := k.Types.(*types.Layout); (!ok || l.Family() != m.Layout.Family()) && !m.Unknown {
		m.t.Fatalf("the layout of %s did not prove itself: %v", m.Layout.Family(), k.Warnings)
	}
	return k
}

func (m *Machine) kernelModule() mem.VA {
	m.Module("ntoskrnl.exe", base, imageSize)
	last := len(m.modules) - 1
	at := m.modules[last]
	m.modules = m.modules[:last]
	return at
}

// tableBuilder gives pages physical addresses and makes the tables over them.
type tableBuilder struct {
	m        *Machine
	swizzled bool
	frames   map[*[mem.PageSize]byte]mem.PA
	runs     []run
	tables   []*[512]uint64
	lost     map[mem.PA]bool
}

// place moves the machine's pages into physical memory, one behind the other in
// order of their addresses.
func (b *tableBuilder) place() {
	b.frames, b.lost = map[*[mem.PageSize]byte]mem.PA{}, map[mem.PA]bool{}
	large, gone := largeAt, missingAt
	frames := map[*[mem.PageSize]byte]bool{} // of which each may be mapped often
	for _, s := range append([]*Machine{b.m}, b.m.spaces...) {
		for _, p := range s.pages {
			frames[p] = true
		}
	}
	small := make([]byte, 0, len(frames)*mem.PageSize)
	moved := map[*[mem.PageSize]byte]*[mem.PageSize]byte{}
	for _, s := range append([]*Machine{b.m}, b.m.spaces...) {
		for _, at := range slices.Sorted(maps.Keys(s.large)) {
			data := make([]byte, largePage)
			for i := range mem.VA(512) {
				to := (*[mem.PageSize]byte)(data[i*mem.PageSize:])
				*to = *s.pages[at+i*mem.PageSize]
				s.pages[at+i*mem.PageSize] = to
				b.frames[to] = large + mem.PA(i*mem.PageSize)
			}
			b.runs = append(b.runs, run{large, data})
			large += largePage
		}
		for _, at := range slices.Sorted(maps.Keys(s.pages)) {
			p := s.pages[at]
			if to, ok := moved[p]; ok {
				s.pages[at] = to
				continue
			}
			if _, ok := b.frames[p]; ok {
				continue
			}
			if state := s.states[at]; state != resident && state != transition {
				b.frames[p] = gone
				gone += mem.PageSize
				continue
			}
			n := len(small)
			small = append(small, p[:]...)
			to := (*[mem.PageSize]byte)(small[n:])
			b.frames[to], moved[p], s.pages[at] = pagesAt+mem.PA(n), to, to
		}
	}
	b.runs = append(b.runs, run{pagesAt, small})
}

// table makes an empty page table.
func (b *tableBuilder) table() mem.PA {
	b.tables = append(b.tables, new([512]uint64))
	return tablesAt + mem.PA(len(b.tables)-1)*mem.PageSize
}

func (b *tableBuilder) at(table mem.PA) *[512]uint64 { return b.tables[(table-tablesAt)/mem.PageSize] }

// root makes the tables of an address space: the machine's pages and those of
// one of its private spaces, which hide the machine's own at their addresses.
func (b *tableBuilder) root(m, own *Machine) mem.PA {
	root := b.table()
	b.at(root)[selfMap] = uint64(root) | pteTable
	for _, s := range []*Machine{m, own} {
		if s == nil {
			continue
		}
		for _, at := range slices.Sorted(maps.Keys(s.pages)) {
			if s == m && own != nil && own.private(at) != nil {
				continue
			}
			b.enter(root, s, at)
		}
	}
	return root
}

// selfMap is the entry of the top table that maps the tables themselves, as on
// every build before 14393.
const selfMap = 0x1ed

func (b *tableBuilder) enter(root mem.PA, s *Machine, at mem.VA) {
	table := root
	for shift := 39; shift > 12; shift -= 9 {
		e := &b.at(table)[at>>shift&511]
		if region := at &^ (largePage - 1); shift == 21 && s.large[region] {
			*e = uint64(b.frames[s.pages[region]]) | ptePage | pteLarge
			return
		}
		if *e == 0 {
			next := b.table()
			e = &b.at(table)[at>>shift&511] // the list of tables may have moved
			*e = uint64(next) | pteTable
			if shift == 21 && s.lost[at&^(largePage-1)] {
				b.lost[next] = true
			}
		}
		table = mem.PA(*e &^ (1<<63 | 0xfff))
	}
	b.at(table)[at>>12&511] = b.entry(s, at)
}

// entry makes the last-level entry of a page in its state.
func (b *tableBuilder) entry(s *Machine, at mem.VA) uint64 {
	pa := uint64(b.frames[s.pages[at]])
	switch s.states[at] {
	case pagedOut:
		offset := uint64(at) >> 12 & 0xffff << 32
		if b.swizzled {
			return (offset | 0x10<<32) ^ softMask | softWrite | 1<<12
		}
		return offset | 0x10<<32 | softWrite | 1<<1
	case transition:
		if b.swizzled {
			pa ^= softMask
		}
		return pa | softWrite | softTransition
	case untouched:
		return softWrite
	}
	return pa | ptePage
}

// memory gives all that is in the dump, in order of address.
func (b *tableBuilder) memory() *Memory {
	data := make([]byte, len(b.tables)*mem.PageSize)
	from := 0
	for i, t := range b.tables {
		for j, e := range t {
			binary.LittleEndian.PutUint64(data[i*mem.PageSize+8*j:], e)
		}
		if b.lost[tablesAt+mem.PA(i)*mem.PageSize] {
			b.keep(data, from, i)
			from = i + 1
		}
	}
	b.keep(data, from, len(b.tables))
	p := &Memory{}
	for _, r := range b.runs {
		if len(r.data) > 0 {
			p.runs = append(p.runs, r)
		}
	}
	slices.SortFunc(p.runs, func(x, y run) int {
		if x.base < y.base {
			return -1
		}
		return 1
	})
	return p
}

// keep makes a run of some tables.
func (b *tableBuilder) keep(data []byte, from, to int) {
	if from < to {
		b.runs = append(b.runs, run{tablesAt + mem.PA(from)*mem.PageSize, data[from*mem.PageSize : to*mem.PageSize]})
	}
}
