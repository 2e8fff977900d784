// Package vm reads the memory manager's own account of a machine's memory: the
// counters of physical memory and commitment, the page files, the use of
// system addresses, what each process and session takes, and the lookaside
// lists.
//
// Up to Windows 8.1 the counters are variables of the kernel (MmAvailablePages
// and others), most of which the debugger data block names. From Windows 10 on
// they are members of _MI_PARTITION (nt!MiSystemPartition) and
// _MI_VISIBLE_STATE (nt!MiVisibleState). The package knows no command and prints
// nothing; a number that a build does not keep or a dump does not hold is told
// apart from a zero.
//
// Public sources: the type tables and names of the public symbol files,
// KDDEBUGGER_DATA64 of wdbgexts.h, the books on Windows internals for what the
// counters mean. Which counter stands behind which line of !vm follows from
// their names; no published text says it.
package vm

import (
	"context"
	"errors"
	"fmt"

	"gokd/model"
	"gokd/model/mem"
	"gokd/model/types"
)

// Counter is one number of the memory manager, in pages of 4 KiB unless its
// name says otherwise.
type Counter struct {
	Name  string // as records spell it: "available"
	Pages uint64
	From  string // where it was read: "nt!MmAvailablePages"
	Err   error  // why it is not known; ErrNotKept where this build has none
}

// Known reports whether the number is known.
func (c Counter) Known() bool { return c.Err == nil }

// Errors of this package.
var (
	// ErrNotKept says that this build of Windows does not keep a number.
	ErrNotKept = errors.New("this build of Windows does not keep it")
	// ErrUnknownPlace says that the debuggers show a number of which no public
	// source tells where the kernel keeps it.
	ErrUnknownPlace = errors.New("where this build keeps it is not known")
	// ErrNotFilled says that a structure holds nothing but zeros, as in a machine
	// that was made and not run.
	ErrNotFilled = errors.New("holds only zeros")
)

// Memory is the account of the whole machine.
type Memory struct {
	counters map[string]Counter
	// PagedPools are the paged pools of page pools, in order of their numbers.
	PagedPools []Counter
	// Failures count requests that were refused since boot.
	Failures Failures
	// Together: NonPagedUsage counts executable and other nonpaged pool together.
	Together bool
}

// Failures count requests that were refused since boot; of those that are not
// known the error is in Err.
type Failures struct {
	SystemPTEs, KernelStackPTEs uint64
	Pool                        uint64
	Commit                      uint64
	Err                         map[string]error
}

// Counter gives a number by its name.
func (m *Memory) Counter(name string) Counter {
	if c, ok := m.counters[name]; ok {
		return c
	}
	return Counter{Name: name, Err: ErrNotKept}
}

// set adds a number.
func (m *Memory) set(name string, pages uint64, from string, err error) {
	m.counters[name] = Counter{Name: name, Pages: pages, From: from, Err: err}
}

// Read reads the account. What can't be read is told per counter; the error is
// that of an interrupted walk.
func Read(ctx context.Context, k *model.Kernel) (*Memory, error) {
	m := &Memory{counters: map[string]Counter{}, Failures: Failures{Err: map[string]error{}}}
	r := newRoots(k)
	for _, p := range places {
		m.counters[p.name] = r.find(p)
	}
	// The debuggers show these on every build.
	for _, name := range []string{LockedIO, KernelStacks, PagedCommit} {
		if c, ok := m.counters[name]; !ok || errors.Is(c.Err, ErrNotKept) {
			m.set(name, 0, "", ErrUnknownPlace)
		}
	}
	m.cachedCommit(k)
	m.partitionPages(r)
	m.poolUsage(ctx, k)
	m.failures(r)
	return m, ctx.Err()
}

// roots are the structures that counters are members of.
type roots struct {
	k          *model.Kernel
	objects    map[string]model.Object // by the name of the variable
	errs       map[string]error
	resolvable map[string]bool // the build has the structure
	named      bool            // all variables of the kernel are known by name
}

// The structures, by the variable that names them.
const (
	inPartition = "MiSystemPartition"
	inVisible   = "MiVisibleState"
	inSystem    = "MiState"
)

// structures tells what type each variable is of, or points at, and which of
// its members are never zero on a machine that ran.
var structures = []struct {
	variable, typ string
	pointer       bool
	alive         []string
}{
	{inPartition, "_MI_PARTITION", false, []string{"Vp.NumberOfPhysicalPages"}},
	{inVisible, "_MI_VISIBLE_STATE", true, []string{"MaximumNonPagedPoolInPages", "SizeOfPagedPoolInPages", "ProcessCommit"}},
	{inSystem, "_MI_SYSTEM_INFORMATION", false, []string{"Vs.MaximumNonPagedPoolInPages", "Pools.AllocatedNonPagedPool", "Hardware.SecondaryColors"}},
}

func newRoots(k *model.Kernel) *roots {
	r := &roots{k: k, objects: map[string]model.Object{}, errs: map[string]error{}, resolvable: map[string]bool{}}
	if k.Types == nil {
		return r
	}
	// Every kernel has this one; the debugger data block does not name it.
	_, err := k.Global("ExPagedLookasideListHead")
	r.named = err == nil
	for _, s := range structures {
		if _, err := k.Types.Type(s.typ); err != nil {
			continue
		}
		r.resolvable[s.variable] = true
		o, err := r.root(s.variable, s.typ, s.pointer)
		if err == nil {
			err = alive(o, s.alive)
		}
		if err != nil {
			r.errs[s.variable] = fmt.Errorf("nt!%s: %w", s.variable, err)
			continue
		}
		r.objects[s.variable] = o
	}
	return r
}

