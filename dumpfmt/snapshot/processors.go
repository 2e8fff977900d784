package snapshot

import (
	"fmt"

	"gokd/model/mem"
)

// Selectors of the 64-bit kernel (public in the debugger data block of every
// x64 dump: GdtR0Code and so on).
const (
	kernelCS = 0x10
	kernelSS = 0x18
	userDS   = 0x2b
	userFS   = 0x53
	// contextFull is what the kernel saves of an interrupted processor:
	// CONTEXT_AMD64 with control, integer, segment, floating-point and debug
	// registers (winnt.h).
	contextFull = 0x10001f
)

// writeProcessors fills the control regions.
func (m *machine) writeProcessors() {
	for i, cpu := range m.cpus {
		pcr := m.object("_KPCR", cpu.pcr)
		pcr.puts("Self", cpu.pcr, "CurrentPrcb", cpu.prcb, "MajorVersion", 1, "MinorVersion", 1, "StallScaleFactor", 2394)
		if i == 0 {
			pcr.put("KdVersionBlock", uint64(m.global("KdVersionBlock")))
		}
		m.put64(m.global("KiProcessorBlock")+mem.VA(8*i), uint64(cpu.prcb))
		prcb := m.object("_KPRCB", cpu.prcb)
		prcb.puts("Number", i, "CurrentThread", cpu.current.at, "IdleThread", cpu.idle.at, "MHz", 2394, "CpuType", 6,
			"MajorVersion", 1, "MinorVersion", 1, "BuildType", 2, "GroupSetMember", 1<<i, "InitialApicId", i,
			"RspBase", cpu.current.init, "MxCsr", 0x1f80, "KeContextSwitches", 1000000+7919*i)
		prcb.chars("VendorString", "GenuineIntel")
		prcb.list("WaitListHead")
		for k := range 32 {
			prcb.list(fmt.Sprintf("DispatcherReadyListHead[%d]", k))
		}
		m.writeContext(prcb, cpu)
	}
	m.setGlobal("KeNumberProcessors", uint64(len(m.cpus)))
}

// writeContext saves the processor's registers where a crash leaves them: in
// the processor state, and in a context record that the control block names.
func (m *machine) writeContext(prcb object, cpu *processor) {
	state := m.object("_KSPECIAL_REGISTERS", prcb.field("ProcessorState.SpecialRegisters"))
	state.puts("Cr0", 0x80050031, "Cr3", cpu.current.proc.dtb, "Cr4", 0x6f8, "KernelDr7", 0x400,
		"Tr", 0x40, "MxCsr", 0x1f80, "MsrGsBase", cpu.pcr)
	m.fillContext(m.object("_CONTEXT", prcb.field("ProcessorState.ContextFrame")), cpu)
	m.fillContext(m.object("_CONTEXT", cpu.context), cpu)
	prcb.puts("Context", cpu.context, "ContextFlags", contextFull)
}

func (m *machine) fillContext(c object, cpu *processor) {
	t := cpu.current
	c.puts("ContextFlags", contextFull, "MxCsr", 0x1f80, "SegCs", kernelCS, "SegDs", userDS, "SegEs", userDS,
		"SegFs", userFS, "SegGs", userDS, "SegSs", kernelSS, "EFlags", 0x246, "Dr7", 0x400,
		"Rip", t.pc, "Rsp", t.sp, "Rbx", cpu.prcb, "Rsi", t.at, "Rdi", t.proc.at)
	if m.crashed(cpu) {
		for i, reg := range []string{"Rcx", "Rdx", "R8", "R9"} {
			c.put(reg, m.crashArgument(i))
		}
	}
}

// crashed reports whether a processor is the one that stopped the machine.
func (m *machine) crashed(cpu *processor) bool {
	return uint64(cpu.number) == m.spec.Crash.Processor.v
}

// bugCheckManual is MANUALLY_INITIATED_CRASH (Microsoft's bug check reference).
const bugCheckManual = 0xe2

// crashArgument gives the arguments of KeBugCheckEx: the code, then the
// parameters.
func (m *machine) crashArgument(i int) uint64 {
	if i == 0 {
		return m.spec.Crash.Code.or(bugCheckManual)
	}
	if i <= len(m.spec.Crash.Args) {
		return m.spec.Crash.Args[i-1].v
	}
	return 0
}

// writeCIDs makes the table of process and thread ids: a handle table whose
// entries hold the objects' addresses.
func (m *machine) writeCIDs() {
	objects := map[uint64]mem.VA{}
	last := uint64(0)
	for _, p := range m.procs {
		objects[p.pid] = p.at
		for _, t := range p.threads {
			objects[t.tid] = t.at
			last = max(last, t.tid)
		}
		last = max(last, p.pid)
	}
	width := m.size("_HANDLE_TABLE_ENTRY")
	perPage := pageSize / width
	pages := last/4/perPage + 1
	leaves := make([]mem.VA, pages)
	for i := range leaves {
		leaves[i] = m.paged.allocBig(tagOf("Obtb"), pageSize, true)
	}
	code := leaves[0]
	if pages > 1 { // a page of pointers, marked by the lowest bits
		if pages > pageSize/8 {
			m.fail(fmt.Errorf("id %d is too large", last))
			return
		}
		code = m.paged.allocBig(tagOf("Obtb"), pageSize, true)
		for i, at := range leaves {
			m.put64(code+mem.VA(8*i), uint64(at))
		}
		code++
	}
	for id, at := range objects {
		n := id / 4
		m.object("_HANDLE_TABLE_ENTRY", leaves[n/perPage]+mem.VA(n%perPage*width)).put("Value", uint64(at))
	}
	table := m.paged.alloc(tagOf("Obtb"), m.size("_HANDLE_TABLE"))
	h := m.object("_HANDLE_TABLE", table)
	h.puts("TableCode", code, "HandleCount", len(objects), "NextHandleNeedingPool", pages*perPage*4)
	h.put("StrictFIFO", 1)
	h.list("HandleTableList")
	m.setGlobal("PspCidTable", uint64(table))
}
