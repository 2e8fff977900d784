package pool

import (
	"context"
	"errors"

	"gokd/model"
	"gokd/model/mem"
)

func asGlobal(err error, to **model.GlobalError) bool { return errors.As(err, to) }

// knownObjects gives addresses that are certainly in a pool of the kind, the
// lowest and the highest in each unit of 512 GB: large allocations of that
// pool; for nonpaged pool the tables of the pool itself, processes and running
// threads; for paged pool handle tables and tokens. What can't be read is left
// out.
func (p *Pool) knownObjects(ctx context.Context, kind Kind) ([]mem.VA, error) {
	ends := unitEnds{}
	add := func(at mem.VA) {
		if kernelAddress(at) && !p.inImage(at) { // the first process is a variable of the kernel
			ends.add(at)
		}
	}
	if t, err := p.bigPages(ctx); err == nil {
		for _, b := range t.blocks {
			if b.Kind == kind {
				add(b.Body)
			}
		}
		if kind == Nonpaged {
			add(t.start)
		}
	}
	if kind == Nonpaged {
		if at, err := p.k.GlobalPointer("PoolTrackTable"); err == nil {
			add(at)
		}
		for _, c := range p.k.Processors {
			// Idle threads are no pool: the first lies in the kernel image, the
			// others beside their processor's block.
			if c.CurrentThread != c.IdleThread {
				add(c.CurrentThread)
			}
		}
	}
	for at := range p.processObjects(ctx, kind) {
		add(at)
	}
	return ends.list(), ctx.Err()
}

// inImage reports whether an address lies in a loaded image.
func (p *Pool) inImage(at mem.VA) bool {
	_, ok := p.k.Modules.At(at)
	return ok
}

// processObjects yields the processes, or their handle tables and tokens.
func (p *Pool) processObjects(ctx context.Context, kind Kind) func(func(mem.VA) bool) {
	return func(yield func(mem.VA) bool) {
		head, err := p.k.Global("PsActiveProcessHead")
		if err != nil {
			return
		}
		for o, err := range p.k.List(ctx, head, "_EPROCESS", "ActiveProcessLinks", model.MaxProcesses) {
			if err != nil {
				return
			}
			if kind == Nonpaged {
				if !yield(o.Addr()) {
					return
				}
				continue
			}
			if at, err := o.Field("ObjectTable").Pointer(); err == nil && !yield(at) {
				return
			}
			// _EX_FAST_REF keeps a count in the low four bits.
			if ref, err := o.Field("Token.Value").Uint(); err == nil && !yield(mem.VA(ref&^0xf)) {
				return
			}
		}
	}
}