// root finds a structure: by its variable, else through nt!MiState, whose
// members lead to the other two.
func (r *roots) root(variable, typ string, pointer bool) (model.Object, error) {
	at, err := r.k.Global(variable)
	if err == nil && pointer {
		at, err = r.k.Space.Pointer(at)
		if err == nil && at == 0 {
			err = ErrNotFilled
		}
	}
	if err == nil {
		return r.k.Object(typ, at), nil
	}
	state, serr := r.k.Global(inSystem)
	if serr != nil || variable == inSystem {
		return model.Object{}, err
	}
	o := r.k.Object("_MI_SYSTEM_INFORMATION", state)
	if variable == inVisible {
		return o.Field("Vs"), nil
	}
	// The system's own partition has number 0.
	first, perr := o.Field("Partitions.Partition").Pointer()
	if perr == nil {
		first, perr = r.k.Space.Pointer(first)
	}
	if perr != nil {
		return model.Object{}, perr
	}
	return r.k.Object(typ, first), nil
}

// alive refuses a structure that no kernel filled in.
func alive(o model.Object, fields []string) error {
	var first error
	for _, f := range fields {
		v, err := o.Field(f).Uint()
		if err == nil && v != 0 {
			return nil
		}
		if first == nil {
			first = err
		}
	}
	if first != nil {
		return first
	}
	return fmt.Errorf("%s at %#x %w", o.Type().Name, uint64(o.Addr()), ErrNotFilled)
}

// place is where a counter may be, tried in order.
type place struct {
	name    string
	members []member
	vars    []variable
	alive   bool // never zero on a machine that ran
}

// member is a member of one of the structures.
type member struct{ root, path string }

// variable is a variable of the kernel: a number of 4 or 8 bytes, or a member
// of a structure.
type variable struct {
	name      string
	size      int  // 4; 0: 8
	bytes     bool // it counts bytes, not pages
	typ, path string
}

// find reads a counter from the first place that has it.
func (r *roots) find(p place) Counter {
	c := Counter{Name: p.name, Err: ErrNotKept}
	// What is never zero on a machine that ran was not filled in where it is.
	good := func(v uint64, err error) (uint64, error) {
		if err == nil && v == 0 && p.alive {
			return 0, ErrNotFilled
		}
		return v, err
	}
	for _, m := range p.members {
		o, ok := r.objects[m.root]
		if !ok {
			// Without the structure only its type tells whether it would have the
			// member.
			if r.resolvable[m.root] && r.has(m) {
				c.Err = r.errs[m.root]
			}
			continue
		}
		f := o.Field(m.path)
		if notFound(f.Err()) {
			continue
		}
		v, err := good(f.Uint())
		if err == nil {
			return Counter{Name: p.name, Pages: v, From: "nt!" + m.root + "." + m.path}
		}
		c.Err = err
	}
	for _, v := range p.vars {
		n, err := good(r.variable(v))
		if err == nil {
			return Counter{Name: p.name, Pages: n, From: "nt!" + v.name}
		}
		// A kernel of Windows 10 has none of these variables, and one whose names
		// are all known lacks what has none: that says nothing.
		_, unnamed := errors.AsType[*model.GlobalError](err)
		if errors.Is(c.Err, ErrNotKept) && !r.resolvable[inPartition] && !notFound(err) && !(unnamed && r.named) {
			c.Err = err
		}
	}
	return c
}

// has reports whether the type of a structure has a member.
func (r *roots) has(m member) bool {
	for _, s := range structures {
		if s.variable == m.root {
			return r.k.Object(s.typ, 0).Field(m.path).Err() == nil
		}
	}
	return false
}

func notFound(err error) bool {
	var none *types.NotFoundError
	return errors.As(err, &none)
}

// variable reads a number. The debugger data block names a variable with 0
// where the build has none, so that a Global that is found is one.
func (r *roots) variable(v variable) (uint64, error) {
	at, err := r.k.Global(v.name)
	if err != nil {
		return 0, err
	}
	switch {
	case v.typ != "":
		return r.k.Object(v.typ, at).Field(v.path).Uint()
	case v.size == 4:
		n, err := r.k.Space.Uint32(at)
		return uint64(n), wrap(v.name, err)
	}
	n, err := r.k.Space.Uint64(at)
	if v.bytes {
		n /= mem.PageSize
	}
	return n, wrap(v.name, err)
}

func wrap(name string, err error) error {
	if err != nil {
		return fmt.Errorf("nt!%s: %w", name, err)
	}
	return nil
}

// array sums an array of 32-bit numbers.
func (r *roots) array(at mem.VA, n int) (uint64, error) {
	var sum uint64
	for i := range n {
		v, err := r.k.Space.Uint32(at + mem.VA(4*i))
		if err != nil {
			return 0, err
		}
		sum += uint64(v)
	}
	return sum, nil
}
