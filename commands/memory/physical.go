package memory

import (
	"context"
	"fmt"

	"gokd/commands/cmd"
	"gokd/commands/report"
)

// physicalFormats are those of the commands that only know physical memory.
var physicalFormats = func() []*format {
	var list []*format
	for _, name := range []string{"da", "db", "dc", "dd", "dp", "dq", "du", "dw"} {
		f := *formatNamed(name)
		f.name, f.summary = "!"+name, "show physical "+f.summary[len("show "):]
		list = append(list, &f)
	}
	return list
}()

const physicalRange = "ADDRESS, ADDRESS END or ADDRESS L COUNT; none: go on where the last one ended"

func physicalCommand(f *format) *cmd.Command {
	return &cmd.Command{
		Name: f.name, Aliases: []string{"!kdexts." + f.name[1:], "!kext." + f.name[1:]}, Group: cmd.GroupMemory,
		Summary: f.summary,
		Args:    restArg("Range", physicalRange, true),
		Needs:   cmd.NeedTarget,
		Help: `Takes physical addresses, as !pte and !vtop give them, and shows what is there in a
layout of its own; ` + f.name[1:] + ` /p shows the same in that of ` + f.name[1:] + `. It ends at the first page that
is not there. [c], [uc] and [wc] before the address mean nothing in a dump.`,
		Example: f.name + " 187000 L8",
		SeeAlso: []string{f.name[1:], "!vtop", "!pte"},
		Run: func(ctx context.Context, s *cmd.Session, in cmd.Args, out report.Sink) error {
			return runPhysical(ctx, s, f, in.Raw, out)
		},
	}
}

// physicalAgain repeats the last format of physical memory.
var physicalAgain = &cmd.Command{
	Name: "!d", Group: cmd.GroupMemory,
	Summary: "show physical memory in the last format that was used",
	Args:    restArg("Range", physicalRange, true),
	Needs:   cmd.NeedTarget,
	Help: `Shows physical memory as the last of !da, !db, !dc, !dd, !dp, !dq, !du and !dw did,
at first as !db.`,
	Example: "!dq 187000 L2\n!d",
	SeeAlso: []string{"!db", "d"},
	Run: func(ctx context.Context, s *cmd.Session, in cmd.Args, out report.Sink) error {
		f := stateOf(s).lastPhysical
		if f == nil {
			f = physicalFormats[1]
		}
		return runPhysical(ctx, s, f, in.Raw, out)
	},
}

func runPhysical(ctx context.Context, s *cmd.Session, f *format, text string, out report.Sink) error {
	src, err := physical(s)
	if err != nil {
		return fmt.Errorf("%s: %w", f.name, err)
	}
	for _, cache := range []string{"[c]", "[uc]", "[wc]"} {
		if len(text) >= len(cache) && text[:len(cache)] == cache {
			text = text[len(cache):]
		}
	}
	r, err := parseDump(ctx, s, f, "/p "+text)
	if err != nil {
		return err
	}
	st := stateOf(s)
	st.lastPhysical = f
	d := &dumper{ctx: ctx, s: s, src: src, request: r, prefix: "#"}
	d.out = &untilHole{out: out}
	if f.kind == kindString {
		t := readString(src, r.start, r.bytes, f.unit)
		x := t.record(r, src)
		x.prefix = d.prefix
		d.end = r.start + t.bytes
		err = d.out.Emit(x)
	} else {
		err = d.rows()
	}
	st.nextPhysical, st.begunPhysical = d.end, true
	if hole, ok := err.(*endOfMemory); ok {
		return out.Emit(hole)
	}
	return err
}

// untilHole passes records on up to the first that could not be read.
type untilHole struct{ out report.Sink }

// Emit implements report.Sink.
func (u *untilHole) Emit(r report.Record) error {
	switch x := r.(type) {
	case *row:
		// A row that begins with memory is shown as far as it goes.
		if len(x.Values) > 0 && x.Values[0] == nil {
			return &endOfMemory{At: x.Address, Missing: x.Missing}
		}
	case *stringRecord:
		if len(x.run.known) > 0 && !x.run.known[0] {
			return &endOfMemory{At: x.Address, Missing: x.Missing}
		}
	}
	return u.out.Emit(r)
}

// endOfMemory is the record "physical_hole": physical memory that can't be read.
type endOfMemory struct {
	At      report.Addr    `json:"address"`
	Missing report.Missing `json:"missing,omitempty"`
}

// Error makes it end a run.
func (e *endOfMemory) Error() string {
	return fmt.Sprintf("physical memory read at %#x failed", uint64(e.At))
}

// Type names the record.
func (*endOfMemory) Type() string { return "physical_hole" }

// WriteText writes kd's line, and the reason on a line of our own.
func (e *endOfMemory) WriteText(p *report.Printer) {
	p.Printf("Physical memory read at %x failed\n", uint64(e.At))
	for _, why := range e.Missing {
		p.Own("%s\n", why)
	}
}
