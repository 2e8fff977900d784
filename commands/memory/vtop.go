package memory

import (
	"context"
	"errors"
	"fmt"

	"gokd/commands/cmd"
	"gokd/commands/report"
	"gokd/model/mem"
)

var vtopCommand = &cmd.Command{
	Name: "!vtop", Aliases: []string{"!kdexts.vtop"}, Group: cmd.GroupMemory,
	Summary: "translate a virtual address by the page tables of a process",
	Args:    restArg("[DirBase] Address", "the DirBase that !process shows, or its page number; 0 or none: the scope's", false),
	Needs:   cmd.NeedTarget,
	Help: `Goes down the page tables and shows the physical address of the entry of each level,
and where the address lies in physical memory. Expressions are taken for both.`,
	Example: "!vtop 187000 fffff80002206000\n!vtop 0 fffff78000000000",
	SeeAlso: []string{"!pte", "!ptov", "!process", "!db"},
	Run:     runVtop,
}

var ptovCommand = &cmd.Command{
	Name: "!ptov", Aliases: []string{"!kdexts.ptov"}, Group: cmd.GroupMemory,
	Summary: "list the physical pages that a process maps, with their virtual addresses",
	Args:    restArg("DirBase", "the DirBase that !process shows; 0 or none: the scope's", true),
	Needs:   cmd.NeedTarget,
	Help: `Lists every page that the tables map and that is valid, by virtual address: the
physical address, then the virtual one. The list is long; Ctrl-C ends it. The pages
of the tables themselves are not listed, and neither are pages in transition.`,
	Example: "!ptov 35000",
	SeeAlso: []string{"!vtop", "!pte", "!process"},
	Run:     runPtov,
}

// dirBase gives the page tables that a number names: none, a physical address,
// or the number of a page.
func dirBase(s *cmd.Session, v uint64) (*mem.Space, error) {
	space, err := tablesOf(s)
	switch {
	case err != nil || v == 0:
		return space, err
	case v%mem.PageSize != 0 && v < 1<<40 && captured(space, mem.PA(v*mem.PageSize)):
		return space.WithRoot(mem.PA(v * mem.PageSize)), nil
	}
	// The low bits of a DirBase are flags.
	return space.WithRoot(mem.PA(v)), nil
}

func captured(space *mem.Space, at mem.PA) bool {
	var b [1]byte
	_, err := space.Physical().ReadPhysical(b[:], at)
	return err == nil
}

// translation is the record "translation".
type translation struct {
	VA       report.Addr    `json:"va"`
	DirBase  report.Addr    `json:"dir_base"`
	Levels   []entry        `json:"levels"`
	Physical *report.Addr   `json:"physical"`
	PageSize uint64         `json:"page_size"`
	Missing  report.Missing `json:"missing,omitempty"`
}

// Type names the record.
func (*translation) Type() string { return "translation" }

// The processor manual's names of the levels, which !vtop uses, root first.
var vtopLevels = [...]string{"PML4E", "PDPE", "PDE", "PTE"}

// WriteText writes kd's lines. Older debuggers did not fill addresses up with
// zeros.
func (r *translation) WriteText(p *report.Printer) {
	old := p.Era == report.Era62
	address := func(a report.Addr) string {
		switch {
		case !old:
			return a.String()
		case a>>32 != 0:
			return a.Tick()
		}
		return fmt.Sprintf("%x", uint64(a))
	}
	p.Printf("Amd64VtoP: Virt %s, pagedir %s\n", address(r.VA), address(r.DirBase))
	large := false
	for i, e := range r.Levels {
		p.Printf("Amd64VtoP: %s %s\n", vtopLevels[i], address(*e.Physical))
		large = e.State == "large page"
		if e.State == "zero" {
			p.Printf("Amd64VtoP: zero %s\n", vtopLevels[i])
		}
	}
	switch {
	case r.Physical == nil:
		p.Printf("Virtual address %x translation fails, error 0xD0000147.\n", uint64(r.VA))
		p.Own("%s\n", r.Missing["physical"])
		return
	case large:
		p.Printf("Amd64VtoP: Large page mapped phys %s\n", address(*r.Physical))
	default:
		p.Printf("Amd64VtoP: Mapped phys %s\n", address(*r.Physical))
	}
	p.Printf("Virtual address %x translates to physical address %x.\n", uint64(r.VA), uint64(*r.Physical))
	if last := r.Levels[len(r.Levels)-1]; last.State != "valid" && !large {
		p.Own("The last entry is not valid (%s): the memory manager would find the page there.\n", last.State)
	}
}

