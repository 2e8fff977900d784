package pool

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"gokd/commands/cmd"
	"gokd/commands/report"
	"gokd/model/pool"
)

var poolused = &cmd.Command{
	Name: "!poolused", Aliases: []string{"!kdexts.poolused", "!kdext*.poolused"}, Group: cmd.GroupPool,
	Summary: "show pool use by tag, or prove it against the blocks",
	Args: []cmd.Arg{
		{Name: "count", Kind: cmd.KindCount, Switch: "/t", Optional: true, Doc: "only so many rows"},
		{Name: "verify", Kind: cmd.KindSwitch, Switch: "-verify", Optional: true, Doc: "hold the counters against the blocks"},
		{Name: "Flags", Kind: cmd.KindWord, Optional: true, Doc: "1 with allocations and frees, 2 sort by nonpaged use, 4 sort by paged use, 8 session pool"},
		{Name: "Tag", Kind: cmd.KindTag, Optional: true, Doc: "tags to show: * for any run, ? for any one character; quotes around one with a space; 0x and a value"},
	},
	Needs: cmd.NeedKernel,
	Help: `Shows how many allocations of each tag are live in each pool and how many bytes
they hold. The numbers are the kernel's own: it counts every allocation per
processor, and the sums over all processors are shown. Large and small
allocations are counted alike, in pools of pages and of segment heaps.

Tags are four characters, case-sensitive; they sort by tag unless flag 2 or 4
says otherwise. Flag 8 shows session pool: of the session that !session chose,
else of all. Descriptions are gokd's own for common tags; .pooltags reads a
pooltag.txt. With a single tag the loaded images are searched for it: the driver
that allocates with a tag has its four characters in its code.

-verify walks the pool and holds the counters against what it finds, per tag and
pool: blocks in use, large allocations, and freed blocks that wait on lists, which
no counter has. Differences are explained by what the dump lacks, as far as that
can account for them; the last line gives the verdict, and the lines before it an
account of every byte that was walked. A difference that nothing explains means
damaged pool, damaged counters, or a build that is read wrongly.

A dump shows one moment: a large number is no leak by itself.`,
	Example: "!poolused 2\n!poolused /t 5 4\n!poolused 1 Thre\n!poolused -verify Thre",
	SeeAlso: []string{"!poolfind", ".pooltags", "!session"},
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

// used is one run of !poolused.
type used struct {
	s       *cmd.Session
	st      *state
	out     report.Sink
	flags   uint64
	pattern pool.Pattern
	tagged  bool   // a tag was given
	limit   uint64 // of rows
	total   totalRecord
}

func runPoolused(ctx context.Context, s *cmd.Session, in cmd.Args, out report.Sink) error {
	u := &used{s: s, out: out, limit: in.Uint("count", ^uint64(0))}
	if err := u.read(ctx, in); err != nil {
		return cmd.Misuse(err)
	}
	var err error
	if u.st, err = open(s); err != nil {
		return err
	}
	if in.Has("verify") {
		return u.verify(ctx)
	}
	return u.show(ctx)
}

// read takes the flags and the tag. With -verify the flags may be left out, as
// they have nothing to say but the order.
func (u *used) read(ctx context.Context, in cmd.Args) error {
	flags, tag := "Flags", "Tag"
	if in.Has("verify") && in.Has("Flags") && !in.Has("Tag") && (in.Quoted("Flags") || !isNumber(in.Text("Flags"))) {
		flags, tag = "", "Flags"
	}
	if in.Has(flags) {
		var err error
		if u.flags, err = u.readFlags(ctx, in.Text(flags), in.Quoted(flags)); err != nil {
			return err
		}
	}
	if u.tagged = in.Has(tag); !u.tagged {
		return nil
	}
	var err error
	u.pattern, err = parseTag(in.Text(tag), in.Quoted(tag))
	return err
}

// parseTag reads a tag or a pattern; in quotes it is characters and no number.
func parseTag(text string, quoted bool) (pool.Pattern, error) {
	if !quoted && len(text) > 4 && strings.HasPrefix(text, "0X") {
		return pool.Pattern{}, fmt.Errorf("tag %q: a value begins with 0x, with a small x", text)
	}
	return pool.ParsePattern(text, !quoted)
}

// readFlags works the flags out, which are an expression as in kd. A tag that
// stands in their place is the mistake that everyone makes once.
func (u *used) readFlags(ctx context.Context, text string, quoted bool) (uint64, error) {
	hint := ""
	if _, err := pool.ParsePattern(text, true); err == nil && !isNumber(text) {
		hint = fmt.Sprintf("; the flags come before a tag: !poolused 0 %s", quoteTag(text))
	}
	if quoted {
		return 0, fmt.Errorf("flags %q: want a sum of 1, 2, 4 and 8%s", text, hint)
	}
	var flags uint64
	var err error
	if u.s.Eval == nil {
		flags, err = strconv.ParseUint(text, 0, 64)
	} else {
		flags, err = u.s.Eval.Eval(ctx, text)
	}
	switch {
	case err != nil && hint != "":
		return 0, fmt.Errorf("flags %q: want a sum of 1, 2, 4 and 8%s", text, hint)
	case err != nil:
		return 0, fmt.Errorf("flags: %w", err)
	case flags&flagNonpaged != 0 && flags&flagPaged != 0:
		return 0, errors.New("flags 2 and 4 can't be combined: rows are sorted by one of them")
	case flags&^flagAll != 0:
		return 0, fmt.Errorf("flags %#x: want a sum of 1, 2, 4 and 8%s", flags, hint)
	}
	return flags, nil
}

// isNumber tells flags from a tag: what starts with a digit.
func isNumber(text string) bool { return text != "" && text[0] >= '0' && text[0] <= '9' }

// quoteTag spells a tag as it is typed.
func quoteTag(text string) string {
	if text == "" || slices.Contains([]byte(text), ' ') {
		return strconv.Quote(text)
	}
	return text
}

// trackers reads the counters of the pools that are asked for.
func (u *used) trackers(ctx context.Context) (*pool.Trackers, error) {
	if u.flags&flagSession != 0 {
		return u.st.pool.SessionTrackers(ctx, u.s.LogonSession)
	}
	return u.st.pool.Trackers(ctx)
}

// show prints the table. An interruption leaves what was read up to then.
func (u *used) show(ctx context.Context) error {
	t, err := u.trackers(ctx)
	if err != nil {
		return err
	}
	late := ctx.Err() != nil // the rows that there are cost nothing more
	var rows []pool.Usage
	for _, row := range t.Rows {
		if u.pattern.Match(row.Tag) {
			rows = append(rows, row)
			u.total.add(row)
		}
	}
	sortRows(rows, u.flags)
	if err := u.out.Emit(heading{u.flags}); err != nil {
		return err
	}
	for _, row := range rows[:min(u.limit, uint64(len(rows)))] {
		if ctx.Err() != nil && !late {
			break // the rows up to here stay, as kd leaves them
		}
		if err := u.out.Emit(u.record(row)); err != nil {
			return err
		}
		u.total.Shown++
	}
	u.total.finish(t, u.flags)
	if err := u.out.Emit(&u.total); err != nil || ctx.Err() != nil {
		return err
	}
	return u.remarks(ctx, rows)
}

// remarks says what else is known of the tags that were shown.
func (u *used) remarks(ctx context.Context, rows []pool.Usage) error {
	if u.flags&flagSession != 0 {
		if err := u.out.Emit(u.whose()); err != nil {
			return err
		}
	}
	if tag, one := u.pattern.One(); one {
		return u.users(ctx, tag)
	}
	if !u.tagged && len(rows) > 0 {
		return u.most(rows[0])
	}
	return nil
}

// whose says of which sessions the numbers are.
func (u *used) whose() report.Note {
	if id := u.s.LogonSession; id != nil {
		return report.Notef("The numbers are those of session %d.", *id)
	}
	return report.Notef("The numbers are those of all sessions whose memory is in the dump; !session -s N chooses one.")
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

// finish takes the sums into the record's fields, and what the tables lack.
func (r *totalRecord) finish(t *pool.Trackers, flags uint64) {
	r.counters = flags&flagCounters != 0
	r.NonpagedAllocs, r.NonpagedFrees, r.NonpagedUsed = r.nonpaged.Allocs, r.nonpaged.Frees, r.nonpaged.Bytes
	r.PagedAllocs, r.PagedFrees, r.PagedUsed = r.paged.Allocs, r.paged.Frees, r.paged.Bytes
	r.Missing, r.why = t.Missing, t.Errs
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
