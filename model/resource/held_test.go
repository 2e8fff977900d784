package resource

import (
	"testing"

	"gokd/model/mem"
)

// TestOnlyHeld: a thread's frames decide only where they name one resource that
// it can be waiting for.
func TestOnlyHeld(t *testing.T) {
	t.Parallel()
	const a, b, other, th = mem.VA(0xffffa80000001000), mem.VA(0xffffa80000002000), mem.VA(0xffffa80000003000), mem.VA(0xffffa80000009040)
	set := func(list ...mem.VA) map[mem.VA]bool {
		m := map[mem.VA]bool{}
		for _, v := range list {
			m[v] = true
		}
		return m
	}
	for _, tt := range []struct {
		name      string
		held      map[mem.VA]bool
		contended map[mem.VA]map[mem.VA]bool
		want      mem.VA
		ok        bool
	}{
		{"one", set(a, other), map[mem.VA]map[mem.VA]bool{a: nil, b: nil}, a, true},
		{"two", set(a, b), map[mem.VA]map[mem.VA]bool{a: nil, b: nil}, 0, false},
		{"the other is its own", set(a, b), map[mem.VA]map[mem.VA]bool{a: set(th), b: nil}, b, true},
		{"its own only", set(a), map[mem.VA]map[mem.VA]bool{a: set(th)}, 0, false},
		{"none", set(other), map[mem.VA]map[mem.VA]bool{a: nil}, 0, false},
	} {
		f := &finder{contended: tt.contended, registers: map[mem.VA]map[mem.VA]bool{th: tt.held}}
		if got, ok := f.onlyHeld(th); got != tt.want || ok != tt.ok {
			t.Errorf("%s: %v, %v; want %v, %v", tt.name, got, ok, tt.want, tt.ok)
		}
	}
}
