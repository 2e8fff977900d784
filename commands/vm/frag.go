package vm

import (
	"context"
	"errors"
	"fmt"

	"gokd/commands/cmd"
	"gokd/commands/report"
	"gokd/model/pool"
)

var frag = &cmd.Command{
	Name: "!frag", Group: cmd.GroupPool,
	Summary: "show how the free memory of the pools is scattered",
	Args: []cmd.Arg{
		{Name: "Flags", Kind: cmd.KindFlags, Optional: true, Doc: "sum of 1 the tags that hold pages with free memory, 2 nonpaged pool only, 4 paged pool only"},
	},
	Needs: cmd.NeedKernel,
	Help: `Walks the small blocks of both pools and shows how their free bytes lie: how
many pieces of which size, the largest run of free bytes, and how much of the
pages in use is free. Pages that only small blocks keep are what fragmentation
costs. Free pieces that touch count as one run. Blocks on lookaside lists are
neither free nor in use: they are counted apart.

With flag 1 the tags follow whose blocks hold pages with the most free bytes: a
page that several tags hold counts for each of them. A page with one block in
use is freed when that block is.

The debuggers' own !frag is not documented: this layout is gokd's. Large
allocations are whole pages and have no part in it. What could not be read makes
every number a floor, and a note says so.`,
	Example: "!frag\n!frag 1",
	SeeAlso: []string{"!poolused", "!poolfind", "!vm"},
	Run:     runFrag,
}

// Flags of !frag.
const (
	fragTags     = 1
	fragNonpaged = 2
	fragPaged    = 4
)

func runFrag(ctx context.Context, s *cmd.Session, in cmd.Args, out report.Sink) error {
	flags := in.Uint("Flags", 0)
	switch {
	case flags&^(fragTags|fragNonpaged|fragPaged) != 0:
		return cmd.Misuse(fmt.Errorf("flags %#x: want a sum of 1, 2 and 4", flags))
	case s.Kernel.Triage():
		return errors.New("!frag: a triage dump holds no pool to walk: a kernel or full dump is needed")
	}
	p, err := pools(s)
	if err != nil {
		return err
	}
	both := flags&(fragNonpaged|fragPaged) == 0
	for _, kind := range []struct {
		kind pool.Kind
		flag uint64
		name string
	}{{pool.Nonpaged, fragNonpaged, "NonPaged"}, {pool.Paged, fragPaged, "Paged"}} {
		if !both && flags&kind.flag == 0 {
			continue
		}
		x, err := p.Index(ctx, kind.kind, func(pages uint64) { s.Report("scanning "+kind.name+" pool", pages, 0) })
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if err != nil {
			if err := out.Emit(report.Notef("%s pool can't be walked: %v.", kind.name, err)); err != nil {
				return err
			}
			continue
		}
		f := newScatter(kind.name, kind.kind.String())
		f.walk(ctx, x)
		if err := ctx.Err(); err != nil {
			return err
		}
		if err := f.emit(out, flags&fragTags != 0, x.Summary()); err != nil {
			return err
		}
	}
	return nil
}
