package pool

import (
	"cmp"
	"context"
	"slices"
	"strings"

	"gokd/commands/report"
	"gokd/model/pool"
)

// verifyRecord is the comparison of one tag in one pool.
type verifyRecord struct {
	Tag           string         `json:"tag"`
	Pool          string         `json:"pool"`
	TrackedAllocs int64          `json:"tracked_allocs"` // live, as the kernel counts
	TrackedBytes  int64          `json:"tracked_bytes"`
	FoundAllocs   int64          `json:"found_allocs"` // blocks in use and large allocations
	FoundBytes    int64          `json:"found_bytes"`  // with headers; large ones in whole pages
	LargeAllocs   int64          `json:"large_allocs"`
	LargeBytes    int64          `json:"large_bytes"` // as they were asked for
	Cached        int64          `json:"cached"`      // freed blocks on lists, which no counter has
	CachedBytes   int64          `json:"cached_bytes"`
	DiffAllocs    int64          `json:"difference_allocs"` // counters less blocks
	DiffBytes     int64          `json:"difference_bytes"`
	Tracked       bool           `json:"tracked"` // a tracker table has the tag
	Verdict       string         `json:"verdict"`
	Reasons       []verifyReason `json:"reasons"`

	check pool.TagCheck
}

// verifyReason is what accounts for a difference, or may.
type verifyReason struct {
	Cause string  `json:"cause"`
	Bytes *uint64 `json:"at_most_bytes"` // null where there is no bound
	Text  string  `json:"text"`
}

func newVerify(c pool.TagCheck) *verifyRecord {
	r := &verifyRecord{
		Tag: c.Tag.Spell(), Pool: c.Kind.String(), TrackedAllocs: c.Tracked.Live, TrackedBytes: c.Tracked.Bytes,
		FoundAllocs: c.Found.All(), FoundBytes: c.Found.AllBytes(), LargeAllocs: c.Found.Large, LargeBytes: c.Found.LargeBytes,
		Cached: c.Found.Cached, CachedBytes: c.Found.CachedBytes, DiffAllocs: c.Allocs, DiffBytes: c.Bytes,
		Tracked: c.Known, Verdict: c.Verdict.String(), Reasons: []verifyReason{}, check: c,
	}
	for _, x := range c.Reasons {
		reason := verifyReason{Cause: string(x.Cause), Text: x.Text}
		if x.Bytes > 0 {
			reason.Bytes = &x.Bytes
		}
		r.Reasons = append(r.Reasons, reason)
	}
	return r
}

// Type names the record.
func (*verifyRecord) Type() string { return "pool_verify" }

// WriteText writes a row: both sources, the difference, and its causes in short.
func (r *verifyRecord) WriteText(p *report.Printer) {
	words := r.check.Verdict.String()
	var causes []string
	for _, x := range r.check.Reasons {
		causes = append(causes, strings.ReplaceAll(string(x.Cause), "_", " "))
	}
	if len(causes) > 0 {
		words += ": " + strings.Join(causes, ", ")
	}
	p.Printf(" %-4s %-8s%10d%13d%11d%13d%11d%13d%9d\t%s\n", r.check.Tag.String(), kdPools[r.check.Kind],
		r.TrackedAllocs, r.TrackedBytes, r.FoundAllocs, r.FoundBytes, r.DiffAllocs, r.DiffBytes, r.Cached, words)
}

// verifyHeading is the head of the table of -verify.
type verifyHeading struct{}

// Type names the record.
func (verifyHeading) Type() string { return "text" }

// TextOnly marks it.
func (verifyHeading) TextOnly() {}

// WriteText writes the columns' names.
func (verifyHeading) WriteText(p *report.Printer) {
	p.Printf(" Holding the counters against the blocks\n\n" +
		"                     Counters                    Found               Difference\n" +
		" Tag  Pool        Allocs         Used     Allocs         Used     Allocs         Used   Cached\n\n")
}

