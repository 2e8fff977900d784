package pool

import (
	"cmp"
	"fmt"
	"slices"
)

// Cause names what can make counters and blocks differ.
type Cause string

// The causes, as records spell them.
const (
	CauseMissing    Cause = "pages_missing"     // pages of the pool are not in the dump, others may be damaged
	CauseDamaged    Cause = "pages_damaged"     // pages of the pool are damaged
	CauseTables     Cause = "tables_missing"    // page tables are not: how many pages is not known
	CauseLarge      Cause = "large_missing"     // entries of the table of large allocations are missing
	CauseNotWalked  Cause = "not_walked"        // the pool's small blocks were not read
	CauseTrackers   Cause = "trackers_missing"  // entries of tracker tables are missing
	CauseRounding   Cause = "large_rounding"    // counted as asked for, and not in whole pages
	CauseOwnTables  Cause = "own_tables"        // the tables that the pool keeps of itself
	CauseUnrecorded Cause = "large_unrecorded"  // large allocations that found no room in their table
	CauseOverflow   Cause = "overflow"          // tags that found no slot share a row
	CauseLists      Cause = "lists_missing"     // lists of freed blocks break off: what is on them looks allocated
	CauseSpecial    Cause = "special_pool"      // allocations in special pool
	CauseHeaps      Cause = "heaps_damaged"     // parts of segment heaps can't be read
	CauseInFlight   Cause = "in_flight"         // processors stopped between a block and its counter
	CauseCounters   Cause = "counters_disagree" // more allocations with fewer bytes, or the reverse
	CauseNone       Cause = "unexplained"
)

// Reason is a cause and what it accounts for.
type Reason struct {
	Cause Cause
	Bytes uint64 // at most; 0 where no bound is known
	Text  string
}

// minBlock is the smallest block there is in bytes: a header and one unit.
const minBlock = 2 * HeaderSize

// Tags of the kernel's own bookkeeping (ReactOS expool.c): Pool for the tables of
// the pool, "BIG " for large allocations that their table had no room for.
var (
	tagPool = Tag{'P', 'o', 'o', 'l'}
	tagBig  = Tag{'B', 'I', 'G', ' '}
)

// verifyInput is the two sources, read.
type verifyInput struct {
	trackers   *Trackers
	pools      []*account
	processors int
	own        uint64 // bytes of the pool's own tables
	lists      uint64 // freed blocks that look allocated, as their list could not be followed
}

// compare holds the two against each other. It reads nothing.
func (in *verifyInput) compare() *Verification {
	v := &Verification{Trackers: in.trackers, Processors: in.processors}
	for _, a := range in.pools {
		in.checkPool(v, a)
	}
	slices.SortStableFunc(v.Tags, func(a, b TagCheck) int {
		return cmp.Or(a.Tag.Compare(b.Tag), cmp.Compare(a.Kind, b.Kind))
	})
	in.overdrawn(v)
	in.inFlight(v)
	v.tally()
	for _, a := range in.pools {
		v.Pools = append(v.Pools, a.PoolCheck)
	}
	return v
}

// tally counts the verdicts.
func (v *Verification) tally() {
	for i := range v.Tags {
		switch v.Tags[i].Verdict {
		case Agrees:
			v.Agree++
		case Within:
			v.Within++
		default:
			v.Differ++
		}
	}
}

// count gives a row's counters of a pool. Session pool's tables keep both
// columns for one pool.
func (a *account) count(u Usage) Count {
	switch a.Kind {
	case Nonpaged:
		return u.Nonpaged
	case Session:
		return u.Nonpaged.plus(u.Paged)
	}
	return u.Paged
}

// checkPool compares every tag that a row or a block of the pool has.
func (in *verifyInput) checkPool(v *Verification, a *account) {
	a.Tracked, a.Found, a.Lacking = Count{}, Found{}, 0
	rows := map[Tag]bool{}
	for _, u := range in.trackers.Rows {
		rows[u.Tag] = true
		c := TagCheck{Tag: u.Tag, Kind: a.Kind, Known: true, Tracked: a.count(u)}
		if f := a.tags[u.Tag]; f != nil {
			c.Found = *f
		}
		in.check(v, a, c)
	}
	for tag, f := range a.tags {
		if !rows[tag] {
			in.check(v, a, TagCheck{Tag: tag, Kind: a.Kind, Found: *f})
		}
	}
}

// check compares one tag and keeps the result where there is anything to tell.
func (in *verifyInput) check(v *Verification, a *account, c TagCheck) {
	if c.Tracked == (Count{}) && c.Found == (Found{}) {
		return
	}
	a.Tracked = a.Tracked.plus(c.Tracked)
	a.Found.add(c.Found)
	c.Allocs, c.Bytes = c.Tracked.Live-c.Found.All(), c.Tracked.Bytes-c.Found.AllBytes()
	if c.Allocs > 0 || c.Bytes > 0 {
		a.Lacking += max(c.Bytes, 0)
	}
	c.judge(in, a)
	v.Tags = append(v.Tags, c)
}

