package vm

import (
	"context"
	"errors"
	"fmt"

	"gokd/commands/cmd"
	"gokd/commands/report"
	"gokd/model"
	"gokd/model/pool"
	"gokd/model/vm"
)

var lookaside = &cmd.Command{
	Name: "!lookaside", Aliases: []string{"!kdexts.lookaside"}, Group: cmd.GroupPool,
	Summary: "show lookaside lists: freed blocks kept for their next use",
	Args: []cmd.Arg{
		{Name: "all", Kind: cmd.KindSwitch, Switch: "-all", Optional: true, Doc: "every list that the kernel links: its own, those of the pools and of drivers"},
		{Name: "Address", Kind: cmd.KindAddr, Optional: true, Doc: "a list (GENERAL_LOOKASIDE); 0 or none: the system's well-known lists"},
		{Name: "Options", Kind: cmd.KindFlags, Optional: true, Doc: "0 show; 1 and 2 change the list, which a dump does not allow"},
		{Name: "Depth", Kind: cmd.KindFlags, Optional: true, Doc: "the new depth, with Options 2"},
	},
	Needs: cmd.NeedKernel,
	Help: `Shows per list what it allocated and freed, how often it had a block at hand
(hit rate) and how deep it is. Size is that of a block, Max Alloc what the list
may hold. Counters are 32 bits wide and wrap.

Without -all the system's lists that have names are shown: all of them where the
kernel's symbols are known, else eight that gokd knows the places of on known
kernels. -all shows every list that the kernel links, of drivers too, and the
processors' own; from Windows 10 1903 on also the lists of the segment heaps,
which know neither tag nor size. A list that the pool keeps for itself counts
hits; misses are worked out. Options 1 and 2 are refused: dumps are never
changed.`,
	SeeAlso: []string{"!poolused", "!vm"},
	Run:     runLookaside,
}

// lookasideList is the record of a list.
type lookasideList struct {
	Address        report.Addr `json:"address"`
	Name           *string     `json:"name"` // null where no symbol names it
	Tag            string      `json:"tag"`
	PoolType       uint32      `json:"type"`
	TypeName       string      `json:"type_name"`
	Size           uint32      `json:"size"`
	Depth          uint16      `json:"depth"`
	MaxDepth       uint16      `json:"max_depth"`
	Allocates      uint32      `json:"total_allocates"`
	AllocateMisses uint32      `json:"allocate_misses"`
	Frees          uint32      `json:"total_frees"`
	FreeMisses     uint32      `json:"free_misses"`
	Paged          bool        `json:"paged"`

	raw uint32
}

// Type names the record.
func (*lookasideList) Type() string { return "lookaside" }

func newLookaside(l vm.Lookaside) *lookasideList {
	tag, _ := pool.TagOf(l.Tag)
	r := &lookasideList{
		Address: report.Addr(l.At), Tag: tag.Spell(), PoolType: l.Type, TypeName: vm.TypeName(l.Type), Size: l.Size,
		Depth: l.Depth, MaxDepth: l.MaxDepth, Allocates: l.Allocates, AllocateMisses: l.AllocateMisses,
		Frees: l.Frees, FreeMisses: l.FreeMisses, Paged: l.Paged(), raw: l.Tag,
	}
	if l.Name != "" {
		r.Name = &l.Name
	}
	return r
}

// WriteText writes the block of a list.
func (r *lookasideList) WriteText(p *report.Printer) {
	name := ""
	if r.Name != nil {
		name = *r.Name
	}
	tag, _ := pool.TagOf(r.raw)
	p.Styled(report.Strong, "\nLookaside \"%s\" @ 0x%s  Tag(hex): 0x%08x \"%s\"\n", name, r.Address.String(), r.raw, tag)
	p.Printf("    Type           = %10s  %s\n", fmt.Sprintf("%04x", r.PoolType), r.TypeName)
	p.Printf("    Current Depth  = %10d  Max Depth  = %10d\n", r.Depth, r.MaxDepth)
	p.Printf("    Size           = %10d  Max Alloc  = %10d\n", r.Size, r.potential())
	p.Printf("    AllocateMisses = %10d  FreeMisses = %10d\n", r.AllocateMisses, r.FreeMisses)
	p.Printf("    TotalAllocates = %10d  TotalFrees = %10d\n", r.Allocates, r.Frees)
	p.Printf("    Hit Rate       = %10d%% Hit Rate   = %10d%%\n", rate(r.Allocates, r.AllocateMisses), rate(r.Frees, r.FreeMisses))
}

// held is what lies on the list, potential what it may hold, in bytes.
func (r *lookasideList) held() uint64      { return uint64(r.Depth) * uint64(r.Size) }
func (r *lookasideList) potential() uint64 { return uint64(r.MaxDepth) * uint64(r.Size) }

// rate gives the share of hits in percent, truncated as kd does. Counters that
// wrapped may have more misses than requests: no hits then.
func rate(total, misses uint32) uint64 {
	if total == 0 || misses > total {
		return 0
	}
	return uint64(total-misses) * 100 / uint64(total)
}

// lookasideTotal sums up what was shown, in bytes.
type lookasideTotal struct {
	Lists          int    `json:"lists"`
	NonPaged       uint64 `json:"nonpaged_bytes"`
	NonPagedMost   uint64 `json:"nonpaged_potential"`
	Paged          uint64 `json:"paged_bytes"`
	PagedPotential uint64 `json:"paged_potential"`
	Unread         int    `json:"unread"`
}

