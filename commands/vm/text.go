package vm

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"gokd/commands/report"
	"gokd/model"
	"gokd/model/mem"
	"gokd/model/vm"
)

// line is one line of the summary: a label and the counter behind it, or what
// stands between such lines.
type line struct {
	label, name string
	write       func(*layout)
}

// modernLines are those of debuggers of the 2010s and later on x64, as public
// outputs of Windows 7, 10 and 11 have them.
var modernLines = []line{
	{"Physical Memory:", vm.Physical, nil}, {"Available Pages:", vm.Available, nil}, {"ResAvail Pages:", vm.ResidentAvailable, nil},
	{"Locked IO Pages:", vm.LockedIO, nil}, {"Free System PTEs:", vm.FreeSystemPTEs, nil}, {"", "", (*layout).pteFailures},
	{"Modified Pages:", vm.Modified, nil}, {"Modified PF Pages:", vm.ModifiedPagefile, nil}, {"Modified No Write Pages:", vm.ModifiedNoWrite, nil},
	{"NonPagedPool Usage:", vm.NonPagedUsage, nil}, {"NonPagedPoolNx Usage:", vm.NonPagedNxUsage, nil}, {"NonPagedPool Max:", vm.NonPagedMax, nil},
	{"", "", (*layout).excessive}, {"", "", (*layout).pagedPools}, {"PagedPool Usage:", vm.PagedUsage, nil}, {"PagedPool Maximum:", vm.PagedMax, nil},
	{"", "", (*layout).poolFailures}, {"Processor Commit:", vm.ProcessorCommit, nil}, {"Session Commit:", vm.SessionCommit, nil},
	{"Shared Commit:", vm.SharedCommit, nil}, {"Special Pool:", vm.SpecialPool, nil}, {"Kernel Stacks:", vm.KernelStacks, nil},
	{"Pages For MDLs:", vm.MDLPages, nil}, {"ContigMem Pages:", vm.ContiguousPages, nil}, {"Partition Pages:", vm.PartitionPages, nil},
	{"Pages For AWE:", vm.AWEPages, nil}, {"NonPagedPool Commit:", vm.NonPagedCommit, nil}, {"PagedPool Commit:", vm.PagedCommit, nil},
	{"Driver Commit:", vm.DriverCommit, nil}, {"Boot Commit:", vm.BootCommit, nil}, {"PFN Array Commit:", vm.PFNCommit, nil},
	{"SmallNonPagedPtesCommit:", vm.SmallPTEsCommit, nil}, {"SlabAllocatorPages:", vm.SlabPages, nil}, {"System PageTables:", vm.PageTableCommit, nil},
	{"VAD/PageTable Bitmaps:", vm.BitmapPages, nil}, {"ProcessLockedFilePages:", vm.LockedFilePages, nil}, {"Pagefile Hash Pages:", vm.PagefileHashPages, nil},
	{"Sum System Commit:", sumSystem, nil}, {"Total Private:", totalPrivate, nil}, {"Misc/Transient Commit:", transientCommit, nil},
	{"Committed pages:", vm.Committed, nil}, {"Commit limit:", vm.CommitLimit, nil}, {"", "", (*layout).commitWarnings},
}

// classicLines are those of the debuggers before, whose summary has a title.
var classicLines = []line{
	{"Physical Memory:", vm.Physical, nil}, {"", "", (*layout).pageFiles}, {"Available Pages:", vm.Available, nil},
	{"ResAvail Pages:", vm.ResidentAvailable, nil}, {"Locked IO Pages:", vm.LockedIO, nil}, {"Free System PTEs:", vm.FreeSystemPTEs, nil},
	{"", "", (*layout).pteFailures}, {"Modified Pages:", vm.Modified, nil}, {"Modified PF Pages:", vm.ModifiedPagefile, nil},
	{"NonPagedPool Usage:", vm.NonPagedUsage, nil}, {"NonPagedPoolNx Usage:", vm.NonPagedNxUsage, nil}, {"NonPagedPool Max:", vm.NonPagedMax, nil},
	{"", "", (*layout).excessive}, {"", "", (*layout).pagedPools}, {"PagedPool Usage:", vm.PagedUsage, nil}, {"PagedPool Maximum:", vm.PagedMax, nil},
	{"", "", (*layout).poolFailures}, {"Session Commit:", vm.SessionCommit, nil}, {"Shared Commit:", vm.SharedCommit, nil},
	{"Special Pool:", vm.SpecialPool, nil}, {"Shared Process:", vm.ProcessTableCommit, nil}, {"PagedPool Commit:", vm.PagedCommit, nil},
	{"Driver Commit:", vm.DriverCommit, nil}, {"Committed pages:", vm.Committed, nil}, {"Commit limit:", vm.CommitLimit, nil},
	{"", "", (*layout).commitWarnings},
}

