package symload

import (
	"context"
	"errors"
	"slices"
	"strings"

	"gokd/commands/cmd"
	"gokd/commands/report"
	"gokd/model"
	"gokd/model/mem"
	"gokd/model/types"
)

// The dots of kd stand 64 a line, 63 on the first one (public transcripts).
const (
	firstLine = 63
	fullLine  = 64
)

// dots prints a dot for each module.
type dots struct {
	out  report.Sink
	line int // that this line has at most
	n    int
}

func (d *dots) dot() error {
	d.n++
	text := report.Text(".")
	if d.n == d.line {
		text, d.n, d.line = ".\n", 0, fullLine
	}
	return d.out.Emit(text)
}

// end ends the line.
func (d *dots) end() error {
	if d.n == 0 {
		return nil
	}
	d.n = 0
	return d.out.Emit(report.Text("\n"))
}

// interrupt prints a line of text after the dots, as kd does.
func (d *dots) interrupt(out report.Sink, text report.Text) error {
	if d != nil {
		d.n, d.line = 0, fullLine
	}
	return out.Emit(text)
}

// failure gives kd's line for symbols that could not be loaded.
func failure(o outcome) report.Text {
	if o.symbols != nil && o.symbols.Describe() == "export" {
		return report.Textf("*** ERROR: Symbol file could not be found.  Defaulted to export symbols for %s - \n", o.module.Image)
	}
	return report.Textf("*** ERROR: Module load completed but symbols could not be loaded for %s\n", o.module.Image)
}

// summary is kd's table of what could not be loaded.
type summary struct{ failed []outcome }

// Type names the record.
func (*summary) Type() string { return "text" }

// TextOnly marks it: each module has a record of its own.
func (*summary) TextOnly() {}

// WriteText writes the table, which debuggers before 10 do not have, and in
// lines of our own what exactly was wrong.
func (r *summary) WriteText(p *report.Printer) {
	if p.Era != report.Era62 {
		p.Printf("\n************* Symbol Loading Error Summary **************\n")
		p.Printf("%-22s %s\n", "Module name", "Error")
		for _, o := range r.failed {
			p.Printf("%-22s The system cannot find the file specified\n", stem(o.module))
		}
		p.Printf("\nYou can troubleshoot most symbol related issues by turning on symbol loading diagnostics (!sym noisy) and repeating the command that caused symbols to be loaded.\n" +
			"You should also verify that your symbol search path (.sympath) is correct.\n")
	}
	for _, g := range r.reasons() {
		p.Own("%s: %s\n", strings.Join(g.names, ", "), g.why)
	}
}

// shared is a reason and the modules that have it.
type shared struct {
	why   string
	names []string
}

// reasons tells each reason once: where a server can't be reached, all modules
// have the same one.
func (r *summary) reasons() (list []shared) {
	for _, o := range r.failed {
		reason := why(o.err)
		if reason == "" {
			continue
		}
		i := slices.IndexFunc(list, func(s shared) bool { return s.why == reason })
		if i < 0 {
			i, list = len(list), append(list, shared{why: reason})
		}
		list[i].names = append(list[i].names, o.module.Name)
	}
	return list
}

// why gives what is more than that a file is nowhere.
func why(err error) string {
	var missing *types.NotFoundError
	if errors.As(err, &missing) && err.Error() == missing.Error() {
		return ""
	}
	return strings.ReplaceAll(err.Error(), "\n", "; ")
}

// reloadRecord is a module and what symbols it has now.
type reloadRecord struct {
	Module  string      `json:"module"`
	Image   string      `json:"image"`
	Base    report.Addr `json:"base"`
	Symbols string      `json:"symbols"` // deferred, none, or where they come from
	Names   int         `json:"names"`
	File    *string     `json:"file"`
	Error   *string     `json:"error"`
	Note    *string     `json:"note"`
}

// Type names the record.
func (*reloadRecord) Type() string { return "reload" }

