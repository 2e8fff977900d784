package repl

import (
	"fmt"

	"gokd/commands/cmd"
	"gokd/commands/report"
	"gokd/commands/session"
)

// DumpType values of the header whose kd banner line is known.
const (
	dumpFull       = 1
	dumpSummary    = 2
	dumpTriage     = 4
	dumpBitmapFull = 5
	dumpBitmapKern = 6
)

// kindLine tells what a dump holds, in kd's words where kd has any.
func kindLine(t *Target) string {
	switch t.Dump.Type {
	case dumpFull:
		return "Kernel Complete Dump File: Full address space is available"
	case dumpSummary:
		return "Kernel Summary Dump File: Kernel address space is available, User address space may not be available."
	case dumpTriage:
		return "Mini Kernel Dump File: Only registers and stack trace are available"
	case dumpBitmapFull:
		return "Kernel Bitmap Dump File: Full address space is available"
	case dumpBitmapKern:
		return "Kernel Bitmap Dump File: Kernel address space is available, User address space may not be available."
	}
	return t.Dump.Format
}

// banner opens a session: kd's lines, then the machine's block with our own.
// In JSON it is the record target alone.
func banner(t *Target, s *cmd.Session, paths Paths) error {
	head := fmt.Sprintf("gokd %s, a debugger of Windows kernel dumps\n\n\nLoading Dump File [%s]\n%s\n\n",
		s.Version, report.Safe(t.Name), report.Safe(kindLine(t)))
	symbols := paths.Symbols
	if symbols == "" {
		symbols = "(none: embedded layouts and export tables)"
	}
	head += fmt.Sprintf("Symbol search path is: %s\nExecutable search path is: %s\n",
		report.Safe(symbols), report.Safe(paths.Images))
	if err := s.Out.Emit(report.Text(head)); err != nil {
		return err
	}
	return s.Out.Emit(session.NewTarget(t.Kernel, s.Location))
}