func runVtop(ctx context.Context, s *cmd.Session, in cmd.Args, out report.Sink) error {
	list, err := numbers(ctx, s.Eval, in.Raw, 2)
	if err != nil {
		return err
	}
	if len(list) == 1 {
		list = []uint64{0, list[0]}
	}
	space, err := dirBase(s, list[0])
	if err != nil {
		return fmt.Errorf("!vtop: %w", err)
	}
	t := &tables{space: space}
	r := &translation{VA: report.Addr(list[1]), DirBase: report.Addr(space.Root())}
	tr, err := space.TranslateSteps(mem.VA(list[1]))
	for i, step := range tr.Steps {
		at, v := report.Addr(step.At), report.Addr(step.Value)
		e := entry{Level: vtopLevels[i], Physical: &at, Value: &v}
		t.decode(&e, step.Level)
		r.Levels = append(r.Levels, e)
	}
	switch {
	case err == nil && tr.Zero:
		r.Missing.Set("physical", errors.New("a page that was never touched: it reads as zeros and lies nowhere"))
	case err != nil:
		r.Missing.Set("physical", err)
	default:
		p := report.Addr(tr.PA)
		r.Physical, r.PageSize = &p, tr.PageSize
	}
	return out.Emit(r)
}

// mapping is the record "mapping": one page of !ptov.
type mapping struct {
	Physical report.Addr `json:"physical"`
	Virtual  report.Addr `json:"virtual"`
	Size     uint64      `json:"size"`
}

// Type names the record.
func (*mapping) Type() string { return "mapping" }

// WriteText writes kd's line.
func (m *mapping) WriteText(p *report.Printer) {
	note := ""
	switch m.Size {
	case 1 << 30:
		note = " (1GB large page)"
	case 2 << 20:
		note = " (2MB large page)"
	}
	if p.Era != report.Era62 {
		p.Printf("%s %s%s\n", m.Physical, m.Virtual, note)
		return
	}
	short := func(a report.Addr) string {
		if a>>32 != 0 {
			return a.Tick()
		}
		return fmt.Sprintf("%x", uint64(a))
	}
	p.Printf("%s %s\n", short(m.Physical), short(m.Virtual))
}

// mapped is the record "mapping_summary".
type mapped struct {
	Pages uint64 `json:"pages"` // entries listed
	Bytes uint64 `json:"bytes"`
	Holes uint64 `json:"tables_missing"`
}

// Type names the record.
func (*mapped) Type() string { return "mapping_summary" }

// SkippedItems counts the tables that could not be read.
func (m *mapped) SkippedItems() int { return int(min(m.Holes, 1<<30)) }

// WriteText says on lines of our own what the list comes to.
func (m *mapped) WriteText(p *report.Printer) {
	p.Own("Pages: %d, of %d KB in all.\n", m.Pages, m.Bytes>>10)
	if m.Holes > 0 {
		p.Own("Page tables that are not in the dump, so that what they map is not listed: %d.\n", m.Holes)
	}
}

// dirLine is the first line of !ptov.
type dirLine struct{ root report.Addr }

// Type names the record.
func (dirLine) Type() string { return "heading" }

// TextOnly marks it.
func (dirLine) TextOnly() {}

// WriteText writes kd's line.
func (d dirLine) WriteText(p *report.Printer) {
	if p.Era == report.Era62 {
		p.Printf("Amd64PtoV: pagedir %x\n", uint64(d.root))
		return
	}
	p.Printf("Amd64PtoV: pagedir %s\n", d.root)
}

func runPtov(ctx context.Context, s *cmd.Session, in cmd.Args, out report.Sink) error {
	v := uint64(0)
	if in.Raw != "" {
		list, err := numbers(ctx, s.Eval, in.Raw, 1)
		if err != nil {
			return err
		}
		v = list[0]
	}
	space, err := dirBase(s, v)
	if err != nil {
		return fmt.Errorf("!ptov: %w", err)
	}
	if !captured(space, space.Root()) {
		return fmt.Errorf("!ptov: the top page table at %#x: page not in dump", uint64(space.Root()))
	}
	if err := out.Emit(dirLine{report.Addr(space.Root())}); err != nil {
		return err
	}
	var sum mapped
	var failed error
	err = space.Leaves(ctx, 0, ^mem.VA(0), func(l mem.Leaf) bool {
		switch {
		case l.Err != nil && l.Entry == 0:
			sum.Holes++
		case l.Err == nil && l.Entry&pteValid != 0:
			sum.Pages, sum.Bytes = sum.Pages+1, sum.Bytes+l.Size
			failed = out.Emit(&mapping{report.Addr(l.PA), report.Addr(l.VA), l.Size})
		}
		return failed == nil && ctx.Err() == nil
	})
	if err = errors.Join(failed, err); err != nil {
		return err
	}
	return out.Emit(&sum)
}
