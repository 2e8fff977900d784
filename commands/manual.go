package commands

import (
	"fmt"
	"strings"

	"gokd/commands/cmd"
)

// Manual gives the manual of all commands as Markdown: what .hh says on each.
func Manual(t *cmd.Table) string {
	var b strings.Builder
	b.WriteString("# Commands\n\nMade from the command table by `go test ./commands -run Manual -update`; `.hh COMMAND` shows the same.\n")
	for _, g := range cmd.Groups {
		first := true
		for _, c := range t.All() {
			if c.Group != g {
				continue
			}
			if first {
				fmt.Fprintf(&b, "\n## %s\n", g)
				first = false
			}
			manualEntry(&b, c)
		}
	}
	return b.String()
}

func manualEntry(b *strings.Builder, c *cmd.Command) {
	fmt.Fprintf(b, "\n### `%s`\n\n%s.\n\n```\n%s\n```\n", c.Name, strings.ToUpper(c.Summary[:1])+c.Summary[1:], c.Usage())
	if len(c.Aliases) > 0 {
		fmt.Fprintf(b, "\nAlso: `%s`\n", strings.Join(c.Aliases, "`, `"))
	}
	if len(c.Args) > 0 {
		b.WriteString("\n")
	}
	for _, a := range c.Args {
		name := a.Name
		if a.Switch != "" {
			name = a.Switch
		}
		fmt.Fprintf(b, "- `%s`: %s\n", name, a.Doc)
	}
	fmt.Fprintf(b, "\n```text\n%s\n```\n", c.Help)
	if c.Example != "" {
		fmt.Fprintf(b, "\nExample:\n\n```\n%s\n```\n", c.Example)
	}
	if len(c.SeeAlso) > 0 {
		fmt.Fprintf(b, "\nSee also: `%s`\n", strings.Join(c.SeeAlso, "`, `"))
	}
}
