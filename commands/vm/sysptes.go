package vm

import (
	"context"
	"errors"
	"fmt"

	"gokd/commands/cmd"
	"gokd/commands/report"
	"gokd/model/vm"
)

var sysptes = &cmd.Command{
	Name: "!sysptes", Aliases: []string{"!kdexts.sysptes"}, Group: cmd.GroupMemory,
	Summary: "show how many system page table entries are free",
	Args: []cmd.Arg{
		{Name: "Flags", Kind: cmd.KindFlags, Optional: true, Doc: "0 the sums, 1 each run of free entries too; 2, 4 and 10, special pool and who holds entries, are not shown"},
	},
	Needs: cmd.NeedKernel,
	Help: `Shows the ranges of page table entries with which the kernel maps memory of its
own, such as locked buffers and kernel stacks: how many there are, how many are
free by the range's bitmap, in how many runs, and the largest of them. A driver
that maps a buffer needs one run.

Processors keep some free entries at hand, which the bitmap counts as used: the
number of !vm may be larger. Where a range has fewer bits than entries a bit is
taken for an equal share of them, and a note says so. What of a bitmap is not in
the dump is told.`,
	SeeAlso: []string{"!vm", "!pte"},
	Run:     runSysptes,
}

// pteRange is the record of a range.
type pteRange struct {
	Name     string      `json:"name"`
	Address  report.Addr `json:"address"`
	Start    report.Addr `json:"start"`
	Total    uint64      `json:"total"`
	Counted  uint64      `json:"free_counted"` // as the kernel counts
	Runs     uint64      `json:"free_runs"`
	Free     uint64      `json:"free"` // by the bitmap
	Largest  uint64      `json:"largest_free_run"`
	At       report.Addr `json:"largest_free_run_at"`
	Unknown  uint64      `json:"unknown"`
	Failures uint64      `json:"failures"`
	Each     uint64      `json:"entries_per_bit"`
}

// Type names the record.
func (*pteRange) Type() string { return "pte_range" }

// WriteText writes the sums of a range.
func (r *pteRange) WriteText(p *report.Printer) {
	p.Printf("\n  free blocks: %d   total free: %d    largest free block: %d\n", r.Runs, r.Free, r.Largest)
}

// pteRun is the record of a run of free entries.
type pteRun struct {
	Start report.Addr `json:"start"`
	Count uint64      `json:"count"`
}

// Type names the record.
func (*pteRun) Type() string { return "free_ptes" }

// WriteText writes kd's row.
func (r *pteRun) WriteText(p *report.Printer) {
	p.Printf("      free ptes: %s   number free: %d.\n", r.Start.String(), r.Count)
}

func runSysptes(ctx context.Context, s *cmd.Session, in cmd.Args, out report.Sink) error {
	flags := in.Uint("Flags", 0)
	switch {
	case flags&^uint64(0x1f) != 0:
		return cmd.Misuse(fmt.Errorf("flags %#x: want 0 or 1", flags))
	case flags&^uint64(1) != 0:
		return fmt.Errorf("!sysptes: flags %#x: entries of special pool and who holds entries are not shown: want 0 or 1", flags)
	case s.Kernel.Triage():
		return errors.New("!sysptes: a triage dump holds no bitmaps of page table entries: a kernel or full dump is needed")
	}
	list, lack := vm.PTERanges(s.Kernel)
	if len(list) == 0 {
		return fmt.Errorf("!sysptes: no range of system page table entries is known: %w", lack)
	}
	for i, r := range list {
		if i > 0 {
			if err := out.Emit(report.Text("\n")); err != nil {
				return err
			}
		}
		if err := showPTEs(ctx, s, r, flags&1 != 0, out); err != nil {
			return err
		}
	}
	if lack != nil {
		return out.Emit(report.Notef("Another range is not known: %v.", lack))
	}
	return nil
}

// showPTEs shows one range.
func showPTEs(ctx context.Context, s *cmd.Session, r vm.PTERange, runs bool, out report.Sink) error {
	head := fmt.Sprintf("%s PTE Information\n  Total System Ptes %d\n\n    starting PTE: %s\n", r.Name, r.Total, report.Addr(r.Base))
	if runs {
		head += "\n"
	}
	if err := out.Emit(report.Text(head)); err != nil {
		return err
	}
	var failed error
	visit := func(run vm.PTERun) bool {
		failed = out.Emit(&pteRun{report.Addr(run.At), run.Count})
		return failed == nil
	}
	if !runs {
		visit = nil
	}
	free, err := vm.FreePTEs(ctx, s.Kernel, r, visit)
	if err = errors.Join(failed, err); err != nil {
		return err
	}
	if err := out.Emit(&pteRange{
		Name: r.Name, Address: report.Addr(r.At), Start: report.Addr(r.Base), Total: r.Total, Counted: r.Free, Runs: free.Runs,
		Free: free.Free, Largest: free.Largest.Count, At: report.Addr(free.Largest.At), Unknown: free.Unknown, Failures: r.Failures, Each: r.Each,
	}); err != nil {
		return err
	}
	return pteNotes(r, free, out)
}

// pteNotes says what the numbers of a range leave open.
func pteNotes(r vm.PTERange, free vm.PTEFree, out report.Sink) error {
	var notes []report.Note
	if r.Failures > 0 {
		notes = append(notes, report.Notef("%d requests for entries of this range have failed.", r.Failures))
	}
	if r.Free != free.Free {
		notes = append(notes, report.Notef("The kernel counts %d free entries; those that processors keep at hand are used in the bitmap.", r.Free))
	}
	if r.Each > 1 {
		notes = append(notes, report.Notef("The bitmap has %d bits: each is taken for %d entries.", r.Bits, r.Each))
	}
	if free.Unknown > 0 {
		notes = append(notes, report.Notef("The bits of %d entries are not in the dump: the free ones are a floor.", free.Unknown))
	}
	for _, n := range notes {
		if err := out.Emit(n); err != nil {
			return err
		}
	}
	return nil
}
