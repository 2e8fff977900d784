package session

import (
	"context"
	"errors"
	"fmt"

	"gokd/commands/cmd"
	"gokd/commands/report"
)

// logName is the file that kd logs to when none is named.
const logName = "dbgeng.log"

var logopen = &cmd.Command{
	Name: ".logopen", Group: cmd.GroupSession,
	Summary: "write a new log of the session",
	Help: `From now on everything typed and printed goes into a file as well, which is
emptied first. Without a name it is dbgeng.log in the current folder. A log that
is open is closed. With -json the log still holds the text.`,
	Example: ".logopen gokd-example.log\n.logclose",
	SeeAlso: []string{".logappend", ".logclose"},
	Args: []cmd.Arg{
		{Name: "unicode", Switch: "/u", Kind: cmd.KindSwitch, Optional: true, Doc: "accepted and ignored: logs are UTF-8"},
		{Name: "file", Kind: cmd.KindWord, Optional: true, Complete: cmd.CompleteFile, Doc: "the file to write"},
	},
	Run: func(_ context.Context, s *cmd.Session, in cmd.Args, out report.Sink) error {
		return openLog(s, in, out, false)
	},
}

var logappend = &cmd.Command{
	Name: ".logappend", Group: cmd.GroupSession,
	Summary: "write a log of the session at the end of a file",
	Help:    `As .logopen, but what the file holds already stays.`,
	Example: ".logappend gokd-example.log\n.logclose",
	SeeAlso: []string{".logopen", ".logclose"},
	Args: []cmd.Arg{
		{Name: "unicode", Switch: "/u", Kind: cmd.KindSwitch, Optional: true, Doc: "accepted and ignored: logs are UTF-8"},
		{Name: "file", Kind: cmd.KindWord, Optional: true, Complete: cmd.CompleteFile, Doc: "the file to write to"},
	},
	Run: func(_ context.Context, s *cmd.Session, in cmd.Args, out report.Sink) error {
		return openLog(s, in, out, true)
	},
}

func openLog(s *cmd.Session, in cmd.Args, out report.Sink, add bool) error {
	name := in.Text("file")
	if name == "" {
		name = logName
	}
	if s.Out.LogName != "" {
		if err := closeLog(s, out); err != nil {
			return err
		}
	}
	if err := s.Out.OpenLog(name, add); err != nil {
		return err
	}
	return out.Emit(logRecord{"opened", name, fmt.Sprintf("Opened log file '%s'", name)})
}

var logclose = &cmd.Command{
	Name: ".logclose", Group: cmd.GroupSession,
	Summary: "close the log",
	Help:    `Ends the log that .logopen or .logappend began.`,
	Example: ".logopen gokd-example.log\n.logclose",
	SeeAlso: []string{".logopen"},
	Run: func(_ context.Context, s *cmd.Session, _ cmd.Args, out report.Sink) error {
		if s.Out.LogName == "" {
			return errors.New("no log file is open; .logopen FILE begins one")
		}
		return closeLog(s, out)
	},
}

func closeLog(s *cmd.Session, out report.Sink) error {
	name := s.Out.LogName
	// The line stands in the log as well, as its last.
	if err := out.Emit(logRecord{"closed", name, fmt.Sprintf("Closing open log file %s", name)}); err != nil {
		return err
	}
	return s.Out.CloseLog()
}

// logRecord says what became of a log.
type logRecord struct {
	Action string `json:"action"`
	File   string `json:"file"`
	text   string
}

// Type names the record.
func (logRecord) Type() string { return "log" }

// WriteText writes kd's line.
func (r logRecord) WriteText(p *report.Printer) { p.Printf("%s\n", r.text) }
