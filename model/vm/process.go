package vm

import (
	"context"
	"iter"

	"gokd/model"
	"gokd/model/mem"
	"gokd/model/process"
)

// ProcessCommit is what a process takes of the commit limit, in pages.
type ProcessCommit struct {
	Address   mem.VA
	PID       uint64
	Image     string
	Private   uint64 // _EPROCESS.CommitCharge
	Shared    uint64 // SharedCommitCharge: sections with the page file behind them
	Debt      uint64 // ReleasedCommitDebt of its working set
	HasShared bool   // the build keeps Shared and Debt (from Windows 10 on)
	Gaps      model.Gaps
}

// Processes yields what each process takes, in order of the list of processes,
// with the errors of that walk.
func Processes(ctx context.Context, k *model.Kernel) iter.Seq2[ProcessCommit, error] {
	return func(yield func(ProcessCommit, error) bool) {
		for p, err := range process.All(ctx, k) {
			if err != nil {
				if !yield(ProcessCommit{}, err) {
					return
				}
				continue
			}
			if !yield(readCommit(k, p), nil) {
				return
			}
		}
	}
}

func readCommit(k *model.Kernel, p process.Process) ProcessCommit {
	c := ProcessCommit{Address: p.Address, PID: p.PID, Image: p.Image}
	c.Gaps.Set("pid", p.Gaps["pid"])
	c.Gaps.Set("image", p.Gaps["image"])
	o := k.Object("_EPROCESS", p.Address)
	c.Private = c.Gaps.Uint("private", o.Field("CommitCharge"))
	if !o.Has("SharedCommitCharge") {
		return c
	}
	c.HasShared = true
	c.Shared = c.Gaps.Uint("shared", o.Field("SharedCommitCharge"))
	c.Debt = c.Gaps.Uint("debt", o.Field("Vm.Shared.ReleasedCommitDebt"))
	return c
}

// SessionUse is what a logon session takes, in pages.
type SessionUse struct {
	ID        uint32
	At        mem.VA // its _MM_SESSION_SPACE
	Paged     uint64 // paged pool
	NonPaged  uint64 // pages that cannot be paged out
	Committed uint64
	Gaps      model.Gaps
}

// SessionAt reads what a session takes from its structure, which may be mapped
// in its own address space only.
func SessionAt(k *model.Kernel, space *mem.Space, id uint32, at mem.VA) SessionUse {
	s := SessionUse{ID: id, At: at}
	o := k.ObjectIn(space, "_MM_SESSION_SPACE", at)
	s.Paged = s.Gaps.Uint("paged", o.Field("PagedPoolInfo.AllocatedPagedPool"))
	s.NonPaged = s.Gaps.Uint("nonpaged", o.Field("NonPagablePages"))
	s.Committed = s.Gaps.Uint("committed", o.Field("CommittedPages"))
	return s
}
