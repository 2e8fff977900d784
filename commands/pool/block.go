package pool

import (
	"fmt"
	"strconv"
	"strings"

	"gokd/commands/report"
	"gokd/model/mem"
	"gokd/model/pool"
)

// blockRecord is one block of !poolfind or !pool.
type blockRecord struct {
	Address      report.Addr    `json:"address"` // of the body
	Header       report.Addr    `json:"header"`
	Tag          string         `json:"tag"`
	Size         uint64         `json:"size"` // bytes, with the header of a small block
	PreviousSize uint32         `json:"previous_size"`
	State        string         `json:"state"`
	Protected    bool           `json:"protected"`
	Pool         string         `json:"pool"`
	Large        bool           `json:"large"`
	Room         uint64         `json:"room"` // bytes set aside for it, from header on; 0 where not known
	Place        string         `json:"place"`
	Heap         *report.Addr   `json:"heap"` // the _SEGMENT_HEAP it lies in
	Owner        *report.Addr   `json:"owner_process"`
	Missing      report.Missing `json:"missing,omitempty"`

	block pool.Block
}

func newBlock(p *pool.Pool, b pool.Block, owner bool) *blockRecord {
	r := &blockRecord{
		Address: report.Addr(b.Body), Header: report.Addr(b.Header), Tag: b.Tag.Spell(), Size: b.Size,
		PreviousSize: b.PreviousSize, State: b.State.String(), Protected: b.Protected, Pool: b.Kind.String(),
		Large: b.Large, Room: b.Room, Place: placeName(b.Place), block: b,
	}
	if b.Heap != 0 {
		at := report.Addr(b.Heap)
		r.Heap = &at
	}
	if owner {
		at, err := p.Owner(b)
		r.Missing.Set("owner_process", err)
		if at != 0 {
			a := report.Addr(at)
			r.Owner = &a
		}
	}
	return r
}

// Type names the record.
func (*blockRecord) Type() string { return "pool_block" }

// kdPools are the pools' names as kd writes them.
var kdPools = [...]string{pool.Nonpaged: "Nonpaged", pool.Paged: "Paged", pool.Session: "Session", pool.Special: "Special"}

// WriteText writes the row of !poolfind as debuggers from 6.2 on do. The layout
// names the body and its size, and has no word for a block that is free: free
// blocks have no row there, the summary counts them.
func (r *blockRecord) WriteText(p *report.Printer) {
	if r.block.State == pool.Allocated {
		report.Text(newRow(r.block)).WriteText(p)
	}
}

// newRow is a row of the newer layout. A pool has millions of them, so it is
// put together by hand.
func newRow(b pool.Block) string {
	row := make([]byte, 0, 64)
	row = appendHex(row, uint64(b.Body), 16, '0')
	row = append(row, " : tag "...)
	row = append(row, b.Tag.String()...)
	row = append(row, ", size "...)
	var size [18]byte
	digits := strconv.AppendUint(append(size[:0], "0x"...), bodySize(b), 16)
	for range 9 - len(digits) {
		row = append(row, ' ')
	}
	row = append(append(row, digits...), ", "...)
	row = append(row, kdPools[b.Kind]...)
	return string(append(row, " pool\n"...))
}

// appendHex appends a number with at least width digits.
func appendHex(to []byte, v uint64, width int, fill byte) []byte {
	var digits [16]byte
	d := strconv.AppendUint(digits[:0], v, 16)
	for range width - len(d) {
		to = append(to, fill)
	}
	return append(to, d...)
}

// bodySize is what the allocating code got, in bytes.
func bodySize(b pool.Block) uint64 {
	if b.Large {
		return b.Size
	}
	return b.Size - pool.HeaderSize
}

// rowStart is the address that a row of the classic layout names: the header.
// A free piece of a variable-size subsegment has none, and is named, and its
// size told, from the heap's chunk header on, which is where kd reads its tag.
func rowStart(b pool.Block) uint64 {
	if b.Place == pool.InVS && b.State == pool.Free {
		return uint64(b.Header) - pool.HeaderSize
	}
	return uint64(b.Header)
}

// headerRow is a row of the classic layout, which names the header; mark
// stands before the tag.
func headerRow(b pool.Block, mark string) string {
	row := make([]byte, 0, 80)
	start := rowStart(b)
	row = appendHex(row, start, 16, '0')
	row = append(row, " size: "...)
	row = appendHex(row, b.Size+(uint64(b.Header)-start), 4, ' ')
	row = append(row, " previous size: "...)
	row = appendHex(row, uint64(b.PreviousSize), 4, ' ')
	if b.State != pool.Allocated {
		row = append(row, "  (Free)      "...)
	} else {
		row = append(row, "  (Allocated) "...)
	}
	row = append(append(row, mark...), b.Tag.String()...)
	if b.Protected {
		row = append(row, " (Protected)"...)
	}
	return string(append(row, '\n'))
}

