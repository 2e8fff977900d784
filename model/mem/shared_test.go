package mem_test

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"testing"

	"gokd/dumpfmt/dumptest/shared"
	"gokd/model/mem"
	"gokd/model/modeltest"
)

// number is an address that the truth files write as "0x..".
type number uint64

func (n *number) UnmarshalText(b []byte) error {
	v, err := strconv.ParseUint(string(b), 0, 64)
	*n = number(v)
	return err
}

// TestShared_entries reads the pages in every state of paging that the dumps
// with known truth hold.
func TestShared_entries(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ truth, dump string }{
		{"win7seed", "win7seed.kernel"},
		{"win7", "win7.kernel"},
		{"w10_1607", "w10_1607.kernel"},
		{"w10_19041-encoded", "w10_19041-encoded.kernel"},
	} {
		t.Run(c.dump, func(t *testing.T) {
			t.Parallel()
			var truth struct {
				Scenarios struct {
					PTE struct {
						Pagefile       number
						PagefileOffset number `json:"pagefile_offset"`
						Transition     number
						TransitionPA   number `json:"transition_pa"`
						TransitionText string `json:"transition_text"`
						DemandZero     number `json:"demand_zero"`
						NotMapped      number `json:"not_mapped"`
					}
				}
			}
			shared.JSON(t, shared.Path(t, "dumps/x64", c.truth+".truth.json.xz"), &truth)
			s := modeltest.OpenDump(t, shared.Path(t, "dumps/x64", c.dump+".dmp.xz")).Space
			want := truth.Scenarios.PTE
			if want.Pagefile == 0 || want.TransitionText == "" {
				t.Fatal("the truth file has no such pages")
			}

			var f *mem.Fault
			why := fmt.Sprintf("paged out, page file 0, offset %#x", want.PagefileOffset)
			if _, err := s.Uint64(mem.VA(want.Pagefile)); !errors.As(err, &f) || f.Kind != mem.NotPresent || f.Why != why {
				t.Errorf("page file: %v, want %q", err, why)
			}
			tr, err := s.Translate(mem.VA(want.Transition))
			if err != nil || tr.PA != mem.PA(want.TransitionPA) {
				t.Errorf("transition: %+v, %v, want page %#x", tr, err, want.TransitionPA)
			}
			if b, err := s.Bytes(mem.VA(want.Transition), len(want.TransitionText)); string(b) != want.TransitionText {
				t.Errorf("transition: %q, %v, want %q", b, err, want.TransitionText)
			}
			if v, err := s.Uint64(mem.VA(want.DemandZero)); v != 0 || err != nil {
				t.Errorf("demand zero: %#x, %v", v, err)
			}
			if _, err := s.Uint64(mem.VA(want.NotMapped)); !errors.As(err, &f) || f.Kind != mem.NotPresent || f.Entry != 0 {
				t.Errorf("not mapped: %v", err)
			}
			leaves(t, s, mem.VA(want.Pagefile).Page()&^0x1fffff)
		})
	}
}

// leaves checks that what a walk finds around the scenario's pages is what a
// translation of each gives.
func leaves(t *testing.T, s *mem.Space, from mem.VA) {
	t.Helper()
	pages := 0
	err := s.Leaves(context.Background(), from, from+0x3fffff, func(l mem.Leaf) bool {
		pages++
		tr, err := s.Translate(l.VA)
		if (err == nil) != (l.Err == nil) || err == nil && tr.PA != l.PA {
			t.Errorf("%#x: leaf %+v, translation %+v, %v", uint64(l.VA), l, tr, err)
		}
		return true
	})
	if err != nil || pages < 3 {
		t.Errorf("%d pages, %v", pages, err)
	}
}
