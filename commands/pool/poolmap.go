package pool

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"math"
	"slices"

	"gokd/commands/cmd"
	"gokd/commands/report"
	"gokd/model/pool"
)

var poolmap = &cmd.Command{
	Name: "!poolmap", Group: cmd.GroupPool,
	Summary: "draw what the pool is used for: by tag, by size, and where it lies",
	Args: []cmd.Arg{
		{Name: "tag", Kind: cmd.KindSwitch, Switch: "-tag", Optional: true, Doc: "only the tags that hold most"},
		{Name: "size", Kind: cmd.KindSwitch, Switch: "-size", Optional: true, Doc: "only the blocks by size"},
		{Name: "frag", Kind: cmd.KindSwitch, Switch: "-frag", Optional: true, Doc: "only the free pieces and the map"},
		{Name: "count", Kind: cmd.KindCount, Switch: "-n", Optional: true, Doc: "only so many tags (default 10)"},
		{Name: "nonpaged", Kind: cmd.KindSwitch, Switch: "-nonpaged", Optional: true, Doc: "only nonpaged pool"},
		{Name: "paged", Kind: cmd.KindSwitch, Switch: "-paged", Optional: true, Doc: "only paged pool"},
	},
	Needs: cmd.NeedKernel,
	Help: `Draws each pool in as many columns as the terminal has (80 in a file or script):

By tag: what the tags hold that hold most, by the kernel's own counters, which
count what the dump lacks too. A leak is a bar that is much longer than the
others.

By size: live blocks and their bytes in classes of powers of two, whole pages in
the last row. Many small blocks of one class are many structures, or one that
leaks: !poolsig tells.

Fragmentation: free pieces between the small blocks, as a share of the memory of
each class, then a map of the pool by address. A character stands for a stretch
of memory, of which the line above the map tells the size: # nearly all in use,
+ in part, - a little, . more free than used, L large allocations, ? not in this
dump; stretches with nothing are blank, and rows of them left out. Much free
memory in small pieces is pool that can't shrink.

The first two need no walk or come from one that is kept. Where pages are missing
the numbers of the walk are floors; the last line says so.`,
	Example: "!poolmap\n!poolmap -tag -n 5\n!poolmap -frag -nonpaged",
	SeeAlso: []string{"!poolused", "!poolsig", "!pooltag", "!frag"},
	Run:     runPoolmap,
}

const mapTags = 10

// tagBar is what one tag holds of a pool.
type tagBar struct {
	Part   string  `json:"part"` // "tag"
	Pool   string  `json:"pool"`
	Tag    *string `json:"tag"` // null: all tags that have no row
	Tags   int     `json:"tags"`
	Live   int64   `json:"live"`
	Bytes  int64   `json:"bytes"`
	Share  float64 `json:"share"` // of all tags' bytes
	Binary *string `json:"binary"`

	Missing report.Missing `json:"missing,omitempty"`

	tag        pool.Tag
	total, max int64
}

// Type names the record.
func (*tagBar) Type() string { return "pool_map" }

// WriteText writes a row with its bar.
func (r *tagBar) WriteText(p *report.Printer) {
	const binaryWidth = 14
	name, binary := r.tag.String(), ""
	if r.Tag == nil {
		name = "rest"
		binary = many(uint64(r.Tags), "tag")
	} else if r.Binary != nil {
		binary = *r.Binary
	}
	width := p.Width() - 28 - 2 - binaryWidth
	p.Printf(" %-4s %6s %13d  ", name, percent(positive(r.Bytes), positive(r.total)), r.Bytes)
	n := positive(r.Bytes)
	if r.Tag == nil {
		n = 0 // a bar of many tags would dwarf those of one
	}
	if binary == "" {
		p.Styled(report.Symbol, "%s\n", bar(p.Blocks(), n, positive(r.max), width))
		return
	}
	writeBar(p, report.Symbol, n, positive(r.max), width)
	p.Printf("  %s\n", binary)
}

func positive(n int64) uint64 { return uint64(max(n, 0)) }

// sizeBar is what the blocks of one class of sizes take.
type sizeBar struct {
	Part        string  `json:"part"` // "size"
	Pool        string  `json:"pool"`
	Large       bool    `json:"large"`
	Most        *uint64 `json:"most"` // bytes; null: large allocations have no class
	Live        uint64  `json:"live"`
	Bytes       uint64  `json:"bytes"`
	Cached      uint64  `json:"cached"`
	CachedBytes uint64  `json:"cached_bytes"`
	Free        uint64  `json:"free"`
	FreeBytes   uint64  `json:"free_bytes"`

	total, max uint64
	free       bool // the row of free pieces
}

// Type names the record.
func (*sizeBar) Type() string { return "pool_map" }

