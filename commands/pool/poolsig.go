package pool

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"gokd/commands/cmd"
	"gokd/commands/report"
	"gokd/model/pool"
)

var poolsig = &cmd.Command{
	Name: "!poolsig", Group: cmd.GroupPool,
	Summary: "show the sizes of the blocks of a tag, by which a leaking structure is recognised",
	Args: []cmd.Arg{
		{Name: "count", Kind: cmd.KindCount, Switch: "-n", Optional: true, Doc: "only so many rows (default 16)"},
		{Name: "nonpaged", Kind: cmd.KindSwitch, Switch: "-nonpaged", Optional: true, Doc: "only nonpaged pool"},
		{Name: "paged", Kind: cmd.KindSwitch, Switch: "-paged", Optional: true, Doc: "only paged pool"},
		{Name: "session", Kind: cmd.KindSwitch, Switch: "-session", Optional: true, Doc: "session pool, of all sessions"},
		{Name: "Tag", Kind: cmd.KindTag, Optional: true, Doc: "a tag, or a pattern: * for any run, ? for any one character"},
	},
	Needs: cmd.NeedKernel,
	Help: `Counts the blocks of each tag by size. Blocks of one structure all have one size,
so that a leak shows as a size that grows: its signature, such as
"0x210 x 1200 (97%)", twelve hundred blocks of 210h bytes that take 97% of what
the tag holds. With a single tag every size has a row, with the states apart:
live blocks, blocks that were freed and wait on a list of the kernel (cached), and
free ones whose last use had the tag (page pools only: up to Windows 10 1809). The
last column is what the allocating code asked for: small blocks have a header of
10h bytes and are rounded up, so it is a range of 10h bytes. Compare it with the
size that dt shows for the driver's structures.

Large allocations come from their table, small blocks from a walk of the pool,
which is kept: later questions are answered at once. Where pages are missing the
counts are floors, and the last lines say so; the kernel's own counters, which
!poolused shows, count those too. A size says nothing of when a block was
allocated, or by whom: !pooltag names the drivers.`,
	Example: "!poolsig\n!poolsig Leak\n!poolsig -paged -n 5\n!poolsig Mm*",
	SeeAlso: []string{"!poolused", "!pooltag", "!poolmap", "!poolfind"},
	Run:     runPoolsig,
}

// Rows that are shown where -n does not say, and sizes in a signature.
const (
	sigRows    = 16
	sigSizes   = 3
	maxSigRows = 1 << 20
)

// sizeRow is one size of a tag.
type sizeRow struct {
	Tag        string `json:"tag"`
	Pool       string `json:"pool"`
	Size       uint64 `json:"size"`
	Large      bool   `json:"large"`
	Live       uint64 `json:"live"`
	Bytes      uint64 `json:"bytes"`
	Cached     uint64 `json:"cached"`
	Freed      uint64 `json:"freed"`
	AskedLeast uint64 `json:"asked_least"`
	AskedMost  uint64 `json:"asked_most"`

	total uint64 // bytes of the tag
}

// Type names the record.
func (*sizeRow) Type() string { return "pool_size" }

// WriteText writes a row.
func (r *sizeRow) WriteText(p *report.Printer) {
	p.Printf("%12s%11d%13d  %6s%10s%10s  %s\n", hex0x(r.Size), r.Live, r.Bytes, percent(r.Bytes, r.total),
		dash(r.Cached), dash(r.Freed), report.Text(r.asked()))
}

func (r *sizeRow) asked() string {
	switch {
	case r.Large && r.AskedLeast == r.AskedMost:
		return "pages, " + hex0x(r.AskedMost)
	case r.Large:
		return fmt.Sprintf("pages, %s to %s", hex0x(r.AskedLeast), hex0x(r.AskedMost))
	}
	return fmt.Sprintf("%s to %s", hex0x(r.AskedLeast), hex0x(r.AskedMost))
}

// signatureRow is what the sizes of a tag come to.
type signatureRow struct {
	Tag       string `json:"tag"`
	Pool      string `json:"pool"`
	Live      uint64 `json:"live"`
	Bytes     uint64 `json:"bytes"`
	Cached    uint64 `json:"cached"`
	Freed     uint64 `json:"freed"`
	Sizes     int    `json:"sizes"`
	Signature string `json:"signature"`
	Counted   *int64 `json:"counted"` // live blocks by the kernel's own count; null where it is not known

	Missing report.Missing `json:"missing,omitempty"`

	tag    pool.Tag
	detail bool
	pool   string // as kd names it
	about  string // the tag's description
}

