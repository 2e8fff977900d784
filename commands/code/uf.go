package code

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"gokd/commands/cmd"
	"gokd/commands/report"
	"gokd/model/disasm"
	"gokd/model/mem"
)

var unassembleFunction = &cmd.Command{
	Name: "uf", Group: cmd.GroupCode,
	Summary: "show a whole function",
	Args: []cmd.Arg{{Name: "options", Kind: cmd.KindRest, Optional: false, Complete: cmd.CompleteSymbol,
		Doc: "[/c] [/i] [/o] [/m] [/D] [/O] ADDRESS: any address of the function"}},
	Needs: cmd.NeedTarget,
	Help: `Finds the start of the function that holds an address, follows its jumps and shows
every instruction that can be reached, in blocks: wherever a jump leads or a block
ends, a new one begins with its name. Jumps that lead into another function, which
is how compilers end a function with a call, are followed too, as kd does.

  /c  only the calls, with where they lead; calls through a pointer are worked out
      where the pointer's address is fixed and can be read
  /i  the number of instructions first
  /o  in order of addresses; without it the parts that lie below the start come last
  /m  taken; several exits are always allowed
  /D, /O  taken; they make links, and a terminal has none

Jumps through tables and registers are not followed, and code that can't be read is
not there: then the first line says that the flow analysis was incomplete.`,
	Example: "uf nt!KeWaitForSingleObject\nuf /c nt!KeWaitForSingleObject",
	SeeAlso: []string{"u", "ub", "k"},
	Run:     runFunction,
}

// ufOptions are the options of uf.
type ufOptions struct {
	calls, count, byAddress bool
}

// parseUf reads options and address.
func parseUf(ctx context.Context, e cmd.Evaluator, text string) (opt ufOptions, at uint64, err error) {
	text = strings.TrimSpace(text)
	for strings.HasPrefix(text, "/") {
		var word string
		word, text, _ = strings.Cut(text, " ")
		for _, c := range word[1:] {
			switch c {
			case 'c', 'C':
				opt.calls = true
			case 'i', 'I':
				opt.count = true
			case 'o':
				opt.byAddress = true
			case 'm', 'M', 'd', 'D', 'O':
			default:
				return opt, 0, misuse("unknown option /%c", c)
			}
		}
		text = strings.TrimSpace(text)
	}
	switch {
	case text == "":
		return opt, 0, misuse("an address is missing")
	case e == nil:
		return opt, 0, fmt.Errorf("no evaluator for %q", text)
	}
	at, err = e.Eval(ctx, text)
	return opt, at, err
}

// noCode is kd's answer where not even the first instruction can be read.
const noCode = "No code found, aborting"

func runFunction(ctx context.Context, s *cmd.Session, in cmd.Args, out report.Sink) error {
	r, err := newReader(ctx, s)
	if err != nil {
		return fmt.Errorf("uf: %w", err)
	}
	opt, at, err := parseUf(ctx, s.Eval, in.Raw)
	if err != nil {
		return err
	}
	entry := r.entry(r.canonical(at))
	f := r.follow(entry)
	if err := ctx.Err(); err != nil {
		return err
	}
	if len(f.insts) == 0 {
		return fmt.Errorf("%s\n%w", noCode, f.missing)
	}
	if f.incomplete() {
		if err := out.Emit(report.Text("Flow analysis was incomplete, some code may be missing\n")); err != nil {
			return err
		}
	}
	order := f.order(opt.byAddress)
	if opt.count {
		if err := out.Emit(functionCount{len(order)}); err != nil {
			return err
		}
	}
	emit := r.emitBlocks
	if opt.calls {
		emit = r.emitCalls
	}
	if err := emit(f, order, out); err != nil {
		return err
	}
	return f.notes(out)
}

// entry finds the start of the function that holds an address: the symbol that
// stands there, else what the unwind data say, else the nearest symbol below.
func (r *reader) entry(at uint64) uint64 {
	n := r.name(at)
	if n.Function != "" && n.Offset == 0 || n.Module == nil {
		return at
	}
	if !r.arm {
		if rva, ok := n.Module.FunctionStart(n.RVA); ok {
			return uint64(n.Module.Base) + uint64(rva)
		}
	}
	if n.Function != "" && n.Offset <= at {
		return at - n.Offset
	}
	return at
}

