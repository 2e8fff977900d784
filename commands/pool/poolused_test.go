package pool

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"

	gocmp "github.com/google/go-cmp/cmp"

	"gokd/commands/cmd"
	"gokd/commands/report"
	"gokd/model"
	"gokd/model/modeltest"
	"gokd/model/pool/heaptest"
	"gokd/model/types"
)

// builder starts a machine of a family.
func builder(t *testing.T, family string) *heaptest.Builder {
	t.Helper()
	for _, l := range types.Layouts() {
		if l.Family() == family {
			return heaptest.New(t, l)
		}
	}
	t.Fatalf("no family %s", family)
	return nil
}

// says runs a line and gives what it prints, an error included.
func says(t *testing.T, k *model.Kernel, line string, set func(*cmd.Session)) string {
	t.Helper()
	s, got := session(t, k, report.Era19041)
	if set != nil {
		set(s)
	}
	_ = s.Execute(t.Context(), line) // what fails is shown
	return got.String()
}

// twoSessions has another tag in each session's pool, and one that they share.
func twoSessions(t *testing.T) *modeltest.Kernel {
	b := builder(t, "14393")
	for _, id := range []uint32{1, 2} {
		s := b.Session(id)
		for range id {
			s.Alloc(heaptest.Ask{Tag: fmt.Sprintf("Ses%d", id), Bytes: 0x20})
		}
		s.Alloc(heaptest.Ask{Tag: "Big ", Bytes: 0x1800})
	}
	b.Alloc(heaptest.Ask{Pool: heaptest.Paged, Tag: "Ses1", Bytes: 40}) // of no session
	return b.Open()
}

func TestPoolused_session(t *testing.T) {
	t.Parallel()
	k := twoSessions(t)
	const head = " Sorting by Paged Pool Consumed\n\n" +
		"               NonPaged                  Paged\n" +
		" Tag     Allocs         Used     Allocs         Used\n\n"
	big := " Big          0            0          %d%13d\tUNKNOWN pooltag 'Big ', please update pooltag.txt\n"
	one := uint32(1)
	for _, c := range []struct {
		id   *uint32
		want string
	}{
		{nil, head + fmt.Sprintf(big, 2, 0x4000) +
			" Ses2         0            0          2           96\tSecurity reference monitor , Binary: nt!se\n" +
			" Ses1         0            0          1           48\tSecurity reference monitor , Binary: nt!se\n" +
			" TOTAL        0            0          5        16528\n" +
			"The numbers are those of all sessions whose memory is in the dump; !session -s N chooses one.\n"},
		{&one, head + fmt.Sprintf(big, 1, 0x2000) +
			" Ses1         0            0          1           48\tSecurity reference monitor , Binary: nt!se\n" +
			" TOTAL        0            0          2         8240\n" +
			"The numbers are those of session 1.\n"},
	} {
		got := says(t, k, "!poolused c", func(s *cmd.Session) { s.LogonSession = c.id })
		if d := gocmp.Diff(c.want, got); d != "" {
			t.Errorf("(-want +got):\n%s", d)
		}
	}
	seven := uint32(7)
	got := says(t, k, "!poolused 8", func(s *cmd.Session) { s.LogonSession = &seven })
	if want := "the session pool tracker table is not in this dump: no process of session 7 leads to it\n"; got != want {
		t.Errorf("session 7: %q", got)
	}
}

func TestPoolused_verifySession(t *testing.T) {
	t.Parallel()
	one := uint32(1)
	got := says(t, twoSessions(t), "!poolused -verify 8", func(s *cmd.Session) { s.LogonSession = &one })
	want := ` Holding the counters against the blocks

                     Counters                    Found               Difference
 Tag  Pool        Allocs         Used     Allocs         Used     Allocs         Used   Cached

 Big  Session          1         8192          1         8192          0            0        0	agrees
 Ses1 Session          1           48          1           48          0            0        0	agrees

Session pool: 2 allocations of 8240 bytes are counted, 2 of 8240 bytes found, 1 of them large.
  12288 bytes walked = 48 allocated + 0 cached + 4048 free + 8192 large + 0 overhead + 0 other + 0 damaged + 0 missing
The numbers are those of session 1.
Verdict: agrees: all 2 counters equal what was found.
`
	if d := gocmp.Diff(want, got); d != "" {
		t.Errorf("(-want +got):\n%s", d)
	}
}

