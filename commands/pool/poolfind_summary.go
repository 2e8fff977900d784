package pool

import (
	"fmt"
	"strings"

	"gokd/commands/report"
	"gokd/model/pool"
)

// searchSummary is the last record of !poolfind.
type searchSummary struct {
	Matches       uint64          `json:"matches"`
	Allocated     uint64          `json:"matches_allocated"`
	Free          uint64          `json:"matches_free"`
	Cached        uint64          `json:"matches_cached"`
	Large         uint64          `json:"matches_large"` // of the allocated ones
	Bytes         uint64          `json:"bytes"`         // of the allocated ones, with headers
	PagesScanned  uint64          `json:"pages_scanned"`
	PagesMissing  uint64          `json:"pages_missing"`
	PagesBroken   uint64          `json:"pages_broken"`
	PagesOther    uint64          `json:"pages_other"` // without small blocks
	TablesMissing uint64          `json:"tables_missing"`
	Blocks        uint64          `json:"blocks_checked"`
	LargeChecked  uint64          `json:"large_checked"`
	LargeMissing  uint64          `json:"large_missing"`
	SmallUnwalked bool            `json:"small_unwalked"`
	Covers        string          `json:"covers,omitempty"`
	NoLarge       string          `json:"large_unread,omitempty"`
	Floor         bool            `json:"floor"`    // there may be more: not everything was read
	Coverage      []coverageBytes `json:"coverage"` // of the small blocks, by pool
	Runs          *uint64         `json:"commands_run"`
	Failed        *uint64         `json:"commands_failed"`
	Stopped       bool            `json:"stopped"` // by the command that ran for a hit
	Interrupted   bool            `json:"interrupted"`
	Reached       report.Addr     `json:"searched_to"`
	Unread        uint64          `json:"unread"`

	small, large bool // what was to be searched

	skipped uint64
	damage  []string
	more    int // of damage
	words   []string
}

// coverageBytes accounts for the bytes of one pool that a walk looked at; walked
// is the sum of the others.
type coverageBytes struct {
	Pool      string `json:"pool"`
	Walked    uint64 `json:"walked"`
	Allocated uint64 `json:"allocated"`
	Cached    uint64 `json:"cached"`
	Free      uint64 `json:"free"`
	Large     uint64 `json:"large"`
	Overhead  uint64 `json:"overhead"`
	Other     uint64 `json:"other"`
	Damaged   uint64 `json:"damaged"`
	Missing   uint64 `json:"missing_bytes"`
}

// maxDamage bounds the broken places that are told one by one.
const maxDamage = 10

// Type names the record.
func (*searchSummary) Type() string { return "pool_summary" }

// SkippedItems counts what could not be read.
func (r *searchSummary) SkippedItems() int { return int(r.skipped + r.Unread) }

func (r *searchSummary) count(b *pool.Block) {
	r.Matches++
	switch b.State {
	case pool.Free:
		r.Free++
	case pool.Cached:
		r.Cached++
	default:
		r.Allocated++
		r.Bytes += b.Size
		if b.Large {
			r.Large++
		}
	}
}

func (r *searchSummary) note(err error) {
	if len(r.damage) < maxDamage {
		r.damage = append(r.damage, err.Error())
		return
	}
	r.more++
}

// add takes the coverage of a walk over one pool. small: its small blocks were
// asked for.
func (r *searchSummary) add(kind pool.Kind, s pool.Summary, small bool) {
	r.PagesScanned += s.PagesScanned
	r.PagesMissing += s.PagesMissing
	r.PagesBroken += s.PagesBroken
	r.PagesOther += s.PagesOther
	r.TablesMissing += s.TablesMissing
	r.Blocks += s.Blocks
	r.LargeChecked = max(r.LargeChecked, s.Large)
	r.LargeMissing = max(r.LargeMissing, s.LargeMissing)
	r.Interrupted = r.Interrupted || s.Interrupted
	r.Reached = report.Addr(s.Reached)
	r.skipped += s.Skipped()
	if !small {
		return
	}
	r.SmallUnwalked = r.SmallUnwalked || s.SmallUnwalked
	if c := s.Covers(); c != "" {
		r.Covers = c
	}
	c := s.Coverage
	if c.Walked > 0 {
		r.Coverage = append(r.Coverage, coverageBytes{kind.String(), c.Walked, c.Allocated, c.Cached, c.Free, c.Large,
			c.Overhead, c.Other, c.Damaged, c.Missing})
	}
	if !s.SmallUnwalked {
		r.words = append(r.words, poolWords(kind, s))
	}
}

