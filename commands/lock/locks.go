// Package lock is the group of commands about locks.
package lock

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"

	"gokd/commands/cmd"
	"gokd/commands/report"
	"gokd/commands/show"
	"gokd/model"
	"gokd/model/diagnose"
	"gokd/model/mem"
	"gokd/model/resource"
)

// Commands lists the group.
func Commands() []*cmd.Command { return []*cmd.Command{locks} }

var locks = &cmd.Command{
	Name: "!locks", Aliases: []string{"!kdext*.locks", "!kdexts.locks"}, Group: cmd.GroupLock,
	Summary: "show executive resources that are held or waited for",
	Args: []cmd.Arg{
		{Name: "verbose", Kind: cmd.KindSwitch, Switch: "-v", Optional: true, Doc: "also each listed thread, with its stack"},
		{Name: "performance", Kind: cmd.KindSwitch, Switch: "-p", Optional: true, Doc: "also the counters that show how a resource is used"},
		{Name: "all", Kind: cmd.KindSwitch, Switch: "-d", Optional: true, Doc: "every resource, not only those held or waited for"},
		{Name: "Address", Kind: cmd.KindAddr, Optional: true, Doc: "one resource; 0 or none: all"},
	},
	Needs: cmd.NeedKernel,
	Help: `Walks the system's list of resources (ERESOURCE). Owners are marked <*>; the
entries without the mark are threads that wait for shared access. An owner value
that names no thread was stored with ExSetResourceOwnerPointer; where it points
into a thread's stack, a line after the resource says whose, and whether that
thread waits for the very resource it owns.

A dump shows the moment it was made: how long a resource has been held is not
recorded, only for how long each waiting thread has waited (!thread).`,
	Example: "!locks\n!locks fffffa8011efede8",
	SeeAlso: []string{"!thread"},
	Run:     runLocks,
}

// Summary is the record at the end of !locks.
type Summary struct {
	Total  int    `json:"total"`
	Held   int    `json:"held"`
	Broken string `json:"broken,omitempty"`

	single bool
	after  []report.Record // our own lines, which stand after kd's answer
	left   int             // of these, the ones left out
}

// Type names the record.
func (*Summary) Type() string { return "lock_summary" }

// SkippedItems counts a broken list as one.
func (r *Summary) SkippedItems() int {
	if r.Broken != "" {
		return 1
	}
	return 0
}

// WriteText writes the total line; with one resource, later debuggers leave
// out how many are held.
func (r *Summary) WriteText(p *report.Printer) {
	held := ""
	if r.Held > 0 && (!r.single || p.Era == report.Era62) {
		held = fmt.Sprintf(", %d locks currently held", r.Held)
	}
	p.Printf("%d total locks%s\n", r.Total, held)
	if r.Broken != "" {
		p.Own("%s\n", r.Broken)
	}
	for _, a := range r.after {
		if !p.KDOnly {
			a.WriteText(p)
		}
	}
	if r.left > 0 {
		p.Own("... and %d further remarks, left out.\n", r.left)
	}
}

// maxAfter limits our own lines that wait for the end of kd's answer; a damaged
// list could give rise to millions.
const maxAfter = 10000

// own emits a record of ours where JSON wants it, before the summary, and keeps
// its text for after kd's answer.
func (l *locksRun) own(r report.Record) error {
	if len(l.sum.after) < maxAfter {
		l.sum.after = append(l.sum.after, r)
	} else {
		l.sum.left++
	}
	return l.out.Emit(silent{r})
}

// silent is a record whose text is written elsewhere.
type silent struct{ report.Record }

// MarshalJSON gives the record itself.
func (s silent) MarshalJSON() ([]byte, error) { return json.Marshal(s.Record) }

// WriteText writes nothing.
func (silent) WriteText(*report.Printer) {}

// locksRun is one run of the command.
type locksRun struct {
	s       *cmd.Session
	in      cmd.Args
	out     report.Sink
	sum     Summary
	unshown int // resources since the last one shown
}

func runLocks(ctx context.Context, s *cmd.Session, in cmd.Args, out report.Sink) error {
	l := &locksRun{s: s, in: in, out: out}
	if at := in.Addr("Address"); at != 0 {
		return l.one(ctx, at)
	}
	return l.all(ctx)
}

func (l *locksRun) one(ctx context.Context, at mem.VA) error {
	if head, err := l.s.Kernel.Global("ExpSystemResourcesList"); err == nil && head == at {
		return fmt.Errorf("%s is the head of the list of resources, no resource; !locks alone walks it", at)
	}
	r, err := resource.At(ctx, l.s.Kernel, at)
	if r == nil {
		return fmt.Errorf("resource at %s: %w", at, err)
	}
	l.sum.Total, l.sum.single = 1, true
	if r.Held() {
		l.sum.Held = 1
	}
	if err := l.show(ctx, r); err != nil {
		return err
	}
	if err != nil {
		if err := l.own(report.Notef("%v; the lines above are what its bytes would mean as one.", err)); err != nil {
			return err
		}
	}
	return l.out.Emit(&l.sum)
}