// coverageRecord accounts for the bytes of a pool that were walked.
type coverageRecord struct {
	Pool          string  `json:"pool"`
	Walked        uint64  `json:"walked"`
	Allocated     uint64  `json:"allocated"`
	Cached        uint64  `json:"cached"`
	Free          uint64  `json:"free"`
	Large         uint64  `json:"large"`
	Overhead      uint64  `json:"overhead"`
	Other         uint64  `json:"other"`
	Damaged       uint64  `json:"damaged"`
	Missing       uint64  `json:"missing_bytes"`
	Sum           uint64  `json:"sum"` // of the parts; equals walked
	Complete      bool    `json:"complete"`
	PagesScanned  uint64  `json:"pages_scanned"`
	PagesMissing  uint64  `json:"pages_missing"`
	PagesBroken   uint64  `json:"pages_broken"`
	TablesMissing uint64  `json:"tables_missing"`
	LargeMissing  uint64  `json:"large_missing"` // entries of the table of large allocations
	Unwalked      *string `json:"unwalked"`      // why small blocks were not read; null where they were
	LargeUnread   *string `json:"large_unread"`

	check *pool.PoolCheck
}

func newCoverage(c *pool.PoolCheck) *coverageRecord {
	s, v := c.Summary, c.Summary.Coverage
	r := &coverageRecord{
		Pool: c.Kind.String(), Walked: v.Walked, Allocated: v.Allocated, Cached: v.Cached, Free: v.Free, Large: v.Large,
		Overhead: v.Overhead, Other: v.Other, Damaged: v.Damaged, Missing: v.Missing, Sum: v.Sum(),
		PagesScanned: s.PagesScanned, PagesMissing: s.PagesMissing, PagesBroken: s.PagesBroken,
		TablesMissing: s.TablesMissing, LargeMissing: s.LargeMissing + s.LargeOdd, check: c,
	}
	r.Complete = c.WalkErr == nil && c.LargeErr == nil && s.Skipped() == 0 && v.Complete()
	if c.WalkErr != nil {
		text := c.WalkErr.Error()
		r.Unwalked = &text
	}
	if c.LargeErr != nil {
		text := c.LargeErr.Error()
		r.LargeUnread = &text
	}
	return r
}

// Type names the record.
func (*coverageRecord) Type() string { return "pool_coverage" }

// SkippedItems counts what could not be read.
func (r *coverageRecord) SkippedItems() int { return int(r.check.Summary.Skipped()) }

// WriteText writes the sums of the pool, the account of its bytes and what is
// missing.
func (r *coverageRecord) WriteText(p *report.Printer) {
	c := r.check
	p.Printf("%s pool: %d allocations of %d bytes are counted, %d of %d bytes found, %d of them large.\n", kdPools[c.Kind],
		c.Tracked.Live, c.Tracked.Bytes, c.Found.All(), c.Found.AllBytes(), c.Found.Large)
	if r.Unwalked != nil {
		p.Printf("  Small blocks were not walked: %s.\n", *r.Unwalked)
	} else {
		p.Printf("  %s\n", account(c.Summary.Coverage))
	}
	if r.LargeUnread != nil {
		p.Printf("  Large allocations are not known: %s.\n", *r.LargeUnread)
	}
	for _, x := range []struct {
		n    uint64
		noun string
	}{
		{r.PagesMissing, "page"}, {r.TablesMissing, "page table"}, {r.LargeMissing, "entry of the table of large allocations"},
	} {
		if x.n > 0 {
			p.Printf("  Not in this dump: %s.\n", many(x.n, x.noun))
		}
	}
	if r.PagesBroken > 0 {
		p.Printf("  Damaged: %s.\n", many(r.PagesBroken, "page"))
	}
}

// verdictRecord sums a verification up.
type verdictRecord struct {
	Verdict        string `json:"verdict"`
	Text           string `json:"text"`
	Counters       int    `json:"counters"` // tags and pools that were compared
	Agree          int    `json:"agree"`
	Within         int    `json:"within"`
	Differ         int    `json:"differ"`
	Complete       bool   `json:"complete"`
	Tables         int    `json:"tracker_tables"`
	Entries        uint64 `json:"tracker_entries"`
	EntriesMissing uint64 `json:"entries_missing"`

	why    []string // the causes that rows name in short
	errs   []error
	styled report.Style
}