// WriteText writes a row with its bar.
func (r *sizeBar) WriteText(p *report.Printer) {
	name := "pages"
	if r.Most != nil {
		name = hex0x(*r.Most)
	}
	if !r.free {
		p.Printf("%9s%12d%14d %6s  ", name, r.Live, r.Bytes, percent(r.Bytes, r.total))
		p.Styled(report.Symbol, "%s", bar(p.Blocks(), r.Bytes, r.max, p.Width()-44))
		p.Printf("\n")
		return
	}
	all := r.Bytes + r.CachedBytes + r.FreeBytes
	p.Printf("%9s%12d%14d %6s  ", name, r.Free, r.FreeBytes, percent(r.FreeBytes, all))
	width := min(p.Width()-44, 40)
	free := min(max(int(float64(r.FreeBytes)/float64(max(all, 1))*float64(width)+0.5), 1), width)
	used, empty := glyphs(p)
	if free < width {
		p.Styled(report.Symbol, "%s", repeat(used, width-free))
	}
	p.Styled(report.Address, "%s", repeat(empty, free))
	p.Printf("\n")
}

// mapSummary closes the answer for one pool.
type mapSummary struct {
	Part        string `json:"part"` // "summary"
	Pool        string `json:"pool"`
	Free        uint64 `json:"free"`
	FreeBytes   uint64 `json:"free_bytes"`
	Small       uint64 `json:"small_bytes"` // memory of small blocks, free pieces included
	LargestFree uint64 `json:"largest_free"`
	Floor       bool   `json:"floor"`
	Covers      string `json:"covers,omitempty"`

	skipped uint64
}

// Type names the record.
func (*mapSummary) Type() string { return "pool_map" }

// SkippedItems counts what could not be read.
func (r *mapSummary) SkippedItems() int { return int(r.skipped) }

// WriteText writes what the walk lacks.
func (r *mapSummary) WriteText(p *report.Printer) {
	if r.Covers != "" {
		p.Own("Covers: %s.\n", report.Text(report.Safe(r.Covers)))
	}
}

func runPoolmap(ctx context.Context, s *cmd.Session, in cmd.Args, out report.Sink) error {
	n := in.Uint("count", mapTags)
	if n == 0 || n > maxSigRows {
		return cmd.Misuse(fmt.Errorf("-n %d: want 1 to %d tags", n, maxSigRows))
	}
	st, err := open(s)
	if err != nil {
		return err
	}
	m := &mapper{s: s, st: st, out: out, count: int(n), tag: in.Has("tag"), size: in.Has("size"), frag: in.Has("frag")}
	if !m.tag && !m.size && !m.frag {
		m.tag, m.size, m.frag = true, true, true
	}
	return eachPool(ctx, out, poolKinds(in), m.pool)
}

// mapper is one run of !poolmap.
type mapper struct {
	s               *cmd.Session
	st              *state
	out             report.Sink
	count           int
	tag, size, frag bool
	begun           bool // a part of this pool was drawn
	uncounted       bool // it was said that the kernel's counters are not known
}

// head begins a part, apart from the one before it.
func (m *mapper) head(format string, args ...any) error {
	if m.begun {
		format = "\n" + format
	}
	m.begun = true
	return emit(m.out, report.Textf(format, args...))
}

// pool draws one pool.
func (m *mapper) pool(ctx context.Context, kind pool.Kind) error {
	m.begun = false
	if m.tag {
		if err := m.tags(ctx, kind); err != nil {
			return err
		}
	}
	if !m.size && !m.frag {
		return nil
	}
	pic, err := m.st.pool.Picture(ctx, kind, func(pages uint64) { m.s.Report(kind.String()+" pool: pages", pages, 0) })
	if err != nil {
		return err
	}
	if m.size {
		if err := m.sizes(pic); err != nil {
			return err
		}
	}
	sum := newMapSummary(pic)
	if m.frag {
		if err := m.free(pic, sum); err != nil {
			return err
		}
	}
	return emit(m.out, sum)
}

// tags draws what the tags hold, as the kernel counts it.
func (m *mapper) tags(ctx context.Context, kind pool.Kind) error {
	all, err := m.st.counted(ctx, kind)
	if err != nil {
		if all, err = m.walked(ctx, kind, err); err != nil {
			return err
		}
	}
	rows := make([]*tagBar, 0, len(all))
	var total int64
	for t, n := range all {
		if n.Live == 0 && n.Bytes == 0 {
			continue
		}
		total += n.Bytes
		d, known := m.st.tags.Find(t)
		name := t.Spell()
		r := &tagBar{Part: "tag", Pool: kind.String(), Tag: &name, Tags: 1, Live: n.Live, Bytes: n.Bytes, Binary: orNull(d.Binary), tag: t}
		if !known {
			r.Missing.Set("binary", errUndescribed)
		}
		rows = append(rows, r)
	}
	slices.SortFunc(rows, func(a, b *tagBar) int { return cmp.Or(cmp.Compare(b.Bytes, a.Bytes), a.tag.Compare(b.tag)) })
	if len(rows) > m.count {
		rest := &tagBar{Part: "tag", Pool: kind.String(), Tags: len(rows) - m.count}
		for _, r := range rows[m.count:] {
			rest.Live, rest.Bytes = rest.Live+r.Live, rest.Bytes+r.Bytes
		}
		rows = append(rows[:m.count], rest)
	}
	if len(rows) == 0 {
		return m.head("%s pool by tag: nothing is counted\n", kdPools[kind])
	}
	if err := m.head("%s pool by tag: %d bytes in use\n\n", kdPools[kind], total); err != nil {
		return err
	}
	most := int64(0)
	for _, r := range rows {
		if r.Tag != nil {
			most = max(most, r.Bytes)
		}
	}
	for _, r := range rows {
		r.total, r.max = total, most
		if total > 0 {
			r.Share = float64(r.Bytes) / float64(total)
		}
		if err := emit(m.out, r); err != nil {
			return err
		}
	}
	if top := rows[0]; top.Tag != nil && top.Bytes >= largeUse && top.Bytes > total-top.Bytes {
		return emit(m.out, report.Notef("%s holds most of it: !pooltag %s names the images that hold the tag, !poolsig %s its sizes.",
			top.tag, spellTag(top.tag), spellTag(top.tag)))
	}
	return nil
}

