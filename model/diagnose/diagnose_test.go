package diagnose_test

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"gokd/model/diagnose"
	"gokd/model/mem"
	"gokd/model/resource"
)

const (
	res       = mem.VA(0xfffffa8011efede8)
	thread    = mem.VA(0xfffffa80169538a0)
	bystander = mem.VA(0xfffffa801ea69b60)
	onStack   = 0xfffff88007fab7f3
)

// stackOf knows one stack, in use from its middle on.
func stackOf(v uint64) (mem.VA, bool, bool) {
	const limit, middle, base = 0xfffff88007fa6000, 0xfffff88007fab3a0, 0xfffff88007fac000
	return thread, v >= middle, v >= limit && v < base
}

func TestSelf(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name          string
		entry         resource.Entry
		shared        []mem.VA
		exclusive     []mem.VA
		owners        int
		self, certain bool
		words         string
	}{
		{name: "the article", entry: resource.Entry{Raw: onStack, Count: 2, Granted: true, Tagged: true},
			shared: []mem.VA{thread, bystander}, owners: 1, self: true, certain: true, words: "waits for shared access"},
		{name: "exclusive", entry: resource.Entry{Raw: onStack, Granted: true, Tagged: true},
			exclusive: []mem.VA{thread}, owners: 1, self: true, certain: true, words: "waits for exclusive access"},
		{name: "in the free part of the stack", entry: resource.Entry{Raw: 0xfffff88007fa7003, Granted: true, Tagged: true},
			shared: []mem.VA{thread}, owners: 1, self: true, certain: false},
		{name: "a tagged thread", entry: resource.Entry{Raw: uint64(thread) | 3, Granted: true, Tagged: true, Thread: thread},
			shared: []mem.VA{thread}, owners: 1, self: true, certain: true},
		{name: "another waits", entry: resource.Entry{Raw: onStack, Granted: true, Tagged: true}, shared: []mem.VA{bystander}, owners: 1},
		{name: "no stack of ours", entry: resource.Entry{Raw: 0xffffa00000000003, Granted: true, Tagged: true}, shared: []mem.VA{thread}},
		{name: "a plain owner", entry: resource.Entry{Raw: uint64(thread), Granted: true, Thread: thread}, shared: []mem.VA{bystander}},
		{name: "a waiter's entry", entry: resource.Entry{Raw: onStack, Tagged: true}, shared: []mem.VA{thread}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			r := &resource.Resource{Address: res, Ownership: resource.Exclusive, Entries: []resource.Entry{tt.entry}, WaitingShared: tt.shared, WaitingExclusive: tt.exclusive}
			owners := diagnose.Owners(r, stackOf)
			if len(owners) != tt.owners {
				t.Fatalf("owners %+v, want %d", owners, tt.owners)
			}
			if len(owners) == 0 {
				return
			}
			d, ok := diagnose.Self(r, owners[0])
			if ok != tt.self || d.Certain != tt.certain || !strings.Contains(d.Explanation, tt.words) {
				t.Errorf("self %v, certain %v: %q", ok, d.Certain, d.Explanation)
			}
			if ok {
				if diff := cmp.Diff([][]mem.VA{{thread}, {res}}, [][]mem.VA{d.Threads, d.Resources}); diff != "" {
					t.Errorf("(-want +got):\n%s", diff)
				}
			}
		})
	}
}
