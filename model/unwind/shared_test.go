package unwind_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"gokd/dumpfmt/dumptest/shared"
	"gokd/model"
	"gokd/model/mem"
	"gokd/model/modeltest"
	"gokd/model/unwind"
)

type truth struct {
	Threads []struct {
		Address    hex
		PID        int
		State      string
		StackInit  hex `json:"stack_init"`
		StackBase  hex `json:"stack_base"`
		StackLimit hex `json:"stack_limit"`
		Stack      []truthFrame
	}
	Scenarios struct {
		SelfDeadlock struct {
			Thread     hex
			StackValue hex `json:"stack_value"`
		} `json:"self_deadlock"`
		PTE struct {
			Pagefile       hex
			PagefileOffset hex `json:"pagefile_offset"`
			Transition     hex
			TransitionPA   hex    `json:"transition_pa"`
			TransitionText string `json:"transition_text"`
			DemandZero     hex    `json:"demand_zero"`
			NotMapped      hex    `json:"not_mapped"`
		}
	}
}

type truthFrame struct {
	ChildSP      hex `json:"child_sp"`
	RetAddr      hex `json:"ret_addr"`
	Module       string
	Function     string
	Offset       uint64
	MachineFrame bool `json:"machine_frame"`
}

// hex is a number that the truth files write as "0x..".
type hex uint64

func (h *hex) UnmarshalJSON(b []byte) error {
	s := strings.Trim(string(b), `"`)
	if s == "null" {
		return nil
	}
	v, err := strconv.ParseUint(s, 0, 64)
	*h = hex(v)
	return err
}

// row is a frame as both sides are compared.
type row struct {
	ChildSP, RetAddr mem.VA
	Site             string
	Machine          bool
}

// Names that share an address count as one: KiX, KxX, KyX.
var twin = regexp.MustCompile(`^K[ixy]`)

func wantRows(stack []truthFrame, names bool) (rows []row) {
	for _, f := range stack {
		r := row{mem.VA(f.ChildSP), mem.VA(f.RetAddr), "", f.MachineFrame}
		if names {
			r.Site = fmt.Sprintf("%s!%s+%#x", f.Module, twin.ReplaceAllString(f.Function, "K?"), f.Offset)
		}
		rows = append(rows, r)
	}
	return rows
}

func gotRows(s *unwind.Stack, names bool) (rows []row) {
	if s == nil {
		return nil
	}
	for _, f := range s.Frames {
		if f.How == unwind.HowUser {
			continue
		}
		r := row{f.ChildSP, f.ReturnAddress, "", f.TrapFrame != 0}
		if m := f.Name.Module; m != nil && names {
			r.Site = fmt.Sprintf("%s!%s+%#x", m.Name, twin.ReplaceAllString(f.Name.Function, "K?"), f.Name.Offset)
		}
		rows = append(rows, r)
	}
	return rows
}

// x64Dumps are the dumps with known stacks and the folder of their drivers'
// symbols.
var x64Dumps = []struct{ truth, dump, build string }{
	{"win7seed", "win7seed.kernel", "win7seed"},
	{"win7", "win7.kernel", "win7"},
	{"win81", "win81.full", "win81"},
	{"w10_1607", "w10_1607.kernel", "w10_1607"},
	{"w10_19041", "w10_19041.full", "w10_19041"},
	{"w10_19041-encoded", "w10_19041-encoded.kernel", "w10_19041"},
}

// TestShared_stacks walks the stacks of all threads with symbols, and again by
// addresses alone.
func TestShared_stacks(t *testing.T) {
	t.Parallel()
	for _, d := range x64Dumps {
		t.Run(d.dump, func(t *testing.T) {
			t.Parallel()
			var want truth
			shared.JSON(t, shared.Path(t, "dumps/x64", d.truth+".truth.json.xz"), &want)
			dump := shared.Path(t, "dumps/x64", d.dump+".dmp.xz")
			symbols := shared.Path(t, "isf") + ";" + shared.Path(t, "dumps/symbols", d.build)
			compareStacks(t, modeltest.OpenDump(t, dump, modeltest.Symbols(symbols)), want, true)
			compareStacks(t, modeltest.OpenDump(t, dump), want, false)
		})
	}
}

func compareStacks(t *testing.T, k *model.Kernel, want truth, names bool) {
	t.Helper()
	frames := 0
	for _, th := range want.Threads {
		got, err := unwind.Thread(context.Background(), k, mem.VA(th.Address), unwind.Options{})
		if len(th.Stack) == 0 {
			if !errors.Is(err, unwind.ErrNotResident) {
				t.Errorf("thread %#x (%s): error %v, want %v", th.Address, th.State, err, unwind.ErrNotResident)
			}
			continue
		}
		if err != nil || got.Err != nil {
			t.Errorf("thread %#x (%s): %v, %v", th.Address, th.State, err, got)
			continue
		}
		if diff := cmp.Diff(wantRows(th.Stack, names), gotRows(got, names)); diff != "" {
			t.Errorf("thread %#x (%s), names %v (-want +got):\n%s", th.Address, th.State, names, diff)
		}
		frames += len(th.Stack)
	}
	t.Logf("%d threads, %d frames", len(want.Threads), frames)
}