// Type names the record.
func (*verdictRecord) Type() string { return "pool_verdict" }

// SkippedItems counts the entries of tracker tables that could not be read.
func (r *verdictRecord) SkippedItems() int { return int(r.EntriesMissing) }

// WriteText writes what the causes mean, and the verdict.
func (r *verdictRecord) WriteText(p *report.Printer) {
	for _, err := range r.errs {
		p.Printf("The counters are not whole: %s.\n", err.Error())
	}
	for _, w := range r.why {
		p.Printf("%s.\n", w)
	}
	p.Styled(r.styled, "Verdict: %s.\n", r.Text)
}

// verify is !poolused -verify.
func (u *used) verify(ctx context.Context) error {
	if err := u.st.beforeSearch(ctx, u.s, u.out); err != nil {
		return err
	}
	v, err := u.st.pool.Verify(ctx, pool.VerifyQuery{
		Session: u.flags&flagSession != 0, ID: u.s.LogonSession,
		Progress: func(kind pool.Kind, n uint64) { u.s.Report("pages of "+kind.String()+" pool", n, 0) },
	})
	if err != nil {
		return err
	}
	if u.tagged {
		v = v.Select(u.pattern)
	}
	checks := slices.Clone(v.Tags)
	sortChecks(checks, u.flags)
	if err := u.out.Emit(verifyHeading{}); err != nil {
		return err
	}
	for _, c := range checks[:min(u.limit, uint64(len(checks)))] {
		if ctx.Err() != nil {
			break
		}
		if err := u.out.Emit(newVerify(c)); err != nil {
			return err
		}
	}
	if err := u.out.Emit(report.Text("\n")); err != nil {
		return err
	}
	for i := range v.Pools {
		if err := u.out.Emit(newCoverage(&v.Pools[i])); err != nil {
			return err
		}
	}
	if u.flags&flagSession != 0 {
		if err := u.out.Emit(u.whose()); err != nil {
			return err
		}
	}
	return cmp.Or(u.out.Emit(newVerdict(v)), u.st.afterSearch(ctx, u.s, u.out))
}

// sortChecks orders by the bytes that are counted in the pool the flags name.
func sortChecks(list []pool.TagCheck, flags uint64) {
	kind := pool.Nonpaged
	switch {
	case flags&flagPaged != 0:
		kind = pool.Paged
	case flags&flagNonpaged == 0:
		return
	}
	key := func(c pool.TagCheck) int64 {
		if c.Kind == kind || c.Kind == pool.Session {
			return c.Tracked.Bytes
		}
		return -1
	}
	slices.SortStableFunc(list, func(a, b pool.TagCheck) int { return cmp.Compare(key(b), key(a)) })
}

func newVerdict(v *pool.Verification) *verdictRecord {
	verdict, text := v.Verdict()
	r := &verdictRecord{
		Verdict: verdict.String(), Text: text, Counters: v.Agree + v.Within + v.Differ, Agree: v.Agree, Within: v.Within, Differ: v.Differ,
		Complete: v.Complete(), Tables: v.Trackers.Tables, Entries: v.Trackers.Entries, EntriesMissing: v.Trackers.Missing,
		errs: v.Trackers.Errs, styled: report.Strong,
	}
	if verdict == pool.Differs {
		r.styled = report.Warning
	}
	for _, c := range v.Tags {
		for _, x := range c.Reasons {
			text := strings.ReplaceAll(string(x.Cause), "_", " ") + ": " + x.Text
			if !slices.Contains(r.why, text) && len(r.why) < maxCauses {
				r.why = append(r.why, text)
			}
		}
	}
	return r
}

// maxCauses bounds the causes that are explained once more below the table.
const maxCauses = 10
