package vm

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"gokd/commands/cmd"
	"gokd/commands/report"
	"gokd/commands/show"
	"gokd/model/mem"
	"gokd/model/pool"
	"gokd/model/vm"
)

// region is the record of a part of system space.
type region struct {
	Name  string      `json:"name"`
	Base  report.Addr `json:"start"`
	Bytes uint64      `json:"bytes"`
}

// Type names the record.
func (*region) Type() string { return "vm_region" }

// WriteText writes kd's row: numbers are hexadecimal.
func (r *region) WriteText(p *report.Printer) {
	p.Printf("%-22s: %16x %16x\n", r.Name, uint64(r.Base), r.Bytes)
}

// regions shows what the parts of system space are used for. Kernels before
// Windows 10 keep no such table: of them the pools are shown, as far as their
// places are known.
func regions(ctx context.Context, s *cmd.Session, out report.Sink) error {
	list, err := vm.Regions(s.Kernel)
	why := err
	if len(list) == 0 {
		list = poolRegions(ctx, s)
	}
	if ctx.Err() != nil {
		return ctx.Err()
	}
	if len(list) == 0 {
		return fmt.Errorf("!vm: the regions of system space are not known: %w", why)
	}
	if err := out.Emit(report.Text("System Region               Base Address    NumberOfBytes\n\n")); err != nil {
		return err
	}
	for _, r := range list {
		if err := out.Emit(&region{r.Name, report.Addr(r.Base), r.Bytes}); err != nil {
			return err
		}
	}
	if why != nil {
		return out.Emit(report.Notef("Only the pools are shown, by other variables of the kernel: the table of regions is not known: %v.", why))
	}
	return nil
}

func poolRegions(ctx context.Context, s *cmd.Session) []vm.Region {
	p, err := pools(s)
	if err != nil {
		return nil
	}
	var list []vm.Region
	for _, kind := range []struct {
		kind pool.Kind
		name string
	}{{pool.Nonpaged, "NonPagedPool"}, {pool.Paged, "PagedPool"}} {
		ranges, _ := p.Ranges(ctx, kind.kind) // a pool whose place is not known has no row
		for _, r := range ranges {
			list = append(list, vm.Region{Name: kind.name, Base: r.Start, Bytes: uint64(r.Last-r.Start) + 1})
		}
	}
	return list
}

// showThread shows a thread with its stack, as !thread does.
func showThread(ctx context.Context, s *cmd.Session, at mem.VA, out report.Sink) error {
	r, err := show.ThreadAt(ctx, s.Kernel, at, show.Options{Flags: show.FlagDefault, Source: show.Sources(ctx, s)})
	if err != nil {
		return out.Emit(report.Notef("Thread %s can't be shown: %v.", at, err))
	}
	return out.Emit(r)
}

// workers shows the threads of the memory manager with their stacks.
func workers(ctx context.Context, s *cmd.Session, out report.Sink) error {
	if err := out.Emit(report.Text("\nMemory Management Thread Stacks:\n\n")); err != nil {
		return err
	}
	found, unread := 0, 0
	for w, err := range vm.Workers(ctx, s.Kernel) {
		switch {
		case ctx.Err() != nil:
			return ctx.Err()
		case err != nil:
			unread++
			continue
		}
		found++
		if err := showThread(ctx, s, w.Thread, out); err != nil {
			return err
		}
		if err := out.Emit(report.Notef("It is known by %s.\n", w.Name)); err != nil {
			return err
		}
	}
	if found == 0 {
		return out.Emit(report.Note("No thread of the memory manager was recognized: it takes the names of the kernel's functions, or the structures that name the threads."))
	}
	return partial(out, unread)
}

// partial says that a walk over threads was not complete.
func partial(out report.Sink, unread int) error {
	if unread == 0 {
		return nil
	}
	return out.Emit(report.Notef("%d lists of threads could not be read to their end: there may be more threads than are shown.", unread))
}