// scanLine is a line of !poolfind that says what is searched: the table of
// large allocations, or a range of a pool.
type scanLine struct {
	large      bool
	kind       pool.Kind
	start, end mem.VA // end is the first byte behind
	pattern    pool.Pattern
}

// Type names the record.
func (scanLine) Type() string { return "text" }

// TextOnly marks it.
func (scanLine) TextOnly() {}

// WriteText writes the line with the blank lines that kd puts around it. The
// pattern is shown as its first four characters, filled with spaces.
func (l scanLine) WriteText(p *report.Printer) {
	tag := fmt.Sprintf("tag %#08x (%s)", l.pattern.Value(), l.pattern.Text())
	name := strings.ToLower(kdPools[l.kind])
	if l.large {
		p.Printf("\nScanning large pool allocation table for %s (%s : %s)\n\n", tag, l.start, l.end)
		return
	}
	p.Printf("\nSearching %s pool (%s : %s) for %s\n\n", name, l.start, l.end, tag)
}

// findSummary is the last record of !poolfind.
type findSummary struct {
	Matches       uint64      `json:"matches"`
	Free          uint64      `json:"matches_free"`
	Bytes         uint64      `json:"bytes"` // of the allocated blocks that matched, with headers
	PagesScanned  uint64      `json:"pages_scanned"`
	PagesMissing  uint64      `json:"pages_missing"`
	PagesBroken   uint64      `json:"pages_broken"`
	TablesMissing uint64      `json:"tables_missing"`
	Blocks        uint64      `json:"blocks_checked"`
	LargeChecked  uint64      `json:"large_checked"`
	LargeMissing  uint64      `json:"large_missing"`
	SmallUnwalked bool        `json:"small_unwalked"`
	Covers        string      `json:"covers,omitempty"`
	NoLarge       string      `json:"large_unread,omitempty"`
	Interrupted   bool        `json:"interrupted"`
	Reached       report.Addr `json:"searched_to"`
	Unread        uint64      `json:"unread"`

	skipped uint64
	damage  []string
	more    int // of damage
}

// maxDamage bounds the broken pages that are told one by one.
const maxDamage = 10

// Type names the record.
func (*findSummary) Type() string { return "pool_summary" }

// SkippedItems counts what could not be read.
func (r *findSummary) SkippedItems() int { return int(r.skipped + r.Unread) }

func (r *findSummary) count(b pool.Block) {
	r.Matches++
	if b.State != pool.Allocated {
		r.Free++
		return
	}
	r.Bytes += b.Size
}

func (r *findSummary) note(err error) {
	if len(r.damage) < maxDamage {
		r.damage = append(r.damage, err.Error())
		return
	}
	r.more++
}

// add takes the coverage of a walk over one pool.
func (r *findSummary) add(s pool.Summary) {
	r.PagesScanned += s.PagesScanned
	r.PagesMissing += s.PagesMissing
	r.PagesBroken += s.PagesBroken
	r.TablesMissing += s.TablesMissing
	r.Blocks += s.Blocks
	r.LargeChecked = max(r.LargeChecked, s.Large)
	r.LargeMissing = max(r.LargeMissing, s.LargeMissing)
	r.Interrupted = r.Interrupted || s.Interrupted
	r.Reached = report.Addr(s.Reached)
	r.skipped += s.Skipped()
	if c := s.Covers(); c != "" {
		r.Covers = c
	}
}

// WriteText writes our own lines only: kd ends without a summary.
func (r *findSummary) WriteText(p *report.Printer) {
	p.Own("%d found, %d bytes allocated; checked: %d blocks in %d pages, %d large allocations.\n",
		r.Matches, r.Bytes, r.Blocks, r.PagesScanned, r.LargeChecked)
	if r.Free > 0 {
		p.Own("%d of them are free; they have no row above.\n", r.Free)
	}
	if r.Covers != "" {
		p.Own("covers: %s\n", r.Covers)
	}
	if r.PagesMissing > 0 {
		p.Own("Not in this dump: %s of the pool; what was there is not listed.\n", many(r.PagesMissing, "page"))
	}
	if r.TablesMissing > 0 {
		p.Own("Not in this dump: %s of the pool; what is mapped there is not known.\n", many(r.TablesMissing, "page table"))
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
}

// many gives a number and its noun.
func many(n uint64, noun string) string {
	if n == 1 {
		return "1 " + noun
	}
	return fmt.Sprintf("%d %ss", n, noun)
}
