package resource

import (
	"context"
	"errors"
	"testing"

	"gokd/model/mem"
	"gokd/model/modeltest"
	"gokd/model/types"
)

// TestFinder_work: the entries that a walk reads are limited over all
// resources, and one that comes too late says so.
func TestFinder_work(t *testing.T) {
	t.Parallel()
	for _, l := range types.Layouts() {
		m := modeltest.New(t, l)
		at := m.Resource()
		const size = 8
		table := m.Alloc(0x10 * size)
		m.Set(at, uint64(table), "_ERESOURCE", "OwnerTable")
		m.Set(at, 1, "_ERESOURCE", "ActiveCount")
		m.Set(table, size, "_OWNER_ENTRY", "TableSize")
		for i := mem.VA(1); i < size; i++ {
			m.Set(table+i*0x10, uint64(m.System), "_OWNER_ENTRY", "OwnerThread")
		}
		k := m.Open()
		f := newFinder(context.Background(), k)
		for used, want := range map[int]int{0: size - 1, maxWork - size: size - 1, maxWork - size + 1: 0, maxWork: 0} {
			f.work = used
			r := f.read(k.Object("_ERESOURCE", at))
			if len(r.Entries) != want || (want == 0) != errors.Is(r.Gaps["owners"], errWork) {
				t.Errorf("%s: after %d entries: %d owners, want %d; %v", l.Family(), used, len(r.Entries), want, r.Gaps["owners"])
			}
		}
	}
}
