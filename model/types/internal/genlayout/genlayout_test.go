package main

import (
	"testing"

	"github.com/google/go-cmp/cmp"
)

const testVtypes = `ntkrnlmp_types = {
  '_A' : [ 0x20, { # comment
    'Link' : [ 0x0, ['_LIST_ENTRY']],
    'Ptr' : [ 0x10, ['pointer64', ['_A']]],
    'High' : [ 0x18, ['BitField', dict(start_bit = 4, end_bit = 32, native_type='unsigned long')]],
    'Enum' : [ 0x1c, ['Enumeration', dict(target = 'long', choices = {0: 'Zero', 1: 'One'})]],
    'None' : [ 0x1c, ['array', -28, ['unsigned char']]],
    'u' : [ 0x18, ['__unnamed_1a2b']],
} ],
  '_LIST_ENTRY' : [ 0x10, {
    'Flink' : [ 0x0, ['pointer64', ['_LIST_ENTRY']]],
    'Blink' : [ 0x8, ['pointer64', ['_LIST_ENTRY']]],
} ],
  '__unnamed_1a2b' : [ 0x4, {
    'Bytes' : [ 0x0, ['array', 4, ['unsigned char']]],
} ],
}`

func TestFlatten(t *testing.T) {
	t.Parallel()
	table, err := readVtypes(testVtypes)
	if err != nil {
		t.Fatal(err)
	}
	want := map[string][]string{
		"_A": {
			"struct 0x20", "0x0 Link _LIST_ENTRY", "0x10 Ptr *_A", "0x18 u _A.u", "0x18:4+28 High u4", "0x1c Enum i4",
		},
		"_A.u":        {"struct 0x4", "0x0 Bytes [4]u1"},
		"_LIST_ENTRY": {"struct 0x10", "0x0 Flink *_LIST_ENTRY", "0x8 Blink *_LIST_ENTRY"},
	}
	if diff := cmp.Diff(want, flatten(table, []string{"_A", "_NONE"}).types); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestReadVtypes_bad(t *testing.T) {
	t.Parallel()
	for _, text := range []string{"", "x = {", "x = {'_A': [1, 2]}", "x = {'_A': [0x10, {'F': [0, [f()]]}]}"} {
		if _, err := readVtypes(text); err == nil {
			t.Errorf("readVtypes(%q): want an error", text)
		}
	}
}

func TestTypeChanges(t *testing.T) {
	t.Parallel()
	base := []string{"struct 0x10", "0x0 A u4", "0x4 B u4", "0x8 C u8"}
	tests := []struct {
		name        string
		other, want []string
	}{
		{"gone", nil, []string{"gone"}},
		{"moved", []string{"struct 0x10", "0x0 A u4", "0x6 B u2", "0x8 C u8"}, []string{"-B", "0x6 B u2"}},
		{"grown", []string{"struct 0x18", "0x0 A u4", "0x4 B u4", "0x8 C u8", "0x10 D u8"}, []string{"struct 0x18", "0x10 D u8"}},
	}
	for _, tt := range tests {
		if diff := cmp.Diff(tt.want, typeChanges(base, tt.other)); diff != "" {
			t.Errorf("%s (-want +got):\n%s", tt.name, diff)
		}
	}
	if diff := cmp.Diff(base, typeChanges(nil, base)); diff != "" {
		t.Errorf("new (-want +got):\n%s", diff)
	}
}

func TestChoose(t *testing.T) {
	t.Parallel()
	got := choose([]string{"_KTHREAD", "_KTHREADS", "_MMPTE_SOFTWARE", "_ETW_X"})
	if diff := cmp.Diff([]string{"_KTHREAD", "_MMPTE_SOFTWARE"}, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}
