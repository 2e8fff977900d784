package vm

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"gokd/model"
	"gokd/model/mem"
	"gokd/model/pool"
	"gokd/model/pool/heap"
)

// cachedCommit adds up the commitment that each processor keeps in reserve,
// _KPRCB.CachedCommit.
func (m *Memory) cachedCommit(k *model.Kernel) {
	var sum uint64
	if len(k.Processors) == 0 {
		m.set(ProcessorCommit, 0, "", errors.New("the processors' control blocks were not found in the dump"))
		return
	}
	for _, p := range k.Processors {
		v, err := k.Object("_KPRCB", p.PRCB).Field("CachedCommit").Uint()
		if err != nil {
			m.set(ProcessorCommit, 0, "", fmt.Errorf("processor %d: %w", p.Number, err))
			return
		}
		sum += v
	}
	m.set(ProcessorCommit, sum, "_KPRCB.CachedCommit", nil)
}

// partitionPages counts the memory that was given to partitions other than the
// system's: one number, from build 20348 on one per NUMA node.
func (m *Memory) partitionPages(r *roots) {
	o, ok := r.objects[inSystem]
	if !ok {
		if err := r.errs[inSystem]; err != nil {
			m.set(PartitionPages, 0, "", err)
		}
		return
	}
	part := o.Field("Partitions")
	if part.Has("TotalPagesInChildPartitions") {
		v, err := part.Field("TotalPagesInChildPartitions").Uint()
		m.set(PartitionPages, v, "nt!MiState.Partitions.TotalPagesInChildPartitions", err)
		return
	}
	const field = "TotalNodePagesInChildPartitions"
	nodes := part.Field(field)
	if err := nodes.Err(); err != nil {
		if !notFound(err) {
			m.set(PartitionPages, 0, "", err)
		}
		return
	}
	var sum uint64
	for i := range min(nodes.Type().Count, maxNodes) {
		v, err := nodes.Index(i).Uint()
		if err != nil {
			m.set(PartitionPages, 0, "", err)
			return
		}
		sum += v
	}
	m.set(PartitionPages, sum, "nt!MiState.Partitions."+field, nil)
}

// maxNodes is more NUMA nodes than Windows supports.
const maxNodes = 64

// Types of pools as _POOL_DESCRIPTOR and the documentation of POOL_TYPE number
// them: nonpaged pool, and from Windows 8 on nonpaged pool without execution.
const (
	typeNonPaged   = 0
	typeNonPagedNx = 0x200
)

// poolUsage tells executable nonpaged pool from the rest, and lists the paged
// pools of page pools. On kernels that have the two pools nt!MiState counts
// them together.
func (m *Memory) poolUsage(ctx context.Context, k *model.Kernel) {
	p, err := pool.Open(k)
	if err != nil {
		return
	}
	split := hasNx(k)
	m.Together = split && m.counters[NonPagedUsage].Known()
	if !p.PagePool() {
		m.heapUsage(ctx, k)
		return
	}
	m.descriptorUsage(ctx, p, split)
}

// hasNx reports whether a kernel has nonpaged pool without execution: its
// processors keep lists for it.
func hasNx(k *model.Kernel) bool {
	return k.Object("_KPRCB", 0).Has("PPNxPagedLookasideList")
}

// descriptorUsage takes the pages of each page pool from its descriptor. One
// that can't be read makes every sum of its pool too small: none is told then.
func (m *Memory) descriptorUsage(ctx context.Context, p *pool.Pool, split bool) {
	var pages [2]int64
	seen, lost := false, map[pool.Kind]bool{}
	for d, err := range p.Descriptors(ctx) {
		switch {
		case errors.Is(err, pool.ErrSessionData), d.Kind == pool.Session:
			// Those of sessions are not asked for.
		case err != nil && d.Kind == pool.Paged && strings.HasPrefix(d.From, "nt!PoolVector"):
			// ExpPagedPoolDescriptor names every paged pool, this one too.
		case err != nil && d.From == "":
			lost[pool.Nonpaged], lost[pool.Paged] = true, true
		case err != nil || d.Pages < 0 || d.BigPages < 0:
			lost[d.Kind] = true
		case d.Kind == pool.Paged:
			m.PagedPools = append(m.PagedPools, Counter{Name: fmt.Sprint(d.Index), Pages: uint64(d.Pages + d.BigPages), From: d.From})
		case d.Kind == pool.Nonpaged && d.Type == typeNonPaged:
			pages[0] += d.Pages + d.BigPages
			seen = split
		case d.Kind == pool.Nonpaged && d.Type == typeNonPagedNx:
			pages[1] += d.Pages + d.BigPages
			seen = split
		}
	}
	if lost[pool.Paged] {
		m.PagedPools = nil
	}
	if seen && !lost[pool.Nonpaged] && pages[0]+pages[1] > 0 {
		m.setSplit(uint64(pages[0]), uint64(pages[1]), "_POOL_DESCRIPTOR")
	}
	m.sumPaged()
}

