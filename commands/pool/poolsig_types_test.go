package pool

import (
	"context"
	"fmt"
	"slices"
	"testing"

	gocmp "github.com/google/go-cmp/cmp"

	"gokd/model/types"
)

// sizedTypes is a store of types that have nothing but a size.
type sizedTypes map[string]uint32

func (s sizedTypes) Type(name string) (*types.Type, error) {
	size, ok := s[name]
	if !ok || size == 1 {
		return nil, &types.NotFoundError{What: "type", Name: name}
	}
	kind := types.KindStruct
	if name[0] == 'e' {
		kind = types.KindEnum
	}
	return &types.Type{Name: name, Kind: kind, Size: size}, nil
}

func (sizedTypes) Origin() types.Origin { return types.Origin{} }

func (s sizedTypes) TypeNames() []string {
	var names []string
	for n := range s {
		names = append(names, n)
	}
	slices.Sort(names)
	return names
}

func TestTypesOfSize(t *testing.T) {
	t.Parallel()
	s := sizedTypes{"_A": 0x1f0, "_B": 0x1f1, "_C": 0x200, "_D": 0x201, "_Odd": 1, "_Empty": 0, "eE": 0x1f8}
	found, more := typesOfSize(context.Background(), s, 0x1f1, 0x200)
	if diff := gocmp.Diff([]typeMatch{{"_B", 0x1f1}, {"_C", 0x200}}, found); diff != "" || more != 0 {
		t.Errorf("%d more (-want +got):\n%s", more, diff)
	}
	if found, _ := typesOfSize(context.Background(), s, 0, 0); len(found) > 0 {
		t.Errorf("of no size: %v", found)
	}
	for i := range 8 {
		s[fmt.Sprintf("_Z%d", i)] = 0x1f8
	}
	found, more = typesOfSize(context.Background(), s, 0x1f1, 0x200)
	if len(found) != maxTypeMatches || more != 4 {
		t.Errorf("%d found, %d more", len(found), more)
	}
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if found, _ := typesOfSize(ctx, s, 0x1f1, 0x200); len(found) > 0 {
		t.Errorf("after Ctrl-C: %v", found)
	}
	r := &typesRecord{Module: "my\x1bfault", Types: []typeMatch{{"_B", 0x1f1}, {"_C", 0x200}}, More: 4}
	want := "  Types of my\\x1bfault of that size: _B (0x1f1), _C (0x200), and 4 more.\n"
	if got := drawn(0, r); got != want {
		t.Errorf("%q, want %q", got, want)
	}
	if got := drawn(0, &typesRecord{Module: "myfault"}); got != "  No type of myfault has that size.\n" {
		t.Errorf("none: %q", got)
	}
}
