package session

import (
	"context"
	"fmt"
	"path"
	"strings"

	"gokd/commands/cmd"
	"gokd/commands/report"
)

var help = &cmd.Command{
	Name: ".help", Aliases: []string{"!help"}, Group: cmd.GroupSession,
	Summary: "list the commands",
	Help: `Lists the commands by chapter with a line on each, or those whose name or summary
matches a pattern (* and ?; a word without them matches anywhere). .hh COMMAND
shows all there is to say on one.`,
	Example: ".help\n.help log*",
	SeeAlso: []string{".hh"},
	Args: []cmd.Arg{{
		Name: "pattern", Kind: cmd.KindWord, Optional: true,
		Doc: "names or words to look for",
	}},
	Run: runHelp,
}

func runHelp(_ context.Context, s *cmd.Session, in cmd.Args, out report.Sink) error {
	pattern := strings.ToLower(in.Text("pattern"))
	found := false
	for _, g := range cmd.Groups {
		first := true
		for _, c := range s.Commands.All() {
			if c.Group != g || !helpMatches(pattern, c) {
				continue
			}
			if first {
				title := string(g) + "\n"
				if found {
					title = "\n" + title
				}
				if err := out.Emit(report.Text(title)); err != nil {
					return err
				}
			}
			first, found = false, true
			if err := out.Emit(commandRecord{command: c, short: true}); err != nil {
				return err
			}
		}
	}
	if !found {
		return fmt.Errorf("no command matches %q; .help alone lists all", in.Text("pattern"))
	}
	return nil
}

func helpMatches(pattern string, c *cmd.Command) bool {
	if pattern == "" {
		return true
	}
	for _, name := range append([]string{c.Name}, c.Aliases...) {
		name = strings.ToLower(name)
		for _, n := range []string{name, strings.TrimLeft(name, "!.")} {
			if ok, err := path.Match(pattern, n); err == nil && ok {
				return true
			}
		}
		if strings.Contains(name, pattern) {
			return true
		}
	}
	return strings.Contains(strings.ToLower(c.Summary), pattern)
}

var hh = &cmd.Command{
	Name: ".hh", Group: cmd.GroupSession,
	Summary: "explain a command",
	Help: `Shows a command's usage, what it prints, what it can't know from a dump, examples
and related commands. The "!" or "." of the name may be left out.`,
	Example: ".hh lm\n.hh .logopen",
	SeeAlso: []string{".help"},
	Args:    []cmd.Arg{{Name: "command", Kind: cmd.KindWord, Complete: cmd.CompleteCommand, Doc: "the command's name"}},
	Run: func(_ context.Context, s *cmd.Session, in cmd.Args, out report.Sink) error {
		name := in.Text("command")
		c, ok := s.Commands.Lookup(name)
		if !ok {
			return &cmd.UnknownError{Line: name, Similar: s.Commands.Similar(name, 3)}
		}
		return out.Emit(commandRecord{command: c})
	},
}

// commandRecord is what there is to say on a command.
type commandRecord struct {
	command *cmd.Command
	short   bool // one line
}

// Type names the record.
func (commandRecord) Type() string { return "command" }

// MarshalJSON gives the command's declaration.
func (r commandRecord) MarshalJSON() ([]byte, error) {
	c := r.command
	return report.JSONObject(struct {
		Name    string   `json:"name"`
		Aliases []string `json:"aliases,omitempty"`
		Group   string   `json:"group"`
		Usage   string   `json:"usage"`
		Summary string   `json:"summary"`
		Help    string   `json:"help"`
		Example string   `json:"example,omitempty"`
		SeeAlso []string `json:"see_also,omitempty"`
	}{c.Name, c.Aliases, string(c.Group), c.Usage(), c.Summary, c.Help, c.Example, c.SeeAlso})
}

// WriteText writes the line of .help or the page of .hh.
func (r commandRecord) WriteText(p *report.Printer) {
	c := r.command
	if r.short {
		p.Printf("  %-17s %s\n", c.Name, c.Summary)
		return
	}
	p.Styled(report.Strong, "%s - %s\n", c.Name, c.Summary)
	p.Printf("\nUsage: %s\n", c.Usage())
	if len(c.Aliases) > 0 {
		p.Printf("Also:  %s\n", strings.Join(c.Aliases, ", "))
	}
	for _, a := range c.Args {
		name := a.Name
		if a.Switch != "" {
			name = a.Switch
		}
		if len(name) > 24 { // a grammar rather than a name
			p.Printf("  %s\n", name)
			name = ""
		}
		p.Printf("  %-12s %s\n", name, a.Doc)
	}
	p.Printf("\n%s\n", report.Text(c.Help))
	if c.Example != "" {
		p.Printf("\nExample:\n")
		for line := range strings.SplitSeq(c.Example, "\n") {
			p.Printf("  %s\n", line)
		}
	}
	if len(c.SeeAlso) > 0 {
		p.Printf("\nSee also: %s\n", strings.Join(c.SeeAlso, ", "))
	}
}
