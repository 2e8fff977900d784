package snapshot

import (
	"maps"
	"slices"

	"gokd/model/mem"
)

// header fills the _OBJECT_HEADER in front of an object.
func (m *machine) objectHeader(at mem.VA, kind string, handles int) {
	h := m.object("_OBJECT_HEADER", at-m.offset("_OBJECT_HEADER", "Body"))
	// Every object here is referenced by the kernel besides its handles.
	h.puts("PointerCount", handles+2, "HandleCount", handles, "TypeIndex", m.prof.typeIndex[kind])
}

// dispatcherHeader fills a _DISPATCHER_HEADER: what kind of object it is, its
// size in 32-bit words, its state, and nobody waiting.
func (m *machine) dispatcherHeader(o object, path, kind, typ string, state uint32) {
	o.puts(path+".Type", m.must("_KOBJECTS", kind), path+".Size", m.size(typ)/4, path+".SignalState", state)
	o.list(path + ".WaitListHead")
}

// writeObjects fills everything that has an address.
func (m *machine) writeObjects() error {
	m.writeTypes()
	m.writeLists()
	for _, d := range m.objects {
		m.writeDispatcher(d)
	}
	m.object("_KQUEUE", m.global("ExWorkerQueue")).list("EntryListHead")
	m.writeQueue(m.global("ExWorkerQueue"))
	m.writeProcessors()
	token := m.writeToken()
	m.object("_DEVICE_MAP", m.deviceMap).puts("ReferenceCount", len(m.procs)+1, "DriveMap", 4)
	for _, p := range m.procs {
		m.writeProcess(p, token)
	}
	m.writeIdle()
	for _, r := range m.resources { // before the waiters, which link to its objects
		m.writeResource(r)
	}
	for _, p := range append(slices.Clone(m.procs), m.idle) { // processes exist before their threads link to them
		for _, t := range p.threads {
			m.writeThread(t)
		}
	}
	for _, r := range m.resources {
		m.queueWaiters(r)
	}
	m.writeModules()
	m.writeCIDs()
	return m.err
}

// writeTypes makes the object types, which ObTypeIndexTable lists.
func (m *machine) writeTypes() {
	table := m.global("ObTypeIndexTable")
	m.put64(table+8, 0xbad0b0b0) // as Windows marks the slot that no type has
	names := slices.SortedFunc(maps.Keys(m.prof.typeIndex), func(a, b string) int {
		return int(m.prof.typeIndex[a]) - int(m.prof.typeIndex[b])
	})
	for _, name := range names {
		at := m.placeObject(m.nonpaged, tagOf("ObjT"), m.size("_OBJECT_TYPE"), number{})
		m.objectHeader(at, "Type", 0)
		t := m.object("_OBJECT_TYPE", at)
		t.list("TypeList")
		t.list("CallbackList")
		m.setString(t, "Name", "ObNm", name)
		t.puts("Index", m.prof.typeIndex[name], "TotalNumberOfObjects", m.countObjects(name))
		m.put64(table+mem.VA(8*m.prof.typeIndex[name]), uint64(at))
		m.types[name] = at
	}
	m.setGlobal("PsProcessType", uint64(m.types["Process"]))
	m.setGlobal("PsThreadType", uint64(m.types["Thread"]))
	m.setGlobal("ObpTypeObjectType", uint64(m.types["Type"]))
}

func (m *machine) countObjects(kind string) int {
	switch kind {
	case "Process":
		return len(m.procs)
	case "Thread":
		return len(m.threads)
	}
	return 0
}

// writeLists makes the kernel's list heads.
func (m *machine) writeLists() {
	for _, head := range []string{
		"PsLoadedModuleList", "PsActiveProcessHead", "KiProcessListHead",
		"ExpSystemResourcesList", "KeBugCheckCallbackListHead", "KdpDebuggerDataListHead",
	} {
		m.listInit(m.global(head))
	}
}

