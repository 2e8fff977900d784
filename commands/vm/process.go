package vm

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"

	"gokd/commands/cmd"
	"gokd/commands/report"
	"gokd/commands/show"
	"gokd/model"
	"gokd/model/pool"
	"gokd/model/vm"
)

// layoutNote says where a layout comes from when it is not exact.
func layoutNote(k *model.Kernel) string { return show.LayoutNote(k) }

// known gives a pointer to v, or nil where the field has a gap.
func known[T any](gaps model.Gaps, field string, v T) *T {
	if gaps[field] != nil {
		return nil
	}
	return &v
}

// missing turns gaps into the reasons of a record.
func missing(gaps model.Gaps) report.Missing {
	var m report.Missing
	for f, err := range gaps {
		m.Set(f, err)
	}
	return m
}

// pageFile is the record of a paging file, in pages.
type pageFile struct {
	Address report.Addr    `json:"address"`
	Name    *string        `json:"name"` // empty for one without a name
	Size    *uint64        `json:"size"`
	Free    *uint64        `json:"free"`
	Minimum *uint64        `json:"minimum"`
	Maximum *uint64        `json:"maximum"`
	Missing report.Missing `json:"missing,omitempty"`
}

func newPageFile(f vm.PageFile) *pageFile {
	return &pageFile{
		Address: report.Addr(f.At), Name: known(f.Gaps, "name", f.Name), Size: known(f.Gaps, "size", f.Size),
		Free: known(f.Gaps, "free", f.Free), Minimum: known(f.Gaps, "minimum", f.Minimum), Maximum: known(f.Gaps, "maximum", f.Maximum),
		Missing: missing(f.Gaps),
	}
}

// processCommit is the record of what a process has committed, in pages.
type processCommit struct {
	Address report.Addr    `json:"address"`
	PID     *uint64        `json:"pid"`
	Image   *string        `json:"image"`
	Private *uint64        `json:"commit"`
	Shared  *uint64        `json:"shared_commit"`
	Debt    *uint64        `json:"commit_debt"`
	Missing report.Missing `json:"missing,omitempty"`

	hasShared bool
}

// Type names the record.
func (*processCommit) Type() string { return "vm_process" }

// WriteText writes the row of the era.
func (r *processCommit) WriteText(p *report.Printer) {
	pid, image := "????", "????"
	if r.PID != nil {
		pid = fmt.Sprintf("%x", *r.PID)
	}
	if r.Image != nil {
		image = *r.Image
	}
	if p.Era == report.Era62 {
		if r.PID != nil {
			pid = fmt.Sprintf("%04x", *r.PID)
		}
		size := fmt.Sprintf("%8s (%10s Kb)", "????", "????")
		if r.Private != nil {
			size = fmt.Sprintf("%8d (%10d Kb)", *r.Private, *r.Private*4)
		}
		p.Printf("         %s %-15s  %s\n", pid, image, size)
		return
	}
	p.Printf("%5s %-25s%s Kb", pid, image, kilobytes(r.Private, 11))
	if r.hasShared {
		p.Printf("%s Kb%s Kb", kilobytes(r.Shared, 12), kilobytes(r.Debt, 9))
	}
	p.Printf("\n")
}

// readProcesses reads what each process has committed and adds it up.
func (s *summary) readProcesses(ctx context.Context, k *model.Kernel) {
	var sum uint64
	var unread error
	for c, err := range vm.Processes(ctx, k) {
		if err != nil {
			s.walk = err
			continue
		}
		r := &processCommit{
			Address: report.Addr(c.Address), PID: known(c.Gaps, "pid", c.PID), Image: known(c.Gaps, "image", c.Image),
			Private: known(c.Gaps, "private", c.Private), hasShared: c.HasShared,
		}
		r.Missing.Set("pid", c.Gaps["pid"])
		r.Missing.Set("image", c.Gaps["image"])
		r.Missing.Set("commit", c.Gaps["private"])
		if c.HasShared {
			r.Shared, r.Debt = known(c.Gaps, "shared", c.Shared), known(c.Gaps, "debt", c.Debt)
			r.Missing.Set("shared_commit", c.Gaps["shared"])
			r.Missing.Set("commit_debt", c.Gaps["debt"])
		} else {
			r.Missing.Set("shared_commit", vm.ErrNotKept)
			r.Missing.Set("commit_debt", vm.ErrNotKept)
		}
		if err := c.Gaps["private"]; err != nil {
			unread = err
		}
		sum += c.Private
		s.processes = append(s.processes, r)
	}
	total := vm.Counter{Name: totalPrivate, Pages: sum, From: "_EPROCESS.CommitCharge", Err: unread}
	if s.walk != nil {
		total.Err = fmt.Errorf("the list of processes is not complete: %w", s.walk)
	}
	s.derived[totalPrivate] = total
	slices.SortStableFunc(s.processes, func(a, b *processCommit) int {
		return cmp.Compare(value(b.Private), value(a.Private))
	})
}

func value(v *uint64) uint64 {
	if v == nil {
		return 0
	}
	return *v
}

// processTitle stands above the processes.
type processTitle struct {
	total  vm.Counter
	shared bool
}

// Type names the record.
func (processTitle) Type() string { return "text" }

// TextOnly marks it.
func (processTitle) TextOnly() {}

