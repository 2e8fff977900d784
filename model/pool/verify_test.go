package pool

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"gokd/dumpfmt/dumptest/shared"
	"gokd/model/mem"
	"gokd/model/modeltest"
)

// tagged makes a tag of its characters.
func tagged(s string) Tag { return Tag([]byte(s)) }

// row is a tracker row: live allocations and bytes of both pools.
func row(tag string, nl, nb, pl, pb int64) Usage {
	return Usage{Tag: tagged(tag), Nonpaged: Count{Allocs: uint64(nl) + 7, Frees: 7, Live: nl, Bytes: nb},
		Paged: Count{Allocs: uint64(pl), Live: pl, Bytes: pb}}
}

// pools makes the accounts of both pools of what was found.
func pools(nonpaged, paged map[string]Found) []*account {
	list := []*account{
		{PoolCheck: PoolCheck{Kind: Nonpaged}, tags: map[Tag]*Found{}},
		{PoolCheck: PoolCheck{Kind: Paged}, tags: map[Tag]*Found{}},
	}
	for i, of := range []map[string]Found{nonpaged, paged} {
		for tag, f := range of {
			list[i].tags[tagged(tag)] = &f
		}
	}
	return list
}

// openPool opens the pool of a shared dump.
func openPool(t *testing.T, name string) *Pool {
	t.Helper()
	p, err := Open(modeltest.OpenDump(t, shared.Path(t, name)))
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// told is what a test compares: tag, pool, verdict and causes.
func told(v *Verification) []string {
	var list []string
	for _, c := range v.Tags {
		s := fmt.Sprintf("%s %s %+d %+d %s", c.Tag, c.Kind, c.Allocs, c.Bytes, c.Verdict)
		for _, r := range c.Reasons {
			s += " " + string(r.Cause)
		}
		list = append(list, s)
	}
	return list
}

func TestVerify_compare(t *testing.T) {
	t.Parallel()
	small := func(n, bytes int64) Found { return Found{Allocs: n, Bytes: bytes} }
	for _, c := range []struct {
		name     string
		rows     []Usage
		nonpaged map[string]Found
		paged    map[string]Found
		change   func(in *verifyInput)
		want     []string
		verdict  string
	}{
		{name: "nothing at all", verdict: "agrees: there is no counter and no block"},
		{
			name: "both agree, freed blocks on lists count for nothing",
			rows: []Usage{row("File", 3, 0x300, 0, 0), row("CM31", 0, 0, 2, 0x2000)},
			nonpaged: map[string]Found{
				"File": {Allocs: 3, Bytes: 0x300, Cached: 2, CachedBytes: 0x200}, "Gone": {Cached: 1, CachedBytes: 0x40},
			},
			paged:   map[string]Found{"CM31": {Large: 2, LargeBytes: 0x1800, LargePages: 0x2000}},
			want:    []string{"CM31 nonpaged +0 +0 agrees", "CM31 paged +0 +0 agrees", "File nonpaged +0 +0 agrees", "Gone nonpaged +0 +0 agrees"},
			verdict: "agrees: all 4 counters equal what was found",
		},
		{
			name:     "allocations in special pool",
			rows:     []Usage{row("Spec", 2, 0x140, 0, 0)},
			nonpaged: map[string]Found{"Spec": {Allocs: 1, Bytes: 0x40, Special: 1}},
			want:     []string{"Spec nonpaged +1 +256 within special_pool"},
			verdict:  "differs within what is missing: 0 of 1 counters agree, 1 differ for a known reason",
		},
		{
			name:     "large allocations counted as they were asked for",
			rows:     []Usage{row("Cont", 2, 0x1801, 0, 0)},
			nonpaged: map[string]Found{"Cont": {Large: 2, LargeBytes: 0x1801, LargePages: 0x3000}},
			want:     []string{"Cont nonpaged +0 -6143 agrees large_rounding"},
			verdict:  "agrees: the counter equals what was found",
		},
		{
			name: "pages are missing",
			rows: []Usage{row("File", 3, 0x300, 0, 0)}, nonpaged: map[string]Found{"File": small(1, 0x100)},
			change: func(in *verifyInput) {
				in.pools[0].Summary.Coverage = Coverage{Walked: 0x2000, Missing: 0x200, Damaged: 0x10}
			},
			want:    []string{"File nonpaged +2 +512 within pages_missing"},
			verdict: "differs within what is missing: 0 of 1 counters agree, 1 differ for a known reason",
		},
		{
			name: "damage explains too",
			rows: []Usage{row("File", 3, 0x300, 0, 0)}, nonpaged: map[string]Found{"File": small(1, 0x100)},
			change:  func(in *verifyInput) { in.pools[0].Summary.Coverage = Coverage{Walked: 0x2000, Damaged: 0x200} },
			want:    []string{"File nonpaged +2 +512 within pages_damaged"},
			verdict: "differs within what is missing: 0 of 1 counters agree, 1 differ for a known reason",
		},
		{
			name: "more is lacking than is missing",
			rows: []Usage{row("File", 9, 0x300, 0, 0)}, nonpaged: map[string]Found{"File": small(1, 0x100)},
			change: func(in *verifyInput) { in.pools[0].Summary.Coverage = Coverage{Walked: 0x2000, Missing: 0x1f0} },
			want:   []string{"File nonpaged +8 +512 differs unexplained"},
			verdict: "differs, and it can't be explained: 1 of 1 counters; the largest is tag 'File' in nonpaged pool by 8 allocations, 512 bytes: " +
				"everything that could explain it was read",
		},
		{
			name: "tags lack more together than is missing",
			rows: []Usage{row("AAAA", 9, 0x900, 0, 0), row("BBBB", 9, 0x900, 0, 0)},
			change: func(in *verifyInput) {
				in.pools[0].Summary.Coverage = Coverage{Walked: 0x2000, Missing: 0x1000}
			},
			want: []string{"AAAA nonpaged +9 +2304 differs unexplained", "BBBB nonpaged +9 +2304 differs unexplained"},
			verdict: "differs, and it can't be explained: 2 of 2 counters; the largest is tag 'AAAA' in nonpaged pool by 9 allocations, 2304 bytes: " +
				"tags of the nonpaged pool lack 4608 bytes together, 4096 are not in the dump or damaged",
		},
		{
			name: "pages of the other pool explain nothing",
			rows: []Usage{row("File", 9, 0x300, 0, 0)}, nonpaged: map[string]Found{"File": small(1, 0x100)},
			change: func(in *verifyInput) { in.pools[1].Summary.Coverage = Coverage{Walked: 0x9000, Missing: 0x9000} },
			want:   []string{"File nonpaged +8 +512 differs unexplained"},
			verdict: "differs, and it can't be explained: 1 of 1 counters; the largest is tag 'File' in nonpaged pool by 8 allocations, 512 bytes: " +
				"everything that could explain it was read",
		},
		{
			name: "page tables are missing",
			rows: []Usage{row("File", 900, 0x300000, 0, 0)},
			change: func(in *verifyInput) {
				in.pools[0].Summary.TablesMissing = 1
			},
			want:    []string{"File nonpaged +900 +3145728 within tables_missing"},
			verdict: "differs within what is missing: 0 of 1 counters agree, 1 differ for a known reason",
		},
		{
			name: "entries of the big-page table are missing, or make no sense",
			rows: []Usage{row("Cont", 2, 0x3000, 0, 0)},
			change: func(in *verifyInput) {
				in.pools[0].Summary.LargeMissing, in.pools[0].Summary.LargeOdd, in.pools[0].Summary.HeapsBroken = 3, 1, 1
			},
			want:    []string{"Cont nonpaged +2 +12288 within large_missing heaps_damaged"},
			verdict: "differs within what is missing: 0 of 1 counters agree, 1 differ for a known reason",
		},
		{
			name: "no table of large allocations, no walk",
			rows: []Usage{row("Cont", 20, 0x3000, 0, 0)},
			change: func(in *verifyInput) {
				in.pools[0].LargeErr, in.pools[0].WalkErr = errors.New("no table"), errors.New("no walk")
			},
			want:    []string{"Cont nonpaged +20 +12288 within not_walked large_missing"},
			verdict: "differs within what is missing: 0 of 1 counters agree, 1 differ for a known reason",
		},
		{
			name: "a processor's table is missing: either sign",
			rows: []Usage{row("AAAA", 30, 0x300, 0, 0), row("BBBB", -20, -0x200, 0, 0), row("CCCC", 20, -0x200, 0, 0)},
			change: func(in *verifyInput) {
				in.trackers.Entries, in.trackers.Missing = 4098, 2049
			},
			want: []string{
				"AAAA nonpaged +30 +768 within trackers_missing", "BBBB nonpaged -20 -512 within trackers_missing",
				"CCCC nonpaged +20 -512 within trackers_missing",
			},
			verdict: "differs within what is missing: 0 of 3 counters agree, 3 differ for a known reason",
		},
		{
			name: "the pool's own tables and what found no room in a table",
			rows: []Usage{row("Pool", 5, 0x5000, 0, 0), row("BIG ", 50, 0x50000, 0, 0)},
			change: func(in *verifyInput) {
				in.own = 0x5000
			},
			want:    []string{"BIG  nonpaged +50 +327680 within large_unrecorded", "Pool nonpaged +5 +20480 within own_tables"},
			verdict: "differs within what is missing: 0 of 2 counters agree, 2 differ for a known reason",
		},
		{
			name:     "tags that found no slot share the overflow row",
			rows:     []Usage{row("Ovfl", 50, 0x500, 0, 0)},
			nonpaged: map[string]Found{"LftA": small(30, 0x300), "LftB": small(20, 0x200)},
			change:   func(in *verifyInput) { in.trackers.Overflow = in.trackers.Rows[0] },
			want: []string{
				"LftA nonpaged -30 -768 within overflow", "LftB nonpaged -20 -512 within overflow", "Ovfl nonpaged +50 +1280 within overflow",
			},
			verdict: "differs within what is missing: 0 of 3 counters agree, 3 differ for a known reason",
		},
		{
			name: "a tag that no table has",
			rows: []Usage{row("File", 3, 0x300, 0, 0)}, nonpaged: map[string]Found{"File": small(3, 0x300), "Lost": small(5, 0x500)},
			want: []string{"File nonpaged +0 +0 agrees", "Lost nonpaged -5 -1280 differs unexplained"},
			verdict: "differs, and it can't be explained: 1 of 2 counters; the largest is tag 'Lost' in nonpaged pool by -5 allocations, -1280 bytes: " +
				"everything that could explain it was read",
		},
		{
			name: "no more than the processors can have been doing",
			rows: []Usage{row("AAAA", 2, 0x300, 0, 0), row("BBBB", 2, 0x200, 0, 0)},
			nonpaged: map[string]Found{
				"AAAA": small(3, 0x400), "BBBB": small(1, 0x100),
			},
			want:    []string{"AAAA nonpaged -1 -256 within in_flight", "BBBB nonpaged +1 +256 within in_flight"},
			verdict: "differs within what is missing: 0 of 2 counters agree, 2 differ for a known reason",
		},
		{
			name: "lists of freed blocks break off",
			rows: []Usage{row("AAAA", 10, 0x500, 0, 0)}, nonpaged: map[string]Found{"AAAA": small(13, 0x600)},
			change:  func(in *verifyInput) { in.lists = 3 },
			want:    []string{"AAAA nonpaged -3 -256 within lists_missing"},
			verdict: "differs within what is missing: 0 of 1 counters agree, 1 differ for a known reason",
		},
		{
			name: "more than the lists had",
			rows: []Usage{row("AAAA", 10, 0x500, 0, 0)}, nonpaged: map[string]Found{"AAAA": small(14, 0x600)},
			change: func(in *verifyInput) { in.lists = 3 },
			want:   []string{"AAAA nonpaged -4 -256 differs unexplained"},
			verdict: "differs, and it can't be explained: 1 of 1 counters; the largest is tag 'AAAA' in nonpaged pool by -4 allocations, -256 bytes: " +
				"everything that could explain it was read",
		},
		{
			name: "blocks missing and blocks too many",
			rows: []Usage{row("AAAA", 10, 0x500, 0, 0)}, nonpaged: map[string]Found{"AAAA": small(10, 0x600)},
			change: func(in *verifyInput) {
				in.lists = 3
				in.pools[0].Summary.Coverage = Coverage{Walked: 0x2000, Missing: 0x1000}
			},
			want:    []string{"AAAA nonpaged +0 -256 within pages_missing lists_missing"},
			verdict: "differs within what is missing: 0 of 1 counters agree, 1 differ for a known reason",
		},
		{
			name: "opposite directions are no lag",
			rows: []Usage{row("AAAA", 2, 0x500, 0, 0)}, nonpaged: map[string]Found{"AAAA": small(3, 0x400)},
			want: []string{"AAAA nonpaged -1 +256 differs counters_disagree"},
			verdict: "differs, and it can't be explained: 1 of 1 counters; the largest is tag 'AAAA' in nonpaged pool by -1 allocations, 256 bytes: " +
				"allocations and bytes differ in opposite directions",
		},
		{
			name: "bytes alone",
			rows: []Usage{row("AAAA", 2, 0x500, 0, 0)}, nonpaged: map[string]Found{"AAAA": small(2, 0x400)},
			want: []string{"AAAA nonpaged +0 +256 differs unexplained"},
			verdict: "differs, and it can't be explained: 1 of 1 counters; the largest is tag 'AAAA' in nonpaged pool by 0 allocations, 256 bytes: " +
				"everything that could explain it was read",
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			in := &verifyInput{trackers: &Trackers{Rows: c.rows, Entries: 2049}, pools: pools(c.nonpaged, c.paged), processors: 2}
			if c.change != nil {
				c.change(in)
			}
			v := in.compare()
			if d := cmp.Diff(c.want, told(v)); d != "" {
				t.Errorf("(-want +got):\n%s", d)
			}
			_, text := v.Verdict()
			if d := cmp.Diff(c.verdict, text); d != "" {
				t.Errorf("verdict (-want +got):\n%s", d)
			}
			if v.Agree+v.Within+v.Differ != len(v.Tags) {
				t.Errorf("%d+%d+%d of %d", v.Agree, v.Within, v.Differ, len(v.Tags))
			}
		})
	}
}

