package snapshot

import (
	"fmt"
	"slices"
	"strings"

	"gokd/model/mem"
)

// process is a process of the machine.
type process struct {
	spec    processSpec
	name    string
	image   string
	pid     uint64
	parent  *process
	threads []*thread
	at      mem.VA
	dtb     uint64
	space   *space // of its own, for user memory; System's and Idle's is the kernel's
	peb     mem.VA
	session uint64
}

// thread is a thread of the machine.
type thread struct {
	spec   threadSpec
	name   string
	proc   *process
	tid    uint64
	state  string
	cpu    int // that it runs on or waits for; -1 none
	idle   bool
	wait   *wait
	frames []frame
	start  *function

	at                mem.VA
	base, limit, init mem.VA // of the stack in use
	outer             *segment
	sp, pc            mem.VA // where it would go on
	trapFrame         mem.VA // of its last entry from user mode
	teb               mem.VA
}

// segment is a piece of a thread's kernel stack.
type segment struct{ base, limit, init mem.VA }

// processor is a processor of the machine.
type processor struct {
	number    int
	pcr, prcb mem.VA
	context   mem.VA // that the control block names
	current   *thread
	idle      *thread
}

// resource is an executive resource.
type resource struct {
	spec             resourceSpec
	at               mem.VA
	shared, excl     []*thread // waiters
	semaphore, event *dispatcher
}

// plan makes everything that the scenario names, and resolves references,
// before anything has an address.
func (m *machine) plan() error {
	if err := m.loadModules(); err != nil {
		return err
	}
	for _, step := range []func() error{
		m.planProcessors, m.planProcesses, m.planThreads, m.planObjects,
		m.planResources, m.planWaits, m.planStacks, m.planModuleCode,
	} {
		if err := step(); err != nil {
			return err
		}
	}
	m.declareVariables()
	return m.err
}

// define makes a name referable; it can be given once.
func (m *machine) define(name string, what any, line int) error {
	if name == "" {
		return nil
	}
	if m.names[name] != nil {
		return wrong(line, "the name %q is given twice", name)
	}
	m.names[name] = what
	return nil
}

// planProcessors makes the processors, each with its idle thread running until
// a scenario's thread takes its place.
func (m *machine) planProcessors() error {
	n := int(m.spec.Processors.or(4))
	for i := range n {
		m.cpus = append(m.cpus, &processor{number: i})
	}
	if c := m.spec.Crash.Processor; c.v >= uint64(n) {
		return wrong(c.line, "crash on processor %d: there are %d", c.v, n)
	}
	m.idle = &process{image: "Idle", name: "Idle"}
	for _, cpu := range m.cpus {
		cpu.idle = &thread{name: fmt.Sprintf("idle%d", cpu.number), proc: m.idle, state: "Running", cpu: cpu.number, idle: true}
		m.idle.threads = append(m.idle.threads, cpu.idle)
		cpu.current = cpu.idle
	}
	return nil
}

// nextID gives ids in steps of 4, as handles are.
func (m *machine) nextID(taken map[uint64]bool) uint64 {
	for {
		m.serial += 4 + hashOf(fmt.Sprint(m.serial))%7*4
		if id := uint64(0x100 + m.serial); !taken[id] {
			taken[id] = true
			return id
		}
	}
}

