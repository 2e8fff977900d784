package snapshot

import (
	"slices"
	"strings"

	"gokd/model/mem"
)

// wait is what a thread waits for.
type wait struct {
	reason    string // KWAIT_REASON
	user      bool   // UserMode
	alertable bool
	all       bool
	timeout   uint64 // ticks; 0 none
	ticks     uint64 // since it began
	targets   []target
	resource  *resource
	queue     bool
	delay     bool
}

// target is one waited-for object.
type target struct {
	object *dispatcher
	thread *thread
	proc   *process
}

// dispatcher is a dispatcher object of its own.
type dispatcher struct {
	spec  objectSpec
	kind  string
	owner *thread
	part  bool // of a resource: it stands without an object header
	at    mem.VA
}

// kind describes dispatcher objects by the word that scenarios use.
type objectKind struct {
	word, typ, object string // object: the name in _KOBJECTS
	tag               string
	objectType        string // "" where the object stands without a header
}

// objectKinds lists what threads can wait for by a word. Pool tags are those
// of Windows' public tag list.
var objectKinds = []objectKind{
	{"event", "_KEVENT", "EventNotificationObject", "Even", "Event"},
	{"sync_event", "_KEVENT", "EventSynchronizationObject", "Even", "Event"},
	{"semaphore", "_KSEMAPHORE", "SemaphoreObject", "Sema", "Semaphore"},
	{"mutant", "_KMUTANT", "MutantObject", "Muta", "Mutant"},
	{"timer", "_KTIMER", "TimerNotificationObject", "Time", "Timer"},
	{"sync_timer", "_KTIMER", "TimerSynchronizationObject", "Time", "Timer"},
	{"queue", "_KQUEUE", "QueueObject", "IoCo", "IoCompletion"},
}

func kindOf(word string) (objectKind, bool) {
	i := slices.IndexFunc(objectKinds, func(k objectKind) bool { return k.word == word })
	if i < 0 {
		return objectKind{}, false
	}
	return objectKinds[i], true
}

// planObjects makes the objects that the scenario names.
func (m *machine) planObjects() error {
	for _, spec := range m.spec.Objects {
		if _, ok := kindOf(spec.Kind.s); !ok {
			return wrong(max(spec.Kind.line, spec.Name.line), "object kind %q: want one of %s", spec.Kind.s, kindWords())
		}
		if spec.Name.s == "" {
			return wrong(spec.Kind.line, "an object needs a name")
		}
		d := &dispatcher{spec: spec, kind: spec.Kind.s}
		if spec.Owner.s != "" {
			t, ok := m.names[spec.Owner.s].(*thread)
			if !ok || d.kind != "mutant" {
				return wrong(spec.Owner.line, "owner %q: want a thread, of a mutant", spec.Owner.s)
			}
			d.owner = t
		}
		if err := m.define(spec.Name.s, d, spec.Name.line); err != nil {
			return err
		}
		m.objects = append(m.objects, d)
	}
	return nil
}

func kindWords() string {
	var words []string
	for _, k := range objectKinds {
		words = append(words, k.word)
	}
	return strings.Join(words, ", ")
}

// planResourceWaits gives a resource the objects that its waiters wait on: a
// semaphore for shared access, an event for exclusive access.
func (m *machine) planResourceWaits(r *resource) {
	for _, side := range []struct {
		waiters []*thread
		kind    string
		at      number
		object  **dispatcher
	}{{r.shared, "semaphore", r.spec.Semaphore, &r.semaphore}, {r.excl, "sync_event", r.spec.Event, &r.event}} {
		if len(side.waiters) == 0 && !side.at.set {
			continue
		}
		*side.object = &dispatcher{kind: side.kind, part: true, spec: objectSpec{Address: side.at, Limit: number{v: 0x7fffffff, set: true}}}
		for _, t := range side.waiters {
			t.wait = &wait{reason: "WrResource", resource: r, targets: []target{{object: *side.object}}}
		}
	}
}

