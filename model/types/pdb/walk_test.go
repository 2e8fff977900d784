package pdb

import (
	"fmt"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
)

// TestInOrder stops at every place: the order holds, no more than the bound is
// ahead, and no call is under way afterwards.
func TestInOrder(t *testing.T) {
	t.Parallel()
	const n, ahead = 7, 3
	for stop := range n + 1 {
		var running, started atomic.Int32
		var got, want []int
		for i, square := range inOrder(n, ahead, func(i int) int {
			started.Add(1)
			running.Add(1)
			defer running.Add(-1)
			return i * i
		}) {
			if most := int32(min(n, i+1+ahead)); started.Load() > most {
				t.Errorf("%d started at number %d, want at most %d", started.Load(), i, most)
			}
			if i == stop {
				break
			}
			got = append(got, square)
		}
		for i := range min(stop, n) {
			want = append(want, i*i)
		}
		if !slices.Equal(got, want) {
			t.Errorf("stopped at %d: %v, want %v", stop, got, want)
		}
		if running.Load() != 0 {
			t.Errorf("stopped at %d: %d still run", stop, running.Load())
		}
	}
}

// TestTexts makes strings of names, short and long, that meet in one place of
// the table and fill pieces: each stays what it was.
func TestTexts(t *testing.T) {
	var x texts
	var want, got []string
	for i := range 3000 {
		name := fmt.Sprintf("Name%d%s", i%1500, strings.Repeat("x", i%700))
		if i%100 == 0 {
			name = ""
		}
		buffer := []byte(name)
		got = append(got, x.text(buffer))
		want = append(want, name)
		clear(buffer) // the strings are their own
	}
	if !slices.Equal(got, want) {
		t.Error("names changed")
	}
	if n := testing.AllocsPerRun(10, func() { x.text([]byte("Flink")) }); n != 0 {
		t.Errorf("%v allocations for a name met before, want 0", n)
	}
}
