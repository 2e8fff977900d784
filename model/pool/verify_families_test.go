package pool

import (
	"fmt"
	"strings"
	"testing"

	"gokd/model/mem"
	"gokd/model/pool/cell"
	"gokd/model/pool/heaptest"
)

// wantVerdict verifies a machine and compares the verdict.
func wantVerdict(t *testing.T, p *Pool, q VerifyQuery, want Verdict) *Verification {
	t.Helper()
	v, err := p.Verify(t.Context(), q)
	if err != nil {
		t.Fatal(err)
	}
	if got, text := v.Verdict(); got != want {
		t.Errorf("%s, want %s: %s\n%s", got, want, text, strings.Join(odd(v), "\n"))
	}
	for _, k := range v.Pools {
		if c := k.Summary.Coverage; c.Sum() != c.Walked {
			t.Errorf("%s: the parts of %d bytes are %d: %+v", k.Kind, c.Walked, c.Sum(), c)
		}
	}
	return v
}

// odd is what does not plainly agree.
func odd(v *Verification) (list []string) {
	for _, s := range told(v) {
		if !strings.HasSuffix(s, " agrees") {
			list = append(list, s)
		}
	}
	return list
}

// TestVerify_families: on every family of kernels a pool that is whole agrees
// with its counters, freed blocks on lists and all; what a dump lacks accounts
// for what it lacks; a counter that is wrong is found.
func TestVerify_families(t *testing.T) {
	t.Parallel()
	forFamilies(t, 0, 1<<31, func(t *testing.T, b *heaptest.Builder) {
		b.Fill(11, 120)
		p := openBuilt(t, b)
		v := wantVerdict(t, p, VerifyQuery{}, Agrees)
		if !v.Complete() || v.Agree < 15 {
			t.Errorf("%d agree, complete: %v", v.Agree, v.Complete())
		}
		// One more allocation than there are blocks, in the first table's row.
		tables, _, err := p.trackerTables()
		if err != nil {
			t.Fatal(err)
		}
		at := trackerOf(t, p, tables[0], "Even")
		old, err := p.k.Space.Uint64(at + mem.VA(p.layout.nonpaged.bytes.off))
		if err != nil {
			t.Fatal(err)
		}
		b.M.Put64(at+mem.VA(p.layout.nonpaged.bytes.off), old+0x1000)
		v = wantVerdict(t, p, VerifyQuery{}, Differs)
		if d := fmt.Sprint(odd(v)); d != "[Even nonpaged +0 +4096 differs unexplained]" {
			t.Error(d)
		}
		b.M.Put64(at+mem.VA(p.layout.nonpaged.bytes.off), old)
	})
}

// trackerOf finds the row of a tag in a table.
func trackerOf(t *testing.T, p *Pool, table trackerTable, tag string) mem.VA {
	t.Helper()
	for i := range table.count {
		at := table.at + mem.VA(i*p.layout.trackSize)
		if v, err := p.k.Space.Uint64(at); err == nil && uint32(v) == tagged(tag).Value() {
			return at
		}
	}
	t.Fatalf("no row of %s", tag)
	return 0
}

func TestVerify_lost(t *testing.T) {
	t.Parallel()
	forFamilies(t, 0, 1<<31, func(t *testing.T, b *heaptest.Builder) {
		b.Fill(12, 120)
		if len(b.Lose(3, 10)) == 0 {
			t.Fatal("nothing was lost")
		}
		p := openBuilt(t, b)
		v := wantVerdict(t, p, VerifyQuery{}, Within)
		if v.Complete() || v.Within == 0 {
			t.Errorf("complete: %v, %d within", v.Complete(), v.Within)
		}
	})
}

// TestVerify_cells: a block that the walk takes for another's, or overlooks, is
// found.
func TestVerify_cells(t *testing.T) {
	t.Parallel()
	forFamilies(t, 0, 1<<31, func(t *testing.T, b *heaptest.Builder) {
		b.Fill(13, 60)
		p := openBuilt(t, b)
		x, err := p.Index(t.Context(), Nonpaged, nil)
		if err != nil {
			t.Fatal(err)
		}
		// The tag of ten blocks in the index is changed.
		left := 10
		x.Cells(func(part []cell.Cell) bool {
			for i := range part {
				if left > 0 && part[i].State() == cell.Allocated {
					part[i].Word = part[i].Word&0xffffffff | uint64(tagged("Evil").Value())<<32
					left--
				}
			}
			return left > 0
		})
		v := wantVerdict(t, p, VerifyQuery{}, Differs)
		if s := fmt.Sprint(odd(v)); !strings.Contains(s, "Evil nonpaged -10 ") {
			t.Error(s)
		}
	})
}

func TestVerify_session(t *testing.T) {
	t.Parallel()
	forFamilies(t, 0, 1<<31, func(t *testing.T, b *heaptest.Builder) {
		made := sessionPools(b)
		p := openBuilt(t, b)
		want := Agrees
		if b.SegmentHeaps() { // these sessions have no heap
			want = Within
		}
		if all := wantVerdict(t, p, VerifyQuery{Session: true}, want); len(all.Tags) == 0 {
			t.Error("nothing was compared")
		}
		for _, s := range made {
			wantVerdict(t, p, VerifyQuery{Session: true, ID: &s.ID}, want)
		}
		other := uint32(7)
		if _, err := p.Verify(t.Context(), VerifyQuery{Session: true, ID: &other}); err == nil {
			t.Error("session 7 was verified")
		}
	})
}
