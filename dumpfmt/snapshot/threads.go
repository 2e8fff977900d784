package snapshot

import (
	"cmp"
	"fmt"
	"slices"

	"gokd/model/mem"
)

// writeThread fills an ETHREAD, its stack and what it waits for.
func (m *machine) writeThread(t *thread) {
	if !t.idle {
		m.objectHeader(t.at, "Thread", 1)
	}
	m.writeStack(t)
	e := m.object("_ETHREAD", t.at)
	m.dispatcherHeader(e, "Tcb.Header", "ThreadObject", "_KTHREAD", 0)
	m.writeThreadLists(e, t)
	m.writeThreadStack(e, t)
	m.writeSchedule(e, t)
	m.writeApcState(e, t)
	m.writeIdentity(e, t)
	m.writeWait(e, t)
	m.writeIRPs(e, t)
}

// writeThreadLists links the thread into its process's two lists.
func (m *machine) writeThreadLists(e object, t *thread) {
	for _, head := range []string{"Tcb.MutantListHead", "IrpList", "PostBlockList", "ActiveTimerListHead"} {
		e.list(head)
	}
	p := m.object("_EPROCESS", t.proc.at)
	m.listAdd(p.field("Pcb.ThreadListHead"), e.field("Tcb.ThreadListEntry"))
	m.listAdd(p.field("ThreadListHead"), e.field("ThreadListEntry"))
}

func (m *machine) writeThreadStack(e object, t *thread) {
	e.puts("Tcb.InitialStack", t.init, "Tcb.StackLimit", t.limit, "Tcb.StackBase", t.base, "Tcb.KernelStack", t.sp,
		"Tcb.KernelStackResident", 1, "Tcb.EnableStackSwap", 1, "Tcb.ApcQueueable", 1, "Tcb.TrapFrame", t.trapFrame)
	if t.proc.pid == 4 || t.idle {
		e.put("Tcb.SystemThread", 1)
	}
}

// writeSchedule fills state, priorities and times.
func (m *machine) writeSchedule(e object, t *thread) {
	s := t.spec
	base := s.BasePriority.or(s.Priority.or(8))
	if t.idle {
		base = 0
	}
	seed := uint64(hashOf(fmt.Sprint(t.tid), t.proc.image))
	e.puts("Tcb.State", m.must("_KTHREAD_STATE", t.state), "Tcb.Priority", s.Priority.or(base), "Tcb.BasePriority", base,
		"Tcb.UnusualBoost", s.UnusualBoost.v, "Tcb.ForegroundBoost", s.ForegroundBoost.v,
		"ThreadIoPriority", s.IoPriority.or(2), "ThreadPagePriority", s.PagePriority.or(5),
		"Tcb.ContextSwitches", s.Switches.or(1+seed%5000), "Tcb.KernelTime", s.KernelTicks.or(seed%40), "Tcb.UserTime", s.UserTicks.v,
		"Tcb.QuantumReset", 6, "Tcb.QuantumTarget", m.ticks<<16, "Tcb.CycleTime", seed<<12)
	cpu := t.cpu
	if cpu < 0 { // where it ran last
		cpu = int(seed % uint64(len(m.cpus)))
	}
	e.puts("Tcb.NextProcessor", cpu, "Tcb.IdealProcessor", cpu, "Tcb.UserIdealProcessor", cpu,
		"Tcb.Affinity.Mask", m.processorMask(), "Tcb.UserAffinity.Mask", m.processorMask())
	if !t.idle && (t.state == "Ready" || t.state == "Standby") {
		m.queueReady(e, t, s.Priority.or(base))
	}
	if t.state == "Running" {
		e.put("Tcb.Running", 1)
	}
}

