package heap

import (
	"errors"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"gokd/model/mem"
	"gokd/model/pool/cell"
	"gokd/model/pool/heaptest"
)

var addresses = regexp.MustCompile(`0x[0-9a-f]{9,16}`)

// names tells whether a message names an address of a range.
func names(s string, first, last mem.VA) bool {
	for _, w := range addresses.FindAllString(s, -1) {
		at, err := strconv.ParseUint(w[2:], 16, 64)
		if err == nil && mem.VA(at) >= first && mem.VA(at) <= last {
			return true
		}
	}
	return false
}

// everything walks all there is and gives the blocks and every message.
func everything(t *testing.T, h *Heaps) (cells map[mem.VA]known, said []string) {
	cells = map[mem.VA]known{}
	said = messages(h.Trouble)
	for _, p := range h.List {
		for a, err := range h.Areas(t.Context(), p) {
			if err != nil {
				said = append(said, err.Error())
				continue
			}
			if a.Kind != AreaVS && a.Kind != AreaLFH {
				continue
			}
			pages, err := h.Pages(t.Context(), &a)
			if err != nil {
				t.Fatal(err)
			}
			list, tally := h.Decode(nil, &a, pages)
			checkDecoded(t, &a, list, tally)
			said = append(said, messages(tally.Errs)...)
			for _, c := range list {
				cells[c.Header()] = known{Header: c.Header(), Room: c.Room(), State: c.State(), Heap: p.At}
			}
		}
		for _, err := range h.LargeOf(t.Context(), p) {
			if err != nil {
				said = append(said, err.Error())
			}
		}
	}
	return cells, said
}

// TestCorruptions breaks one thing at a time: it is told, and what lies
// elsewhere is found as it is.
func TestCorruptions(t *testing.T) {
	t.Parallel()
	for _, c := range heaptest.Corruptions {
		t.Run(c.Name, func(t *testing.T) {
			t.Parallel()
			eachFamily(t, func(t *testing.T, b *heaptest.Builder) {
				if !c.For(b) {
					t.Skip("breaks page pools")
				}
				b.Fill(5, 150)
				b.Heap(heaptest.Paged, 0).Large(heaptest.Ask{Tag: "Larg", Bytes: 0x30000})
				k := b.Open()
				sign := c.Apply(b)
				h, err := Open(t.Context(), k)
				if err != nil {
					if !errors.Is(err, ErrRefused) || !sign.Lost.All || sign.Says != "" && !strings.Contains(err.Error(), sign.Says) {
						t.Errorf("refused: %v", err)
					}
					return
				}
				cells, said := everything(t, h)
				told := sign.Silent
				for _, s := range said {
					told = told || names(s, sign.At, sign.Last) || sign.Says != "" && strings.Contains(s, sign.Says)
				}
				if !told {
					t.Errorf("not told: %s (%#x to %#x); said %q", sign.Why, uint64(sign.At), uint64(sign.Last), said)
				}
				for _, want := range built(b) {
					if sign.Lost.Holds(want.Header, want.Heap) {
						continue
					}
					got := cells[want.Header]
					want.Tag, want.Type = 0, 0
					if want.State == cell.Cached && len(h.Trouble) > 0 {
						want.State = got.State
					}
					if got != want {
						t.Fatalf("found %+v, built %+v", got, want)
					}
				}
			})
		})
	}
}
