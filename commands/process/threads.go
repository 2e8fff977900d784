package process

import (
	"context"
	"errors"
	"fmt"

	"gokd/commands/cmd"
	"gokd/commands/report"
	"gokd/commands/show"
	"gokd/model"
	"gokd/model/mem"
	"gokd/model/process"
	"gokd/model/thread"
)

// threadFlags are the bits of Flags that ask for threads.
const threadFlags = show.FlagWait | show.FlagStack

// Gap says what is missing from a process's threads.
type Gap struct {
	Process report.Addr `json:"process"`
	Shown   int         `json:"shown"`
	Unread  int         `json:"unread"`           // on the list, but their objects can't be read
	Broken  []string    `json:"broken,omitempty"` // where and why the lists end early
	why     string      // of the first unread one
}

// Type names the record.
func (*Gap) Type() string { return "thread_gap" }

// SkippedItems counts the threads that could not be read, and a broken list as
// one.
func (g *Gap) SkippedItems() int { return g.Unread + len(g.Broken) }

// WriteText says it on lines of our own.
func (g *Gap) WriteText(p *report.Printer) {
	if g.Unread == 1 {
		p.Own("One thread of this process could not be read: %s.\n", g.why)
	}
	if g.Unread > 1 {
		p.Own("%d threads of this process could not be read, the first: %s.\n", g.Unread, g.why)
	}
	for _, why := range g.Broken {
		p.Own("The list of its threads ends early: %s.\n", why)
	}
	if g.SkippedItems() > 0 {
		p.Own("\n")
	}
}

// threads is one showing of a process's threads.
type threads struct {
	s     *cmd.Session
	of    mem.VA
	flags uint64
	out   report.Sink
	gap   Gap
	seen  map[mem.VA]bool
}

// showThreads shows the threads of a process as !process does, indented, then
// what of them is missing.
func showThreads(ctx context.Context, s *cmd.Session, p process.Process, flags uint64, out report.Sink) error {
	t := &threads{s: s, of: p.Address, flags: flags, out: out, seen: map[mem.VA]bool{}, gap: Gap{Process: report.Addr(p.Address)}}
	for at, err := range thread.OfProcess(ctx, s.Kernel, p.Address) {
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if err != nil {
			t.broken(err)
			continue
		}
		if err := t.one(ctx, at); err != nil {
			return err
		}
	}
	if err := t.running(ctx); err != nil {
		return err
	}
	return t.end()
}

// broken notes where a list ends early. A process has two lists of the same
// threads, which mostly break for one reason.
func (t *threads) broken(err error) {
	why := err.Error()
	if walk, ok := errors.AsType[*model.WalkError](err); ok {
		why = fmt.Sprintf("at %s: %v", walk.At, walk.Err)
	}
	t.gap.Broken = append(t.gap.Broken, why)
}

// one shows a thread, or counts it where its object can't be read.
func (t *threads) one(ctx context.Context, at mem.VA) error {
	t.seen[at] = true
	brief := t.flags&threadFlags == show.FlagStack
	r, err := show.ThreadAt(ctx, t.s.Kernel, at, show.Options{Flags: t.flags, Indent: 8, Brief: brief, Source: show.Sources(ctx, t.s)})
	if err != nil {
		if t.gap.Unread++; t.gap.Unread == 1 {
			// What can't be read is not in the dump rather than no thread.
			if _, read := t.s.Kernel.Object("_ETHREAD", at).Field("Tcb.Header.Type").Uint(); read != nil {
				err = read
			}
			t.gap.why = err.Error()
		}
		return nil
	}
	t.gap.Shown++
	if err := t.out.Emit(r); err != nil {
		return err
	}
	if t.flags&threadFlags == show.FlagWait {
		return t.out.Emit(report.Text("\n"))
	}
	return nil
}

// running shows the threads that run on processors where the lists do not lead
// to them, as in a triage dump.
func (t *threads) running(ctx context.Context) error {
	if t.gap.SkippedItems() == 0 {
		return nil
	}
	for _, c := range t.s.Kernel.Processors {
		if c.CurrentThread == 0 || t.seen[c.CurrentThread] {
			continue
		}
		th, err := thread.At(ctx, t.s.Kernel, c.CurrentThread)
		if err != nil || th.Process != t.of {
			continue
		}
		if err := t.one(ctx, c.CurrentThread); err != nil {
			return err
		}
	}
	return nil
}

// end writes what stands behind the threads.
func (t *threads) end() error {
	if t.gap.SkippedItems() > 0 {
		return t.out.Emit(&t.gap)
	}
	switch {
	case t.gap.Shown == 0:
		return t.out.Emit(report.Text("No active threads\n\n"))
	case t.flags&threadFlags == show.FlagStack:
		return t.out.Emit(report.Text("\n"))
	}
	return nil
}
