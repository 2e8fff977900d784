package pool

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"iter"
	"slices"

	"gokd/commands/cmd"
	"gokd/commands/report"
	"gokd/model/pool"
)

var poolused = &cmd.Command{
	Name: "!poolused", Aliases: []string{"!kdexts.poolused", "!kdext*.poolused"}, Group: cmd.GroupPool,
	Summary: "show pool use by tag",
	Args: []cmd.Arg{
		{Name: "count", Kind: cmd.KindCount, Switch: "/t", Optional: true, Doc: "only so many rows"},
		{Name: "Flags", Kind: cmd.KindFlags, Optional: true, Doc: "1 with allocations and frees, 2 sort by nonpaged use, 4 sort by paged use, 8 session pool"},
		{Name: "Tag", Kind: cmd.KindTag, Optional: true, Doc: "tags to show: * for any run, ? for any one character"},
	},
	Needs: cmd.NeedKernel,
	Help: `Shows how many allocations of each tag are live in each pool and how many bytes
they hold. The numbers are the kernel's own: it counts every allocation per
processor, and the sums over all processors are shown. Large and small
allocations are counted alike, so the command works for segment-heap pools too.

Tags are four characters, case-sensitive; they sort by tag unless flag 2 or 4
says otherwise. Descriptions are gokd's own for common tags; .pooltags reads a
pooltag.txt. With a single tag the loaded images are searched for it: the driver
that allocates with a tag has its four characters in its code.

A dump shows one moment: a large number is no leak by itself.`,
	Example: "!poolused 2\n!poolused /t 5 4\n!poolused 1 Thre",
	SeeAlso: []string{"!poolfind", ".pooltags"},
	Run:     runPoolused,
}

// Flags of !poolused.
const (
	flagCounters = 1 << iota
	flagNonpaged
	flagPaged
	flagSession
	flagAll = flagCounters | flagNonpaged | flagPaged | flagSession
)

// tagRecord is what one tag holds.
type tagRecord struct {
	Tag            string  `json:"tag"`
	NonpagedAllocs uint64  `json:"nonpaged_allocs"`
	NonpagedFrees  uint64  `json:"nonpaged_frees"`
	NonpagedUsed   int64   `json:"nonpaged_used"` // bytes
	PagedAllocs    uint64  `json:"paged_allocs"`
	PagedFrees     uint64  `json:"paged_frees"`
	PagedUsed      int64   `json:"paged_used"`
	Description    *string `json:"description"`
	Binary         *string `json:"binary"`

	Missing report.Missing `json:"missing,omitempty"`

	usage    pool.Usage
	text     string // the description as kd spells it
	counters bool
}

// Type names the record.
func (*tagRecord) Type() string { return "pool_tag" }

// WriteText writes a row of the table.
func (r *tagRecord) WriteText(p *report.Printer) {
	n, g := r.usage.Nonpaged, r.usage.Paged
	tag := r.usage.Tag.String()
	switch {
	case r.counters:
		p.Printf(" %-4s%12d%12d%10d%13d%13d%12d%10d%13d\t%s\n", tag,
			n.Allocs, n.Frees, n.Live, n.Bytes, g.Allocs, g.Frees, g.Live, g.Bytes, r.text)
	default:
		p.Printf(" %-4s%10d%13d%11d%13d\t%s\n", tag, n.Live, n.Bytes, g.Live, g.Bytes, r.text)
	}
}

// totalRecord is the sum over the tags that matched.
type totalRecord struct {
	Tags           int    `json:"tags"`
	Shown          int    `json:"shown"`
	NonpagedAllocs uint64 `json:"nonpaged_allocs"`
	NonpagedFrees  uint64 `json:"nonpaged_frees"`
	NonpagedUsed   int64  `json:"nonpaged_used"`
	PagedAllocs    uint64 `json:"paged_allocs"`
	PagedFrees     uint64 `json:"paged_frees"`
	PagedUsed      int64  `json:"paged_used"`
	Missing        uint64 `json:"entries_missing"`

	nonpaged, paged pool.Count
	counters        bool
	why             []error
}

// Type names the record.
func (*totalRecord) Type() string { return "pool_total" }

// SkippedItems counts the table entries that could not be read.
func (r *totalRecord) SkippedItems() int { return int(r.Missing) }

