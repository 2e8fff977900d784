package cmd

import (
	"errors"
	"fmt"
	"io"
	"os"

	"gokd/commands/report"
)

// Output is where a session's answers go: text or JSON on one writer,
// diagnostics on another, and a log of the text.
type Output struct {
	Printer *report.Printer // text
	JSON    *report.JSON    // nil in a text session
	Errors  io.Writer       // diagnostics of a JSON session

	log *os.File
	// LogName is the file that is being written, empty where there is none.
	LogName string
	logText *report.Printer
	hooks   []func(report.Record)

	lastFailure report.Text

	// Flush is called after each answer, where the writer gathers text; nil
	// where it does not.
	Flush func() error
}

// NewOutput gives an output of text to w.
func NewOutput(w io.Writer, era report.Era, colored bool) *Output {
	return &Output{Printer: report.NewPrinter(w, era, colored), Errors: w}
}

// NewJSONOutput gives an output of JSON lines to w and diagnostics to errs.
func NewJSONOutput(w, errs io.Writer, era report.Era) *Output {
	return &Output{Printer: report.NewPrinter(io.Discard, era, false), JSON: report.NewJSON(w), Errors: errs}
}

// Emit renders a record.
func (o *Output) Emit(r report.Record) error {
	for _, h := range o.hooks {
		h(r)
	}
	if o.logText != nil {
		o.logText.KDOnly, o.logText.Era = o.Printer.KDOnly, o.Printer.Era
		if err := o.logText.Emit(r); err != nil {
			return fmt.Errorf("log %s: %w", o.LogName, err)
		}
	}
	if o.JSON != nil {
		return o.JSON.Emit(r)
	}
	return o.Printer.Emit(r)
}

// Begin starts the answer of a command.
func (o *Output) Begin(command, args string) {
	if o.JSON != nil {
		o.JSON.Begin(command, args)
	}
}

// End closes the answer; a failure is shown where its kind belongs.
func (o *Output) End(failure error) error {
	if failure != nil {
		o.Fail(failure)
	}
	if o.JSON != nil {
		return errors.Join(o.JSON.End(failure), o.flush())
	}
	return errors.Join(o.Printer.Err(), o.flush())
}

// drop ends an answer that has no end record.
func (o *Output) drop() {
	if o.JSON != nil {
		o.JSON.Drop()
	}
}

func (o *Output) flush() error {
	if o.Flush == nil {
		return nil
	}
	return o.Flush()
}

// Fail shows an error. Of a script only the place is shown: what failed there
// was shown when it happened; so was all that failed in a block.
func (o *Output) Fail(err error) {
	if _, ok := err.(*shownError); ok {
		return
	}
	text := report.Text(err.Error())
	var script *ScriptError
	if errors.As(err, &script) {
		text = report.Text(report.Sprintf("%s:%d: the script failed here", script.File, script.Line))
		if text == o.lastFailure {
			return // a script that runs itself fails on every level
		}
	}
	o.lastFailure = text
	if o.logText != nil {
		o.logText.Printf("%s\n", text)
	}
	if o.JSON != nil {
		fmt.Fprintln(o.Errors, report.Layout(string(text)))
		return
	}
	o.Printer.Styled(report.Failure, "%s\n", text)
}

// Echo shows a line of a script as if it had been typed.
func (o *Output) Echo(line string) {
	if o.logText != nil {
		o.logText.Printf("%s\n", line)
	}
	if o.JSON == nil {
		o.Printer.Printf("%s\n", line)
	}
}

// LogInput writes a typed line to the log only: the terminal shows it already.
func (o *Output) LogInput(line string) {
	if o.logText != nil {
		o.logText.Printf("%s\n", line)
	}
}

// OpenLog starts a log of the session's text.
func (o *Output) OpenLog(name string, add bool) error {
	if err := o.CloseLog(); err != nil {
		return err
	}
	mode := os.O_CREATE | os.O_WRONLY | os.O_TRUNC
	if add {
		mode = os.O_CREATE | os.O_WRONLY | os.O_APPEND
	}
	f, err := os.OpenFile(name, mode, 0o644)
	if err != nil {
		return fmt.Errorf("log: %w", err)
	}
	o.log, o.LogName = f, name
	o.logText = report.NewPrinter(f, o.Printer.Era, false)
	return nil
}

// CloseLog ends the log; without one it does nothing.
func (o *Output) CloseLog() error {
	if o.log == nil {
		return nil
	}
	err := o.log.Close()
	o.log, o.logText, o.LogName = nil, nil, ""
	return err
}

// Hook lets fn see every record until the function it returns is called.
func (o *Output) Hook(fn func(report.Record)) (remove func()) {
	o.hooks = append(o.hooks, fn)
	n := len(o.hooks)
	return func() { o.hooks = o.hooks[:n-1] }
}

var _ report.Sink = (*Output)(nil)
