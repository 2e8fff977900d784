package snapshot_test

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"gokd/dumpfmt"
	"gokd/dumpfmt/dumptest/shared"
	"gokd/dumpfmt/snapshot"
	"gokd/model"
	"gokd/model/mem"
	"gokd/model/modeltest"
	"gokd/model/pool"
	"gokd/model/resource"
	"gokd/model/thread"
	"gokd/model/types"
	"gokd/model/unwind"
)

// openImage opens a snapshot through the debugger's own reader.
func openImage(t testing.TB, im *snapshot.Image, options ...modeltest.Option) *model.Kernel {
	t.Helper()
	d, err := dumpfmt.Open(im, im.Size())
	if err != nil {
		t.Fatal(err)
	}
	return modeltest.Load(t, d, options...)
}

// load opens a snapshot with its own symbols.
func load(t testing.TB, im *snapshot.Image) *model.Kernel {
	t.Helper()
	k := openImage(t, im, func(s *model.Source) { s.Symbols = im.Resolver() })
	if len(k.Warnings) > 0 {
		t.Errorf("warnings: %q", k.Warnings)
	}
	if k.Types == nil || k.Origin().Match != types.MatchSynthetic {
		t.Fatalf("layouts: %+v", k.Origin())
	}
	return k
}

// TestLoad_withoutSymbols opens a snapshot by embedded layouts alone: they must
// prove themselves against it.
func TestLoad_withoutSymbols(t *testing.T) {
	t.Parallel()
	k := openImage(t, build(t, nil, snapshot.Options{}))
	if len(k.Warnings) > 0 || k.Types == nil || k.Origin().Match != types.MatchNearest {
		t.Fatalf("warnings %q, layouts %+v", k.Warnings, k.Origin())
	}
	if ty, err := k.Types.Type("_KTHREAD"); err != nil || ty.Size != 0x360 {
		t.Errorf("another layout proved itself: %v", err)
	}
}

func row(f unwind.Frame) string {
	quad := func(v mem.VA) string { return fmt.Sprintf("%08x`%08x", uint64(v)>>32, uint64(v)&0xffffffff) }
	s := fmt.Sprintf("%s %s %s", quad(f.ChildSP), quad(f.ReturnAddress), f.Name)
	if f.TrapFrame != 0 {
		s += fmt.Sprintf(" (TrapFrame @ %s)", quad(f.TrapFrame))
	}
	return s
}

// TestLoad_article compares the stack of the deadlocked thread with the rows
// of the article, which stand in the scenario.
func TestLoad_article(t *testing.T) {
	t.Parallel()
	text := scenario(t, "self-deadlock.yaml")
	var want, got []string
	for line := range strings.Lines(string(text)) {
		if line = strings.TrimSpace(line); strings.HasPrefix(line, "fffff880`0") {
			want = append(want, line)
		}
	}
	k := load(t, build(t, text, snapshot.Options{}))
	st, err := unwind.Thread(context.Background(), k, 0xfffffa80169538a0, unwind.Options{})
	if err != nil || st.Err != nil {
		t.Fatal(err, st)
	}
	for _, f := range st.Frames {
		got = append(got, row(f))
	}
	if diff := cmp.Diff(want, got); diff != "" || len(got) != 36 {
		t.Errorf("%d rows (-want +got):\n%s", len(got), diff)
	}
	if _, _, ok := unwindIndex(t, k).at(0xfffff88007fab7f3); !ok {
		t.Error("the owner pointer lies in no stack")
	}
}

// TestScenario_article compares the scenario with the article's own text.
func TestScenario_article(t *testing.T) {
	t.Parallel()
	text := string(scenario(t, "self-deadlock.yaml"))
	article := string(shared.Unpacked(t, shared.Path(t, "reference/transcripts/006-locks-thread-win2008r2-x64-ownerpointer.txt")))
	rows := 0
	for line := range strings.Lines(article) {
		line = strings.TrimSpace(line)
		if strings.HasPrefix(line, "fffff880`0") {
			rows++
			if !strings.Contains(text, line+"\n") {
				t.Errorf("the scenario lacks %q", line)
			}
		}
	}
	if rows != 36 {
		t.Errorf("the article has %d rows", rows)
	}
}

type stackIndex []unwind.Segment

func (x stackIndex) at(v mem.VA) (unwind.Segment, int, bool) {
	i := slices.IndexFunc(x, func(s unwind.Segment) bool { return v >= s.Limit && v < s.Base })
	if i < 0 {
		return unwind.Segment{}, 0, false
	}
	return x[i], i, true
}

func unwindIndex(t *testing.T, k *model.Kernel) stackIndex {
	t.Helper()
	var all stackIndex
	for at, err := range thread.Addresses(context.Background(), k) {
		if err != nil {
			t.Fatal(err)
		}
		segments, err := unwind.Segments(k, at)
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, segments...)
	}
	return all
}

