package memory

import (
	"context"
	"encoding/binary"
	"fmt"
	"strings"

	"gokd/commands/cmd"
	"gokd/commands/report"
	"gokd/commands/show"
	"gokd/model/mem"
)

const dumpRange = "[/cN] [/p] ADDRESS, ADDRESS END or ADDRESS L COUNT; none: go on where the last one ended; /cN: columns; /p: physical memory"

// dumpAgain repeats the last format.
var dumpAgain = &cmd.Command{
	Name: "d", Group: cmd.GroupMemory,
	Summary: "show memory in the last format that was used",
	Args:    restArg("Range", dumpRange, true),
	Needs:   cmd.NeedTarget,
	Help: `Shows memory as the last of da, db, dc, dd, dD, df, dp, dq, du, dw, dW, dyb and dyd
did, at first as db. Without a range each goes on where the last one ended, at
first at the instruction pointer. L COUNT counts values, L? allows more than
256 MB, L- counts down. /c N shows N columns; /p takes physical addresses. The
last value shown is left in $p.

Question marks stand for memory that the dump does not hold or that was not
mapped; !pte ADDRESS tells which. Where an image file is at hand (-i), its
read-only sections stand in for pages that are not in the dump.`,
	Example: "db nt L40\nd",
	SeeAlso: []string{"db", "dps", "s", "!pte", "!db"},
	Run: func(ctx context.Context, s *cmd.Session, in cmd.Args, out report.Sink) error {
		f := stateOf(s).last
		if f == nil {
			f = formatNamed("db")
		}
		return runDump(ctx, s, f, in.Raw, out)
	},
}

// formatNamed finds a format by the name of its command.
func formatNamed(name string) *format {
	for _, f := range formats {
		if f.name == name {
			return f
		}
	}
	return nil
}

// moreHelp says about a family of formats what the help of d does not.
var moreHelp = map[kind]string{
	kindNumbers: "",
	kindFloats:  "",
	kindBits:    "\nThe heading numbers the bits.",
	kindString: `
The string ends at its first zero, or where the range does; without a range after
399 characters. Characters that can't be shown are points.`,
	kindSymbols: `
A value inside a module is followed by the nearest symbol at or below it; without
symbols of the module, by the module's name and the distance from its start.`,
	kindPointers: `
Each value is taken as an address. Where nothing can be read there, only the value
is shown.`,
}

func dumpCommand(f *format) *cmd.Command {
	example := map[kind]string{
		kindString: f.name + " nt+4e L20", kindSymbols: f.name + " @rsp L4", kindPointers: f.name + " @rsp L4",
	}[f.kind]
	if example == "" {
		example = f.name + " nt L4"
	}
	return &cmd.Command{
		Name: f.name, Prefix: true, Case: strings.ToLower(f.name) != f.name, Group: cmd.GroupMemory,
		Summary: f.summary,
		Args:    restArg("Range", dumpRange, true),
		Needs:   cmd.NeedTarget,
		Help: fmt.Sprintf("Shows %d values unless told otherwise; see d for ranges and question marks.%s",
			f.count, moreHelp[f.kind]),
		Example: example,
		SeeAlso: []string{"d"},
		Run: func(ctx context.Context, s *cmd.Session, in cmd.Args, out report.Sink) error {
			return runDump(ctx, s, f, in.Raw, out)
		},
	}
}

func runDump(ctx context.Context, s *cmd.Session, f *format, text string, out report.Sink) error {
	r, err := parseDump(ctx, s, f, text)
	if err != nil {
		return err
	}
	name, from := f.name, virtual
	if r.physical {
		name, from = f.name+" /p", physical
	}
	src, err := from(s)
	if err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	d := &dumper{ctx: ctx, s: s, src: src, out: out, request: r, source: show.Sources(ctx, s)}
	switch f.kind {
	case kindString:
		err = d.asString()
	default:
		err = d.rows()
	}
	st := stateOf(s)
	if f.kind != kindSymbols && f.kind != kindPointers {
		st.last = f
	}
	if r.physical {
		st.nextPhysical, st.begunPhysical = d.end, true
	} else {
		st.next, st.begun = d.end, true
	}
	return err
}

// dumper is one run of a d command.
type dumper struct {
	ctx context.Context
	s   *cmd.Session
	src source
	out report.Sink
	request
	source func(mem.VA) *show.Source // nil: source lines are off
	prefix string                    // of rows of !db and its kin
	end    uint64                    // where the next one begins

	row  []byte
	have []bool
}

