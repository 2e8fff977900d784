// Package symload is the group of commands about where symbols come from: the
// symbol path, its servers, and the cache.
package symload

import "gokd/commands/cmd"

// Commands lists the group's commands in the order of the manual.
func Commands() []*cmd.Command { return nil }
