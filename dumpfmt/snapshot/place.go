package snapshot

import (
	"fmt"
	"unicode/utf16"

	"gokd/model/mem"
)

// placeObjects gives everything an address: first what the scenario fixes,
// then the rest around it.
func (m *machine) placeObjects() error {
	for _, fixed := range []bool{true, false} {
		// Objects of one kind stay together, as in a pool that is young.
		for _, p := range m.procs {
			if p.spec.Address.set == fixed {
				p.at = m.placeObject(m.nonpaged, tagOf("Proc")|protected, m.size("_EPROCESS"), p.spec.Address)
			}
		}
		for _, t := range m.threads {
			if t.spec.Address.set == fixed {
				t.at = m.placeObject(m.nonpaged, tagOf("Thre")|protected, m.size("_ETHREAD"), t.spec.Address)
			}
		}
		for _, d := range m.objects {
			if d.spec.Address.set == fixed {
				m.placeDispatcher(d)
			}
		}
		for _, r := range m.resources {
			m.placeResource(r, fixed)
		}
		if fixed {
			m.placeIRPs()
			at := mem.VA(m.spec.DeviceMap.v)
			m.deviceMap = m.paged.place(tagOf("ObDm"), at, m.size("_DEVICE_MAP"), m.spec.DeviceMap.line)
		}
		if m.err != nil {
			return m.err
		}
	}
	m.placeProcessors()
	for _, t := range m.threads {
		m.placeStack(t)
	}
	for i := range m.pagedDescriptors {
		m.pagedDescriptors[i] = m.nonpaged.alloc(tagOf("Pool"), m.size("_POOL_DESCRIPTOR"))
	}
	for _, img := range m.images {
		img.ldr = m.nonpaged.alloc(tagOf("MmLd"), max(loaderEntrySize, m.size("_KLDR_DATA_TABLE_ENTRY")))
	}
	m.placeSpaces()
	m.poolTags()
	return m.err
}

// placeObject allocates an object with its header in front.
func (m *machine) placeObject(p *pool, tag uint32, size uint64, at number) mem.VA {
	head := m.offset("_OBJECT_HEADER", "Body")
	if at.set && at.v < uint64(head) {
		m.fail(wrong(at.line, "%#x is no address of the kernel", at.v))
		return 0
	}
	body := mem.VA(0)
	if at.set {
		body = mem.VA(at.v) - head
	}
	return p.place(tag, body, size+uint64(head), at.line) + head
}

// placeDispatcher places an object that is not part of another.
func (m *machine) placeDispatcher(d *dispatcher) {
	kind, _ := kindOf(d.kind)
	d.at = m.placeObject(m.nonpaged, tagOf(kind.tag), m.size(kind.typ), d.spec.Address)
}

// placeResource places a resource and its wait objects, with the tags that the
// kernel gives them.
func (m *machine) placeResource(r *resource, fixed bool) {
	spec := r.spec
	if spec.Address.set == fixed {
		if len(spec.Name.s) > 3 && spec.Name.s[:3] == "nt!" {
			r.at = m.global(spec.Name.s[3:])
			if spec.Address.set {
				m.fail(wrong(spec.Address.line, "%s: a variable of the kernel gets its address from its image", spec.Name.s))
			}
		} else {
			r.at = m.nonpaged.place(tagOf(spec.Tag.or("Ntfr")), mem.VA(spec.Address.v), m.size("_ERESOURCE"), spec.Address.line)
		}
	}
	for _, side := range []struct {
		d   *dispatcher
		tag string
	}{{r.semaphore, "ReSe"}, {r.event, "ReEv"}} {
		if side.d != nil && side.d.spec.Address.set == fixed {
			kind, _ := kindOf(side.d.kind)
			side.d.at = m.nonpaged.place(tagOf(side.tag), mem.VA(side.d.spec.Address.v), m.size(kind.typ), side.d.spec.Address.line)
		}
	}
}

// placeProcessors places the KPCRs: the first processor's in the kernel image,
// the others in memory of their own with their idle threads.
func (m *machine) placeProcessors() {
	size := (m.size("_KPCR") + pageSize - 1) &^ (pageSize - 1)
	thread := (m.size("_ETHREAD") + pageSize - 1) &^ (pageSize - 1)
	for i, cpu := range m.cpus {
		if i == 0 {
			cpu.pcr, cpu.idle.at, cpu.context = m.global("KiInitialPCR"), m.global("KiInitialThread"), m.global("KiInitialContext")
		} else {
			need := size + thread + pageSize // with its idle thread and context record
			cpu.pcr = m.taken.find(m.prof.pcrs, need, "a processor's control region")
			cpu.idle.at = cpu.pcr + mem.VA(size)
			cpu.context = cpu.idle.at + mem.VA(thread)
			m.fail(m.kernel.mapRange(cpu.pcr, need, flagsData))
		}
		cpu.prcb = cpu.pcr + m.offset("_KPCR", "Prcb")
		m.placeStack(cpu.idle)
	}
	m.idle.at = m.global("KiInitialProcess")
}

// placeStack gives a thread a stack where the scenario does not.
func (m *machine) placeStack(t *thread) {
	if t.base == 0 {
		t.limit = m.taken.find(m.prof.stacks, stackSize, "a kernel stack")
		t.base = t.limit + stackSize
		t.init = m.initial(t.base)
	}
	m.fail(t.layStack())
}

