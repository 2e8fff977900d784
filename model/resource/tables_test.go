package resource_test

import (
	"bytes"
	"context"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"

	"gokd/dumpfmt/dumptest/shared"
	"gokd/model/mem"
	"gokd/model/process"
	"gokd/model/resource"
	"gokd/model/thread"
	"gokd/model/types"
)

// TestAll_tables reads the same scene through whole symbol tables, whose
// anonymous types have other names than the embedded layouts'.
func TestAll_tables(t *testing.T) {
	t.Parallel()
	for _, name := range shared.Glob(t, "isf/windows/ntkrnlmp.pdb", "*.json.xz") {
		t.Run(filepath.Base(name), func(t *testing.T) {
			t.Parallel()
			table, err := types.ReadISF(bytes.NewReader(shared.Unpacked(t, name)), name)
			if err != nil {
				t.Fatal(err)
			}
			g := table.Metadata()
			l, _, ok := types.EmbeddedByGUID(g.GUID, g.Age)
			if !ok {
				t.Fatalf("kernel %s is not embedded", g.GUID)
			}
			m := build(t, l, true)
			k := m.Open()
			k.Types = table
			r := one(t, k)
			if diff := cmp.Diff([][]mem.VA{m.shared, m.excl}, [][]mem.VA{r.WaitingShared, r.WaitingExclusive}); diff != "" {
				t.Errorf("waiters (-want +got):\n%s", diff)
			}
			if len(r.Gaps) > 0 || r.Ownership != resource.Exclusive {
				t.Errorf("%v, gaps %v", r.Ownership, r.Gaps)
			}
			th, err := thread.At(context.Background(), k, m.shared[0])
			if err != nil || len(th.WaitObjects) != 1 || len(th.Gaps) > 0 && onlyTime(th.Gaps) {
				t.Errorf("thread: %v, %+v", err, th)
			}
			for p, err := range process.All(context.Background(), k) {
				if err != nil || p.PID != 4 || p.Image != "System" || len(p.Gaps) > 0 {
					t.Errorf("process: %v, %+v", err, p)
				}
			}
		})
	}
}

// onlyTime reports whether something else than the clocks is missing, which
// these machines have not.
func onlyTime(gaps map[string]error) bool {
	for f := range gaps {
		switch f {
		case "wait_ticks", "user_time_ms", "kernel_time_ms":
		default:
			return true
		}
	}
	return false
}
