package heap

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"gokd/dumpfmt/dumptest/shared"
	"gokd/model"
	"gokd/model/mem"
	"gokd/model/modeltest"
	"gokd/model/pool/cell"
)

// truth is what the makers of the dumps say of the heaps.
type truth struct {
	Pool struct {
		Big []struct {
			VA    string `json:"va"`
			Bytes uint64 `json:"bytes"`
		} `json:"big_pages"`
		Heap struct {
			HeapKey, LfhKey string
			Heaps           map[string]truthHeap `json:"heaps"`
		} `json:"segment_heap"`
	} `json:"pool"`
}

type truthHeap struct {
	Heap     string   `json:"heap"`
	Segments []string `json:"segments"`
	VS       int      `json:"vs_subsegments"`
	LFH      int      `json:"lfh_subsegments"`
	Slots    []struct {
		VA    string `json:"va"`
		Size  uint64 `json:"block_size"`
		Count uint64 `json:"blocks"`
		Busy  uint64 `json:"busy"`
	} `json:"lfh"`
}

// truthBlock is a block of a NAME.blocks.json file: address and size of the
// header on, pool.
type truthBlock struct {
	At   mem.VA
	Size uint64
	Tag  string
	Pool string
}

func (b *truthBlock) UnmarshalJSON(data []byte) error {
	var at, state string
	if err := json.Unmarshal(data, &[]any{&at, &b.Size, &b.Tag, &state, &b.Pool, new(any)}); err != nil {
		return err
	}
	_, err := fmt.Sscanf(at, "0x%x", (*uint64)(&b.At))
	return err
}

// dumps are those with segment-heap pools: file, truth.
var dumps = [][2]string{{"w10_19041.full.dmp", "w10_19041"}, {"w10_19041-encoded.kernel.dmp", "w10_19041-encoded"}}

func openDump(t testing.TB, name string) (*model.Kernel, *Heaps) {
	t.Helper()
	k := modeltest.OpenDump(t, shared.Path(t, "dumps/x64/"+name+".xz"))
	h, err := Open(t.Context(), k)
	if err != nil {
		t.Fatal(err)
	}
	for _, err := range h.Trouble {
		t.Log(err) // a kernel dump lacks pages of the kernel's data
	}
	return k, h
}

// walked is what a walk of one heap found.
type walked struct {
	areas []Area
	cells []cell.Cell
	sum   Tally
}

// walk walks a heap and holds every area to its contract.
func walk(t testing.TB, h *Heaps, p *Heap) walked {
	t.Helper()
	var w walked
	var segments uint64
	for a, err := range h.Areas(t.Context(), p) {
		if err != nil {
			t.Error(err)
			continue
		}
		w.areas = append(w.areas, a)
		segments += a.Size
		if a.Kind != AreaVS && a.Kind != AreaLFH {
			continue
		}
		pages, err := h.Pages(t.Context(), &a)
		if err != nil {
			t.Fatal(err)
		}
		n := len(w.cells)
		var tally Tally
		w.cells, tally = h.Decode(w.cells, &a, pages)
		checkDecoded(t, &a, w.cells[n:], tally)
		w.sum.Errs = append(w.sum.Errs, tally.Errs...)
		w.sum.Blocks += tally.Blocks
	}
	return w
}

// checkDecoded holds what Decode gave for an area to its contract.
func checkDecoded(t testing.TB, a *Area, cells []cell.Cell, tally Tally) {
	t.Helper()
	if tally.Sum() != a.Size {
		t.Errorf("the parts of the %s at %#x have %#x bytes, not %#x: %+v", a.Kind, uint64(a.At), tally.Sum(), a.Size, tally)
	}
	if tally.Blocks != uint64(len(cells)) {
		t.Errorf("%d cells, %d counted", len(cells), tally.Blocks)
	}
	end := a.At
	for _, c := range cells {
		if c.Header() < end || uint64(c.Header()-a.At)+c.Room() > a.Size {
			t.Errorf("cell at %#x of %#x bytes in the %s at %#x: overlaps, or leaves it", uint64(c.Header()), c.Room(), a.Kind, uint64(a.At))
			return
		}
		end = c.Header() + mem.VA(c.Room())
	}
}

