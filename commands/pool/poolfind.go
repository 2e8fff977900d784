package pool

import (
	"context"
	"errors"
	"fmt"

	"gokd/commands/cmd"
	"gokd/commands/report"
	"gokd/model"
	"gokd/model/mem"
	"gokd/model/pool"
)

var poolfind = &cmd.Command{
	Name: "!poolfind", Aliases: []string{"!kdexts.poolfind", "!kdext*.poolfind"}, Group: cmd.GroupPool,
	Summary: "find the allocations of a tag",
	Args: []cmd.Arg{
		{Name: "tag", Kind: cmd.KindTag, Switch: "-tag", Optional: true, Doc: "the tag, where it holds a space: -tag \"AB C\""},
		{Name: "nonpaged", Kind: cmd.KindSwitch, Switch: "-nonpaged", Optional: true, Doc: "nonpaged pool (also where no pool is named)"},
		{Name: "paged", Kind: cmd.KindSwitch, Switch: "-paged", Optional: true, Doc: "paged pool"},
		{Name: "session", Kind: cmd.KindSwitch, Switch: "-session", Optional: true, Doc: "session pool"},
		{Name: "global", Kind: cmd.KindSwitch, Switch: "-global", Optional: true, Doc: "the machine's pools, not a session's (the default)"},
		{Name: "small", Kind: cmd.KindSwitch, Switch: "-small", Optional: true, Doc: "only blocks with a header"},
		{Name: "large", Kind: cmd.KindSwitch, Switch: "-large", Optional: true, Doc: "only allocations of whole pages"},
		{Name: "process", Kind: cmd.KindAddr, Switch: "-process", Optional: true, Doc: "only blocks charged to this process"},
		{Name: "command", Kind: cmd.KindWord, Switch: "-x", Optional: true, Doc: "not offered: a command for each hit"},
		{Name: "Tag", Kind: cmd.KindTag, Optional: true, Doc: "four characters, * and ? match; 0x and a value"},
		{Name: "PoolType", Kind: cmd.KindFlags, Optional: true, Doc: "0 nonpaged, 1 paged, 2 special, 4 session"},
	},
	Needs: cmd.NeedKernel,
	Help: `Searches the table of large allocations, then every page of the pool, for blocks
with a tag. Freed blocks keep the tag of their last use: they are counted, and
stand in the JSON records, but have no row.

Pages that the dump does not hold can't be searched; the last line says how many.
From Windows 10 1903 (18362) on small blocks live in segment heaps, which are not
walked yet: only large allocations are listed. Special pool is not searched.`,
	Example: "!poolfind Leak\n!poolfind -tag \"Irp \" -paged\n!poolfind Mm* 1",
	SeeAlso: []string{"!poolused", "!pool"},
	Run:     runPoolfind,
}

// find is one run of !poolfind.
type find struct {
	s       *cmd.Session
	st      *state
	out     report.Sink
	query   pool.Query
	small   bool
	large   bool
	process mem.VA
	sum     findSummary
}

func runPoolfind(ctx context.Context, s *cmd.Session, in cmd.Args, out report.Sink) error {
	f := &find{s: s, out: out, small: !in.Has("large") || in.Has("small"), large: !in.Has("small") || in.Has("large")}
	kinds, err := f.read(in)
	if err != nil {
		return cmd.Misuse(err)
	}
	if f.st, err = open(s); err != nil {
		return err
	}
	for i, kind := range kinds {
		f.query.Kind = kind
		if err := f.pool(ctx, i == 0); err != nil {
			return err
		}
		if ctx.Err() != nil {
			break
		}
	}
	if err := out.Emit(&f.sum); err != nil {
		return err
	}
	return ctx.Err()
}

// read takes the arguments, of the old syntax and the new.
func (f *find) read(in cmd.Args) ([]pool.Kind, error) {
	if in.Has("command") {
		return nil, errors.New("-x: a command for each hit is not offered; the JSON records of the hits can drive a script")
	}
	if in.Has("process") {
		if f.process = in.Addr("process"); f.process == 0 {
			return nil, errors.New("-process: 0 is no process")
		}
	}
	name := "Tag"
	if in.Has("tag") {
		name = "tag"
	}
	text := in.Text(name)
	switch {
	case in.Has("tag") && in.Has("Tag"):
		return nil, fmt.Errorf("two tags: %q and %q", in.Text("tag"), in.Text("Tag"))
	case !in.Has(name) && f.process != 0:
		text = "*"
	case !in.Has(name):
		return nil, errors.New("no tag: four characters, * and ? match")
	}
	var err error
	f.query.Pattern, err = pool.ParsePattern(text, !in.Quoted(name))
	if err != nil {
		return nil, err
	}
	return findKinds(in)
}

