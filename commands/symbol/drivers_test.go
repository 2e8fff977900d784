package symbol

import (
	"testing"

	"github.com/google/go-cmp/cmp"
)

// TestDrivers: the text is that of the debuggers since the command was retired,
// as users posted it.
func TestDrivers(t *testing.T) {
	t.Parallel()
	s := snapshotSession(t)
	got, err := s.Capture(t.Context(), "!drivers")
	want := "The !drivers command is no longer supported.\n\n  Please use the 'lm t n' command.\n" +
		"  Consult the debugger documentation for the supported 'lm' command options.\n"
	if d := cmp.Diff(want, got); d != "" || err != nil {
		t.Errorf("%v (-want +got):\n%s", err, d)
	}
}
