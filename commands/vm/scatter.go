package vm

import (
	"cmp"
	"context"
	"encoding/binary"
	"fmt"
	"math/bits"
	"slices"

	"gokd/commands/report"
	"gokd/model/mem"
	"gokd/model/pool"
	"gokd/model/pool/cell"
)

// scatter gathers how the free bytes of a pool lie.
type scatter struct {
	record scatterRecord
	tags   map[uint32]*tagScatter

	run     uint64 // length of the free run that ends at runEnd
	runEnd  mem.VA
	page    mem.VA // being filled in
	used    uint64 // bytes of it in use, or on lookaside lists
	free    uint64 // free bytes of it
	blocks  int    // blocks in use that lie in it
	holders []uint32
}

// sizeClasses are the classes of free pieces: up to 32 bytes, 64 and so on to 4
// KiB, and larger ones.
const sizeClasses = 9

// scatterRecord is the record of one pool. Sizes are in bytes.
type scatterRecord struct {
	Pool        string      `json:"pool"`
	Blocks      uint64      `json:"blocks"` // in use
	BlockBytes  uint64      `json:"block_bytes"`
	Cached      uint64      `json:"cached"` // on lists, waiting for their next use
	CachedBytes uint64      `json:"cached_bytes"`
	Pieces      uint64      `json:"free_pieces"`
	FreeBytes   uint64      `json:"free_bytes"`
	Classes     []sizeClass `json:"free_by_size"`
	Runs        uint64      `json:"free_runs"`
	Largest     uint64      `json:"largest_free_run"`
	LargestAt   report.Addr `json:"largest_free_run_at"`
	UsedPages   uint64      `json:"pages_in_use"` // with a block that is not free
	FreeInUsed  uint64      `json:"free_bytes_in_pages_in_use"`
	SinglePages uint64      `json:"pages_held_by_one_block"`
	FreePages   uint64      `json:"free_pages"` // wholly free
	Floor       bool        `json:"floor"`      // not all could be read

	name string
}

// sizeClass counts the free pieces of up to Limit bytes.
type sizeClass struct {
	Limit  uint64 `json:"up_to"` // 0: larger than all others
	Pieces uint64 `json:"pieces"`
	Bytes  uint64 `json:"bytes"`
}

// Type names the record.
func (*scatterRecord) Type() string { return "pool_scatter" }

// share gives a part in percent with one digit.
func share(part, of uint64) string {
	if of == 0 {
		return "  0.0%"
	}
	hi, lo := bits.Mul64(part, 1000)
	if hi >= of {
		return "   ???"
	}
	n, _ := bits.Div64(hi, lo, of)
	return fmt.Sprintf("%3d.%d%%", n/10, n%10)
}

// WriteText writes the block of a pool: gokd's own layout.
func (r *scatterRecord) WriteText(p *report.Printer) {
	p.Styled(report.Strong, "\n%s pool\n", r.name)
	p.Printf("  Blocks in use:        %10d (%12d bytes)\n", r.Blocks, r.BlockBytes)
	p.Printf("  On lookaside lists:   %10d (%12d bytes)\n", r.Cached, r.CachedBytes)
	p.Printf("  Free pieces:          %10d (%12d bytes) in %d runs\n", r.Pieces, r.FreeBytes, r.Runs)
	p.Printf("  Pages in use:         %10d, of which %s is free\n", r.UsedPages, report.Text(share(r.FreeInUsed, r.UsedPages*mem.PageSize)))
	p.Printf("  Held by one block:    %10d pages\n", r.SinglePages)
	p.Printf("  Wholly free:          %10d pages\n", r.FreePages)
	if r.Largest > 0 {
		p.Printf("  Largest free run:     %10d bytes at %s\n", r.Largest, r.LargestAt.String())
	}
	if r.Pieces == 0 {
		return
	}
	p.Printf("\n  Free piece up to      Pieces          Bytes  Share\n")
	for _, c := range r.Classes {
		limit := fmt.Sprint(c.Limit)
		if c.Limit == 0 {
			limit = "larger"
		}
		p.Printf("  %16s  %10d %14d %s\n", limit, c.Pieces, c.Bytes, report.Text(share(c.Bytes, r.FreeBytes)))
	}
}

// tagScatter is the record of a tag whose blocks hold pages with free bytes.
type tagScatter struct {
	Pool   string `json:"pool"`
	Tag    string `json:"tag"`
	Blocks uint64 `json:"blocks"`
	Bytes  uint64 `json:"bytes"`
	Pages  uint64 `json:"pages"`
	Free   uint64 `json:"free_bytes_in_its_pages"`
	Single uint64 `json:"pages_held_by_one_block"`

	tag pool.Tag
}

// Type names the record.
func (*tagScatter) Type() string { return "pool_scatter_tag" }

// WriteText writes the row of a tag.
func (r *tagScatter) WriteText(p *report.Printer) {
	p.Printf("  %-4s %10d %14d %10d %14d %s %10d\n", r.tag, r.Blocks, r.Bytes, r.Pages, r.Free,
		report.Text(share(r.Free, r.Pages*mem.PageSize)), r.Single)
}

func newScatter(name, kind string) *scatter {
	f := &scatter{tags: map[uint32]*tagScatter{}, record: scatterRecord{Pool: kind, name: name}}
	for i := range sizeClasses {
		c := sizeClass{}
		if i < sizeClasses-1 {
			c.Limit = 32 << i
		}
		f.record.Classes = append(f.record.Classes, c)
	}
	return f
}

