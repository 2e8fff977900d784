package vm

import (
	"context"
	"errors"
	"fmt"

	"gokd/commands/cmd"
	"gokd/commands/report"
	"gokd/model/pool"
	"gokd/model/vm"
)

var vmCommand = &cmd.Command{
	Name: "!vm", Aliases: []string{"!kdexts.vm"}, Group: cmd.GroupMemory,
	Summary: "show how much memory there is and what takes it",
	Args: []cmd.Arg{
		{Name: "Flags", Kind: cmd.KindFlags, Optional: true, Doc: "sum of 1 no list of processes, 2 stacks of the memory manager's threads, 4 sessions, 8 log of page file writes, 10 stacks of the owners of working sets, 20 use of system addresses"},
	},
	Needs: cmd.NeedKernel,
	Help: `Shows the memory manager's own counters in pages and kilobytes, the page
files, and what each process has committed, largest first. Flag 20 alone shows
the regions of system space and nothing else.

A line whose number this build does not keep, or this dump does not hold, is
left out, and a note names it; a zero is a zero that was read. Where the kernel
keeps the numbers is told by their names in its symbols. Locked IO Pages is kept
by none of the builds known, Kernel Stacks only by Windows 7 (a note adds up the
stacks of all threads instead), and the split of nonpaged pool comes from the
pool descriptors or the heaps. Sum System Commit and Misc/Transient Commit need
every part. A warning of nonpaged pool stands from 85% of its maximum on.`,
	Example: "!vm 1\n!vm",
	SeeAlso: []string{"!poolused", "!session", "!frag"},
	Run:     runVM,
}

// Flags of !vm.
const (
	flagNoProcesses = 0x1
	flagThreads     = 0x2
	flagSessions    = 0x4
	flagWrites      = 0x8
	flagOwners      = 0x10
	flagRegions     = 0x20
	flagsAll        = 0x3f
)

func runVM(ctx context.Context, s *cmd.Session, in cmd.Args, out report.Sink) error {
	flags := in.Uint("Flags", 0)
	if flags&^flagsAll != 0 {
		return cmd.Misuse(fmt.Errorf("flags %#x: want a sum of 1, 2, 4, 8, 10 and 20", flags))
	}
	if s.Kernel.Triage() {
		return errors.New("!vm: a triage dump holds no memory of the memory manager: a kernel or full dump is needed")
	}
	// kd shows nothing but the regions where they alone are asked for.
	if flags == flagRegions {
		return regions(ctx, s, out)
	}
	p, err := pools(s)
	if err != nil {
		return err
	}
	sum, err := newSummary(ctx, s, p)
	if err != nil {
		return err
	}
	if err := out.Emit(sum); err != nil {
		return err
	}
	if flags&flagNoProcesses == 0 {
		if err := sum.showProcesses(out); err != nil {
			return err
		}
	}
	for _, part := range []struct {
		flag uint64
		show func(context.Context, *cmd.Session, report.Sink) error
	}{
		{flagSessions, sum.showSessions}, {flagThreads, workers}, {flagOwners, owners}, {flagWrites, writes}, {flagRegions, regions},
	} {
		if flags&part.flag == 0 {
			continue
		}
		if err := part.show(ctx, s, out); err != nil {
			return err
		}
	}
	return sum.notes(out)
}

// Names of the counters that are worked out from others.
const (
	totalPrivate    = "total_private"
	sumSystem       = "sum_system_commit"
	transientCommit = "transient_commit"
)

// summary is the record of the whole machine.
type summary struct {
	Pages       map[string]*uint64 `json:"pages"`
	PagedPools  []uint64           `json:"paged_pools"`
	PageFiles   []*pageFile        `json:"page_files"`
	Failures    map[string]*uint64 `json:"failures"`
	Together    bool               `json:"nonpaged_pools_together"` // nonpaged_pool_usage counts both nonpaged pools
	SystemFloor uint64             `json:"system_commit_floor"`     // the known parts of sum_system_commit
	Stacks      threadStacks       `json:"thread_stacks"`
	Origin      string             `json:"layout,omitempty"`
	Missing     report.Missing     `json:"missing,omitempty"`

	mem       *vm.Memory
	derived   map[string]vm.Counter
	processes []*processCommit
	walk      error // what the list of processes lacks
	sessions  []*sessionUse
	noSession error // what the list of sessions lacks
	filesErr  error
}

// threadStacks is what the stacks of the threads take that are on the lists.
type threadStacks struct {
	Threads uint64 `json:"threads"`
	Pages   uint64 `json:"pages"`
	Unread  uint64 `json:"unread"`
}