// writeDispatcher fills an object with nobody waiting; the threads link
// themselves to it.
func (m *machine) writeDispatcher(d *dispatcher) {
	kind, _ := kindOf(d.kind)
	o := m.object(kind.typ, d.at)
	state := uint32(0)
	if d.spec.Signaled {
		state = 1
	}
	if !d.part {
		m.objectHeader(d.at, kind.objectType, 1)
	}
	switch d.kind {
	case "queue":
		m.writeQueue(d.at)
		return
	case "semaphore":
		o.put("Limit", min(d.spec.Limit.or(1), resourceLimit))
	case "mutant":
		if d.owner == nil {
			state = 1
			break
		}
		o.put("OwnerThread", uint64(d.owner.at))
	case "timer", "sync_timer":
		o.puts("DueTime", (m.ticks+500)*m.tickLength)
		o.list("TimerListEntry")
	}
	m.dispatcherHeader(o, "Header", kind.object, kind.typ, state)
}

// resourceLimit is the limit of a resource's semaphore: it never stops a
// waiter from being released.
const resourceLimit = 0x7fffffff

// writeQueue fills a queue without entries, so that its threads wait.
func (m *machine) writeQueue(at mem.VA) {
	q := m.object("_KQUEUE", at)
	m.dispatcherHeader(q, "Header", "QueueObject", "_KQUEUE", 0)
	q.list("EntryListHead")
	q.list("ThreadListHead")
	q.put("MaximumCount", uint64(len(m.cpus)))
}

// writeToken makes the one token that every process has: Local System's.
func (m *machine) writeToken() mem.VA {
	at := m.placeObject(m.paged, tagOf("Toke"), m.size("_TOKEN"), number{})
	m.objectHeader(at, "Token", 0)
	t := m.object("_TOKEN", at)
	t.chars("TokenSource.SourceName", "*SYSTEM*")
	t.puts("TokenId.LowPart", 0x3eb, "AuthenticationId.LowPart", 0x3e7, "TokenType", 1)
	return at
}

// writeProcess fills an EPROCESS and puts it on the system's lists.
func (m *machine) writeProcess(p *process, token mem.VA) {
	m.objectHeader(p.at, "Process", 2+len(p.threads))
	e := m.object("_EPROCESS", p.at)
	m.processCommon(e, p)
	e.puts("UniqueProcessId", p.pid, "Token", uint64(token)|7, "Session", m.session(p), "ActiveThreads", len(p.threads),
		"CreateTime", m.now-m.ticks*m.tickLength+p.pid*100_000, "Peb", p.peb, "Flags", 0x144d0801,
		"VirtualSize", 0x2000000+p.pid<<12, "CommitCharge", 300+p.pid%977, "ActiveThreadsHighWatermark", len(p.threads),
		"ExitStatus", 0x103) // STATUS_PENDING: it lives
	e.chars("ImageFileName", p.image)
	e.put("PriorityClass", 2)
	if p.parent != nil {
		e.put("InheritedFromUniqueProcessId", p.parent.pid)
	}
	devices := m.deviceMap
	if s := p.spec.DeviceMap; s.set {
		devices = mem.VA(s.v)
	}
	e.put("DeviceMap", uint64(devices))
	for _, head := range []string{"SessionProcessLinks", "JobLinks", "MmProcessLinks", "ThreadListHead"} {
		e.list(head)
	}
	m.writeHandleTable(e, p)
	m.listAdd(m.global("PsActiveProcessHead"), e.field("ActiveProcessLinks"))
	m.listAdd(m.global("KiProcessListHead"), e.field("Pcb.ProcessListEntry"))
	if p.space != nil {
		m.writeUser(p)
	}
}

