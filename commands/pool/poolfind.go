package pool

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"strings"

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
		{Name: "command", Kind: cmd.KindWord, Switch: "-x", Optional: true, Complete: cmd.CompleteCommand, Doc: "a command to run for each hit, in quotes; @$extret is the hit"},
		{Name: "Tag", Kind: cmd.KindTag, Optional: true, Doc: "four characters, * and ? match; 0x and a value"},
		{Name: "PoolType", Kind: cmd.KindFlags, Optional: true, Doc: "0 nonpaged, 1 paged, 2 special, 4 session"},
	},
	Needs: cmd.NeedKernel,
	Help: `Searches the table of large allocations, then every small block of the pool, for
blocks with a tag. Freed blocks keep the tag of their last use: they are counted,
and stand in the JSON records, but have no row. Blocks of page pools come by
address, those of segment heaps (Windows 10 1903, build 18362, and later) in the
order of the heaps.

Tags are four characters, case-sensitive; a shorter one is filled with spaces, *
stands for any run of characters, ? for any one. A tag with a space stands in
quotes; 0x and a value is the tag's number. -session searches the session that
!session chose, else all.

-x "COMMANDS" runs commands for each hit; @$extret is the address of what was
allocated. A command that fails ends the search as it ends a script: -keepgoing,
or .catch { } around it, lets it go on, and .break ends it.

Pages that the dump does not hold can't be searched: the last lines say how many
there are, and whether the numbers are floors. The first search of a pool reads
all of it; later ones are answered from what it found, .poolindex shows that.`,
	Example: "!poolfind Leak\n!poolfind -tag \"Irp \" -paged\n!poolfind Mm* 1\n!poolfind -x \"db @$extret L10\" Driv",
	SeeAlso: []string{"!poolused", "!pool", ".poolindex", "!session"},
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
	command string // to run for each hit
	ended   bool   // by the command
	rows    rowSlab
	sum     searchSummary
}

func runPoolfind(ctx context.Context, s *cmd.Session, in cmd.Args, out report.Sink) error {
	f := &find{s: s, out: out, small: !in.Has("large") || in.Has("small"), large: !in.Has("small") || in.Has("large")}
	f.sum.small, f.sum.large = f.small, f.large
	kinds, err := f.read(in)
	if err != nil {
		return cmd.Misuse(err)
	}
	if f.st, err = open(s); err != nil {
		return err
	}
	if err := f.st.beforeSearch(ctx, s, out); err != nil {
		return err
	}
	for _, kind := range kinds {
		f.query.Kind = kind
		if err := f.pool(ctx); err != nil {
			return err
		}
		if ctx.Err() != nil || f.ended {
			break
		}
	}
	f.sum.Stopped = f.ended
	f.sum.finish()
	if err := out.Emit(&f.sum); err != nil {
		return err
	}
	return cmp.Or(f.st.afterSearch(ctx, s, out), ctx.Err())
}