// planWaits resolves what the waiting threads wait for.
func (m *machine) planWaits() error {
	for i, t := range m.threads {
		if t.state != "Waiting" {
			if len(t.spec.Wait.For) > 0 {
				return wrong(t.spec.Wait.For[0].line, "a thread in state %s does not wait", t.state)
			}
			continue
		}
		if t.wait == nil { // those of a resource's waiters are there already
			t.wait = new(wait)
			if err := m.planTargets(t); err != nil {
				return err
			}
		}
		w, spec := t.wait, t.spec.Wait
		if err := m.planReason(t); err != nil {
			return err
		}
		w.alertable, w.all, w.timeout = spec.Alertable, spec.All, spec.Timeout.v
		w.ticks = spec.Ticks.or(uint64(20 + 37*i%9000))
		if w.ticks > m.ticks || w.timeout > 1<<40 {
			return wrong(max(spec.Ticks.line, spec.Timeout.line), "a wait of %d ticks began before the machine did", w.ticks)
		}
		if w.delay && w.timeout == 0 {
			w.timeout = 64
		}
	}
	return nil
}

// planReason decides wait reason and mode where the scenario does not.
func (m *machine) planReason(t *thread) error {
	w, spec := t.wait, t.spec.Wait
	switch mode := spec.Mode.or("default"); {
	case mode == "default":
		w.user = t.proc.pid != 4 && w.resource == nil && len(t.spec.Stack) == 0
	case mode != "user" && mode != "kernel":
		return wrong(spec.Mode.line, "wait mode %q: want user or kernel", mode)
	default:
		w.user = mode == "user"
	}
	if w.reason == "" {
		switch {
		case w.queue:
			w.reason = "WrQueue"
		case w.delay:
			w.reason = "DelayExecution"
		case w.user:
			w.reason = "UserRequest"
		default:
			w.reason = "Executive"
		}
	}
	if spec.Reason.s != "" {
		w.reason = spec.Reason.s
	}
	if _, err := m.constant("_KWAIT_REASON", w.reason); err != nil {
		return wrong(spec.Reason.line, "wait reason %q is none of KWAIT_REASON", w.reason)
	}
	return nil
}

// maxTargets is THREAD_WAIT_OBJECTS: wait blocks in the thread itself besides
// the timer's.
const maxTargets = 3

// planTargets resolves what a thread waits for, or finds something ordinary.
func (m *machine) planTargets(t *thread) error {
	spec := t.spec.Wait
	if len(spec.For) == 0 {
		switch {
		case t.proc.pid == 4 && t.start.name == "ExpWorkerThread" && len(t.spec.Stack) == 0:
			t.wait.queue = true // the kernel's own queue of work items
		default:
			t.wait.targets = []target{{object: m.anonymous("event")}}
		}
		return nil
	}
	if len(spec.For) > maxTargets {
		return wrong(spec.For[0].line, "a thread waits for at most %d objects", maxTargets)
	}
	for _, name := range spec.For {
		if name.s == "delay" {
			if len(spec.For) > 1 {
				return wrong(name.line, "a delay is waited for alone")
			}
			t.wait.delay = true
			continue
		}
		one, err := m.target(name)
		if err != nil {
			return err
		}
		t.wait.queue = t.wait.queue || one.object != nil && one.object.kind == "queue"
		t.wait.targets = append(t.wait.targets, one)
	}
	if t.wait.queue && len(t.wait.targets) > 1 {
		return wrong(spec.For[0].line, "a queue is waited for alone")
	}
	return nil
}

// target resolves a name or a kind of object.
func (m *machine) target(name text) (target, error) {
	switch v := m.names[name.s].(type) {
	case *dispatcher:
		return target{object: v}, nil
	case *thread:
		return target{thread: v}, nil
	case *process:
		return target{proc: v}, nil
	}
	if _, ok := kindOf(name.s); ok {
		return target{object: m.anonymous(name.s)}, nil
	}
	return target{}, wrong(name.line, "%q is no object, thread or process, and none of %s", name.s, kindWords())
}

// anonymous makes an object of its own for one wait.
func (m *machine) anonymous(kind string) *dispatcher {
	d := &dispatcher{kind: kind}
	m.objects = append(m.objects, d)
	return d
}

// constant gives the value of an enumeration's name in the layout.
func (m *machine) constant(enum, name string) (uint64, error) {
	t, err := m.layout.store.Type(enum)
	if err != nil {
		return 0, err
	}
	v, ok := t.Consts[name]
	if !ok {
		return 0, wrong(0, "%s has no %s", enum, name)
	}
	return uint64(v), nil
}

// must is constant for names that the program knows.
func (m *machine) must(enum, name string) uint64 {
	v, err := m.constant(enum, name)
	m.fail(err)
	return v
}

// address gives the waited-for object's address once it has one.
func (t target) address() mem.VA {
	switch {
	case t.object != nil:
		return t.object.at
	case t.thread != nil:
		return t.thread.at
	case t.proc != nil:
		return t.proc.at
	}
	return 0
}
