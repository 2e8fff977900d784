package pool

import (
	"errors"
	"strings"
	"testing"

	gocmp "github.com/google/go-cmp/cmp"

	"gokd/commands/cmd"
	"gokd/commands/masm"
	"gokd/commands/report"
	"gokd/model"
	"gokd/model/pool/heaptest"
)

// withEval gives a session the evaluator of expressions, for commands that name
// @$extret.
func withEval(s *cmd.Session) { s.Eval = masm.ForSession(s) }

// hitsOf keeps the rows of !poolfind of a text.
func hitsOf(text string) (list []string) {
	for line := range strings.Lines(text) {
		if strings.Contains(line, " : tag ") {
			list = append(list, line[len("fffffa8000000000"):])
		}
	}
	return list
}

// TestPoolfind_command: a command runs for each hit, with its address; one that
// fails ends the search unless failures are passed over.
func TestPoolfind_command(t *testing.T) {
	t.Parallel()
	k := openShared(t, "dumps/x64/win7.kernel.dmp.xz")
	const head = "\nSearching nonpaged pool (fffffa8000000000 : fffffb0000000000) for tag 0x6b61654c (Leak)\n\n"
	const first = "fffffa801910f010 : tag Leak, size     0x3f0, Nonpaged pool\n"
	one := says(t, k, `!poolfind Leak -small -x "!poolused 0x40"`, withEval)
	if d := gocmp.Diff(head+first+"!poolused: flags 0x40: want a sum of 1, 2, 4 and 8\nusage: !poolused [/t count] [-verify] [Flags [Tag]]\n", one); d != "" {
		t.Errorf("a failure ends it (-want +got):\n%s", d)
	}
	s, got := session(t, k, report.Era19041)
	withEval(s)
	s.KeepGoing = true
	if err := s.Execute(t.Context(), `!poolfind Leak -small -x "!poolused 0x40"`); err != nil {
		t.Errorf("keepgoing: %v", err)
	}
	if text := got.String(); strings.Count(text, "want a sum") != 12 || !strings.HasSuffix(text, "12 of 12 commands failed.\n") {
		t.Errorf("keepgoing:\n%s", text)
	}
	if v, ok := s.Pseudo("$extret"); !ok || v.Value>>40 != 0xfffffa || v.Value&0xf != 0 {
		t.Errorf("$extret is %#x", v.Value)
	}
	text := says(t, k, `!poolfind Leak -small -x "!pool @$extret 2"`, withEval)
	if n := strings.Count(text, "(Allocated) *Leak\n"); n != 12 {
		t.Errorf("%d of 12:\n%s", n, text)
	}
}

// TestPoolfind_commandInterrupted: an interruption in a command ends the search;
// what was found stays.
func TestPoolfind_commandInterrupted(t *testing.T) {
	t.Parallel()
	k := openShared(t, "dumps/x64/win7.kernel.dmp.xz")
	text, err := stopAfter(t, k, `!poolfind Leak -small -x "!poolused 0 Leak"`, 4)
	if !errors.Is(err, cmd.ErrInterrupted) || len(hitsOf(text)) != 1 || !strings.Contains(text, "\n1 found: 1 allocated (1024 bytes); not everything was read") {
		t.Errorf("%v:\n%s", err, text)
	}
}

// manyPools has the same tag in every pool.
func manyPools(t *testing.T) *model.Kernel {
	b := builder(t, "14393")
	ask := heaptest.Ask{Tag: "A B", Bytes: 0x30}
	for i, p := range []heaptest.Pool{heaptest.NonpagedNx, heaptest.Nonpaged, heaptest.Paged} {
		ask.Pool = p
		for range i + 1 {
			b.Alloc(ask)
		}
		b.Free(b.Alloc(ask))
	}
	ask.Pool = heaptest.NonpagedNx
	b.Cache(b.Alloc(ask))
	b.Big(heaptest.Ask{Pool: heaptest.Paged, Tag: "A B", Bytes: 0x2345})
	for _, id := range []uint32{1, 2} {
		s := b.Session(id)
		for range id {
			s.Alloc(heaptest.Ask{Tag: "A B", Bytes: uint64(id) * 0x100})
		}
	}
	b.Special(heaptest.Ask{Pool: heaptest.SpecialPaged, Tag: "A B", Bytes: 0x123}, false)
	return b.Open()
}

