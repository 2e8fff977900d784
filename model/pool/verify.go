package pool

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"gokd/model/mem"
	"gokd/model/pool/cell"
)

// Two sources tell how much of the pool a tag holds: the kernel's counters, and
// the blocks themselves. Verify holds one against the other. They agree in a
// dump that has everything; where they do not, what the dump lacks bounds by how
// much they may differ, and a difference beyond that is corruption, or a build
// that is read wrongly.

// Found is what was found of one tag in one pool.
type Found struct {
	Allocs, Bytes       int64 // small blocks in use, with their headers
	Large               int64 // large allocations
	LargeBytes          int64 // of these, as they were asked for
	LargePages          int64 // and rounded to pages, as the counters have them
	Cached, CachedBytes int64 // freed blocks that wait on lists of the pool: no counter has them
	Special             int64 // allocations in special pool, where it was asked; whether counters have them is not public
}

// All is the number of allocations that the counters should have.
func (f Found) All() int64 { return f.Allocs + f.Large }

// AllBytes is the bytes that the counters should have.
func (f Found) AllBytes() int64 { return f.Bytes + f.LargePages }

func (f *Found) add(g Found) {
	f.Allocs += g.Allocs
	f.Bytes += g.Bytes
	f.Large += g.Large
	f.LargeBytes += g.LargeBytes
	f.LargePages += g.LargePages
	f.Cached += g.Cached
	f.CachedBytes += g.CachedBytes
	f.Special += g.Special
}

// Verdict is the result of a comparison.
type Verdict uint8

// The verdicts. Within: what differs is no more than what is missing from the
// dump, or than what is known not to be counted.
const (
	Agrees Verdict = iota
	Within
	Differs
)

var verdictNames = [...]string{"agrees", "within", "differs"}

// String gives the verdict as records spell it.
func (v Verdict) String() string {
	if int(v) < len(verdictNames) {
		return verdictNames[v]
	}
	return "unknown"
}

// TagCheck is the comparison of one tag in one pool.
type TagCheck struct {
	Tag     Tag
	Kind    Kind
	Known   bool // a tracker table has a row of the tag
	Tracked Count
	Found   Found
	Allocs  int64 // counters less blocks
	Bytes   int64
	Verdict Verdict
	Reasons []Reason // that account for the difference, or may
}

// PoolCheck is what one pool has as a whole.
type PoolCheck struct {
	Kind     Kind
	Tracked  Count // of all tags
	Found    Found
	Summary  Summary // of the walk
	WalkErr  error   // why there was no walk of small blocks, or not of all
	LargeErr error   // why the large allocations are not known
	Lacking  int64   // bytes that counters have beyond the blocks, summed over such tags
}

// Verification is the comparison of a machine's pools, or of session pool.
type Verification struct {
	Trackers   *Trackers
	Pools      []PoolCheck
	Tags       []TagCheck // by tag, nonpaged before paged; rows of zeros are left out
	Agree      int        // tags and pools of each verdict
	Within     int
	Differ     int
	Processors int
}

// VerifyQuery says what is to be verified.
type VerifyQuery struct {
	Session bool    // session pool, and not the machine's
	ID      *uint32 // of this session alone
	// Progress is told now and then how many pages of a pool were read.
	Progress func(kind Kind, pages uint64)
}

// Verify holds the tracker tables against the walked blocks and the tables of
// large allocations. It fails where there are no counters at all, and with ctx's
// error; a pool that can't be walked is a result.
func (p *Pool) Verify(ctx context.Context, q VerifyQuery) (*Verification, error) {
	in := verifyInput{processors: max(int(p.k.Source.Processors), 1)}
	var err error
	kinds := []Kind{Nonpaged, Paged}
	if q.Session {
		kinds = []Kind{Session}
		in.trackers, err = p.SessionTrackers(ctx, q.ID)
	} else {
		in.trackers, err = p.Trackers(ctx)
		in.own = p.ownTables(ctx)
	}
	if err != nil {
		return nil, err
	}
	for _, kind := range kinds {
		a := &account{PoolCheck: PoolCheck{Kind: kind}, tags: map[Tag]*Found{}}
		var tell func(uint64)
		if q.Progress != nil {
			tell = func(n uint64) { q.Progress(kind, n) }
		}
		if q.Session {
			p.accountSession(ctx, a, q.ID, tell)
		} else {
			p.accountPool(ctx, a, tell)
		}
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
		in.pools = append(in.pools, a)
	}
	in.lists = p.listsLost.Load()
	if h, err := p.heaps(ctx); err == nil && !p.PagePool() {
		in.lists += h.ListsLost
	}
	v := in.compare()
	if !q.Session && v.lacks() && p.accountSpecial(ctx, in.pools) {
		v = in.compare()
	}
	return v, ctx.Err()
}

