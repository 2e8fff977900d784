package model

import (
	"encoding/binary"
	"testing"

	"gokd/model/mem"
)

// TestReadProcessors_copy: an old triage dump holds a copy of the crashing
// processor's block, but not the array that says where the block was.
func TestReadProcessors_copy(t *testing.T) {
	t.Parallel()
	prcb := make([]byte, 0x200)
	le := binary.LittleEndian
	le.PutUint64(prcb[0x8:], 0xfffffa8001234060)
	le.PutUint64(prcb[0x18:], 0xfffff80002c411c0)
	le.PutUint32(prcb[0x24:], 2)
	k := &Kernel{
		Source:  Source{Processors: 4, Crash: Crash{Triage: &Triage{Prcb: prcb}}},
		Space:   mem.NewFlat(nothing{}),
		Modules: &Modules{},
	}
	got := k.readProcessors()
	if len(got) != 4 || got[2].CurrentThread != 0xfffffa8001234060 || got[2].IdleThread != 0xfffff80002c411c0 || got[2].Err != nil {
		t.Fatalf("%+v", got)
	}
	for _, i := range []int{0, 1, 3} {
		if got[i].CurrentThread != 0 || got[i].Err == nil {
			t.Errorf("processor %d is made up: %+v", i, got[i])
		}
	}
	le.PutUint32(prcb[0x24:], 99) // a number that can't be
	if got := k.readProcessors(); len(got) != 4 || got[2].CurrentThread != 0 {
		t.Errorf("%+v", got)
	}
	for n := range prcb {
		k.Source.Crash.Triage.Prcb = prcb[:n]
		k.readProcessors() // no length panics
	}
}

func TestName_plain(t *testing.T) {
	t.Parallel()
	m := &Module{Name: "nt"}
	for _, tt := range []struct {
		n    Name
		want string
	}{
		{Name{}, ""},
		{Name{Module: m, Function: "KeBugCheckEx", RVA: 0x1000}, "nt!KeBugCheckEx"},
		{Name{Module: m, Function: "KeBugCheckEx", Offset: 4, RVA: 0x1004}, "nt!KeBugCheckEx+0x4"},
		{Name{Module: m, Offset: 0x1234, RVA: 0x1234}, "nt+0x1234"},
		{Name{Module: m, Function: "??_C@_1DO@NJNP", Offset: 0x1611, RVA: 0x40f4e1}, "nt+0x40f4e1"},
		{Name{Module: m, Function: "??_C@_1DO@NJNP", RVA: 0x40ded0}, "nt!??_C@_1DO@NJNP"},
	} {
		if got := tt.n.String(); got != tt.want {
			t.Errorf("%+v: %q, want %q", tt.n, got, tt.want)
		}
	}
}
