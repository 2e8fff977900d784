package pool

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"gokd/commands/cmd"
	"gokd/commands/report"
	"gokd/model/pool"
)

var pooltag = &cmd.Command{
	Name: "!pooltag", Group: cmd.GroupPool,
	Summary: "tell whose a pool tag is: description, use, sizes, and the images that hold it",
	Args: []cmd.Arg{
		{Name: "all", Kind: cmd.KindSwitch, Switch: "-all", Optional: true, Doc: "every image and place that was found"},
		{Name: "Tag", Kind: cmd.KindTag, Doc: "four characters (a shorter tag is filled with blanks), 0x and its value, or a pattern with * and ?"},
	},
	Needs: cmd.NeedKernel,
	Help: `Gathers what is known of a tag, to lead from the tag that leaks to its driver:

What it stands for, from pooltag.txt where one was found and from gokd's own table
(.pooltags lists both). What it holds in each pool by the kernel's own counters,
its share of the pool and its rank among all tags. The sizes of its blocks.

Then the loaded images whose memory holds the four characters, since a driver
names its tag as a constant in its code, the most likely first. Each place is
judged: an instruction that passes the tag to a routine that allocates or frees
says most; then other operands of instructions, four bytes of their own in data,
and bytes among code; a part of a longer text says nearly nothing. Tags with bit
31 set (protected allocations) count too. The kernel stands last: it has the tags
of its own parts.

!for_each_module s -a @#Base @#End "Leak" is the way to search by hand in kd. Pages
of images that the dump lacks can't be searched: the last lines tell how many. A
driver that makes up its tag at run time holds it nowhere, one that was unloaded is
not searched, and a description is only what somebody wrote.

With a pattern it lists the tags that are described or in use.`,
	Example: "!pooltag Leak\n!pooltag Irp\n!pooltag Mm*",
	SeeAlso: []string{"!poolused", "!poolsig", "!poolfind", ".pooltags", "!for_each_module"},
	Run:     runPooltag,
}

// tagDescription is what one source says of a tag.
type tagDescription struct {
	Tag         string       `json:"tag"`
	Value       *report.Addr `json:"value"` // of a pattern null
	Description *string      `json:"description"`
	Binary      *string      `json:"binary"`
	As          string       `json:"as,omitempty"` // the tag or pattern of the line
	File        *string      `json:"file"`         // null: gokd's own table
	Line        int          `json:"line,omitempty"`

	Missing report.Missing `json:"missing,omitempty"`

	text  string
	tag   pool.Tag
	first bool
}

// Type names the record.
func (*tagDescription) Type() string { return "pool_tag_description" }

// WriteText writes the tag and what it stands for.
func (r *tagDescription) WriteText(p *report.Printer) {
	if r.first {
		p.Styled(report.Strong, "%s", r.tag.String())
		p.Printf(" (0x%08x) : %s\n", r.tag.Value(), r.text)
	} else {
		p.Printf("  also : %s\n", r.text)
	}
	if r.Description == nil {
		return
	}
	source := "gokd's own table"
	if r.File != nil {
		source = fmt.Sprintf("%s, line %d", *r.File, r.Line)
	}
	if r.As != "" && strings.ContainsAny(r.As, "*?") {
		source += ", as " + r.As
	}
	p.Printf("  from %s\n", source)
}

// tagUse is what a tag holds of one pool.
type tagUse struct {
	Tag    string   `json:"tag"`
	Pool   string   `json:"pool"`
	Allocs uint64   `json:"allocs"`
	Frees  uint64   `json:"frees"`
	Live   int64    `json:"live"`
	Bytes  int64    `json:"bytes"`
	Share  *float64 `json:"share"` // of all tags' bytes; null where none holds any
	Rank   *int     `json:"rank"`  // by bytes, from 1; null where the tag holds none
	Tags   int      `json:"tags"`  // that hold any

	total int64
}

// Type names the record.
func (*tagUse) Type() string { return "pool_tag_use" }

// WriteText writes a row.
func (r *tagUse) WriteText(p *report.Printer) {
	rank := "-"
	if r.Rank != nil {
		rank = fmt.Sprintf("%d of %d", *r.Rank, r.Tags)
	}
	p.Printf(" %-8s%13d%13d%11d%15d%9s  %s\n", r.Pool, r.Allocs, r.Frees, r.Live, r.Bytes,
		percent(positive(r.Bytes), positive(r.total)), rank)
}

