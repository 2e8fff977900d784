package types

import (
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestNames_nearest(t *testing.T) {
	t.Parallel()
	names := NewNames("test",
		[]string{"memmove", "KiB", "??_C@x", "memcpy", "KxSwitchKernelStackCallout", "KySwitchKernelStackCallout", "KiStartSystemThread", "KxStartSystemThread", "__imp_f", "Zw", "KiB"},
		[]uint32{0x1000, 0x2000, 0x2000, 0x1000, 0x3000, 0x3000, 0x4000, 0x4000, 0x5000, 0x5000, 0x6000})
	tests := []struct {
		rva   uint32
		name  string
		delta uint32
	}{
		{0x1000, "memcpy", 0},
		{0x1fff, "memcpy", 0xfff},
		{0x2000, "KiB", 0},
		{0x3027, "KySwitchKernelStackCallout", 0x27},
		{0x4030, "KxStartSystemThread", 0x30},
		{0x5001, "Zw", 1},
		{0xffffffff, "Zw", 0xffffffff - 0x5000}, // the second KiB, at 0x6000, is dropped
	}
	for _, tt := range tests {
		sym, delta, ok := names.Nearest(tt.rva)
		if !ok || sym.Name != tt.name || delta != tt.delta {
			t.Errorf("Nearest(%#x) = %q+%#x, %v; want %q+%#x", tt.rva, sym.Name, delta, ok, tt.name, tt.delta)
		}
	}
	if sym, _, ok := names.Nearest(0xfff); ok {
		t.Errorf("Nearest below the first name = %v, want none", sym)
	}
	if _, _, ok := NewNames("test", nil, nil).Nearest(5); ok {
		t.Error("Nearest in an empty table: want none")
	}
}

func TestNames_lookup(t *testing.T) {
	t.Parallel()
	names := NewNames("test", []string{"b", "abc", "ab", "a"}, []uint32{4, 3, 2, 1})
	if sym, ok := names.Lookup("ab"); !ok || sym != (Symbol{Name: "ab", RVA: 2}) {
		t.Errorf("Lookup(ab) = %v, %v", sym, ok)
	}
	if _, ok := names.Lookup("A"); ok {
		t.Error("Lookup(A) found a name in another case")
	}
	tests := []struct {
		prefix string
		max    int
		want   []string
	}{
		{"a", 10, []string{"a", "ab", "abc"}},
		{"a", 2, []string{"a", "ab"}},
		{"", 10, []string{"a", "ab", "abc", "b"}},
		{"ac", 10, nil},
		{"a", 0, nil},
		{"a", -1, nil},
	}
	for _, tt := range tests {
		if diff := cmp.Diff(tt.want, names.Prefix(tt.prefix, tt.max)); diff != "" {
			t.Errorf("Prefix(%q, %d) (-want +got):\n%s", tt.prefix, tt.max, diff)
		}
	}
	if names.Len() != 4 || names.Describe() != "test" {
		t.Errorf("Len, Describe = %d, %q", names.Len(), names.Describe())
	}
}