// TestShared_index finds the threads of the dumps by addresses on their stacks.
func TestShared_index(t *testing.T) {
	t.Parallel()
	var want truth
	shared.JSON(t, shared.Path(t, "dumps/x64/win7seed.truth.json.xz"), &want)
	k := modeltest.OpenDump(t, shared.Path(t, "dumps/x64/win7seed.kernel.dmp.xz"))
	var all []unwind.Segment
	for _, th := range want.Threads {
		segs, err := unwind.Segments(k, mem.VA(th.Address))
		if err != nil {
			t.Errorf("thread %#x: %v", th.Address, err)
		}
		all = append(all, segs...)
	}
	x := unwind.NewIndex(all...)
	for _, th := range want.Threads {
		if th.StackBase == 0 {
			continue
		}
		for _, v := range []hex{th.StackLimit, th.StackBase - 1, th.StackInit + 5} {
			got, _, below, ok := x.Find(uint64(v))
			if !ok || below || got != mem.VA(th.Address) {
				t.Errorf("%#x: thread %#x, below %v, found %v, want %#x", v, uint64(got), below, ok, th.Address)
			}
		}
	}
	dead := want.Scenarios.SelfDeadlock
	// The value of the resource's owner, and one on the stack the thread left.
	for _, v := range []uint64{uint64(dead.StackValue), 0xfffff880086007a1} {
		if got, _, _, ok := x.Find(v); !ok || got != mem.VA(dead.Thread) {
			t.Errorf("%#x: thread %#x, found %v, want %#x", v, uint64(got), ok, dead.Thread)
		}
	}
	if got, _, _, ok := x.Find(0xfffff80000000000); ok {
		t.Errorf("an address on no stack belongs to thread %#x", uint64(got))
	}
}

// expectedFrame is a line of triage_x64.expected.txt.
var expectedFrame = regexp.MustCompile(`(?m)^\d+ +(0x[0-9a-f]+) +sp: (0x[0-9a-f]+) `)

// TestShared_triage walks the crashing thread of a real dump without the
// kernel's unwind data. Everything another reader found with the matching
// images must be there in that order, with few frames that are not.
func TestShared_triage(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile(shared.Path(t, "dumps/real/triage_x64.expected.txt"))
	if err != nil {
		t.Fatal(err)
	}
	dump := shared.Path(t, "dumps/real/triage_x64.dmp")
	var want []row
	for _, m := range expectedFrame.FindAllStringSubmatch(string(text), -1) {
		rip, err1 := strconv.ParseUint(m[1], 0, 64)
		sp, err2 := strconv.ParseUint(m[2], 0, 64)
		if err1 != nil || err2 != nil {
			t.Fatal(err1, err2)
		}
		if rip != 0 {
			want = append(want, row{ChildSP: mem.VA(sp), RetAddr: mem.VA(rip)}) // here: the frame's own rip
		}
	}
	if len(want) != 36 {
		t.Fatalf("%d frames expected, the file should have 36", len(want))
	}
	for _, c := range []struct {
		name, symbols, images string
		extra                 int
	}{
		{"symbols and images", shared.Path(t, "isf"), shared.Path(t, "symstore"), 10},
		{"symbols", shared.Path(t, "isf"), "", 22},
		{"images", "", shared.Path(t, "symstore"), 14},
		{"neither", "", "", 26},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			k := modeltest.OpenDump(t, dump, modeltest.Symbols(c.symbols), modeltest.Images(c.images))
			s, err := unwind.Thread(context.Background(), k, k.Processors[k.CrashProcessor()].CurrentThread, unwind.Options{})
			if err != nil {
				t.Fatal(err)
			}
			next := 0
			var last unwind.Frame
			for _, f := range s.Frames {
				if next < len(want) && f.RIP == want[next].RetAddr && f.ChildSP == want[next].ChildSP {
					next++
				}
				last = f
			}
			if next < len(want) {
				t.Errorf("frame %d, rip %#x at %#x, is missing", next, uint64(want[next].RetAddr), uint64(want[next].ChildSP))
			}
			if extra := len(s.Frames) - len(want); extra > c.extra {
				t.Errorf("%d frames that are not in the stack, want at most %d", extra, c.extra)
			}
			if last.ReturnAddress != 0 || s.Err != nil {
				t.Errorf("the last frame returns to %#x, error %v", uint64(last.ReturnAddress), s.Err)
			}
			crash, err := unwind.CrashContext(k)
			if err != nil || crash.RIP != k.Source.Crash.Args[1] {
				t.Errorf("crash context: rip %#x, error %v, want %#x", crash.RIP, err, k.Source.Crash.Args[1])
			}
		})
	}
}
