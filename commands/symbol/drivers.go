package symbol

import (
	"context"

	"gokd/commands/cmd"
	"gokd/commands/report"
)

var drivers = &cmd.Command{
	Name: "!drivers", Group: cmd.GroupSymbols,
	Summary: "say what took this command's place",
	Help: `The debuggers no longer have it: lm lists the drivers, lm t n their time stamps. It
is here since scripts and hands still know it.`,
	Example: "!drivers",
	SeeAlso: []string{"lm"},
	Run: func(_ context.Context, _ *cmd.Session, _ cmd.Args, out report.Sink) error {
		return out.Emit(report.Text(driversText))
	},
}

const driversText = `The !drivers command is no longer supported.

  Please use the 'lm t n' command.
  Consult the debugger documentation for the supported 'lm' command options.
`