// rows shows the range row by row.
func (d *dumper) rows() error {
	size := uint64(d.columns * d.unit)
	d.row, d.have = make([]byte, size), make([]bool, size)
	d.end = d.start
	if d.kind == kindBits {
		if err := d.out.Emit(heading{d.format}); err != nil {
			return err
		}
	}
	// Whole units only: a range cut at the top of the address space may end
	// inside one.
	for left := d.bytes / uint64(d.unit) * uint64(d.unit); left > 0; {
		if err := d.ctx.Err(); err != nil {
			return err
		}
		n := min(size, left)
		first := d.src.fill(d.row[:n], d.have[:n], d.end)
		x := newRow(d.src, d.format, d.end, d.row[:n], d.have[:n], d.columns)
		x.prefix = d.prefix
		x.Missing.Set("values", first)
		d.explain(x)
		if err := d.out.Emit(x); err != nil {
			return err
		}
		// The debugger's documentation of pseudo-registers: $p is the value that
		// the last d* command printed.
		if v, known := x.value(len(x.Values) - 1); known {
			if err := d.s.SetPseudo("$p", v); err != nil {
				return err
			}
		}
		d.end, left = d.end+n, left-n
	}
	return nil
}

// explain adds to a row of pointers what they name or point at.
func (d *dumper) explain(x *row) {
	if d.kind != kindSymbols && d.kind != kindPointers {
		return
	}
	for i := range x.Values {
		v, known := x.value(i)
		var symbol, text *string
		var target *report.Addr
		switch {
		case !known:
		case d.kind == kindSymbols:
			symbol = d.symbol(v)
			if d.source != nil && !d.physical {
				x.Sources = append(x.Sources, d.source(mem.VA(v)))
			}
		case d.target == 'p':
			if t, ok := d.pointee(v); ok {
				a := report.Addr(t)
				target, symbol = &a, d.symbol(t)
			}
		default:
			text = d.stringAt(v)
		}
		if d.target == 'p' {
			x.Targets = append(x.Targets, target)
		}
		if d.target == 0 || d.target == 'p' {
			x.Symbols = append(x.Symbols, symbol)
		} else {
			x.Text = append(x.Text, text)
		}
	}
}

func (d *dumper) symbol(v uint64) *string {
	name := d.src.name(d.ctx, v)
	if name == "" {
		return nil
	}
	return &name
}

// pointee reads the value at an address, of the size of the pointers.
func (d *dumper) pointee(at uint64) (uint64, bool) {
	var b [8]byte
	_, err := d.src.space.ReadVirtual(b[:d.unit], mem.VA(at))
	return binary.LittleEndian.Uint64(b[:]), err == nil
}

// asString shows a string.
func (d *dumper) asString() error {
	t := readString(d.src, d.start, d.bytes, d.unit)
	d.end = d.start + t.bytes
	return d.out.Emit(t.record(d.request, d.src))
}

// stringStructs shows strings that the kernel counts.
var stringStructs = []*cmd.Command{
	structCommand("ds", 1, "", "show the string of bytes that a STRING or ANSI_STRING describes"),
	structCommand("dS", 2, "dS poi(nt!PsLoadedModuleList)+58", "show the string of UTF-16 characters that a UNICODE_STRING describes"),
}

func structCommand(name string, unit int, example, summary string) *cmd.Command {
	f := &format{name: name, kind: kindString, unit: unit, columns: 32, count: 1}
	return &cmd.Command{
		Name: name, Prefix: true, Case: unit == 2, Group: cmd.GroupMemory,
		Summary: summary,
		Args:    restArg("[/cN] Address", "columns; of the structure", false),
		Needs:   cmd.NeedTarget,
		Help: `The structure is a length in bytes, the size of the buffer, and the buffer's
address. As much of the buffer as the length says is shown; what kd would show
without a word, a length larger than the buffer, is told.`,
		Example: example,
		SeeAlso: []string{"da", "du"},
		Run: func(ctx context.Context, s *cmd.Session, in cmd.Args, out report.Sink) error {
			return runStruct(ctx, s, f, in.Raw, out)
		},
	}
}

// runStruct shows the string behind a _STRING or _UNICODE_STRING: Length and
// MaximumLength of two bytes each, Buffer at offset 8 on 64-bit machines (public
// type tables).
func runStruct(ctx context.Context, s *cmd.Session, f *format, text string, out report.Sink) error {
	r, err := parseDump(ctx, s, f, text)
	if err != nil {
		return err
	}
	if r.physical || r.given {
		return wrong("one virtual address is wanted")
	}
	src, err := virtual(s)
	if err != nil {
		return fmt.Errorf("%s: %w", f.name, err)
	}
	var b [16]byte
	if _, err := src.read(b[:], r.start); err != nil {
		return fmt.Errorf("%s: the structure at %#x: %w", f.name, r.start, err)
	}
	length, size := binary.LittleEndian.Uint16(b[:]), binary.LittleEndian.Uint16(b[2:])
	at := binary.LittleEndian.Uint64(b[8:])
	if length == 0 {
		return out.Emit(report.Notef("The string at %s is empty; its buffer of %d bytes is at %s.", report.Addr(r.start), size, report.Addr(at)))
	}
	// A counted string may hold zeros, and ends with its length.
	t := readCounted(src, at, uint64(length), f.unit)
	r.start, r.bytes, r.given = at, uint64(length), true
	if err := out.Emit(t.record(r, src)); err != nil {
		return err
	}
	if length > size {
		return out.Emit(report.Notef("Its length of %d bytes is larger than its buffer of %d: this is no string, or a damaged one.", length, size))
	}
	return nil
}