func runPooltag(ctx context.Context, s *cmd.Session, in cmd.Args, out report.Sink) error {
	pattern, err := tagPattern(in)
	if err != nil {
		return cmd.Misuse(err)
	}
	st, err := open(s)
	if err != nil {
		return err
	}
	tag, one := pattern.One()
	t := &tagStory{s: s, st: st, out: out, tag: tag, all: in.Has("all")}
	if !one {
		return t.list(ctx, pattern, in.Text("Tag"))
	}
	for _, part := range []func(context.Context) error{t.describe, t.use, t.sizes, t.images} {
		if err := part(ctx); err != nil {
			var sink *sinkError
			if errors.As(err, &sink) {
				return sink.err
			}
			return err
		}
	}
	return nil
}

// tagStory is one run of !pooltag.
type tagStory struct {
	s   *cmd.Session
	st  *state
	out report.Sink
	tag pool.Tag
	all bool

	used      bool // the kernel counts allocations
	uncounted bool // the kernel's counters are not known
}

// describe tells what the sources say of the tag.
func (t *tagStory) describe(context.Context) error {
	value := report.Addr(t.tag.Value())
	list := t.st.tags.All(t.tag)
	if len(list) == 0 {
		r := &tagDescription{Tag: t.tag.Spell(), Value: &value, tag: t.tag, first: true, text: describe(pool.Description{}, false, t.tag)}
		r.Missing.Set("description", errUndescribed)
		r.Missing.Set("binary", errUndescribed)
		return emit(t.out, r)
	}
	said := map[pool.Description]bool{}
	for i, d := range list {
		// A pattern says less than a line of the tag itself before it.
		if said[d.Description] || i > 0 && strings.ContainsAny(d.As, "*?") {
			continue
		}
		said[d.Description] = true
		r := &tagDescription{Tag: t.tag.Spell(), Value: &value, Description: orNull(d.Text), Binary: orNull(d.Binary),
			As: d.As, File: orNull(d.Source), Line: d.Line, tag: t.tag, first: i == 0, text: describe(d.Description, true, t.tag)}
		if d.Binary == "" {
			r.Missing.Set("binary", errors.New("the line names none"))
		}
		if err := emit(t.out, r); err != nil {
			return err
		}
	}
	return nil
}

// use tells what the tag holds, by the kernel's counters.
func (t *tagStory) use(ctx context.Context) error {
	head := report.Text("\n                 Allocs        Frees       Live          Bytes  Of pool  Rank\n")
	for _, kind := range []pool.Kind{pool.Nonpaged, pool.Paged} {
		all, err := t.st.counted(ctx, kind)
		if err != nil {
			t.uncounted = true
			return emit(t.out, report.Notef("The kernel's counters of tags are not known: %v.", err))
		}
		if err := emit(t.out, head); err != nil {
			return err
		}
		head = ""
		n := all[t.tag]
		t.used = t.used || n.Allocs > 0
		r := &tagUse{Tag: t.tag.Spell(), Pool: kind.String(), Allocs: n.Allocs, Frees: n.Frees, Live: n.Live, Bytes: n.Bytes}
		rank := 1
		for other, m := range all {
			if m.Bytes > 0 {
				r.Tags++
				r.total += m.Bytes
			}
			if other != t.tag && m.Bytes > n.Bytes {
				rank++
			}
		}
		if n.Bytes > 0 {
			r.Rank = &rank
		}
		if r.total > 0 {
			share := float64(n.Bytes) / float64(r.total)
			r.Share = &share
		}
		if err := emit(t.out, r); err != nil {
			return err
		}
	}
	return nil
}

// sizesLine is the signature of a tag in one pool.
type sizesLine struct {
	*signatureRow
	covers string
}