// Type names the record.
func (*signatureRow) Type() string { return "pool_signature" }

// WriteText writes a row of the table of tags, or the head of one tag's sizes.
func (r *signatureRow) WriteText(p *report.Printer) {
	if !r.detail {
		p.Printf(" %-4s%11d%15d%7d  %s\n", r.tag.String(), r.Live, r.Bytes, r.Sizes, r.Signature)
		return
	}
	p.Styled(report.Strong, "%s in %s: %s, %d bytes\n", r.tag.String(), r.pool, many(r.Live, "live block"), r.Bytes)
	if r.about != "" {
		p.Printf("  %s\n", r.about)
	}
	p.Printf("\n        Size       Live        Bytes   Share    Cached      Free  Asked for\n")
}

// signature gives the sizes that take most, with the share of the first.
func signature(t pool.TagSizes) string {
	var parts []string
	for i, u := range t.Sizes {
		if u.Live == 0 {
			break
		}
		if i == sigSizes {
			parts = append(parts, "...")
			break
		}
		text := fmt.Sprintf("%s x %d", hex0x(u.Size), u.Live)
		if i == 0 {
			text += " (" + percent(u.Bytes(), t.Bytes) + ")"
		}
		parts = append(parts, text)
	}
	if len(parts) == 0 {
		return "none live"
	}
	return strings.Join(parts, ", ")
}

// signatureSummary closes the answer for one pool.
type signatureSummary struct {
	Pool   string `json:"pool"`
	Tags   int    `json:"tags"`
	Shown  int    `json:"shown"`
	Live   uint64 `json:"live"`
	Bytes  uint64 `json:"bytes"`
	Floor  bool   `json:"floor"` // there may be more: not everything was read
	Covers string `json:"covers,omitempty"`

	detail  bool
	skipped uint64
}

// Type names the record.
func (*signatureSummary) Type() string { return "pool_signature_summary" }

// SkippedItems counts what could not be read.
func (r *signatureSummary) SkippedItems() int { return int(r.skipped) }

// WriteText writes what is not in the rows.
func (r *signatureSummary) WriteText(p *report.Printer) {
	if !r.detail {
		tags := many(uint64(r.Tags), "tag")
		if r.Shown < r.Tags {
			tags = fmt.Sprintf("%d of %s", r.Shown, tags)
		}
		p.Printf(" TOTAL%10d%15d%7s  %s\n", r.Live, r.Bytes, "", report.Text(tags))
	}
	if r.Covers != "" {
		p.Own("Covers: %s.\n", report.Text(report.Safe(r.Covers)))
	}
}

func runPoolsig(ctx context.Context, s *cmd.Session, in cmd.Args, out report.Sink) error {
	rows := in.Uint("count", sigRows)
	if rows == 0 || rows > maxSigRows {
		return cmd.Misuse(fmt.Errorf("-n %d: want 1 to %d rows", rows, maxSigRows))
	}
	pattern, err := tagPattern(in)
	if err != nil {
		return cmd.Misuse(err)
	}
	st, err := open(s)
	if err != nil {
		return err
	}
	g := &sig{s: s, st: st, out: out, pattern: pattern, rows: int(rows)}
	g.tag, g.one = pattern.One()
	return eachPool(ctx, out, poolKinds(in), g.pool)
}

// tagPattern reads the argument Tag; without it every tag matches.
func tagPattern(in cmd.Args) (pool.Pattern, error) {
	if !in.Has("Tag") {
		return pool.Pattern{}, nil
	}
	return pool.ParsePattern(in.Text("Tag"), !in.Quoted("Tag"))
}

// poolKinds gives the pools that the switches name; without any the two that
// every machine has.
func poolKinds(in cmd.Args) []pool.Kind {
	var kinds []pool.Kind
	for _, k := range []struct {
		name string
		kind pool.Kind
	}{{"nonpaged", pool.Nonpaged}, {"paged", pool.Paged}, {"session", pool.Session}} {
		if in.Has(k.name) {
			kinds = append(kinds, k.kind)
		}
	}
	if len(kinds) == 0 {
		kinds = []pool.Kind{pool.Nonpaged, pool.Paged}
	}
	return kinds
}