// functionCount is the record "function", with the line of uf /i.
type functionCount struct {
	Instructions int `json:"instructions"`
}

// Type names the record.
func (functionCount) Type() string { return "function" }

// WriteText writes kd's line.
func (c functionCount) WriteText(p *report.Printer) {
	p.Printf("%d instructions scanned\n\n", c.Instructions)
}

// emitBlocks emits the instructions in blocks.
func (r *reader) emitBlocks(f *function, order []uint64, out report.Sink) error {
	var next uint64
	for i, at := range order {
		inst := f.insts[at]
		rec := r.recordOf(at, &inst, nil)
		begins := i == 0 || at != next || f.leaders[at]
		if begins && i > 0 {
			if err := out.Emit(report.Text("\n")); err != nil {
				return err
			}
		}
		rec.label, rec.number = r.label(at, begins), true
		rec.branch = inst.HasTarget && (inst.Flow == disasm.FlowJump || inst.Flow == disasm.FlowCondJump)
		if err := out.Emit(rec); err != nil {
			return err
		}
		next = at + uint64(inst.Len)
	}
	return nil
}

// call is the record of a call: uf /c.
type call struct {
	Address      report.Addr    `json:"address"`
	Symbol       string         `json:"symbol"`
	Text         string         `json:"text"`
	Target       *report.Addr   `json:"target"`
	TargetSymbol *string        `json:"target_symbol"`
	Missing      report.Missing `json:"missing,omitempty"`
}

// Type names the record.
func (*call) Type() string { return "call" }

// WriteText writes kd's two lines.
func (c *call) WriteText(p *report.Printer) {
	p.Printf("  %s (%s):\n", c.Symbol, c.Address.Tick())
	switch {
	case c.Target == nil:
		p.Printf("    unresolvable call: %s\n", c.Text)
	case c.TargetSymbol == nil:
		p.Printf("    call to %s\n", c.Target.Tick())
	default:
		p.Printf("    call to %s (%s)\n", *c.TargetSymbol, c.Target.Tick())
	}
}

// emitCalls emits the calls of a function.
func (r *reader) emitCalls(f *function, order []uint64, out report.Sink) error {
	heading := report.Textf("%s (%s)\n", r.name(f.entry).String(), report.Addr(f.entry).Tick())
	if err := out.Emit(heading); err != nil {
		return err
	}
	for _, at := range order {
		inst := f.insts[at]
		if inst.Flow != disasm.FlowCall {
			continue
		}
		c := &call{Address: report.Addr(at), Symbol: r.name(at).String(), Text: inst.Text}
		to, err := r.callee(&inst)
		if err != nil {
			c.Missing.Set("target", err)
		} else {
			target := report.Addr(to)
			c.Target = &target
			if n := r.name(to).String(); n != "" {
				c.TargetSymbol = &n
			} else {
				c.Missing.Set("target_symbol", errors.New("outside every module"))
			}
		}
		if err := out.Emit(c); err != nil {
			return err
		}
	}
	return nil
}

// callee tells where a call leads; through a pointer at a fixed address, to
// what it holds.
func (r *reader) callee(inst *disasm.Inst) (uint64, error) {
	if inst.HasTarget {
		return inst.Target, nil
	}
	if !inst.HasMem || !inst.Mem.PCRel {
		return 0, errors.New("the address is in a register")
	}
	at, err := r.kernel.Space.Pointer(mem.VA(inst.Mem.Addr))
	if err != nil {
		return 0, err
	}
	// An image file's own import table holds addresses of names relative to the
	// image instead of functions.
	if m, ok := r.kernel.Modules.At(mem.VA(inst.Mem.Addr)); ok && uint64(at) < m.Size {
		return 0, fmt.Errorf("the import table of %s is not in the dump", m.Name)
	}
	return uint64(at), nil
}
