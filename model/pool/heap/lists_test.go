package heap

import (
	"fmt"
	"testing"

	"github.com/google/go-cmp/cmp"

	"gokd/model/mem"
	"gokd/model/pool/cell"
	"gokd/model/pool/heaptest"
)

// cachedTags gives the tags of blocks that wait on lists.
func cachedTags(t *testing.T, h *Heaps) map[string]int {
	t.Helper()
	found := map[string]int{}
	for _, k := range read(t, h) {
		if k.State == cell.Cached {
			found[string([]byte{byte(k.Tag), byte(k.Tag >> 8), byte(k.Tag >> 16), byte(k.Tag >> 24)})]++
		}
	}
	return found
}

// TestLists follows the lists on which freed blocks wait, whole and damaged.
func TestLists(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		break_  func(b *heaptest.Builder, first, second mem.VA)
		want    map[string]int
		trouble string
	}{
		"whole":     {func(*heaptest.Builder, mem.VA, mem.VA) {}, map[string]int{"Look": 2, "Dely": 3}, ""},
		"a loop":    {func(b *heaptest.Builder, first, second mem.VA) { b.M.Put64(first, uint64(second)) }, map[string]int{"Look": 2, "Dely": 3}, ""},
		"to itself": {func(b *heaptest.Builder, first, second mem.VA) { b.M.Put64(second, uint64(second)) }, map[string]int{"Look": 1, "Dely": 3}, "_RTL_LOOKASIDE at HEAD: list of 2 freed blocks broken after 1: it comes back to NODE"},
		"to nothing": {func(b *heaptest.Builder, first, second mem.VA) { b.M.Put64(second, 0x1230) }, map[string]int{"Look": 1, "Dely": 3},
			"_RTL_LOOKASIDE at HEAD: list of 2 freed blocks broken after 1: 0x1230 is no address of a block"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b, v := small(t, 19041)
			var bodies []mem.VA
			for range 2 {
				k := v.Alloc(heaptest.Ask{Tag: "Look", Bytes: 0x300})
				b.Cache(k)
				bodies = append(bodies, k.Body)
			}
			for range 3 {
				b.Delay(v.Alloc(heaptest.Ask{Tag: "Dely", Bytes: 0x40}))
			}
			k := b.Open()
			// What was pushed last is first on the list.
			first, second := bodies[0], bodies[1]
			if next, err := k.Space.Pointer(second); err != nil || next != first {
				first, second = second, first
			}
			c.break_(b, first, second)
			h, err := Open(t.Context(), k)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(c.want, cachedTags(t, h)); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
			var want []string
			if c.trouble != "" {
				head := lookasideHead(t, b, h)
				want = []string{c.trouble[:18] + hex(head) + c.trouble[22:]}
				if n := len(want[0]) - 4; want[0][n:] == "NODE" {
					want[0] = want[0][:n] + hex(second)
				}
			}
			if diff := cmp.Diff(want, messages(h.Trouble)); diff != "" {
				t.Errorf("trouble (-want +got):\n%s", diff)
			}
		})
	}
}

// lookasideHead finds the one list head that is not empty.
func lookasideHead(t *testing.T, b *heaptest.Builder, h *Heaps) mem.VA {
	t.Helper()
	state := address(t, h.k, "ExPoolState")
	nodes, _ := b.M.Field("_EX_POOL_HEAP_MANAGER_STATE", "PoolNode")
	lists, _ := b.M.Field("_EX_HEAP_POOL_NODE", "Lookasides")
	for i := range mem.VA(128) {
		head := state + mem.VA(nodes+lists) + i/64*0x1040 + 0x40 + i%64*0x40
		if depth, err := h.k.Space.Uint16(head); err == nil && depth > 0 {
			return head
		}
	}
	t.Fatal("no list has an entry")
	return 0
}

// TestSessions reads the heaps of sessions through their processes: here two,
// whose states name heaps of their own.
func TestSessions(t *testing.T) {
	t.Parallel()
	eachFamily(t, func(t *testing.T, b *heaptest.Builder) {
		b.Heap(heaptest.NonpagedNx, 0).VS(16).Alloc(heaptest.Ask{Tag: "Glob", Bytes: 64})
		manager, err := b.M.Layout.Type("_RTLP_HP_HEAP_MANAGER")
		if err != nil {
			t.Fatal(err)
		}
		// The builder's heaps of nodes 5 and 6 become those of sessions.
		var want []string
		for i := range 2 {
			s := b.Session(uint32(i + 1))
			hp := b.Heap(heaptest.PagedOther, 5+i)
			hp.VS(16).Alloc(heaptest.Ask{Tag: fmt.Sprintf("Ses%d", i+1), Bytes: 64})
			state := b.M.Alloc(int(manager.Size) + 0x20)
			b.M.Put64(state+mem.VA(manager.Size)+0x10, uint64(hp.At))
			off, _ := b.M.Field("_MM_SESSION_SPACE", "HeapState")
			s.Put(s.At+mem.VA(off), le64(uint64(state))...)
			want = append(want, fmt.Sprintf("Session %d Ses%d", i+1, i+1))
		}
		k := b.Open()
		b.M.Set(address(t, k, "ExPoolState"), 1, "_EX_POOL_HEAP_MANAGER_STATE", "NumberOfPools")
		h, err := Open(t.Context(), k)
		if err != nil {
			t.Fatal(err)
		}
		for _, err := range h.Trouble {
			t.Error(err)
		}
		var got []string
		for _, p := range h.List {
			if !p.Private {
				continue
			}
			for _, c := range walk(t, h, p).cells {
				if c.State() != cell.Allocated {
					continue
				}
				tag := c.Tag()
				got = append(got, fmt.Sprintf("%s %d %c%c%c%c", p.Role, p.Session, byte(tag), byte(tag>>8), byte(tag>>16), byte(tag>>24)))
				for id := range uint32(4) {
					a, ok, err := h.AtSession(t.Context(), id, c.Header())
					if ok != (id == p.Session) || err != nil || ok && a.Heap != p {
						t.Errorf("session %d at %#x: %v %v", id, uint64(c.Header()), ok, err)
					}
				}
				if a, ok, _ := h.At(t.Context(), c.Header()); !ok || a.Heap != p {
					t.Errorf("%#x was not found", uint64(c.Header()))
				}
			}
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("(-want +got):\n%s", diff)
		}
	})
}

func le64(v uint64) []byte {
	b := make([]byte, 8)
	for i := range b {
		b[i] = byte(v >> (8 * i))
	}
	return b
}
