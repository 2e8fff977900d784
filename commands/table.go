// Package commands says which commands exist: it joins the groups.
package commands

import (
	"slices"

	"gokd/commands/cmd"
	"gokd/commands/code"
	"gokd/commands/lock"
	"gokd/commands/memory"
	"gokd/commands/pool"
	"gokd/commands/process"
	"gokd/commands/script"
	"gokd/commands/session"
	"gokd/commands/stack"
	"gokd/commands/symbol"
	"gokd/commands/symload"
	"gokd/commands/thread"
	"gokd/commands/vm"
)

// Table joins the commands of all groups. An error is a mistake in a
// declaration.
func Table() (*cmd.Table, error) {
	return cmd.NewTable(slices.Concat(
		session.Commands(),
		script.Commands(),
		symload.Commands(),
		symbol.Commands(),
		memory.Commands(),
		process.Commands(),
		thread.Commands(),
		stack.Commands(),
		code.Commands(),
		lock.Commands(),
		pool.Commands(),
		vm.Commands(),
	)...)
}