// unread says why the list of resources can't be walked at all.
func unread(err error) error {
	if walk, ok := errors.AsType[*model.WalkError](err); ok {
		err = walk.Err
	}
	if errors.Is(err, mem.ErrNotCaptured) {
		return fmt.Errorf("the list of resources is not in this dump: %w", err)
	}
	return fmt.Errorf("the list of resources can't be read: %w", err)
}

func (l *locksRun) all(ctx context.Context) error {
	started := false
	for r, err := range resource.All(ctx, l.s.Kernel) {
		if ctx.Err() != nil {
			break
		}
		if err != nil {
			if !started {
				return unread(err)
			}
			l.sum.Broken = err.Error()
			continue
		}
		if !started {
			started = true
			if err := l.out.Emit(report.Text("**** DUMP OF ALL RESOURCE OBJECTS ****\n")); err != nil {
				return err
			}
		}
		if err := l.next(ctx, r); err != nil {
			return err
		}
	}
	if l.unshown > 0 {
		if err := l.scanLine(); err != nil {
			return err
		}
	}
	return l.out.Emit(&l.sum)
}

// next counts a resource and shows it if it is to be shown.
func (l *locksRun) next(ctx context.Context, r *resource.Resource) error {
	l.sum.Total++
	if r.Held() {
		l.sum.Held++
	}
	if l.sum.Total%1024 == 0 {
		l.s.Report("resources", uint64(l.sum.Total), 0)
	}
	if !l.in.Has("all") && !r.Held() && !r.Contended() {
		l.unshown++
		return nil
	}
	if err := l.scanLine(); err != nil {
		return err
	}
	return l.show(ctx, r)
}

// perDot is how many resources that are not shown a dot stands for.
const perDot = 32

// scanLine writes the line that the classic layout shows while it scans: one
// dot at the start and one for every 32nd resource passed over.
func (l *locksRun) scanLine() error {
	dots := 1 + l.unshown/perDot
	l.unshown = 0
	return l.out.Emit(report.Text("KD: Scanning for held locks" + strings.Repeat(".", dots) + "\n"))
}

func (l *locksRun) show(ctx context.Context, r *resource.Resource) error {
	var stackOf diagnose.StackOf
	if odd(r) {
		var err error
		if stackOf, err = show.StackOf(ctx, l.s); err != nil {
			return err
		}
	}
	n := l.s.Kernel.NameOf(ctx, r.Address)
	name := ""
	if n.Function != "" {
		name = n.String()
	}
	if err := l.out.Emit(show.NewResource(l.s.Kernel, r, name, stackOf)); err != nil {
		return err
	}
	if l.in.Has("performance") {
		if err := l.out.Emit(counters(r)); err != nil {
			return err
		}
	}
	if l.in.Has("verbose") {
		if err := l.threads(ctx, r); err != nil {
			return err
		}
	}
	return l.explain(r, stackOf)
}

// odd reports whether some owner of the resource is no thread.
func odd(r *resource.Resource) bool {
	for _, e := range r.Owners() {
		if e.Tagged {
			return true
		}
	}
	return false
}

// counters is what -p adds.
func counters(r *resource.Resource) report.Record {
	return report.Notef("     ActiveCount = %d  ActiveEntries = %d  Flag = %#x  OwnerEntries = %d",
		r.ActiveCount, r.ActiveEntries, r.Flag, len(r.Entries))
}

// threads shows the owners and waiters of a resource.
func (l *locksRun) threads(ctx context.Context, r *resource.Resource) error {
	if err := l.out.Emit(report.Text("\n")); err != nil {
		return err
	}
	seen := map[mem.VA]bool{0: true}
	list := make([]mem.VA, 0, len(r.Entries)+len(r.WaitingExclusive))
	for _, e := range r.Entries {
		list = append(list, e.Thread)
	}
	for _, t := range append(list, r.WaitingExclusive...) {
		if seen[t] {
			continue
		}
		seen[t] = true
		rec, err := show.ThreadAt(ctx, l.s.Kernel, t, show.Options{Flags: show.FlagDefault | show.FlagNoArgs, Indent: 5})
		if err != nil {
			if err := l.out.Emit(report.Notef("     %v", err)); err != nil {
				return err
			}
			continue
		}
		if err := l.out.Emit(rec); err != nil {
			return err
		}
	}
	return nil
}

// explain adds our own lines: who stands behind an odd owner, a deadlock of a
// thread with itself, and waiters that could not be found.
func (l *locksRun) explain(r *resource.Resource, stackOf diagnose.StackOf) error {
	if stackOf != nil {
		for _, o := range diagnose.Owners(r, stackOf) {
			if o.Stack {
				note := report.Notef("Owner %016x points into the kernel stack of thread %s (!thread %016x).", o.Entry.Raw, o.Thread, o.Entry.Raw)
				if err := l.own(note); err != nil {
					return err
				}
			}
			if d, ok := diagnose.Self(r, o); ok {
				if err := l.own(show.NewDeadlock(d)); err != nil {
					return err
				}
			}
		}
	}
	if found, counted := r.Waiters(); r.Contended() && found != counted {
		return l.own(report.Notef("%d of %d waiters of resource %s identified.", found, counted, r.Address))
	}
	return nil
}
