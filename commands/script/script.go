// Package script is the group of commands that run others: conditions, loops,
// aliases and formatted text.
//
// Their grammar is that of the debuggers' documentation: "Control Flow Tokens",
// "Using Aliases", ".printf", ".foreach".
package script

import "gokd/commands/cmd"

// Commands lists the group's commands in the order of the manual.
func Commands() []*cmd.Command {
	return []*cmd.Command{
		dotIf, dotElsif, dotElse, dotFor, dotWhile, dotDo, dotForeach,
		dotBreak, dotContinue, dotBlock, dotCatch, dotLeave,
		dotPrintf, setAlias, setAliasPhrase, deleteAlias, listAliases,
		execIf, execWhile,
	}
}