// Type names the record.
func (*summary) Type() string { return "vm" }

// SkippedItems counts what the walks could not read.
func (s *summary) SkippedItems() int {
	n := 0
	if s.walk != nil {
		n++
	}
	return n
}

// counter gives a number, read or worked out.
func (s *summary) counter(name string) vm.Counter {
	if c, ok := s.derived[name]; ok {
		return c
	}
	return s.mem.Counter(name)
}

func newSummary(ctx context.Context, s *cmd.Session, p *pool.Pool) (*summary, error) {
	k := s.Kernel
	m, err := vm.Read(ctx, k)
	if err != nil {
		return nil, err
	}
	sum := &summary{mem: m, derived: map[string]vm.Counter{}, Together: m.Together, Origin: layoutNote(k),
		PagedPools: []uint64{}, PageFiles: []*pageFile{}}
	for _, c := range m.PagedPools {
		sum.PagedPools = append(sum.PagedPools, c.Pages)
	}
	files, err := vm.PageFiles(k)
	sum.filesErr = err
	for _, f := range files {
		sum.PageFiles = append(sum.PageFiles, newPageFile(f))
	}
	sum.readProcesses(ctx, k)
	sum.readSessions(ctx, k, p)
	stacks, err := vm.Stacks(ctx, k)
	if err != nil {
		return nil, err
	}
	sum.Stacks = threadStacks(stacks)
	sum.derive()
	sum.fill()
	return sum, nil
}

// systemParts are what the sum of the system's commitment adds up; a public
// output of Windows 11 shows that the pages of slab allocators are not in it.
var systemParts = []string{
	vm.ProcessorCommit, vm.SessionCommit, vm.SharedCommit, vm.SpecialPool, vm.KernelStacks, vm.MDLPages, vm.ContiguousPages,
	vm.PartitionPages, vm.AWEPages, vm.NonPagedCommit, vm.PagedCommit, vm.DriverCommit, vm.BootCommit, vm.PFNCommit,
	vm.SmallPTEsCommit, vm.PageTableCommit, vm.BitmapPages, vm.LockedFilePages, vm.PagefileHashPages,
}

// derive works out the sums.
func (s *summary) derive() {
	var missing error
	var known uint64
	for _, name := range systemParts {
		c := s.counter(name)
		switch {
		case c.Known():
			known += c.Pages
		case !errors.Is(c.Err, vm.ErrNotKept) && missing == nil:
			missing = fmt.Errorf("a part of it is not known: %s", name)
		}
	}
	s.SystemFloor = known
	s.derived[sumSystem] = vm.Counter{Name: sumSystem, Pages: known, Err: missing}
	private, committed := s.counter(totalPrivate), s.counter(vm.Committed)
	rest := vm.Counter{Name: transientCommit, Pages: committed.Pages - known - private.Pages}
	for _, c := range []vm.Counter{{Err: missing}, private, committed} {
		if rest.Err == nil {
			rest.Err = c.Err
		}
	}
	if rest.Err == nil && committed.Pages < known+private.Pages {
		rest.Err = errors.New("its parts are more than what is committed")
	}
	s.derived[transientCommit] = rest
}

// fill makes the fields of the record.
func (s *summary) fill() {
	s.Pages, s.Failures = map[string]*uint64{}, map[string]*uint64{}
	for _, l := range modernLines {
		if l.name == "" {
			continue
		}
		c := s.counter(l.name)
		s.Pages[l.name] = nil
		if c.Known() {
			s.Pages[l.name] = &c.Pages
		}
		s.Missing.Set(l.name, c.Err)
	}
	for _, name := range []string{vm.PeakCommitted, vm.ProcessTableCommit} {
		c := s.counter(name)
		s.Pages[name] = nil
		if c.Known() {
			s.Pages[name] = &c.Pages
		}
		s.Missing.Set(name, c.Err)
	}
	f := &s.mem.Failures
	for name, v := range map[string]*uint64{
		"system_ptes": &f.SystemPTEs, "kernel_stack_ptes": &f.KernelStackPTEs, "pool": &f.Pool, "commit": &f.Commit,
	} {
		err := f.Err[failureKeys[name]]
		s.Failures[name] = nil
		if err == nil {
			s.Failures[name] = v
		}
		s.Missing.Set("failures."+name, err)
	}
	s.Missing.Set("page_files", s.filesErr)
}

var failureKeys = map[string]string{
	"system_ptes": "system_pte_failures", "kernel_stack_ptes": "kernel_stack_pte_failures",
	"pool": "pool_failures", "commit": "commit_failures",
}