// WriteText writes what is odd about the file: kd is silent about success.
func (r *reloadRecord) WriteText(p *report.Printer) {
	if r.Note != nil {
		p.Own("%s: %s\n", r.Module, *r.Note)
	}
}

func recordOf(o outcome) *reloadRecord {
	r := &reloadRecord{Module: o.module.Name, Image: o.module.Image, Base: report.Addr(o.module.Base), Symbols: "none"}
	if o.symbols != nil {
		r.Symbols, r.Names = o.symbols.Describe(), o.symbols.Len()
	}
	if o.file != "" {
		r.File = &o.file
	}
	if o.note != "" {
		r.Note = &o.note
	}
	if o.err != nil {
		text := o.err.Error()
		r.Error = &text
	}
	return r
}

// emitDeferred gives the records of modules whose symbols are loaded when they
// are needed.
func emitDeferred(mods []*model.Module, out report.Sink) error {
	for _, m := range mods {
		r := recordOf(outcome{module: m})
		if syms, asked := m.LoadedSymbols(); !asked {
			r.Symbols = "deferred"
		} else if syms != nil {
			r.Symbols, r.Names = syms.Describe(), syms.Len()
		}
		if err := out.Emit(r); err != nil {
			return err
		}
	}
	return nil
}

// verbose tells of each module what kd tells with /v.
func verbose(mods []*model.Module, out report.Sink) error {
	for _, m := range mods {
		stamp, _ := m.Timestamp()
		err := out.Emit(report.Textf("AddImage: %s\n DllBase  = %s\n Size     = %08x\n Checksum = %08x\n TimeDateStamp = %08x\n",
			m.Path, report.Text(report.Addr(m.Base).Tick()), m.Size, m.CheckSum, stamp))
		if err != nil {
			return err
		}
	}
	return nil
}

// pebLdr is the place of Ldr in a 64-bit PEB, on every build.
const pebLdr = 0x18

// loadUser says what kd says of the modules of the current process. gokd lists
// none of them.
func loadUser(s *cmd.Session, out report.Sink) error {
	if err := out.Emit(report.Text("Loading User Symbols\n")); err != nil {
		return err
	}
	process, err := s.Process()
	if err != nil || s.Kernel.Types == nil {
		return nil
	}
	peb, err := s.Kernel.Object("_EPROCESS", process).Field("Peb").Pointer()
	if err != nil || peb == 0 {
		return nil // of a system process, or not known
	}
	if _, err := s.Space().Pointer(peb + pebLdr); err != nil {
		return out.Emit(report.Textf("PEB is paged out (Peb.Ldr = %s).  Type \".hh dbgerr001\" for details\n", report.Text(report.Addr(peb+pebLdr).Tick())))
	}
	return out.Emit(report.Note("The modules of the process are not listed."))
}

// Unloaded modules in memory: MmUnloadedDrivers points at 50 entries of 0x28
// bytes with Name.Length at 0 and StartAddress at 0x10 (Volatility 3,
// windows.unloadedmodules; the same on every x64 build).
const (
	unloadedEntries = 50
	unloadedSize    = 0x28
	unloadedStart   = 0x10
)

// loadUnloaded prints kd's dots for the modules that were unloaded.
func loadUnloaded(ctx context.Context, s *cmd.Session, out report.Sink) error {
	n := 0
	if t := s.Kernel.Source.Crash.Triage; t != nil {
		n = len(t.Unloaded)
	} else if table, err := s.Kernel.GlobalPointer("MmUnloadedDrivers"); err == nil && table != 0 {
		for i := range mem.VA(unloadedEntries) {
			if start, err := s.Kernel.Space.Pointer(table + i*unloadedSize + unloadedStart); err == nil && start != 0 {
				n++
			}
		}
	}
	if n == 0 {
		return nil
	}
	if err := out.Emit(report.Text("Loading unloaded module list\n")); err != nil {
		return err
	}
	d := &dots{out: out, line: fullLine}
	for range n {
		if err := errors.Join(d.dot(), ctx.Err()); err != nil {
			return err
		}
	}
	return d.end()
}
