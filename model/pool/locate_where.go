package pool

import (
	"fmt"

	"gokd/model/mem"
	"gokd/model/unwind"
)

// whereLow names the addresses below the kernel's.
func whereLow(at mem.VA) string {
	if at < 1<<47 {
		return "it is an address of a process, not of the kernel"
	}
	return "it is no canonical address"
}

// whereIs tells what an address that is in no pool belongs to, as far as that is
// known without a walk: an image, a processor's block, a stack that is in use,
// the page tables.
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
	if i, ok := p.k.Space.SelfMap(); ok && int(at>>39&0x1ff) == i {
		return "it lies in the page tables"
	}
	if p.k.Types == nil || p.k.Degraded {
		return ""
	}
	for _, st := range unwind.ProcessorStacks(p.k) {
		if at >= st.Limit && at < st.Base {
			return fmt.Sprintf("it lies in the %s stack of processor %d", st.Kind, st.Processor)
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
