package code

import (
	"cmp"
	"errors"
	"slices"

	"gokd/commands/report"
	"gokd/model/disasm"
)

// Limits of following a function: the largest of the kernel have some ten
// thousand instructions.
const (
	maxFunction = 1 << 16 // instructions
	// maxFollowed bounds the functions, and pieces of functions, that jumps lead
	// into: each may end in a jump to another.
	maxFollowed = 512
)

// function is what can be reached from an entry without entering calls.
type function struct {
	entry   uint64
	insts   map[uint64]disasm.Inst
	leaders map[uint64]bool // addresses that begin a block

	missing  error // the first address that can't be read
	unknown  int   // bytes that are no instruction
	indirect int   // jumps through tables and registers
	cut      bool  // a limit was reached
}

func (f *function) incomplete() bool {
	return f.missing != nil || f.unknown > 0 || f.indirect > 0 || f.cut
}

// follow decodes what is reached from an entry.
func (r *reader) follow(entry uint64) *function {
	f := &function{entry: entry, insts: map[uint64]disasm.Inst{}, leaders: map[uint64]bool{entry: true}}
	work := []uint64{entry}
	functions := map[uint64]bool{}
	for len(work) > 0 && r.ctx.Err() == nil {
		at := work[len(work)-1]
		work = work[:len(work)-1]
		if start, ok := r.functionStart(at); ok {
			if functions[start] = true; len(functions) > maxFollowed {
				f.cut = true
				return f
			}
		}
		work = r.block(f, at, work)
	}
	return f
}

// block decodes from an address on until the flow ends, and adds the places
// that jumps lead to.
func (r *reader) block(f *function, at uint64, work []uint64) []uint64 {
	for r.ctx.Err() == nil {
		if _, done := f.insts[at]; done { // blocks share tails
			return work
		}
		if len(f.insts) >= maxFunction {
			f.cut = true
			return work
		}
		inst, err := r.decode(at)
		switch {
		case err != nil:
			f.missing = cmp.Or(f.missing, err)
			return work
		case inst.Unknown():
			f.unknown++
			return work
		}
		f.insts[at] = inst
		next := at + uint64(inst.Len)
		jump := inst.Flow == disasm.FlowJump || inst.Flow == disasm.FlowCondJump
		switch {
		case jump && inst.HasTarget:
			f.leaders[inst.Target] = true
			work = append(work, inst.Target)
		case inst.Flow == disasm.FlowJump && !(inst.HasMem && inst.Mem.PCRel):
			f.indirect++ // a jump through the import table leaves the function
		}
		if inst.Flow == disasm.FlowCondJump {
			f.leaders[next] = true
		}
		if inst.Flow.Ends() || next < at {
			return work
		}
		at = next
	}
	return work
}

// order gives the addresses as they are shown: by their distance from the entry,
// so that what lies below it comes last, or by themselves.
func (f *function) order(byAddress bool) []uint64 {
	list := make([]uint64, 0, len(f.insts))
	for at := range f.insts {
		list = append(list, at)
	}
	base := f.entry
	if byAddress {
		base = 0
	}
	slices.SortFunc(list, func(a, b uint64) int { return cmp.Compare(a-base, b-base) })
	return list
}

// notes says what the analysis left out.
func (f *function) notes(out report.Sink) error {
	var notes []report.Note
	if f.missing != nil {
		notes = append(notes, report.Notef("Code is missing: %v", f.missing))
	}
	if f.unknown > 0 {
		notes = append(notes, report.Notef("%d places that the code leads to are no instructions.", f.unknown))
	}
	if f.indirect > 0 {
		notes = append(notes, report.Notef("%d jumps through a table or register were not followed.", f.indirect))
	}
	if f.cut {
		notes = append(notes, report.Notef("The analysis ended after %d instructions.", len(f.insts)))
	}
	var err error
	for _, n := range notes {
		err = errors.Join(err, out.Emit(n))
	}
	return err
}