// Type names the record.
func (*lookasideTotal) Type() string { return "lookaside_total" }

// SkippedItems counts the lists that could not be read.
func (t *lookasideTotal) SkippedItems() int { return t.Unread }

// WriteText writes kd's four lines.
func (t *lookasideTotal) WriteText(p *report.Printer) {
	p.Printf("\nTotal NonPaged currently allocated for above lists = %8d\n", t.NonPaged)
	p.Printf("Total NonPaged potential for above lists           = %8d\n", t.NonPagedMost)
	p.Printf("Total Paged currently allocated for above lists    = %8d\n", t.Paged)
	p.Printf("Total Paged potential for above lists              = %8d\n", t.PagedPotential)
}

func (t *lookasideTotal) add(r *lookasideList) {
	t.Lists++
	if r.Paged {
		t.Paged += r.held()
		t.PagedPotential += r.potential()
		return
	}
	t.NonPaged += r.held()
	t.NonPagedMost += r.potential()
}

// heapBucket is the record of a list of a segment heap's dynamic lookasides.
type heapBucket struct {
	Address        report.Addr `json:"address"`
	Node           int         `json:"node"`
	Lookaside      int         `json:"lookaside"`
	Bucket         int         `json:"bucket"`
	Depth          uint16      `json:"depth"`
	MaxDepth       uint16      `json:"max_depth"`
	Allocates      uint32      `json:"total_allocates"`
	AllocateMisses uint32      `json:"allocate_misses"`
	Frees          uint32      `json:"total_frees"`
	FreeMisses     uint32      `json:"free_misses"`
}

// Type names the record.
func (*heapBucket) Type() string { return "lookaside_bucket" }

// OwnLine marks it as not of kd.
func (*heapBucket) OwnLine() {}

// WriteText writes a row of our own.
func (b *heapBucket) WriteText(p *report.Printer) {
	p.Own("%4d %9d %6d %6d %9d %10d %10d %9d%% %10d %10d %9d%%\n", b.Node, b.Lookaside, b.Bucket, b.Depth, b.MaxDepth,
		b.Allocates, b.AllocateMisses, rate(b.Allocates, b.AllocateMisses), b.Frees, b.FreeMisses, rate(b.Frees, b.FreeMisses))
}

func runLookaside(ctx context.Context, s *cmd.Session, in cmd.Args, out report.Sink) error {
	at, options := in.Addr("Address"), in.Uint("Options", 0)
	switch {
	case options == 1 || options == 2 || in.Has("Depth"):
		return errors.New("!lookaside: counters and depth of a list in a dump can't be changed: dumps are only read")
	case options != 0:
		return cmd.Misuse(fmt.Errorf("options %#x: want 0, 1 or 2", options))
	case at != 0 && in.Has("all"):
		return cmd.Misuse(errors.New("-all shows every list: it goes with no address or 0"))
	case s.Kernel.Triage():
		return errors.New("!lookaside: a triage dump holds no lookaside lists: a kernel or full dump is needed")
	case at != 0:
		l, err := vm.LookasideAt(ctx, s.Kernel, at, vm.PoolList(ctx, s.Kernel, at))
		if err != nil {
			return fmt.Errorf("!lookaside: %w", err)
		}
		return out.Emit(newLookaside(l))
	}
	walk := vm.KnownLookasides
	if in.Has("all") {
		walk = vm.AllLookasides
	}
	total := &lookasideTotal{}
	var first error
	for l, err := range walk(ctx, s.Kernel) {
		switch {
		case ctx.Err() != nil:
			return ctx.Err()
		case err != nil:
			if total.Unread++; first == nil {
				first = err
			}
			continue
		}
		r := newLookaside(l)
		total.add(r)
		if err := out.Emit(r); err != nil {
			return err
		}
	}
	if total.Lists > 0 || first == nil {
		if err := out.Emit(total); err != nil {
			return err
		}
	}
	buckets := 0
	if in.Has("all") {
		var err error
		if buckets, err = heapBuckets(ctx, s.Kernel, out); err != nil {
			return err
		}
	}
	switch {
	case total.Lists+buckets == 0 && first != nil:
		return fmt.Errorf("!lookaside: no list is known: %w", first)
	case first != nil:
		return out.Emit(report.Notef("%d lists, or lists of lists, could not be read, the first: %v.", total.Unread, first))
	}
	return nil
}

// heapBuckets shows the dynamic lookasides of segment heaps, and tells how many
// lists they have.
func heapBuckets(ctx context.Context, k *model.Kernel, out report.Sink) (n int, err error) {
	for b, err := range vm.HeapBuckets(ctx, k) {
		switch {
		case ctx.Err() != nil:
			return n, ctx.Err()
		case errors.Is(err, vm.ErrNotKept):
			return n, nil
		case err != nil:
			return n, out.Emit(report.Notef("The lookaside lists of the segment heaps could not be read: %v.", err))
		}
		if n == 0 {
			if err := out.Emit(report.Note("\nLookaside lists of the segment heaps:\nNode Lookaside Bucket  Depth Max Depth  Allocates     Misses  Hit Rate       Frees     Misses  Hit Rate")); err != nil {
				return n, err
			}
		}
		n++
		r := &heapBucket{report.Addr(b.At), b.Node, b.Lookaside, b.Index, b.Depth, b.MaxDepth, b.Allocates, b.AllocateMisses, b.Frees, b.FreeMisses}
		if err := out.Emit(r); err != nil {
			return n, err
		}
	}
	return n, nil
}