// planProcesses makes the processes and gives out their ids.
func (m *machine) planProcesses() error {
	list := slices.Clone(m.spec.Processes)
	// System is the first process of every machine, listed or not.
	if i := slices.IndexFunc(list, func(p processSpec) bool { return p.Image.s == "System" }); i > 0 {
		system := list[i]
		list = slices.Insert(slices.Delete(list, i, i+1), 0, system)
	} else if i < 0 {
		list = slices.Insert(list, 0, processSpec{Image: text{s: "System"}})
	}
	ids := map[uint64]bool{4: true}
	for i, spec := range list {
		p := &process{spec: spec, image: spec.Image.s, name: spec.Name.or(spec.Image.s), session: spec.Session.v}
		switch {
		case p.image == "" || len(p.image) > 15:
			return wrong(spec.Image.line, "process image %q: want 1 to 15 characters", p.image)
		case i > 0 && p.image == "System":
			return wrong(spec.Image.line, "there is one process System")
		case i == 0:
			p.pid = 4
		case spec.PID.set && (spec.PID.v == 0 || spec.PID.v%4 != 0 || spec.PID.v > 1<<20 || ids[spec.PID.v]):
			return wrong(spec.PID.line, "pid %d: want a multiple of 4 that no other process has", spec.PID.v)
		case spec.PID.set:
			p.pid = spec.PID.v
			ids[p.pid] = true
		}
		m.procs = append(m.procs, p)
		// Two processes of one image need names only where something refers to them.
		if m.names[p.name] == nil {
			m.names[p.name] = p
		} else if spec.Name.s != "" {
			return wrong(spec.Name.line, "the name %q is given twice", p.name)
		}
	}
	for _, p := range m.procs {
		if p.pid == 0 {
			p.pid = m.nextID(ids)
		}
	}
	for _, p := range m.procs[1:] {
		p.parent = m.procs[0]
		if name := p.spec.Parent; name.s != "" {
			parent, ok := m.names[name.s].(*process)
			if !ok {
				return wrong(name.line, "parent %q is no process", name.s)
			}
			p.parent = parent
		}
	}
	return nil
}

// threadStates are the states that can be asked for.
var threadStates = []string{"Waiting", "Running", "Ready", "Standby", "Terminated", "Transition"}

// planThreads makes the threads of all processes, in the scenario's order.
func (m *machine) planThreads() error {
	// Process and thread ids come from one table: none may be given twice.
	ids := map[uint64]bool{}
	for _, p := range m.procs {
		ids[p.pid] = true
		for _, spec := range p.spec.Threads {
			if spec.TID.set && (spec.TID.v == 0 || spec.TID.v%4 != 0 || spec.TID.v > 1<<20 || ids[spec.TID.v]) {
				return wrong(spec.TID.line, "tid %d: want a multiple of 4 that no other thread or process has", spec.TID.v)
			}
			ids[spec.TID.v] = true
		}
	}
	for _, p := range m.procs {
		specs := p.spec.Threads
		if len(specs) == 0 { // a process without a thread would be a dying one
			specs = []threadSpec{{}}
			if p.pid == 4 {
				specs[0].Count = number{v: 3, set: true}
			}
		}
		for _, spec := range specs {
			for range spec.Count.or(1) {
				if err := m.planThread(p, spec, ids); err != nil {
					return err
				}
			}
		}
	}
	return nil
}

// planThread makes one thread; a thread of System that is told no start works
// off the kernel's queue.
func (m *machine) planThread(p *process, spec threadSpec, ids map[uint64]bool) error {
	if spec.Count.v > 1 && (spec.Name.s != "" || spec.Address.set || spec.TID.set || spec.StackBase.set || len(spec.IRPs) > 0) {
		return wrong(spec.Count.line, "several threads at once cannot have a name, an address, an id, a stack or IRPs")
	}
	t := &thread{spec: spec, name: spec.Name.s, proc: p, tid: spec.TID.v, cpu: -1}
	if t.tid == 0 {
		t.tid = m.nextID(ids)
	}
	want := spec.State.or("Waiting")
	i := slices.IndexFunc(threadStates, func(s string) bool { return strings.EqualFold(s, want) })
	if i < 0 {
		return wrong(spec.State.line, "state %q: want one of %s", want, strings.Join(threadStates, ", "))
	}
	t.state = threadStates[i]
	if err := m.planProcessor(t); err != nil {
		return err
	}
	start := spec.Start
	if start.s == "" {
		start.s = "nt!ExpWorkerThread"
		if p.pid != 4 {
			start.s = ""
		}
	}
	if start.s != "" {
		var err error
		if t.start, err = m.routine(start.s, start.line); err != nil {
			return err
		}
	}
	p.threads = append(p.threads, t)
	m.threads = append(m.threads, t)
	return m.define(t.name, t, spec.Name.line)
}