// poolWords tells how much of a pool was read.
func poolWords(kind pool.Kind, s pool.Summary) string {
	read := s.PagesScanned + s.PagesOther
	text := fmt.Sprintf("%s pool: all of its %s were read", kdPools[kind], many(read, "page"))
	switch {
	case s.Interrupted:
		text = fmt.Sprintf("%s pool: %s were read before the interruption", kdPools[kind], many(read, "page"))
	case read+s.PagesMissing == 0:
		text = fmt.Sprintf("%s pool: no page is mapped there", kdPools[kind])
	case s.PagesMissing > 0:
		text = fmt.Sprintf("%s pool: %d of %s were read, the others are not in this dump", kdPools[kind], read, many(read+s.PagesMissing, "page"))
	}
	if s.PagesBroken > 0 {
		text += fmt.Sprintf("; %d of them are damaged", s.PagesBroken)
	}
	if s.HeapsBroken > 0 {
		text += fmt.Sprintf("; %s of segment heaps can't be read", many(s.HeapsBroken, "part"))
	}
	if s.TablesMissing > 0 {
		text += fmt.Sprintf("; %s are not in this dump, what is mapped there is not known", many(s.TablesMissing, "page table"))
	}
	return text
}

// finish works out whether the numbers are floors.
func (r *searchSummary) finish() {
	r.Floor = r.SkippedItems() > 0 || r.SmallUnwalked || r.NoLarge != "" || r.Interrupted || r.Stopped
	for _, c := range r.Coverage {
		r.Floor = r.Floor || c.Damaged > 0 || c.Missing > 0
	}
}

// WriteText writes our own lines only: kd ends without a summary.
func (r *searchSummary) WriteText(p *report.Printer) {
	p.Own("%s.\n", r.found())
	p.Own("Checked: %s.\n", strings.Join(r.checked(), ", "))
	for _, w := range r.words {
		p.Own("%s.\n", w)
	}
	if r.SmallUnwalked {
		p.Own("Covers: %s.\n", r.Covers)
	}
	if r.LargeMissing > 0 {
		p.Own("Not in this dump: %d entries of the table of large allocations.\n", r.LargeMissing)
	}
	if r.NoLarge != "" {
		p.Own("Large allocations are not listed: %s.\n", r.NoLarge)
	}
	for _, d := range r.damage {
		p.Own("Damaged: %s.\n", d)
	}
	if r.more > 0 {
		p.Own("... and %d places more.\n", r.more)
	}
	if r.Failed != nil && *r.Failed > 0 {
		p.Own("%d of %d commands failed.\n", *r.Failed, *r.Runs)
	}
	if r.Stopped {
		p.Own("The command for a hit ended the search.\n")
	}
}

// checked tells what was searched.
func (r *searchSummary) checked() (list []string) {
	if r.small {
		list = append(list, many(r.Blocks, "small block"))
	}
	if r.large {
		list = append(list, many(r.LargeChecked, "large allocation"))
	}
	return list
}

// found tells how many matches there are, by state.
func (r *searchSummary) found() report.Text {
	text := fmt.Sprintf("%d found", r.Matches)
	if r.Matches > 0 {
		text += fmt.Sprintf(": %d allocated (%d bytes)", r.Allocated, r.Bytes)
	}
	if r.Free > 0 {
		text += fmt.Sprintf(", %d free", r.Free)
	}
	if r.Cached > 0 {
		text += fmt.Sprintf(", %d freed and kept on lists", r.Cached)
	}
	if r.Free+r.Cached > 0 {
		text += "; only allocated ones have a row"
	}
	switch {
	case r.Floor && r.Matches == 0:
		text += "; not everything was read"
	case r.Floor:
		text += "; not everything was read, so these are floors"
	}
	return report.Text(text)
}

// many gives a number and its noun.
func many(n uint64, noun string) string {
	switch {
	case n == 1:
		return "1 " + noun
	case strings.HasSuffix(noun, "y"):
		return fmt.Sprintf("%d %sies", n, strings.TrimSuffix(noun, "y"))
	case strings.HasPrefix(noun, "entry "):
		return fmt.Sprintf("%d entries %s", n, strings.TrimPrefix(noun, "entry "))
	}
	return fmt.Sprintf("%d %ss", n, noun)
}
