package pool

import (
	"context"
	"fmt"

	"gokd/model"
	"gokd/model/mem"
)

// session is one logon session with memory of its own.
type session struct {
	id    uint32
	at    mem.VA // its _MM_SESSION_SPACE
	space *mem.Space
}

// maxSessions bounds the sessions that are looked into: each takes an address
// space of its own.
const maxSessions = 512

// sessions finds the sessions through their processes: _EPROCESS.Session is
// the address of the session's structure, the same in all of its processes and
// mapped only in their page tables.
func (p *Pool) sessions(ctx context.Context) ([]session, error) {
	head, err := p.k.Global("PsActiveProcessHead")
	if err != nil {
		return nil, err
	}
	var list []session
	seen := map[uint32]bool{}
	for o, err := range p.k.List(ctx, head, "_EPROCESS", "ActiveProcessLinks", model.MaxProcesses) {
		if err != nil {
			return list, err
		}
		if len(list) == maxSessions {
			return list, fmt.Errorf("more than %d sessions: %w", maxSessions, ErrLimit)
		}
		at, err := o.Field("Session").Pointer()
		dtb, err2 := o.Field("Pcb.DirectoryTableBase").Uint()
		if err != nil || err2 != nil || at == 0 || dtb&^0xfff == 0 {
			continue
		}
		s := session{at: at, space: p.k.Space.WithRoot(mem.PA(dtb))}
		id, err := p.k.ObjectIn(s.space, "_MM_SESSION_SPACE", at).Field("SessionId").Uint()
		if err == nil && !seen[uint32(id)] {
			s.id = uint32(id)
			seen[s.id] = true
			list = append(list, s)
		}
	}
	return list, ctx.Err()
}

// sessionRanges gives the paged pool of every session whose structure is in
// the dump.
func (p *Pool) sessionRanges(ctx context.Context) ([]Range, error) {
	all, err := p.sessions(ctx)
	if err != nil {
		return nil, err
	}
	var list []Range
	for _, s := range all {
		o := p.k.ObjectIn(s.space, "_MM_SESSION_SPACE", s.at)
		start, err1 := o.Field("PagedPoolStart").Pointer()
		end, err2 := o.Field("PagedPoolEnd").Pointer()
		if err1 != nil || err2 != nil || !kernelAddress(start) || end <= start {
			continue
		}
		r := Range{Kind: Session, Start: start, Last: end | (mem.PageSize - 1), Session: s.id, From: "_MM_SESSION_SPACE", space: s.space}
		table, err1 := o.Field("PoolTrackBigPages").Pointer()
		count, err2 := o.Field("PoolTrackBigPagesSize").Uint()
		if err1 == nil && err2 == nil && count <= maxBigPages {
			if r.big, err = p.readBigTable(ctx, s.space, table, count); err != nil {
				return nil, err
			}
			for i := range r.big.blocks {
				r.big.blocks[i].Kind = Session
			}
		}
		list = append(list, r)
	}
	if len(list) == 0 {
		return nil, &MissingError{"session pool", fmt.Errorf("none of the machine's sessions is in it")}
	}
	return list, nil
}

// SessionUsages yields the use of session pool by tag, summed over the sessions
// whose memory is in the dump, with the errors of Usages. The tables are
// nt!ExpSessionPoolTrackTable, an address inside each session's own memory, and
// the expansion that _MM_SESSION_SPACE names.
func (p *Pool) SessionUsages(ctx context.Context) func(func(Usage, error) bool) {
	return func(yield func(Usage, error) bool) {
		all, err := p.sessions(ctx)
		if err == nil && len(all) == 0 {
			err = &MissingError{"session pool tracker table", fmt.Errorf("none of the machine's sessions is in it")}
		}
		if err != nil {
			yield(Usage{}, err)
			return
		}
		total := map[Tag]Usage{}
		for _, s := range all {
			for u, err := range p.usages(ctx, func() ([]trackerTable, error) { return p.sessionTables(s) }, s.space) {
				if err != nil {
					if !yield(Usage{}, fmt.Errorf("session %d: %w", s.id, err)) {
						return
					}
					continue
				}
				total[u.Tag] = u.plus(total[u.Tag])
			}
		}
		for _, u := range sorted(total) {
			if !yield(u, nil) {
				return
			}
		}
	}
}

func (p *Pool) sessionTables(s session) ([]trackerTable, error) {
	const what = "session pool tracker table"
	first, err := p.tableVariable(what, "ExpSessionPoolTrackTable")
	if err != nil {
		return nil, err
	}
	list := []trackerTable{first}
	o := p.k.ObjectIn(s.space, "_MM_SESSION_SPACE", s.at)
	extra, err1 := o.Field("PoolTrackTableExpansion").Pointer()
	more, err2 := o.Field("PoolTrackTableExpansionSize").Uint()
	if err1 == nil && err2 == nil && extra != 0 && more <= maxTrackers {
		list = append(list, trackerTable{extra, more})
	}
	return list, nil
}
