package pool

import (
	"cmp"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	gocmp "github.com/google/go-cmp/cmp"

	"gokd/dumpfmt/dumptest/shared"
	"gokd/model"
	"gokd/model/mem"
	"gokd/model/modeltest"
	"gokd/model/pool/cell"
)

// truthDumps are the dumps with known pools, with what each is held against.
// Those with pages have every block listed; those without are of segment heaps,
// or of a series whose blocks nobody listed.
var truthDumps = append([]truthDump{
	{truth: "x64/win7", file: "x64/win7.kernel", pages: true, large: true},
	{truth: "x64/win7seed", file: "x64/win7seed.kernel", symbols: "win7seed", pages: true, large: true},
	{truth: "x64/win7seed", file: "x64/win7seed.full", symbols: "win7seed", pages: true, large: true},
	{truth: "x64/win7seed", file: "x64/win7seed.bitmap", symbols: "win7seed", pages: true, large: true},
	{truth: "x64/win81", file: "x64/win81.full", pages: true, large: true},
	{truth: "x64/w10_1607", file: "x64/w10_1607.kernel", pages: true, large: true},
	{truth: "damaged/evil-names", file: "damaged/evil-names.kernel", pages: true, large: true},
	{truth: "x64/w10_19041", file: "x64/w10_19041.full", pages: true, large: true},
	{truth: "x64/w10_19041-encoded", file: "x64/w10_19041-encoded.kernel", pages: true},
}, series()...)

type truthDump struct {
	truth, file string
	symbols     string // the folder of its kernel's table; none: embedded layouts do
	pages       bool
	large       bool
}

func series() (all []truthDump) {
	for i := 1; i <= 6; i++ {
		for _, n := range []string{"leak", "load"} {
			name := fmt.Sprintf("series/%s-%d", n, i)
			all = append(all, truthDump{truth: name, file: name + ".kernel"})
		}
	}
	return all
}

// TestTruth opens each dump once for all that is known of it.
func TestTruth(t *testing.T) {
	t.Parallel()
	for _, d := range truthDumps {
		t.Run(d.file, func(t *testing.T) {
			t.Parallel()
			symbols := ""
			if d.symbols != "" {
				symbols = shared.Path(t, "dumps/symbols", d.symbols)
			}
			k := modeltest.OpenDump(t, shared.Path(t, "dumps", d.file+".dmp.xz"), modeltest.Symbols(symbols))
			want := readTruth(t, d.truth)
			t.Run("usages", func(t *testing.T) { compareUsages(t, k, want) })
			if d.large {
				t.Run("large", func(t *testing.T) { compareLarge(t, k, want) })
			}
			if d.pages {
				t.Run("blocks", func(t *testing.T) { compareBlocks(t, k, readBlocks(t, d.truth)) })
				t.Run("trackers", func(t *testing.T) { compareTrackers(t, k) })
			}
		})
	}
}

func hexVA(v mem.VA) string { return fmt.Sprintf("%#x", uint64(v)) }

func storedTag(b Block) string {
	t := b.Tag
	if b.Protected {
		t[3] |= 0x80
	}
	return hex.EncodeToString(t[:])
}

func compareBlocks(t *testing.T, k *model.Kernel, want []truthBlock) {
	t.Helper()
	p, err := Open(k)
	if err != nil {
		t.Fatal(err)
	}
	if !p.PagePool() {
		// A free piece of a heap has no header: the truth does not list it.
		want = slices.DeleteFunc(want, func(b truthBlock) bool { return b.state == "f" })
	}
	slices.SortFunc(want, func(a, b truthBlock) int { return cmp.Compare(a.address, b.address) })
	var got []truthBlock
	for _, kind := range []Kind{Nonpaged, Paged} {
		got = append(got, smallBlocks(t, p, kind)...)
	}
	slices.SortFunc(got, func(a, b truthBlock) int { return cmp.Compare(a.address, b.address) })
	if d := gocmp.Diff(want, got, gocmp.AllowUnexported(truthBlock{})); d != "" {
		t.Errorf("blocks (-want +got):\n%s", cut(d))
	}
}

func cut(s string) string { return s[:min(len(s), 3000)] }