func TestVerify_select(t *testing.T) {
	t.Parallel()
	in := &verifyInput{trackers: &Trackers{Rows: []Usage{row("File", 3, 0x300, 0, 0), row("Lost", 9, 0x900, 0, 0)}},
		pools: pools(map[string]Found{"File": {Allocs: 3, Bytes: 0x300}}, nil), processors: 1}
	v := in.compare()
	of, err := ParsePattern("Fi*", true)
	if err != nil {
		t.Fatal(err)
	}
	some := v.Select(of)
	if d := cmp.Diff([]string{"File nonpaged +0 +0 agrees"}, told(some)); d != "" {
		t.Errorf("(-want +got):\n%s", d)
	}
	if verdict, _ := some.Verdict(); verdict != Agrees || some.Agree != 1 || some.Differ != 0 || v.Differ != 1 {
		t.Errorf("%s, %+v", verdict, some)
	}
}

// TestVerify_truth: of each dump the two sources agree, and of the damaged ones
// the damage explains what differs.
func TestVerify_truth(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name string
		want Verdict
	}{
		{"x64/win7.kernel", Agrees}, {"x64/win81.full", Agrees}, {"x64/w10_1607.kernel", Agrees},
		{"x64/w10_19041.full", Agrees}, {"x64/w10_19041-encoded.kernel", Agrees},
		{"series/leak-1.kernel", Agrees}, {"series/leak-6.kernel", Agrees}, {"series/load-4.kernel", Agrees},
		{"damaged/evil-names.kernel", Agrees}, {"damaged/bad-pool-corrupt.kernel", Within},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			p := openPool(t, "dumps/"+c.name+".dmp.xz")
			v, err := p.Verify(t.Context(), VerifyQuery{})
			if err != nil {
				t.Fatal(err)
			}
			got, text := v.Verdict()
			if got != c.want {
				t.Errorf("%s, want %s: %s\n%s", got, c.want, text, strings.Join(told(v), "\n"))
			}
			for _, p := range v.Pools {
				if p.Found.All() == 0 || p.Summary.Coverage.Walked == 0 || p.Summary.Coverage.Sum() != p.Summary.Coverage.Walked {
					t.Errorf("%s: %+v", p.Kind, p)
				}
			}
		})
	}
}