// WriteText writes the title of the era: columns, or the sum.
func (t processTitle) WriteText(p *report.Printer) {
	p.Printf("\n")
	switch {
	case p.Era != report.Era62 && t.shared:
		p.Printf("  Pid %-25s%14s%15s%12s\n\n", "ImageName", "Commit", "SharedCommit", "Debt")
	case p.Era != report.Era62:
		p.Printf("  Pid %-25s%14s\n\n", "ImageName", "Commit")
	case t.total.Known():
		(&layout{p: p, classic: true}).pages("Total Private:", t.total.Pages)
	}
}

// showProcesses lists the processes, largest first.
func (s *summary) showProcesses(out report.Sink) error {
	title := processTitle{total: s.counter(totalPrivate)}
	for _, r := range s.processes {
		title.shared = title.shared || r.hasShared
	}
	if err := out.Emit(title); err != nil {
		return err
	}
	for _, r := range s.processes {
		if err := out.Emit(r); err != nil {
			return err
		}
	}
	return nil
}

// sessionUse is the record of what a session takes, in pages.
type sessionUse struct {
	ID        uint32         `json:"session"`
	Address   report.Addr    `json:"address"`
	Paged     *uint64        `json:"paged_pool"`
	NonPaged  *uint64        `json:"nonpaged"`
	Committed *uint64        `json:"commit"`
	Missing   report.Missing `json:"missing,omitempty"`
}

// Type names the record.
func (*sessionUse) Type() string { return "vm_session" }

// WriteText writes the session's block.
func (r *sessionUse) WriteText(p *report.Printer) {
	p.Printf("\nSession ID %d @ %s:\n", r.ID, r.Address.String())
	sessionLines(p, r.Paged, r.NonPaged, r.Committed)
}

// sessionLines are the three lines of a session and of the sum over all.
func sessionLines(p *report.Printer, paged, nonpaged, committed *uint64) {
	p.Printf("Paged Pool Usage:%s Kb\n", kilobytes(paged, 9))
	p.Printf("NonPaged Usage:  %s Kb\n", kilobytes(nonpaged, 9))
	p.Printf("Commit Usage:    %s Kb\n", kilobytes(committed, 9))
}

// readSessions reads what each session takes and adds up the commitment.
func (s *summary) readSessions(ctx context.Context, k *model.Kernel, p *pool.Pool) {
	list, err := p.Sessions(ctx)
	s.noSession = err
	var sum uint64
	for _, i := range list {
		u := vm.SessionAt(k, i.Space, i.ID, i.At)
		if e := u.Gaps["committed"]; e != nil && err == nil {
			err = e
		}
		sum += u.Committed
		s.sessions = append(s.sessions, &sessionUse{
			ID: u.ID, Address: report.Addr(u.At), Paged: known(u.Gaps, "paged", u.Paged),
			NonPaged: known(u.Gaps, "nonpaged", u.NonPaged), Committed: known(u.Gaps, "committed", u.Committed), Missing: missing(u.Gaps),
		})
	}
	s.derived[vm.SessionCommit] = vm.Counter{Name: vm.SessionCommit, Pages: sum, From: "_MM_SESSION_SPACE.CommittedPages", Err: err}
}

// sessionTotal is the sum over the sessions that are shown.
type sessionTotal struct {
	Sessions  int     `json:"sessions"`
	Paged     *uint64 `json:"paged_pool"`
	NonPaged  *uint64 `json:"nonpaged"`
	Committed *uint64 `json:"commit"`
}

// Type names the record.
func (*sessionTotal) Type() string { return "vm_session_total" }

// WriteText writes the closing block.
func (r *sessionTotal) WriteText(p *report.Printer) {
	p.Printf("\nSession Summary\n")
	sessionLines(p, r.Paged, r.NonPaged, r.Committed)
}

// add adds a session; a sum without one of its parts is not known.
func (r *sessionTotal) add(u *sessionUse) {
	r.Sessions++
	for _, x := range []struct{ into, v **uint64 }{{&r.Paged, &u.Paged}, {&r.NonPaged, &u.NonPaged}, {&r.Committed, &u.Committed}} {
		switch {
		case *x.v == nil:
			*x.into = nil
		case *x.into != nil:
			sum := **x.into + **x.v
			*x.into = &sum
		}
	}
}

// showSessions shows what the sessions take: all of them, or the one that
// !session chose.
func (s *summary) showSessions(_ context.Context, of *cmd.Session, out report.Sink) error {
	if err := out.Emit(report.Text("\nTerminal Server Memory Usage By Session:\n")); err != nil {
		return err
	}
	var zero [3]uint64
	total := &sessionTotal{Paged: &zero[0], NonPaged: &zero[1], Committed: &zero[2]}
	for _, u := range s.sessions {
		if of.LogonSession != nil && *of.LogonSession != u.ID {
			continue
		}
		total.add(u)
		if err := out.Emit(u); err != nil {
			return err
		}
	}
	switch {
	case total.Sessions == 0 && s.noSession == nil:
		s.noSession = errors.New("the session that !session chose is not in the dump")
	case total.Sessions > 0 && of.LogonSession == nil:
		if err := out.Emit(total); err != nil {
			return err
		}
	}
	if s.noSession == nil {
		return nil
	}
	return out.Emit(report.Notef("Not all sessions are shown: %v.", s.noSession))
}