// TestTruthBlocks walks dumps whose every block is known.
func TestTruthBlocks(t *testing.T) {
	t.Parallel()
	for _, d := range dumps {
		t.Run(d[0], func(t *testing.T) {
			t.Parallel()
			_, h := openDump(t, d[0])
			var want, got []truthBlock
			shared.JSON(t, shared.Path(t, "dumps/x64/"+d[1]+".blocks.json.xz"), &want)
			for _, p := range h.List {
				w := walk(t, h, p)
				for _, err := range w.sum.Errs {
					t.Error(err)
				}
				pool := "n"
				if p.IsPaged {
					pool = "p"
				}
				for _, c := range w.cells {
					if c.State() == cell.Allocated {
						tag := c.Tag()
						got = append(got, truthBlock{c.Header(), c.Size(), fmt.Sprintf("%02x%02x%02x%02x", uint8(tag), uint8(tag>>8), uint8(tag>>16), uint8(tag>>24)), pool})
					}
				}
			}
			byAddress := func(a, b truthBlock) int { return compare(a.At, b.At) }
			slices.SortFunc(want, byAddress)
			slices.SortFunc(got, byAddress)
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("blocks (-want +got):\n%s", diff)
			}
		})
	}
}

// TestTruthHeaps compares keys, heaps, segments and subsegments.
func TestTruthHeaps(t *testing.T) {
	t.Parallel()
	for _, d := range dumps {
		t.Run(d[0], func(t *testing.T) {
			t.Parallel()
			_, h := openDump(t, d[0])
			var want truth
			shared.JSON(t, shared.Path(t, "dumps/x64/"+d[1]+".truth.json.xz"), &want)
			f := want.Pool.Heap
			if got := fmt.Sprintf("%#x %#x", h.HeapKey, h.LfhKey); got != f.HeapKey+" "+f.LfhKey {
				t.Errorf("keys are %s, want %s %s", got, f.HeapKey, f.LfhKey)
			}
			for name, wantHeap := range f.Heaps {
				i := slices.IndexFunc(h.List, func(p *Heap) bool { return fmt.Sprintf("%#x", uint64(p.At)) == wantHeap.Heap })
				if i < 0 {
					t.Errorf("the %s heap at %s was not found", name, wantHeap.Heap)
					continue
				}
				if role := strings.ReplaceAll(strings.ToLower(h.List[i].Role.String()), "pagednx", "paged_nx"); role != name {
					t.Errorf("the heap %s at %s has the role %s", name, wantHeap.Heap, role)
				}
				if diff := cmp.Diff(wantHeap, facts(t, h, h.List[i])); diff != "" {
					t.Errorf("%s (-want +got):\n%s", name, diff)
				}
			}
		})
	}
}

// facts tells of a heap what the truth does.
func facts(t *testing.T, h *Heaps, p *Heap) truthHeap {
	f := truthHeap{Heap: fmt.Sprintf("%#x", uint64(p.At))}
	for _, a := range walk(t, h, p).areas {
		switch a.Kind {
		case AreaHeaders:
			f.Segments = append(f.Segments, fmt.Sprintf("%#x", uint64(a.At)))
		case AreaVS:
			f.VS++
		case AreaLFH:
			f.LFH++
			pages, _ := h.Pages(t.Context(), &a)
			s, err := h.slots(&a, pages[0])
			if err != nil {
				t.Error(err)
			}
			f.Slots = append(f.Slots, struct {
				VA    string `json:"va"`
				Size  uint64 `json:"block_size"`
				Count uint64 `json:"blocks"`
				Busy  uint64 `json:"busy"`
			}{fmt.Sprintf("%#x", uint64(a.At)), s.size, s.count, 0})
			cells, _ := h.Decode(nil, &a, pages)
			for _, c := range cells {
				if c.State() != cell.Free {
					f.Slots[len(f.Slots)-1].Busy++
				}
			}
		}
	}
	return f
}
