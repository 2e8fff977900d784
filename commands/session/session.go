// Package session holds the commands on the session itself and on the target
// as a whole: what machine it was, why it stopped, logs, scripts, help.
package session

import "gokd/commands/cmd"

// Commands lists the group's commands in the order of the manual.
func Commands() []*cmd.Command {
	return []*cmd.Command{
		vertarget, dotTime, bugcheck, processor,
		help, hh, version, evaluate, evaluateTyped, formats, radix, evaluator, echo,
		logopen, logappend, logclose,
		runQuiet, runQuietLine, runEcho, runEchoLine, runArgs,
		kdonly, compat, quit,
	}
}