func TestVerify_interrupted(t *testing.T) {
	t.Parallel()
	p := openPool(t, "dumps/x64/win7.kernel.dmp.xz")
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if v, err := p.Verify(ctx, VerifyQuery{}); !errors.Is(err, context.Canceled) {
		t.Errorf("%+v, %v", v, err)
	}
}

// TestTrackers_lost: the table of a processor that is not in the dump is told,
// and the others count.
func TestTrackers_lost(t *testing.T) {
	t.Parallel()
	lost := []*PartError{{What: "address of processor 3's pool tracker table", At: 0x18, Entries: 10, Err: mem.ErrNotCaptured}}
	p := openPool(t, "dumps/x64/win7.kernel.dmp.xz")
	list, none, err := p.trackerTables()
	if err != nil || len(none) != 0 {
		t.Fatal(err, none)
	}
	whole, err := p.addUp(t.Context(), p.k.Space, list, nil)
	if err != nil {
		t.Fatal(err)
	}
	part, err := p.addUp(t.Context(), p.k.Space, list, lost)
	if err != nil || part.Missing != 10 || part.Whole() || len(part.Errs) != 1 || part.Entries != whole.Entries+10 {
		t.Fatalf("%+v %v", part, err)
	}
	if d := cmp.Diff(whole.Rows, part.Rows); d != "" {
		t.Errorf("(-whole +part):\n%s", d)
	}
	if _, err := p.addUp(t.Context(), p.k.Space, nil, lost); !errors.As(err, new(*MissingError)) {
		t.Errorf("nothing was read: %v", err)
	}
}