// walked gives what a walk of the pool finds of each tag, where the kernel's own
// counters are not known.
func (m *mapper) walked(ctx context.Context, kind pool.Kind, why error) (map[pool.Tag]pool.Count, error) {
	sizes, err := poolSizes(ctx, m.s, m.st, kind, pool.Pattern{})
	if err != nil {
		return nil, err
	}
	all := map[pool.Tag]pool.Count{}
	for _, t := range sizes.Tags {
		if t.Live > 0 {
			all[t.Tag] = pool.Count{Live: int64(t.Live), Bytes: int64(min(t.Bytes, math.MaxInt64))}
		}
	}
	if !m.uncounted {
		m.uncounted = true
		return all, emit(m.out, report.Notef("By a walk, since the kernel's counters of tags are not known: %v.", why))
	}
	return all, nil
}

// sizes draws the classes of sizes.
func (m *mapper) sizes(pic *pool.Picture) error {
	if err := m.head("%s pool by size of block\n\n    Up to      Blocks         Bytes  Share\n", kdPools[pic.Kind]); err != nil {
		return err
	}
	var total, most uint64
	for _, c := range pic.Classes {
		total, most = total+c.Bytes, max(most, c.Bytes)
	}
	for _, c := range pic.Classes {
		if c.Live == 0 {
			continue
		}
		r := newSizeBar(pic, c)
		r.total, r.max = total, most
		if err := emit(m.out, r); err != nil {
			return err
		}
	}
	return nil
}

func newSizeBar(pic *pool.Picture, c pool.SizeClass) *sizeBar {
	r := &sizeBar{Part: "size", Pool: pic.Kind.String(), Live: c.Live, Bytes: c.Bytes, Cached: c.Cached,
		CachedBytes: c.CachedBytes, Free: c.Free, FreeBytes: c.FreeSize}
	if r.Large = c.Most == 0; !r.Large {
		r.Most = &c.Most
	}
	return r
}

func newMapSummary(pic *pool.Picture) *mapSummary {
	r := &mapSummary{Part: "summary", Pool: pic.Kind.String(), LargestFree: pic.LargestFree,
		Covers: pic.Summary.Covers(), skipped: pic.Summary.Skipped()}
	for _, c := range pic.Classes {
		if c.Most != 0 {
			r.Free, r.FreeBytes = r.Free+c.Free, r.FreeBytes+c.FreeSize
			r.Small += c.Bytes + c.CachedBytes + c.FreeSize
		}
	}
	if pic.LargeErr != nil {
		r.Covers = joinWords(r.Covers, fmt.Sprintf("large allocations are not in it: %v", pic.LargeErr))
	}
	if pic.MissingErr != nil && !errors.Is(pic.MissingErr, context.Canceled) {
		r.Covers = joinWords(r.Covers, fmt.Sprintf("where pages are missing is not known: %v", pic.MissingErr))
	}
	r.Floor = r.Covers != ""
	return r
}

// free draws the free pieces and the map.
func (m *mapper) free(pic *pool.Picture, sum *mapSummary) error {
	if sum.Free == 0 {
		if err := m.head("%s pool: nothing is free between its small blocks\n\n", kdPools[pic.Kind]); err != nil {
			return err
		}
		return emit(m.out, newUseMap(pic))
	}
	err := m.head("%s pool: free between its small blocks, %d bytes (%s) in %s, the largest %#x\n\n    Up to      Pieces          Free  Of it\n",
		kdPools[pic.Kind], sum.FreeBytes, percent(sum.FreeBytes, sum.Small), many(sum.Free, "piece"), sum.LargestFree)
	if err != nil {
		return err
	}
	for _, c := range pic.Classes {
		if c.Free == 0 {
			continue
		}
		r := newSizeBar(pic, c)
		r.Part, r.free = "free", true
		if err := emit(m.out, r); err != nil {
			return err
		}
	}
	return emit(m.out, report.Text("\n"), newUseMap(pic))
}
