package pool

import (
	"gokd/commands/report"
	"gokd/model/pool"
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

// account spells the parts of what was walked, whose sum is the whole.
func account(c pool.Coverage) report.Text {
	return report.Textf("%d bytes walked = %d allocated + %d cached + %d free + %d large + %d overhead + %d other + %d damaged + %d missing",
		c.Walked, c.Allocated, c.Cached, c.Free, c.Large, c.Overhead, c.Other, c.Damaged, c.Missing)
}