// findKinds gives the pools to search: by switch, else by the old number.
func findKinds(in cmd.Args) ([]pool.Kind, error) {
	var kinds []pool.Kind
	if in.Has("session") {
		if in.Has("global") {
			return nil, errors.New("-session and -global: one of them")
		}
		return []pool.Kind{pool.Session}, nil
	}
	if in.Has("nonpaged") {
		kinds = append(kinds, pool.Nonpaged)
	}
	if in.Has("paged") {
		kinds = append(kinds, pool.Paged)
	}
	if len(kinds) > 0 {
		return kinds, nil
	}
	switch n := in.Uint("PoolType", 0); n {
	case 0:
		return []pool.Kind{pool.Nonpaged}, nil
	case 1:
		return []pool.Kind{pool.Paged}, nil
	case 2:
		return []pool.Kind{pool.Special}, nil
	case 4:
		return []pool.Kind{pool.Session}, nil
	default:
		return nil, fmt.Errorf("PoolType %#x: 0 nonpaged, 1 paged, 2 special, 4 session", n)
	}
}

// pool searches one pool.
func (f *find) pool(ctx context.Context, first bool) error {
	kind := f.query.Kind
	f.query.Progress = func(n uint64) { f.s.Report("pages of "+kind.String()+" pool", n, 0) }
	w, err := f.st.pool.Find(ctx, f.query)
	if err != nil {
		return err
	}
	f.sum.SmallUnwalked = len(w.Ranges()) == 0
	if f.large && (first || kind == pool.Session) {
		if err := f.scanning(ctx, w); err != nil {
			return err
		}
	}
	if f.large {
		if err := f.emit(ctx, w.Large(ctx)); err != nil {
			return err
		}
	}
	if f.small {
		for _, r := range w.Ranges() {
			if err := f.searching(r); err != nil {
				return err
			}
			if err := f.emit(ctx, w.Small(ctx, r)); err != nil {
				return err
			}
			if ctx.Err() != nil {
				if err := f.out.Emit(report.Textf("\n...terminating - searched pool to %s\n", w.Summary().Reached)); err != nil {
					return err
				}
				break
			}
		}
	}
	f.sum.add(w.Summary())
	return nil
}

// scanning writes the line before the large allocations.
func (f *find) scanning(ctx context.Context, w *pool.Walk) error {
	tables, err := w.Tables(ctx)
	if err != nil {
		return nil // the walk tells it
	}
	for _, t := range tables {
		if err := f.out.Emit(scanLine{large: true, start: t.Start, end: t.End, pattern: f.query.Pattern}); err != nil {
			return err
		}
	}
	return nil
}

// searching writes the line before the blocks of a range.
func (f *find) searching(r pool.Range) error {
	return f.out.Emit(scanLine{kind: r.Kind, start: r.Start, end: r.Last + 1, pattern: f.query.Pattern})
}

// emit shows what a part of the walk finds.
func (f *find) emit(ctx context.Context, found func(func(pool.Block, error) bool)) error {
	var failed error
	for b, err := range found {
		if err != nil {
			if failed = f.trouble(err); failed != nil {
				break
			}
			continue
		}
		rec := newBlock(f.st.pool, b, f.process != 0 || b.Billed != 0)
		if f.process != 0 && (rec.Owner == nil || mem.VA(*rec.Owner) != f.process) {
			continue
		}
		f.sum.count(b)
		if failed = f.out.Emit(rec); failed != nil {
			break
		}
		// A window of pages holds thousands of blocks, and a terminal shows them
		// slowly: an interrupt must not wait for their end.
		if f.sum.Matches%64 == 0 && ctx.Err() != nil {
			break
		}
	}
	return failed
}

// trouble sorts what a walk could not read: damage is noted, the rest ends the
// command. A cancelled context is no failure here: what was found stays.
func (f *find) trouble(err error) error {
	var page *pool.PageError
	var part *pool.PartError
	var missing *pool.MissingError
	var unknown *model.GlobalError
	switch {
	case errors.Is(err, context.Canceled), errors.Is(err, context.DeadlineExceeded):
		return nil
	case errors.As(err, &missing), errors.As(err, &unknown):
		// Without the table of large allocations the small ones can be found.
		if !f.small || f.sum.SmallUnwalked {
			return err
		}
		f.sum.NoLarge = err.Error()
		f.sum.Unread++
		return nil
	case errors.As(err, &page), errors.As(err, &part):
		f.sum.note(err)
		return nil
	}
	if f.sum.SmallUnwalked {
		return err
	}
	f.sum.note(err)
	f.sum.Unread++
	return nil
}