// read takes the arguments, of the old syntax and the new.
func (f *find) read(in cmd.Args) ([]pool.Kind, error) {
	if in.Has("command") {
		f.command = strings.TrimSpace(in.Text("command"))
		f.sum.Runs, f.sum.Failed = new(uint64), new(uint64)
		switch {
		case f.command == "":
			return nil, errors.New(`-x: no command: -x "db @$extret L10"`)
		case twice(in.Raw, "-x"):
			return nil, errors.New(`-x: two of them; several commands stand in one: -x "dd @$extret L4; .echo"`)
		}
	}
	if in.Has("process") {
		f.process = in.Addr("process")
		if typ, err := f.s.Kernel.Object("_DISPATCHER_HEADER", f.process).Field("Type").Uint(); f.process == 0 || err == nil && typ&0x7f != processObject {
			return nil, fmt.Errorf("-process: %#x is no process; !process 0 0 lists them", uint64(f.process))
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
	return f.readTag(text, in.Quoted(name), in)
}

// processObject is _DISPATCHER_HEADER.Type of a process (_KOBJECTS).
const processObject = 3

func (f *find) readTag(text string, quoted bool, in cmd.Args) ([]pool.Kind, error) {
	var err error
	if f.query.Pattern, err = parseTag(text, quoted); err != nil {
		return nil, err
	}
	f.query.Session = f.s.LogonSession
	return findKinds(in)
}

// twice reports whether a switch that takes a value is given more than once.
func twice(line, name string) bool {
	words, err := cmd.Words(line)
	n := 0
	for i := 0; i < len(words) && err == nil; i++ {
		if strings.EqualFold(words[i], name) || strings.EqualFold(words[i], "/"+name[1:]) {
			n++
			i++ // its value
		}
	}
	return n > 1
}

// findKinds gives the pools to search: by switch, else by the old number.
func findKinds(in cmd.Args) ([]pool.Kind, error) {
	var kinds []pool.Kind
	for _, k := range []struct {
		name string
		kind pool.Kind
	}{{"nonpaged", pool.Nonpaged}, {"paged", pool.Paged}, {"session", pool.Session}} {
		if in.Has(k.name) {
			kinds = append(kinds, k.kind)
		}
	}
	switch {
	case in.Has("session") && in.Has("global"):
		return nil, errors.New("-session and -global: one of them")
	case in.Has("session"):
		return []pool.Kind{pool.Session}, nil
	case len(kinds) > 0 && in.Has("PoolType"):
		return nil, fmt.Errorf("PoolType %s and -%s: one of them names the pool", in.Text("PoolType"), kinds[0])
	case len(kinds) > 0:
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
func (f *find) pool(ctx context.Context) error {
	kind := f.query.Kind
	f.query.Progress = func(n uint64) { f.s.Report("pages of "+kind.String()+" pool", n, 0) }
	w, err := f.st.pool.Find(ctx, f.query)
	if err != nil {
		return err
	}
	defer func() { f.sum.add(kind, w.Summary(), f.small) }()
	f.sum.SmallUnwalked = w.Summary().SmallUnwalked
	if f.large {
		if err := f.scanning(ctx, w); err != nil {
			return err
		}
		if err := f.emit(ctx, w.Large(ctx)); err != nil || f.ended {
			return err
		}
	}
	if !f.small {
		return nil
	}
	for i, r := range w.Ranges() {
		// Newer debuggers name no range where blocks lie in heaps.
		heaps := !f.st.pool.PagePool() && f.large && i == 0
		if err := f.searching(r, heaps); err != nil {
			return err
		}
		if err := f.emit(ctx, w.Small(ctx, r)); err != nil || f.ended {
			return err
		}
		if ctx.Err() != nil {
			return f.out.Emit(report.Textf("\n...terminating - searched pool to %s\n", w.Summary().Reached))
		}
	}
	return nil
}

// searching writes the line before the blocks of a range.
func (f *find) searching(r pool.Range, heaps bool) error {
	if heaps {
		return nil
	}
	return f.out.Emit(searchLine{kind: r.Kind, start: r.Start, end: r.Last + 1, pattern: f.query.Pattern})
}

// scanning writes the line before the large allocations.
func (f *find) scanning(ctx context.Context, w *pool.Walk) error {
	tables, err := w.Tables(ctx)
	if err != nil {
		return nil // the walk tells it
	}
	for _, t := range tables {
		if err := f.out.Emit(searchLine{large: true, start: t.Start, end: t.End, pattern: f.query.Pattern}); err != nil {
			return err
		}
	}
	return nil
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
		if f.process != 0 {
			if owner, _ := f.st.pool.Owner(b); owner != f.process {
				continue
			}
		}
		f.sum.count(&b)
		if failed = f.out.Emit(f.rows.next(f.st.pool, b)); failed != nil {
			break
		}
		if f.command != "" && b.State == pool.Allocated {
			if failed = f.run(ctx, b); failed != nil || f.ended || ctx.Err() != nil {
				break
			}
		}
		// A window of pages holds thousands of blocks, and a terminal shows them
		// slowly: an interrupt must not wait for their end.
		if f.sum.Matches%64 == 0 && ctx.Err() != nil {
			break
		}
	}
	return failed
}

// run runs the command of -x for a hit, as one round of a loop.
func (f *find) run(ctx context.Context, b pool.Block) error {
	if err := f.s.SetPseudo("$extret", uint64(b.Body)); err != nil {
		return err
	}
	*f.sum.Runs++
	done, err := f.s.Round(ctx, f.command, 0, len(f.command))
	if err != nil {
		*f.sum.Failed++
	}
	switch {
	case ctx.Err() != nil:
		return nil // what was found stays
	case err != nil && f.s.KeepGoing && !f.s.Quit:
		return nil // it was shown
	}
	f.ended = done
	return err
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