// layout writes the summary as the debuggers of an era do.
type layout struct {
	p       *report.Printer
	s       *summary
	classic bool
}

func newLayout(p *report.Printer, s *summary) *layout {
	return &layout{p: p, s: s, classic: p.Era == report.Era62}
}

// lines gives the lines of the era.
func (l *layout) lines() []line {
	if l.classic {
		return classicLines
	}
	return modernLines
}

// WriteText writes the summary.
func (s *summary) WriteText(p *report.Printer) {
	l := newLayout(p, s)
	if l.classic {
		p.Printf("\n*** Virtual Memory Usage ***\n")
	} else {
		l.pageFiles()
		p.Printf("\n")
	}
	for _, n := range l.lines() {
		if n.write != nil {
			n.write(l)
			continue
		}
		if c := s.counter(n.name); c.Known() {
			l.pages(n.label, c.Pages)
		}
	}
}

// Columns of the layouts: the label is filled up to one, and the pages end at
// the other unless they are too wide.
const (
	modernLabel, modernEnd   = 19, 33
	classicLabel, classicEnd = 19, 28
)

// pages writes a line of pages and kilobytes.
func (l *layout) pages(label string, n uint64) {
	fill, end, kb, indent := modernLabel, modernEnd, 11, ""
	if l.classic {
		fill, end, kb, indent = classicLabel, classicEnd, 10, "      "
	}
	left := fmt.Sprintf("%-*s", fill, label)
	l.p.Printf("%s%s%*d (%*d Kb)\n", indent, left, end-len(left), n, kb, n*4)
}

// pageFiles writes the page files: four words that stand the same in all eras.
func (l *layout) pageFiles() {
	first, rest := "", "  "
	if l.classic {
		first, rest = "      ", "        "
	}
	for _, f := range l.s.PageFiles {
		if f.Name == nil || *f.Name == "" {
			l.p.Printf("%sNo Name for Paging File\n", first)
		} else {
			l.p.Printf("%sPage File: %s\n", first, *f.Name)
		}
		l.p.Printf("%sCurrent: %s Kb  Free Space: %s Kb\n", rest, kilobytes(f.Size, 9), kilobytes(f.Free, 9))
		l.p.Printf("%sMinimum: %s Kb  Maximum:    %s Kb\n", rest, kilobytes(f.Minimum, 9), kilobytes(f.Maximum, 9))
	}
}

// kilobytes spells pages as kilobytes; question marks where they are not known.
func kilobytes(pages *uint64, width int) string {
	if pages == nil {
		return fmt.Sprintf("%*s", width, "????")
	}
	return fmt.Sprintf("%*d", width, *pages*4)
}

// warning writes a line that something is wrong, with empty lines around it.
func (l *layout) warning(format string, args ...any) {
	indent := ""
	if l.classic {
		indent = "      "
	}
	l.p.Printf("\n")
	l.p.Styled(report.Warning, indent+format+"\n", args...)
	l.p.Printf("\n")
}

// fewPTEs is how many free system page table entries are few: a public output
// warns at 500, and Microsoft's advice to administrators calls less than 2000
// critical.
const fewPTEs = 2000

func (l *layout) pteFailures() {
	if c := l.s.counter(vm.FreeSystemPTEs); c.Known() && c.Pages < fewPTEs {
		l.warning("********** Running out of system PTEs **************")
	}
	if n := l.s.mem.Failures.SystemPTEs; n > 0 {
		l.warning("******* %d system PTE allocations have failed ******", n)
	}
	if n := l.s.mem.Failures.KernelStackPTEs; n > 0 {
		l.warning("******* %d kernel stack PTE allocations have failed ******", n)
	}
}

func (l *layout) poolFailures() {
	if n := l.s.mem.Failures.Pool; n > 0 {
		l.warning("********** %d pool allocations have failed **********", n)
	}
}

// excessiveAt is the share of its maximum, in percent, from which on nonpaged
// pool is called excessive. One public output warns at 85; the debuggers' own
// limit is not published.
const excessiveAt = 85

func (l *layout) excessive() {
	used, most := l.s.nonpaged()
	if most == 0 || used*100/most < excessiveAt {
		return
	}
	indent := ""
	if l.classic {
		indent = "      "
	}
	l.p.Styled(report.Warning, "%sNonPaged Pool Usage :  %d%%\n", indent, used*100/most)
	l.p.Styled(report.Warning, "%s********** Excessive NonPaged Pool Usage *****\n", indent)
}