// owners shows the threads that hold working sets and other locks of the memory
// manager, with their stacks.
func owners(ctx context.Context, s *cmd.Session, out report.Sink) error {
	if err := out.Emit(report.Text("\nWorking Set Owner Thread Stacks:\n\n")); err != nil {
		return err
	}
	found, unread := 0, 0
	for o, err := range vm.Owners(ctx, s.Kernel) {
		switch {
		case ctx.Err() != nil:
			return ctx.Err()
		case err != nil:
			unread++
			continue
		}
		found++
		if err := showThread(ctx, s, o.Thread, out); err != nil {
			return err
		}
		if err := out.Emit(report.Notef("It holds: %s.\n", strings.Join(o.Owns, ", "))); err != nil {
			return err
		}
	}
	if !vm.WorkingSetBits(s.Kernel) {
		if err := out.Emit(report.Note("Threads of this build do not tell which working sets they hold: those that hold address spaces are shown.")); err != nil {
			return err
		}
	}
	if found == 0 {
		if err := out.Emit(report.Note("No thread holds such a lock.")); err != nil {
			return err
		}
	}
	return partial(out, unread)
}

// write is the record of a write to a page file. Sizes of the machine's state
// are in pages.
type write struct {
	Time             *string        `json:"time"`
	Status           *report.Addr   `json:"status"`
	Bytes            *uint32        `json:"bytes"`
	Priority         *uint8         `json:"priority"`
	IRPPriority      *uint8         `json:"irp_priority"`
	Available        *uint64        `json:"available"`
	Modified         *uint64        `json:"modified"`
	ModifiedPagefile *uint64        `json:"modified_pagefile"`
	NoWrite          *uint64        `json:"modified_no_write"`
	Missing          report.Missing `json:"missing,omitempty"`
}

// Type names the record.
func (*write) Type() string { return "page_file_write" }

// WriteText writes a row of our own layout: no output of kd is public.
func (r *write) WriteText(p *report.Printer) {
	when, status := "not known", "????????"
	if r.Time != nil {
		when = *r.Time
	}
	if r.Status != nil {
		status = fmt.Sprintf("%08x", uint64(*r.Status))
	}
	bytes := "????"
	if r.Bytes != nil {
		bytes = fmt.Sprintf("%x", *r.Bytes)
	}
	p.Printf("%-28s %s %8s %10s %10s %10s %10s\n", when, status, bytes,
		number(r.Available), number(r.Modified), number(r.ModifiedPagefile), number(r.NoWrite))
}

func number(v *uint64) string {
	if v == nil {
		return "????"
	}
	return fmt.Sprint(*v)
}

// epoch is the distance of 1601, from which Windows counts, to 1970, in 100 ns.
const epoch = 116444736000000000

// writes shows the log of writes to page files, oldest first.
func writes(ctx context.Context, s *cmd.Session, out report.Sink) error {
	list, err := vm.PageFileWrites(ctx, s.Kernel)
	if ctx.Err() != nil {
		return ctx.Err()
	}
	if err != nil {
		return out.Emit(report.Notef("The log of page file writes is not known: %v.", err))
	}
	if len(list) == 0 {
		return out.Emit(report.Note("The log of page file writes is empty: nothing was written to a page file."))
	}
	title := report.Textf("\nPage File Write Log (%d writes, oldest first)\n\n%-28s %-8s %8s %10s %10s %10s %10s\n",
		len(list), "Time", "Status", "Bytes", "Available", "Modified", "PageFile", "NoWrite")
	if err := out.Emit(title); err != nil {
		return err
	}
	for _, w := range list {
		if err := out.Emit(newWrite(w, s.Location)); err != nil {
			return err
		}
	}
	return nil
}

func newWrite(w vm.Write, at *time.Location) *write {
	r := &write{
		Status: known(w.Gaps, "status", report.Addr(w.Status)), Bytes: known(w.Gaps, "bytes", w.Bytes),
		Priority: known(w.Gaps, "priority", w.Priority), IRPPriority: known(w.Gaps, "irp_priority", w.IRPPriority),
		Available: known(w.Gaps, "available", w.Available), Modified: known(w.Gaps, "modified", w.Modified),
		ModifiedPagefile: known(w.Gaps, "modified_pagefile", w.ModifiedPagefile), NoWrite: known(w.Gaps, "modified_no_write", w.NoWrite),
		Missing: missing(w.Gaps),
	}
	if w.Gaps["time"] != nil {
		return r
	}
	if w.Time < epoch || w.Time > 1<<62 {
		r.Missing.Set("time", errors.New("no time is stored"))
		return r
	}
	if at == nil {
		at = time.UTC
	}
	since := w.Time - epoch
	text := time.Unix(int64(since/1e7), int64(since%1e7)*100).In(at).Format("2006-01-02 15:04:05.0000000")
	r.Time = &text
	return r
}