// lacks reports whether counters have more than was found, of a tag at least.
func (v *Verification) lacks() bool {
	return slices.ContainsFunc(v.Tags, func(c TagCheck) bool { return c.Allocs > 0 })
}

// accountSpecial counts the allocations in special pool, which a driver under
// test has instead of small blocks. It reports whether there are any.
func (p *Pool) accountSpecial(ctx context.Context, pools []*account) bool {
	w, err := p.Find(ctx, Query{Kind: Special})
	if err != nil {
		return false // this build's is not known
	}
	any := false
	for _, r := range w.Ranges() {
		for b, err := range w.Small(ctx, r) {
			for _, a := range pools {
				if err == nil && b.State == Allocated && (a.Kind == Paged) == (b.Type&typePaged != 0) {
					a.of(b.Tag.Value()).Special++
					any = true
				}
			}
		}
	}
	return any
}

// account gathers what is found in a pool.
type account struct {
	PoolCheck
	tags map[Tag]*Found

	lastTag uint32 // of the block before: neighbours often share a tag
	last    *Found
}

// of gives the account of a tag; value is as stored, protection bit or not.
func (a *account) of(value uint32) *Found {
	if value &^= protectedBit; a.last != nil && value == a.lastTag {
		return a.last
	}
	tag, _ := TagOf(value)
	f := a.tags[tag]
	if f == nil {
		f = &Found{}
		a.tags[tag] = f
	}
	a.lastTag, a.last = value, f
	return f
}

func (a *account) small(value uint32, size uint64, s State) {
	switch s {
	case Allocated:
		f := a.of(value)
		f.Allocs++
		f.Bytes += int64(size)
	case Cached:
		f := a.of(value)
		f.Cached++
		f.CachedBytes += int64(size)
	}
}

func (a *account) large(b Block) {
	f := a.of(b.Tag.Value())
	f.Large++
	f.LargeBytes += int64(b.Size)
	f.LargePages += int64((b.Size + mem.PageSize - 1) &^ (mem.PageSize - 1))
}

// accountPool gathers one of the machine's pools.
func (p *Pool) accountPool(ctx context.Context, a *account, tell func(uint64)) {
	x, err := p.Index(ctx, a.Kind, tell)
	switch {
	case errors.Is(err, ErrLimit): // more blocks than are kept
		a.walk(ctx, p, Query{Kind: a.Kind, Progress: tell})
	case err != nil:
		a.WalkErr = err
	default:
		a.Summary = x.Summary()
		x.Cells(func(part []cell.Cell) bool {
			for _, c := range part {
				a.small(c.Tag(), c.Size(), State(c.State()))
			}
			return ctx.Err() == nil
		})
	}
	if a.Summary.SmallUnwalked {
		a.WalkErr = a.Summary.Why
	}
	t, err := p.bigPages(ctx)
	if err != nil {
		a.LargeErr = err
		return
	}
	a.Summary.LargeOdd, a.Summary.LargeMissing = t.odd, 0
	if t.partial != nil {
		a.Summary.LargeMissing = t.partial.Entries
	}
	for _, b := range t.blocks {
		if b.Kind == a.Kind {
			a.large(b)
		}
	}
}