// TestLoad_stacks walks every stack of every scenario: each must lead by unwind
// data to where the thread began or came in from user mode.
func TestLoad_stacks(t *testing.T) {
	t.Parallel()
	for _, name := range scenarios {
		k := load(t, build(t, scenario(t, name), snapshot.Options{}))
		ctx := context.Background()
		for at, err := range thread.Addresses(ctx, k) {
			if err != nil {
				t.Fatal(err)
			}
			st, err := unwind.Thread(ctx, k, at, unwind.Options{})
			if err != nil || st.Err != nil || st.Note != "" {
				t.Errorf("%s: thread %s: %v, %+v", name, at, err, st)
				continue
			}
			for _, f := range st.Frames {
				if f.How == unwind.HowScan || f.How != unwind.HowUser && f.Name.Function == "" {
					t.Errorf("%s: thread %s: %s by %s", name, at, row(f), f.How)
				}
			}
			last := st.Frames[len(st.Frames)-1]
			if last.How != unwind.HowUser && (last.ReturnAddress != 0 || last.Name.Function != "KxStartSystemThread" && last.Name.Function != "KiIdleLoop") {
				t.Errorf("%s: thread %s ends in %s", name, at, row(last))
			}
		}
		if n := k.CrashProcessor(); k.Processors[n].Context == nil || n != map[string]int{"self-deadlock.yaml": 2}[name] {
			t.Errorf("%s: crash on processor %d", name, n)
		}
	}
}

func TestLoad_resources(t *testing.T) {
	t.Parallel()
	k := load(t, build(t, scenario(t, "self-deadlock.yaml"), snapshot.Options{}))
	type facts struct {
		Owned            string
		Owners           int
		Shared, Contends uint32
		Waiting          int
	}
	var got []facts
	total := 0
	for r, err := range resource.All(context.Background(), k) {
		if err != nil {
			t.Fatal(err)
		}
		total++
		if r.Held() {
			got = append(got, facts{r.Ownership.String(), len(r.Owners()), r.SharedWaiters, r.ContentionCount, len(r.WaitingShared)})
		}
	}
	want := []facts{{"exclusive", 1, 16, 20, 16}, {"exclusive", 1, 1, 7, 1}, {"shared", 2, 0, 0, 0}}
	if diff := cmp.Diff(want, got); diff != "" || total != 231 {
		t.Errorf("%d resources (-want +got):\n%s", total, diff)
	}
}

// TestLoad_pool counts every block that the pages and the table of large
// allocations show, and holds the sums against the trackers.
func TestLoad_pool(t *testing.T) {
	t.Parallel()
	for _, name := range scenarios {
		k := load(t, build(t, scenario(t, name), snapshot.Options{}))
		ctx := context.Background()
		want, got := map[string][2]uint64{}, map[string][2]uint64{}
		for u, err := range pool.Usages(ctx, k) {
			if err != nil {
				t.Fatal(err)
			}
			want[u.Tag.String()] = [2]uint64{uint64(u.Nonpaged.Bytes), uint64(u.Paged.Bytes)}
		}
		for i, kind := range []pool.Kind{pool.Nonpaged, pool.Paged} {
			all, err := pool.ParsePattern("*", false)
			if err != nil {
				t.Fatal(err)
			}
			for b, err := range pool.Blocks(ctx, k, kind, all) {
				if err != nil {
					t.Fatal(err)
				}
				if b.State == pool.Free {
					continue
				}
				sums := got[b.Tag.String()]
				size := b.Size
				if b.Large {
					size = (size + 0xfff) &^ 0xfff
				}
				sums[i] += size
				got[b.Tag.String()] = sums
			}
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%s: bytes by tag (-trackers +blocks):\n%s", name, diff)
		}
		if leak := want["Leak"][0]; name == "pool-leak.yaml" && leak>>20 != 528 {
			t.Errorf("%d MB leaked", leak>>20)
		}
	}
}

// TestLoad_nonpaged holds the numbers of the article: 540 MB.
func TestLoad_nonpaged(t *testing.T) {
	t.Parallel()
	k := load(t, build(t, scenario(t, "pool-leak.yaml"), snapshot.Options{}))
	var sum int64
	for u, err := range pool.Usages(context.Background(), k) {
		if err != nil {
			t.Fatal(err)
		}
		sum += int64(u.Nonpaged.Bytes)
	}
	if mb := float64(sum) / (1 << 20); mb < 539.5 || mb > 540.5 {
		t.Errorf("%.1f MB of nonpaged pool", mb)
	}
	image, ok := k.Modules.ByName("myfault")
	if !ok {
		t.Fatal("no myfault.sys")
	}
	users, _, err := pool.TagUsers(context.Background(), k, pool.Tag{'L', 'e', 'a', 'k'})
	if err != nil || len(users) != 1 {
		t.Errorf("%d images hold the tag: %v; myfault is at %s", len(users), err, image.Base)
	}
}
