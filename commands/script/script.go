// Package script is the group of commands that run others: conditions, loops,
// aliases and formatted text.
package script

import "gokd/commands/cmd"

// Commands lists the group's commands in the order of the manual.
func Commands() []*cmd.Command { return nil }