// walk gathers a pool's small blocks one by one.
func (a *account) walk(ctx context.Context, p *Pool, q Query) (w *Walk) {
	if w, a.WalkErr = p.Find(ctx, q); a.WalkErr != nil {
		return nil
	}
	for _, r := range w.Ranges() {
		for b, err := range w.Small(ctx, r) {
			if err == nil {
				a.small(b.Tag.Value(), b.Size, b.State)
			}
		}
	}
	if a.Summary = w.Summary(); a.Summary.SmallUnwalked {
		a.WalkErr = a.Summary.Why
	}
	return w
}

// accountSession gathers session pool, of all sessions or of one.
func (p *Pool) accountSession(ctx context.Context, a *account, id *uint32, tell func(uint64)) {
	w := a.walk(ctx, p, Query{Kind: Session, Session: id, Progress: tell})
	if w == nil {
		return
	}
	for b, err := range w.Large(ctx) {
		var part *PartError
		switch {
		case err == nil:
			a.large(b)
		case !errors.As(err, &part): // the summary counts parts that are missing
			a.LargeErr = err
		}
	}
	a.Summary = w.Summary()
}

// ownTables is the bytes of the tables that the pool keeps of itself. They are
// counted under the tag Pool but were taken as pages before there was a table
// of large allocations (ReactOS expool.c, InitializePool).
func (p *Pool) ownTables(ctx context.Context) uint64 {
	pages := func(n uint64) uint64 { return (n + mem.PageSize - 1) &^ (mem.PageSize - 1) }
	var sum uint64
	if list, _, err := p.trackerTables(); err == nil {
		for _, t := range list {
			sum += pages(t.count * p.layout.trackSize)
		}
	}
	if t, err := p.bigPages(ctx); err == nil {
		sum += pages(uint64(t.end - t.start))
	}
	return sum
}

// SessionTrackers adds up the tracker tables of the sessions whose memory is in
// the dump, or of one session.
func (p *Pool) SessionTrackers(ctx context.Context, id *uint32) (*Trackers, error) {
	const what = "session pool tracker table"
	all, err := p.sessions(ctx)
	if err != nil && len(all) == 0 {
		return nil, err
	}
	if id != nil {
		all = slices.DeleteFunc(all, func(s session) bool { return s.id != *id })
	}
	switch {
	case len(all) == 0 && id != nil:
		return nil, &MissingError{what, fmt.Errorf("no process of session %d leads to it", *id)}
	case len(all) == 0:
		return nil, p.noSessions(what)
	}
	sum := &Trackers{}
	if err != nil { // of the sessions that the list lacks
		sum.Errs = append(sum.Errs, err)
	}
	rows := map[Tag]Usage{}
	var failed []sessionFailure
	for _, s := range all {
		list, err := p.sessionTables(s)
		var t *Trackers
		if err == nil {
			t, err = p.addUp(ctx, s.space, list, nil)
		}
		if err != nil {
			failed = append(failed, sessionFailure{s.id, err})
			continue
		}
		sum.Tables += t.Tables
		sum.Entries += t.Entries
		sum.Missing += t.Missing
		for _, e := range t.Errs {
			sum.Errs = append(sum.Errs, fmt.Errorf("session %d: %w", s.id, e))
		}
		for _, u := range t.Rows {
			rows[u.Tag] = u.plus(rows[u.Tag])
		}
	}
	switch {
	case ctx.Err() != nil:
		return nil, ctx.Err()
	case sum.Tables == 0:
		return nil, joinSessions(failed)
	case failed != nil:
		sum.Errs = append(sum.Errs, joinSessions(failed))
	}
	sum.Rows = sorted(rows)
	return sum, nil
}

// sessionFailure is why one session can't be told of.
type sessionFailure struct {
	id  uint32
	err error
}

// joinSessions makes one error of those of sessions: they mostly have the same
// reason.
func joinSessions(list []sessionFailure) error {
	var failed []error
	for len(list) > 0 {
		first, noun, ids := list[0], "session", ""
		list = slices.DeleteFunc(list, func(f sessionFailure) bool {
			same := f.err.Error() == first.err.Error()
			if same && ids != "" {
				noun, ids = "sessions", ids+", "
			}
			if same {
				ids += fmt.Sprint(f.id)
			}
			return same
		})
		failed = append(failed, fmt.Errorf("%s %s: %w", noun, ids, first.err))
	}
	return errors.Join(failed...)
}
