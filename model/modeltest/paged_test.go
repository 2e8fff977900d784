package modeltest_test

import (
	"errors"
	"testing"

	"gokd/model"
	"gokd/model/mem"
	"gokd/model/modeltest"
	"gokd/model/types"
)

// TestOpenPaged reads pages in every state on every family, through the page
// tables.
func TestOpenPaged(t *testing.T) {
	t.Parallel()
	const at mem.VA = 0xffffc00000000000
	for _, l := range types.Layouts() {
		t.Run(l.Family(), func(t *testing.T) {
			t.Parallel()
			m := modeltest.New(t, l)
			for i := range mem.VA(8) {
				m.Put64(at+i*0x1000, uint64(i)+1)
			}
			m.PageOut(at + 0x1000)
			m.InTransition(at + 0x2000)
			m.NotCaptured(at + 0x3000)
			m.Untouched(at + 0x4000)
			m.Alias(at+0x9000, at+0x5000)
			m.LargePage(at + 0x40000000)
			m.Put64(at+0x40000000+0x1ff008, 77)
			m.Put64(at+0x80000000, 5)
			m.TableNotCaptured(at + 0x80000000)
			m.SetGlobal("PoolBigPageTable", 0x1234)
			m.Processor()
			smss := m.Process(300, 4, "smss.exe")
			own := m.Private(at+0x10000000, at+0x10ffffff, smss)
			own.Put64(at+0x10000000, 99)
			own.Put64(at+0x6000, 8) // the machine's own
			k := m.OpenPaged(map[string]mem.VA{"ExPoolState": 0xfffff80000203000})

			checkPaged(t, k, at)
			dtb, err := k.Object("_EPROCESS", smss).Field("Pcb.DirectoryTableBase").Uint()
			if err != nil {
				t.Fatal(err)
			}
			if v, err := k.Space.WithRoot(mem.PA(dtb)).Uint64(at + 0x10000000); v != 99 || err != nil {
				t.Errorf("memory of a process: %d, %v", v, err)
			}
			m.Put64(at+0x5000, 66) // is seen at both places
			if v, err := k.Space.Uint64(at + 0x9000); v != 66 || err != nil {
				t.Errorf("alias: %d, %v", v, err)
			}
		})
	}
}

// checkPaged reads what TestOpenPaged wrote, in the kernel's own address space.
func checkPaged(t *testing.T, k *model.Kernel, at mem.VA) {
	t.Helper()
	if v, err := k.GlobalPointer("PoolBigPageTable"); err != nil || v != 0x1234 {
		t.Errorf("variable: %#x, %v", v, err)
	}
	if v, err := k.Global("ExPoolState"); err != nil || v != 0xfffff80000203000 {
		t.Errorf("variable: %#x, %v", v, err)
	}
	if len(k.Processors) != 2 || k.Processors[1].Err != nil || k.Processors[1].PRCB == k.Processors[0].PRCB {
		t.Errorf("processors: %+v", k.Processors)
	}
	if len(k.Modules.All) != 1 || k.Modules.All[0].Name != "nt" || len(k.Warnings) != 0 {
		t.Errorf("modules %v, warnings %q", k.Modules.All, k.Warnings)
	}
	for i, want := range []struct {
		v  uint64
		is error
	}{{1, nil}, {0, mem.ErrNotPresent}, {3, nil}, {0, mem.ErrNotCaptured}, {0, nil}, {6, nil}, {8, nil}, {8, nil}, {0, mem.ErrNotPresent}, {6, nil}} {
		v, err := k.Space.Uint64(at + mem.VA(i)*0x1000)
		if v != want.v || !errors.Is(err, want.is) {
			t.Errorf("page %d: %d, %v", i, v, err)
		}
	}
	if v, err := k.Space.Uint64(at + 0x40000000 + 0x1ff008); v != 77 || err != nil {
		t.Errorf("large page: %d, %v", v, err)
	}
	if _, err := k.Space.Uint64(at + 0x80000000); !errors.Is(err, mem.ErrNotCaptured) {
		t.Errorf("lost table: %v", err)
	}
	if _, err := k.Space.Uint64(at + 0x10000000); !errors.Is(err, mem.ErrNotPresent) {
		t.Errorf("memory of a process: %v", err)
	}
	leaves := 0
	if err := k.Space.Leaves(t.Context(), at, at+0xffffff, func(mem.Leaf) bool { leaves++; return true }); err != nil || leaves != 8 {
		t.Errorf("%d leaves, %v", leaves, err)
	}
}
