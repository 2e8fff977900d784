package pool

import (
	"bytes"
	"context"
	"errors"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	gocmp "github.com/google/go-cmp/cmp"

	"gokd/commands/cmd"
	"gokd/commands/report"
	"gokd/dumpfmt"
	"gokd/dumpfmt/dumptest/shared"
	"gokd/model"
	"gokd/model/mem"
	"gokd/model/modeltest"
	"gokd/model/pool"
)

// hexEval reads every expression as a hex number.
type hexEval struct{}

// EvalPrefix gives the value of the first word.
func (h hexEval) EvalPrefix(ctx context.Context, text string) (uint64, string, error) {
	word, rest, _ := strings.Cut(strings.TrimLeft(text, " "), " ")
	v, err := h.Eval(ctx, word)
	return v, rest, err
}

func (hexEval) Eval(_ context.Context, expr string) (uint64, error) {
	return strconv.ParseUint(strings.TrimPrefix(expr, "0x"), 16, 64)
}

// openShared loads a dump of the shared folder.
func openShared(tb testing.TB, name string) *model.Kernel {
	tb.Helper()
	return modeltest.OpenDump(tb, shared.Path(tb, name))
}

// session runs commands on a kernel; what they print goes to the buffer.
func session(tb testing.TB, k *model.Kernel, era report.Era) (*cmd.Session, *bytes.Buffer) {
	tb.Helper()
	table, err := cmd.NewTable(Commands()...)
	if err != nil {
		tb.Fatal(err)
	}
	var b bytes.Buffer
	s := &cmd.Session{Kernel: k, Commands: table, Out: cmd.NewOutput(&b, era, false), Eval: hexEval{}}
	return s, &b
}

