package pdb_test

import (
	"fmt"
	"testing"

	gocmp "github.com/google/go-cmp/cmp"

	"gokd/model/types"
	"gokd/model/types/pdb/pdbtest"
)

// TestTypes_parts reads a database that is made in several parts, and stops at
// some of its types: names and members are those that were written, in order.
func TestTypes_parts(t *testing.T) {
	t.Parallel()
	const count = 1200 // of 24 members each: more than a megabyte
	f := read(t, build(t, kernelSpec(count, 0)))
	for _, stop := range []int{0, 1, count / 2, count} {
		n := 0
		for typ, err := range f.Types() {
			if n == stop {
				break
			}
			if err != nil {
				t.Fatal(err)
			}
			want := fmt.Sprintf("_STRUCTURE_OF_THE_KERNEL_%06d with 25 members", n)
			if n == 0 {
				want = "_STRUCTURE_OF_THE_KERNEL_000000 with 24 members"
			}
			if got := fmt.Sprintf("%s with %d members", typ.Name, len(typ.Fields)); got != want {
				t.Fatalf("type %d is %s, want %s", n, got, want)
			}
			n++
		}
		if n != stop {
			t.Errorf("%d types, want %d", n, stop)
		}
	}
}

// TestTypes_sharedList lets small structures share one long list of members:
// what is made ahead is bounded, what is left over is made in its turn, and the
// limit of the walk is met at one place whatever was made ahead.
func TestTypes_sharedList(t *testing.T) {
	t.Parallel()
	const count, members = 9000, 1000
	var list []byte
	for i := range members {
		list = append(list, item(0x23, uint16(8*i), fmt.Sprintf("M%03d", i))...)
	}
	all := []pdbtest.Raw{raw(0x1203, list)}
	for i := range count {
		all = append(all, raw(0x1505, uint16(members), uint16(0), 0x1000, 0, 0, uint16(1600), fmt.Sprintf("_SHARES_%06d", i)))
	}
	f := read(t, build(t, pdbtest.Spec{GUID: types.GUID{4}, Raw: all}))
	var first []string
	for range 2 { // the order of goroutines does not show
		var got []string
		refused := 0
		for typ, err := range f.Types() {
			if err != nil {
				got = append(got, err.Error())
				refused++
				continue
			}
			got = append(got, typ.Name)
			if len(typ.Fields) != members {
				t.Fatalf("%s has %d members, want %d", typ.Name, len(typ.Fields), members)
			}
		}
		if len(got) != count {
			t.Fatalf("%d types, want %d", len(got), count)
		}
		// Some two and a half million entries may be read; nine are wanted.
		if refused < count/2 || refused != count-limitReached(got) {
			t.Errorf("%d refused, from the type %d on", refused, limitReached(got))
		}
		if first != nil {
			if diff := gocmp.Diff(first, got); diff != "" {
				t.Errorf("second walk (-first +second):\n%s", diff)
			}
		}
		first = got
	}
}

// limitReached gives the number of the first type that was refused.
func limitReached(names []string) int {
	for i, name := range names {
		if name != fmt.Sprintf("_SHARES_%06d", i) {
			return i
		}
	}
	return len(names)
}
