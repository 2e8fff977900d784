package pool

import (
	"fmt"

	"gokd/model/mem"
)

// whereLow names the addresses below the kernel's.
func whereLow(at mem.VA) string {
	if at < 1<<47 {
		return "it is an address of a process, not of the kernel"
	}
	return "it is no canonical address"
}

// whereIs tells what an address that is in no pool belongs to, as far as that is
// known without a walk: an image, a processor's block or stack, the ranges of
// the pools.
func (p *Pool) whereIs(at mem.VA) string {
	if m, ok := p.k.Modules.At(at); ok {
		return fmt.Sprintf("it lies in the image %s, from %#x", m.Image, uint64(m.Base))
	}
	for _, c := range p.k.Processors {
		if size := p.sizeOf("_KPRCB"); c.PRCB != 0 && at >= c.PRCB && uint64(at-c.PRCB) < size {
			return fmt.Sprintf("it lies in the block of processor %d (_KPRCB)", c.Number)
		}
		if c.CurrentThread != 0 && p.onStack(c.CurrentThread, at) {
			return fmt.Sprintf("it lies in the kernel stack of thread %#x, which runs on processor %d", uint64(c.CurrentThread), c.Number)
		}
	}
	return ""
}

func (p *Pool) sizeOf(name string) uint64 {
	if p.k.Types == nil {
		return 0
	}
	t, err := p.k.Types.Type(name)
	if err != nil {
		return 0
	}
	return uint64(t.Size)
}

func (p *Pool) onStack(thread, at mem.VA) bool {
	o := p.k.Object("_KTHREAD", thread)
	limit, err1 := o.Field("StackLimit").Pointer()
	base, err2 := o.Field("StackBase").Pointer()
	return err1 == nil && err2 == nil && at >= limit && at < base
}