// WriteText writes the last row; its widths in the old layout are kd's own. Of
// the new one no sample of the row is public: it stands under its columns.
func (r *totalRecord) WriteText(p *report.Printer) {
	n, g := r.nonpaged, r.paged
	switch {
	case r.counters:
		p.Printf(" TOTAL%11d%12d%10d%13d%13d%12d%10d%13d\n", n.Allocs, n.Frees, n.Live, n.Bytes, g.Allocs, g.Frees, g.Live, g.Bytes)
	default:
		p.Printf(" TOTAL%9d%13d%11d%13d\n", n.Live, n.Bytes, g.Live, g.Bytes)
	}
	for _, err := range r.why {
		p.Own("The numbers are not whole: %s.\n", err.Error())
	}
}

// heading is the head of the table.
type heading struct{ flags uint64 }

// Type names the record.
func (heading) Type() string { return "text" }

// TextOnly marks it.
func (heading) TextOnly() {}

// WriteText writes the line that names the order and the columns.
func (h heading) WriteText(p *report.Printer) {
	switch {
	case h.flags&flagNonpaged != 0:
		p.Printf(" Sorting by NonPaged Pool Consumed\n")
	case h.flags&flagPaged != 0:
		p.Printf(" Sorting by Paged Pool Consumed\n")
	default:
		p.Printf(" Sorting by Tag\n")
	}
	switch {
	case h.flags&flagCounters != 0:
		p.Printf("\n                            NonPaged                                         Paged\n" +
			" Tag       Allocs       Frees      Diff         Used       Allocs       Frees      Diff         Used\n\n")
	default:
		p.Printf("\n               NonPaged                  Paged\n" +
			" Tag     Allocs         Used     Allocs         Used\n\n")
	}
}

func runPoolused(ctx context.Context, s *cmd.Session, in cmd.Args, out report.Sink) error {
	flags := in.Uint("Flags", 0)
	switch {
	case flags&flagNonpaged != 0 && flags&flagPaged != 0:
		return cmd.Misuse(errors.New("flags 2 and 4 can't be combined: rows are sorted by one of them"))
	case flags&^flagAll != 0:
		return cmd.Misuse(fmt.Errorf("flags %#x: want a sum of 1, 2, 4 and 8", flags))
	}
	var pattern pool.Pattern
	if in.Has("Tag") {
		var err error
		if pattern, err = pool.ParsePattern(in.Text("Tag"), !in.Quoted("Tag")); err != nil {
			return cmd.Misuse(err)
		}
	}
	st, err := open(s)
	if err != nil {
		return err
	}
	u := &used{s: s, st: st, out: out, flags: flags}
	rows, err := u.rows(ctx, pattern)
	if err != nil {
		return err
	}
	sortRows(rows, flags)
	limit := min(in.Uint("count", uint64(len(rows))), uint64(len(rows)))
	if err := u.show(ctx, rows[:limit]); err != nil {
		return err
	}
	if tag, one := pattern.One(); one {
		return u.users(ctx, tag)
	}
	if !in.Has("Tag") && len(rows) > 0 {
		return u.most(rows[0])
	}
	return nil
}

// used is one run of !poolused.
type used struct {
	s     *cmd.Session
	st    *state
	out   report.Sink
	flags uint64
	total totalRecord
}

// rows gives the uses of the tags that match, and adds them up.
func (u *used) rows(ctx context.Context, pattern pool.Pattern) ([]pool.Usage, error) {
	var all iter.Seq2[pool.Usage, error] = u.st.pool.Usages(ctx)
	if u.flags&flagSession != 0 {
		all = u.st.pool.SessionUsages(ctx)
	}
	var rows []pool.Usage
	for row, err := range all {
		var part *pool.PartError
		switch {
		case errors.As(err, &part):
			u.total.Missing += part.Entries
			u.total.why = append(u.total.why, err)
			continue
		case err != nil:
			return nil, err
		case !pattern.Match(row.Tag):
			continue
		}
		rows = append(rows, row)
		u.total.add(row)
	}
	return rows, nil
}

func (r *totalRecord) add(u pool.Usage) {
	r.Tags++
	for _, x := range []struct {
		sum *pool.Count
		n   pool.Count
	}{{&r.nonpaged, u.Nonpaged}, {&r.paged, u.Paged}} {
		x.sum.Allocs += x.n.Allocs
		x.sum.Frees += x.n.Frees
		x.sum.Live += x.n.Live
		x.sum.Bytes += x.n.Bytes
	}
}