func TestText_win7(t *testing.T) {
	t.Parallel()
	k := openShared(t, "dumps/x64/win7.kernel.dmp.xz")
	const used2 = `
               NonPaged                  Paged
 Tag     Allocs         Used     Allocs         Used

`
	for _, c := range []struct {
		line string
		era  report.Era
		only bool
		want string
	}{
		{"!poolused /t 2 2", report.Era19041, true, " Sorting by NonPaged Pool Consumed\n" + used2 +
			" EtwB        12       438272          0            0\tEvent tracing buffers , Binary: nt!etw\n" +
			" Leak        13       274432          0            0\tDeliberate leak of Sysinternals NotMyFault , Binary: myfault.sys\n" +
			" TOTAL     3534      2245360       1203      2797472\n"},
		{"!poolused /t1 4", report.Era26100, true, " Sorting by Paged Pool Consumed\n" + used2 +
			" CM31         0            0         35      1503232\tRegistry hive storage , Binary: nt!cm\n" +
			" TOTAL     3534      2245360       1203      2797472\n"},
		{"!poolused 0 MmL?", report.Era62, true, " Sorting by Tag\n" + used2 +
			" MmLd        12         2880          0            0\tList entries of loaded drivers , Binary: nt!mm\n" +
			" TOTAL       12         2880          0            0\n"},
		{"!poolused 1 Gh05", report.Era19041, false, ` Sorting by Tag

                            NonPaged                                         Paged
 Tag       Allocs       Frees      Diff         Used       Allocs       Frees      Diff         Used

 Gh05           0           0         0            0        18679       18673         6         4960	GDI bitmaps (surfaces) , Binary: win32k.sys
 TOTAL          0           0         0            0        18679       18673         6         4960
The characters Gh05 stand in none of the pages of images that the dump holds.
`},
		{"!poolfind MmLd -small -nonpaged", report.Era19041, false, `
Searching nonpaged pool (fffffa8000000000 : fffffb0000000000) for tag 0x644c6d4d (MmLd)

fffffa8019114670 : tag MmLd, size      0xe0, Nonpaged pool
fffffa80191148a0 : tag MmLd, size      0xe0, Nonpaged pool
`},
		{"!poolfind Leak -large", report.Era19041, false, `
Scanning large pool allocation table for tag 0x6b61654c (Leak) (fffffa801f1c0000 : fffffa801f1c1800)

fffffa801f165000 : tag Leak, size   0x40000, Nonpaged pool
1 found: 1 allocated (262144 bytes).
Checked: 83 large allocations.
`},
		{"!poolfind Wait 1", report.Era19041, true, `
Scanning large pool allocation table for tag 0x74696157 (Wait) (fffffa801f1c0000 : fffffa801f1c1800)


Searching paged pool (fffff8a000000000 : fffff8c000000000) for tag 0x74696157 (Wait)

`},
		{"!pool fffffa800cd6a5c0 2", report.Era19041, true, "Pool page fffffa800cd6a5c0 region is Nonpaged pool\n" +
			"*fffffa800cd6a5b0 size:  540 previous size:  160  (Allocated) *Proc (Protected)\n\t\tPooltag Proc : Process objects, Binary : nt!ps\n"},
		{"!pool fffffa801f003100 80000000", report.Era19041, true, "Pool page fffffa801f003100 region is Nonpaged pool\n" +
			"*fffffa801f003000 : large page allocation, tag is Cont, size is 0xb000 bytes\n"},
		{"!pool fffffa800cd6a123", report.Era62, true, "Pool page fffffa800cd6a123 region is Nonpaged pool\n" +
			"*fffffa800cd6a000 size:  130 previous size:    0  (Allocated) *NDnd\n\t\tPooltag NDnd : Network driver interface: net buffers, Binary : ndis.sys\n" +
			" fffffa800cd6a130 size:  140 previous size:  130  (Allocated)  Ntfx\n"},
		{"!pool fffff80002c2f130", report.Era19041, true, `Pool page fffff80002c2f130 region is Unknown
fffff80002c2f000 is not a valid large pool allocation, checking large session pool...
Unable to read large session pool table (Session data is not present in mini and kernel-only dumps)
fffff80002c2f000 is not valid pool. Checking for freed (or corrupt) pool
`},
		{"!pool 1000", report.Era19041, true, `Pool page 0000000000001000 region is Unknown
0000000000001000 is not a valid large pool allocation, checking large session pool...
Unable to read large session pool table (Session data is not present in mini and kernel-only dumps)
0000000000001000 is not valid pool. Checking for freed (or corrupt) pool
Address 0000000000001000 could not be read. It may be a freed, invalid or paged out page
`},
	} {
		t.Run(c.line, func(t *testing.T) {
			s, got := session(t, k, c.era)
			s.Out.Printer.KDOnly = c.only
			if err := s.Execute(t.Context(), c.line); err != nil {
				t.Fatal(err)
			}
			// A listing that goes on is compared up to the expected text's end.
			text := got.String()
			if !strings.HasSuffix(text, c.want) {
				text = text[:min(len(text), len(c.want))]
			}
			if d := gocmp.Diff(c.want, text); d != "" {
				t.Errorf("(-want +got):\n%s\n%s", d, got)
			}
		})
	}
}

func TestErrors(t *testing.T) {
	t.Parallel()
	k := openShared(t, "dumps/x64/win7.kernel.dmp.xz")
	for _, c := range []struct{ line, want string }{
		{"!poolused 6", "can't be combined"},
		{"!poolused 10", "want a sum of 1, 2, 4 and 8"},
		{"!poolused 0 Leaks", "longer than four"},
		{"!poolused 8", "session pool tracker table is not in this dump"},
		{"!poolfind", "no tag"},
		{"!poolfind 0xnn", "hex digits"},
		{"!poolfind Leak 4", "session data is not present in mini and kernel-only dumps"},
		{"!poolfind Leak 3", "0 nonpaged, 1 paged, 2 special, 4 session"},
		{"!poolfind -session -global Leak", "one of them"},
		{"!poolfind -tag Leak Leak", "two tags"},
		{`!poolfind -x "" Leak`, "-x: no command"},
		{"!poolfind -x dc -X dd Leak", "-x: two of them"},
		{"!poolfind -x zz Leak", "no such command"},
		{"!poolfind Leak 1 -nonpaged", "PoolType 1 and -nonpaged: one of them names the pool"},
		{"!poolfind -process 0 Leak", "is no process; !process 0 0 lists them"},
		{"!pool 0", "address in the pool is needed"},
		{"!pool 1000 40", "want a sum of 1, 2 and 80000000"},
		{".pooltags /nowhere/at/all", "nowhere"},
	} {
		s, _ := session(t, k, report.Era19041)
		err := s.Execute(t.Context(), c.line)
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, want %q", c.line, err, c.want)
		}
	}
}

