package model

import (
	"slices"
	"strings"
	"testing"

	"gokd/model/types"
)

// changed is a store in which one type is another.
type changed struct {
	types.Store
	typ *types.Type
}

func (s changed) Type(name string) (*types.Type, error) {
	if name == s.typ.Name {
		return s.typ, nil
	}
	return s.Store.Type(name)
}

// TestCheckSoftPTE takes the entries of every known build, and refuses those in
// which a bit has moved.
func TestCheckSoftPTE(t *testing.T) {
	t.Parallel()
	for _, l := range types.Layouts() {
		soft, err := l.Type("_MMPTE_SOFTWARE")
		if err != nil {
			t.Fatalf("%s: %v", l.Family(), err)
		}
		_, swizzled := soft.Field("SwizzleBit")
		if err := checkSoftPTE(l, swizzled); err != nil {
			t.Errorf("%s: %v", l.Family(), err)
		}
		for _, name := range []string{"Prototype", "Transition", "Protection", "PageFileHigh", "PageFileLow"} {
			other := *soft
			other.Fields = slices.Clone(soft.Fields)
			for i := range other.Fields {
				if other.Fields[i].Name == name {
					other.Fields[i].BitPos++
				}
			}
			if err := checkSoftPTE(changed{l, &other}, swizzled); err == nil || !strings.Contains(err.Error(), "_MMPTE_SOFTWARE."+name) {
				t.Errorf("%s: %s moved by a bit: %v", l.Family(), name, err)
			}
		}
	}
}

// TestOffsets_unknown falls back to the offsets of known builds.
func TestOffsets_unknown(t *testing.T) {
	t.Parallel()
	k := &Kernel{}
	if got, want := k.prcbOffsets(), (prcbOffsets{0x8, 0x10, 0x18, 0x24}); got != want {
		t.Errorf("processor block: %+v, want %+v", got, want)
	}
	if got := k.loaderEntry(); got.base != 0x30 || got.bytes() != 0x80 {
		t.Errorf("loader entry: %+v", got)
	}
	for _, l := range types.Layouts() {
		k.Types = l
		if got := k.loaderEntry(); got.base != 0x30 || got.path != 0x48 || got.name != 0x58 || got.size != 0x40 {
			t.Errorf("loader entry of %s: %+v", l.Family(), got)
		}
		if got, want := k.prcbOffsets(), (prcbOffsets{0x8, 0x10, 0x18, 0x24}); got != want {
			t.Errorf("processor block of %s: %+v, want %+v", l.Family(), got, want)
		}
	}
	absurd := &types.Type{Name: "_KPRCB", Kind: types.KindStruct, Size: 1 << 30, Fields: []types.Field{{Name: "Number", Offset: 1 << 29}}}
	k.Types = changed{types.Layouts()[0], absurd}
	if got := k.prcbOffsets(); got.number != 0x24 {
		t.Errorf("an absurd offset is taken: %+v", got)
	}
}
