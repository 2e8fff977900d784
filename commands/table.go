// Package commands says which commands exist: it joins the groups.
package commands

import (
	"slices"

	"gokd/commands/cmd"
	"gokd/commands/lock"
	"gokd/commands/memory"
	"gokd/commands/pool"
	"gokd/commands/process"
	"gokd/commands/session"
	"gokd/commands/symbol"
	"gokd/commands/thread"
)

// Table joins the commands of all groups. An error is a mistake in a
// declaration.
func Table() (*cmd.Table, error) {
	return cmd.NewTable(slices.Concat(
		session.Commands(),
		symbol.Commands(),
		memory.Commands(),
		process.Commands(),
		thread.Commands(),
		lock.Commands(),
		pool.Commands(),
	)...)
}
