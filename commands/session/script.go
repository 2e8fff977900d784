package session

import (
	"context"

	"gokd/commands/cmd"
	"gokd/commands/report"
)

const scriptHelp = `Runs the commands of a file, one line after the other. $$>< and $>< do not show
them, $$< and $< do, as if they were typed. After $< and $>< the rest of the line
is the file's name, semicolons included. A file may run others, 32 deep. Lines
that begin with * and texts after $$ are comments; a line that opens a brace goes
on to the one that closes it. The first command that fails ends the file, and the
line is named, unless gokd was started with -keepgoing or the command stands in a
.catch block.`

// script declares one of the commands that run files.
func script(name, summary, example string, line, echo bool) *cmd.Command {
	return &cmd.Command{
		Name: name, Prefix: true, Line: line, Group: cmd.GroupScript,
		Summary: summary, Help: scriptHelp, Example: example,
		SeeAlso: []string{".catch", ".echo"},
		Args:    []cmd.Arg{{Name: "file", Kind: cmd.KindRest, Complete: cmd.CompleteFile, Doc: "the command file"}},
		Run: func(ctx context.Context, s *cmd.Session, in cmd.Args, _ report.Sink) error {
			return s.RunFile(ctx, unquote(in.Text("file")), echo)
		},
	}
}

var (
	runQuiet     = script("$$><", "run a command file", "", false, false)
	runQuietLine = script("$><", "run a command file whose name is the rest of the line", "", true, false)
	runEcho      = script("$$<", "run a command file and show its lines", "", false, true)
	runEchoLine  = script("$<", "run a command file named by the rest of the line and show its lines", "", true, true)
)

// unquote takes quotes off a name that has them on both sides.
func unquote(name string) string {
	if n := len(name); n >= 2 && name[0] == '"' && name[n-1] == '"' {
		return name[1 : n-1]
	}
	return name
}

var runArgs = &cmd.Command{
	Name: "$$>a<", Prefix: true, Group: cmd.GroupScript,
	Summary: "run a command file with arguments",
	Help: `Runs a command file as $$>< does, with arguments: ${$arg1} in the file stands for
the first one, and so on. One without its argument stays as it is.`,
	SeeAlso: []string{"$$><"},
	Args: []cmd.Arg{
		{Name: "file", Kind: cmd.KindRest, Complete: cmd.CompleteFile, Doc: "the command file, then its arguments"},
	},
	Run: func(ctx context.Context, s *cmd.Session, in cmd.Args, _ report.Sink) error {
		words, err := cmd.Words(in.Text("file"))
		if err != nil {
			return cmd.Misuse(err)
		}
		return s.RunFileArgs(ctx, words[0], false, words[1:])
	},
}
