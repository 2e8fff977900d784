package pool_test

import (
	"testing"

	"gokd/dumpfmt/dumptest/shared"
	"gokd/model/mem"
	"gokd/model/modeltest"
	"gokd/model/pool"
	"gokd/model/pool/cell"
)

// TestLocate_dumps asks for every block that a walk finds in whole dumps: Locate
// has another reader of pages than the walk, and both must agree. Nothing may
// pass for damage.
func TestLocate_dumps(t *testing.T) {
	t.Parallel()
	for _, name := range []string{"win7.kernel", "win81.full", "w10_1607.kernel", "w10_19041.full"} {
		path := shared.Path(t, "dumps/x64/"+name+".dmp.xz")
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p, err := pool.Open(modeltest.OpenDump(t, path))
			if err != nil {
				t.Fatal(err)
			}
			asked := 0
			for _, kind := range []pool.Kind{pool.Nonpaged, pool.Paged} {
				x, err := p.Index(t.Context(), kind, nil)
				if err != nil {
					t.Fatal(err)
				}
				x.Cells(func(part []cell.Cell) bool {
					for i, c := range part {
						if i%7 == 0 { // all take some seconds
							asked++
							same(t, p, c)
						}
					}
					return !t.Failed()
				})
			}
			if asked < 300 {
				t.Errorf("%d blocks were asked for", asked)
			}
		})
	}
}

func same(t *testing.T, p *pool.Pool, c cell.Cell) {
	t.Helper()
	l, err := p.Locate(t.Context(), c.Header()+mem.VA(c.Room())-1)
	if err != nil || !l.Found || l.Block.Header != c.Header() || l.Block.Room != c.Room() ||
		l.Block.State != pool.State(c.State()) || len(l.Damage) != 0 {
		t.Errorf("block at %#x of %#x bytes: %v, damage %v, %+v", uint64(c.Header()), c.Room(), err, l.Damage, l.Block)
	}
}