// FuzzVerify: whatever counters and blocks say, every tag gets one verdict, a
// difference has a reason, and equal numbers agree.
func FuzzVerify(f *testing.F) {
	f.Add([]byte("AAAA\x01\x02\x03\x04\x05\x06\x07\x08BBBB\xff\xff\xff\xff\x80\x00\x00\x00"), uint8(2), uint64(0), uint64(0x1000))
	f.Add([]byte(""), uint8(0), uint64(1)<<63, ^uint64(0))
	f.Fuzz(func(t *testing.T, data []byte, processors uint8, missing, lists uint64) {
		next := func() int64 {
			var b [8]byte
			data = data[copy(b[:], data):]
			return int64(binary.LittleEndian.Uint64(b[:]))
		}
		in := &verifyInput{trackers: &Trackers{Missing: missing & 1, Entries: 2}, processors: int(processors), lists: lists, own: missing, pools: pools(nil, nil)}
		for len(data) > 0 && len(in.trackers.Rows) < 64 {
			v := next()
			tag, _ := TagOf(uint32(v))
			if v>>40&1 == 0 {
				in.trackers.Rows = append(in.trackers.Rows, Usage{Tag: tag, Nonpaged: Count{Live: next(), Bytes: next()}, Paged: Count{Live: v, Bytes: next()}})
			}
			in.pools[v>>41&1].tags[tag] = &Found{Allocs: next(), Bytes: next(), Large: next(), LargePages: next(), Special: v >> 50}
		}
		in.pools[0].Summary.Coverage = Coverage{Walked: missing, Missing: missing, Damaged: lists}
		v := in.compare()
		if v.Agree+v.Within+v.Differ != len(v.Tags) {
			t.Errorf("%d+%d+%d of %d", v.Agree, v.Within, v.Differ, len(v.Tags))
		}
		for _, c := range v.Tags {
			same := c.Allocs == 0 && c.Bytes == 0
			if same && c.Verdict != Agrees || !same && len(c.Reasons) == 0 {
				t.Errorf("%+v", c)
			}
		}
		if _, text := v.Verdict(); text == "" {
			t.Error("no verdict in words")
		}
	})
}

// stopper is a context that ends after it was asked so often.
type stopper struct {
	context.Context
	left int
}

func (s *stopper) Err() error {
	if s.left--; s.left < 0 {
		return context.Canceled
	}
	return nil
}

// TestTrackers_interrupted: the tables that were added up stay, and are not
// taken for all.
func TestTrackers_interrupted(t *testing.T) {
	t.Parallel()
	p := openPool(t, "dumps/x64/win7.kernel.dmp.xz")
	got, err := p.Trackers(&stopper{t.Context(), 3})
	if err != nil || got.Whole() || len(got.Rows) == 0 || len(got.Errs) != 1 || !errors.Is(got.Errs[0], context.Canceled) {
		t.Errorf("%+v, %v", got, err)
	}
	if got, err := p.Trackers(&stopper{t.Context(), 0}); !errors.Is(err, context.Canceled) {
		t.Errorf("%+v, %v", got, err)
	}
}
