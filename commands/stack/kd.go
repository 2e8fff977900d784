package stack

import (
	"context"
	"encoding/binary"
	"fmt"
	"strings"

	"gokd/commands/cmd"
	"gokd/commands/report"
	"gokd/model"
	"gokd/model/mem"
)

var rawStack = &cmd.Command{
	Name: "kd", Group: cmd.GroupThread,
	Summary: "show the raw words of the stack",
	Args: []cmd.Arg{{
		Name: "WordCount", Kind: cmd.KindRest, Optional: true,
		Doc: "words of 32 bits; the number of .kframes if none is given",
	}},
	Needs: cmd.NeedTarget,
	Help: `Shows what lies on the stack of the current scope from its stack pointer up, 32
bits a line as kd does. Where two words make an address in a module, its name
stands beside the lower one: each may be a return address, or was one once.`,
	Example: "kd 10",
	SeeAlso: []string{"k", ".kframes"},
	Run:     runRawStack,
}

func runRawStack(ctx context.Context, s *cmd.Session, in cmd.Args, out report.Sink) error {
	words := uint64(depth(s))
	if in.Raw != "" {
		v, rest, err := s.Eval.EvalPrefix(ctx, in.Raw)
		switch {
		case err != nil:
			return err
		case strings.TrimSpace(rest) != "":
			return cmd.Misuse(fmt.Errorf("unexpected %q behind the number of words", strings.TrimSpace(rest)))
		case v == 0 || v > maxFrames:
			return cmd.Misuse(fmt.Errorf("%#x words: 1 to %#x can be shown", v, maxFrames))
		}
		words = v
	}
	sp, err := stackPointer(s)
	if err != nil {
		return fmt.Errorf("kd: %w", err)
	}
	b := make([]byte, 4*words)
	n, err := s.ReadVirtual(b, sp)
	for i := 0; i+4 <= n; i += 4 {
		if ctx.Err() != nil {
			return ctx.Err()
		}
		w := stackWord{Address: report.Addr(sp) + report.Addr(i), Value: report.Addr(binary.LittleEndian.Uint32(b[i:]))}
		if i+8 <= n && uint64(w.Address)%8 == 0 {
			v := mem.VA(binary.LittleEndian.Uint64(b[i:]))
			w.Symbol = s.Kernel.NameOf(ctx, v).String()
		}
		if err := out.Emit(w); err != nil {
			return err
		}
	}
	if err != nil {
		return fmt.Errorf("kd: stack at %#x: %w", uint64(sp), err)
	}
	return nil
}

// stackPointer gives that of the scope.
func stackPointer(s *cmd.Session) (mem.VA, error) {
	if s.Kernel.Source.Machine == model.MachineARM64 {
		regs, ok := model.ParseARM64Context(s.Kernel.Source.Crash.Context)
		if !ok {
			return 0, fmt.Errorf("the registers are not in this dump")
		}
		return mem.VA(regs.SP), nil
	}
	r, err := s.Registers()
	if err != nil {
		return 0, err
	}
	return mem.VA(r.GPR[model.RSP]), nil
}

// stackWord is the record of one word.
type stackWord struct {
	Address report.Addr `json:"address"`
	Value   report.Addr `json:"value"`
	Symbol  string      `json:"symbol,omitempty"` // of the 64 bits that begin here
}

// Type names the record.
func (stackWord) Type() string { return "stack_word" }

// WriteText writes the word's line.
func (w stackWord) WriteText(p *report.Printer) {
	p.Printf("%s  %08x", w.Address.Tick(), uint64(w.Value))
	if w.Symbol != "" {
		p.Own(" %s", w.Symbol)
	}
	p.Printf("\n")
}
