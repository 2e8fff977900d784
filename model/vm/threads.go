package vm

import (
	"context"
	"iter"
	"slices"
	"strings"

	"gokd/model"
	"gokd/model/mem"
	"gokd/model/thread"
)

// Worker is a thread of the memory manager.
type Worker struct {
	Thread mem.VA
	Name   string // the routine it runs, or the member that names it
}

// routines are where the threads of the memory manager start, by the names of
// the public symbol files.
var routines = []string{
	"MiModifiedPageWriter", "MiMappedPageWriter", "MiZeroPageThread", "MmZeroPageThread", "MiZeroLargePageThread",
	"MiDereferenceSegmentThread", "MiStoreEvictThread", "MiRebuildLargePagesThread", "KeBalanceSetManager", "KeSwapProcessOrStack",
}

// Workers finds the threads of the memory manager: by where they start, which
// needs the names of the kernel's functions, and by the members of structures
// that name some of them. Threads that can't be read are yielded as errors.
func Workers(ctx context.Context, k *model.Kernel) iter.Seq2[Worker, error] {
	return func(yield func(Worker, error) bool) {
		named := namedWorkers(k)
		for at, err := range thread.Addresses(ctx, k) {
			if err != nil {
				if !yield(Worker{}, err) {
					return
				}
				continue
			}
			name, ok := named[at]
			if start, err := k.Object("_ETHREAD", at).Field("StartAddress").Pointer(); err == nil && start>>47 != 0 {
				if n := k.NameOf(ctx, start).Plain(); n.Offset == 0 && slices.Contains(routines, n.Function) {
					name, ok = n.String(), true
				}
			}
			if ok && !yield(Worker{at, name}, nil) {
				return
			}
		}
	}
}

// namedWorkers gives the threads that a member or a variable names.
func namedWorkers(k *model.Kernel) map[mem.VA]string {
	named := map[mem.VA]string{}
	for _, v := range []string{"MiModifiedPageWriterThread", "MiWorkingSetThread"} {
		if at, err := k.GlobalPointer(v); err == nil && at != 0 {
			named[at] = "nt!" + v
		}
	}
	if o, ok := newRoots(k).objects[inPartition]; ok {
		for _, f := range []string{"Modwriter.ModifiedPageWriterThread", "Store.EvictionThread"} {
			if at, err := o.Field(f).Pointer(); err == nil && at != 0 {
				named[at] = "nt!" + inPartition + "." + f
			}
		}
	}
	return named
}

// Owner is a thread that holds locks of the memory manager.
type Owner struct {
	Thread mem.VA
	Owns   []string // members of _ETHREAD that say so: "OwnsProcessWorkingSetExclusive"
}

// WorkingSetBits reports whether threads tell of the working sets that they
// hold: up to Windows 8.1 they do, later ones tell of address spaces only.
func WorkingSetBits(k *model.Kernel) bool {
	for _, f := range ownerFields(k) {
		if strings.Contains(f, "WorkingSet") {
			return true
		}
	}
	return false
}

// ownerFields lists the bits of _ETHREAD that tell of locks.
func ownerFields(k *model.Kernel) []string {
	if k.Types == nil {
		return nil
	}
	t, err := k.Types.Type("_ETHREAD")
	if err != nil {
		return nil
	}
	var list []string
	for _, f := range t.Fields {
		if f.BitLen == 1 && strings.HasPrefix(f.Name, "Owns") {
			list = append(list, f.Name)
		}
	}
	return list
}

// Owners finds the threads that hold locks of the memory manager: working sets,
// address spaces and what else the bits of _ETHREAD tell of. Threads that can't
// be read are yielded as errors.
func Owners(ctx context.Context, k *model.Kernel) iter.Seq2[Owner, error] {
	return func(yield func(Owner, error) bool) {
		fields := ownerFields(k)
		for at, err := range thread.Addresses(ctx, k) {
			o := Owner{Thread: at}
			e := k.Object("_ETHREAD", at)
			for _, f := range fields {
				var v uint64
				if err == nil {
					v, err = e.Field(f).Uint()
				}
				if err == nil && v == 1 {
					o.Owns = append(o.Owns, f)
				}
			}
			if err == nil && len(o.Owns) == 0 {
				continue
			}
			if err != nil {
				o = Owner{}
			}
			if !yield(o, err) {
				return
			}
		}
	}
}

// StackUse is what the kernel stacks of the threads on the lists take.
type StackUse struct {
	Threads uint64 // whose stacks are counted
	Pages   uint64
	Unread  uint64 // threads, or lists of threads, that can't be read
}

// maxStack is far above the largest kernel stack, in bytes: a thread whose bounds
// are farther apart is no thread.
const maxStack = 1 << 20

// Stacks adds up the kernel stacks of the threads, by the bounds that
// _KTHREAD.StackBase and StackLimit tell. Stacks that a thread left for a larger
// one and those of ended threads are not in it, so that it is less than what the
// kernel counts.
func Stacks(ctx context.Context, k *model.Kernel) (StackUse, error) {
	var use StackUse
	for at, err := range thread.Addresses(ctx, k) {
		if ctx.Err() != nil {
			return use, ctx.Err()
		}
		o := k.Object("_KTHREAD", at)
		base, err1 := o.Field("StackBase").Uint()
		limit, err2 := o.Field("StackLimit").Uint()
		if err != nil || err1 != nil || err2 != nil || base < limit || base-limit > maxStack {
			use.Unread++
			continue
		}
		use.Threads++
		use.Pages += (base - limit) / mem.PageSize
	}
	return use, ctx.Err()
}