// walk goes over the blocks of an index, which come by address within a range.
func (f *scatter) walk(ctx context.Context, x *pool.Index) {
	x.Cells(func(part []cell.Cell) bool {
		for _, c := range part {
			f.add(c)
		}
		return ctx.Err() == nil
	})
	f.endRun()
	f.flush()
}

// add takes one block.
func (f *scatter) add(c cell.Cell) {
	at, size := c.Header(), c.Room()
	if size == 0 {
		size = c.Size()
	}
	r := &f.record
	switch c.State() {
	case cell.Free:
		r.Pieces++
		r.FreeBytes += size
		class := &r.Classes[classOf(size)]
		class.Pieces++
		class.Bytes += size
		if at != f.runEnd {
			f.endRun()
		}
		f.run, f.runEnd = f.run+size, at+mem.VA(size)
	case cell.Cached:
		r.Cached++
		r.CachedBytes += size
		f.endRun()
	default:
		r.Blocks++
		r.BlockBytes += size
		t := f.tag(bare(c))
		t.Blocks++
		t.Bytes += size
		f.endRun()
	}
	f.spread(c, at, size)
}

// bare gives a block's tag without the bit of protection.
func bare(c cell.Cell) uint32 {
	tag, _ := pool.TagOf(c.Tag())
	return tag.Value()
}

// classOf gives the class of a piece's size.
func classOf(size uint64) int {
	for i := range sizeClasses - 1 {
		if size <= 32<<i {
			return i
		}
	}
	return sizeClasses - 1
}

func (f *scatter) endRun() {
	if f.run > 0 {
		f.record.Runs++
		if f.run > f.record.Largest {
			f.record.Largest, f.record.LargestAt = f.run, report.Addr(f.runEnd)-report.Addr(f.run)
		}
	}
	f.run, f.runEnd = 0, 0
}

// spread counts a block in each page that it lies in.
func (f *scatter) spread(c cell.Cell, at mem.VA, size uint64) {
	for size > 0 {
		if page := at.Page(); page != f.page {
			f.flush()
			f.page = page
		}
		n := min(size, mem.PageSize-uint64(at)%mem.PageSize)
		switch c.State() {
		case cell.Free:
			f.free += n
		case cell.Cached:
			f.used += n
		default:
			f.used += n
			f.blocks++
			if tag := bare(c); !slices.Contains(f.holders, tag) {
				f.holders = append(f.holders, tag)
			}
		}
		at, size = at+mem.VA(n), size-n
	}
}

// flush ends a page.
func (f *scatter) flush() {
	r := &f.record
	switch {
	case f.used > 0:
		r.UsedPages++
		r.FreeInUsed += f.free
		if f.blocks == 1 && f.free > 0 {
			r.SinglePages++
		}
		for _, tag := range f.holders {
			t := f.tag(tag)
			t.Pages++
			t.Free += f.free
			if f.blocks == 1 && f.free > 0 {
				t.Single++
			}
		}
	case f.free == mem.PageSize:
		r.FreePages++
	}
	f.used, f.free, f.blocks, f.holders = 0, 0, 0, f.holders[:0]
}

func (f *scatter) tag(value uint32) *tagScatter {
	t := f.tags[value]
	if t == nil {
		tag := pool.Tag(binary.LittleEndian.AppendUint32(nil, value))
		t = &tagScatter{Pool: f.record.Pool, Tag: tag.Spell(), tag: tag}
		f.tags[value] = t
	}
	return t
}

// shownTags is how many tags flag 1 shows.
const shownTags = 32

// emit writes what was gathered.
func (f *scatter) emit(out report.Sink, tags bool, sum pool.Summary) error {
	f.record.Floor = sum.Skipped() > 0 || sum.SmallUnwalked || sum.Unkept
	if err := out.Emit(&f.record); err != nil {
		return err
	}
	if tags {
		if err := f.emitTags(out); err != nil {
			return err
		}
	}
	switch {
	case sum.SmallUnwalked:
		return out.Emit(report.Notef("The small blocks of this pool could not be walked: %v.", sum.Why))
	case sum.Unkept:
		return out.Emit(report.Note("This pool has more blocks than are kept: the numbers above are not those of the whole pool."))
	case sum.Skipped() > 0:
		return out.Emit(report.Notef("All numbers are floors: %d pages, page tables and ranges could not be read.", sum.Skipped()))
	}
	return nil
}

func (f *scatter) emitTags(out report.Sink) error {
	list := make([]*tagScatter, 0, len(f.tags))
	for _, t := range f.tags {
		list = append(list, t)
	}
	slices.SortFunc(list, func(a, b *tagScatter) int {
		return cmp.Or(cmp.Compare(b.Free, a.Free), a.tag.Compare(b.tag))
	})
	if len(list) == 0 {
		return nil
	}
	if err := out.Emit(report.Text("\n  Tag      Blocks          Bytes      Pages  Free in those  Share     Single\n")); err != nil {
		return err
	}
	for _, t := range list[:min(len(list), shownTags)] {
		if err := out.Emit(t); err != nil {
			return err
		}
	}
	if len(list) > shownTags {
		return out.Emit(report.Notef("%d more tags are left out: their pages have less free memory.", len(list)-shownTags))
	}
	return nil
}
