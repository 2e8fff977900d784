package stack

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	"gokd/model"
)

// TestSavedIRQL renders the line of a public session on Windows 10 (the
// documentation of "!irql"), and levels that have no name.
func TestSavedIRQL(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		processor int
		irql      uint64
		want      string
	}{
		{0, 2, "Debugger saved IRQL for processor 0x0 -- 2 (DISPATCH_LEVEL)\n"},
		{0x1f, 15, "Debugger saved IRQL for processor 0x1f -- 15 (HIGH_LEVEL)\n"},
		{3, 9, "Debugger saved IRQL for processor 0x3 -- 9\n"},
	} {
		r := &savedIRQL{Processor: test.processor, IRQL: test.irql}
		if name, ok := levels[model.MachineX64][test.irql]; ok {
			r.Name = &name
		}
		if d := cmp.Diff(test.want, text(r)); d != "" {
			t.Errorf("level %d (-want +got):\n%s", test.irql, d)
		}
	}
}

// TestIRQL reads the level out of a processor's control block.
func TestIRQL(t *testing.T) {
	t.Parallel()
	m := newMachine(t)
	for _, test := range []struct{ line, want string }{
		{"!irql", "Debugger saved IRQL for processor 0x0 -- 2 (DISPATCH_LEVEL)\n"},
		{"!irql 0", "Debugger saved IRQL for processor 0x0 -- 2 (DISPATCH_LEVEL)\n"},
		{"!irql 7", "Cannot get PRCB address: there is no processor 0x7\n"},
	} {
		if d := cmp.Diff(test.want, run(t, m.s, m.out, test.line)); d != "" {
			t.Errorf("%s (-want +got):\n%s", test.line, d)
		}
	}
}