// damaged is a machine with a page whose chain of headers breaks.
func TestPoolused_verifyDamage(t *testing.T) {
	t.Parallel()
	k := openShared(t, "dumps/damaged/bad-pool-corrupt.kernel.dmp.xz")
	got := says(t, k, "!poolused -verify 0 ALPC", nil)
	want := ` Holding the counters against the blocks

                     Counters                    Found               Difference
 Tag  Pool        Allocs         Used     Allocs         Used     Allocs         Used   Cached

 ALPC Nonpaged       120        47776        119        47664          1          112        0	within: pages damaged

Nonpaged pool: 3534 allocations of 2245360 bytes are counted, 3503 of 2239840 bytes found, 30 of them large.
  1355776 bytes walked = 933216 allocated + 0 cached + 97392 free + 200704 large + 0 overhead + 118784 other + 5680 damaged + 0 missing
  Damaged: 3 pages.
Paged pool: 1203 allocations of 2797472 bytes are counted, 1203 of 2797472 bytes found, 53 of them large.
  839680 bytes walked = 442272 allocated + 0 cached + 69728 free + 319488 large + 0 overhead + 4096 other + 0 damaged + 4096 missing
  Not in this dump: 1 page.
pages damaged: 5680 bytes of the nonpaged pool are damaged.
Verdict: differs within what is missing: 0 of 1 counters agree, 1 differ for a known reason.
`
	if d := gocmp.Diff(want, got); d != "" {
		t.Errorf("(-want +got):\n%s", d)
	}
}

// TestPoolused_records: the records of -verify in JSON.
func TestPoolused_records(t *testing.T) {
	t.Parallel()
	k := openShared(t, "dumps/damaged/bad-pool-corrupt.kernel.dmp.xz")
	list := records(t, k, "!poolused -verify 0 ALPC")
	var got []string
	for _, r := range list {
		if _, ok := r.(report.TextOnly); ok {
			continue
		}
		line, err := report.Marshal("!poolused", "", r)
		if err != nil {
			t.Fatal(err)
		}
		_, fields, _ := strings.Cut(string(line), `"record":`)
		got = append(got, strings.TrimSpace(fields))
	}
	want := []string{
		`"pool_verify","tag":"ALPC","pool":"nonpaged","tracked_allocs":120,"tracked_bytes":47776,"found_allocs":119,"found_bytes":47664,` +
			`"large_allocs":0,"large_bytes":0,"cached":0,"cached_bytes":0,"difference_allocs":1,"difference_bytes":112,"tracked":true,"verdict":"within",` +
			`"reasons":[{"cause":"pages_damaged","at_most_bytes":5680,"text":"5680 bytes of the nonpaged pool are damaged"}]}`,
		`"pool_coverage","pool":"nonpaged","walked":1355776,"allocated":933216,"cached":0,"free":97392,"large":200704,"overhead":0,"other":118784,` +
			`"damaged":5680,"missing_bytes":0,"sum":1355776,"complete":false,"pages_scanned":253,"pages_missing":0,"pages_broken":3,"tables_missing":0,` +
			`"large_missing":0,"unwalked":null,"large_unread":null}`,
		`"pool_coverage","pool":"paged","walked":839680,"allocated":442272,"cached":0,"free":69728,"large":319488,"overhead":0,"other":4096,` +
			`"damaged":0,"missing_bytes":4096,"sum":839680,"complete":false,"pages_scanned":125,"pages_missing":1,"pages_broken":0,"tables_missing":0,` +
			`"large_missing":0,"unwalked":null,"large_unread":null}`,
		`"pool_verdict","verdict":"within","text":"differs within what is missing: 0 of 1 counters agree, 1 differ for a known reason","counters":1,` +
			`"agree":0,"within":1,"differ":0,"complete":false,"tracker_tables":4,"tracker_entries":2052,"entries_missing":0}`,
	}
	if d := gocmp.Diff(want, got); d != "" {
		t.Errorf("(-want +got):\n%s", d)
	}
}

