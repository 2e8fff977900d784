// Package vm has the commands about virtual memory as a whole: how much there
// is, what takes it, and the lists and sessions of the memory manager.
package vm

import (
	"gokd/commands/cmd"
	"gokd/commands/show"
	"gokd/model/pool"
)

// Commands lists the group.
func Commands() []*cmd.Command {
	return []*cmd.Command{vmCommand, memusage, sysptes, session, lookaside, frag}
}

// pools gives the pools of the target, with what earlier commands walked.
func pools(s *cmd.Session) (*pool.Pool, error) { return show.Pools(s) }
