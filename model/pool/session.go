package pool

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"

	"gokd/model"
	"gokd/model/mem"
)

// ErrSessionData says that a dump holds no memory of sessions, in the words of
// the kernel debugger: their structures are mapped in the address spaces of
// their processes, which such dumps leave out.
var ErrSessionData = errors.New("session data is not present in mini and kernel-only dumps")

// SessionInfo is one logon session.
type SessionInfo struct {
	ID        uint32
	At        mem.VA   // its _MM_SESSION_SPACE
	Processes []mem.VA // its processes (_EPROCESS), as the list of processes has them
	Space     *mem.Space
	PoolStart mem.VA // its paged pool; 0 where its structure does not say
	PoolLast  mem.VA // the last byte of it
}

// session is what the walks keep of a session.
type session struct {
	id        uint32
	at        mem.VA // its _MM_SESSION_SPACE
	space     *mem.Space
	processes []mem.VA
}

// maxSessions bounds the sessions that are looked into: each takes an address
// space of its own.
const maxSessions = 512

// dumpsWithoutSessions are the types of dumps that leave process and session
// memory out (DUMP_HEADER64.DumpType): kernel, triage, and kernel by bitmap,
// automatic and kernel by ranges.
var dumpsWithoutSessions = []uint32{2, 4, 6, 7, 8}

// noSessions is why nothing is known of sessions.
func (p *Pool) noSessions(what string) error {
	if p.k.Triage() || slices.Contains(dumpsWithoutSessions, p.k.Source.Crash.DumpType) {
		return &MissingError{what, ErrSessionData}
	}
	return &MissingError{what, errors.New("none of the machine's sessions is in it")}
}

// Sessions lists the logon sessions whose structure is in the dump, by number.
// An error beside a list tells what the list lacks; without one it tells why
// there is none: a *MissingError of ErrSessionData for dumps that never hold
// sessions.
func (p *Pool) Sessions(ctx context.Context) ([]SessionInfo, error) {
	all, err := p.sessions(ctx)
	if ctx.Err() != nil {
		return nil, ctx.Err()
	}
	list := make([]SessionInfo, 0, len(all))
	for _, s := range all {
		i := SessionInfo{ID: s.id, At: s.at, Processes: s.processes, Space: s.space}
		if start, last, err := p.sessionPool(s); err == nil {
			i.PoolStart, i.PoolLast = start, last
		}
		list = append(list, i)
	}
	if len(list) == 0 && err == nil {
		err = p.noSessions("memory of sessions")
	}
	return list, err
}

// sessionFinder gathers sessions from processes.
type sessionFinder struct {
	p    *Pool
	list []session
	// Processes of one session have the same top-level entry for its structure,
	// so that only the first of them is asked who it is.
	known  map[sessionKey]int // into list; -1: its structure can't be read
	lost   int                // structures that can't be read
	reason error              // of the first of them
	full   bool
}

// sessionKey is where a structure lies: the address, and what maps it.
type sessionKey struct {
	at    mem.VA
	entry uint64
}

// sessionSet is the sessions of a machine, once found.
type sessionSet struct {
	list []session
	err  error // what the list lacks
}

// sessions gives the sessions, which are looked for once. A list that comes with
// an error lacks what the error tells. The slice is the caller's.
func (p *Pool) sessions(ctx context.Context) ([]session, error) {
	p.mu.Lock()
	known := p.sess
	p.mu.Unlock()
	if known == nil {
		known = &sessionSet{}
		known.list, known.err = p.findSessions(ctx)
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
		p.mu.Lock()
		p.sess = known
		p.mu.Unlock()
	}
	return slices.Clone(known.list), known.err
}