// sumPaged takes the use of paged pool from its descriptors where the kernel's
// own sum is not known: a public output of Windows 7 shows that they are equal.
func (m *Memory) sumPaged() {
	if m.counters[PagedUsage].Known() || len(m.PagedPools) == 0 {
		return
	}
	var sum uint64
	for _, c := range m.PagedPools {
		sum += c.Pages
	}
	m.set(PagedUsage, sum, "_POOL_DESCRIPTOR", nil)
}

// heapUsage takes the committed pages of each heap of the pools, those of large
// allocations included.
func (m *Memory) heapUsage(ctx context.Context, k *model.Kernel) {
	heaps, err := heap.Open(ctx, k)
	if err != nil || len(heaps.Trouble) > 0 {
		return
	}
	var pages [2]uint64
	for _, h := range heaps.List {
		if h.Role != heap.Nonpaged && h.Role != heap.NonpagedNx {
			continue
		}
		o := k.Object("_SEGMENT_HEAP", h.At)
		small, err1 := o.Field("MemStats.TotalCommittedPages").Uint()
		large, err2 := o.Field("LargeCommittedPages").Uint()
		if err1 != nil || err2 != nil || small > maxPages || large > maxPages {
			return
		}
		pages[h.Role] += small + large
	}
	if pages[0]+pages[1] > 0 {
		m.setSplit(pages[0], pages[1], "_SEGMENT_HEAP.MemStats")
	}
}

// maxPages is more memory than x64 can address, in pages.
const maxPages = 1 << 40

func (m *Memory) setSplit(executable, nx uint64, from string) {
	m.Together = false
	m.set(NonPagedUsage, executable, from, nil)
	m.set(NonPagedNxUsage, nx, from, nil)
}

// failures counts refused requests: arrays of 32-bit numbers by reason, and the
// counts of the ranges of system page table entries.
func (m *Memory) failures(r *roots) {
	f := &m.Failures
	get := func(name string, into *uint64, v uint64, err error) {
		if err != nil {
			f.Err[name] = err
			return
		}
		*into = v
	}
	v, err := r.ptes("SystemPteInfo", inVisible, "MiSystemPteInfo")
	get("system_pte_failures", &f.SystemPTEs, v, err)
	v, err = r.ptes("SystemPtes.KernelStackPteInfo", inSystem, "MiKernelStackPteInfo")
	get("kernel_stack_pte_failures", &f.KernelStackPTEs, v, err)
	v, err = r.sum(inSystem, "Pools.PoolFailures", "MmPoolFailures", 9)
	get("pool_failures", &f.Pool, v, err)
	v, err = r.sum(inPartition, "Vp.ChargeCommitmentFailures", "MiChargeCommitmentFailures", 4)
	get("commit_failures", &f.Commit, v, err)
}

// ptes reads how many requests for system page table entries were refused.
func (r *roots) ptes(path, root, name string) (uint64, error) {
	c := r.find(place{
		name: path, members: []member{{root, path + ".PteFailures"}}, vars: []variable{{name: name, typ: "_MI_SYSTEM_PTE_TYPE", path: "PteFailures"}},
	})
	return c.Pages, c.Err
}

// sum adds up n 32-bit numbers, of a member or of a variable.
func (r *roots) sum(root, path, name string, n int) (uint64, error) {
	if o, ok := r.objects[root]; ok {
		f := o.Field(path)
		if notFound(f.Err()) {
			return 0, ErrNotKept
		}
		if f.Err() != nil {
			return 0, f.Err()
		}
		return r.array(f.Addr(), min(n, int(f.Type().Size/4)))
	}
	at, err := r.k.Global(name)
	if err != nil {
		if r.resolvable[root] {
			err = r.errs[root]
		}
		return 0, err
	}
	v, err := r.array(at, n)
	return v, wrap(name, err)
}

// Pages gives the bytes of pages.
func Pages(n uint64) uint64 { return n * mem.PageSize }