// judge says what a difference is due to.
func (c *TagCheck) judge(in *verifyInput, a *account) {
	slack := c.Found.LargePages - c.Found.LargeBytes
	switch {
	case c.Allocs == 0 && c.Bytes == 0:
		return
	case c.Allocs == 0 && c.Bytes < 0 && -c.Bytes <= slack:
		c.reason(CauseRounding, uint64(slack), "its large allocations are counted as they were asked for, not in whole pages")
		return
	}
	c.Verdict = Within
	more, fewer := c.lacking(in, a), c.uncounted(in, a)
	if n := in.trackers.Missing; n > 0 {
		c.reason(CauseTrackers, 0, fmt.Sprintf("%d of %d entries of tracker tables are not in the dump", n, in.trackers.Entries))
	}
	switch {
	case c.Allocs > 0 && c.Bytes > 0:
		c.Reasons = append(c.Reasons, more...)
	case c.Allocs < 0 && c.Bytes < 0:
		c.Reasons = append(c.Reasons, fewer...)
	case len(more) > 0 && len(fewer) > 0:
		// Some allocations are not found, others are found too much.
		c.Reasons = append(append(c.Reasons, more...), fewer...)
	case len(c.Reasons) == 0 && c.Allocs != 0 && c.Bytes != 0:
		c.reason(CauseCounters, 0, "allocations and bytes differ in opposite directions")
		c.Verdict = Differs
	}
	if len(c.Reasons) == 0 {
		c.Verdict = Differs
	}
}

func (c *TagCheck) reason(cause Cause, bytes uint64, text string) {
	c.Reasons = append(c.Reasons, Reason{cause, bytes, text})
}

// lacking gives what can make counters have more than was found.
func (c *TagCheck) lacking(in *verifyInput, a *account) (list []Reason) {
	reason := func(cause Cause, bytes uint64, text string) { list = append(list, Reason{cause, bytes, text}) }
	allocs, bytes := uint64(max(c.Allocs, 0)), uint64(max(c.Bytes, 0))
	s := &a.Summary
	if a.WalkErr != nil {
		reason(CauseNotWalked, 0, a.WalkErr.Error())
	}
	switch n := s.LargeMissing + s.LargeOdd; {
	case a.LargeErr != nil:
		reason(CauseLarge, 0, a.LargeErr.Error())
	case n > 0:
		reason(CauseLarge, 0, fmt.Sprintf("%d entries of the table of large allocations are missing or make no sense", n))
	}
	if s.TablesMissing > 0 {
		reason(CauseTables, 0, fmt.Sprintf("%d page tables of the pool are not in the dump", s.TablesMissing))
	}
	if s.HeapsBroken > 0 {
		reason(CauseHeaps, 0, fmt.Sprintf("%d parts of segment heaps can't be read", s.HeapsBroken))
	}
	if n := c.Found.Special; n > 0 && c.Allocs <= n && c.Bytes/pageSize <= n {
		reason(CauseSpecial, uint64(n)*pageSize, fmt.Sprintf("%d allocations of '%s' lie in special pool", n, c.Tag))
	}
	if missing, damaged := a.unread(); missing+damaged > 0 && bytes <= missing+damaged && allocs <= (missing+damaged)/minBlock {
		cause, text := CauseMissing, fmt.Sprintf("%d bytes of the %s pool are not in the dump", missing, a.Kind)
		switch {
		case missing == 0:
			cause, text = CauseDamaged, fmt.Sprintf("%d bytes of the %s pool are damaged", damaged, a.Kind)
		case damaged > 0:
			text += fmt.Sprintf(", %d are damaged", damaged)
		}
		reason(cause, missing+damaged, text)
	}
	if c.Tag == tagBig {
		reason(CauseUnrecorded, 0, "the tag of large allocations that their table had no room for")
	}
	if c.Tag == tagPool && a.Kind == Nonpaged && in.own > 0 && bytes <= in.own {
		reason(CauseOwnTables, in.own, fmt.Sprintf("the pool's own tables, %d bytes, lie in pages that no table lists", in.own))
	}
	if over := a.count(in.trackers.Overflow); over != (Count{}) && c.Tag == in.trackers.Overflow.Tag && c.Bytes <= over.Bytes {
		reason(CauseOverflow, uint64(max(over.Bytes, 0)), "the row of tags that found no slot")
	}
	return list
}

// uncounted gives what can make counters have less than was found.
func (c *TagCheck) uncounted(in *verifyInput, a *account) (list []Reason) {
	over := a.count(in.trackers.Overflow)
	if !c.Known && -c.Bytes <= over.Bytes && -c.Allocs <= over.Live {
		list = append(list, Reason{CauseOverflow, uint64(max(over.Bytes, 0)), "the tag found no slot: its blocks are counted in the overflow row"})
	}
	if n := uint64(max(-c.Allocs, 0)); in.lists > 0 && n <= in.lists {
		list = append(list, Reason{CauseLists, in.lists * pageSize,
			fmt.Sprintf("lists of freed blocks break off before %d blocks, which look allocated", in.lists)})
	}
	return list
}

