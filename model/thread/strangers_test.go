package thread_test

import (
	"context"
	"strings"
	"testing"

	"gokd/model/modeltest"
	"gokd/model/thread"
	"gokd/model/types"
)

// TestOfProcess_strangers: a list that leads into the threads of another
// process is not walked to its end for each process it starts from.
func TestOfProcess_strangers(t *testing.T) {
	t.Parallel()
	const threads, most = 200, 64
	for _, strangers := range []int{0, 1, most, most + 1, threads} {
		m := modeltest.New(t, types.Embedded(19041)[0])
		for i := range threads {
			at := m.Thread(m.System, uint64(8+4*i))
			if i < strangers {
				m.Set(at, uint64(m.System)+0x1000, "_KTHREAD", "Process")
			}
		}
		shown, broken := 0, ""
		for _, err := range thread.OfProcess(context.Background(), m.Open(), m.System) {
			if err != nil {
				broken = err.Error()
				continue
			}
			shown++
		}
		if strangers <= most && (shown != threads || broken != "") {
			t.Errorf("%d strangers: %d threads, %q; want all", strangers, shown, broken)
		}
		if strangers > most && !strings.Contains(broken, "threads of other processes; 64 shown") {
			t.Errorf("%d strangers: %d threads, %q", strangers, shown, broken)
		}
	}
}
