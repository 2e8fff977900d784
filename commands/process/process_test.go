package process

import (
	"bytes"
	"testing"

	"github.com/google/go-cmp/cmp"

	"gokd/commands/report"
)

// What kd would not say stands on lines of our own, and is counted.
func TestOwnLines(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name    string
		record  report.Record
		want    string
		skipped int
	}{
		{"no such image", &Summary{image: "nosuch.exe"}, "No process has the image name nosuch.exe; the kernel keeps 15 characters of it.\n", 0},
		{"names unread", &Summary{image: "smss.exe", Unnamed: 4}, "The image names of 4 processes could not be read.\n", 4},
		{"an image that is found", &Summary{image: "smss.exe", Processes: 1}, "", 0},
		{"fields missing", &Summary{Processes: 5, partial: 4}, "4 of these 5 processes could be read only in part (????).\n", 0},
		{"a broken list", &Summary{Processes: 3, Broken: "it broke"}, "it broke\n", 1},
		{"one thread unread", &Gap{Unread: 1, why: "page not in dump"}, "One thread of this process could not be read: page not in dump.\n\n", 1},
		{"both lists broken", &Gap{Unread: 4, why: "page not in dump", Broken: []string{"at 1: x", "at 2: y"}},
			"4 threads of this process could not be read, the first: page not in dump.\n" +
				"The list of its threads ends early: at 1: x.\nThe list of its threads ends early: at 2: y.\n\n", 6},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			var b bytes.Buffer
			p := report.NewPrinter(&b, report.Era19041, false)
			c.record.WriteText(p)
			if d := cmp.Diff(c.want, b.String()); d != "" {
				t.Errorf("(-want +got):\n%s", d)
			}
			b.Reset()
			p.KDOnly = true
			if c.record.WriteText(p); b.Len() != 0 {
				t.Errorf("kd would not print %q", b.String())
			}
			if got := c.record.(report.Skipper).SkippedItems(); got != c.skipped {
				t.Errorf("%d items skipped, want %d", got, c.skipped)
			}
		})
	}
}
