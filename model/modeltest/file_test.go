package modeltest_test

import (
	"testing"

	"gokd/dumpfmt"
	"gokd/model/mem"
	"gokd/model/modeltest"
	"gokd/model/types"
)

// TestDump opens machines as dumps: their kernels are known by the embedded tables.
func TestDump(t *testing.T) {
	t.Parallel()
	for _, l := range types.Layouts() {
		if _, _, ok := l.ID(); !ok {
			continue
		}
		t.Run(l.Family(), func(t *testing.T) {
			t.Parallel()
			m := modeltest.New(t, l)
			m.Real()
			m.SetGlobal("PoolBigPageTable", 0xffffa80012345000)
			m.Put64(0xffffc00000000000, 42)
			m.Processor()
			m.OpenPaged(nil)
			data := m.Dump()
			d, err := dumpfmt.Open(dumpfmt.NewBytes(data), int64(len(data)))
			if err != nil {
				t.Fatal(err)
			}
			k := modeltest.Load(t, d)
			if v, err := k.GlobalPointer("PoolBigPageTable"); err != nil || v != 0xffffa80012345000 {
				t.Errorf("a variable: %#x, %v", uint64(v), err)
			}
			if v, err := k.Space.Uint64(0xffffc00000000000); err != nil || v != 42 {
				t.Errorf("memory: %d, %v", v, err)
			}
			if k.Origin().Match != types.MatchExact || len(k.Processors) != 2 || len(k.Modules.All) != 1 || len(k.Warnings) != 0 || len(d.Warnings) != 0 {
				t.Errorf("%+v, %d processors, warnings %q %q", k.Origin(), len(k.Processors), k.Warnings, d.Warnings)
			}
			if at, err := k.Global("PsActiveProcessHead"); err != nil || at == mem.VA(0) {
				t.Errorf("%#x, %v", uint64(at), err)
			}
		})
	}
}