func TestPoolfind_pools(t *testing.T) {
	t.Parallel()
	k := manyPools(t)
	const (
		nonpaged = " : tag A B , size      0x30, Nonpaged pool\n"
		paged    = " : tag A B , size      0x30, Paged pool\n"
		large    = " : tag A B , size    0x2345, Paged pool\n"
		session1 = " : tag A B , size     0x100, Session pool\n"
		session2 = " : tag A B , size     0x200, Session pool\n"
		special  = " : tag A B , size     0x128, Special pool\n"
	)
	one := uint32(1)
	for _, c := range []struct {
		line    string
		session *uint32
		rows    []string
		found   string // the line of the sums
	}{
		{`!poolfind "A B"`, nil, []string{nonpaged, nonpaged, nonpaged}, "6 found: 3 allocated (192 bytes), 2 free, 1 freed and kept on lists; only allocated ones have a row."},
		{`!poolfind -tag "A B" -paged`, nil, []string{large, paged, paged, paged}, "5 found: 4 allocated (9221 bytes), 1 free; only allocated ones have a row."},
		{`!poolfind "A?B " 1`, nil, []string{large, paged, paged, paged}, "5 found: 4 allocated (9221 bytes), 1 free; only allocated ones have a row."},
		{`!poolfind A* -paged -large`, nil, []string{large}, "1 found: 1 allocated (9029 bytes)."},
		{`!poolfind *B* -paged -small`, nil, []string{paged, paged, paged}, "4 found: 3 allocated (192 bytes), 1 free; only allocated ones have a row."},
		{`!poolfind "A B" 4`, nil, []string{session1, session2, session2}, "3 found: 3 allocated (1328 bytes)."},
		{`!poolfind "A B" -session`, &one, []string{session1}, "1 found: 1 allocated (272 bytes)."},
		{`!poolfind "A B" 2`, nil, []string{special}, "1 found: 1 allocated (296 bytes)."},
		{`!poolfind 0x20422041 -nonpaged -paged -large`, nil, []string{large}, "1 found: 1 allocated (9029 bytes)."},
	} {
		text := says(t, k, c.line, func(s *cmd.Session) { s.LogonSession = c.session })
		if d := gocmp.Diff(c.rows, hitsOf(text)); d != "" {
			t.Errorf("%s (-want +got):\n%s\n%s", c.line, d, text)
		}
		if !strings.Contains(text, "\n"+c.found+"\n") {
			t.Errorf("%s: no line %q:\n%s", c.line, c.found, text)
		}
	}
	seven := uint32(7)
	got := says(t, k, `!poolfind "A B" 4`, func(s *cmd.Session) { s.LogonSession = &seven })
	if want := "the pool of session 7 is not in this dump: no process of it leads there\n"; got != want {
		t.Errorf("%q", got)
	}
}

// TestPoolfind_heaps: where blocks lie in heaps there is no range to name, and
// rows come in the order of the heaps.
func TestPoolfind_heaps(t *testing.T) {
	t.Parallel()
	b := builder(t, "22000")
	for i := range 3 {
		b.Alloc(heaptest.Ask{Pool: heaptest.NonpagedNx, Tag: "Heap", Bytes: uint64(i+1) * 0x40})
	}
	b.Alloc(heaptest.Ask{Pool: heaptest.Paged, Tag: "Heap", Bytes: 0x700})
	k := b.Open()
	text := says(t, k, "!poolfind Heap -nonpaged -paged", nil)
	want := []string{
		" : tag Heap, size      0x40, Nonpaged pool\n", " : tag Heap, size      0x80, Nonpaged pool\n",
		" : tag Heap, size      0xc0, Nonpaged pool\n", " : tag Heap, size     0x700, Paged pool\n",
	}
	if d := gocmp.Diff(want, hitsOf(text)); d != "" || strings.Contains(text, "Searching") || strings.Count(text, "Scanning") != 2 {
		t.Errorf("(-want +got):\n%s\n%s", d, text)
	}
	if text := says(t, k, "!poolfind Heap -small", nil); !strings.Contains(text, "\nSearching nonpaged pool (") {
		t.Errorf("%s", text)
	}
	if got, want := says(t, k, "!poolfind Heap 2", nil), "special pool of build 22000"; !strings.HasPrefix(got, want) {
		t.Errorf("%q", got)
	}
}

// TestPoolfind_refused: heaps that don't prove themselves are not read; what is
// known without them is shown as floors, with the reason.
func TestPoolfind_refused(t *testing.T) {
	t.Parallel()
	b := builder(t, "22000")
	b.Alloc(heaptest.Ask{Pool: heaptest.NonpagedNx, Tag: "Heap", Bytes: 0x40})
	b.Big(heaptest.Ask{Pool: heaptest.NonpagedNx, Tag: "Heap", Bytes: 0x5000})
	k := b.Open()
	keys, err := k.Global("RtlpHpHeapGlobals")
	if err != nil {
		t.Fatal(err)
	}
	b.M.Put64(keys, 0x1234567812345678)
	text := says(t, k, "!poolfind Heap", nil)
	if d := gocmp.Diff([]string{" : tag Heap, size    0x5000, Nonpaged pool\n"}, hitsOf(text)); d != "" {
		t.Errorf("(-want +got):\n%s", d)
	}
	for _, want := range []string{
		"\n1 found: 1 allocated (20480 bytes); not everything was read, so these are floors.\n",
		"\nCovers: large allocations; small blocks were not walked: segment heaps of this kernel are not read",
	} {
		if !strings.Contains(text, want) {
			t.Errorf("no %q:\n%s", want, text)
		}
	}
	text = says(t, k, "!poolused -verify Heap", nil)
	for _, want := range []string{"\twithin: not walked\n", "\n  Small blocks were not walked: segment heaps of this kernel are not read"} {
		if !strings.Contains(text, want) {
			t.Errorf("no %q:\n%s", want, text)
		}
	}
}

// TestPoolfind_again: the second search is answered from the first, row for row.
func TestPoolfind_again(t *testing.T) {
	t.Parallel()
	for _, name := range []string{"dumps/x64/win81.full.dmp.xz", "dumps/x64/w10_19041.full.dmp.xz", "dumps/damaged/bad-pool-corrupt.kernel.dmp.xz"} {
		s, got := session(t, openShared(t, name), report.Era19041)
		for _, line := range []string{"!poolfind * -nonpaged -paged", "!poolfind Thre", "!poolfind zzzz 1"} {
			var texts [2]string
			for i := range texts {
				got.Reset()
				if err := s.Execute(t.Context(), line); err != nil {
					t.Fatal(err)
				}
				texts[i] = got.String()
			}
			if d := gocmp.Diff(texts[0], texts[1]); d != "" {
				t.Errorf("%s %s (-first +second):\n%s", name, line, d)
			}
		}
	}
}
