// Package symbol holds the commands on modules and their symbols.
package symbol

import "gokd/commands/cmd"

// Commands lists the group's commands in the order of the manual.
func Commands() []*cmd.Command {
	return []*cmd.Command{lm, lmi, dh, x, ln, dt, list, forEachModule, forEachProcess, forEachThread, enumtag, dumpdebug, sourceLines, drivers}
}