// eachPool runs a part of a command for each pool. A pool that can't be read
// does not keep the others from being shown; where none can, that is the error.
func eachPool(ctx context.Context, out report.Sink, kinds []pool.Kind, show func(context.Context, pool.Kind) error) error {
	var failed []error
	var notes []report.Record
	shown := 0
	for _, kind := range kinds {
		if shown > 0 {
			if err := out.Emit(report.Text("\n")); err != nil {
				return err
			}
		}
		err := show(ctx, kind)
		var sink *sinkError
		switch {
		case err == nil:
			shown++
			continue
		case ctx.Err() != nil:
			return ctx.Err()
		case errors.As(err, &sink):
			return sink.err
		}
		notes = append(notes, report.Notef("The %s pool is not shown: %v.", kind, err))
		if len(failed) == 0 || failed[len(failed)-1].Error() != err.Error() {
			failed = append(failed, err)
		}
	}
	if shown == 0 {
		return errors.Join(failed...)
	}
	for _, n := range notes {
		if err := out.Emit(n); err != nil {
			return err
		}
	}
	return nil
}

// sinkError is a failed write, which ends a command, in contrast to a pool that
// can't be read.
type sinkError struct{ err error }

func (e *sinkError) Error() string { return e.err.Error() }

// emit writes records; what fails is a *sinkError.
func emit(out report.Sink, records ...report.Record) error {
	for _, r := range records {
		if err := out.Emit(r); err != nil {
			return &sinkError{err}
		}
	}
	return nil
}

// sig is one run of !poolsig.
type sig struct {
	s       *cmd.Session
	st      *state
	out     report.Sink
	pattern pool.Pattern
	tag     pool.Tag
	one     bool // the pattern names one tag
	rows    int
}

// pool shows one pool.
func (g *sig) pool(ctx context.Context, kind pool.Kind) error {
	sizes, err := poolSizes(ctx, g.s, g.st, kind, g.pattern)
	if err != nil {
		return err
	}
	sum := newSignatureSummary(sizes)
	sum.detail = g.one
	counted, why := g.st.counted(ctx, kind)
	if !g.one {
		if err := emit(g.out, report.Textf("%s pool: tags by what their live blocks take\n\n Tag        Live          Bytes  Sizes  Signature\n", kdPools[kind])); err != nil {
			return err
		}
	} else if len(sizes.Tags) == 0 {
		return g.none(sizes, counted, sum)
	}
	for _, t := range sizes.Tags[:min(len(sizes.Tags), g.rows)] {
		r := newSignature(t, kind)
		if r.detail = g.one; g.one {
			if d, known := g.st.tags.Find(t.Tag); known {
				r.about = describe(d, known, t.Tag)
			}
		}
		r.counted(counted, why)
		if g.one {
			sum.Shown++
			return g.detail(ctx, t, r, sum)
		}
		if t.Live > 0 {
			sum.Shown++
			if err := emit(g.out, r); err != nil {
				return err
			}
		}
	}
	return emit(g.out, sum)
}

func newSignatureSummary(sizes *pool.Sizes) *signatureSummary {
	sum := &signatureSummary{Pool: sizes.Kind.String(), Covers: sizesCover(sizes), skipped: sizes.Summary.Skipped()}
	sum.Floor = sum.Covers != ""
	for _, t := range sizes.Tags {
		if t.Live > 0 {
			sum.Tags++
			sum.Live, sum.Bytes = sum.Live+t.Live, sum.Bytes+t.Bytes
		}
	}
	return sum
}

// sizesCover says in words what the sizes lack; empty where they are whole.
func sizesCover(s *pool.Sizes) string {
	text := s.Summary.Covers()
	if s.LargeErr != nil {
		text = joinWords(text, fmt.Sprintf("large allocations are not among them: %v", s.LargeErr))
	}
	if s.Lost > 0 {
		text = joinWords(text, fmt.Sprintf("%d blocks are of more tags and sizes than a pool can have", s.Lost))
	}
	return text
}

func joinWords(a, b string) string {
	if a == "" {
		return b
	}
	return a + "; " + b
}

// poolSizes counts the blocks of a pool, and tells how far the walk is.
func poolSizes(ctx context.Context, s *cmd.Session, st *state, kind pool.Kind, pattern pool.Pattern) (*pool.Sizes, error) {
	return st.pool.Sizes(ctx, kind, pattern, func(pages uint64) { s.Report(kind.String()+" pool: pages", pages, 0) })
}