// unread is the bytes of the pool whose blocks are not known.
func (a *account) unread() (missing, damaged uint64) {
	c := a.Summary.Coverage
	return c.Missing, c.Damaged
}

// overdrawn takes missing pages back as a reason where all tags of a pool
// together lack more than is missing.
func (in *verifyInput) overdrawn(v *Verification) {
	for _, a := range in.pools {
		missing, damaged := a.unread()
		room := missing + damaged
		var sum int64
		var list []*TagCheck
		for i := range v.Tags {
			c := &v.Tags[i]
			if c.Kind == a.Kind && len(c.Reasons) == 1 && (c.Reasons[0].Cause == CauseMissing || c.Reasons[0].Cause == CauseDamaged) {
				sum += max(c.Bytes, c.Allocs*minBlock)
				list = append(list, c)
			}
		}
		if uint64(sum) <= room {
			continue
		}
		for _, c := range list {
			c.Verdict = Differs
			c.Reasons = []Reason{{CauseNone, room, fmt.Sprintf("tags of the %s pool lack %d bytes together, %d are not in the dump or damaged", a.Kind, sum, room)}}
		}
	}
}

// inFlight explains what is left where it is no more than the processors can
// have been doing: each may have been stopped between taking or giving back a
// block and counting it.
func (in *verifyInput) inFlight(v *Verification) {
	var left []*TagCheck
	var sum uint64
	most := uint64(in.processors)
	for i := range v.Tags {
		c := &v.Tags[i]
		if c.Verdict != Differs {
			continue
		}
		n := distance(c.Allocs)
		if len(c.Reasons) > 0 || n == 0 || c.Bytes == 0 || n > most {
			sum = most + 1
			break
		}
		left = append(left, c)
		sum += n
	}
	fits := sum <= most
	for _, c := range left {
		if fits {
			c.Verdict = Within
			c.reason(CauseInFlight, 0, fmt.Sprintf("%d of %d processors may have stopped between a block and its counter", sum, in.processors))
		}
	}
	for i := range v.Tags {
		if c := &v.Tags[i]; c.Verdict == Differs && len(c.Reasons) == 0 {
			c.reason(CauseNone, 0, "everything that could explain it was read")
		}
	}
}

// Verdict sums up: the worst of all tags, and why in words.
func (v *Verification) Verdict() (Verdict, string) {
	all := v.Agree + v.Within + v.Differ
	switch {
	case all == 0:
		return Agrees, "agrees: there is no counter and no block"
	case v.Differ > 0:
		worst := v.worst()
		return Differs, fmt.Sprintf("differs, and it can't be explained: %d of %d counters; the largest is tag '%s' in %s pool by %d allocations, %d bytes: %s",
			v.Differ, all, worst.Tag, worst.Kind, worst.Allocs, worst.Bytes, worst.Reasons[len(worst.Reasons)-1].Text)
	case v.Within > 0:
		return Within, fmt.Sprintf("differs within what is missing: %d of %d counters agree, %d differ for a known reason", v.Agree, all, v.Within)
	}
	text := fmt.Sprintf("agrees: all %d counters equal what was found", all)
	if all == 1 {
		text = "agrees: the counter equals what was found"
	}
	if !v.Complete() {
		text += ", though not everything could be read"
	}
	return Agrees, text
}

// distance is how far a difference is from none.
func distance(d int64) uint64 {
	if d < 0 {
		return -uint64(d)
	}
	return uint64(d)
}

// worst gives the unexplained check that differs by most bytes.
func (v *Verification) worst() *TagCheck {
	var worst *TagCheck
	for i := range v.Tags {
		if c := &v.Tags[i]; c.Verdict == Differs && (worst == nil || distance(c.Bytes) > distance(worst.Bytes)) {
			worst = c
		}
	}
	return worst
}

// Complete reports whether both sources were read as a whole.
func (v *Verification) Complete() bool {
	ok := v.Trackers.Whole()
	for _, p := range v.Pools {
		ok = ok && p.WalkErr == nil && p.LargeErr == nil && p.Summary.Skipped() == 0 && p.Summary.Coverage.Complete()
	}
	return ok
}

// Select gives the part of a verification that is about some tags; the pools
// stay as they are.
func (v *Verification) Select(of Pattern) *Verification {
	w := *v
	w.Tags, w.Agree, w.Within, w.Differ = nil, 0, 0, 0
	for _, c := range v.Tags {
		if of.Match(c.Tag) {
			w.Tags = append(w.Tags, c)
		}
	}
	w.tally()
	return &w
}
