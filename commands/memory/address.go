package memory

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"gokd/commands/cmd"
	"gokd/commands/report"
	"gokd/commands/show"
	"gokd/model"
	"gokd/model/mem"
	"gokd/model/pool"
)

var addressCommand = &cmd.Command{
	Name: "!address", Group: cmd.GroupMemory,
	Summary: "tell what an address of the kernel belongs to, or list the kernel's regions",
	Args:    restArg("Address", "an address; none: the regions and what they come to", true),
	Needs:   cmd.NeedTarget,
	Help: `Tells of an address: module image, kernel stack and whose, processor's own, pool,
page tables, PFN database, system cache and so on, as far as the target tells or it
can be inferred, which is said. Without an address the regions are listed, and the
modules, stacks and processors are counted.

The address space of a process below 7fffffffffff is described by its address
descriptors, which are not read here. What a region contains is another question:
!pool tells of pool memory, !pte of a page.`,
	Example: "!address nt\n!address @rsp\n!address",
	SeeAlso: []string{"!pte", "!pool", "lm"},
	Run:     runAddress,
}

// region is the record "region".
type region struct {
	Address  *report.Addr   `json:"address"` // that was asked for; null in a list
	Start    *report.Addr   `json:"start"`
	End      *report.Addr   `json:"end"` // behind the last byte; at the top of the address space the last byte itself
	Size     *report.Addr   `json:"size"`
	Usage    string         `json:"usage"`
	VAType   *string        `json:"va_type"` // of the memory manager, where it tells
	Module   *string        `json:"module"`
	Path     *string        `json:"path"`
	Thread   *report.Addr   `json:"thread"`
	Detail   *string        `json:"detail"`
	Inferred *string        `json:"inferred"` // from what; null where the target says it
	Block    *poolBlock     `json:"pool_block,omitempty"`
	Missing  report.Missing `json:"missing,omitempty"`
}

// Type names the record.
func (*region) Type() string { return "region" }

// WriteText writes the block of an address, or in a list a row.
func (r *region) WriteText(p *report.Printer) {
	if r.Address == nil {
		p.Printf("%s %s %s  %s\n", r.Start.Tick(), r.End.Tick(), r.Size.Tick(), r.what())
		return
	}
	line := func(name, text string) { p.Printf("%-24s%s\n", name+":", text) }
	line("Usage", r.Usage)
	if r.Start != nil {
		line("Base Address", r.Start.Tick())
		line("End Address", r.End.Tick())
		line("Region Size", r.Size.Tick())
	}
	if r.VAType != nil {
		line("VA Type", *r.VAType)
	}
	if r.Module != nil {
		line("Module name", *r.Module)
		line("Module path", "["+*r.Path+"]")
	}
	switch {
	case r.Thread != nil:
		p.Own("The stack of thread %s; !thread %s shows it.\n", *r.Thread, *r.Thread)
	case r.Detail != nil:
		p.Own("Of %s.\n", *r.Detail)
	}
	if r.Inferred != nil {
		p.Own("Inferred from %s.\n", *r.Inferred)
	}
	if b := r.Block; b != nil {
		p.Own("In the %s block at %s, %#x bytes, tag %s; !pool %s 2 shows it.\n", b.State, b.Header, b.Size, b.tag, *r.Address)
	}
}

// poolBlock is the block of the pool that holds an address.
type poolBlock struct {
	Header report.Addr `json:"header"`
	Tag    string      `json:"tag"`
	Size   uint64      `json:"size"`
	State  string      `json:"state"`

	tag pool.Tag
}

// blockAt gives the block of the pool that holds an address; nil where none is
// known to.
func blockAt(ctx context.Context, s *cmd.Session, at mem.VA) *poolBlock {
	p, err := show.Pools(s)
	if err != nil {
		return nil
	}
	l, err := p.Locate(ctx, at)
	if err != nil || !l.Found {
		return nil
	}
	b := l.Block
	return &poolBlock{Header: report.Addr(b.Header), Tag: b.Tag.Spell(), Size: b.Size, State: b.State.String(), tag: b.Tag}
}

// what spells the use of a region in a list.
func (r *region) what() string {
	text := r.Usage
	if r.Detail != nil {
		text += " (" + *r.Detail + ")"
	}
	if r.Inferred != nil {
		text += ", inferred from " + *r.Inferred
	}
	return text
}