func TestOtherDumps(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ name, line, want string }{
		{"dumps/real/triage_x64.dmp", "!poolused", "the pool tracker table is not in this dump"},
		{"dumps/real/triage_x64.dmp", "!poolfind Leak", "the table of large allocations is not in this dump"},
		{"dumps/x64/win7seed.kernel.dmp.xz", "!poolused", "nt!PoolTrackTableSize: its address is not known: it needs the symbols of this kernel"},
		{"dumps/x64/win7seed.kernel.dmp.xz", "!poolfind Leak", "Large allocations are not listed: nt!PoolBigPageTable"},
		{"dumps/x64/w10_19041.full.dmp.xz", "!poolfind Leak", "\n13 found: 13 allocated (274432 bytes).\nChecked: 3143 small blocks, 50 large allocations.\nNonpaged pool: all of its 308 pages were read.\n"},
		{"dumps/x64/w10_19041.full.dmp.xz", "!pool ffffba0c2a402050", "Pool page ffffba0c2a402050 region is Nonpaged pool"},
		{"dumps/damaged/bad-pool-corrupt.kernel.dmp.xz", "!poolfind Leak", "Damaged: _POOL_HEADER at 0xfffffa8019013720: BlockSize is zero; 11 blocks before it in the page."},
		{"dumps/damaged/bad-pool-corrupt.kernel.dmp.xz", "!pool fffffa8019013000", "Damaged: _POOL_HEADER at fffffa8019013720: BlockSize is zero; the header at 0xfffffa80190137e0 says that it has 0xc0 bytes."},
		{"dumps/damaged/evil-names.kernel.dmp.xz", `!poolused 0 *[*`, `UNKNOWN pooltag '\x1b[2J'`},
	} {
		t.Run(c.name+" "+c.line, func(t *testing.T) {
			t.Parallel()
			s, got := session(t, openShared(t, c.name), report.Era19041)
			err := s.Execute(t.Context(), c.line)
			if text := got.String(); !strings.Contains(text, c.want) || strings.Contains(text, "\x1b") {
				t.Errorf("%v:\n%s", err, text)
			}
		})
	}
}

// canceller stops a command after some records.
type canceller struct {
	cancel context.CancelFunc
	left   int
}

func TestPoolfind_interrupted(t *testing.T) {
	t.Parallel()
	s, got := session(t, openShared(t, "dumps/x64/win7.kernel.dmp.xz"), report.Era19041)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	c := canceller{cancel, 20}
	defer s.Out.Hook(func(report.Record) {
		if c.left--; c.left == 0 {
			c.cancel()
		}
	})()
	err := s.Execute(ctx, "!poolfind *")
	text := got.String()
	if !errors.Is(err, cmd.ErrInterrupted) || !strings.Contains(text, "\n...terminating - searched pool to fffffa80") {
		t.Errorf("%v:\n%s", err, text)
	}
	if !strings.Contains(text, ", Nonpaged pool\n") {
		t.Errorf("nothing of what was found stays:\n%s", text)
	}
}