func smallBlocks(t *testing.T, p *Pool, kind Kind) []truthBlock {
	t.Helper()
	w, err := p.Find(t.Context(), Query{Kind: kind})
	if err != nil {
		t.Fatal(err)
	}
	var list []truthBlock
	var found, heapless uint64
	for _, r := range w.Ranges() {
		last := mem.VA(0)
		for b, err := range w.Small(t.Context(), r) {
			if err != nil {
				if p.PagePool() || !strings.HasSuffix(err.Error(), "page not in dump") {
					t.Errorf("%s: %v", kind, err)
				}
				heapless++
				continue
			}
			found++
			if b.Header <= last {
				t.Fatalf("%s: block at %#x after %#x", kind, uint64(b.Header), uint64(last))
			}
			last = b.Header
			if b.State == Free && !p.PagePool() {
				continue
			}
			owner, err := p.Owner(b)
			if err != nil {
				t.Errorf("owner: %v", err)
			}
			list = append(list, truthBlock{hexVA(b.Header), b.Size, storedTag(b), b.State.String()[:1], kind.String()[:1], hexVA(owner)})
		}
	}
	// One page of paged pool in these dumps is paged out.
	if s := w.Summary(); s.PagesMissing > 1 || s.Skipped() != s.PagesMissing+heapless || s.Matches != found || s.Blocks != found ||
		s.Coverage.Sum() != s.Coverage.Walked || s.Coverage.Missing != s.PagesMissing*pageSize {
		t.Errorf("%s: %d blocks, summary %+v", kind, len(list), s)
	}
	return list
}

func compareLarge(t *testing.T, k *model.Kernel, truth truth) {
	t.Helper()
	var want, got []string
	for _, b := range truth.Pool.Big {
		if !b.Free {
			want = append(want, fmt.Sprintf("%s %s %s %d", b.VA, b.Tag, b.Pool, b.Bytes))
		}
	}
	for _, kind := range []Kind{Nonpaged, Paged} {
		for b, err := range Blocks(t.Context(), k, kind, Pattern{}) {
			if err != nil {
				t.Fatal(err)
			}
			if b.Large {
				got = append(got, fmt.Sprintf("%#x %s %s %d", uint64(b.Body), b.Tag, kind, b.Size))
			}
		}
	}
	slices.Sort(want)
	slices.Sort(got)
	if d := gocmp.Diff(want, got); d != "" {
		t.Errorf("large allocations (-want +got):\n%s", cut(d))
	}
}

func compareUsages(t *testing.T, k *model.Kernel, truth truth) {
	t.Helper()
	want, got := map[string]truthTag{}, map[string]truthTag{}
	for _, x := range truth.Pool.Trackers {
		want[x.Tag] = x
	}
	last := Tag{}
	for u, err := range Usages(t.Context(), k) {
		if err != nil {
			t.Fatal(err)
		}
		if len(got) > 0 && last.Compare(u.Tag) >= 0 {
			t.Errorf("tag %s after %s", u.Tag, last)
		}
		last = u.Tag
		if u.Nonpaged.Live != int64(u.Nonpaged.Allocs-u.Nonpaged.Frees) {
			t.Errorf("%s: %d live of %+v", u.Tag, u.Nonpaged.Live, u.Nonpaged)
		}
		tag := hex.EncodeToString(u.Tag[:])
		got[tag] = truthTag{
			tag, u.Nonpaged.Allocs, u.Nonpaged.Frees, u.Nonpaged.Bytes,
			u.Paged.Allocs, u.Paged.Frees, u.Paged.Bytes,
		}
	}
	if d := gocmp.Diff(want, got); d != "" {
		t.Errorf("tags (-want +got):\n%s", cut(d))
	}
}

func TestBlocks_corruptPages(t *testing.T) {
	t.Parallel()
	k := modeltest.OpenDump(t, shared.Path(t, "dumps/damaged/bad-pool-corrupt.kernel.dmp.xz"))
	p, err := Open(k)
	if err != nil {
		t.Fatal(err)
	}
	w, err := p.Find(t.Context(), Query{Kind: Nonpaged, Workers: 2})
	if err != nil {
		t.Fatal(err)
	}
	found := map[string]bool{}
	var broken []PageError
	for b, err := range w.Blocks(t.Context()) {
		var e *PageError
		switch {
		case errors.As(err, &e):
			broken = append(broken, *e)
		case err != nil:
			t.Fatal(err)
		case !b.Large:
			found[hexVA(b.Header)] = true
		}
	}
	want := []PageError{
		{0xfffffa8019013000, 0xfffffa8019013720, 11, "BlockSize is zero"},
		{0xfffffa801901d000, 0xfffffa801901d790, 12, "PreviousSize is 0x770, the block before it has another size"},
		{0xfffffa801903f000, 0xfffffa801903fb20, 7, "BlockSize 0xff0 runs past the end of the page"},
	}
	if d := gocmp.Diff(want, broken); d != "" {
		t.Errorf("broken pages (-want +got):\n%s", d)
	}
	if s := w.Summary(); s.PagesBroken != 3 || s.PagesScanned != 253 || s.Skipped() != 3 {
		t.Errorf("summary %+v", s)
	}
	// Every block of the truth is there but those behind a break in its page.
	for _, b := range readBlocks(t, "damaged/bad-pool-corrupt") {
		if b.pool != "n" {
			continue
		}
		lost := false
		for _, e := range want {
			lost = lost || b.address[:15] == hexVA(e.Page)[:15] && b.address >= hexVA(e.At)
		}
		if found[b.address] == lost {
			t.Errorf("block %s: found %v, behind a break %v", b.address, found[b.address], lost)
		}
	}
}