// planProcessor puts a running or ready thread on its processor.
func (m *machine) planProcessor(t *thread) error {
	c := t.spec.Processor
	if c.v >= uint64(len(m.cpus)) {
		return wrong(c.line, "processor %d: there are %d", c.v, len(m.cpus))
	}
	if t.state == "Waiting" || t.state == "Terminated" || t.state == "Transition" {
		return nil
	}
	t.cpu = int(c.v)
	if t.state != "Running" {
		return nil
	}
	cpu := m.cpus[t.cpu]
	if !cpu.current.idle {
		return wrong(max(c.line, t.spec.State.line), "processor %d runs another thread already", t.cpu)
	}
	cpu.current = t
	return nil
}

// planResources makes the resources, in the order of the system's list.
func (m *machine) planResources() error {
	for _, spec := range m.spec.Resources {
		many := spec.Count.or(1) > 1
		held := spec.Exclusive != nil || len(spec.Shared)+len(spec.SharedWaiters)+len(spec.ExclusiveWaiters) > 0
		if many && (held || spec.Address.set || spec.Name.s != "") {
			return wrong(spec.Count.line, "several resources at once cannot have a name, an address, owners or waiters")
		}
		for range spec.Count.or(1) {
			r := &resource{spec: spec}
			var err error
			if r.shared, err = m.waiters(spec.SharedWaiters); err != nil {
				return err
			}
			if r.excl, err = m.waiters(spec.ExclusiveWaiters); err != nil {
				return err
			}
			if err := m.checkOwners(spec); err != nil {
				return err
			}
			if variable, ok := strings.CutPrefix(spec.Name.s, "nt!"); ok {
				if _, twice := m.nt.vars[variable]; twice {
					return wrong(spec.Name.line, "the name %q is given twice", spec.Name.s)
				}
				m.nt.variable(variable, uint32(m.size("_ERESOURCE")), 16)
			}
			m.resources = append(m.resources, r)
			m.planResourceWaits(r)
		}
	}
	return nil
}

// waiters finds the threads that wait for a resource.
func (m *machine) waiters(names []text) ([]*thread, error) {
	var list []*thread
	for _, name := range names {
		t, ok := m.names[name.s].(*thread)
		switch {
		case !ok:
			return nil, wrong(name.line, "waiter %q is no thread", name.s)
		case t.state != "Waiting":
			return nil, wrong(name.line, "waiter %q does not wait: its state is %s", name.s, t.state)
		case t.wait != nil || len(t.spec.Wait.For) > 0:
			return nil, wrong(name.line, "waiter %q waits for something else already", name.s)
		}
		t.wait = new(wait)
		list = append(list, t)
	}
	return list, nil
}

// checkOwners refuses owners that a resource cannot have.
func (m *machine) checkOwners(spec resourceSpec) error {
	owners := spec.Shared
	if spec.Exclusive != nil {
		if len(owners) > 0 {
			return wrong(spec.Name.line, "a resource has an exclusive owner or shared ones")
		}
		owners = []ownerSpec{*spec.Exclusive}
	}
	for _, o := range owners {
		if _, ok := m.names[o.Thread.s].(*thread); o.Thread.s != "" && !ok {
			return wrong(o.Thread.line, "owner %q is no thread", o.Thread.s)
		}
		if o.Thread.s == "" && !o.Pointer.set || o.Thread.s != "" && o.Pointer.set {
			return wrong(max(o.Pointer.line, o.Thread.line, o.Count.line, spec.Name.line), "an owner is a thread or a pointer")
		}
		if o.Count.set && (o.Count.v == 0 || o.Count.v > 1<<20) {
			return wrong(o.Count.line, "an owner has acquired at least once")
		}
	}
	if owners == nil && len(spec.SharedWaiters)+len(spec.ExclusiveWaiters) > 0 {
		return wrong(spec.Name.line, "nobody waits for a resource that nobody owns")
	}
	return nil
}
