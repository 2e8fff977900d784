package code

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"gokd/commands/cmd"
	"gokd/commands/report"
	"gokd/model/disasm"
	"gokd/model/mem"
)

var unassembleBack = &cmd.Command{
	Name: "ub", Group: cmd.GroupCode,
	Summary: "show the instructions before an address",
	Args: []cmd.Arg{{Name: "range", Kind: cmd.KindRest, Optional: true, Complete: cmd.CompleteSymbol,
		Doc: "[ADDRESS [L COUNT]]: up to but without the instruction there; none: go on backwards"}},
	Needs: cmd.NeedTarget,
	Help: `Shows the eight, or COUNT, instructions that end right before an address: at a
return address the last one is the call. Instructions of x64 can't be read
backwards. Where the function's start is known, from the image's unwind data or
from symbols, they are counted from there and are right; elsewhere the longest run
of instructions that ends at the address is taken, and a line below says so.`,
	Example: "ub nt!KeWaitForSingleObject+19f\nub nt!KeWaitForSingleObject+19f L2",
	SeeAlso: []string{"u", "uf"},
	Run:     runBack,
}

func runBack(ctx context.Context, s *cmd.Session, in cmd.Args, out report.Sink) error {
	r, err := newReader(ctx, s)
	if err != nil {
		return fmt.Errorf("ub: %w", err)
	}
	sp, given, err := parseSpan(ctx, s.Eval, in.Raw)
	if err != nil {
		return err
	}
	st := stateOf(s)
	switch {
	case sp.upTo || sp.count == 0:
		return misuse("want an address and L and a count, no end")
	case given:
	case st.begun["back"]:
		sp.start = st.back
	default:
		if sp.start, err = instructionPointer(s); err != nil {
			return fmt.Errorf("ub: %w; give an address", err)
		}
	}
	return listBackwards(s, r, sp.start, int(sp.count), strings.TrimSpace("ub "+in.Raw), out)
}

// listBackwards emits the count instructions before an address.
func listBackwards(s *cmd.Session, r *reader, end uint64, count int, command string, out report.Sink) error {
	starts, sure, err := r.before(end, count)
	if err != nil {
		if emit := out.Emit(r.recordOf(end-1, nil, err)); emit != nil {
			return emit
		}
		return newAccessError(s.Prompt(), command, err)
	}
	if len(starts) == 0 {
		column := strings.Repeat(" ", len([]rune(s.Prompt()+command))-1)
		return fmt.Errorf("%s^ Unable to find valid previous instruction for '%s'", column, command)
	}
	for i, at := range starts {
		if err := r.ctx.Err(); err != nil {
			return err
		}
		inst, err := r.decode(at)
		rec := r.recordOf(at, &inst, err)
		rec.label = r.label(at, i == 0)
		if err := out.Emit(rec); err != nil {
			return err
		}
	}
	st := stateOf(s)
	st.back, st.begun["back"] = starts[0], true
	if !sure {
		return out.Emit(report.Note("Where these instructions begin is a guess: the start of the function is not known."))
	}
	return nil
}

// maxBack bounds the instructions that ub looks at from a function's start.
const maxBack = 1 << 16

// before finds the addresses of up to count instructions that end at an
// address. sure is false where they were found by trial. The error says that
// the byte before the address can't be read.
func (r *reader) before(end uint64, count int) (starts []uint64, sure bool, err error) {
	var b [1]byte
	if _, err := r.read(b[:], end-1); err != nil || end == 0 {
		return nil, false, err
	}
	count = min(count, maxBack)
	run := r.run
	if r.arm {
		run = r.words
	}
	// Runs are found from the end; each is kept in its order and the last first.
	var runs [][]uint64
	found, sure := 0, true
	for found < count && r.ctx.Err() == nil {
		more, known := run(end, count-found)
		if len(more) == 0 {
			break
		}
		runs, found, sure, end = append(runs, more), found+len(more), sure && known, more[0]
	}
	slices.Reverse(runs)
	return slices.Concat(runs...), sure, nil
}

// words finds the words before an address: all instructions of ARM64 are as long.
func (r *reader) words(end uint64, count int) (starts []uint64, known bool) {
	for at := end &^ 3; len(starts) < count && at >= 4 && r.ctx.Err() == nil; {
		at -= 4
		if _, err := r.decode(at); err != nil {
			break
		}
		starts = append(starts, at)
	}
	slices.Reverse(starts)
	return starts, true
}

// run finds instructions that end at an address, at most count, in one function.
func (r *reader) run(end uint64, count int) (starts []uint64, known bool) {
	// Padding behind a function belongs to none in the unwind data, but has the
	// function's symbol: then the chain may lead through it.
	if start, ok := r.functionStart(end - 1); ok && end-start <= maxBack*disasm.MaxLen {
		if chain, ok := r.chain(start, end); ok {
			return chain[max(len(chain)-count, 0):], true
		}
	}
	return r.trial(end, count), false
}

// trial finds instructions that end at an address where none is known to begin.
// Code of x64 falls into step after a few instructions: of all addresses before,
// most lead over the same ones. Where as many lead over two, the longer
// instruction is taken.
func (r *reader) trial(end uint64, count int) []uint64 {
	window := min(uint64(min(count, 64)*disasm.MaxLen+32), end)
	lengths := make([]uint64, window) // of the instruction at end-window+i; 0: none
	votes := make([]int, window+1)
	for i := range lengths {
		inst, err := r.decode(end - window + uint64(i))
		if err != nil || inst.Unknown() || uint64(i+inst.Len) > window {
			continue
		}
		lengths[i] = uint64(inst.Len)
	}
	reaches := make([]bool, window+1)
	reaches[window] = true
	for i := int(window) - 1; i >= 0; i-- {
		reaches[i] = lengths[i] > 0 && reaches[i+int(lengths[i])]
	}
	for i := range lengths {
		if reaches[i] {
			votes[i]++
			votes[i+int(lengths[i])] += votes[i]
		}
	}
	var starts []uint64
	for at := int(window); len(starts) < count; {
		best := -1
		for i := max(at-disasm.MaxLen, 0); i < at; i++ {
			if reaches[i] && i+int(lengths[i]) == at && (best < 0 || votes[i] > votes[best]) {
				best = i
			}
		}
		if best < 0 {
			break
		}
		starts = append(starts, end-window+uint64(best))
		at = best
	}
	slices.Reverse(starts)
	return starts
}

// chain decodes from an address on; ok where an instruction ends exactly at end
// and no byte on the way is none.
func (r *reader) chain(start, end uint64) (chain []uint64, ok bool) {
	for at := start; at < end; {
		inst, err := r.decode(at)
		if err != nil || inst.Unknown() || len(chain) >= maxBack || r.ctx.Err() != nil {
			return nil, false
		}
		chain = append(chain, at)
		at += uint64(inst.Len)
		if at == end {
			return chain, true
		}
	}
	return nil, false
}

// functionStart finds an address at or below another at which an instruction
// is known to begin: the start of the piece of a function that the unwind data
// name, or a symbol of a function.
func (r *reader) functionStart(at uint64) (uint64, bool) {
	if r.physical {
		return 0, false
	}
	m, ok := r.kernel.Modules.At(mem.VA(at))
	if !ok {
		return 0, false
	}
	if !r.arm {
		if f, ok, err := m.FunctionAt(uint32(mem.VA(at) - m.Base)); err == nil && ok {
			return uint64(m.Base) + uint64(f.Begin), true
		}
	}
	if n := r.name(at); n.Function != "" && n.Offset <= at {
		return at - n.Offset, true
	}
	return 0, false
}
