package repl_test

import (
	"strings"
	"testing"

	"gokd/commands"
)

// TestExamples runs the example lines of every command on the embedded
// snapshot: each must work, and say something.
func TestExamples(t *testing.T) {
	t.Chdir(t.TempDir()) // .logopen writes here
	table, err := commands.Table()
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range table.All() {
		if c.Example == "" {
			continue
		}
		t.Run(c.Name, func(t *testing.T) {
			r := run(t, c.Example+"\n", "-q")
			if r.Code != 0 || r.Err != "" || r.Out == "" {
				t.Errorf("%q: %+v", c.Example, r)
			}
			if j := run(t, c.Example+"\n", "-q", "-json"); j.Code != 0 || strings.Count(j.Out, `"record":"end"`) == 0 {
				t.Errorf("%q as JSON: %+v", c.Example, j)
			}
		})
	}
}