// nonpaged gives the use and the maximum of nonpaged pool, zero where they are
// not known.
func (s *summary) nonpaged() (used, most uint64) {
	max := s.counter(vm.NonPagedMax)
	if !max.Known() || max.Pages > 1<<52 {
		return 0, 0
	}
	for _, name := range []string{vm.NonPagedUsage, vm.NonPagedNxUsage} {
		if c := s.counter(name); c.Known() {
			used += min(c.Pages, 1<<52)
		}
	}
	return used, max.Pages
}

func (l *layout) pagedPools() {
	for i, n := range l.s.PagedPools {
		if l.classic {
			l.pages(fmt.Sprintf("PagedPool %d Usage:", i), n)
		} else {
			l.pages(fmt.Sprintf("PagedPool %2d:", i), n)
		}
	}
}

// nearLimitAt is the share of the commit limit, in percent, from which on the
// committed pages are called near it: ours, the debuggers' is not published.
const nearLimitAt = 95

func (l *layout) commitWarnings() {
	committed, limit := l.s.counter(vm.Committed), l.s.counter(vm.CommitLimit)
	near := committed.Known() && limit.Known() && limit.Pages > 0 && limit.Pages < 1<<52 &&
		min(committed.Pages, 1<<52)*100/limit.Pages >= nearLimitAt
	failed := l.s.mem.Failures.Commit
	if !near && failed == 0 {
		return
	}
	indent := ""
	if l.classic {
		indent = "      "
	}
	l.p.Printf("\n")
	if near {
		l.p.Styled(report.Warning, "%s********** Number of committed pages is near limit ********\n", indent)
	}
	if failed > 0 {
		l.p.Styled(report.Warning, "%s********** %d commit requests have failed  **********\n", indent, failed)
	}
}

// notes names the lines that were left out, by reason.
func (s *summary) notes(out report.Sink) error {
	return out.Emit(leftOut{s})
}

// leftOut is the note about lines that were left out: which lines there are
// depends on the era.
type leftOut struct{ s *summary }

// Type names the record; JSON has the reasons in the summary itself.
func (leftOut) Type() string { return "note" }

// TextOnly marks it.
func (leftOut) TextOnly() {}

// OwnLine marks it as not of kd.
func (leftOut) OwnLine() {}

// WriteText writes the notes.
func (n leftOut) WriteText(p *report.Printer) {
	s := n.s
	var reasons []string
	labels := map[string][]string{}
	add := func(label string, err error) {
		why := err.Error()
		// Variables whose addresses are not known all need the same symbols.
		if g, ok := errors.AsType[*model.GlobalError](err); ok {
			why = "the symbols of this kernel tell where they are"
			if !g.ID.Zero() {
				why = fmt.Sprintf("the symbols of this kernel tell where they are: %s, %s, age %d", g.ID.PDB, g.ID.GUID, g.ID.Age)
			}
		}
		if _, ok := errors.AsType[*mem.Fault](err); ok {
			why = "not in the dump"
		}
		if _, ok := labels[why]; !ok {
			reasons = append(reasons, why)
		}
		labels[why] = append(labels[why], label)
	}
	for _, l := range newLayout(p, s).lines() {
		if l.name == "" {
			continue
		}
		if c := s.counter(l.name); !c.Known() && !errors.Is(c.Err, vm.ErrNotKept) {
			add(strings.TrimSuffix(l.label, ":"), c.Err)
		}
	}
	if s.filesErr != nil {
		add("page files", s.filesErr)
	}
	for _, why := range reasons {
		p.Own("Left out: %s (%s).\n", strings.Join(labels[why], ", "), why)
	}
	if c := s.counter(vm.KernelStacks); !c.Known() && s.Stacks.Threads > 0 {
		atLeast := report.Text("")
		if s.Stacks.Unread > 0 {
			atLeast = " at least"
		}
		p.Own("Kernel stacks of the listed threads (%d): %d pages (%d Kb)%s.\n", s.Stacks.Threads, s.Stacks.Pages, s.Stacks.Pages*4, atLeast)
	}
	if s.Together {
		p.Own("NonPagedPool Usage counts executable and other nonpaged pool together.\n")
	}
	if used, most := s.counter(vm.PagedUsage), s.counter(vm.PagedMax); used.Known() && most.Known() && most.Pages > 0 && most.Pages < 1<<52 {
		if share := min(used.Pages, 1<<52) * 100 / most.Pages; share >= excessiveAt {
			p.Own("Paged pool usage is %d%% of its maximum.\n", share)
		}
	}
	if slices.ContainsFunc(s.PageFiles, func(f *pageFile) bool { return len(f.Missing) > 0 }) {
		p.Own("Not all of the page files could be read: their structures are not in the dump.\n")
	}
	// The other layout has a line that this takes away.
	if s.walk != nil && p.Era == report.Era62 {
		p.Own("The list of processes is not complete: %v.\n", s.walk)
	}
}