// queueReady puts a ready thread into its processor's queue, a standby thread
// in line to run next.
func (m *machine) queueReady(e object, t *thread, priority uint64) {
	prcb := m.object("_KPRCB", m.cpus[t.cpu].prcb)
	if t.state == "Standby" {
		prcb.put("NextThread", uint64(t.at))
		return
	}
	level := min(priority, 31)
	m.listAdd(prcb.field(fmt.Sprintf("DispatcherReadyListHead[%d]", level)), e.field("Tcb.WaitListEntry"))
	p, err := m.layout.place("_KPRCB", "ReadySummary")
	m.fail(err)
	var b [4]byte
	m.read(prcb.at+mem.VA(p.off), b[:])
	b[level/8] |= 1 << (level % 8)
	m.write(prcb.at+mem.VA(p.off), b[:])
}

// writeApcState names the process, and another one that the thread is attached
// to.
func (m *machine) writeApcState(e object, t *thread) {
	own, other := "Tcb.ApcState", "Tcb.SavedApcState"
	attached := (*process)(nil)
	if name := t.spec.Attached; name.s != "" {
		var ok bool
		if attached, ok = m.names[name.s].(*process); !ok {
			m.fail(wrong(name.line, "attached: %q is no process", name.s))
			return
		}
		e.put("Tcb.ApcStateIndex", 1)
		own, other = other, own // the saved state is the thread's own process
	}
	for i := range 2 {
		e.list(fmt.Sprintf("%s.ApcListHead[%d]", own, i))
		e.list(fmt.Sprintf("%s.ApcListHead[%d]", other, i))
	}
	e.puts(own+".Process", t.proc.at, "Tcb.Process", t.proc.at)
	if attached != nil {
		e.put(other+".Process", uint64(attached.at))
	}
	e.put("Tcb.ApcStatePointer[0]", uint64(e.field(own)))
	e.put("Tcb.ApcStatePointer[1]", uint64(e.field(other)))
}

// writeIdentity fills ids, start addresses and flags of the executive's part.
func (m *machine) writeIdentity(e object, t *thread) {
	start := mem.VA(0x77700000) + mem.VA(hashOf(t.proc.image)%0x80)*0x40
	began := start // what a debugger shows second: the first instruction
	switch {
	case t.idle:
		start = t.frames[len(t.frames)-1].fn.address()
		began = start
	case t.start != nil:
		start = t.start.address()
		began = start
	}
	e.puts("Cid.UniqueProcess", t.proc.pid, "Cid.UniqueThread", t.tid, "StartAddress", began, "Win32StartAddress", start,
		"CreateTime", m.now-m.ticks*m.tickLength+t.tid*1_000_000, "ThreadInserted", 1, "ExitStatus", 0x103,
		"Tcb.Teb", t.teb, "Tcb.Win32Thread", t.spec.Win32Thread.v)
	if t.state == "Terminated" {
		e.puts("Terminated", 1, "ExitStatus", 0, "ExitTime", m.now-500_000_000)
	}
	if t.start != nil && t.start.name == "ExpWorkerThread" {
		e.put("ActiveExWorker", 1)
	}
	s := m.object("_KSEMAPHORE", e.field("KeyedWaitSemaphore"))
	m.dispatcherHeader(s, "Header", "SemaphoreObject", "_KSEMAPHORE", 0)
	s.put("Limit", 1)
}

// timerBlock is the index of the wait block that a thread keeps for its timer.
const timerBlock = 3