// findSessions finds the sessions through their processes: _EPROCESS.Session is
// the address of the session's structure. Up to Windows 7 that is an address of
// system space; from 8 on it is mapped in the session's processes only.
func (p *Pool) findSessions(ctx context.Context) ([]session, error) {
	if p.k.Triage() {
		return nil, p.noSessions("memory of sessions")
	}
	if _, err := p.k.Types.Type("_MM_SESSION_SPACE"); err != nil {
		return nil, fmt.Errorf("sessions of build %d: %w", p.k.Build, err)
	}
	head, err := p.k.Global("PsActiveProcessHead")
	if err != nil {
		return nil, err
	}
	f := &sessionFinder{p: p, known: map[sessionKey]int{}}
	var failed error
	for o, err := range p.k.List(ctx, head, "_EPROCESS", "ActiveProcessLinks", model.MaxProcesses) {
		if err != nil {
			failed = err
			break
		}
		f.process(o)
	}
	if ctx.Err() != nil {
		return nil, ctx.Err()
	}
	slices.SortStableFunc(f.list, func(a, b session) int { return int(int64(a.id) - int64(b.id)) })
	switch {
	case failed != nil:
		return f.list, failed
	case f.full:
		return f.list, fmt.Errorf("more than %d sessions: %w", maxSessions, ErrLimit)
	case f.lost > 0 && len(f.list) == 0:
		return nil, p.noSessions("memory of sessions")
	case f.lost > 0:
		return f.list, fmt.Errorf("%d structures of sessions cannot be read: %w", f.lost, f.reason)
	}
	return f.list, nil
}

// process adds a process to its session.
func (f *sessionFinder) process(o model.Object) {
	at, err := o.Field("Session").Pointer()
	dtb, err2 := o.Field("Pcb.DirectoryTableBase").Uint()
	if err != nil || err2 != nil || at == 0 || dtb&^0xfff == 0 {
		return
	}
	root := mem.PA(dtb &^ 0xfff)
	key := sessionKey{at, f.p.topEntry(root, at)}
	if i, ok := f.known[key]; ok {
		if i >= 0 {
			f.list[i].processes = append(f.list[i].processes, o.Addr())
		}
		return
	}
	if len(f.known) >= 2*maxSessions {
		f.full = true
		return
	}
	f.known[key] = -1
	s := session{at: at, space: f.p.k.Space.WithRoot(root), processes: []mem.VA{o.Addr()}}
	id, err := f.p.k.ObjectIn(s.space, "_MM_SESSION_SPACE", at).Field("SessionId").Uint()
	if err == nil && !kernelAddress(at) {
		err = fmt.Errorf("%#x is no address of system space", uint64(at))
	}
	if err != nil {
		f.lost++
		if f.reason == nil {
			f.reason = err
		}
		return
	}
	s.id = uint32(id)
	if i := slices.IndexFunc(f.list, func(t session) bool { return t.id == s.id }); i >= 0 {
		f.list[i].processes = append(f.list[i].processes, o.Addr())
		f.known[key] = i
		return
	}
	if len(f.list) == maxSessions {
		f.full = true
		return
	}
	f.known[key] = len(f.list)
	f.list = append(f.list, s)
}

// topEntry gives the entry of a top page table that maps an address; 0 where it
// can't be read.
func (p *Pool) topEntry(root mem.PA, at mem.VA) uint64 {
	var b [8]byte
	phys := p.k.Space.Physical()
	if phys == nil {
		return 0
	}
	if _, err := phys.ReadPhysical(b[:], root+mem.PA(at>>39&0x1ff)*8); err != nil {
		return 0
	}
	return binary.LittleEndian.Uint64(b[:])
}

// sessionPool gives where a session's paged pool lies.
func (p *Pool) sessionPool(s session) (start, last mem.VA, err error) {
	o := p.k.ObjectIn(s.space, "_MM_SESSION_SPACE", s.at)
	if start, err = o.Field("PagedPoolStart").Pointer(); err != nil {
		return 0, 0, err
	}
	if last, err = o.Field("PagedPoolEnd").Pointer(); err != nil {
		return 0, 0, err
	}
	if !kernelAddress(start) || last <= start || last-start > 1<<46 {
		return start, last, fmt.Errorf("_MM_SESSION_SPACE of session %d at %#x: paged pool from %#x to %#x is none",
			s.id, uint64(s.at), uint64(start), uint64(last))
	}
	return start, last | (mem.PageSize - 1), nil
}

// sessionRanges gives the paged pool of every session whose structure is in
// the dump, with the table of its large allocations.
func (p *Pool) sessionRanges(ctx context.Context) ([]Range, error) {
	const what = "session pool"
	all, err := p.sessions(ctx)
	if ctx.Err() != nil || err != nil && len(all) == 0 {
		return nil, err
	}
	var list []Range
	why := p.noSessions(what)
	// All tables together are bounded: page tables can show one table in every
	// session.
	entries, kept := uint64(maxBigPages), maxKept
	for _, s := range all {
		start, last, err := p.sessionPool(s)
		if err != nil {
			if start != 0 || last != 0 {
				why = err // it is more than a structure that was never filled
			}
			continue
		}
		r := Range{Kind: Session, Start: start, Last: last, Session: s.id, From: "_MM_SESSION_SPACE", space: s.space}
		if r.big, err = p.sessionBigTable(ctx, s, &entries, &kept); err != nil {
			return nil, err
		}
		list = append(list, r)
	}
	if len(list) == 0 {
		return nil, why
	}
	return list, nil
}

