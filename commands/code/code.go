// Package code is the group of commands that show instructions.
package code

import "gokd/commands/cmd"

// Commands lists the group's commands in the order of the manual.
func Commands() []*cmd.Command { return nil }