// WriteText writes one line.
func (r *sizesLine) WriteText(p *report.Printer) {
	text := r.Signature
	switch {
	case r.Counted != nil && *r.Counted == int64(r.Live):
		// The kernel counts as many: that pages are missing does not matter.
	case r.Counted != nil && r.covers != "":
		text += fmt.Sprintf(" (found %d of %d: not all of the pool was read)", r.Live, *r.Counted)
	case r.covers != "":
		text += " (floors: not all of the pool was read)"
	}
	p.Printf("Sizes in %s: %s\n", r.pool, text)
}

// sizes gives the sizes of the tag's blocks in a line for each pool that has any.
func (t *tagStory) sizes(ctx context.Context) error {
	pattern, err := pool.ParsePattern(hex0x(uint64(t.tag.Value())), true)
	if err != nil {
		return err
	}
	gap := report.Text("\n")
	for _, kind := range []pool.Kind{pool.Nonpaged, pool.Paged} {
		sizes, err := poolSizes(ctx, t.s, t.st, kind, pattern)
		switch {
		case ctx.Err() != nil:
			return ctx.Err()
		case err != nil && t.uncounted:
			continue // a dump without them has no pool either, and that was said
		case err != nil:
			if err := emit(t.out, report.Notef("Sizes in %s pool: %v.", kind, err)); err != nil {
				return err
			}
			continue
		case len(sizes.Tags) == 0:
			continue
		}
		counted, why := t.st.counted(ctx, kind)
		r := newSignature(sizes.Tags[0], kind)
		r.counted(counted, why)
		if err := emit(t.out, gap, &sizesLine{r, sizesCover(sizes)}); err != nil {
			return err
		}
		gap = ""
	}
	return nil
}

// knownTag is a row of the list of tags.
type knownTag struct {
	Tag           string  `json:"tag"`
	NonpagedBytes int64   `json:"nonpaged_used"`
	PagedBytes    int64   `json:"paged_used"`
	Description   *string `json:"description"`
	Binary        *string `json:"binary"`

	Missing report.Missing `json:"missing,omitempty"`

	tag  string
	text string
}

// Type names the record.
func (*knownTag) Type() string { return "pool_tag_known" }

// WriteText writes a row.
func (r *knownTag) WriteText(p *report.Printer) {
	p.Printf(" %-4s%14d%14d  %s\n", r.tag, r.NonpagedBytes, r.PagedBytes, r.text)
}

// list shows the tags of a pattern that are in use or described.
func (t *tagStory) list(ctx context.Context, pattern pool.Pattern, typed string) error {
	rows := map[string]*knownTag{}
	row := func(tag string, d pool.Description, known bool, text string) *knownTag {
		r := &knownTag{Tag: tag, Description: orNull(d.Text), Binary: orNull(d.Binary), tag: tag, text: text}
		if !known {
			r.Missing.Set("description", errUndescribed)
		}
		if d.Binary == "" {
			r.Missing.Set("binary", errUndescribed)
		}
		return r
	}
	for _, d := range t.st.tags.Matching(pattern) {
		rows[d.As] = row(d.As, d.Description, true, describe(d.Description, true, pool.Tag{}))
	}
	for u, err := range t.st.pool.Usages(ctx) {
		var part *pool.PartError
		switch {
		case errors.As(err, &part):
			continue
		case err != nil:
			if err := emit(t.out, report.Notef("The kernel's counters of tags are not known: %v.", err)); err != nil {
				return err
			}
			continue
		case !pattern.Match(u.Tag):
			continue
		}
		d, known := t.st.tags.Find(u.Tag)
		r := row(u.Tag.Spell(), d, known, describe(d, known, u.Tag))
		r.tag = u.Tag.String()
		r.NonpagedBytes, r.PagedBytes = u.Nonpaged.Bytes, u.Paged.Bytes
		rows[u.Tag.Spell()] = r
	}
	list := make([]*knownTag, 0, len(rows))
	for _, r := range rows {
		list = append(list, r)
	}
	slices.SortFunc(list, func(a, b *knownTag) int { return cmp.Compare(a.Tag, b.Tag) })
	if len(list) == 0 {
		return t.out.Emit(report.Textf("No tag that matches '%s' is described or in use\n", typed))
	}
	if err := t.out.Emit(report.Text(" Tag       NonPaged         Paged  Description\n")); err != nil {
		return err
	}
	for _, r := range list {
		if err := t.out.Emit(r); err != nil {
			return err
		}
	}
	return nil
}
