// Package memory is the group of commands that show and search memory and tell
// how addresses are mapped.
package memory

import "gokd/commands/cmd"

// Commands lists the group's commands in the order of the manual.
func Commands() []*cmd.Command { return nil }