// stopAfter interrupts a command after so many records.
func stopAfter(t *testing.T, k *model.Kernel, line string, n int) (string, error) {
	t.Helper()
	s, got := session(t, k, report.Era19041)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	defer s.Out.Hook(func(report.Record) {
		if n--; n == 0 {
			cancel()
		}
	})()
	err := s.Execute(ctx, line)
	return got.String(), err
}

// TestPoolused_interrupted: the rows up to then stay, and the sum is whole.
func TestPoolused_interrupted(t *testing.T) {
	t.Parallel()
	k := openShared(t, "dumps/x64/win7.kernel.dmp.xz")
	got, err := stopAfter(t, k, "!poolused 2", 3) // the heading and two rows
	want := ` Sorting by NonPaged Pool Consumed

               NonPaged                  Paged
 Tag     Allocs         Used     Allocs         Used

 EtwB        12       438272          0            0	Event tracing buffers , Binary: nt!etw
 Leak        13       274432          0            0	Deliberate leak of Sysinternals NotMyFault , Binary: myfault.sys
 TOTAL     3534      2245360       1203      2797472
interrupted
`
	if d := gocmp.Diff(want, got); d != "" || !errors.Is(err, cmd.ErrInterrupted) {
		t.Errorf("%v (-want +got):\n%s", err, d)
	}
}

// TestPoolused_protected: bit 31 of a tag is no part of it.
func TestPoolused_protected(t *testing.T) {
	t.Parallel()
	b := builder(t, "17763")
	b.Alloc(heaptest.Ask{Pool: heaptest.NonpagedNx, Tag: "Pro\xe3", Bytes: 0x50, Protected: true})
	b.Alloc(heaptest.Ask{Pool: heaptest.NonpagedNx, Tag: "Pr c", Bytes: 0x50})
	k := b.Open()
	for _, c := range []struct{ line, want string }{
		{`!poolused 0 "Pr c"`, " Pr c         1           96          0            0\tUNKNOWN pooltag 'Pr c', please update pooltag.txt\n"},
		{`!poolused 0 0x63207250`, " Pr c         1           96          0            0\tUNKNOWN pooltag 'Pr c', please update pooltag.txt\n"},
		{`!poolused 0 0xe36f7250`, " Proc         1           96          0            0\tProcess objects , Binary: nt!ps\n"},
	} {
		if got := says(t, k, c.line, nil); !strings.Contains(got, "\n\n"+c.want+" TOTAL") {
			t.Errorf("%s:\n%s", c.line, got)
		}
	}
}

// TestPoolused_unknown: what can't be read is said, with the reason.
func TestPoolused_unknown(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ name, line, want string }{
		{"dumps/real/triage_x64.dmp", "!poolused -verify", "the pool tracker table is not in this dump: a triage dump has no tables of the pool\n"},
		{"dumps/x64/win7seed.kernel.dmp.xz", "!poolused -verify Leak", "nt!PoolTrackTableSize: its address is not known: it needs the symbols of this kernel " +
			"(ntkrnlmp.pdb, 5EEDDEADBEEF4C0CA11E760100020601, age 1)\n"},
	} {
		if got := says(t, openShared(t, c.name), c.line, nil); got != c.want {
			t.Errorf("%s %s:\n%s", c.name, c.line, got)
		}
	}
}