func TestPooltags(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "my tags.txt")
	if err := os.WriteFile(file, []byte("rem x\nLeak - leaky.sys - My driver\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	s, got := session(t, openShared(t, "dumps/x64/win7.kernel.dmp.xz"), report.Era19041)
	if err := s.Execute(t.Context(), `.pooltags "`+file+`"; !poolused 0 Lea?`); err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(got.String(), " 1 tags,   0 patterns  ") || !strings.Contains(got.String(), "\tMy driver , Binary: leaky.sys\n") {
		t.Errorf("%s", got)
	}
}

// TestRows_transcripts holds single rows against lines that kd printed.
func TestRows_transcripts(t *testing.T) {
	t.Parallel()
	usage := func(tag string, nl, nb, pl, pb int64) pool.Usage {
		return pool.Usage{Tag: pool.Tag([]byte(tag)), Nonpaged: pool.Count{Live: nl, Bytes: nb}, Paged: pool.Count{Live: pl, Bytes: pb}}
	}
	alpc := usage("ALPC", 2417, 1440624, 0, 0)
	alpc.Nonpaged.Allocs, alpc.Nonpaged.Frees = 4528, 2111
	appt := usage("APpt", 968, 124112, 2342, 255952)
	appt.Nonpaged.Allocs, appt.Paged.Allocs, appt.Paged.Frees = 968, 109457, 107115
	proc := pool.Block{Header: 0xffff830da0ce8000, Body: 0xffff830da0ce8010, Size: 0xb80, Tag: pool.Tag([]byte("Proc"))}
	large := pool.Block{Header: 0xffff8287ad34f000, Body: 0xffff8287ad34f000, Size: 0x1000, Tag: pool.Tag([]byte("Proc")), Large: true}
	seSd := pool.Block{Header: 0x826fa130, Body: 0x826fa140, Size: 0xc0, PreviousSize: 0x40, Tag: pool.Tag([]byte("SeSd"))}
	freed := pool.Block{Header: 0x8278b830, Size: 0x10, PreviousSize: 0x100, Tag: pool.Tag([]byte("SeSd")), State: pool.Free}
	pattern, err := pool.ParsePattern("Proc", true)
	if err != nil {
		t.Fatal(err)
	}
	all, err := pool.ParsePattern("*", true)
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		era  report.Era
		rec  report.Record
		want string
	}{
		{report.Era62, &tagRecord{usage: usage("1394", 1, 520, 0, 0), text: "UNKNOWN pooltag '1394', please update pooltag.txt"},
			" 1394         1          520          0            0\tUNKNOWN pooltag '1394', please update pooltag.txt\n"},
		{report.Era19041, &tagRecord{usage: usage("CM31", 0, 0, 19797, 91705344), text: "Internal Configuration manager allocations , Binary: nt!cm"},
			" CM31         0            0      19797     91705344\tInternal Configuration manager allocations , Binary: nt!cm\n"},
		{report.Era19041, &tagRecord{usage: alpc, counters: true, text: "ALPC port objects , Binary: nt!alpc"},
			" ALPC        4528        2111      2417      1440624            0           0         0            0\tALPC port objects , Binary: nt!alpc\n"},
		{report.Era19041, &tagRecord{usage: appt, counters: true, text: "UNKNOWN pooltag 'APpt', please update pooltag.txt"},
			" APpt         968           0       968       124112       109457      107115      2342       255952\tUNKNOWN pooltag 'APpt', please update pooltag.txt\n"},
		{report.Era62, &blockRecord{block: seSd}, "00000000826fa140 : tag SeSd, size      0xb0, Nonpaged pool\n"},
		{report.Era62, &blockRecord{block: freed}, "\n"}, // no row
		{report.Era19041, &blockRecord{block: proc}, "ffff830da0ce8010 : tag Proc, size     0xb70, Nonpaged pool\n"},
		{report.Era19041, &blockRecord{block: large}, "ffff8287ad34f000 : tag Proc, size    0x1000, Nonpaged pool\n"},
		{report.Era19041, &pageBlock{blockRecord: &blockRecord{block: large}, marked: true, desc: "Pooltag Proc : Process objects, Binary : nt!ps"},
			"*ffff8287ad34f000 : large page allocation, tag is Proc, size is 0x1000 bytes\n\t\tPooltag Proc : Process objects, Binary : nt!ps\n"},
		{report.Era19041, searchLine{large: true, start: 0xffff830da1e60000, end: 0xffff830da1f20000, pattern: pattern},
			"\nScanning large pool allocation table for tag 0x636f7250 (Proc) (ffff830da1e60000 : ffff830da1f20000)\n\n"},
		{report.Era19041, searchLine{start: 0xffff830000000000, end: 0xffff930000000000, pattern: pattern},
			"\nSearching nonpaged pool (ffff830000000000 : ffff930000000000) for tag 0x636f7250 (Proc)\n\n"},
		{report.Era19041, searchLine{large: true, pattern: all},
			"\nScanning large pool allocation table for tag 0x2020202a (*   ) (0000000000000000 : 0000000000000000)\n\n"},
	} {
		var b bytes.Buffer
		if err := report.NewPrinter(&b, c.era, false).Emit(c.rec); err != nil {
			t.Fatal(err)
		}
		got, _, _ := strings.Cut(b.String(), "\n")
		if strings.HasPrefix(c.want, "\n") || strings.Count(c.want, "\n") > 1 {
			got = strings.TrimSuffix(b.String(), "\n")
		}
		if d := gocmp.Diff(c.want, got+"\n"); d != "" {
			t.Errorf("(-want +got):\n%s", d)
		}
	}
}