// writeWait fills the wait blocks and links them to what is waited for.
func (m *machine) writeWait(e object, t *thread) {
	timer := m.object("_KTIMER", e.field("Tcb.Timer"))
	m.dispatcherHeader(timer, "Header", "TimerNotificationObject", "_KTIMER", 0)
	timer.list("TimerListEntry")
	w := t.wait
	if w == nil {
		e.put("Tcb.WaitTime", m.ticks-min(m.ticks, 3))
		return
	}
	mode := "KernelMode"
	if w.user {
		mode = "UserMode"
	}
	e.puts("Tcb.WaitTime", m.ticks-w.ticks, "Tcb.WaitMode", m.must("_MODE", mode), "Tcb.WaitReason", m.must("_KWAIT_REASON", w.reason))
	if w.alertable {
		e.put("Tcb.Alertable", 1)
	}
	heads := w.heads(m)
	blocks := make([]int, 0, len(heads)+1)
	for i := range heads {
		blocks = append(blocks, i)
	}
	if m.layout.lenient { // from 9600 on blocks are counted, without the timer's
		e.put("Tcb.WaitBlockCount", uint64(len(heads)))
	}
	if w.timeout != 0 {
		// The thread's own timer ends the wait; its block closes the circle.
		blocks = append(blocks, timerBlock)
		heads = append(heads, timer.at)
		timer.put("DueTime", (m.ticks+w.timeout)*m.tickLength)
		timer.put("Header.Inserted", 1)
	}
	for i, n := range blocks {
		at := e.field(fmt.Sprintf("Tcb.WaitBlock[%d]", n))
		next := e.field(fmt.Sprintf("Tcb.WaitBlock[%d]", blocks[(i+1)%len(blocks)]))
		b := m.object("_KWAIT_BLOCK", at)
		kind := 1 // WaitAny
		if w.all {
			kind = 0
		}
		b.puts("Thread", t.at, "Object", heads[i], "NextWaitBlock", next, "WaitKey", i, "WaitType", kind,
			"BlockState", m.must("_KWAIT_BLOCK_STATE", "WaitBlockActive"))
		if n == timerBlock {
			b.put("WaitKey", 0x102) // STATUS_TIMEOUT
		}
		if w.resource == nil || n == timerBlock { // a resource's waiters queue up in their own order
			m.listAdd(m.object("_KEVENT", heads[i]).field("Header.WaitListHead"), b.field("WaitListEntry"))
		}
		if i == 0 {
			e.put("Tcb.WaitBlockList", uint64(at))
		}
	}
	if w.queue {
		e.put("Tcb.Queue", uint64(heads[0]))
		m.listAdd(m.object("_KQUEUE", heads[0]).field("ThreadListHead"), e.field("Tcb.QueueListEntry"))
	}
}

// queueWaiters links a resource's waiters to its wait objects, in their order.
func (m *machine) queueWaiters(r *resource) {
	for _, t := range append(slices.Clone(r.shared), r.excl...) {
		block := m.object("_KWAIT_BLOCK", m.object("_ETHREAD", t.at).field("Tcb.WaitBlock[0]"))
		m.listAdd(m.object("_KEVENT", t.wait.targets[0].address()).field("Header.WaitListHead"), block.field("WaitListEntry"))
	}
}

// heads lists the addresses of what is waited for.
func (w *wait) heads(m *machine) []mem.VA {
	var list []mem.VA
	for _, one := range w.targets {
		list = append(list, one.address())
	}
	if w.queue && len(list) == 0 {
		list = append(list, m.global("ExWorkerQueue"))
	}
	return list
}

// writeResource fills a resource: its owners, the entries that its waiters
// have reserved, and its wait objects.
func (m *machine) writeResource(r *resource) {
	s := r.spec
	o := m.object("_ERESOURCE", r.at)
	m.listAdd(m.global("ExpSystemResourcesList"), o.field("SystemResourcesList"))
	o.puts("ContentionCount", s.Contention.v, "NumberOfSharedWaiters", len(r.shared), "NumberOfExclusiveWaiters", len(r.excl))
	table := make([]ownerEntry, 0, len(s.Shared)+len(r.shared))
	switch {
	case s.Exclusive != nil:
		m.ownerAt(o.field("OwnerEntry"), m.owner(*s.Exclusive))
		// ResourceOwnedExclusive (public in ReactOS' resource.c).
		o.puts("ActiveCount", 1, "ActiveEntries", 1, "Flag", 0x80)
	case len(s.Shared) > 0:
		m.ownerAt(o.field("OwnerEntry"), m.owner(s.Shared[0]))
		for _, more := range s.Shared[1:] {
			table = append(table, m.owner(more))
		}
		o.puts("ActiveCount", 1, "ActiveEntries", len(s.Shared))
	}
	for _, t := range r.shared { // a waiter reserves its entry before it waits
		table = append(table, ownerEntry{uint64(t.at), 1})
	}
	if len(table) > 0 {
		o.put("OwnerTable", uint64(m.ownerTable(table)))
	}
	if r.semaphore != nil {
		m.writeDispatcher(r.semaphore)
		o.put("SharedWaiters", uint64(r.semaphore.at))
	}
	if r.event != nil {
		m.writeDispatcher(r.event)
		o.put("ExclusiveWaiters", uint64(r.event.at))
	}
}

