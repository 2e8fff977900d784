package symbol

import (
	"context"
	"fmt"
	"slices"

	"gokd/commands/cmd"
	"gokd/commands/report"
	"gokd/commands/show"
	"gokd/model"
	"gokd/model/mem"
	"gokd/model/types"
)

var ln = &cmd.Command{
	Name: "ln", Group: cmd.GroupSymbols,
	Summary: "show the symbols nearest to an address",
	Help: `Shows the symbol at or below an address with the distance from it, and the next
one above. Where names lie exactly at the address, all of them are listed.

An export table names few of an image's functions: where it is all there is, the
address is likely inside a function between the two that has no name here, and a
line says so. With .lines on, the source file and line stand before the symbol.`,
	Example: "ln nt!KeBugCheckEx+10\nln sis!SipDereferenceCSFile",
	SeeAlso: []string{"x", "lm", ".lines"},
	Args: []cmd.Arg{
		{Name: "links", Switch: "/D", Kind: cmd.KindSwitch, Optional: true, Doc: "links, which a terminal has not; taken for kd's sake"},
		{Name: "address", Kind: cmd.KindRest, Complete: cmd.CompleteSymbol, Doc: "an address"},
	},
	Needs: cmd.NeedTarget,
	Run:   runLn,
}

// neighbour is one of the two symbols around an address.
type neighbour struct {
	Module  string      `json:"module"`
	Name    string      `json:"name"`
	Address report.Addr `json:"address"`
	Offset  uint64      `json:"distance"` // bytes between it and the address asked for
}

// nearest is the record of ln.
type nearest struct {
	Address report.Addr     `json:"address"`
	Source  *show.Source    `json:"source,omitempty"` // with .lines on
	Before  *neighbour      `json:"before"`
	After   *neighbour      `json:"after"`
	Exact   []*symbolRecord `json:"exact"`
	Missing report.Missing  `json:"missing,omitempty"`
}

// Type names the record.
func (*nearest) Type() string { return "nearest_symbols" }

// WriteText writes kd's line, then the exact matches.
func (r *nearest) WriteText(p *report.Printer) {
	if r.Before == nil && r.After == nil {
		return
	}
	if p.Era == report.Era26100 {
		p.Printf("Browse module\nSet bu breakpoint\n\n")
	}
	r.writeSource(p)
	if r.Before != nil {
		p.Printf("(%s)   %s", r.Before.Address.Tick(), r.Before.Module)
		if r.Before.Name != "" {
			p.Printf("!%s", shownName(r.Before.Name))
		}
		if r.Before.Offset > 0 {
			p.Printf("+%#x", r.Before.Offset)
		}
	}
	if r.After != nil {
		p.Printf("   |  (%s)   %s!%s", r.After.Address.Tick(), r.After.Module, shownName(r.After.Name))
	}
	p.Printf("\n")
	if len(r.Exact) > 0 {
		p.Printf("Exact matches:\n")
		for _, e := range r.Exact {
			p.Printf("    %s!%s%s\n", e.Module, shownName(e.Name), e.tail(e.opt))
		}
	}
}

// writeSource writes the place in the source: since Windows 10 before the
// symbol, in older debuggers on a line of its own, with the distance.
func (r *nearest) writeSource(p *report.Printer) {
	switch {
	case r.Source == nil:
	case p.Era != report.Era62:
		p.Printf("%s ", r.Source.String())
	case r.Source.Delta > 0:
		p.Printf("%s(%d)+%#x\n", r.Source.File, r.Source.Line, r.Source.Delta)
	default:
		p.Printf("%s(%d)\n", r.Source.File, r.Source.Line)
	}
}

func runLn(ctx context.Context, s *cmd.Session, in cmd.Args, out report.Sink) error {
	text := in.Raw
	for _, p := range []string{"/D ", "/d "} {
		if len(text) > 3 && text[:3] == p {
			text = text[3:]
		}
	}
	if s.Eval == nil {
		return fmt.Errorf("ln: no evaluator for %q", text)
	}
	v, err := s.Eval.Eval(ctx, text)
	if err != nil {
		return cmd.Misuse(err)
	}
	at := mem.VA(v)
	r := &nearest{Address: report.Addr(at), Exact: []*symbolRecord{}}
	m, ok := s.Kernel.Modules.At(at)
	if !ok {
		r.Missing.Set("before", fmt.Errorf("no module holds the address"))
		return emitAll(out, r, report.Notef("%#x: no module holds this address", v))
	}
	symbols, err := m.Symbols(ctx)
	if err != nil || symbols == nil {
		r.Missing.Set("before", err)
		return emitAll(out, r, report.Notef("%s+%#x: no symbols: %v", m.Name, uint64(at-m.Base), err))
	}
	if source := show.Sources(ctx, s); source != nil {
		r.Source = source(at)
	}
	r.find(newDescriber(ctx, s, m, symbols), symbols, uint32(at-m.Base))
	if err := out.Emit(r); err != nil {
		return err
	}
	if d := symbols.Describe(); (d == "export" || d == "embedded") && len(r.Exact) == 0 {
		return out.Emit(report.Notef("%s: its %s symbols name few of its functions: the address need not belong to the one below it", m.Name, d))
	}
	return nil
}

func emitAll(out report.Sink, records ...report.Record) error {
	for _, r := range records {
		if err := out.Emit(r); err != nil {
			return err
		}
	}
	return nil
}

// find fills in the neighbours: one walk over all names gives those at the
// address and the nearest address above.
func (r *nearest) find(d *describer, symbols types.Symbols, rva uint32) {
	below, delta, ok := symbols.Nearest(rva)
	if ok {
		r.Before = neighbourOf(d.m, below, uint64(delta))
	} else { // the image begins below its first symbol
		r.Before = neighbourOf(d.m, types.Symbol{}, uint64(rva))
	}
	var next types.Symbol
	found := false
	opt := new(xOptions)
	private := privateAddresses(symbols)
	for sym := range symbols.All() {
		if !sym.Private && private[sym.RVA] {
			continue
		}
		if sym.RVA > rva && (!found || sym.RVA < next.RVA) {
			next, found = sym, true
		}
		if sym.RVA == rva {
			h := d.hit(sym)
			r.Exact = append(r.Exact, d.record(&h, opt))
		}
	}
	// The name that stands for the address comes first, as in the line above.
	slices.SortStableFunc(r.Exact, func(a, b *symbolRecord) int {
		switch {
		case a.Name == below.Name && b.Name != below.Name:
			return -1
		case b.Name == below.Name && a.Name != below.Name:
			return 1
		}
		return 0
	})
	if found {
		if best, off, ok := symbols.Nearest(next.RVA); ok && off == 0 {
			next = best
		}
		r.After = neighbourOf(d.m, next, uint64(next.RVA-rva))
	}
}

func neighbourOf(m *model.Module, sym types.Symbol, delta uint64) *neighbour {
	return &neighbour{m.Name, sym.Name, report.Addr(uint64(m.Base) + uint64(sym.RVA)), delta}
}