func newSignature(t pool.TagSizes, kind pool.Kind) *signatureRow {
	r := &signatureRow{
		Tag: t.Tag.Spell(), Pool: kind.String(), Live: t.Live, Bytes: t.Bytes, Cached: t.Cached, Freed: t.Freed,
		Signature: signature(t), tag: t.Tag, pool: kind.String() + " pool",
	}
	for _, u := range t.Sizes {
		if u.Live > 0 {
			r.Sizes++
		}
	}
	return r
}

// counted sets how many live blocks the kernel itself counts.
func (r *signatureRow) counted(all map[pool.Tag]pool.Count, why error) {
	n, ok := all[r.tag]
	switch {
	case why != nil:
		r.Missing.Set("counted", why)
	case ok:
		r.Counted = &n.Live
	default:
		r.Counted = new(int64)
	}
}

// counted gives what the kernel counts of each tag in one pool.
func (st *state) counted(ctx context.Context, kind pool.Kind) (map[pool.Tag]pool.Count, error) {
	if kind != pool.Nonpaged && kind != pool.Paged {
		return nil, errors.New("the counters of this pool are not asked")
	}
	all := map[pool.Tag]pool.Count{}
	for u, err := range st.pool.Usages(ctx) {
		var part *pool.PartError
		switch {
		case errors.As(err, &part):
			continue
		case err != nil:
			return nil, err
		case kind == pool.Paged:
			all[u.Tag] = u.Paged
		default:
			all[u.Tag] = u.Nonpaged
		}
	}
	return all, nil
}

// detail shows the sizes of one tag.
func (g *sig) detail(ctx context.Context, t pool.TagSizes, r *signatureRow, sum *signatureSummary) error {
	if err := emit(g.out, r); err != nil {
		return err
	}
	for i, u := range t.Sizes {
		if i == g.rows {
			if err := emit(g.out, report.Notef("... and %s more; -n %d shows all.", many(uint64(len(t.Sizes)-i), "size"), len(t.Sizes))); err != nil {
				return err
			}
			break
		}
		least, most := u.Asked()
		if err := emit(g.out, &sizeRow{r.Tag, r.Pool, u.Size, u.Large, u.Live, u.Bytes(), u.Cached, u.Freed, least, most, t.Bytes}); err != nil {
			return err
		}
	}
	if err := emit(g.out, sum); err != nil {
		return err
	}
	return g.conclude(ctx, t, r, sum)
}

// conclude says what the sizes point to.
func (g *sig) conclude(ctx context.Context, t pool.TagSizes, r *signatureRow, sum *signatureSummary) error {
	if r.Counted != nil && *r.Counted > int64(t.Live) {
		if err := emit(g.out, report.Notef("The kernel counts %d live: %d of them were not found.", *r.Counted, uint64(*r.Counted)-t.Live)); err != nil {
			return err
		}
	}
	if r.Counted != nil && *r.Counted == int64(t.Live) && sum.Floor {
		if err := emit(g.out, report.Note("The kernel counts as many live ones: none of them is missing.")); err != nil {
			return err
		}
	}
	// One size that takes nearly all, many times over, is one structure.
	const enough = 16
	top := t.Sizes[0]
	if top.Live < enough || top.Bytes() < t.Bytes/10*9 {
		return nil
	}
	least, most := top.Asked()
	err := emit(g.out, report.Notef("Signature: %s. One kind of block: look for code that asks for %#x to %#x bytes.",
		signature(t), least, most))
	if err != nil {
		return err
	}
	if err := g.types(ctx, t.Tag, least, most); err != nil {
		return err
	}
	return emit(g.out, report.Notef("  !pooltag %s names the images that hold the tag; !poolfind %s lists the blocks.",
		spellTag(t.Tag), spellTag(t.Tag)))
}

// none says that a pool has no block of the tag.
func (g *sig) none(sizes *pool.Sizes, counted map[pool.Tag]pool.Count, sum *signatureSummary) error {
	if err := emit(g.out, report.Textf("%s pool: no block has the tag '%s'\n", kdPools[sizes.Kind], g.tag.String()), sum); err != nil {
		return err
	}
	if n := counted[g.tag].Live; n > 0 {
		return emit(g.out, report.Notef("The kernel counts %d live: none of them was found.", n))
	}
	return nil
}