// sortRows orders by use, most first; rows of equal use stay by tag.
func sortRows(rows []pool.Usage, flags uint64) {
	key := func(u pool.Usage) int64 { return u.Nonpaged.Bytes }
	switch {
	case flags&flagPaged != 0:
		key = func(u pool.Usage) int64 { return u.Paged.Bytes }
	case flags&flagNonpaged == 0:
		return
	}
	slices.SortStableFunc(rows, func(a, b pool.Usage) int { return cmp.Compare(key(b), key(a)) })
}

func (u *used) show(ctx context.Context, rows []pool.Usage) error {
	if err := u.out.Emit(heading{u.flags}); err != nil {
		return err
	}
	for _, row := range rows {
		if ctx.Err() != nil {
			break // the rows up to here stay, as kd leaves them
		}
		if err := u.out.Emit(u.record(row)); err != nil {
			return err
		}
		u.total.Shown++
	}
	t := &u.total
	t.counters = u.flags&flagCounters != 0
	t.NonpagedAllocs, t.NonpagedFrees, t.NonpagedUsed = t.nonpaged.Allocs, t.nonpaged.Frees, t.nonpaged.Bytes
	t.PagedAllocs, t.PagedFrees, t.PagedUsed = t.paged.Allocs, t.paged.Frees, t.paged.Bytes
	return u.out.Emit(t)
}

func (u *used) record(row pool.Usage) *tagRecord {
	d, known := u.st.tags.Find(row.Tag)
	r := &tagRecord{
		Tag:            row.Tag.Spell(),
		NonpagedAllocs: row.Nonpaged.Allocs, NonpagedFrees: row.Nonpaged.Frees, NonpagedUsed: row.Nonpaged.Bytes,
		PagedAllocs: row.Paged.Allocs, PagedFrees: row.Paged.Frees, PagedUsed: row.Paged.Bytes,
		Description: orNull(d.Text), Binary: orNull(d.Binary),
		usage: row, text: describe(d, known, row.Tag), counters: u.flags&flagCounters != 0,
	}
	if !known {
		r.Missing.Set("description", errUndescribed)
		r.Missing.Set("binary", errUndescribed)
	}
	return r
}

var errUndescribed = errors.New("no description of the tag is known; .pooltags reads more")

// largeUse is how much a tag must hold, in bytes, before it is worth a remark:
// small pools have their largest user too.
const largeUse = 16 << 20

// most says of the tag at the head of a sorted table that it holds more than all
// others together, and what that may mean.
func (u *used) most(row pool.Usage) error {
	name, n, all := "nonpaged", row.Nonpaged, u.total.nonpaged.Bytes
	switch {
	case u.flags&flagPaged != 0:
		name, n, all = "paged", row.Paged, u.total.paged.Bytes
	case u.flags&flagNonpaged == 0:
		return nil // sorted by tag
	}
	if n.Bytes < largeUse || n.Bytes <= all-n.Bytes {
		return nil
	}
	return u.out.Emit(report.Notef("%s holds %.0f%% of the %s pool that is in use: %d allocations were made, %d freed.\n"+
		"  One dump can't tell a leak from a heavy load: a leak never shrinks, so compare a later one.\n"+
		"  !poolfind lists the blocks; !poolused 1 with the tag names the drivers that hold its characters.",
		row.Tag, 100*float64(n.Bytes)/float64(all), name, n.Allocs, n.Frees))
}

// maxUsers bounds the images that are named for a tag.
const maxUsers = 8

// users names the loaded images that hold a tag's four characters.
func (u *used) users(ctx context.Context, tag pool.Tag) error {
	if u.total.Tags == 0 {
		return u.out.Emit(report.Notef("No allocation with the tag '%s' was ever counted.", tag))
	}
	list, missing, err := pool.TagUsers(ctx, u.s.Kernel, tag)
	if err != nil {
		return err
	}
	for i, x := range list {
		if i == maxUsers {
			return u.out.Emit(report.Notef("... and %d images more.", len(list)-i))
		}
		where := fmt.Sprintf("at %s", x.At)
		if x.Places > 1 {
			where = fmt.Sprintf("at %d places, the first %s", x.Places, x.At)
		}
		if err := u.out.Emit(report.Notef("The characters %s stand in the image %s, %s.", tag, x.Module.Image, where)); err != nil {
			return err
		}
	}
	if len(list) == 0 && missing > 0 {
		return u.out.Emit(report.Notef("The characters %s stand in none of the pages of images that the dump holds.", tag))
	}
	return nil
}
