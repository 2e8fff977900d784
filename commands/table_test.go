package commands

import (
	"flag"
	"os"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"gokd/commands/cmd"
)

var update = flag.Bool("update", false, "rewrite MANUAL.md")

func table(t *testing.T) *cmd.Table {
	t.Helper()
	tab, err := Table()
	if err != nil {
		t.Fatal(err)
	}
	return tab
}

// TestTable holds every declaration to what help and the manual promise.
func TestTable(t *testing.T) {
	t.Parallel()
	tab := table(t)
	groups := map[cmd.Group]bool{}
	for _, g := range cmd.Groups {
		groups[g] = true
	}
	for _, c := range tab.All() {
		t.Run(c.Name, func(t *testing.T) {
			if !groups[c.Group] {
				t.Errorf("group %q is none of the manual's", c.Group)
			}
			if s := c.Summary; s[:1] != strings.ToLower(s[:1]) || strings.HasSuffix(s, ".") {
				t.Errorf("summary %q: want a lower-case imperative without a full stop", s)
			}
			for i, line := range strings.Split(c.Help, "\n") {
				if len([]rune(line)) > 85 {
					t.Errorf("help line %d has %d characters", i+1, len([]rune(line)))
				}
			}
			for _, other := range c.SeeAlso {
				if _, ok := tab.Lookup(other); !ok {
					t.Errorf("see also %s: no such command", other)
				}
			}
			for _, line := range strings.Split(c.Example, "\n") {
				first, _, _ := strings.Cut(line, ";")
				if _, _, ok := tab.Find(first); line != "" && !ok {
					t.Errorf("example %q: no such command", line)
				}
			}
			if _, _, ok := tab.Find(c.Name); !ok {
				t.Errorf("%s is not found by its name", c.Name)
			}
		})
	}
}

// TestManual keeps the committed manual current.
func TestManual(t *testing.T) {
	want := Manual(table(t))
	if *update {
		if err := os.WriteFile("MANUAL.md", []byte(want), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	got, err := os.ReadFile("MANUAL.md")
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(want, string(got)); d != "" {
		t.Errorf("MANUAL.md is not current; run go test ./commands -run Manual -update (-want +got):\n%s", d)
	}
}