// ownerEntry is an owner as the table has it.
type ownerEntry struct{ thread, count uint64 }

func (m *machine) owner(s ownerSpec) ownerEntry {
	e := ownerEntry{s.Pointer.v, s.Count.or(1)}
	if t, ok := m.names[s.Thread.s].(*thread); ok {
		e.thread = uint64(t.at)
		if s.Tagged { // as ExSetResourceOwnerPointer marks a pointer
			e.thread |= 3
		}
	}
	return e
}

func (m *machine) ownerAt(at mem.VA, e ownerEntry) {
	m.object("_OWNER_ENTRY", at).puts("OwnerThread", e.thread, "OwnerCount", e.count)
}

// ownerTable makes a table of owners. Its first entry holds its size; it
// starts with three entries and grows by four (public in ReactOS' resource.c).
func (m *machine) ownerTable(list []ownerEntry) mem.VA {
	size := 3
	for size < len(list)+1 {
		size += 4
	}
	width := m.size("_OWNER_ENTRY")
	at := m.nonpaged.alloc(tagOf("ReTa"), uint64(size)*width)
	m.object("_OWNER_ENTRY", at).put("TableSize", uint64(size))
	for i, e := range list {
		m.ownerAt(at+mem.VA(uint64(i+1)*width), e)
	}
	return at
}

// irpSize gives the bytes of an IRP with its stack locations.
func (m *machine) irpSize(s irpSpec) uint64 {
	return m.size("_IRP") + cmp.Or(s.Locations.v, 1)*m.size("_IO_STACK_LOCATION")
}

// placeIRPs allocates the IRPs that have an address.
func (m *machine) placeIRPs() {
	for _, t := range m.threads {
		for _, s := range t.spec.IRPs {
			if s.Locations.v > 32 {
				m.fail(wrong(s.Locations.line, "an IRP has at most 32 stack locations"))
				return
			}
			if s.Address.set {
				m.nonpaged.allocAt(tagOf("Irp"), mem.VA(s.Address.v), m.irpSize(s), s.Address.line)
			}
		}
	}
}

// writeIRPs fills a thread's pending IRPs. Each is at its last location but
// one: the driver named has it.
func (m *machine) writeIRPs(e object, t *thread) {
	for _, s := range t.spec.IRPs {
		at := mem.VA(s.Address.v)
		if !s.Address.set {
			at = m.nonpaged.alloc(tagOf("Irp"), m.irpSize(s))
		}
		count := cmp.Or(s.Locations.v, 1)
		device := m.device(s.Driver)
		file := m.file(s.File.s, device)
		here := max(count-1, 1)
		location := m.object("_IO_STACK_LOCATION", at+mem.VA(m.size("_IRP")+(here-1)*m.size("_IO_STACK_LOCATION")))
		location.puts("MajorFunction", s.Major.v, "DeviceObject", device, "FileObject", file)
		irp := m.object("_IRP", at)
		irp.puts("Type", 6, "Size", m.irpSize(s), "Flags", s.Flags.v, "StackCount", count, "CurrentLocation", here,
			"AllocationFlags", 4, "Tail.Overlay.Thread", t.at, "Tail.Overlay.CurrentStackLocation", location.at,
			"Tail.Overlay.OriginalFileObject", file)
		m.listAdd(e.field("IrpList"), irp.field("ThreadListEntry"))
	}
}
