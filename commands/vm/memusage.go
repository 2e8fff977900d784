package vm

import (
	"context"
	"errors"
	"fmt"

	"gokd/commands/cmd"
	"gokd/commands/report"
	"gokd/model/vm"
)

var memusage = &cmd.Command{
	Name: "!memusage", Aliases: []string{"!kdexts.memusage"}, Group: cmd.GroupMemory,
	Summary: "count the pages of physical memory by their state",
	Args: []cmd.Arg{
		{Name: "Flags", Kind: cmd.KindFlags, Optional: true, Doc: "0 or 8 the summary; 1 and 2, the lists of modified pages that are not written, are not shown"},
	},
	Needs: cmd.NeedKernel,
	Help: `Goes over the PFN database and counts the pages of physical memory by the list
they are on. The part about files and processes that kd shows behind the summary
is not shown. SLIST/Temp is left out: pages on the short lists of processors are
counted where their entries say they are.

Dumps without the PFN database can't answer. What of it is not in the dump is
counted and told; all other numbers are floors then.`,
	SeeAlso: []string{"!vm"},
	Run:     runMemusage,
}

// pageUse is the record of the pages of physical memory, by state.
type pageUse struct {
	Zeroed          uint64 `json:"zeroed"`
	Free            uint64 `json:"free"`
	Standby         uint64 `json:"standby"`
	Modified        uint64 `json:"modified"`
	ModifiedNoWrite uint64 `json:"modified_no_write"`
	Active          uint64 `json:"active"`
	Transition      uint64 `json:"transition"`
	Bad             uint64 `json:"bad"`
	Missing         uint64 `json:"not_in_dump"`
	Total           uint64 `json:"total"`
}

// Type names the record.
func (*pageUse) Type() string { return "memory_use" }

// SkippedItems counts the entries that are not in the dump.
func (r *pageUse) SkippedItems() int { return int(min(r.Missing, 1<<31)) }

// WriteText writes kd's rows, its words about progress included.
func (r *pageUse) WriteText(p *report.Printer) {
	p.Printf("loading PFN database\nloading (100%% complete)\nCompiling memory usage data (99%% Complete).\n")
	for _, row := range []struct {
		label string
		n     uint64
	}{
		{"Zeroed", r.Zeroed}, {"Free", r.Free}, {"Standby", r.Standby}, {"Modified", r.Modified}, {"ModifiedNoWrite", r.ModifiedNoWrite},
		{"Active/Valid", r.Active}, {"Transition", r.Transition}, {"Bad", r.Bad}, {"Unknown", r.Missing}, {"TOTAL", r.Total},
	} {
		p.Printf("%19s: %8d (%8d kb)\n", row.label, row.n, row.n*4)
	}
}

func runMemusage(ctx context.Context, s *cmd.Session, in cmd.Args, out report.Sink) error {
	switch flags := in.Uint("Flags", 0); {
	case flags == 1 || flags == 2:
		return errors.New("!memusage: the modified pages that are not written are counted only, by !memusage 8")
	case flags != 0 && flags != 8:
		return cmd.Misuse(fmt.Errorf("flags %#x: want 0 or 8", flags))
	case s.Kernel.Triage():
		return errors.New("!memusage: a triage dump holds no PFN database: a kernel or full dump is needed")
	}
	u, err := vm.MemoryUse(ctx, s.Kernel, func(done, total uint64) { s.Report("reading the PFN database", done, total) })
	if ctx.Err() != nil {
		return ctx.Err()
	}
	if err != nil {
		return fmt.Errorf("!memusage: %w", err)
	}
	l := u.Lists
	if err := out.Emit(&pageUse{
		Zeroed: l[vm.Zeroed], Free: l[vm.Free], Standby: l[vm.Standby], Modified: l[vm.ModifiedList], ModifiedNoWrite: l[vm.ModifiedNoWriteList],
		Active: l[vm.Active], Transition: l[vm.Transition], Bad: l[vm.Bad], Missing: u.Missing, Total: u.Pages,
	}); err != nil {
		return err
	}
	if u.Missing > 0 {
		return out.Emit(report.Notef("The entries of %d pages are not in the dump: they stand as Unknown, and all other numbers but the total are floors.", u.Missing))
	}
	return nil
}