func TestBlockAt_everyBlock(t *testing.T) {
	t.Parallel()
	k := modeltest.OpenDump(t, shared.Path(t, "dumps/x64/win7.kernel.dmp.xz"))
	p, err := Open(k)
	if err != nil {
		t.Fatal(err)
	}
	for i, want := range readBlocks(t, "x64/win7") {
		if i%17 != 0 {
			continue
		}
		var at uint64
		fmt.Sscanf(want.address, "0x%x", &at)
		for _, in := range []uint64{0, 1, HeaderSize, want.size - 1} {
			b, err := p.BlockAt(t.Context(), mem.VA(at+in))
			if err != nil {
				t.Fatal(err)
			}
			got := truthBlock{hexVA(b.Header), b.Size, storedTag(b), b.State.String()[:1], b.Kind.String()[:1], want.billed}
			if got != want {
				t.Errorf("at %#x: got %+v, want %+v", at+in, got, want)
			}
		}
	}
	for _, x := range readTruth(t, "x64/win7").Pool.Big {
		var at uint64
		fmt.Sscanf(x.VA, "0x%x", &at)
		b, err := p.BlockAt(t.Context(), mem.VA(at+x.Bytes-1))
		if x.Free {
			if err == nil && b.Large && uint64(b.Body) == at {
				t.Errorf("freed allocation %#x found: %+v", at, b)
			}
			continue
		}
		if err != nil || uint64(b.Body) != at || b.Size != x.Bytes || !b.Large {
			t.Errorf("at %#x: %+v, %v", at+x.Bytes-1, b, err)
		}
	}
	for _, at := range []mem.VA{0, 0xfffff80000000000, 0x1234, ^mem.VA(0)} {
		if b, err := p.BlockAt(t.Context(), at); err == nil {
			t.Errorf("at %#x: found %+v", uint64(at), b)
		}
	}
}

// compareTrackers adds up what the walk finds and holds it against the kernel's
// own counters.
func compareTrackers(t *testing.T, k *model.Kernel) {
	t.Helper()
	p, err := Open(k)
	if err != nil {
		t.Fatal(err)
	}
	live := map[Tag][2]int64{}
	for i, kind := range []Kind{Nonpaged, Paged} {
		x, err := p.Index(t.Context(), kind, nil)
		if err != nil || x.Summary().PagesBroken != 0 {
			t.Fatal(x.Summary(), err)
		}
		each := map[Tag]int64{}
		x.Cells(func(part []cell.Cell) bool {
			for _, c := range part {
				if c.State() == cell.Allocated {
					tag, _ := TagOf(c.Tag())
					each[tag]++
				}
			}
			return true
		})
		w, err := p.Find(t.Context(), Query{Kind: kind})
		if err != nil {
			t.Fatal(err)
		}
		for b, err := range w.Large(t.Context()) {
			if err != nil {
				t.Fatal(err)
			}
			each[b.Tag]++
		}
		for tag, n := range each {
			x := live[tag]
			x[i] += n
			live[tag] = x
		}
	}
	want := map[Tag][2]int64{}
	for u, err := range p.Usages(t.Context()) {
		if err != nil {
			t.Fatal(err)
		}
		if u.Nonpaged.Live != 0 || u.Paged.Live != 0 {
			want[u.Tag] = [2]int64{u.Nonpaged.Live, u.Paged.Live}
		}
	}
	if d := gocmp.Diff(want, live); d != "" {
		t.Errorf("live allocations (-trackers +walk):\n%s", cut(d))
	}
}

// TestScan_big walks the dump of 1 GB of pool if it is there.
func TestIndex_big(t *testing.T) {
	t.Parallel()
	k, _ := bigDump(t)
	compareTrackers(t, k)
}