// placeSpaces makes the page tables of every process but System, and the pages
// of user memory that it holds.
func (m *machine) placeSpaces() {
	m.procs[0].dtb = rootFrame << 12
	m.idle.dtb = rootFrame << 12
	for i, p := range m.procs[1:] {
		frame, _, err := m.phys.take(true)
		if err != nil {
			m.fail(err)
			return
		}
		p.dtb = frame << 12
		p.space = newSpace(m.phys, frame, m.prof.selfIndex)
		p.peb = 0x7fffffd3000 + mem.VA(i%8)*pageSize
		m.fail(p.space.mapPage(p.peb, flagsUser))
		for k, t := range p.threads {
			t.teb = 0x7fffffde000 - mem.VA(2*pageSize*k)
			if t.teb <= p.peb+pageSize { // below the PEB from there on

				t.teb -= 0x20000
			}
			m.fail(p.space.mapRange(t.teb, m.size("_TEB"), flagsUser))
			m.fail(p.space.mapPage(t.userSP(), flagsUser))
		}
	}
}

// unicode makes a UTF-16 string in a pool and gives its address.
func (m *machine) unicode(p *pool, tag, s string) mem.VA {
	units := utf16.Encode([]rune(s))
	b := make([]byte, 2*len(units)+2)
	for i, u := range units {
		b[2*i], b[2*i+1] = byte(u), byte(u>>8)
	}
	at := p.alloc(tagOf(tag), uint64(len(b)))
	m.write(at, b)
	return at
}

// setString fills a _UNICODE_STRING of a structure.
func (m *machine) setString(o object, path, tag, s string) {
	at := m.unicode(m.nonpaged, tag, s)
	n := 2 * len(utf16.Encode([]rune(s)))
	o.puts(path+".Length", n, path+".MaximumLength", n+2, path+".Buffer", at)
}

// poolTags makes the allocations that the scenario lists by tag.
func (m *machine) poolTags() {
	var absent uint64
	for _, s := range m.spec.Pool.Tags {
		absent += m.absentBytes(s)
	}
	// They fill the end of the pool, in whole large pages.
	next := m.nonpaged.end - mem.VA((absent+largePage-1)&^(largePage-1))
	if absent > uint64(m.nonpaged.end-m.nonpaged.start) || next < m.nonpaged.start+4<<20 || absent > m.memory/4*3 {
		m.fail(wrong(m.spec.Pool.Tags[0].Tag.line, "blocks of %#x bytes that are not captured do not fit the nonpaged pool", absent))
		return
	}
	m.mapAbsent(next, m.nonpaged.end)
	if absent > 0 {
		m.nonpaged.end = next
	}
	for _, s := range m.spec.Pool.Tags {
		next = m.poolTag(s, next)
		if m.err != nil {
			return
		}
	}
}

// maxBlock bounds one allocation. With maxAllocs of them no sum overflows.
const maxBlock = 1 << 40

// absentBytes counts the bytes of whole pages that a tag has but the dump not.
func (m *machine) absentBytes(s tagSpec) uint64 {
	if s.Size.v > maxBlock {
		m.fail(wrong(s.Size.line, "tag %s: a block of %#x bytes, at most %#x are possible", s.Tag.s, s.Size.v, uint64(maxBlock)))
		return 0
	}
	count := s.Count.or(1)
	missing := count - min(s.Captured.or(count), count)
	return missing * ((s.Size.or(64) + pageSize - 1) / pageSize) * pageSize
}

// mapAbsent maps the end of the nonpaged pool by large pages, as the kernel
// does, onto memory that no dump of this machine holds.
func (m *machine) mapAbsent(from, to mem.VA) {
	frame := uint64(maxPages) // behind everything that is captured
	frame = (frame + largePage/pageSize - 1) &^ (largePage/pageSize - 1)
	for at := from; at < to && m.err == nil; at += largePage {
		if (frame+largePage/pageSize)*pageSize > m.memory {
			m.fail(fmt.Errorf("pool blocks that are not captured need more than the machine's %#x bytes of memory", m.memory))
			return
		}
		m.fail(m.kernel.mapAbsent(at, frame))
		frame += largePage / pageSize
	}
}

// poolTag allocates the blocks of one tag; those that are not captured follow
// each other from next on.
func (m *machine) poolTag(s tagSpec, next mem.VA) mem.VA {
	p := m.nonpaged
	switch s.Pool.or("nonpaged") {
	case "nonpaged":
	case "paged":
		p = m.paged
	default:
		m.fail(wrong(s.Pool.line, "pool %q: want nonpaged or paged", s.Pool.s))
		return next
	}
	size, count := s.Size.or(64), s.Count.or(1)
	captured := min(s.Captured.or(count), count)
	switch {
	case len(s.Tag.s) == 0 || len(s.Tag.s) > 4:
		m.fail(wrong(s.Tag.line, "tag %q: want 1 to 4 characters", s.Tag.s))
	case size == 0:
		m.fail(wrong(s.Size.line, "tag %s: blocks of no size", s.Tag.s))
	case captured < count && (size <= maxSmall || p.paged):
		m.fail(wrong(s.Captured.line, "tag %s: only whole pages of nonpaged pool can be left out of the dump", s.Tag.s))
	}
	tag := tagOf(s.Tag.s)
	for range captured {
		if m.err != nil {
			return next
		}
		at := p.alloc(tag, size)
		m.fillBlock(at, size, s.Fill.s)
	}
	for range count - captured {
		whole := (size + pageSize - 1) &^ (pageSize - 1)
		// In the tables and the accounts, and mapped, but without bytes.
		p.big = append(p.big, bigBlock{next, size, tag})
		p.count(tag, whole)
		next += mem.VA(whole)
	}
	p.freed[tag] += uint32(min(s.Freed.v, 1<<30))
	return next
}

// fillBlock writes a text over a block, again and again.
func (m *machine) fillBlock(at mem.VA, size uint64, fill string) {
	if fill == "" || m.err != nil {
		return
	}
	b := make([]byte, min(size, 64<<10))
	for i := range b {
		b[i] = fill[i%len(fill)]
	}
	m.write(at, b)
}
