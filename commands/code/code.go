// Package code is the group of commands that show instructions: u, ub, up, uu,
// uf and .asm.
//
// It reads code through the address space of the session's scope; pages that a
// dump lacks come from image files where those are at hand. The layouts are
// those of the debuggers' documentation ("u, ub, uu (Unassemble)", "uf
// (Unassemble Function)", "up (Unassemble from Physical Memory)", ".asm (Change
// Disassembly Options)") and of posted sessions.
package code

import (
	"context"
	"errors"
	"fmt"

	"gokd/commands/cmd"
	"gokd/commands/show"
	"gokd/model"
	"gokd/model/disasm"
	"gokd/model/mem"
)

// Commands lists the group's commands in the order of the manual.
func Commands() []*cmd.Command {
	return []*cmd.Command{unassemble, unassembleBack, unassembleOn, unassembleFunction, unassemblePhysical, assemblyOptions}
}

// state is what the group keeps between commands: where the next listing
// without an address begins, and the options of .asm.
type state struct {
	next     uint64 // of u and uu
	back     uint64 // ub lists up to here
	physical uint64 // of up
	begun    map[string]bool
	options  map[string]bool
}

type stateKey struct{}

func stateOf(s *cmd.Session) *state {
	st, _ := cmd.Cached(s, stateKey{}, func() (*state, error) {
		return &state{begun: map[string]bool{}, options: map[string]bool{}}, nil
	})
	return st
}

// reader decodes instructions of the target.
type reader struct {
	ctx      context.Context
	kernel   *model.Kernel
	read     func(p []byte, at uint64) (int, error)
	physical bool
	arm      bool
	bytes    bool // code bytes are shown
	options  disasm.Options
	source   func(mem.VA) *show.Source // nil: source lines are off
}

// errMachine says which machines' code can be shown.
var errMachine = errors.New("only code of x64 and ARM64 can be shown")

// newReader gives a reader of virtual memory.
func newReader(ctx context.Context, s *cmd.Session) (*reader, error) {
	k := s.Kernel
	r := &reader{ctx: ctx, kernel: k, bytes: !stateOf(s).options[noCodeBytes]}
	switch k.Source.Machine {
	case model.MachineX64:
	case model.MachineARM64:
		r.arm = true
	default:
		return nil, fmt.Errorf("machine type %#x: %w", k.Source.Machine, errMachine)
	}
	r.read = func(p []byte, at uint64) (int, error) { return s.ReadVirtual(p, mem.VA(at)) }
	r.options.Symbol = show.CodeName(ctx, k)
	r.source = show.Sources(ctx, s)
	return r, nil
}

// newPhysicalReader gives a reader of physical memory, where nothing has a name.
func newPhysicalReader(ctx context.Context, s *cmd.Session) (*reader, error) {
	r, err := newReader(ctx, s)
	if err != nil {
		return nil, err
	}
	p := s.Space().Physical()
	if p == nil {
		return nil, errors.New("this dump holds blocks of virtual memory, no physical memory")
	}
	r.physical, r.options.Symbol, r.source = true, nil, nil
	r.read = func(b []byte, at uint64) (int, error) { return p.ReadPhysical(b, mem.PA(at)) }
	return r, nil
}

// decode reads and decodes the instruction at an address. The error says that
// its bytes can't be read.
func (r *reader) decode(at uint64) (disasm.Inst, error) {
	var b [disasm.MaxLen]byte
	n, err := r.read(b[:], at)
	switch {
	case n == 0 && err == nil:
		err = mem.ErrNotPresent
		fallthrough
	case n == 0:
		return disasm.Inst{}, err
	}
	one := disasm.One
	if r.arm {
		one = disasm.OneARM64
	}
	inst, short := one(b[:n], at, r.options)
	if short != nil && err != nil { // the rest of it can't be read
		return inst, err
	}
	return inst, nil
}

// name gives the name of an address; the zero Name for physical ones.
func (r *reader) name(at uint64) model.Name {
	if r.physical {
		return model.Name{}
	}
	return r.kernel.NameOf(r.ctx, mem.VA(at)).Plain()
}