// sessionBigTable reads a session's table of large allocations; nil where the
// session has none. entries and kept are what may still be read and kept. The
// error is ctx's.
func (p *Pool) sessionBigTable(ctx context.Context, s session, entries *uint64, kept *int) (*bigTable, error) {
	o := p.k.ObjectIn(s.space, "_MM_SESSION_SPACE", s.at)
	at, err1 := o.Field("PoolTrackBigPages").Pointer()
	count, err2 := o.Field("PoolTrackBigPagesSize").Uint()
	if err1 != nil || err2 != nil || at == 0 || count == 0 || count > maxBigPages {
		return nil, nil
	}
	over := count > *entries
	if over {
		count = *entries
	}
	*entries -= count
	t, err := p.readBigTableUpTo(ctx, s.space, at, count, *kept)
	if err != nil {
		return nil, err
	}
	*kept -= len(t.blocks)
	for i := range t.blocks {
		t.blocks[i].Kind = Session
	}
	if over && t.partial == nil {
		t.partial = &PartError{What: "table of large allocations", At: at, Entries: 1, Err: ErrLimit}
	}
	return t, nil
}

// sessionNonpaged gives the machine's table of large allocations where some of
// them are of sessions: their nonpaged pool is that of the machine, and nothing
// says which session an allocation belongs to. nil where there are none.
func (p *Pool) sessionNonpaged(ctx context.Context) *bigTable {
	t, err := p.bigPages(ctx)
	if err != nil || !slices.ContainsFunc(t.blocks, func(b Block) bool { return b.Kind == Session }) {
		return nil
	}
	return t
}

// SessionUsages yields the use of session pool by tag, summed over the sessions
// whose memory is in the dump, with the errors of Usages. The tables are
// nt!ExpSessionPoolTrackTable, an address inside each session's own memory, and
// the expansion that _MM_SESSION_SPACE names.
func (p *Pool) SessionUsages(ctx context.Context) func(func(Usage, error) bool) {
	return func(yield func(Usage, error) bool) {
		t, err := p.SessionTrackers(ctx, nil)
		if err != nil {
			yield(Usage{}, err)
			return
		}
		for _, e := range t.Errs {
			if !yield(Usage{}, e) {
				return
			}
		}
		for _, u := range t.Rows {
			if !yield(u, nil) {
				return
			}
		}
	}
}

// sessionTables lists a session's tracker tables. The first lies at an address
// of session space that is the same for all of them: nt!ExpSessionPoolTrackTable
// names it up to 20348. _MM_SESSION_SPACE.PoolTags is that table from 14393 on,
// in 22000 a pointer to it.
func (p *Pool) sessionTables(s session) ([]trackerTable, error) {
	const what = "session pool tracker table"
	o := p.k.ObjectIn(s.space, "_MM_SESSION_SPACE", s.at)
	first, err := p.tableVariable(what, "ExpSessionPoolTrackTable")
	if err != nil {
		var known bool
		if first, known = p.poolTags(o); !known {
			return nil, err
		}
	}
	list := []trackerTable{first}
	extra, err1 := o.Field("PoolTrackTableExpansion").Pointer()
	more, err2 := o.Field("PoolTrackTableExpansionSize").Uint()
	if err1 == nil && err2 == nil && extra != 0 && more <= maxTrackers {
		list = append(list, trackerTable{extra, more})
	}
	return list, nil
}

// poolTags gives the tracker table inside a session's structure, or the one
// that the structure points to.
func (p *Pool) poolTags(o model.Object) (t trackerTable, ok bool) {
	tags := o.Field("PoolTags")
	count, err := p.countVariable("session pool tracker table", "ExpSessionPoolTrackTableSize", maxTrackers)
	if tags.Err() != nil || err != nil || count == 0 {
		return t, false
	}
	if room := uint64(tags.Type().Size); room > 8 {
		return trackerTable{tags.Addr(), min(count, room/p.layout.trackSize)}, true
	}
	at, err := tags.Pointer()
	return trackerTable{at, count}, err == nil && kernelAddress(at)
}