// records collects what a command emits beside text.
func records(t *testing.T, k *model.Kernel, line string) []report.Record {
	t.Helper()
	s, _ := session(t, k, report.Era19041)
	var list []report.Record
	defer s.Out.Hook(func(r report.Record) { list = append(list, r) })()
	if err := s.Execute(t.Context(), line); err != nil {
		t.Fatal(err)
	}
	return list
}

func TestPoolfind_records(t *testing.T) {
	t.Parallel()
	k := openShared(t, "dumps/x64/win7.kernel.dmp.xz")
	const process = mem.VA(0xfffffa8019007040)
	list := records(t, k, "!poolfind Even -process fffffa8019007040")
	n := 0
	for _, r := range list {
		if row, ok := r.(*findRow); ok {
			n++
			b := newBlock(row.pool, row.block, true)
			if b.Owner == nil || mem.VA(*b.Owner) != process || b.Tag != "Even" || b.Size != b.block.Size || b.Address != b.Header+0x10 {
				t.Errorf("%+v", b)
			}
		}
	}
	sum, ok := list[len(list)-1].(*searchSummary)
	if !ok || n == 0 || sum.Matches != uint64(n) || sum.PagesScanned != 253 || sum.SkippedItems() != 0 {
		t.Errorf("%d blocks, %+v", n, list[len(list)-1])
	}
	line, err := report.Marshal("!poolfind", "Even", list[len(list)-2])
	if err != nil || !strings.Contains(string(line), `"owner_process":"0xfffffa8019007040"`) || !strings.Contains(string(line), `"state":"allocated"`) {
		t.Errorf("%s %v", line, err)
	}
}

// BenchmarkPoolfind is the whole command over 1 GB of carved pool.
func BenchmarkPoolfind(b *testing.B) {
	file := filepath.Join(os.TempDir(), "perf", "big.kernel.dmp")
	if _, err := os.Stat(file); err != nil {
		b.Skipf("unpack perf/big.kernel.dmp.xz of the shared dumps to it first: %v", err)
	}
	d, err := dumpfmt.OpenFile(file)
	if err != nil {
		b.Fatal(err)
	}
	defer d.Close()
	s, out := session(b, modeltest.Load(b, d), report.Era19041)
	for _, line := range []string{"!poolused", "!poolfind Leak", "!poolfind *"} {
		b.Run(line, func(b *testing.B) {
			b.ReportAllocs()
			if line != "!poolused" {
				b.SetBytes(1 << 30)
			}
			for b.Loop() {
				out.Reset()
				if err := s.Execute(context.Background(), line); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
