// Package vm has the commands about virtual memory as a whole: how much there
// is, what takes it, and the lists and sessions of the memory manager.
package vm

import "gokd/commands/cmd"

// Commands lists the group.
func Commands() []*cmd.Command { return nil }