func orNull(s string) *string {
	if s == "" {
		return nil
	}
	return &s
}

func (a area) record() *region {
	start, end, size := report.Addr(a.start), report.Addr(max(a.last, a.last+1)), report.Addr(a.size())
	r := &region{Start: &start, End: &end, Size: &size, Usage: a.usage, Detail: orNull(a.detail), Inferred: orNull(a.from)}
	if a.module != nil {
		r.Module, r.Path = &a.module.Image, &a.module.Path
	}
	if a.thread != 0 {
		t := report.Addr(a.thread)
		r.Thread = &t
	}
	return r
}

func runAddress(ctx context.Context, s *cmd.Session, in cmd.Args, out report.Sink) error {
	if s.Kernel.Source.Machine == model.MachineARM64 {
		return fmt.Errorf("!address: ARM64 is not supported yet")
	}
	if in.Raw == "" {
		return listRegions(ctx, s, out)
	}
	list, err := numbers(ctx, s.Eval, in.Raw, 1)
	if err != nil {
		return err
	}
	at := list[0]
	asked := report.Addr(at)
	switch {
	case !mem.Canonical(mem.VA(at)):
		return out.Emit(&region{Address: &asked, Usage: "Non-canonical: no address of this processor"})
	case at < 1<<47:
		start, end, size := report.Addr(0), report.Addr(1<<47), report.Addr(1<<47)
		if err := out.Emit(&region{Address: &asked, Start: &start, End: &end, Size: &size, Usage: "User space"}); err != nil {
			return err
		}
		return out.Emit(report.Note("What a process keeps there is described by its address descriptors, which are not read here; !pte shows the page."))
	}
	a, err := atlasOf(ctx, s)
	if err != nil {
		return err
	}
	found, vaType, err := a.find(at)
	r := found.record()
	if err != nil {
		r = &region{Usage: "Unknown"}
		r.Missing.Set("start", err)
	}
	r.Address, r.VAType = &asked, orNull(vaType)
	if strings.HasSuffix(r.Usage, "pool") {
		r.Block = blockAt(ctx, s, mem.VA(at))
	}
	if e := out.Emit(r); e != nil {
		return e
	}
	if err != nil {
		return a.emitGaps(out, "Nothing that is known of the kernel holds it.")
	}
	return nil
}

// emitGaps says what could not be found out.
func (a *atlas) emitGaps(out report.Sink, first string) error {
	if first != "" {
		if err := out.Emit(report.Note(first)); err != nil {
			return err
		}
	}
	for _, g := range a.gaps {
		if err := out.Emit(report.Notef("Not known: %s.", g)); err != nil {
			return err
		}
	}
	return nil
}

// usageTotal is the record "region_total": the areas of one use.
type usageTotal struct {
	Usage string      `json:"usage"`
	Count int         `json:"count"`
	Bytes report.Addr `json:"bytes"`
}

// Type names the record.
func (*usageTotal) Type() string { return "region_total" }

// WriteText writes a row of the totals.
func (u *usageTotal) WriteText(p *report.Printer) {
	p.Printf("%6d %s  %s\n", u.Count, u.Bytes.Tick(), u.Usage)
}

// counted are the uses with an area for each of many things: the list only says
// how many.
var counted = []string{"Module", "Kernel stack", "Processor stack"}

func listRegions(ctx context.Context, s *cmd.Session, out report.Sink) error {
	a, err := atlasOf(ctx, s)
	if err != nil {
		return err
	}
	if err := out.Emit(report.Text("Base Address      End Address       Region Size        Usage\n")); err != nil {
		return err
	}
	totals := map[string]*usageTotal{}
	var order []string
	for _, x := range a.areas {
		t := totals[x.usage]
		if t == nil {
			t = &usageTotal{Usage: x.usage}
			totals[x.usage], order = t, append(order, x.usage)
		}
		t.Count, t.Bytes = t.Count+1, t.Bytes+report.Addr(x.size())
		if slices.Contains(counted, x.usage) {
			continue
		}
		if err := out.Emit(x.record()); err != nil {
			return err
		}
	}
	if err := out.Emit(report.Text("\n Count Total Size         Usage\n")); err != nil {
		return err
	}
	slices.Sort(order)
	for _, u := range order {
		if err := out.Emit(totals[u]); err != nil {
			return err
		}
	}
	return a.emitGaps(out, "")
}