// session gives the address of the session's structure that a process belongs
// to; 0 for processes before the first session.
func (m *machine) session(p *process) mem.VA {
	if !p.spec.Session.set {
		return 0
	}
	id := p.spec.Session.v
	if id > 1000 {
		m.fail(wrong(p.spec.Session.line, "session %d: at most 1000", id))
		return 0
	}
	if at := m.sessions[id]; at != 0 {
		return at
	}
	at := m.taken.find(m.prof.stacks, m.size("_MM_SESSION_SPACE"), "a session's structure").Page()
	m.fail(m.kernel.mapRange(at, m.size("_MM_SESSION_SPACE"), flagsData))
	m.sessions[id] = at
	o := m.object("_MM_SESSION_SPACE", at)
	o.puts("SessionId", id, "ReferenceCount", 1)
	o.list("ProcessList")
	return at
}

// processCommon fills what the idle process has as well.
func (m *machine) processCommon(e object, p *process) {
	m.dispatcherHeader(e, "Pcb.Header", "ProcessObject", "_KPROCESS", 0)
	kernel, user := uint64(0), uint64(0)
	for _, t := range p.threads {
		kernel, user = kernel+t.spec.KernelTicks.v, user+t.spec.UserTicks.v
	}
	e.puts("Pcb.DirectoryTableBase", p.dtb, "Pcb.BasePriority", p.spec.Priority.or(8), "Pcb.QuantumReset", 6,
		"Pcb.KernelTime", kernel, "Pcb.UserTime", user)
	for _, head := range []string{"Pcb.ProfileListHead", "Pcb.ThreadListHead", "Pcb.ReadyListHead"} {
		e.list(head)
	}
	for _, set := range []string{"Pcb.Affinity", "Pcb.ActiveProcessors"} {
		e.puts(set+".Count", 1, set+".Size", 4, set+".Bitmap[0]", m.processorMask())
	}
}

func (m *machine) processorMask() uint64 { return 1<<len(m.cpus) - 1 }

// writeHandleTable makes a process's handle table: its counters, and a page of
// entries that are free.
func (m *machine) writeHandleTable(e object, p *process) {
	at := m.paged.alloc(tagOf("Obtb"), m.size("_HANDLE_TABLE"))
	entries := m.paged.allocBig(tagOf("Obtb"), pageSize, true)
	h := m.object("_HANDLE_TABLE", at)
	count := p.spec.Handles.or(40 + uint64(hashOf(p.image))%300)
	h.puts("TableCode", entries, "QuotaProcess", p.at, "UniqueProcessId", p.pid, "NextHandleNeedingPool", 0x400)
	m.handleCount(at, count)
	h.list("HandleTableList")
	e.put("ObjectTable", uint64(at))
}

// writeIdle fills the idle process, which is in no list that is walked.
func (m *machine) writeIdle() {
	e := m.object("_EPROCESS", m.idle.at)
	m.processCommon(e, m.idle)
	e.chars("ImageFileName", "Idle")
	e.puts("ActiveThreads", len(m.cpus), "ObjectTable", 0)
	e.list("ThreadListHead")
	m.setGlobal("PsIdleProcess", uint64(m.idle.at))
	m.setGlobal("PsInitialSystemProcess", uint64(m.procs[0].at))
}

// writeUser fills the few pages of user memory: the PEB and the TEBs.
func (m *machine) writeUser(p *process) {
	kernel := m.kernel
	m.kernel = p.space // objects are written through the process's own tables
	defer func() { m.kernel = kernel }()
	peb := m.object("_PEB", p.peb)
	peb.puts("ImageBaseAddress", 0x13fff0000+mem.VA(p.pid)<<16, "OSMajorVersion", m.prof.major, "OSMinorVersion", m.prof.minor,
		"OSBuildNumber", m.prof.build, "SessionId", p.session, "NumberOfProcessors", len(m.cpus))
	for _, t := range p.threads {
		teb := m.object("_TEB", t.teb)
		teb.puts("NtTib.Self", t.teb, "ClientId.UniqueProcess", p.pid, "ClientId.UniqueThread", t.tid,
			"ProcessEnvironmentBlock", p.peb, "NtTib.StackBase", t.userSP()+0x708, "NtTib.StackLimit", t.userSP()-0x4000)
	}
}
