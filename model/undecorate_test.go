package model

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	"gokd/model/mem"
	"gokd/model/types"
)

// cppKernel is a kernel of one module whose symbols are C++'s.
func cppKernel() *Kernel {
	k := &Kernel{Space: mem.NewFlat(nothing{}), Modules: &Modules{}, undecorated: &undecorator{}}
	m := &Module{Name: "drv", Base: 0x10000, Size: 0x10000, k: k}
	names := types.NewNames("isf",
		[]string{"?Stop@Engine@@QEAAXXZ", "?Stop@Engine@@QEAAXH@Z", "main", "??_C@_02PCEFGMJL@hi?$AA@", "?bad", "??0Engine@@QEAA@XZ"},
		[]uint32{0x1000, 0x1100, 0x1200, 0x2000, 0x1300, 0x1400})
	m.symOnce.Do(func() {})
	m.symbols = names
	k.Modules.add(m)
	return k
}

func TestNameOf_undecorated(t *testing.T) {
	t.Parallel()
	k := cppKernel()
	for at, want := range map[mem.VA]string{
		0x11004: "drv!Engine::Stop+0x4", 0x11400: "drv!Engine::Engine", 0x11201: "drv!main+0x1", 0x11301: "drv!?bad+0x1",
		0x12000: "drv!`string'", 0x12001: "drv+0x2001", 0x10001: "drv+0x1", 0x1: "",
	} {
		for range 2 { // found, and kept
			if got := k.NameOf(t.Context(), at).String(); got != want {
				t.Errorf("%#x: %q, want %q", uint64(at), got, want)
			}
		}
	}
	n := k.NameOf(t.Context(), 0x11004)
	if d := cmp.Diff([]string{"Engine::Stop", "?Stop@Engine@@QEAAXXZ"}, []string{n.Function, n.Decorated}); d != "" {
		t.Errorf("(-want +got):\n%s", d)
	}
}

func TestResolve_undecorated(t *testing.T) {
	t.Parallel()
	k := cppKernel()
	for name, want := range map[string]mem.VA{
		"Engine::Stop": 0x11100, "?Stop@Engine@@QEAAXXZ": 0x11000, "Engine::Engine": 0x11400, "main": 0x11200, "Engine::Start": 0, "`string'": 0,
	} {
		for _, module := range []string{"drv", ""} {
			if at, ok := k.Resolve(t.Context(), module, name); at != want || ok != (want != 0) {
				t.Errorf("%s!%s: %#x, want %#x", module, name, uint64(at), uint64(want))
			}
		}
	}
	(&Kernel{Modules: k.Modules}).Resolve(t.Context(), "drv", "Engine::Stop") // without a memory
}

func BenchmarkNameOf_decorated(b *testing.B) {
	k := cppKernel()
	b.ReportAllocs()
	for b.Loop() {
		k.NameOf(b.Context(), 0x11004)
	}
}

func BenchmarkNameOf(b *testing.B) {
	k := cppKernel()
	b.ReportAllocs()
	for b.Loop() {
		k.NameOf(b.Context(), 0x11204)
	}
}
