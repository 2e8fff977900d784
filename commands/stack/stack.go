// Package stack is the group of commands about stacks and contexts: k and its
// kin, the registers, and what .thread, .process, .cxr and .trap choose.
package stack

import "gokd/commands/cmd"

// Commands lists the group's commands in the order of the manual.
func Commands() []*cmd.Command {
	return []*cmd.Command{
		stackTrace, rawStack, kframes, localFrame, registers, threadContext, processContext, userContext,
		contextRecordCommand, exceptionContext, exceptionRecord, trapFrame, irql,
	}
}
